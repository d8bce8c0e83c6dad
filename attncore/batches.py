"""Stage 1b, continued: batches. Histories become padded tensors on the device that trains.

See the chapters "Data preparation" and "Training on a CPU and on GPUs".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from attncore.sequences import Histories


@dataclass(frozen=True)
class Batch:
    """Histories as tensors, padded with zeros on the right, and what the loss needs beside them.

    Attributes:
        items_BT: item indices, int64; 0 is padding.
        lengths_B: real events per row, int64.
        users_B: 0-based user rows, int64; -1 is a user that training never saw.
        times_BT: event times, int64; 0 where padded.
        real_N: the flat places b * T + t of the real events, row by row.
        targets_BT: the item after each position, int64; 0 where there is none. None when nothing is asked.
        attributes: encoded event attributes by name, (B, T) or (B, T, M).
        situation: encoded attributes of what is asked for by name: of each target, (B, T) or (B, T, M), or where
            nothing is asked, of the moment after the history, (B, 1) or (B, 1, M).
    """

    items_BT: Tensor
    lengths_B: Tensor
    users_B: Tensor
    times_BT: Tensor
    real_N: Tensor
    targets_BT: Tensor | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    situation: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def keep_BT(self) -> Tensor:
        """True at real events."""
        return self.items_BT > 0


class Windows:
    """The newest events of each row, gathered on one device into batches.

    The whole log lies on the device; a batch costs two small copies of row starts and lengths, and no step of
    it waits for the device.

    Args:
        histories: what to draw from.
        length: the longest input, in events.
        device: where batches are made.
        targets: True makes training batches: `length + 1` events become `length` inputs and their targets.
        users: user row of each history row; the rows themselves when None.
        situation: encoded columns: a value per event with `targets`, else a value per row.
    """

    def __init__(
        self,
        histories: Histories,
        length: int,
        device: torch.device | str = "cpu",
        targets: bool = False,
        users: np.ndarray | None = None,
        situation: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.device, self.targets = torch.device(device), targets
        seen = np.minimum(histories.lengths, length + targets)
        self.starts = histories.offsets[1:] - seen
        self.lengths = np.maximum(seen - targets, 0)  # inputs per row
        self.users = np.arange(len(histories)) if users is None else np.asarray(users, np.int64)

        def on_device(column: np.ndarray) -> Tensor:
            end = np.zeros((1, *column.shape[1:]), column.dtype)
            padded = np.concatenate([column, end])  # an index past the end stays legal
            return torch.from_numpy(padded).to(self.device)

        self._items, self._times = on_device(histories.items), on_device(histories.times)
        self._attributes = {name: on_device(column) for name, column in histories.attributes.items()}
        self._situation = {name: on_device(column) for name, column in (situation or {}).items()}

    def batch(self, rows: np.ndarray) -> Batch:
        """The windows of `rows`, padded to the longest of them."""
        lengths = self.lengths[rows]
        size, count, width = len(rows), int(lengths.sum()), max(int(lengths.max(initial=0)), 1)
        host = torch.from_numpy(np.stack([self.starts[rows], lengths, self.users[rows], rows]).astype(np.int64))
        if self.device.type == "cuda":
            host = host.pin_memory()
        starts_B, lengths_B, users_B, asked = host.to(self.device, non_blocking=True)
        step_T = torch.arange(width, device=self.device)
        keep_BT = step_T < lengths_B[:, None]
        at_BT = torch.where(keep_BT, starts_B[:, None] + step_T, len(self._items) - 1)
        row_N = torch.arange(size, device=self.device).repeat_interleave(lengths_B, output_size=count)
        first_B = lengths_B.cumsum(0) - lengths_B
        real_N = row_N * width + torch.arange(count, device=self.device) - first_B[row_N]
        targets_BT, asked = None, asked[:, None]
        if self.targets:
            asked = torch.where(keep_BT, at_BT + 1, 0)
            targets_BT = torch.where(keep_BT, self._items[asked].long(), 0)
        return Batch(
            self._items[at_BT].long(),
            lengths_B,
            users_B,
            self._times[at_BT],
            real_N,
            targets_BT,
            {name: column[at_BT] for name, column in self._attributes.items()},
            {name: column[asked] for name, column in self._situation.items()},
        )

    def parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of one training step, sorted by length and cut into parts that pad less; one part on a GPU."""
        order = rows[np.argsort(self.lengths[rows], kind="stable")]
        return np.array_split(order, min(4, len(rows)) if self.device.type == "cpu" else 1)

    def by_length(self, events: int) -> Iterator[np.ndarray]:
        """Groups of rows of like length, each padded to at most `events` events (one row at least); for inference."""
        order = np.argsort(-self.lengths, kind="stable")
        at = 0
        while at < len(order):
            rows = max(1, events // max(int(self.lengths[order[at]]), 1))
            yield order[at : at + rows]
            at += rows


def shuffled_batches(rows: np.ndarray, batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """The rows in a random order that depends on `seed` and `epoch` alone, `batch_size` at a time."""
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
