"""The four stages joined: a recommender that trains, recommends, explains and is saved. See "A first recommender"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from attncore.batches import Batch, Windows
from attncore.config import check_choices, check_range
from attncore.embedding import EventEmbedding, ItemEmbedding, Positions
from attncore.encoders import LSTMAttention, MeanPooling, SelfAttention, TargetAttention
from attncore.inspection import attention_frame, erasure_frame
from attncore.interactions import DataError
from attncore.output import Combine, Criterion, Output, catalogue_scores, lean_cross_entropy
from attncore.ranking import top_k
from attncore.runs import read_config, write_run
from attncore.sequences import Histories
from attncore.splits import Split

Attention = Literal["self", "target", "lstm", "mean"]


@dataclass(frozen=True)
class RecommenderConfig:
    """What the model is made of.

    Attributes:
        attention: "self" (causal self-attention), "target" (each candidate asks the history), "lstm" (the
            classic recipe) or "mean" (no attention: the mean of the history).
        width: size D of every vector.
        blocks: self-attention blocks, or LSTM layers.
        heads: attention heads; divides width.
        length: the newest events of a history that the model sees.
        dropout: share of embeddings and branches dropped while training.
        attention_dropout: share of self-attention's weights dropped while training.
        feedforward: hidden units of a block's network, as a multiple of width.
        hidden: size of the LSTM's states.
        positions: "none", "learned" (counted from the oldest event seen) or "newest" (from the newest).
        score: target attention's score, "dot" or "additive".
        normalize: target attention's weights are a softmax; False leaves them raw (Deep Interest Network).
        combine: the output sees "attended" vectors alone, with the "pooled" context, or with the "whole" context.
        item_bias: learn one number per item, added to its score.
    """

    attention: Attention = "self"
    width: int = 64
    blocks: int = 2
    heads: int = 2
    length: int = 200
    dropout: float = 0.2
    attention_dropout: float = 0.0
    feedforward: int = 1
    hidden: int = 16
    positions: Positions = "learned"
    score: Literal["dot", "additive"] = "dot"
    normalize: bool = True
    combine: Combine = "attended"
    item_bias: bool = True

    def __post_init__(self) -> None:
        check_choices(self, {"attention": Attention, "positions": Positions, "combine": Combine})
        check_choices(self, {"score": Literal["dot", "additive"]})
        for name in ("width", "blocks", "heads", "length", "feedforward", "hidden"):
            check_range(self, name, 1, None)
        for name in ("dropout", "attention_dropout"):
            check_range(self, name, 0, 0.99)
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads}: must divide width={self.width}")


@dataclass(frozen=True)
class Recommendation:
    """Items for one user, best first: the log's own ids, and their scores."""

    items: list[Any]
    scores: list[float]


class Recommender(nn.Module):
    """A recommender in four stages, for the catalogue of `split`.

    Args:
        config: what it is made of.
        split: gives the catalogue, and the histories that `recommend(users=...)` uses.
        seed: decides the first weights; PyTorch's global generator is left as it was.

    Shapes are written with the letters of `attncore`'s legend.
    """

    scores_are_logits = True

    def __init__(self, config: RecommenderConfig, split: Split, seed: int = 0) -> None:
        super().__init__()
        self.config, self.split = config, split
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build()

    def _build(self) -> None:
        c, items = self.config, len(self.split.items)
        self.embedding = EventEmbedding(items, c.length, c.width, c.positions, c.dropout)
        self.encoder: nn.Module
        if c.attention == "self":
            self.encoder = SelfAttention(c.width, c.blocks, c.heads, c.dropout, c.attention_dropout, c.feedforward)
        elif c.attention == "lstm":
            self.encoder = LSTMAttention(c.width, c.hidden, c.blocks, c.dropout)
        elif c.attention == "target":
            self.encoder = TargetAttention(c.width, c.heads, c.dropout, c.score, c.normalize)
        else:
            self.encoder = MeanPooling()
        self.output = Output(c.width, items, c.combine, c.length, c.item_bias)

    @property
    def item(self) -> ItemEmbedding:
        """The item vectors: stage 2 looks them up, stage 4 compares states with them."""
        return self.embedding.item

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.item.id.weight.device

    def states(self, batch: Batch) -> Tensor:
        """The state after each event, (B, T, D); its scores are those of the next item. Not for "target"."""
        context_BTD = self.embedding(batch)
        attended_BTD, _ = self.encoder(context_BTD)
        return self.output(attended_BTD, self.output.connected(context_BTD))

    def loss(self, batch: Batch, criterion: Criterion) -> Tensor:
        """The summed loss of predicting each real position's next item.

        Divided by the number of real positions, `len(batch.real_N)`, it is the mean. Target attention, whose
        cost grows with positions × candidates, draws 8 positions a history and weighs them to stand for all.
        """
        if self.config.attention == "target":
            return self._target_loss(batch, criterion)
        state_ND = self.states(batch).flatten(0, 1)[batch.real_N]
        assert batch.targets_BT is not None
        target_N = batch.targets_BT.flatten()[batch.real_N]
        bias_V = self.output.catalogue_bias()
        if criterion.loss == "full":
            return lean_cross_entropy(state_ND, self.item.catalogue(), bias_V, target_N)
        negatives_M = criterion.draw()
        positive_N = (state_ND * self.item(target_N)).sum(-1)
        negative_NM = state_ND @ self.item(negatives_M).T
        if self.output.bias is not None:
            positive_N, negative_NM = (
                positive_N + self.output.bias[target_N],
                negative_NM + self.output.bias[negatives_M],
            )
        return criterion(positive_N, negative_NM, target_N, negatives_M).sum()

    def _target_loss(self, batch: Batch, criterion: Criterion, draws: int = 8) -> Tensor:
        context_BTD = self.embedding(batch)
        assert batch.targets_BT is not None
        at_BP = (torch.rand(len(context_BTD), draws, device=self.device) * batch.lengths_B[:, None]).long()
        target_BP = batch.targets_BT.gather(1, at_BP)
        negatives_M = criterion.draw()
        candidates_BPN = torch.cat([target_BP[..., None], negatives_M.expand(*at_BP.shape, -1)], -1)
        scores_NM = self._candidate_scores(context_BTD, candidates_BPN, at_BP).flatten(0, 1)
        loss_N = criterion(scores_NM[:, 0], scores_NM[:, 1:], target_BP.flatten(), negatives_M)
        return (loss_N.view_as(at_BP).mean(1) * batch.lengths_B).sum()

    def _candidate_scores(self, context_BTD: Tensor, candidates_BPN: Tensor, at_BP: Tensor) -> Tensor:
        """Target attention's scores (B, P, N) of candidates asked at P moments: after event `at_BP` of the row."""
        step_T = torch.arange(context_BTD.shape[1], device=context_BTD.device)
        keep_BLT = (step_T <= at_BP[..., None]).repeat_interleave(candidates_BPN.shape[2], 1)
        query_BLD = self.item(candidates_BPN).flatten(1, 2)
        attended_BLD, _ = self.encoder(query_BLD, context_BTD, keep_BLT[:, None])
        connected = self.output.connected(context_BTD)
        if connected is not None:
            at_BL = at_BP.clamp_min(0).repeat_interleave(candidates_BPN.shape[2], 1)
            connected = connected.gather(1, at_BL[..., None].expand_as(attended_BLD))
        scores_BPN = (self.output(attended_BLD, connected) * query_BLD).sum(-1).view(candidates_BPN.shape)
        return scores_BPN if self.output.bias is None else scores_BPN + self.output.bias[candidates_BPN]

    def _final_scores(self, batch: Batch, candidates_BN: Tensor | None = None) -> Tensor:
        """Scores after each whole history: of the catalogue (B, V), or of the candidates (B, N)."""
        items, rows = len(self.split.items), len(batch.items_BT)
        last_B = batch.lengths_B - 1
        if self.config.attention == "target":
            if candidates_BN is None:
                candidates_BN = torch.arange(1, items + 1, device=self.device).expand(rows, -1)
            return self._candidate_scores(self.embedding(batch), candidates_BN[:, None], last_B[:, None])[:, 0]
        state_BD = self.states(batch)[torch.arange(rows, device=self.device), last_B.clamp_min(0)]
        state_BD = torch.where((last_B >= 0)[:, None], state_BD, 0)
        scores_BV = catalogue_scores(state_BD, self.item.catalogue(), self.output.catalogue_bias())
        return scores_BV if candidates_BN is None else scores_BV.gather(1, candidates_BN - 1)

    @torch.no_grad()
    def score(self, histories: Histories, users: np.ndarray | None = None) -> Tensor:
        """Scores of the whole catalogue after each history, (rows, V) float32; column j is item index j + 1.

        Args:
            histories: item indices, oldest first; an empty one is scored by the item biases alone.
            users: user row of each history, where it is known.

        Dropout is off, whatever mode the model is in.
        """
        windows = Windows(histories, self.config.length, self.device, users=users)
        scores = torch.empty(len(histories), len(self.split.items), device=self.device)
        budget = 4096 if self.config.attention == "target" else 32768
        with evaluating(self):
            for rows in windows.by_length(budget):
                scores[torch.from_numpy(rows).to(self.device)] = self._final_scores(windows.batch(rows)).float()
        return scores

    def recommend(
        self,
        users: Sequence[Any] | None = None,
        histories: Sequence[Sequence[Any]] | None = None,
        k: int = 10,
        candidates: Sequence[Any] | None = None,
        exclude_seen: bool | None = None,
    ) -> list[Recommendation]:
        """The k best next items for each user or history; fewer where fewer candidates are left.

        Args:
            users: ids of the log's users; their whole history counts, held-out events included.
            histories: lists of item ids, oldest first, instead of users.
            k: how many items.
            candidates: item ids to choose from; None is the whole catalogue.
            exclude_seen: leave out items of the history; None does so unless the log has repeats.

        Raises:
            DataError: an unknown user or item; ValueError: k below 1, or neither or both of users and histories.
        """
        if k < 1:
            raise ValueError(f"k={k}: must be at least 1")
        asked, rows = self._asked(users, histories)
        scores = self.score(asked, rows)
        if exclude_seen is None:
            exclude_seen = self.split.test.exclude_seen
        if exclude_seen:
            row = np.repeat(np.arange(len(asked)), asked.lengths)
            scores[torch.from_numpy(row), torch.from_numpy(asked.items.astype(np.int64) - 1)] = -torch.inf
        if candidates is not None:
            outside = torch.ones(scores.shape[1], dtype=torch.bool)
            outside[torch.from_numpy(self.split.items.encode(candidates).astype(np.int64) - 1)] = False
            scores[:, outside] = -torch.inf
        values, index = top_k(scores, min(k, scores.shape[1]))
        ids = self.split.items.decode(index.cpu().numpy() + 1)
        found = (values > -torch.inf).sum(1).tolist()
        return [
            Recommendation(row_ids[:n].tolist(), row_values[:n].tolist())
            for row_ids, row_values, n in zip(ids, values.cpu().numpy().astype(float), found, strict=True)
        ]

    def similar_items(self, items: Sequence[Any], k: int = 10) -> list[Recommendation]:
        """The k items whose vectors have the highest cosine with each given item's, itself left out."""
        index = torch.from_numpy(self.split.items.encode(items).astype(np.int64) - 1)
        with torch.no_grad():
            unit = nn.functional.normalize(self.item.catalogue(), dim=-1)
            cosine = unit[index] @ unit.T
            cosine[torch.arange(len(index)), index] = -torch.inf
            values, found = top_k(cosine, min(k, cosine.shape[1] - 1))
        ids = self.split.items.decode(found.cpu().numpy() + 1)
        return [Recommendation(i.tolist(), v.tolist()) for i, v in zip(ids, values.cpu().numpy(), strict=True)]

    def _asked(
        self, users: Sequence[Any] | None, histories: Sequence[Sequence[Any]] | None
    ) -> tuple[Histories, np.ndarray | None]:
        """Histories as indices, and user rows where users were named."""
        if (users is None) == (histories is None):
            raise ValueError("give either users= or histories=")
        if users is not None:
            rows = self.split.users.encode(users).astype(np.int64) - 1
            return self.split.histories.take(rows), rows
        assert histories is not None
        return Histories.from_lists([self.split.items.encode(history) for history in histories]), None

    def attention(
        self,
        histories: Sequence[Sequence[Any]] | None = None,
        candidates: Sequence[Any] | None = None,
        users: Sequence[Any] | None = None,
        every_query: bool = False,
    ) -> pd.DataFrame:
        """Attention weights, labelled: one row per history, layer, head, query and event.

        They are the weights before dropout; for one history, layer, head and query they sum to 1. All kinds but
        "target" have one query for the next item, which all recommended items share; its label is "next".

        Args:
            histories: lists of item ids, oldest first.
            candidates: "target" only: the item ids that ask; None takes the ten best recommended.
            users: ids of the log's users, instead of histories.
            every_query: give the rows of all positions, labelled 0, 1, … by position, not of the last alone.

        Returns:
            columns history, layer, head, query, event (place in the history), item (its id), weight.
        """
        asked, _ = self._asked(users, histories)
        return attention_frame(self, asked, candidates, every_query)

    def erasure(
        self,
        histories: Sequence[Sequence[Any]] | None = None,
        candidates: Sequence[Any] | None = None,
        users: Sequence[Any] | None = None,
    ) -> pd.DataFrame:
        """How much each candidate's score falls when one event is taken out of the history.

        Args:
            histories: lists of item ids, oldest first.
            candidates: item ids whose scores are watched; None takes the ten best recommended.
            users: ids of the log's users, instead of histories.

        Returns:
            columns history, candidate, event (place in the history), item (its id), drop (score with the event
            minus score without; above 0 the event spoke for the candidate).
        """
        asked, _ = self._asked(users, histories)
        return erasure_frame(self, asked, candidates)

    def save(self, folder: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Write the run folder that `load` reads: configuration, weights, vocabulary, histories.

        Nothing is pickled. Each file replaces its old one only when it is whole, and `config.json`, which holds
        the others' checksums, comes last.

        Args:
            folder: made if missing.
            about: more entries for `config.json`.

        Raises:
            OSError: the folder cannot be written.
        """
        write_run(
            Path(folder), self.split, self.state_dict(), dict(about or {}) | {"recommender": asdict(self.config)}
        )


def load(folder: str | Path, device: str | torch.device = "cpu") -> Recommender:
    """Read a model that `Recommender.save` or `fit(out=...)` wrote, ready to recommend.

    Raises:
        DataError: the folder is not a run folder, or a file in it is missing, damaged or of another run.
    """
    folder = Path(folder)
    config = read_config(folder)
    try:
        recommender = RecommenderConfig(**config["recommender"])
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"{folder / 'config.json'}: does not describe a recommender ({error}); train again") from None
    model = Recommender(recommender, Split.load(folder))
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    return model.to(device).eval()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block, and the mode before it afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
