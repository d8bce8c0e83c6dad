"""Run folders: what a training keeps on disk, and how `load` reads a model back.

- `config.json`: the configurations, the data's name and checksum, and the checksums of
  the next three files
- `weights.safetensors`: what the model has learned
- `vocabulary.json`, `histories.safetensors`: the ids, and what every user did
- `log.jsonl`: a line an epoch
- `checkpoints/`: the whole state of the training, to go on from
"""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from attncore.files import alone, prepare, read_config, read_whole, replacing
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
KEPT = 2  # checkpoints
# Options that may differ on resume; "epochs" where the learning rate does not fall, for
# the cosine's whole curve depends on where it ends.
FREE = {"epochs", "patience", "device", "compile", "progress", "checkpoint_every"}
# What reading a damaged checkpoint may raise.
DAMAGE: tuple[type[Exception], ...]
DAMAGE = zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, OSError, EOFError
DAMAGE += KeyError, TypeError


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
    return model


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


class RunFolder:
    """Where a training is kept.

    Without a folder nothing is, and only one process writes.

    Args:
        folder: a run folder, or None.
        origin: what the training is made from (see `origin_of`); a checkpoint must have
            the same.
        about: entries of the run folder's `config.json`.
        writes: False in all processes but one.
    """

    def __init__(
        self,
        folder: str | Path | None,
        origin: Mapping[str, Any],
        about: Mapping[str, Any],
        writes: bool,
    ) -> None:
        self.path = None if folder is None else Path(folder)
        self.mine = self.path if writes else None  # what this process writes
        self.origin, self.about = origin, about

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block no other process writes the folder.

        Raises:
            DataError: another process is writing it, or it cannot be written.
        """
        if self.mine is None:
            yield
            return
        prepare(self.mine, clear=False)
        with alone(self.mine):
            yield

    def open(self, resume: bool, overwrite: bool = True) -> dict[str, Any] | None:
        """Make the folder ready to be written.

        The newest state in it, if that is to be taken up.

        Raises:
            DataError: it cannot be written, holds an unfinished run that is not to be
                resumed, a finished one that is not to be replaced, or a checkpoint that
                is damaged or was made from something else.
        """
        if self.mine is None:
            return None
        prepare(self.mine)
        if resume:
            return self._newest()
        try:
            finished = read_config(self.mine).get("finished", True)
        except DataError:
            finished = False
        if self._checkpoints() and not finished:
            raise DataError(
                f"{self.mine}: holds an unfinished run; add --resume, or give --out"
                " another folder"
            )
        if finished and not overwrite:
            raise DataError(
                f"{self.mine}: holds a finished run; add --overwrite to replace it, or"
                " give --out another folder"
            )
        shutil.rmtree(self.mine / "checkpoints", ignore_errors=True)
        return None

    def keep(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint after `step` steps; of the older ones the newest stays.

        Raises:
            OSError: it could not be written, the disk being full, say; the older ones
                are as they were.
        """
        if self.mine is None:
            return
        path = self.mine / "checkpoints" / f"step-{step:09d}.pt"
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as fresh:
            torch.save(dict(state) | {"origin": self.origin}, fresh)
        for old in self._checkpoints()[:-KEPT]:
            old.unlink()

    def save(
        self, model: Any, only_weights: bool = False, finished: bool = False
    ) -> None:
        """Keep the model, as `load` reads it.

        `finished` says that nothing is left to train.
        """
        if self.mine is not None:
            model.save(self.mine, {**self.about, "finished": finished}, only_weights)

    def write_log(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Write `log.jsonl`, a line an epoch."""
        if self.mine is not None:
            lines = "".join(json.dumps(entry) + "\n" for entry in epochs)
            with replacing(self.mine / "log.jsonl") as fresh:
                fresh.write_text(lines, encoding="utf-8")

    def _checkpoints(self) -> list[Path]:
        """Oldest first."""
        assert self.mine is not None
        return sorted((self.mine / "checkpoints").glob("step-*.pt"))

    def _newest(self) -> dict[str, Any] | None:
        """The state in the newest checkpoint, if there is one."""
        if not (paths := self._checkpoints()):
            return None
        path = paths[-1]
        try:
            with zipfile.ZipFile(path) as file:
                # PyTorch itself does not look at the checksums.
                if (part := file.testzip()) is not None:
                    raise EOFError(f"the checksum of {part} differs")
            state: dict[str, Any] = torch.load(
                path, map_location="cpu", weights_only=True
            )
            theirs = {part: dict(state["origin"][part]) for part in self.origin}
        except DAMAGE as error:
            is_last = len(paths) == 1
            then = "training begins anew" if is_last else "the one before is taken"
            raise DataError(
                f"{path}: is damaged ({one_line(error)[:80]}); delete it, and {then}"
            ) from None
        for part, ours in self.origin.items():
            for name in [name for name in ours if ours[name] != theirs[part].get(name)]:
                raise DataError(
                    f"{path}: was made with {name}={theirs[part].get(name)}, not"
                    f" {ours[name]}; resume with the same data and options, or give"
                    " --out another folder"
                )
        return state


def origin_of(
    split: Split, recommender: Mapping[str, Any], training: Mapping[str, Any], size: int
) -> dict[str, Any]:
    """What a checkpoint must agree on with the training that resumes from it.

    Data, model, options, processes.
    """
    data = 0
    for column in (split.train.offsets, split.train.items):
        # Of a prepared log, one for each shard.
        for part in getattr(column, "parts", [column]):
            data = zlib.crc32(part, data)
    free = FREE if training["schedule"] == "constant" else FREE - {"epochs"}
    return {
        "data": {
            "items": len(split.items),
            "training events": len(split.train.items),
            "training data": f"{data:08x}",
        },
        "recommender": dict(recommender),
        "training": {name: training[name] for name in training if name not in free},
        "processes": {"processes": size},
    }
