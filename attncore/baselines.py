"""What any recommender has to beat.

Popularity (recent, or among like people too), chains, habit, a linear model. Every
baseline is a `ranking.Scorer`. Where two numbers decide, a score and popularity for its
ties, they are joined in whole numbers, never as score + 0.001 x popularity: see
`_joined`.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from attncore.features import FeatureSet
from attncore.sequences import Histories, spans
from attncore.splits import Split

CELLS = 4_000_000  # scores worked on at a time: holds working memory near 150 MB


# lcm(1..10) = 2520 keeps every sum exact for logs up to a thousand million events.
MAX_LAGS = 10


class Popularity:
    """Score of an item: how often it occurs in training."""

    def __init__(self, split: Split):
        """Count the training events of `split`."""
        self.item_counts = np.asarray(split.item_counts, np.int64)
        self._row = torch.from_numpy(self.item_counts.astype(np.float32))

    def score(
        self, histories: Histories, users: np.ndarray | None = None
    ) -> torch.Tensor:
        """Scores of the whole catalogue, float32 (rows, V): the same for every row."""
        return self._row.repeat(len(histories), 1)


class RecentPopularity(Popularity):
    """Popularity among the newest training events, ties by popularity among all.

    Args:
        split: whose training events are counted.
        window: the share of the training events that is recent, 0 < window <= 1. Events
            as old as the oldest of them count too, so the order of rows is of no
            account.

    Scores are places in that order (0 is the least popular), equal only if both counts
    are.
    """

    def __init__(self, split: Split, window: float = 0.1):
        """Count the newest training events of `split`."""
        if not 0 < window <= 1:
            raise ValueError(
                f"window={window} must be a share of the training events, above 0 and"
                " at most 1"
            )
        super().__init__(split)
        items, times = split.train.items, split.train.times
        if len(times):
            oldest = len(times) - math.ceil(window * len(times))
            items = items[times >= np.partition(times, oldest)[oldest]]
        self.recent_counts = np.bincount(items - 1, minlength=len(self.item_counts))
        self._row = _joined(self.recent_counts[None], _places(self.item_counts))[0]


class ProfilePopularity:
    """Popularity among the training users of like profile.

    Where there are few, it leans on larger groups. Users alike in the first column are
    a group, those alike in the second too a smaller group within it, and so on:

        share(item | group) = (count(item, group) + smoothing * share(item | around)) /
        (events(group) + smoothing)

    where "around" is the next larger group, and around the largest are all training
    events. Who is not in the table of users, or has a value that no training user has,
    is scored by the smallest group that they are known to be in.

    Args:
        split: whose training events are counted; its log needs a table of users.
        columns: of that table, the largest groups first: categories, or numbers as
            "name:quantile".
        smoothing: how many events the group around counts for, above 0; a large one
            gives plain popularity.
        bands: how many parts, with equally many training users, a number is cut into.

    Source: MacKay and Peto 1995 (a prior that leans on the shares of a larger group).

    Raises:
        DataError: the log has no table of users, or no such column.
    """

    def __init__(
        self,
        split: Split,
        columns: Sequence[str] = ("gender", "age:quantile", "occupation"),
        smoothing: float = 1000.0,
        bands: int = 5,
    ):
        """Group the users, and keep what they took in training."""
        if not (0 < smoothing < math.inf and bands >= 1):
            raise ValueError(
                f"smoothing={smoothing} must be above 0 and finite, and bands={bands}"
                " at least 1"
            )
        self.item_counts, self.smoothing = (
            np.asarray(split.item_counts, np.int64),
            smoothing,
        )
        self._items = split.train.items.astype(np.int64) - 1
        self._owner = np.repeat(np.arange(len(split.train)), split.train.lengths)
        features = FeatureSet.fit(split, user=columns)
        # The last user is the unknown one.
        group, self._levels = (
            np.zeros(len(split.train) + 1, np.int64),
            [],
        )
        for feature, codes in zip(
            features.user, features.table_codes(split, "user"), strict=True
        ):
            if codes.ndim > 1 or (
                feature.kind == "number" and feature.transform != "quantile"
            ):
                how = "quantile" if feature.kind == "number" else "category"
                raise ValueError(
                    f"columns: {feature.name!r} makes no groups; ask for"
                    f" '{feature.name}:{how}'"
                )
            # Of categories: padding, which is not there, and unknown are below 0.
            value = codes - 2.0
            if feature.kind == "number":
                value = np.nan_to_num(
                    ((codes + 1) / 2 * bands).clip(0, bands - 1), nan=-1
                )
            value = np.roll(np.floor(value).astype(np.int64), -1)
            known = (group >= 0) & (value >= 0)
            group = np.where(
                known,
                np.unique(group * (value.max() + 1) + value, return_inverse=True)[1],
                -1,
            )
            self._levels.append(group)

    def score(
        self, histories: Histories, users: np.ndarray | None = None
    ) -> torch.Tensor:
        """Shares of the whole catalogue, float32 (rows, V).

        The same for all users of a group.
        """
        rows = np.full(len(histories), -1) if users is None else np.asarray(users)
        paths = (
            np.stack([level[rows] for level in self._levels], 1)
            if self._levels
            else np.zeros((len(rows), 0))
        )
        scores, everybody = (
            torch.empty(len(rows), len(self.item_counts)),
            self.item_counts,
        )
        for path in np.unique(paths, axis=0):
            share = everybody / max(everybody.sum(), 1)
            for level, group in zip(self._levels, path, strict=True):
                if group >= 0:
                    taken = self._items[level[self._owner] == group]
                    counts = np.bincount(taken, minlength=len(share))
                    share = (counts + self.smoothing * share) / (
                        len(taken) + self.smoothing
                    )
            scores[torch.from_numpy((paths == path).all(1))] = torch.from_numpy(
                share
            ).float()
        return scores


class _Personal:
    """A baseline that counts something, in whole numbers, about each history."""

    def __init__(self, split: Split):
        self.item_counts = np.asarray(split.item_counts, np.int64)
        self._popularity = _places(self.item_counts)

    def score(
        self, histories: Histories, users: np.ndarray | None = None
    ) -> torch.Tensor:
        """Places of the whole catalogue, float32 (rows, V).

        0 is the lowest, ties share a place.

        Raises:
            ValueError: a history with an item outside 1..V.
        """
        items = len(self.item_counts)
        if (
            len(histories.items)
            and not 1 <= histories.items.min() <= histories.items.max() <= items
        ):
            raise ValueError(
                "a history holds an item outside the catalogue, whose indices are"
                f" 1..{items}"
            )
        scores = torch.empty(len(histories), items)
        at_once = max(1, CELLS // max(items, 1))
        for start in range(0, len(histories), at_once):
            rows = np.arange(start, min(start + at_once, len(histories)))
            scores[start : start + at_once] = _joined(
                self._counts(histories.take(rows)), self._popularity
            )
        return scores

    def _counts(self, histories: Histories) -> np.ndarray:
        raise NotImplementedError


class PersonalFrequency(_Personal):
    """How often the user took the item before, ties by popularity.

    Strong where users repeat.
    """

    def _counts(self, histories: Histories) -> np.ndarray:
        rows, items = len(histories), len(self.item_counts)
        cells = (
            np.repeat(np.arange(rows) * items, histories.lengths) + histories.items - 1
        )
        return np.bincount(cells, minlength=rows * items).reshape(rows, items)


class MarkovChain(_Personal):
    """What followed the newest items of the history in everybody's training histories.

    M[i, j] = sum over l = 1..lags of (1 / l) * #(j comes l steps after i in training),
    and score(j) = sum over k = 1..lags of (1 / k) * M[k-th newest item, j], ties by
    popularity.

    Args:
        split: whose training histories are counted.
        lags: how far apart two events may be, 1 to 10.
        normalize: divide each row of M by its sum, so that a common item says no more
            than a rare one. Rows are then held to 2^-36, within which scores count as
            equal.

    M is kept sparse. Its entries are whole multiples of 1 / lcm(1..lags) and are held
    as such whole numbers, so that equal scores are equal and no rounding breaks a tie.
    """

    def __init__(self, split: Split, lags: int = 5, normalize: bool = False):
        """Count the followers of each item in the training histories of `split`."""
        if not 1 <= lags <= MAX_LAGS:
            raise ValueError(f"lags={lags} must be between 1 and {MAX_LAGS}")
        super().__init__(split)
        self.lags, self.normalize = lags, normalize
        self._unit = math.lcm(*range(1, lags + 1))
        train, size = split.train, len(self.item_counts)
        rows = np.repeat(np.arange(len(train)), train.lengths)
        cells: list[np.ndarray] = [np.zeros(0, np.int64)]
        weights: list[np.ndarray] = [np.zeros(0)]
        for lag in range(1, lags + 1):
            together = rows[lag:] == rows[:-lag]
            before, after = (
                train.items[:-lag][together] - 1,
                train.items[lag:][together] - 1,
            )
            cell, times = np.unique(
                before.astype(np.int64) * size + after, return_counts=True
            )
            cells.append(cell)
            weights.append(times * (self._unit / lag))
        cell, which = np.unique(np.concatenate(cells), return_inverse=True)
        # Whole numbers, exact in float64.
        entries = np.bincount(which, np.concatenate(weights), len(cell))
        source, self._follower = np.divmod(cell, size)
        if normalize:
            totals = np.bincount(source, entries, size)
            entries = np.rint(entries / totals[source] * 2**36)
        self._entries = entries
        # Row i of M: starts[i] to starts[i + 1].
        self._starts = np.searchsorted(source, np.arange(size + 1))

    def _counts(self, histories: Histories) -> np.ndarray:
        rows, items = len(histories), len(self.item_counts)
        lengths = histories.lengths
        cells, weights = [], []
        for back in range(1, self.lags + 1):
            row = np.flatnonzero(lengths >= back)
            item = histories.items[histories.offsets[row + 1] - back] - 1
            begin, many = (
                self._starts[item],
                self._starts[item + 1] - self._starts[item],
            )
            entry = spans(begin, many)
            cells.append(np.repeat(row * items, many) + self._follower[entry])
            weights.append(self._entries[entry] * (self._unit // back))
        total = np.bincount(
            np.concatenate(cells), np.concatenate(weights), rows * items
        )
        return total.astype(np.int64).reshape(rows, items)


class EASE:
    """Which items go with which.

    Each item regressed on all others, over whole training histories, in closed form.
    With X the users × items matrix of 0 and 1 and P = (XᵀX + penalty · I)⁻¹, item j
    weighs -P[j, i] / P[i, i] for item i, and nothing for itself; an item's score is the
    sum over the history. The order of events is of no account.

    Args:
        split: whose training histories are counted.
        penalty: the ridge regression's; larger trusts rare pairs less.

    Holds V × V numbers of 4 bytes (12,000 items: 600 MB, a minute on two cores).
    Source: Steck 2019, eq. 8.
    """

    def __init__(self, split: Split, penalty: float = 500.0):
        """Solve for the weights of the training histories of `split`."""
        if not penalty > 0:
            raise ValueError(f"penalty={penalty} must be above 0")
        self.items = len(split.item_counts)
        together = torch.zeros(self.items, self.items)
        for start in range(0, len(split.train), 1024):
            rows = np.arange(start, min(start + 1024, len(split.train)))
            taken_RV = self._taken(split.train.take(rows))
            together += taken_RV.T @ taken_RV
        together.diagonal().add_(penalty)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(together))
        self._weights = inverse / -inverse.diagonal()
        self._weights.fill_diagonal_(0)

    def score(
        self, histories: Histories, users: np.ndarray | None = None
    ) -> torch.Tensor:
        """Scores of the whole catalogue, float32 (rows, V).

        An empty history scores 0 throughout.
        """
        return self._taken(histories) @ self._weights

    def _taken(self, histories: Histories) -> torch.Tensor:
        """1 where an item is in the history, else 0, (rows, V)."""
        taken_RV = torch.zeros(len(histories), self.items)
        taken_RV[
            np.repeat(np.arange(len(histories)), histories.lengths),
            histories.items.astype(np.int64) - 1,
        ] = 1
        return taken_RV


def _places(counts: np.ndarray) -> np.ndarray:
    """Place of each count among the different counts, from 0.

    Equal counts share a place.
    """
    return np.unique(counts, return_inverse=True)[1].astype(np.int64)


def _joined(counts: np.ndarray, popularity: np.ndarray) -> torch.Tensor:
    """Place of each (count, popularity) pair within its row, counts first.

    The pair becomes one whole number, count * P + popularity with popularity < P, whose
    order is the order of the pairs. A float32 cannot hold that number, but it holds its
    place in the row without error (up to 2^24 items): no real difference is lost or
    turned, no tie is broken.

    Args:
        counts: int64 (rows, V).
        popularity: int64 (V,), from `_places`.
    """
    keys = torch.from_numpy(counts * (popularity.max(initial=0) + 1) + popularity)
    ordered, columns = keys.sort(dim=1)
    places = torch.zeros_like(ordered)
    places[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).cumsum(1)
    return torch.empty(keys.shape).scatter_(1, columns, places.float())
