"""How fast is the recommender on this machine?

Everything is measured in a fresh process, so that start-up and memory are those of a
reader's own program, whatever the asking process has loaded. Training time is that of
training alone: validation is left out.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from attncore.config import RecommenderConfig, TrainingConfig
from attncore.distributed import choose_device, choose_precision
from attncore.errors import DataError
from attncore.evaluation import evaluate
from attncore.interactions import Interactions, read_interactions
from attncore.recommender import Recommender
from attncore.splits import leave_one_out
from attncore.training import fit

_WORKER = "from attncore.benchmark import _work; _work()"


@dataclass(frozen=True)
class Benchmark:
    """What this machine makes of one log.

    Attributes:
        data: the log's name.
        users: users that are evaluated.
        items: size of the catalogue.
        positions: real training positions of an epoch; padding is not counted.
        positions_per_s: positions trained per second of training time, median of the
            epochs after the first.
        users_per_s: users evaluated per second on the full catalogue, intervals
            included, median of 3.
        latency_ms: milliseconds in which 50 and 99 of 100 single requests are answered,
            "p50" and "p99".
        start_up_s: seconds from the start of the process to the end of the first
            training step.
        memory_mib: most that the process ever held, "host" (Python and PyTorch
            included) and "cuda" (by PyTorch), in MiB; None where there is none or the
            system does not say.
        epochs: positions per second of every epoch; the first one warms up.
        machine: see `describe_machine`.
    """

    data: str
    users: int
    items: int
    positions: int
    positions_per_s: float
    users_per_s: float
    latency_ms: dict[str, float]
    start_up_s: float
    memory_mib: dict[str, float | None]
    epochs: list[float]
    machine: dict[str, Any]

    def __str__(self) -> str:
        """A line per figure, and the machine."""
        held = [
            f"{mib:,.0f} MiB {where}"
            for where, mib in self.memory_mib.items()
            if mib is not None
        ]
        lines = {
            "data": (
                f"{self.data}: {self.users:,} users, {self.items:,} items,"
                f" {self.positions:,} positions an epoch"
            ),
            "training": f"{self.positions_per_s:,.0f} positions/s",
            "evaluation": f"{self.users_per_s:,.0f} users/s",
            "request": "{p50:.1f} ms median, {p99:.1f} ms for 99 of 100".format(
                **self.latency_ms
            ),
            "start-up": f"{self.start_up_s:.1f} s to the end of the first step",
            "peak memory": ", ".join(held) or "unknown",
            "machine": ", ".join(
                f"{name} {value}" for name, value in self.machine.items()
            ),
        }
        return "\n".join(f"{name:<13}{text}" for name, text in lines.items())


def measure(
    log: Interactions | str | Path,
    recommender: RecommenderConfig | None = None,
    training: TrainingConfig | None = None,
    requests: int = 500,
) -> Benchmark:
    """Train, evaluate and recommend on a log in a fresh process, and time it.

    The log is split by leaving one out.

    Args:
        log: a log, of which users, items and times are used; or a file with these
            columns.
        recommender: what to measure; it cannot have features of a log's tables.
        training: how it is trained: 4 epochs unless given, of which the first warms up.
            Nothing stops early.
        requests: how many requests are timed, one at a time.

    Raises:
        DataError: the log is too short, or the device is missing.
        ValueError: fewer than 2 epochs, or no request.
        ChildProcessError: the process ended without a result, as when memory runs out.
    """
    training = replace(training or TrainingConfig(epochs=4), patience=0, progress=False)
    if training.epochs < 2 or requests < 1:
        raise ValueError(
            f"epochs={training.epochs}, requests={requests}: needs 2 epochs (one warms"
            " up), 1 request"
        )
    config = asdict(recommender or RecommenderConfig())
    job = {"recommender": config, "training": asdict(training), "requests": requests}
    if not isinstance(log, Interactions):
        return _ask(job | {"file": str(log)})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "log.parquet"
        log.events[["user", "item", "time"]].to_parquet(file)
        return _ask(
            job
            | {
                "file": str(file),
                "name": log.name,
                "repeats": log.repeats,
                "drop_duplicates": False,
            }
        )


def _ask(job: dict[str, Any]) -> Benchmark:
    """Have a fresh process do the job, with this very package and no other."""
    roots = [
        str(Path(__file__).parents[1]),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    command = [
        sys.executable,
        "-P",
        "-c",
        _WORKER,
        json.dumps(job | {"started": time.time()}),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(roots)},
    )
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode == 2:
        raise DataError(last)
    if done.returncode:
        raise ChildProcessError(
            f"the measuring process ended with status {done.returncode}: {last}"
        )
    return Benchmark(**json.loads(done.stdout.splitlines()[-1]))


def _work() -> None:
    """What the fresh process runs: one JSON job in, one JSON result out.

    A user's mistake is status 2.
    """
    job = json.loads(sys.argv[1])
    try:
        sys.stdout.write(json.dumps(asdict(_measure(**job))) + "\n")
    except ValueError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        raise SystemExit(2) from None


def _measure(
    file: str,
    recommender: dict[str, Any],
    training: dict[str, Any],
    requests: int,
    started: float,
    **how: Any,
) -> Benchmark:
    config = TrainingConfig(**training)
    device = choose_device(config.device)
    first_step: list[float] = []

    def note_first_step(*_: Any) -> None:
        if device.type == "cuda" and not first_step:
            torch.cuda.synchronize(device)
        first_step.append(time.time() - started)

    hook = register_optimizer_step_post_hook(note_first_step)
    split = leave_one_out(read_interactions(file, **how))
    model = Recommender(RecommenderConfig(**recommender), split, seed=config.seed)
    run = fit(model, split, config)
    hook.remove()
    evaluating = [
        _seconds(partial(evaluate, model, split.valid, k=10)) for _ in range(3)
    ]
    asked = split.users.ids[
        np.linspace(0, len(split.users) - 1, 10 + requests).astype(int)
    ]
    latency = (
        1000
        * np.array(
            [_seconds(partial(model.recommend, users=[user], k=10)) for user in asked]
        )[10:]
    )
    cuda = (
        torch.cuda.max_memory_allocated(device) / 2**20
        if device.type == "cuda"
        else None
    )
    return Benchmark(
        data=split.name,
        users=len(split.valid),
        items=len(split.items),
        positions=round(run.epochs[-1]["positions_per_s"] * run.epochs[-1]["seconds"]),
        positions_per_s=float(
            np.median([epoch["positions_per_s"] for epoch in run.epochs[1:]])
        ),
        users_per_s=len(split.valid) / float(np.median(evaluating)),
        latency_ms={
            f"p{share}": float(np.percentile(latency, share)) for share in (50, 99)
        },
        start_up_s=first_step[0],
        memory_mib={"host": peak_memory(), "cuda": cuda},
        epochs=[epoch["positions_per_s"] for epoch in run.epochs],
        machine=describe_machine(device, choose_precision(config.precision, device)),
    )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_memory() -> float | None:
    """Most memory that this process has held so far, in MiB.

    None where the system does not say.
    """
    status = Path("/proc/self/status")
    peak = (
        re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    )
    # Better than getrusage, which on Linux also counts what the parent held.
    if peak:
        return int(peak[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 1024)


def describe_machine(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What the figures depend on.

    CPU, cores, PyTorch's threads, device, precision, and versions.
    """
    info = Path("/proc/cpuinfo")
    model = (
        re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    )
    return {
        "cpu": (
            model[1].strip() if model else platform.processor() or platform.machine()
        ),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": (
            torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        ),
        "precision": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
