"""Stage 1a, the smallest part: columns as they come become exact ids and whole seconds, or one clear error."""

from __future__ import annotations

import datetime
import decimal
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

INTEGER = (  # as int would print it: "007" and "+7" are names, not numbers
    r"0|-?[1-9][0-9]*"
)
NUMBER = r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"
DECIMAL = NUMBER.replace("[0-9]+", "(?:0|[1-9][0-9]*)", 1)
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
LATEST = 4_102_444_800  # 2100-01-01; times from 1970 to here are believed
KINDS = ("number", "category", "categories", "words")
GAPS = (
    "",
    "nan",
    "NaN",
    "NA",
    "N/A",
    "null",
    "NULL",
    "None",
    "<NA>",
)  # what stands for nothing among whole numbers


class DataError(ValueError):
    """A mistake in the data that the reader can mend; its text is one line and says how."""

    def __init__(self, text: str) -> None:
        super().__init__(
            " ".join(text.splitlines())
        )  # names of columns and ids may hold line breaks


@dataclass(frozen=True)
class Source:
    """What messages call a table, and where its rows stand.

    Attributes:
        name: a path, or "frame".
        parts: of a folder: each file, and how many rows it has. Rows are numbered from
            1 through all of them.
    """

    name: str
    parts: tuple[tuple[str, int], ...] = ()

    def row(self, number: Any) -> str:
        """`log.csv row 7`; of a folder, the file and the row in it."""
        for part, rows in self.parts:
            if number <= rows:
                return f"{part} row {number}"
            number -= rows
        return f"{self.name} row {number}"


def as_number(values: pd.Series, decimals: bool) -> pd.Series:
    """Text as int64 (or, with `decimals`, float64) where each filled cell is such a number, else as it is.

    Among whole numbers a word such as NaN or NULL is an empty cell; among other text it
    is text.
    """
    filled = values[values.str.strip() != ""]
    whole = filled.str.fullmatch(INTEGER)
    if not whole.all() and whole.any() and filled[~whole].isin(GAPS).all():
        filled = filled[whole]
    if len(filled) and filled.str.fullmatch(INTEGER).all():
        try:
            numbers = filled.astype("int64")
            return (
                numbers
                if len(filled) == len(values)
                else numbers.astype("Int64").reindex(values.index)
            )
        except (
            OverflowError,
            ValueError,
        ):  # wider than int64: text, for float64 would round it
            decimals = False
    if decimals and len(filled) and filled.str.fullmatch(DECIMAL).all():
        filled = filled.astype("float64")
    return filled.reindex(values.index)


def from_json(values: pd.Series, decimals: bool) -> pd.Series:
    """A column of JSON values as numbers, text or tuples where all that are there are such, else as it is.

    Whole numbers wider than int64 are text, as in a .csv file. Without `decimals` a
    column of both whole and other numbers becomes float64 only where that rounds none.
    """
    known = values[values.notna()]
    kinds = {type(value) for value in known}
    if kinds == {int}:
        if not known.map(lambda value: -(2**63) <= value < 2**63).all():
            return known.map(str).reindex(values.index)
        return (
            known.astype("int64")
            if len(known) == len(values)
            else known.astype("Int64").reindex(values.index)
        )
    if (
        kinds
        and kinds <= {int, float}
        and (decimals or known.map(_survives_float64).all())
    ):
        return values.astype("float64")
    return values.map(lambda value: tuple(value) if isinstance(value, list) else value)


def _survives_float64(value: Any) -> bool:
    return isinstance(value, float) or abs(value) < 2**53


def declared(values: pd.Series, kind: str, where: Source) -> pd.Series:
    """A column as its declared kind: "number" is float64, "category" and "words" text, "categories" tuples.

    As categories, text is split at each "|". What is missing stays so.

    Raises:
        DataError: a number is not one, or not finite.
    """
    missing = blank(values)
    known = values[~missing]
    if kind == "number":
        numbers = pd.to_numeric(known, errors="coerce").astype("float64")
        require(
            pd.Series(np.isfinite(numbers), known.index),
            known,
            where,
            "is not a finite number; mend it, or declare it a category",
        )
        return numbers.reindex(values.index)
    if kind == "categories":
        parts = known.map(
            lambda value: value.split("|") if isinstance(value, str) else value
        )
        many = parts.map(
            lambda value: (
                value if isinstance(value, list | tuple | set | np.ndarray) else [value]
            )
        )
        cells = many.map(
            lambda value: tuple(text for part in value if (text := str(part).strip()))
        )
        return cells.astype(object).reindex(values.index)
    return known.map(str).astype("str").reindex(values.index)


def blank(values: pd.Series) -> pd.Series:
    """True where nothing stands: missing, or text of spaces alone."""
    return values.isna() | (
        values.str.strip() == "" if values.dtype == "str" else False
    )


def plain_values(values: pd.Series, where: Source | None = None) -> pd.Series:
    """Free a column of its wrapping: categories, objects that are all text, nullable types without nulls.

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
            require(
                whole,
                values,
                where or Source("frame"),
                "holds half a character; write the text anew",
            )
    numpy_dtype = getattr(values.dtype, "numpy_dtype", None)  # of Int64 and its like
    return (
        values
        if numpy_dtype is None or values.isna().any()
        else values.astype(numpy_dtype)
    )


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def exact_ids(values: pd.Series, where: Source) -> pd.Series:
    """Ids as int64 or str, exactly as given; UUIDs are text, whole decimals are whole numbers."""
    values = plain_values(values)
    kind = types.infer_dtype(values, skipna=False)
    if kind == "string":
        return values
    if kind == "decimal":
        require(
            values.map(_is_whole),
            values,
            where,
            "is not a whole number; read the column as text",
        )
        values = values.map(int).astype(object)
        kind = "integer"
    if kind == "mixed" and all(isinstance(value, uuid.UUID) for value in values):
        return values.map(str).astype("str")
    if kind not in ("integer", "floating"):
        first = type(next(iter(values)))
        same = pd.Series([type(value) is first for value in values], values.index)
        require(
            same,
            values,
            where,
            f"comes after {first.__name__} ids; make all text, or all whole numbers",
        )
        raise DataError(
            f"{where.name}: {values.name} ids are {kind}; ids are whole numbers or text"
        )
    require_exact(values, where)
    require(
        values % 1 == 0, values, where, "is not a whole number; read the column as text"
    )
    return values.astype("int64")


def _is_whole(value: Any) -> bool:
    return bool(
        isinstance(value, decimal.Decimal)
        and value.is_finite()
        and value == value.to_integral_value()
    )


def whole_seconds(
    values: pd.Series, where: Source, time_format: str | None, ticks: int
) -> tuple[pd.Series, np.ndarray]:
    """Times as int64 Unix seconds, and the order of rows: as they are, or by what is finer than a second.

    `ticks` is the number of units in a second. Integers stay integers all the way. A
    time before 1970 or after 2100 is refused: it is a fault in the log, or milliseconds
    taken for seconds, and would upset every split by time.
    """
    given = values = plain_values(values)
    values = values.astype("str") if time_format is not None else values
    if values.dtype == "str":
        number = values.str.fullmatch(NUMBER)
        if time_format is None and number.sum() * 2 >= len(values):
            mend = (
                "is not a number; write Unix seconds or ISO 8601 dates throughout, or"
                " pass time_format="
            )
            require(number, values, where, mend)
            integers = as_number(values, decimals=False)
            values = integers if integers.dtype == "int64" else values.astype("float64")
        else:
            dates = pd.to_datetime(
                values, format=time_format or "ISO8601", utc=True, errors="coerce"
            )
            mend = (
                "is not a date; write ISO 8601 (2024-01-31 12:00:00) or Unix seconds,"
                " or pass time_format="
            )
            require(dates.notna(), values, where, mend)
            values = dates
    kind = types.infer_dtype(values, skipna=False)
    if kind in ("date", "datetime", "datetime64"):
        stamps = pd.to_datetime(values, utc=True).dt.tz_convert(None).to_numpy()
        seconds, ticks = stamps.astype("datetime64[s]"), 1
        whole, rest = (
            seconds.astype("int64"),
            (stamps - seconds).astype("timedelta64[ns]").astype("int64"),
        )
    elif kind in ("integer", "floating"):
        require_exact(values, where)
        whole, rest = (values // 1).astype("int64").to_numpy(), (values % 1).to_numpy()
    else:
        first = type(next(iter(values)))
        same = pd.Series([type(value) is first for value in values], values.index)
        require(
            same,
            values,
            where,
            f"comes after times of type {first.__name__}; write all in one way",
        )
        raise DataError(
            f"{where.name}: {values.name} values are {kind}; times are Unix seconds or"
            " dates"
        )
    require_believable(given, whole, ticks, where, kind in ("integer", "floating"))
    finer = rest.any() or (whole % ticks).any()
    order = np.lexsort((rest, whole)) if finer else np.arange(len(whole))
    return pd.Series(whole // ticks, values.index), order


def require_believable(
    given: pd.Series, whole: np.ndarray, ticks: int, where: Source, are_numbers: bool
) -> None:
    """Refuse times before 1970 or after 2100, given in units of which a second has `ticks`."""
    early = "lies before 1970; mend it, or leave the cell empty and the row is dropped"
    require(pd.Series(whole >= 0, given.index), given, where, early)
    late = pd.Series(whole > LATEST * ticks, given.index)
    if late.any():
        first = int(whole[late.to_numpy()][0])
        finer = [
            unit
            for unit, many in TICKS.items()
            if are_numbers and many > ticks and first <= LATEST * many
        ]
        mend = (
            f"pass time_unit='{finer[0]}' (--time-unit {finer[0]})"
            if finer
            else "mend it, or leave the cell empty and the row is dropped"
        )
        year = 1970 + first // ticks // 31_556_952
        require(~late, given, where, f"lies in the year {year}; {mend}")


def require_exact(values: pd.Series, where: Source) -> None:
    """Refuse integers wider than int64, and floats so large that they may have been rounded."""
    least, most = -(2**63), 2**63 - 1
    if types.is_float_dtype(values):  # 2**53 itself may be 2**53 + 1, rounded
        most = 2 ** (np.finfo(str(values.dtype)).nmant + 1) - 1
        least = -most
    require(
        (values >= least) & (values <= most),
        values,
        where,
        f"cannot be exact as {values.dtype}; read the column as int64 or as text",
    )


def require(good: pd.Series, values: pd.Series, where: Source, mend: str) -> None:
    """Raise for the first value that is not `good`, naming its row and column."""
    if not good.all():
        row = values.index[int(np.argmin(good.to_numpy(bool)))]
        shown = values.loc[row]
        shown = shown.item() if isinstance(shown, np.generic) else shown
        shown = str(shown) if isinstance(shown, datetime.date) else shown
        raise DataError(
            f"{where.row(row)}: {values.name} {one_line(repr(shown))} {mend}"
        )


def one_line(text: object) -> str:
    """Any text as one line of at most 200 characters."""
    return " ".join(str(text).split())[:200]
