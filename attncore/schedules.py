"""How the learning rate moves: a warm-up, then one of the named schedules, to which a reader can add."""

from __future__ import annotations

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.1 + 0.45 * (1 + math.cos(math.pi * done)),
    "constant": lambda done: 1.0,
}
"""Share of the highest learning rate when a share `done` (0 to 1) of the steps after warm-up is over.

`SCHEDULES["linear"] = lambda done: 1 - done` makes `TrainingConfig(schedule="linear")`
work.
"""


def learning_rate(
    step: int, steps: int, warmup: int = 0, schedule: str = "cosine"
) -> float:
    """The learning rate of a step, as a share of the highest: linear warm-up, then a schedule.

    "cosine" ends at a tenth of the highest.

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
