"""Preparing, the first half.

A log of any size goes chunk by chunk through the cleaning of
:func:`attncore.interactions.read_interactions` (:func:`attncore.readers.present` and
:func:`attncore.readers.clean`) into DuckDB, which gives back shards of it, sorted and
without duplicates. Only a chunk, and what a query returns, is ever in memory.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from attncore.errors import DataError, one_line
from attncore.readers import (
    TICKS,
    RefusedError,
    Source,
    Written,
    as_number,
    check_names,
    clean,
    file_kind,
    parquet_frames,
    parquet_schema,
    plain_values,
    present,
    roles_of,
    text_frames,
    written,
)

ROWS = 1 << 16  # of a chunk


PLACES = 2**33  # rows that a sort key has room for, beside what is finer than seconds


@dataclass(frozen=True)
class Log:
    """A log inside DuckDB, checked.

    Table `kept` has user, item, time in seconds, and `place`, the order of rows of one
    second.

    Attributes:
        database: the open connection.
        read: rows in the source.
        dropped: reason -> rows, without the duplicates that `shard` leaves out.
        item_type: "int64" or "str".
        items: ids of the catalogue, ascending; `item` in `shard` is the place in it,
            from 1.
        bounds: where shards begin, by user id; shard k has the users from bounds[k] on,
            before bounds[k + 1].
        has_time: whether there are times; else `time` numbers the rows.
        drop_duplicates: leave out all but the first event of one user, item and second.
    """

    database: Any
    read: int
    dropped: dict[str, int]
    item_type: str
    items: np.ndarray
    bounds: list[Any]
    has_time: bool
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
    columns: tuple[str, str, str | None],
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
        columns: of users, items and times; see `read_interactions`.
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
        if threads is not None:
            database.execute(f"SET threads = {int(threads)}")
        chunks = _Chunks(source, columns, scratch)
        yield _log(database, chunks, TICKS[time_unit], drop_duplicates, shards)
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
    except duckdb.Error as error:
        raise DataError(
            f"{source}: cannot be read ({one_line(error)}); make it anew"
        ) from None
    finally:
        database.close()


class _Chunks:
    """Ids and times as they are written, chunk by chunk, as often as is asked.

    A file of text is read once. Meanwhile it is counted what only a whole column
    decides, and the columns that are asked for are put into `scratch`.

    Raises:
        DataError: there is no such file, it is damaged, a column is absent, or the disk
            is full.
    """

    def __init__(
        self, source: Path, columns: tuple[str, str, str | None], scratch: Path
    ) -> None:
        self.source, self.where = source, Source(str(source))
        self.written: dict[str, Written] = {}
        self.kept: Path | None = None
        kind, _ = file_kind(source)
        if kind == ".jsonl":
            raise DataError(
                f"{source}: only .csv, .tsv and .parquet can be prepared; write it as"
                " one of them"
            )
        if kind == ".parquet":
            _, schema, self.where = parquet_schema(source)
            self._name(pd.DataFrame(columns=schema.names), columns)
        else:
            try:
                self._keep(columns, scratch / "log.arrow")
            except OSError as error:  # of writing: what cannot be read is a DataError
                raise DataError(
                    f"{scratch.parent}: no room to prepare {source}"
                    f" ({one_line(error)}); choose another --out"
                ) from None

    def _name(self, frame: pd.DataFrame, columns: tuple[str, str, str | None]) -> None:
        check_names(frame, self.where)
        self.roles = roles_of(frame, *columns, self.where)

    def _keep(self, columns: tuple[str, str, str | None], kept: Path) -> None:
        fault: DataError | None = None
        with contextlib.ExitStack() as files:
            writer = None
            for number, frame in enumerate(text_frames(self.source, ROWS)):
                try:
                    if number == 0:
                        self._name(frame, columns)
                except DataError as error:  # unless the file is worse further on
                    fault = error
                if fault is not None:
                    continue
                for column in self.roles.values():
                    so_far = self.written.get(column, Written())
                    self.written[column] = so_far + written(frame[column])
                table = pa.table(
                    {role: frame[column] for role, column in self.roles.items()}
                    | {"row": frame.index.to_numpy()}
                )
                if writer is None:
                    options = pa.ipc.IpcWriteOptions(compression="lz4")
                    file = files.enter_context(pa.OSFile(str(kept), "wb"))
                    stream = pa.ipc.new_stream(file, table.schema, options=options)
                    writer = files.enter_context(stream)
                writer.write_table(table)
        if fault is not None:
            raise fault
        self.kept = kept

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Frames of the columns in `roles`, with typed ids and times."""
        if self.kept is None:
            yield from parquet_frames(self.source, list(self.roles.values()), ROWS)
            return
        with pa.OSFile(str(self.kept)) as file:
            for batch in pa.ipc.open_stream(file):
                frame = batch.to_pandas()
                texts = frame.drop(columns="row").set_axis(
                    list(self.roles.values()), axis=1
                )
                yield texts.set_axis(pd.Index(frame["row"], name=None)).apply(
                    lambda values: as_number(
                        values, decimals=False, column=self.written[values.name]
                    )
                )

    def times(self) -> Written | None:
        """How the times of complete rows are written, where they are text."""
        found = Written()
        for frame in self:
            kept, _ = present(frame, self.roles, self.where)
            if kept.empty:
                continue
            values = plain_values(kept[self.roles["time"]])
            if values.dtype != "str":
                return None
            found += written(values)
        return found

    def close(self) -> None:
        """Delete what was put into `scratch`."""
        if self.kept is not None:
            self.kept.unlink()


def _log(
    database: Any,
    chunks: _Chunks,
    ticks: int,
    drop_duplicates: bool,
    shards: int | None,
) -> Log:
    """Clean all chunks into the table `events`, and number its items."""
    where, has_time = chunks.where, "time" in chunks.roles
    times = chunks.times() if has_time else None
    read, events, is_finer = 0, 0, False
    dropped: Counter[str] = Counter()
    refused: RefusedError | None = None
    for frame in chunks:
        kept, without = present(frame, chunks.roles, where)
        read += len(frame)
        dropped.update(without)
        if kept.empty:
            continue
        try:
            columns, finer = clean(kept, chunks.roles, where, None, ticks, times)
        except RefusedError as error:
            if refused is None or error.step < refused.step:
                refused = error
        if refused is not None:
            continue
        place = np.arange(events, events + len(columns))
        if finer is None:
            columns["time"], finer = place, np.zeros(len(columns))
        is_finer = is_finer or bool(finer.any())
        # As bits, floats from 0 on keep their order.
        columns = columns.assign(finer=finer.view(np.int64), place=place)
        database.register("chunk", pa.Table.from_pandas(columns, preserve_index=False))
        into = "INSERT INTO events" if events else "CREATE TABLE events AS"
        database.execute(f"{into} SELECT * FROM chunk")
        database.unregister("chunk")
        events += len(columns)
        whole_items = columns["item"].dtype == "int64"
    chunks.close()
    if read == dropped.total():
        raise DataError(
            f"{where.name}: no events ({read} rows below the header); a row needs a"
            " user and an item"
        )
    if refused is not None:
        raise DataError(str(refused))
    if events >= PLACES:
        raise DataError(
            f"{where.name}: {events:,} rows; prepare it in parts of at most {PLACES:,}"
        )
    # What is finer than a second decides the order, then the row.
    order = f"CAST(finer AS HUGEINT) * {PLACES} + place" if is_finer else "place"
    database.execute(
        f'CREATE VIEW kept AS SELECT "user", item, time, {order} AS place FROM events'
    )
    database.execute(
        "CREATE TABLE catalogue AS SELECT item, CAST(row_number() OVER (ORDER BY item)"
        " AS INTEGER) AS number FROM (SELECT DISTINCT item FROM events)"
    )
    items = database.execute("SELECT item FROM catalogue ORDER BY number").fetchnumpy()
    return Log(
        database,
        read,
        {reason: count for reason, count in dropped.items() if count},
        "int64" if whole_items else "str",
        np.asarray(items["item"], np.int64 if whole_items else object),
        _bounds(database, read, shards or max(8, -(-read // 5_000_000))),
        has_time,
        drop_duplicates and has_time,
    )


def _bounds(database: Any, read: int, shards: int) -> list[Any]:
    """User ids at which shards of about equally many events begin, by a sample."""
    step = max(1, read // 100_000)
    sample = database.execute(
        f'SELECT "user" FROM kept WHERE hash(place) % {step} = 0 ORDER BY "user"'
    ).fetchall()
    firsts = (
        [sample[len(sample) * k // shards][0] for k in range(shards)]
        if sample
        else [None]
    )
    return list(dict.fromkeys(firsts))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
