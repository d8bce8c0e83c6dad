"""What one asks of a ranker: recommendations, and what a candidate looks at.

All here are functions over a `Ranker`, whose verbs are one line that calls them;
recommendations are those of a baseline too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from attncore.sequences import listed
from attncore.serving import Recommendation, allowed_places, check_k
from attncore.serving import questions as in_numbers
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
        unknown: how many ids of the question were passed over.
    """

    slates: IndexedSlates
    whole: Known
    user: int
    items: np.ndarray
    now: np.ndarray
    situation: dict[str, Tensor]
    unknown: int = 0

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
    users: Any = None,
    histories: Asked | None = None,
    k: int = 10,
    candidates: Any = None,
    exclude_seen: bool | None = None,
    situation: Mapping[str, Any] | None = None,
    exclude: Any = (),
    only: Any = None,
    *,
    strict: bool = False,
) -> list[Recommendation]:
    """The k best candidates for each user or history, after the end of the log.

    Args:
        model: what is asked; left out where this is called as a method.
        users: ids of the log's users; one that the model does not know is answered as
            somebody new.
        histories: lists of item ids instead, when they were taken being unknown.
        k: how many.
        candidates: item ids to choose from, all of which the model must know; None
            takes a list of the log: the one that `situation` names, else for a user the
            last that they were shown, else the last of all.
        exclude_seen: leave out items of the history; None does so unless the log has
            repeats.
        situation: values that name a list (a store and a week, say), and of other
            features of the situation, which then hold for all candidates; one for all,
            or a list with one each.
        exclude: item ids that must not be shown.
        only: item ids that may be shown.
        strict: refuse ids that the model does not know. Otherwise those of users,
            histories, `exclude` and `only` are passed over, counted and logged.

    Raises:
        DataError: an unknown candidate or situation, an id of another type than the
            log's; with `strict`, any unknown id. ValueError: k below 1, neither or both
            of users and histories, or the model knows no log.
    """
    k = check_k(k)
    need_log(model)
    if exclude_seen is None:
        exclude_seen = model.split.test.exclude_seen
    items = model.split.items
    allowed = allowed_places(items, None, exclude, only, strict)
    found = []
    for question in questions(model, users, histories, candidates, situation, strict):
        with torch.no_grad():
            scores_BN = evaluating(model).answer(question).float().cpu()
        asked_BN = question.items
        hide_BN = np.zeros(asked_BN.shape, bool)
        if allowed is not None:
            hide_BN = ~np.isin(asked_BN - 1, allowed)
        if exclude_seen:
            # All that was taken, not only what the model looks at.
            hide_BN = hide_BN | np.isin(asked_BN, question.whole.items)
        scores_BN = scores_BN.masked_fill(torch.from_numpy(hide_BN), -torch.inf)
        values, columns = top_k(scores_BN, min(k, scores_BN.shape[1]))
        kept = values[0] > -torch.inf
        ids = items.decode(asked_BN[0, columns[0][kept].numpy()]).tolist()
        found.append(Recommendation(ids, values[0][kept].tolist(), question.unknown))
    return found


def need_log(model: Any) -> None:
    """Raise ValueError where a baseline was made without a log."""
    if not hasattr(model, "split"):
        name = type(model).__name__
        raise ValueError(f"{name}: knows no log to ask about; make {name}(split)")


def attention(
    model: RankerLike,
    histories: Asked | None = None,
    candidates: Any = None,
    users: Any = None,
    situation: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """What candidates look at when they are asked about after the end of the log.

    Args:
        model: what is looked into; left out where this is called as a method.
        histories, users, situation: as for `recommend`.
        candidates: item ids that ask; None takes the ten best recommended.

    Returns:
        columns history, head, candidate, item (a past item's id, None for "nothing of
        the past"), count (how often it was taken), days (since it was last taken) and
        weight; weights of a history, head and candidate sum to 1.
    """
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
    """What candidates of a slate of the log look at; columns as for `attention`.

    Args:
        model: what is looked into; left out where this is called as a method.
        slates: such as `split.test.slates`.
        row: which of them.
        candidates: item ids, of the slate's list.

    Raises:
        DataError: a candidate is not in the list.
    """
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
    candidates: Any = None,
    users: Any = None,
    situation: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """How much each candidate's score falls when a past item is taken out.

    Out are all the times that it was taken.

    Args:
        model: what is looked into; left out where this is called as a method.
        histories, users, situation: as for `recommend`.
        candidates: item ids whose scores are watched; None takes the ten best.

    Returns:
        columns history, candidate, item (the past item's id) and drop (score with it
        minus score without; above 0 it spoke for the candidate).
    """
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
    users: Any,
    histories: Asked | None,
    candidates: Any = None,
    situation: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> list[Question]:
    """One question for each user or history, asked after the end of the log."""
    servable: Any = model  # as far as it is needed here
    asked = in_numbers(servable, users, histories, strict=strict)
    if situation is not None and not hasattr(situation, "keys"):
        raise ValueError("situation= takes values by name, such as {'store': 3}")
    told, rows = dict(situation or {}), len(asked.histories)
    for name, values in told.items():
        each = values.tolist() if hasattr(values, "tolist") else values
        each = each if isinstance(each, list) else [each] * rows
        if len(each) != rows:
            raise ValueError(
                f"situation '{name}': has {len(each)} values for {rows} questions; give"
                " one for all, or one each"
            )
        told[name] = each
    ask, found = _asking(model, candidates, list(told)), []
    for row, unknown in enumerate(asked.unknown.tolist()):
        here = {name: values[row] for name, values in told.items()}
        user = -1 if asked.users is None else int(asked.users[row])
        past = asked.histories[row] if user < 0 else None
        found.append(replace(ask(user, past, here), unknown=unknown))
    return found


def _asking(
    model: Answering, candidates: Any, names: Sequence[str]
) -> Callable[[int, np.ndarray | None, Mapping[str, Any]], Question]:
    """A function that makes the question of a user row, or else of a list of items."""
    slates, features = model.split.slates, model.features.situation
    assert isinstance(slates, IndexedSlates)
    read = [feature.name for feature in features]
    for name in names:
        if name not in read and name not in slates.situation:
            known = ", ".join(read)
            raise DataError(f"unknown situation '{name}': the model reads {known}")
    last = max(slates.histories.times.max(initial=0), slates.times.max(initial=0))
    now = np.array([[int(last) + 1]])
    situations = Situations(features, slates)
    chosen = None if candidates is None else model.split.items.encode(candidates)

    def ask(user: int, past: np.ndarray | None, told: Mapping[str, Any]) -> Question:
        which = _list_for(model, slates, user, told)
        places = np.arange(*slates.offsets[which : which + 2])[None]
        items = slates.items[places]
        if chosen is not None:
            shown = dict(zip(items[0], places[0], strict=True))
            items = chosen[None]
            places = np.array([[shown.get(item, -1) for item in items[0]]])
        where = np.array([[which]]), np.maximum(places, 0), items, now
        codes = situations(*where)
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
    users: Any,
    histories: Asked | None,
    candidates: Any,
    situation: Mapping[str, Any] | None,
) -> list[tuple[Question, list[Any]]]:
    """Questions about the candidates given, or the ten best of each; and those ids."""
    if candidates is not None:
        asked = questions(model, users, histories, candidates, situation)
        return [(question, listed(candidates, "candidates")) for question in asked]
    found = []
    asked = questions(model, users, histories, None, situation)
    picked = recommend(model, users, histories, situation=situation)
    for question, picks in zip(asked, picked, strict=True):
        order = np.argsort(question.items[0])
        wanted = model.split.items.encode(picks.items)
        at = order[np.searchsorted(question.items[0], wanted, sorter=order)]
        codes = {name: column[:, at] for name, column in question.situation.items()}
        best = replace(question, items=question.items[:, at], situation=codes)
        found.append((best, picks.items))
    return found


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
