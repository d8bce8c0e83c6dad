"""Cold users and new films, measured: `python tests/bench/cold.py [RECIPE ...] [--seeds
0 1 2]`.

Three questions on ML-100K, each put to models with and without the profile of the users
and the attributes of the films, and to baselines:

- `cold-…`: what comes next for a user of whom the first 0, 1, 3 or 5 events are known?
  By `split_by_user`, whose five folds pool all users. A user's figure is the mean over
  the four questions; each stands alone too, as "after N".
- `warm-…`: what was the last event of a user? By `leave_one_out`.
- `new-…`: a tenth of the films is in nobody's training or history. Which of those did a
  user take? Ranked among themselves, and among all films.

A finished run is one JSON file under `results/`, in the form that quality.py writes;
its .npz has each user's NDCG@10 in "valid" and "test", and in parts of the test, "test
after 0" and so on. A finished fold is kept under `runs/cold/`. What is there is not run
again, so a broken-off series goes on where it stopped. Ends with the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import attncore as ac
from attncore.evaluation import Scorer, bootstrap_interval
from attncore.sequences import Histories
from attncore.splits import Holdout

RESULTS = Path(__file__).parent / "results"
FOLDS_KEPT = Path(__file__).parents[2] / "runs" / "cold"
DATA = "ml-100k"
KNOWN, FOLDS = (0, 1, 3, 5), 5
METRICS = ("ndcg@10", "hr@10", "mrr")
SPLITS = {"cold": "user", "warm": "leave-one-out", "new": "new films"}  # by question

PROFILE = {"user_features": ("age", "gender", "occupation")}
OF_A_NEW_FILM = {
    "item_features": ("genres", "year", "title:words"),
    "event_features": ("rating",),
}
ATTRIBUTES = {
    "item_features": (*OF_A_NEW_FILM["item_features"], "rating:mean"),
    "event_features": ("rating",),
}

# Chosen on validation: see RESULTS.md.
OPENING = 50
COLD = ac.RecommenderConfig(
    attention="self", width=32, blocks=1, heads=1, length=50, dropout=0.5, cold=True
)
WARM = ac.RecommenderConfig(attention="self", width=32, blocks=1, heads=1, length=50)
TRAINING = ac.TrainingConfig(
    epochs=40, batch_size=64, lr=5e-3, patience=8, progress=False
)
OPENINGS = (None, 50, 20, 10, 5)
SMOOTHINGS = (100.0, 300.0, 1000.0, 3000.0, 10000.0)


class GenreMatch:
    """The cosine of a film's genres with the mean genres of the history; "year" asks
    how often films of its year go.

    Neither needs to know anything of a film but its attributes.
    """

    def __init__(self, split: ac.Split, by: str = "genres") -> None:
        assert split.log is not None
        assert split.log.items is not None
        films = split.log.items.loc[split.items.ids]
        named = sorted({name for names in films["genres"] for name in names})
        genre_VG = np.array(
            [[name in names for name in named] for names in films["genres"]], float
        )
        self.genre_VG = genre_VG / np.maximum(
            np.linalg.norm(genre_VG, axis=1, keepdims=True), 1e-9
        )
        year, shown = films["year"].fillna(0).to_numpy(int), split.item_counts > 0
        taken = {
            y: split.item_counts[shown & (year == y)].mean()
            for y in np.unique(year[shown])
        }
        self.taken_V, self.by = np.array([taken.get(y, 0.0) for y in year]), by

    def score(
        self, histories: Histories, users: np.ndarray | None = None
    ) -> torch.Tensor:
        """Scores of the whole catalogue, float32 (rows, V)."""
        if self.by == "year":
            return torch.from_numpy(self.taken_V).float().repeat(len(histories), 1)
        taste_RG = np.array(
            [self.genre_VG[histories[row] - 1].mean(0) for row in range(len(histories))]
        )
        return torch.from_numpy(taste_RG @ self.genre_VG.T).float()


class Among:
    """A scorer whose candidates are some items alone."""

    def __init__(self, scorer: Scorer, allowed_V: np.ndarray) -> None:
        self.scorer, self.allowed_V = scorer, torch.from_numpy(allowed_V)

    def score(
        self, histories: Histories, users: np.ndarray | None = None
    ) -> torch.Tensor:
        """Scores of the allowed items, -inf for all others."""
        return self.scorer.score(histories, users).masked_fill(
            ~self.allowed_V, -torch.inf
        )


@dataclass(frozen=True)
class Recipe:
    """What is measured: the question, and what answers it: a model, or a baseline with
    what may be chosen for it."""

    question: str  # "cold", "warm" or "new"
    config: ac.RecommenderConfig | None = None
    baseline: Callable[..., Scorer] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    opening: int | None = (
        None  # cold users: how many first events of a training user count; None is all
    )
    # Options and openings, of which validation chooses.
    choices: Sequence[dict[str, Any]] = ()

    def scorer(self, split: ac.Split, seed: int) -> tuple[Scorer, dict[str, Any]]:
        """What answers, and its configuration."""
        if self.baseline is not None:
            return self.baseline(split, **self.options), self.options | {
                "opening": self.opening
            }
        assert self.config is not None
        training = replace(TRAINING, seed=seed)
        model = ac.Recommender(self.config, split, seed=seed)
        run = ac.fit(model, split, training)
        about = {
            "recommender": asdict(self.config),
            "training": asdict(training),
            "best_epoch": run.best_epoch,
        }
        return model, about | {"opening": self.opening}


def variants(
    question: str, config: ac.RecommenderConfig, opening: int | None = None
) -> dict[str, Recipe]:
    """A model with and without profile and attributes."""
    known: dict[str, dict[str, Any]] = {
        "plain": {},
        "profile": PROFILE,
        "attributes": ATTRIBUTES,
    }
    known["profile-attributes"] = PROFILE | ATTRIBUTES
    return {
        f"{question}-{name}": Recipe(
            question, replace(config, **features), opening=opening
        )
        for name, features in known.items()
    }


def grid(
    openings: Sequence[int | None] = (None,), smoothings: Sequence[float] = ()
) -> list[dict[str, Any]]:
    """Every choice of an opening and a smoothing."""
    return [
        {"opening": opening, **({"smoothing": smoothing} if smoothing else {})}
        for opening, smoothing in product(openings, smoothings or [0.0])
    ]


B = ac.baselines
# Nobody has taken a new film, so all are alike.
RECIPES = {
    "cold-popularity": Recipe("cold", baseline=B.Popularity),
    "cold-popularity-opening": Recipe(
        "cold", baseline=B.Popularity, choices=grid(OPENINGS)
    ),
    "cold-profile-popularity": Recipe(
        "cold", baseline=B.ProfilePopularity, choices=grid((None,), SMOOTHINGS)
    ),
    "cold-profile-popularity-opening": Recipe(
        "cold", baseline=B.ProfilePopularity, choices=grid(OPENINGS, SMOOTHINGS)
    ),
    "cold-markov-chain": Recipe("cold", baseline=B.MarkovChain),
    "cold-markov-chain-opening": Recipe(
        "cold", baseline=B.MarkovChain, choices=grid(OPENINGS)
    ),
    "warm-profile-popularity": Recipe(
        "warm", baseline=B.ProfilePopularity, choices=grid((None,), SMOOTHINGS)
    ),
    "new-chance": Recipe("new", baseline=B.Popularity),
    "new-genres": Recipe("new", baseline=GenreMatch),
    "new-year": Recipe("new", baseline=GenreMatch, options={"by": "year"}),
    **variants("cold", COLD, OPENING),
    **variants("warm", WARM),
    "new-plain": Recipe("new", WARM),
    "new-attributes": Recipe("new", replace(WARM, **OF_A_NEW_FILM)),
}


def held_films(films: int, share: float = 0.1, seed: int = 0) -> dict[str, np.ndarray]:
    """Which films test and which validate, True where they do, (V,)."""
    dealt = np.random.default_rng(seed).permutation(films) / films
    return {"test": dealt < share, "valid": (dealt >= share) & (dealt < 2 * share)}


def new_films(log: ac.Interactions) -> ac.Split:
    """Each user's last event with one of the held-out films is asked for; all else
    holds the other films alone."""
    whole = ac.leave_one_out(log)
    held, events = held_films(len(whole.items)), whole.histories
    row = np.repeat(np.arange(len(events)), events.lengths)
    kept = ~(held["test"] | held["valid"])[events.items - 1]
    # Kept events before each place of the flat array.
    before = np.concatenate([[0], np.cumsum(kept)])
    train = Histories(
        events.items[kept],
        before[events.offsets],
        events.times[kept],
        {name: column[kept] for name, column in events.attributes.items()},
    )
    counts = np.bincount(train.items, minlength=len(whole.items) + 1)[1:].astype(
        np.int64
    )
    holdouts = {}
    for name, chosen in held.items():
        at = np.flatnonzero(chosen[events.items - 1])
        at = at[np.append(row[at][1:] != row[at][:-1], True)]  # the last of each user
        known = before[at] - before[events.offsets[row[at]]]
        at, known = at[known > 0], known[known > 0]
        protocol = {"split": "new films", "films": int(chosen.sum())}
        asked = train.take(row[at], known)
        holdouts[name] = Holdout(
            name, asked, row[at], events.items[at], counts, True, protocol
        )
    return replace(whole, train=train, **holdouts)


@cache
def split_of(
    log: ac.Interactions, question: str, fold: int, opening: int | None
) -> ac.Split:
    """What is trained on and asked; only cold users have more than one fold."""
    if question == "cold":
        return ac.split_by_user(log, fold, FOLDS, KNOWN, opening=opening)
    return ac.leave_one_out(log) if question == "warm" else new_films(log)


def folds_of(recipe: Recipe) -> range:
    """The folds that together ask every user."""
    return range(FOLDS if recipe.question == "cold" else 1)


def figures(scorer: Scorer, holdout: Holdout, question: str) -> dict[str, list[float]]:
    """Each user's metrics by name, and the users' rows."""
    if question == "new":
        films = held_films(len(holdout.item_counts))[holdout.name]
        parts = {"": ac.evaluate(Among(scorer, films), holdout, bootstrap=0).per_user}
        parts[" among all"] = ac.evaluate(scorer, holdout, bootstrap=0).per_user
        users = holdout.users
    else:
        whole = ac.evaluate(scorer, holdout, bootstrap=0).per_user
        parts, users = {"": whole}, holdout.users
    # Everybody has more than 5 events, so each is asked once after each number of them.
    if question == "cold":
        known = holdout.histories.lengths
        parts = {
            f" after {n}": {name: values[known == n] for name, values in whole.items()}
            for n in KNOWN
        }
        users = holdout.users[known == KNOWN[0]]
        assert all((holdout.users[known == n] == users).all() for n in KNOWN)
        parts[""] = {
            name: np.mean([part[name] for part in parts.values()], axis=0)
            for name in METRICS
        }
    found = {
        f"{name}{also}": part[name] for also, part in parts.items() for name in METRICS
    }
    return {
        name: values.tolist() for name, values in ({"users": users} | found).items()
    }


def measure(
    recipe: Recipe, log: ac.Interactions, fold: int, seed: int, parts: Sequence[str]
) -> dict[str, Any]:
    """One fold: train, or count, and ask the questions of `parts`."""
    split, started = (
        split_of(log, recipe.question, fold, recipe.opening),
        time.perf_counter(),
    )
    scorer, config = recipe.scorer(split, seed)
    seconds = round(time.perf_counter() - started, 1)
    asked = {
        part: figures(scorer, getattr(split, part), recipe.question) for part in parts
    }
    return {"config": config, "seconds": seconds, **asked}


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file holds, made first where it is missing."""
    if not path.exists():
        write_json(path, make())
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def joined(folds: Sequence[dict[str, Any]], part: str) -> dict[str, np.ndarray]:
    """Each metric of all users, in order of their rows."""
    order = np.argsort(np.concatenate([fold[part]["users"] for fold in folds]))
    return {
        name: np.concatenate([fold[part][name] for fold in folds])[order]
        for name in folds[0][part]
    }


def chosen(name: str, log: ac.Interactions) -> Recipe:
    """The recipe, with the choice for its baseline that is best on validation."""

    def quality(recipe: Recipe) -> float:
        folds = [measure(recipe, log, fold, 0, ["valid"]) for fold in folds_of(recipe)]
        return float(joined(folds, "valid")["ndcg@10"].mean())

    recipe = RECIPES[name]
    tried = [
        replace(
            recipe,
            opening=choice["opening"],
            options={k: v for k, v in choice.items() if k != "opening"},
        )
        for choice in recipe.choices
    ]
    return max(tried, key=quality) if tried else recipe


def keep_run(name: str, seed: int, log: ac.Interactions) -> None:
    """Measure all folds, and write the run; in the form of quality.py's."""
    recipe, folds = chosen(name, log), []
    for fold in folds_of(recipe):
        work = partial(measure, recipe, log, fold, seed, ["valid", "test"])
        folds.append(
            work()
            if recipe.baseline
            else kept(FOLDS_KEPT / f"{name}-{seed}-{fold}.json", work)
        )
    config = folds[0]["config"] | {"tried": max(1, len(recipe.choices))}
    if recipe.baseline is None:
        config["best_epoch"] = [fold["config"]["best_epoch"] for fold in folds]
    run: dict[str, Any] = {
        "data": DATA,
        "split": SPLITS[recipe.question],
        "recipe": name,
        "seed": seed,
        "kind": "row" if recipe.baseline is None else "baseline",
        "config": config,
        "seconds": round(sum(fold["seconds"] for fold in folds), 1),
    }
    per_user = {}
    for part in ("valid", "test"):
        users = joined(folds, part)
        users.pop("users")
        mean = np.array([values.mean() for values in users.values()])
        low, high = bootstrap_interval(np.stack([*users.values()], axis=1))
        # Of a constant they differ by rounding.
        ends = np.stack([np.minimum(low, mean), np.maximum(high, mean)], axis=1)
        run[part] = {
            "metrics": dict(zip(users, mean.tolist(), strict=True)),
            "interval": dict(zip(users, ends.tolist(), strict=True)),
        }
        per_user |= {
            part + metric.removeprefix("ndcg@10"): values.astype(np.float32)
            for metric, values in users.items()
            if metric.startswith("ndcg@10") and (part == "test" or metric == "ndcg@10")
        }
    path = path_of(name, seed)
    np.savez_compressed(path.with_suffix(".npz"), **per_user)
    write_json(path, run | {"per_user": path.with_suffix(".npz").name})


def write_json(path: Path, content: dict[str, Any]) -> None:
    """The whole file, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(
        json.dumps(content, indent=1 if path.parent == RESULTS else None) + "\n"
    )
    fresh.replace(path)


def path_of(name: str, seed: int) -> Path:
    """Where a run is kept."""
    return RESULTS / f"{DATA}-{name}-{seed}.json"


def table() -> str:
    """Every kept run of this file, mean over its seeds; NDCG@10 on validation and test,
    and in parts on test."""
    lines = []
    for question, parts in (
        ("cold", [f" after {n}" for n in KNOWN]),
        ("warm", []),
        ("new", [" among all"]),
    ):
        lines.append(
            f"\n{question:<34}{'seeds':>6}{'valid':>9}{'test':>9}{'interval':>18}"
            + "".join(f"{p:>11}" for p in parts)
        )
        for name in [
            name for name, recipe in RECIPES.items() if recipe.question == question
        ]:
            runs = [
                json.loads(path.read_text())
                for path in sorted(RESULTS.glob(f"{DATA}-{name}-[0-9].json"))
            ]
            if not runs:
                continue

            def mean(
                part: str, metric: str = "ndcg@10", runs: list[dict[str, Any]] = runs
            ) -> float:
                return float(np.mean([run[part]["metrics"][metric] for run in runs]))

            low, high = np.mean(
                [run["test"]["interval"]["ndcg@10"] for run in runs], axis=0
            )
            lines.append(
                f"{name:<34}{len(runs):>6}{mean('valid'):>9.4f}{mean('test'):>9.4f}"
                f"{f'{low:.4f} to {high:.4f}':>18}"
                + "".join(f"{mean('test', 'ndcg@10' + also):>11.4f}" for also in parts)
            )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "recipes", nargs="*", metavar="RECIPE", help="names, or beginnings of names"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    names = [
        name
        for name in RECIPES
        if not args.recipes or name.startswith(tuple(args.recipes))
    ]
    if not names:
        parser.error(
            f"unknown recipe {', '.join(args.recipes)}; choose from"
            f" {', '.join(RECIPES)}"
        )
    log = ac.datasets.load(DATA)
    for seed in args.seeds:
        for name in names:
            missing = not path_of(name, seed).exists()
            # What only counts needs one seed.
            if missing and (RECIPES[name].baseline is None or seed == 0):
                keep_run(name, seed, log)
    print(table())


if __name__ == "__main__":
    main()
