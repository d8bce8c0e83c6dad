"""Who tells what is popular this week: `python tests/bench/by_time.py [--part valid]
[--folds 16] [--only NAME ...] [--seeds 0 1 2]`.

Cuts MovieLens-100K at rolling moments, trains the recipe for small logs up to each with
what it needs to know of time (`recent=True`) and without, and asks who comes back after
the cut for their next film. Questions of all folds are pooled. Choices were made with
`--part valid`; `test` is looked at once, with the settings below. Keeps
`results/by_time.json` with the per-question NDCG@10 of each model and seed in
`by_time.npz`, and prints means, and differences with paired bootstrap intervals over
questions, seeds averaged.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import attncore as ac
from attncore.recipes import RECIPES

RESULTS = Path(__file__).parent / "results"
RUNS = Path(__file__).parents[2] / "runs" / "by_time"
SHARE = 0.05  # of the log's events in each period
SMALL = RECIPES["small"]
TRAINED = {
    "recent": replace(SMALL.recommender, recent=True),
    "without-time": SMALL.recommender,
}
# From the best epoch on validation it stays level.
TRAINING = replace(SMALL.training, epochs=12, progress=False)
COUNTED: dict[str, Any] = {
    "recent-popularity": ac.baselines.RecentPopularity,
    "popularity": ac.baselines.Popularity,
    "markov-chain": ac.baselines.MarkovChain,
    "markov-chain-normalized": lambda split: ac.baselines.MarkovChain(
        split, normalize=True
    ),
}


def measured(name: str, split: ac.Split, seed: int, part: str, fold: str) -> np.ndarray:
    """NDCG@10 of each question of a part of a split."""
    if name in COUNTED:
        model = COUNTED[name](split)
    else:
        model = ac.Recommender(TRAINED[name], split, seed=seed)
        training = replace(TRAINING, seed=seed)
        ac.fit(model, split, training, RUNS / f"{name}-{fold}-{seed}", resume=True)
    asked = split.valid if part == "valid" else split.test
    return ac.evaluate(model, asked, bootstrap=0).per_user["ndcg@10"]


def difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """The mean difference of paired questions, with a 95 % bootstrap interval."""
    apart = first - second
    drawn = np.random.default_rng(0).integers(len(apart), size=(2000, len(apart)))
    low, high = np.quantile(apart[drawn].mean(1), [0.025, 0.975])
    return float(apart.mean()), float(low), float(high)


def main() -> None:
    """Train and ask, fold by fold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=["valid", "test"], default="test")
    parser.add_argument("--folds", type=int, default=16)
    parser.add_argument("--only", nargs="+", choices=[*TRAINED, *COUNTED])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    log = ac.datasets.load("ml-100k")
    found: dict[str, list[list[np.ndarray]]] = {}
    for fold in range(args.folds):
        split = ac.split_by_time(log, SHARE, SHARE, fold, args.folds)
        for name in args.only or [*TRAINED, *COUNTED]:
            seeds = args.seeds if name in TRAINED else [0]
            where = f"{fold}-of-{args.folds}"
            asked = [measured(name, split, s, args.part, where) for s in seeds]
            found.setdefault(name, []).append(asked)
            means = " ".join(f"{one.mean():.4f}" for one in asked)
            print(
                f"fold {fold}, {len(asked[0])} questions, {name}: {means}", flush=True
            )
    pooled = {
        name: np.stack([np.concatenate(one) for one in zip(*folds, strict=True)])
        for name, folds in found.items()
    }
    means = {name: float(scores.mean()) for name, scores in pooled.items()}
    questions = len(next(iter(pooled.values()))[0])
    report: dict[str, Any] = {
        "part": args.part,
        "folds": args.folds,
        "questions": questions,
        "seeds": args.seeds,
        "ndcg@10": means,
        "recent above": {
            name: difference(pooled["recent"].mean(0), scores.mean(0))
            for name, scores in pooled.items()
            if name != "recent" and "recent" in pooled
        },
    }
    print(json.dumps(report, indent=1))
    if args.part == "test" and not args.only:
        np.savez_compressed(RESULTS / "by_time.npz", **pooled)
        text = json.dumps(report, indent=1) + "\n"
        (RESULTS / "by_time.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
