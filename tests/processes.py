"""Trainings in processes of their own, which a test may kill: at a moment, or in the
middle of a write."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

# By the server, once; torch.testing imports torch.distributed.tensor, which takes a
# second.
PRELOADED = [
    *[
        "numpy",
        "pandas",
        "pyarrow.parquet",
        "torch",
        "safetensors.torch",
        "tqdm.auto",
        "platformdirs",
    ],
    *["torch.distributed.tensor", "hypothesis", "pytest"],
]
# A fresh process, most imports done; all tests share its server.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOADED)


def train(
    out: Path, begun, resume: bool = False, dies: tuple[str, int] | None = None
) -> None:
    """Train a small model; `begun` is set when it starts; `dies` names what to die in,
    and at which call of it."""
    import torch
    from conftest import rhythm_log

    import attncore as ac
    from attncore import runs

    torch.set_num_threads(1)
    if dies is not None:
        _die_in(runs, *dies)
    split = ac.leave_one_out(rhythm_log())
    model = ac.Recommender(
        ac.RecommenderConfig(width=16, blocks=1, heads=2, length=8), split
    )
    config = ac.TrainingConfig(
        epochs=6,
        batch_size=8,
        accumulate=2,
        ema=0.9,
        precision="float32",
        progress=False,
        checkpoint_every=2,
    )
    begun.set()
    ac.fit(model, split, config, out=out, resume=resume)


def _die_in(runs, place: str, call: int) -> None:
    """Kill this process in the given call: halfway through a checkpoint's bytes, or
    before or after a rename."""
    import torch

    calls = 0

    def counted(real, before=None, after=None):
        def wrapper(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == call and before:
                before(*args)
            result = real(*args, **kwargs)
            if calls == call and after:
                after(*args)
            return result

        return wrapper

    def die(*args) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def half(state, path) -> None:
        path.write_bytes(b"half of it")
        die()

    if place == "writing":
        torch.save = counted(torch.save, before=half)
    elif place == "before a rename":
        Path.replace = counted(Path.replace, before=die)
    else:
        Path.replace = counted(Path.replace, after=die)


def run(out: Path, **options) -> CONTEXT.Process:
    """A process that has begun to train."""
    begun = CONTEXT.Event()
    process = CONTEXT.Process(target=train, args=(out, begun), kwargs=options)
    process.start()
    assert begun.wait(120)
    return process


def killed(process, after: float) -> bool:
    """Kill a process after some seconds; False if it was already done."""
    time.sleep(after)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive
