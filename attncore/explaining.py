"""Looking inside: attention weights and erasure as labelled tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from attncore.batches import Batch
from attncore.layers import evaluating
from attncore.sequences import Histories

if TYPE_CHECKING:
    from attncore.recommender import Recommender


def attention_frame(
    model: Recommender,
    histories: Histories,
    candidates: Sequence[Any] | None,
    every_query: bool,
    users: np.ndarray | None = None,
    situation: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The table that `Recommender.attention` returns."""
    is_target = model.config.attention == "target"
    if candidates is not None and not is_target:
        raise ValueError(
            f"candidates= needs attention='target': with {model.config.attention!r} all"
            " candidates share one row of weights; leave candidates out, or use"
            " erasure()"
        )
    windows = model.windows(histories, users, situation=situation)
    frames = []
    for row in range(len(histories)):
        batch = windows.batch(np.array([row]))
        count = int(windows.lengths[row])
        hidden = len(histories[row]) - count  # events too old for the model to see
        if count == 0:
            continue
        labels: list[Any]
        if is_target:
            labels = _chosen(model, histories, row, candidates, users, situation)
            layers = _weights(model, batch, model.split.items.encode(labels))
        else:
            layers = [
                weights[:, :, :count, :count]
                for weights in _weights(model, batch, None)
            ]
            labels = list(range(hidden, hidden + count)) if every_query else ["next"]
            layers = (
                layers if every_query else [weights[:, :, -1:] for weights in layers]
            )
        stacked = np.stack(
            [weights[0, :, :, :count].float().cpu().numpy() for weights in layers]
        )
        layer, head, query, event = (axis.ravel() for axis in np.indices(stacked.shape))
        frames.append(
            pd.DataFrame(
                {
                    "history": row,
                    "layer": layer,
                    "head": head,
                    "query": pd.array(labels, dtype=object)[query],
                    "event": event + hidden,
                    "item": model.split.items.decode(histories[row])[event + hidden],
                    "weight": stacked.ravel(),
                }
            )
        )
    columns = ["history", "layer", "head", "query", "event", "item", "weight"]
    return (
        pd.concat(frames, ignore_index=True)
        if frames
        else pd.DataFrame(columns=columns)
    )


def erasure_frame(
    model: Recommender,
    histories: Histories,
    candidates: Sequence[Any] | None,
    users: np.ndarray | None = None,
    situation: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The table that `Recommender.erasure` returns."""
    frames = []
    for row in range(len(histories)):
        items = histories[row]
        labels = _chosen(model, histories, row, candidates, users, situation)
        erased = histories.erased(row)
        user = None if users is None else np.full(len(erased), users[row])
        told = {
            name: [values[row]] * len(erased)
            for name, values in (situation or {}).items()
        }
        scores = model.score(erased, user, told).cpu().numpy()
        watched = scores[:, model.split.items.encode(labels) - 1]
        drop = watched[0] - watched[1:]  # (events, candidates)
        event, candidate = (axis.ravel() for axis in np.indices(drop.shape))
        frames.append(
            pd.DataFrame(
                {
                    "history": row,
                    "candidate": pd.array(labels, dtype=object)[candidate],
                    "event": event,
                    "item": model.split.items.decode(items)[event],
                    "drop": drop.ravel(),
                }
            )
        )
    columns = ["history", "candidate", "event", "item", "drop"]
    return (
        pd.concat(frames, ignore_index=True)
        if frames
        else pd.DataFrame(columns=columns)
    )


def _chosen(
    model: Recommender,
    histories: Histories,
    row: int,
    candidates: Sequence[Any] | None,
    users: np.ndarray | None,
    situation: Mapping[str, Any] | None,
) -> list[Any]:
    """The candidates asked for, or the ten best for this history."""
    if candidates is not None:
        return list(candidates)
    user = None if users is None else users[row : row + 1]
    told = {name: values[row : row + 1] for name, values in (situation or {}).items()}
    return model.best(histories.take(np.array([row])), user, situation=told)[0].items


@torch.no_grad()
def _weights(
    model: Recommender, batch: Batch, candidates: np.ndarray | None
) -> list[torch.Tensor]:
    """Weights (1, H, L, K) of each layer, dropout off."""
    with evaluating(model):
        context_BTD = model.embedding(batch)
        if candidates is None:
            _, layers = model.encoder(context_BTD, batch.times_BT, need_weights=True)
        else:
            query_BLD = model.item(
                torch.from_numpy(candidates).to(model.device).long()[None]
            )
            if (asker_B1D := model.asker(batch)) is not None:
                query_BLD = query_BLD + asker_B1D
            _, layers = model.encoder(
                query_BLD, context_BTD, batch.keep_BT, need_weights=True
            )
    return layers
