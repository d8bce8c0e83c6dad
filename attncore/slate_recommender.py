"""A recommender that ranks slates by target attention: each candidate asks what was bought before.

The four stages are those of `Recommender`, and so are training, saving and the command line. What differs is the
question: not which item of the catalogue comes next, but which of the candidates shown now will be taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from attncore.answering import Recommendation
from attncore.config import RecommenderConfig, TrainingConfig
from attncore.embedding import AskerEmbedding, Dropout, FeatureEmbedding, FeatureTable, ItemEmbedding
from attncore.encoders import TargetAttention
from attncore.features import FIRST
from attncore.inspection import evaluating
from attncore.interactions import DataError
from attncore.moments import DAY, Known, Moments
from attncore.output import Criterion
from attncore.ranking import top_k
from attncore.runs import write_run
from attncore.slate_batches import AGES, COUNTS, Situations, SlateBatch, SlateWindows, fit_situation, made
from attncore.splits import Split
from attncore.tables import FeatureSet

READ = ("attention", "width", "heads", "length", "dropout", "item_bias", "score", "normalize", "feature_dropout")
FEATURES = ("item_features", "user_features", "situation_features")


class MatchBias(nn.Module):
    """What is added to the score of a candidate and a past item for each thing that they share.

    One learned number per head and thing: to be the same item, to be of the same category, of the same brand, and so
    on. All start at 1, so that a candidate first looks at what is most like it. It is the sibling of `RelativeBias`:
    there the scores know how far apart two events are, here how alike.

    Args:
        things: how many things can be shared.
        heads: attention heads H.
    """

    def __init__(self, things: int, heads: int) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.ones(things, heads))
        bits = torch.arange(2**things)[:, None] >> torch.arange(things) & 1
        self.register_buffer("bits", bits.float(), persistent=False)

    def forward(self, candidates: Sequence[Tensor], past: Sequence[Tensor]) -> Tensor:
        """The bias (B, H, N, K) from codes (B, N) and (B, K), a pair of tensors a thing; a code below 0 matches none.

        Most pairs share little, and all that a pair shares is one small whole number, a bit a thing. So the sums are
        made once for each such number and looked up: a few operations on bytes instead of a sum of N × K floats each.
        """
        shared_BNK = torch.zeros((), dtype=torch.uint8, device=self.shared.device)
        for number, (code_BN, code_BK) in enumerate(zip(candidates, past, strict=True)):
            same_BNK = (code_BN[:, :, None] == code_BK[:, None]).view(torch.uint8)
            shared_BNK = shared_BNK | (same_BNK << number)
        sums = self.bits @ self.shared  # one row for each set of things
        looked_up = [column.index_select(0, shared_BNK.int().flatten()) for column in sums.unbind(1)]
        return torch.stack([column.view(shared_BNK.shape) for column in looked_up], 1)


class MeanOfPast(nn.Module):
    """Attention's rival with the same inputs: the plain mean of the values, the same for every candidate."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.value, self.joined = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, query_BND: Tensor, context_BKD: Tensor, keep_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled vectors (B, N, D) and the equal weights (B, 1, N, K)."""
        weights_B1K = (keep_BK / keep_BK.sum(1, keepdim=True))[:, None]
        pooled_B1D = self.joined(weights_B1K @ self.value(self.norm(context_BKD)))
        many = query_BND.shape[1]
        return self.dropout(pooled_B1D.expand(-1, many, -1)), weights_B1K[:, None].expand(-1, -1, many, -1)


class SlateRecommender(nn.Module):
    """Ranks the candidates of slates, for the log of `split`; `Recommender` makes one where the split has slates.

    The query is the candidate with the situation (how it is shown, where, at what price cut, how often anybody took
    it lately) and the user's profile. The context is one vector per distinct past item: the item with its features,
    how often it was taken and how long ago, and one learned vector for "nothing of all this". Of those, each
    candidate attends to what concerns it (`MatchBias` helps); the attended vector, the query and their product go
    through a small network to one score, whose sigmoid is the probability of being taken.

    Args:
        config: what it is made of: attention "target" or "mean", width, heads, length (distinct past items), dropout,
            item_bias, score, normalize, feature_dropout, and the features of item, user and situation; where none of
            those is named, what the log's slates name. Other fields must be as they are by default.
        split: a time split of a log with slates.
        seed: decides the first weights.
        features: as learned before; None learns them from the training part of `split`.

    Raises:
        ValueError: a setting that slates do not know.
        DataError: a feature's table or column is absent.

    Source: Zhou et al. 2018 (Deep Interest Network), trained with their pointwise loss.
    """

    scores_are_logits = True
    default_loss = "bce"

    def __init__(
        self, config: RecommenderConfig, split: Split, seed: int = 0, features: FeatureSet | None = None
    ) -> None:
        super().__init__()
        if split.slates is None:
            raise DataError(f"{split.name}: has no slates; use Recommender")
        if config.attention not in ("target", "mean"):
            raise ValueError(
                f"attention={config.attention!r}: {split.name} has slates, which are ranked by attention 'target' or "
                "'mean'; choose one (--attention target)"
            )
        plain = RecommenderConfig()
        for field in fields(config):
            if field.name not in (*READ, *FEATURES) and getattr(config, field.name) != getattr(plain, field.name):
                raise ValueError(f"{field.name}={getattr(config, field.name)!r}: means nothing for slates; leave it out")
        self.config, self.split = config, split
        self.features = features or _fitted(config, split)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build()

    def _build(self) -> None:
        c, known, split = self.config, self.features, self.split
        table = FeatureTable(known.item, known.table_codes(split, "item"), c.width) if known.item else None
        profile = None
        if known.user:
            profile = FeatureTable(known.user, known.table_codes(split, "user"), c.width, c.feature_dropout)
        self.item = ItemEmbedding(len(split.items), c.width, table)
        self.count = nn.Embedding(len(COUNTS) + 1, c.width, padding_idx=0)
        self.age = nn.Embedding(len(AGES) + 1, c.width, padding_idx=0)
        self.nothing = nn.Parameter(torch.randn(c.width) * 0.02)
        self.asker = AskerEmbedding(profile, None)
        self.situation = FeatureEmbedding(known.situation, c.width, c.feature_dropout) if known.situation else None
        self.popularity = nn.Linear(2, c.width)
        self.dropout = Dropout(c.dropout)
        self.matched = [number for number, feature in enumerate(known.item) if feature.kind == "category"]
        self.match = MatchBias(1 + len(self.matched), c.heads)
        self.encoder: nn.Module
        if c.attention == "target":
            self.encoder = TargetAttention(c.width, c.heads, c.dropout, c.score, c.normalize)
        else:
            self.encoder = MeanOfPast(c.width, c.dropout)
        self.output = nn.Sequential(
            nn.Linear(3 * c.width, c.width), nn.GELU(), Dropout(c.dropout), nn.Linear(c.width, 1)
        )
        for vectors in (self.count, self.age):
            nn.init.normal_(vectors.weight, std=0.02)
            with torch.no_grad():
                vectors.weight[0] = 0
        self.bias = nn.Parameter(torch.zeros(len(split.items) + 1)) if c.item_bias else None
        self.base = nn.Parameter(torch.tensor(_log_odds(split)))  # so that training begins at the share that is taken

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.item.id.weight.device

    def training_windows(self, split: Split, config: TrainingConfig) -> SlateWindows:
        """Random training slates of each user: what `fit` draws its batches from."""
        assert split.slates is not None
        if config.windows != "last":
            raise ValueError(f"windows={config.windows!r}: slates are drawn at random already; leave --windows out")
        until, users = split.valid.protocol["valid_from"], len(split.users)
        return SlateWindows(
            split.slates, self.features.situation, self.config.length, self.device, users, until, config.negatives
        )

    def attended(self, batch: SlateBatch, need_weights: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Query vectors (B, N, D), attended vectors (B, N, D), and the weights (B, H, N, 1 + K) when asked for.

        The first column of weights is "nothing of the past"; K past items follow, the latest last.
        """
        query_BND = self.item(batch.candidates_BN) + self.popularity(batch.popularity_BN2)
        if self.situation is not None:
            query_BND = query_BND + self.situation([batch.situation[name] for name in self.situation.names])
        if self.asker.profile is not None:
            query_BND = query_BND + self.asker.profile(batch.users_B + 1)[:, None]
        past_BKD = self.item(batch.items_BT) + self.count(batch.counts_BT) + self.age(batch.ages_BT)
        nothing_B1D = self.nothing.expand(len(past_BKD), 1, -1)
        context_BKD = torch.cat([nothing_B1D, past_BKD], 1)
        query_BND, context_BKD = self.dropout(query_BND), self.dropout(context_BKD)
        keep_BK = F.pad(batch.items_BT > 0, (1, 0), value=True)
        if isinstance(self.encoder, MeanOfPast):
            attended_BND, weights = self.encoder(query_BND, context_BKD, keep_BK)
            return query_BND, attended_BND, [weights]
        keep = keep_BK if len(keep_BK) > 1 else None  # one slate has no padding among its past items
        bias_BHNK = F.pad(self.match(self._things(batch.candidates_BN, -1), self._things(batch.items_BT, -2)), (1, 0))
        attended_BND, layers = self.encoder(query_BND, context_BKD, keep, need_weights, bias=bias_BHNK)
        return query_BND, attended_BND, layers

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
        scores_BN = self.output(joined)[..., 0] + self.base
        return scores_BN if self.bias is None else scores_BN + self.bias[batch.candidates_BN]

    def loss(self, batch: SlateBatch, criterion: Criterion) -> Tensor:
        """The summed binary cross-entropy of a batch's candidates.

        Taken candidates are drawn more often than others. The log of how much more is added to the scores here, so
        that the scores themselves are log-odds among all candidates (King and Zeng 2001, for logistic regression).

        Raises:
            ValueError: the criterion's loss is not "bce".
        """
        if criterion.loss != "bce":
            raise ValueError(f"loss={criterion.loss!r}: slates are trained with 'bce'; leave --loss out")
        assert batch.taken_BN is not None
        assert batch.drawn_BN is not None
        scores_BN = self.scores(batch).float() + batch.drawn_BN
        loss_BN = F.binary_cross_entropy_with_logits(scores_BN, batch.taken_BN, reduction="none")
        return (loss_BN * (batch.candidates_BN > 0)).sum()

    @torch.no_grad()
    def score_slate(self, slates: Moments, row: int) -> np.ndarray:
        """Scores of all candidates of a slate, in the order of its list: the log-odds of being taken."""
        with evaluating(self):
            return self.scores(self._windows(slates).whole(row))[0].float().cpu().numpy()

    def _windows(self, slates: Moments) -> SlateWindows:
        """Windows on some slates, kept until others are asked for."""
        kept = self.__dict__.get("_asked_windows")
        if kept is None or kept.slates is not slates or kept.device != self.device:
            kept = SlateWindows(slates, self.features.situation, self.config.length, self.device)
            self.__dict__["_asked_windows"] = kept
        return kept

    def recommend(
        self,
        users: Sequence[Any] | None = None,
        histories: Sequence[Sequence[Any]] | None = None,
        k: int = 10,
        candidates: Sequence[Any] | None = None,
        exclude_seen: bool | None = None,
        situation: Mapping[str, Any] | None = None,
    ) -> list[Recommendation]:
        """The k best candidates for each user or history, asked after the end of the log.

        Args:
            users: ids of the log's users; or
            histories: lists of item ids, when they were taken being unknown.
            k: how many.
            candidates: item ids to choose from; None takes a list of the log: the one that `situation` names, else
                for a user the last that they were shown, else the last of all.
            exclude_seen: leave out items of the history; None does so unless the log has repeats.
            situation: values that name a list (a store and a week, say), and of other features of the situation,
                which then hold for all candidates.

        Raises:
            DataError: an unknown user, item or situation; ValueError: k below 1, or neither or both of users and
                histories.
        """
        if k < 1 or (users is None) == (histories is None):
            raise ValueError(f"give either users= or histories=, and k of at least 1 (k={k})")
        rows = self.split.users.encode(users).astype(np.int64) - 1 if users is not None else None
        pasts = [self.split.items.encode(history) for history in histories or []]
        found = []
        for number in range(len(rows) if rows is not None else len(pasts)):
            batch = self._asked(-1 if rows is None else int(rows[number]), pasts[number : number + 1], candidates, situation)
            with torch.no_grad(), evaluating(self):
                scores = self.scores(batch).float().cpu()
            if exclude_seen if exclude_seen is not None else self.split.test.exclude_seen:
                seen = torch.isin(batch.candidates_BN, batch.items_BT).cpu()
                scores = scores.masked_fill(seen, -torch.inf)
            values, columns = top_k(scores, min(k, scores.shape[1]))
            kept = values[0] > -torch.inf
            ids = self.split.items.decode(batch.candidates_BN.cpu().numpy()[0, columns[0][kept]])
            found.append(Recommendation(ids.tolist(), values[0][kept].tolist()))
        return found

    def _asked(
        self, user: int, past: list[np.ndarray], candidates: Sequence[Any] | None, situation: Mapping[str, Any] | None
    ) -> SlateBatch:
        """The batch of one question asked after the end of the log."""
        slates, told = self.split.slates, dict(situation or {})
        assert slates is not None
        names = [feature.name for feature in self.features.situation]
        for name in told:
            if name not in names and name not in slates.situation:
                raise DataError(f"unknown situation '{name}': the model reads {', '.join(names)}")
        which = self._list_for(slates, user, told)
        places = np.arange(*slates.offsets[which : which + 2])[None]
        if candidates is not None:
            wanted = self.split.items.encode(candidates)
            at = {item: place for place, item in zip(places[0], slates.items[places[0]], strict=True)}
            places = np.array([[at.get(item, -1) for item in wanted]])
            items = wanted[None]
        else:
            items = slates.items[places]
        now = np.array([[int(max(slates.histories.times.max(initial=0), slates.times.max(initial=0))) + 1]])
        codes = Situations(self.features.situation, slates)(np.array([[which]]), np.maximum(places, 0), items, now)
        for feature in self.features.situation:
            column = codes[feature.name]
            if feature.name in slates.shown:  # a candidate that the list lacks was shown nowhere that we know
                column = torch.where(torch.from_numpy(places < 0), torch.from_numpy(feature.encode([None])), column)
            if feature.name in told:
                column = torch.from_numpy(feature.encode([told[feature.name]])).expand(column.shape)
            codes[feature.name] = column
        if user >= 0:
            stop = slates.histories.lengths[[user]]
            known = slates.known(np.array([user]), stop, now[0], self.config.length)
        else:
            known = _undated(past[0], self.config.length)
        return made(slates, known, np.array([user]), items, now, codes).to(self.device)

    def _list_for(self, slates: Moments, user: int, told: Mapping[str, Any]) -> int:
        """The list that a situation names, else the user's last, else the last."""
        fits = np.ones(len(slates.situation), bool)
        for name in slates.situation.columns.intersection(list(told)):
            fits &= slates.situation[name].astype("str").to_numpy() == str(told[name])
        if not fits.any():
            raise DataError(f"no slate of {self.split.name} has the situation {dict(told)}; name another, or none")
        shown = np.flatnonzero(fits[slates.lists])
        own = shown[slates.users[shown] == user]
        return int(slates.lists[(own if len(own) else shown)[-1]])

    @torch.no_grad()
    def attention(self, slates: Moments, row: int, candidates: Sequence[Any]) -> pd.DataFrame:
        """What candidates of a slate look at in the past of its user, labelled.

        Args:
            slates: such as `split.test.slates`.
            row: which of them.
            candidates: item ids, of the slate's list.

        Returns:
            columns head, candidate, item (a past item's id, None for "nothing of the past"), count (how often it was
            taken), days (since it was last taken) and weight; weights of a head and candidate sum to 1.

        Raises:
            DataError: a candidate is not in the list.
        """
        items = slates.items[slates.list_of(row)]
        wanted = self.split.items.encode(candidates)
        if missing := [c for c, item in zip(candidates, wanted, strict=True) if item not in items]:
            raise DataError(f"{missing[0]} is not among the {len(items)} candidates of slate {row}; choose one of them")
        with evaluating(self):
            weights_HNK = self.attended(self._windows(slates).whole(row), need_weights=True)[2][0][0].cpu()
        at = [int(np.flatnonzero(items == item)[0]) for item in wanted]
        of = slice(row, row + 1)
        known = slates.known(slates.users[of], slates.stops[of], slates.times[of], self.config.length)
        past = known.items[0][known.items[0] > 0]
        head, candidate, place = (axis.ravel() for axis in np.indices((len(weights_HNK), len(at), 1 + len(past))))
        names = np.array([None, *self.split.items.decode(past).tolist()], object)
        return pd.DataFrame(
            {
                "head": head,
                "candidate": np.array(list(candidates), object)[candidate],
                "item": names[place],
                "count": np.append(0, known.counts[0, : len(past)])[place],
                "days": np.append(0, known.ages[0, : len(past)] / DAY)[place],
                "weight": weights_HNK[:, at, : 1 + len(past)].numpy().ravel(),
            }
        )

    def save(self, folder: str | Path, about: Mapping[str, Any] | None = None, only_weights: bool = False) -> None:
        """Write the run folder that `load` reads; see `Recommender.save`. The slates after training are kept too."""
        config = dict(about or {}) | {"recommender": asdict(self.config), "features": self.features.to_json()}
        names = {feature.name for feature in self.features.situation} & set(self.split.histories.attributes)
        read = names - {*self.split.slates.shown, *self.split.slates.situation} if self.split.slates else names
        write_run(Path(folder), self.split, self.state_dict(), config, sorted(read), only_weights)


def restore_weights(model: nn.Module, folder: Path) -> None:
    """Put the weights of a run folder into a model that was made without its log."""
    weights = load_file(folder / "weights.safetensors")
    for name, buffer in model.named_buffers():
        if name in weights:  # tables of codes, which were made without the log
            buffer.resize_(weights[name].shape)
    model.load_state_dict(weights)


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
    few = int(np.searchsorted(slates.times, split.valid.protocol["valid_from"])) or len(slates)
    shown = float(np.diff(slates.offsets)[slates.lists[:few]].sum())
    taken = float(slates.taken_offsets[few])
    return math.log(taken / max(shown - taken, 1.0))


def _undated(past: np.ndarray, length: int) -> Known:
    """A list of items as what is known of a user, when each was taken being unknown."""
    newest = past[::-1]
    items, first, counts = np.unique(newest, return_index=True, return_counts=True)
    order = np.argsort(-first)[-length:]
    if len(order) == 0:
        return Known(np.zeros((1, 0), np.int32), np.zeros((1, 0), np.int64), np.zeros((1, 0), np.int64))
    return Known(items[order][None].astype(np.int32), counts[order][None], np.full((1, len(order)), -1))
