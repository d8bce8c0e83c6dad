"""Stage 1b: histories become padded tensors on the device that trains."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
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
        asked_BT: when that item was taken, int64; None when nothing is asked.
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
    asked_BT: Tensor | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    situation: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return sent(self, device)

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
        every: of training batches: not one window of a history but so many that every
            event is a target of one. They overlap by half, and each trains its newer
            half alone, which has at least the older half as its past. A window is then
            a row of its own.
    """

    chance: torch.Generator | None = None
    most_parts = 4  # of a step; each costs some time, and saves padding

    def __init__(
        self,
        histories: Histories,
        length: int,
        device: torch.device | str = "cpu",
        targets: bool = False,
        users: np.ndarray | None = None,
        situation: Mapping[str, np.ndarray] | None = None,
        every: bool = False,
    ) -> None:
        self.device, self.targets = torch.device(device), targets
        self.ahead = isinstance(histories.items, np.memmap | Joined)
        # Where the columns are.
        self.home = torch.device("cpu") if self.ahead else self.device
        known, ends = histories.lengths, histories.offsets[1:]
        if users is None:
            users = np.arange(len(histories))
        users = np.asarray(users, np.int64)
        trained = length
        if every:
            trained = (length + 1) // 2
            many = np.maximum(-(-(known - 1) // trained), 1)
            number = np.arange(many.sum()) - (many.cumsum() - many).repeat(many)
            known, ends, users = (x.repeat(many) for x in (known, ends, users))
            known, ends = known - number * trained, ends - number * trained
        seen = np.minimum(known, length + targets)
        self.inputs = np.maximum(seen - targets, 0)  # events per row
        self.lengths = np.minimum(self.inputs, trained)  # positions it trains on
        # Events per row before the newest window.
        self.earlier = known - seen
        rows = np.stack([ends - seen, self.inputs, self.lengths, users])
        given = torch.from_numpy(rows).to(self.home)
        self._starts, self._inputs, self._trained, self._users = given
        self._items = self._column(histories.items)
        self._times = self._column(histories.times)
        self._attributes = self._columns(histories.attributes)
        self._situation = self._columns(situation or {})

    def _columns(self, columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {name: self._column(column) for name, column in columns.items()}

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
        rows_B = sent(torch.from_numpy(rows), self.home)
        back_B = None if back is None else sent(torch.from_numpy(back), self.home)
        width = int(self.inputs[rows].max(initial=1))
        count = int(self.lengths[rows].sum())
        return self.gathered(rows_B, width, count, back_B).to(self.device)

    def gathered(
        self, rows_B: Tensor, width: int, count: int, back_B: Tensor | None = None
    ) -> Batch:
        """The windows of rows, given where the log lies, padded to `width`.

        They train on `count` positions together.
        """
        starts_B, lengths_B = self._starts[rows_B], self._inputs[rows_B]
        trained_B = self._trained[rows_B]
        if back_B is not None:
            starts_B = starts_B - back_B
        step_T = torch.arange(width, device=self.home)
        keep_BT = step_T < lengths_B[:, None]
        at_BT = (starts_B[:, None] + step_T).masked_fill(~keep_BT, 0)
        row_N = torch.arange(len(rows_B), device=self.home).repeat_interleave(
            trained_B, output_size=count
        )
        # The newest of each row.
        before_B = trained_B.cumsum(0) - lengths_B
        real_N = row_N * width + torch.arange(count, device=self.home) - before_B[row_N]
        asked = rows_B[:, None]
        targets_BT, asked_BT, asks_BT = (
            None,
            None,
            torch.ones_like(asked, dtype=torch.bool),
        )
        if self.targets:
            asked, asks_BT = (at_BT + 1).masked_fill(~keep_BT, 0), keep_BT
            targets_BT = _looked_up(self._items, asked, keep_BT).long()
            asked_BT = _looked_up(self._times, asked, keep_BT)
        return Batch(
            _looked_up(self._items, at_BT, keep_BT).long(),
            lengths_B,
            self._users[rows_B],
            _looked_up(self._times, at_BT, keep_BT),
            real_N,
            targets_BT,
            asked_BT,
            {n: _looked_up(c, at_BT, keep_BT) for n, c in self._attributes.items()},
            {n: _looked_up(c, asked, asks_BT) for n, c in self._situation.items()},
        )

    def users_of(self, rows: np.ndarray) -> np.ndarray:
        """The user row of each of `rows`."""
        return self._users.cpu().numpy()[rows]

    def parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of one training step in parts that pad less."""
        return parts_by(self.inputs[rows], rows, self.most_parts, self.device)

    def by_length(self, events: int) -> Iterator[np.ndarray]:
        """Groups of rows of like length, for inference.

        Each is padded to at most `events` events, and has one row at least. On a GPU,
        which a few thousand events leave idle, it is 65,536 of them or more.
        """
        if self.device.type != "cpu":
            events = max(events, 2**16)
        order = np.argsort(-self.inputs, kind="stable")
        at = 0
        while at < len(order):
            rows = max(1, events // max(int(self.inputs[order[at]]), 1))
            yield order[at : at + rows]
            at += rows


class Drawable(Protocol):
    """What a training is drawn from, row by row: histories, or users with slates.

    Attributes:
        ahead: batches are made on the CPU from what is on disk, or for a GPU; so the
            next is made while a step is computed.
        chance: random numbers that are drawn for a batch then, in place of PyTorch's
            generator; None where none are.
        lengths: what each row trains on, in positions; 0 for a row to pass over.
        earlier: events of each row before the newest that it may show.
    """

    ahead: bool
    chance: torch.Generator | None
    lengths: np.ndarray
    earlier: np.ndarray

    def batch(self, rows: np.ndarray, back: np.ndarray | None = None) -> Any:
        """Some rows as tensors, each ending `back` events before its newest."""

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
            size, many = self.config.batch_size, self.config.accumulate
            raise DataError(
                f"{name}: batch_size={size} × accumulate={many} users a step, but only"
                f" {self.users} have two training events; lower --batch-size"
            )

    def steps(self, first: int) -> Iterator[tuple[list[Any], int]]:
        """Every step from the given one on: its batches, and its positions in all.

        The batches are those of this process, the positions those of all together.
        """
        makes = (partial(self._made, *drawn) for drawn in self._plan(first))
        if not self.windows.ahead:
            yield from (make() for make in makes)
        elif self.windows.chance is None:
            yield from prefetched(makes)
        else:
            yield from self._drawn_ahead(makes, self.windows.chance)

    def _drawn_ahead(
        self, makes: Iterable[Callable[[], Any]], chance: torch.Generator
    ) -> Iterator[Any]:
        """As `prefetched`, with the draws, and the checkpoints, of a run that is not.

        The other thread draws ahead from a copy of PyTorch's generator, which moves up
        to a step when that is handed out.
        """
        chance.set_state(torch.get_rng_state())

        def with_state(make: Callable[[], Any]) -> tuple[Any, Tensor]:
            return make(), chance.get_state()

        for made, state in prefetched(partial(with_state, make) for make in makes):
            torch.set_rng_state(state)
            yield made

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
            positions = self._total([self.windows.lengths[r].sum() for r in steps])
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
        batches = [
            self.windows.batch(part, None if back is None else back[part])
            for batch in np.array_split(rows, many)
            for part in self.windows.parts(batch)
        ]
        return batches, positions

    def _total(self, counts: Sequence[Any]) -> list[int]:
        """Counts of this process as those of all, which are the same unless sharded."""
        own = [int(count) for count in counts]
        if not self.sharded:
            return own
        return self.group.total(torch.tensor(own, device=self.group.device)).tolist()


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


def parts_by(
    lengths: np.ndarray, rows: np.ndarray, many: int, device: torch.device
) -> list[np.ndarray]:
    """Rows sorted by their lengths and cut into `many` parts; into one for a GPU."""
    order = rows[np.argsort(lengths, kind="stable")]
    many = min(many, len(rows)) if device.type == "cpu" else 1
    return np.array_split(order, max(1, many))


def sent(value: Any, device: torch.device) -> Any:
    """A batch, or tensors by name, or one, on the device.

    A copy to a GPU goes through pinned memory, and nobody waits for it.
    """
    if value is None:
        return None
    if isinstance(value, Tensor):
        if device.type == "cuda" and value.device.type == "cpu":
            value = value.pin_memory()
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {name: sent(part, device) for name, part in value.items()}
    names = [field.name for field in fields(value)]
    return replace(
        value, **{name: sent(getattr(value, name), device) for name in names}
    )


def _looked_up(column: Tensor | Joined, at_BT: Tensor, keep_BT: Tensor) -> Tensor:
    """The column's values at each place (B, T) or (B, T, M); 0 where not kept."""
    if isinstance(column, Joined):
        found = torch.from_numpy(column[at_BT.numpy()])
    else:
        found = column[at_BT]
    if found.dim() > 2:
        keep_BT = keep_BT[..., None]
    return found.masked_fill(~keep_BT, 0)
