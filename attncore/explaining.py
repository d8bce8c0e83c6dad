"""Looking inside a model: attention weights and erasure as labelled tables.

Both are functions over any model that `Explainable` describes, and its verbs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attncore.batches import Batch, Windows
from attncore.config import RecommenderConfig
from attncore.layers import evaluating
from attncore.sequences import Histories
from attncore.serving import Asked, Questions, Servable, best, questions


class Explainable(Servable, Protocol):
    """What a model must have to be looked into."""

    config: RecommenderConfig

    def windows(
        self,
        histories: Histories,
        users: np.ndarray | None = None,
        *,
        situation: Mapping[str, Any] | None = None,
    ) -> Windows:
        """Batches of histories; see `Recommender.windows`."""

    def weights(
        self, batch: Batch, candidates: np.ndarray | None = None
    ) -> list[Tensor]:
        """Attention weights of a batch, (B, H, L, K) of each layer."""

    def score(
        self,
        histories: Histories,
        users: np.ndarray | None = None,
        situation: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Scores of the whole catalogue after each history."""


def attention(
    model: Explainable,
    histories: Asked | None = None,
    candidates: Any = None,
    users: Any = None,
    every_query: bool = False,
    situation: Mapping[str, Any] | None = None,
    *,
    events: Asked | None = None,
    time: Any = None,
    strict: bool = False,
) -> pd.DataFrame:
    """Attention weights: one row per history, layer, head, query and event.

    They are the weights before dropout; for one history, layer, head and query they sum
    to 1. All kinds but "target" have one query for the next item, which all recommended
    items share; its label is "next".

    Args:
        model: what is looked into; left out where this is called as a method.
        histories: lists of item ids, oldest first; or `Histories`.
        candidates: "target" only: the item ids that ask; None takes the ten best
            recommended.
        users: ids of the log's users, instead of histories.
        every_query: give the rows of all positions, labelled 0, 1, … by position, not
            of the last alone.
        situation: as for `recommend`; it matters to "target".
        events, time, strict: as for `recommend`.

    Returns:
        columns history, layer, head, query, event (place in the history), item (its
        id), weight.
    """
    is_target, items = model.config.attention == "target", model.split.items
    if candidates is not None and not is_target:
        raise ValueError(
            f"candidates= needs attention='target': with {model.config.attention!r} all"
            " candidates share one row of weights; leave candidates out, or use"
            " erasure()"
        )
    asked = questions(model, users, histories, situation, events, time, strict)
    wanted = _wanted(model, asked, candidates) if is_target else []
    windows = model.windows(asked.histories, asked.users, situation=asked.situation)
    model, frames = evaluating(model), []
    for row in range(len(asked.histories)):
        history = asked.histories[row]
        count = int(windows.lengths[row])
        hidden = len(history) - count  # events too old for the model to see
        if count == 0:
            continue
        batch = windows.batch(np.array([row]))
        labels: Any = wanted[row] if is_target else ["next"]
        with torch.no_grad():
            asking = items.encode(labels) if is_target else None
            layers = model.weights(batch, asking)
        if every_query:
            labels = labels if is_target else list(range(hidden, hidden + count))
        elif not is_target:
            layers = [weights[:, :, count - 1 : count] for weights in layers]
        shown = [weights[0, :, : len(labels), :count] for weights in layers]
        stacked = np.stack([weights.float().cpu().numpy() for weights in shown])
        layer, head, query, event = (x.ravel() for x in np.indices(stacked.shape))
        event = event + hidden
        columns = {"history": row, "layer": layer, "head": head}
        columns["query"] = pd.array(labels, dtype=object)[query]
        columns |= {"event": event, "item": items.decode(history)[event]}
        frames.append(pd.DataFrame(columns | {"weight": stacked.ravel()}))
    names = ["history", "layer", "head", "query", "event", "item", "weight"]
    return _joined(frames, names)


def erasure(
    model: Explainable,
    histories: Asked | None = None,
    candidates: Any = None,
    users: Any = None,
    situation: Mapping[str, Any] | None = None,
    *,
    events: Asked | None = None,
    time: Any = None,
    strict: bool = False,
) -> pd.DataFrame:
    """How much each candidate's score falls when one event is taken out.

    Args:
        model: what is looked into; left out where this is called as a method.
        histories: lists of item ids, oldest first; or `Histories`.
        candidates: item ids whose scores are watched; None takes the ten best
            recommended.
        users: ids of the log's users, instead of histories.
        situation, events, time, strict: as for `recommend`.

    Returns:
        columns history, candidate, event (place in the history), item (its id), drop
        (score with the event minus score without; above 0 the event spoke for the
        candidate).
    """
    asked = questions(model, users, histories, situation, events, time, strict)
    items, frames = model.split.items, []
    for row, labels in enumerate(_wanted(model, asked, candidates)):
        erased = asked.histories.erased(row)
        user = None if asked.users is None else np.full(len(erased), asked.users[row])
        now = {name: each[row] for name, each in asked.situation.items()}
        told = {name: [value] * len(erased) for name, value in now.items()}
        scores = model.score(erased, user, told).cpu().numpy()
        watched = scores[:, items.encode(labels) - 1]
        drop = watched[0] - watched[1:]  # (events, candidates)
        event, candidate = (axis.ravel() for axis in np.indices(drop.shape))
        columns = {
            "history": row,
            "candidate": pd.array(labels, dtype=object)[candidate],
            "event": event,
            "item": items.decode(asked.histories[row])[event],
            "drop": drop.ravel(),
        }
        frames.append(pd.DataFrame(columns))
    return _joined(frames, ["history", "candidate", "event", "item", "drop"])


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    if not frames:
        return pd.DataFrame(columns=columns)
    return pd.concat(frames, ignore_index=True)


def _wanted(model: Explainable, asked: Questions, candidates: Any) -> list[list[Any]]:
    """The candidates asked for, or the ten best, of each question."""
    if candidates is None:
        told = asked.situation
        picked = best(model, asked.histories, asked.users, situation=told)
        return [picks.items for picks in picked]
    items = model.split.items
    labels = items.decode(items.encode(candidates)).tolist()
    return [labels] * len(asked.histories)
