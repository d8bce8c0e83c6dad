"""A recommender that ranks slates by target attention: each candidate asks what was bought before.

The four stages are those of `Recommender`, and so are training, saving and the command
line. What differs is the question: not which item of the catalogue comes next, but
which of the candidates shown now will be taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attncore.config import Loss, RecommenderConfig, TrainingConfig
from attncore.embedding import (
    AskerEmbedding,
    FeatureEmbedding,
    FeatureTable,
    ItemEmbedding,
)
from attncore.encoders import TargetAttention
from attncore.errors import DataError
from attncore.features import FIRST, FeatureSet
from attncore.layers import Dropout, evaluating
from attncore.output import Criterion, slate_softmax
from attncore.ranking.asof import Moments
from attncore.ranking.batches import (
    AGES,
    COUNTS,
    SlateBatch,
    SlateWindows,
    fit_situation,
)
from attncore.ranking.encoders import MatchBias, MeanOfPast
from attncore.ranking.serving import SlateAnswering
from attncore.runs import write_run
from attncore.splits import Split

READ = (
    *("attention", "width", "heads", "length", "dropout", "item_bias"),
    *("score", "normalize", "feature_dropout", "id_dropout"),
)


FEATURES = ("item_features", "user_features", "situation_features")


class SlateRecommender(SlateAnswering):
    """Ranks the candidates of slates, for the log of `split`; `Recommender` makes one where the split has slates.

    The query is the candidate with the situation (how it is shown, where, at what price
    cut, how often anybody took it lately) and the user's profile. The context is one
    vector per distinct past item: the item with its features, how often it was taken
    and how long ago, and one learned vector for "nothing of all this". Of those, each
    candidate attends to what concerns it (`MatchBias` helps); the attended vector, the
    query and their product go through a small network to one score, whose sigmoid is
    the probability of being taken.

    Args:
        config: what it is made of: attention "target" or "mean", width, heads, length
            (distinct past items), dropout, item_bias, score, normalize,
            feature_dropout, id_dropout, and the features of item, user and situation;
            where none of those is named, what the log's slates name. Other fields must
            be as they are by default.
        split: a time split of a log with slates.
        seed: decides the first weights.
        features: as learned before; None learns them from the training part of `split`.

    Raises:
        ValueError: a setting that slates do not know.
        DataError: a feature's table or column is absent.

    Source: Zhou et al. 2018 (Deep Interest Network), trained with their pointwise loss.
    """

    scores_are_logits = True
    default_loss: Loss = "combined"

    def __init__(
        self,
        config: RecommenderConfig,
        split: Split,
        seed: int = 0,
        features: FeatureSet | None = None,
    ) -> None:
        super().__init__()
        if split.slates is None:
            raise DataError(f"{split.name}: has no slates; use Recommender")
        if config.attention not in ("target", "mean"):
            raise ValueError(
                f"attention={config.attention!r}: {split.name} has slates, which are"
                " ranked by attention 'target' or 'mean'; choose one (--attention"
                " target)"
            )
        plain = RecommenderConfig()
        for field in fields(config):
            if field.name not in (*READ, *FEATURES) and getattr(
                config, field.name
            ) != getattr(plain, field.name):
                raise ValueError(
                    f"{field.name}={getattr(config, field.name)!r}: means nothing for"
                    " slates; leave it out"
                )
        self.config, self.split = config, split
        self.features = features or _fitted(config, split)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build()

    def _build(self) -> None:
        c, known, split = self.config, self.features, self.split
        table = (
            FeatureTable(known.item, known.table_codes(split, "item"), c.width)
            if known.item
            else None
        )
        profile = None
        if known.user:
            profile = FeatureTable(
                known.user, known.table_codes(split, "user"), c.width, c.feature_dropout
            )
        self.item = ItemEmbedding(len(split.items), c.width, table, c.id_dropout)
        self.count = nn.Embedding(len(COUNTS) + 1, c.width, padding_idx=0)
        self.age = nn.Embedding(len(AGES) + 1, c.width, padding_idx=0)
        self.habit = nn.Linear(2, c.width)
        self.nothing = nn.Parameter(torch.randn(c.width) * 0.02)
        self.asker = AskerEmbedding(profile, None)
        self.situation = (
            FeatureEmbedding(known.situation, c.width, c.feature_dropout)
            if known.situation
            else None
        )
        self.popularity = nn.Linear(2, c.width)
        self.own = nn.Linear(6, c.width)
        self.again = nn.Linear(6, 1)
        self.dropout = Dropout(c.dropout)
        self.matched = [
            number
            for number, feature in enumerate(known.item)
            if feature.kind == "category"
        ]
        self.match = MatchBias(1 + len(self.matched), c.heads)
        self.encoder: nn.Module
        if c.attention == "target":
            self.encoder = TargetAttention(
                c.width, c.heads, c.dropout, c.score, c.normalize
            )
        else:
            self.encoder = MeanOfPast(c.width, c.dropout)
        self.output = nn.Sequential(
            nn.Linear(3 * c.width, c.width),
            nn.GELU(),
            Dropout(c.dropout),
            nn.Linear(c.width, 1),
        )
        for vectors in (self.count, self.age):
            nn.init.normal_(vectors.weight, std=0.02)
            with torch.no_grad():
                vectors.weight[0] = 0
        self.bias = (
            nn.Parameter(torch.zeros(len(split.items) + 1)) if c.item_bias else None
        )
        self.base = nn.Parameter(
            torch.tensor(_log_odds(split))
        )  # so that training begins at the share that is taken

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.item.id.weight.device

    def training_windows(self, split: Split, config: TrainingConfig) -> SlateWindows:
        """Random training slates of each user: what `fit` draws its batches from."""
        assert split.slates is not None
        if config.windows != "last":
            raise ValueError(
                f"windows={config.windows!r}: slates are drawn at random already; leave"
                " --windows out"
            )
        until, users = split.valid.protocol["valid_from"], len(split.users)
        return SlateWindows(
            split.slates,
            self.features.situation,
            self.config.length,
            self.device,
            users,
            until,
            config.negatives,
        )

    def attended(
        self, batch: SlateBatch, need_weights: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Query vectors (B, N, D), attended vectors (B, N, D), and the weights (B, H, N, 1 + K) when asked for.

        The first column of weights is "nothing of the past"; K past items follow, the
        latest last.
        """
        query_BND = (
            self.item(batch.candidates_BN)
            + self.popularity(batch.popularity_BN2)
            + self.own(batch.own_BN6)
        )
        if self.situation is not None:
            query_BND = query_BND + self.situation(
                [batch.situation[name] for name in self.situation.names]
            )
        if self.asker.profile is not None:
            query_BND = query_BND + self.asker.profile(batch.users_B + 1)[:, None]
        context_BKD = self.context(batch)
        query_BND, context_BKD = self.dropout(query_BND), self.dropout(context_BKD)
        keep_BK = F.pad(batch.items_BT > 0, (1, 0), value=True)
        if isinstance(self.encoder, MeanOfPast):
            attended_BND, weights = self.encoder(query_BND, context_BKD, keep_BK)
            return query_BND, attended_BND, [weights]
        keep = (
            keep_BK if len(keep_BK) > 1 else None
        )  # one slate has no padding among its past items
        bias_BHNK = F.pad(
            self.match(
                self._things(batch.candidates_BN, -1), self._things(batch.items_BT, -2)
            ),
            (1, 0),
        )
        attended_BND, layers = self.encoder(
            query_BND, context_BKD, keep, need_weights, bias=bias_BHNK
        )
        return query_BND, attended_BND, layers

    def context(self, batch: SlateBatch) -> Tensor:
        """The context vectors (B, 1 + K, D): that of nothing, then those of the past items, the latest last."""
        past_BKD = self.item(batch.items_BT) + self.habit(batch.habit_BT2)
        past_BKD = past_BKD + self.count(batch.counts_BT) + self.age(batch.ages_BT)
        return torch.cat([self.nothing.expand(len(past_BKD), 1, -1), past_BKD], 1)

    def _things(self, items: Tensor, none: int) -> list[Tensor]:
        """What an item can share with another: itself, and each of its categories; `none` where that is unknown."""
        things = [items.masked_fill(items == 0, none)]
        if self.item.features is not None:
            codes = self.item.features.codes()
            for number in self.matched:
                code = codes[number][items]
                things.append(code.masked_fill(code < FIRST, none))
        return things

    def scores(self, batch: SlateBatch) -> Tensor:
        """Scores (B, N) of a batch's candidates."""
        query_BND, attended_BND, _ = self.attended(batch)
        joined = torch.cat([query_BND, attended_BND, query_BND * attended_BND], -1)
        scores_BN = (self.output(joined) + self.again(batch.own_BN6))[
            ..., 0
        ] + self.base
        return (
            scores_BN
            if self.bias is None
            else scores_BN + self.bias[batch.candidates_BN]
        )

    def loss(self, batch: SlateBatch, criterion: Criterion) -> Tensor:
        """The summed loss of a batch's candidates: "bce", or "combined" with a loss of their order.

        The binary cross-entropy makes scores log-odds. Taken candidates are drawn more
        often than others; the log of how much more is added to the scores here, so that
        the scores themselves are log-odds among all candidates (King and Zeng 2001, for
        logistic regression). "combined" adds `output.slate_softmax`, which asks for the
        order within each slate (as Sculley 2010, who adds a loss of pairs).

        Raises:
            ValueError: the criterion's loss is another.
        """
        if criterion.loss not in ("bce", "combined"):
            raise ValueError(
                f"loss={criterion.loss!r}: slates are trained with 'bce' or 'combined';"
                " leave --loss out"
            )
        assert batch.taken_BN is not None
        assert batch.drawn_BN is not None
        scores_BN, real_BN = self.scores(batch).float(), batch.candidates_BN > 0
        loss_BN = F.binary_cross_entropy_with_logits(
            scores_BN + batch.drawn_BN, batch.taken_BN, reduction="none"
        )
        loss = (loss_BN * real_BN).sum()
        return (
            loss
            if criterion.loss == "bce"
            else loss + slate_softmax(scores_BN, batch.taken_BN > 0, real_BN)
        )

    @torch.no_grad()
    def score_slate(self, slates: Moments, row: int) -> np.ndarray:
        """Scores of all candidates of a slate, in the order of its list: the log-odds of being taken."""
        with evaluating(self):
            return (
                self.scores(self._windows(slates).whole(row))[0].float().cpu().numpy()
            )

    def _windows(self, slates: Moments) -> SlateWindows:
        """Windows on some slates, kept until others are asked for."""
        kept = self.__dict__.get("_asked_windows")
        if kept is None or kept.slates is not slates or kept.device != self.device:
            kept = SlateWindows(
                slates, self.features.situation, self.config.length, self.device
            )
            self.__dict__["_asked_windows"] = kept
        return kept

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """As `Recommender.take_weights`."""
        take_weights(self, weights)

    def save(
        self,
        folder: str | Path,
        about: Mapping[str, Any] | None = None,
        only_weights: bool = False,
    ) -> None:
        """Write the run folder that `load` reads; see `Recommender.save`. The slates after training are kept too."""
        config = dict(about or {}) | {
            "recommender": asdict(self.config),
            "features": self.features.to_json(),
        }
        names = {feature.name for feature in self.features.situation} & set(
            self.split.histories.attributes
        )
        read = (
            names - {*self.split.slates.shown, *self.split.slates.situation}
            if self.split.slates
            else names
        )
        write_run(
            Path(folder),
            self.split,
            self.state_dict(),
            config,
            sorted(read),
            only_weights,
        )


def take_weights(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Put weights, and tables of codes, into a `Recommender` or `SlateRecommender` that was made without its log.

    Raises:
        RuntimeError: a name or a shape does not fit.
    """
    for name, buffer in model.named_buffers():
        if name in weights:
            buffer.resize_(weights[name].shape)
    model.load_state_dict(weights)
    for table, ids in (
        (model.item.features, model.split.items),
        (model.asker.profile, model.split.users),
    ):
        if table is not None and any(
            len(codes) != len(ids) + 1 for codes in table.codes()
        ):
            raise RuntimeError(
                f"a table of codes is not that of {len(ids):,} {ids.kind}s"
            )


def _fitted(config: RecommenderConfig, split: Split) -> FeatureSet:
    """The features that a configuration names, or, where it names none, those that the slates name."""
    named = {name.removesuffix("_features"): getattr(config, name) for name in FEATURES}
    slates = split.log.slates if split.log is not None else None
    if not any(named.values()) and slates is not None:
        named = {part: slates.read.get(part, ()) for part in named}
    known = FeatureSet.fit(split, item=named["item"], user=named["user"])
    return replace(known, situation=fit_situation(split, named["situation"]))


def _log_odds(split: Split) -> float:
    """Log-odds of a candidate being taken, over all slates of the split that are there for training, or any."""
    slates = split.slates
    assert slates is not None
    few = int(np.searchsorted(slates.times, split.valid.protocol["valid_from"])) or len(
        slates
    )
    shown = float(np.diff(slates.offsets)[slates.lists[:few]].sum())
    taken = float(slates.taken_offsets[few])
    return math.log(taken / max(shown - taken, 1.0))
