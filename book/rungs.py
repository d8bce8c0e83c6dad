"""The rungs of the ladder: what finished runs measured, read from their JSON. Beside
the notebooks, for them.

Every run is one file in tests/bench/results, made by tests/bench/quality.py: {"data",
"split", "recipe", "seed", "kind", "config", "seconds", "valid": {"metrics",
"interval"}, "test": {"metrics", "interval"}, "per_user": file}; the file holds each
user's NDCG@10 in two arrays, "valid" and "test", in one order for all runs of a data
set and split.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import ladder as drawn
import numpy as np
import pandas as pd
from widget import Widget

from attncore.evaluation import Report, Reports, bootstrap_interval, compare

RESULTS = Path(__file__).resolve().parent.parent / "tests" / "bench" / "results"

# The rungs of the book on each log: recipes, and what the pages call them.
LADDERS = {
    "ml-100k": {
        "popularity": "popularity",
        "mean": "mean of the history",
        "target": "target attention",
        "lstm-classic": "the classic LSTM",
        "self": "self-attention",
        "markov-chain": "Markov chain",
        "markov-chain-normalized": "normalized chain",
        "small": "recipe small",
    },
    "complete-journey": {
        "popular-this-week": "popular this week",
        "personal-habit": "personal habit",
        "logistic-regression": "logistic regression",
        "mean": "mean of the past",
        "target": "target attention",
    },
    "bookshop": {
        "popularity": "popularity",
        "markov-chain": "Markov chain",
        "self": "self-attention",
        "self-table": "… with table of books",
    },
}
# How the runs of a log were split, and what its users are called.
SPLITS = {"complete-journey": "time", "bookshop": "time"}
CALLED = {
    "ml-100k": "MovieLens-100K",
    "complete-journey": "Complete Journey",
    "bookshop": "the bookshop",
}


@dataclass(frozen=True)
class Rung:
    """One recipe on one data set: the mean over its seeds, and the mean of its 95 %
    bootstrap intervals."""

    recipe: str
    value: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class Step:
    """From one rung to another: the difference in NDCG@10, compared user by user, with
    its 95 % interval."""

    value: float
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> str:
        """Where the first stands: "above", "below", or "level" when the interval holds
        0."""
        return "above" if self.low > 0 else "below" if self.high < 0 else "level"

    @property
    def words(self) -> str:
        """The verdict as it can stand in a sentence: "X is … Y"."""
        figures = (
            f"a difference of {self.value:+.4f}, 95 % interval {self.low:+.4f} to"
            f" {self.high:+.4f}"
        )
        if self.verdict == "level":
            return f"not to be told from ({figures})"
        tendency = "" if self.seeds >= 3 else "tends to be "
        return f"{tendency}{self.verdict} ({figures})"


def load(
    data: str, recipe: str, folder: Path = RESULTS, how: str = "leave-one-out"
) -> list[dict[str, Any]]:
    """The finished runs of one recipe on one data set, split in one way, by seed."""
    runs = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob(f"{data}-*.json"))
    ]
    runs = [
        run
        for run in runs
        if (run["data"], run["recipe"], run["split"]) == (data, recipe, how)
    ]
    if not runs:
        raise LookupError(
            f"no run of {recipe!r} on {data} in {folder.name}/; tests/bench/quality.py"
            " makes them"
        )
    return sorted(runs, key=lambda run: run["seed"])


def rung(
    data: str,
    recipe: str,
    metric: str = "ndcg@10",
    split: str = "test",
    folder: Path = RESULTS,
    how: str = "leave-one-out",
) -> Rung:
    """What a recipe reaches on a data set that was split in one way: a metric of "test"
    or "valid"."""
    reports = [run[split] for run in load(data, recipe, folder, how)]
    columns = [
        (report["metrics"][metric], *report["interval"][metric]) for report in reports
    ]
    value, low, high = (
        sum(column) / len(reports) for column in zip(*columns, strict=True)
    )
    return Rung(recipe, value, low, high, len(reports))


def table(
    data: str,
    recipes: Mapping[str, str] | Sequence[str],
    metrics: Sequence[str] = ("ndcg@10", "hr@10"),
    split: str = "test",
    folder: Path = RESULTS,
    how: str = "leave-one-out",
) -> pd.DataFrame:
    """A row for each recipe, a column for each metric, as text: the value and its
    interval.

    `recipes` are names, or a mapping from names to what the rows are called.
    """
    names = (
        recipes if isinstance(recipes, Mapping) else {name: name for name in recipes}
    )
    rows = {}
    for recipe, called in names.items():
        found = [rung(data, recipe, metric, split, folder, how) for metric in metrics]
        rows[called] = {
            metric: str(one) for metric, one in zip(metrics, found, strict=True)
        }
        rows[called]["seeds"] = str(found[0].seeds)
    return pd.DataFrame.from_dict(rows, orient="index")


def step(
    data: str,
    recipe: str,
    before: str,
    split: str = "test",
    folder: Path = RESULTS,
    how: str = "leave-one-out",
    metric: str = "ndcg@10",
) -> Step:
    """How far `recipe` stands above `before` in NDCG@10, or in "gauc" of slates: a
    paired bootstrap over users.

    Each user's figure is first averaged over seeds. `seeds` is the larger number of the
    two, since a baseline that only counts has no need of more than one.
    """
    runs = [load(data, name, folder, how) for name in (recipe, before)]
    means = [_per_user(side, metric, split, folder) for side in runs]
    difference = means[0] - means[1]
    low, high = bootstrap_interval(difference, resamples=10_000)
    return Step(
        float(difference.mean()),
        float(low),
        float(high),
        max(map(len, runs)),
    )


def _per_user(
    runs: Sequence[Mapping[str, Any]], metric: str, split: str, folder: Path
) -> np.ndarray:
    """What each user's figure is in the mean over seeds."""
    key = split if metric == "ndcg@10" else f"{split}_{metric}"
    return np.mean([np.load(folder / run["per_user"])[key] for run in runs], axis=0)


def ladder(
    lit: Sequence[str] = (),
    *,
    data: str = "ml-100k",
    names: Mapping[str, str] | None = None,
    metric: str = "ndcg@10",
    split: str = "test",
    folder: Path = RESULTS,
    how: str | None = None,
    caption: str = "",
    name: str = "",
) -> Widget:
    """All rungs of the book in one picture, from the finished runs of a log.

    Args:
        lit: recipes of the chapter's step, from and to, or of one rung; they are drawn
            even if the book's ladder does not have them.
        data: the log.
        names: other recipes than `LADDERS[data]`, by what the page calls them.
        metric: "ndcg@10", or "gauc" of slates.
        split: "test" or "valid".
        folder: where the runs lie.
        how: how the log was split; None for the way of the book.
        caption, name: of a numbered figure.

    Raises:
        LookupError: there is no run of a recipe.
    """
    how = how or SPLITS.get(data, "leave-one-out")
    called = dict(names or LADDERS[data])
    for recipe in lit:
        called.setdefault(recipe, recipe)
    stands, users = [], {}
    for recipe, label in called.items():
        found = rung(data, recipe, metric, split, folder, how)
        runs = load(data, recipe, folder, how)
        seeds = [run[split]["metrics"][metric] for run in runs]
        counted = runs[0]["kind"] == "baseline"
        stands.append(drawn.Stand(label, seeds, (found.low, found.high), counted))
        users[label] = _per_user(runs, metric, split, folder)
    two = list(combinations(users, 2))
    # One draw of users serves all pairs: the intervals are those of `step`.
    apart = np.stack([users[one] - users[other] for one, other in two], axis=1)
    ends = np.transpose(bootstrap_interval(apart, resamples=10_000))
    pairs = {
        pair: (float(column.mean()), *map(float, bounds))
        for pair, column, bounds in zip(two, apart.T, ends, strict=True)
    }
    return drawn.ladder(
        stands,
        pairs,
        lit=[called[recipe] for recipe in lit],
        metric=metric.upper(),
        where=f"{CALLED.get(data, data)}, {split}",
        caption=caption,
        name=name,
    )


def ladder_of(
    measured: Mapping[str, Reports | Sequence[np.ndarray] | Sequence[float]],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    *,
    lit: Sequence[str] = (),
    counted: Sequence[str] = (),
    metric: str = "ndcg@10",
    where: str = "",
    caption: str = "",
    name: str = "",
) -> Widget:
    """A ladder of what a page has measured itself.

    Args:
        measured: by name a report, the reports of several seeds, for each seed an array
            with a figure for each question, or the figure of each seed. Reports and
            arrays of the same questions are compared one by one; of mere figures only
            the difference can be said.
        intervals: 95 % intervals by name, for figures.
        counted: names of those that only count, and need no seeds to be sure.
        lit, metric, where, caption, name: as in `ladder`; `lit` has names.
    """
    reports = {
        one: [found] if isinstance(found, Report) else list(found)
        for one, found in measured.items()
    }
    reports = {one: list_ for one, list_ in reports.items() if _reported(list_)}
    single = {  # a figure for each question, the mean of all seeds
        one: np.mean(found, axis=0)
        for one, found in measured.items()
        if one not in reports and np.ndim(found[0]) == 1
    }
    stands = []
    for one, found in measured.items():
        if one in single:
            seeds = [float(np.mean(figures)) for figures in found]
            low, high = bootstrap_interval(single[one])
            interval = float(low), float(high)
        elif one in reports:
            seeds = [report.metrics[metric] for report in reports[one]]
            ends = [report.interval[metric] for report in reports[one]]
            interval = tuple(np.mean(ends, axis=0).tolist())
        else:
            seeds, interval = list(found), (intervals or {}).get(one)
        stands.append(drawn.Stand(one, seeds, interval, one in counted))
    pairs = {}
    for one, other in combinations(reports, 2):
        between = compare(reports[one], reports[other], metric)
        pairs[one, other] = (between.difference, *between.interval)
    for one, other in combinations(single, 2):
        gap = single[one] - single[other]
        pairs[one, other] = (float(gap.mean()), *map(float, bootstrap_interval(gap)))
    return drawn.ladder(
        stands,
        pairs,
        lit=lit,
        metric=metric.upper(),
        where=where,
        caption=caption,
        name=name,
    )


def _reported(found: Sequence[Any]) -> bool:
    return all(isinstance(one, Report) for one in found)
