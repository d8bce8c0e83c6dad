"""How good is a ranking, of the full catalogue or of the slates that were shown?

Every question is ranked against the whole catalogue, never a sample. Equal scores are
scored in expectation over random order: how a sort breaks ties never matters, and a
constant scorer earns k over the number of candidates.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from attncore.distributed import Group
from attncore.errors import DataError
from attncore.sequences import Histories
from attncore.splits import Holdout, Split

MANY = 0.1  # a larger share of hidden targets is told
ORDER = ("new", "light", "heavy", "head", "tail")  # of segments

logger = logging.getLogger(__name__)


class Scorer(Protocol):
    """Whatever can be evaluated: every baseline and every model."""

    def score(self, histories: Histories, users: np.ndarray | None = None) -> Tensor:
        """Scores of the whole catalogue, (rows, V).

        Column j belongs to item index j + 1. A scorer with a true `reads_situation` is
        also given `situation`: the target events' attributes by name.
        """


def ranks(
    scores: Tensor, targets: Tensor, excluded: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Count the candidates above each target and those level with it.

    Args:
        scores: (rows, V), compared in float32, whatever their type.
        targets: (rows,) item indices 1..V.
        excluded: (rows, V), True where an item is no candidate; a target always is one.

    Returns:
        above and tied, int64 (rows,); tied counts the target itself, so it is at least
        1.
    """
    scores, column = scores.float(), targets.long()[:, None] - 1
    wanted = scores.gather(1, column)
    higher, level = scores > wanted, scores == wanted
    if excluded is not None:
        higher, level = higher & ~excluded, level & ~excluded
        level.scatter_(1, column, True)
    return higher.sum(1), level.sum(1)


def rank_metrics(
    above: np.ndarray, tied: np.ndarray, k: int | Sequence[int]
) -> dict[str, np.ndarray]:
    """Turn `ranks` into "hr@k", "ndcg@k" and "mrr", in expectation over ties.

    The target stands at each of the places above + 1 .. above + tied with equal chance.
    One relevant item makes the ideal DCG 1, so ndcg@k is 1 / log2(1 + place) within k
    places.
    """
    last = above + tied
    place = np.arange(1, last.max(initial=0) + 1)
    # Gain[n]: the first n places together.
    gain = np.concatenate(([0.0], np.cumsum(1 / np.log2(1 + place))))
    reciprocal = np.concatenate(([0.0], np.cumsum(1 / place)))
    metrics = {f"hr@{c}": np.clip((c - above) / tied, 0.0, 1.0) for c in _cutoffs(k)}
    for c in _cutoffs(k):
        gained = gain[np.minimum(last, c)] - gain[np.minimum(above, c)]
        metrics[f"ndcg@{c}"] = gained / tied
    return metrics | {"mrr": (reciprocal[last] - reciprocal[above]) / tied}


def pooled_auc(scores: np.ndarray, clicked: np.ndarray) -> float:
    """How often a clicked candidate scores above another, in all slates together.

    Args:
        scores: of all candidates.
        clicked: True where one was clicked.
    """
    others, wanted = np.sort(scores[~clicked]), scores[clicked]
    below = np.searchsorted(others, wanted, side="left")
    level = np.searchsorted(others, wanted, side="right")
    return float((below + level).mean() / 2 / len(others))


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest scores of each row, best first, equal ones by their column.

    `torch.topk` alone returns ties in any order
    and, at the k-th place, any of the tied columns.

    Args:
        scores: (rows, V), without NaN.
        k: how many; a smaller catalogue gives V of them.

    Returns:
        values and int64 columns, both (rows, min(k, V)).
    """
    if scores.ndim != 2 or k < 1:
        raise ValueError(f"top_k takes (rows, V), k >= 1, not {scores.shape}, {k}")
    items, k, block = scores.shape[1], min(k, scores.shape[1]), 128
    # No item of the top k lies outside the k blocks with the highest maxima.
    if items > 4 * k * block:
        whole = items - items % block
        highest = scores[:, :whole].unflatten(1, (-1, block)).amax(2)
        if whole < items:
            highest = torch.cat([highest, scores[:, whole:].amax(1, keepdim=True)], 1)
        blocks = top_k(highest, k)[1].sort(dim=1).values
        column = torch.arange(block, device=scores.device)
        within = (blocks[:, :, None] * block + column).flatten(1)
        candidates = scores.gather(1, within.clamp(max=items - 1))
        candidates.masked_fill_(within >= items, -torch.inf)
        values, place = top_k(candidates, k)
        return values, within.gather(1, place)
    values, columns = scores.topk(k)
    if values.isnan().any():  # topk puts NaN first, so none can hide
        raise ValueError("scores hold NaN; a ranking needs numbers (or -inf)")
    last = values[:, -1:]
    # Places of the list that hold its lowest score.
    level = (values == last).sum(1, keepdim=True)
    # That score also stands outside.
    crowded = ((scores == last).sum(1, keepdim=True) > level).nonzero()[:, 0]
    if len(crowded):
        column = torch.arange(items, device=scores.device)
        tied = torch.where(scores[crowded] == last[crowded], column, items)
        lowest = tied.topk(k, largest=False).values
        place = column[:k] - (k - level[crowded])
        chosen = lowest.gather(1, place.clamp(0))
        columns[crowded] = torch.where(place < 0, columns[crowded], chosen)
    columns = columns.sort(dim=1).values
    values, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def top_k_in_parts(
    score: Callable[[slice], Tensor], items: int, k: int, part: int
) -> tuple[Tensor, Tensor]:
    """`top_k` of scores that are made a part at a time.

    So a large catalogue's scores never exist together.

    Args:
        score: gives the scores (rows, n) of a slice of n columns.
        items: how many columns there are, 1 or more.
        k: how many are wanted.
        part: columns at a time.
    """
    found = []
    for start in range(0, items, part):
        values, columns = top_k(score(slice(start, min(start + part, items))), k)
        found.append((values, columns + start))
    if len(found) == 1:
        return found[0]
    # Parts lie in order of their columns, and so do equal scores within one: `top_k`
    # keeps that order.
    values, place = top_k(torch.cat([values for values, _ in found], 1), k)
    return values, torch.cat([columns for _, columns in found], 1).gather(1, place)


@torch.no_grad()
def evaluate(
    scorer: Any,
    holdout: Holdout,
    k: int | Sequence[int] = (1, 5, 10, 20),
    batch_size: int | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    group: Group | None = None,
) -> Report:
    """Rank the whole catalogue for every question of the holdout.

    What is measured is what is served: where `holdout.exclude_seen`, items anywhere in
    a row's history are no candidates, and a target among them scores 0, as does one
    whose score is -inf; the protocol counts such questions as "targets_hidden". "hr@1"
    is accuracy. "novelty@k" is the mean self-information, in bits, of the k items
    shown: -log2(count / total) in training, where an item never seen counts as seen
    once. "loss", for a scorer whose `scores_are_logits` is true, is the mean -log
    softmax at the target over the whole catalogue, nothing excluded.

    Where the holdout holds slates, each slate is ranked instead, all its candidates,
    with the metrics of `slate_metrics`, "logloss" where scores are logits, and "auc",
    which pools all slates. Per-user figures are then means over the slates of a user,
    in ascending order of user rows.

    Args:
        scorer: what is evaluated; for slates a `SlateScorer`.
        holdout: `split.valid` or `split.test`.
        k: one cutoff or several.
        batch_size: questions ranked at a time, which bounds memory to a few batch_size
            x V floats; None chooses by device and catalogue, see `rows_at_once`.
        bootstrap, seed: resamples for the 95 % intervals (0 leaves them out) and their
            seed.
        group: processes that share the questions, each of which calls this; every one
            gets the whole report. Where `holdout.sharded`, each brings its own
            questions.

    Raises:
        DataError: the holdout's items or users are not those of the scorer's `split`.
        ValueError: an empty holdout, scores of a wrong shape, or NaN among them.
    """
    ways = (getattr(scorer, name, None) for name in ("score", "score_slate"))
    if not any(map(callable, ways)):
        who = type(scorer).__name__
        raise ValueError(f"cannot evaluate a {who}: it has no score(histories, users)")
    if not isinstance(holdout, Holdout):
        found = type(holdout).__name__
        raise ValueError(f"cannot ask a {found}: give split.test or split.valid")
    cutoffs, rows, items = _cutoffs(k), len(holdout), len(holdout.item_counts)
    if batch_size is None:
        batch_size = rows_at_once(items, getattr(scorer, "device", "cpu"))
    if (rows == 0 and not holdout.sharded) or batch_size < 1 or bootstrap < 0:
        raise ValueError(
            f"cannot rank {rows} questions of {holdout.name}, {batch_size} at a time,"
            f" with {bootstrap} resamples"
        )
    holdout.check_made_for(scorer, holdout.name)
    holdout.check_not_trained_on(scorer)
    own = np.arange(rows)
    if group is not None and not holdout.sharded:
        own = group.share(own)
    if holdout.slates is not None:
        return _evaluate_slates(scorer, holdout, own, cutoffs, bootstrap, seed, group)
    batches = [own[at : at + batch_size] for at in range(0, len(own), batch_size)]
    ranked = [_ranked(scorer, holdout, batch, cutoffs) for batch in batches]
    asked = _checksum(holdout)
    if group is not None:
        parts = group.gather((ranked, rows, asked))
        if holdout.sharded:
            firsts = np.cumsum([0, *(count for _, count, _ in parts)])
            for first, (part, *_) in zip(firsts, parts, strict=False):
                for per_row in part:
                    per_row["row"] = per_row["row"] + first
            asked = zlib.crc32(repr([checksum for *_, checksum in parts]).encode())
        ranked = [per_row for part, *_ in parts for per_row in part]
    if not ranked:
        raise ValueError(f"cannot rank {holdout.name}: no process has a question")
    found = {name: np.concatenate([one[name] for one in ranked]) for name in ranked[0]}
    order = np.argsort(found.pop("row"))
    found = {name: figures[order] for name, figures in found.items()}
    lists, hidden = found.pop("lists"), found.pop("hidden")
    counts = np.asarray(holdout.item_counts, np.float64)
    bits = np.log2(max(counts.sum(), 1.0) / np.maximum(counts, 1.0))
    bits, coverage = np.append(0.0, bits), {}  # the first stands for no item
    for c in cutoffs:
        listed = lists[:, :c]
        coverage[f"coverage@{c}"] = (np.unique(np.append(0, listed)).size - 1) / items
        many = np.maximum((listed > 0).sum(1), 1)
        found[f"novelty@{c}"] = bits[listed].sum(1) / many
    how = {"targets_hidden": int(hidden.sum())}
    if bootstrap and hidden.mean() > MANY:
        logger.warning(
            "%s: %d of %d targets are hidden from lists and score 0; if people take"
            " things again, read the log with repeats=True (--repeats)",
            holdout.name,
            hidden.sum(),
            len(hidden),
        )
    report = _report(found, coverage, holdout, asked, bootstrap, seed)
    return replace(report, protocol=report.protocol | how, lists=lists)


def _ranked(
    scorer: Any, holdout: Holdout, rows: np.ndarray, cutoffs: list[int]
) -> dict[str, np.ndarray]:
    """Figures of some questions, their "lists" of item indices, and who is "hidden"."""
    histories, known = holdout.histories.take(rows), {}
    if getattr(scorer, "reads_situation", False):
        asked = holdout.attributes.items()
        known["situation"] = {name: column[rows] for name, column in asked}
    shape, who = (len(rows), len(holdout.item_counts)), type(scorer).__name__
    scores = scorer.score(histories, holdout.users[rows], **known)
    if not isinstance(scores, Tensor) or scores.shape != shape:
        got = f"{type(scores).__name__} of shape {tuple(getattr(scores, 'shape', ()))}"
        raise ValueError(
            f"{who}.score returned a {got}; it must be a tensor of shape {shape}"
        )
    if scores.isnan().any():
        raise ValueError(f"{who}.score returned NaN; a ranking needs numbers (or -inf)")
    scores = scores.float()
    targets_B = torch.as_tensor(holdout.targets[rows], dtype=torch.int64)
    targets_B = targets_B.to(scores.device)
    per_row: dict[str, np.ndarray] = {"row": rows}
    if getattr(scorer, "scores_are_logits", False):
        loss_B = F.cross_entropy(scores, targets_B - 1, reduction="none")
        per_row["loss"] = loss_B.cpu().numpy().astype(np.float64)
    allowed, seen = scores, None
    if holdout.exclude_seen:
        seen = _seen(histories, scores)
        allowed = scores.masked_fill(seen, -torch.inf)
    above, tied = ranks(scores, targets_B, seen)
    metrics = rank_metrics(above.cpu().numpy(), tied.cpu().numpy(), cutoffs)
    hidden = (allowed.gather(1, targets_B[:, None] - 1) == -torch.inf)[:, 0]
    per_row["hidden"] = hidden.cpu().numpy()
    per_row |= {name: x * ~per_row["hidden"] for name, x in metrics.items()}
    values, columns = top_k(allowed, cutoffs[-1])
    lists = (columns + 1).masked_fill_(values == -torch.inf, 0)
    return per_row | {"lists": lists.cpu().numpy().astype(np.int32)}


def _seen(histories: Histories, scores: Tensor) -> Tensor:
    """True where an item stands anywhere in the row's history, (rows, V)."""
    rows, items = scores.shape
    places = np.repeat(np.arange(rows) * items, histories.lengths)
    cells = torch.from_numpy(places + histories.items - 1).to(scores.device)
    seen = torch.zeros(rows, items, dtype=torch.bool, device=scores.device)
    seen.view(-1)[cells] = True
    return seen


def rows_at_once(items: int, device: torch.device | str) -> int:
    """Rows whose scores of the whole catalogue are made together, 1,024 at most.

    They take 32 MiB on a CPU, where larger batches are no faster, and 1 GiB on a GPU.
    What is made of them (ranks, what is hidden, the best) takes some six times as much.
    """
    scores = 2**23 if torch.device(device).type == "cpu" else 2**28
    return min(1024, max(1, scores // max(items, 1)))


def _checksum(holdout: Holdout) -> int:
    asked = np.stack([holdout.users, holdout.targets])
    return zlib.crc32(asked.astype("<i8").tobytes())


def _report(
    per_user: dict[str, np.ndarray],
    others: dict[str, float],
    holdout: Holdout,
    asked: int,
    bootstrap: int,
    seed: int,
) -> Report:
    interval = {}
    if bootstrap:
        figures = np.stack(list(per_user.values()), axis=1)
        bounds = zip(*bootstrap_interval(figures, bootstrap, seed), strict=True)
        pairs = zip(per_user, bounds, strict=True)
        interval = {name: (float(low), float(high)) for name, (low, high) in pairs}
    resampled = {"resamples": bootstrap, "seed": seed}
    how = {"questions": f"{asked:08x}", "bootstrap": resampled}
    means = {name: float(figures.mean()) for name, figures in per_user.items()}
    users, items = len(next(iter(per_user.values()))), len(holdout.item_counts)
    made = users, items, holdout.name, holdout.protocol | how
    return Report(means | others, interval, per_user, *made)


def _evaluate_slates(
    scorer: Any,
    holdout: Holdout,
    own: np.ndarray,
    cutoffs: list[int],
    bootstrap: int,
    seed: int,
    group: Group | None,
) -> Report:
    slates = holdout.slates
    assert slates is not None
    part = own, *slates.figures(scorer, own, cutoffs)
    parts = [part] if group is None else group.gather(part)
    parts = [part for part in parts if len(part[0])]
    rows = np.concatenate([part[0] for part in parts])
    _, user = np.unique(holdout.users[rows], return_inverse=True)
    per_user = {}
    for name in parts[0][1]:
        figures = np.concatenate([part[1][name] for part in parts])
        per_user[name] = np.bincount(user, figures) / np.bincount(user)
    scores, clicked = (np.concatenate([part[at] for part in parts]) for at in (2, 3))
    others, asked = {"auc": pooled_auc(scores, clicked)}, _checksum(holdout)
    return _report(per_user, others, holdout, asked, bootstrap, seed)


def _cutoffs(k: Any) -> list[int]:
    given = list(k) if isinstance(k, Iterable) and not isinstance(k, str) else [k]
    for c in given:
        if isinstance(c, bool) or not isinstance(c, int | np.integer) or c < 1:
            given = []
    if not given:
        raise ValueError(f"k={k!r}: must be one or more whole numbers from 1 up")
    return sorted({int(c) for c in given})


@dataclass(frozen=True, eq=False)
class Report:
    """What one evaluation found."""

    # Means over users; "coverage@k" is the share of the catalogue shown to anyone.
    metrics: dict[str, float]
    # 95 % bootstrap over users, of each per-user metric.
    interval: dict[str, tuple[float, float]]
    per_user: dict[str, np.ndarray]  # float64, an entry per row of the holdout
    users: int  # rows evaluated
    items: int  # size of the catalogue
    split: str  # "valid" or "test"
    # How the questions were made; "questions" is a checksum of which they were.
    protocol: dict[str, Any]
    # Item indices shown to each row, best first, 0 for none; None where slates are.
    lists: np.ndarray | None = None

    def __str__(self) -> str:
        """One line per metric, with its interval."""
        lines = [f"{self.split}: {self.users:,} users, {self.items:,} items"]
        for name, value in self.metrics.items():
            line = f"{name:<12}{value:.4f}"
            if name in self.interval:
                line += " [{:.4f}, {:.4f}]".format(*self.interval[name])
            lines.append(line)
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report as plain Python values, without the per-user figures."""
        kept = ("split", "users", "items", "metrics", "protocol")
        report = {name: getattr(self, name) for name in kept}
        interval = {name: list(bounds) for name, bounds in self.interval.items()}
        return report | {"interval": interval}


Reports = Report | Sequence[Report]  # one, or one per seed


@dataclass(frozen=True)
class Comparison:
    """A paired bootstrap of two scorers over the same users."""

    metric: str
    difference: float  # mean over users of a - b
    interval: tuple[float, float]  # 95 %, of the difference
    # Two-sided: how often resampling moves the difference to the other side of zero.
    p_value: float
    users: int
    seeds: tuple[int, int]  # reports on either side

    def __str__(self) -> str:
        """One line; fewer than three seeds on both sides is called a tendency."""
        (low, high), (a, b) = self.interval, self.seeds
        note = f"{self.users:,} users, {a} against {b} seeds"
        note += ", a tendency" if max(a, b) < 3 else ""
        found = f"{self.difference:+.4f} [{low:+.4f}, {high:+.4f}]"
        return f"{self.metric}: {found}, p = {self.p_value:.4f} ({note})"


def bootstrap_interval(
    values: np.ndarray, resamples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile bootstrap interval of the mean over users (Efron 1979).

    Args:
        values: (users,) or (users, metrics); one draw of users serves all metrics.
        resamples, seed: how often users are drawn anew, with replacement, and what
            makes it repeatable.

    Returns:
        low and high, shaped like `values` without its users.
    """
    means = _resampled_means(values, resamples, seed)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low, high


def by_group(
    report: Report, groups: Sequence[Any], metric: str = "ndcg@10"
) -> dict[Any, tuple[float, float, float]]:
    """A metric's mean and 95 % bootstrap interval for each group of a report's users.

    Args:
        report: what `evaluate` gave.
        groups: the group of each of its users, in the order of `report.per_user`.
        metric: any per-user metric.

    Raises:
        ValueError: no such metric, or not one group per user.
    """
    _has_metric(report, metric)
    if len(groups) != report.users:
        many = f"one group for each of {report.users} users"
        raise ValueError(f"{len(groups)} groups and {metric!r}: need {many}")
    names, found = np.asarray(groups, dtype=object), {}
    for name in sorted(set(groups), key=str):
        figures = report.per_user[metric][names == name]
        low, high = bootstrap_interval(figures)
        found[name] = (float(figures.mean()), float(low), float(high))
    return found


def segments(
    report: Report,
    split: Split,
    metric: str = "ndcg@10",
    few: int = 5,
    head: float = 0.2,
) -> pd.DataFrame:
    """Whom a recommender serves: a metric by kind of user, and by kind of target.

    Users are "new" with fewer than `few` events known when they were asked; of the
    others those up to the median are "light", those above it "heavy". Items are "new"
    when training never shows them, "head" when they are among the share `head` of the
    catalogue that training shows most, else "tail".

    Args:
        report: what `evaluate` found on a part of `split`.
        split: tells what was known of users and items.
        metric: any per-user metric.
        few, head: where new users end, and where the head does.

    Returns:
        a row per segment that has users: columns by ("user" or "item"), segment, users,
        mean, low and high (95 % bootstrap).

    Raises:
        ValueError: the report is of slates or of another split, or has no such metric.
    """
    holdout = _asked(report, split)
    known = holdout.histories.lengths
    median = np.median(known[known >= few]) if (known >= few).any() else few
    of_user = np.where(known > median, "heavy", np.where(known < few, "new", "light"))
    counts = np.asarray(holdout.item_counts)
    last = np.sort(counts)[::-1][max(int(head * len(counts)), 1) - 1]
    often = counts[holdout.targets - 1]
    of_item = np.where(often == 0, "new", np.where(often >= last, "head", "tail"))
    rows = []
    for by, of in ("user", of_user), ("item", of_item):
        found = by_group(report, of.tolist(), metric)
        for name in (name for name in ORDER if name in found):
            rows.append((by, name, int((of == name).sum()), *found[name]))
    return pd.DataFrame(rows, columns=["by", "segment", "users", "mean", "low", "high"])


def list_metrics(report: Report, split: Split, column: str, k: int = 10) -> Report:
    """A report with what its lists are like, by a column of the table of items.

    "diversity@k" is the mean over the pairs of a list of 1 - the share of categories
    that the two have in common (Jaccard), from 0 (all alike) to 1; "calibration@k" is
    the divergence of the list's mix of categories from that of the history, 0 where
    they are alike, in nats, and less is better. Items without a category do not count;
    a figure that none is left for is 0. Both can be compared like any other metric.

    Args:
        report: what `evaluate` found on a part of `split`, with a `k` as large.
        split: with the log, whose table of items has the column.
        column: categories, one or several an item.
        k: how many items of each list.

    Raises:
        DataError: no table of items, or no such column; ValueError: the report is of
            slates or of another split, or its lists are shorter than `k`.

    Source: Ziegler et al. 2005 for diversity inside a list; Steck 2018, eq. 3 and 4,
    for calibration (smoothed by .01).
    """
    holdout = _asked(report, split)
    assert report.lists is not None
    length = report.lists.shape[1]
    if length < min(k, report.items):
        raise ValueError(f"k={k}: the report's lists have {length} items")
    has = _categories(split, column)
    share = has / np.maximum(has.sum(1, keepdims=True), 1)
    diversity, calibration = np.zeros((2, report.users))
    for row, listed in enumerate(report.lists[:, :k]):
        shown = listed[has[listed].any(1)]
        own = has[shown]
        common, size = own @ own.T, own.sum(1)
        if len(shown) > 1:
            alike = common / (size[:, None] + size - common)
            above = np.triu_indices(len(shown), 1)
            diversity[row] = 1 - alike[above].mean()
        past = share[holdout.histories[row]].sum(0)
        if len(shown) and past.any():
            p, q = past / past.sum(), share[shown].sum(0) / len(shown)
            mixed, there = 0.99 * q + 0.01 * p, p > 0
            calibration[row] = (p[there] * np.log(p[there] / mixed[there])).sum()
    more = {f"diversity@{k}": diversity, f"calibration@{k}": calibration}
    bounds = zip(*bootstrap_interval(np.stack([*more.values()], axis=1)), strict=True)
    pairs = zip(more, bounds, strict=True)
    interval = {name: (float(low), float(high)) for name, (low, high) in pairs}
    return replace(
        report,
        metrics=report.metrics | {name: float(x.mean()) for name, x in more.items()},
        interval=report.interval | interval,
        per_user=report.per_user | more,
    )


def _categories(split: Split, column: str) -> np.ndarray:
    """1.0 where an item, by its index, has a category, (V + 1, categories)."""
    table = None if split.log is None else split.log.items
    if table is None or column not in table:
        held = "no table of items" if table is None else f"no column '{column}'"
        raise DataError(f"{split.name}: {held}; load the log with items= that has one")
    values = table[column].reindex(split.items.ids).reset_index(drop=True)
    kept = values.map(lambda x: x.split("|") if isinstance(x, str) else x).explode()
    kept = kept.dropna()
    codes, categories = pd.factorize(kept)
    has = np.zeros((len(values) + 1, len(categories)))
    has[kept.index + 1, codes] = 1
    return has


def _asked(report: Report, split: Split) -> Holdout:
    """The part of a split that a report is of."""
    if not isinstance(split, Split) or not isinstance(report, Report):
        raise ValueError("give a report of evaluate, and the split that it is of")
    holdout = split.valid if report.split == "valid" else split.test
    if report.lists is None:
        raise ValueError("a report of slates has no lists of the catalogue")
    if report.protocol["questions"] != f"{_checksum(holdout):08x}":
        raise ValueError(f"the report answers other questions than {split.name}'s")
    return holdout


def compare(
    a: Reports,
    b: Reports,
    metric: str = "ndcg@10",
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Is a better than b? Paired bootstrap over users of the difference a - b.

    Args:
        a, b: a report, or the reports of several seeds, averaged for each user first.
        metric: any per-user metric of the reports.
        resamples, seed: of the bootstrap; p is never below 2 / (resamples + 1).

    Raises:
        ValueError: no such metric, or reports that answer different questions.
    """
    sides = [[side] if isinstance(side, Report) else side for side in (a, b)]
    for side in sides:
        if not (isinstance(side, list | tuple) and side):
            raise ValueError("compare needs at least one report on either side")
    first = sides[0][0]
    for report in [*sides[0], *sides[1]]:
        _has_metric(report, metric)
        if _questions(report) != _questions(first):
            pair = [f"{r.split} of {r.users:,} users" for r in (first, report)]
            raise ValueError(
                f"reports answer different questions ({' and '.join(pair)}); evaluate"
                " both on one holdout"
            )
    each = [np.mean([one.per_user[metric] for one in side], axis=0) for side in sides]
    difference = each[0] - each[1]
    means = _resampled_means(difference, resamples, seed)
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    tail = int(min((means <= 0).sum(), (means >= 0).sum())) + 1
    p_value = min(1.0, 2 * tail / (resamples + 1))
    seeds = len(sides[0]), len(sides[1])
    mean = float(difference.mean())
    return Comparison(metric, mean, (low, high), p_value, first.users, seeds)


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of `values` over users drawn with replacement, (resamples, ...)."""
    users = len(values)
    if users == 0 or resamples < 1:
        many = f"{users} users, {resamples} times"
        raise ValueError(f"a bootstrap of {many}; both must be 1 or more")
    # PyTorch multiplies, since NumPy's own threads would wait for PyTorch's, which are
    # still spinning.
    figures = torch.as_tensor(values, dtype=torch.float64)
    generator, means = np.random.default_rng(seed), []
    at_once = max(1, 200_000 // users)  # resamples whose counts fit a cache
    for start in range(0, resamples, at_once):
        row = np.arange(min(at_once, resamples - start))[:, None]
        drawn = generator.integers(users, size=(len(row), users)) + row * users
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        means.append(torch.from_numpy(times).double() @ figures / users)
    return torch.cat(means).numpy()


def _questions(report: Report) -> tuple[Any, ...]:
    own = ("bootstrap", "targets_hidden")  # of the scorer, not of the questions
    kept = {name: x for name, x in report.protocol.items() if name not in own}
    return report.split, report.users, report.items, kept


def _has_metric(report: Any, metric: str) -> None:
    if not isinstance(report, Report):
        raise ValueError(f"a {type(report).__name__} is no report; see evaluate")
    if metric not in report.per_user:
        names = ", ".join(report.per_user)
        raise ValueError(f"no per-user metric {metric!r} in a report; it has {names}")
