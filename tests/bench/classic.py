"""The classic LSTM recipe and its rivals, measured: `python tests/bench/classic.py
[RECIPE ...] [--seeds 0 1 2]`.

Trains each recipe on ML-100K for each seed, evaluates validation and test once, and
keeps every finished run under `results/` as `quality.py` does; a run that is there
already is not run again. The models themselves are kept under `runs/classic/`, which
git ignores; a training that was broken off goes on there, and `robustness.py` reads
them. Every setting was chosen on validation.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import Configs, keep, path_of
from torch import Tensor

import attncore as ac
from attncore.encoders import LSTMAttention, Weights

RUNS = Path(__file__).parents[2] / "runs" / "classic"
DATA = "ml-100k"

# The published sizes: embedding 32, hidden 16, two layers, dropout .5; AdamW at .01,
# clip 1. An LSTM reads order by itself, so it needs no positions. eps is 1e-8 in
# PyTorch's AdamW, and the schedule moves at each step.
CLASSIC = ac.RecommenderConfig(
    attention="lstm", width=32, hidden=16, blocks=2, dropout=0.5, positions="none"
)
TRAINING = ac.TrainingConfig(
    epochs=40, batch_size=64, lr=0.01, clip=1.0, patience=10, progress=False
)
RECIPES: dict[str, Configs] = {
    "lstm-classic": (CLASSIC, TRAINING),
    "mean-classic": (replace(CLASSIC, attention="mean"), TRAINING),
    "self-classic": (replace(CLASSIC, attention="self", positions="learned"), TRAINING),
    "lstm-large": (replace(CLASSIC, width=64, hidden=64), replace(TRAINING, epochs=25)),
    "lstm-last-state": (CLASSIC, TRAINING),
}


class LastState(LSTMAttention):
    """The same encoder without its attention: zeros stand where the attended vector
    stood."""

    def forward(
        self,
        context_BTD: Tensor,
        times_BT: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Weights]:
        """As `LSTMAttention`, from the newest state alone."""
        states_BTH, _ = self.lstm(self.norm(context_BTD))
        return (
            self.widen(
                self.dropout(torch.cat([states_BTH, torch.zeros_like(states_BTH)], -1))
            ),
            [],
        )


def trained(
    recipe: str, seed: int, split: ac.Split
) -> tuple[ac.Recommender, dict[str, Any]]:
    """The model of a recipe and a seed, trained unless that was done before, and how it
    was made."""
    config, training = RECIPES[recipe]
    training = replace(training, seed=seed)
    model = ac.Recommender(config, split, seed=seed)
    if recipe == "lstm-last-state":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.encoder = LastState(config)
    # Of a run that is finished, this restores the end.
    run = ac.fit(model, split, training, RUNS / f"{recipe}-{seed}", resume=True)
    about = {
        "recommender": asdict(config),
        "training": asdict(training),
        "best_epoch": run.best_epoch,
    }
    return model, about | {
        "seconds_trained": round(sum(epoch["seconds"] for epoch in run.epochs), 1)
    }


def measure(recipe: str, seed: int, split: ac.Split) -> dict[str, Any]:
    """Train, and evaluate on validation and test."""
    model, config = trained(recipe, seed, split)
    reports = {
        holdout.name: ac.evaluate(model, holdout)
        for holdout in (split.valid, split.test)
    }
    about = {
        "data": DATA,
        "split": "leave-one-out",
        "recipe": recipe,
        "seed": seed,
        "config": config,
    }
    found = {
        name: {"metrics": report.metrics, "interval": report.interval}
        for name, report in reports.items()
    }
    per_user = {
        name: report.per_user["ndcg@10"].astype(np.float32)
        for name, report in reports.items()
    }
    return (
        about
        | {"seconds": config["seconds_trained"]}
        | found
        | {"per_user": per_user, "kind": "row"}
    )


def main() -> None:
    """Run what is missing, and print a line for each run, of validation alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "recipes",
        nargs="*",
        default=list(RECIPES),
        metavar="RECIPE",
        help=", ".join(RECIPES),
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    if unknown := set(args.recipes) - set(RECIPES):
        parser.error(
            f"unknown recipe {', '.join(sorted(unknown))}; choose from"
            f" {', '.join(RECIPES)}"
        )
    split = ac.leave_one_out(ac.datasets.load(DATA))
    for seed in args.seeds:
        for recipe in args.recipes:
            path = path_of(DATA, "leave-one-out", recipe, seed)
            if not path.exists():
                keep(measure(recipe, seed, split), path)
            valid = json.loads(path.read_text(encoding="utf-8"))["valid"]["metrics"]
            figures = "  ".join(
                f"{name} {valid[name]:.4f}" for name in ("ndcg@10", "hr@1", "loss")
            )
            print(f"{recipe:<20} seed {seed}  validation {figures}", flush=True)


if __name__ == "__main__":
    main()
