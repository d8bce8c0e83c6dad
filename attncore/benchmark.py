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
        memory, machine = self.memory_mib.items(), self.machine.items()
        held = [f"{mib:,.0f} MiB {where}" for where, mib in memory if mib is not None]
        size = f"{self.users:,} users, {self.items:,} items, {self.positions:,}"
        p50, p99 = self.latency_ms["p50"], self.latency_ms["p99"]
        lines = {
            "data": f"{self.data}: {size} positions an epoch",
            "training": f"{self.positions_per_s:,.0f} positions/s",
            "evaluation": f"{self.users_per_s:,.0f} users/s",
            "request": f"{p50:.1f} ms median, {p99:.1f} ms for 99 of 100",
            "start-up": f"{self.start_up_s:.1f} s to the end of the first step",
            "peak memory": ", ".join(held) or "unknown",
            "machine": ", ".join(f"{name} {value}" for name, value in machine),
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
        how = {"name": log.name, "repeats": log.repeats, "drop_duplicates": False}
        return _ask(job | how | {"file": str(file)})


def _ask(job: dict[str, Any]) -> Benchmark:
    """Have a fresh process do the job, with this very package and no other."""
    roots = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, roots))}
    given = json.dumps(job | {"started": time.time()})
    done = subprocess.run(
        [sys.executable, "-P", "-c", _WORKER, given],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | paths,
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
    ranking = partial(evaluate, model, split.valid, k=10)
    evaluating = [_seconds(ranking) for _ in range(3)]
    rows = np.linspace(0, len(split.users) - 1, 10 + requests).astype(int)
    asked = [partial(model.recommend, users=[u], k=10) for u in split.users.ids[rows]]
    latency = 1000 * np.array([_seconds(request) for request in asked])[10:]
    cuda = None
    if device.type == "cuda":
        cuda = torch.cuda.max_memory_allocated(device) / 2**20
    last, speeds = run.epochs[-1], [epoch["positions_per_s"] for epoch in run.epochs]
    return Benchmark(
        data=split.name,
        users=len(split.valid),
        items=len(split.items),
        positions=round(last["positions_per_s"] * last["seconds"]),
        positions_per_s=float(np.median(speeds[1:])),
        users_per_s=len(split.valid) / float(np.median(evaluating)),
        latency_ms={f"p{n}": float(np.percentile(latency, n)) for n in (50, 99)},
        start_up_s=first_step[0],
        memory_mib={"host": peak_memory(), "cuda": cuda},
        epochs=speeds,
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
    # Better than getrusage, which on Linux also counts what the parent held.
    if peak := _told("/proc/self/status", r"VmHWM:\s+(\d+) kB"):
        return int(peak) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 1024)


def _told(file: str, pattern: str) -> str | None:
    """What a file of Linux says, if it is there and says it."""
    path = Path(file)
    found = re.search(pattern, path.read_text()) if path.exists() else None
    return found[1].strip() if found else None


def describe_machine(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What the figures depend on.

    CPU, cores, PyTorch's threads, device, precision, and versions.
    """
    is_cuda, cpu = device.type == "cuda", _told("/proc/cpuinfo", r"model name\s*: (.+)")
    return {
        "cpu": cpu or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if is_cuda else device.type,
        "precision": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
