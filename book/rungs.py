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
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attncore.evaluation import bootstrap_interval

RESULTS = Path(__file__).resolve().parent.parent / "tests" / "bench" / "results"


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
    sides = [load(data, name, folder, how) for name in (recipe, before)]
    key = split if metric == "ndcg@10" else f"{split}_{metric}"
    means = [
        np.mean([np.load(folder / run["per_user"])[key] for run in runs], axis=0)
        for runs in sides
    ]
    difference = means[0] - means[1]
    low, high = bootstrap_interval(difference, resamples=10_000)
    return Step(
        float(difference.mean()),
        float(low),
        float(high),
        max(len(runs) for runs in sides),
    )
