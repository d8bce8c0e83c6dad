"""What one asks of a trained recommender: recommendations, similar items, attention weights, erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from attncore.inspection import attention_frame, erasure_frame
from attncore.ranking import top_k
from attncore.sequences import Histories
from attncore.splits import Split
from attncore.tables import FeatureSet

if TYPE_CHECKING:
    from attncore.recommender import Recommender


@dataclass(frozen=True)
class Recommendation:
    """Items for one user, best first: the log's own ids, and their scores."""

    items: list[Any]
    scores: list[float]


class Answering(nn.Module):
    """The part of a `Recommender` that answers questions; it needs no more of it than `score` and its split."""

    split: Split
    features: FeatureSet

    def score(
        self, histories: Histories, users: np.ndarray | None = None, situation: Mapping[str, Any] | None = None
    ) -> torch.Tensor:
        """Scores of the whole catalogue after each history; see `Recommender.score`."""
        raise NotImplementedError

    def recommend(
        self,
        users: Sequence[Any] | None = None,
        histories: Sequence[Sequence[Any]] | Histories | None = None,
        k: int = 10,
        candidates: Sequence[Any] | None = None,
        exclude_seen: bool | None = None,
        situation: Mapping[str, Any] | None = None,
    ) -> list[Recommendation]:
        """The k best next items for each user or history; fewer where fewer candidates are left.

        Args:
            users: ids of the log's users; their whole history counts, held-out events included.
            histories: lists of item ids, oldest first, instead of users; or `Histories`, which have times too.
            k: how many items.
            candidates: item ids to choose from; None is the whole catalogue.
            exclude_seen: leave out items of the history; None does so unless the log has repeats.
            situation: values of situation features, by column, that hold for all; what is absent is unknown. Values
                of user features describe who asks, in place of the table of users.

        Raises:
            DataError: an unknown user, item or situation feature; ValueError: k below 1, or neither or both of users
                and histories.
        """
        if k < 1:
            raise ValueError(f"k={k}: must be at least 1")
        asked, rows = self._asked(users, histories)
        told = self.features.situation_columns(situation, len(asked))
        return self.best(asked, rows, k, candidates, exclude_seen, told)

    def best(
        self,
        asked: Histories,
        rows: np.ndarray | None = None,
        k: int = 10,
        candidates: Sequence[Any] | None = None,
        exclude_seen: bool | None = None,
        situation: Mapping[str, Any] | None = None,
    ) -> list[Recommendation]:
        """`recommend` for histories, user rows and columns of the situation as `score` takes them."""
        scores = self.score(asked, rows, situation)
        if exclude_seen is None:
            exclude_seen = self.split.test.exclude_seen
        if exclude_seen:
            row = np.repeat(np.arange(len(asked)), asked.lengths)
            scores[torch.from_numpy(row), torch.from_numpy(asked.items.astype(np.int64) - 1)] = -torch.inf
        if candidates is not None:
            outside = torch.ones(scores.shape[1], dtype=torch.bool)
            outside[torch.from_numpy(self.split.items.encode(candidates).astype(np.int64) - 1)] = False
            scores[:, outside] = -torch.inf
        values, index = top_k(scores, min(k, scores.shape[1]))
        ids = self.split.items.decode(index.cpu().numpy() + 1)
        found = (values > -torch.inf).sum(1).tolist()
        return [
            Recommendation(row_ids[:n].tolist(), row_values[:n].tolist())
            for row_ids, row_values, n in zip(ids, values.cpu().numpy().astype(float), found, strict=True)
        ]

    def similar_items(self, items: Sequence[Any], k: int = 10) -> list[Recommendation]:
        """The k items whose vectors have the highest cosine with each given item's, itself left out."""
        index = torch.from_numpy(self.split.items.encode(items).astype(np.int64) - 1)
        with torch.no_grad():
            unit = nn.functional.normalize(cast("Recommender", self).item.catalogue(), dim=-1)
            cosine = unit[index] @ unit.T
            cosine[torch.arange(len(index)), index] = -torch.inf
            values, found = top_k(cosine, min(k, cosine.shape[1] - 1))
        ids = self.split.items.decode(found.cpu().numpy() + 1)
        return [Recommendation(i.tolist(), v.tolist()) for i, v in zip(ids, values.cpu().numpy(), strict=True)]

    def _asked(
        self, users: Sequence[Any] | None, histories: Sequence[Sequence[Any]] | Histories | None
    ) -> tuple[Histories, np.ndarray | None]:
        """Histories as indices, and user rows where users were named."""
        if (users is None) == (histories is None):
            raise ValueError("give either users= or histories=")
        if users is not None:
            rows = self.split.users.encode(users).astype(np.int64) - 1
            return self.split.histories.take(rows), rows
        assert histories is not None
        if isinstance(histories, Histories):  # indices already, with times and attributes
            return histories, None
        return Histories.from_lists([self.split.items.encode(history) for history in histories]), None

    def attention(
        self,
        histories: Sequence[Sequence[Any]] | Histories | None = None,
        candidates: Sequence[Any] | None = None,
        users: Sequence[Any] | None = None,
        every_query: bool = False,
        situation: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Attention weights, labelled: one row per history, layer, head, query and event.

        They are the weights before dropout; for one history, layer, head and query they sum to 1. All kinds but
        "target" have one query for the next item, which all recommended items share; its label is "next".

        Args:
            histories: lists of item ids, oldest first; or `Histories`.
            candidates: "target" only: the item ids that ask; None takes the ten best recommended.
            users: ids of the log's users, instead of histories.
            every_query: give the rows of all positions, labelled 0, 1, … by position, not of the last alone.
            situation: as for `recommend`; it matters to "target".

        Returns:
            columns history, layer, head, query, event (place in the history), item (its id), weight.
        """
        asked, rows = self._asked(users, histories)
        told = self.features.situation_columns(situation, len(asked))
        return attention_frame(cast("Recommender", self), asked, candidates, every_query, rows, told)

    def erasure(
        self,
        histories: Sequence[Sequence[Any]] | Histories | None = None,
        candidates: Sequence[Any] | None = None,
        users: Sequence[Any] | None = None,
        situation: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """How much each candidate's score falls when one event is taken out of the history.

        Args:
            histories: lists of item ids, oldest first; or `Histories`.
            candidates: item ids whose scores are watched; None takes the ten best recommended.
            users: ids of the log's users, instead of histories.
            situation: as for `recommend`.

        Returns:
            columns history, candidate, event (place in the history), item (its id), drop (score with the event
            minus score without; above 0 the event spoke for the candidate).
        """
        asked, rows = self._asked(users, histories)
        told = self.features.situation_columns(situation, len(asked))
        return erasure_frame(cast("Recommender", self), asked, candidates, rows, told)
