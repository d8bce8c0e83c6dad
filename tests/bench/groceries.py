"""Ranking promotions, measured: `python tests/bench/groceries.py [RECIPE ...] [--seeds
0 1 2]`.

Trains each recipe on the slates of Complete Journey for each seed, evaluates validation
and test once, with all candidates of every slate, and keeps every finished run as
`tests/bench/quality.py` does, with two more arrays in its .npz, "valid_gauc" and
"test_gauc", and NDCG@10 by household group beside the metrics. A run that is there
already is not run again, and one that was broken off goes on from its checkpoint in
`runs/quality`. Ends with the table, and with how far target attention stands above
every other recipe, household by household.

What was tried on the way to the recipe is kept in `results/tried_slates.json`: one seed
each, validation alone, the first slate of every household, weights averaged (`--ema
0.995`); "changes" are those against the recipe's command, `python -m attncore train
complete-journey --recipe complete-journey`. Those in words were code that was not kept.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from quality import RESULTS, keep, trained

import attncore as ac
from attncore.evaluation import bootstrap_interval, by_group
from attncore.ranking.asof import DAY, IndexedSlates
from attncore.ranking.baselines import PersonalHabit, PopularLately
from attncore.recipes import RECIPES

DATA = "complete-journey"
CONFIG = RECIPES[DATA].recommender
TRAINING = replace(RECIPES[DATA].training, precision="float32")
MODELS: dict[str, tuple[ac.RankerConfig, ac.TrainingConfig]] = {
    "mean": (replace(CONFIG, attention="mean"), TRAINING),
    "target": (CONFIG, TRAINING),
}


class LogisticRegression:
    """Logistic regression on simple features of candidate, household and moment, by
    scikit-learn.

    Args:
        split: whose training slates are learned from; `slates` of them are drawn by
            `seed`, `others` not-taken candidates from each.
    """

    scores_are_logits = True

    def __init__(
        self, split: ac.Split, seed: int, slates: int = 20_000, others: int = 24
    ) -> None:
        from sklearn.linear_model import LogisticRegression as Regression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        every, rng = split.slates, np.random.default_rng(seed)
        assert every is not None
        assert split.log is not None
        assert split.log.items is not None
        table = split.log.items.reindex(split.items.ids)
        names = (
            "product_type",
            "product_category",
            "department",
            "brand",
            "manufacturer_id",
        )
        self.groups = [
            np.append(0, table[name].astype("category").cat.codes.to_numpy() + 1)
            for name in names
        ]
        self.total = np.append(0, split.item_counts)
        trained = np.flatnonzero(every.times < split.valid.protocol["valid_from"])
        columns, marks, likelier = [], [], []
        for row in rng.choice(
            trained, min(slates, len(trained)), replace=False
        ).tolist():
            taken, where = every.clicked_of(row), every.list_of(row)
            drawn = np.setdiff1d(
                rng.integers(where.stop - where.start, size=others), taken
            )
            columns.append(self._features(every, row, np.concatenate([taken, drawn])))
            marks.append(np.arange(len(taken) + len(drawn)) < len(taken))
            likelier.append(np.log((where.stop - where.start) / others))
        self.model = make_pipeline(StandardScaler(), Regression(C=1.0, max_iter=300))
        self.model.fit(np.concatenate(columns), np.concatenate(marks))
        # Taken ones were drawn so much likelier (King and Zeng 2001)
        self.intercept = float(np.mean(likelier))

    def _features(
        self, slates: IndexedSlates, row: int, places: np.ndarray
    ) -> np.ndarray:
        at = np.arange(
            slates.offsets[slates.lists[row]], slates.offsets[slates.lists[row] + 1]
        )[places]
        items, time = slates.items[at], slates.times[row]
        of = slice(row, row + 1)
        known = slates.known(
            slates.users[of], slates.stops[of], slates.times[of], 10**9
        )
        past, counts, ages = (
            np.append(0, column[0])
            for column in (known.items, known.counts, known.ages)
        )
        order = np.argsort(past)
        found = np.minimum(np.searchsorted(past[order], items), len(past) - 1)
        same = past[order][found] == items
        days = np.where(same, ages[order][found] / DAY, 0)
        columns = [
            same,
            np.log1p(np.where(same, counts[order][found], 0)),
            same * np.log1p(days),
        ]
        columns.append(same * np.log1p(counts[order][found] / (1 + days)))
        for group in self.groups:
            columns.append(
                np.log1p(
                    np.bincount(group[past], counts * (past > 0), group.max() + 1)[
                        group[items]
                    ]
                )
            )
        columns += [
            np.log1p(slates.count_lately(items, time, days)) for days in (7, 28, 90)
        ]
        columns.append(np.log1p(self.total[items]))
        cut = slates.mean_lately("price_cut", items, time, 7)
        columns += [np.isnan(cut), np.nan_to_num(cut)]
        for shown in slates.shown.values():
            columns += list(
                (shown.codes[at][:, None] == np.arange(1, len(shown.categories))).T
            )
        return np.stack(columns, 1).astype(np.float64)

    def score_slate(self, slates: IndexedSlates, row: int) -> np.ndarray:
        """Log-odds of a slate's candidates."""
        every = np.arange(slates.list_of(row).stop - slates.list_of(row).start)
        return (
            self.model.decision_function(self._features(slates, row, every))
            - self.intercept
        )


BASELINES: dict[str, Callable[[ac.Split, int], Any]] = {
    "popular-this-week": lambda split, seed: PopularLately(),
    "personal-habit": lambda split, seed: PersonalHabit(),
    "logistic-regression": LogisticRegression,
}
SEEDED = {"logistic-regression", *MODELS}


def household_groups(split: ac.Split, holdout: Any) -> dict[str, np.ndarray]:
    """Ways to part the households of a holdout, in order of
    `np.unique(holdout.users)`."""
    users = np.unique(holdout.users)
    assert split.log is not None
    assert split.log.users is not None
    about = split.log.users.reindex(split.users.ids[users])
    before = split.train.lengths[users]
    edges = [0, 1, 100, 300, 600]
    names = np.array(
        ["no purchase", "1 to 99", "100 to 299", "300 to 599", "600 or more"]
    )
    told = {
        name: about[name].astype("object").fillna("not told").astype(str).to_numpy()
        for name in about.columns
    }
    return {
        "purchases in training": names[np.searchsorted(edges, before, side="right") - 1]
    } | told


def measure(recipe: str, seed: int, split: ac.Split) -> dict[str, Any]:
    """Train (a baseline only counts), and evaluate on validation and test."""
    started = time.perf_counter()
    config: dict[str, Any] = {}
    scorer: Any
    if recipe in BASELINES:
        scorer = BASELINES[recipe](split, seed)
    else:
        scorer, config = trained(MODELS[recipe], split, seed, f"{DATA}-{recipe}-{seed}")
    seconds = round(time.perf_counter() - started, 1)
    found: dict[str, Any] = {"per_user": {}}
    for holdout in (split.valid, split.test):
        report = ac.evaluate(scorer, holdout)
        groups = {
            name: {
                group: {
                    "households": int((labels == group).sum()),
                    "ndcg@10": list(figures),
                }
                for group, figures in by_group(report, labels.tolist()).items()
            }
            for name, labels in household_groups(split, holdout).items()
        }
        found[holdout.name] = {
            "metrics": report.metrics,
            "interval": report.interval,
            "groups": groups,
        }
        for key, metric in (
            (holdout.name, "ndcg@10"),
            (f"{holdout.name}_gauc", "gauc"),
        ):
            found["per_user"][key] = report.per_user[metric].astype(np.float32)
    kind = "baseline" if recipe in BASELINES else "row"
    about = {
        "data": DATA,
        "split": "time",
        "recipe": recipe,
        "seed": seed,
        "kind": kind,
    }
    about |= {"config": config, "seconds": seconds}
    return about | found


def runs_of(recipe: str) -> list[dict[str, Any]]:
    """The kept runs of a recipe, by seed."""
    return [
        json.loads(path.read_text())
        for path in sorted(RESULTS.glob(f"{DATA}-{recipe}-[0-9].json"))
    ]


def table() -> str:
    """Every kept recipe, mean over its seeds; then target attention against each,
    household by household."""
    metrics = ("ndcg@10", "recall@10", "gauc", "auc", "logloss")
    lines = [
        f"{'recipe':<22}{'seeds':>6}"
        + "".join(f"{f'{part} {m}':>16}" for part in ("valid", "test") for m in metrics)
    ]
    every = {
        recipe: runs for recipe in (*BASELINES, *MODELS) if (runs := runs_of(recipe))
    }
    for recipe, runs in every.items():
        figures = [
            np.mean([run[part]["metrics"].get(metric, np.nan) for run in runs])
            for part in ("valid", "test")
            for metric in metrics
        ]
        lines.append(
            f"{recipe:<22}{len(runs):>6}"
            + "".join(f"{figure:>16.4f}" for figure in figures)
        )
    for recipe, runs in every.items() if "target" in every else ():
        for key, metric in (("test", "ndcg@10"), ("test_gauc", "gauc")):
            sides = [
                np.mean(
                    [np.load(RESULTS / run["per_user"])[key] for run in side], axis=0
                )
                for side in (every["target"], runs)
            ]
            low, high = bootstrap_interval(sides[0] - sides[1], resamples=10_000)
            if recipe != "target":
                step = f"{np.mean(sides[0] - sides[1]):+.4f} [{low:+.4f}, {high:+.4f}]"
                lines.append(f"test {metric}: target against {recipe}: {step}")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "recipes", nargs="*", default=[*BASELINES, *MODELS], metavar="RECIPE"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    unknown = set(args.recipes) - {*BASELINES, *MODELS}
    if unknown:
        parser.error(
            f"unknown recipe {', '.join(sorted(unknown))}; choose from"
            f" {', '.join([*BASELINES, *MODELS])}"
        )
    missing = [
        (recipe, seed, path)
        for recipe in args.recipes
        for seed in (args.seeds if recipe in SEEDED else [0])
        if not (path := RESULTS / f"{DATA}-{recipe}-{seed}.json").exists()
    ]
    split = ac.split_by_time(ac.datasets.load(DATA)) if missing else None
    for recipe, seed, path in missing:
        torch.manual_seed(seed)
        keep(measure(recipe, seed, split), path)
    print(table())


if __name__ == "__main__":
    main()
