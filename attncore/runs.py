"""Run folders: what a trained model is on disk. Nothing is pickled; nothing half-written replaces a whole file."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from attncore.interactions import DataError
from attncore.splits import Split

RUN_FILES = ("weights.safetensors", "histories.safetensors", "vocabulary.json", "config.json")


def file_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of the run files in a folder, `config.json` left out."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RUN_FILES[:-1]}


def write_run(
    folder: Path,
    split: Split,
    weights: Mapping[str, Tensor],
    config: dict[str, Any],
    attributes: Sequence[str] = (),
) -> None:
    """Write a run folder, made if missing; `config.json`, which holds the other files' checksums, comes last.

    `attributes` names the attributes of events that are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as place:
        fresh = Path(place)
        split.save(fresh, attributes)
        save_file({name: x.detach().cpu().contiguous() for name, x in weights.items()}, fresh / "weights.safetensors")
        config = config | {"files": file_checksums(fresh)}
        (fresh / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        for name in RUN_FILES:
            (fresh / name).replace(folder / name)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The checked `config.json` of a run folder.

    Raises:
        DataError: the folder is not a run folder, or a file in it is missing, damaged or of another run.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise DataError(f"{folder}: is not a run folder (it has no config.json); train one with --out {folder}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        expected = config["files"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{folder / 'config.json'}: is damaged ({error}); train again") from None
    for name in RUN_FILES[:-1]:
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: is missing; train again with --out {folder}")
    for name, checksum in file_checksums(folder).items():
        if checksum != expected.get(name):
            raise DataError(f"{folder / name}: is damaged or of another run (its checksum differs); train again")
    return config
