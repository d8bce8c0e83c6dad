"""Stage 1a: a checked log of who took what, and when.

Everything after this file may trust an :class:`Interactions`: ids are exact, times are
whole seconds, nothing is missing. All cleaning happens here, once, and every mistake in
the data is one :class:`DataError` line that names the file, the row, the column and the
mend.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from attncore.errors import DataError
from attncore.readers import (
    EARLY,
    TICKS,
    Layout,
    attribute,
    check_kinds,
    clean,
    kinds_in,
    present,
    read_known,
    read_table,
    require_one_era,
    require_tie,
    roles_of,
    told_shares,
)

logger = logging.getLogger(__name__)


class ShownSlates(Protocol):
    """What a log must know of the slates beside it: see `attncore.ranking.slates`."""

    @property
    def candidates(self) -> pd.Index:
        """The ids of all items that were shown."""

    def only_users(self, users: Sequence[Any]) -> ShownSlates:
        """The slates of some users alone."""

    def indexed(self, users: Any, items: Any, histories: Any) -> Any:
        """The slates in indices: what `Split.slates` is."""


@dataclasses.dataclass(frozen=True)
class ReadSummary:
    """What cleaning did to a log; all zero for a log that was built, not read.

    Attributes:
        read: rows in the source.
        kept: events in the log.
        dropped: reason -> rows. Every row that was read is kept, or dropped for one.
        notes: what was taken to be so and need not be: the order of rows, the kinds of
            attributes, how far the tables reach, and what else a person should know.
    """

    read: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = dataclasses.field(default=(), compare=False)

    def __str__(self) -> str:
        """All of it in one line."""
        return "; ".join(self.parts())

    def parts(self) -> list[str]:
        """What there is to say: of rows, of those dropped, and each note."""
        reasons = ", ".join(
            f"{count:,} {reason.removesuffix('s') if count == 1 else reason}"
            for reason, count in self.dropped.items()
        )
        said = [f"{self.read:,} row{'s' * (self.read != 1)} read, {self.kept:,} kept"]
        said += [f"dropped: {reasons}"] if reasons else []
        return [*said, *self.notes]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """A log of events, checked, with what is known about its users and items.

    Raises:
        DataError: a column is absent, missing a value, or of the wrong type.
    """

    # "user", "item" (int64 or str), "time" (int64 Unix seconds), then attributes.
    events: pd.DataFrame
    users: pd.DataFrame | None = (
        None  # indexed by user id; need not hold every user, may hold others
    )
    items: pd.DataFrame | None = (
        None  # indexed by item id; need not hold every item, may hold others
    )
    name: str = "log"
    has_time: bool = True  # False: "time" is the row number
    repeats: bool = (
        False  # True: a user takes an item again and again, as with groceries
    )
    summary: ReadSummary = ReadSummary()
    slates: ShownSlates | None = (
        None  # candidates that were shown, and which of them were taken
    )

    def __post_init__(self) -> None:
        for column, allowed in {
            "user": ("int64", "str"),
            "item": ("int64", "str"),
            "time": ("int64",),
        }.items():
            values = (
                self.events[column]
                if column in self.events
                else pd.Series(dtype=object)
            )
            if str(values.dtype) not in allowed or values.isna().any():
                raise DataError(
                    f"{self.name}: the events need a column '{column}' of"
                    f" {' or '.join(allowed)} without gaps; use Interactions.from_frame"
                )
        if not self.events.index.equals(pd.RangeIndex(len(self.events))):
            raise DataError(
                f"{self.name}: events are not numbered 0, 1, 2, …; use"
                " reset_index(drop=True)"
            )
        for key, table in (("user", self.users), ("item", self.items)):
            if table is None:
                continue
            ids, dtype, where = (
                table.index,
                self.events[key].dtype,
                f"{self.name}, table of {key}s",
            )
            if ids.name != key:
                raise DataError(
                    f"{where}: no column or index '{key}' but '{ids.name}'; name the id"
                    " column"
                )
            if ids.has_duplicates:
                raise DataError(
                    f"{where}: {key} {ids[ids.duplicated()].tolist()[0]!r} is there"
                    " twice; keep one row"
                )
            if ids.dtype != dtype:
                raise DataError(
                    f"{where}: ids are {ids.dtype}, in the events {dtype}; make them"
                    " one type"
                )

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        user: str = "user",
        item: str = "item",
        time: str | None = "time",
        **how: Any,
    ) -> Interactions:
        """Clean a pandas frame into a log.

        :func:`read_interactions`, with its options, on a frame.
        """
        return read_interactions(frame, user, item, time, **how)

    @property
    def n_users(self) -> int:
        """Number of distinct users in the events."""
        return int(self.events["user"].nunique())

    @property
    def n_items(self) -> int:
        """Number of distinct items in the events."""
        return int(self.events["item"].nunique())

    @property
    def checksum(self) -> str:
        """SHA-256 of the events as text, a line each.

        User, item, rating if there is one, time. Tab-separated in row order, so that of
        MovieLens-100K is the SHA-256 of GroupLens' own file u.data.
        """
        columns = [
            "user",
            "item",
            *(["rating"] if "rating" in self.events else []),
            "time",
        ]
        table = pa.Table.from_pandas(self.events[columns], preserve_index=False)
        digest = hashlib.sha256()
        for batch in table.to_batches(max_chunksize=1 << 16):
            lines = io.BytesIO()
            pacsv.write_csv(
                batch, lines, pacsv.WriteOptions(include_header=False, delimiter="\t")
            )
            digest.update(lines.getvalue())
        return digest.hexdigest()

    def k_core(self, min_count: int) -> Interactions:
        """Keep the largest part in which every user and item has `min_count` events.

        Dropping a rare item may make a user rare, so this repeats until nothing
        changes. Attributes of an event that point into the user's history (planted's
        `cause`) are not renumbered.
        """
        if min_count < 1:
            raise DataError(f"min_count is {min_count}; it must be at least 1")
        if self.slates is not None and min_count > 1:
            raise DataError(
                f"{self.name}: has slates, from which min_count={min_count} would take"
                " candidates; use 1"
            )
        users, items = (
            pd.factorize(self.events[column])[0] for column in ("user", "item")
        )
        keep = np.ones(len(self), dtype=bool)
        while True:
            rare = (np.bincount(users[keep], minlength=len(self)) < min_count)[users]
            rare |= (np.bincount(items[keep], minlength=len(self)) < min_count)[items]
            if not (rare & keep).any():
                break
            keep &= ~rare
        if not keep.any():
            raise DataError(
                f"{self.name}: no event is left with min_count={min_count}; use a"
                " smaller one"
            )
        dropped = dict(self.summary.dropped)
        if not keep.all():
            dropped[f"below min_count={min_count}"] = int((~keep).sum())
        read = self.summary.read or len(self)
        summary = ReadSummary(read, int(keep.sum()), dropped, self.summary.notes)
        return dataclasses.replace(
            self, events=self.events[keep].reset_index(drop=True), summary=summary
        )

    def only_users(self, users: Sequence[Any]) -> Interactions:
        """The log of some users alone: their events and slates.

        The tables of users and items stay as they are.

        Raises:
            DataError: none of them has an event.
        """
        events = self.events[self.events["user"].isin(users)].reset_index(drop=True)
        if events.empty:
            raise DataError(
                f"{self.name}: none of the {len(users)} users has an event; give ids of"
                " the log"
            )
        slates = None if self.slates is None else self.slates.only_users(users)
        return dataclasses.replace(self, events=events, slates=slates)

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        counts = f"{len(self):,} events, {self.n_users:,} users, {self.n_items:,} items"
        return f"Interactions({self.name}: {counts})"

    def __str__(self) -> str:
        """What it is, and a line on each thing that reading it had to say."""
        said = self.summary.parts() if self.summary.read else []
        return "\n  ".join([repr(self), *said])


def read_interactions(
    source: str | Path | pd.DataFrame,
    user: str = "user",
    item: str = "item",
    time: str | None = "time",
    *,
    users: str | Path | pd.DataFrame | None = None,
    items: str | Path | pd.DataFrame | None = None,
    name: str | None = None,
    repeats: bool = False,
    drop_duplicates: bool = True,
    min_count: int = 1,
    time_format: str | None = None,
    time_unit: str = "s",
    tie: str | None = None,
    in_order: bool = False,
    separator: str | None = None,
    header: bool = True,
    quoted: bool = True,
    kinds: Mapping[str, str] | None = None,
) -> Interactions:
    """Read a log of events from a file, a folder of parts or a frame, and clean it.

    Nothing is guessed in silence: what is not certain is refused in one line, or said
    in the log's `summary`, which `print(log)` shows.

    - Ids are kept exactly. In .csv and .tsv a column becomes int64 if every value is
      written as an int64 would be, else it is text ("007" stays "007"; among whole
      numbers alone, "NaN" or "NULL" is a missing one); elsewhere the columns have
      types, which are kept. Nothing passes through floating point. UUIDs become text,
      and whole numbers wider than int64 too, where a file has them as text.
    - Rows keep their order, for ties in time are broken by it, unless `tie` breaks
      them; they need not be in order of time.
    - A row without a user, an item or a time says nothing: it is dropped, and counted
      in `summary`. A value that is there but cannot be read is an error.
    - An event with the same user, item and time as an earlier one, to the last fraction
      of a second, is a duplicate and is dropped. A log without times has none: there
      the same pair twice is two events.
    - Times finer than a second are rounded down, after the rows were sorted by them.
      Times before 1970 or after 2100 are an error, and so are some from before 1975
      beside others of our days.
    - Every other column is kept as an attribute of the event, unless its name is taken.

    Args:
        source: .csv, .tsv or .jsonl (an object a line) in UTF-8, plain or .gz,
            .parquet, a folder of .parquet parts, or a frame. Messages count rows as a
            spreadsheet shows them, header = 1; lines of .jsonl and rows of .parquet
            count from 1, those of a frame from 0.
        user: column of user ids, int64 or text.
        item: column of item ids, int64 or text.
        time: column of Unix seconds or ISO 8601 dates (UTC unless they say otherwise).
            None: the order of rows is the order of time. It is so too where there is no
            column "time", nor another that looks like one.
        users: what is known about users: a file with the column `user`, or a frame
            indexed by it.
        items: what is known about items: a file with the column `item`, or a frame
            indexed by it.
        name: shown in messages; by default the file's name without its ending.
        repeats: True where users take the same item again and again, as with groceries.
        drop_duplicates: False keeps duplicates.
        min_count: see `Interactions.k_core`.
        time_format: how to read dates that are not ISO 8601, as in `strptime`.
        time_unit: unit of numeric times: "s", "ms", "us" or "ns".
        tie: a column of numbers or text by which events of one time are ordered, such
            as the place in a basket.
        in_order: True says that rows are in order of time, and no column is read as
            one, as does `time=None`.
        separator: what stands between the cells of a text file; by default the comma of
            .csv and the tab of .tsv. Files of other endings need it, such as "::".
        header: False where a text file does not name its columns in row 1; they are
            then called "1", "2", … from the left.
        quoted: False where quotes in a text file are letters and nothing else.
        kinds: what attributes are, by column of the log or of either table: "number",
            "category", "categories" (text is split at each "|") or "words". Others are
            numbers if all of them are.

    Raises:
        DataError: one line that names the file, row and column, and the mend.
    """
    kinds = dict(kinds or {})
    time = None if in_order else time
    check_kinds(kinds, {"user": user, "item": item, "time": time})
    as_text = [column for column, kind in kinds.items() if kind != "number"]
    layout = Layout(separator, header, quoted)
    frame, where = read_table(source, (user, item, time, *as_text), layout)
    if isinstance(source, pd.DataFrame):
        frame = frame.reset_index(drop=True)
    if time_unit not in TICKS:
        raise DataError(f"time_unit is '{time_unit}'; it is one of {', '.join(TICKS)}")
    roles = roles_of(frame, user, item, time, where)
    require_tie(frame, tie, where)
    rows = len(frame)
    frame, dropped = present(frame, roles, where)
    if frame.empty:
        raise DataError(
            f"{where.name}: no events ({rows} rows below the header); a row needs a"
            " user and an item"
        )
    columns, finer = clean(frame, roles, where, time_format, TICKS[time_unit])
    order = np.arange(len(frame))
    if finer is None:
        columns["time"], fraction = order, np.zeros(len(frame))
    else:
        fraction, early = finer, columns["time"][columns["time"] < EARLY]
        first = None if early.empty else (early.index[0], int(early.iloc[0]))
        require_one_era(first, int(columns["time"].max()), where, roles["time"])
    place = order if tie is None else _places(frame, tie, where.name)
    if tie is not None or fraction.any():
        order = np.lexsort((place, fraction, columns["time"].to_numpy()))
    attributes = frame.drop(columns=[*roles.values(), *columns], errors="ignore")
    attributes = attributes.apply(lambda values: attribute(values, kinds, where))
    events = pd.concat([columns, attributes], axis=1).iloc[order]
    moments = columns[["user", "item", "time"]].assign(fraction=fraction, place=place)
    moments = moments.iloc[order]
    if drop_duplicates:  # without times none is one: every row number is another
        twice = moments.duplicated(["user", "item", "time", "fraction"]).to_numpy()
        dropped["duplicates"] = int(twice.sum())
        events, moments = events[~twice], moments[~twice]
    notes = where.notes
    at = ["user", "time", "fraction", *(["place"] if tie is not None else [])]
    tied = int(moments.duplicated(at, keep=False).sum())
    again = int(moments.duplicated(["user", "item"]).sum())
    notes += told_shares(len(events), tied, 0 if repeats else again)
    if len(attributes.columns):
        notes.append(f"attributes of events: {kinds_in(attributes, kinds)}")
    known = {
        role: (
            None
            if table is None
            else read_known(table, role, roles[role], events[role], kinds, notes)
        )
        for role, table in (("user", users), ("item", items))
    }
    summary = ReadSummary(
        rows,
        len(events),
        {reason: count for reason, count in dropped.items() if count},
        tuple(notes),
    )
    logger.info("%s: %s", where.name, summary)
    for column in kinds:
        if not any(
            table is not None and column in table.columns
            for table in (events, *known.values())
        ):
            raise DataError(
                f"{where.name}: no column '{column}' here or in a table; kinds="
                " (--kinds) names columns that exist"
            )
    name = name or (
        "log" if isinstance(source, pd.DataFrame) else Path(source).name.split(".")[0]
    )
    events = events.reset_index(drop=True)
    log = Interactions(
        events, known["user"], known["item"], name, finer is not None, repeats, summary
    )
    return log if min_count == 1 else log.k_core(min_count)


def _places(frame: pd.DataFrame, tie: str, name: str) -> np.ndarray:
    """Where a column that breaks ties puts each row; empty cells come last."""
    try:
        places, _ = pd.factorize(frame[tie], sort=True)
    except TypeError:
        raise DataError(
            f"{name}: '{tie}' holds both text and numbers, which have no order; write"
            " them alike"
        ) from None
    return np.where(places < 0, len(places), places)
