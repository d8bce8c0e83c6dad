"""How cost grows: `python tests/bench/scaling.py [--json]`.

Made-up logs whose items are as popular as Zipf's law says. Every user has a full
history, so nothing is padded, and every step has about 25,600 positions, whatever the
length: what differs between lengths is attention alone. Each cell is a process of its
own. A cell's peak memory includes about 8 users' evaluation, since `ac.fit` validates.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
import report
import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

import attncore as ac
from attncore.benchmark import describe_machine, peak_memory
from attncore.distributed import choose_device, choose_precision
from attncore.sequences import Histories, Vocabulary
from attncore.splits import Holdout

STEP = 25_600  # positions
ASKED = 8  # users that are evaluated: few, so that memory is training's
LENGTHS = (50, 200, 1000)
GRID = [
    (length, items, "full", 4 if items < 100_000 else 1)
    for items in (1_000, 10_000, 100_000)
    for length in LENGTHS
]
GRID += [(length, 1_000_000, "sampled", 2) for length in LENGTHS]
GRID += [(200, items, "sampled", 4) for items in (1_000, 10_000, 100_000)]
GROWTH = [(50, 1_000, "full", steps) for steps in (4, 8, 16)]


def made_up(length: int, items: int, users: int, seed: int = 0) -> ac.Split:
    """A split of users with `length` training positions each and one question more for
    validation and test."""
    rng = np.random.default_rng(seed)
    popularity = np.cumsum(1 / np.arange(1, items + 1))
    events = users * (length + 3)
    taken = (
        np.searchsorted(popularity, rng.random(events) * popularity[-1]).clip(
            max=items - 1
        )
        + 1
    )
    offsets = np.arange(users + 1) * (length + 3)
    histories = Histories(
        taken.astype(np.int32), offsets, np.tile(np.arange(length + 3), users)
    )
    train = histories.take(np.arange(users), stops=np.full(users, length + 1))
    counts = np.bincount(train.items, minlength=items + 1)[1:]
    rows = np.arange(min(ASKED, users))

    def holdout(name: str, place: int) -> Holdout:
        known = histories.take(rows, stops=np.full(len(rows), place))
        targets = histories.items[offsets[rows] + place]
        return Holdout(
            name,
            known,
            rows,
            targets,
            counts,
            False,
            {"split": "made-up", "exclude_seen": False},
        )

    ids = Vocabulary(np.arange(users), "user"), Vocabulary(np.arange(items), "item")
    return ac.Split(
        "made-up",
        "",
        *ids,
        histories,
        train,
        holdout("valid", length + 1),
        holdout("test", length + 2),
    )


def cell(
    length: int, items: int, loss: str, steps: int, epochs: int = 4
) -> dict[str, Any]:
    """Measure one cell: training speed after an epoch of warm-up, the optimizer's part
    in it, and memory."""
    batch = round(STEP / length)
    split = made_up(length, items, batch * steps)
    config = ac.TrainingConfig(
        epochs=epochs,
        batch_size=batch,
        patience=0,
        loss=loss,
        negatives=256,
        progress=False,
        device="cpu",
    )
    model = ac.Recommender(ac.RecommenderConfig(length=length), split)
    before = peak_memory()
    stepping: list[float] = []
    held = []

    def step_starts(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        stepping.append(-time.perf_counter())

    def step_ends(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        stepping[-1] += time.perf_counter()
        if not held:
            state = [
                tensor
                for entry in optimizer.state.values()
                for tensor in entry.values()
            ]
            held.append(
                sum(
                    tensor.nbytes
                    for tensor in state
                    if isinstance(tensor, torch.Tensor)
                )
                / 2**20
            )

    register_optimizer_step_pre_hook(step_starts)
    register_optimizer_step_post_hook(step_ends)
    run = ac.fit(model, split, config)
    seconds = float(np.median([epoch["seconds"] for epoch in run.epochs[1:]]))
    device = choose_device("cpu")
    return {
        "length": length,
        "items": items,
        "loss": loss,
        "negatives": 256 if loss == "sampled" else None,
        "batch_size": batch,
        "positions": batch * steps * length,
        "positions_per_s": batch * steps * length / seconds,
        "seconds": seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
        "optimizer_mib": held[0],
        "optimizer_s": float(np.median(stepping[len(stepping) // epochs :])),
        "step_s": seconds / steps,
        "before_mib": before,
        "memory_mib": peak_memory(),
        "machine": describe_machine(device, choose_precision("auto", device)),
        "model": asdict(model.config),
    }


def main() -> None:
    """Measure cell by cell, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=report.RESULTS / "scaling.json",
        help="keep the figures",
    )
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        print(json.dumps(cell(*json.loads(args.cell))))
        return
    harness.use_threads(args.threads)
    found: dict[str, list[dict[str, Any]]] = {"grid": [], "growth": []}
    for part, wanted in (("grid", GRID), ("growth", GROWTH)):
        for one in wanted:
            figures = harness.quietly(
                partial(
                    harness.run, [sys.executable, __file__, "--cell", json.dumps(one)]
                )
            )
            found[part].append(figures)
            sys.stderr.write(
                f"{part} {one}: {figures['positions_per_s']:,.0f} positions/s\n"
            )
    machine, model = found["grid"][0]["machine"], found["grid"][0]["model"]
    for figures in found["grid"] + found["growth"]:
        del figures["machine"], figures["model"]
    results = {
        "command": "python tests/bench/scaling.py --json",
        "machine": machine,
        "model": model,
        **found,
    }
    report.publish("scaling", results, args.json)


if __name__ == "__main__":
    main()
