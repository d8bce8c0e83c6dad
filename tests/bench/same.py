"""Does a change that should change nothing change nothing? Every kind of model, trained
for some steps, bit by bit.

From fixed seeds, on one CPU thread in float32, each case is trained for a few steps on
a small planted or made log, then evaluated and asked. Losses, metrics, recommendations
and weights are printed as exact hexadecimal numbers, so the output before and after a
change must be the same on one machine:

    python tests/bench/same.py > before.txt
    python tests/bench/same.py --against before.txt

The whole takes about a minute on one core. On another CPU, or with another PyTorch, the
figures differ.
"""

import argparse
import dataclasses
import difflib
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from mapped import memory_mapped

import attncore as ac
from attncore.ranking.baselines import PersonalHabit, PopularLately
from attncore.recipes import RECIPES

QUICK = {
    "epochs": 2,
    "batch_size": 32,
    "warmup": 2,
    "progress": False,
    "precision": "float32",
    "device": "cpu",
}
SMALL = {"width": 16, "heads": 2, "blocks": 2, "length": 10}
RICH = {
    "item_features": ("title", "colour", "partners", "mood:number"),
    "user_features": ("age:quantile", "town"),
    "event_features": ("mood",),
    "situation_features": ("mood", "weather"),
}
MODELS = {
    "self": {},
    "self, plain dot products without biases": {
        "item_bias": False,
        "dropout": 0.0,
        "blocks": 1,
    },
    "self, newest positions": {
        "positions": "newest",
        "attention_dropout": 0.2,
        "feedforward": 3,
    },
    "self, relative position, gated": {
        "relative": "position",
        "gated": True,
        "positions": "none",
    },
    "self, relative time, transition": {"relative": "time", "transition": 3},
    "self, cosines, pooled": {"temperature": 0.1, "combine": "pooled"},
    "self, all features": {**RICH, "feature_dropout": 0.2, "id_dropout": 0.3},
    "self, cold": {
        "user_features": ("town",),
        "cold": True,
        "item_features": ("colour",),
    },
    "target": {"attention": "target"},
    "target, additive": {
        "attention": "target",
        "score": "additive",
        "combine": "whole",
    },
    "target, raw weights": {
        "attention": "target",
        "normalize": False,
        "combine": "pooled",
    },
    "target, all features": {**RICH, "attention": "target"},
    "target, cold": {"attention": "target", "user_features": ("town",), "cold": True},
    "lstm": {"attention": "lstm"},
    "lstm, whole": {
        "attention": "lstm",
        "combine": "whole",
        "hidden": 6,
        "event_features": ("mood",),
    },
    "mean": {"attention": "mean"},
    "mean, transition": {"attention": "mean", "transition": 2, "combine": "pooled"},
}
TRAININGS = {
    "full, smoothed": {"loss": "full", "label_smoothing": 0.1},
    "sampled": {"loss": "sampled", "negatives": 20, "popularity": 0.5},
    "gbce": {"loss": "gbce", "negatives": 20, "calibration": 0.5},
    "bce": {"loss": "bce", "negatives": 5},
    "random windows, accumulated": {
        "windows": "random",
        "accumulate": 2,
        "batch_size": 16,
    },
    "averaged, constant, unclipped": {
        "ema": 0.9,
        "schedule": "constant",
        "clip": 0.0,
        "weight_decay": 0.1,
    },
}
RANKERS = {
    "target": {},
    "mean": {"attention": "mean"},
    "additive": {"score": "additive", "item_bias": False},
    "raw weights, hidden ids": {"normalize": False, "id_dropout": 0.3, "dropout": 0.1},
    "chosen features": {
        "item_features": ("kind",),
        "user_features": ("age",),
        "situation_features": ("display", "price_cut"),
        "feature_dropout": 0.2,
    },
}


def planted() -> ac.Interactions:
    """A small planted log with more to know of users, items and events."""
    log = ac.datasets.planted(users=90, items=40, length=14)
    rng = np.random.default_rng(1)
    events = log.events.assign(
        mood=rng.normal(size=len(log.events)).round(3),
        weather=rng.choice(["sun", "rain", "snow"], len(log.events)),
    )
    users = pd.DataFrame(
        {
            "age": rng.integers(18, 80, 80),
            "town": rng.choice(["Aber", "Bont", "Cwm"], 80),
        },
        pd.Index(np.arange(1, 81), name="user"),
    )
    items = log.items.assign(mood=rng.normal(size=len(log.items)).round(3))
    return dataclasses.replace(
        log, events=events, users=users, items=items, repeats=False
    )


def exact(value: float) -> str:
    return float(value).hex()


def checksum(array: object) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(array).tobytes()):08x}"


def weights_of(model: object) -> str:
    """One checksum of all weights, whatever order and names they have."""
    return " ".join(
        sorted(
            checksum(tensor.detach().numpy()) for tensor in model.state_dict().values()
        )
    )


def told(picks: list) -> Iterator[str]:
    for pick in picks:
        yield " ".join(
            f"{item}={exact(score)}"
            for item, score in zip(pick.items, pick.scores, strict=True)
        )


def table(frame: pd.DataFrame) -> str:
    numbers = [
        checksum(frame[name].to_numpy())
        for name in frame.columns
        if frame[name].dtype.kind in "if"
    ]
    return f"{len(frame)} rows {' '.join(frame.columns)} {' '.join(numbers)}"


def figures(report: ac.Report) -> Iterator[str]:
    for name, value in report.metrics.items():
        bounds = " ".join(exact(end) for end in report.interval.get(name, ()))
        yield f"{name} {exact(value)} {bounds}".rstrip()


def trained(model: object, split: ac.Split, **config: object) -> Iterator[str]:
    yield f"begins with {weights_of(model)}"
    run = ac.fit(model, split, ac.TrainingConfig(**{**QUICK, **config}))
    for epoch in run.epochs:
        kept = {
            name: value
            for name, value in epoch.items()
            if name not in ("seconds", "positions_per_s")
        }
        yield " ".join(f"{name}={exact(value)}" for name, value in kept.items())
    yield f"ends with {weights_of(model)}"
    yield from figures(ac.evaluate(model, split.test, bootstrap=50))


def asked(model: object, split: ac.Split) -> Iterator[str]:
    """Everything that a recommender is asked."""
    users = split.users.ids[:3].tolist()
    yield from told(model.recommend(users=users, k=4))
    yield from told(
        model.recommend(
            histories=[[3, 8, 20], []], k=3, exclude=[7], exclude_seen=False
        )
    )
    yield from told(
        model.recommend(
            histories=[[3, 8]], k=3, candidates=[1, 2, 5, 9], only=[2, 5, 99]
        )
    )
    yield from told(model.similar_items([3, 4], k=2))
    is_target = model.config.attention == "target"
    yield table(
        model.attention(users=users[:1], candidates=[1, 2] if is_target else None)
    )
    yield table(model.attention(histories=[[3, 8, 20]], every_query=not is_target))
    yield table(model.erasure(histories=[[3, 8, 20]], candidates=[1, 2]))
    if model.config.situation_features:
        yield from told(
            model.recommend(
                users=users, k=2, situation={"weather": "rain", "town": "Cwm"}
            )
        )
    if model.config.item_features and "partners" in model.config.item_features:
        new = pd.DataFrame(
            {
                "title": ["red 1"],
                "colour": ["red"],
                "partners": [(1, 2)],
                "mood": [0.5],
            },
            [1000],
        )
        yield from told(model.with_items(new).recommend(users=users, k=2))
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        yield from told(ac.load(folder).recommend(users=users, k=2))


def asked_ranker(model: object, split: ac.Split) -> Iterator[str]:
    """Everything that a ranker is asked."""
    users = split.users.ids[:3].tolist()
    yield from told(
        model.recommend(users=users, k=4, situation={"store": 1, "week": 12})
    )
    yield from told(
        model.recommend(histories=[[100, 105, 105], []], k=3, exclude=[999])
    )
    yield from told(
        model.recommend(
            users=users[:1], k=3, candidates=[100, 101, 102], exclude_seen=True
        )
    )
    slates = split.test.slates
    yield checksum(model.score_slate(slates, 3))
    yield table(
        model.slate_attention(
            slates, 3, split.items.decode(slates.items[slates.list_of(3)][:2]).tolist()
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        yield from told(ac.load(folder).recommend(users=users, k=2))


def recommender(split: ac.Split, **config: object) -> object:
    return ac.Recommender(ac.RecommenderConfig(**{**SMALL, **config}), split, seed=1)


def ranker(split: ac.Split, **config: object) -> object:
    given = {"attention": "target", "width": 16, "heads": 2, "length": 12, **config}
    return ac.Ranker(ac.RankerConfig(**given), split, seed=1)


def shrunk(name: str, split: ac.Split) -> Iterator[str]:
    """A recipe at small size."""
    recipe = RECIPES[name]
    sizes = {
        field: min(getattr(recipe.recommender, field), most)
        for field, most in SMALL.items()
        if hasattr(recipe.recommender, field)
    }
    kind = ac.Recommender if split.slates is None else ac.Ranker
    model = kind(dataclasses.replace(recipe.recommender, **sizes), split, seed=1)
    training = dataclasses.replace(
        recipe.training, **{**QUICK, "negatives": min(recipe.training.negatives, 16)}
    )
    yield from trained(model, split, **dataclasses.asdict(training))


def baselines(split: ac.Split) -> Iterator[str]:
    rivals = [
        ac.baselines.Popularity(split),
        ac.baselines.RecentPopularity(split),
        ac.baselines.ProfilePopularity(split, ("town", "age:quantile"), smoothing=50.0),
        ac.baselines.PersonalFrequency(split),
        ac.baselines.MarkovChain(split),
        ac.baselines.MarkovChain(split, lags=3, normalize=True),
        ac.baselines.EASE(split, penalty=20.0),
    ]
    for rival in rivals:
        yield type(rival).__name__
        yield checksum(rival.score(split.test.histories, split.test.users).numpy())
        yield from figures(ac.evaluate(rival, split.test, bootstrap=20))


def from_disk(log: ac.Interactions) -> Iterator[str]:
    """A log prepared in shards, and one whose histories lie in files."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        log.events[["user", "item", "time"]].to_csv(folder / "log.csv", index=False)
        for how in ("leave-one-out", "time"):
            prepared = ac.prepare(
                folder / "log.csv",
                folder / how,
                split=how,
                valid=0.3,
                test=0.3,
                shards=3,
                threads=1,
            )
            split = prepared.split()
            yield (
                checksum(split.train.items[:])
                + checksum(split.valid.targets)
                + checksum(split.test.targets)
            )
            yield from trained(recommender(split), split)
            yield from figures(
                ac.evaluate(
                    ac.baselines.Popularity(split),
                    prepared.questions("test"),
                    bootstrap=5,
                )
            )
        split = ac.leave_one_out(log)
        # Text cannot be memory-mapped.
        numbers = {"mood": split.train.attributes["mood"]}
        train = dataclasses.replace(split.train, attributes=numbers)
        train = memory_mapped(train, folder / "mapped")
        split = dataclasses.replace(split, train=train)
        yield from trained(recommender(split, event_features=("mood",)), split)


def cases() -> Iterator[tuple[str, Iterator[str]]]:
    """Every case by name, and the lines of its figures."""
    log = planted()
    split, by_time, by_user = (
        ac.leave_one_out(log),
        ac.split_by_time(log, 0.3, 0.3),
        ac.split_by_user(log, known=(0, 2)),
    )
    for name, config in MODELS.items():
        model = recommender(split, **config)
        yield f"model: {name}", trained(model, split)
        yield f"asked: {name}", asked(model, split)
    for name, config in TRAININGS.items():
        yield f"training: {name}", trained(recommender(split), split, **config)
    yield (
        "training: target, gbce",
        trained(recommender(split, attention="target"), split, loss="gbce"),
    )
    yield "split: time", trained(recommender(by_time), by_time)
    cold = {"cold": True, "user_features": ("town",), "item_features": ("colour",)}
    yield "split: user", trained(recommender(by_user, **cold), by_user)
    yield "baselines", baselines(split)
    yield "baselines, by user", baselines(by_user)
    for name in RECIPES:
        if name != "complete-journey":
            yield f"recipe: {name}", shrunk(name, split)
    yield "from disk", from_disk(log)

    sys.path.append(str(Path(__file__).parents[1]))
    from shop import shop_log

    shop = ac.split_by_time(shop_log())
    for name, config in RANKERS.items():
        model = ranker(shop, **config)
        yield f"ranker: {name}", trained(model, shop, negatives=8)
        yield f"ranker asked: {name}", asked_ranker(model, shop)
    yield (
        "ranker: bce",
        trained(ranker(shop), shop, loss="bce", negatives=8, ema=0.9, accumulate=2),
    )
    yield "recipe: complete-journey", shrunk("complete-journey", shop)
    for rival in (PopularLately(), PersonalHabit()):
        yield (
            f"slates: {type(rival).__name__}",
            figures(ac.evaluate(rival, shop.test, bootstrap=20)),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="an earlier output; exit status 1 if it differs",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for name, figures_of in cases():
        for line in (f"== {name}", *figures_of):
            lines.append(line)
            if args.against is None:
                print(line, flush=True)
    if args.against is None:
        return
    before = args.against.read_text(encoding="utf-8").splitlines()
    odd = list(difflib.unified_diff(before, lines, "before", "now", lineterm="", n=1))
    print("\n".join(odd) if odd else f"the same: {len(lines)} lines")
    raise SystemExit(bool(odd))


if __name__ == "__main__":
    main()
