"""New items: a trained model learns of items that its log does not have, by their attributes alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attncore.columns import DataError, plain_values
from attncore.sequences import Vocabulary, plain_ids
from attncore.splits import Split

if TYPE_CHECKING:
    from attncore.recommender import Recommender

CODES = (  # how the names of the tables of items' codes begin, among the weights
    "embedding.item.features.codes_"
)


def with_new_items(model: Recommender, table: pd.DataFrame) -> Recommender:
    """The model that `Recommender.with_items` returns."""
    known = model.split.items
    if not model.features.item:
        raise DataError(
            "new items need a model trained with item_features: nothing else is known"
            " of them"
        )
    ids = plain_ids(table.index)
    if len(known.known(ids)) or table.index.has_duplicates:
        twice = table.index[table.index.isin(known.ids) | table.index.duplicated()][0]
        raise DataError(f"new item {twice}: is known already, or given twice")
    for feature in model.features.item:
        if feature.name not in table.columns:
            raise DataError(
                f"new items: no column '{feature.name}', which the model reads; give"
                " it, empty if unknown"
            )
    split = _extended(model.split, ids, table)
    bigger = type(model)(model.config, split, features=model.features)
    weights, shapes = dict(model.state_dict()), bigger.state_dict()
    for number, feature in enumerate(model.features.item):
        codes = torch.from_numpy(
            feature.encode(plain_values(table[feature.name]), "new items")
        )
        weights[f"{CODES}{number}"] = _below(weights[f"{CODES}{number}"], codes)
    for name, tensor in weights.items():
        missing = (
            len(shapes[name]) - len(tensor)
            if tensor.dim() and not name.startswith(CODES)
            else 0
        )
        if missing > 0:  # one row an item: nothing is learned of the new ones
            weights[name] = torch.cat(
                [tensor, tensor.new_zeros(missing, *tensor.shape[1:])]
            )
    bigger.take_weights(weights)
    return bigger.to(model.device).train(model.training)


def _extended(split: Split, ids: np.ndarray, table: pd.DataFrame) -> Split:
    """The split with more items in its catalogue, which stand in no history."""
    counts = np.append(split.item_counts, np.zeros(len(ids), split.item_counts.dtype))
    titles = split.titles
    if titles is not None:
        own = (
            table["title"]
            if "title" in table.columns
            else pd.Series(ids, table.index, dtype=object)
        )
        titles = np.append(
            titles,
            own.where(own.notna(), pd.Series(ids, table.index))
            .astype(str)
            .to_numpy(object),
        )
    return replace(
        split,
        items=Vocabulary(np.append(split.items.ids, ids), "item"),
        valid=replace(split.valid, item_counts=counts),
        test=replace(split.test, item_counts=counts),
        titles=titles,
        log=None,  # its table of items does not hold the new ones
    )


def _below(codes: Tensor, more: Tensor) -> Tensor:
    """A table of codes with more rows; where an item has many codes, both are padded to as many."""
    if codes.dim() == 2:
        wide = max(codes.shape[1], more.shape[1])
        codes, more = (
            torch.nn.functional.pad(part, (0, wide - part.shape[1]))
            for part in (codes, more)
        )
    return torch.cat([codes, more.to(codes)])
