"""Stage 1b, continued: slates become tensors, with all their candidates or, to train on, a few drawn ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attncore.errors import DataError
from attncore.features import Feature, fit_features
from attncore.ranking.asof import DAY, Known, Moments
from attncore.splits import Split

POPULARITY_DAYS = 7, 28


OWN_DAYS = 7, 28, 91


CUT_DAYS = 7  # over which a number of the events, such as a price cut, is averaged


ALL = np.iinfo(np.int64).max  # items of a past


EACH = 8  # slates of a user that an epoch shows


TAKEN_AT_MOST = 8  # taken candidates of a slate that one batch shows


COUNTS = torch.tensor(
    [1, 2, 3, 4, 6, 9, 14, 22]
)  # a bucket of counts begins at each; bucket 0 is unknown


AGES = (
    torch.tensor([0, 1, 2, 4, 8, 15, 29, 57, 113, 226]) * DAY
)  # the same for seconds since


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
        taken_BN: 1 where the candidate was taken, else 0, float32; None when nothing is
            known of it.
        drawn_BN: log of how much likelier taken candidates were drawn than others; 0
            for all of a slate.
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
    taken_BN: Tensor | None = None
    drawn_BN: Tensor | None = None

    def to(self, device: torch.device) -> SlateBatch:
        """The batch on a device."""
        if device.type == "cpu":
            return self

        def sent(value: Any) -> Any:
            if isinstance(value, Tensor):
                return (value.pin_memory() if device.type == "cuda" else value).to(
                    device, non_blocking=True
                )
            return (
                value
                if value is None
                else {name: sent(column) for name, column in value.items()}
            )

        return replace(
            self,
            **{field.name: sent(getattr(self, field.name)) for field in fields(self)},
        )


class Situations:
    """The situation of slates, encoded: what holds for a list, how each candidate was shown, and recent means.

    A feature that the slates have for each candidate is read there, one that they have
    for a list is the same for all its candidates, and one that is a number of the
    events (a price cut) is the mean over what anybody took of the candidate in the last
    7 days.

    Args:
        features: what to read.
        slates: where to read it.
    """

    def __init__(self, features: Sequence[Feature], slates: Moments) -> None:
        self.features, self.slates = features, slates
        self.codes = {}
        for feature in features:
            if feature.name in slates.shown:
                self.codes[feature.name] = feature.encode(
                    slates.shown[feature.name].categories.to_numpy()
                )
            elif feature.name in slates.situation:
                self.codes[feature.name] = feature.encode(
                    slates.situation[feature.name]
                )

    def __call__(
        self,
        lists: np.ndarray,
        places: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
    ) -> dict[str, Tensor]:
        """Codes (B, N), or normalized numbers, of candidates at `places` of lists (B, 1) at times (B, 1)."""
        found = {}
        for feature in self.features:
            if feature.name in self.slates.shown:
                column = self.codes[feature.name][
                    self.slates.shown[feature.name].codes[places]
                ]
            elif feature.name in self.slates.situation:
                column = np.broadcast_to(self.codes[feature.name][lists], places.shape)
            else:
                mean = self.slates.mean_lately(feature.name, items, times, CUT_DAYS)
                column = feature.encode(mean.ravel()).reshape(mean.shape)
            found[feature.name] = torch.tensor(column)
        return found


def fit_situation(split: Split, columns: Sequence[str]) -> tuple[Feature, ...]:
    """Features of the situation, learned from the slates and events of training; `columns` as for `fit_features`.

    Raises:
        DataError: neither the slates nor the events have such a column.
    """
    slates = split.slates
    assert slates is not None
    found: list[Feature] = []
    trained = slates.times < split.valid.protocol["valid_from"]
    lists = np.unique(slates.lists[trained])
    for column in columns:
        name = column.split(":")[0]
        if name in slates.shown:
            shown = slates.shown[name]
            places = np.concatenate(
                [
                    np.zeros(0, int),
                    *(np.arange(*slates.offsets[i : i + 2]) for i in lists),
                ]
            )
            seen = np.bincount(shown.codes[places], minlength=len(shown.categories)) > 0
            table, kind = pd.DataFrame({name: shown.categories[seen]}), "category"
        elif name in slates.situation:
            table, kind = slates.situation.iloc[lists], "category"
        elif name in split.train.attributes:
            table, kind = pd.DataFrame({name: split.train.attributes[name]}), "number"
        else:
            known = ", ".join(
                [*slates.shown, *slates.situation, *split.train.attributes]
            )
            raise DataError(
                f"{split.name}: no situation feature '{name}'; slates and events have"
                f" {known}"
            )
        found += fit_features(table, [f"{name}:{kind}"], f"{split.name}, situation")
    return tuple(found)


class SlateWindows:
    """Batches of slates. For training, a row is a user and draws one of their slates at random; 8 rows are one user.

    Args:
        slates: what to draw from.
        situation: features of the situation.
        length: most past items of a user.
        device: where batches are wanted.
        users: how many users there are.
        until: slates from this time on are not drawn.
        drawn: candidates drawn at random from each list, beside up to 8 taken ones.
    """

    mapped = False

    def __init__(
        self,
        slates: Moments,
        situation: Sequence[Feature],
        length: int,
        device: torch.device | str = "cpu",
        users: int = 0,
        until: int | None = None,
        drawn: int = 64,
    ) -> None:
        self.slates, self.length, self.device, self.drawn = (
            slates,
            length,
            torch.device(device),
            drawn,
        )
        self.situations = Situations(situation, slates)
        few = (
            len(slates) if until is None else int(np.searchsorted(slates.times, until))
        )
        self._order = np.argsort(slates.users[:few], kind="stable")
        self._many = np.bincount(slates.users[:few], minlength=users)
        self._first = np.cumsum(self._many) - self._many
        self.lengths = np.where(self._many > 0, drawn + TAKEN_AT_MOST, 0).repeat(
            EACH
        )  # candidates of a row

    def users_of(self, rows: np.ndarray) -> np.ndarray:
        """The user row of each of `rows`."""
        return rows // EACH

    def batch(self, rows: np.ndarray, back: None = None) -> SlateBatch:
        """A random slate of each row's user, drawn by PyTorch's generator as candidates are; `back` is for others."""
        users = self.users_of(rows)
        which = (
            torch.rand(len(rows), dtype=torch.float64).numpy() * self._many[users]
        ).astype(np.int64)
        return self.drawn_from(self._order[self._first[users] + which])

    def drawn_from(self, rows: np.ndarray) -> SlateBatch:
        """Slates with up to 8 of their taken candidates, and `drawn` others drawn at random.

        A candidate that was taken and is drawn once more does not count twice: it
        becomes padding.
        """
        slates, count = self.slates, len(rows)
        start, size = (
            slates.offsets[slates.lists[rows]],
            np.diff(slates.offsets)[slates.lists[rows]],
        )
        many = np.diff(slates.taken_offsets)[rows]
        shift = (torch.rand(count, dtype=torch.float64).numpy() * many).astype(
            np.int64
        )  # of more than 8, some 8
        step = np.arange(TAKEN_AT_MOST)
        at = (
            slates.taken_offsets[rows][:, None]
            + (step + shift[:, None]) % many[:, None]
        )
        taken = np.where(step < many[:, None], slates.taken[at], -1)
        others = start[:, None] + (
            torch.rand(count, self.drawn, dtype=torch.float64).numpy() * size[:, None]
        ).astype(int)
        every = np.repeat(np.arange(count), many)
        key = (
            every * np.int64(len(slates.items))
            + slates.taken[_flat(slates.taken_offsets[rows], many)]
        )
        mine = np.arange(count)[:, None] * np.int64(len(slates.items)) + others
        others = np.where(np.isin(mine, key), -1, others)
        places = np.concatenate([taken, others], 1)
        marks = torch.zeros(places.shape)
        marks[:, :TAKEN_AT_MOST] = torch.from_numpy((taken >= 0).astype(np.float32))
        often = np.minimum(1.0, TAKEN_AT_MOST / many) / (self.drawn / size)
        batch = self._made(rows, np.maximum(places, 0), places >= 0)
        return replace(
            batch,
            taken_BN=marks,
            drawn_BN=torch.from_numpy(np.log(often))
            .float()[:, None]
            .expand(marks.shape),
        ).to(self.device)

    def whole(self, row: int) -> SlateBatch:
        """One slate with all its candidates."""
        where = self.slates.list_of(row)
        places = np.arange(where.start, where.stop)[None]
        return self._made(np.array([row]), places, np.ones(places.shape, bool)).to(
            self.device
        )

    def parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of one training step, sorted by how much their users took and cut into parts that pad less."""
        order = rows[
            np.argsort(
                self.slates.histories.lengths[self.users_of(rows)], kind="stable"
            )
        ]
        return np.array_split(
            order, max(1, min(2, len(rows))) if self.device.type == "cpu" else 1
        )

    def _made(
        self, rows: np.ndarray, places: np.ndarray, real: np.ndarray
    ) -> SlateBatch:
        slates, lists = self.slates, self.slates.lists[rows][:, None]
        times = slates.times[rows][:, None]
        items = np.where(real, slates.items[places], 0)
        return slate_batch(
            slates,
            slates.known(
                slates.users[rows], slates.stops[rows], slates.times[rows], ALL
            ),
            self.length,
            slates.users[rows],
            items,
            times,
            self.situations(lists, places, items, times),
        )


def slate_batch(
    slates: Moments,
    whole: Known,
    length: int,
    users: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    situation: dict[str, Tensor],
) -> SlateBatch:
    """A batch of candidates `items` (B, N) asked about at times (B, 1), given the whole past of the users.

    Context vectors are made of the newest `length` distinct items of it.
    """
    known = whole.newest(length)
    lately = [
        np.log1p(slates.taken_lately(items, times, days)) for days in POPULARITY_DAYS
    ]
    own = [
        np.log1p(slates.own_lately(users[:, None], items, times, days))
        for days in OWN_DAYS
    ]
    real = torch.from_numpy(known.items > 0)
    counts = torch.bucketize(torch.from_numpy(known.counts), COUNTS, right=True)
    ages = torch.bucketize(torch.from_numpy(known.ages), AGES, right=True)
    habit = np.stack(
        [np.log1p(known.counts), np.log1p(np.maximum(known.ages, 0) / DAY)], -1
    )
    return SlateBatch(
        torch.from_numpy(known.items).long(),
        counts * real,
        ages * real,
        torch.from_numpy(habit).float(),
        torch.from_numpy(np.asarray(users, np.int64)),
        torch.from_numpy(items).long(),
        torch.from_numpy(
            np.concatenate([own_habit(whole, items), np.stack(own, -1)], -1)
        ).float(),
        torch.from_numpy(np.stack(lately, -1)).float(),
        situation,
    )


def own_habit(whole: Known, items: np.ndarray) -> np.ndarray:
    """Whether, how often and how long ago users took each of `items` (B, N) themselves: see `SlateBatch.own_BN6`."""
    row = np.arange(len(items))[:, None] * (
        int(max(whole.items.max(initial=0), items.max(initial=0))) + 1
    )
    past = np.where(whole.items > 0, row + whole.items, -1).ravel()
    order = np.argsort(past)
    at = (
        order[np.minimum(np.searchsorted(past[order], row + items), len(order) - 1)]
        if len(order)
        else None
    )
    if at is None:
        return np.zeros((*items.shape, 3), np.float32)
    same = (past[at] == row + items) & (items > 0)
    counts, days = whole.counts.ravel()[at], np.maximum(whole.ages.ravel()[at], 0) / DAY
    return np.stack([same, same * np.log1p(counts), same * np.log1p(days)], -1).astype(
        np.float32
    )


def _flat(starts: np.ndarray, many: np.ndarray) -> np.ndarray:
    """All places of several runs: each begins at its start and is so long."""
    return np.arange(many.sum()) + np.repeat(starts - (np.cumsum(many) - many), many)
