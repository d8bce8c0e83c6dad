"""The training loop. See the chapter "Training on a CPU and on GPUs"."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from attncore.batches import Batch, shuffled_batches
from attncore.config import check_choices, check_range
from attncore.interactions import DataError
from attncore.output import Criterion, Loss
from attncore.ranking import Report, evaluate
from attncore.recommender import Recommender
from attncore.splits import Split

logger = logging.getLogger(__name__)

Precision = Literal["auto", "float32", "bfloat16"]
Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained.

    Attributes:
        epochs: times that each user's window is shown.
        batch_size: users per step.
        lr: highest learning rate.
        weight_decay: AdamW's decay of matrices (not of biases, norms and embeddings).
        warmup: steps over which the learning rate rises to `lr`.
        schedule: after warm-up, "cosine" (down to a tenth of `lr` at the last epoch) or "constant".
        clip: largest norm of the gradient; 0 does not clip.
        patience: epochs without a better validation NDCG@10 before training stops; 0 never stops early.
        loss: "auto" is "full", or "sampled" for target attention; else "full", "sampled", "gbce" or "bce".
        negatives: items drawn per batch for losses other than "full".
        popularity: they are drawn by training counts to this power; 0 is uniform.
        calibration: gBCE's t, from 0 to 1.
        seed: order of users, dropout and drawn negatives.
        device: "auto" is CUDA where there is one, else the CPU; or "cpu", "cuda", "cuda:1", "mps".
        precision: "auto" is bfloat16 where the device multiplies it fast, else float32.
        progress: show a progress bar on stderr.
        log_every: steps between readings of the loss.
    """

    epochs: int = 100
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 50
    schedule: Schedule = "cosine"
    clip: float = 1.0
    patience: int = 30
    loss: Loss = "auto"
    negatives: int = 256
    popularity: float = 0.0
    calibration: float = 0.75
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    progress: bool = True
    log_every: int = 50

    def __post_init__(self) -> None:
        check_choices(self, {"schedule": Schedule, "precision": Precision, "loss": Loss})
        for name in ("epochs", "batch_size", "negatives", "log_every"):
            check_range(self, name, 1, None)
        for name in ("weight_decay", "warmup", "clip", "patience", "seed"):
            check_range(self, name, 0, None)
        check_range(self, "lr", 1e-12, None)
        check_range(self, "popularity", 0, 1)
        check_range(self, "calibration", 0, 1)


@dataclass
class Run:
    """What training did.

    Attributes:
        epochs: one entry an epoch: epoch, loss, positions_per_s, seconds, lr, and validation metrics.
        best_epoch: the epoch whose weights the model now has.
        valid: the validation report of those weights.
        seconds: time of the whole run, validation included.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    valid: Report | None = None
    seconds: float = 0.0

    @property
    def positions_per_s(self) -> float:
        """Median over epochs of real positions trained per second of training time."""
        return float(np.median([epoch["positions_per_s"] for epoch in self.epochs]))


def choose_device(name: str) -> torch.device:
    """The device that a configuration names.

    Raises:
        DataError: it is not a device's name, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DataError(f"device={name!r}: must be auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DataError(f"device={name!r}: this machine has no CUDA device that PyTorch can use; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DataError(f"device={name!r}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DataError(f"device={name!r}: this machine has no MPS device; use --device cpu")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products: "auto" takes bfloat16 where the device's hardware multiplies it fast."""
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        fast = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """The learning rate of a step as a share of `config.lr`: linear warm-up, then cosine to a tenth, or constant.

    Source: Loshchilov and Hutter 2017, eq. 5, without restarts.
    """
    if step < config.warmup:
        return (step + 1) / (config.warmup + 1)
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup) / max(steps - config.warmup, 1)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(done, 1.0)))


def adamw(model: nn.Module, config: TrainingConfig, device: torch.device) -> torch.optim.AdamW:
    """AdamW that decays matrices of linear maps, and leaves biases, norms and embeddings alone.

    Source: Loshchilov and Hutter 2019.
    """
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d)}
    decayed = [p for p in model.parameters() if id(p) in linear]
    others = [p for p in model.parameters() if id(p) not in linear]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, fused=device.type in ("cpu", "cuda"))


def backward(
    model: Recommender, criterion: Criterion, parts: list[Batch], positions: int, dtype: torch.dtype
) -> Tensor:
    """Add the gradient of the mean loss over all `positions` of a step, part by part; return that mean."""
    total = torch.zeros((), device=parts[0].items_BT.device)
    for part in parts:
        with torch.autocast(total.device.type, dtype, enabled=dtype != torch.float32):
            loss = model.loss(part, criterion) / positions
        loss.backward()
        total += loss.detach()
    return total


def fit(
    model: Recommender,
    split: Split,
    config: TrainingConfig | None = None,
    out: str | Path | None = None,
    about: dict[str, Any] | None = None,
) -> Run:
    """Train the model in place on `split.train`, choosing the best epoch by NDCG@10 on `split.valid`.

    A step's users are drawn at random. They are sorted by length only within the step and worked through in
    parts, each padded to its own longest history: the gradient is that of the whole step, without the padding.

    Args:
        model: what to train; it ends with the weights of the best epoch, in evaluation mode.
        split: training histories and validation questions; test is never read.
        config: how to train.
        out: a run folder: `log.jsonl` grows by a line an epoch, the best weights are kept. None writes nothing.
        about: more entries for the run folder's `config.json`, such as where the data came from.

    Returns:
        losses, speeds and validation metrics of every epoch.

    Raises:
        DataError: no training history has two events, or the device is missing.
        FloatingPointError: the loss is not a finite number.
    """
    config = config or TrainingConfig()
    device = choose_device(config.device)
    dtype = choose_precision(config.precision, device)
    torch.manual_seed(config.seed)
    model.to(device)
    windows = model.windows(split.train, np.arange(len(split.train)), targets=True)
    rows = np.flatnonzero(windows.lengths)
    if len(rows) == 0:
        raise DataError(f"{split.name}: no user has two training events, so there is no next item to learn")
    loss: Loss = config.loss
    if loss == "auto":
        loss = "sampled" if model.config.attention == "target" else "full"
    counts = torch.from_numpy(split.item_counts)
    criterion = Criterion(loss, config.negatives, config.popularity, config.calibration, counts).to(device)
    optimizer = adamw(model, config, device)
    steps = config.epochs * math.ceil(len(rows) / config.batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, steps, config))
    run = Run()
    best: dict[str, Tensor] = {}
    started = time.perf_counter()
    bar = tqdm(total=config.epochs, unit="epoch", desc="training", disable=not config.progress)
    for epoch in range(1, config.epochs + 1):
        model.train()
        epoch_started, epoch_positions = time.perf_counter(), 0
        losses = torch.zeros((), device=device)
        for chosen in shuffled_batches(rows, config.batch_size, config.seed, epoch):
            positions = int(windows.lengths[chosen].sum())
            parts = [windows.batch(part) for part in windows.parts(chosen)]
            optimizer.zero_grad(set_to_none=True)
            losses += backward(model, criterion, parts, positions, dtype) * positions
            if config.clip:
                nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            scheduler.step()
            epoch_positions += positions
        mean_loss = losses.item() / epoch_positions
        seconds = time.perf_counter() - epoch_started
        if not math.isfinite(mean_loss):
            raise FloatingPointError(f"epoch {epoch}: the loss is {mean_loss}; lower --lr (now {config.lr:g})")
        valid = evaluate(model, split.valid, bootstrap=0)
        entry = {
            "epoch": epoch,
            "loss": mean_loss,
            "positions_per_s": epoch_positions / seconds,
            "seconds": seconds,
            "lr": scheduler.get_last_lr()[0],
            **{name: valid.metrics[name] for name in ("hr@10", "ndcg@10", "mrr")},
        }
        run.epochs.append(entry)
        if run.valid is None or valid.metrics["ndcg@10"] > run.valid.metrics["ndcg@10"]:
            run.best_epoch, run.valid = epoch, valid
            best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        if out is not None:
            _record(model, Path(out), config, entry, about or {}, run.best_epoch == epoch)
        bar.update()
        bar.set_postfix(
            loss=f"{mean_loss:.3f}",
            ndcg=f"{valid.metrics['ndcg@10']:.4f}",
            positions=f"{epoch_positions / seconds:,.0f}/s",
        )
        if config.patience and epoch - run.best_epoch >= config.patience:
            break
    bar.close()
    model.load_state_dict(best)
    model.eval()
    run.seconds = time.perf_counter() - started
    logger.info("%d epochs in %.0f s; best validation NDCG@10 at epoch %d", epoch, run.seconds, run.best_epoch)
    return run


def _record(
    model: Recommender, out: Path, config: TrainingConfig, entry: dict[str, Any], about: dict[str, Any], best: bool
) -> None:
    """Keep an epoch in the run folder: its line in the log, and its weights if they are the best so far."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "log.jsonl", "w" if entry["epoch"] == 1 else "a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
    if best:
        model.save(out, about | {"training": asdict(config)})
