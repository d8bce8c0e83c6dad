"""The training loop: one step, an epoch of steps, a run of epochs that can stop at any moment and go on."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from attncore.batches import Batch, prefetched, shuffled_batches
from attncore.checkpoints import RunFolder, origin_of, stop_requests
from attncore.config import Loss, TrainingConfig
from attncore.distributed import Group, choose_precision, processes, tensor_float_32
from attncore.errors import DataError
from attncore.evaluation import Report, evaluate
from attncore.optim import LossOf, MovingAverage, adamw, backward, learning_rate, update
from attncore.output import Criterion
from attncore.recommender import Recommender
from attncore.splits import Split

logger = logging.getLogger(__name__)


EPOCH_METRICS = (
    "hr@10",
    "ndcg@10",
    "mrr",
    "recall@10",
    "gauc",
    "logloss",
)  # those of them that there are


SLATES_AN_EPOCH = 1000  # validation slates that choose the best epoch, of as many users


@dataclass
class Run:
    """What training did.

    Attributes:
        epochs: one entry an epoch: epoch, loss, positions_per_s, seconds, lr, and
            validation metrics.
        valid: the validation report of the weights that the model now has: those of the
            best epoch.
        seconds: time of this call of `fit`, validation included.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    valid: Report | None = None
    seconds: float = 0.0

    @property
    def best_epoch(self) -> int:
        """The first epoch with the highest validation NDCG@10; 0 before the first ends."""
        return (
            max(self.epochs, key=lambda entry: entry["ndcg@10"])["epoch"]
            if self.epochs
            else 0
        )

    @property
    def positions_per_s(self) -> float:
        """Median over epochs of real positions trained per second of training time."""
        return float(np.median([epoch["positions_per_s"] for epoch in self.epochs]))


def fit(
    model: Recommender,
    split: Split,
    config: TrainingConfig | None = None,
    out: str | Path | None = None,
    about: dict[str, Any] | None = None,
    resume: bool = False,
) -> Run:
    """Train the model in place on `split.train`, choosing the best epoch by NDCG@10 on `split.valid`.

    A step's users are drawn at random. They are sorted by length only within the step
    and worked through in parts, each padded to its own longest history: the gradient is
    that of the whole step, without the padding. Where the split has slates, an epoch
    shows 8 random ones of each user, and the best epoch is chosen on the first
    validation slate of 1,000 users; the report in the end is on all. Under `torchrun`
    each process works on its own users of the step, and the first one writes. Where a
    split holds the users of this process alone (`split.valid.own`), a step takes the
    same share of them from each.

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

    Returns:
        losses, speeds and validation metrics of every epoch.

    Raises:
        DataError: no training history has two events, the batch is larger than the
            data, the device is missing, or the folder cannot be written, is written by
            another process, holds an unfinished run, or a checkpoint that does not fit.
        FloatingPointError: a loss or gradient is not finite; weights and checkpoints
            are those from before.
        KeyboardInterrupt: it was stopped by Ctrl-C or SIGTERM.
    """
    config = config or TrainingConfig()
    with processes(config.device) as group, tensor_float_32(group.device):
        origin = origin_of(split, asdict(model.config), asdict(config), group.size)
        folder = RunFolder(
            out,
            origin,
            (about or {}) | {"training": asdict(config)},
            writes=group.leads,
        )
        with folder.held():
            trainer = Trainer(model, split, config, group, folder)
            if (state := group.from_leader(folder.open(resume))) is not None:
                trainer.restore(state)
            return trainer.train()


class Trainer:
    """All that changes while a model is trained, and the loop that changes it; `fit` has the arguments' meaning."""

    def __init__(
        self,
        model: Recommender,
        split: Split,
        config: TrainingConfig,
        group: Group,
        folder: RunFolder,
    ) -> None:
        self.model, self.split, self.config, self.group = model, split, config, group
        self.folder = folder
        self.dtype = choose_precision(config.precision, group.device)
        torch.manual_seed(
            config.seed + 1_000_003 * group.rank
        )  # dropout differs between processes
        model.to(group.device)
        self.windows = model.training_windows(split, config)
        self.questions = (
            split.valid
            if split.slates is None
            else split.valid.first_of_users(SLATES_AN_EPOCH)
        )
        self.rows, self.own = np.flatnonzero(self.windows.lengths), split.valid.own
        self.users_a_step = config.batch_size * config.accumulate
        users = len(self.rows)
        if self.own:
            users = int(group.total(torch.tensor(users, device=group.device)))
        if users == 0:
            raise DataError(
                f"{split.name}: no user has two training events, so there is no next"
                " item to learn; use a longer log"
            )
        if self.users_a_step > max(users, TrainingConfig.batch_size):
            raise DataError(
                f"{split.name}: batch_size={config.batch_size} ×"
                f" accumulate={config.accumulate} users a step, but only {users} have"
                " two training events; lower --batch-size"
            )
        self.steps_an_epoch = math.ceil(users / self.users_a_step)
        self.steps = config.epochs * self.steps_an_epoch
        loss: Loss = config.loss
        if loss == "auto":
            loss = model.default_loss
        if loss == "combined" and split.slates is None:
            raise ValueError(
                f"loss='combined': is for slates, and {split.name} has none; use 'bce'"
            )
        if config.label_smoothing and loss != "full":
            raise ValueError(
                f"label_smoothing={config.label_smoothing}: needs the full loss, not"
                f" {loss!r}; use 0"
            )
        counts = torch.from_numpy(split.item_counts)
        criterion = Criterion(
            loss,
            config.negatives,
            config.popularity,
            config.calibration,
            counts,
            config.label_smoothing,
        )
        loss_of = LossOf(model, criterion.to(group.device))
        if config.compile:
            loss_of.compile(dynamic=True)
        self.loss_of = group.wrap(loss_of)
        self.optimizer = adamw(model, config.lr, config.weight_decay)
        self.average = MovingAverage(model, config.ema)
        self.run, self.best, self.step = Run(), dict[str, Tensor](), 0
        self.total = torch.zeros(
            (), device=group.device
        )  # summed loss of the epoch so far, not yet read
        self.failed = torch.full(
            (), -1, device=group.device
        )  # the first step that was not finite
        self.positions, self.seconds = 0, 0.0  # of the epoch so far

    def train_step(self, parts: list[Batch], positions: int) -> None:
        """One update of the weights; nothing in it waits for the device.

        Args:
            parts: this process's batches of the step.
            positions: real positions of the step in all processes together.
        """
        share = learning_rate(
            self.step, self.steps, self.config.warmup, self.config.schedule
        )
        for settings in self.optimizer.param_groups:
            settings["lr"] = self.config.lr * share
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.group.total(
            backward(self.loss_of, parts, positions, self.dtype, self.group.size)
        )
        finite = update(self.model, self.optimizer, loss, self.config.clip)
        self.failed = torch.where((self.failed < 0) & ~finite, self.step, self.failed)
        self.average.update()
        self.total += loss * positions
        self.positions += positions
        self.step += 1

    def train(self) -> Run:
        """Train until the last epoch, or until `patience` is over."""
        started = began = time.perf_counter()
        shown = self.config.progress and self.group.leads
        bar = tqdm(
            total=self.steps,
            initial=self.step,
            unit="step",
            desc="training",
            disable=not shown,
        )
        with bar, stop_requests(self.folder.path is not None) as stop_wanted:
            self.model.train()
            for parts, positions in () if self._over() else self._batches():
                self.train_step(parts, positions)
                bar.update()
                epoch_ends = self.step % self.steps_an_epoch == 0
                looks = epoch_ends or self.step % self.config.log_every == 0
                stops = (
                    stop_wanted()
                    if self.group.size == 1
                    else looks and any(self.group.gather(stop_wanted()))
                )
                keeps = (
                    stops or epoch_ends or self.step % self.config.checkpoint_every == 0
                )
                if looks or keeps:
                    self._check()
                    self.seconds += time.perf_counter() - began
                    bar.set_postfix(self._shown())
                    if epoch_ends:
                        self._end_epoch()
                    if keeps:
                        self.folder.keep(self.step, self.state())
                    began = time.perf_counter()
                if stops:
                    raise KeyboardInterrupt(
                        f"stopped in epoch {1 + self.step // self.steps_an_epoch}; the"
                        f" same command with --resume goes on from {self.folder.path}"
                    )
                if epoch_ends and self._over():
                    break
        self.model.load_state_dict(self.best)
        self.model.eval()
        self.folder.save(self.model, finished=True)
        self.run.valid = evaluate(self.model, self.split.valid, group=self.group)
        self.run.seconds = time.perf_counter() - started
        logger.info(
            "%d epochs; best validation NDCG@10 at epoch %d",
            len(self.run.epochs),
            self.run.best_epoch,
        )
        return self.run

    def _batches(self) -> Iterator[tuple[list[Batch], int]]:
        """This process's batches of every step from the present one on, and the positions of all processes."""
        makes = (partial(self._made, *step) for step in self._plan())
        return prefetched(makes) if self.windows.mapped else (make() for make in makes)

    def _plan(self) -> Iterator[tuple[np.ndarray, int, np.ndarray | None]]:
        """Of every step from the present one on: this process's rows, the positions of all, how far back windows end.

        All depend on the seed and the step alone.
        """
        first, skipped = divmod(self.step, self.steps_an_epoch)
        for epoch in range(first, self.config.epochs):
            back = None
            if self.config.windows == "random":
                back = np.random.default_rng((self.config.seed, epoch + 1, 1)).integers(
                    self.windows.earlier + 1
                )
            steps = self._steps(epoch)
            positions = [int(self.windows.lengths[rows].sum()) for rows in steps]
            if self.own:
                positions = self.group.total(
                    torch.tensor(positions, device=self.group.device)
                ).tolist()
            for number, (rows, count) in enumerate(zip(steps, positions, strict=True)):
                if epoch > first or number >= skipped:
                    yield rows if self.own else self.group.share(rows), count, back

    def _steps(self, epoch: int) -> list[np.ndarray]:
        """The rows of each step of an epoch: those of all processes, or where a process has its own, these."""
        if not self.own:
            return list(
                shuffled_batches(
                    self.rows, self.users_a_step, self.config.seed, epoch + 1
                )
            )
        order = np.random.default_rng((self.config.seed, epoch + 1)).permutation(
            self.rows
        )
        return np.array_split(order, self.steps_an_epoch)

    def _made(
        self, own: np.ndarray, positions: int, back: np.ndarray | None
    ) -> tuple[list[Batch], int]:
        batches = np.array_split(own, max(1, min(self.config.accumulate, len(own))))
        return [
            self.windows.batch(part, None if back is None else back[part])
            for batch in batches
            for part in self.windows.parts(batch)
        ], positions

    def _check(self) -> None:
        """Wait for the device, and see whether every step was finite.

        Raises:
            FloatingPointError: one was not.
        """
        if (failed := int(self.failed.item())) < 0:
            return
        epoch, number = divmod(failed, self.steps_an_epoch)
        order = self._steps(epoch)
        users = ", ".join(
            str(user)
            for user in self.split.users.ids[self.windows.users_of(order[number][:5])]
        )
        kept = (
            f"; {self.folder.path} keeps what was saved before"
            if self.folder.path
            else ""
        )
        raise FloatingPointError(
            f"epoch {epoch + 1}, step {number + 1}: the loss or its gradient is not"
            f" finite, so the step was not taken; its users begin with {users}; lower"
            f" --lr (now {self.config.lr:g}) or look at their events{kept}"
        )

    def _shown(self) -> dict[str, str]:
        """What the progress bar shows beside the steps."""
        shown = {
            "loss": f"{self.total.item() / self.positions:.3f}",
            "positions": f"{self.positions / self.seconds:,.0f}/s",
        }
        return shown | (
            {"ndcg": f"{self.run.epochs[-1]['ndcg@10']:.4f}"} if self.run.epochs else {}
        )

    def _end_epoch(self) -> None:
        """Validate, and write the epoch down."""
        self.model.eval()
        with self.average.applied():
            valid = evaluate(self.model, self.questions, bootstrap=0, group=self.group)
            entry = {
                "epoch": self.step // self.steps_an_epoch,
                "loss": self.total.item() / self.positions,
                "positions_per_s": self.positions / self.seconds,
                "seconds": self.seconds,
                "lr": self.optimizer.param_groups[0]["lr"],
                **{
                    name: valid.metrics[name]
                    for name in EPOCH_METRICS
                    if name in valid.metrics
                },
            }
            self.run.epochs.append(entry)
            if self.run.best_epoch == entry["epoch"]:
                self.best = {
                    name: tensor.detach().clone()
                    for name, tensor in self.model.state_dict().items()
                }
                self.folder.save(self.model, only_weights=len(self.run.epochs) > 1)
        self.folder.write_log(self.run.epochs)
        self.total.zero_()
        self.positions, self.seconds = 0, 0.0
        self.model.train()

    def _over(self) -> bool:
        """True when there is nothing left to do."""
        since = len(self.run.epochs) - self.run.best_epoch
        return self.step >= self.steps or 0 < self.config.patience <= since

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on from here; the processes' states of chance are gathered."""
        chance = {"cpu": torch.get_rng_state()}
        if self.group.device.type == "cuda":
            chance["cuda"] = torch.cuda.get_rng_state(self.group.device)
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.average,
            "best": self.best,
            "epochs": self.run.epochs,
            "total": self.total,
            "positions": self.positions,
            "seconds": self.seconds,
            "chance": self.group.gather(chance),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave; the order of the users needs nothing, it depends on seed and step alone."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for average, kept in zip(self.average.average, state["average"], strict=True):
            average.copy_(kept)
        self.best, self.run.epochs, self.step = (
            state["best"],
            state["epochs"],
            state["step"],
        )
        self.total.copy_(state["total"])
        self.positions, self.seconds = state["positions"], state["seconds"]
        chance = state["chance"][self.group.rank]
        torch.set_rng_state(chance["cpu"])
        if "cuda" in chance:
            torch.cuda.set_rng_state(chance["cuda"], self.group.device)
