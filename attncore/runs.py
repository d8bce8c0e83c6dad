"""Run folders: what a trained model is on disk. Nothing is pickled; nothing half-written replaces a whole file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from attncore.interactions import DataError
from attncore.splits import Split

UNFINISHED = ".writing-"  # how names begin that a crash may leave behind
RUN_FILES = ("weights.safetensors", "histories.safetensors", "vocabulary.json", "config.json")


def file_checksums(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of files in a folder, by name."""
    checksums = {}
    for name in names:
        with open(folder / name, "rb") as file:
            checksums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return checksums


def write_run(
    folder: Path,
    split: Split,
    weights: Mapping[str, Tensor],
    config: dict[str, Any],
    attributes: Sequence[str] = (),
    only_weights: bool = False,
) -> None:
    """Write a run folder, made if missing; `config.json`, which holds the other files' checksums, comes last.

    Args:
        folder: what becomes a run folder.
        split: its vocabulary and histories are kept.
        weights: what the model has learned.
        config: the rest of `config.json`.
        attributes: names of the events' attributes that are kept.
        only_weights: the folder holds this split already, so only weights and configuration are new.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED) as place:
        fresh, names = Path(place), list(RUN_FILES)
        if only_weights:
            names = ["weights.safetensors", "config.json"]
        else:
            split.save(fresh, attributes)
        save_file({name: x.detach().cpu().contiguous() for name, x in weights.items()}, fresh / names[0])
        files = file_checksums(folder, RUN_FILES[1:-1]) if only_weights else {}
        config = config | {"files": files | file_checksums(fresh, names[:-1])}
        (fresh / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        for name in names:
            on_disk(fresh / name)
            (fresh / name).replace(folder / name)
    on_disk(folder)


def on_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; what is there replaces `path` if the block ends well, else it goes."""
    fresh = path.with_name(f"{UNFINISHED}{path.name}")
    try:
        yield fresh
        on_disk(fresh)
        fresh.replace(path)
        on_disk(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def prepare(folder: Path) -> None:
    """Make a folder ready to be written: it exists, nothing unfinished lies in it, and writing was tried.

    Raises:
        DataError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.rglob(f"{UNFINISHED}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); give --out another folder") from None


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
    for name, checksum in file_checksums(folder, RUN_FILES[:-1]).items():
        if checksum != expected.get(name):
            raise DataError(f"{folder / name}: is damaged or of another run (its checksum differs); train again")
    return config
