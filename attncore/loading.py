"""A model or baseline is read from its run folder; see `Recommender.save`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from attncore import baselines
from attncore.baselines import Baseline
from attncore.config import ModelConfig, RankerConfig, RecommenderConfig
from attncore.errors import DataError, one_line
from attncore.features import FeatureSet
from attncore.ranking.asof import IndexedSlates
from attncore.ranking.baselines import PersonalHabit, PopularLately, SlateBaseline
from attncore.ranking.ranker import Ranker
from attncore.recommender import Recommender
from attncore.runs import read_whole
from attncore.splits import Split

Described = tuple[ModelConfig, Split, int, FeatureSet]
Loaded = Recommender | Ranker | Baseline | SlateBaseline

KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        baselines.Popularity,
        baselines.RecentPopularity,
        baselines.ProfilePopularity,
        baselines.PersonalFrequency,
        baselines.MarkovChain,
        baselines.EASE,
        PopularLately,
        PersonalHabit,
    )
}


def load(folder: str | Path, device: str | torch.device = "cpu") -> Loaded:
    """Read a model that was saved, or trained by `fit(out=...)`, ready to recommend.

    A saved baseline too; it counts on the CPU, whatever the device.

    Raises:
        DataError: the folder is not a run folder, or a file in it is missing, damaged,
            of another run, or does not fit the others.
    """
    found = read_whole(Path(folder), read_model)
    return found.to(device).eval() if isinstance(found, torch.nn.Module) else found


def read_model(folder: Path, config: Mapping[str, Any]) -> Loaded:
    """`load` of a run folder whose `config.json` was read already, on the CPU."""
    if "baseline" in config:
        return _baseline(folder, config["baseline"])
    parts: Any = described(folder, config)
    is_ranker = isinstance(parts[0], RankerConfig)
    model = Ranker(*parts) if is_ranker else Recommender(*parts)
    weights = load_file(folder / "weights.safetensors")
    try:
        model.take_weights(weights)
    except (RuntimeError, TypeError) as error:
        why = " ".join(str(error).split())[:200]
        raise DataError(
            f"{folder / 'weights.safetensors'}: does not fit config.json ({why}); train"
            " again"
        ) from None
    return model


def _baseline(folder: Path, about: Mapping[str, Any]) -> Baseline | SlateBaseline:
    """A saved baseline, which is not counted anew."""
    learned = load_file(folder / "weights.safetensors")
    arrays = {name: tensor.numpy() for name, tensor in learned.items()}
    split = _split(folder)
    try:
        options = dict(about)
        found: Any = KINDS[options.pop("kind")]
        return found(split, **options, learned=arrays)
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder}: does not hold a baseline ({one_line(error)}); make and save it"
            " again"
        ) from None


def described(folder: Path, config: Mapping[str, Any]) -> Described:
    """What a model is made of, from its run folder and `config.json`: all but weights.

    Raises:
        DataError: as for `load`.
    """
    try:
        made: ModelConfig
        if "ranker" in config:
            made = RankerConfig(**config["ranker"])
        else:
            made = RecommenderConfig(**config["recommender"])
        features = FeatureSet.from_json(config.get("features", {}))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{folder / 'config.json'}: does not describe a recommender ({error});"
            " train again"
        ) from None
    return made, _split(folder), 0, features


def _split(folder: Path) -> Split:
    try:
        return Split.load(folder, IndexedSlates.from_arrays)
    except (KeyError, TypeError, IndexError, AttributeError, SafetensorError) as error:
        raise DataError(
            f"{folder}: vocabulary and histories do not fit together ({error!r}); train"
            " again"
        ) from None
