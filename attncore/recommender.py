"""The four stages joined: a recommender that trains, recommends, explains and is saved. See "A first recommender"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attncore.batches import Batch, Windows
from attncore.config import Loss, RecommenderConfig, TrainingConfig
from attncore.embedding import (
    AskerEmbedding,
    EventEmbedding,
    FeatureEmbedding,
    FeatureTable,
    ItemEmbedding,
)
from attncore.encoders import (
    LSTMAttention,
    MeanPooling,
    SelfAttention,
    TargetAttention,
    Transition,
)
from attncore.features import PROFILE, FeatureSet, encode_columns, label
from attncore.layers import evaluating
from attncore.output import (
    Criterion,
    Output,
    catalogue_scores,
    lean_cross_entropy,
)
from attncore.ranking.ranker import SlateRecommender, take_weights
from attncore.runs import write_run
from attncore.sequences import Histories
from attncore.serving import Answering
from attncore.splits import Split


class Recommender(Answering):
    """A recommender in four stages, for the catalogue of `split`.

    Args:
        config: what it is made of.
        split: gives the catalogue, the histories that `recommend(users=...)` uses, and
            what features are learned from.
        seed: decides the first weights; PyTorch's global generator is left as it was.
        features: as learned before; None learns those that `config` names from the
            training part of `split`.

    Raises:
        DataError: a feature's table or column is absent, or unfit.

    Where the split has slates this makes a `SlateRecommender`, which answers the same
    calls.

    Shapes are written with the letters of `attncore`'s legend.
    """

    scores_are_logits = True
    shown_N: (
        Tensor | None
    )  # where attributes are to speak for new items: those that training shows, from 0
    place_V: Tensor | None  # and the place of each item among them, or -1

    def __new__(
        cls, config: Any = None, split: Any = None, *args: Any, **options: Any
    ) -> Any:
        """A `SlateRecommender` for a split with slates; what is copied or unpickled is made without arguments."""
        if getattr(split, "slates", None) is not None:
            return SlateRecommender(config, split, *args, **options)
        return super().__new__(cls)

    def __init__(
        self,
        config: RecommenderConfig,
        split: Split,
        seed: int = 0,
        features: FeatureSet | None = None,
    ) -> None:
        super().__init__()
        self.config, self.split = config, split
        self.features = features or FeatureSet.fit(
            split,
            config.item_features,
            config.user_features,
            config.event_features,
            config.situation_features,
        )
        self.reads_situation = bool(self.features.situation)  # `evaluate` asks
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build()

    def _build(self) -> None:
        c, items = self.config, len(self.split.items)
        known, hide = self.features, c.feature_dropout
        item_table = (
            FeatureTable(known.item, known.table_codes(self.split, "item"), c.width)
            if known.item
            else None
        )
        event = FeatureEmbedding(known.event, c.width, hide) if known.event else None
        self.embedding = EventEmbedding(
            items,
            c.length,
            c.width,
            c.positions,
            c.dropout,
            item_table,
            event,
            c.id_dropout,
        )
        profile = situation = None
        if known.user:
            profile = FeatureTable(
                known.user, known.table_codes(self.split, "user"), c.width, hide
            )
        if known.situation:
            situation = FeatureEmbedding(known.situation, c.width, hide)
        self.asker = AskerEmbedding(profile, situation)
        self.encoder: nn.Module
        if c.attention == "self":
            self.encoder = SelfAttention(
                c.width,
                c.blocks,
                c.heads,
                c.dropout,
                c.attention_dropout,
                c.feedforward,
                c.relative,
                c.gated,
            )
        elif c.attention == "lstm":
            self.encoder = LSTMAttention(c.width, c.hidden, c.blocks, c.dropout)
        elif c.attention == "target":
            self.encoder = TargetAttention(
                c.width, c.heads, c.dropout, c.score, c.normalize
            )
        else:
            self.encoder = MeanPooling()
        self.transition = (
            Transition(items, c.width, c.transition) if c.transition else None
        )
        self.output = Output(
            c.width, items, c.combine, c.length, c.item_bias, c.temperature
        )
        self.empty = (
            nn.Parameter(torch.zeros(c.width))
            if c.cold and c.attention != "target"
            else None
        )
        self.register_buffer("shown_N", None, persistent=False)
        self.register_buffer("place_V", None, persistent=False)
        trained = self.split.item_counts > 0
        if (
            known.item and not trained.all()
        ):  # attributes alone speak for what training never shows
            self.shown_N = torch.from_numpy(np.flatnonzero(trained))
            self.place_V = torch.from_numpy(
                np.where(trained, np.cumsum(trained) - 1, -1)
            )
            with torch.no_grad():
                self.item.id.weight[1:][torch.from_numpy(~trained)] = 0

    @property
    def item(self) -> ItemEmbedding:
        """The item vectors: stage 2 looks them up, stage 4 compares states with them."""
        return self.embedding.item

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.item.id.weight.device

    @property
    def default_loss(self) -> Loss:
        """What the loss "auto" is: "full", or "sampled" for target attention, which costs positions × candidates."""
        return "sampled" if self.config.attention == "target" else "full"

    def training_windows(self, split: Split, config: TrainingConfig) -> Windows:
        """The newest training events of each user: what `fit` draws its batches from."""
        return self.windows(split.train, np.arange(len(split.train)), targets=True)

    def windows(
        self,
        histories: Histories,
        users: np.ndarray | None = None,
        targets: bool = False,
        situation: Mapping[str, Any] | None = None,
    ) -> Windows:
        """Batches of histories as the model reads them: their attributes encoded, on the model's device.

        Args:
            histories: item indices, with raw attributes by name; one that is absent is
                unknown.
            users: user row of each history; None where nobody is known.
            targets: as for `Windows`; the situation is then that of each target.
            situation: otherwise raw columns, one value per history; one that is absent
                is unknown. Those whose names begin with `PROFILE` stand for what the
                table says of the user.
        """
        where, events = label(self.split, "event"), len(histories.items)
        attributes = encode_columns(
            self.features.event, histories.attributes, events, where
        )
        told, rows = (
            (histories.attributes, events)
            if targets
            else (situation or {}, len(histories))
        )
        asking = encode_columns(self.features.situation, told, rows, where)
        profile = {
            name.removeprefix(PROFILE): told[name]
            for name in told
            if name.startswith(PROFILE)
        }
        if profile:
            known = encode_columns(
                self.features.user, profile, rows, label(self.split, "user")
            )
            asking |= {PROFILE + name: codes for name, codes in known.items()}
        return Windows(
            replace(histories, attributes=attributes),
            self.config.length,
            self.device,
            targets,
            np.full(len(histories), -1) if users is None else users,
            asking,
        )

    def states(self, batch: Batch) -> Tensor:
        """The state after each event, (B, T, D); its scores are those of the next item. Not for "target"."""
        context_BTD = self.embedding(batch)
        attended_BTD, _ = self.encoder(context_BTD, batch.times_BT)
        state_BTD, asker = (
            self.output(attended_BTD, self.output.connected(context_BTD)),
            self.asker(batch),
        )
        if self.transition is not None:
            state_BTD = state_BTD + self.transition(batch.items_BT)
        return self.output.scaled(state_BTD if asker is None else state_BTD + asker)

    def loss(self, batch: Batch, criterion: Criterion) -> Tensor:
        """The summed loss of predicting each real position's next item.

        Divided by the number of real positions, `len(batch.real_N)`, it is the mean.
        Target attention, whose cost grows with positions × candidates, draws 8
        positions a history and weighs them to stand for all. A model made with `cold`
        is asked for each row's first event too. A model with item features holds no
        item against a target that training never shows, so that such an item keeps the
        score that its attributes give.
        """
        if self.config.attention == "target":
            return self._target_loss(batch, criterion)
        state_ND = self.states(batch).flatten(0, 1)[batch.real_N]
        assert batch.targets_BT is not None
        target_N = batch.targets_BT.flatten()[batch.real_N]
        if self.empty is not None:
            empty_BD, asker = (
                self.empty.expand(len(batch.items_BT), -1),
                self.asker(batch),
            )
            empty_BD = empty_BD if asker is None else empty_BD + asker[:, 0]
            state_ND = torch.cat([state_ND, self.output.scaled(empty_BD)])
            target_N = torch.cat([target_N, batch.items_BT[:, 0]])
        bias_V = self.output.catalogue_bias()
        if criterion.loss == "full":
            catalogue_VD = self.output.scaled(self.item.catalogue())
            if self.place_V is not None:
                catalogue_VD, target_N = (
                    catalogue_VD[self.shown_N],
                    self.place_V[target_N - 1] + 1,
                )
                bias_V = None if bias_V is None else bias_V[self.shown_N]
            return lean_cross_entropy(
                state_ND, catalogue_VD, bias_V, target_N, smoothing=criterion.smoothing
            )
        negatives_M = criterion.draw()
        positive_N = (state_ND * self.output.scaled(self.item(target_N))).sum(-1)
        negative_NM = state_ND @ self.output.scaled(self.item(negatives_M)).T
        if self.output.bias is not None:
            positive_N, negative_NM = (
                positive_N + self.output.bias[target_N],
                negative_NM + self.output.bias[negatives_M],
            )
        negative_NM = self._without_unseen(negative_NM, negatives_M)
        return criterion(positive_N, negative_NM, target_N, negatives_M).sum()

    def _without_unseen(self, negative_NM: Tensor, negatives_M: Tensor) -> Tensor:
        """Scores of negatives, -inf where training never shows the item and attributes are to speak for it."""
        if self.place_V is None:
            return negative_NM
        return negative_NM.masked_fill(self.place_V[negatives_M - 1] < 0, -torch.inf)

    def _target_loss(
        self, batch: Batch, criterion: Criterion, draws: int = 8
    ) -> Tensor:
        context_BTD = self.embedding(batch)
        assert batch.targets_BT is not None
        cold = int(self.config.cold)  # place -1 is the moment before the first event
        draw_BP = torch.rand(len(context_BTD), draws, device=self.device)
        at_BP = (draw_BP * (batch.lengths_B[:, None] + cold)).long() - cold
        target_BP = torch.cat([batch.items_BT[:, :1], batch.targets_BT], 1).gather(
            1, at_BP + 1
        )
        negatives_M = criterion.draw()
        candidates_BPN = torch.cat(
            [target_BP[..., None], negatives_M.expand(*at_BP.shape, -1)], -1
        )
        asker_BPD = self.asker(batch)
        if asker_BPD is not None:
            asker_BTD = asker_BPD.expand(-1, context_BTD.shape[1], -1)
            asker_BPD = asker_BTD.gather(
                1, at_BP.clamp_min(0)[..., None].expand(-1, -1, asker_BTD.shape[2])
            )
        scores_NM = self._candidate_scores(
            context_BTD, candidates_BPN, at_BP, asker_BPD
        ).flatten(0, 1)
        negative_NM = self._without_unseen(scores_NM[:, 1:], negatives_M)
        loss_N = criterion(
            scores_NM[:, 0], negative_NM, target_BP.flatten(), negatives_M
        )
        return (loss_N.view_as(at_BP).mean(1) * batch.lengths_B).sum()

    def _candidate_scores(
        self,
        context_BTD: Tensor,
        candidates_BPN: Tensor,
        at_BP: Tensor,
        asker_BPD: Tensor | None = None,
    ) -> Tensor:
        """Target attention's scores (B, P, N) of candidates asked at P moments: after event `at_BP` of the row.

        Who asks joins the candidate in the query, and the state that is compared with
        the candidate.
        """
        step_T = torch.arange(context_BTD.shape[1], device=context_BTD.device)
        keep_BLT = (step_T <= at_BP[..., None]).repeat_interleave(
            candidates_BPN.shape[2], 1
        )
        query_BLD = item_BLD = self.item(candidates_BPN).flatten(1, 2)
        asker_BLD = (
            None
            if asker_BPD is None
            else asker_BPD.repeat_interleave(candidates_BPN.shape[2], 1)
        )
        if asker_BLD is not None:
            query_BLD = item_BLD + asker_BLD
        attended_BLD, _ = self.encoder(query_BLD, context_BTD, keep_BLT[:, None])
        connected = self.output.connected(context_BTD)
        if connected is not None:
            at_BL = at_BP.clamp_min(0).repeat_interleave(candidates_BPN.shape[2], 1)
            connected = connected.gather(1, at_BL[..., None].expand_as(attended_BLD))
            connected = torch.where(
                at_BP.repeat_interleave(candidates_BPN.shape[2], 1)[..., None] < 0,
                0,
                connected,
            )
        state_BLD = self.output(attended_BLD, connected)
        state_BLD = state_BLD if asker_BLD is None else state_BLD + asker_BLD
        scores_BL = (self.output.scaled(state_BLD) * self.output.scaled(item_BLD)).sum(
            -1
        )
        scores_BPN = scores_BL.view(candidates_BPN.shape)
        return (
            scores_BPN
            if self.output.bias is None
            else scores_BPN + self.output.bias[candidates_BPN]
        )

    def scorer(self, batch: Batch) -> Callable[[slice | Tensor], Tensor]:
        """A function that gives scores (B, n) after each whole history, of the n items at some places.

        An item's place in the catalogue is its index less 1. What does not depend on
        the items is computed once.
        """
        last_B = batch.lengths_B - 1
        if self.config.attention == "target":
            items_V = torch.arange(1, len(self.split.items) + 1, device=self.device)
            context_BTD, asker_B1D = self.embedding(batch), self.asker(batch)

            def asked_by_each(places: slice | Tensor) -> Tensor:
                candidates_B1N = items_V[places].expand(len(last_B), 1, -1)
                return self._candidate_scores(
                    context_BTD, candidates_B1N, last_B[:, None], asker_B1D
                )[:, 0]

            return asked_by_each
        empty = 0 if self.empty is None else self.empty
        state_BD = torch.where(
            (last_B >= 0)[:, None], self._newest_states(batch), empty
        )
        if (asker_B1D := self.asker(batch)) is not None:
            state_BD = state_BD + asker_B1D[:, 0]
        state_BD = self.output.scaled(state_BD)
        catalogue_VD, bias_V = self.item.catalogue(), self.output.catalogue_bias()
        return lambda places: catalogue_scores(
            state_BD,
            self.output.scaled(catalogue_VD[places]),
            None if bias_V is None else bias_V[places],
        )

    def _final_scores(self, batch: Batch) -> Tensor:
        """Scores of the catalogue after each whole history, (B, V)."""
        return self.scorer(batch)(slice(None))

    def _newest_states(self, batch: Batch) -> Tensor:
        """`states` of each row's newest event, without who asks, (B, D): the last block asks only there."""
        context_BTD = self.embedding(batch)
        row_B, at_B = (
            torch.arange(len(context_BTD), device=self.device),
            (batch.lengths_B - 1).clamp_min(0),
        )
        if isinstance(self.encoder, SelfAttention):
            attended_BD = self.encoder(context_BTD, batch.times_BT, at_B=at_B)[0][:, 0]
        else:
            attended_BD = self.encoder(context_BTD, batch.times_BT)[0][row_B, at_B]
        connected_BTD = self.output.connected(context_BTD)
        state_BD = self.output(
            attended_BD, None if connected_BTD is None else connected_BTD[row_B, at_B]
        )
        return (
            state_BD
            if self.transition is None
            else state_BD + self.transition(batch.items_BT)[row_B, at_B]
        )

    @torch.no_grad()
    def score(
        self,
        histories: Histories,
        users: np.ndarray | None = None,
        situation: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Scores of the whole catalogue after each history, (rows, V) float32; column j is item index j + 1.

        Args:
            histories: item indices, oldest first; an empty one is scored by the item
                biases, and by who asks in what situation where the model has such
                features.
            users: user row of each history, where it is known.
            situation: columns of the situation, one value per history; what is absent
                is unknown.

        Dropout is off, whatever mode the model is in.
        """
        windows = self.windows(histories, users, situation=situation)
        scores = torch.empty(len(histories), len(self.split.items), device=self.device)
        with evaluating(self):
            for rows in windows.by_length(
                4096
            ):  # events at a time: what fits a cache is quickest
                scores[torch.from_numpy(rows).to(self.device)] = self._final_scores(
                    windows.batch(rows)
                ).float()
        return scores

    def save(
        self,
        folder: str | Path,
        about: Mapping[str, Any] | None = None,
        only_weights: bool = False,
    ) -> None:
        """Write the run folder that `load` reads: configuration, weights, vocabulary, histories.

        Nothing is pickled. Each file replaces its old one only when it is whole, and
        `config.json`, which holds the others' checksums, comes last.

        Args:
            folder: made if missing.
            about: more entries for `config.json`.
            only_weights: the folder holds this model already, so only its weights and
                `about` are new.

        Raises:
            OSError: the folder cannot be written.
        """
        config = dict(about or {}) | {
            "recommender": asdict(self.config),
            "features": self.features.to_json(),
        }
        write_run(
            Path(folder),
            self.split,
            self.state_dict(),
            config,
            self.features.event_columns,
            only_weights,
        )

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take weights of a model made alike, and its tables of codes, which are made without the log.

        Raises:
            RuntimeError: a name or a shape does not fit.
        """
        take_weights(self, weights)
