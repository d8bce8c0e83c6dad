"""Stage 1b, continued: batches.

Histories become padded tensors on the device that trains.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from attncore.config import TrainingConfig
from attncore.distributed import Group
from attncore.errors import DataError
from attncore.sequences import Histories, Joined


@dataclass(frozen=True)
class Batch:
    """Histories as tensors, padded with zeros on the right, and what the loss needs.

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
        # Where the columns are.
        self.home = torch.device("cpu") if self.mapped else self.device
        seen = np.minimum(histories.lengths, length + targets)
        self.lengths = np.maximum(seen - targets, 0)  # inputs per row
        # Events per row before the newest window.
        self.earlier = histories.lengths - seen
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
        """The windows of rows, given where the log lies, padded to `width`.

        They hold `count` events together.
        """
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
        """Rows of one training step, sorted by length and cut into parts that pad less.

        One part on a GPU.
        """
        order = rows[np.argsort(self.lengths[rows], kind="stable")]
        return np.array_split(
            order, max(1, min(4, len(rows))) if self.device.type == "cpu" else 1
        )

    def by_length(self, events: int) -> Iterator[np.ndarray]:
        """Groups of rows of like length, for inference.

        Each is padded to at most `events` events, and has one row at least.
        """
        order = np.argsort(-self.lengths, kind="stable")
        at = 0
        while at < len(order):
            rows = max(1, events // max(int(self.lengths[order[at]]), 1))
            yield order[at : at + rows]
            at += rows


class Drawable(Protocol):
    """What a training can be drawn from, row by row.

    Histories, or users with slates.
    """

    mapped: bool  # on disk, so that the next batch is made while a step is computed
    # What each row trains on, in positions; 0 for a row to pass over.
    lengths: np.ndarray

    earlier: np.ndarray  # events of each row before the newest that it may show

    def batch(self, rows: np.ndarray, back: np.ndarray | None = None) -> Any:
        """Some rows as tensors.

        `back` says how many events before the newest each ends.
        """

    def parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of one batch in parts that pad less."""

    def users_of(self, rows: np.ndarray) -> np.ndarray:
        """The user row of each of `rows`."""


class Sampler:
    """What each step of training works on: rows drawn at random, as batches.

    All of it depends on the seed and the step's number alone, so a training goes on
    from any step. The users of a step are shared out among the processes; where the
    rows are those of this process alone (`sharded`), each process takes the same share
    of its own in every step.

    Args:
        windows: what is drawn from.
        config: how many users a step has, in how many batches, from which seed.
        group: the processes that train together.
        sharded: each process has rows of its own.
    """

    def __init__(
        self,
        windows: Drawable,
        config: TrainingConfig,
        group: Group,
        sharded: bool = False,
    ) -> None:
        self.windows, self.config, self.group = windows, config, group
        self.sharded = sharded
        self.rows = np.flatnonzero(windows.lengths)
        self.users = int(self._total([len(self.rows)])[0])
        self.users_a_step = config.batch_size * config.accumulate
        self.steps_an_epoch = math.ceil(self.users / self.users_a_step)

    def check(self, name: str) -> None:
        """Raise DataError where the log of that name is too small to be trained on."""
        if self.users == 0:
            raise DataError(
                f"{name}: no user has two training events, so there is no next item to"
                " learn; use a longer log"
            )
        if self.users_a_step > max(self.users, TrainingConfig.batch_size):
            batches = self.config.batch_size, self.config.accumulate
            raise DataError(
                f"{name}: batch_size={batches[0]} × accumulate={batches[1]} users a"
                f" step, but only {self.users} have two training events; lower"
                " --batch-size"
            )

    def steps(self, first: int) -> Iterator[tuple[list[Any], int]]:
        """Every step from the given one on: its batches, and its positions in all.

        The batches are those of this process, the positions those of all together.
        """
        makes = (partial(self._made, *drawn) for drawn in self._plan(first))
        return prefetched(makes) if self.windows.mapped else (make() for make in makes)

    def users_of(self, step: int) -> np.ndarray:
        """The user rows of a step."""
        epoch, number = divmod(step, self.steps_an_epoch)
        return self.windows.users_of(self._epoch(epoch)[number])

    def _plan(self, step: int) -> Iterator[tuple[np.ndarray, int, np.ndarray | None]]:
        """This process's rows of each step, all positions, how far back windows end."""
        first, skipped = divmod(step, self.steps_an_epoch)
        for epoch in range(first, self.config.epochs):
            back: Any = None
            if self.config.windows == "random":
                chance = np.random.default_rng((self.config.seed, epoch + 1, 1))
                back = chance.integers(self.windows.earlier + 1)
            steps = self._epoch(epoch)
            positions = self._total(
                [self.windows.lengths[rows].sum() for rows in steps]
            )
            for number, (rows, count) in enumerate(zip(steps, positions, strict=True)):
                if epoch > first or number >= skipped:
                    own = rows if self.sharded else self.group.share(rows)
                    yield own, int(count), back

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        """The rows of each step of an epoch: those of all processes, or its own."""
        seed = self.config.seed
        if not self.sharded:
            return list(shuffled_batches(self.rows, self.users_a_step, seed, epoch + 1))
        order = np.random.default_rng((seed, epoch + 1)).permutation(self.rows)
        return np.array_split(order, self.steps_an_epoch)

    def _made(
        self, rows: np.ndarray, positions: int, back: np.ndarray | None
    ) -> tuple[list[Any], int]:
        many = max(1, min(self.config.accumulate, len(rows)))
        return [
            self.windows.batch(part, None if back is None else back[part])
            for batch in np.array_split(rows, many)
            for part in self.windows.parts(batch)
        ], positions

    def _total(self, counts: Sequence[Any]) -> list[int]:
        """Counts of this process as those of all, which are the same unless sharded."""
        if not self.sharded:
            return [int(count) for count in counts]
        numbers = [int(count) for count in counts]
        return self.group.total(
            torch.tensor(numbers, device=self.group.device)
        ).tolist()


def shuffled_batches(
    rows: np.ndarray, batch_size: int, seed: int, epoch: int
) -> Iterator[np.ndarray]:
    """The rows in a random order, `batch_size` at a time.

    The order depends on `seed` and `epoch` alone.
    """
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
    """The tensor on the device.

    A copy to a GPU goes through pinned memory, and nobody waits for it.
    """
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
