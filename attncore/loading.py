"""A model is read from its run folder; see `Recommender.save`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from attncore.config import ModelConfig, RankerConfig, RecommenderConfig
from attncore.errors import DataError
from attncore.features import FeatureSet
from attncore.ranking.asof import IndexedSlates
from attncore.ranking.ranker import Ranker
from attncore.recommender import Recommender
from attncore.runs import read_whole
from attncore.splits import Split

Described = tuple[ModelConfig, Split, int, FeatureSet]


def load(
    folder: str | Path, device: str | torch.device = "cpu"
) -> Recommender | Ranker:
    """Read a model that was saved, or trained by `fit(out=...)`, ready to recommend.

    Raises:
        DataError: the folder is not a run folder, or a file in it is missing, damaged,
            of another run, or does not fit the others.
    """
    return read_whole(Path(folder), read_model).to(device).eval()


def read_model(folder: Path, config: Mapping[str, Any]) -> Recommender | Ranker:
    """`load` of a run folder whose `config.json` was read already, on the CPU."""
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
    try:
        return made, Split.load(folder, IndexedSlates.from_arrays), 0, features
    except (KeyError, TypeError, IndexError, AttributeError, SafetensorError) as error:
        raise DataError(
            f"{folder}: vocabulary and histories do not fit together ({error!r}); train"
            " again"
        ) from None
