"""The prepared form of a log, read.

Flat arrays on disk, in shards, that training and evaluation map. **The prepared form**,
which any engine can write. A folder holds `prepared.json`, `items.parquet` and one
folder for each shard. `items.parquet` has a row for each item of the catalogue: columns
`item`, its id (int64 or text), and `count`, how many training events it has (int64);
further columns are what is known of the item. The number of the row, from 1, is the
item's index. A shard holds some of the users, each with all of its events. In it,
`users.parquet` has their ids, in column `user`, and for each part of the split (train,
valid, test) there are three files of plain little-endian numbers without a header:
`PART.offsets.i64`, which begins with 0 and has one number more than there are users,
and `PART.items.i32` and `PART.times.i64`, item indices and Unix seconds, where the
entries from offsets[u] up to offsets[u + 1] are the events of user u, oldest first. A
user's validation question is: after all of its train, what comes first in valid? Its
test question: after train and valid, what comes first in test? Who has nothing before,
or nothing in the part, is not asked. `prepared.json` is `{"format": 1, "name": text,
"checksum": text, "protocol": {"split": text, "exclude_seen": true or false}, "shards":
[the names of their folders, in order]}`; more entries do no harm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from attncore.errors import DataError, expect_path, one_line
from attncore.interactions import Interactions, ReadSummary
from attncore.readers import one_line_errors
from attncore.sequences import Histories, Joined, Vocabulary, plain_ids
from attncore.splits import Holdout, Split, split_at, titles_of

PARTS = ("train", "valid", "test")
ASKED = 20_000  # questions that a training validates on, of those that a large log has


def mapped(path: Path, dtype: Any) -> np.ndarray:
    """A file as an array that is read where it is touched.

    Writing to it stays in memory.
    """
    if not path.is_file():
        raise DataError(f"{path}: is missing; prepare the log anew")
    size = np.dtype(dtype).itemsize
    if path.stat().st_size % size:
        raise DataError(
            f"{path}: {path.stat().st_size} bytes are no whole numbers of {size};"
            " prepare the log anew"
        )
    if path.stat().st_size == 0:
        return np.zeros(0, dtype)
    return np.memmap(path, np.dtype(dtype).newbyteorder("<"), mode="c")


@dataclass(frozen=True)
class Continued(Histories):
    """Rows that begin in mapped histories and go on in further ones.

    They are joined where they are taken.

    Attributes:
        more: histories with the same rows, whose events come after.
        chosen: the rows that these histories consist of; None is all.
    """

    more: tuple[Histories, ...] = ()
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def lengths(self) -> np.ndarray:
        """Events per row, int64."""
        lengths = np.diff(self.offsets) + sum(part.lengths for part in self.more)
        return lengths if self.chosen is None else lengths[self.chosen]

    def __getitem__(self, row: int) -> np.ndarray:
        """The item indices of one row, oldest first."""
        return self.take(np.array([row])).items

    def take(self, rows: np.ndarray, stops: np.ndarray | None = None) -> Histories:
        """The given rows in memory; `stops` cuts each to its first so many events."""
        rows = np.asarray(rows) if self.chosen is None else self.chosen[rows]
        parts = [
            Histories(self.items, self.offsets, self.times).take(rows),
            *(part.take(rows) for part in self.more),
        ]
        owners = [np.repeat(np.arange(len(part)), part.lengths) for part in parts]
        order = np.argsort(np.concatenate(owners), kind="stable")
        items = np.concatenate([part.items for part in parts])[order]
        times = np.concatenate([part.times for part in parts])[order]
        lengths = np.sum([part.lengths for part in parts], 0, dtype=np.int64)
        whole = Histories(items, np.append(0, np.cumsum(lengths)), times)
        return whole if stops is None else whole.take(np.arange(len(whole)), stops)


@dataclass(frozen=True)
class PreparedSplit(Split):
    """A split whose events stay on disk.

    `histories` are whole, `train` is mapped, `valid` and `test` in memory. Saved with a
    model, it keeps the users that are asked, not all.
    """

    def save(self, folder: Path, attributes: Any = ()) -> None:
        """Write an ordinary split of those that are asked, with the whole catalogue."""
        rows = np.unique(np.concatenate([self.valid.users, self.test.users]))
        histories, stops = self.histories.take(rows), self.train.lengths[rows]
        questions = {
            asked.name: (np.searchsorted(rows, asked.users), asked.histories.lengths)
            for asked in (self.valid, self.test)
        }
        users = Vocabulary(self.users.ids[rows], "user")
        asked = split_at(
            self.name,
            self.checksum,
            users,
            self.items,
            histories,
            stops,
            questions,
            self.valid.protocol,
            titles=self.titles,
            counts=self.item_counts,
        )
        asked.save(folder)


@dataclass(frozen=True)
class Prepared:
    """A prepared log on disk; `Prepared.open` reads what is small of it.

    Attributes:
        folder: where it is.
        about: what `prepared.json` says.
        items: the catalogue.
        counts: training events of each item, int64 (V,).
        table: what is known about items, indexed by id; None where nothing is.
    """

    folder: Path
    about: Mapping[str, Any]
    items: Vocabulary
    counts: np.ndarray
    table: pd.DataFrame | None = field(repr=False, default=None)

    @classmethod
    def open(cls, folder: str | Path) -> Prepared:
        """Open a folder that `prepare`, or another engine, wrote.

        Raises:
            DataError: it is no such folder, or a file of it is missing or damaged.
        """
        expect_path(folder, "Prepared.open", "the path of a prepared folder")
        folder = Path(folder)
        try:
            about = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
            name, shards, form = about["name"], about["shards"], about["format"]
            told = {"split", "exclude_seen"} <= set(about["protocol"])
            if form != 1 or not shards or not told:
                raise ValueError(f"format {form} of {name}, {len(shards)} shards")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder / 'prepared.json'}: is no prepared log ({one_line(error)});"
                " make one with: python -m attncore prepare"
            ) from None
        place = folder / "items.parquet"
        with one_line_errors(place):
            found = pq.read_table(place).to_pandas(ignore_metadata=True)
        if not {"item", "count"} <= set(found.columns) or not found["item"].is_unique:
            raise DataError(
                f"{place}: needs a column item, each id once, and a column count;"
                " prepare the log anew"
            )
        table = found.drop(columns="count").set_index("item")
        ids = Vocabulary(plain_ids(pd.Index(found["item"])), "item")
        counts = found["count"].to_numpy(np.int64, copy=True)
        return cls(folder, about, ids, counts, table if len(table.columns) else None)

    @property
    def summary(self) -> ReadSummary:
        """What preparing read, kept and dropped."""
        return ReadSummary(**self.about.get("summary", {}))

    def split(
        self, rank: int = 0, size: int = 1, asked: int | None = ASKED, seed: int = 0
    ) -> Split:
        """The part of the log that one of `size` processes trains on.

        Every size-th shard, from shard `rank` on. With one process, and everybody
        asked, it is what `leave_one_out` or `split_by_time` gives of the log.

        Args:
            rank, size: of the process, as `torchrun` numbers them.
            asked: questions of validation and of test, about, over all processes; they
                are drawn at random, and the same whatever the number of processes. None
                asks everybody.
            seed: of the draw.

        Raises:
            DataError: there are fewer shards than processes, nobody is asked, or a file
                is missing or damaged.
        """
        numbers = self._numbers(rank, size)
        shards = [self._shard(number) for number in numbers]
        users = Vocabulary(np.concatenate([ids for ids, _ in shards]), "user")
        if not pd.Index(users.ids).is_unique:
            raise DataError(
                f"{self.folder}: a user is there twice; each belongs into one shard"
                " with all its events"
            )
        every = _joined([parts for _, parts in shards])
        starts = np.cumsum([0, *(len(ids) for ids, _ in shards)])
        share = None if asked is None else -(-asked // len(self.about["shards"]))
        drawn = {name: [np.zeros(0, np.int64)] for name in PARTS[1:]}
        for number, start, (_, parts) in zip(numbers, starts, shards, strict=False):
            for name in drawn:
                rows = _askable(parts, name)
                if share is not None and share < len(rows):
                    chance = np.random.default_rng((seed, number))
                    rows = np.sort(chance.choice(rows, share, replace=False))
                drawn[name].append(start + rows)
        holdouts = [
            self._holdout(name, every, np.concatenate(drawn[name]), sharded=size > 1)
            for name in PARTS[1:]
        ]
        if size == 1 and not all(map(len, holdouts)):
            empty = next(holdout.name for holdout in holdouts if not len(holdout))
            raise DataError(
                f"{self.about['name']}: the split leaves no user for {empty}; use a"
                " longer log"
            )
        train, *later = every
        return PreparedSplit(
            name=self.about["name"],
            checksum=self.about.get("checksum", ""),
            users=users,
            items=self.items,
            histories=_continued(train, later),
            train=train,
            valid=holdouts[0],
            test=holdouts[1],
            log=self._log(),
            sharded=size > 1,
            titles=titles_of(self.table, self.items),
        )

    def questions(self, part: str = "test", rank: int = 0, size: int = 1) -> Holdout:
        """All questions of "valid" or "test", or those of a process.

        `evaluate` reads them shard by shard. Only the answers are in memory.
        """
        numbers = self._numbers(rank, size)
        every = _joined([self._shard(number)[1] for number in numbers])
        return self._holdout(part, every, _askable(every, part), size > 1, False)

    def _numbers(self, rank: int, size: int) -> list[int]:
        shards = len(self.about["shards"])
        if not 0 <= rank < size <= shards:
            raise DataError(
                f"{self.folder}: {shards} shards for {size} processes; prepare it with"
                f" --shards {size}"
            )
        return list(range(rank, shards, size))

    def _shard(self, number: int) -> tuple[np.ndarray, tuple[Histories, ...]]:
        """The user ids of a shard, and its parts, mapped."""
        folder = self.folder / self.about["shards"][number]
        with one_line_errors(folder / "users.parquet"):
            users = pq.read_table(folder / "users.parquet").column("user")
            ids = plain_ids(pd.Index(users.to_pandas()))
        parts = []
        for name in PARTS:
            offsets = np.array(mapped(folder / f"{name}.offsets.i64", np.int64))
            items = mapped(folder / f"{name}.items.i32", np.int32)
            times = mapped(folder / f"{name}.times.i64", np.int64)
            whole = (
                len(offsets) == len(ids) + 1
                and offsets[0] == 0
                and (np.diff(offsets) >= 0).all()
            )
            if not (whole and offsets[-1] == len(items) == len(times)):
                raise DataError(
                    f"{folder / name}.*: offsets, items and times do not fit together;"
                    " prepare it anew"
                )
            if len(items) and not 1 <= items.min() <= items.max() <= len(self.items):
                raise DataError(
                    f"{folder / name}.items.i32: holds an item outside"
                    f" 1..{len(self.items)}; prepare the log anew"
                )
            parts.append(Histories(items, offsets, times))
        return ids, tuple(parts)

    def _holdout(
        self,
        name: str,
        parts: Sequence[Histories],
        rows: np.ndarray,
        sharded: bool,
        in_memory: bool = True,
    ) -> Holdout:
        """The questions of some rows."""
        asked = parts[PARTS.index(name)]
        train, *later = parts[: PARTS.index(name)]
        known: Histories = _continued(train, later, rows)
        if in_memory:
            known = known.take(np.arange(len(rows)))
        targets = np.asarray(asked.items[asked.offsets[rows]], np.int32)
        protocol = dict(self.about["protocol"])
        return Holdout(
            name,
            known,
            rows,
            targets,
            self.counts,
            protocol["exclude_seen"],
            protocol,
            sharded=sharded,
            catalogue=self.items,
        )

    def _log(self) -> Interactions | None:
        """A log without events that has the table of items for the model's features."""
        if self.table is None:
            return None
        empty = pd.DataFrame({"user": [], "item": [], "time": []}).astype("int64")
        ids = self.table.index.dtype
        return Interactions(
            empty.astype({"item": ids}), items=self.table, name=self.about["name"]
        )


def _askable(parts: Sequence[Histories], name: str) -> np.ndarray:
    """The rows that have something in a part of the split, and something before."""
    place = PARTS.index(name)
    before = sum(part.lengths for part in parts[:place])
    return np.flatnonzero((before > 0) & (parts[place].lengths > 0))


def _continued(
    train: Histories, later: Sequence[Histories], rows: np.ndarray | None = None
) -> Continued:
    return Continued(
        train.items, train.offsets, train.times, more=tuple(later), chosen=rows
    )


def _joined(shards: Sequence[tuple[Histories, ...]]) -> list[Histories]:
    """Each part of several shards as one; the events stay where they are."""
    if len(shards) == 1:
        return list(shards[0])
    found = []
    for parts in zip(*shards, strict=True):
        starts = np.cumsum([0, *(len(part.items) for part in parts)])
        ends = [
            part.offsets[1:] + start for part, start in zip(parts, starts, strict=False)
        ]
        items: Any = Joined([part.items for part in parts])
        times: Any = Joined([part.times for part in parts])
        offsets = np.concatenate([np.zeros(1, np.int64), *ends])
        found.append(Histories(items, offsets, times))
    return found
