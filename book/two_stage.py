"""Two stages, for large catalogues: a quick scorer proposes, a careful one ranks."""

from __future__ import annotations

import numpy as np
import torch

from attncore.evaluation import Scorer, top_k
from attncore.sequences import Histories


class TwoStage:
    """A `Scorer` made of two: what is not proposed comes after all that is.

    Items anywhere in the history are not proposed where they are no candidates. The
    items that were not proposed keep the first scorer's order below the others, so the
    ranking is complete.

    Args:
        proposes: scores the catalogue; its best items go on.
        ranks: scores those.
        keep: how many are proposed.
        exclude_seen: items of the history are no candidates, as the evaluation has it.

    Source: Covington et al. 2016, whose candidate generation and ranking these are.
    """

    def __init__(
        self,
        proposes: Scorer,
        ranks: Scorer,
        keep: int = 200,
        exclude_seen: bool = True,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep}: must be at least 1")
        self.proposes, self.ranks, self.keep, self.exclude_seen = (
            proposes,
            ranks,
            keep,
            exclude_seen,
        )

    def proposed(
        self, histories: Histories, users: np.ndarray | None = None
    ) -> torch.Tensor:
        """True where an item is proposed, (rows, V)."""
        return self._proposed(histories, self.proposes.score(histories, users))

    def _proposed(self, histories: Histories, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        if self.exclude_seen:
            row = np.repeat(np.arange(len(histories)), histories.lengths)
            scores[
                torch.from_numpy(row),
                torch.from_numpy(histories.items.astype(np.int64) - 1),
            ] = -torch.inf
        columns = top_k(scores, min(self.keep, scores.shape[1]))[1]
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, columns, True)

    def score(
        self, histories: Histories, users: np.ndarray | None = None
    ) -> torch.Tensor:
        """Scores (rows, V): the second scorer's of what is proposed, others below."""
        first = self.proposes.score(histories, users)
        second = self.ranks.score(histories, users).to(first.device)
        proposed = self._proposed(histories, first)
        # The first scorer's scores, moved below the lowest of the second's by their own
        # range.
        below = first - first.amax(1, keepdim=True) + second.amin(1, keepdim=True) - 1
        return torch.where(proposed, second, below)
