"""Run folders: what lies in one, and how `load` reads a model back.

They are written by `attncore.files`, file by file:

- `config.json`: the configurations, the data's name and checksum, and the checksums of
  the next three files
- `weights.safetensors`: what the model has learned
- `vocabulary.json`, `histories.safetensors`: the ids, and what every user did
- `log.jsonl`: a line an epoch
- `checkpoints/`: the whole state of the training, to go on from
"""

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
from attncore.errors import DataError, expect_path, one_line
from attncore.features import FeatureSet
from attncore.files import read_whole
from attncore.ranking.asof import IndexedSlates
from attncore.ranking.baselines import PersonalHabit, PopularLately, SlateBaseline
from attncore.ranking.ranker import Ranker
from attncore.recommender import Recommender
from attncore.splits import Split

Loaded = Recommender | Ranker | Baseline | SlateBaseline
BASELINES: dict[str, Any] = {
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
    expect_path(folder, "load", "the path of a run folder")
    found = read_whole(Path(folder), read_model)
    return found.to(device) if isinstance(found, torch.nn.Module) else found


def read_model(folder: Path, config: Mapping[str, Any]) -> Loaded:
    """`load` of a run folder whose `config.json` was read already, on the CPU."""
    weights = load_file(folder / "weights.safetensors")
    if "baseline" in config:
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        options, split = dict(config["baseline"]), _split(folder)
        try:
            found: Loaded = BASELINES[options.pop("kind")](
                split, **options, learned=arrays
            )
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(
                f"{folder}: does not hold a baseline ({one_line(error)}); make and save"
                " it again"
            ) from None
        return found
    parts: Any = described(folder, config)
    is_ranker = isinstance(parts[0], RankerConfig)
    model = Ranker(*parts) if is_ranker else Recommender(*parts)
    try:
        model.take_weights(weights)
    except (RuntimeError, TypeError) as error:
        raise DataError(
            f"{folder / 'weights.safetensors'}: does not fit config.json"
            f" ({one_line(error)[:200]}); train again"
        ) from None
    return model.eval()


def described(
    folder: Path, config: Mapping[str, Any]
) -> tuple[ModelConfig, Split, int, FeatureSet]:
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
