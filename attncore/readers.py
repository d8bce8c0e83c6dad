"""Stage 1a, the smallest part.

Columns as they come become exact ids and whole seconds, or one clear error. A table may
come whole or in chunks: what is decided by a whole column (is it numbers or text?) is
decided by counts that add up, `written`, so that both are cleaned alike.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import decimal
import gc
import gzip
import io
import itertools
import json
import re
import uuid
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api import types

from attncore.errors import DataError, expect_path, one_line

# As int would print it: "007" and "+7" are names, not numbers.
INTEGER = r"0|-?[1-9][0-9]*"
NUMBER = r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"
DECIMAL = NUMBER.replace("[0-9]+", "(?:0|[1-9][0-9]*)", 1)
# What a spreadsheet makes of a long number: its last digits are lost.
SHORTENED = r"-?[0-9]\.[0-9]+E\+[0-9]{2,}"
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
LATEST = 4_102_444_800  # 2100-01-01; times from 1970 to here are believed
EARLY = 157_766_400  # 1975-01-01; before it, times are counts rather than dates
RECENT = 631_152_000  # 1990-01-01; from then on, logs are kept
KINDS = ("number", "category", "categories", "words")
MANY = (tuple, list, set, frozenset, np.ndarray)
# What stands for nothing among whole numbers.
GAPS = ("", "nan", "NaN", "NA", "N/A", "null", "NULL", "None", "<NA>")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
LINES = {".jsonl": ".jsonl", ".ndjson": ".jsonl"}
ENDINGS = ".csv, .tsv or .jsonl (each also .gz), or .parquet"
SIGNS = ("::", "\t", ";", "|", ",", " ")  # what separates the cells of other files
ROWS = 1 << 16  # of a chunk
NO_TEXT = "is no file of text; leave separator, header and quoted out"
UNQUOTED = "pass quoted=False (--no-quotes) where they are letters"
UNIT = "\x1f"  # stands for a separator of several characters


@dataclass(frozen=True)
class Layout:
    """How a file of text is written.

    Attributes:
        separator: what stands between cells; None goes by the ending. One of several
            characters, such as "::", means that nothing is quoted.
        header: whether row 1 names the columns; else they are called "1", "2", ….
        quoted: whether a cell may stand in quotes; else a quote is a letter.
    """

    separator: str | None = None
    header: bool = True
    quoted: bool = True


@dataclass(frozen=True)
class Source:
    """What messages call a table, and where its rows stand.

    Attributes:
        name: a path, or "frame".
        parts: of a folder: each file, and how many rows it has. Rows are numbered from
            1 through all of them.
        layout: of a file of text.
        notes: what reading it has to say.
    """

    name: str
    parts: tuple[tuple[str, int], ...] = ()
    layout: Layout | None = None
    notes: list[str] = field(default_factory=list)

    def row(self, number: Any) -> str:
        """`log.csv row 7`; of a folder, the file and the row in it."""
        for part, rows in self.parts:
            if number <= rows:
                return f"{part} row {number}"
            number -= rows
        return f"{self.name} row {number}"


class RefusedError(DataError):
    """A value that cannot be cleaned.

    Attributes:
        step: how many checks of its column, or of its table, come before. Of values
            that are refused, a table names the first of those with the lowest step.
    """

    def __init__(self, text: str, step: tuple[int, ...] = (0,)) -> None:
        super().__init__(text)
        self.step = step


def written(values: pd.Series) -> Counter[str]:
    """How the cells of a column of text are written; counts of chunks add up.

    They are: "cells"; of these "filled", not empty nor spaces alone; of these "whole"
    numbers as `int` prints them, "gaps", words such as NaN that among whole numbers
    stand for nothing, "decimals" as `float` reads them without leading zeros, and
    "numbers", the same with leading zeros; "wide" is more than 0 where a whole number
    is wider than int64.
    """
    filled = values[values.str.strip() != ""]
    is_whole = filled.str.fullmatch(INTEGER)
    whole, others = filled[is_whole], filled[~is_whole]
    wide, long = 0, whole[whole.str.len() > 18]
    try:
        long.astype("int64")
    except (OverflowError, ValueError):
        wide = 1
    return Counter(
        cells=len(values),
        filled=len(filled),
        whole=len(whole),
        gaps=int(others.isin(GAPS).sum()),
        decimals=len(whole) + int(others.str.fullmatch(DECIMAL).sum()),
        numbers=len(whole) + int(others.str.fullmatch(NUMBER).sum()),
        wide=wide,
    )


def as_number(
    values: pd.Series, decimals: bool, column: Counter[str] | None = None
) -> pd.Series:
    """Text as int64, or with `decimals` float64, where each filled cell is a number.

    Else it stays as it is. Among whole numbers a word such as NaN or NULL is an empty
    cell; among other text it is text. A column with whole numbers wider than int64 is
    text, for float64 would round them.

    Args:
        values: a column of text, or a chunk of it.
        decimals: whether numbers with a point may become float64.
        column: how the whole column is `written`; None where `values` are all of it.
    """
    column = written(values) if column is None else column
    filled = values
    if column["filled"] < column["cells"]:
        filled = values[values.str.strip() != ""]
    if column["whole"] and column["whole"] + column["gaps"] == column["filled"]:
        if column["gaps"]:
            filled = filled[~filled.isin(GAPS)]
        if column["wide"]:
            return filled.reindex(values.index)
        # As astype("int64") does, in a fraction of its time.
        whole = np.array(pa.array(filled, pa.large_string()).cast("int64"))
        numbers = pd.Series(whole, filled.index, name=values.name)
        if len(filled) == len(values):
            return numbers
        return numbers.astype("Int64").reindex(values.index)
    if decimals and column["filled"] and column["decimals"] == column["filled"]:
        filled = filled.astype("float64")
    return filled.reindex(values.index)


def from_json(values: pd.Series, decimals: bool) -> pd.Series:
    """A column of JSON values as numbers, text or tuples, where all are such.

    Else it stays as it is. Whole numbers wider than int64 are text, as in a .csv file.
    Without `decimals` a column of both whole and other numbers becomes float64 only
    where that rounds none.
    """
    known = values[values.notna()]
    kinds = {type(value) for value in known}
    if kinds == {int}:
        if not known.map(lambda value: -(2**63) <= value < 2**63).all():
            return known.map(str).reindex(values.index)
        return known.astype("Int64" if len(known) < len(values) else "int64").reindex(
            values.index
        )
    exact = decimals or all(
        isinstance(value, float) or abs(value) < 2**53
        for value in known
        if kinds <= {int, float}
    )
    if kinds and kinds <= {int, float} and exact:
        return values.astype("float64")
    return values.map(lambda value: tuple(value) if isinstance(value, list) else value)


def declared(values: pd.Series, kind: str, where: Source) -> pd.Series:
    """A column as its declared kind.

    "number" is float64, "category" and "words" text, "categories" tuples. As
    categories, text is split at each "|". What is missing stays so.

    Raises:
        DataError: a number is not one, or not finite.
    """
    known = values[~blank(values)]
    if kind == "number":
        numbers = pd.to_numeric(known, errors="coerce").astype("float64")
        mend = "is not a finite number; mend it, or declare it a category"
        require(pd.Series(np.isfinite(numbers), known.index), known, where, mend)
        return numbers.reindex(values.index)
    if kind == "categories":

        def parts(value: Any) -> tuple[str, ...]:
            many = value.split("|") if isinstance(value, str) else value
            many = many if isinstance(many, MANY) else [many]
            return tuple(text for part in many if (text := str(part).strip()))

        return known.map(parts).astype(object).reindex(values.index)
    return known.map(str).astype("str").reindex(values.index)


def looks_like(values: pd.Series) -> str | None:
    """The kind of a column that is not declared; None where it is no attribute."""
    if types.is_numeric_dtype(values) and not types.is_bool_dtype(values):
        return "number"
    first = next(iter(values.dropna()), "")
    if isinstance(first, MANY):
        return "categories"
    if isinstance(first, bool | np.bool_ | str):
        return "words" if values.name == "title" else "category"
    return "number" if isinstance(first, int | float | np.number) else None


def blank(values: pd.Series) -> pd.Series:
    """True where nothing stands: missing, or text of spaces alone."""
    return values.isna() | (
        values.str.strip() == "" if values.dtype == "str" else False
    )


def plain_values(values: pd.Series, where: Source | None = None) -> pd.Series:
    """Free a column of its wrapping.

    Categories, objects that are all text, nullable types without nulls.

    Raises:
        DataError: text that no file could hold, half of a character.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    all_text = (
        values.dtype == object and types.infer_dtype(values, skipna=True) == "string"
    )
    if all_text or isinstance(values.dtype, pd.StringDtype):
        try:
            return values.astype("str")
        except UnicodeEncodeError:
            whole = values.map(lambda text: not isinstance(text, str) or _encodes(text))
            mend = "holds half a character; write the text anew"
            require(whole, values, where or Source("frame"), mend)
    numpy_dtype = getattr(values.dtype, "numpy_dtype", None)  # of Int64 and its like
    if numpy_dtype is None or values.isna().any():
        return values
    return values.astype(numpy_dtype)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def present(
    frame: pd.DataFrame, roles: Mapping[str, str], where: Source
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows that have a value in each role's column, and how many have none.

    Args:
        frame: a table, or a chunk of it.
        roles: the columns of "user", "item" and, where there is one, "time".
        where: names the table in messages.

    Returns:
        the rows, and reason -> rows dropped; a row is dropped for its first reason.
    """
    dropped = {}
    for role, column in roles.items():
        missing = blank(plain_values(frame[column], where))
        dropped[f"without {role}"] = int(missing.sum())
        frame = frame[~missing]
    return frame, dropped


def clean(
    frame: pd.DataFrame,
    roles: Mapping[str, str],
    where: Source,
    time_format: str | None = None,
    ticks: int = 1,
    times: Counter[str] | None = None,
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """What `present` left as ids and times.

    Args:
        frame: rows of a table, or of a chunk of it.
        roles: as for `present`.
        where: names the table in messages.
        time_format: see `whole_seconds`.
        ticks: see `whole_seconds`.
        times: how the whole column of times is `written`, where that is text and
            `frame` a chunk.

    Returns:
        columns "user" and "item", int64 or str, and where there are times "time",
        int64 Unix seconds; and what their times are finer than seconds, else None.

    Raises:
        RefusedError: a value cannot be read; it names the row and column.
    """
    columns, finer = {}, None
    for number, (role, column) in enumerate(roles.items()):
        try:
            if role == "time":
                how = (time_format, ticks, times)
                columns[role], finer = whole_seconds(frame[column], where, *how)
            else:
                columns[role] = exact_ids(frame[column], where)
        except DataError as error:
            step = error.step if isinstance(error, RefusedError) else (0,)
            raise RefusedError(str(error), (number, *step)) from None
    return pd.DataFrame(columns), finer


def exact_ids(values: pd.Series, where: Source) -> pd.Series:
    """Ids as int64 or str, exactly as given.

    UUIDs are text, whole decimals are whole numbers.
    """
    values = plain_values(values)
    kind = types.infer_dtype(values, skipna=False)
    if kind == "string":
        mend = "has lost its last digits, as spreadsheets do; export ids as text"
        require(~values.str.fullmatch(SHORTENED), values, where, mend)
        return values
    fraction = "is not a whole number; read the column as text"
    if kind == "decimal":
        require(values.map(_is_whole), values, where, fraction)
        values = values.map(int).astype(object)
        kind = "integer"
    if kind == "mixed" and all(isinstance(value, uuid.UUID) for value in values):
        return values.map(str).astype("str")
    if kind not in ("integer", "floating"):
        _same_type(values, where, "{} ids; make all text, or all whole numbers")
        raise DataError(
            f"{where.name}: {values.name} ids are {kind}; ids are whole numbers or text"
        )
    require_exact(values, where)
    require(values % 1 == 0, values, where, fraction, step=2)
    return values.astype("int64")


def _is_whole(value: Any) -> bool:
    whole = isinstance(value, decimal.Decimal) and value.is_finite()
    return bool(whole and value == value.to_integral_value())


def _same_type(values: pd.Series, where: Source, mend: str) -> None:
    """Refuse the first value of another type than the first one's."""
    first = type(next(iter(values)))
    same = pd.Series([type(value) is first for value in values], values.index)
    require(same, values, where, f"comes after {mend.format(first.__name__)}")


def whole_seconds(
    values: pd.Series,
    where: Source,
    time_format: str | None,
    ticks: int,
    column: Counter[str] | None = None,
) -> tuple[pd.Series, np.ndarray]:
    """Times as int64 Unix seconds, and what they are finer.

    Integers stay integers all the way. A time before 1970 or after 2100 is refused, and
    one that in a coarser unit is a date of our days: it is a fault in the log, or
    milliseconds taken for seconds, and would upset every split by time.

    Args:
        values: a column without gaps, or a chunk of it.
        where: names the table in messages.
        time_format: how to read dates that are not ISO 8601.
        ticks: the number of units in a second.
        column: how the whole column is `written`, if it is text; None where `values`
            are all of it.

    Returns:
        the seconds, and what is left of each time, in one unit for the whole column,
        float64, exact. Rows with finer times go by it before they go by their order.
    """
    given = values = plain_values(values)
    values = values.astype("str") if time_format is not None else values
    if values.dtype == "str":
        column = written(values) if column is None else column
        if time_format is None and column["numbers"] * 2 >= column["cells"]:
            mend = (
                "is not a number; write Unix seconds or ISO 8601 dates throughout, or"
                " pass time_format= (--time-format)"
            )
            require(values.str.fullmatch(NUMBER), values, where, mend)
            integers = as_number(values, decimals=False, column=column)
            values = integers if integers.dtype == "int64" else values.astype("float64")
        else:
            form = time_format or "ISO8601"
            try:
                dates = pd.to_datetime(values, format=form, utc=True, errors="coerce")
            except ValueError as error:
                raise DataError(
                    f"time_format is {form!r}: {one_line(error)}; write it like"
                    " %d/%m/%Y %H:%M"
                ) from None
            mend = (
                "is not a date; write ISO 8601 (2024-01-31 12:00:00) or Unix seconds,"
                " or pass time_format= (--time-format)"
            )
            require(dates.notna(), values, where, mend)
            values = dates
    kind = types.infer_dtype(values, skipna=False)
    if kind in ("date", "datetime", "datetime64"):
        stamps = pd.to_datetime(values, utc=True).dt.tz_convert(None).to_numpy()
        seconds, ticks = stamps.astype("datetime64[s]"), 1
        whole = seconds.astype("int64")
        rest = (stamps - seconds).astype("timedelta64[ns]").astype("int64")
    elif kind in ("integer", "floating"):
        require_exact(values, where)
        whole, rest = (values // 1).astype("int64").to_numpy(), (values % 1).to_numpy()
    else:
        _same_type(values, where, "times of type {}; write all in one way")
        raise DataError(
            f"{where.name}: {values.name} values are {kind}; times are Unix seconds or"
            " dates"
        )
    are_numbers = kind in ("integer", "floating")
    require_believable(given, whole, ticks if are_numbers else None, where)
    finer = (whole % ticks) + rest.astype("float64")
    return pd.Series(whole // ticks, values.index), finer


def require_believable(
    given: pd.Series, whole: np.ndarray, ticks: int | None, where: Source
) -> None:
    """Refuse times that cannot be: before 1970, after 2100, or in another unit.

    A second has `ticks` of their units; None says that they are dates, in seconds.
    """
    units = {} if ticks is None else TICKS
    ticks = ticks or 1
    delete = "mend it, or leave the cell empty and the row is dropped"
    good = pd.Series(whole >= 0, given.index)
    require(good, given, where, f"lies before 1970; {delete}", step=2)
    coarse = np.zeros(len(whole), bool)
    for many in units.values():
        if many < ticks:
            coarse |= (whole >= EARLY * many) & (whole <= LATEST * many)
    coarse &= whole < EARLY * ticks
    for step, wrong in (3, whole > LATEST * ticks), (4, coarse):
        if wrong.any():
            first = int(whole[wrong][0])
            fits = [
                unit
                for unit, many in units.items()
                if EARLY * many <= first <= LATEST * many
            ]
            mend = (
                f"pass time_unit='{fits[0]}' (--time-unit {fits[0]})"
                if fits
                else delete
            )
            year = f"lies in the year {1970 + first // ticks // 31_556_952}"
            good = pd.Series(~wrong, given.index)
            require(good, given, where, f"{year}; {mend}", step=step)


def require_one_era(
    early: tuple[Any, int] | None, latest: int, where: Source, column: str
) -> None:
    """Refuse a log with dates of our days and others from around 1970.

    Those are numbers of rows, or stand for a date that is not known. A log that has
    nothing else counts by its times, which is noted.

    Args:
        early: row and time, in seconds, of the first that lies before 1975.
        latest: the last time of the log, in seconds.
        where: names the table in messages.
        column: of the times.
    """
    if early is not None and latest < EARLY:
        where.notes.append(
            f"no time is later than 1974, so '{column}' is taken for a count"
        )
    if early is None or latest < RECENT:
        return
    when = datetime.datetime.fromtimestamp(early[1], datetime.UTC)
    raise DataError(
        f"{where.row(early[0])}: {column} lies on {when:%Y-%m-%d}, others lie decades"
        " later; mend it, or leave the cell empty and the row is dropped"
    )


def require_exact(values: pd.Series, where: Source) -> None:
    """Refuse integers wider than int64, and floats that may have been rounded."""
    least, most = -(2**63), 2**63 - 1
    if types.is_float_dtype(values):  # 2**53 itself may be 2**53 + 1, rounded
        most = 2 ** (np.finfo(str(values.dtype)).nmant + 1) - 1
        least = -most
    mend = f"cannot be exact as {values.dtype}; read the column as int64 or as text"
    require((values >= least) & (values <= most), values, where, mend, step=1)


def require(
    good: pd.Series, values: pd.Series, where: Source, mend: str, step: int = 0
) -> None:
    """Raise for the first value that is not `good`, naming its row and column.

    `step` counts the checks of the column that come before.
    """
    if not good.all():
        row = values.index[int(np.argmin(good.to_numpy(bool)))]
        shown = values.loc[row]
        shown = shown.item() if isinstance(shown, np.generic) else shown
        shown = str(shown) if isinstance(shown, datetime.date) else shown
        raise RefusedError(
            f"{where.row(row)}: {values.name} {one_line(repr(shown))} {mend}", (step,)
        )


def read_table(
    source: str | Path | pd.DataFrame,
    exact: Collection[str | None],
    layout: Layout | None = None,
) -> tuple[pd.DataFrame, Source]:
    """Read a table, and say what messages call it and its rows.

    Args:
        source: a file, a folder of Parquet parts, or a frame, which is numbered anew
            from 0.
        exact: columns whose values never pass through floating point.
        layout: of a file of text.

    Raises:
        DataError: there is no such file, or it is no table.
    """
    if isinstance(source, pd.DataFrame):
        frame, where = source, Source("frame")
        if layout not in (None, Layout()):
            raise DataError(f"{where.name}: {NO_TEXT}")
    else:
        expect_path(source, "table", "a path, or a pandas.DataFrame")
        frame, where = _read(Path(source), exact, layout)
    check_names(frame, where)
    return frame, where


def check_names(frame: pd.DataFrame, where: Source) -> None:
    """Raise DataError where two columns have one name."""
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        mend = _headless(frame, where) or "rename one"
        raise DataError(f"{where.name}: two columns are called '{twice}'; {mend}")


def check_kinds(kinds: Mapping[str, str], roles: Mapping[str, str | None]) -> None:
    """Raise DataError for a kind that there is not, or one of a column in `roles`."""
    for column, kind in kinds.items():
        if kind not in KINDS:
            raise DataError(
                f"kinds: '{column}' is declared '{kind}'; it is one of"
                f" {', '.join(KINDS)}"
            )
        if role := next((role for role in roles if roles[role] == column), None):
            raise DataError(
                f"kinds: '{column}' is the column of {role}s and no attribute; leave it"
                " out"
            )


def roles_of(
    frame: pd.DataFrame, user: str, item: str, time: str | None, where: Source
) -> dict[str, str]:
    """The columns of "user", "item" and, where there is one, "time".

    There is none where `time` is None. There is none either where `time` is "time", the
    table lacks it and no other column looks like one; that is noted.

    Args:
        frame: a table, or its first rows.
        user, item, time: columns.
        where: names the table in messages.

    Raises:
        DataError: a column is absent, or asked for twice, or there is no header.
    """
    if time == "time" and time not in frame.columns and user in frame.columns:
        likely = [
            f"'{name}'"
            for name, values in frame.items()
            if name not in (user, item) and len(values) and _is_time(name, values)
        ]
        if likely and item in frame.columns:
            raise DataError(
                f"{where.name}: no column 'time', but {', '.join(likely)} looks like"
                f" one; name it (--time-column), or say that the rows are in order of"
                " time: in_order=True (--in-order)"
            )
        where.notes.append("no column is a time, so rows are taken in their order")
        time = None
    roles = {"user": user, "item": item, **({"time": time} if time is not None else {})}
    for role, column in roles.items():
        if column not in frame.columns:
            option = f"name the {role} column (--{role}-column)"
            mend = _headless(frame, where) or option
            raise DataError(
                f"{where.name}: no column '{column}'; {columns_of(frame)}; {mend}"
            )
        if list(roles.values()).count(column) > 1:
            raise DataError(
                f"{where.name}: '{column}' is asked for twice; user, item and time need"
                " a column each"
            )
    chosen = frame[list(roles.values())]
    if (mend := _headless(chosen, where)) and _headless(frame, where):
        raise DataError(f"{where.name}: {mend}")
    return roles


def require_tie(frame: pd.DataFrame, tie: str | None, where: Source) -> None:
    """Raise DataError where the column that breaks ties is absent."""
    if tie is not None and tie not in frame.columns:
        raise DataError(
            f"{where.name}: no column '{tie}' to break ties by; {columns_of(frame)}"
        )


def _headless(frame: pd.DataFrame, where: Source) -> str:
    """What to do where the header of a file of text seems to be an event, else ""."""
    names = [str(name) for name in frame.columns]
    numbered = [list(map(str, range(n, n + len(names)))) for n in (0, 1)]
    if where.layout is None or not where.layout.header or names in numbered[:1]:
        return ""
    values = [name for name in names if _is_value(name)]
    if not values:
        return ""
    return (
        f"row 1 ('{values[0]}') seems to be an event, not names; pass header=False"
        " (--no-header), and name columns by number: user='1'"
    )


def _is_date(text: str) -> bool:
    return bool(re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text))


def _is_value(text: str) -> bool:
    return bool(re.fullmatch(NUMBER, text)) or _is_date(text)


def _is_time(name: Any, values: pd.Series) -> bool:
    """Whether a column looks like times, by its name and first value."""
    first, text = values.iloc[0], str(values.iloc[0])
    spoken = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(name)).lower()
    if isinstance(first, datetime.date | np.datetime64) or spoken == "time":
        return True
    if re.search(r"(?:^|[^a-z])(?:date|datetime|timestamp|ts)$", spoken):
        return True
    if re.fullmatch(NUMBER, text):  # such as a time that somebody watched
        number = float(text)
        return any(RECENT * many <= number <= LATEST * many for many in TICKS.values())
    return _is_date(text) or bool(re.search(r"(?:^|[^a-z])(?:time|at)$", spoken))


def columns_of(frame: pd.DataFrame) -> str:
    """What columns there are, and what may be wrong where there is but one."""
    names = [str(column) for column in frame.columns]
    if len(names) == 1 and (sign := sign_in(names[0])):
        return (
            f"its one column is '{names[0]}'; is it separated by {sign!r}? .csv has"
            f" commas, .tsv tabs, others need separator= (--separator {sign!r})"
        )
    return "its columns are " + ", ".join(f"'{name}'" for name in names)


def sign_in(line: str) -> str:
    """What seems to separate the cells of a line; "" where nothing does."""
    return next((sign for sign in SIGNS if sign in line), "")


def attribute(values: pd.Series, kinds: Mapping[str, str], where: Source) -> pd.Series:
    """A column that is neither id nor time: as declared, else as it is."""
    values = plain_values(values, where)
    if values.name in kinds:
        return declared(values, kinds[str(values.name)], where)
    return values


def kinds_in(table: pd.DataFrame, kinds: Mapping[str, str]) -> str:
    """`price: number, genre: category`: what the columns of a table are taken for.

    Of text of which more than half is numbers that is said too.
    """
    said = []
    for name, values in table.items():
        kind = kinds.get(str(name)) or looks_like(values) or "no attribute"
        if kind == "category" and name not in kinds and values.dtype == "str":
            cells = written(values.dropna())
            if cells["filled"] < 2 * cells["numbers"]:
                kind += f", though {cells['numbers']:,} of {cells['filled']:,} are"
                kind += " numbers"
        said.append(f"{name}: {kind}")
    shown = said[:12] + ([f"{len(said) - 12} more"] if len(said) > 12 else [])
    return ", ".join(shown)


def told_shares(events: int, tied: int, again: int) -> list[str]:
    """What a summary says of events that are tied in time, or take an item again."""
    said = {
        "share their time with another": tied,
        "take an item again, and what was taken is not recommended unless repeats=True"
        " (--repeats)": again,
    }
    return [
        f"{float(f'{100 * count / events:.2g}'):g} % of events {what}"
        for what, count in said.items()
        if count
    ]


def read_known(
    source: str | Path | pd.DataFrame,
    role: str,
    column: str,
    ids: pd.Series,
    kinds: Mapping[str, str],
    notes: list[str],
) -> pd.DataFrame:
    """What is known about users or items.

    A table indexed by ids of the type that the events have.

    Args:
        source: a file, or a frame with a column or an index of ids.
        role: "user" or "item": what the index is called.
        column: of the ids.
        ids: those of the events.
        kinds: declared kinds of attributes.
        notes: to which is added how many of `ids` the table describes, and how.

    Raises:
        DataError: an id is missing, there twice or of another type, an attribute is not
            what it is declared, or none of `ids` is described.
    """
    as_text = [name for name, kind in kinds.items() if kind != "number"]
    table, where = read_table(source, (column, *as_text))
    where = Source(f"{where.name}, table of {role}s,", where.parts)
    if isinstance(source, pd.DataFrame):
        index = table.index.name
        table = table.reset_index(
            drop=index not in (role, column) or index in table.columns
        )
    column = column if column in table.columns else role
    if column not in table.columns:
        raise DataError(
            f"{where.name} has no column or index '{column}'; {columns_of(table)}; name"
            " the id column"
        )
    if table.empty:
        raise DataError(
            f"{where.name} has no rows; give one for each {role} that is known, or"
            " leave the table out"
        )
    values = plain_values(table[column], where)
    require(~blank(values), values, where, "is missing; write an id, or delete the row")
    values = exact_ids(values, where)
    if ids.dtype == "str" and types.is_integer_dtype(values):
        values = values.astype("str")  # exact: 7 is "7"
    if ids.dtype != values.dtype:
        odd = pd.to_numeric(values, errors="coerce").isna()
        mend = (
            f"makes the ids {values.dtype}, in the events they are {ids.dtype}; make"
            " them one type"
        )
        require(~odd if odd.any() else odd, values, where, mend)
    require(~values.duplicated(), values, where, "is there twice; keep one row")
    wanted = ids.drop_duplicates()
    described = int(wanted.isin(values).sum())
    if not described:
        here, there = (repr(one.tolist()[0]) for one in (wanted, values))
        raise DataError(
            f"{where.name} describes 0 of {len(wanted):,} {role}s: the log has {here},"
            f" the table {there}; write ids alike"
        )
    known = table.drop(columns=column).apply(lambda one: attribute(one, kinds, where))
    notes.append(
        f"{role}s table describes {described:,} of {len(wanted):,} {role}s"
        + (f" ({kinds_in(known, kinds)})" if len(known.columns) else "")
    )
    return known.set_axis(pd.Index(values, name=role))


def file_kind(path: Path, layout: Layout | None) -> tuple[str, bool]:
    """The kind of a file by its ending, and whether it is gzipped.

    It is ".csv", ".tsv", ".jsonl" or ".parquet". A folder is ".parquet": the parts of
    one table. With a separator, any other ending is ".csv"; a table beside the log has
    no layout.

    Raises:
        DataError: there is no such file, or its ending is another.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path")
    name = path.name.lower()
    packed = name.endswith(".gz") and not path.is_dir()
    ending = Path(name.removesuffix(".gz")).suffix
    kind = ".parquet" if path.is_dir() else LINES.get(ending, ending)
    if kind == ".jsonl" or (kind == ".parquet" and not packed):
        if layout not in (None, Layout()):
            raise DataError(f"{path}: {NO_TEXT}")
        return kind, packed
    if layout is not None and layout.separator is not None and kind != ".parquet":
        return ".csv", packed
    if kind not in SEPARATORS:
        mend = f"write {ENDINGS}"
        if ending in (".txt", ".dat") and layout is not None:
            mend += ", or say what separates its cells: separator= (--separator)"
            damaged = contextlib.suppress(OSError, EOFError, zlib.error, UnicodeError)
            with damaged, _opened(path, packed) as file:
                if sign := sign_in(file.readline(10_000).decode().strip()):
                    mend += f", {sign!r} it seems"
        raise DataError(f"{path}: unknown ending; {mend}")
    return kind, packed


def parquet_parts(path: Path) -> list[Path]:
    """The file itself, or a folder's Parquet parts in order of their names.

    Names that begin with _ or . are not.

    Raises:
        DataError: the folder has none.
    """
    if not path.is_dir():
        return [path]
    parts = [
        part
        for part in sorted(path.rglob("*.parquet"))
        if part.is_file()
        and not any(name[0] in "_." for name in part.relative_to(path).parts)
    ]
    if not parts:
        raise DataError(
            f"{path} is a folder without .parquet parts; give a file, or a folder that"
            " has some"
        )
    return parts


def _read(
    path: Path, exact: Collection[str | None], layout: Layout | None
) -> tuple[pd.DataFrame, Source]:
    kind, packed = file_kind(path, layout)
    if kind == ".parquet":
        with one_line_errors(path):
            return _read_parquet(path)
    if kind == ".jsonl":
        read, where = from_json, Source(str(path))
        with one_line_errors(path), uncollected():
            frame = _read_json_lines(path, packed)
    else:
        read, where = as_number, Source(str(path), layout=layout)
        frame = pd.concat(text_frames(path, where, ROWS))
    return frame.apply(
        lambda values: read(values, decimals=values.name not in exact)
    ), where


@contextlib.contextmanager
def one_line_errors(path: Path) -> Iterator[None]:
    """Turn what libraries raise about a damaged file into one line.

    Raises:
        DataError: the block raised one of their errors.
    """
    try:
        yield
    except UnicodeDecodeError:
        raise DataError(
            f"{path}{_not_utf8(path)}: not UTF-8 text; save it as UTF-8"
        ) from None
    except (
        OSError,
        EOFError,
        zlib.error,
        MemoryError,
        OverflowError,
        pa.ArrowException,
    ) as error:
        raise DataError(
            f"{path}: cannot be read ({one_line(error)}); make it anew"
        ) from None


def _opened(path: Path, packed: bool) -> IO[bytes]:
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _not_utf8(path: Path) -> str:
    """Which row of a file is not UTF-8, as far as that can be found out."""
    with (
        contextlib.suppress(OSError, EOFError, zlib.error),
        _opened(path, path.name.lower().endswith(".gz")) as file,
    ):
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return f" row {number}"
    return ""


def text_frames(path: Path, where: Source, rows: int) -> Iterator[pd.DataFrame]:
    """A file of text as frames of text, without its empty lines; rows count from 1.

    Args:
        path: the file, plain or .gz.
        where: has its layout, and notes where cells hold line breaks.
        rows: at most so many at once. There is one frame at least.

    Raises:
        DataError: it is no such file, or is damaged.
    """
    layout = where.layout or Layout()
    kind, packed = file_kind(path, layout)
    separator = SEPARATORS[kind] if layout.separator is None else layout.separator
    names: list[str] | None = None
    top: list[list[str]] = []
    given = False
    with one_line_errors(path), _opened(path, packed) as file:
        reader = _csv_reader(file, separator, layout.quoted)
        for first, chunk in _chunks(reader, rows, where, layout):
            if not layout.header and len(top) < 2:
                top += chunk[: 2 - len(top)]
                _require_no_header(top, path)
            if names is None:
                names = [str(number) for number in range(1, len(chunk[0]) + 1)]
                if layout.header:
                    names, first = chunk.pop(0), 2
            _even_out(chunk, names, first, path)
            # Editors leave empty lines.
            full = [any(cells) for cells in chunk]
            if any(full):
                with uncollected():
                    filled = list(itertools.compress(chunk, full))
                    index = pd.RangeIndex(first, first + len(chunk))[full]
                    frame = pd.DataFrame(filled, index, names, dtype="str")
                yield frame
                given = True
    if not given:
        yield pd.DataFrame(columns=names, dtype="str")


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Within the block no circles of objects are looked for.

    Lists of cells have none, and Python would look through all of them again and again:
    half the time of reading a table.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _chunks(
    reader: Any, rows: int, where: Source, layout: Layout
) -> Iterator[tuple[int, list[list[str]]]]:
    """Rows of cells, at most so many at once, and the number of the first."""
    read, breaks, ended = 0, 0, False
    broken: list[int] = []
    names: list[str] = []
    fault: DataError | None = None
    while not ended:
        first = read + 1
        chunk: list[list[str]] = []
        try:
            with uncollected():
                chunk.extend(itertools.islice(reader, rows))
        except csv.Error as error:  # of the row after those that are in the list
            row = where.row(first + len(chunk))
            names = names or (chunk or [[]])[0]
            mend = _separated(names) or _csv_fault(error, layout)
            fault = DataError(f"{row}: {mend}")
        names = names or list(chunk[0] if chunk else [])
        read, ended = read + len(chunk), len(chunk) < rows
        if reader.line_num > read + breaks:
            breaks = reader.line_num - read
            for number, cells in enumerate(chunk, first):
                if not any("\n" in cell or "\r" in cell for cell in cells):
                    continue
                broken.append(number)
                if lines := _rows_in(cells, reader.dialect.delimiter, len(names)):
                    mend = f"swallows {lines} lines that are rows themselves; close it"
                    fault = DataError(
                        f'{where.row(number)}: a quote " {mend}, or {UNQUOTED}'
                    )
                    chunk, ended = chunk[: number - first], True
                    break
        if ended and broken:
            holds = "row holds" if len(broken) == 1 else "rows hold"
            where.notes.append(
                f"{len(broken):,} {holds} a line break in quotes (row {broken[0]};"
                " quoted=False, --no-quotes, if its quotes are letters)"
            )
        if chunk:
            yield first, chunk
        if fault is not None:
            raise fault
    if not read:
        raise DataError(f"{where.name} is empty; it needs a header row and events")


def _require_no_header(top: list[list[str]], path: Path) -> None:
    """Refuse text alone above a row with numbers, which would become an event."""
    if len(top) == 2 and not any(map(_is_value, top[0])):
        pairs = zip(*top, strict=False)
        if names := [name for name, cell in pairs if name and _is_value(cell)]:
            raise DataError(
                f"{path}: row 1 ('{names[0]}') seems to name the columns; leave"
                " header=False (--no-header) out"
            )


def _csv_reader(file: IO[bytes], separator: str, quoted: bool) -> Any:
    lines: Any = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    separator = separator.replace("\\t", "\t")
    if len(separator) > 1:
        several, separator, quoting = separator, UNIT, csv.QUOTE_NONE
        lines = (line.replace(several, UNIT) for line in lines)
    csv.field_size_limit(2**31 - 1)
    try:
        return csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"separator is {separator!r}: {one_line(error)}; write one such as ';'"
        ) from None


def _csv_fault(error: csv.Error, layout: Layout) -> str:
    fault = f"not a readable table ({one_line(error)}); make it anew"
    if "end of data" in str(error):
        fault = 'a quote " is opened and never closed; close it'
    elif "expected after" in str(error):
        fault = "text after a closing quote; double the quotes inside a cell"
    return f"{fault}, or {UNQUOTED}" if layout.quoted else fault


def _rows_in(cells: list[str], separator: str, width: int) -> int:
    """Of how many lines a row with line breaks is, if each is a row by itself; else 0.

    Each has as many cells as the header, and in some column each has a number or date.
    """
    lines = [
        line.split(separator) for line in re.split(r"\r\n|\r|\n", separator.join(cells))
    ]
    are_whole = all(len(line) == width for line in lines)
    columns = zip(*lines, strict=True) if are_whole else ()
    is_one = any(all(map(_is_value, column)) for column in columns)
    return len(lines) if is_one else 0


def _separated(names: list[str]) -> str:
    """What to do where the one name of a header seems to be several, else ""."""
    sign = sign_in(names[0]) if len(names) == 1 else ""
    mend = f"is it separated by {sign!r}? then pass separator= (--separator {sign!r})"
    return mend if sign else ""


def _even_out(chunk: list[list[str]], names: list[str], first: int, path: Path) -> None:
    """Make all rows as long as the header, or refuse one that is longer."""
    if set(map(len, chunk)) <= {len(names)}:
        return
    for number, cells in enumerate(chunk, first):
        if len(cells) > len(names) and number == 2:
            raise DataError(
                f"{path} row 1: fewer names than the rows have columns;"
                f" {_separated(names) or 'name them all'}"
            )
        if len(cells) > len(names):
            raise DataError(
                f"{path} row {number}: {len(cells)} columns under {len(names)} names;"
                ' put text with commas in ""'
            )
        cells += [""] * (len(names) - len(cells))


def _read_json_lines(path: Path, packed: bool) -> pd.DataFrame:
    """A file with a JSON object a line; a key that an object lacks is missing there."""
    records: dict[int, dict[str, Any]] = {}
    with _opened(path, packed) as file:
        for number, line in enumerate(file, 1):
            where = f"{path} row {number}"
            if not (text := line.removeprefix(b"\xef\xbb\xbf").strip()):
                continue
            try:
                record = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
            except UnicodeDecodeError:
                raise
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{where}: not a JSON object ({one_line(error)}); write one object"
                    " a line"
                ) from None
            if not isinstance(record, dict):
                kind = type(record).__name__
                raise DataError(
                    f"{where}: a JSON {kind}, not an object; write one object a line"
                )
            if b"\\ud" in text.lower():  # perhaps half a character
                for name, value in record.items():
                    if not _encodes(json.dumps([name, value], ensure_ascii=False)):
                        shown = one_line(repr(name))
                        raise DataError(
                            f"{where}: {shown} holds half a character; write it anew"
                        )
            records[number] = record
    if not records:
        raise DataError(f"{path} is empty; it needs a JSON object a line")
    names = dict.fromkeys(name for record in records.values() for name in record)
    index = pd.Index(records, dtype="int64")
    columns = {
        name: pd.Series([r.get(name) for r in records.values()], index, dtype=object)
        for name in names
    }
    return pd.DataFrame(columns, index)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are all different: JSON keeps the last of two, silently."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def parquet_schema(path: Path) -> tuple[list[Path], pa.Schema, Source]:
    """The parts of a Parquet file or folder, their schema, and what messages call it.

    Raises:
        DataError: there is none, it is damaged, or the parts differ in their columns.
    """
    parts, heads = parquet_parts(path), []
    counts: list[tuple[str, int]] = []
    for part in parts:
        with one_line_errors(part):
            file = pq.ParquetFile(part)
            heads.append(file.schema_arrow.empty_table())
            counts.append((str(part), file.metadata.num_rows))
        names, first = heads[-1].schema.names, heads[0].schema.names
        if sorted(names) != sorted(first):
            odd = sorted({*names} ^ {*first}) or names
            raise DataError(
                f"{part}: column '{odd[0]}' is not in all parts; give them the same"
                " columns"
            )
        if len(parts) > 1:
            heads[-1] = heads[-1].select(first)
    schema = _joined(heads, path).schema
    return parts, schema, Source(str(path), tuple(counts) if path.is_dir() else ())


def parquet_frames(
    path: Path, columns: Sequence[str], rows: int
) -> Iterator[pd.DataFrame]:
    """Some columns of a Parquet file or folder, at most `rows` at once.

    Rows count from 1 through all parts.

    Raises:
        DataError: as for `parquet_schema`, or a part is damaged.
    """
    parts, schema, _ = parquet_schema(path)
    schema = pa.schema([schema.field(name) for name in columns])
    first = 1
    for part in parts:
        with one_line_errors(part):
            batches = pq.ParquetFile(part).iter_batches(rows, columns=list(columns))
        while True:
            with one_line_errors(part):
                if (batch := next(batches, None)) is None:
                    break
                table = pa.Table.from_batches([batch]).select(list(columns))
                frame = _to_frame(table.cast(schema))
            index = pd.RangeIndex(first, first + len(frame))
            yield frame.set_axis(index)
            first = index.stop


def _read_parquet(path: Path) -> tuple[pd.DataFrame, Source]:
    """A Parquet file, or a folder of parts with the same columns.

    Rows count from 1 in each.
    """
    parts, schema, where = parquet_schema(path)
    tables: list[pa.Table] = []
    for part in parts:
        with one_line_errors(part):
            table = pq.ParquetFile(part).read()
        tables.append(table if len(parts) == 1 else table.select(schema.names))
    with one_line_errors(path):
        frame = _to_frame(_joined(tables, path))
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1)), where


def _joined(tables: Sequence[pa.Table], path: Path) -> pa.Table:
    try:
        # A column of nulls alone takes any type.
        return pa.concat_tables(tables, promote_options="default")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}: its parts differ in type ({one_line(error)}); write them alike"
        ) from None


def _to_frame(table: pa.Table) -> pd.DataFrame:
    # What pandas noted beside the columns may be damaged. One missing value must not
    # turn the others into floats.
    return table.replace_schema_metadata(None).to_pandas(integer_object_nulls=True)
