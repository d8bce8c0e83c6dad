"""What one asks of a trained recommender: recommendations, similar items, new items.

All here are functions over any model that `Servable` describes, a baseline too; a
model's verbs are one line that calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from attncore.errors import DataError
from attncore.evaluation import top_k_in_parts
from attncore.features import FeatureSet
from attncore.layers import evaluating
from attncore.readers import plain_values
from attncore.sequences import Histories, Vocabulary, plain_ids
from attncore.splits import Split

# Scores that exist at a time, whatever the catalogue: 4 MiB stay in a cache.
PART = 2**20
EVENTS = 4096  # events that are scored at a time: what fits a cache is quickest
CODES = "embedding.item.features.codes_"  # so begin the names of tables of items' codes

Asked = Sequence[Sequence[Any]] | Histories
Model = TypeVar("Model", bound="Servable")


class Grouped(Protocol):
    """Histories that are asked about a group at a time."""

    def by_length(self, events: int) -> Iterator[np.ndarray]:
        """Rows of one group after another, of about so many events each."""

    def batch(self, rows: np.ndarray) -> Any:
        """A group as the model reads it."""


class Servable(Protocol):
    """What a model must have to be asked for recommendations."""

    split: Split
    features: FeatureSet

    def windows(
        self,
        histories: Histories,
        users: np.ndarray | None = None,
        *,
        situation: Mapping[str, Any] | None = None,
    ) -> Grouped:
        """Groups of histories; see `Recommender.windows`."""

    def scorer(self, batch: Any) -> Callable[[slice | Tensor], Tensor]:
        """What gives the scores of some items after each history of a group."""


@dataclass(frozen=True)
class Recommendation:
    """Items for one user, best first: the log's own ids, and their scores."""

    items: list[Any]
    scores: list[float]


def recommend(
    model: Servable,
    users: Sequence[Any] | None = None,
    histories: Asked | None = None,
    k: int = 10,
    candidates: Sequence[Any] | None = None,
    exclude_seen: bool | None = None,
    situation: Mapping[str, Any] | None = None,
    exclude: Sequence[Any] = (),
    only: Sequence[Any] | None = None,
) -> list[Recommendation]:
    """The k best next items for each user or history; see `Recommender.recommend`."""
    if k < 1:
        raise ValueError(f"k={k}: must be at least 1")
    asked, rows = asked_of(model, users, histories)
    told = model.features.situation_columns(situation, len(asked))
    return best(model, asked, rows, k, candidates, exclude_seen, told, exclude, only)


def best(
    model: Servable,
    asked: Histories,
    rows: np.ndarray | None = None,
    k: int = 10,
    candidates: Sequence[Any] | None = None,
    exclude_seen: bool | None = None,
    situation: Mapping[str, Any] | None = None,
    exclude: Sequence[Any] = (),
    only: Sequence[Any] | None = None,
) -> list[Recommendation]:
    """`recommend` for histories, user rows and columns of the situation."""
    items = model.split.items
    if exclude_seen is None:
        exclude_seen = model.split.test.exclude_seen
    allowed = allowed_places(items, candidates, exclude, only)
    windows = model.windows(asked, rows, situation=situation)
    many = min(k, len(items) if allowed is None else len(allowed))
    found = Best(len(asked), many)
    asking = evaluating(model)
    with torch.no_grad():
        for group in windows.by_length(EVENTS):
            seen = _places(asked.take(group)) if exclude_seen else None
            scorer = asking.scorer(windows.batch(group))
            found.fill(group, scorer, len(items), allowed, seen)
    return found.named(items.ids)


@torch.no_grad()
def similar_items(
    model: Any, items: Sequence[Any], k: int = 10
) -> list[Recommendation]:
    """The k items whose vectors have the highest cosine with each given item's."""
    if k < 1:
        raise ValueError(f"k={k}: must be at least 1")
    given = model.split.items.encode(items).astype(np.int64) - 1
    catalogue_VD = model.item.catalogue()
    places_N = torch.from_numpy(given).to(catalogue_VD.device)
    unit_ND = nn.functional.normalize(catalogue_VD[places_N], dim=-1)

    def cosine(places: slice | Tensor) -> Tensor:
        return unit_ND @ nn.functional.normalize(catalogue_VD[places], dim=-1).T

    rows = np.arange(len(given))
    found = Best(len(given), min(k, len(catalogue_VD) - 1))
    found.fill(rows, cosine, len(catalogue_VD), None, (rows, given))
    return found.named(model.split.items.ids)


def asked_of(
    model: Servable, users: Sequence[Any] | None, histories: Asked | None
) -> tuple[Histories, np.ndarray | None]:
    """Histories as indices, and user rows where users were named."""
    if (users is None) == (histories is None):
        raise ValueError("give either users= or histories=")
    split = model.split
    if users is not None:
        rows = split.users.encode(users).astype(np.int64) - 1
        return split.histories.take(rows), rows
    if isinstance(histories, Histories):  # indices already, with times and attributes
        return histories, None
    assert histories is not None
    return Histories.from_lists([split.items.encode(one) for one in histories]), None


def allowed_places(
    items: Vocabulary,
    candidates: Sequence[Any] | None,
    exclude: Sequence[Any],
    only: Sequence[Any] | None,
) -> np.ndarray | None:
    """Places in the catalogue of what may be shown, ascending; None for all of them."""
    if candidates is None and only is None and len(exclude) == 0:
        return None
    shown = np.full(len(items) + 1, candidates is None)
    if candidates is not None:
        shown[items.encode(candidates)] = True
    if only is not None:
        listed = np.zeros_like(shown)
        listed[items.known(only)] = True
        shown &= listed
    shown[items.known(exclude)] = False
    return np.flatnonzero(shown[1:])


class Best:
    """The best items so far: a row for each question, filled a group of rows at a time.

    Args:
        rows: how many questions.
        k: how many items each.
    """

    def __init__(self, rows: int, k: int) -> None:
        self.values = np.full((rows, k), -np.inf)
        self.places = np.zeros((rows, k), np.int64)

    def fill(
        self,
        group: np.ndarray,
        score: Callable[[slice | Tensor], Tensor],
        items: int,
        allowed: np.ndarray | None,
        hidden: tuple[np.ndarray, np.ndarray] | None,
    ) -> None:
        """Find the best items of some rows.

        Args:
            group: the rows.
            score: gives their scores at some places of the catalogue.
            items: size of the catalogue.
            allowed: places that may be shown, ascending; None for all.
            hidden: row in the group and place in the catalogue of what may not be shown
                beside.
        """
        if self.values.shape[1] == 0 or len(group) == 0:
            return
        row, column = hidden or (np.zeros(0, np.int64), np.zeros(0, np.int64))
        if allowed is not None:  # from places in the catalogue to those in `allowed`
            at = np.searchsorted(allowed, column).clip(max=len(allowed) - 1)
            kept = allowed[at] == column
            row, column, items = row[kept], at[kept], len(allowed)
        order = np.argsort(column, kind="stable")
        row, column = row[order], column[order]

        def part_of(part: slice) -> Tensor:
            where = part if allowed is None else torch.from_numpy(allowed[part])
            scores = score(where).float()
            first, last = np.searchsorted(column, [part.start, part.stop])
            at = row[first:last], column[first:last] - part.start
            hide = tuple(torch.from_numpy(x).to(scores.device) for x in at)
            return scores.index_put_(hide, scores.new_tensor(-torch.inf))

        at_once = max(1, PART // len(group))
        values, places = top_k_in_parts(part_of, items, self.values.shape[1], at_once)
        found = places.cpu().numpy()
        self.values[group] = values.cpu().numpy()
        self.places[group] = found if allowed is None else allowed[found]

    def named(self, ids: np.ndarray) -> list[Recommendation]:
        """What was found, by id; what may not be shown is left out."""
        count = (self.values > -np.inf).sum(1)
        return [
            Recommendation(row_ids[:n].tolist(), row_values[:n].tolist())
            for row_ids, row_values, n in zip(
                ids[self.places], self.values, count, strict=True
            )
        ]


def _places(histories: Histories) -> tuple[np.ndarray, np.ndarray]:
    """Row, and place in the catalogue, of every event."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    return rows, histories.items.astype(np.int64) - 1


def with_items(model: Any, table: pd.DataFrame) -> Any:
    """The model with new items, known by attributes; see `Recommender.with_items`."""
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
        values = plain_values(table[feature.name])
        codes = torch.from_numpy(feature.encode(values, "new items"))
        weights[f"{CODES}{number}"] = _below(weights[f"{CODES}{number}"], codes)
    for name, tensor in weights.items():
        if not tensor.dim() or name.startswith(CODES):
            continue
        missing = len(shapes[name]) - len(tensor)
        if missing > 0:  # one row an item: nothing is learned of the new ones
            zeros = tensor.new_zeros(missing, *tensor.shape[1:])
            weights[name] = torch.cat([tensor, zeros])
    bigger.take_weights(weights)
    return bigger.to(model.device).train(model.training)


def _extended(split: Split, ids: np.ndarray, table: pd.DataFrame) -> Split:
    """The split with more items in its catalogue, which stand in no history."""
    zeros = np.zeros(len(ids), split.item_counts.dtype)
    counts = np.append(split.item_counts, zeros)
    titles = split.titles
    if titles is not None:
        names = pd.Series(ids, table.index, dtype=object)
        own = table["title"] if "title" in table.columns else names
        own = own.where(own.notna(), names).astype(str)
        titles = np.append(titles, own.to_numpy(object))
    items = Vocabulary(np.append(split.items.ids, ids), "item")
    return replace(
        split,
        items=items,
        valid=replace(split.valid, item_counts=counts, catalogue=items),
        test=replace(split.test, item_counts=counts, catalogue=items),
        titles=titles,
        log=None,  # its table of items does not hold the new ones
    )


def _below(codes: Tensor, more: Tensor) -> Tensor:
    """A table of codes with more rows; rows of many codes are padded to as many."""
    if codes.dim() == 2:
        wide = max(codes.shape[1], more.shape[1])
        codes, more = (
            nn.functional.pad(part, (0, wide - part.shape[1])) for part in (codes, more)
        )
    return torch.cat([codes, more.to(codes)])
