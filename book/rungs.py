"""The rungs of the ladder: what finished runs measured, read from their JSON. Beside the notebooks, for them.

Every run is one file in tests/bench/results: {"data", "recipe", "seed", "kind", "config", "seconds",
"valid": {"metrics", "interval"}, "test": {"metrics", "interval"}}.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

RESULTS = Path(__file__).resolve().parent.parent / "tests" / "bench" / "results"


@dataclass(frozen=True)
class Rung:
    """One method on one data set: the mean over its seeds, and the mean of its 95 % bootstrap intervals."""

    recipe: str
    value: float
    low: float
    high: float
    seeds: int
    users: int | None = None

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def load(data: str, recipe: str, folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The finished runs of one recipe on one data set, by seed; ablations are left out."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"{data}-*.json"))]
    runs = [run for run in runs if run["data"] == data and run["recipe"] == recipe and run["kind"] != "ablation"]
    if not runs:
        raise LookupError(f"no run of {recipe!r} on {data} in {folder.name}/; tests/bench/quality.py makes them")
    return sorted(runs, key=lambda run: run["seed"] or 0)


def rung(data: str, recipe: str, metric: str = "ndcg@10", split: str = "test", folder: Path = RESULTS) -> Rung:
    """What a recipe reaches on a data set: a metric of "test" or "valid"."""
    reports = [run[split] for run in load(data, recipe, folder)]
    columns = [(report["metrics"][metric], *report["interval"][metric]) for report in reports]
    value, low, high = (sum(column) / len(reports) for column in zip(*columns, strict=True))
    return Rung(recipe, value, low, high, len(reports), reports[0].get("users"))


def table(
    data: str,
    recipes: Mapping[str, str] | Sequence[str],
    metrics: Sequence[str] = ("ndcg@10", "hr@10"),
    split: str = "test",
    folder: Path = RESULTS,
) -> pd.DataFrame:
    """A row for each recipe, a column for each metric, as text: the value and its interval.

    `recipes` are names, or a mapping from names to what the rows are called.
    """
    names = recipes if isinstance(recipes, Mapping) else {name: name for name in recipes}
    rows = {}
    for recipe, called in names.items():
        found = [rung(data, recipe, metric, split, folder) for metric in metrics]
        rows[called] = {
            **{metric: str(one) for metric, one in zip(metrics, found, strict=True)},
            "seeds": found[0].seeds,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def verdict(a: Rung, b: Rung) -> str:
    """Is a above b? "above", "below", or "level" when the two 95 % intervals overlap.

    Careful rather than sharp: intervals that meet can hide a difference that a comparison user by user would show.
    """
    if a.low > b.high:
        return "above"
    return "below" if a.high < b.low else "level"
