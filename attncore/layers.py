"""What several stages share: dropout, and looking at a model without training it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Asked = TypeVar("Asked")


def dropped(x: Tensor, share: float) -> Tensor:
    """Set a random `share` of `x` to 0 and scale the rest up to keep the mean.

    With share 0 it is the identity. On a CPU one random byte decides each element,
    which costs a fraction of PyTorch's own generator; the share is then the nearest
    multiple of 1/256, and the scale is exact for it. Source: Srivastava et al. 2014.
    """
    if share == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, share)
    limit = round(share * 256)
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    byte = words.view(torch.uint8)[: x.numel()].view(x.shape)
    # 1 from `limit` on, else 0: faster than a comparison.
    keep = byte.to(x.dtype).sub_(limit - 1).clamp_(0, 1)
    return x * keep.mul_(256 / (256 - limit))


class Dropout(nn.Module):
    """`dropped` while training, the identity otherwise."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        return dropped(x, self.share if self.training else 0.0)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Chance on the CPU begins at `seed` within the block, and is as before afterwards.

    Weights are drawn there. `torch.manual_seed` would seed every GPU's generator too,
    which nothing puts back.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def evaluating(model: Asked) -> Asked:
    """The model in evaluation mode, whatever mode it is in itself.

    The modules are others and the weights the same, so a thread that trains the model,
    or reads its mode, is not disturbed, nor does it disturb. To be asked and not to be
    kept: a part that the model is given later is not in it. What is no module has no
    mode, and is given back.
    """
    return _twin(model, {}) if isinstance(model, nn.Module) else model


def _twin(module: Any, known: dict[int, Any]) -> Any:
    """A module in evaluation mode that shares the weights, and so all its parts."""
    if id(module) not in known:
        twin = known[id(module)] = object.__new__(type(module))
        parts = module.__dict__["_modules"]
        twin.__dict__.update(module.__dict__, training=False)
        twin.__dict__["_modules"] = {
            name: part if part is None else _twin(part, known)
            for name, part in parts.items()
        }
    return known[id(module)]
