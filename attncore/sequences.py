"""Stage 1b: from a log to histories and splits.

Ids become indices 1..V (0 is padding), each user's events become one row of a flat array, and a split says
which events train, which one validates and which one tests. See the chapter "Data preparation".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from attncore.interactions import DataError, Interactions


@dataclass(frozen=True)
class Vocabulary:
    """The ids of a log, each with an index from 1; index 0 is padding and has no id.

    Attributes:
        ids: distinct ids in ascending order, int64 or str; `ids[i]` has index `i + 1`.
        kind: what the ids name, for error lines: "item" or "user".
    """

    ids: np.ndarray
    kind: str = "item"

    def __len__(self) -> int:
        """Number of ids, padding not counted."""
        return len(self.ids)

    def encode(self, ids: Sequence[Any] | np.ndarray) -> np.ndarray:
        """Indices of `ids`, int32, same length.

        Raises:
            DataError: an id is not in the vocabulary.
        """
        wanted = np.asarray(ids)
        if wanted.size == 0:
            return np.zeros(0, np.int32)
        is_number, known_number = wanted.dtype.kind in "iu", self.ids.dtype.kind in "iu"
        if is_number != known_number:
            expected = "an integer" if known_number else "text"
            raise DataError(f"unknown {self.kind} {wanted.flat[0]!r}: an id of this log is {expected}")
        index = pd.Index(self.ids).get_indexer(pd.Index(wanted.astype(self.ids.dtype)))
        if (index < 0).any():
            unknown = wanted[index < 0][0]
            raise DataError(f"unknown {self.kind} {unknown}: it is not among the log's {len(self):,} {self.kind}s")
        return (index + 1).astype(np.int32)

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
            bad = next(text for text in texts if not text.strip().lstrip("+-").isdigit())
            raise DataError(f"unknown {self.kind} {bad!r}: an id of this log is an integer") from None


@dataclass(frozen=True)
class Histories:
    """Many histories in one flat array: row r is `items[offsets[r]:offsets[r + 1]]`, oldest event first.

    Attributes:
        items: item indices 1..V, int32, one per event.
        offsets: where each row begins and ends, int64, rows + 1 entries.
        times: time of each event, int64 (Unix seconds, or the row's number when the log has no time).
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

    def take(self, rows: np.ndarray, starts: np.ndarray | None = None, stops: np.ndarray | None = None) -> Histories:
        """The given rows in the given order, each cut to its events `starts` (0) up to `stops` (all of them)."""
        rows = np.asarray(rows, np.int64)
        begin = self.offsets[rows] + (0 if starts is None else starts)
        end = self.offsets[rows + 1] if stops is None else self.offsets[rows] + stops
        lengths = np.maximum(end - begin, 0)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], lengths)
        return Histories(
            self.items[at],
            offsets,
            self.times[at],
            {name: column[at] for name, column in self.attributes.items()},
        )

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int] | np.ndarray]) -> Histories:
        """Histories from lists of item indices; times count the events of a row from 0."""
        lengths = [len(row) for row in rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        empty = np.zeros(0, np.int32)
        items = np.concatenate([empty, *[np.asarray(row, np.int32) for row in rows]])
        times = np.concatenate([np.zeros(0, np.int64), *[np.arange(n, dtype=np.int64) for n in lengths]])
        return cls(items, offsets, times)


@dataclass(frozen=True)
class Holdout:
    """Questions with known answers: given this history, which item came next?

    Attributes:
        name: "valid" or "test".
        histories: what is known when the question is asked, one row per question.
        users: the asked user's row in `Split.users`, int64.
        targets: index of the item that came next, int32.
        item_counts: how often each item occurs in training, int64 (V,); entry j is item index j + 1.
        exclude_seen: items of the row's whole history are no candidates, the target excepted.
        protocol: how the split was made, in words and numbers.
    """

    name: str
    histories: Histories
    users: np.ndarray
    targets: np.ndarray
    item_counts: np.ndarray
    exclude_seen: bool
    protocol: dict[str, Any]

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.targets)


@dataclass(frozen=True)
class Split:
    """A log divided into training, validation and test, with the vocabularies that all three share.

    Attributes:
        name: the log's name.
        checksum: the log's SHA-256.
        users: user ids; the user with index u + 1 is row u of `histories` and `train`.
        items: item ids: the catalogue, every item of the log.
        histories: all events of every user.
        train: the events that may be learned from.
        valid, test: the questions.
        log: where it came from; None when the split was read from a run folder.
        titles: a title per item where the log has them, else None.
    """

    name: str
    checksum: str
    users: Vocabulary
    items: Vocabulary
    histories: Histories
    train: Histories
    valid: Holdout
    test: Holdout
    log: Interactions | None = None
    titles: np.ndarray | None = None

    @property
    def item_counts(self) -> np.ndarray:
        """How often each item occurs in training, int64 (V,); entry j is item index j + 1."""
        return self.valid.item_counts

    def label(self, item: Any) -> str:
        """An item's title where there is one, else its id."""
        index = int(self.items.encode([item])[0])
        return str(item) if self.titles is None else str(self.titles[index - 1])

    def save(self, folder: Path) -> None:
        """Write `vocabulary.json` and `histories.safetensors` into a folder that exists."""
        arrays = {
            "items": self.histories.items,
            "offsets": self.histories.offsets,
            "times": self.histories.times,
        }
        arrays["train_stops"] = self.train.lengths
        for holdout in (self.valid, self.test):
            arrays[f"{holdout.name}_rows"] = holdout.users
            arrays[f"{holdout.name}_places"] = holdout.histories.lengths
        about = {
            "name": self.name,
            "checksum": self.checksum,
            "users": self.users.ids.tolist(),
            "items": self.items.ids.tolist(),
            "titles": None if self.titles is None else self.titles.tolist(),
            "protocol": self.valid.protocol,
        }
        (folder / "vocabulary.json").write_text(json.dumps(about), encoding="utf-8")
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            folder / "histories.safetensors",
        )

    @classmethod
    def load(cls, folder: Path) -> Split:
        """Read what `save` wrote."""
        about = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "histories.safetensors")
        histories = Histories(arrays["items"], arrays["offsets"], arrays["times"])
        return _split(
            about["name"],
            about["checksum"],
            Vocabulary(_ids(pd.Index(about["users"])), "user"),
            Vocabulary(_ids(pd.Index(about["items"])), "item"),
            histories,
            arrays["train_stops"],
            {name: (arrays[f"{name}_rows"], arrays[f"{name}_places"]) for name in ("valid", "test")},
            about["protocol"],
            titles=None if about["titles"] is None else np.array(about["titles"], object),
        )


def _histories(log: Interactions) -> tuple[Vocabulary, Vocabulary, Histories]:
    """Vocabularies and histories; events of equal time keep the order of the log's rows."""
    events = log.events
    user, user_ids = pd.factorize(events["user"], sort=True)
    item, item_ids = pd.factorize(events["item"], sort=True)
    time = events["time"].to_numpy(np.int64)
    order = np.lexsort((time, user))  # a stable sort: rows of one user and one time stay as loaded
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(user_ids)))]).astype(np.int64)
    extra = [name for name in events.columns if name not in ("user", "item", "time")]
    histories = Histories(
        (item[order] + 1).astype(np.int32),
        offsets,
        time[order],
        {name: events[name].to_numpy()[order] for name in extra},
    )
    return Vocabulary(_ids(user_ids), "user"), Vocabulary(_ids(item_ids), "item"), histories


def _ids(index: pd.Index) -> np.ndarray:
    """Ids as int64, or as Python strings."""
    return index.to_numpy(np.int64) if index.dtype.kind in "iu" else index.to_numpy(object)


def _split(
    name: str,
    checksum: str,
    users: Vocabulary,
    items: Vocabulary,
    histories: Histories,
    train_stops: np.ndarray,
    questions: Mapping[str, tuple[np.ndarray, np.ndarray]],
    protocol: dict[str, Any],
    log: Interactions | None = None,
    titles: np.ndarray | None = None,
) -> Split:
    """A split that trains on each row up to `train_stops` and asks `questions[name] = rows, places`.

    A question is: which item stands at that place of that row, given all before it?
    """
    train = histories.take(np.arange(len(users)), stops=train_stops)
    counts = np.bincount(train.items, minlength=len(items) + 1)[1:].astype(np.int64)
    holdouts = {}
    for part, (rows, places) in questions.items():
        if len(rows) == 0:
            raise DataError(f"{name}: the {protocol['split']} split leaves no user for {part}; use a longer log")
        holdouts[part] = Holdout(
            name=part,
            histories=histories.take(rows, stops=places),
            users=rows,
            targets=histories.items[histories.offsets[rows] + places],
            item_counts=counts,
            exclude_seen=protocol["exclude_seen"],
            protocol=protocol,
        )
    return Split(name, checksum, users, items, histories, train, holdouts["valid"], holdouts["test"], log, titles)


def _split_log(
    log: Interactions,
    indexed: tuple[Vocabulary, Vocabulary, Histories],
    train_stops: np.ndarray,
    questions: Mapping[str, tuple[np.ndarray, np.ndarray]],
    protocol: dict[str, Any],
) -> Split:
    """`_split` of a log, with the protocol's fixed part and the items' titles."""
    users, items, histories = indexed
    titles = None
    if log.items is not None and "title" in log.items.columns:
        known = log.items["title"].reindex(items.ids)
        titles = known.where(known.notna(), pd.Series(items.ids, index=items.ids).astype(str)).to_numpy(object)
    protocol = protocol | {
        "catalogue": "full",
        "exclude_seen": not log.repeats,
        "time_ties": "order of the log's rows",
        "score_ties": "expected over random order",
    }
    return _split(log.name, log.checksum, users, items, histories, train_stops, questions, protocol, log, titles)


def leave_one_out(log: Interactions) -> Split:
    """Each user's last event tests, the one before validates, the rest train.

    A user with fewer than 3 events is in training only. The history of a test question holds the validation
    event; training does not. It leaks other users' future, so report `split_by_time` beside it.

    Raises:
        DataError: no user has 3 events.
    """
    indexed = _histories(log)
    lengths = indexed[2].lengths
    asked = np.flatnonzero(lengths >= 3)
    train_stops = np.where(lengths >= 3, lengths - 2, lengths)
    questions = {"valid": (asked, lengths[asked] - 2), "test": (asked, lengths[asked] - 1)}
    return _split_log(log, indexed, train_stops, questions, {"split": "leave-one-out"})


def split_by_time(log: Interactions, valid: float = 0.1, test: float = 0.1) -> Split:
    """Two moments cut the log for everyone: training before the first, testing from the second on.

    `valid` and `test` are shares of the log's events. Asked is each user's first event in the period, if they
    have a history before it; the history ends where the period begins. Events of one time are never parted.

    Raises:
        DataError: the log has no time, a share is out of range, or a period asks nobody.
    """
    if not log.has_time:
        raise DataError(f"{log.name}: has no time column, so it cannot be split by time; use leave_one_out")
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise DataError(f"valid={valid} and test={test}: shares must be above 0 and sum to less than 1")
    indexed = users, _, histories = _histories(log)
    ordered = np.sort(histories.times)
    cut_valid = ordered[int(len(ordered) * (1 - valid - test))]
    cut_test = ordered[int(len(ordered) * (1 - test))]
    owner = np.repeat(np.arange(len(users)), histories.lengths)

    def known_before(cut: int) -> np.ndarray:
        return np.bincount(owner[histories.times < cut], minlength=len(users))

    before_valid, before_test = known_before(cut_valid), known_before(cut_test)
    rows_valid = np.flatnonzero((before_valid > 0) & (before_test > before_valid))
    rows_test = np.flatnonzero((before_test > 0) & (histories.lengths > before_test))
    questions = {"valid": (rows_valid, before_valid[rows_valid]), "test": (rows_test, before_test[rows_test])}
    protocol = {
        "split": "time",
        "valid_from": int(cut_valid),
        "test_from": int(cut_test),
        "users_without_history": int(((before_test == 0) & (histories.lengths > 0)).sum()),
    }
    return _split_log(log, indexed, before_valid, questions, protocol)


def split_by_user(log: Interactions, fold: int = 0, folds: int = 5, known: int = 5, seed: int = 0) -> Split:
    """Held-out users show their first `known` events and are asked for the next; nothing of them trains.

    Users are dealt to `folds` folds at random by `seed`: fold `fold` tests, the one after it validates, the
    others train with all their events. Held-out users with `known` events or fewer are not asked.

    Raises:
        DataError: a number is out of range.
    """
    if not (folds >= 3 and 0 <= fold < folds and known >= 0):
        raise DataError(f"fold={fold}, folds={folds}, known={known}: need 0 <= fold < folds, folds >= 3, known >= 0")
    indexed = users, _, histories = _histories(log)
    dealt = np.random.default_rng(seed).permutation(len(users)) % folds
    held = {"test": dealt == fold, "valid": dealt == (fold + 1) % folds}
    kept = ~(held["test"] | held["valid"])
    questions = {}
    for name, chosen in held.items():
        rows = np.flatnonzero(chosen & (histories.lengths > known))
        questions[name] = (rows, np.full(len(rows), known, np.int64))
    protocol = {"split": "user", "fold": fold, "folds": folds, "known": known, "seed": seed}
    return _split_log(log, indexed, np.where(kept, histories.lengths, 0), questions, protocol)
