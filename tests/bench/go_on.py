"""Going on with a grown log against training anew: `python tests/bench/go_on.py
[--seeds 0 1 2] [--json]`.

ML-100K is cut by time in four. A model is trained on the first quarter of the events;
then the log grows a quarter at a time, and each time one model goes on (`ac.go_on`, a
few epochs) and another is trained anew (as many epochs as the first). Both are asked
the last event of each user of the log as it is then. They are compared user by user,
over all seeds. Seconds are those of this process on the CPU, so that what else the
machine does says nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import use_threads
from report import RESULTS, publish

import attncore as ac
from attncore.benchmark import describe_machine

CONFIG = ac.RecommenderConfig(width=64, length=100)
ANEW = ac.TrainingConfig(
    epochs=12, batch_size=64, precision="float32", progress=False, device="cpu"
)
ON = replace(ANEW, epochs=4)
QUARTERS = 4


def until(log: ac.Interactions, quarter: int) -> ac.Interactions:
    """The log as it was when so many quarters of its events had happened."""
    order = np.argsort(log.events["time"].to_numpy(), kind="stable")
    first = order[: len(order) * quarter // QUARTERS]
    return replace(log, events=log.events.iloc[np.sort(first)].reset_index(drop=True))


def trained(
    model: ac.Recommender, config: ac.TrainingConfig
) -> tuple[dict[str, Any], ac.Report]:
    """What a training costs, and what the model then finds."""
    since = time.process_time()
    run = ac.fit(model, model.split, config)
    seconds = time.process_time() - since
    report = ac.evaluate(model, model.split.test)
    found = {
        "epochs": config.epochs,
        "best_epoch": run.best_epoch,
        "seconds": round(seconds, 1),
        "ndcg@10": report.metrics["ndcg@10"],
        "interval": report.interval["ndcg@10"],
        "users": report.users,
        "items": report.items,
    }
    return found, report


def measured(seeds: list[int]) -> dict[str, list[dict[str, Any]]]:
    """Every quarter of every seed, going on and anew, and how far the two are apart."""
    log, found = ac.datasets.load("ml-100k"), []
    pairs: dict[int, list[tuple[ac.Report, ac.Report]]] = {}
    for seed in seeds:
        going: ac.Recommender | None = None
        for quarter in range(1, QUARTERS + 1):
            grown = until(log, quarter)
            split = ac.leave_one_out(grown)
            fresh = ac.Recommender(CONFIG, split, seed)
            where = {"seed": seed, "quarter": quarter, "events": len(grown.events)}
            anew, as_new = trained(fresh, replace(ANEW, seed=seed))
            found.append({"how": "anew"} | where | anew)
            if going is None:
                going = fresh
                continue
            since = time.process_time()
            going = ac.go_on(going, split)
            begun = time.process_time() - since
            before = ac.evaluate(going, split.test, bootstrap=0).metrics["ndcg@10"]
            on, as_going = trained(going, replace(ON, seed=seed))
            pairs.setdefault(quarter, []).append((as_going, as_new))
            on |= {"untrained": before, "begun": round(begun, 2)}
            found.append({"how": "going on"} | where | on)
            print(*map(json.dumps, found[-2:]), sep="\n", file=sys.stderr, flush=True)
    compared = []
    for quarter, reports in pairs.items():
        ours, theirs = zip(*reports, strict=True)
        gap = ac.compare(ours, theirs)
        compared.append({"quarter": quarter} | asdict(gap))
    return {"runs": found, "compared": compared}


def main() -> None:
    """Measure, and keep what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--json", nargs="?", type=Path, const=RESULTS / "go_on.json", metavar="FILE"
    )
    args = parser.parse_args()
    use_threads(1)
    found = measured(args.seeds)
    seeds = " ".join(map(str, args.seeds))
    results = {
        "command": f"python tests/bench/go_on.py --seeds {seeds} --json",
        "machine": describe_machine(torch.device("cpu"), torch.float32),
    } | found
    publish("go_on", results, args.json)


if __name__ == "__main__":
    main()
