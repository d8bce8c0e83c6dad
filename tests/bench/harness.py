"""What the timed benchmarks share: running one measurement at a time, and knowing
whether the machine was quiet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def use_threads(threads: int) -> None:
    """Give every process that is started from here this many threads."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def quietly(
    turn: Callable[[], dict[str, Any]], tries: int = 4, most: float = 0.1
) -> dict[str, Any]:
    """Take a turn, and again while everybody else used more than `most` cores
    meanwhile; the quietest try counts.

    A try is judged by what others did, never by its own figures. It is given "others":
    the machine's busy time less that of this process and its finished children, in
    cores; None where there is no /proc/stat.
    """
    taken: list[dict[str, Any]] = []
    for _ in range(tries):
        before, since = _busy_seconds(), time.perf_counter()
        found = turn()
        after, seconds = _busy_seconds(), time.perf_counter() - since
        if before is None or after is None:
            return found | {"others": None}
        taken.append(found | {"others": round(max(0.0, after - before) / seconds, 2)})
        if taken[-1]["others"] <= most:
            break
        sys.stderr.write(f"others used {taken[-1]['others']:.2f} cores meanwhile\n")
    return min(taken, key=lambda found: found["others"])


def _busy_seconds() -> float | None:
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _wait, *stolen = map(
        int, stat.read_text().split("\n", 1)[0].split()[1:9]
    )
    everyone = (user + nice + system + sum(stolen)) / os.sysconf("SC_CLK_TCK")
    return everyone - sum(os.times()[:4])


def run(command: Sequence[str]) -> dict[str, Any]:
    """Run a measurement whose last line on stdout is a JSON object; its stderr is shown
    if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"{Path(command[1]).name} ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])
