"""What one asks of a recommender that ranks slates: recommendations, and what a candidate looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from attncore.config import RecommenderConfig
from attncore.errors import DataError
from attncore.evaluation import top_k
from attncore.features import FeatureSet
from attncore.layers import evaluating
from attncore.ranking.asof import DAY, Known, Moments
from attncore.ranking.batches import (
    ALL,
    Situations,
    SlateBatch,
    SlateWindows,
    slate_batch,
)
from attncore.serving import Recommendation
from attncore.splits import Split


class SlateAnswering(nn.Module):
    """The part of a `SlateRecommender` that answers questions."""

    config: RecommenderConfig
    split: Split
    features: FeatureSet

    @property
    def device(self) -> torch.device:
        """Where the weights are; see `SlateRecommender.device`."""
        raise NotImplementedError

    def scores(self, batch: SlateBatch) -> Tensor:
        """Scores (B, N) of a batch's candidates; see `SlateRecommender.scores`."""
        raise NotImplementedError

    def attended(
        self, batch: SlateBatch, need_weights: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Queries, attended vectors and weights; see `SlateRecommender.attended`."""
        raise NotImplementedError

    def _windows(self, slates: Moments) -> SlateWindows:
        raise NotImplementedError

    def recommend(
        self,
        users: Sequence[Any] | None = None,
        histories: Sequence[Sequence[Any]] | None = None,
        k: int = 10,
        candidates: Sequence[Any] | None = None,
        exclude_seen: bool | None = None,
        situation: Mapping[str, Any] | None = None,
        exclude: Sequence[Any] = (),
        only: Sequence[Any] | None = None,
    ) -> list[Recommendation]:
        """The k best candidates for each user or history, asked after the end of the log.

        Args:
            users: ids of the log's users; or
            histories: lists of item ids, when they were taken being unknown.
            k: how many.
            candidates: item ids to choose from; None takes a list of the log: the one
                that `situation` names, else for a user the last that they were shown,
                else the last of all.
            exclude_seen: leave out items of the history; None does so unless the log
                has repeats.
            situation: values that name a list (a store and a week, say), and of other
                features of the situation, which then hold for all candidates.
            exclude: item ids that must not be shown.
            only: item ids that may be shown. Here and in `exclude` an id that the model
                does not know is passed over.

        Raises:
            DataError: an unknown user, item or situation; ValueError: k below 1, or
                neither or both of users and histories.
        """
        if k < 1 or (users is None) == (histories is None):
            raise ValueError(
                f"give either users= or histories=, and k of at least 1 (k={k})"
            )
        rows = (
            self.split.users.encode(users).astype(np.int64) - 1
            if users is not None
            else None
        )
        pasts = [self.split.items.encode(history) for history in histories or []]
        hidden = torch.from_numpy(self.split.items.known(exclude))
        shown = None if only is None else torch.from_numpy(self.split.items.known(only))
        found = []
        for number in range(len(rows) if rows is not None else len(pasts)):
            batch = self._asked(
                -1 if rows is None else int(rows[number]),
                pasts[number : number + 1],
                candidates,
                situation,
            )
            with torch.no_grad(), evaluating(self):
                scores = self.scores(batch).float().cpu()
            if (
                exclude_seen
                if exclude_seen is not None
                else self.split.test.exclude_seen
            ):
                seen = torch.isin(batch.candidates_BN, batch.items_BT).cpu()
                scores = scores.masked_fill(seen, -torch.inf)
            asked_BN = batch.candidates_BN.cpu()
            scores = scores.masked_fill(torch.isin(asked_BN, hidden), -torch.inf)
            if shown is not None:
                scores = scores.masked_fill(~torch.isin(asked_BN, shown), -torch.inf)
            values, columns = top_k(scores, min(k, scores.shape[1]))
            kept = values[0] > -torch.inf
            ids = self.split.items.decode(
                batch.candidates_BN.cpu().numpy()[0, columns[0][kept]]
            )
            found.append(Recommendation(ids.tolist(), values[0][kept].tolist()))
        return found

    def _asked(
        self,
        user: int,
        past: list[np.ndarray],
        candidates: Sequence[Any] | None,
        situation: Mapping[str, Any] | None,
    ) -> SlateBatch:
        """The batch of one question asked after the end of the log."""
        slates, told = self.split.slates, dict(situation or {})
        assert slates is not None
        names = [feature.name for feature in self.features.situation]
        for name in told:
            if name not in names and name not in slates.situation:
                raise DataError(
                    f"unknown situation '{name}': the model reads {', '.join(names)}"
                )
        which = self._list_for(slates, user, told)
        places = np.arange(*slates.offsets[which : which + 2])[None]
        if candidates is not None:
            wanted = self.split.items.encode(candidates)
            at = {
                item: place
                for place, item in zip(places[0], slates.items[places[0]], strict=True)
            }
            places = np.array([[at.get(item, -1) for item in wanted]])
            items = wanted[None]
        else:
            items = slates.items[places]
        now = np.array(
            [
                [
                    int(
                        max(
                            slates.histories.times.max(initial=0),
                            slates.times.max(initial=0),
                        )
                    )
                    + 1
                ]
            ]
        )
        codes = Situations(self.features.situation, slates)(
            np.array([[which]]), np.maximum(places, 0), items, now
        )
        for feature in self.features.situation:
            column = codes[feature.name]
            if (
                feature.name in slates.shown
            ):  # a candidate that the list lacks was shown nowhere that we know
                column = torch.where(
                    torch.from_numpy(places < 0),
                    torch.from_numpy(feature.encode([None])),
                    column,
                )
            if feature.name in told:
                column = torch.from_numpy(feature.encode([told[feature.name]])).expand(
                    column.shape
                )
            codes[feature.name] = column
        if user >= 0:
            stop = slates.histories.lengths[[user]]
            whole = slates.known(np.array([user]), stop, now[0], ALL)
        else:
            whole = _undated(past[0])
        return slate_batch(
            slates, whole, self.config.length, np.array([user]), items, now, codes
        ).to(self.device)

    def _list_for(self, slates: Moments, user: int, told: Mapping[str, Any]) -> int:
        """The list that a situation names, else the user's last, else the last."""
        fits = np.ones(len(slates.situation), bool)
        for name in slates.situation.columns.intersection(list(told)):
            fits &= slates.situation[name].astype("str").to_numpy() == str(told[name])
        if not fits.any():
            raise DataError(
                f"no slate of {self.split.name} has the situation {dict(told)}; name"
                " another, or none"
            )
        shown = np.flatnonzero(fits[slates.lists])
        own = shown[slates.users[shown] == user]
        return int(slates.lists[(own if len(own) else shown)[-1]])

    @torch.no_grad()
    def attention(
        self, slates: Moments, row: int, candidates: Sequence[Any]
    ) -> pd.DataFrame:
        """What candidates of a slate look at in the past of its user, labelled.

        Args:
            slates: such as `split.test.slates`.
            row: which of them.
            candidates: item ids, of the slate's list.

        Returns:
            columns head, candidate, item (a past item's id, None for "nothing of the
            past"), count (how often it was taken), days (since it was last taken) and
            weight; weights of a head and candidate sum to 1.

        Raises:
            DataError: a candidate is not in the list.
        """
        items = slates.items[slates.list_of(row)]
        wanted = self.split.items.encode(candidates)
        if missing := [
            c for c, item in zip(candidates, wanted, strict=True) if item not in items
        ]:
            raise DataError(
                f"{missing[0]} is not among the {len(items)} candidates of slate {row};"
                " choose one of them"
            )
        with evaluating(self):
            weights_HNK = self.attended(
                self._windows(slates).whole(row), need_weights=True
            )[2][0][0].cpu()
        at = [int(np.flatnonzero(items == item)[0]) for item in wanted]
        of = slice(row, row + 1)
        known = slates.known(
            slates.users[of], slates.stops[of], slates.times[of], self.config.length
        )
        past = known.items[0][known.items[0] > 0]
        head, candidate, place = (
            axis.ravel()
            for axis in np.indices((len(weights_HNK), len(at), 1 + len(past)))
        )
        names = np.array([None, *self.split.items.decode(past).tolist()], object)
        return pd.DataFrame(
            {
                "head": head,
                "candidate": np.array(list(candidates), object)[candidate],
                "item": names[place],
                "count": np.append(0, known.counts[0, : len(past)])[place],
                "days": np.append(0, known.ages[0, : len(past)] / DAY)[place],
                "weight": weights_HNK[:, at, : 1 + len(past)].numpy().ravel(),
            }
        )


def _undated(past: np.ndarray) -> Known:
    """A list of items as what is known of a user, when each was taken being unknown."""
    newest = past[::-1]
    items, first, counts = np.unique(newest, return_index=True, return_counts=True)
    order = np.argsort(-first)
    if len(order) == 0:
        return Known(
            np.zeros((1, 0), np.int32),
            np.zeros((1, 0), np.int64),
            np.zeros((1, 0), np.int64),
        )
    return Known(
        items[order][None].astype(np.int32),
        counts[order][None],
        np.full((1, len(order)), -1),
    )
