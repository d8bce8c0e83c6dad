"""What ranking slates has to beat.

What everybody buys this week, and what this household always buys.
"""

from __future__ import annotations

import numpy as np

from attncore.ranking.asof import IndexedSlates


class PopularLately:
    """How often anybody took the candidate in the last `days`, ties by the last 90.

    Args:
        days: 7 is "this week".
    """

    def __init__(self, days: float = 7) -> None:
        self.days = days

    def score_slate(self, slates: IndexedSlates, row: int) -> np.ndarray:
        """Places of a slate's candidates, float32.

        0 is the lowest, ties share a place.
        """
        items, time = slates.items[slates.list_of(row)], slates.times[row]
        return _places(
            slates.count_lately(items, time, self.days),
            slates.count_lately(items, time, 90),
        )


class PersonalHabit:
    """How often this user took the candidate, ties by what was taken this week."""

    def score_slate(self, slates: IndexedSlates, row: int) -> np.ndarray:
        """Places of a slate's candidates, float32.

        0 is the lowest, ties share a place.
        """
        items, time = slates.items[slates.list_of(row)], slates.times[row]
        user, stop = slates.users[row], int(slates.stops[row])
        start = slates.histories.offsets[user]
        past = np.sort(slates.histories.items[start : start + stop])
        own = np.searchsorted(past, items, side="right") - np.searchsorted(past, items)
        return _places(own, slates.count_lately(items, time, 7))


def _places(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Place of each pair of counts in their order, first counts first.

    Float32 holds places exactly.
    """
    both = first.astype(np.int64) * (int(second.max(initial=0)) + 1) + second
    return np.unique(both, return_inverse=True)[1].astype(np.float32)
