"""The training loop: batch, loss, update; an epoch of steps; a run that can go on.

What is drawn comes from the model's sampler, so the loop is one for every kind of log.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from attncore.batches import Sampler
from attncore.config import Loss, ModelConfig, TrainingConfig
from attncore.distributed import Group, choose_precision, processes, tensor_float_32
from attncore.errors import expect
from attncore.evaluation import Report, evaluate
from attncore.files import RunFolder, origin_of
from attncore.layers import evaluating
from attncore.optim import LossOf, MovingAverage, adamw, backward, learning_rate, update
from attncore.output import Criterion
from attncore.splits import Split, require_split

logger = logging.getLogger(__name__)


# Those of them that there are.
EPOCH_METRICS = (
    "hr@10",
    "ndcg@10",
    "mrr",
    "recall@10",
    "gauc",
    "logloss",
)


LOOK_EVERY = 50  # steps between readings of the loss, for each of which the loop waits
SLATES_AN_EPOCH = 1000  # validation slates that choose the best epoch, of as many users


class Trainable(Protocol):
    """What can be trained: a `torch.nn.Module` with these; every kind of model is."""

    @property
    def config(self) -> ModelConfig:
        """What the model is made of."""

    @property
    def default_loss(self) -> Loss:
        """What the loss "auto" is."""

    def check_training(self, config: TrainingConfig) -> None:
        """Raise ValueError where a training asks for what the model cannot do."""

    def sampler(self, split: Split, config: TrainingConfig, group: Group) -> Sampler:
        """What the steps are drawn by."""

    def loss(self, batch: Any, criterion: Criterion) -> Tensor:
        """The summed loss of a batch."""

    def save(
        self,
        folder: str | Path,
        about: Mapping[str, Any] | None = None,
        only_weights: bool = False,
    ) -> None:
        """Write the run folder."""


@dataclass(repr=False)
class Run:
    """What training did.

    Attributes:
        training: how it was trained.
        epochs: one entry an epoch: epoch, loss, positions_per_s, seconds, lr, and
            validation metrics.
        valid: the validation report of the weights that the model now has: those of the
            best epoch.
        seconds: time of this call of `fit`, validation included.
    """

    training: TrainingConfig | None = None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    valid: Report | None = None
    seconds: float = 0.0

    @property
    def best_epoch(self) -> int:
        """The first epoch with the highest validation NDCG@10.

        0 before the first ends.
        """
        return (
            max(self.epochs, key=lambda entry: entry["ndcg@10"])["epoch"]
            if self.epochs
            else 0
        )

    @property
    def positions_per_s(self) -> float:
        """Median over epochs of real positions trained per second of training time."""
        return float(np.median([epoch["positions_per_s"] for epoch in self.epochs]))

    def __repr__(self) -> str:
        """What fits on a line or two; `epochs` has the rest."""
        if not self.epochs:
            return "no epoch trained"
        said = f"{len(self.epochs)} epochs at {self.positions_per_s:,.0f} positions/s"
        if self.valid is not None:
            low, high = self.valid.interval.get("ndcg@10", (math.nan, math.nan))
            said += (
                f"; the best is epoch {self.best_epoch}, validation ndcg@10"
                f" {self.valid.metrics['ndcg@10']:.4f} ({low:.4f} to {high:.4f})"
            )
        return said


def fit(
    model: Trainable,
    split: Split,
    config: TrainingConfig | None = None,
    out: str | Path | None = None,
    about: dict[str, Any] | None = None,
    resume: bool = False,
    *,
    overwrite: bool = True,
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
) -> Run:
    """Train the model in place on `split.train`.

    The best epoch is chosen by NDCG@10 on `split.valid`. A step's users are drawn at
    random. They are sorted by length only within the step and worked through in parts,
    each padded to its own longest history: the gradient is that of the whole step,
    without the padding. Where the split has slates, an epoch shows 8 random ones of
    each user, and the best epoch is chosen on the first validation slate of 1,000
    users; the report in the end is on all. Under `torchrun` each process works on its
    own users of the step, and the first one writes. Where a split holds the users of
    this process alone (`split.sharded`), a step takes the same share of them from each.

    Args:
        model: what to train; it ends with the weights of the best epoch, in evaluation
            mode.
        split: training histories and validation questions; test is never read.
        config: how to train.
        out: a run folder: `log.jsonl` grows by a line an epoch, the best weights and
            the last two checkpoints are kept; Ctrl-C ends the step, writes a checkpoint
            and stops. None writes nothing.
        about: more entries for the run folder's `config.json`, such as where the data
            came from.
        resume: go on from the newest checkpoint in `out`, to the weights that a run
            without a break has; where there is none, begin.
        overwrite: replace a finished run that `out` holds; an unfinished one never is.
        on_epoch: called with each line of `log.jsonl` as it is written, for a tracker
            of experiments; of several processes, in the first.

    Returns:
        losses, speeds and validation metrics of every epoch.

    Raises:
        DataError: the model was made for another split's items or users, no training
            history has two events, the batch is larger than the data, the device is
            missing, or the folder cannot be written, is written by another process,
            holds an unfinished run, or a checkpoint that does not fit.
        FloatingPointError: a loss or gradient is not finite; weights and checkpoints
            are those from before.
        KeyboardInterrupt: it was stopped by Ctrl-C or SIGTERM.
    """
    if not hasattr(model, "check_training"):
        expect(model, (), "fit", "a Recommender or a Ranker, and its split after it")
    require_split(split, "fit")
    config = TrainingConfig() if config is None else config
    expect(config, TrainingConfig, "fit", "a TrainingConfig, such as of epochs=20")
    with processes(config.device) as group:
        origin = origin_of(split, asdict(model.config), asdict(config), group.size)
        folder = RunFolder(
            out,
            origin,
            (about or {}) | {"training": asdict(config)},
            writes=group.is_rank_0,
        )
        with ExitStack() as held:
            with group.agreed():
                held.enter_context(folder.held())
                found = folder.open(resume, overwrite)
            trainer = Trainer(model, split, config, group, folder, on_epoch)
            if (state := group.from_rank_0(found)) is not None:
                trainer.restore(state)
            return trainer.train()


class Trainer:
    """All that changes while a model is trained, and the loop that changes it.

    `fit` has the arguments' meaning. With `only`, it trains for so many epochs and asks
    no validation.
    """

    def __init__(
        self,
        model: Any,
        split: Split,
        config: TrainingConfig,
        group: Group,
        folder: RunFolder,
        on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
        only: int | None = None,
    ) -> None:
        self.model, self.split, self.config, self.group = model, split, config, group
        self.folder, self.on_epoch, self.only = folder, on_epoch, only
        self.dtype = choose_precision(config.precision, group.device)
        self.scaler = torch.amp.GradScaler(
            group.device.type, enabled=self.dtype == torch.float16
        )
        # Dropout differs between processes.
        torch.manual_seed(config.seed + 1_000_003 * group.rank)
        with group.agreed():
            split.valid.check_made_for(model, split.name)
            model.check_training(config)
            model.to(group.device)
            self.sampler = model.sampler(split, config, group)
            self.sampler.check(split.name)
            loss_of = LossOf(model, self._criterion().to(group.device))
        if config.compile:
            loss_of.compile(dynamic=True)
        self.loss_of = group.wrap(loss_of)
        self.questions = split.valid
        if split.slates is not None:
            self.questions = split.valid.first_of_users(SLATES_AN_EPOCH)
        self.steps_an_epoch = self.sampler.steps_an_epoch
        self.steps = config.epochs * self.steps_an_epoch  # of the learning rate's curve
        self.last = self.steps if only is None else only * self.steps_an_epoch
        self.optimizer = adamw(model, config.lr, config.weight_decay)
        self.average = MovingAverage(model, config.ema)
        self.run, self.best, self.step = Run(config), dict[str, Tensor](), 0
        # The summed loss of the epoch so far, and the first step that was not finite,
        # both not yet read.
        self.total = torch.zeros((), device=group.device)
        self.failed = torch.full((), -1, device=group.device)
        self.positions, self.seconds = 0, 0.0  # of the epoch so far

    def _criterion(self) -> Criterion:
        config = self.config
        loss = self.model.default_loss if config.loss == "auto" else config.loss
        if config.label_smoothing and loss != "full":
            raise ValueError(
                f"label_smoothing={config.label_smoothing}: needs the full loss, not"
                f" {loss!r}; use 0"
            )
        return Criterion(
            loss,
            config.negatives,
            config.popularity,
            config.calibration,
            torch.from_numpy(self.split.item_counts),
            config.label_smoothing,
        )

    def train(self) -> Run:
        """Train until the last epoch, or until `patience` is over."""
        started = self.began = time.perf_counter()
        shown = self.config.progress and self.group.is_rank_0
        bar = tqdm(
            total=self.last,
            initial=self.step,
            unit="step",
            desc="training",
            disable=not shown,
        )
        resumable = self.folder.path is not None and self.only is None
        with bar, stop_requests(resumable) as stop_wanted:
            self.model.train()
            for parts, positions in () if self._over() else self._batches():
                self.train_step(parts, positions)
                bar.update()
                self._after_step(bar, stop_wanted)
                if self._epoch_ends() and self._over():
                    break
        self.model.load_state_dict(self.best)
        self.model.eval()
        with self.group.agreed():  # a full disk stops all of them
            self.folder.save(self.model, finished=True)
        if self.only is None:
            self.run.valid = evaluate(self.model, self.split.valid, group=self.group)
        self.run.seconds = time.perf_counter() - started
        logger.info("%s", self.run)
        return self.run

    def _batches(self) -> Iterator[tuple[list[Any], int]]:
        return self.sampler.steps(self.step)

    def train_step(self, parts: list[Any], positions: int) -> None:
        """One update of the weights; nothing in it waits for the device.

        Args:
            parts: this process's batches of the step.
            positions: real positions of the step in all processes together.
        """
        config, processes = self.config, self.group.size
        rate = learning_rate(self.step, self.steps, config.warmup, config.schedule)
        for settings in self.optimizer.param_groups:
            settings["lr"] = config.lr * rate
        self.optimizer.zero_grad(set_to_none=True)
        how = self.dtype, processes, self.scaler
        with tensor_float_32(self.group.device, config.precision != "float32"):
            own = backward(self.loss_of, parts, positions, *how)
        loss = self.group.total(own)
        finite = update(self.model, self.optimizer, loss, config.clip, self.scaler)
        self.failed = torch.where((self.failed < 0) & ~finite, self.step, self.failed)
        self.average.update()
        self.total += loss * positions
        self.positions += positions
        self.step += 1

    def _after_step(self, bar: Any, stop_wanted: Callable[[], bool]) -> None:
        """Look at the loss, validate, keep a checkpoint, stop: each when it is time."""
        epoch_ends = self._epoch_ends()
        looks = epoch_ends or self.step % LOOK_EVERY == 0
        if self.group.size == 1:
            stops = stop_wanted()
        else:
            stops = looks and any(self.group.gather(stop_wanted()))
        keeps = stops or epoch_ends or self.step % self.config.checkpoint_every == 0
        if looks or keeps:
            self._check()
            self.seconds += time.perf_counter() - self.began
            bar.set_postfix(self._shown())
            if epoch_ends:
                self._end_epoch()
            if keeps and self.only is None:
                state = self.state()
                with self.group.agreed():
                    self.folder.keep(self.step, state)
            self.began = time.perf_counter()
        if stops:
            raise KeyboardInterrupt(
                f"stopped in epoch {1 + self.step // self.steps_an_epoch}; the same"
                f" command with --resume goes on from {self.folder.path}"
            )

    def _epoch_ends(self) -> bool:
        return self.step % self.steps_an_epoch == 0

    def _check(self) -> None:
        """Wait for the device, and see whether every step was finite.

        Raises:
            FloatingPointError: one was not.
        """
        failed = int(self.failed.item())
        if failed < 0 and self.scaler.get_scale() < 1:  # no scale makes it finite
            failed = self.step - 1
        if failed >= 0:
            raise self._not_finite(failed, "the loss or its gradient")

    def _not_finite(self, step: int, what: str) -> FloatingPointError:
        """What to raise when something of a step is not finite."""
        epoch, number = divmod(step, self.steps_an_epoch)
        rows = self.sampler.users_of(step)[:5]
        users = ", ".join(str(user) for user in self.split.users.ids[rows])
        kept = ""
        if self.folder.path:
            kept = f"; {self.folder.path} keeps what was saved before"
        return FloatingPointError(
            f"epoch {epoch + 1}, step {number + 1}: {what} is not finite, so the step"
            f" was not taken; its users begin with {users}; lower --lr (now"
            f" {self.config.lr:g}) or look at their events{kept}"
        )

    def _shown(self) -> dict[str, str]:
        """What the progress bar shows beside the steps."""
        shown = {
            "loss": f"{self.total.item() / self.positions:.3f}",
            "positions": f"{self.positions / self.seconds:,.0f}/s",
        }
        if self.run.valid is not None:
            shown["ndcg"] = f"{self.run.valid.metrics['ndcg@10']:.4f}"
        return shown

    def _end_epoch(self) -> None:
        """Validate, keep the weights if they are the best, and write the epoch down."""
        entry = {
            "epoch": self.step // self.steps_an_epoch,
            "loss": self.total.item() / self.positions,
            "positions_per_s": self.positions / self.seconds,
            "seconds": self.seconds,
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        with self.average.applied():
            if self.only is None:
                entry |= self._validated()
            self.run.epochs.append(entry)
            if self.only is not None or self.run.best_epoch == entry["epoch"]:
                self.best = {
                    name: tensor.detach().clone()
                    for name, tensor in self.model.state_dict().items()
                }
                if self.only is None:
                    is_first = len(self.run.epochs) == 1
                    with self.group.agreed():
                        self.folder.save(self.model, only_weights=not is_first)
        with self.group.agreed():
            self.folder.write_log(self.run.epochs)
        if self.on_epoch is not None and self.group.is_rank_0:
            self.on_epoch(dict(entry))
        self.total.zero_()
        self.positions, self.seconds = 0, 0.0

    def _validated(self) -> dict[str, float]:
        """The validation metrics of the present weights.

        Raises:
            FloatingPointError: their scores are no numbers.
        """
        try:
            model = evaluating(self.model)
            report = evaluate(model, self.questions, bootstrap=0, group=self.group)
        except ValueError as error:
            if "NaN" not in str(error):
                raise
            raise self._not_finite(self.step - 1, "a score after it") from None
        self.run.valid = report
        return {
            name: report.metrics[name]
            for name in EPOCH_METRICS
            if name in report.metrics
        }

    def _over(self) -> bool:
        """True when there is nothing left to do."""
        if self.step >= self.last or self.only is not None:
            return self.step >= self.last
        since = len(self.run.epochs) - self.run.best_epoch
        return 0 < self.config.patience <= since

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on from here.

        The processes' random states are gathered.
        """
        random_state = {"cpu": torch.get_rng_state()}
        if self.group.device.type == "cuda":
            random_state["cuda"] = torch.cuda.get_rng_state(self.group.device)
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.average,
            "best": self.best,
            "epochs": self.run.epochs,
            "total": self.total,
            "positions": self.positions,
            "seconds": self.seconds,
            "random_states": self.group.gather(random_state),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave.

        The order of the users needs nothing, it depends on seed and step alone.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        for average, kept in zip(self.average.average, state["average"], strict=True):
            average.copy_(kept)
        self.best, self.run.epochs, self.step = (
            state["best"],
            state["epochs"],
            state["step"],
        )
        self.total.copy_(state["total"])
        self.positions, self.seconds = state["positions"], state["seconds"]
        random_state = state["random_states"][self.group.rank]
        torch.set_rng_state(random_state["cpu"])
        if "cuda" in random_state:
            torch.cuda.set_rng_state(random_state["cuda"], self.group.device)


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
