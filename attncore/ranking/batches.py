"""Slates become tensors, with all their candidates or, to train on, a few drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attncore.batches import parts_by, sent
from attncore.errors import DataError
from attncore.features import Feature, fit_features
from attncore.ranking.asof import DAY, IndexedSlates, Known
from attncore.sequences import spans
from attncore.splits import Split

POPULARITY_DAYS = 7, 28
OWN_DAYS = 7, 28, 91
CUT_DAYS = 7  # over which a number of the events, such as a price cut, is averaged
ALL = np.iinfo(np.int64).max  # items of a past
EACH = 8  # slates of a user that an epoch shows
CLICKED_AT_MOST = 8  # clicked candidates of a slate that one batch shows

# A bucket of counts begins at each, and one of seconds since; bucket 0 is unknown.
COUNTS = torch.tensor([1, 2, 3, 4, 6, 9, 14, 22])
AGES = torch.tensor([0, 1, 2, 4, 8, 15, 29, 57, 113, 226]) * DAY


@dataclass(frozen=True)
class SlateBatch:
    """Slates as tensors; histories and candidates are padded with zeros on the right.

    Attributes:
        items_BT: distinct past items, int64, the latest last.
        counts_BT: the bucket of how often each was taken, int64; 0 is unknown.
        ages_BT: the bucket of how long ago, int64; 0 is unknown.
        habit_BT2: log(1 + how often) and log(1 + days since), float32; 0 where unknown.
        users_B: user rows, int64; -1 is nobody known.
        candidates_BN: item indices, int64.
        own_BN6: what the user did with the candidate itself: 1 if it was ever taken,
            log(1 + how often), log(1 + days since the last time), and log(1 + how
            often) in the last 7, 28 and 91 days; 0 where it never was, and where the
            past has no times.
        popularity_BN2: log(1 + how often anybody took the candidate) in the last 7 and
            28 days.
        situation: encoded features of slate and candidate by name, (B, N).
        clicked_BN: 1 where the candidate was clicked, else 0, float32; None when
            nothing is known of it.
        correction_BN: log of how much likelier clicked candidates were drawn than
            others; 0 for all of a slate.
    """

    items_BT: Tensor
    counts_BT: Tensor
    ages_BT: Tensor
    habit_BT2: Tensor
    users_B: Tensor
    candidates_BN: Tensor
    own_BN6: Tensor
    popularity_BN2: Tensor
    situation: Mapping[str, Tensor]
    clicked_BN: Tensor | None = None
    correction_BN: Tensor | None = None

    def to(self, device: torch.device) -> SlateBatch:
        """The batch on a device."""
        return sent(self, device)


class Situations:
    """The situation of slates, encoded.

    What holds for a list, how each candidate was shown, and recent means. A feature
    that the slates have for each candidate is read there, one that they have for a list
    is the same for all its candidates, and one that is a number of the events (a price
    cut) is the mean over what anybody took of the candidate in the last 7 days.

    Args:
        features: what to read.
        slates: where to read it.
    """

    def __init__(self, features: Sequence[Feature], slates: IndexedSlates) -> None:
        self.features, self.slates = features, slates
        self.codes = {}
        for feature in features:
            name = feature.name
            if name in slates.shown:
                shown = slates.shown[name].categories.to_numpy()
                self.codes[name] = feature.encode(shown)
            elif name in slates.situation:
                self.codes[name] = feature.encode(slates.situation[name])

    def __call__(
        self,
        lists: np.ndarray,
        places: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
    ) -> dict[str, Tensor]:
        """Codes or numbers (B, N) of candidates at `places` of lists (B, 1)."""
        found = {}
        for feature in self.features:
            name = feature.name
            if name in self.slates.shown:
                column = self.codes[name][self.slates.shown[name].codes[places]]
            elif name in self.slates.situation:
                column = np.broadcast_to(self.codes[name][lists], places.shape)
            else:
                mean = self.slates.mean_lately(name, items, times, CUT_DAYS)
                column = feature.encode(mean.ravel()).reshape(mean.shape)
            found[name] = torch.tensor(column)
        return found


def fit_situation(split: Split, columns: Sequence[str]) -> tuple[Feature, ...]:
    """Features of the situation, learned from the slates and events of training.

    `columns` as for `fit_features`.

    Raises:
        DataError: neither the slates nor the events have such a column.
    """
    slates = split.slates
    assert isinstance(slates, IndexedSlates)
    found: list[Feature] = []
    trained = slates.times < split.valid.protocol["valid_from"]
    lists = np.unique(slates.lists[trained])
    for column in columns:
        name = column.split(":")[0]
        if name in slates.shown:
            shown = slates.shown[name]
            places = spans(slates.offsets[lists], np.diff(slates.offsets)[lists])
            seen = np.unique(shown.codes[places])
            table, kind = pd.DataFrame({name: shown.categories[seen]}), "category"
        elif name in slates.situation:
            table, kind = slates.situation.iloc[lists], "category"
        elif name in split.train.attributes:
            table, kind = pd.DataFrame({name: split.train.attributes[name]}), "number"
        else:
            known = *slates.shown, *slates.situation, *split.train.attributes
            raise DataError(
                f"{split.name}: no situation feature '{name}'; slates and events have"
                f" {', '.join(known)}"
            )
        found += fit_features(table, [f"{name}:{kind}"], f"{split.name}, situation")
    return tuple(found)


class SlateWindows:
    """Batches of slates.

    For training, a row is a user and draws one of their slates at random; 8 rows are
    one user.

    Args:
        slates: what to draw from.
        situation: features of the situation.
        length: most past items of a user.
        device: where batches are wanted.
        users: how many users there are.
        until: slates from this time on are not drawn.
        drawn: candidates drawn at random from each list, beside up to 8 clicked ones.
    """

    def __init__(
        self,
        slates: IndexedSlates,
        situation: Sequence[Feature],
        length: int,
        device: torch.device | str = "cpu",
        users: int = 0,
        until: int | None = None,
        drawn: int = 64,
    ) -> None:
        self.slates, self.length, self.drawn = slates, length, drawn
        self.device = torch.device(device)
        self.ahead = self.device.type != "cpu"
        self.chance = torch.Generator() if self.ahead else None
        self.situations = Situations(situation, slates)
        few = len(slates)
        if until is not None:
            few = int(np.searchsorted(slates.times, until))
        self._order = np.argsort(slates.users[:few], kind="stable")
        self._many = np.bincount(slates.users[:few], minlength=users)
        self._first = np.cumsum(self._many) - self._many
        candidates = np.where(self._many > 0, drawn + CLICKED_AT_MOST, 0)
        self.lengths = candidates.repeat(EACH)
        self.earlier = np.zeros_like(self.lengths)

    def users_of(self, rows: np.ndarray) -> np.ndarray:
        """The user row of each of `rows`."""
        return rows // EACH

    def batch(self, rows: np.ndarray, back: np.ndarray | None = None) -> SlateBatch:
        """A random slate of each row's user; `back` is for histories.

        The same generator draws it and its candidates.
        """
        users = self.users_of(rows)
        which = (self._uniform(len(rows)) * self._many[users]).astype(np.int64)
        return self.drawn_from(self._order[self._first[users] + which])

    def drawn_from(self, rows: np.ndarray) -> SlateBatch:
        """Slates with up to 8 of their clicked candidates, and `drawn` others.

        A candidate that was clicked and is drawn once more does not count twice: it
        becomes padding.
        """
        slates, count, every = self.slates, len(rows), np.int64(len(self.slates.items))
        start = slates.offsets[slates.lists[rows]]
        size = np.diff(slates.offsets)[slates.lists[rows]]
        many = np.diff(slates.clicked_offsets)[rows]
        first = slates.clicked_offsets[rows]
        shift = (self._uniform(count) * many).astype(np.int64)  # of more than 8, some 8
        step = np.arange(CLICKED_AT_MOST)
        at = first[:, None] + (step + shift[:, None]) % many[:, None]
        clicked = np.where(step < many[:, None], slates.clicked[at], -1)
        drawn = (self._uniform(count, self.drawn) * size[:, None]).astype(int)
        others = start[:, None] + drawn
        owner = np.repeat(np.arange(count), many)
        key = owner * every + slates.clicked[spans(first, many)]
        mine = np.arange(count)[:, None] * every + others
        others = np.where(np.isin(mine, key), -1, others)
        places = np.concatenate([clicked, others], 1)
        marks = torch.zeros(places.shape)
        marks[:, :CLICKED_AT_MOST] = torch.from_numpy((clicked >= 0).astype(np.float32))
        often = np.minimum(1.0, CLICKED_AT_MOST / many) / (self.drawn / size)
        # Repeated, not expanded: an expanded tensor could not be pinned.
        correction = torch.from_numpy(np.log(often)).float()[:, None]
        correction = correction.repeat(1, marks.shape[1])
        batch = self._made(rows, np.maximum(places, 0), places >= 0)
        batch = replace(batch, clicked_BN=marks, correction_BN=correction)
        return batch.to(self.device)

    def whole(self, row: int) -> SlateBatch:
        """One slate with all its candidates."""
        where = self.slates.list_of(row)
        places = np.arange(where.start, where.stop)[None]
        real = np.ones(places.shape, bool)
        return self._made(np.array([row]), places, real).to(self.device)

    def parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of one training step in parts that pad less, by what users took."""
        lengths = self.slates.histories.lengths[self.users_of(rows)]
        return parts_by(lengths, rows, 2, self.device)

    def _made(
        self, rows: np.ndarray, places: np.ndarray, real: np.ndarray
    ) -> SlateBatch:
        slates, users, times = self.slates, self.slates.users[rows], self.slates.times
        items = np.where(real, slates.items[places], 0)
        whole = slates.known(users, slates.stops[rows], times[rows], ALL)
        moments = times[rows][:, None]
        lists = slates.lists[rows][:, None]
        situation = self.situations(lists, places, items, moments)
        return slate_batch(slates, whole, self.length, users, items, moments, situation)

    def _uniform(self, *shape: int) -> np.ndarray:
        """Numbers from 0 to below 1."""
        return torch.rand(shape, generator=self.chance, dtype=torch.float64).numpy()


def slate_batch(
    slates: IndexedSlates,
    whole: Known,
    length: int,
    users: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    situation: dict[str, Tensor],
    without: int | None = None,
) -> SlateBatch:
    """A batch of candidates asked about, given the whole past of the users.

    Args:
        slates: as-of counts are theirs.
        whole: context vectors are made of its newest `length` distinct items.
        length: see there.
        users: user rows, (B,); -1 is nobody known.
        items: the candidates, (B, N).
        times: the moments of asking, (B, 1).
        situation: encoded features of slate and candidate.
        without: an item that counts as never taken by the user.
    """
    known = whole.newest(length)
    lately = [slates.count_lately(items, times, days) for days in POPULARITY_DAYS]
    own = [slates.own_lately(users[:, None], items, times, days) for days in OWN_DAYS]
    habit_lately = np.stack([np.log1p(counts) for counts in own], -1)
    if without is not None:
        habit_lately[items == without] = 0
    own_habits = np.concatenate([own_habit(whole, items), habit_lately], -1)
    real = torch.from_numpy(known.items > 0)
    counts = torch.bucketize(torch.from_numpy(known.counts), COUNTS, right=True)
    ages = torch.bucketize(torch.from_numpy(known.ages), AGES, right=True)
    days = np.maximum(known.ages, 0) / DAY
    habit = np.stack([np.log1p(known.counts), np.log1p(days)], -1)
    return SlateBatch(
        torch.from_numpy(known.items).long(),
        counts * real,
        ages * real,
        torch.from_numpy(habit).float(),
        torch.from_numpy(np.asarray(users, np.int64)),
        torch.from_numpy(items).long(),
        torch.from_numpy(own_habits).float(),
        torch.from_numpy(np.stack([np.log1p(n) for n in lately], -1)).float(),
        situation,
    )


def own_habit(whole: Known, items: np.ndarray) -> np.ndarray:
    """What users did with each of `items` (B, N) themselves, (B, N, 3), float32.

    Whether, how often and how long ago they took it: see `SlateBatch.own_BN6`.
    """
    most = int(max(whole.items.max(initial=0), items.max(initial=0)))
    row = np.arange(len(items))[:, None] * (most + 1)
    past = np.where(whole.items > 0, row + whole.items, -1).ravel()
    if len(past) == 0:
        return np.zeros((*items.shape, 3), np.float32)
    order = np.argsort(past)
    found = np.searchsorted(past[order], row + items)
    at = order[np.minimum(found, len(order) - 1)]
    same = (past[at] == row + items) & (items > 0)
    counts, days = whole.counts.ravel()[at], np.maximum(whole.ages.ravel()[at], 0) / DAY
    habits = [same, same * np.log1p(counts), same * np.log1p(days)]
    return np.stack(habits, -1).astype(np.float32)
