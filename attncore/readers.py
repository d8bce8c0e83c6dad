"""Stage 1a, the smallest part.

Columns as they come become exact ids and whole seconds, or one clear error. A table may
come whole or in chunks: what is decided by a whole column (is it numbers or text?) is
decided by counts that add up, `Written`, so that both are cleaned alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import decimal
import gzip
import json
import operator
import re
import uuid
import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api import types

from attncore.errors import DataError, one_line

INTEGER = (  # as int would print it: "007" and "+7" are names, not numbers
    r"0|-?[1-9][0-9]*"
)


NUMBER = r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"


DECIMAL = NUMBER.replace("[0-9]+", "(?:0|[1-9][0-9]*)", 1)


TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


LATEST = 4_102_444_800  # 2100-01-01; times from 1970 to here are believed


KINDS = ("number", "category", "categories", "words")


# What stands for nothing among whole numbers.
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
)


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


class RefusedError(DataError):
    """A value that cannot be cleaned.

    Attributes:
        step: how many checks of its column, or of its table, come before. Of values
            that are refused, a table names the first of those with the lowest step.
    """

    def __init__(self, text: str, step: tuple[int, ...] = (0,)) -> None:
        super().__init__(text)
        self.step = step


@dataclass(frozen=True)
class Written:
    """How the cells of a column of text are written; counts of chunks add up.

    Attributes:
        cells: how many there are.
        filled: of these, not empty, nor spaces alone.
        whole: of these, whole numbers as `int` prints them.
        gaps: words that among whole numbers stand for nothing, such as NaN.
        decimals: numbers as `float` reads them, without leading zeros; `whole` too.
        numbers: the same with leading zeros.
        wide: chunks with a whole number that is wider than int64.
    """

    cells: int = 0
    filled: int = 0
    whole: int = 0
    gaps: int = 0
    decimals: int = 0
    numbers: int = 0
    wide: int = 0

    def __add__(self, other: Written) -> Written:
        """Those of both chunks."""
        here, there = dataclasses.astuple(self), dataclasses.astuple(other)
        return Written(*map(operator.add, here, there))


def written(values: pd.Series) -> Written:
    """How the cells of a column of text, or of a chunk of it, are written."""
    filled = values[values.str.strip() != ""]
    is_whole = filled.str.fullmatch(INTEGER)
    whole, others = filled[is_whole], filled[~is_whole]
    wide, long = 0, whole[whole.str.len() > 18]
    try:
        long.astype("int64")
    except (OverflowError, ValueError):
        wide = 1
    return Written(
        len(values),
        len(filled),
        len(whole),
        int(others.isin(GAPS).sum()),
        len(whole) + int(others.str.fullmatch(DECIMAL).sum()),
        len(whole) + int(others.str.fullmatch(NUMBER).sum()),
        wide,
    )


def as_number(
    values: pd.Series, decimals: bool, column: Written | None = None
) -> pd.Series:
    """Text as int64, or with `decimals` float64, where each filled cell is a number.

    Else it stays as it is. Among whole numbers a word such as NaN or NULL is an empty
    cell; among other text it is text. A column with whole numbers wider than int64 is
    text, for float64 would round them.

    Args:
        values: a column of text, or a chunk of it.
        decimals: whether numbers with a point may become float64.
        column: how the whole column is written; None where `values` are all of it.
    """
    column = written(values) if column is None else column
    filled = values
    if column.filled < column.cells:
        filled = values[values.str.strip() != ""]
    if column.whole and column.whole + column.gaps == column.filled:
        if column.gaps:
            filled = filled[~filled.isin(GAPS)]
        if column.wide:
            return filled.reindex(values.index)
        # As astype("int64") does, in a fraction of its time.
        whole = np.array(pa.array(filled, pa.large_string()).cast("int64"))
        numbers = pd.Series(whole, filled.index, name=values.name)
        if len(filled) == len(values):
            return numbers
        return numbers.astype("Int64").reindex(values.index)
    if decimals and column.filled and column.decimals == column.filled:
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
    """A column as its declared kind.

    "number" is float64, "category" and "words" text, "categories" tuples. As
    categories, text is split at each "|". What is missing stays so.

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
    times: Written | None = None,
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """What `present` left as ids and times.

    Args:
        frame: rows of a table, or of a chunk of it.
        roles: as for `present`.
        where: names the table in messages.
        time_format: see `whole_seconds`.
        ticks: see `whole_seconds`.
        times: how the whole column of times is written, where that is text and `frame`
            a chunk.

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
        values % 1 == 0,
        values,
        where,
        "is not a whole number; read the column as text",
        step=2,
    )
    return values.astype("int64")


def _is_whole(value: Any) -> bool:
    return bool(
        isinstance(value, decimal.Decimal)
        and value.is_finite()
        and value == value.to_integral_value()
    )


def whole_seconds(
    values: pd.Series,
    where: Source,
    time_format: str | None,
    ticks: int,
    column: Written | None = None,
) -> tuple[pd.Series, np.ndarray]:
    """Times as int64 Unix seconds, and what they are finer.

    Integers stay integers all the way. A time before 1970 or after 2100 is refused: it
    is a fault in the log, or milliseconds taken for seconds, and would upset every
    split by time.

    Args:
        values: a column without gaps, or a chunk of it.
        where: names the table in messages.
        time_format: how to read dates that are not ISO 8601.
        ticks: the number of units in a second.
        column: how the whole column is written, if it is text; None where `values` are
            all of it.

    Returns:
        the seconds, and what is left of each time, in one unit for the whole column,
        float64, exact. Rows with finer times go by it before they go by their order.
    """
    given = values = plain_values(values)
    values = values.astype("str") if time_format is not None else values
    if values.dtype == "str":
        column = written(values) if column is None else column
        if time_format is None and column.numbers * 2 >= column.cells:
            mend = (
                "is not a number; write Unix seconds or ISO 8601 dates throughout, or"
                " pass time_format="
            )
            require(values.str.fullmatch(NUMBER), values, where, mend)
            integers = as_number(values, decimals=False, column=column)
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
    finer = (whole % ticks) + rest.astype("float64")
    return pd.Series(whole // ticks, values.index), finer


def require_believable(
    given: pd.Series, whole: np.ndarray, ticks: int, where: Source, are_numbers: bool
) -> None:
    """Refuse times before 1970 or after 2100; a second has `ticks` of their units."""
    early = "lies before 1970; mend it, or leave the cell empty and the row is dropped"
    require(pd.Series(whole >= 0, given.index), given, where, early, step=2)
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
        require(~late, given, where, f"lies in the year {year}; {mend}", step=3)


def require_exact(values: pd.Series, where: Source) -> None:
    """Refuse integers wider than int64, and floats that may have been rounded."""
    least, most = -(2**63), 2**63 - 1
    if types.is_float_dtype(values):  # 2**53 itself may be 2**53 + 1, rounded
        most = 2 ** (np.finfo(str(values.dtype)).nmant + 1) - 1
        least = -most
    require(
        (values >= least) & (values <= most),
        values,
        where,
        f"cannot be exact as {values.dtype}; read the column as int64 or as text",
        step=1,
    )


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


SEPARATORS = {".csv": ",", ".tsv": "\t"}


LINES = {".jsonl": ".jsonl", ".ndjson": ".jsonl"}


ENDINGS = ".csv, .tsv or .jsonl (each also .gz), or .parquet"


def read_table(
    source: str | Path | pd.DataFrame, exact: Collection[str | None]
) -> tuple[pd.DataFrame, Source]:
    """Read a table, and say what messages call it and its rows.

    Args:
        source: a file, a folder of Parquet parts, or a frame, which is numbered anew
            from 0.
        exact: columns whose values never pass through floating point.

    Raises:
        DataError: there is no such file, or it is no table.
    """
    if isinstance(source, pd.DataFrame):
        frame, where = source, Source("frame")
    else:
        frame, where = _read(Path(source), exact)
    check_names(frame, where)
    return frame, where


def check_names(frame: pd.DataFrame, where: Source) -> None:
    """Raise DataError where two columns have one name."""
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{where.name}: two columns are called '{twice}'; rename one")


def roles_of(
    frame: pd.DataFrame, user: str, item: str, time: str | None, where: Source
) -> dict[str, str]:
    """The columns of "user", "item" and, where there is one, "time".

    There is none where `time` is None, or "time" and the table lacks it.

    Raises:
        DataError: a column is absent, or asked for twice.
    """
    if time == "time" and time not in frame.columns:
        time = None
    roles = {"user": user, "item": item, **({"time": time} if time is not None else {})}
    for role, column in roles.items():
        if column not in frame.columns:
            raise DataError(
                f"{where.name}: no column '{column}'; {columns_of(frame)}; name the"
                f" {role} column"
            )
        if list(roles.values()).count(column) > 1:
            raise DataError(
                f"{where.name}: '{column}' is asked for twice; user, item and time need"
                " a column each"
            )
    return roles


def columns_of(frame: pd.DataFrame) -> str:
    """What columns there are, and what may be wrong where there is but one."""
    names = [str(column) for column in frame.columns]
    said = "its columns are " + ", ".join(f"'{name}'" for name in names)
    if len(names) == 1 and (signs := [sign for sign in ";\t|," if sign in names[0]]):
        said = (
            f"its one column is '{names[0]}'; is it separated by {signs[0]!r}? .csv has"
            " commas, .tsv tabs"
        )
    return said


def attribute(values: pd.Series, kinds: Mapping[str, str], where: Source) -> pd.Series:
    """A column that is neither id nor time: as declared, else as it is."""
    values = plain_values(values, where)
    return (
        declared(values, kinds[str(values.name)], where)
        if values.name in kinds
        else values
    )


def read_known(
    source: str | Path | pd.DataFrame,
    role: str,
    column: str,
    ids: pd.Series,
    kinds: Mapping[str, str],
) -> pd.DataFrame:
    """What is known about users or items.

    A table indexed by ids of the type that the events have.

    Args:
        source: a file, or a frame with a column or an index of ids.
        role: "user" or "item": what the index is called.
        column: of the ids.
        ids: those of the events.
        kinds: declared kinds of attributes.

    Raises:
        DataError: an id is missing, there twice or of another type, or an attribute is
            not what it is declared.
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
    known = table.drop(columns=column).apply(lambda one: attribute(one, kinds, where))
    return known.set_axis(pd.Index(values, name=role))


def file_kind(path: Path) -> tuple[str, bool]:
    """The kind of a file by its ending, and whether it is gzipped.

    It is ".csv", ".tsv", ".jsonl" or ".parquet". A folder is ".parquet": the parts of
    one table.

    Raises:
        DataError: there is no such file, or its ending is another.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path")
    if path.is_dir():
        return ".parquet", False
    name = path.name.lower()
    packed = name.endswith(".gz")
    ending = Path(name.removesuffix(".gz")).suffix
    kind = LINES.get(ending, ending)
    if kind not in (*SEPARATORS, ".jsonl", ".parquet") or (
        kind == ".parquet" and packed
    ):
        raise DataError(f"{path}: unknown ending; write {ENDINGS}")
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


def _read(path: Path, exact: Collection[str | None]) -> tuple[pd.DataFrame, Source]:
    kind, packed = file_kind(path)
    with one_line_errors(path):
        if kind == ".parquet":
            return _read_parquet(path)
        frame = (
            _read_json_lines(path, packed)
            if kind == ".jsonl"
            else next(text_frames(path))
        )
    read = from_json if kind == ".jsonl" else as_number
    return frame.apply(
        lambda values: read(values, decimals=values.name not in exact)
    ), Source(str(path))


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


def text_frames(path: Path, rows: int | None = None) -> Iterator[pd.DataFrame]:
    """A .csv or .tsv file as text, without its empty lines; the header is row 1.

    Args:
        path: the file, plain or .gz.
        rows: at most so many at once; None is all of it. There is one frame at least.

    Raises:
        DataError: it is no such file, or is damaged.
    """
    kind, packed = file_kind(path)
    options: dict[str, Any] = {
        "sep": SEPARATORS[kind],
        "dtype": str,
        "na_filter": False,
        "skip_blank_lines": False,
        "compression": "gzip" if packed else None,
    }
    with _one_line_of_text(path):
        # Pandas renames duplicates
        header = list(pd.read_csv(path, header=None, nrows=1, **options).iloc[0])
        reader = pd.read_csv(path, index_col=False, iterator=True, **options)
    first = 2
    with reader:
        while True:
            try:
                with _one_line_of_text(path):
                    frame = reader.read(rows)
            except StopIteration:
                return
            index = pd.RangeIndex(first, first + len(frame))
            frame, first = frame.set_axis(header, axis=1).set_axis(index), index.stop
            yield frame[(frame != "").any(axis=1)]  # editors leave empty lines
            if rows is None:
                return


@contextlib.contextmanager
def _one_line_of_text(path: Path) -> Iterator[None]:
    """Turn what pandas says of a broken .csv or .tsv file into one line."""
    try:
        # Pandas only warns where it cuts off columns without a name.
        with one_line_errors(path), warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty; it needs a header row and events") from None
    except pd.errors.ParserWarning:
        raise DataError(
            f"{path} row 1: fewer names than the rows have columns; name them all"
        ) from None
    except pd.errors.ParserError as error:
        fault = f": not a readable table ({one_line(error)}); make it anew"
        if wide := re.search(
            r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)
        ):
            fault = (
                f" row {wide[2]}: {wide[3]} columns under {wide[1]} names; put text"
                ' with commas in ""'
            )
        if quote := re.search(r"EOF inside string starting at row (\d+)", str(error)):
            fault = (
                f' row {int(quote[1]) + 1}: a quote " is opened and never closed;'
                " close it"
            )
        raise DataError(f"{path}{fault}") from None


def _read_json_lines(path: Path, packed: bool) -> pd.DataFrame:
    """A file with a JSON object a line; a key that an object lacks is missing there."""
    records, rows = [], []
    with _opened(path, packed) as file:
        for number, line in enumerate(file, 1):
            if text := line.removeprefix(b"\xef\xbb\xbf").strip():
                try:
                    record = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
                except UnicodeDecodeError:
                    raise
                except (ValueError, RecursionError) as error:
                    fault = (
                        f"not a JSON object ({one_line(error)}); write one object a"
                        " line"
                    )
                    raise DataError(f"{path} row {number}: {fault}") from None
                if not isinstance(record, dict):
                    kind = type(record).__name__
                    raise DataError(
                        f"{path} row {number}: a JSON {kind}, not an object; write one"
                        " object a line"
                    )
                if b"\\ud" in text.lower():
                    _refuse_halves(record, f"{path} row {number}")
                records.append(record)
                rows.append(number)
    if not records:
        raise DataError(f"{path} is empty; it needs a JSON object a line")
    names = dict.fromkeys(name for record in records for name in record)
    index = pd.Index(rows, dtype="int64")
    columns = {
        name: pd.Series([r.get(name) for r in records], index, dtype=object)
        for name in names
    }
    return pd.DataFrame(columns, index)


def _refuse_halves(record: dict[str, Any], where: str) -> None:
    """Raise where an escape stands for half a character, which no file can hold."""
    for name, value in record.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{where}: {one_line(repr(name))} holds half a character; write it anew"
            ) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are all different.

    JSON's own reader keeps the last of two and says nothing.
    """
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
