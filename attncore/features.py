"""Stage 1c: attributes of items, users, events and situations become numbers.

A column is one of four kinds. Categories become codes: 0 is padding, 1 is unknown, and
from 2 on come the values that training holds, in order of their text. Numbers are
normalized by what training holds; a missing one is NaN. All of that is learned from
training rows alone, so nothing of the test can leak in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from attncore.errors import DataError, one_line
from attncore.readers import KINDS, MANY, looks_like, plain_values
from attncore.splits import Split

Transform = Literal["zscore", "quantile", "log"]
TRANSFORMS = get_args(Transform)
# Letters and digits, with the apostrophe of "don't".
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
UNKNOWN, FIRST = 1, 2  # codes; 0 is padding
LARGEST = float(np.finfo(np.float32).max)
# So begin the names of the columns, among those of the situation, that tell a profile.
PROFILE = "profile: "
WEIGHT = 5  # ratings at the overall mean that an item's own are joined with


@dataclass(frozen=True)
class Feature:
    """One attribute, and what training taught about it; `fit_features` makes it.

    Attributes:
        name: the column.
        kind: "category" (one value), "categories" (several, such as genres), "words"
            (the words of a text) or "number".
        transform: how a number is normalized: "zscore" (mean 0, deviation 1), "log"
            (z-score of the signed log(1 + abs(x))) or "quantile" (from -1, training's
            least, over 0, its median, to 1).
        values: the known values of a category as text; `values[i]` has code i + 2. 3,
            3.0 and "3" are one value.
        statistics: of a number: mean and deviation, or training's quantiles at equal
            steps.
    """

    name: str
    kind: str
    transform: Transform = "zscore"
    values: tuple[str, ...] = ()
    statistics: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.transform not in TRANSFORMS:
            raise ValueError(
                f"feature {self.name!r}: no kind {self.kind!r} with transform"
                f" {self.transform!r}"
            )

    @property
    def size(self) -> int:
        """How many codes there are, with padding and unknown; 0 for a number."""
        return 0 if self.kind == "number" else FIRST + len(self.values)

    def encode(
        self, column: Sequence[Any] | np.ndarray | pd.Series, label: str = "values"
    ) -> np.ndarray:
        """The column as the model reads it; `label` names its table in messages.

        Returns:
            int32 codes (n,) of a category; int32 codes (n, M) of categories or words,
            padded with 0 on the right, where M is the longest row (1 at least) and a
            row with no value at all is padding alone; float32 (n,) of a number. What is
            missing or was never seen in training is 1, missing numbers are NaN.

        Raises:
            DataError: a number is not one, or not finite.
        """
        where = f"{label}, column '{self.name}'"
        as_is = isinstance(column, np.ndarray | pd.Series)
        series = pd.Series(column, dtype=None if as_is else object)
        if self.kind == "number":
            found = self._normalized(numbers(series, where, self.name))
            return found.clip(-LARGEST, LARGEST).astype(np.float32)
        place, rows = _distinct(series, self.kind, where)
        texts = pd.Index([text for row in rows for text in row], dtype=object)
        # The last row is for what is missing: its place is -1.
        lengths = np.array([*map(len, rows), 1])
        filled = np.arange(lengths.max()) < lengths[:, None]
        codes = np.zeros(filled.shape, np.int32)
        # -1, not found, becomes 1.
        found = pd.Index(self.values, dtype=object).get_indexer(texts)
        codes[filled] = np.append(found + FIRST, UNKNOWN)
        return codes[place, 0] if self.kind == "category" else codes[place]

    def _normalized(self, values: np.ndarray) -> np.ndarray:
        if self.transform == "quantile":
            knots, same = np.unique(self.statistics, return_inverse=True)
            many = len(self.statistics)
            steps = np.linspace(-1, 1, many) if many > 1 else np.zeros(1)
            # Of equal quantiles, the middle one.
            middle = np.bincount(same, steps) / np.bincount(same)
            # Knots that nearly touch make a slope that overflows: nothing lies beyond.
            placed = np.interp(values, knots, middle).clip(middle[0], middle[-1])
            return np.where(np.isnan(values), np.nan, placed)
        mean, deviation = self.statistics
        scaled = _signed_log(values) if self.transform == "log" else values
        return (scaled - mean) / deviation

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads: text, numbers and lists only."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> Feature:
        """The feature that `to_json` described."""
        settings: Any = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in about.items()
        }
        return cls(**settings)


def fit_features(
    table: pd.DataFrame, columns: Sequence[str], label: str
) -> tuple[Feature, ...]:
    """Learn vocabularies and statistics from a table that holds training rows only.

    Args:
        table: a row per training item, user or event.
        columns: names of columns; "name:kind" or "name:transform" says what it is.
            Otherwise numbers are z-scored, tuples and lists are categories, text is a
            category, and the text in "title" is words. As categories, text is split at
            each "|".
        label: names the table in messages.

    Raises:
        DataError: no such column, one asked for twice, or values that are no attribute
            (dates, say).
    """
    found: list[Feature] = []
    for column in columns:
        name, _, how = column.rpartition(":")
        if column in table.columns or how not in (*KINDS, *TRANSFORMS):
            name, how = column, ""
        if name not in table.columns:
            names = ", ".join(f"'{other}'" for other in table.columns) or "none"
            raise DataError(f"{label}: no column '{name}'; its columns are {names}")
        if name in [feature.name for feature in found]:
            raise DataError(
                f"{label}: '{name}' is asked for twice; name each column once"
            )
        values, where = plain_values(table[name]), f"{label}, column '{name}'"
        transform: Any = how if how in TRANSFORMS else "zscore"
        kind = "number" if how in TRANSFORMS else how or looks_like(values)
        if kind is None:
            first = next(iter(values.dropna()))
            raise DataError(
                f"{where}: is {type(first).__name__}; make it numbers, text or tuples"
            )
        if kind == "number":
            statistics = _statistics(numbers(values, where, name), transform)
            found.append(Feature(name, kind, transform, statistics=statistics))
        else:
            texts = {text for row in _distinct(values, kind, where)[1] for text in row}
            found.append(Feature(name, kind, values=tuple(sorted(texts))))
    return tuple(found)


def encode_columns(
    features: Sequence[Feature], columns: Mapping[str, Any], rows: int, label: str
) -> dict[str, np.ndarray]:
    """Each feature's column encoded, `rows` long.

    A column that is absent is unknown throughout.
    """
    return {
        feature.name: (
            feature.encode(columns[feature.name], label)
            if feature.name in columns
            else np.repeat(feature.encode([None]), rows, axis=0)
        )
        for feature in features
    }


def _distinct(
    values: pd.Series, kind: str, where: str
) -> tuple[np.ndarray, list[list[str]]]:
    """The texts of each distinct value, and each row's place among them.

    -1 where the value is missing.
    """
    # Tuples can be looked up, lists and sets cannot.
    plain = pd.Series([_hashable(value) for value in values], dtype=object)
    try:
        place, distinct = pd.factorize(plain.to_numpy())
    except TypeError:
        raise DataError(
            f"{where}: holds lists in lists, or objects; make it numbers, text or flat"
            " lists"
        ) from None
    return place, [_texts(value, kind) for value in distinct]


def _hashable(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return tuple(sorted(value, key=str))
    return tuple(value) if isinstance(value, MANY) else value


def _texts(value: Any, kind: str) -> list[str]:
    if kind == "words":
        return WORD.findall(str(value).lower())
    if kind == "categories" and isinstance(value, str):
        return [part.strip() for part in value.split("|") if part.strip()]
    parts = value if kind == "categories" and isinstance(value, tuple) else (value,)
    return [
        str(int(p) if isinstance(p, float | np.floating) and p.is_integer() else p)
        for p in parts
    ]


def numbers(values: pd.Series, where: str, name: str) -> np.ndarray:
    """A column as float64, NaN where missing.

    Args:
        values: what may be numbers.
        where: names table and column in messages.
        name: what to ask for instead.

    Raises:
        DataError: a value is not a finite number.
    """
    readable = values
    if values.dtype == object:
        readable = values.map(
            lambda v: v if isinstance(v, int | float | str | np.number) else np.nan
        )
    found = pd.to_numeric(readable, errors="coerce").to_numpy(
        np.float64, na_value=np.nan
    )
    wrong = values.notna().to_numpy() & ~(np.abs(found) <= LARGEST)
    if wrong.any():
        at = int(wrong.argmax())
        shown = one_line(repr(values.iloc[at : at + 1].tolist()[0]))
        wide = " of 32 bits" if np.isfinite(found[at]) else ""
        raise DataError(
            f"{where}: {shown} is not a finite number{wide}; mend it, or ask for"
            f" '{name}:category'"
        )
    return found


def _statistics(values: np.ndarray, transform: Transform) -> tuple[float, ...]:
    known = values[~np.isnan(values)]
    if transform == "quantile":
        steps = np.linspace(0, 1, 101)
        return tuple(np.quantile(known, steps).tolist()) if len(known) else (0.0,)
    known = _signed_log(known) if transform == "log" else known
    if len(known) == 0:
        return 0.0, 1.0
    mean, deviation = float(known.mean()), float(known.std())
    # Less is rounding
    return mean, (deviation if deviation > 1e-12 * max(1.0, abs(mean)) else 1.0)


def _signed_log(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values))


@dataclass(frozen=True)
class FeatureSet:
    """The features of a model.

    Of items, of users, of past events, and of the situation that is asked in.
    """

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
        """Learn from the training part of a split.

        Arguments name columns as `fit_features` reads them. A row of the item or user
        table counts once, and only if that item or user has a training event.

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
        found = {
            part: fit_features(table(part), names, label(split, part))
            for part, names in asked.items()
            if names
        }
        return cls(**found)

    def table_codes(
        self, split: Split, part: Literal["item", "user"]
    ) -> list[np.ndarray]:
        """The table of all items or users in codes.

        Per feature an array whose row i + 1 is the i-th id. Row 0 is zero for items,
        whose index 0 is padding; for users it is the unknown user. An id that the table
        lacks is unknown. Where the log is gone, arrays are one row high: their content
        is in a run's weights.
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
        """One situation for all of `rows` questions, as columns.

        What names a user feature is of the profile.

        Raises:
            DataError: a name is neither a situation feature of the model nor a user
                feature.
        """
        columns = {feature.name: PROFILE + feature.name for feature in self.user}
        columns |= {feature.name: feature.name for feature in self.situation}
        for name in given or {}:
            if name not in columns:
                known, profile = (
                    ", ".join(feature.name for feature in part)
                    for part in (self.situation, self.user)
                )
                mend = "it was trained without situation_features"
                mend = f"it knows {known}" if known else mend
                mend += f"; of a profile, it knows {profile}" if profile else ""
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
    """Each item's mean of a column of the events, over its training events alone.

    So nothing held out leaks in. It is drawn to the mean of all, as if the item had 5
    more events with it: one rating makes no masterpiece. An item without such an event
    has none. The mean of what an event belongs to holds that event too.

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
    for name in columns if part == "item" else ():
        column = name.removesuffix(":mean")
        given = table is not None and name in table.columns
        if column != name and column in split.train.attributes and not given:
            means = audience_means(split, column).to_frame()
            table = means if table is None else table.join(means, how="outer")
    if table is None:
        raise DataError(
            f"{split.name}: {part}_features need a table of {part}s; give the log one"
            f" with {part}s= (--{part}-table)"
        )
    return table
