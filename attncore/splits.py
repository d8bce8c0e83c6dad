"""Stage 1b, continued: which events train, which validate, which test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from attncore.errors import DataError, expect
from attncore.interactions import Interactions
from attncore.sequences import Histories, Vocabulary, plain_ids, spans


class AskedSlates(Protocol):
    """What a split must know of slates: see `attncore.ranking.asof.IndexedSlates`."""

    @property
    def users(self) -> np.ndarray:
        """The user row of each slate."""

    @property
    def times(self) -> np.ndarray:
        """When each slate was shown."""

    @property
    def stops(self) -> np.ndarray:
        """How many events of its user lie before each slate."""

    def __len__(self) -> int:
        """How many there are."""

    def only(self, slates: np.ndarray) -> AskedSlates:
        """Some of them."""

    def first_clicked(self) -> np.ndarray:
        """The item of each slate's first clicked candidate."""

    def figures(
        self, scorer: Any, rows: np.ndarray, k: Sequence[int]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The metrics of some slates, all their scores, and which were clicked."""

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays for a file, and the rest as plain values."""


@dataclass(frozen=True, repr=False)
class Holdout:
    """Questions with known answers: given this history, which item came next?

    Attributes:
        name: "valid" or "test".
        histories: what is known when the question is asked, one row per question.
        users: the asked user's row in `Split.users`, int64.
        targets: index of the item that came next, int32.
        item_counts: how often each item occurs in training, int64 (V,); entry j is item
            index j + 1.
        exclude_seen: items of the row's whole history are no candidates, the target
            excepted.
        protocol: how the split was made, in words and numbers.
        attributes: event attributes of the targets, raw, by name. Of these a model may
            read only what its `situation_features` name: what is known before the
            answer.
        sharded: True where these are the questions of this process alone, and the
            others of its group have theirs.
        slates: where slates are asked, those of the rows, in order; `targets` then
            holds the first item clicked of each. None where the next item is asked.
        catalogue: the item ids that `targets` count; None where that is not known.
        people: the user ids that `users` count; None where that is not known, or the
            rows are those of a prepared log's files.
    """

    name: str
    histories: Histories
    users: np.ndarray
    targets: np.ndarray
    item_counts: np.ndarray
    exclude_seen: bool
    protocol: dict[str, Any]
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    sharded: bool = False
    slates: AskedSlates | None = None
    catalogue: Vocabulary | None = None
    people: Vocabulary | None = None

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.targets)

    def __repr__(self) -> str:
        users = len(np.unique(self.users))
        return f"Holdout({self.name}: {len(self):,} questions of {users:,} users)"

    def check_made_for(self, scorer: Any, name: str) -> None:
        """Raise DataError where a scorer was made for other items or users.

        A row of another catalogue would be scored as if it were the same item. What has
        no `split`, or does not know its ids, is not checked.

        Args:
            scorer: a model, whose `split` is the one that it was made for.
            name: what the questions are called in the error.
        """
        if (split := getattr(scorer, "split", None)) is None:
            return
        for own, asked in (split.items, self.catalogue), (split.users, self.people):
            if asked is None or own is asked or np.array_equal(own.ids, asked.ids):
                continue
            raise DataError(
                f"{name}: has {len(asked):,} {asked.kind}s ({_some(asked)}), but the"
                f" model was made for the {len(own):,} of {split.name} ({_some(own)});"
                " make the model of this split"
            )

    def check_not_trained_on(self, scorer: Any) -> None:
        """Raise DataError where a scorer that was trained on all events is asked them.

        What came after them may be asked.
        """
        split = getattr(scorer, "split", None)
        if split is None or "trained_on" not in split.valid.protocol:
            return
        known = np.append(split.train.lengths, 0)[self.users]
        if (known > self.histories.lengths).any():
            raise DataError(
                f"{split.name}: the model was trained on all events, the answers to"
                f" these {self.name} questions too; ask it about newer events (--data)"
            )

    def first_of_users(self, most: int) -> Holdout:
        """A small part of the questions.

        The first of each user, for at most `most` users, evenly chosen.
        """
        first = np.sort(np.unique(self.users, return_index=True)[1])
        rows = first[np.linspace(0, len(first) - 1, min(most, len(first))).astype(int)]
        return replace(
            self,
            histories=self.histories.take(rows),
            users=self.users[rows],
            targets=self.targets[rows],
            attributes={name: column[rows] for name, column in self.attributes.items()},
            slates=None if self.slates is None else self.slates.only(rows),
        )


@dataclass(frozen=True, repr=False)
class Split:
    """A log divided into training, validation and test, which share vocabularies.

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
        slates: the slates of the log, by time; None when it has none. A run folder
            keeps those after training alone.
        sharded: True where the users are those of this process alone, and the others of
            its group have theirs.
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
    slates: AskedSlates | None = None
    sharded: bool = False

    def __repr__(self) -> str:
        """What it is, on a few lines."""
        how = self.valid.protocol
        numbers = [
            f"{name}={value}"
            for name, value in how.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        seen = "is not recommended again" if how["exclude_seen"] else "may come again"
        return (
            f"Split({self.name}: {', '.join([how['split'], *numbers])})\n"
            f"  {len(self.users):,} users, {len(self.items):,} items\n"
            f"  train {int(self.train.lengths.sum()):,} events, valid"
            f" {len(self.valid):,} questions, test {len(self.test):,} questions\n"
            f"  what was taken {seen}" + "; has slates" * (self.slates is not None)
        )

    @property
    def item_counts(self) -> np.ndarray:
        """How often each item occurs in training, int64 (V,).

        Entry j is item index j + 1.
        """
        return self.valid.item_counts

    def with_all_in_training(self) -> Split:
        """The same log, of which every event trains; nothing is left to be asked."""
        counts = np.bincount(self.histories.items, minlength=len(self.items) + 1)[1:]
        protocol = self.valid.protocol | {"trained_on": "all events"}
        valid, test = (
            replace(one, item_counts=counts.astype(np.int64), protocol=protocol)
            for one in (self.valid, self.test)
        )
        return replace(self, train=self.histories, valid=valid, test=test)

    def label(self, item: Any) -> str:
        """An item's title where there is one, else its id."""
        index = int(self.items.encode([item])[0])
        return str(item) if self.titles is None else str(self.titles[index - 1])

    def save(self, folder: Path, attributes: Sequence[str] = ()) -> None:
        """Write `vocabulary.json` and `histories.safetensors` into a folder.

        Of the events' attributes only those named in `attributes` are kept.
        """
        arrays = {
            "items": self.histories.items,
            "offsets": self.histories.offsets,
            "times": self.histories.times,
        }
        arrays |= {"train_stops": self.train.lengths, "item_counts": self.item_counts}
        for holdout in (self.valid, self.test):
            arrays[f"{holdout.name}_rows"] = holdout.users
            arrays[f"{holdout.name}_places"] = holdout.histories.lengths
        kept: list[dict[str, Any]] = []
        for name in attributes:
            arrays[f"attribute_{len(kept)}"], values = _packed(
                self.histories.attributes[name]
            )
            kept.append({"name": name, "values": values})
        about = {
            "name": self.name,
            "checksum": self.checksum,
            "users": self.users.ids.tolist(),
            "items": self.items.ids.tolist(),
            "titles": None if self.titles is None else self.titles.tolist(),
            "protocol": self.valid.protocol,
            "attributes": kept,
        }
        if self.slates is not None:
            asked = self.slates.only(
                np.flatnonzero(self.slates.times >= self.valid.protocol["valid_from"])
            )
            more, about["slates"] = asked.to_arrays()
            arrays |= more
        (folder / "vocabulary.json").write_text(
            json.dumps(about, default=str), encoding="utf-8"
        )
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            folder / "histories.safetensors",
        )

    @classmethod
    def load(
        cls, folder: Path, indexed_slates: Callable[..., AskedSlates] | None = None
    ) -> Split:
        """Read what `save` wrote.

        `indexed_slates` makes slates of what was kept of them.
        """
        about = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "histories.safetensors")
        attributes = {
            kept["name"]: _unpacked(arrays[f"attribute_{number}"], kept["values"])
            for number, kept in enumerate(about.get("attributes", []))
        }
        histories = Histories(
            arrays["items"], arrays["offsets"], arrays["times"], attributes
        )
        return split_at(
            about["name"],
            about["checksum"],
            Vocabulary(plain_ids(pd.Index(about["users"])), "user"),
            Vocabulary(plain_ids(pd.Index(about["items"])), "item"),
            histories,
            arrays["train_stops"],
            {
                name: (arrays[f"{name}_rows"], arrays[f"{name}_places"])
                for name in ("valid", "test")
            },
            about["protocol"],
            titles=(
                None if about["titles"] is None else np.array(about["titles"], object)
            ),
            counts=arrays.get("item_counts"),
            slates=(
                indexed_slates(arrays, about["slates"], histories)
                if "slates" in about and indexed_slates is not None
                else None
            ),
        )


def _some(ids: Vocabulary) -> str:
    return ", ".join(map(str, ids.ids[:3])) + ", …" * (len(ids) > 3)


def _packed(column: np.ndarray) -> tuple[np.ndarray, list[Any] | None]:
    """An event attribute as an array of numbers.

    Where those are places in a list of values, that list too.
    """
    if column.dtype.kind in "biuf":
        return column, None
    plain = [
        tuple(value) if isinstance(value, list | set | np.ndarray) else value
        for value in column
    ]
    places, values = pd.factorize(pd.Series(plain, dtype=object).to_numpy())
    return places.astype(np.int64), values.tolist()


def _unpacked(column: np.ndarray, values: list[Any] | None) -> np.ndarray:
    """What `_packed` packed; a missing value, at place -1, is None."""
    if values is None:
        return column
    known = [tuple(value) if isinstance(value, list) else value for value in values]
    return pd.Series([*known, None], dtype=object).to_numpy()[column]


def split_at(
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
    counts: np.ndarray | None = None,
    slates: AskedSlates | None = None,
) -> Split:
    """A split that trains on each row up to `train_stops` and asks some questions.

    They are `questions[name] = rows, places`. A question is: which item stands at that
    place of that row, given all before it? With `slates` it is: which of a slate's
    candidates were clicked, given all before its moment? `counts` are the training
    events of each item, where there are more than those of `histories`.
    """
    train = histories.take(np.arange(len(users)), stops=train_stops)
    if counts is None:
        counts = np.bincount(train.items, minlength=len(items) + 1)[1:].astype(np.int64)
    holdouts: dict[str, Holdout] = {}
    for part, (rows, places) in questions.items():
        if len(rows) == 0:
            mend = "use a longer log"
            if protocol["split"] == "time":
                mend += (
                    ", or where each user is one session split_by_session (--split"
                    " session)"
                )
            raise DataError(
                f"{name}: the {protocol['split']} split leaves no user for {part};"
                f" {mend}"
            )
        if slates is not None:
            until = protocol["test_from"] if part == "valid" else np.iinfo(np.int64).max
            since = protocol[f"{part}_from"]
            asked = slates.only(
                np.flatnonzero((slates.times >= since) & (slates.times < until))
            )
            if len(asked) == 0:
                raise DataError(
                    f"{name}: no slate lies in the time of {part}; use a longer log"
                )
            known = replace(histories, attributes={}).take(
                asked.users, stops=asked.stops
            )
            holdouts[part] = Holdout(
                part,
                known,
                asked.users,
                asked.first_clicked(),
                counts,
                False,
                protocol,
                slates=asked,
                catalogue=items,
                people=users,
            )
            continue
        holdouts[part] = Holdout(
            name=part,
            histories=histories.take(rows, stops=places),
            users=rows,
            targets=histories.items[at := histories.offsets[rows] + places],
            item_counts=counts,
            exclude_seen=protocol["exclude_seen"],
            protocol=protocol,
            attributes={
                name: column[at] for name, column in histories.attributes.items()
            },
            catalogue=items,
            people=users,
        )
    asks = holdouts["valid"], holdouts["test"]
    return Split(
        name, checksum, users, items, histories, train, *asks, log, titles, slates
    )


def _split_log(
    log: Interactions,
    indexed: tuple[Vocabulary, Vocabulary, Histories],
    train_stops: np.ndarray,
    questions: Mapping[str, tuple[np.ndarray, np.ndarray]],
    protocol: dict[str, Any],
) -> Split:
    """`split_at` of a log, with the protocol's fixed part and the items' titles."""
    users, items, histories = indexed
    titles = titles_of(log.items, items)
    protocol, slates = protocol_of(protocol, log.repeats), None
    if log.slates is not None:
        slates = log.slates.indexed(users, items, histories)
        protocol |= {
            "catalogue": "the slate",
            "history": "all before the slate's moment",
        }
    how = train_stops, questions, protocol, log, titles
    return split_at(
        log.name, log.checksum, users, items, histories, *how, slates=slates
    )


def titles_of(table: pd.DataFrame | None, items: Vocabulary) -> np.ndarray | None:
    """The titles of all items, if any; in place of a missing or empty one the id."""
    if table is None or "title" not in table.columns:
        return None
    known = table["title"].reindex(items.ids)
    given = known.notna() & (known.astype(str).str.strip() != "")
    ids = pd.Series(items.ids, index=items.ids).astype(str)
    return known.where(given, ids).to_numpy(object)


def protocol_of(split: dict[str, Any], repeats: bool) -> dict[str, Any]:
    """How a split was made, with what holds for every split."""
    return split | {
        "catalogue": "full",
        "exclude_seen": not repeats,
        "time_ties": "order of the log's rows",
        "score_ties": "expected over random order",
    }


def require_log(log: object, name: str) -> None:
    """Raise DataError unless something is a log.

    Args:
        log: what was given.
        name: what it was given to.
    """
    how = 'a log, such as ac.read_interactions("log.csv") reads'
    expect(log, Interactions, name, how)


def require_split(split: object, name: str) -> None:
    """Raise DataError unless something is a divided log; as `require_log`."""
    expect(split, Split, name, "a split of a log, such as ac.leave_one_out(log)")


def _refuse_slates(log: Interactions, split: str) -> None:
    require_log(log, split)
    if log.slates is not None:
        raise DataError(
            f"{log.name}: has slates, and {split} would show them others' future; use"
            " split_by_time (--split time)"
        )


def _require_times(log: Interactions, split: str) -> None:
    require_log(log, split)
    if not log.has_time:
        raise DataError(
            f"{log.name}: has no time column, so it cannot be split by time; use"
            " leave_one_out"
        )


def leave_one_out(log: Interactions) -> Split:
    """Each user's last event tests, the one before validates, the rest train.

    A user with fewer than 3 events is in training only. The history of a test question
    holds the validation event; training does not. It leaks other users' future, so
    report `split_by_time` beside it.

    Raises:
        DataError: no user has 3 events, or the log has slates.
    """
    _refuse_slates(log, "leave_one_out")
    indexed = index_log(log)
    lengths = indexed[2].lengths
    asked = np.flatnonzero(lengths >= 3)
    train_stops = np.where(lengths >= 3, lengths - 2, lengths)
    questions = {
        "valid": (asked, lengths[asked] - 2),
        "test": (asked, lengths[asked] - 1),
    }
    return _split_log(log, indexed, train_stops, questions, {"split": "leave-one-out"})


def split_by_time(
    log: Interactions,
    valid: float = 0.1,
    test: float = 0.1,
    fold: int = 0,
    folds: int = 1,
) -> Split:
    """Two moments cut the log for everyone.

    Training before the first, testing from the second on. `valid` and `test` are shares
    of the log's events. Asked is each user's first event in the period, if they have a
    history before it; the history ends where the period begins. Events of one time are
    never parted.

    Of a log with slates every slate in the period is asked, and its history is all
    before the slate's own moment, as it would be in a shop; what is learned is learned
    before the first cut alone.

    With `folds` the cuts roll: fold `folds - 1` is the split above, and each fold
    before it ends where the next one's test period begins. What comes later is not in
    it, items and users included.

    Args:
        log: what to divide.
        valid, test: shares of the whole log's events.
        fold, folds: which fold, the earliest is 0, of how many.

    Raises:
        DataError: the log has no time, a share or a fold is out of range, or a period
            asks nobody.
    """
    _require_times(log, "split_by_time")
    require_shares(valid, test)
    if not (0 <= fold < folds and valid + folds * test < 1):
        raise DataError(
            f"fold={fold}, folds={folds}: need 0 <= fold < folds, and room for as many"
            f" test periods of {test:g}"
        )
    if fold < folds - 1:
        _refuse_slates(log, "split_by_time with folds")
        times = log.events["time"]
        end = np.sort(times)[int(len(log) * (1 - (folds - 1 - fold) * test))]
        events = log.events[times < end].reset_index(drop=True)
        if events.empty:
            raise DataError(f"{log.name}: no event is left for fold {fold}; use fewer")
        whole = len(log) / len(events)
        past = replace(log, events=events)
        split = split_by_time(past, valid * whole, test * whole)
        split.valid.protocol.update(fold=fold, folds=folds)
        return split
    indexed = users, _, histories = index_log(log)
    ordered = np.sort(histories.times)
    cut_valid = ordered[int(len(ordered) * (1 - valid - test))]
    cut_test = ordered[int(len(ordered) * (1 - test))]
    owner = np.repeat(np.arange(len(users)), histories.lengths)

    def known_before(cut: int) -> np.ndarray:
        return np.bincount(owner[histories.times < cut], minlength=len(users))

    before_valid, before_test = known_before(cut_valid), known_before(cut_test)
    rows_valid = np.flatnonzero((before_valid > 0) & (before_test > before_valid))
    rows_test = np.flatnonzero((before_test > 0) & (histories.lengths > before_test))
    questions = {
        "valid": (rows_valid, before_valid[rows_valid]),
        "test": (rows_test, before_test[rows_test]),
    }
    protocol: dict[str, Any] = {
        "split": "time",
        "valid_from": int(cut_valid),
        "test_from": int(cut_test),
        "users_without_history": int(
            ((before_test == 0) & (histories.lengths > 0)).sum()
        ),
    } | ({"fold": fold, "folds": folds} if folds > 1 else {})
    return _split_log(log, indexed, before_valid, questions, protocol)


def require_shares(valid: float, test: float) -> None:
    """Raise DataError where a share is out of range."""
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise DataError(
            f"valid={valid} and test={test}: shares must be above 0 and sum to less"
            " than 1"
        )


def split_by_session(
    log: Interactions,
    session: str | float | None = None,
    valid: float = 0.1,
    test: float = 0.1,
) -> Split:
    """Whole sessions train, validate or test; of those held out each event is asked.

    Where each user of the log is one session, the last to begin test, those before them
    validate, and nothing of them trains; asked is each event after a session's first.
    Where users have several sessions, each user's last one tests and the one before
    validates; who has fewer than 3 is in training only. A question's history is all of
    the user's events before it.

    Args:
        log: what to divide.
        session: None, if each user is one session; else the column of the events that
            tells sessions apart, or after how many seconds without an event a new one
            begins.
        valid, test: shares of sessions, where each user is one.

    Raises:
        DataError: the log has slates, or no time that sessions could be told by; a
            share is out of range, there is no such column, or no session is left.
    """
    _refuse_slates(log, "split_by_session")
    if not isinstance(session, str):
        _require_times(log, "split_by_session")
        if session is not None and not session > 0:
            raise DataError(f"session is {session}; give seconds, more than 0")
    require_shares(valid, test)
    indexed = index_log(log)
    histories = indexed[2]
    starts, lengths, times = histories.offsets[:-1], histories.lengths, histories.times
    protocol: dict[str, Any] = {"split": "session", "session": session or "user"}
    if session is None:
        begins = np.sort(times[starts])
        cuts = [begins[int(len(begins) * (1 - s))] for s in (valid + test, test)]
        protocol |= {"valid_from": int(cuts[0]), "test_from": int(cuts[1])}
        part = np.searchsorted(cuts, times[starts], side="right")
        stops = np.where(part == 0, lengths, 0)
        ranges = [
            (np.flatnonzero(part == number), np.ones_like(lengths), lengths)
            for number in (1, 2)
        ]
    else:
        if isinstance(session, str):
            if session not in histories.attributes:
                raise DataError(
                    f"{log.name}: no column '{session}' of the events tells sessions"
                    " apart; name one, or give seconds"
                )
            codes = pd.factorize(histories.attributes[session])[0]
            new = np.append(True, codes[1:] != codes[:-1])
        else:
            new = np.append(True, np.diff(times) > session)
        new[starts] = True
        # Where each session begins, and which comes after each user's last.
        at = np.append(np.flatnonzero(new), len(new))
        last = np.searchsorted(at, histories.offsets[1:])
        enough = np.diff(np.append(0, last)) >= 3
        rows = np.flatnonzero(enough)
        stops, until = lengths.copy(), lengths.copy()
        stops[rows] = at[last[rows] - 2] - starts[rows]
        until[rows] = at[last[rows] - 1] - starts[rows]
        ranges = [(rows, stops, until), (rows, until, lengths)]
    questions = {
        name: _each_event(*range_)
        for name, range_ in zip(("valid", "test"), ranges, strict=True)
    }
    return _split_log(log, indexed, stops, questions, protocol)


def _each_event(
    rows: np.ndarray, begins: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Questions about each event of some rows from one place up to another."""
    many = np.maximum(ends[rows] - begins[rows], 0)
    return np.repeat(rows, many), spans(begins[rows], many)


def presplit(
    train: Interactions, valid: Interactions, test: Interactions, every: bool = False
) -> Split:
    """A log that is divided already, as in files of a published benchmark.

    Asked is each user's first event in `valid` and in `test`, if they have a history
    before it, which is all of theirs in the parts before. Tables of users and items are
    those of `train`.

    Args:
        train, valid, test: the parts; all have times, or none has.
        every: True asks about all events of a part; the history of a question then
            holds those of its part that come before.

    Raises:
        DataError: the parts differ in the type of ids, or a user's events of one part
            are older than those of a part before.
    """
    logs = {"train": train, "valid": valid, "test": test}
    for name, log in logs.items():
        require_log(log, f"presplit, {name}")
        _refuse_slates(log, "presplit")
        if log.has_time != train.has_time:
            raise DataError(f"{name}: only some parts have times; give all, or none")
        for column in ("user", "item"):
            theirs, ours = (one.events[column].dtype for one in (log, train))
            if theirs != ours:
                raise DataError(
                    f"{name}: {column} ids are {theirs}, in train {ours}; make them one"
                    " type"
                )
    events = pd.concat(
        [log.events.assign(part=number) for number, log in enumerate(logs.values())],
        ignore_index=True,
    )
    if not train.has_time:
        events["time"] = np.arange(len(events))
    repeats = any(log.repeats for log in logs.values())
    whole = replace(train, events=events.drop(columns="part"), repeats=repeats)
    users, items, histories = index_log(replace(whole, events=events))
    attributes = dict(histories.attributes)
    part, histories = attributes.pop("part"), replace(histories, attributes=attributes)
    owner = np.repeat(np.arange(len(users)), histories.lengths)
    older = (np.diff(part) < 0) & (np.diff(owner) == 0)
    if older.any():
        at = int(older.argmax())
        early, late = (list(logs)[part[k]] for k in (at, at + 1))
        raise DataError(
            f"{early}: user {users.ids[owner[at]]} has an event that is older than one"
            f" in {late}; a history cannot hold its future"
        )
    stops = [np.bincount(owner[part <= n], minlength=len(users)) for n in range(3)]
    questions = {}
    for number, name in enumerate(("valid", "test")):
        begins, ends = stops[number], stops[number + 1]
        rows = np.flatnonzero((begins > 0) & (ends > begins))
        questions[name] = _each_event(rows, begins, ends if every else begins + 1)
    how = {"split": "presplit", "every_event": every}
    return _split_log(whole, (users, items, histories), stops[0], questions, how)


def split_by_user(
    log: Interactions,
    fold: int = 0,
    folds: int = 5,
    known: int | Sequence[int] = 5,
    seed: int = 0,
    opening: int | None = None,
) -> Split:
    """Held-out users show their first `known` events and are asked for the next.

    Nothing of them trains. Users are dealt to `folds` folds at random by `seed`: fold
    `fold` tests, the one after it validates, the others train.

    Args:
        log: what to divide.
        fold, folds: which fold tests, of how many.
        known: one number, or several: each held-out user is then asked once for each,
            in this order of numbers. Who has no event after the first `known` is not
            asked.
        seed: deals the users.
        opening: training users train with their first so many events alone, which are
            more like what a new user does than later ones; None lets them train with
            all.

    Raises:
        DataError: a number is out of range, or the log has slates.
    """
    _refuse_slates(log, "split_by_user")
    asked: list[int] = np.atleast_1d(np.asarray(known, np.int64)).tolist()
    if not (folds >= 3 and 0 <= fold < folds and asked and min(asked) >= 0):
        raise DataError(
            f"fold={fold}, folds={folds}, known={known}: need 0 <= fold < folds, folds"
            " >= 3, known >= 0"
        )
    if opening is not None and opening < 2:
        raise DataError(
            f"opening={opening}: must be at least 2, an event and the one after it"
        )
    indexed = users, _, histories = index_log(log)
    dealt = np.random.default_rng(seed).permutation(len(users)) % folds
    held = {"test": dealt == fold, "valid": dealt == (fold + 1) % folds}
    kept = ~(held["test"] | held["valid"])
    questions = {}
    for name, chosen in held.items():
        rows = [
            np.flatnonzero(chosen & (histories.lengths > events)) for events in asked
        ]
        questions[name] = (
            np.concatenate(rows),
            np.repeat(np.array(asked, np.int64), [*map(len, rows)]),
        )
    shown = asked[0] if np.ndim(known) == 0 else asked
    protocol = {
        "split": "user",
        "fold": fold,
        "folds": folds,
        "known": shown,
        "seed": seed,
        "opening": opening,
    }
    stops = (
        histories.lengths if opening is None else np.minimum(histories.lengths, opening)
    )
    return _split_log(log, indexed, np.where(kept, stops, 0), questions, protocol)


def index_log(log: Interactions) -> tuple[Vocabulary, Vocabulary, Histories]:
    """Vocabularies and histories.

    Events of equal time keep the order of the log's rows. Candidates of slates are
    items of the log, even those that nobody took.
    """
    events = log.events
    user, user_ids = pd.factorize(events["user"], sort=True)
    item, item_ids = pd.factorize(events["item"], sort=True)
    if log.slates is not None:
        every = item_ids.union(log.slates.candidates)
        item, item_ids = every.get_indexer(item_ids)[item], every
    time = events["time"].to_numpy(np.int64)
    # A stable sort: rows of one user and one time stay as loaded.
    order = np.lexsort((time, user))
    offsets = np.concatenate(
        [[0], np.cumsum(np.bincount(user, minlength=len(user_ids)))]
    ).astype(np.int64)
    extra = [name for name in events.columns if name not in ("user", "item", "time")]
    histories = Histories(
        (item[order] + 1).astype(np.int32),
        offsets,
        time[order],
        {name: events[name].to_numpy()[order] for name in extra},
    )
    return (
        Vocabulary(plain_ids(user_ids), "user"),
        Vocabulary(plain_ids(item_ids), "item"),
        histories,
    )
