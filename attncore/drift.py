"""Has the world moved on? A trained model is asked about events newer than its log.

The questions come with what has changed since: new users, new items, another taste.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from attncore.errors import DataError
from attncore.interactions import Interactions
from attncore.sequences import Histories
from attncore.splits import Holdout, Split, protocol_of

SAMPLES = 20  # of the old log, that show how much chance alone changes


@dataclass(frozen=True)
class Changes:
    """What is new in the events after a model's log.

    Attributes:
        name: of the newer log.
        since: the last moment of the model's log, Unix seconds.
        events: events after it.
        users: users who have them.
        new_users: share of these users whom the model does not know.
        new_items: share of the events on items that it does not know, which are left
            out of the rest.
        popularity_shift: total variation between the items' shares of these events and
            of the training events: 0, the same; 1, nothing in common.
        chance_shift: the same for as many events drawn by the training shares.
    """

    name: str
    since: int
    events: int
    users: int
    new_users: float
    new_items: float
    popularity_shift: float
    chance_shift: float

    def __str__(self) -> str:
        """Two lines."""
        since = pd.Timestamp(self.since, unit="s")
        return (
            f"{self.name}: {self.events:,} events of {self.users:,} users after"
            f" {since}; {self.new_users:.1%} of the users are new, and"
            f" {self.new_items:.1%} of the events are on new items\nthe items'"
            f" popularity moved by {self.popularity_shift:.2f} of 1; chance alone moves"
            f" it by {self.chance_shift:.2f}"
        )


def after(split: Split, log: Interactions) -> tuple[Holdout, Changes]:
    """Questions about what came after a model's log, and what has changed.

    Asked is each user's last event on a known item. The history is all before it: the
    user's own in `split`, then the newer events. New users are asked from their second
    event on. Events up to the end of the model's log are passed over, so `log` may be
    the same log, grown.

    Args:
        split: the model's.
        log: read as the model's was.

    Raises:
        DataError: either log has slates or no times, nothing in it is newer, nobody can
            be asked, or an attribute that the model reads is missing.
    """
    if split.slates is not None or log.slates is not None or not log.has_time:
        raise DataError(f"{log.name}: must be a log with times and without slates")
    since = int(split.histories.times.max())
    events = log.events[log.events["time"] > since].sort_values("time", kind="stable")
    if events.empty:
        raise DataError(
            f"{log.name}: no event is later than {pd.Timestamp(since, unit='s')}, where"
            " the model's log ends; give a newer log"
        )
    user = pd.Index(split.users.ids).get_indexer(pd.Index(events["user"]))
    item = pd.Index(split.items.ids).get_indexer(pd.Index(events["item"]))
    people = events["user"].to_numpy()
    changes = Changes(
        log.name,
        since,
        len(events),
        users=len(pd.unique(people)),
        new_users=len(pd.unique(people[user < 0])) / len(pd.unique(people)),
        new_items=float((item < 0).mean()),
        **_shift(split.item_counts, item[item >= 0]),
    )

    # Users, then strangers, each a number; the old events of each before the new ones.
    owner = np.where(user < 0, len(split.users) + pd.factorize(people)[0], user)
    events, owner, item = events[item >= 0], owner[item >= 0], item[item >= 0]
    known = np.unique(owner[owner < len(split.users)])
    old = split.histories.take(known)
    for name in old.attributes:
        if name not in events:
            raise DataError(f"{log.name}: has no column {name!r}; the model reads it")
    owner = np.concatenate([np.repeat(known, old.lengths), owner])
    order = np.argsort(owner, kind="stable")
    asked, lengths = np.unique(owner, return_counts=True)
    joined = Histories(
        np.concatenate([old.items, item.astype(np.int32) + 1])[order],
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([old.times, events["time"]])[order],
        {
            name: np.concatenate([column, events[name].to_numpy()])[order]
            for name, column in old.attributes.items()
        },
    )
    rows = np.flatnonzero(lengths > 1)
    if len(rows) == 0:
        raise DataError(f"{log.name}: nobody has a history and a newer event")
    last = joined.offsets[1:][rows] - 1
    questions = Holdout(
        "newer events",
        joined.take(rows, stops=lengths[rows] - 1),
        np.where(asked < len(split.users), asked, -1)[rows],
        joined.items[last],
        split.item_counts,
        split.test.exclude_seen,
        protocol_of({"split": "newer events", "since": since}, log.repeats),
        {name: column[last] for name, column in joined.attributes.items()},
        catalogue=split.items,
        people=split.users,
    )
    return questions, changes


def _shift(counts: np.ndarray, items: np.ndarray) -> dict[str, float]:
    """How far the items' shares moved, and how far chance alone moves them."""
    shares = counts / counts.sum()

    def moved(other: np.ndarray) -> float:
        return float(np.abs(other / max(other.sum(), 1) - shares).sum() / 2)

    draws = np.random.default_rng(0).multinomial(len(items), shares, SAMPLES)
    return {
        "popularity_shift": moved(np.bincount(items, minlength=len(counts))),
        "chance_shift": float(np.mean([moved(draw) for draw in draws])),
    }
