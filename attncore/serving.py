"""What one asks of a trained recommender: recommendations, similar items, new items.

All here are functions over any model that `Servable` describes, a baseline too; they
are a model's verbs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from attncore.errors import DataError, one_line
from attncore.evaluation import top_k_in_parts
from attncore.features import UNKNOWN, Feature, FeatureSet
from attncore.layers import evaluating
from attncore.readers import LATEST, plain_values
from attncore.sequences import Histories, Vocabulary, listed
from attncore.splits import Split

# Scores that exist at a time, whatever the catalogue: 4 MiB stay in a cache.
PART = 2**20
EVENTS = 4096  # events that are scored at a time: what fits a cache is quickest
CODES = "embedding.item.features.codes_"  # so begin the names of tables of items' codes

Asked = Sequence[Sequence[Any]] | Histories
Model = TypeVar("Model", bound="Servable")

logger = logging.getLogger(__name__)


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
    """Items for one user, best first: the log's own ids, and their scores.

    `unknown` counts what the model did not know of the question, and passed over: the
    user, and items of the history.
    """

    items: list[Any]
    scores: list[float]
    unknown: int = 0


def recommend(
    model: Servable,
    users: Any = None,
    histories: Asked | None = None,
    k: int = 10,
    candidates: Any = None,
    exclude_seen: bool | None = None,
    situation: Mapping[str, Any] | None = None,
    exclude: Any = (),
    only: Any = None,
    *,
    events: Asked | None = None,
    time: Any = None,
    strict: bool = False,
) -> list[Recommendation]:
    """The k best next items for each user or history; fewer where fewer are left.

    Who shares the call changes nothing but the last digits of the scores. Users and
    catalogue are worked through in parts, so memory does not grow with the number of
    users times items. Ids come in any flat collection; one alone stands for a list.

    Args:
        model: what is asked; left out where this is called as a method.
        users: ids of the log's users; their whole history counts, held-out events
            included. A user that the model does not know is answered as somebody new.
        histories: lists of item ids, oldest first, instead of users; or `Histories`,
            which have times too. An empty list is somebody new.
        k: how many items.
        candidates: item ids to choose from, all of which the model must know; None is
            the whole catalogue.
        exclude_seen: leave out items of the history; None does so unless the log has
            repeats.
        situation: values of situation features, by column: one for all, or a list with
            one each (for a column of several categories, a list of lists); what is
            absent is unknown. Values of user features describe the user, in place of
            the table of users.
        exclude: item ids that must not be shown.
        only: item ids that may be shown, such as what is in stock; it narrows
            `candidates` too.
        events: what the users did since the log ended, a list of item ids each, oldest
            first; or `Histories`, which have times and attributes too.
        time: the moment of asking, in the log's seconds or as a date, one for all or
            one each: what came after it in a history is not known yet, and `events` in
            lists are of that moment.
        strict: refuse ids that the model does not know. Otherwise those of users,
            histories, `events`, `exclude` and `only` are passed over, counted and
            logged.

    Raises:
        DataError: an id of another type than the log's; an unknown candidate or
            situation feature; with `strict`, any unknown id.
        ValueError: k below 1; neither or both of users and histories; or arguments of
            wrong lengths.
    """
    k = check_k(k)
    asked = questions(model, users, histories, situation, events, time, strict)
    how = (k, candidates, exclude_seen, asked.situation, exclude, only, strict)
    found = best(model, asked.histories, asked.users, *how)
    unknown = asked.unknown.tolist()
    return [replace(one, unknown=n) for one, n in zip(found, unknown, strict=True)]


def best(
    model: Servable,
    asked: Histories,
    rows: np.ndarray | None = None,
    k: int = 10,
    candidates: Any = None,
    exclude_seen: bool | None = None,
    situation: Mapping[str, Any] | None = None,
    exclude: Any = (),
    only: Any = None,
    strict: bool = False,
) -> list[Recommendation]:
    """`recommend` for histories, user rows and columns of the situation."""
    items = model.split.items
    if exclude_seen is None:
        exclude_seen = model.split.test.exclude_seen
    allowed = allowed_places(items, candidates, exclude, only, strict)
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
def similar_items(model: Any, items: Any, k: int = 10) -> list[Recommendation]:
    """The k items whose vectors have the highest cosine with each given item's.

    The item itself is left out.

    Raises:
        DataError: an unknown item; ValueError: k below 1.
    """
    given = model.split.items.encode(items).astype(np.int64) - 1
    catalogue_VD = model.item.catalogue()
    places_N = torch.from_numpy(given).to(catalogue_VD.device)
    unit_ND = nn.functional.normalize(catalogue_VD[places_N], dim=-1)

    def cosine(places: slice | Tensor) -> Tensor:
        return unit_ND @ nn.functional.normalize(catalogue_VD[places], dim=-1).T

    rows = np.arange(len(given))
    found = Best(len(given), min(check_k(k), len(catalogue_VD) - 1))
    found.fill(rows, cosine, len(catalogue_VD), None, (rows, given))
    return found.named(model.split.items.ids)


def check_k(k: Any) -> int:
    """How many items are wanted, if that is a whole number from 1 up."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k={one_line(repr(k))}: must be at least 1, a whole number")
    return int(k)


@dataclass(frozen=True)
class Questions:
    """What is asked, in the model's numbers.

    Attributes:
        histories: item indices, oldest first, a row for each question.
        users: user row of each, -1 where nobody is known; None where nobody was named.
        situation: columns of the situation, a value for each question.
        unknown: how many ids of each question were passed over.
    """

    histories: Histories
    users: np.ndarray | None
    situation: dict[str, list[Any]]
    unknown: np.ndarray


def questions(
    model: Servable,
    users: Any = None,
    histories: Asked | None = None,
    situation: Mapping[str, Any] | None = None,
    events: Asked | None = None,
    time: Any = None,
    strict: bool = False,
) -> Questions:
    """What `recommend` is asked, checked and in the model's numbers."""
    split, rows = model.split, None
    if (users is None) == (histories is None):
        raise ValueError(
            "give either users= or histories=; what a known user did since is events="
        )
    if events is not None and users is None:
        raise ValueError("events= are of users=; histories= hold all events themselves")
    if users is not None:
        ids = listed(users, "users")
        rows = split.users.find(ids).astype(np.int64) - 1
        unknown = (rows < 0).astype(np.int64)
        _pass_over(split.users, ids, rows + 1, strict)
        stops = np.where(rows < 0, 0, split.histories.lengths[rows])
        asked = split.histories.take(np.maximum(rows, 0), stops=stops)
    else:
        asked, unknown = _as_histories(split.items, histories, "histories", strict)
    moments = None if time is None else _moments(time, len(asked))
    if moments is not None:
        owner = np.repeat(np.arange(len(asked)), asked.lengths)
        late = np.bincount(owner[asked.times > moments[owner]], minlength=len(asked))
        asked = asked.take(np.arange(len(asked)), stops=asked.lengths - late)
    if events is not None:
        fresh, passed = _as_histories(split.items, events, "events", strict)
        if len(fresh) != len(asked):
            raise ValueError(f"events= has {len(fresh)} lists for {len(asked)} users")
        if not isinstance(events, Histories):
            newest = _newest_times(asked) if moments is None else moments
            fresh = replace(fresh, times=np.repeat(newest, fresh.lengths))
        asked, unknown = asked.followed_by(fresh), unknown + passed
    told = _columns(model.features, situation, len(asked))
    return Questions(asked, rows, told, unknown)


def _as_histories(
    items: Vocabulary, given: Any, name: str, strict: bool
) -> tuple[Histories, np.ndarray]:
    """Lists of item ids as histories, and how many of each were passed over."""
    if isinstance(given, Histories):  # indices already, with times and attributes
        highest = given.items.max(initial=1)
        if not 1 <= given.items.min(initial=1) <= highest <= len(items):
            raise DataError(f"{name}: item indices must be from 1 to {len(items):,}")
        return given, np.zeros(len(given), np.int64)
    plain = given.tolist() if hasattr(given, "tolist") else given
    is_list = not isinstance(plain, str | bytes | Mapping | None)
    rows = list(plain) if is_list and hasattr(plain, "__iter__") else [plain]
    for row in rows:
        if isinstance(row, str | bytes | Mapping) or not hasattr(row, "__iter__"):
            shown = one_line(repr(row))
            mend = f"give a list of lists, such as {name}=[[3, 5]]"
            raise DataError(f"{name}: {shown} is no list of item ids; {mend}")
    lists = [listed(row, name) for row in rows]
    ids = [one for row in lists for one in row]
    index = items.find(ids)
    _pass_over(items, ids, index, strict)
    owner = np.repeat(np.arange(len(lists)), [len(row) for row in lists])
    passed = np.bincount(owner[index == 0], minlength=len(lists))
    lengths = np.array([len(row) for row in lists], np.int64) - passed
    ends = np.cumsum(lengths)
    found = Histories.from_lists(np.split(index[index > 0], ends[:-1]) if rows else [])
    return found, passed


def _pass_over(
    known: Vocabulary, ids: Sequence[Any], index: np.ndarray, strict: bool
) -> None:
    """Log how many ids are unknown, or refuse them."""
    unknown = np.flatnonzero(index == 0)
    if len(unknown) == 0:
        return
    if strict:
        known.encode(ids)
    first, many = one_line(repr(ids[int(unknown[0])])), len(unknown) > 1
    what = f"{len(unknown):,} of {len(ids):,} {known.kind}s {'are' if many else 'is'}"
    shown = f"{first} …" if many else first
    logger.warning("%s unknown (%s) and passed over", what, shown)


def _moments(time: Any, rows: int) -> np.ndarray:
    """The moment of each question, in seconds, int64."""
    given = time.tolist() if isinstance(time, np.ndarray | Tensor) else time
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        given = [given] * rows
    found = []
    for one in given:
        try:
            is_number = isinstance(one, int | float | np.number)
            if isinstance(one, bool):
                raise ValueError
            moment = one if is_number else pd.to_datetime(one, utc=True).timestamp()
            if moment > LATEST:
                year = 1970 + int(min(moment, 1e18)) // 31_556_952
                raise OverflowError(f"lies in the year {year}")
            found.append(int(np.clip(np.floor(moment), -(2**62), 2**62)))
        except (ValueError, TypeError, OverflowError, AttributeError) as error:
            shown = one_line(repr(one))
            why = f"{error}; " if isinstance(error, OverflowError) else ""
            raise ValueError(f"time={shown}: {why}give seconds, or a date") from None
    if len(found) != rows:
        raise ValueError(f"time= has {len(found)} moments for {rows} questions")
    return np.array(found, np.int64)


def _newest_times(histories: Histories) -> np.ndarray:
    """The time of each row's newest event, 0 where there is none."""
    last = np.maximum(histories.offsets[1:] - 1, 0)
    times = np.append(histories.times, 0)[last]
    return np.where(histories.lengths > 0, times, 0)


def _columns(
    features: FeatureSet, given: Mapping[str, Any] | None, rows: int
) -> dict[str, list[Any]]:
    """A situation as columns with a value for each question."""
    if given is not None and not hasattr(given, "keys"):
        raise ValueError("situation= takes values by name, such as {'store': 3}")
    known = {one.name: one for one in (*features.user, *features.situation)}
    values = {} if given is None else dict(given)
    columns = features.situation_columns(values, 1)
    found = {
        column: _each(known[name], value, rows)
        for (name, value), column in zip(values.items(), columns, strict=True)
    }
    for name, column in zip(values, columns, strict=True):
        _tell_unseen(known[name], found[column])
    return found


def _tell_unseen(feature: Feature, values: list[Any]) -> None:
    """Log a value of a situation that the model has not seen: to it, it is none."""
    if feature.kind not in ("category", "categories"):
        return
    each = pd.Series(list({repr(one): one for one in values}.values()), dtype=object)
    codes = feature.encode(each, f"situation '{feature.name}'")
    unseen = (codes == UNKNOWN).reshape(len(each), -1).any(1)
    told = each[unseen & each.notna().to_numpy()]
    if len(told):
        what = "situation '%s': the model has not seen %s, which it takes for unknown"
        logger.warning(what, feature.name, one_line(repr(told.iloc[0])))


def _each(feature: Feature, value: Any, rows: int) -> list[Any]:
    """A value of a situation feature for each of some questions."""
    name, many = feature.name, tuple | set | frozenset
    is_column = isinstance(value, list | np.ndarray | pd.Series | pd.Index | Tensor)
    plain = value.tolist() if hasattr(value, "tolist") else value
    if is_column and feature.kind == "categories" and isinstance(plain, list):
        is_column = any(isinstance(one, list | many) for one in plain)  # else one value
    each = plain if is_column and isinstance(plain, list) else [plain] * rows
    if len(each) != rows:
        raise ValueError(
            f"situation '{name}': has {len(each)} values for {rows} questions; give one"
            " for all, or one each"
        )
    for one in each:
        parts = list(one) if isinstance(one, list | many) else [one]
        if not all(
            part is None or part is pd.NA or np.isscalar(part) for part in parts
        ):
            shown = one_line(repr(one))
            raise ValueError(f"situation '{name}': {shown} is no value of it")
    return each


def allowed_places(
    items: Vocabulary, candidates: Any, exclude: Any, only: Any, strict: bool
) -> np.ndarray | None:
    """Places in the catalogue of what may be shown, ascending; None for all of them."""
    hidden = listed(() if exclude is None else exclude, "exclude")
    if candidates is None and only is None and not hidden:
        return None
    shown = np.full(len(items) + 1, candidates is None)
    if candidates is not None:
        shown[items.encode(listed(candidates, "candidates"))] = True
    if only is not None:
        listed_only = listed(only, "only")
        index = items.find(listed_only)
        _pass_over(items, listed_only, index, strict)
        shown &= np.isin(np.arange(len(shown)), index)
    index = items.find(hidden)
    _pass_over(items, hidden, index, strict)
    shown[index] = False
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
        rows = zip(ids[self.places], self.values, count, strict=True)
        return [Recommendation(i[:n].tolist(), v[:n].tolist()) for i, v, n in rows]


def _places(histories: Histories) -> tuple[np.ndarray, np.ndarray]:
    """Row, and place in the catalogue, of every event."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    return rows, histories.items.astype(np.int64) - 1


def with_items(model: Any, table: pd.DataFrame) -> Any:
    """The model with new items, which it knows by their attributes alone.

    This one stays as it is. What the other items and all histories are is kept, so that
    the new model recommends, is exported and is saved like any other. A new item's own
    vector and bias are 0, their mean over the catalogue as training begins, so that its
    features speak for it. A value that the model has not seen is unknown to it; how
    many are is logged.

    Args:
        model: what is extended; left out where this is called as a method.
        table: a row per new item, with its id in the column "item" or else as the
            index, which then does more than count rows; the other columns are those of
            the log's table of items.

    Raises:
        DataError: the model has no item features, a column is missing or unfit, or an
            id is of another type than the log's, known already, or given twice.
    """
    known = model.split.items
    if not model.features.item:
        raise DataError(
            "new items need a model trained with item_features: nothing else is known"
            " of them"
        )
    if not isinstance(table, pd.DataFrame):
        raise DataError("new items: give a table, a pandas.DataFrame with a row each")
    if "item" in table.columns:
        table = table.set_index("item")
    elif table.index.name is None and table.index.equals(pd.RangeIndex(len(table))):
        names = ", ".join(repr(str(name)) for name in table.columns)
        raise DataError(
            "new items: its index only counts the rows; call the column of ids 'item'"
            f" (the columns are {names})"
        )
    index = known.find(table.index)
    kind = np.int64 if known.is_number else object
    ids = np.array(listed(table.index, "new items"), kind)
    twice = (index > 0) | table.index.duplicated()
    if twice.any():
        raise DataError(f"new item {ids[twice][0]}: is known already, or given twice")
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
        unseen = codes == UNKNOWN if codes.dim() == 1 else (codes == UNKNOWN).any(1)
        told = unseen.numpy() & values.notna().to_numpy()
        if feature.kind in ("category", "categories") and told.any():
            logger.warning(
                "new items: %d of %d have a '%s' that the model has not seen: %s …",
                told.sum(),
                len(told),
                feature.name,
                one_line(values[told].iloc[0]),
            )
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
        codes = nn.functional.pad(codes, (0, wide - codes.shape[1]))
        more = nn.functional.pad(more, (0, wide - more.shape[1]))
    return torch.cat([codes, more.to(codes)])
