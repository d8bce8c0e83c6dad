"""What has followed the newest items, counted: a prior of the next item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attncore.sequences import Histories

SMALL = 1e-4  # a share much smaller than this makes no difference
DENSE = 2**26  # numbers up to which the counts also lie in one table


class Followers(nn.Module):
    """How often each item followed the newest items in training, as logits.

    A Markov chain of several lags inside the model. The item l steps back gives each
    item the share of its events that the item followed l events later. The mean s of
    these shares, weighted by 1/l, adds scale · log(1 + s / .0001) to the item's score:
    0 to what never followed. The scale is learned, the counts are not.

    A position that is trained is among the counts itself. Its own event is left out
    there, else the counts would know the answer and be trusted more than they deserve.

    Args:
        histories: the training part, in item indices.
        items: size V of the catalogue.
        lags: how many S of the newest items are looked up.

    Source: Li et al. 2022 (arXiv 2210.14431) for counts inside the softmax of a learned
    model; Ney et al. 1995 for leaving one out.
    """

    # Of each item and lag: events that were followed, and how many items followed them;
    # row by row which, and how often.
    total_VS: Tensor
    many_VS: Tensor
    after_P: Tensor
    count_P: Tensor
    weight_S: Tensor
    table: Tensor | None  # the counts, (V + 1) * S × V, where that is small

    def __init__(self, histories: Histories, items: int, lags: int) -> None:
        super().__init__()
        self.items, self.lags = items, lags
        names = ("total_VS", "many_VS", "after_P", "count_P")
        for name, array in zip(names, counted(histories, items, lags), strict=True):
            self.register_buffer(name, torch.from_numpy(array))
        weight_S = 1 / torch.arange(1, lags + 1)
        self.register_buffer("weight_S", weight_S / weight_S.sum(), persistent=False)
        self.register_buffer("table", None, persistent=False)
        self.scale = nn.Parameter(torch.tensor(0.3))
        self._tabulate()
        self.register_load_state_dict_post_hook(lambda *_: self._tabulate())

    def _tabulate(self) -> None:
        rows = self.many_VS.numel()
        if rows * self.items > DENSE:
            return
        row_P = torch.arange(rows, device=self.many_VS.device)
        row_P = row_P.repeat_interleave(self.many_VS.flatten())
        self.table = self.weight_S.new_zeros(rows, self.items)
        self.table[row_P, self.after_P] = self.count_P

    def newest(self, items_BT: Tensor) -> Tensor:
        """The newest S items at each event, newest first, (B, T, S); 0 for none."""
        past_BT = F.pad(items_BT, (self.lags - 1, 0))
        return past_BT.unfold(1, self.lags, 1).flip(-1)

    def forward(self, newest_NS: Tensor, target_N: Tensor | None = None) -> Tensor:
        """log(1 + s / .0001) of every item, (N, V) float32, without the scale.

        Args:
            newest_NS: item indices, newest first; 0 for none.
            target_N: what followed in training, so that it is among the counts; None
                where the model is asked.
        """
        lag_S = torch.arange(self.lags, device=newest_NS.device)
        total_NS = self.total_VS[newest_NS, lag_S] - int(target_N is not None)
        weight_NS = self.weight_S / total_NS.clamp_min(1)
        weight_NS = weight_NS.masked_fill(newest_NS == 0, 0)
        if self.table is None:
            share_NV = self._gathered(newest_NS, weight_NS)
        else:
            share_NV = F.embedding_bag(
                newest_NS * self.lags + lag_S,
                self.table,
                per_sample_weights=weight_NS,
                mode="sum",
            )
        if target_N is not None:
            own_N1 = weight_NS.sum(1, keepdim=True)
            share_NV.scatter_add_(1, target_N[:, None] - 1, -own_N1)
        return share_NV.clamp_min_(0).div_(SMALL).log1p_()

    def _gathered(self, newest_NS: Tensor, weight_NS: Tensor) -> Tensor:
        """Weighted shares (N, V), from the rows of the counts."""
        device = newest_NS.device
        lag_S = torch.arange(self.lags, device=device)
        place_M = (newest_NS * self.lags + lag_S).flatten()
        many = self.many_VS.flatten()
        many_M, start_M = many[place_M], (many.cumsum(0) - many)[place_M]
        row_P = torch.arange(len(place_M), device=device).repeat_interleave(many_M)
        first_M = many_M.cumsum(0) - many_M
        at_P = torch.arange(len(row_P), device=device) + (start_M - first_M)[row_P]
        column_P = row_P // self.lags * self.items + self.after_P[at_P]
        part_P = self.count_P[at_P] * weight_NS.flatten()[row_P]
        shares = part_P.new_zeros(len(newest_NS) * self.items)
        return shares.index_add_(0, column_P, part_P).view(-1, self.items)


@dataclass(frozen=True)
class Prior:
    """The prior of a batch's positions, for a loss that works on a few of them at once.

    Attributes:
        followers: the counts.
        newest_NS: the newest items at each position.
        target_N: what follows there.
        shown_N: places of the items that are scored; None for the whole catalogue.
    """

    followers: Followers
    newest_NS: Tensor
    target_N: Tensor
    shown_N: Tensor | None = None

    @property
    def scale(self) -> Tensor:
        """What the logits are multiplied by."""
        return self.followers.scale

    def logits(self, rows: slice) -> Tensor:
        """The logits of some positions, without the scale."""
        found_nV = self.followers(self.newest_NS[rows], self.target_N[rows])
        return found_nV if self.shown_N is None else found_nV[:, self.shown_N]


def counted(
    histories: Histories, items: int, lags: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What followed each item how often, at each lag: the buffers of `Followers`."""
    item = histories.items
    user = np.repeat(np.arange(len(histories)), histories.lengths)
    keys = []
    for lag in range(1, lags + 1):
        within = user[:-lag] == user[lag:]
        first, after = item[:-lag][within].astype(np.int64), item[lag:][within]
        keys.append((first * lags + lag - 1) * items + after - 1)
    key, count = np.unique(np.concatenate(keys), return_counts=True)
    row, rows = key // items, (items + 1) * lags
    return (
        np.bincount(row, count, rows).astype(np.float32).reshape(-1, lags),
        np.bincount(row, minlength=rows).reshape(-1, lags),
        key % items,
        count.astype(np.float32),
    )
