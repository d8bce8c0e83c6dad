"""Preparing, the first half.

DuckDB reads a log of any size, checks it, and gives back shards of it, sorted. The
rules are those of :func:`attncore.interactions.read_interactions`; where a value cannot
be read, the very code of that function writes the message. Only what a query returns is
ever in Python's memory.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from attncore.errors import DataError, one_line
from attncore.readers import (
    GAPS,
    LATEST,
    SEPARATORS,
    TICKS,
    Source,
    as_number,
    column_names,
    columns_of,
    exact_ids,
    file_kind,
    one_line_errors,
    parquet_parts,
    whole_seconds,
)

NUMBER = r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?"


WHOLE = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "HUGEINT",
)


LEAST = "-9223372036854775808"  # stands for an id that is no whole number


PLACES = 2**33  # rows that a sort key has room for, beside the nanoseconds of a time


@dataclass(frozen=True)
class Log:
    """A log inside DuckDB, checked.

    Table `kept` has user, item, time in seconds, and `place`, the order of rows.

    Attributes:
        database: the open connection.
        read: rows in the source.
        dropped: reason -> rows, without the duplicates that `shard` leaves out.
        item_type: "int64" or "str".
        items: ids of the catalogue, ascending; `item` in `shard` is the place in it,
            from 1.
        bounds: where shards begin, by user id; shard k has the users from bounds[k] on,
            before bounds[k + 1].
        drop_duplicates: leave out all but the first event of one user, item and second.
    """

    database: Any
    read: int
    dropped: dict[str, int]
    item_type: str
    items: np.ndarray
    bounds: list[Any]
    drop_duplicates: bool

    def shard(
        self, number: int, users: Path
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Write the user ids of a shard, ascending, to a file, and return its events.

        Returns:
            item indices (int32), times (int64), offsets (int64) of the users, and how
            many duplicates it had.
        """
        run = self.database.execute
        within, ends = "", self.bounds[number : number + 2]
        if number > 0:
            within += ' AND "user" >= $low'
        if number + 1 < len(self.bounds):
            within += ' AND "user" < $high'
        given = {
            name: end
            for name, end in zip(("low", "high"), ends, strict=False)
            if f"${name}" in within
        }
        read = run(f"SELECT count(*) FROM kept WHERE true{within}", given).fetchone()[0]
        events = f'SELECT "user", item, time, place FROM kept WHERE true{within}'
        if self.drop_duplicates:
            events = (
                f'SELECT "user", item, time, min(place) AS place FROM ({events}) GROUP'
                ' BY "user", item, time'
            )
        numbered = (
            f'SELECT "user", number, time, place FROM ({events}) JOIN catalogue USING'
            " (item)"
        )
        run(f"CREATE TABLE shard AS {numbered}", given)
        counted = (
            'SELECT "user", count(*) AS events FROM shard GROUP BY "user" ORDER BY'
            ' "user"'
        )
        lengths = run(f"SELECT events FROM ({counted})").fetchnumpy()["events"]
        run(
            f'COPY (SELECT "user" FROM ({counted})) TO {_text(str(users))} (FORMAT'
            " parquet)"
        )
        found = run(
            'SELECT number, time FROM shard ORDER BY "user", time, place'
        ).fetchnumpy()
        run("DROP TABLE shard")
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        items, times = (
            np.ascontiguousarray(found[name], dtype)
            for name, dtype in (("number", np.int32), ("time", np.int64))
        )
        return items, times, offsets, read - len(items)


@contextlib.contextmanager
def staged(
    source: Path,
    roles: dict[str, str],
    scratch: Path,
    time_unit: str = "s",
    drop_duplicates: bool = True,
    shards: int | None = None,
    memory: str = "1GB",
    threads: int | None = None,
) -> Iterator[Log]:
    """Read a log into DuckDB, on disk in `scratch`.

    It takes `memory` and a few hundred megabytes more.

    Args:
        source: .csv or .tsv, plain or .gz, .parquet, or a folder of .parquet parts.
        roles: the columns of "user", "item" and, where there is one, "time".
        scratch: a folder on a disk with room for the log.
        time_unit: of numeric times.
        drop_duplicates: see `Log`.
        shards: how many; None makes one for each 5 million events, 8 at least.
        memory: what DuckDB may take, as it writes it: "1GB".
        threads: None takes all cores.

    Raises:
        DataError: DuckDB is not installed, the log is broken, or memory or disk are too
            small.
    """
    try:
        import duckdb
    except ImportError:
        raise DataError(
            "preparing needs DuckDB; install it with: pip install 'attncore[prepare]'"
        ) from None
    settings: dict[str, Any] = {
        "memory_limit": memory,
        "temp_directory": str(scratch),
        "autoinstall_known_extensions": "false",
    }
    try:
        database = duckdb.connect(str(scratch / "log.duckdb"), config=settings)
    except duckdb.Error as error:
        raise DataError(
            f"memory is '{memory}': {one_line(error)}; write it like 1GB"
        ) from None
    try:
        database.execute("SET TimeZone = 'UTC'")
        if threads is not None:
            database.execute(f"SET threads = {int(threads)}")
        yield _Staging(database, source, roles, TICKS[time_unit]).log(
            drop_duplicates, shards
        )
    except duckdb.OutOfMemoryException as error:
        raise DataError(
            f"{source}: {memory} of memory are too few ({one_line(error)}); give more"
        ) from None
    except duckdb.IOException as error:
        if "space" in str(error):
            raise DataError(
                f"{scratch.parent}: no room to prepare {source}; choose another --out"
            ) from None
        raise DataError(
            f"{source}: cannot be read ({one_line(error)}); make it anew"
        ) from None
    except duckdb.InvalidInputException as error:
        raise DataError(_csv_fault(source, str(error))) from None
    except duckdb.Error as error:
        raise DataError(
            f"{source}: cannot be read ({one_line(error)}); make it anew"
        ) from None
    finally:
        database.close()


class _Staging:
    """The queries that make a `Log`."""

    def __init__(
        self, database: Any, source: Path, roles: dict[str, str], ticks: int
    ) -> None:
        self.run, self.database, self.source, self.roles, self.ticks = (
            database.execute,
            database,
            source,
            roles,
            ticks,
        )
        kind, packed = file_kind(source)
        self.is_text = kind != ".parquet"
        if self.is_text:
            self.where, self.first = Source(str(source)), 2
            columns, options = (
                column_names(source),
                "auto_detect = false, header = true",
            )
            typed = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in columns)
            options += (
                f", columns = {{{typed}}}, delim = {_text(SEPARATORS[kind])}, quote ="
                " '\"', escape = '\"'"
            )
            options += (
                f", compression = '{'gzip' if packed else 'none'}', allow_quoted_nulls"
                " = true"
            )
            self.table = f"read_csv({_text(str(source))}, {options})"
            self.types = dict.fromkeys(columns, "VARCHAR")
        else:
            parts = parquet_parts(source)
            counts = []
            for part in parts:
                with one_line_errors(part):
                    counts.append((str(part), pq.ParquetFile(part).metadata.num_rows))
            self.where, self.first = (
                Source(str(source), tuple(counts) if source.is_dir() else ()),
                1,
            )
            self.table = (
                f"read_parquet([{', '.join(_text(str(part)) for part in parts)}])"
            )
            rows = self.run(f"DESCRIBE SELECT * FROM {self.table}").fetchall()
            self.types = {row[0]: row[1] for row in rows}
        for role, column in roles.items():
            if column not in self.types:
                said = columns_of(pd.DataFrame(columns=list(self.types)))
                raise DataError(
                    f"{self.where.name}: no column '{column}'; {said}; name the {role}"
                    " column"
                )

    def log(self, drop_duplicates: bool, shards: int | None) -> Log:
        """Read, check, number."""
        self.written = self._written()
        kinds = {role: self._id_kind(role) for role in ("user", "item")}
        values = {role: self._id(role, kinds[role]) for role in kinds}
        values |= {"time": "0", "finer": "0"}
        if "time" in self.roles:
            values |= self._time()
        blank = (
            " AND ".join(f"coalesce({_name(name)}, '') = ''" for name in self.types)
            if self.is_text
            else "false"
        )
        columns = ", ".join(
            f'{value} AS "{name}"'
            for name, value in (values | {"blank": blank}).items()
        )
        self.run(f"CREATE TABLE events AS SELECT {columns} FROM {self.table}")
        self._refuse_bad(kinds)
        read, dropped, missing = (
            self._one("SELECT count(*) FROM events WHERE NOT blank"),
            {},
            "blank",
        )
        for role in self.roles:
            dropped[f"without {role}"] = self._one(
                f'SELECT count(*) FROM events WHERE NOT ({missing}) AND "{role}" IS'
                " NULL"
            )
            missing += f' OR "{role}" IS NULL'
        if read == sum(dropped.values()):
            raise DataError(
                f"{self.where.name}: no events ({read} rows below the header); a row"
                " needs a user and an item"
            )
        if read >= PLACES:
            raise DataError(
                f"{self.where.name}: {read:,} rows; prepare it in parts of at most"
                f" {PLACES:,}"
            )
        # what is finer than a second decides the order, then the row
        place = (
            f"finer * {PLACES} + rowid"
            if "time" in self.roles and self._one("SELECT max(finer) FROM events")
            else "rowid"
        )
        time = (
            "time" if "time" in self.roles else "row_number() OVER (ORDER BY rowid) - 1"
        )
        kind = "VIEW" if "time" in self.roles else "TABLE"
        kept = (
            f'SELECT "user", item, {time} AS time, {place} AS place FROM events WHERE'
            f" NOT ({missing})"
        )
        self.run(f"CREATE {kind} kept AS {kept}")
        self.run(
            "CREATE TABLE catalogue AS SELECT item, CAST(row_number() OVER (ORDER BY"
            " item) AS INTEGER) AS number FROM (SELECT DISTINCT item FROM events WHERE"
            f" NOT ({missing}))"
        )
        items = self.run("SELECT item FROM catalogue ORDER BY number").fetchnumpy()[
            "item"
        ]
        return Log(
            self.database,
            read,
            {reason: count for reason, count in dropped.items() if count},
            "int64" if kinds["item"] == "whole" else "str",
            np.asarray(items, np.int64 if kinds["item"] == "whole" else object),
            self._bounds(read, shards or max(8, -(-read // 5_000_000))),
            drop_duplicates and "time" in self.roles,
        )

    def _bounds(self, read: int, shards: int) -> list[Any]:
        """User ids at which shards of about equally many events begin, by a sample."""
        step = max(1, read // 100_000)
        sample = self.run(
            f'SELECT "user" FROM kept WHERE hash(place) % {step} = 0 ORDER BY "user"'
        ).fetchall()
        firsts = (
            [sample[len(sample) * k // shards][0] for k in range(shards)]
            if sample
            else [None]
        )
        return list(dict.fromkeys(firsts))

    def _one(self, query: str) -> int:
        return int(self.run(query).fetchone()[0] or 0)

    def _written(self) -> dict[str, tuple[int, ...]]:
        """Of each text column, in one pass.

        Cells that are filled, whole numbers, words for nothing, and numbers.
        """
        roles = [
            role
            for role, column in self.roles.items()
            if self.types[column] == "VARCHAR"
        ]
        if not self.is_text:
            roles = [role for role in roles if role == "time"]
        counts = [
            "filled",
            "filled AND {whole}",
            "filled AND {column} IN {gaps}",
            "filled AND {number}",
        ]
        wanted = []
        for role in roles:
            column = _name(self.roles[role])
            number = (
                f"regexp_full_match({column}, '{NUMBER}')"
                if role == "time"
                else "false"
            )
            told = {
                "column": column,
                "whole": _whole(column),
                "gaps": GAPS,
                "number": number,
            }
            filled = f"NOT {_blank(column)}"
            wanted += [
                f"count(*) FILTER ({test.format(**told).replace('filled', filled, 1)})"
                for test in counts
            ]
        found = (
            self.run(f"SELECT {', '.join(wanted)} FROM {self.table}").fetchone()
            if wanted
            else ()
        )
        return {role: tuple(found[4 * n : 4 * n + 4]) for n, role in enumerate(roles)}

    def _id_kind(self, role: str) -> str:
        """Whether ids are "whole" numbers or "text".

        .csv says so by how it is written, .parquet by the type.
        """
        if self.is_text:
            filled, whole, words, _ = self.written[role]
            return "whole" if whole and whole + words == filled else "text"
        sql_type = self.types[self.roles[role]]
        if sql_type in (*WHOLE, "FLOAT", "DOUBLE") or sql_type.startswith("DECIMAL"):
            return "whole"
        if sql_type not in ("VARCHAR", "UUID"):
            raise DataError(
                f"{self.where.name}: {self.roles[role]} ids are {sql_type}; ids are"
                " whole numbers or text"
            )
        return "text"

    def _id(self, role: str, kind: str) -> str:
        """The id in SQL: NULL where it is missing.

        What should be a whole number and is none is `LEAST`.
        """
        column, sql_type = _name(self.roles[role]), self.types[self.roles[role]]
        if self.is_text:
            text = f"CASE WHEN NOT {_blank(column)} THEN {column} END"
            return f"TRY_CAST({column} AS BIGINT)" if kind == "whole" else text
        if kind == "text":
            text = f"CAST({column} AS VARCHAR)"
            return f"CASE WHEN NOT {_blank(text)} THEN {text} END"
        most = {"FLOAT": 2**24 - 1, "DOUBLE": 2**53 - 1}.get(sql_type, 2**63 - 1)
        whole = (
            f"{column} = floor({column}) AND abs({column}) <= {most}"
            if sql_type not in WHOLE
            else "true"
        )
        missing = f"{column} IS NULL" + (
            f" OR isnan({column})" if sql_type in ("FLOAT", "DOUBLE") else ""
        )
        value = f"coalesce(TRY_CAST({column} AS BIGINT), {LEAST})"
        return (
            f"CASE WHEN {missing} THEN NULL WHEN {whole} THEN {value} ELSE {LEAST} END"
        )

    def _time(self) -> dict[str, str]:
        """Seconds, and nanoseconds beyond them, in SQL.

        NULL where missing, -1 where not readable or believable.
        """
        column, sql_type = _name(self.roles["time"]), self.types[self.roles["time"]]
        self.time_numbers = sql_type in (*WHOLE, "FLOAT", "DOUBLE")
        if sql_type == "VARCHAR":
            filled, whole, words, numbers = self.written["time"]
            self.time_numbers = 2 * numbers >= filled
            missing, is_whole = (
                _blank(column),
                not self.time_numbers or 0 < whole == filled - words,
            )
            self.like = (
                "2000-01-01" if not self.time_numbers else "0" if is_whole else "0.5"
            )
            if self.time_numbers:
                missing += f" OR {column} IN {GAPS}" if is_whole else ""
                value = f"TRY_CAST({column} AS {'BIGINT' if is_whole else 'DOUBLE'})"
                good = f"regexp_full_match({column}, '{NUMBER}')"
            else:
                value = f"epoch_us(TRY_CAST({column} AS TIMESTAMPTZ))"
                good = f"regexp_matches({column}, '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}')"
        elif self.time_numbers:
            missing, value, good, is_whole = (
                f"{column} IS NULL",
                column,
                "true",
                sql_type in WHOLE,
            )
            if not is_whole:
                missing += f" OR isnan({column})"
        elif sql_type.startswith("TIMESTAMP") or sql_type == "DATE":
            value = (
                f"epoch_us(CAST({column} AS TIMESTAMPTZ))"
                if sql_type == "DATE"
                else f"epoch_us({column})"
            )
            missing, good, is_whole = f"{column} IS NULL", "true", True
        else:
            raise DataError(
                f"{self.where.name}: {self.roles['time']} values are {sql_type}; times"
                " are Unix seconds or dates"
            )
        ticks = self.ticks if self.time_numbers else 10**6
        most = LATEST * ticks if is_whole else min(LATEST * ticks, 2**53 - 1)
        good = f"{good} AND {value} BETWEEN 0 AND {most}"
        ticked = value if is_whole else f"CAST(floor({value}) AS BIGINT)"
        finer = f"({ticked} % {ticks}) * {10**9 // ticks}"
        if not is_whole:
            finer += (
                f" + CAST(floor(({value} - floor({value})) * {10**9 // ticks}) AS"
                " BIGINT)"
            )
        case = f"CASE WHEN {missing} THEN NULL WHEN {good} THEN"
        return {
            "time": f"{case} {ticked} // {ticks} ELSE -1 END",
            "finer": f"{case} {finer} ELSE -1 END",
        }

    def _refuse_bad(self, kinds: dict[str, str]) -> None:
        """Raise for the first id or time that could not be read.

        The words are those of the reader that has it in memory.
        """
        tests = {
            role: f'"{role}" = {LEAST}'
            for role, kind in kinds.items()
            if kind == "whole" and not self.is_text
        }
        if "time" in self.roles:
            tests["time"] = "time < 0"
        for role, test in tests.items():
            found = self.run(
                f"SELECT rowid FROM events WHERE {test} ORDER BY rowid LIMIT 1"
            ).fetchone()
            if found is None:
                continue
            column, row = self.roles[role], found[0] + self.first
            query = (
                f"SELECT {_name(column)} FROM {self.table} LIMIT 1 OFFSET {found[0]}"
            )
            value = next(iter(self.run(query).fetchone()))
            if role != "time":
                exact_ids(pd.Series([value], [row], name=column), self.where)
            elif self.types[column] == "VARCHAR":
                cells = as_number(
                    pd.Series([self.like, self.like, value], [-1, 0, row], name=column),
                    decimals=False,
                )
                whole_seconds(cells, self.where, None, self.ticks)
            else:
                whole_seconds(
                    pd.Series([value], [row], name=column), self.where, None, self.ticks
                )
            raise DataError(
                f"{self.where.row(row)}: {column} {one_line(repr(value))} cannot be"
                " read; mend it"
            )


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _blank(column: str) -> str:
    return rf"({column} IS NULL OR regexp_full_match({column}, '\s*'))"


def _whole(column: str) -> str:
    """True where text is written as an int64 would be: "007" and "+7" are names."""
    return f"coalesce(CAST(TRY_CAST({column} AS BIGINT) AS VARCHAR) = {column}, false)"


def _csv_fault(source: Path, error: str) -> str:
    """DuckDB's words about a broken .csv file, as one line of ours."""
    line = re.search(r"CSV Error on Line: (\d+)", error)
    where = f"{source} row {line[1]}" if line else str(source)
    if wide := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", error):
        mend = (
            'put text with commas in ""'
            if int(wide[2]) > int(wide[1])
            else "write the missing cells"
        )
        return f"{where}: {wide[2]} columns under {wide[1]} names; {mend}"
    if "unterminated quote" in error.lower():
        return f'{where}: a quote " is opened and never closed; close it'
    if "unicode" in error.lower() or "utf-8" in error.lower():
        return f"{where}: not UTF-8 text; save it as UTF-8"
    said = [text for text in error.splitlines() if text.strip()]
    return (
        f"{where}: not a readable table ({one_line(' '.join(said[:2]))}); make it anew"
    )
