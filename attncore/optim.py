"""One step of training: the learning rate, gradients, and better weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from attncore.output import Criterion

UNSCALED = torch.amp.GradScaler("cpu", enabled=False)

# Share of the highest learning rate when a share (0 to 1) of the steps after warm-up is
# over.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.1 + 0.45 * (1 + math.cos(math.pi * done)),
    "constant": lambda done: 1.0,
}


def learning_rate(
    step: int, steps: int, warmup: int = 0, schedule: str = "cosine"
) -> float:
    """The learning rate of a step, as a share of the highest.

    Linear warm-up, then a schedule. "cosine" ends at a tenth of the highest. PyTorch's
    `SequentialLR` of `LinearLR` and `CosineAnnealingLR` gives the same curve to
    rounding, but makes each rate from the last one. This one depends on the step alone,
    so a training that resumes has none to restore, and gets the same bits.

    Args:
        step: counted from 0.
        steps: steps of the whole training.
        warmup: steps of the linear rise.
        schedule: a name in `SCHEDULES`.

    Source: Loshchilov and Hutter 2017, eq. 5, without restarts.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return SCHEDULES[schedule](min((step - warmup) / max(steps - warmup, 1), 1.0))


class LossOf(nn.Module):
    """The model and its criterion as one module, whose forward pass is the loss.

    It is what is compiled and distributed.
    """

    def __init__(self, model: Any, criterion: Criterion) -> None:
        super().__init__()
        self.model, self.criterion = model, criterion

    def forward(self, batch: Any) -> Tensor:
        """The summed loss of a batch."""
        loss = self.model.loss(batch, self.criterion)
        if len(batch.items_BT) == 0:
            # A process without users: its gradients, all zero, still travel.
            loss = loss + 0 * torch.stack([p.sum() for p in self.parameters()]).sum()
        return loss


def backward(
    loss_of: nn.Module,
    parts: Sequence[Any],
    positions: int,
    dtype: torch.dtype,
    processes: int = 1,
    scaler: torch.amp.GradScaler = UNSCALED,
) -> Tensor:
    """Add the gradient of the mean loss over a step, part by part; return the loss.

    Args:
        loss_of: a `LossOf`, or the same wrapped for several processes.
        parts: this process's batches; their gradients add up.
        positions: real positions of the step in all processes together; the loss and
            its gradient are this process's share of the mean over them.
        dtype: of the matrix products.
        processes: how many average their gradients.
        scaler: by what the loss is multiplied before its gradient is taken.
    """
    total = torch.zeros((), device=parts[0].items_BT.device)
    kind, half = total.device.type, dtype != torch.float32
    for number, part in enumerate(parts, 1):
        # Gradients travel once a step, with the last part.
        travels = number == len(parts) or processes == 1
        with nullcontext() if travels else loss_of.no_sync():  # type: ignore[operator]
            with torch.autocast(kind, dtype) if half else nullcontext():
                loss = loss_of(part) / positions
            # They are averaged over processes; the step wants their sum.
            scaler.scale(loss * processes).backward()
        total += loss.detach()
    return total


def adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices of linear maps alone.

    Biases, norms and embeddings do not decay. It is fused, one kernel for all weights,
    where PyTorch has that for the model's device.

    Source: Loshchilov and Hutter 2019.
    """
    linear = {
        id(m.weight) for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d)
    }
    decayed = [p for p in model.parameters() if id(p) in linear]
    others = [p for p in model.parameters() if id(p) not in linear]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    fused = next(model.parameters()).device.type in ("cpu", "cuda", "mps")
    return torch.optim.AdamW(groups, lr=lr, fused=fused)


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    clip: float = 0.0,
    scaler: torch.amp.GradScaler = UNSCALED,
) -> Tensor:
    """Clip the gradient and take a step, unless loss or gradient is not finite.

    Then the weights stay as they are. Which of both is decided on the device, so
    nothing waits for it.

    Args:
        model: what is trained.
        optimizer: a fused one; only such can leave the weights alone.
        loss: of the step.
        clip: largest norm of the gradient; 0 does not clip.
        scaler: what the loss was scaled by. A gradient that a scale made too large is
            no fault of the step: it is not taken, and the scale is halved.

    Returns:
        True where the step was finite, a tensor without axes.
    """
    scaler.unscale_(optimizer)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if clip:
        nn.utils.clip_grads_with_norm_(model.parameters(), clip, norm)
    finite = loss.isfinite() if scaler.is_enabled() else (norm + loss).isfinite()
    if optimizer.defaults.get("fused"):
        # As GradScaler sets it.
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    scaler.step(optimizer)
    scaler.update()
    return finite


class MovingAverage:
    """An exponential moving average of the weights.

    After each step, `decay` of it stays. With decay 0 it is the weights themselves, and
    costs nothing. It is `torch.optim.swa_utils.AveragedModel` without the count of
    steps, which that class reads at each, so that a GPU would be waited for, and
    without its copy of all that a model holds, the log included.

    Args:
        model: whose weights.
        decay: from 0 to below 1.

    Source: Polyak and Juditsky 1992 for averaging.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.weights = [p.data for p in model.parameters()]
        self.decay = decay
        self.average = [weight.clone() for weight in self.weights] if decay else []
        self.take_in = get_ema_multi_avg_fn(decay)

    def update(self) -> None:
        """Take in the present weights."""
        if self.decay:
            self.take_in(self.average, self.weights, 0)  # counts nothing

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average as its weights within the block."""
        kept = [weight.clone() for weight in self.weights] if self.decay else []
        for weight, average in zip(self.weights, self.average, strict=False):
            weight.copy_(average)
        try:
            yield
        finally:
            for weight, before in zip(self.weights, kept, strict=False):
                weight.copy_(before)
