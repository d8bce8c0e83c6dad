"""Everything that needs a GPU, in one command: `python tests/bench/gpu.py --json`.

A list of steps, each a process of its own with a cap in seconds: one that fails, hangs
or crashes loses no other. A step is made of parts; what a part found is on disk before
the next begins. The whole ends within `--budget` seconds, and with a table for
RESULTS.md.

`--dry-run` does every step small on a CPU: what only CUDA has is replaced by its
nearest relative (see `strictly`, `waits`, `compiled`). It says that the script works,
nothing more.

A machine without network may lack what `python -m pip download` fetches here:
`python tests/bench/gpu.py --pack` puts pure-Python wheels into `build/wheels`; carry
that folder along with the checkout, and the script finds them there.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.extend(
    map(
        str,
        [
            *Path(__file__).parents[1:3],
            *Path(__file__).parents[2].glob("build/wheels/*.whl"),
        ],
    )
)

import harness
import numpy as np
import pandas as pd
import report
import torch
import torch.distributed as dist
from scaling import made_up
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import attncore as ac
from attncore.benchmark import describe_machine, peak_memory
from attncore.config import ModelConfig
from attncore.distributed import (
    Group,
    choose_device,
    choose_precision,
    tensor_float_32,
)
from attncore.files import RunFolder, replacing
from attncore.recipes import RECIPES
from attncore.training import Trainer

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / "build" / "wheels"
CARRIED = ("platformdirs",)
BUDGET = 350  # seconds: six minutes, less the start of this process
KINDS = ("self", "target", "lstm", "mean", "slates")
PRECISIONS = ("float32", "bfloat16")
# Relative, of each of the first losses; float32 without TF32.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}
TOGETHER = 1e-3  # relative, of an epoch's loss in `fit`, which multiplies as TF32
# Dense bfloat16 in TFLOP/s, from the makers' data sheets; a T4 has float16 alone, and
# that is its figure.
PEAKS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "T4": 65,
}
WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
)
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")

# "said": the figures in words; "ok" where that is not plain; and the figures.
Found = dict[str, Any]
Parts = Iterator[tuple[str, Callable[[], Found]]]


@dataclass(frozen=True)
class Here:
    """Where the steps run, and whether they are only tried."""

    device: torch.device
    dry: bool = False

    @property
    def patience(self) -> int:
        """By what all limits are multiplied.

        A dry run asks whether steps work, on a machine that may be busy.
        """
        return 4 if self.dry else 1

    def finish(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def memory(self) -> float | None:
        """Most memory PyTorch held on the device, or a CPU process in all, in MiB."""
        return (
            torch.cuda.max_memory_allocated(self.device) / 2**20
            if self.device.type == "cuda"
            else peak_memory()
        )


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: what `--only` calls it.
        title: one line.
        cap: seconds after which its process is killed.
        each: seconds after which one of its parts is given up.
        parts: gives the name of each part, and what does it.
    """

    name: str
    title: str
    cap: float
    each: float
    parts: Callable[[Here], Parts]


# Logs and trainers


@cache
def large_log(dry: bool) -> ac.Split:
    """A log of ML-1M's size, whose items are as popular as Zipf says.

    6,040 users have 20 to 2,314 events, 96 in the median.
    """
    users, items = (60, 120) if dry else (6040, 3416)
    rng = np.random.default_rng(0)
    lengths = (
        rng.lognormal(np.log(96), 1.04, users).clip(20, 60 if dry else 2314).astype(int)
    )
    popularity = np.cumsum(1 / np.arange(1, items + 1))
    taken = np.searchsorted(popularity, rng.random(lengths.sum()) * popularity[-1])
    columns = {
        "user": np.repeat(np.arange(users), lengths),
        "item": taken,
        "time": np.arange(len(taken)),
    }
    return ac.leave_one_out(ac.Interactions(pd.DataFrame(columns), name="made-up"))


@cache
def shop(dry: bool, large: bool = False) -> ac.Split:
    """The tests' made-up shop with slates; the large one has a thousand users."""
    from shop import shop_log

    sizes = {"users": 1000, "items": 800, "weeks": 26} if large and not dry else {}
    return ac.split_by_time(shop_log(**sizes), valid=0.2, test=0.2)


def small(kind: str, dropout: float) -> tuple[ModelConfig, ac.Split]:
    """A small model of a kind, and its log: what the equalities are checked on."""
    if kind == "slates":
        return ac.RankerConfig(width=32, length=32, dropout=dropout), shop(dry=True)
    return ac.RecommenderConfig(
        attention=kind, width=32, length=32, dropout=dropout
    ), large_log(dry=True)


def trainer(
    here: Here,
    config: ModelConfig,
    split: ac.Split,
    training: ac.TrainingConfig,
    **changes: Any,
) -> Trainer:
    """What `fit` trains with, to be stepped by hand.

    A step is one part, as on a GPU, on a CPU too.
    """
    training = replace(
        training,
        epochs=10_000,
        patience=0,
        device=str(here.device),
        progress=False,
        **changes,
    )
    model = (ac.Ranker if isinstance(config, ac.RankerConfig) else ac.Recommender)(
        config, split
    )
    folder = RunFolder(None, {}, {}, True)
    made = Trainer(model, split, training, Group(here.device), folder)
    made.sampler.windows.parts = lambda rows: [rows]
    return made


def steps(made: Trainer, batches: Iterator[Any], count: int) -> int:
    """Take so many steps; how many positions they had."""
    before = made.positions
    for _ in range(count):
        made.train_step(*next(batches))
    return made.positions - before


# (a) The tests that need a GPU


def testing(here: Here) -> Parts:
    """`pytest -m gpu` without the slow tests of torch.compile.

    Part (c) tries it on models of real size.
    """
    yield (
        "short form",
        partial(tested, here, ["tests/test_gpu.py", "-k", "not compile"]),
    )


def tested(here: Here, asked: Sequence[str]) -> Found:
    """Run some tests on the device; one that is skipped counts as failed."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "tests.xml"
        options = [
            "-m",
            "gpu",
            "-q",
            "-o",
            "addopts=",
            "-p",
            "no:cacheprovider",
            "--device",
            here.device.type,
        ]
        command = [
            sys.executable,
            "-m",
            "pytest",
            *asked,
            *options,
            f"--junitxml={table}",
        ]
        subprocess.run(
            command, cwd=ROOT, env=environment(), check=False, stdout=sys.stderr
        )
        cases = list(ET.parse(table).getroot().iter("testcase"))
    bad = [
        case.get("name", "")
        for case in cases
        if len(case) and case[0].tag in ("failure", "error", "skipped")
    ]
    said = f"{len(cases) - len(bad)} of {len(cases)} tests passed" + (
        f"; not {', '.join(bad)}" if bad else ""
    )
    return {"ok": bool(cases) and not bad, "said": said}


def environment() -> dict[str, str]:
    """Ours, with the package and the carried wheels, for other processes."""
    path = [str(ROOT), *sys.path]
    return os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


# (b) A CPU's losses


def equality(here: Here) -> Parts:
    """The first losses of each kind, held against a CPU's.

    Weights, batches and chance are the same; there is no dropout.
    """
    for precision in PRECISIONS:
        for kind in KINDS:
            yield f"{kind}, {precision}", partial(compared, here, kind, precision)


def compared(here: Here, kind: str, precision: str) -> Found:
    """The losses of five steps on both."""
    # For the LSTM; of products it is off outside of `fit`.
    torch.backends.cudnn.allow_tf32 = False
    cpu, ours = (
        losses(place, kind, precision)
        for place in (Here(torch.device("cpu"), here.dry), here)
    )
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, cpu, strict=True))
    said = f"losses differ by {worst:.1e} at most, allowed {TOLERANCE[precision]:.0e}"
    return {
        "ok": worst <= TOLERANCE[precision],
        "said": said,
        "worst": worst,
        "cpu": cpu,
        "device": ours,
    }


def losses(here: Here, kind: str, precision: str, count: int = 5) -> list[float]:
    """The losses of the first steps, everything random being drawn on the CPU."""
    rand = torch.rand

    def drawn(*size: Any, device: Any = None, **how: Any) -> torch.Tensor:
        return rand(*size, **how).to(device or "cpu")

    model, split = small(kind, dropout=0.0)
    made = trainer(
        here,
        model,
        split,
        ac.TrainingConfig(batch_size=16, warmup=2),
        precision=precision,
    )
    found = []
    with mock.patch("torch.rand", drawn):
        batches = made._batches()
        for _ in range(count):
            made.total.zero_()
            positions = steps(made, batches, 1)
            found.append(made.total.item() / positions)
    return found


# (c) Training


@cache
def contenders(dry: bool) -> dict[str, tuple[ModelConfig, ac.TrainingConfig]]:
    """What is trained, by name.

    Plain SASRec is the default with the loss that it was published with.
    """
    plain = ac.RecommenderConfig(), ac.TrainingConfig()
    published = replace(plain[1], loss="bce", negatives=128)
    found: dict[str, tuple[ModelConfig, ac.TrainingConfig]] = {
        "sasrec": (plain[0], published)
    }
    # Those that draw negatives come first: the full softmax' loop over chunks is long
    # to compile.
    for name in ("beauty", "complete-journey", "ml-1m", "ml-100k"):
        found[name] = RECIPES[name].recommender, RECIPES[name].training
    found["default"] = plain
    if dry:
        for name, (model, training) in found.items():
            shallow = {} if name == "complete-journey" else {"blocks": 1}
            few = {"batch_size": 16, "negatives": min(training.negatives, 64)}
            # Without dropout, whose bytes on a CPU would cut a compiled model into many
            # graphs.
            tiny = replace(model, width=16, length=16, dropout=0.0, **shallow)
            found[name] = tiny, replace(training, **few)
    return found


def log_of(name: str, here: Here) -> ac.Split:
    """The log that a contender is timed on."""
    return (
        shop(here.dry, large=True)
        if name == "complete-journey"
        else large_log(here.dry)
    )


def eager(here: Here) -> Parts:
    """Every contender, operation by operation."""
    for name in contenders(here.dry):
        yield name, partial(trained, here, name, "eager")


def compiling(here: Here) -> Parts:
    """Every contender through torch.compile as `compile=True` does.

    Shapes vary as they do there.
    """
    for name in contenders(here.dry):
        yield name, partial(noting_graphs, partial(trained, here, name, "compiled"))


def capturing(here: Here) -> Parts:
    """CUDA graphs, where all shapes are the same: histories that fill the window.

    Eager on these too, to compare.
    """
    for name in ("sasrec", "default", "ml-1m"):
        plain, graphs = (
            partial(trained, here, name, mode, full=True)
            for mode in ("eager", "graphs")
        )
        yield f"{name}, full histories, eager", plain
        yield f"{name}, full histories, graphs", partial(noting_graphs, graphs)


def noting_graphs(part: Callable[[], Found]) -> Found:
    """Do a part; if it fails, say how far compiling had come."""
    try:
        return part()
    except Exception as error:
        error.add_note(f"({graphs_made()} graphs were compiled)")
        raise


def trained(
    here: Here, name: str, mode: str, full: bool = False, seconds: float = 3.0
) -> Found:
    """Speed of training, without validation.

    Some steps to warm up, then an epoch or `seconds`, whichever is less.
    """
    model, training = contenders(here.dry)[name]
    split = log_of(name, here)
    if full:
        users = training.batch_size * (
            1 if here.dry else -(-6040 // training.batch_size)
        )
        split = made_up(model.length, len(split.items), users)
    if here.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(here.device)
    with tensor_float_32(here.device):
        made = trainer(here, model, split, training)
        batches = made._batches()
        flops = products(made, batches)
        found: Found = {
            "model": name,
            "mode": mode,
            "full": full,
            "precision": str(made.dtype).split(".")[-1],
        }
        if mode != "eager":
            compiled(made, here, mode)
        found["first_s"] = timed(here, made, batches, 1)[0]
        first = graphs_made() if mode != "eager" else 0
        timed(here, made, batches, 1 if here.dry else 4 if mode == "eager" else 12)
        per_step = timed(here, made, batches, 2)[0] / 2
        count = (
            1 if here.dry else int(np.clip(seconds / per_step, 4, made.steps_an_epoch))
        )
        took, positions = timed(here, made, batches, count)
    assert made.failed.item() == -1, "a loss was not finite"
    epoch = int(made.sampler.windows.lengths.sum())
    peak = peak_of(describe_machine(here.device, made.dtype)["device"])
    found |= {
        "positions_per_s": positions / took,
        "epoch_s": epoch * took / positions,
        "positions": epoch,
    }
    found |= {"memory_mib": here.memory(), "flops_per_position": flops}
    found["share"] = (
        None if peak is None else flops * found["positions_per_s"] / (peak * 1e12)
    )
    said = f"{found['positions_per_s']:,.0f} positions/s"
    said += f", {found['epoch_s']:.2f} s an epoch"
    if found["memory_mib"] is not None:
        said += f", {found['memory_mib']:,.0f} MiB"
    said += (
        ", peak of this card unknown"
        if peak is None
        else f", {found['share']:.1%} of the card's peak"
    )
    if mode != "eager":
        found |= {"graphs": first, "recompiles": graphs_made() - first}
        said += f"; first step {found['first_s']:.1f} s, {first} graphs"
        said += f", {found['recompiles']} recompiled later"
    if mode == "graphs":
        from torch._dynamo.utils import counters

        found["skipped"] = counters["inductor"]["cudagraph_skips"]
        said += f", {found['skipped']} not captured" if found["skipped"] else ""
    return found | {"said": said}


def timed(
    here: Here, made: Trainer, batches: Iterator[Any], count: int
) -> tuple[float, int]:
    """Take so many steps, and wait for the device: seconds, and positions."""
    began = time.perf_counter()
    positions = steps(made, batches, count)
    here.finish()
    return time.perf_counter() - began, positions


def products(made: Trainer, batches: Iterator[Any], count: int = 3) -> float:
    """Floating-point operations of a step's matrix products, per real position.

    Forward and backward, as PyTorch counts them: 2 m n k for each product, and those
    inside of fused attention, where the masked half counts as well; padding is worked
    on too.
    """
    with FlopCounterMode(display=False) as counter:
        positions = steps(made, batches, count)
    return counter.get_total_flops() / positions


def compiled(made: Trainer, here: Here, mode: str) -> None:
    """Compile the loss: by Inductor, or on a CPU by the tracer alone.

    The tracer needs no C++ compiler.
    """
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    how: dict[str, Any] = {"backend": "eager"} if here.dry else {}
    if mode == "graphs" and not here.dry:
        how["mode"] = "reduce-overhead"
    made.loss_of.compile(dynamic=mode == "compiled", **how)


def graphs_made() -> int:
    """Graphs that the tracer has compiled since it was reset."""
    # Not above: it takes a second, and most processes need none of it.
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def peak_of(card: str) -> float | None:
    """Its bfloat16 peak in TFLOP/s; None for a card that is not in `PEAKS`."""
    return next(
        (peak for name, peak in PEAKS.items() if re.search(rf"\b{name}\b", card)), None
    )


# (d) Nothing in a step waits for the device


def waiting(here: Here) -> Parts:
    """A step with its batch, in each kind and precision.

    Once under an error for every wait, and once under the profiler.
    """
    for precision in PRECISIONS:
        for kind in KINDS:
            yield f"{kind}, {precision}", partial(waits, here, kind, precision)


def waits(here: Here, kind: str, precision: str, count: int = 2) -> Found:
    """Take steps that must not wait, and count what the profiler saw.

    That is waits, copies to the host and kernels.
    """
    model, split = small(kind, dropout=0.1)
    made = trainer(
        here,
        model,
        split,
        ac.TrainingConfig(batch_size=16, ema=0.9),
        precision=precision,
    )
    batches = made._batches()
    steps(made, batches, 2)  # the first may wait: kernels are chosen, memory is found
    with strictly(here.device):
        steps(made, batches, 2)
    activities = [
        ProfilerActivity.CPU,
        *([ProfilerActivity.CUDA] if here.device.type == "cuda" else []),
    ]
    with profile(activities=activities) as seen:
        with record_function("steps"):
            steps(made, batches, count)
        here.finish()
    events = seen.events()
    (span,) = [
        event.time_range
        for event in events
        if event.name == "steps" and "CPU" in str(event.device_type)
    ]
    within = [
        event for event in events if span.start <= event.time_range.start <= span.end
    ]
    waited = sum(event.name in WAITS or is_read(event) for event in within)
    copied = sum(event.name.startswith("Memcpy DtoH") for event in events)
    launched = sum(event.name.startswith(LAUNCHES) for event in within) / count
    said = f"{waited} waits and {copied} copies to the host in {count} steps"
    said += f", {launched:.0f} launches a step"
    figures = {"waits": waited, "copies": copied, "launches": launched}
    # A profiler that sees no kernel sees no wait.
    blind = here.device.type == "cuda" and launched == 0
    return {"ok": waited == copied == 0 and not blind, "said": said, **figures}


def is_read(event: Any) -> bool:
    """Whether a number is read back from a tensor.

    What an operation of a CPU does inside is its own affair.
    """
    inside = event.cpu_parent is not None and event.cpu_parent.name.startswith("aten::")
    return event.name in ("aten::item", "aten::is_nonzero") and not inside


class _NumbersStay(TorchDispatchMode):
    """Fails where a number is read back: what would wait on a GPU, seen on a CPU."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a number is read back from the device")
        return function(*args, **(kwargs or {}))


@contextmanager
def strictly(device: torch.device) -> Iterator[None]:
    """Whatever waits for the device raises RuntimeError within the block.

    On a CPU, reading a number back does.
    """
    if device.type != "cuda":
        with _NumbersStay():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


# (e) Evaluation and requests


def answering(here: Here) -> Parts:
    """What `evaluate` takes for everybody, and `recommend` for one user at a time.

    Weights are as drawn.
    """
    for name in ("default", "ml-1m"):
        yield name, partial(answered, here, name)


def answered(here: Here, name: str) -> Found:
    """Users a second, the median of 3; ms of a request, of 10 (dry) or 200."""
    split = log_of(name, here)
    model = ac.Recommender(contenders(here.dry)[name][0], split).to(here.device).eval()

    def seconds(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()  # its result is on the CPU, so it has waited
        return time.perf_counter() - began

    evaluating = [
        seconds(partial(ac.evaluate, model, split.valid, k=10)) for _ in range(4)
    ][1:]
    asked = np.resize(split.users.ids, 10 + (10 if here.dry else 200))
    ms = (
        1000
        * np.array(
            [seconds(partial(model.recommend, users=[user], k=10)) for user in asked]
        )[10:]
    )
    users, (p50, p99) = (
        len(split.valid) / float(np.median(evaluating)),
        map(float, np.percentile(ms, [50, 99])),
    )
    said = f"{users:,.0f} users/s evaluated; a request {p50:.1f} ms median"
    said += f", {p99:.1f} ms for 99 of 100"
    return {"said": said, "users_per_s": users, "p50_ms": p50, "p99_ms": p99}


# (f) The same bits twice


def repeating(here: Here) -> Parts:
    """PyTorch's switch for determinism, and what it costs the default.

    Each kind is trained twice.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = (
        ":4096:8"  # before the first product of this process
    )
    for kind in KINDS:
        yield kind, partial(repeated, here, kind)
    yield "cost", partial(priced, here)


@contextmanager
def deterministic() -> Iterator[None]:
    """The switch is on within the block."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def repeated(here: Here, kind: str, count: int = 6) -> Found:
    """The weights after some steps, twice.

    A kind with an operation that has no such form fails by its name.
    """
    model, split = small(kind, dropout=0.1)
    weights = []
    with deterministic():
        for _ in range(2):
            made = trainer(here, model, split, ac.TrainingConfig(batch_size=16))
            steps(made, made._batches(), count)
            weights.append(
                torch.cat([p.detach().flatten() for p in made.model.parameters()]).cpu()
            )
    differ = int((weights[0] != weights[1]).sum())
    return {
        "ok": differ == 0,
        "said": f"{differ} of {len(weights[0]):,} weights differ between two runs",
    }


def priced(here: Here) -> Found:
    """Seconds a step with the switch and without, in turns, on the large log."""
    model, training = contenders(here.dry)["default"]
    took: dict[bool, list[float]] = {True: [], False: []}
    for on in (False, True) * 2:
        with tensor_float_32(here.device), deterministic() if on else nullcontext():
            made = trainer(here, model, log_of("default", here), training)
            batches = made._batches()
            steps(made, batches, 3)
            here.finish()
            began = time.perf_counter()
            steps(made, batches, 3 if here.dry else 20)
            here.finish()
            took[on].append(time.perf_counter() - began)
    cost = min(took[True]) / min(took[False])
    return {
        "said": f"a step takes {cost:.2f} times as long with the switch",
        "cost": cost,
    }


# (g) Two processes on one card, and going on after a kill


def processing(here: Here) -> Parts:
    """Both against one training without a break, in this process; all begin at once."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        pair = two_workers(here)
        broken = worker(here, "killed", run)
        whole = partial(cache(fitted), here)
        yield "two processes by gloo", lambda: together(pair, whole())
        yield "resumed after a kill", lambda: resumed(here, broken, run, whole())


def fitted(here: Here, out: Path | None = None, resume: bool = False) -> list[float]:
    """The loss of each epoch of a small training.

    `cuda:0` by number, so that two processes may share it.
    """
    model, split = small("self", dropout=0.0)
    device = "cuda:0" if here.device.type == "cuda" else "cpu"
    config = ac.TrainingConfig(
        epochs=4,
        batch_size=20,
        warmup=2,
        precision="float32",
        device=device,
        progress=False,
        checkpoint_every=2,
    )
    run = ac.fit(ac.Recommender(model, split), split, config, out=out, resume=resume)
    return [epoch["loss"] for epoch in run.epochs]


def worker(
    here: Here, job: str, folder: Path | None = None, **variables: str
) -> subprocess.Popen[str]:
    """A process of this script that does one job, see `work`."""
    command = [
        sys.executable,
        __file__,
        "--worker",
        job,
        *(["--dry-run"] if here.dry else []),
    ]
    command += [] if folder is None else ["--folder", str(folder)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | variables
    )


def two_workers(here: Here) -> list[subprocess.Popen[str]]:
    """Two processes of one group; NCCL wants a card for each, so they talk by gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    known = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        worker(here, "together", RANK=str(rank), LOCAL_RANK=str(rank), **known)
        for rank in range(2)
    ]


def work(here: Here, job: str, folder: Path | None) -> None:
    """What such a process does.

    It trains as one of two and prints the losses, or trains and dies in the middle.
    """
    if job == "together":
        dist.init_process_group("gloo")
        print(json.dumps(fitted(here)))
        dist.destroy_process_group()
        return
    taken: list[None] = []

    def die_in_time(*_: Any) -> None:
        taken.append(None)
        if len(taken) == 8:  # in the third epoch, two steps after a checkpoint
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_post_hook(die_in_time)
    fitted(here, folder)


def agreed(ours: Sequence[float], whole: Sequence[float]) -> Found:
    """Whether the losses of epochs are those of one unbroken process."""
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, whole, strict=True))
    said = f"losses of {len(whole)} epochs differ by {worst:.1e} at most"
    said += f", allowed {TOGETHER:.0e}"
    return {"ok": worst <= TOGETHER, "said": said, "worst": worst}


def together(pair: Sequence[subprocess.Popen[str]], whole: Sequence[float]) -> Found:
    """Two processes against one."""
    said = [process.communicate()[0] for process in pair]
    if bad := [process.returncode for process in pair if process.returncode]:
        raise ChildProcessError(f"a process of two ended with status {bad[0]}")
    first, second = (json.loads(text.splitlines()[-1]) for text in said)
    assert first == second, "the two processes report different losses"
    return agreed(first, whole)


def resumed(
    here: Here, broken: subprocess.Popen[str], run: Path, whole: Sequence[float]
) -> Found:
    """A training that was killed and taken up again, against one without a break."""
    broken.communicate()
    assert broken.returncode == -signal.SIGKILL, (
        f"it ended with status {broken.returncode} before the kill"
    )
    assert any((run / "checkpoints").glob("step-*.pt")), (
        "no checkpoint was written before the kill"
    )
    return agreed(fitted(here, run, resume=True), whole)


STEPS = [
    Step("tests", "(a) pytest -m gpu", 50, 50, testing),
    Step("equality", "(b) a CPU's losses", 35, 15, equality),
    Step("eager", "(c) training, eager", 50, 12, eager),
    Step("compiled", "(c) training, compiled", 75, 30, compiling),
    Step("graphs", "(c) training, CUDA graphs", 40, 20, capturing),
    Step("waits", "(d) no step waits for the device", 30, 12, waiting),
    Step("answers", "(e) evaluation and requests", 25, 12, answering),
    Step("repeats", "(f) the same bits twice", 25, 10, repeating),
    Step("processes", "(g) two processes, and a kill", 45, 22, processing),
]


# Running steps


@contextmanager
def capped(seconds: float) -> Iterator[None]:
    """TimeoutError after so many seconds, as soon as Python is reached."""

    def over(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def do_parts(step: Step, here: Here, file: Path) -> None:
    """In the step's process: do part after part, and write each down at once."""
    for name, part in step.parts(here):
        began = time.perf_counter()
        try:
            with capped(step.each * here.patience):
                found = {"ok": True, **part()}
        except Exception as error:
            traceback.print_exc()
            notes = " ".join(getattr(error, "__notes__", []))
            message = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            found = {"ok": False, "said": f"{message} {notes}".strip()}
        found |= {"part": name, "seconds": round(time.perf_counter() - began, 2)}
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(found) + "\n")
        print(
            f"   {'ok    ' if found['ok'] else 'FAILED'} {name}: {found['said']}",
            flush=True,
        )
        gc.collect()
        if here.device.type == "cuda":
            torch.cuda.empty_cache()


def run_step(step: Step, cap: float, logs: Path, dry: bool) -> Found:
    """Run a step as a process of its own.

    It is killed, with all that it started, after `cap` seconds.

    Returns:
        "ok", "why" it failed where no part says so, and what its parts found.
    """
    file, log, why = logs / f"{step.name}.jsonl", logs / f"{step.name}.log", ""
    file.write_text("")
    command = [
        sys.executable,
        sys.argv[0],
        "--step",
        step.name,
        "--parts",
        str(file),
        *(["--dry-run"] if dry else []),
    ]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stderr=errors, start_new_session=True)
        try:
            process.wait(cap)
        except subprocess.TimeoutExpired:
            why = f"killed after {cap:.0f} s"
        finally:
            kill_group(process)
    parts = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    if not why and process.returncode:
        last = (log.read_text(errors="replace").strip().splitlines() or ["no message"])[
            -1
        ]
        why = f"ended with status {process.returncode}: {last[:300]}"
    if not why and not parts:
        why = "nothing ran"
    return {
        "ok": not why and all(part["ok"] for part in parts),
        "why": why,
        "parts": parts,
    }


def kill_group(process: subprocess.Popen[Any]) -> None:
    """End a process that leads a session, and whatever it left behind in it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_steps(
    chosen: Sequence[Step],
    here: Here,
    results: Found,
    budget: float,
    logs: Path,
    keep: Callable[[Found], None],
) -> bool:
    """Run the steps in order within the budget; whether all went well.

    `keep` takes the results after each.
    """
    until = time.monotonic() + budget * here.patience
    for step in chosen:
        began = time.monotonic()
        cap = min(step.cap * here.patience, until - began)
        print(f"== {step.title}, at most {max(cap, 0):.0f} s", flush=True)
        if cap < 1:
            found: Found = {
                "ok": False,
                "why": "not run: the budget is spent",
                "parts": [],
            }
        else:
            found = harness.quietly(
                partial(run_step, step, cap, logs, here.dry), tries=1
            )
        if found["why"]:
            print(f"   FAILED: {found['why']}", flush=True)
        found |= {
            "name": step.name,
            "title": step.title,
            "seconds": round(time.monotonic() - began, 1),
        }
        results["steps"].append(found)
        keep(results)
    return all(step["ok"] for step in results["steps"])


def written(results: Found, path: Path) -> None:
    """Replace the results on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as fresh:
        fresh.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def driver() -> str:
    """The version of the card's driver, as its own tool gives it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip()


def pack(folder: Path) -> None:
    """Fetch wheels of what a bare machine may lack, in the versions installed here.

    Raises:
        SystemExit: one is not pure Python, or they are too large to be carried easily.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}=={version(name)}" for name in CARRIED]
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, *wanted], check=True
    )
    wheels = sorted(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels)
    impure = [
        wheel.name for wheel in wheels if not wheel.name.endswith("-none-any.whl")
    ]
    if impure or size > 1_000_000:
        raise SystemExit(
            f"{folder}: {size:,} bytes, not pure: {impure}; "
            "carry pure wheels of less than a megabyte"
        )
    print(f"{len(wheels)} wheels, {size:,} bytes, in {folder}")


def main(known: Sequence[Step] = STEPS) -> None:
    """Run the steps, one of them, or a worker of one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="every step small on a CPU"
    )
    parser.add_argument(
        "--only", nargs="+", choices=[step.name for step in known], help="some steps"
    )
    parser.add_argument(
        "--budget", type=float, default=BUDGET, help="seconds for all steps together"
    )
    kept = report.RESULTS / "gpu.json"
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=kept,
        help="keep the figures, after each step",
    )
    parser.add_argument("--logs", type=Path, help="keep what the steps write to stderr")
    parser.add_argument(
        "--pack",
        type=Path,
        nargs="?",
        const=WHEELS,
        help="fetch wheels, and do nothing else",
    )
    for name in ("--step", "--parts", "--worker", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.pack:
        pack(args.pack)
        return
    if not args.dry_run and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --dry-run tries the steps on a CPU")
    if args.dry_run and args.json and args.json.resolve() == kept:
        parser.error("a dry run has no figures to publish; give --json another file")
    here = Here(choose_device("cpu" if args.dry_run else "cuda"), args.dry_run)
    if args.worker:
        work(here, args.worker, Path(args.folder) if args.folder else None)
        return
    if args.step:
        (step,) = [step for step in known if step.name == args.step]
        do_parts(step, here, Path(args.parts))
        return
    if args.dry_run:
        harness.use_threads(1)
    machine = describe_machine(here.device, choose_precision("auto", here.device))
    if here.device.type == "cuda":
        machine |= {"cuda": torch.version.cuda, "driver": driver()}
    command = " ".join(["python tests/bench/gpu.py", *sys.argv[1:]])
    results: Found = {
        "command": command,
        "dry": args.dry_run,
        "machine": machine,
        "steps": [],
    }
    with tempfile.TemporaryDirectory() as scratch:
        logs = args.logs or Path(scratch)
        logs.mkdir(parents=True, exist_ok=True)
        keep = partial(written, path=args.json) if args.json else lambda results: None
        chosen = [step for step in known if not args.only or step.name in args.only]
        fine = run_steps(chosen, here, results, args.budget, logs, keep)
        if not fine and not args.logs:
            for step in results["steps"]:
                log = logs / f"{step['name']}.log"
                if not step["ok"] and log.exists():
                    end = log.read_text(errors="replace")[-3000:]
                    sys.stderr.write(f"== {step['title']}\n{end}\n")
    report.publish("gpu", results, args.json)
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
