"""The files of run folders: written whole, locked, and checked when they are read.

Nothing half-written replaces a whole file. Of a finished model nothing is pickled. What
lies in a run folder says `attncore.runs`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from attncore.errors import DataError, expect_path, one_line
from attncore.splits import Split

LOCK = "writing.lock"  # stays in a run folder, empty, when nobody writes
UNFINISHED = ".writing-"  # how names begin that a crash may leave behind
WEIGHTS, CONFIG = "weights.safetensors", "config.json"
RUN_FILES = (WEIGHTS, "histories.safetensors", "vocabulary.json", CONFIG)
KEPT = 2  # checkpoints
# Options that may differ on resume; "epochs" where the learning rate does not fall, for
# the cosine's whole curve depends on where it ends.
FREE = {"epochs", "patience", "device", "compile", "progress", "checkpoint_every"}
# What reading a damaged checkpoint may raise.
DAMAGE: tuple[type[Exception], ...]
DAMAGE = zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, OSError, EOFError
DAMAGE += KeyError, TypeError
PATIENCE = 2.0  # seconds that a reader waits for a writer who is at it

Found = TypeVar("Found")


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
    """Write a run folder, made if missing.

    `config.json`, which holds the other files' checksums, comes last.

    Args:
        folder: what becomes a run folder.
        split: its vocabulary and histories are kept.
        weights: what the model has learned.
        config: the rest of `config.json`.
        attributes: names of the events' attributes that are kept.
        only_weights: the folder holds this split already, so only weights and
            configuration are new.

    Raises:
        DataError: another process is writing the folder.
        OSError: it cannot be written, or the disk is full; its files are as they were.
    """
    names = [WEIGHTS, CONFIG] if only_weights else list(RUN_FILES)
    tensors = {name: x.detach().cpu().contiguous() for name, x in weights.items()}
    unfinished = tempfile.TemporaryDirectory
    with alone(folder), unfinished(dir=folder, prefix=UNFINISHED) as place:
        fresh = Path(place)
        try:
            if not only_weights:
                split.save(fresh, attributes)
            save_file(tensors, fresh / WEIGHTS)
            files = file_checksums(folder, RUN_FILES[1:-1]) if only_weights else {}
            config = config | {"files": files | file_checksums(fresh, names[:-1])}
            written = json.dumps(config, indent=2)
            (fresh / CONFIG).write_text(written, encoding="utf-8")
            # Weights and histories are made for their owner alone; this one is made as
            # the umask says.
            mode = (fresh / CONFIG).stat().st_mode
            for name in names:
                (fresh / name).chmod(mode)
                on_disk(fresh / name)
        except (OSError, SafetensorError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise OSError(
                f"{folder}: cannot be written ({why}); what was there is unchanged"
            ) from None
        for name in names:
            (fresh / name).replace(folder / name)
        on_disk(folder)


def save_model(
    folder: str | Path,
    model: Any,
    kind: str,
    about: Mapping[str, Any] | None,
    attributes: Sequence[str],
    only_weights: bool,
) -> None:
    """Write a model's run folder: what `Recommender.save` and `Ranker.save` do.

    Args:
        folder: made if missing.
        model: with config, split, features and weights.
        kind: "recommender" or "ranker": under this name the configuration is kept.
        about: more entries for `config.json`.
        attributes, only_weights: as for `write_run`.
    """
    expect_path(folder, "save", "the path of a run folder")
    config = {kind: asdict(model.config), "features": model.features.to_json()}
    config = dict(about or {}) | config
    weights = model.state_dict()
    write_run(Path(folder), model.split, weights, config, attributes, only_weights)


def save_baseline(
    folder: str | Path, baseline: Any, about: Mapping[str, Any] | None
) -> None:
    """Write a baseline's run folder, with what it learned in place of weights.

    Args:
        folder: made if missing.
        baseline: with split, options, and arrays that it learned, by name.
        about: more entries for `config.json`.
    """
    expect_path(folder, "save", "the path of a run folder")
    config = {"baseline": {"kind": type(baseline).__name__, **baseline.options}}
    learned = {
        name: torch.from_numpy(np.ascontiguousarray(array))
        for name, array in baseline.learned.items()
    }
    write_run(Path(folder), baseline.split, learned, dict(about or {}) | config)


def take_weights(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Put weights, and tables of codes, into a model that was made without its log.

    Raises:
        RuntimeError: a name or a shape does not fit.
    """
    for name, buffer in model.named_buffers():
        if name in weights:
            buffer.resize_(weights[name].shape)
    model.load_state_dict(weights)
    items, users = model.item.features, model.user_side.profile
    for table, ids in (items, model.split.items), (users, model.split.users):
        if table is not None and any(len(one) != len(ids) + 1 for one in table.codes()):
            raise RuntimeError(
                f"a table of codes is not that of {len(ids):,} {ids.kind}s"
            )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes and threads from writing a folder until the block ends.

    It is made if missing. The thread that holds it may ask again. The lock also ends
    when this process dies.

    Raises:
        DataError: another process, or another thread of this one, is writing it.
        OSError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FileExistsError(f"{folder}: is a file; give another folder") from None
    # One for each place, and of it one hold for each thread.
    lock = FileLock(folder.resolve() / LOCK, is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise DataError(
            f"{folder}: another process or thread is writing it; wait for it, or name"
            " another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def on_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Windows opens no folder, and keeps its names without being asked; a file it flushes
    only for somebody who may write it.
    """
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to.

    What is there replaces `path` if the block ends well, else it goes.
    """
    fresh = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    try:
        yield fresh
        on_disk(fresh)
        fresh.replace(path)
        on_disk(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def prepare(folder: Path, clear: bool = True) -> None:
    """Make a folder ready to be written.

    It exists, nothing unfinished lies in it, and writing was tried.

    Args:
        folder: what is to be written.
        clear: False leaves what is unfinished: another process may be at it.

    Raises:
        DataError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.rglob(f"{UNFINISHED}*") if clear else ():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror}); give --out another folder"
        ) from None


def read_config(folder: str | Path) -> dict[str, Any]:
    """The checked `config.json` of a run folder.

    Raises:
        DataError: the folder is not a run folder, or a file in it is missing, damaged
            or of another run.
    """
    path = Path(folder) / CONFIG
    if Path(folder).is_file():
        raise DataError(
            f"{folder}: is a file, not a run folder; name the folder that train wrote"
        )
    if not path.is_file():
        raise DataError(
            f"{folder}: is not a run folder (it has no {CONFIG}); train one with"
            f" --out {folder}"
        )
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        expected = config["files"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: is damaged ({error}); train again") from None
    for name in RUN_FILES[:-1]:
        if not (file := path.with_name(name)).is_file():
            raise DataError(f"{file}: is missing; train again with --out {folder}")
    for name, checksum in file_checksums(path.parent, RUN_FILES[:-1]).items():
        if checksum != expected.get(name):
            raise DataError(
                f"{path.with_name(name)}: is damaged or of another run (its checksum"
                " differs); train again"
            )
    return config


def read_whole(folder: Path, read: Callable[[Path, dict[str, Any]], Found]) -> Found:
    """What `read` makes of a run folder and its configuration, all of one run.

    They are checked before and after. While somebody replaces them, they are read
    again.

    Raises:
        DataError: the folder is not a run folder, or a file in it is missing, damaged
            or of another run.
    """
    give_up = time.monotonic() + PATIENCE
    while True:
        before = _version(folder)
        problem = f"{folder}: was replaced while it was read; load it again"
        try:
            found = read(folder, read_config(folder))
            read_config(folder)
            if _version(folder) == before:
                return found
        except (DataError, OSError, SafetensorError) as error:
            is_ours = isinstance(error, DataError)
            problem = str(error) if is_ours else f"{folder}: {error}; load it again"
            if _version(folder) == before and not any(folder.glob(f"{UNFINISHED}*")):
                raise DataError(problem) from None
        if time.monotonic() > give_up:
            raise DataError(problem)
        time.sleep(0.02)


def _version(folder: Path) -> tuple[int, int] | None:
    """What changes when a run is replaced."""
    try:
        about = (folder / CONFIG).stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns


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
        if folder is not None:
            expect_path(folder, "out", "the path of a run folder")
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
            try:
                torch.save(dict(state) | {"origin": self.origin}, fresh)
            except RuntimeError as error:  # how PyTorch says that the disk is full
                raise OSError(
                    f"{path}: cannot be written ({one_line(error)[:120]}); the older"
                    " checkpoints are unchanged"
                ) from None
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
