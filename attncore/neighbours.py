"""Alike moments in the training histories, and what came next there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from attncore.errors import DataError
from attncore.sequences import Histories, Joined

SMALL = 1e-4  # a share much smaller than this makes no difference
DECAY, RARE = 0.75, 0.25
KEPT = 2**20  # events that are looked up, or few more
AT_ONCE = 2**22  # likenesses that are held at a time


class Neighbours(nn.Module):
    """What came next at alike moments of the training histories, as logits.

    Two moments are alike as far as their newest items agree: an item that stands a
    places back in one and b places back in the other adds .75^max(a, b) / n^.25, where
    n is how often it was taken. Each moment of the log votes for what came next with
    the square of its likeness, so that one that agrees in two items outweighs two that
    agree in one. An item's share s of the votes adds weight · log(1 + s / .0001) to its
    score. Nothing is learned, and training does not know of it. The newest items get
    no votes: who asks may be in the log. Of a log of more than a million events every
    second history is kept, or every third, and so on, so that an answer takes a few
    milliseconds at most.

    It is attention whose keys are all moments of all histories, and whose weights are
    counted.

    Args:
        histories: the training part, in item indices, in memory.
        items: size V of the catalogue.
        window: how many K of the newest items are compared.
        weight: what the log of a share counts beside the model's logits.

    Raises:
        DataError: the histories are on disk.

    Source: Jannach and Ludewig 2017, Ludewig and Jannach 2018 (sessions' neighbours);
    Khandelwal et al. 2020 (kNN-LM) for looking the training data up beside a model.
    """

    item_P: Tensor
    left_P: Tensor
    sorted_P: Tensor
    start_V: Tensor
    many_V: Tensor

    def __init__(
        self, histories: Histories, items: int, window: int, weight: float
    ) -> None:
        super().__init__()
        if isinstance(histories.items, np.memmap | Joined):
            raise DataError(
                f"neighbours={window}: looks histories up in memory, and a prepared log"
                " is on disk; use 0"
            )
        self.items, self.window, self.weight = items, window, weight
        every = max(1, -(-len(histories.items) // KEPT))
        if every > 1:
            histories = histories.take(np.arange(0, len(histories), every))
        item, events = histories.items.astype(np.int64), len(histories.items)
        ends = np.repeat(histories.offsets[1:], histories.lengths)
        many = np.bincount(item, minlength=items + 1)
        index = {
            "item_P": item,  # of each event
            "left_P": ends - 1 - np.arange(events),  # events after it in its history
            "sorted_P": np.argsort(item, kind="stable"),  # events, by item
            "start_V": many.cumsum() - many,  # where an item's begin there
            "many_V": many,
        }
        for name, array in index.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def forward(self, newest_BK: Tensor) -> Tensor:
        """Weight · log(1 + s / .0001) of every item, (B, V) float32.

        Args:
            newest_BK: item indices, newest first; 0 for none.
        """
        at_once = max(1, AT_ONCE // max(len(self.item_P), 1))
        votes_BV = torch.cat([self._votes(part) for part in newest_BK.split(at_once)])
        return self.weight * as_logits(votes_BV, newest_BK)

    def _votes(self, newest_BK: Tensor) -> Tensor:
        """Votes for items 0..V, (B, V + 1)."""
        device, rows, events = newest_BK.device, len(newest_BK), len(self.item_P)
        asked_M = newest_BK.flatten()
        many_M = self.many_V[asked_M]
        from_E = torch.arange(len(asked_M), device=device).repeat_interleave(many_M)
        shift_M = self.start_V[asked_M] - (many_M.cumsum(0) - many_M)
        number_E = torch.arange(len(from_E), device=device)
        met_E = self.sorted_P[number_E + shift_M[from_E]]
        # Where an item is met, it stands b places back at the b-th event from there.
        back_b = torch.arange(self.window, device=device)
        E_at, b_at = torch.nonzero(back_b < self.left_P[met_E][:, None], as_tuple=True)
        from_F, place_F = from_E[E_at], met_E[E_at] + b_at
        farther_F = torch.maximum(from_F % self.window, b_at)
        rare_F = self.many_V[asked_M[from_F]].float() ** -RARE
        alike_F = DECAY ** farther_F.float() * rare_F
        row_F = from_F // self.window
        moment_F = row_F * events + place_F
        alike = alike_F.new_zeros(rows * events).index_add_(0, moment_F, alike_F)
        # The squares of the sums, taken apart into what each of their terms adds.
        votes = alike_F.new_zeros(rows * (self.items + 1))
        next_F = row_F * (self.items + 1) + self.item_P[place_F + 1]
        votes.index_add_(0, next_F, alike_F * alike[moment_F])
        return votes.view(rows, -1)


def as_logits(votes_BV: Tensor, newest_BK: Tensor) -> Tensor:
    """log(1 + s / .0001), (B, V), of votes for items 0..V but for the newest items."""
    votes_BV = votes_BV.scatter(1, newest_BK, 0)[:, 1:]
    share_BV = votes_BV / votes_BV.sum(1, keepdim=True).clamp_min(1e-12)
    return (share_BV / SMALL).log1p()


def newest_at(items_BT: Tensor, place_B: Tensor, count: int) -> Tensor:
    """The newest items at one place of each row, newest first, (B, count).

    0 where there is none, as at place -1.
    """
    at_BK = place_B[:, None] - torch.arange(count, device=items_BT.device)
    return items_BT.gather(1, at_BK.clamp_min(0)).masked_fill(at_BK < 0, 0)
