"""What ranking slates has to beat: what all buy this week, what this user always buys.

Both are asked, saved and loaded like a `Ranker`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncore.baselines import Learned
from attncore.errors import DataError
from attncore.features import FeatureSet
from attncore.files import save_baseline
from attncore.ranking import serving
from attncore.ranking.asof import IndexedSlates
from attncore.ranking.serving import Question
from attncore.splits import Split, require_split


class SlateBaseline:
    """What every baseline of slates can be asked, as a `Ranker` can.

    Args:
        split: of a log with slates; None for one that is only evaluated.
        options: its settings, which are saved.
    """

    split: Split  # missing where it was made without one
    features = FeatureSet()  # it reads no attributes when it is asked

    def __init__(self, split: Split | None, options: Mapping[str, Any]) -> None:
        if split is not None:
            require_split(split, type(self).__name__)
            if split.slates is None:
                raise DataError(f"{split.name}: has no slates; use attncore.baselines")
            self.split = split
        self.options = dict(options)
        self.learned: Learned = {}  # the histories tell all that is counted

    def score_slate(self, slates: IndexedSlates, row: int) -> np.ndarray:
        """Places of a slate's candidates, float32; 0 is the lowest, ties share one."""
        user, stop = slates.users[row], int(slates.stops[row])
        start = slates.histories.offsets[user]
        past = slates.histories.items[start : start + stop]
        items = slates.items[slates.list_of(row)]
        return self._scores(slates, items, slates.times[row], past)

    def answer(self, question: Question) -> Tensor:
        """Places (1, N) of the candidates of a question after the end of the log."""
        past = np.repeat(question.whole.items[0], question.whole.counts[0])
        items, now = question.items[0], question.now[0, 0]
        return torch.from_numpy(self._scores(question.slates, items, now, past))[None]

    recommend = serving.recommend

    def save(self, folder: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Write the run folder that `load` reads; see `Ranker.save`.

        Raises:
            ValueError: it was made without a log.
        """
        serving.need_log(self)
        save_baseline(folder, self, about)

    def _scores(
        self, slates: IndexedSlates, items: np.ndarray, time: Any, past: np.ndarray
    ) -> np.ndarray:
        raise NotImplementedError


class PopularLately(SlateBaseline):
    """How often anybody took the candidate in the last `days`, ties by the last 90.

    Args:
        split: of a log with slates; to be evaluated, none is needed.
        days: 7 is "this week".
        learned: nothing; the histories tell all.
    """

    def __init__(
        self,
        split: Split | None = None,
        days: float = 7,
        learned: Learned | None = None,
    ) -> None:
        super().__init__(split, {"days": days})
        self.days = days

    def _scores(
        self, slates: IndexedSlates, items: np.ndarray, time: Any, past: np.ndarray
    ) -> np.ndarray:
        lately = slates.count_lately(items, time, self.days)
        return _places(lately, slates.count_lately(items, time, 90))


class PersonalHabit(SlateBaseline):
    """How often this user took the candidate, ties by what was taken this week.

    Args:
        split: of a log with slates; to be evaluated, none is needed.
        learned: nothing; the histories tell all.
    """

    def __init__(
        self, split: Split | None = None, learned: Learned | None = None
    ) -> None:
        super().__init__(split, {})

    def _scores(
        self, slates: IndexedSlates, items: np.ndarray, time: Any, past: np.ndarray
    ) -> np.ndarray:
        past = np.sort(past)
        own = np.searchsorted(past, items, side="right") - np.searchsorted(past, items)
        return _places(own, slates.count_lately(items, time, 7))


def _places(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Place of each pair of counts in their order, which float32 holds exactly."""
    both = first.astype(np.int64) * (int(second.max(initial=0)) + 1) + second
    return np.unique(both, return_inverse=True)[1].astype(np.float32)
