"""Stage 2: events become vectors: item, position, and what else is known of them. See "The embedding layer"."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attncore.batches import Batch

Positions = Literal["none", "learned", "newest"]


def dropped(x: Tensor, share: float) -> Tensor:
    """Set a random `share` of `x` to 0 and scale the rest up to keep the mean; the identity when share is 0.

    On a CPU one random byte decides each element, which costs a fraction of PyTorch's own generator; the share
    is then the nearest multiple of 1/256, and the scale is exact for it. Source: Srivastava et al. 2014.
    """
    if share == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, share)
    limit = round(share * 256)
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= limit
    return x * (keep.to(x.dtype) * (256 / (256 - limit)))


class Dropout(nn.Module):
    """`dropped` while training, the identity otherwise."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        return dropped(x, self.share if self.training else 0.0)


class ItemEmbedding(nn.Module):
    """One learned vector per item; padding (index 0) is the zero vector and never learns.

    Args:
        items: size V of the catalogue.
        width: size D of a vector.
    """

    def __init__(self, items: int, width: int) -> None:
        super().__init__()
        self.id = nn.Embedding(items + 1, width, padding_idx=0)
        nn.init.normal_(self.id.weight, std=0.02)
        with torch.no_grad():
            self.id.weight[0] = 0

    def forward(self, items: Tensor) -> Tensor:
        """Vectors (..., D) of item indices (...)."""
        return self.id(items)

    def catalogue(self) -> Tensor:
        """Vectors of all items, (V, D), without the padding row: row j is item index j + 1."""
        return self.id.weight[1:]


class PositionEmbedding(nn.Module):
    """A learned vector per place in the window, counted from the oldest event or from the newest.

    Args:
        length: number of places.
        width: size D of a vector.
        newest: count places from the newest event (its place is 0) instead of the oldest.
    """

    def __init__(self, length: int, width: int, newest: bool = False) -> None:
        super().__init__()
        self.place = nn.Embedding(length, width)
        nn.init.normal_(self.place.weight, std=0.02)
        self.newest = newest

    def forward(self, batch: Batch) -> Tensor:
        """Vectors (T, D), or (B, T, D) when counted from the newest."""
        step_T = torch.arange(batch.items_BT.shape[1], device=batch.items_BT.device)
        if not self.newest:
            return self.place.weight[: len(step_T)]
        return self.place((batch.lengths_B[:, None] - 1 - step_T).clamp_min(0))


class EventEmbedding(nn.Module):
    """The context vector of each event: its item's vector plus its position's, dropped out, zero where padded.

    Args:
        items: size V of the catalogue.
        length: longest history.
        width: size D of a vector.
        positions: "none", "learned" (from the oldest) or "newest" (from the newest).
        dropout: share of the elements dropped while training.
    """

    def __init__(self, items: int, length: int, width: int, positions: Positions, dropout: float) -> None:
        super().__init__()
        self.item = ItemEmbedding(items, width)
        self.position = None if positions == "none" else PositionEmbedding(length, width, positions == "newest")
        self.dropout = Dropout(dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Context vectors (B, T, D) of a batch."""
        context_BTD = self.item(batch.items_BT)
        if self.position is not None:
            context_BTD = context_BTD + self.position(batch)
        return torch.where(batch.keep_BT[..., None], self.dropout(context_BTD), 0)
