"""A model that ranks slates by target attention: each candidate asks the past.

The four stages are those of `Recommender`, and so are training, saving and the command
line. What differs is the question: not which item of the catalogue comes next, but
which of the candidates shown now will be clicked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attncore.batches import Sampler
from attncore.config import Loss, RankerConfig, TrainingConfig
from attncore.distributed import Group
from attncore.embedding import FeatureEmbedding, ItemEmbedding, UserSide, feature_table
from attncore.encoders import TargetAttention
from attncore.errors import DataError, expect
from attncore.features import FIRST, FeatureSet
from attncore.files import save_model, take_weights
from attncore.layers import Dropout, evaluating, seeded
from attncore.output import Criterion, slate_softmax
from attncore.ranking import serving
from attncore.ranking.asof import IndexedSlates
from attncore.ranking.batches import (
    AGES,
    COUNTS,
    SlateBatch,
    SlateWindows,
    fit_situation,
)
from attncore.ranking.encoders import MatchBias, MeanOfPast
from attncore.ranking.serving import Question
from attncore.splits import Split, require_split


class Ranker(nn.Module):
    """Ranks the candidates of slates, for the log of `split`.

    The query is the candidate with the situation (how it is shown, where, at what price
    cut, how often anybody took it lately) and the user's profile. The context is one
    vector per distinct past item: the item with its features, how often it was taken
    and how long ago, and one learned vector for "nothing of all this". Of those, each
    candidate attends to what concerns it (`MatchBias` helps); the attended vector, the
    query and their product go through a small network to one score, whose sigmoid is
    the probability of being clicked.

    Args:
        config: what it is made of; where it names no features, what the log's slates
            name is read.
        split: a time split of a log with slates.
        seed: decides the first weights; PyTorch's generators are left as they were.
        features: as learned before; None learns them from the training part of `split`.

    Raises:
        DataError: the split has no slates, or a feature's table or column is absent.

    Source: Zhou et al. 2018 (Deep Interest Network), trained with their pointwise loss.
    """

    scores_are_logits = True
    default_loss: Loss = "combined"

    def __init__(
        self,
        config: RankerConfig,
        split: Split,
        seed: int = 0,
        features: FeatureSet | None = None,
    ) -> None:
        super().__init__()
        expect(config, RankerConfig, "Ranker", "a RankerConfig first")
        require_split(split, "Ranker")
        if split.slates is None:
            raise DataError(f"{split.name}: has no slates; use Recommender")
        self.config, self.split = config, split
        self.features = features or _fitted(config, split)
        with seeded(seed):
            self._build()

    def _build(self) -> None:
        c, known, split = self.config, self.features, self.split
        width, items = c.width, len(split.items)
        item_features = feature_table(known, split, "item", width)
        profile = feature_table(known, split, "user", width, c.feature_dropout)
        self.item = ItemEmbedding(items, width, item_features, c.id_dropout)
        self.count = nn.Embedding(len(COUNTS) + 1, width, padding_idx=0)
        self.age = nn.Embedding(len(AGES) + 1, width, padding_idx=0)
        self.habit = nn.Linear(2, width)
        self.nothing = nn.Parameter(torch.randn(width) * 0.02)
        self.user_side = UserSide(profile, None)
        self.situation = None
        if known.situation:
            hide = c.feature_dropout
            self.situation = FeatureEmbedding(known.situation, width, hide)
        self.popularity = nn.Linear(2, width)
        self.own = nn.Linear(6, width)
        self.again = nn.Linear(6, 1)
        self.dropout = Dropout(c.dropout)
        kinds = [feature.kind for feature in known.item]
        self.matched = [n for n, kind in enumerate(kinds) if kind == "category"]
        if c.attention == "target":  # a weight without a gradient stops processes
            self.match = MatchBias(1 + len(self.matched), c.heads)
        encoders = {"target": TargetAttention, "mean": MeanOfPast}
        self.encoder: nn.Module = encoders[c.attention](c)
        joined = nn.Linear(3 * width, width), nn.GELU(), Dropout(c.dropout)
        self.output = nn.Sequential(*joined, nn.Linear(width, 1))
        for vectors in (self.count, self.age):
            nn.init.normal_(vectors.weight, std=0.02)
            with torch.no_grad():
                vectors.weight[0] = 0
        self.bias = nn.Parameter(torch.zeros(items + 1)) if c.item_bias else None
        # Training begins at the share that is clicked.
        self.base = nn.Parameter(torch.tensor(_log_odds(split)))

    # The plain path.

    def attended(
        self, batch: SlateBatch, need_weights: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Query vectors (B, N, D), attended vectors (B, N, D), and weights when asked.

        The weights are (B, H, N, 1 + K): the first column is "nothing of the past"; K
        past items follow, the latest last.
        """
        query_BND = self.item(batch.candidates_BN)
        query_BND = query_BND + self.popularity(batch.popularity_BN2)
        query_BND = query_BND + self.own(batch.own_BN6)
        if self.situation is not None:
            codes = [batch.situation[name] for name in self.situation.names]
            query_BND = query_BND + self.situation(codes)
        if self.user_side.profile is not None:
            query_BND = query_BND + self.user_side.profile(batch.users_B + 1)[:, None]
        context_BKD = self.context(batch)
        query_BND, context_BKD = self.dropout(query_BND), self.dropout(context_BKD)
        keep_BK = F.pad(batch.items_BT > 0, (1, 0), value=True)
        if isinstance(self.encoder, MeanOfPast):
            attended_BND, weights = self.encoder(query_BND, context_BKD, keep_BK)
            return query_BND, attended_BND, [weights]
        # One slate has no padding among its past items.
        keep = keep_BK if len(keep_BK) > 1 else None
        asking = self._things(batch.candidates_BN, -1)
        bias_BHNK = self.match(asking, self._things(batch.items_BT, -2))
        attended_BND, layers = self.encoder(
            query_BND, context_BKD, keep, need_weights, bias=F.pad(bias_BHNK, (1, 0))
        )
        return query_BND, attended_BND, layers

    def context(self, batch: SlateBatch) -> Tensor:
        """The context vectors (B, 1 + K, D): of nothing, then of the past items."""
        past_BKD = self.item(batch.items_BT) + self.habit(batch.habit_BT2)
        past_BKD = past_BKD + self.count(batch.counts_BT) + self.age(batch.ages_BT)
        return torch.cat([self.nothing.expand(len(past_BKD), 1, -1), past_BKD], 1)

    def scores(self, batch: SlateBatch) -> Tensor:
        """Scores (B, N) of a batch's candidates."""
        query_BND, attended_BND, _ = self.attended(batch)
        joined = torch.cat([query_BND, attended_BND, query_BND * attended_BND], -1)
        scores_BN1 = self.output(joined) + self.again(batch.own_BN6)
        scores_BN = scores_BN1[..., 0] + self.base
        if self.bias is None:
            return scores_BN
        return scores_BN + self.bias[batch.candidates_BN]

    def loss(self, batch: SlateBatch, criterion: Criterion) -> Tensor:
        """The summed loss of a batch's candidates, "bce" or "combined".

        The binary cross-entropy makes scores log-odds. Clicked candidates are drawn
        more often than others; the log of how much more is added to the scores here, so
        that the scores themselves are log-odds among all candidates (King and Zeng
        2001, for logistic regression). "combined" adds `output.slate_softmax`, which
        asks for the order within each slate (as Sculley 2010, who adds a loss of
        pairs).

        Raises:
            ValueError: the criterion's loss is another.
        """
        _check_loss(criterion.loss)
        clicked_BN, correction_BN = batch.clicked_BN, batch.correction_BN
        assert clicked_BN is not None
        assert correction_BN is not None
        scores_BN, real_BN = self.scores(batch).float(), batch.candidates_BN > 0
        loss_BN = F.binary_cross_entropy_with_logits(
            scores_BN + correction_BN, clicked_BN, reduction="none"
        )
        loss = (loss_BN * real_BN).sum()
        if criterion.loss == "bce":
            return loss
        return loss + slate_softmax(scores_BN, clicked_BN > 0, real_BN)

    def answer(self, question: Question) -> Tensor:
        """Scores (1, N) of the candidates of a question after the end of the log."""
        return self.scores(question.batch(self))

    @torch.no_grad()
    def score_slate(self, slates: IndexedSlates, row: int) -> np.ndarray:
        """Scores of all candidates of a slate, in the order of its list.

        A score is the log-odds of being clicked.
        """
        scores_BN = evaluating(self).scores(self.windows(slates).whole(row))
        return scores_BN[0].float().cpu().numpy()

    # What it is asked: functions over any model, each with its own description.

    recommend = serving.recommend
    attention = serving.attention
    slate_attention = serving.slate_attention
    erasure = serving.erasure

    def save(
        self,
        folder: str | Path,
        about: Mapping[str, Any] | None = None,
        only_weights: bool = False,
    ) -> None:
        """Write the run folder that `load` reads; see `Recommender.save`.

        The slates after training are kept too.
        """
        slates, names = self.split.slates, {one.name for one in self.features.situation}
        assert isinstance(slates, IndexedSlates)
        # What is read of the events, not of the slates.
        columns = names & set(self.split.histories.attributes)
        columns -= {*slates.shown, *slates.situation}
        save_model(folder, self, "ranker", about, sorted(columns), only_weights)

    # What training and the verbs need of it.

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.item.id.weight.device

    def check_training(self, config: TrainingConfig) -> None:
        """Raise ValueError where a training asks for what this model cannot do."""
        if config.windows != "last":
            raise ValueError(
                f"windows={config.windows!r}: slates are drawn at random already; leave"
                " --windows out"
            )
        if config.loss != "auto":
            _check_loss(config.loss)

    def sampler(self, split: Split, config: TrainingConfig, group: Group) -> Sampler:
        """Random training slates of each user."""
        slates = split.slates
        assert isinstance(slates, IndexedSlates)
        how = self.features.situation, self.config.length, self.device
        until = split.valid.protocol["valid_from"]
        windows = SlateWindows(slates, *how, len(split.users), until, config.negatives)
        return Sampler(windows, config, group, split.sharded)

    def windows(self, slates: IndexedSlates) -> SlateWindows:
        """Windows on some slates, kept until others are asked for."""
        kept = self.__dict__.get("_asked_windows")
        if kept is None or kept.slates is not slates or kept.device != self.device:
            how = self.features.situation, self.config.length, self.device
            kept = self.__dict__["_asked_windows"] = SlateWindows(slates, *how)
        return kept

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """As `Recommender.take_weights`."""
        take_weights(self, weights)

    def _things(self, items: Tensor, none: int) -> list[Tensor]:
        """What an item can share: itself, and each category; `none` where unknown."""
        things = [items.masked_fill(items == 0, none)]
        if self.item.features is not None:
            codes = self.item.features.codes()
            for number in self.matched:
                code = codes[number][items]
                things.append(code.masked_fill(code < FIRST, none))
        return things


def _check_loss(loss: str) -> None:
    if loss not in ("bce", "combined"):
        raise ValueError(
            f"loss={loss!r}: slates are trained with 'bce' or 'combined'; leave --loss"
            " out"
        )


def _fitted(config: RankerConfig, split: Split) -> FeatureSet:
    """The features that a configuration names, else those that the slates name."""
    parts = ("item", "user", "situation")
    named = {part: getattr(config, f"{part}_features") for part in parts}
    slates: Any = split.log.slates if split.log is not None else None
    if not any(named.values()) and slates is not None:
        named = {part: slates.read.get(part, ()) for part in named}
    known = FeatureSet.fit(split, item=named["item"], user=named["user"])
    return replace(known, situation=fit_situation(split, named["situation"]))


def _log_odds(split: Split) -> float:
    """Log-odds of a click over the slates of training; over all in a run folder."""
    slates = split.slates
    assert isinstance(slates, IndexedSlates)
    before = np.searchsorted(slates.times, split.valid.protocol["valid_from"])
    few = int(before) or len(slates)
    shown = float(np.diff(slates.offsets)[slates.lists[:few]].sum())
    clicked = float(slates.clicked_offsets[few])
    return math.log(clicked / max(shown - clicked, 1.0))
