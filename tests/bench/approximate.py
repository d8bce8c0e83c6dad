"""An approximate index, measured by serving.py: `python approximate.py FOLDER`, in an
environment with faiss.

The folder holds items.npy (V, D), queries.npy (N, D) and found.npy, the true ten of
each query. faiss' inverted lists (`IndexIVFFlat`, inner product) are built with 4 √V
lists; ever more of them are searched until 95 % of the true ten are found. The last
line on stdout is one JSON object. This file imports nothing of attncore.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np

K, TOGETHER, ENOUGH = 10, 64, 0.95


def median_ms(index: Any, parts: list[np.ndarray]) -> float:
    """Milliseconds of one search, the median over parts after ten that warm up."""
    took = []
    for part in [*parts[:10], *parts]:
        since = time.perf_counter()
        index.search(part, K)
        took.append(1000 * (time.perf_counter() - since))
    return statistics.median(took[10:])


def main() -> None:
    """Build, tune and time the index."""
    folder = Path(sys.argv[1])
    items, queries, true = (
        np.load(folder / f"{name}.npy") for name in ("items", "queries", "found")
    )
    lists = round(4 * len(items) ** 0.5)
    since = time.perf_counter()
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(items.shape[1]),
        items.shape[1],
        lists,
        faiss.METRIC_INNER_PRODUCT,
    )
    index.train(items[np.random.default_rng(0).permutation(len(items))[: 50 * lists]])
    index.add(items)
    build_s = time.perf_counter() - since
    index.nprobe = 1
    while True:
        found = index.search(queries, K)[1]
        recall = np.mean(
            [
                len(set(a) & set(b)) / K
                for a, b in zip(found.tolist(), true.tolist(), strict=True)
            ]
        )
        if recall >= ENOUGH or index.nprobe >= lists:
            break
        index.nprobe = min(2 * index.nprobe, lists)
    result = {
        "lists": lists,
        "searched": index.nprobe,
        "recall": float(recall),
        "build_s": build_s,
        "one_ms": median_ms(index, [queries[n : n + 1] for n in range(200)]),
        "together_ms": median_ms(
            index,
            [queries[n : n + TOGETHER] for n in range(0, 12 * TOGETHER, TOGETHER)],
        ),
        "threads": faiss.omp_get_max_threads(),
    }
    print(json.dumps({"approximate": result}))


if __name__ == "__main__":
    main()
