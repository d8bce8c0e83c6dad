"""How good is the ranking of a slate? All its candidates are ranked, never a sample of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from attncore.ranking.asof import Moments


class SlateScorer(Protocol):
    """Whatever can rank slates: every baseline and every model.

    Where `scores_are_logits` is true, the sigmoid of a score is the probability that
    the candidate is taken.
    """

    def score_slate(self, slates: Moments, row: int) -> np.ndarray:
        """Scores of a slate's candidates, in the order of its list."""


def slate_metrics(
    scores: np.ndarray, taken: np.ndarray, k: Sequence[int]
) -> dict[str, float]:
    """The metrics of one slate, in expectation over the order of equal scores.

    - "ndcg@k": the gain 1 / log2(1 + place) of each taken candidate within k places,
      over that of the best order.
    - "recall@k": the share of the taken candidates within k places.
    - "gauc": how often a taken candidate stands above one that was not taken; 0.5 where
      all were.

    Args:
        scores: (N,), compared in float32.
        taken: places of the taken candidates, at least one.
        k: lengths of the list.
    """
    scores = np.asarray(scores, np.float32)
    candidates, wanted = len(scores), scores[taken]
    ordered = np.sort(scores)
    right = np.searchsorted(ordered, wanted, side="right")
    above, tied = candidates - right, right - np.searchsorted(ordered, wanted)
    gain = np.append(
        0.0, np.cumsum(1 / np.log2(np.arange(2, max(k) + 2)))
    )  # gain[n]: the first n places together
    metrics = {}
    for c in k:
        here = gain[np.minimum(above + tied, c)] - gain[np.minimum(above, c)]
        metrics[f"ndcg@{c}"] = float((here / tied).sum() / gain[min(c, len(taken))])
        metrics[f"recall@{c}"] = float(np.clip((c - above) / tied, 0, 1).mean())
    among = np.sort(
        wanted
    )  # of what stands above or level, the taken ones do not count
    up = len(taken) - np.searchsorted(among, wanted, side="right")
    level = len(taken) - up - np.searchsorted(among, wanted)
    passed = above - up + (tied - level) / 2
    others = candidates - len(taken)
    metrics["gauc"] = float(1 - passed.mean() / others) if others else 0.5
    return metrics


def logistic_loss(scores: np.ndarray, taken: np.ndarray) -> float:
    """The mean over candidates of -log of the probability given to what happened: taken, or not."""
    scores = np.asarray(scores, np.float64)
    return float((np.logaddexp(0, scores).sum() - scores[taken].sum()) / len(scores))


def pooled_auc(scores: np.ndarray, taken: np.ndarray) -> float:
    """How often a taken candidate has a higher score than one that was not taken, in all slates together.

    Args:
        scores: of all candidates.
        taken: True where one was taken.
    """
    others, wanted = np.sort(scores[~taken]), scores[taken]
    below, level = (
        np.searchsorted(others, wanted, side=side) for side in ("left", "right")
    )
    return float((below + level).mean() / 2 / len(others))


def slate_figures(
    scorer: SlateScorer, slates: Moments, rows: np.ndarray, k: Sequence[int]
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The metrics of several slates, a value per row, with "logloss" where scores are logits.

    Returns:
        the metrics, all scores one after the other, and True where a candidate was
        taken.

    Raises:
        ValueError: scores of a wrong shape, or NaN among them.
    """
    if not hasattr(scorer, "score_slate"):
        raise ValueError(
            f"{type(scorer).__name__} cannot rank slates; give a scorer with a method"
            " score_slate"
        )
    found: dict[str, list[float]] = {}
    every: list[np.ndarray] = []
    marks: list[np.ndarray] = []
    for row in rows.tolist():
        scores = np.asarray(scorer.score_slate(slates, row))
        where, taken = slates.list_of(row), slates.taken_of(row)
        if scores.shape != (where.stop - where.start,) or np.isnan(scores).any():
            what = (
                f"shape {scores.shape}"
                if scores.ndim != 1 or not np.isnan(scores).any()
                else "NaN among them"
            )
            raise ValueError(
                f"{type(scorer).__name__}.score_slate: {where.stop - where.start}"
                f" numbers, not {what}"
            )
        metrics = slate_metrics(scores, taken, k)
        if getattr(scorer, "scores_are_logits", False):
            metrics["logloss"] = logistic_loss(scores, taken)
        for name, value in metrics.items():
            found.setdefault(name, []).append(value)
        every.append(scores.astype(np.float32))
        marks.append(np.zeros(len(scores), bool))
        marks[-1][taken] = True
    empty = np.zeros(0)
    columns = {name: np.array(values) for name, values in found.items()}
    return (
        columns,
        np.concatenate([empty.astype(np.float32), *every]),
        np.concatenate([empty.astype(bool), *marks]),
    )
