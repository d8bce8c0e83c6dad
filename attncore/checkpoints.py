"""Stopping a long run without losing it."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from attncore.errors import DataError
from attncore.runs import alone, prepare, read_config, replacing
from attncore.splits import Split


@contextmanager
def stop_requests(caught: bool) -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C and SIGTERM only set a flag.

    The yielded function reads it. A second Ctrl-C acts.

    Args:
        caught: False leaves the signals alone, as does a thread that may not handle
            them.
    """
    wanted = threading.Event()
    if not caught or threading.current_thread() is not threading.main_thread():
        yield wanted.is_set
        return

    def ask(number: int, frame: Any) -> None:
        wanted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield wanted.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


KEPT = 2


# Options that may differ on resume; "epochs" where the learning rate does not fall, for
# the cosine's whole curve depends on where it ends.
FREE = {
    "epochs",
    "patience",
    "device",
    "compile",
    "progress",
    "checkpoint_every",
}


BROKEN = (
    zipfile.BadZipFile,
    RuntimeError,
    OSError,
    EOFError,
    KeyError,
    TypeError,
    pickle.UnpicklingError,
)


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
        self.origin, self.about, self.writes = (
            origin,
            about,
            writes and folder is not None,
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block no other process writes the folder.

        Raises:
            DataError: another process is writing it, or it cannot be written.
        """
        if self.path is None or not self.writes:
            yield
            return
        prepare(self.path, clear=False)
        with alone(self.path):
            yield

    def open(self, resume: bool, overwrite: bool = True) -> dict[str, Any] | None:
        """Make the folder ready to be written.

        The newest state in it, if that is to be taken up.

        Raises:
            DataError: it cannot be written, holds an unfinished run that is not to be
                resumed, a finished one that is not to be replaced, or a checkpoint that
                is damaged or was made from something else.
        """
        if self.path is None or not self.writes:
            return None
        prepare(self.path)
        if resume:
            return self._newest()
        finished = self._finished()
        if self._checkpoints() and not finished:
            raise DataError(
                f"{self.path}: holds an unfinished run; add --resume, or give --out"
                " another folder"
            )
        if finished and not overwrite:
            raise DataError(
                f"{self.path}: holds a finished run; add --overwrite to replace it, or"
                " give --out another folder"
            )
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        return None

    def keep(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint after `step` steps; of the older ones the newest stays.

        Raises:
            OSError: it could not be written, the disk being full, say; the older ones
                are as they were.
        """
        if self.path is None or not self.writes:
            return
        path = self.path / "checkpoints" / f"step-{step:09d}.pt"
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
        if self.path is not None and self.writes:
            model.save(self.path, {**self.about, "finished": finished}, only_weights)

    def write_log(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Write `log.jsonl`, a line an epoch."""
        if self.path is not None and self.writes:
            with replacing(self.path / "log.jsonl") as fresh:
                fresh.write_text(
                    "".join(json.dumps(entry) + "\n" for entry in epochs),
                    encoding="utf-8",
                )

    def _checkpoints(self) -> list[Path]:
        """Oldest first."""
        return (
            []
            if self.path is None
            else sorted((self.path / "checkpoints").glob("step-*.pt"))
        )

    def _finished(self) -> bool:
        assert self.path is not None
        try:
            return bool(read_config(self.path).get("finished", True))
        except DataError:
            return False

    def _newest(self) -> dict[str, Any] | None:
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
        except BROKEN as error:
            then = (
                "the one before is taken" if len(paths) > 1 else "training begins anew"
            )
            what = " ".join(str(error).split())[:80]
            raise DataError(
                f"{path}: is damaged ({what}); delete it, and {then}"
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
        "training": {
            name: value for name, value in training.items() if name not in free
        },
        "processes": {"processes": size},
    }
