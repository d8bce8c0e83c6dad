"""Speed on ML-100K: `python tests/bench/speed.py [--peers] [--rounds 3]`.

Without `--peers` ours alone: at the precision that this machine is fast at, and in
float32. With it, in turns in one run, a plain PyTorch loop and RecTools, which is
installed into an environment of its own. Every turn is a process of its own; all read
one CSV, train with the same sizes on the same positions, and only training is timed.
Each then ranks the catalogue for every user: RecTools and the loop recommend 10 unseen
items, ours does the whole `ac.evaluate`, with metrics and intervals. `--json` keeps the
figures, from which RESULTS.md is made.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import venv
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
import report
import torch

import attncore as ac
from attncore.benchmark import measure

RECTOOLS = "0.19.0"
MODEL = ac.RecommenderConfig(width=64, blocks=2, heads=2, length=200, dropout=0.2)
OURS = {"attncore": "auto", "attncore, float32": "float32"}
PEERS = {
    "plain loop": "loop",
    "RecTools": "rectools",
    "RecTools, bf16-mixed": "rectools-bf16",
}


def write_log(folder: Path) -> tuple[Path, int]:
    """The log that everyone reads, with the part that each event belongs to; and the
    positions of an epoch."""
    log = ac.datasets.load("ml-100k")
    events = log.events[["user", "item", "time"]]
    # Stable, as ours breaks ties.
    events = events.iloc[np.lexsort((events["time"], events["user"]))]
    left = events.groupby("user").cumcount(ascending=False)
    part = np.select([left == 0, left == 1], ["test", "valid"], "train")
    path = folder / "log.csv"
    events.assign(part=part).to_csv(path, index=False)
    lengths = ac.leave_one_out(log).train.lengths
    return path, int(np.clip(lengths - 1, 0, MODEL.length).sum())


def rectools_python(folder: Path) -> str:
    """The Python of an environment with RecTools and our version of PyTorch; made
    unless it is there."""
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    asked = f"import rectools; assert rectools.__version__ == '{RECTOOLS}'"
    if subprocess.run(
        [python, "-c", asked], capture_output=True, check=False
    ).returncode:
        wanted = [
            f"rectools[torch]=={RECTOOLS}",
            f"torch=={torch.__version__.split('+')[0]}",
        ]
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *wanted],
            check=True,
            stdout=sys.stderr,
        )
    return str(python)


def ours(log: Path, precision: str, epochs: int) -> dict[str, Any]:
    """One turn of ours."""
    training = ac.TrainingConfig(
        epochs=epochs, batch_size=128, loss="full", device="cpu", precision=precision
    )
    found = measure(log, MODEL, training)
    names = (
        "positions",
        "positions_per_s",
        "users",
        "users_per_s",
        "start_up_s",
        "epochs",
        "latency_ms",
        "machine",
    )
    return {name: getattr(found, name) for name in names} | {
        "memory_mib": found.memory_mib["host"]
    }


def peer(python: str, name: str, log: Path, epochs: int) -> dict[str, Any]:
    """One turn of a peer."""
    script = str(Path(__file__).with_name("peers.py"))
    options = [
        "--log",
        str(log),
        "--epochs",
        str(epochs),
        "--started",
        str(time.time()),
    ]
    return harness.run([python, script, name, *options])


def main() -> None:
    """Take turns, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peers", action="store_true", help="also a plain loop and RecTools"
    )
    default = Path(tempfile.gettempdir()) / f"attncore-bench-rectools-{RECTOOLS}"
    parser.add_argument(
        "--env",
        type=Path,
        default=default,
        help="RecTools' environment; made unless it is there",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--epochs", type=int, default=4, help="epochs of a turn; the first warms up"
    )
    parser.add_argument("--threads", type=int, default=2, help="for everyone")
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=report.RESULTS / "speed.json",
        help="keep the figures",
    )
    args = parser.parse_args()
    if args.rounds < 1 or args.epochs < 2:
        parser.error("needs at least 1 round and 2 epochs, of which one warms up")
    harness.use_threads(args.threads)
    python = rectools_python(args.env) if args.peers else ""
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        log, positions = write_log(Path(folder))
        contenders = {
            name: partial(ours, log, precision, args.epochs)
            for name, precision in OURS.items()
        }
        for name, script in PEERS.items() if args.peers else []:
            where = sys.executable if script == "loop" else python
            contenders[name] = partial(peer, where, script, log, args.epochs)
        for number in range(1, args.rounds + 1):
            for name in contenders:
                turn = harness.quietly(contenders[name])
                if turn["positions"] != positions:
                    raise SystemExit(
                        f"{name} trained {turn['positions']:,} positions an epoch, not"
                        f" {positions:,}"
                    )
                turns.append({"name": name, "round": number} | turn)
                sys.stderr.write(
                    f"round {number}, {name}: {turn['positions_per_s']:,.0f}"
                    " positions/s\n"
                )
    results = {
        "command": (
            f"python tests/bench/speed.py{' --peers' if args.peers else ''} --rounds"
            f" {args.rounds} --json"
        ),
        "machine": turns[0].pop("machine"),
        "rectools": RECTOOLS,
        "positions": positions,
        "epochs": args.epochs,
        "turns": [
            {name: value for name, value in turn.items() if name != "machine"}
            for turn in turns
        ],
    }
    report.publish("speed", results, args.json)


if __name__ == "__main__":
    main()
