"""Stage 1c, continued: which attributes a model reads, and the tables it reads them from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import pandas as pd

from attncore.columns import DataError, plain_values
from attncore.features import Feature, fit_features, numbers
from attncore.splits import Split

PROFILE = (  # how the names of columns begin that say who asks, among those of the situation
    "profile: "
)
WEIGHT = 5  # ratings at the overall mean that an item's own are joined with


@dataclass(frozen=True)
class FeatureSet:
    """The features of a model: of items, of users, of past events, and of the situation that is asked in."""

    item: tuple[Feature, ...] = ()
    user: tuple[Feature, ...] = ()
    event: tuple[Feature, ...] = ()
    situation: tuple[Feature, ...] = ()

    @classmethod
    def fit(
        cls,
        split: Split,
        item: Sequence[str] = (),
        user: Sequence[str] = (),
        event: Sequence[str] = (),
        situation: Sequence[str] = (),
    ) -> FeatureSet:
        """Learn from the training part of a split; arguments name columns as `fit_features` reads them.

        A row of the item or user table counts once, and only if that item or user has a
        training event.

        Args:
            split: gives the training events, and through its log the tables.
            item: columns of the table of items; "rating:mean" is the mean of the
                events' column "rating", see `audience_means`.
            user: columns of the table of users.
            event: columns of the events, read for past events.
            situation: columns of the events, read for the event that is asked for. They
                must be known before it.

        Raises:
            DataError: a table or column is absent or unfit.
        """
        trained = {
            "item": split.items.ids[split.item_counts > 0],
            "user": split.users.ids[split.train.lengths > 0],
        }

        def table(part: str) -> pd.DataFrame:
            if part not in trained:
                return pd.DataFrame(dict(split.train.attributes))
            known = _table(split, part, asked[part])
            return known[known.index.isin(trained[part])]

        asked = {"item": item, "user": user, "event": event, "situation": situation}
        return cls(
            **{
                p: fit_features(table(p), names, label(split, p))
                for p, names in asked.items()
                if names
            }
        )

    def table_codes(
        self, split: Split, part: Literal["item", "user"]
    ) -> list[np.ndarray]:
        """The table of all items or users in codes: per feature an array whose row i + 1 is the i-th id.

        Row 0 is zero for items, whose index 0 is padding; for users it is the unknown
        user. An id that the table lacks is unknown. Where the log is gone, arrays are
        one row high: their content is in a run's weights.
        """
        if split.log is None:
            return [feature.encode([None]) for feature in getattr(self, part)]
        ids = (split.items if part == "item" else split.users).ids
        codes = []
        for feature in getattr(self, part):
            table = _table(split, part, [feature.name])
            at = table.index.get_indexer(pd.Index(ids))
            known = feature.encode(
                plain_values(table[feature.name].iloc[at[at >= 0]]), label(split, part)
            )
            unknown = feature.encode([None])
            every = np.zeros((len(ids) + 1, *known.shape[1:]), unknown.dtype)
            every[(slice(None), slice(1)) if known.ndim == 2 else slice(None)] = unknown
            every[1:][at >= 0] = known
            if part == "item":
                every[0] = 0
            codes.append(every)
        return codes

    def situation_columns(
        self, given: Mapping[str, Any] | None, rows: int
    ) -> dict[str, list[Any]]:
        """One situation for all of `rows` questions, as columns; what names a user feature is of the profile.

        Raises:
            DataError: a name is neither a situation feature of the model nor a user
                feature.
        """
        columns = {feature.name: PROFILE + feature.name for feature in self.user}
        columns |= {feature.name: feature.name for feature in self.situation}
        for name in given or {}:
            if name not in columns:
                names = [feature.name for feature in self.situation]
                mend = (
                    f"it knows {', '.join(names)}"
                    if names
                    else "it was trained without situation_features"
                )
                mend += (
                    f"; of a profile, it knows {', '.join(f.name for f in self.user)}"
                    if self.user
                    else ""
                )
                raise DataError(
                    f"unknown situation '{name}': the model does not read it; {mend}"
                )
        return {columns[name]: [value] * rows for name, value in (given or {}).items()}

    @property
    def event_columns(self) -> list[str]:
        """Columns of the events that the model reads."""
        return sorted({feature.name for feature in (*self.event, *self.situation)})

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            part.name: [feature.to_json() for feature in getattr(self, part.name)]
            for part in fields(self)
        }

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> FeatureSet:
        """The features that `to_json` described."""
        return cls(
            **{
                part: tuple(map(Feature.from_json, features))
                for part, features in about.items()
            }
        )


def label(split: Split, part: str) -> str:
    """What messages call the table of a part."""
    return (
        f"{split.name}, table of {part}s"
        if part in ("item", "user")
        else f"{split.name}, events"
    )


def audience_means(split: Split, column: str) -> pd.Series:
    """Each item's mean of a column of the events, over its training events alone, so that nothing held out leaks in.

    It is drawn to the mean of all, as if the item had 5 more events with it: one rating
    makes no masterpiece. An item without such an event has none. The mean of what an
    event belongs to holds that event too.

    Raises:
        DataError: a value is not a finite number.
    """
    where = f"{label(split, 'event')}, column '{column}'"
    values = pd.Series(
        numbers(plain_values(pd.Series(split.train.attributes[column])), where, column)
    )
    by_item = values.groupby(split.items.decode(split.train.items))
    total, count = by_item.sum(), by_item.count()
    means = (total + WEIGHT * values.mean()) / (count + WEIGHT)
    return means.where(count > 0).rename(f"{column}:mean").rename_axis("item")


def _table(split: Split, part: str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """The table of items or users, with the audience's means among `columns`."""
    if split.log is None:
        raise DataError(
            f"{split.name}: {part}_features need the log, which a run folder does not"
            " hold; load it anew"
        )
    table = split.log.items if part == "item" else split.log.users
    for column in [
        name.removesuffix(":mean")
        for name in columns
        if part == "item" and name.endswith(":mean")
    ]:
        if column in split.train.attributes and (
            table is None or f"{column}:mean" not in table.columns
        ):
            means = audience_means(split, column).to_frame()
            table = means if table is None else table.join(means, how="outer")
    if table is None:
        raise DataError(
            f"{split.name}: {part}_features need a table of {part}s; give the log one"
            f" with {part}s="
        )
    return table
