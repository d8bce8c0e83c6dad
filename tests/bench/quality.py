"""Quality, measured: `python tests/bench/quality.py DATA [--logs FOLDER] [--only NAME
...] [--seeds 0 1 2]`.

Trains every recipe of a data set for each seed, evaluates validation and test once, and
keeps each finished run as one JSON file under `results/`: {"data", "split", "recipe",
"seed", "kind": "row" | "ablation" | "baseline", "config", "seconds", "valid":
{"metrics", "interval"}, "test": {"metrics", "interval"}, "per_user": file}. A run that
is there already is not run again, and one that was broken off goes on from its
checkpoint in `runs/quality`. Ends with the table.

`ml-100k` comes from the loader. `ml-1m` and `beauty` are the files that the published
tables were measured on, `FOLDER/ml-1m.csv.gz` and `FOLDER/beauty.csv.gz`, whose row
order is time order. "per_user" is an .npz beside the JSON with two arrays, "valid" and
"test": each user's NDCG@10, in one order for all runs of a data set and split.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rivals import RIVALS, HistoryNeighbours, ItemNeighbours, rivals_of

import attncore as ac
from attncore.recipes import RECIPES

RESULTS = Path(__file__).parent / "results"
RUNS = Path(__file__).parents[2] / "runs" / "quality"
SPLITS = {"leave-one-out": ac.leave_one_out, "time": ac.split_by_time}
# EASE's: on the MovieLens logs the best on validation of 50, 200, 500, 1000 and 2000;
# on Beauty the default, not tuned.
PENALTY = {"ml-100k": 50.0, "ml-1m": 200.0, "beauty": 500.0}
BASELINES: dict[str, Callable[[ac.Split, str], Any]] = {
    "popularity": lambda split, data: ac.baselines.Popularity(split),
    "recent-popularity": lambda split, data: ac.baselines.RecentPopularity(split),
    "markov-chain": lambda split, data: ac.baselines.MarkovChain(split),
    "markov-chain-normalized": lambda split, data: ac.baselines.MarkovChain(
        split, normalize=True
    ),
    "ease": lambda split, data: ac.baselines.EASE(split, PENALTY[data]),
    "item-knn": lambda split, data: ItemNeighbours(split),
    "v-sknn": lambda split, data: HistoryNeighbours(split),
}

# The recipe for the kind of log that each data set is.
KIND = {"ml-100k": "small", "ml-1m": "long-histories", "beauty": "short-histories"}

Configs = tuple[ac.RecommenderConfig, ac.TrainingConfig]
RELATIVE: dict[str, Any] = {"positions": "none", "relative": "position"}
# The recipes of the first edition: their runs have the data set's name.
FIRST: dict[str, Configs] = {
    "ml-100k": (
        ac.RecommenderConfig(dropout=0.4, gated=True, transition=5, **RELATIVE),
        ac.TrainingConfig(
            epochs=30,
            batch_size=16,
            clip=0,
            patience=0,
            windows="random",
            label_smoothing=0.1,
        ),
    ),
    "ml-1m": (
        ac.RecommenderConfig(width=128, heads=4, gated=True, transition=5, **RELATIVE),
        ac.TrainingConfig(
            epochs=15, batch_size=32, clip=0, patience=0, windows="random"
        ),
    ),
    "beauty": (
        ac.RecommenderConfig(
            width=128, blocks=1, length=50, dropout=0.5, temperature=0.07, **RELATIVE
        ),
        ac.TrainingConfig(
            epochs=45,
            clip=0,
            patience=0,
            loss="sampled",
            negatives=2048,
            popularity=0.5,
        ),
    ),
}


def rows_of(data: str) -> dict[str, Configs]:
    """The models that stand in the table of a data set, by name."""
    short = ac.TrainingConfig(
        epochs=30, batch_size=64, lr=5e-3, negatives=128, patience=10
    )
    rows = {
        "mean": (
            ac.RecommenderConfig(attention="mean", length=50, positions="none"),
            short,
        ),
        "target": (
            ac.RecommenderConfig(
                attention="target", length=50, positions="none", heads=1
            ),
            short,
        ),
        "self": (ac.RecommenderConfig(attention="self"), ac.TrainingConfig()),
    }
    chosen, plain = RECIPES[KIND[data]], RECIPES["sasrec"]
    if data != "ml-100k":  # there it has been "self" from the beginning
        rows = {"sasrec": (plain.recommender, plain.training)}
    return (
        rows
        | {data: FIRST[data], KIND[data]: (chosen.recommender, chosen.training)}
        | rivals_of(data)
    )


# From the first edition's recipe back to plain SASRec: each line undoes one more
# choice, the last one first.
UNDONE: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "ml-100k": [
        ("hard-targets", {"label_smoothing": 0.0}),
        ("plain-blocks", {"gated": False}),
        ("no-transition", {"transition": 0}),
        ("no-relative", {"relative": "none", "positions": "learned"}),
        ("newest-windows", {"windows": "last"}),
        ("bce", {"loss": "bce", "negatives": 128}),
    ],
}


# What each part of the second edition's recipes is worth: each line changes one choice.
# What only adds when the model is asked is left out of the recipe's own trained model.
WITHOUT: dict[str, dict[str, dict[str, Any]]] = {
    "ml-100k": {
        "without-neighbours": {"neighbours": 0},
        "without-prior": {"prior": 0},
        "without-transition": {"transition": 0},
        "without-gates": {"gated": False},
        "without-relative": {"relative": "none", "positions": "learned"},
        "with-newest-windows": {"windows": "last"},
    },
    "ml-1m": {
        "without-neighbours": {"neighbours": 0},
        "without-memory": {"memory_weight": 0.0},
        "without-both": {"neighbours": 0, "memory_weight": 0.0},
        "without-prior": {"prior": 0},
        "without-transition": {"transition": 0},
        "with-random-windows": {"windows": "random", "epochs": 15, "batch_size": 32},
    },
    "beauty": {
        "without-neighbours": {"neighbours": 0},
        "without-temperature": {"temperature": 0.0},
        "without-relative": {"relative": "none", "positions": "learned"},
        "with-transition": {"transition": 3},
        "with-full-loss": {"loss": "full", "epochs": 20},
    },
}
ASKED = {"neighbours", "memory_weight"}


def changed(configs: Configs, changes: dict[str, Any]) -> Configs:
    """The configurations with some fields changed, of either."""
    recommender, training = configs
    own = {name: to for name, to in changes.items() if hasattr(recommender, name)}
    rest = {name: to for name, to in changes.items() if name not in own}
    return replace(recommender, **own), replace(training, **rest)


def ablations_of(data: str) -> dict[str, Configs]:
    """The second edition's recipe with one choice changed; and from the first edition's
    back to plain SASRec, each of which differs from the one before in one choice."""
    steps, configs = {}, rows_of(data)[KIND[data]]
    for name, changes in WITHOUT[data].items():
        steps[name] = changed(configs, changes)
    configs = FIRST[data]
    for name, changes in UNDONE.get(data, []):
        steps[name] = configs = changed(configs, changes)
    return steps


def path_of(data: str, split: str, recipe: str, seed: int) -> Path:
    """Where a run is kept."""
    return RESULTS / f"{data}-{'time-' if split == 'time' else ''}{recipe}-{seed}.json"


def load_log(data: str, logs: Path | None) -> ac.Interactions:
    """The log: from `logs` if its file is there, else from the loader."""
    if logs is not None and (path := logs / f"{data}.csv.gz").exists():
        return ac.read_interactions(path)
    return ac.datasets.load(data)


def trained(
    configs: Configs, split: ac.Split, seed: int, name: str, recipe: str = ""
) -> tuple[ac.Recommender, dict[str, Any], ac.Report]:
    """A model, trained in `runs/quality` under that name unless it was trained there
    before, how it was made, and what it reaches on validation."""
    training = replace(configs[1], seed=seed)
    kind = RIVALS.get(recipe, ac.Recommender)
    model = kind(configs[0], split, seed=seed)
    run = ac.fit(model, split, training, out=RUNS / name, resume=True)
    config = {
        "recommender": asdict(configs[0]),
        "training": asdict(training),
        "best_epoch": run.best_epoch,
    }
    seconds = round(sum(epoch["seconds"] for epoch in run.epochs), 1)
    return model, config | {"seconds_trained": seconds}, run.valid


def measure(
    data: str,
    how: str,
    recipe: str,
    seed: int,
    split: ac.Split,
    configs: Configs | None,
) -> dict[str, Any]:
    """Train (a baseline only counts), and evaluate on validation and test."""
    started = time.perf_counter()
    config: dict[str, Any] = {}
    scorer: Any
    if configs is None:
        scorer = BASELINES[recipe](split, data)
        valid = ac.evaluate(scorer, split.valid)
    else:
        name = path_of(data, how, recipe, seed).stem
        whole = rows_of(data)[KIND[data]]
        if set(WITHOUT[data].get(recipe, {"": 0})) <= ASKED:
            name = path_of(data, how, KIND[data], seed).stem
            scorer, config, _ = trained(whole, split, seed, name, recipe)
            weights = scorer.state_dict()
            scorer = ac.Recommender(configs[0], split)
            scorer.load_state_dict(weights)
            scorer.eval()
            config["recommender"] = asdict(configs[0])
            valid = ac.evaluate(scorer, split.valid)
        else:
            scorer, config, valid = trained(configs, split, seed, name, recipe)
    seconds = round(time.perf_counter() - started, 1)
    reports = {"valid": valid, "test": ac.evaluate(scorer, split.test)}
    found = {
        name: {"metrics": report.metrics, "interval": report.interval}
        for name, report in reports.items()
    }
    about = {"data": data, "split": how, "recipe": recipe, "seed": seed}
    per_user = {
        name: report.per_user["ndcg@10"].astype(np.float32)
        for name, report in reports.items()
    }
    return (
        about | {"config": config, "seconds": seconds} | found | {"per_user": per_user}
    )


def keep(run: dict[str, Any], path: Path) -> None:
    """Write a finished run, whole or not at all."""
    per_user = path.with_suffix(".npz")
    np.savez_compressed(per_user, **run["per_user"])
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(run | {"per_user": per_user.name}, indent=1) + "\n")
    fresh.replace(path)


def table(data: str, split: str) -> str:
    """Every kept recipe, mean over its seeds, best on validation first."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob(f"{data}-*.json")):
        run = json.loads(path.read_text())
        if run["data"] == data and run["split"] == split:
            runs.setdefault(run["recipe"], []).append(run)
    columns = [
        (part, metric) for part in ("valid", "test") for metric in ("ndcg@10", "hr@10")
    ]
    figures = {
        recipe: [
            float(np.mean([run[part]["metrics"][metric] for run in found]))
            for part, metric in columns
        ]
        for recipe, found in runs.items()
    }
    lines = [
        f"{data + ', ' + split:<32}{'seeds':>6}"
        + "".join(f"{f'{p} {m}':>15}" for p, m in columns)
    ]
    for recipe in sorted(runs, key=lambda recipe: -figures[recipe][0]):
        lines.append(
            f"{recipe:<32}{len(runs[recipe]):>6}"
            + "".join(f"{value:>15.4f}" for value in figures[recipe])
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=list(PENALTY))
    parser.add_argument(
        "--logs", type=Path, help="the folder of the published tables' files"
    )
    parser.add_argument("--split", choices=list(SPLITS), default="leave-one-out")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help="of the rows, ablations and baselines; all if left out",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    rows, ablations = rows_of(args.data), ablations_of(args.data)
    known = [*BASELINES, *rows, *ablations]
    if unknown := set(args.only or ()) - set(known):
        parser.error(
            f"no {', '.join(sorted(unknown))} for {args.data}; choose from"
            f" {', '.join(known)}"
        )
    split = SPLITS[args.split](load_log(args.data, args.logs))
    for seed in args.seeds:
        for recipe in args.only or known:
            path = path_of(args.data, args.split, recipe, seed)
            if path.exists() or (recipe in BASELINES and seed != args.seeds[0]):
                continue
            kind = (
                "baseline"
                if recipe in BASELINES
                else "row"
                if recipe in rows
                else "ablation"
            )
            found = measure(
                args.data,
                args.split,
                recipe,
                seed,
                split,
                (rows | ablations).get(recipe),
            )
            keep(found | {"kind": kind}, path)
    print(table(args.data, args.split))


if __name__ == "__main__":
    main()
