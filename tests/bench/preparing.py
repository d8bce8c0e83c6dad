"""How preparing grows: `python tests/bench/preparing.py [--events 1e6 1e7 1e8]
[--json]`.

Made-up logs of 100 events a user, written by DuckDB; items are as popular as a power
law says. For each size and format: time and peak memory of preparing; then of training
some steps from the prepared form, and of asking some users. Every measurement is a
process of its own. Wall time counts only on a quiet machine, so the processor's time is
given too, and how many cores others used meanwhile. The largest log takes 10 GB of
disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import harness
import report

import attncore as ac
from attncore.benchmark import describe_machine
from attncore.distributed import choose_device, choose_precision, processes
from attncore.files import RunFolder
from attncore.training import Trainer

LENGTH, BATCH, STEPS, ASKED = 50, 512, 20, 1000


def make(events: int, path: Path) -> None:
    """Write a log of 100 events a user: `user,item,time` in no order, as .csv or
    .parquet."""
    import duckdb

    users, items = events // 100, min(100_000, events // 100)
    chance = "(hash(range * 7 + {}) % 1000000007) / 1000000007.0"
    query = f"""
        SELECT CAST(hash(range) % {users} AS BIGINT) + 1 AS "user",
               CAST(floor({items} * pow({chance.format(1)}, 3)) AS BIGINT) + 1 AS item,
               1600000000 + CAST(floor(1e8 * {chance.format(2)}) AS BIGINT) AS "time"
        FROM range({events})
    """
    form = "csv, header true" if path.suffix == ".csv" else "parquet"
    with duckdb.connect(config={"memory_limit": "1GB"}) as database:
        database.execute(f"COPY ({query}) TO '{path}' (FORMAT {form})")


def used() -> dict[str, float]:
    """Of this process so far: peak memory in GB, and processor time in seconds."""
    mine = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "peak_gb": mine.ru_maxrss * 1024 / 1e9,
        "cpu_s": mine.ru_utime + mine.ru_stime,
    }


def prepare(path: Path, out: Path) -> dict[str, Any]:
    """Prepare a log."""
    started = time.perf_counter()
    prepared = ac.prepare(path, out, threads=2)
    return {
        "seconds": time.perf_counter() - started,
        "log_gb": path.stat().st_size / 1e9,
        "prepared_gb": (
            sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e9
        ),
        "shards": len(prepared.about["shards"]),
        "kept": prepared.summary.kept,
        **used(),
    }


def train(folder: Path) -> dict[str, Any]:
    """Take some training steps from the prepared form, and ask some users of the whole
    catalogue."""
    prepared = ac.Prepared.open(folder)
    split = prepared.split(asked=ASKED)
    model = ac.Recommender(ac.RecommenderConfig(length=LENGTH), split)
    config = ac.TrainingConfig(
        batch_size=BATCH, loss="sampled", negatives=256, progress=False, device="cpu"
    )
    opened = used()
    with processes("cpu") as group:
        trainer = Trainer(
            model, split, config, group, RunFolder(None, {}, {}, writes=False)
        )
        model.train()
        batches = trainer._batches()
        trainer.train_step(*next(batches))  # warm-up
        started, before = time.perf_counter(), used()["cpu_s"]
        trained = 0
        for _, (parts, positions) in zip(range(STEPS), batches, strict=False):
            trainer.train_step(parts, positions)
            trained += positions
        seconds, cpu = time.perf_counter() - started, used()["cpu_s"] - before
    model.eval()
    before, started_asking = used()["cpu_s"], time.perf_counter()
    ac.evaluate(model, split.valid, batch_size=64, bootstrap=0)
    return {
        "positions": trained,
        "train_s": seconds,
        "train_cpu_s": cpu,
        "asked": len(split.valid),
        "ask_s": time.perf_counter() - started_asking,
        "ask_cpu_s": used()["cpu_s"] - before,
        "opened_gb": opened["peak_gb"],
        **used(),
        "items": len(split.items),
        "users": len(split.users),
        "machine": describe_machine(
            choose_device("cpu"), choose_precision("auto", choose_device("cpu"))
        ),
    }


def measure(events: int, form: str, place: Path) -> dict[str, Any]:
    """Make a log, prepare it, train from it."""
    log, out = place / f"log.{form}", place / "prepared"
    make(events, log)
    found: dict[str, Any] = {"events": events, "format": form}
    for part, words in (("prepare", [str(log), str(out)]), ("train", [str(out)])):
        command = [sys.executable, __file__, "--part", part, *words]
        found[part] = harness.quietly(partial(harness.run, command), tries=1)
        if part == "prepare":
            log.unlink()
    shutil.rmtree(out)
    return found


def main() -> None:
    """Measure size by size; what was measured before of other sizes stays."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", nargs="+", type=float, default=[1e6, 1e7, 1e8])
    parser.add_argument("--formats", nargs="+", default=["csv", "parquet"])
    parser.add_argument(
        "--disk",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="where there is room",
    )
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=report.RESULTS / "preparing.json",
        help="keep the figures",
    )
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        part, *paths = args.part
        print(json.dumps({"prepare": prepare, "train": train}[part](*map(Path, paths))))
        return
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    results = {
        "command": "python tests/bench/preparing.py --json",
        "memory": "1GB",
        "length": LENGTH,
        "batch": BATCH,
        "runs": [],
    }
    if args.json and args.json.exists():
        results = json.loads(args.json.read_text())
    for events in map(int, args.events):
        for form in args.formats:
            with tempfile.TemporaryDirectory(dir=args.disk) as place:
                found = measure(events, form, Path(place))
            results["machine"] = found["train"].pop("machine")
            runs = [
                run
                for run in results["runs"]
                if (run["events"], run["format"]) != (events, form)
            ]
            results["runs"] = sorted(
                [*runs, found], key=lambda run: (run["events"], run["format"])
            )
            sys.stderr.write(f"{json.dumps(found)}\n")
            if args.json:
                args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
