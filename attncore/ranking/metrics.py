"""How good is the ranking of a slate, of all its candidates, never a sample?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def slate_metrics(
    scores: np.ndarray, clicked: np.ndarray, k: Sequence[int]
) -> dict[str, float]:
    """The metrics of one slate, in expectation over the order of equal scores.

    - "ndcg@k": the gain 1 / log2(1 + place) of each clicked candidate within k places,
      over that of the best order.
    - "recall@k": the share of the clicked candidates within k places.
    - "gauc": how often a clicked candidate stands above one that was not clicked; 0.5
      where all were.

    Args:
        scores: (N,), compared in float32.
        clicked: places of the clicked candidates, at least one.
        k: lengths of the list.
    """
    scores = np.asarray(scores, np.float32)
    candidates, wanted = len(scores), scores[clicked]
    ordered = np.sort(scores)
    right = np.searchsorted(ordered, wanted, side="right")
    above, tied = candidates - right, right - np.searchsorted(ordered, wanted)
    # Gain[n]: the first n places together.
    gain = np.append(0.0, np.cumsum(1 / np.log2(np.arange(2, max(k) + 2))))
    metrics = {}
    for c in k:
        here = gain[np.minimum(above + tied, c)] - gain[np.minimum(above, c)]
        metrics[f"ndcg@{c}"] = float((here / tied).sum() / gain[min(c, len(clicked))])
        metrics[f"recall@{c}"] = float(np.clip((c - above) / tied, 0, 1).mean())
    # Of what stands above or level, the clicked ones do not count.
    among = np.sort(wanted)
    up = len(clicked) - np.searchsorted(among, wanted, side="right")
    level = len(clicked) - up - np.searchsorted(among, wanted)
    passed = above - up + (tied - level) / 2
    others = candidates - len(clicked)
    metrics["gauc"] = float(1 - passed.mean() / others) if others else 0.5
    return metrics


def logistic_loss(scores: np.ndarray, clicked: np.ndarray) -> float:
    """The mean over candidates of -log of the probability given to what happened.

    Clicked, or not.
    """
    scores = np.asarray(scores, np.float64)
    return float((np.logaddexp(0, scores).sum() - scores[clicked].sum()) / len(scores))
