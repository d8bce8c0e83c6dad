"""Slates: the candidates that were shown at a moment, and which were clicked.

What is shown depends on where and when, not on who looks: all baskets of one store in
one week saw the same promotions. So a list of candidates is kept once, in flat arrays
of small integers, and slates point to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from attncore.errors import DataError
from attncore.ranking.asof import IndexedSlates, events_before
from attncore.sequences import Histories, Vocabulary, plain_ids


@dataclass(frozen=True, eq=False, repr=False)
class Slates:
    """Lists of candidates, the moments at which they were shown, and what was clicked.

    Attributes:
        items: the candidates of all lists, one list after the other; item ids as a
            categorical. A list holds an item once.
        offsets: list l is `items[offsets[l]:offsets[l + 1]]`; int64, lists + 1 entries.
        situation: a row per list: what holds for all of it, such as store and week.
        users: who was shown a list: a user id per slate.
        times: when: int64, in the log's unit, per slate; ascending.
        lists: which list, int32, per slate.
        clicked: places in `items` of what was clicked, int32: those of slate s are
            `clicked[clicked_offsets[s]:clicked_offsets[s + 1]]`, at least one.
        clicked_offsets: int64, slates + 1 entries.
        shown: how each candidate was shown, by name (its place on display, say):
            categoricals as long as `items`.
        read: columns worth reading, where a configuration names none: of the table of
            "item"s, of "user"s, and of the "situation".

    Raises:
        DataError: the arrays do not fit together.
    """

    items: pd.Categorical
    offsets: np.ndarray
    situation: pd.DataFrame
    users: np.ndarray
    times: np.ndarray
    lists: np.ndarray
    clicked: np.ndarray
    clicked_offsets: np.ndarray
    shown: Mapping[str, pd.Categorical] = field(default_factory=dict)
    read: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, lists = len(self.lists), len(self.offsets) - 1
        fits = (
            self.offsets[0] == 0
            and self.offsets[-1] == len(self.items)
            and len(self.situation) == lists
            and all(len(column) == len(self.items) for column in self.shown.values())
            and len(self.users) == len(self.times) == n == len(self.clicked_offsets) - 1
            and self.clicked_offsets[0] == 0
            and self.clicked_offsets[-1] == len(self.clicked)
            and bool((np.diff(self.clicked_offsets) > 0).all())
            and bool((np.diff(self.times) >= 0).all())
        )
        if fits and n:
            fits = self.lists.min() >= 0 and self.lists.max() < lists
        if fits and n:
            of = np.repeat(self.lists, np.diff(self.clicked_offsets))
            first, last = self.offsets[of], self.offsets[of + 1]
            fits = bool(((self.clicked >= first) & (self.clicked < last)).all())
        if not fits:
            raise DataError(
                "slates: their arrays do not fit together; build them with"
                " Slates.from_promotions"
            )

    def __len__(self) -> int:
        return len(self.lists)

    def __repr__(self) -> str:
        lists = len(self.offsets) - 1
        return (
            f"Slates({len(self):,} moments, {lists:,} lists of"
            f" {len(self.items) / max(lists, 1):,.0f} on average,"
            f" {len(self.clicked):,} clicked)"
        )

    @property
    def candidates(self) -> pd.Index:
        """The ids of all items that any list may show."""
        return self.items.categories

    def indexed(
        self, users: Vocabulary, items: Vocabulary, histories: Histories
    ) -> IndexedSlates:
        """The slates with a log's vocabularies and histories."""
        rows = users.encode(self.users).astype(np.int64) - 1
        return IndexedSlates(
            histories,
            items.encode(plain_ids(self.candidates))[self.items.codes],
            self.offsets,
            self.lists,
            rows,
            self.times,
            events_before(histories, rows, self.times),
            self.clicked,
            self.clicked_offsets,
            self.situation,
            self.shown,
        )

    def only_users(self, users: Sequence[Any]) -> Slates:
        """The slates that were shown to some users; the lists stay as they are."""
        kept = np.isin(self.users, np.asarray(users))
        many = np.diff(self.clicked_offsets)
        return replace(
            self,
            users=self.users[kept],
            times=self.times[kept],
            lists=self.lists[kept],
            clicked=self.clicked[np.repeat(kept, many)],
            clicked_offsets=np.append(0, np.cumsum(many[kept])),
        )

    @classmethod
    def from_promotions(
        cls,
        events: pd.DataFrame,
        promotions: pd.DataFrame,
        by: Sequence[str],
        shown: Sequence[str] = (),
        read: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Slates:
        """Slates from a log's events and a table of what was promoted where.

        A moment is a user at a time, with the events of that time; its candidates are
        the promotions whose columns `by` (store and week, say) hold what the events
        hold; clicked are those candidates among the events. A moment that took no
        candidate says nothing of the choice between them, and is no slate.

        Args:
            events: as in `Interactions.events`, with the columns `by`.
            promotions: a row per item and place, with "item" and the columns `by` and
                `shown`. An item that stands in a list twice counts once, shown as in
                its row that sorts last.
            by: names of the columns that say which list.
            shown: names of the columns that say how an item was shown; they are
                categories.
            read: see `Slates`.

        Raises:
            DataError: a column is absent, or misses a value.
        """
        for label, frame, columns in (
            ("events", events, by),
            ("promotions", promotions, ["item", *by, *shown]),
        ):
            for column in columns:
                if column not in frame.columns or frame[column].isna().any():
                    raise DataError(f"{label}: need a column '{column}' without gaps")
        # Codes of every column; a list, and a candidate in it, are each one whole
        # number made of such codes.
        known = {
            name: promotions[name].astype("category").cat
            for name in ("item", *by, *shown)
        }
        own = {
            name: known[name].categories.get_indexer(pd.Index(events[name]))
            for name in ("item", *by)
        }
        sizes = {name: len(column.categories) for name, column in known.items()}
        wide = [sizes[name] for name in by]
        places = _joined([known[name].codes.to_numpy() for name in by], wide)
        found = np.all([code >= 0 for code in own.values()], axis=0)
        asked = np.where(found, _joined([own[name] for name in by], wide), 0)
        used = np.zeros(max(math.prod(wide), 1), bool)
        used[asked[found]] = True
        number = np.cumsum(used) - 1  # of the lists that some moment saw

        kept, parts = used[places], ("item", *shown)
        codes = [known[name].codes.to_numpy()[kept] for name in parts]
        wide = [1, *(sizes[name] for name in parts)]
        key = np.sort(_joined([number[places[kept]], *codes], wide))
        how: dict[str, np.ndarray] = {}
        for name in reversed(shown):
            key, how[name] = np.divmod(key, sizes[name])
        # Of an item that stands in a list twice, the last row counts.
        last = np.append(key[1:] != key[:-1], np.ones(min(len(key), 1), bool))
        key = key[last]
        lists, candidates = np.divmod(key, sizes["item"])

        wanted = np.where(found, number[asked] * sizes["item"] + own["item"], -1)
        at = np.searchsorted(key, wanted)
        clicked = np.append(key, -2)[at] == wanted
        moments = {
            "time": events["time"][clicked],
            "user": events["user"][clicked],
            "list": number[asked[clicked]],
        }
        rows = pd.DataFrame(moments | {"at": at[clicked]}).drop_duplicates()
        rows = rows.sort_values([*moments, "at"], kind="stable")
        first = ~rows.duplicated([*moments]).to_numpy()
        code, situation = np.flatnonzero(used), {}
        for name in reversed(by):
            code, here = np.divmod(code, sizes[name])
            situation[name] = known[name].categories.to_numpy()[here]
        return cls(
            pd.Categorical.from_codes(candidates, known["item"].categories),
            np.searchsorted(lists, np.arange(number[-1] + 2)).astype(np.int64),
            pd.DataFrame({name: situation[name] for name in by}),
            rows["user"].to_numpy()[first],
            rows["time"].to_numpy()[first],
            rows["list"].to_numpy(np.int32)[first],
            rows["at"].to_numpy(np.int32),
            np.append(np.flatnonzero(first), len(rows)).astype(np.int64),
            {
                name: pd.Categorical.from_codes(how[name][last], known[name].categories)
                for name in shown
            },
            read or {},
        )


def _joined(codes: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """Several codes of each row as one whole number, which sorts as they do."""
    total = np.zeros(len(codes[0]), np.int64)
    for code, size in zip(codes, sizes, strict=True):
        total = total * size + code
    return total
