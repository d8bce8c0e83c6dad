"""Stage 1b: from a log to histories. Ids become indices 1..V, 0 is padding.

Each user is a row of a flat array.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from attncore.errors import DataError, one_line

FEW = 20_000  # ids that are searched for one like an unknown one


@dataclass(frozen=True)
class Vocabulary:
    """The ids of a log, each with an index from 1; index 0 is padding and has no id.

    Attributes:
        ids: distinct ids, int64 or str, in ascending order, or in that of a prepared
            log; `ids[i]` has index `i + 1`.
        kind: what the ids name, for error lines: "item" or "user".
    """

    ids: np.ndarray
    kind: str = "item"

    def __len__(self) -> int:
        """Number of ids, padding not counted."""
        return len(self.ids)

    @cached_property
    def is_number(self) -> bool:
        """Whether the ids are integers, not text."""
        return self.ids.dtype.kind in "iu"

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.ids, dtype=None if self.is_number else object)

    def encode(self, ids: Any) -> np.ndarray:
        """Indices of `ids`, int32, same length.

        Raises:
            DataError: as for `find`; or an id is not in the vocabulary.
        """
        index = self.find(ids)
        if not index.all():
            unknown = listed(ids, self.kind)[int(np.argmin(index))]
            raise DataError(
                f"unknown {self.kind} {one_line(repr(unknown))}: it is not among the"
                f" log's {len(self):,} {self.kind}s{self._meant(unknown)}"
            )
        return index

    def _meant(self, unknown: Any) -> str:
        """`; 'Tüte' is`: the id that was perhaps meant by an unknown one, or ""."""
        if self.is_number or not isinstance(unknown, str):
            return ""

        def plain(text: str) -> str:
            """What is left where case, spaces and forms of an umlaut do not count."""
            return " ".join(unicodedata.normalize("NFKC", text).casefold().split())

        known = {plain(one): one for one in self.ids}
        near = [plain(unknown)] if plain(unknown) in known else []
        if not near and len(known) <= FEW:  # of more, a search takes seconds
            near = difflib.get_close_matches(plain(unknown), known, 1, cutoff=0.75)
        return f"; {known[near[0]]!r} is" if near else ""

    def known(self, ids: Any) -> np.ndarray:
        """Indices of those `ids` that are in the vocabulary, int32."""
        index = self.find(ids)
        return index[index > 0]

    def find(self, ids: Any) -> np.ndarray:
        """Indices of `ids`, int32, 0 where one is unknown.

        Args:
            ids: any flat collection, or one id alone. Where ids are integers, 5.0 is 5.

        Raises:
            DataError: an id is of another type than the log's, or is a collection.
        """
        plain = listed(ids, self.kind)
        if set(map(type, plain)) - {int if self.is_number else str}:
            plain = [self._typed(one) for one in plain]
        try:
            sought = np.array(plain, np.int64 if self.is_number else object)
        except OverflowError:  # so large an integer is no id of this log
            sought = np.array(plain, object)
        return (
            self._index.get_indexer(pd.Index(sought, dtype=sought.dtype)) + 1
        ).astype(np.int32)

    def _typed(self, one: Any) -> Any:
        """An id in the type of the log's."""
        if self.is_number:
            is_whole = isinstance(one, float) and one.is_integer()
            if is_whole or (isinstance(one, int) and not isinstance(one, bool)):
                return int(one)
        elif isinstance(one, str):
            return str(one)
        expected = "an integer" if self.is_number else "text"
        shown = one_line(repr(one))
        raise DataError(f"unknown {self.kind} {shown}: an id of this log is {expected}")

    def decode(self, index: np.ndarray) -> np.ndarray:
        """The ids at `index` (entries from 1 to len), in the same shape."""
        return self.ids[np.asarray(index) - 1]

    def parse(self, texts: Sequence[str]) -> list[Any]:
        """Ids typed on a command line, turned into the type that the log's ids have.

        Raises:
            DataError: the log's ids are integers and a text is not one.
        """
        if self.ids.dtype.kind not in "iu":
            return list(texts)
        try:
            return [int(text) for text in texts]
        except ValueError:
            bad = next(
                text for text in texts if not text.strip().lstrip("+-").isdigit()
            )
            raise DataError(
                f"unknown {self.kind} {bad!r}: an id of this log is an integer"
            ) from None


def listed(ids: Any, name: str) -> list[Any]:
    """Ids in a list, as Python values; an id alone is a list of one.

    Args:
        ids: a list, tuple, set, array, column, …
        name: what they are called in an error.

    Raises:
        DataError: one of them is a collection itself, or no collection was given.
    """
    if hasattr(ids, "tolist"):  # of NumPy, pandas or PyTorch
        ids = ids.tolist()
    if ids is None or isinstance(ids, str | bytes | int | float):
        return [ids]
    if isinstance(ids, Mapping) or not isinstance(ids, Iterable):
        raise DataError(f"{name}: {one_line(repr(ids))} is no list of ids")
    plain = [one.item() if isinstance(one, np.generic) else one for one in ids]
    for one in plain:
        if isinstance(one, Iterable) and not isinstance(one, str | bytes):
            raise DataError(f"{name}: {one_line(repr(one))} is no id; give a flat list")
    return plain


class Joined:
    """Arrays one behind the other, read as one, as are the files of several shards.

    Args:
        parts: one-dimensional arrays of one type.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts, self.dtype = parts, parts[0].dtype
        self.starts = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self.starts[-1]),)

    def __len__(self) -> int:
        """How many entries the parts have together."""
        return self.shape[0]

    def __getitem__(self, at: Any) -> np.ndarray:
        """The entries at some places, in memory.

        `at` is an array of integers or a slice.
        """
        if isinstance(at, slice):
            at = np.arange(*at.indices(len(self)))
        found = np.empty(at.shape, self.dtype)
        owner = np.searchsorted(self.starts, at, side="right") - 1
        for number in np.unique(owner):
            here = owner == number
            found[here] = self.parts[number][at[here] - self.starts[number]]
        return found


@dataclass(frozen=True)
class Histories:
    """Many histories in one flat array.

    Row r is `items[offsets[r]:offsets[r + 1]]`, oldest event first.

    Attributes:
        items: item indices 1..V, int32, one per event.
        offsets: where each row begins and ends, int64, rows + 1 entries.
        times: time of each event, int64 (Unix seconds, or the row's number when the log
            has no time).
        attributes: event attributes by name (a rating, say), one value per event.
    """

    items: np.ndarray
    offsets: np.ndarray
    times: np.ndarray
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """The item indices of one row, oldest first."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} histories")
        row %= len(self)
        return self.items[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Events per row, int64."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray, stops: np.ndarray | None = None) -> Histories:
        """The given rows in the given order.

        `stops` cuts each to its first so many events (None keeps all).
        """
        rows = np.asarray(rows, np.int64)
        lengths = self.lengths[rows] if stops is None else np.asarray(stops)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = spans(self.offsets[rows], lengths)
        return self._gathered(at, offsets)

    def erased(self, row: int) -> Histories:
        """One history n + 1 times: whole, then without each of its n events.

        Times and attributes are kept.
        """
        events = np.arange(self.offsets[row], self.offsets[row + 1])
        at = np.concatenate(
            [events, *(np.delete(events, event) for event in range(len(events)))]
        )
        offsets = np.concatenate(
            [[0], np.cumsum([len(events)] + [len(events) - 1] * len(events))]
        )
        return self._gathered(at, offsets.astype(np.int64))

    def followed_by(self, later: Histories) -> Histories:
        """Each row with the events of another's behind its own.

        An attribute of these events that the others lack is missing there.
        """

        def column(name: str) -> np.ndarray:
            mine = self.attributes[name]
            if name in later.attributes:
                return np.concatenate([mine, later.attributes[name]])
            unknown = np.full(len(later.items), None, object)
            return np.concatenate([mine.astype(object), unknown])

        joined = Histories(
            np.concatenate([self.items, later.items]),
            self.offsets,
            np.concatenate([self.times, later.times]),
            {name: column(name) for name in self.attributes},
        )
        behind = later.offsets[:-1] + len(self.items)
        starts = np.stack([self.offsets[:-1], behind], axis=1).ravel()
        lengths = np.stack([self.lengths, later.lengths], axis=1)
        offsets = np.concatenate([[0], np.cumsum(lengths.sum(1))]).astype(np.int64)
        return joined._gathered(spans(starts, lengths.ravel()), offsets)

    def _gathered(self, at: np.ndarray, offsets: np.ndarray) -> Histories:
        attributes = {name: column[at] for name, column in self.attributes.items()}
        return Histories(self.items[at], offsets, self.times[at], attributes)

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int] | np.ndarray]) -> Histories:
        """Histories from lists of item indices.

        Times count the events of a row from 0.
        """
        lengths = [len(row) for row in rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        empty = np.zeros(0, np.int32)
        items = np.concatenate([empty, *[np.asarray(row, np.int32) for row in rows]])
        times = np.concatenate(
            [np.zeros(0, np.int64), *[np.arange(n, dtype=np.int64) for n in lengths]]
        )
        return cls(items, offsets, times)


def spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """All places of several runs, each of which begins at its start, one by one."""
    before = np.cumsum(lengths) - lengths
    return np.arange(np.sum(lengths)) + np.repeat(starts - before, lengths)


def plain_ids(index: pd.Index) -> np.ndarray:
    """Ids as int64, or as Python strings."""
    return (
        index.to_numpy(np.int64) if index.dtype.kind in "iu" else index.to_numpy(object)
    )
