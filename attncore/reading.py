"""Stage 1a, files: CSV, TSV, JSON lines and Parquet become a pandas frame whose index says where each row stands.

Nothing is guessed that could be wrong in silence: text stays text unless a whole column
is written as numbers are, and what cannot be read is one :class:`DataError` line.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api import types

from attncore.columns import (
    DataError,
    Source,
    as_number,
    blank,
    declared,
    exact_ids,
    from_json,
    one_line,
    plain_values,
    require,
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
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{where.name}: two columns are called '{twice}'; rename one")
    return frame, where


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
    """What is known about users or items: a table indexed by ids of the type that the events have.

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
    """The kind of a file by its ending, ".csv", ".tsv", ".jsonl" or ".parquet", and whether it is gzipped.

    A folder is ".parquet": the parts of one table.

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
    """The file itself, or a folder's Parquet parts in order of their names; names that begin with _ or . are not.

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


def column_names(path: Path) -> list[str]:
    """The names of a log's columns, from the header of a .csv or .tsv file or the schema of the first Parquet part.

    Raises:
        DataError: there is none, or two columns have one name.
    """
    kind, packed = file_kind(path)
    with one_line_errors(path):
        if kind == ".parquet":
            return list(pq.ParquetFile(parquet_parts(path)[0]).schema_arrow.names)
        if kind == ".jsonl":
            raise DataError(
                f"{path}: only .csv, .tsv and .parquet can be prepared; write it as one"
                " of them"
            )
        with io.TextIOWrapper(
            _opened(path, packed), encoding="utf-8-sig", newline=""
        ) as file:
            names = next(csv.reader(file, delimiter=SEPARATORS[kind]), None)
    if not names:
        raise DataError(f"{path} is empty; it needs a header row and events")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: two columns are called '{twice}'; rename one")
    return names


def _read(path: Path, exact: Collection[str | None]) -> tuple[pd.DataFrame, Source]:
    kind, packed = file_kind(path)
    with one_line_errors(path):
        if kind == ".parquet":
            return _read_parquet(path)
        frame = (
            _read_json_lines(path, packed)
            if kind == ".jsonl"
            else _read_text(path, SEPARATORS[kind], packed)
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


def _read_text(path: Path, separator: str, packed: bool) -> pd.DataFrame:
    """A .csv or .tsv file as text, without its empty lines; the header is row 1."""
    options: dict[str, Any] = {
        "sep": separator,
        "dtype": str,
        "na_filter": False,
        "skip_blank_lines": False,
        "compression": "gzip" if packed else None,
    }
    try:
        header = pd.read_csv(path, header=None, nrows=1, **options).iloc[
            0
        ]  # pandas renames duplicates
        with (
            warnings.catch_warnings()
        ):  # and only warns where it cuts off columns without a name
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(path, index_col=False, **options)
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
    frame = frame.set_axis(list(header), axis=1).set_axis(
        pd.RangeIndex(2, len(frame) + 2)
    )
    return frame[(frame != "").any(axis=1)]  # editors leave empty lines at the end


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
    """An object whose names are all different; JSON's own reader keeps the last of two and says nothing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _read_parquet(path: Path) -> tuple[pd.DataFrame, Source]:
    """A Parquet file, or a folder of parts with the same columns; rows count from 1 in each."""
    tables: list[pa.Table] = []
    parts = parquet_parts(path)
    for part in parts:
        with one_line_errors(part):
            tables.append(pq.ParquetFile(part).read())
        names, first = tables[-1].schema.names, tables[0].schema.names
        if sorted(names) != sorted(first):
            odd = sorted({*names} ^ {*first}) or names
            raise DataError(
                f"{part}: column '{odd[0]}' is not in all parts; give them the same"
                " columns"
            )
        if len(parts) > 1:
            tables[-1] = tables[-1].select(first)
    try:
        table = pa.concat_tables(
            tables, promote_options="default"
        )  # a column of nulls alone takes any type
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}: its parts differ in type ({one_line(error)}); write them alike"
        ) from None
    # What pandas noted beside the columns may be damaged. One missing value must not
    # turn the others into floats.
    with one_line_errors(path):
        frame = table.replace_schema_metadata(None).to_pandas(integer_object_nulls=True)
    counts = tuple(
        (str(part), len(one)) for part, one in zip(parts, tables, strict=True)
    )
    where = Source(str(path), counts if path.is_dir() else ())
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1)), where
