"""The example service under load: `python tests/bench/load.py [--json]`.

The server is `uvicorn service:app` on a saved model of ML-100K, whose weights are as
they were drawn, since training changes no time. The clients are one process of their
own, and send histories of the log's users over connections that stay open, each the
next request when its answer is there. Beside it stands the least that the framework
costs: `bare`, a route that reads the same questions and answers ten numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
import report
import torch
from fastapi import FastAPI

import attncore as ac
from attncore.benchmark import describe_machine

BOOK = Path(__file__).parents[2] / "book"
MODEL = ac.RecommenderConfig(width=64, blocks=2, heads=2, length=200)  # as in speed.py
CLIENTS = (1, 4, 16)
WARM = 1.0  # seconds in which nothing is counted

bare = FastAPI()


@bare.post("/recommend")
async def ten(question: dict[str, Any]) -> dict[str, Any]:
    """Ten numbers, whatever is asked."""
    return {"items": list(range(10)), "asked": len(question)}


@bare.get("/health")
async def health() -> dict[str, Any]:
    """That it is there."""
    return {}


async def asked_by_one(
    port: int, requests: list[bytes], counts: float, until: float, took: list[float]
) -> None:
    """One client: a request after the other on one connection; seconds of each that
    begins from `counts` on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    while (since := time.perf_counter()) < until:
        writer.write(requests[number % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
        await reader.readexactly(int(length))
        if since >= counts:
            took.append(time.perf_counter() - since)
        number += 1
    writer.close()


async def asked_by(port: int, clients: int, seconds: float) -> dict[str, float]:
    """Requests/s and percentiles of so many clients at once."""
    split = ac.leave_one_out(ac.datasets.load("ml-100k"))
    bodies = [
        json.dumps({"history": split.items.decode(split.test.histories[row]).tolist()})
        for row in range(len(split.test))
    ]
    requests = [
        f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        for body in bodies
    ]
    took: list[float] = []
    counts = time.perf_counter() + WARM
    shares = [requests[number::clients] for number in range(clients)]
    asking = (asked_by_one(port, s, counts, counts + seconds, took) for s in shares)
    await asyncio.gather(*asking)
    p50, p99 = np.percentile(took, [50, 99])
    return {"per_s": len(took) / seconds, "p50": 1000 * p50, "p99": 1000 * p99}


def served(app: str, workers: int, run: Path, seconds: float) -> dict[str, Any]:
    """Start a server, ask it by 1, 4 and 16 clients, and stop it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = BOOK if app.startswith("service") else Path(__file__).parent
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(folder), app]
    command += ["--workers", str(workers), "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--log-level", "error"],
        env=os.environ | {"ATTNCORE_RUN": str(run), "OMP_NUM_THREADS": "1"},
    )
    try:
        wait_for(port, server)
        found = {}
        for clients in CLIENTS:
            ask = [sys.executable, __file__, "--ask", str(port), str(clients)]
            said = subprocess.run(
                [*ask, "--seconds", str(seconds)],
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
            found[str(clients)] = json.loads(said)
    finally:
        server.terminate()
        server.wait(60)
    return {"app": app, "workers": workers, "clients": found}


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Until the server answers, and a little longer for the other workers."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert server.poll() is None, "the server has ended"
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as line:
                line.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                if line.recv(12).endswith(b"200"):
                    time.sleep(5)
                    return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("the server does not answer")


def main() -> None:
    """Measure each server, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each figure")
    parser.add_argument("--tries", type=int, default=2, help="the quietest counts")
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=report.RESULTS / "load.json",
        help="keep the figures",
    )
    parser.add_argument("--ask", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ask:
        print(json.dumps(asyncio.run(asked_by(*args.ask, args.seconds))))
        return
    machine = describe_machine(torch.device("cpu"), torch.float32)
    machine["nice"] = os.nice(0)  # below 0: ahead of what others do meanwhile
    results: dict[str, Any] = {
        "command": "python tests/bench/load.py --json",
        "machine": machine,
        "servers": [],
    }
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        split = ac.leave_one_out(ac.datasets.load("ml-100k"))
        ac.Recommender(MODEL, split).save(run)
        for app, workers in (("load:bare", 1), ("service:app", 1), ("service:app", 2)):
            turn = partial(served, app, workers, run, args.seconds)
            results["servers"].append(harness.quietly(turn, args.tries))
            sys.stderr.write(f"{app}, {workers} workers measured\n")
    report.publish("load", results, args.json)


if __name__ == "__main__":
    main()
