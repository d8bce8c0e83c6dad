"""Named configurations, each tuned on one log: where to start on a log of its kind.

A recipe is two configurations and no code, so any log can be trained with any of them.
`tests/bench/quality.py` measures each one, and `tests/bench/results/tried.json` holds
what was tried on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

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


RECIPES = {
    "ml-100k": Recipe(
        "a small log of long histories: 1,000 users, 100 events each",
        RecommenderConfig(
            dropout=0.4, positions="none", relative="position", gated=True, transition=5
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
    "ml-1m": Recipe(
        "a larger log of long histories: 6,000 users, 165 events each",
        RecommenderConfig(
            width=128,
            heads=4,
            positions="none",
            relative="position",
            gated=True,
            transition=5,
        ),
        TrainingConfig(epochs=15, batch_size=32, clip=0, patience=0, windows="random"),
    ),
    "beauty": Recipe(
        "many users with short histories: 22,000 users, 9 events each",
        RecommenderConfig(
            width=128,
            blocks=1,
            length=50,
            dropout=0.5,
            positions="none",
            relative="position",
            temperature=0.07,
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
    "complete-journey": Recipe(
        "slates: thousands of candidates shown at a moment, a few of them taken",
        RankerConfig(width=32, length=128, dropout=0.1, id_dropout=0.5),
        TrainingConfig(epochs=8, lr=3e-3, negatives=64, patience=0, ema=0.995),
    ),
}


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}; the recipes are {', '.join(RECIPES)}")
    return RECIPES[name]
