"""Serving: `python tests/bench/serving.py [--peers] [--json]`.

Three parts, each a process of its own; a model's weights are as they were drawn, since
training changes no time.

- requests: ML-100K. One request at a time, and everybody at once, by PyTorch and by the
  exported graph.
- million: a made-up catalogue of 1,000,000 items, width 64; the exact top 10 for 64
  histories at a time.
- search: exact search among 10,000 to 1,000,000 vectors, and an approximate index,
  which lives in an environment of its own (see approximate.py), tuned until it finds 95
  % of the true ten.

`--peers` also has RecTools recommend to everybody, in the environment of speed.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
import report
import torch

import attncore as ac
from attncore.benchmark import describe_machine, peak_memory
from attncore.evaluation import top_k_in_parts
from attncore.export import OnnxRecommender, to_onnx
from attncore.output import catalogue_scores
from attncore.serving import PART

FAISS = "1.15.1"
MODEL = ac.RecommenderConfig(width=64, blocks=2, heads=2, length=200)  # as in speed.py
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
K, WIDTH, TOGETHER = 10, 64, 64


def milliseconds(work: Callable[[Any], object], over: Any) -> dict[str, float]:
    """The median and the 99th percentile of one call for each of `over`, after ten that
    warm up."""
    took = []
    for number, one in enumerate([*over[:10], *over]):
        since = time.perf_counter()
        work(one)
        if number >= 10:
            took.append(1000 * (time.perf_counter() - since))
    return {f"p{share}": float(np.percentile(took, share)) for share in (50, 99)}


def requests(count: int = 1000, times: int = 7) -> dict[str, Any]:
    """Requests of one user, and of all users at once, by PyTorch and by onnxruntime."""
    split = ac.leave_one_out(ac.datasets.load("ml-100k"))
    users = split.users.ids
    asked = users[np.linspace(0, len(users) - 1, count).astype(int)].tolist()
    histories = [
        split.items.decode(split.histories[row]).tolist() for row in range(len(users))
    ]
    with tempfile.TemporaryDirectory() as folder:
        ac.Recommender(MODEL, split).save(folder)
        since = time.perf_counter()
        to_onnx(folder)
        export_s = time.perf_counter() - since
        served = {"PyTorch": ac.load(folder), "ONNX": OnnxRecommender(folder)}
    found: dict[str, Any] = {
        "users": len(users),
        "items": len(split.items),
        "export_s": export_s,
    }
    for name, model in served.items():
        bulk = [
            _seconds(partial(model.recommend, users=users, k=K))
            for _ in range(times + 1)
        ][1:]
        found[name] = {
            "user": milliseconds(
                lambda user, model=model: model.recommend(users=[user], k=K), asked
            ),
            "history": milliseconds(
                lambda row, model=model: model.recommend(histories=[row], k=K),
                histories,
            ),
            "users_per_s": len(users) / float(np.median(bulk)),
        }
    return found


def million(items: int = 1_000_000, times: int = 20) -> dict[str, Any]:
    """The exact top 10 of a large catalogue for 64 histories of 50 events at a time, by
    `recommend`."""
    from scaling import made_up

    split = made_up(length=50, items=items, users=TOGETHER)
    model = ac.Recommender(ac.RecommenderConfig(width=WIDTH, length=50), split).eval()
    rng = np.random.default_rng(0)
    asked = [rng.integers(items, size=(TOGETHER, 50)).tolist() for _ in range(times)]
    batch = milliseconds(lambda rows: model.recommend(histories=rows, k=K), asked)
    one = milliseconds(lambda rows: model.recommend(histories=rows[:1], k=K), asked)
    return {
        "items": items,
        "width": WIDTH,
        "batch": TOGETHER,
        "ms": batch,
        "ms_one": one,
        "memory_mib": peak_memory(),
    }


def search(folder: Path) -> dict[str, Any]:
    """Exact search among the vectors in a folder, as `recommend` does it."""
    items_VD, queries_ND = (
        torch.from_numpy(np.load(folder / f"{name}.npy"))
        for name in ("items", "queries")
    )

    def exact(state_ND: torch.Tensor) -> np.ndarray:
        part = max(1, PART // len(state_ND))
        score = lambda places: catalogue_scores(state_ND, items_VD[places], None)  # noqa: E731
        return top_k_in_parts(score, len(items_VD), K, part)[1].numpy()

    np.save(
        folder / "found.npy",
        np.concatenate([exact(part) for part in queries_ND.split(TOGETHER)]),
    )
    return {
        "one_ms": milliseconds(exact, [*queries_ND[:200].split(1)])["p50"],
        "together_ms": milliseconds(exact, [*queries_ND[: 64 * 12].split(TOGETHER)])[
            "p50"
        ],
    }


def vectors(folder: Path, items: int, queries: int = 1024) -> None:
    """Made-up vectors that lie in clusters, as those of items do; who asks stands near
    some item."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((items // 50, WIDTH), np.float32)
    owner = rng.integers(len(centres), size=items)
    found = centres[owner] + 0.7 * rng.standard_normal((items, WIDTH), np.float32)
    asks = found[rng.integers(items, size=queries)] + 0.7 * rng.standard_normal(
        (queries, WIDTH), np.float32
    )
    np.save(folder / "items.npy", found)
    np.save(folder / "queries.npy", asks)


def faiss_python(folder: Path) -> str:
    """The Python of an environment with faiss; made unless it is there."""
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    asked = f"import faiss; assert faiss.__version__ == '{FAISS}'"
    if subprocess.run(
        [python, "-c", asked], capture_output=True, check=False
    ).returncode:
        wanted = [f"faiss-cpu=={FAISS}", "numpy"]
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *wanted],
            check=True,
            stdout=sys.stderr,
        )
    return str(python)


def _seconds(work: Callable[[], object]) -> float:
    since = time.perf_counter()
    work()
    return time.perf_counter() - since


def rectools() -> dict[str, Any]:
    """RecTools recommends 10 unseen items to every user, as speed.py has it do; two
    epochs suffice for that."""
    from speed import RECTOOLS, peer, rectools_python, write_log

    python = rectools_python(
        Path(tempfile.gettempdir()) / f"attncore-bench-rectools-{RECTOOLS}"
    )
    with tempfile.TemporaryDirectory() as folder:
        found = peer(python, "rectools", write_log(Path(folder))[0], epochs=2)
    return {
        "version": RECTOOLS,
        "users": found["users"],
        "users_per_s": found["users_per_s"],
    }


def compared(python: str, items: int) -> dict[str, Any]:
    """Exact and approximate search among as many vectors, each in a process of its
    own."""
    with tempfile.TemporaryDirectory() as folder:
        vectors(Path(folder), items)
        exact = harness.run(
            [sys.executable, __file__, "--part", "search", "--folder", folder]
        )
        found = harness.run(
            [python, str(Path(__file__).with_name("approximate.py")), folder]
        )
    return {"items": items, "exact": exact, **found}


def main() -> None:
    """Measure part by part, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", action="store_true", help="also RecTools")
    parser.add_argument(
        "--largest", type=int, default=SIZES[-1], help="most vectors to search among"
    )
    parser.add_argument(
        "--tries", type=int, default=4, help="turns, of which the quietest counts"
    )
    parser.add_argument("--threads", type=int, default=2)
    default = Path(tempfile.gettempdir()) / f"attncore-bench-faiss-{FAISS}"
    parser.add_argument(
        "--env",
        type=Path,
        default=default,
        help="faiss' environment; made unless it is there",
    )
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=report.RESULTS / "serving.json",
        help="keep the figures",
    )
    parser.add_argument(
        "--part", choices=["requests", "million", "search"], help=argparse.SUPPRESS
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "search":
        print(json.dumps(search(args.folder)))
        return
    if args.part:
        machine = {"machine": describe_machine(torch.device("cpu"), torch.float32)}
        print(
            json.dumps(
                {"requests": requests, "million": million}[args.part]() | machine
            )
        )
        return
    harness.use_threads(args.threads)
    python = faiss_python(args.env)
    results: dict[str, Any] = {
        "command": (
            f"python tests/bench/serving.py{' --peers' if args.peers else ''} --json"
        )
    }
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        part: partial(harness.run, [sys.executable, __file__, "--part", part])
        for part in ("requests", "million")
    }
    if args.peers:
        parts["rectools"] = rectools
    for name, turn in parts.items():
        results[name] = harness.quietly(turn, args.tries)
        sys.stderr.write(f"{name} measured\n")
    results["machine"] = results["requests"].pop("machine")
    del results["million"]["machine"]
    results["search"] = []
    for items in [size for size in SIZES if size <= args.largest]:
        results["search"].append(
            harness.quietly(partial(compared, python, items), args.tries)
        )
        sys.stderr.write(f"search among {items:,} measured\n")
    report.publish("serving", results, args.json)


if __name__ == "__main__":
    main()
