"""What one asks of a ranker: recommendations, and what a candidate looks at.

All here are functions over a `Ranker`, whose verbs are one line that calls them;
recommendations are those of a baseline too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attncore.config import RankerConfig
from attncore.errors import DataError
from attncore.evaluation import top_k
from attncore.features import FeatureSet
from attncore.layers import evaluating
from attncore.ranking.asof import DAY, IndexedSlates, Known
from attncore.ranking.batches import (
    ALL,
    Situations,
    SlateBatch,
    SlateWindows,
    slate_batch,
)
from attncore.serving import Recommendation
from attncore.splits import Split

Asked = Sequence[Sequence[Any]]


class Answering(Protocol):
    """What a model must have to be asked for the best of some candidates."""

    features: FeatureSet

    @property
    def split(self) -> Split:
        """The log that is asked about."""

    def answer(self, question: Question) -> Tensor:
        """Scores (1, N) of a question's candidates."""


class RankerLike(Answering, Protocol):
    """What a model must have to be looked into; see `Ranker`."""

    config: RankerConfig

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def scores(self, batch: SlateBatch) -> Tensor:
        """Scores (B, N) of a batch's candidates."""

    def attended(
        self, batch: SlateBatch, need_weights: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Queries, attended vectors and weights."""

    def windows(self, slates: IndexedSlates) -> SlateWindows:
        """Batches of slates."""


@dataclass(frozen=True)
class Question:
    """Candidates asked about after the end of the log.

    Attributes:
        slates: of the log.
        whole: all that is known of the user's past.
        user: the user's row, or -1.
        items: the candidates, item indices (1, N).
        now: the moment, (1, 1).
        situation: encoded features of slate and candidates.
    """

    slates: IndexedSlates
    whole: Known
    user: int
    items: np.ndarray
    now: np.ndarray
    situation: dict[str, Tensor]

    def batch(self, model: RankerLike, without: int | None = None) -> SlateBatch:
        """The question as tensors; the past is without one of its items where asked."""
        known, length = self.whole, model.config.length
        if without is not None:
            kept = known.items[0] != without
            columns = (known.items, known.counts, known.ages)
            known = Known(*(column[:, kept] for column in columns))
        asked = np.array([self.user]), self.items, self.now, self.situation
        return slate_batch(self.slates, known, length, *asked, without).to(model.device)


def recommend(
    model: Answering,
    users: Sequence[Any] | None = None,
    histories: Asked | None = None,
    k: int = 10,
    candidates: Sequence[Any] | None = None,
    exclude_seen: bool | None = None,
    situation: Mapping[str, Any] | None = None,
    exclude: Sequence[Any] = (),
    only: Sequence[Any] | None = None,
) -> list[Recommendation]:
    """The k best candidates for each user or history; see `Ranker.recommend`."""
    if k < 1:
        raise ValueError(f"k={k}: must be at least 1")
    if exclude_seen is None:
        exclude_seen = model.split.test.exclude_seen
    items = model.split.items
    hidden = torch.from_numpy(items.known(exclude))
    shown = None if only is None else torch.from_numpy(items.known(only))
    found = []
    for question in questions(model, users, histories, candidates, situation):
        with torch.no_grad():
            scores_BN = evaluating(model).answer(question).float().cpu()
        asked_BN = torch.from_numpy(question.items)
        hide_BN = torch.isin(asked_BN, hidden)
        if exclude_seen:
            # All that was taken, not only what the model looks at.
            hide_BN |= torch.isin(asked_BN, torch.from_numpy(question.whole.items))
        if shown is not None:
            hide_BN |= ~torch.isin(asked_BN, shown)
        scores_BN = scores_BN.masked_fill(hide_BN, -torch.inf)
        values, columns = top_k(scores_BN, min(k, scores_BN.shape[1]))
        kept = values[0] > -torch.inf
        ids = items.decode(asked_BN.numpy()[0, columns[0][kept].numpy()])
        found.append(Recommendation(ids.tolist(), values[0][kept].tolist()))
    return found


def attention(
    model: RankerLike,
    histories: Asked | None = None,
    candidates: Sequence[Any] | None = None,
    users: Sequence[Any] | None = None,
    situation: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """What candidates look at, a weight a row; see `Ranker.attention`."""
    asked = _best_of_each(model, users, histories, candidates, situation)
    frames = [
        _weights(model, question.batch(model), question.whole, labels, labels)
        for question, labels in asked
    ]
    found = pd.concat(frames, keys=range(len(frames)), names=["history", None])
    return found.reset_index("history")


def slate_attention(
    model: RankerLike, slates: IndexedSlates, row: int, candidates: Sequence[Any]
) -> pd.DataFrame:
    """What candidates of a slate look at; see `Ranker.slate_attention`."""
    items = slates.items[slates.list_of(row)]
    wanted = model.split.items.encode(candidates)
    for candidate, item in zip(candidates, wanted, strict=True):
        if item not in items:
            raise DataError(
                f"{candidate} is not among the {len(items)} candidates of slate {row};"
                " choose one of them"
            )
    of = slice(row, row + 1)
    known = slates.known(slates.users[of], slates.stops[of], slates.times[of], ALL)
    shown = model.split.items.decode(items).tolist()
    return _weights(model, model.windows(slates).whole(row), known, shown, candidates)


def erasure(
    model: RankerLike,
    histories: Asked | None = None,
    candidates: Sequence[Any] | None = None,
    users: Sequence[Any] | None = None,
    situation: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """How much scores fall without each past item; see `Ranker.erasure`."""
    frames = []
    asked = _best_of_each(model, users, histories, candidates, situation)
    for number, (question, labels) in enumerate(asked):
        past = question.whole.newest(model.config.length).items[0]
        past = past[past > 0]
        asking = evaluating(model)
        with torch.no_grad():
            scores = [
                asking.scores(question.batch(model, without))[0].float().cpu().numpy()
                for without in (None, *past.tolist())
            ]
        drop = scores[0] - np.stack(scores)[1:]  # (past items, candidates)
        item, candidate = (axis.ravel() for axis in np.indices(drop.shape))
        columns = {
            "history": number,
            "candidate": np.array(labels, object)[candidate],
            "item": model.split.items.decode(past)[item],
            "drop": drop.ravel(),
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def questions(
    model: Answering,
    users: Sequence[Any] | None,
    histories: Asked | None,
    candidates: Sequence[Any] | None = None,
    situation: Mapping[str, Any] | None = None,
) -> list[Question]:
    """One question for each user or history, asked after the end of the log."""
    if (users is None) == (histories is None):
        raise ValueError("give either users= or histories=")
    items, ask = model.split.items, _asking(model, candidates, situation)
    if users is not None:
        rows = model.split.users.encode(users).astype(np.int64) - 1
        return [ask(row, None) for row in rows.tolist()]
    assert histories is not None
    return [ask(-1, items.encode(history)) for history in histories]


def _asking(
    model: Answering,
    candidates: Sequence[Any] | None,
    situation: Mapping[str, Any] | None,
) -> Callable[[int, np.ndarray | None], Question]:
    """A function that makes the question of a user row, or else of a list of items."""
    slates, told = model.split.slates, dict(situation or {})
    assert isinstance(slates, IndexedSlates)
    features = model.features.situation
    names = [feature.name for feature in features]
    for name in told:
        if name not in names and name not in slates.situation:
            known = ", ".join(names)
            raise DataError(f"unknown situation '{name}': the model reads {known}")
    last = max(slates.histories.times.max(initial=0), slates.times.max(initial=0))
    now = np.array([[int(last) + 1]])

    def ask(user: int, past: np.ndarray | None) -> Question:
        which = _list_for(model, slates, user, told)
        places = np.arange(*slates.offsets[which : which + 2])[None]
        items = slates.items[places]
        if candidates is not None:
            shown = dict(zip(items[0], places[0], strict=True))
            items = model.split.items.encode(candidates)[None]
            places = np.array([[shown.get(item, -1) for item in items[0]]])
        where = np.array([[which]]), np.maximum(places, 0), items, now
        codes = Situations(features, slates)(*where)
        for feature in features:
            name = feature.name
            if name in told:
                code = torch.from_numpy(feature.encode([told[name]]))
                codes[name] = code.expand(items.shape)
            elif name in slates.shown:
                # A candidate that the list lacks was shown nowhere that we know.
                unknown = torch.from_numpy(feature.encode([None]))
                codes[name][torch.from_numpy(places < 0)] = unknown
        if past is None:
            stop = slates.histories.lengths[[user]]
            whole = slates.known(np.array([user]), stop, now[0], ALL)
        else:
            whole = _undated(past)
        return Question(slates, whole, user, items, now, codes)

    return ask


def _list_for(
    model: Answering, slates: IndexedSlates, user: int, told: Mapping[str, Any]
) -> int:
    """The list that a situation names, else the user's last, else the last."""
    fits = np.ones(len(slates.situation), bool)
    for name in slates.situation.columns.intersection(list(told)):
        fits &= slates.situation[name].astype("str").to_numpy() == str(told[name])
    if not fits.any():
        raise DataError(
            f"no slate of {model.split.name} has the situation {dict(told)}; name"
            " another, or none"
        )
    shown = np.flatnonzero(fits[slates.lists])
    own = shown[slates.users[shown] == user]
    return int(slates.lists[(own if len(own) else shown)[-1]])


def _best_of_each(
    model: RankerLike,
    users: Sequence[Any] | None,
    histories: Asked | None,
    candidates: Sequence[Any] | None,
    situation: Mapping[str, Any] | None,
) -> list[tuple[Question, list[Any]]]:
    """Questions about the candidates given, or the ten best of each; and those ids."""
    if candidates is not None:
        asked = questions(model, users, histories, candidates, situation)
        return [(question, list(candidates)) for question in asked]
    found = []
    picked = recommend(model, users, histories, situation=situation)
    for number, picks in enumerate(picked):
        one = slice(number, number + 1)
        user = None if users is None else users[one]
        history = None if histories is None else histories[one]
        found += questions(model, user, history, picks.items, situation)
    return [(one, picks.items) for one, picks in zip(found, picked, strict=True)]


def _weights(
    model: RankerLike,
    batch: SlateBatch,
    whole: Known,
    shown: Sequence[Any],
    candidates: Sequence[Any],
) -> pd.DataFrame:
    """The weights of some of the candidates shown in a batch of one row."""
    with torch.no_grad():
        asking = evaluating(model)
        weights_HNK = asking.attended(batch, need_weights=True)[2][0][0].cpu()
    known = whole.newest(model.config.length)
    past = known.items[0][known.items[0] > 0]
    at = [shown.index(candidate) for candidate in candidates]
    shape = len(weights_HNK), len(at), 1 + len(past)
    head, candidate, place = (axis.ravel() for axis in np.indices(shape))
    names = np.array([None, *model.split.items.decode(past).tolist()], object)
    days = known.ages[0, : len(past)] / DAY
    columns = {
        "head": head,
        "candidate": np.array(list(candidates), object)[candidate],
        "item": names[place],
        "count": np.append(0, known.counts[0, : len(past)])[place],
        "days": np.append(0, days)[place],
        "weight": weights_HNK[:, at, : 1 + len(past)].numpy().ravel(),
    }
    return pd.DataFrame(columns)


def _undated(past: np.ndarray) -> Known:
    """A list of items as what is known of a user, when each was taken being unknown."""
    newest = past[::-1]
    items, first, counts = np.unique(newest, return_index=True, return_counts=True)
    order = np.argsort(-first)
    shape = 1, len(order)
    return Known(
        items[order].astype(np.int32).reshape(shape),
        counts[order].reshape(shape),
        np.full(shape, -1),
    )
