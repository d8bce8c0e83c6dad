"""Rivals beside attention, for `quality.py`, that the module does not have.

Neighbours of items and of histories, whose votes are counted; a recurrent network; and
attention that is trained to fill gaps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

import attncore as ac
from attncore.batches import Batch
from attncore.encoders import SelfAttention, Weights
from attncore.layers import Dropout
from attncore.output import Criterion, lean_cross_entropy
from attncore.sequences import Histories


def taken(histories: Histories, items: int, decay: bool = False) -> sparse.csr_matrix:
    """Users × items: 1 where an item is in the history.

    With `decay` it is its place in the history, from 1 / length for the oldest event to
    1 for the newest, of its newest event.
    """
    row = np.repeat(np.arange(len(histories)), histories.lengths)
    place = np.arange(len(row)) - np.repeat(histories.offsets[:-1], histories.lengths)
    length = np.repeat(histories.lengths, histories.lengths)
    weight = (place + 1) / length if decay else np.ones(len(row))
    key, newest = np.unique(
        (row.astype(np.int64) * items + histories.items - 1)[::-1], return_index=True
    )
    given = weight[::-1][newest], (key // items, key % items)
    return sparse.csr_matrix(given, (len(histories), items), dtype=np.float32)


class ItemNeighbours:
    """Item-kNN: an item is as good as it goes with what is in the history.

    Args:
        split: whose training histories are counted.
        most: how many of the items that go best with each one speak for it.
        shrink: added to the product of lengths, so that rare pairs count less.

    Source: Sarwar et al. 2001, with the cosine of the items' columns.
    """

    def __init__(self, split: ac.Split, most: int = 100, shrink: float = 10.0) -> None:
        self.split = split
        taken_UV = taken(split.train, len(split.items))
        together = (taken_UV.T @ taken_UV).toarray()
        length_V = np.sqrt(together.diagonal())
        alike = together / (np.outer(length_V, length_V) + shrink)
        np.fill_diagonal(alike, 0)
        if most < len(alike):
            least = np.partition(alike, -most, axis=0)[-most]
            alike[alike < least] = 0
        self.alike_VV = sparse.csr_matrix(alike.astype(np.float32))

    def score(self, histories: Histories, users: np.ndarray | None = None) -> Tensor:
        """Scores of the catalogue, float32 (rows, V)."""
        found = taken(histories, len(self.split.items)) @ self.alike_VV
        return torch.from_numpy(found.toarray())


class HistoryNeighbours:
    """V-SKNN: histories that share most of what was taken last vote for their items.

    Shared items count by how new they are to who asks, and by how rare they are; a
    neighbour's items count as much as the neighbour is alike.

    Args:
        split: whose training histories are the neighbours.
        most: how many neighbours vote.
        newest: of how many of the newest events neighbours are sought.

    Source: Ludewig and Jannach 2018.
    """

    def __init__(self, split: ac.Split, most: int = 100, newest: int = 20) -> None:
        self.split, self.most, self.newest = split, most, newest
        self.taken_UV = taken(split.train, len(split.items))
        users_V = np.maximum(self.taken_UV.getnnz(axis=0), 1)
        self.rare_V = np.log(len(split.train) / users_V + 1).astype(np.float32)

    def score(self, histories: Histories, users: np.ndarray | None = None) -> Tensor:
        """Scores of the catalogue, float32 (rows, V)."""
        rows = np.arange(len(histories))
        lists = [
            histories.items[histories.offsets[row] : histories.offsets[row + 1]]
            for row in rows
        ]
        last = Histories.from_lists([one[-self.newest :] for one in lists])
        asked_RV = taken(last, len(self.split.items), decay=True)
        alike_RU = asked_RV.multiply(self.rare_V).tocsr() @ self.taken_UV.T
        alike_RU = alike_RU.toarray()
        if self.most < alike_RU.shape[1]:
            least = np.partition(alike_RU, -self.most, axis=1)[:, -self.most, None]
            alike_RU[alike_RU < least] = 0
        found_RV = (sparse.csr_matrix(alike_RU) @ self.taken_UV).toarray()
        return torch.from_numpy((found_RV * self.rare_V).astype(np.float32))


class GatedRecurrence(nn.Module):
    """A gated recurrent network as encoder: its state after each event."""

    def __init__(self, config: ac.RecommenderConfig) -> None:
        super().__init__()
        self.gru = nn.GRU(config.width, config.width, config.blocks, batch_first=True)
        self.dropout = Dropout(config.dropout)
        self.widen = nn.Linear(config.width, config.width)

    def forward(
        self,
        context_BTD: Tensor,
        times_BT: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Weights]:
        """States (B, T, D); there are no weights to show."""
        return self.widen(self.dropout(self.gru(context_BTD)[0])), []


class Recurrent(ac.Recommender):
    """GRU4Rec: a gated recurrent network in place of attention, with our loss.

    Source: Hidasi et al. 2016.
    """

    def _build(self) -> None:
        super()._build()
        self.encoder = GatedRecurrence(self.config)


class Bidirectional(SelfAttention):
    """Self-attention in which every event sees all others, later ones too."""

    def forward(self, context_BTD: Tensor, keep_BT: Tensor) -> Tensor:  # type: ignore[override]
        """Attended vectors (B, T, D)."""
        x_BTD = context_BTD
        for block in self.blocks:
            normed_BTD = block.norm_attention(x_BTD)
            attended_BTD, _ = block.attention(normed_BTD, normed_BTD, keep_BT)
            x_BTD = x_BTD + block._branch(attended_BTD, normed_BTD, 0)
            normed_BTD = block.norm_network(x_BTD)
            x_BTD = x_BTD + block._branch(block.network(normed_BTD), normed_BTD, 1)
        return self.norm(x_BTD)


class Masked(ac.Recommender):
    """BERT4Rec's objective: a share of a history is hidden and guessed from the rest.

    Asked what comes next, it has one hidden event after the newest.

    Source: Sun et al. 2019, with the full softmax.
    """

    HIDDEN = 0.2

    def _build(self) -> None:
        super()._build()
        self.encoder = Bidirectional(self.config)
        self.gap = nn.Parameter(torch.randn(self.config.width) * 0.02)

    def guesses(self, batch: Batch, hidden_BT: Tensor) -> Tensor:
        """States (B, T, D) of a batch, some events of which are hidden."""
        context_BTD = self.embedding(batch)
        gap_BTD = self.embedding.dropout(self.gap + self.embedding.position(batch))
        context_BTD = torch.where(hidden_BT[..., None], gap_BTD, context_BTD)
        return self.output.scaled(self.encoder(context_BTD, batch.keep_BT))

    def loss(self, batch: Batch, criterion: Criterion) -> Tensor:
        """The summed loss at what was hidden, weighed to stand for all positions."""
        batch = replace(batch, items_BT=batch.targets_BT)
        hidden_BT = torch.rand(batch.items_BT.shape) < self.HIDDEN
        row_B = torch.arange(len(hidden_BT))
        none_B = ~(hidden_BT & batch.keep_BT).any(1)
        hidden_BT[row_B[none_B], batch.lengths_B[none_B] - 1] = True
        hidden_BT &= batch.keep_BT
        state_ND = self.guesses(batch, hidden_BT)[hidden_BT]
        catalogue_VD = self.output.scaled(self.item.catalogue())
        bias_V, target_N = self.output.catalogue_bias(), batch.items_BT[hidden_BT]
        loss = lean_cross_entropy(state_ND, catalogue_VD, bias_V, target_N)
        return loss * len(batch.real_N) / len(target_N)

    def _newest_states(self, batch: Batch) -> Tensor:
        lengths_B = batch.lengths_B.clamp_max(self.config.length - 1)
        step_T = torch.arange(int(lengths_B.max()) + 1)
        at_BT = step_T + (batch.lengths_B - lengths_B)[:, None]
        most = batch.items_BT.shape[1] - 1
        items_BT = batch.items_BT.gather(1, at_BT.clamp_max(most))
        hidden_BT = step_T == lengths_B[:, None]
        items_BT = items_BT.masked_fill(step_T > lengths_B[:, None], 0)
        items_BT = items_BT.masked_fill(hidden_BT, 1)  # any real item: it is not read
        asked = replace(batch, items_BT=items_BT, lengths_B=lengths_B + 1)
        return self.guesses(asked, hidden_BT)[hidden_BT]


RIVALS: dict[str, type[ac.Recommender]] = {"gru4rec": Recurrent, "bert4rec": Masked}


def rivals_of(data: str) -> dict[str, tuple[ac.RecommenderConfig, ac.TrainingConfig]]:
    """How the trained rivals of a data set are made, by name."""
    sizes: dict[str, dict[str, Any]] = {
        "ml-100k": {"width": 64, "length": 200, "dropout": 0.4},
        "ml-1m": {"width": 128, "length": 200, "dropout": 0.2},
        "beauty": {"width": 128, "length": 50, "dropout": 0.5, "temperature": 0.07},
    }
    size, short = sizes[data], data == "beauty"
    how = ac.TrainingConfig(
        epochs=30 if short else 60,
        batch_size=128 if short else 32,
        patience=10,
        windows="last" if short else "random",
    )
    gaps = replace(how, epochs=2 * how.epochs, patience=20)
    return {
        "gru4rec": (ac.RecommenderConfig(blocks=1, positions="none", **size), how),
        "bert4rec": (ac.RecommenderConfig(positions="newest", **size), gaps),
    }
