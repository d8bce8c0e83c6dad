"""The rung of the chapter "Your own log": `python tests/bench/own_log.py`.

Trains on the bookshop's log, divided by time, for three seeds, and keeps every run as
one JSON file under `results/`, in the form of quality.py's; runs that are there already
stay.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import attncore as ac
from attncore.files import replacing

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[2] / "book" / "data"
BASELINES = {
    "popularity": ac.baselines.Popularity,
    "markov-chain": ac.baselines.MarkovChain,
}
SELF = ac.RecommenderConfig(attention="self", width=32, length=30, dropout=0.3)
MODELS = {
    "self": SELF,
    "self-table": replace(SELF, item_features=("title", "shelves", "pages")),
}
TRAINING = ac.TrainingConfig(
    epochs=60,
    batch_size=32,
    lr=3e-3,
    patience=15,
    device="cpu",
    precision="float32",
    progress=False,
)


def read() -> ac.Interactions:
    """The log, as the chapter reads it."""
    return ac.read_interactions(
        DATA / "bookshop.csv",
        user="customer",
        item="book",
        time="bought_at",
        items=DATA / "books.csv",
        kinds={"shelves": "categories", "pages": "number"},
    )


def measure(
    recipe: str, seed: int, split: ac.Split
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train (a baseline only counts), and evaluate on validation and test; each user's
    NDCG@10 comes apart."""
    started, config = time.perf_counter(), {}
    if recipe in BASELINES:
        scorer: Any = BASELINES[recipe](split)
    else:
        training = replace(TRAINING, seed=seed)
        scorer = ac.Recommender(MODELS[recipe], split, seed=seed)
        run = ac.fit(scorer, split, training)
        config = {
            "recommender": asdict(MODELS[recipe]),
            "training": asdict(training),
            "best_epoch": run.best_epoch,
        }
    found = {"data": "bookshop", "split": "time", "recipe": recipe, "seed": seed}
    found |= {"kind": "row" if config else "baseline", "config": config}
    found |= {"seconds": round(time.perf_counter() - started, 1)}
    per_user = {}
    for holdout in (split.valid, split.test):
        report = ac.evaluate(scorer, holdout)
        found[holdout.name] = {"metrics": report.metrics, "interval": report.interval}
        per_user[holdout.name] = report.per_user["ndcg@10"]
    return found, per_user


def main() -> None:
    """Run what is missing."""
    split = ac.split_by_time(read())
    for recipe in (*BASELINES, *MODELS):
        for seed in (0, 1, 2) if recipe in MODELS else (0,):
            path = RESULTS / f"bookshop-{recipe}-{seed}.json"
            if not path.exists():
                found, per_user = measure(recipe, seed, split)
                np.savez_compressed(path.with_suffix(".npz"), **per_user)
                with replacing(path) as fresh:
                    found["per_user"] = path.with_suffix(".npz").name
                    fresh.write_text(json.dumps(found, indent=1) + "\n")
            shown = json.loads(path.read_text())
            print(
                f"{recipe:<14}{seed}  valid {shown['valid']['metrics']['ndcg@10']:.4f}"
            )


if __name__ == "__main__":
    main()
