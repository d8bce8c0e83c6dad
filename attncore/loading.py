"""A recommender is read from its run folder; see `Recommender.save`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from attncore.config import RecommenderConfig
from attncore.errors import DataError
from attncore.features import FeatureSet
from attncore.recommender import Recommender
from attncore.runs import read_whole
from attncore.splits import Split


def load(folder: str | Path, device: str | torch.device = "cpu") -> Recommender:
    """Read a model that `Recommender.save` or `fit(out=...)` wrote, ready to recommend.

    Raises:
        DataError: the folder is not a run folder, or a file in it is missing, damaged,
            of another run, or does not fit the others.
    """
    return read_whole(Path(folder), read_model).to(device).eval()


def read_model(folder: Path, config: Mapping[str, Any]) -> Recommender:
    """`load` of a run folder whose `config.json` was read already, on the CPU."""
    model = Recommender(*described(folder, config))
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


def described(
    folder: Path, config: Mapping[str, Any]
) -> tuple[RecommenderConfig, Split, int, FeatureSet]:
    """What `Recommender` is made of, from a run folder and its `config.json`: all but the weights.

    Raises:
        DataError: as for `load`.
    """
    try:
        recommender = RecommenderConfig(**config["recommender"])
        features = FeatureSet.from_json(config.get("features", {}))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{folder / 'config.json'}: does not describe a recommender ({error});"
            " train again"
        ) from None
    try:
        return recommender, Split.load(folder), 0, features
    except (KeyError, TypeError, IndexError, AttributeError, SafetensorError) as error:
        raise DataError(
            f"{folder}: vocabulary and histories do not fit together ({error!r}); train"
            " again"
        ) from None
