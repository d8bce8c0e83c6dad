"""Stage 1b, continued: batches. Histories become padded tensors on the device that trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncore.sequences import Histories, Joined


@dataclass(frozen=True)
class Batch:
    """Histories as tensors, padded with zeros on the right, and what the loss needs beside them.

    Attributes:
        items_BT: item indices, int64; 0 is padding.
        lengths_B: real events per row, int64.
        users_B: 0-based user rows, int64; -1 is a user that training never saw.
        times_BT: event times, int64; 0 where padded.
        real_N: the flat places b * T + t of the real events, row by row.
        targets_BT: the item after each position, int64; 0 where there is none. None
            when nothing is asked.
        attributes: encoded event attributes by name, (B, T) or (B, T, M).
        situation: encoded attributes of what is asked for by name: of each target, (B,
            T) or (B, T, M), or where nothing is asked, of the moment after the history,
            (B, 1) or (B, 1, M).
    """

    items_BT: Tensor
    lengths_B: Tensor
    users_B: Tensor
    times_BT: Tensor
    real_N: Tensor
    targets_BT: Tensor | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    situation: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""

        def sent(value: Any) -> Any:
            if isinstance(value, Tensor):
                return _sent(value, device)
            return (
                value
                if value is None
                else {name: sent(column) for name, column in value.items()}
            )

        return Batch(
            **{field.name: sent(getattr(self, field.name)) for field in fields(self)}
        )

    @property
    def keep_BT(self) -> Tensor:
        """True at real events."""
        return self.items_BT > 0


class Windows:
    """The newest events of each row, gathered into batches.

    The whole log lies on the device: a batch costs one small copy, of row numbers, and
    no step of it waits for the device. Memory-mapped histories stay on disk instead:
    batches are gathered there and copied, and `prefetched` hides that behind the step
    before.

    Args:
        histories: what to draw from.
        length: the longest input, in events.
        device: where batches are wanted.
        targets: True makes training batches: `length + 1` events become `length` inputs
            and their targets.
        users: user row of each history row; the rows themselves when None.
        situation: encoded columns: a value per event with `targets`, else a value per
            row.
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
        self.mapped = isinstance(histories.items, np.memmap | Joined)
        self.home = (
            torch.device("cpu") if self.mapped else self.device
        )  # where the columns are
        seen = np.minimum(histories.lengths, length + targets)
        self.lengths = np.maximum(seen - targets, 0)  # inputs per row
        self.earlier = (
            histories.lengths - seen
        )  # events per row before the newest window
        users = (
            np.arange(len(histories)) if users is None else np.asarray(users, np.int64)
        )
        rows = np.stack([histories.offsets[1:] - seen, self.lengths, users])
        self._starts, self._lengths, self._users = torch.from_numpy(rows).to(self.home)
        self._items, self._times = (
            self._column(histories.items),
            self._column(histories.times),
        )
        self._attributes = {
            name: self._column(column) for name, column in histories.attributes.items()
        }
        self._situation = {
            name: self._column(column) for name, column in (situation or {}).items()
        }

    def _column(self, column: np.ndarray | Joined) -> Tensor | Joined:
        if isinstance(column, Joined):
            return column
        if len(column) == 0:  # one row of padding, so that an index is legal
            column = np.zeros((1, *column.shape[1:]), column.dtype)
        return torch.from_numpy(column).to(self.home)

    def batch(self, rows: np.ndarray, back: np.ndarray | None = None) -> Batch:
        """The windows of `rows`, padded to the longest of them.

        Args:
            rows: of the histories.
            back: how many events before the history's newest each window ends; 0 when
                None, at most `earlier`.
        """
        lengths = self.lengths[rows]
        batch = self.gathered(
            _sent(torch.from_numpy(rows), self.home),
            int(lengths.max(initial=1)),
            int(lengths.sum()),
            None if back is None else _sent(torch.from_numpy(back), self.home),
        )
        return batch.to(self.device) if self.mapped else batch

    def gathered(
        self, rows_B: Tensor, width: int, count: int, back_B: Tensor | None = None
    ) -> Batch:
        """The windows of rows, given where the log lies, padded to `width`; they hold `count` events together."""
        starts_B, lengths_B, asked = (
            self._starts[rows_B],
            self._lengths[rows_B],
            rows_B[:, None],
        )
        if back_B is not None:
            starts_B = starts_B - back_B
        step_T = torch.arange(width, device=self.home)
        keep_BT = step_T < lengths_B[:, None]
        at_BT = (starts_B[:, None] + step_T).masked_fill(~keep_BT, 0)
        row_N = torch.arange(len(rows_B), device=self.home).repeat_interleave(
            lengths_B, output_size=count
        )
        first_B = lengths_B.cumsum(0) - lengths_B
        real_N = row_N * width + torch.arange(count, device=self.home) - first_B[row_N]
        targets_BT, asks_BT = None, torch.ones_like(asked, dtype=torch.bool)
        if self.targets:
            asked, asks_BT = (at_BT + 1).masked_fill(~keep_BT, 0), keep_BT
            targets_BT = _looked_up(self._items, asked, keep_BT).long()
        return Batch(
            _looked_up(self._items, at_BT, keep_BT).long(),
            lengths_B,
            self._users[rows_B],
            _looked_up(self._times, at_BT, keep_BT),
            real_N,
            targets_BT,
            {
                name: _looked_up(column, at_BT, keep_BT)
                for name, column in self._attributes.items()
            },
            {
                name: _looked_up(column, asked, asks_BT)
                for name, column in self._situation.items()
            },
        )

    def users_of(self, rows: np.ndarray) -> np.ndarray:
        """The user row of each of `rows`."""
        return self._users.cpu().numpy()[rows]

    def parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of one training step, sorted by length and cut into parts that pad less; one part on a GPU."""
        order = rows[np.argsort(self.lengths[rows], kind="stable")]
        return np.array_split(
            order, max(1, min(4, len(rows))) if self.device.type == "cpu" else 1
        )

    def by_length(self, events: int) -> Iterator[np.ndarray]:
        """Groups of rows of like length, each padded to at most `events` events (one row at least); for inference."""
        order = np.argsort(-self.lengths, kind="stable")
        at = 0
        while at < len(order):
            rows = max(1, events // max(int(self.lengths[order[at]]), 1))
            yield order[at : at + rows]
            at += rows


def shuffled_batches(
    rows: np.ndarray, batch_size: int, seed: int, epoch: int
) -> Iterator[np.ndarray]:
    """The rows in a random order that depends on `seed` and `epoch` alone, `batch_size` at a time."""
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def prefetched(makes: Iterable[Callable[[], Any]]) -> Iterator[Any]:
    """What each call makes, in order; a second thread is always one call ahead."""
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[Any]] = deque()
        for make in makes:
            waiting.append(thread.submit(make))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a copy to a GPU goes through pinned memory, and nobody waits for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _looked_up(column: Tensor | Joined, at_BT: Tensor, keep_BT: Tensor) -> Tensor:
    """The column's values at each place (B, T) or (B, T, M); 0 where not kept."""
    found = (
        torch.from_numpy(column[at_BT.numpy()])
        if isinstance(column, Joined)
        else column[at_BT]
    )
    return found.masked_fill(~(keep_BT if found.dim() == 2 else keep_BT[..., None]), 0)
