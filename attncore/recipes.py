"""Named configurations, one for each kind of log: where to start.

A recipe is two configurations and no code, so any log can be trained with any of them.
Each was chosen on the validation part of one log: "small" on MovieLens-100K,
"long-histories" on MovieLens-1M, "short-histories" on Amazon Beauty.
`tests/bench/quality.py` measures them, and `tests/bench/results/tried_second.json`
holds what was tried on the way. "sasrec" is the plain model, by which the others are
measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attncore.config import (
    ModelConfig,
    RankerConfig,
    RecommenderConfig,
    TrainingConfig,
)


@dataclass(frozen=True)
class Recipe:
    """How to build a recommender and how to train it.

    Attributes:
        about: the kind of log that it suits.
        recommender: what the model is made of.
        training: how it is trained.
    """

    about: str
    recommender: ModelConfig
    training: TrainingConfig


# What helps on every kind of log.
BASE = RecommenderConfig(positions="none", relative="position", neighbours=8)

RECIPES = {
    "small": Recipe(
        "a small log of long histories: 1,000 users, 100 events each",
        replace(
            BASE,
            dropout=0.4,
            gated=True,
            transition=5,
            prior=3,
            neighbour_weight=0.4,
        ),
        TrainingConfig(
            epochs=30,
            batch_size=16,
            clip=0,
            patience=0,
            windows="random",
            label_smoothing=0.1,
        ),
    ),
    "long-histories": Recipe(
        "a larger log of long histories: 6,000 users, 165 events each",
        replace(
            BASE,
            width=128,
            heads=4,
            gated=True,
            transition=5,
            prior=3,
            neighbour_weight=0.9,
            memory_weight=0.5,
        ),
        TrainingConfig(epochs=6, batch_size=8, clip=0, patience=0, windows="all"),
    ),
    "short-histories": Recipe(
        "many users with short histories: 22,000 users, 9 events each",
        replace(
            BASE,
            width=128,
            blocks=1,
            length=50,
            dropout=0.5,
            temperature=0.07,
            neighbour_weight=0.9,
        ),
        TrainingConfig(
            epochs=45,
            clip=0,
            patience=0,
            loss="sampled",
            negatives=2048,
            popularity=0.5,
        ),
    ),
    "sasrec": Recipe(
        "any log: plain self-attention", RecommenderConfig(), TrainingConfig()
    ),
    "complete-journey": Recipe(
        "slates: thousands of candidates shown at a moment, a few of them taken",
        RankerConfig(width=32, length=128, dropout=0.1, id_dropout=0.5),
        TrainingConfig(epochs=8, lr=3e-3, negatives=64, patience=0, ema=0.995),
    ),
}
# Names of before, of the log that a recipe was chosen on.
RECIPES |= {
    "ml-100k": RECIPES["small"],
    "ml-1m": RECIPES["long-histories"],
    "beauty": RECIPES["short-histories"],
}


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}; the recipes are {', '.join(RECIPES)}")
    return RECIPES[name]
