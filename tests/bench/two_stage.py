"""Two stages, measured end to end on ML-100K: `python tests/bench/two_stage.py [--seeds
0 1 2]`.

The sequential model of `tests/bench/quality.py`'s recipe "ml-100k" proposes items, its
target attention ranks them; both are taken from `runs/quality`, and trained there if
they are missing. Kept like that file's runs, as recipes "two-stage-N" for N proposed
items; the metrics also hold "proposed@N", how often the right item is among them. Ends
with the table.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import Any

import numpy as np
from quality import keep, path_of, rows_of, table, trained
from two_stage import TwoStage

import attncore as ac

DATA = "ml-100k"
PROPOSED = (20, 50, 200)


def measure(
    seed: int, split: ac.Split, number: int, scorer: TwoStage
) -> dict[str, Any]:
    """Evaluate two stages on validation and test."""
    started = time.perf_counter()
    found: dict[str, Any] = {"per_user": {}}
    for holdout in (split.valid, split.test):
        report = ac.evaluate(scorer, holdout)
        proposed = scorer.proposed(holdout.histories, holdout.users).numpy()
        inside = proposed[np.arange(len(holdout)), holdout.targets - 1]
        metrics = report.metrics | {f"proposed@{number}": float(inside.mean())}
        found[holdout.name] = {"metrics": metrics, "interval": report.interval}
        found["per_user"][holdout.name] = report.per_user["ndcg@10"].astype(np.float32)
    config = {recipe: asdict(rows_of(DATA)[recipe][0]) for recipe in (DATA, "target")}
    about = {
        "data": DATA,
        "split": "leave-one-out",
        "recipe": f"two-stage-{number}",
        "seed": seed,
        "kind": "row",
    }
    return (
        about
        | {"config": config, "seconds": round(time.perf_counter() - started, 1)}
        | found
    )


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    split = ac.leave_one_out(ac.datasets.load(DATA))
    for seed in parser.parse_args().seeds:
        missing = {
            n: path_of(DATA, "leave-one-out", f"two-stage-{n}", seed) for n in PROPOSED
        }
        missing = {
            number: path for number, path in missing.items() if not path.exists()
        }
        if missing:
            first, second = (
                trained(rows_of(DATA)[recipe], split, seed, f"{DATA}-{recipe}-{seed}")[
                    0
                ]
                for recipe in (DATA, "target")
            )
            for number, path in missing.items():
                keep(
                    measure(seed, split, number, TwoStage(first, second, number)), path
                )
    print(table(DATA, "leave-one-out"))


if __name__ == "__main__":
    main()
