"""The four stages joined: a model of the next item that trains and is asked.

The plain path is `states`: embedding, encoder, output. `loss` holds states against the
next items, `scorer` against the catalogue. All else is options and verbs, each a line.
Target attention, whose query is the candidate, stands at the end. See "A first
recommender".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attncore import explaining, serving
from attncore.batches import Batch, Sampler, Windows
from attncore.config import Loss, RecommenderConfig, TrainingConfig
from attncore.counts import (
    FollowerCounts,
    Memory,
    Neighbours,
    Prior,
    RecentCounts,
    newest_at,
)
from attncore.distributed import Group
from attncore.embedding import (
    EventEmbedding,
    FeatureEmbedding,
    FeatureTable,
    ItemEmbedding,
    UserSide,
    feature_table,
)
from attncore.encoders import SelfAttention, Transition, encoder_of
from attncore.errors import DataError, expect
from attncore.features import PROFILE, FeatureSet, encode_columns, label
from attncore.files import save_model, take_weights
from attncore.layers import evaluating, seeded
from attncore.output import Criterion, Output, catalogue_scores, lean_cross_entropy
from attncore.sequences import Histories
from attncore.splits import Split, require_split

DRAWS = 8  # positions of a history that target attention trains on at a time


class Recommender(nn.Module):
    """A recommender in four stages, for the catalogue of `split`.

    Args:
        config: what it is made of.
        split: gives the catalogue, the histories that `recommend(users=...)` uses, and
            what features are learned from.
        seed: decides the first weights; PyTorch's generators are left as they were.
        features: as learned before; None learns those that `config` names from the
            training part of `split`.

    Raises:
        DataError: a feature's table or column is absent, or unfit; or the split has
            slates, which a `Ranker` ranks.

    Shapes are written with the letters of `attncore`'s legend.
    """

    scores_are_logits = True
    # Where attributes are to speak for new items: the places of those that training
    # shows, and the place of each item among them, or -1.
    shown_N: Tensor | None
    place_V: Tensor | None

    def __init__(
        self,
        config: RecommenderConfig,
        split: Split,
        seed: int = 0,
        features: FeatureSet | None = None,
    ) -> None:
        super().__init__()
        expect(config, RecommenderConfig, "Recommender", "a RecommenderConfig first")
        require_split(split, "Recommender")
        if split.slates is not None:
            raise DataError(f"{split.name}: has slates, which are ranked; use Ranker")
        self.config, self.split = config, split
        c = config
        asked = (c.item_features, c.user_features, c.event_features)
        known = features or FeatureSet.fit(split, *asked, c.situation_features)
        self.features = known
        self.reads_situation = bool(self.features.situation)  # `evaluate` asks
        with seeded(seed):
            self._build()

    def _build(self) -> None:
        c, items, width = self.config, len(self.split.items), self.config.width
        item_features, event_features = self._table("item"), self._columns("event")
        self.embedding = EventEmbedding(c, items, item_features, event_features)
        self.user_side = UserSide(self._table("user"), self._columns("situation"))
        self.encoder = encoder_of(c)
        lags = c.transition
        self.transition = Transition(items, width, lags) if lags else None
        history, lags = self.split.train, c.prior
        self.followers = FollowerCounts(history, items, lags) if lags else None
        self.recent = RecentCounts(history, items) if c.recent else None
        alike = c.neighbours, c.neighbour_weight
        self.neighbours = Neighbours(history, items, *alike) if c.neighbours else None
        weight = c.memory_weight
        self.memory = Memory(history, items, weight) if weight else None
        how = c.combine, c.length, c.item_bias, c.temperature
        self.output = Output(width, items, *how)
        is_cold = c.cold and c.attention != "target"
        self.empty = nn.Parameter(torch.zeros(width)) if is_cold else None
        self._let_attributes_speak_for_new_items()

    # The plain path.

    def states(self, batch: Batch) -> Tensor:
        """The state after each event, (B, T, D); its scores are those of the next item.

        Not for "target".
        """
        context_BTD = self.embedding(batch)
        attended_BTD, _ = self.encoder(context_BTD, batch.times_BT)
        state_BTD = self.output(attended_BTD, self.output.connected(context_BTD))
        if self.transition is not None:
            state_BTD = state_BTD + self.transition(batch.items_BT)
        if (user_BTD := self.user_side(batch)) is not None:
            state_BTD = state_BTD + user_BTD
        return self.output.scaled(state_BTD)

    def loss(self, batch: Batch, criterion: Criterion) -> Tensor:
        """The summed loss of predicting each real position's next item.

        Divided by the number of real positions, `len(batch.real_N)`, it is the mean. A
        model made with `cold` is asked for each row's first event too. A model with
        item features holds no item against a target that training never shows, so that
        such an item keeps the score that its attributes give.
        """
        if self.config.attention == "target":
            return target_loss(self, batch, criterion)
        assert batch.targets_BT is not None
        state_ND = self.states(batch).flatten(0, 1)[batch.real_N]
        target_N = batch.targets_BT.flatten()[batch.real_N]
        if self.empty is not None:
            state_ND = torch.cat([state_ND, self._states_of_nobody(batch)])
            target_N = torch.cat([target_N, batch.items_BT[:, 0]])
        bias_V = self.output.catalogue_bias()
        if criterion.loss == "full":
            catalogue_VD = self.output.scaled(self.item.catalogue())
            priors = self._priors(batch, target_N)
            if self.place_V is not None:
                catalogue_VD = catalogue_VD[self.shown_N]
                target_N = self.place_V[target_N - 1] + 1
                bias_V = None if bias_V is None else bias_V[self.shown_N]
            if self.recent is not None:
                _, group_N = self._pauses(batch, len(target_N) - len(batch.real_N))
                trust_N1 = self.recent.trust_G[group_N, None]
                state_ND = state_ND * trust_N1
                if (
                    bias_V is not None
                ):  # one more number of an item, trusted as the rest
                    catalogue_VD = torch.cat([catalogue_VD, bias_V[:, None]], 1)
                    state_ND, bias_V = torch.cat([state_ND, trust_N1], 1), None
            given = (state_ND, catalogue_VD, bias_V, target_N)
            smoothing = criterion.smoothing
            return lean_cross_entropy(*given, smoothing=smoothing, priors=priors)
        negatives_M = criterion.draw()
        positive_N = (state_ND * self.output.scaled(self.item(target_N))).sum(-1)
        negative_NM = state_ND @ self.output.scaled(self.item(negatives_M)).T
        if self.output.bias is not None:
            positive_N = positive_N + self.output.bias[target_N]
            negative_NM = negative_NM + self.output.bias[negatives_M]
        negative_NM = self._without_unseen(negative_NM, negatives_M)
        return criterion(positive_N, negative_NM, target_N, negatives_M).sum()

    def scorer(self, batch: Batch) -> Callable[[slice | Tensor], Tensor]:
        """A function that gives scores (B, n) of some n items after each whole history.

        It takes their places in the catalogue: an item's is its index less 1. What does
        not depend on the items is computed once.
        """
        if self.config.attention == "target":
            return target_scorer(self, batch)
        last_B = batch.lengths_B - 1
        empty = 0 if self.empty is None else self.empty
        is_new_B1 = (last_B < 0)[:, None]
        state_BD = torch.where(is_new_B1, empty, self._newest_states(batch))
        if (user_B1D := self.user_side(batch)) is not None:
            state_BD = state_BD + user_B1D[:, 0]
        state_BD = self.output.scaled(state_BD)
        catalogue_VD, bias_V = self.item.catalogue(), self.output.catalogue_bias()
        counted_BV: Tensor | float = 0.0
        if self.followers is not None:
            newest_BS = newest_at(batch.items_BT, last_B, self.followers.lags)
            counted_BV = self.followers.scale * self.followers(newest_BS)
        if self.neighbours is not None:
            newest_BK = newest_at(batch.items_BT, last_B, self.neighbours.window)
            counted_BV = counted_BV + self.neighbours(newest_BK)
        if self.memory is not None:
            counted_BV = counted_BV + self.memory(state_BD).masked_fill(is_new_B1, 0)
        if self.recent is not None:
            newest_B1 = newest_at(batch.times_BT, last_B, 1)
            trust_B1, popular_BV = self.recent(newest_B1[:, 0])

        def score(places: slice | Tensor) -> Tensor:
            bias_N = None if bias_V is None else bias_V[places]
            items_ND = self.output.scaled(catalogue_VD[places])
            scores_BN = catalogue_scores(state_BD, items_ND, bias_N)
            if isinstance(counted_BV, Tensor):
                scores_BN = scores_BN + counted_BV[:, places]
            if self.recent is not None:
                scores_BN = scores_BN * trust_B1 + popular_BV[:, places]
            return scores_BN

        return score

    @torch.no_grad()
    def score(
        self,
        histories: Histories,
        users: np.ndarray | None = None,
        situation: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Scores of the whole catalogue after each history, (rows, V) float32.

        Column j is item index j + 1. Dropout is off, whatever mode the model is in.

        Args:
            histories: item indices, oldest first; an empty one is scored by the item
                biases, and by the user side where the model has such features.
            users: user row of each history, where it is known.
            situation: columns of the situation, one value per history; what is absent
                is unknown.
        """
        windows = self.windows(histories, users, situation=situation)
        items = len(self.split.items)
        scores = torch.empty(len(histories), items, device=self.device)
        model = evaluating(self)
        for rows in windows.by_length(serving.EVENTS):
            found_BV = model.scorer(windows.batch(rows))(slice(None))
            scores[torch.from_numpy(rows).to(self.device)] = found_BV.float()
        return scores

    def train(self, mode: bool = True) -> Recommender:
        """Set the mode; evaluation mode makes anew what `memory_weight` remembers.

        A model in training mode remembers nothing, for its weights will change: nor
        does the validation after an epoch.
        """
        super().train(mode)
        if self.memory is not None:
            self.memory.keep([] if mode else self._moments())
        return self

    # What it is asked: functions over any model, each with its own description.

    recommend = serving.recommend
    similar_items = serving.similar_items
    with_items = serving.with_items
    attention = explaining.attention
    erasure = explaining.erasure

    def save(
        self,
        folder: str | Path,
        about: Mapping[str, Any] | None = None,
        only_weights: bool = False,
    ) -> None:
        """Write the run folder that `load` reads: config, weights, ids, histories.

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
        columns = self.features.event_columns
        save_model(folder, self, "recommender", about, columns, only_weights)

    # What training and the verbs need of it.

    @property
    def item(self) -> ItemEmbedding:
        """The item vectors, looked up by stage 2 and compared by stage 4."""
        return self.embedding.item

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.item.id.weight.device

    @property
    def default_loss(self) -> Loss:
        """What the loss "auto" is: target attention costs positions × candidates."""
        return "sampled" if self.config.attention == "target" else "full"

    def check_training(self, config: TrainingConfig) -> None:
        """Raise ValueError where a training asks for what this model cannot do."""
        if config.loss == "combined":
            why = f"is for slates, and {self.split.name} has none; use 'bce'"
            raise ValueError(f"loss='combined': {why}")
        for name in ("prior", "recent", "memory_weight"):
            value = getattr(self.config, name)
            sampled = name != "memory_weight" and config.loss not in ("auto", "full")
            if value and sampled:
                raise ValueError(
                    f"{name}={value}: needs the full loss, not {config.loss!r}; use 0"
                )
            if value and self.split.sharded:
                raise ValueError(
                    f"{name}={value}: each process would count its own users alone;"
                    " use 0"
                )

    def sampler(self, split: Split, config: TrainingConfig, group: Group) -> Sampler:
        """The newest training events of each user, or other windows of them."""
        rows, every = np.arange(len(split.train)), config.windows == "all"
        windows = self.windows(split.train, rows, targets=True, every=every)
        if config.batch_size <= 8:
            windows.most_parts = 2
        return Sampler(windows, config, group, split.sharded)

    def windows(
        self,
        histories: Histories,
        users: np.ndarray | None = None,
        targets: bool = False,
        situation: Mapping[str, Any] | None = None,
        every: bool = False,
    ) -> Windows:
        """Batches of histories as the model reads them, on the model's device.

        Args:
            histories: item indices, with raw attributes by name; one that is absent is
                unknown.
            users: user row of each history; None where nobody is known.
            targets: as for `Windows`; the situation is then that of each target.
            situation: otherwise raw columns, one value per history; one that is absent
                is unknown. Those whose names begin with `PROFILE` stand for what the
                table says of the user.
            every: as for `Windows`.
        """
        known, where = self.features, label(self.split, "event")
        events, rows = len(histories.items), len(histories)
        raw = histories.attributes
        attributes = encode_columns(known.event, raw, events, where)
        told, many = (raw, events) if targets else (situation or {}, rows)
        asking = encode_columns(known.situation, told, many, where)
        own = [name for name in told if name.startswith(PROFILE)]
        if own:
            profile = {name.removeprefix(PROFILE): told[name] for name in own}
            people = label(self.split, "user")
            codes = encode_columns(known.user, profile, many, people)
            asking |= {PROFILE + name: column for name, column in codes.items()}
        users = np.full(rows, -1) if users is None else users
        seen, length = replace(histories, attributes=attributes), self.config.length
        return Windows(seen, length, self.device, targets, users, asking, every)

    def weights(
        self, batch: Batch, candidates: np.ndarray | None = None
    ) -> list[Tensor]:
        """Attention weights of a batch, (B, H, L, K) of each layer.

        Args:
            batch: histories.
            candidates: item indices that ask; "target" alone, which needs them.
        """
        context_BTD = self.embedding(batch)
        if candidates is None:
            return self.encoder(context_BTD, batch.times_BT, need_weights=True)[1]
        items = torch.from_numpy(candidates).to(self.device).long()
        query_BLD = self.item(items[None])
        if (user_B1D := self.user_side(batch)) is not None:
            query_BLD = query_BLD + user_B1D
        keep_BT = batch.keep_BT
        return self.encoder(query_BLD, context_BTD, keep_BT, need_weights=True)[1]

    take_weights = take_weights

    def _table(self, part: Literal["item", "user"]) -> FeatureTable | None:
        """The layer of what is known of all items or users; None for nothing."""
        hide = 0.0 if part == "item" else self.config.feature_dropout
        return feature_table(self.features, self.split, part, self.config.width, hide)

    def _columns(self, part: Literal["event", "situation"]) -> FeatureEmbedding | None:
        """The layer of what is known of events or situations; None for nothing."""
        known, c = getattr(self.features, part), self.config
        return FeatureEmbedding(known, c.width, c.feature_dropout) if known else None

    def _let_attributes_speak_for_new_items(self) -> None:
        self.register_buffer("shown_N", None, persistent=False)
        self.register_buffer("place_V", None, persistent=False)
        trained = self.split.item_counts > 0
        if self.features.item and not trained.all():
            place = np.where(trained, np.cumsum(trained) - 1, -1)
            self.shown_N = torch.from_numpy(np.flatnonzero(trained))
            self.place_V = torch.from_numpy(place)
            with torch.no_grad():
                self.item.id.weight[1:][torch.from_numpy(~trained)] = 0

    def _without_unseen(self, negative_NM: Tensor, negatives_M: Tensor) -> Tensor:
        """Scores of negatives, -inf where attributes are to speak for the item."""
        if self.place_V is None:
            return negative_NM
        unseen_M = self.place_V[negatives_M - 1] < 0
        return negative_NM.masked_fill(unseen_M, -torch.inf)

    def _priors(self, batch: Batch, target_N: Tensor) -> list[Prior]:
        """What the counts add at each position that is trained."""
        found, shown_N = [], slice(None) if self.shown_N is None else self.shown_N
        first = len(target_N) - len(batch.real_N)  # events of a `cold` model
        if (followers := self.followers) is not None:
            newest_BTS = followers.newest(batch.items_BT)
            newest_NS = newest_BTS.flatten(0, 1)[batch.real_N]
            newest_NS = F.pad(newest_NS, (0, 0, 0, first))  # nothing came before

            def followed(rows: slice) -> Tensor:
                return followers(newest_NS[rows], target_N[rows])[:, shown_N]

            scale: Tensor = followers.scale
            if self.recent is not None:
                scale = scale * self.recent.trust_G[self._pauses(batch, first)[1], None]
            found.append(Prior(scale, followed))
        if (recent := self.recent) is not None:
            assert batch.asked_BT is not None
            asked_N, group_N = self._pauses(batch, first)
            bucket_N = recent.before(asked_N)
            for scale_G, log_WV in zip(recent.scale_FG, recent.log_FWV, strict=True):

                def popular(rows: slice, log_WV: Tensor = log_WV) -> Tensor:
                    return log_WV[bucket_N[rows]][:, shown_N]

                found.append(Prior(scale_G[group_N, None], popular))
        return found

    def _pauses(self, batch: Batch, first: int) -> tuple[Tensor, Tensor]:
        """When each trained position is asked, and what kind of pause came before."""
        assert batch.asked_BT is not None
        assert self.recent is not None
        asked_N = batch.asked_BT.flatten()[batch.real_N]
        asked_N = torch.cat([asked_N, batch.times_BT[:first, 0]])
        newest_N = batch.times_BT.flatten()[batch.real_N]
        newest_N = F.pad(newest_N, (0, first))  # nobody's is long ago
        return asked_N, self.recent.group(asked_N - newest_N)

    @torch.no_grad()
    def _moments(self) -> Iterator[tuple[Tensor, Tensor]]:
        """States (N, D) of training histories, with the items (N,) that came next."""
        assert self.memory is not None
        histories = self.split.train.take(self.memory.rows)
        windows = self.windows(histories, self.memory.rows, targets=True, every=True)
        for rows in windows.by_length(serving.EVENTS):
            batch = windows.batch(rows)
            assert batch.targets_BT is not None
            state_ND = self.states(batch).flatten(0, 1)[batch.real_N]
            yield state_ND, batch.targets_BT.flatten()[batch.real_N]

    def _states_of_nobody(self, batch: Batch) -> Tensor:
        """The state before the first event of each row, (B, D), of a `cold` model."""
        assert self.empty is not None
        empty_BD = self.empty.expand(len(batch.items_BT), -1)
        if (user_B1D := self.user_side(batch)) is not None:
            empty_BD = empty_BD + user_B1D[:, 0]
        return self.output.scaled(empty_BD)

    def _newest_states(self, batch: Batch) -> Tensor:
        """`states` of each row's newest event, without the user side, (B, D).

        The last block of self-attention asks only there.
        """
        context_BTD = self.embedding(batch)
        row_B = torch.arange(len(context_BTD), device=self.device)
        at_B = (batch.lengths_B - 1).clamp_min(0)
        if isinstance(self.encoder, SelfAttention):
            attended_B1D, _ = self.encoder(context_BTD, batch.times_BT, at_B=at_B)
            attended_BD = attended_B1D[:, 0]
        else:
            attended_BD = self.encoder(context_BTD, batch.times_BT)[0][row_B, at_B]
        connected_BTD = self.output.connected(context_BTD)
        connected_BD = None if connected_BTD is None else connected_BTD[row_B, at_B]
        state_BD = self.output(attended_BD, connected_BD)
        if self.transition is None:
            return state_BD
        return state_BD + self.transition(batch.items_BT)[row_B, at_B]


# Target attention: the candidate is the query.


def target_loss(model: Recommender, batch: Batch, criterion: Criterion) -> Tensor:
    """The summed loss where each candidate asks.

    Its cost grows with positions × candidates, so 8 positions a history are drawn and
    weighed to stand for all.
    """
    context_BTD = model.embedding(batch)
    assert batch.targets_BT is not None
    cold = int(model.config.cold)  # place -1 is the moment before the first event
    draw_BP = torch.rand(len(context_BTD), DRAWS, device=model.device)
    at_BP = (draw_BP * (batch.lengths_B[:, None] + cold)).long() - cold
    asked_BT = torch.cat([batch.items_BT[:, :1], batch.targets_BT], 1)
    target_BP = asked_BT.gather(1, at_BP + 1)
    negatives_M = criterion.draw()
    negatives_BPM = negatives_M.expand(*at_BP.shape, -1)
    candidates_BPN = torch.cat([target_BP[..., None], negatives_BPM], -1)
    user_BPD = model.user_side(batch)
    if user_BPD is not None:
        user_BTD = user_BPD.expand(-1, context_BTD.shape[1], -1)
        place_BPD = at_BP.clamp_min(0)[..., None].expand(-1, -1, user_BTD.shape[2])
        user_BPD = user_BTD.gather(1, place_BPD)
    scores_BPN = candidate_scores(model, context_BTD, candidates_BPN, at_BP, user_BPD)
    scores_NM = scores_BPN.flatten(0, 1)
    negative_NM = model._without_unseen(scores_NM[:, 1:], negatives_M)
    loss_N = criterion(scores_NM[:, 0], negative_NM, target_BP.flatten(), negatives_M)
    return (loss_N.view_as(at_BP).mean(1) * batch.lengths_B).sum()


def target_scorer(
    model: Recommender, batch: Batch
) -> Callable[[slice | Tensor], Tensor]:
    """`Recommender.scorer` where each candidate asks."""
    items_V = torch.arange(1, len(model.split.items) + 1, device=model.device)
    context_BTD, user_B1D = model.embedding(batch), model.user_side(batch)
    last_B1 = batch.lengths_B[:, None] - 1

    def score(places: slice | Tensor) -> Tensor:
        candidates_B1N = items_V[places].expand(len(last_B1), 1, -1)
        asked = (context_BTD, candidates_B1N, last_B1, user_B1D)
        return candidate_scores(model, *asked)[:, 0]

    return score


def candidate_scores(
    model: Recommender,
    context_BTD: Tensor,
    candidates_BPN: Tensor,
    at_BP: Tensor,
    user_BPD: Tensor | None = None,
) -> Tensor:
    """Scores (B, P, N) of candidates asked after the events `at_BP` of each row.

    The user side joins the candidate in the query, and the state that is compared with
    the candidate.
    """
    output, many = model.output, candidates_BPN.shape[2]

    def each(x_BP: Tensor) -> Tensor:
        return x_BP.repeat_interleave(many, 1)

    step_T = torch.arange(context_BTD.shape[1], device=context_BTD.device)
    keep_BLT = each(step_T <= at_BP[..., None])
    query_BLD = item_BLD = model.item(candidates_BPN).flatten(1, 2)
    user_BLD = None if user_BPD is None else each(user_BPD)
    if user_BLD is not None:
        query_BLD = item_BLD + user_BLD
    attended_BLD, _ = model.encoder(query_BLD, context_BTD, keep_BLT[:, None])
    connected = output.connected(context_BTD)
    if connected is not None:
        at_BL1 = each(at_BP.clamp_min(0))[..., None]
        connected = connected.gather(1, at_BL1.expand_as(attended_BLD))
        connected = torch.where(each(at_BP)[..., None] < 0, 0, connected)
    state_BLD = output(attended_BLD, connected)
    state_BLD = state_BLD if user_BLD is None else state_BLD + user_BLD
    scores_BL = (output.scaled(state_BLD) * output.scaled(item_BLD)).sum(-1)
    scores_BPN = scores_BL.view(candidates_BPN.shape)
    bias = output.bias
    return scores_BPN if bias is None else scores_BPN + bias[candidates_BPN]
