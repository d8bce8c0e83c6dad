"""Looking inside a model: attention weights and erasure as labelled tables.

Both are functions over any model that `Explainable` describes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attncore.batches import Batch, Windows
from attncore.config import RecommenderConfig
from attncore.layers import evaluating
from attncore.sequences import Histories
from attncore.serving import Asked, Servable, asked_of, best


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
    candidates: Sequence[Any] | None = None,
    users: Sequence[Any] | None = None,
    every_query: bool = False,
    situation: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Attention weights, a row each; see `Recommender.attention`."""
    is_target = model.config.attention == "target"
    if candidates is not None and not is_target:
        raise ValueError(
            f"candidates= needs attention='target': with {model.config.attention!r} all"
            " candidates share one row of weights; leave candidates out, or use"
            " erasure()"
        )
    asked, rows = asked_of(model, users, histories)
    told = model.features.situation_columns(situation, len(asked))
    windows = model.windows(asked, rows, situation=told)
    model, frames = evaluating(model), []
    for row in range(len(asked)):
        batch = windows.batch(np.array([row]))
        count = int(windows.lengths[row])
        hidden = len(asked[row]) - count  # events too old for the model to see
        if count == 0:
            continue
        labels: list[Any] = ["next"]
        with torch.no_grad():
            if is_target:
                labels = _chosen(model, asked, row, candidates, rows, told)
                layers = model.weights(batch, model.split.items.encode(labels))
            else:
                layers = model.weights(batch)
        if every_query:
            labels = labels if is_target else list(range(hidden, hidden + count))
        elif not is_target:
            layers = [weights[:, :, count - 1 : count] for weights in layers]
        stacked = np.stack(
            [w[0, :, : len(labels), :count].float().cpu().numpy() for w in layers]
        )
        layer, head, query, event = (x.ravel() for x in np.indices(stacked.shape))
        event = event + hidden
        columns = {"history": row, "layer": layer, "head": head}
        columns["query"] = pd.array(labels, dtype=object)[query]
        columns |= {"event": event, "item": _ids(model, asked[row])[event]}
        frames.append(pd.DataFrame(columns | {"weight": stacked.ravel()}))
    names = ["history", "layer", "head", "query", "event", "item", "weight"]
    return _joined(frames, names)


def erasure(
    model: Explainable,
    histories: Asked | None = None,
    candidates: Sequence[Any] | None = None,
    users: Sequence[Any] | None = None,
    situation: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """How much scores fall without each event; see `Recommender.erasure`."""
    asked, rows = asked_of(model, users, histories)
    told = model.features.situation_columns(situation, len(asked))
    frames = []
    for row in range(len(asked)):
        labels = _chosen(model, asked, row, candidates, rows, told)
        erased = asked.erased(row)
        user = None if rows is None else np.full(len(erased), rows[row])
        moment = {name: [values[row]] * len(erased) for name, values in told.items()}
        scores = model.score(erased, user, moment).cpu().numpy()
        watched = scores[:, model.split.items.encode(labels) - 1]
        drop = watched[0] - watched[1:]  # (events, candidates)
        event, candidate = (axis.ravel() for axis in np.indices(drop.shape))
        columns = {
            "history": row,
            "candidate": pd.array(labels, dtype=object)[candidate],
            "event": event,
            "item": _ids(model, asked[row])[event],
            "drop": drop.ravel(),
        }
        frames.append(pd.DataFrame(columns))
    return _joined(frames, ["history", "candidate", "event", "item", "drop"])


def _ids(model: Explainable, items: np.ndarray) -> np.ndarray:
    return model.split.items.decode(items)


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    if not frames:
        return pd.DataFrame(columns=columns)
    return pd.concat(frames, ignore_index=True)


def _chosen(
    model: Explainable,
    histories: Histories,
    row: int,
    candidates: Sequence[Any] | None,
    users: np.ndarray | None,
    situation: Mapping[str, Any],
) -> list[Any]:
    """The candidates asked for, or the ten best for this history."""
    if candidates is not None:
        return list(candidates)
    user = None if users is None else users[row : row + 1]
    told = {name: values[row : row + 1] for name, values in situation.items()}
    history = histories.take(np.array([row]))
    return best(model, history, user, situation=told)[0].items
