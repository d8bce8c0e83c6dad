"""Ranking promotions, measured: `python tests/bench/groceries.py [RECIPE ...] [--seeds
0 1 2]`.

Trains each recipe on the slates of Complete Journey for each seed, evaluates validation
and test once, with all candidates of every slate, and keeps every finished run as
`tests/bench/quality.py` does, with two more arrays in its .npz, "valid_gauc" and
"test_gauc", and NDCG@10 by household group beside the metrics. The candidates that the
household took before, and those that are new to it, are also ranked apart, among
themselves: "apart" beside the metrics, and arrays of that name. A run that is there
already is not run again, and one that was broken off goes on from its checkpoint in
`runs/quality`. Ends with the table, and with how far target attention stands above
every other recipe, household by household.

Rivals: "popular-this-week", "personal-habit", "logistic-regression" on a few facts;
"logistic-all-facts" and "boosted-trees" (scikit-learn's) on those that attention has:
what the household did with the candidate, with its kinds, its profile, the situation.
Ablations, one change each, named alone: "target-length-1024", "target-no-situation",
"target-raw" (Deep Interest Network's weights without softmax), and of all that learn
"-no-own" (nothing is told of what the household did with the candidate itself).

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
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from quality import RESULTS, RUNS, keep

import attncore as ac
from attncore.evaluation import bootstrap_interval, by_group
from attncore.ranking.asof import DAY, IndexedSlates
from attncore.ranking.baselines import PersonalHabit, PopularLately
from attncore.ranking.batches import OWN_DAYS, SlateBatch
from attncore.ranking.metrics import slate_metrics
from attncore.recipes import RECIPES

DATA = "complete-journey"
CONFIG = RECIPES[DATA].recommender
TRAINING = replace(RECIPES[DATA].training, precision="float32")
MODELS: dict[str, tuple[ac.RankerConfig, ac.TrainingConfig]] = {
    "mean": (replace(CONFIG, attention="mean"), TRAINING),
    "target": (CONFIG, TRAINING),
}
# Without the situation the others are named: naming none reads all that the log names.
TOLD = {
    "item_features": (
        *("department", "product_category", "product_type", "brand"),
        "manufacturer_id:category",
    ),
    "user_features": (
        *("age", "income", "home_ownership", "marital_status"),
        *("household_size", "household_comp", "kids_count"),
    ),
}
ABLATIONS: dict[str, tuple[ac.RankerConfig, ac.TrainingConfig]] = {
    "target-length-1024": (replace(CONFIG, length=1024), TRAINING),
    "target-no-situation": (replace(CONFIG, **TOLD), TRAINING),
    "target-raw": (replace(CONFIG, normalize=False), TRAINING),
    "target-no-own": MODELS["target"],
    "mean-no-own": MODELS["mean"],
}


class WithoutOwn(ac.Ranker):
    """A ranker that is not told what the user did with the candidate itself.

    It may still find the candidate among the past items, by looking.
    """

    def scores(self, batch: SlateBatch) -> torch.Tensor:
        """Scores (B, N) of a batch's candidates."""
        return super().scores(replace(batch, own_BN6=torch.zeros_like(batch.own_BN6)))


class Learned:
    """A model of scikit-learn on features of candidate, household and moment.

    Args:
        split: whose training slates are learned from; `slates` of them are drawn by
            `seed`, `others` not-taken candidates from each.
        make: makes the model from the seed.
        every: give it all the facts that attention has, not the few of old.
        own: tell it what the household did with the candidate itself.
    """

    scores_are_logits = True

    def __init__(
        self,
        split: ac.Split,
        seed: int,
        make: Callable[[int], Any],
        every: bool = True,
        own: bool = True,
        slates: int = 20_000,
        others: int = 24,
    ) -> None:
        self.own, self.every = own, every
        about = split.log.users if split.log is not None else None
        self.profile = np.zeros((len(split.users) + 1, 0))
        if every and about is not None:
            known = pd.get_dummies(about.reindex(split.users.ids).astype("str"))
            self.profile = np.vstack([np.zeros(known.shape[1]), known.to_numpy(float)])
        shown, rng = split.slates, np.random.default_rng(seed)
        assert shown is not None
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
        trained = np.flatnonzero(shown.times < split.valid.protocol["valid_from"])
        columns, marks, likelier = [], [], []
        for row in rng.choice(
            trained, min(slates, len(trained)), replace=False
        ).tolist():
            taken, where = shown.clicked_of(row), shown.list_of(row)
            drawn = np.setdiff1d(
                rng.integers(where.stop - where.start, size=others), taken
            )
            columns.append(self._features(shown, row, np.concatenate([taken, drawn])))
            marks.append(np.arange(len(taken) + len(drawn)) < len(taken))
            likelier.append(np.log((where.stop - where.start) / others))
        self.model = make(seed)
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
        user = slates.users[row]
        if self.every:
            who = np.full(len(items), user)
            lately = (slates.own_lately(who, items, time, days) for days in OWN_DAYS)
            columns += [np.log1p(count) for count in lately]
        if not self.own:
            columns = []
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
        if self.every:
            columns += list(np.repeat(self.profile[user + 1][:, None], len(items), 1))
            columns += [group[items] for group in self.groups]
        return np.stack(columns, 1).astype(np.float64)

    def score_slate(self, slates: IndexedSlates, row: int) -> np.ndarray:
        """Log-odds of a slate's candidates."""
        every = np.arange(slates.list_of(row).stop - slates.list_of(row).start)
        return (
            self.model.decision_function(self._features(slates, row, every))
            - self.intercept
        )


def regression(seed: int) -> Any:
    """Logistic regression on standardized features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=300))


def trees(seed: int) -> Any:
    """Gradient-boosted trees, as many as a tenth of the rows, left out, asks for."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=500, learning_rate=0.05, early_stopping=True, random_state=seed
    )


class Apart:
    """A scorer, and the metrics of repeated and of new candidates among themselves.

    A slate counts where some of such candidates were taken and some were not. So the
    households that are asked are the same whatever the scorer.
    """

    def __init__(self, scorer: Any) -> None:
        self.scorer = scorer
        self.scores_are_logits = getattr(scorer, "scores_are_logits", False)
        self.found: dict[str, list[tuple[int, float, float]]] = {}

    def score_slate(self, slates: IndexedSlates, row: int) -> np.ndarray:
        """The scorer's scores, of which is taken down how they rank."""
        scores = np.asarray(self.scorer.score_slate(slates, row))
        of = slice(row, row + 1)
        past = slates.known(slates.users[of], slates.stops[of], slates.times[of], 10**9)
        repeated = np.isin(slates.items[slates.list_of(row)], past.items)
        taken = np.isin(np.arange(len(scores)), slates.clicked_of(row))
        for name, kept in (("repeated", repeated), ("new", ~repeated)):
            clicked = np.flatnonzero(taken[kept])
            if 0 < len(clicked) < kept.sum():
                told = slate_metrics(scores[kept], clicked, (10,))
                here = int(slates.users[row]), told["ndcg@10"], told["gauc"]
                self.found.setdefault(name, []).append(here)
        return scores

    def per_household(self) -> dict[str, dict[str, np.ndarray]]:
        """NDCG@10 and GAUC of each household, the mean over its slates, by user row."""
        households = {}
        for name, rows in self.found.items():
            frame = pd.DataFrame(rows, columns=["user", "ndcg@10", "gauc"])
            means = frame.groupby("user").mean()
            households[name] = {m: means[m].to_numpy(np.float32) for m in means.columns}
        return households


BASELINES: dict[str, Callable[[ac.Split, int], Any]] = {
    "popular-this-week": lambda split, seed: PopularLately(),
    "personal-habit": lambda split, seed: PersonalHabit(),
    "logistic-regression": partial(Learned, make=regression, every=False),
    "logistic-all-facts": partial(Learned, make=regression),
    "boosted-trees": partial(Learned, make=trees),
}
BASELINE_ABLATIONS: dict[str, Callable[[ac.Split, int], Any]] = {
    "logistic-no-own": partial(Learned, make=regression, own=False),
    "boosted-trees-no-own": partial(Learned, make=trees, own=False),
}
EVERY = (*BASELINES, *MODELS, *ABLATIONS, *BASELINE_ABLATIONS)
SEEDED = set(EVERY) - {"popular-this-week", "personal-habit"}


def trained(
    recipe: str, split: ac.Split, seed: int
) -> tuple[ac.Ranker, dict[str, Any]]:
    """A model, trained in `runs/quality` unless it was, and how it was made."""
    ranker, training = (MODELS | ABLATIONS)[recipe]
    training = replace(training, seed=seed)
    kind = WithoutOwn if recipe.endswith("-no-own") else ac.Ranker
    model = kind(ranker, split, seed=seed)
    out = RUNS / f"{DATA}-{recipe}-{seed}"
    run = ac.fit(model, split, training, out=out, resume=True)
    seconds = sum(epoch["seconds"] for epoch in run.epochs)
    return model, {
        "recommender": asdict(ranker),
        "training": asdict(training),
        "best_epoch": run.best_epoch,
        "seconds_trained": round(seconds, 1),
    }


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
    counted = BASELINES | BASELINE_ABLATIONS
    if recipe in counted:
        scorer = counted[recipe](split, seed)
    else:
        scorer, config = trained(recipe, split, seed)
    seconds = round(time.perf_counter() - started, 1)
    found: dict[str, Any] = {"per_user": {}}
    for holdout in (split.valid, split.test):
        apart = Apart(scorer)
        report = ac.evaluate(apart, holdout)
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
        households = apart.per_household()
        for name, figures in households.items():
            for metric, ending in (("ndcg@10", ""), ("gauc", "_gauc")):
                key = f"{holdout.name}_{name}{ending}"
                found["per_user"][key] = figures[metric]
        found[holdout.name] = {
            "metrics": report.metrics,
            "interval": report.interval,
            "groups": groups,
            "apart": {
                name: {metric: float(values.mean()) for metric, values in of.items()}
                | {"households": len(of["gauc"])}
                for name, of in households.items()
            },
        }
        for key, metric in (
            (holdout.name, "ndcg@10"),
            (f"{holdout.name}_gauc", "gauc"),
        ):
            found["per_user"][key] = report.per_user[metric].astype(np.float32)
    kind = "baseline" if recipe in counted else "row"
    kind = "ablation" if recipe in ABLATIONS else kind
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
    every = {recipe: runs for recipe in EVERY if (runs := runs_of(recipe))}
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
        if recipe == "target":
            continue
        for part in ("", "_repeated", "_new"):
            for key, metric in (
                (f"test{part}", "ndcg@10"),
                (f"test{part}_gauc", "gauc"),
            ):
                sides = [per_household(side, key) for side in (every["target"], runs)]
                if any(side is None for side in sides):  # kept before there were parts
                    continue
                gain = sides[0] - sides[1]
                low, high = bootstrap_interval(gain, resamples=10_000)
                step = f"{np.mean(gain):+.4f} [{low:+.4f}, {high:+.4f}]"
                among = f", {part[1:]} candidates" if part else ""
                lines.append(
                    f"test {metric}{among}: target against {recipe}: {step}"
                    f" ({len(gain)} households)"
                )
    return "\n".join(lines)


def per_household(runs: list[dict[str, Any]], key: str) -> np.ndarray | None:
    """An array of kept runs, its mean over them; None where one lacks it."""
    kept = [np.load(RESULTS / run["per_user"]) for run in runs]
    if not all(key in arrays for arrays in kept):
        return None
    return np.mean([arrays[key] for arrays in kept], axis=0)


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
    unknown = set(args.recipes) - set(EVERY)
    if unknown:
        parser.error(
            f"unknown recipe {', '.join(sorted(unknown))}; choose from"
            f" {', '.join(EVERY)}"
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
