"""What one asks of a trained recommender: recommendations, similar items, attention weights, erasure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from attncore.batches import Batch, Windows
from attncore.errors import DataError
from attncore.evaluation import top_k_in_parts
from attncore.explaining import attention_frame, erasure_frame
from attncore.features import FeatureSet
from attncore.layers import evaluating
from attncore.readers import plain_values
from attncore.sequences import Histories, Vocabulary, plain_ids
from attncore.splits import Split

if TYPE_CHECKING:
    from attncore.recommender import Recommender


PART = (
    2**20
)  # scores that exist at a time, whatever the size of the catalogue: 4 MiB stay in a cache


@dataclass(frozen=True)
class Recommendation:
    """Items for one user, best first: the log's own ids, and their scores."""

    items: list[Any]
    scores: list[float]


class _Found:
    """The best items so far: a row for each question, filled a group of rows at a time."""

    def __init__(self, rows: int, k: int) -> None:
        self.values = np.full((rows, k), -np.inf)
        self.places = np.zeros((rows, k), np.int64)

    def fill(
        self,
        group: np.ndarray,
        score: Callable[[slice | torch.Tensor], torch.Tensor],
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
        if (
            allowed is not None
        ):  # from places in the catalogue to places among what is allowed
            at = np.searchsorted(allowed, column).clip(max=len(allowed) - 1)
            row, column, items = (
                row[allowed[at] == column],
                at[allowed[at] == column],
                len(allowed),
            )
        order = np.argsort(column, kind="stable")
        row, column = row[order], column[order]

        def part_of(part: slice) -> torch.Tensor:
            scores = score(
                part if allowed is None else torch.from_numpy(allowed[part])
            ).float()
            first, last = np.searchsorted(column, [part.start, part.stop])
            at = (
                torch.from_numpy(row[first:last]),
                torch.from_numpy(column[first:last] - part.start),
            )
            return scores.index_put_(
                tuple(x.to(scores.device) for x in at), scores.new_tensor(-torch.inf)
            )

        values, places = top_k_in_parts(
            part_of, items, self.values.shape[1], max(1, PART // len(group))
        )
        found = places.cpu().numpy()
        self.values[group], self.places[group] = (
            values.cpu().numpy(),
            found if allowed is None else allowed[found],
        )

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
    return (
        np.repeat(np.arange(len(histories)), histories.lengths),
        histories.items.astype(np.int64) - 1,
    )


class Answering(nn.Module):
    """The part of a `Recommender` that answers questions, by what the first three methods give."""

    split: Split
    features: FeatureSet

    def score(
        self,
        histories: Histories,
        users: np.ndarray | None = None,
        situation: Mapping[str, Any] | None = None,
    ) -> torch.Tensor:
        """Scores of the whole catalogue after each history; see `Recommender.score`."""
        raise NotImplementedError

    def windows(
        self,
        histories: Histories,
        users: np.ndarray | None = None,
        targets: bool = False,
        situation: Mapping[str, Any] | None = None,
    ) -> Windows:
        """Batches of histories; see `Recommender.windows`."""
        raise NotImplementedError

    def scorer(self, batch: Batch) -> Callable[[slice | torch.Tensor], torch.Tensor]:
        """What gives the scores of some items after each history; see `Recommender.scorer`."""
        raise NotImplementedError

    def recommend(
        self,
        users: Sequence[Any] | None = None,
        histories: Sequence[Sequence[Any]] | Histories | None = None,
        k: int = 10,
        candidates: Sequence[Any] | None = None,
        exclude_seen: bool | None = None,
        situation: Mapping[str, Any] | None = None,
        exclude: Sequence[Any] = (),
        only: Sequence[Any] | None = None,
    ) -> list[Recommendation]:
        """The k best next items for each user or history; fewer where fewer candidates are left.

        Who shares the call changes nothing but the last digits of the scores. Users and
        catalogue are worked through in parts, so memory does not grow with the number
        of users times items.

        Args:
            users: ids of the log's users; their whole history counts, held-out events
                included.
            histories: lists of item ids, oldest first, instead of users; or
                `Histories`, which have times too. An empty list is somebody new.
            k: how many items.
            candidates: item ids to choose from, all of which the model must know; None
                is the whole catalogue.
            exclude_seen: leave out items of the history; None does so unless the log
                has repeats.
            situation: values of situation features, by column, that hold for all; what
                is absent is unknown. Values of user features describe who asks, in
                place of the table of users.
            exclude: item ids that must not be shown.
            only: item ids that may be shown, such as what is in stock; it narrows
                `candidates` too. Here and in `exclude` an id that the model does not
                know is passed over: it would not be shown anyway.

        Raises:
            DataError: an unknown user, item or situation feature; ValueError: k below
                1, or neither or both of users and histories.
        """
        if k < 1:
            raise ValueError(f"k={k}: must be at least 1")
        asked, rows = self._asked(users, histories)
        told = self.features.situation_columns(situation, len(asked))
        return self.best(asked, rows, k, candidates, exclude_seen, told, exclude, only)

    def best(
        self,
        asked: Histories,
        rows: np.ndarray | None = None,
        k: int = 10,
        candidates: Sequence[Any] | None = None,
        exclude_seen: bool | None = None,
        situation: Mapping[str, Any] | None = None,
        exclude: Sequence[Any] = (),
        only: Sequence[Any] | None = None,
    ) -> list[Recommendation]:
        """`recommend` for histories, user rows and columns of the situation as `score` takes them."""
        if exclude_seen is None:
            exclude_seen = self.split.test.exclude_seen
        allowed = self._allowed(candidates, exclude, only)
        windows = self.windows(asked, rows, situation=situation)
        found = _Found(
            len(asked),
            min(k, len(self.split.items) if allowed is None else len(allowed)),
        )
        with torch.no_grad(), evaluating(self):
            for group in windows.by_length(4096):  # as in `score`
                seen = _places(asked.take(group)) if exclude_seen else None
                found.fill(
                    group,
                    self.scorer(windows.batch(group)),
                    len(self.split.items),
                    allowed,
                    seen,
                )
        return found.named(self.split.items.ids)

    def _allowed(
        self,
        candidates: Sequence[Any] | None,
        exclude: Sequence[Any],
        only: Sequence[Any] | None,
    ) -> np.ndarray | None:
        """Places in the catalogue of the items that may be shown, ascending; None for all of them."""
        items = self.split.items
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

    @torch.no_grad()
    def similar_items(self, items: Sequence[Any], k: int = 10) -> list[Recommendation]:
        """The k items whose vectors have the highest cosine with each given item's, itself left out.

        Raises:
            DataError: an unknown item; ValueError: k below 1.
        """
        if k < 1:
            raise ValueError(f"k={k}: must be at least 1")
        given = self.split.items.encode(items).astype(np.int64) - 1
        catalogue_VD = cast("Recommender", self).item.catalogue()
        unit_ND = nn.functional.normalize(
            catalogue_VD[torch.from_numpy(given).to(catalogue_VD.device)], dim=-1
        )

        def cosine(places: slice | torch.Tensor) -> torch.Tensor:
            return unit_ND @ nn.functional.normalize(catalogue_VD[places], dim=-1).T

        found, rows = (
            _Found(len(given), min(k, len(catalogue_VD) - 1)),
            np.arange(len(given)),
        )
        found.fill(rows, cosine, len(catalogue_VD), None, (rows, given))
        return found.named(self.split.items.ids)

    def with_items(self, table: pd.DataFrame) -> Recommender:
        """The model with new items, which it knows by their attributes alone; this one stays as it is.

        What the other items and all histories are is kept, so that the new model
        recommends, is exported and is saved like any other. A new item's own vector and
        bias are 0, their mean over the catalogue as training begins, so that its
        features speak for it.

        Args:
            table: a row per new item, with its id as the index; the columns are those
                of the log's table of items.

        Raises:
            DataError: the model has no item features, a column is missing or unfit, or
                an id is of another type than the log's, known already, or given twice.
        """
        return with_new_items(cast("Recommender", self), table)

    def _asked(
        self,
        users: Sequence[Any] | None,
        histories: Sequence[Sequence[Any]] | Histories | None,
    ) -> tuple[Histories, np.ndarray | None]:
        """Histories as indices, and user rows where users were named."""
        if (users is None) == (histories is None):
            raise ValueError("give either users= or histories=")
        if users is not None:
            rows = self.split.users.encode(users).astype(np.int64) - 1
            return self.split.histories.take(rows), rows
        assert histories is not None
        if isinstance(
            histories, Histories
        ):  # indices already, with times and attributes
            return histories, None
        return (
            Histories.from_lists(
                [self.split.items.encode(history) for history in histories]
            ),
            None,
        )

    def attention(
        self,
        histories: Sequence[Sequence[Any]] | Histories | None = None,
        candidates: Sequence[Any] | None = None,
        users: Sequence[Any] | None = None,
        every_query: bool = False,
        situation: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Attention weights, labelled: one row per history, layer, head, query and event.

        They are the weights before dropout; for one history, layer, head and query they
        sum to 1. All kinds but "target" have one query for the next item, which all
        recommended items share; its label is "next".

        Args:
            histories: lists of item ids, oldest first; or `Histories`.
            candidates: "target" only: the item ids that ask; None takes the ten best
                recommended.
            users: ids of the log's users, instead of histories.
            every_query: give the rows of all positions, labelled 0, 1, … by position,
                not of the last alone.
            situation: as for `recommend`; it matters to "target".

        Returns:
            columns history, layer, head, query, event (place in the history), item (its
            id), weight.
        """
        asked, rows = self._asked(users, histories)
        told = self.features.situation_columns(situation, len(asked))
        return attention_frame(
            cast("Recommender", self), asked, candidates, every_query, rows, told
        )

    def erasure(
        self,
        histories: Sequence[Sequence[Any]] | Histories | None = None,
        candidates: Sequence[Any] | None = None,
        users: Sequence[Any] | None = None,
        situation: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """How much each candidate's score falls when one event is taken out of the history.

        Args:
            histories: lists of item ids, oldest first; or `Histories`.
            candidates: item ids whose scores are watched; None takes the ten best
                recommended.
            users: ids of the log's users, instead of histories.
            situation: as for `recommend`.

        Returns:
            columns history, candidate, event (place in the history), item (its id),
            drop (score with the event minus score without; above 0 the event spoke for
            the candidate).
        """
        asked, rows = self._asked(users, histories)
        told = self.features.situation_columns(situation, len(asked))
        return erasure_frame(cast("Recommender", self), asked, candidates, rows, told)


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
