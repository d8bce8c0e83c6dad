"""Quality, measured: `python tests/bench/quality.py [RECIPE ...] [--seeds 0 1 2]`.

Trains each recipe on ML-100K for each seed, evaluates validation and test once, and keeps every finished run as
one JSON file under `results/`; a run that is there already is not run again, so a broken-off series goes on where
it stopped. Ends with the table.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import attncore as ac

RESULTS = Path(__file__).parent / "results"
DATA = "ml-100k"
BASELINES = {
    "popularity": ac.baselines.Popularity,
    "markov-chain": ac.baselines.MarkovChain,
    "markov-chain-normalized": lambda split: ac.baselines.MarkovChain(split, normalize=True),
}
SHORT = ac.TrainingConfig(epochs=30, batch_size=64, lr=5e-3, negatives=128, patience=10)
MODELS = {
    "mean": (ac.RecommenderConfig(attention="mean", length=50, positions="none"), SHORT),
    "target": (ac.RecommenderConfig(attention="target", length=50, positions="none", heads=1), SHORT),
    "self": (ac.RecommenderConfig(attention="self"), ac.TrainingConfig()),
}


def path_of(recipe: str, seed: int) -> Path:
    """Where a run is kept."""
    return RESULTS / f"{DATA}-{recipe}-{seed}.json"


def measure(recipe: str, seed: int, split: ac.Split) -> dict[str, Any]:
    """Train (a baseline only counts), and evaluate on validation and test."""
    started = time.perf_counter()
    config: dict[str, Any] = {}
    scorer: Any
    if recipe in BASELINES:
        scorer = BASELINES[recipe](split)
    else:
        recommender, training = MODELS[recipe]
        training = ac.TrainingConfig(**asdict(training) | {"seed": seed})
        scorer = ac.Recommender(recommender, split, seed=seed)
        run = ac.fit(scorer, split, training)
        config = {"recommender": asdict(recommender), "training": asdict(training), "best_epoch": run.best_epoch}
    seconds = round(time.perf_counter() - started, 1)
    parts = {}
    for holdout in (split.valid, split.test):
        report = ac.evaluate(scorer, holdout)
        parts[holdout.name] = {"metrics": report.metrics, "interval": report.interval}
        parts[f"{holdout.name}_per_user"] = np.round(report.per_user["ndcg@10"], 6).tolist()
    return {
        "data": DATA,
        "recipe": recipe,
        "seed": seed,
        "kind": "baseline" if recipe in BASELINES else "row",
        "config": config,
        "seconds": seconds,
        "valid": parts["valid"],
        "test": parts["test"],
        "per_user": {name: parts[f"{name}_per_user"] for name in ("valid", "test")},
    }


def table() -> str:
    """Every kept recipe, mean over its seeds, best on validation first."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob(f"{DATA}-*.json")):
        run = json.loads(path.read_text())
        runs.setdefault(run["recipe"], []).append(run)
    lines = [
        f"{'recipe':<26}{'seeds':>6}{'valid ndcg@10':>15}{'valid hr@10':>13}{'test ndcg@10':>14}{'test hr@10':>12}"
    ]

    def mean(recipe: str, part: str, metric: str) -> float:
        return float(np.mean([run[part]["metrics"][metric] for run in runs[recipe]]))

    for recipe in sorted(runs, key=lambda r: -mean(r, "valid", "ndcg@10")):
        figures = [mean(recipe, part, metric) for part in ("valid", "test") for metric in ("ndcg@10", "hr@10")]
        lines.append(
            f"{recipe:<26}{len(runs[recipe]):>6}{figures[0]:>15.4f}{figures[1]:>13.4f}{figures[2]:>14.4f}{figures[3]:>12.4f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=[*BASELINES, *MODELS], metavar="RECIPE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    unknown = set(args.recipes) - {*BASELINES, *MODELS}
    if unknown:
        parser.error(f"unknown recipe {', '.join(sorted(unknown))}; choose from {', '.join([*BASELINES, *MODELS])}")
    split = ac.leave_one_out(ac.datasets.load(DATA))
    for recipe in args.recipes:
        for seed in args.seeds if recipe in MODELS else [0]:
            if not path_of(recipe, seed).exists():
                text = json.dumps(measure(recipe, seed, split))
                fresh = path_of(recipe, seed).with_suffix(".tmp")
                fresh.write_text(text)
                fresh.replace(path_of(recipe, seed))
    print(table())


if __name__ == "__main__":
    main()
