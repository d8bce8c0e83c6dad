"""Slates in indices, and what was known at the moment each of them was shown.

Everything here looks strictly before the moment of asking: purchases of that very
second, which are the answer, are neither in a history nor in a count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd

from attncore.errors import DataError
from attncore.ranking.metrics import logistic_loss, slate_metrics
from attncore.sequences import Histories, spans

DAY = 86_400  # seconds
# The arrays of slates that a run folder keeps.
ARRAYS = (
    *("items", "offsets", "lists", "users", "times", "stops"),
    *("clicked", "clicked_offsets"),
)


@dataclass(frozen=True)
class Known:
    """What is known of several users at a moment each.

    Their past items, each item once, the latest last.

    Attributes:
        items: item indices, int32, (rows, K); 0 is padding, on the right. K may be 0.
        counts: how often the item was taken before, int64, (rows, K).
        ages: seconds since it was last taken, int64, (rows, K).
    """

    items: np.ndarray
    counts: np.ndarray
    ages: np.ndarray

    def newest(self, length: int) -> Known:
        """The newest `length` items of each user alone."""
        kept = (self.items > 0).sum(1, keepdims=True)
        at = np.maximum(kept - length, 0) + np.arange(min(length, self.items.shape[1]))
        real, at = at < kept, np.minimum(at, max(self.items.shape[1] - 1, 0))
        columns = self.items, self.counts, self.ages
        return Known(*(np.take_along_axis(c, at, 1) * real for c in columns))


@dataclass(frozen=True)
class IndexedSlates:
    """The slates of a log in indices, beside the histories of its users.

    Attributes:
        histories: all events of every user; the row of a slate's user is in `users`.
        items: the candidates of all lists, item indices 1..V, int32.
        offsets, lists, times, clicked, clicked_offsets, situation: as in `Slates`.
        users: user row of each slate, int64.
        stops: how many of the user's events lie before the slate, int64.
        shown: as in `Slates`.
    """

    histories: Histories
    items: np.ndarray
    offsets: np.ndarray
    lists: np.ndarray
    users: np.ndarray
    times: np.ndarray
    stops: np.ndarray
    clicked: np.ndarray
    clicked_offsets: np.ndarray
    situation: pd.DataFrame
    shown: Mapping[str, pd.Categorical] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of slates."""
        return len(self.lists)

    def list_of(self, slate: int) -> slice:
        """Where the candidates of a slate stand in `items`."""
        where = self.lists[slate]
        return slice(self.offsets[where], self.offsets[where + 1])

    def clicked_of(self, slate: int) -> np.ndarray:
        """Which candidates of a slate were clicked: places in its list."""
        first, last = self.clicked_offsets[slate : slate + 2]
        return self.clicked[first:last] - self.offsets[self.lists[slate]]

    def only(self, slates: np.ndarray) -> IndexedSlates:
        """The same histories with some of the slates, and the lists that they need."""
        slates = np.asarray(slates)
        lists, where = np.unique(self.lists[slates], return_inverse=True)
        lengths, many = np.diff(self.offsets)[lists], np.diff(self.clicked_offsets)
        offsets, many = np.append(0, np.cumsum(lengths)), many[slates]
        places = spans(self.offsets[lists], lengths)
        moved = np.repeat(offsets[where] - self.offsets[self.lists[slates]], many)
        clicked = self.clicked[spans(self.clicked_offsets[slates], many)] + moved
        part = IndexedSlates(
            self.histories,
            self.items[places],
            offsets,
            where.astype(np.int32),
            self.users[slates],
            self.times[slates],
            self.stops[slates],
            clicked.astype(np.int32),
            np.append(0, np.cumsum(many)),
            self.situation.iloc[lists].reset_index(drop=True),
            {name: column[places] for name, column in self.shown.items()},
        )
        # What is counted of the histories is shared, for they are the same.
        for name in ("_runs", "_clock", "_by_item", "_by_user", "_sums"):
            part.__dict__[name] = getattr(self, name)
        return part

    def first_clicked(self) -> np.ndarray:
        """The item of each slate's first clicked candidate, int32."""
        return self.items[self.clicked[self.clicked_offsets[:-1]]]

    def figures(
        self, scorer: Any, rows: np.ndarray, k: Sequence[int]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The metrics of some slates, a value per row.

        "logloss" where scores are logits.

        Args:
            scorer: see `SlateScorer`.
            rows: which slates.
            k: lengths of the list.

        Returns:
            the metrics, all scores one after the other, and True where a candidate was
            clicked.

        Raises:
            ValueError: scores of a wrong shape, or NaN among them.
        """
        name = type(scorer).__name__
        if not hasattr(scorer, "score_slate"):
            raise ValueError(
                f"{name} cannot rank slates; give a scorer with a method score_slate"
            )
        found: dict[str, list[float]] = {}
        every, marks = [np.zeros(0, np.float32)], [np.zeros(0, bool)]
        for row in rows.tolist():
            scores = np.asarray(scorer.score_slate(self, row))
            where, clicked = self.list_of(row), self.clicked_of(row)
            many = where.stop - where.start
            if scores.shape != (many,) or np.isnan(scores).any():
                nan = scores.ndim == 1 and np.isnan(scores).any()
                what = "NaN among them" if nan else f"shape {scores.shape}"
                raise ValueError(f"{name}.score_slate: {many} numbers, not {what}")
            metrics = slate_metrics(scores, clicked, k)
            if getattr(scorer, "scores_are_logits", False):
                metrics["logloss"] = logistic_loss(scores, clicked)
            for metric, value in metrics.items():
                found.setdefault(metric, []).append(value)
            every.append(scores.astype(np.float32))
            marks.append(np.isin(np.arange(many), clicked))
        columns = {metric: np.array(values) for metric, values in found.items()}
        return columns, np.concatenate(every), np.concatenate(marks)

    @cached_property
    def _runs(self) -> tuple[np.ndarray, np.ndarray]:
        """The how-manieth event of its user and item each is, and the next one's place.

        An event is the latest of its item before place p of the row exactly if it
        lies before p and the next does not; then the count is how often the item was
        taken before p.
        """
        h = self.histories
        row = np.repeat(np.arange(len(h)), h.lengths)
        # Stable: events of one user and item stay in their order.
        order = np.lexsort((h.items, row))
        rows, items, starts = row[order], h.items[order], np.ones(len(order), bool)
        starts[1:] = (rows[1:] != rows[:-1]) | (items[1:] != items[:-1])
        first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
        count = np.empty(len(order), np.int32)
        count[order] = np.arange(len(order)) - first + 1
        following = np.full(len(order), np.iinfo(np.int32).max, np.int32)
        place = np.arange(len(order)) - h.offsets[row]
        following[order[:-1][~starts[1:]]] = place[order[1:][~starts[1:]]]
        return count, following

    def known(
        self, users: np.ndarray, stops: np.ndarray, times: np.ndarray, length: int
    ) -> Known:
        """The newest `length` distinct items of users' first `stops` events.

        Args:
            users: user rows; -1 is a user with no history.
            stops: how many events of each are known.
            times: the moments of asking.
            length: most items a user.
        """
        count, following = self._runs
        many = np.where(users < 0, 0, stops)
        row = np.repeat(np.arange(len(users)), many)
        event = spans(self.histories.offsets[users], many)
        latest = following[event] >= stops[row]
        row, event = row[latest], event[latest]
        kept = np.bincount(row, minlength=len(users))
        first = np.cumsum(kept) - kept + np.maximum(kept - length, 0)
        at = np.arange(len(row)) - first[row]
        row, event, at = row[at >= 0], event[at >= 0], at[at >= 0]
        shape = len(users), int(np.minimum(kept, length).max(initial=0))
        items = np.zeros(shape, np.int32)
        counts, ages = np.zeros((2, *shape), np.int64)
        items[row, at] = self.histories.items[event]
        counts[row, at] = count[event]
        ages[row, at] = times[row] - self.histories.times[event]
        return Known(items, counts, ages)

    @cached_property
    def _clock(self) -> tuple[int, int]:
        """The first time of an event, and the span to just behind the last.

        A key and a time are one number, key * span + time - first. Whoever asks later
        is told of all events.
        """
        times = self.histories.times
        first = int(times.min(initial=0))
        return first, int(times.max(initial=0)) - first + 2

    @cached_property
    def _by_item(self) -> tuple[np.ndarray, np.ndarray]:
        """All events sorted by item and time as one number each, and that order."""
        h, (first, span) = self.histories, self._clock
        number = h.items.astype(np.int64) * span + (h.times - first)
        order = np.argsort(number, kind="stable")
        return number[order], order

    @cached_property
    def _by_user(self) -> tuple[np.ndarray, int]:
        """The same by user, item and time; the key is user * the int + item."""
        h, (first, span) = self.histories, self._clock
        many = int(max(h.items.max(initial=0), self.items.max(initial=0))) + 1
        users = np.repeat(np.arange(len(h), dtype=np.int64), h.lengths)
        return np.sort((users * many + h.items) * span + (h.times - first)), many

    def _before(
        self, number: np.ndarray, keys: np.ndarray, times: np.ndarray, days: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where among sorted numbers those of a key in the `days` before a time are."""
        first, span = self._clock
        base = keys.astype(np.int64) * span
        low, high = (
            base + np.clip(when - first, 0, span - 1)
            for when in (times - int(days * DAY), times)
        )
        return np.searchsorted(number, low), np.searchsorted(number, high)

    def count_lately(
        self, items: np.ndarray, times: np.ndarray, days: float
    ) -> np.ndarray:
        """How often anybody took each item in the `days` before each moment.

        Arrays of one shape.
        """
        low, high = self._before(self._by_item[0], items, times, days)
        return high - low

    def own_lately(
        self, users: np.ndarray, items: np.ndarray, times: np.ndarray, days: float
    ) -> np.ndarray:
        """How often each user took each item in the `days` before the moment.

        All arrays are of one shape; user -1 took nothing.
        """
        number, many = self._by_user
        keys = users.astype(np.int64) * many + items
        low, high = self._before(number, keys, times, days)
        return high - low

    @cached_property
    def _sums(self) -> dict[str, np.ndarray]:
        return {}

    def mean_lately(
        self, name: str, items: np.ndarray, times: np.ndarray, days: float
    ) -> np.ndarray:
        """The mean of an event attribute over what anybody took of each item lately.

        That is in the `days` before; the attribute is a number. NaN where nobody took
        it.

        Raises:
            DataError: the events have no such attribute.
        """
        if name not in self.histories.attributes:
            raise DataError(f"the events have no column '{name}' to take a mean of")
        if name not in self._sums:
            ordered = self.histories.attributes[name][self._by_item[1]]
            self._sums[name] = np.append(0.0, np.cumsum(ordered, dtype=np.float64))
        low, high = self._before(self._by_item[0], items, times, days)
        total = self._sums[name][high] - self._sums[name][low]
        return np.where(high > low, total, np.nan) / np.maximum(high - low, 1)

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays for a file, and the rest as plain values; without the histories."""
        arrays = {f"slate_{name}": getattr(self, name) for name in ARRAYS}
        about = {"situation": self.situation.to_dict("list"), "shown": {}}
        for number, (name, column) in enumerate(self.shown.items()):
            arrays[f"slate_shown_{number}"] = column.codes
            about["shown"][name] = column.categories.tolist()
        return arrays, about

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray],
        about: Mapping[str, Any],
        histories: Histories,
    ) -> IndexedSlates:
        """What `to_arrays` gave."""
        shown = {
            name: pd.Categorical.from_codes(arrays[f"slate_shown_{number}"], values)
            for number, (name, values) in enumerate(about["shown"].items())
        }
        plain: dict[str, Any] = {name: arrays[f"slate_{name}"] for name in ARRAYS}
        situation = pd.DataFrame(about["situation"])
        return cls(histories, situation=situation, shown=shown, **plain)


class SlateScorer(Protocol):
    """Whatever can rank slates: every baseline and every ranker.

    Where `scores_are_logits` is true, the sigmoid of a score is the probability that
    the candidate is clicked.
    """

    def score_slate(self, slates: IndexedSlates, row: int) -> np.ndarray:
        """Scores of a slate's candidates, in the order of its list."""


def events_before(
    histories: Histories, rows: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """How many events of each row lie strictly before each time."""
    first = int(min(histories.times.min(initial=0), times.min(initial=0)))
    span = int(max(histories.times.max(initial=0), times.max(initial=0))) - first + 1
    row = np.repeat(np.arange(len(histories)), histories.lengths)
    number = row * span + (histories.times - first)
    places = np.searchsorted(number, rows * span + (times - first))
    return places - histories.offsets[rows]
