"""Logs of any size are written as the prepared form that `prepared` reads.

A log goes chunk by chunk through the cleaning of `read_interactions` (`readers.present`
and `readers.clean`) into DuckDB, which gives back shards of it, sorted and without
duplicates; numpy divides one shard at a time. Only a chunk, and what a query returns,
is ever in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attncore.errors import DataError, expect_path, one_line
from attncore.files import UNFINISHED
from attncore.interactions import ReadSummary
from attncore.large.prepared import PARTS, Prepared, mapped
from attncore.readers import (
    EARLY,
    ROWS,
    TICKS,
    Layout,
    RefusedError,
    Source,
    as_number,
    check_kinds,
    check_names,
    clean,
    file_kind,
    parquet_frames,
    parquet_schema,
    plain_values,
    present,
    read_known,
    require_one_era,
    require_tie,
    roles_of,
    text_frames,
    told_shares,
    written,
)
from attncore.splits import protocol_of, require_shares

TIE = "\x1ftie"  # a name that no column of a log has
PLACES = 2**33  # rows that a sort key has room for, beside what is finer than seconds
FILES = ("items.i32", "<i4"), ("times.i64", "<i8"), ("offsets.i64", "<i8")
STRETCH = 2**16  # seconds: times are counted by such stretches to find where to cut


def prepare(
    source: str | Path,
    out: str | Path,
    user: str = "user",
    item: str = "item",
    time: str | None = "time",
    *,
    items: str | Path | pd.DataFrame | None = None,
    split: str = "leave-one-out",
    valid: float = 0.1,
    test: float = 0.1,
    shards: int | None = None,
    memory: str = "1GB",
    threads: int | None = None,
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
) -> Prepared:
    """Turn a log of any size into the prepared form, and divide it.

    The rules are those of `read_interactions`, by the same code. The log is never in
    memory: it is cleaned in chunks of 65,536 rows, and DuckDB sorts it within `memory`,
    beside a few hundred megabytes for one shard at a time. What was read, kept and
    dropped is in the summary. Attributes of events are left out.

    Args:
        source: .csv or .tsv, plain or .gz, .parquet, or a folder of .parquet parts.
        out: a folder that does not exist yet; the disk beside it needs room for the log
            twice over.
        user, item, time, items, name, repeats, drop_duplicates: as for
            `read_interactions`.
        min_count, time_format, time_unit, tie, in_order: as for `read_interactions`.
        separator, header, quoted, kinds: as for `read_interactions`.
        split: "leave-one-out", or "time" with the shares `valid` and `test` of the
            events.
        valid, test: see `split_by_time`.
        shards: how many, at least as many as processes will train; None makes one for
            each 5 million events, 8 at least. A log of few users may give fewer.
        memory: what DuckDB may take of it, such as "1GB".
        threads: what DuckDB may use of the cores; None is all.

    Raises:
        DataError: the log is broken, the folder is there already, or DuckDB is not
            installed.
    """
    expect_path(source, "prepare", "the path of a log")
    expect_path(out, "prepare, out", "the path of a folder to write")
    source, out = Path(source), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; give another folder, or delete it")
    if time_unit not in TICKS:
        raise DataError(f"time_unit is '{time_unit}'; it is one of {', '.join(TICKS)}")
    if split not in ("leave-one-out", "time"):
        raise DataError(f"split is '{split}'; it is leave-one-out or time")
    if min_count < 1:
        raise DataError(f"min_count is {min_count}; it must be at least 1")
    require_shares(valid, test)
    check_kinds(kinds or {}, {"user": user, "item": item, "time": time})
    called = name or source.name.split(".")[0]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=UNFINISHED) as place:
        scratch, fresh = Path(place), Path(place) / "prepared"
        fresh.mkdir()
        columns = user, item, None if in_order else time
        how = (time_unit, drop_duplicates, shards, memory, threads, time_format)
        layout = Layout(separator, header, quoted)
        with staged(
            source, columns, scratch, *how, layout, tie, min_count, called
        ) as log:
            names = [f"shard-{number:05d}" for number in range(len(log.bounds))]
            found: Counter[str] = Counter()
            for number, shard in enumerate(names):
                found += log.write_shard(number, fresh / shard)
            found = found if log.counted is None else log.counted
            dropped = log.dropped
            if twice := found["duplicates"]:
                dropped = dropped | {"duplicates": twice}
            kept = log.read - sum(dropped.values())
            again = 0 if repeats else found["again"]
            log.notes.extend(told_shares(kept, found["tied"], again))
            known = _known_items(log, items, item, kinds)
            if few := found["few"]:
                dropped = dropped | {f"below min_count={min_count}": few}
        summary = ReadSummary(log.read, kept - few, dropped, log.notes)
        protocol: dict[str, Any] = {"split": split}
        cuts = None
        if split == "time":
            if not log.has_time:
                raise DataError(
                    f"{called}: has no time column, so it cannot be split by time; use"
                    " leave-one-out"
                )
            cuts = _cuts(fresh, names, summary.kept, valid, test)
            protocol |= {"valid_from": cuts[0], "test_from": cuts[1]}
        counts = np.zeros(len(log.items), np.int64)
        digest = hashlib.sha256(repr(log.items.tolist()).encode())
        without = sum(_divide(fresh / shard, cuts, counts, digest) for shard in names)
        if cuts is not None:
            protocol["users_without_history"] = without
        table = {"item": log.items, "count": counts, **known}
        pq.write_table(pa.table(table), fresh / "items.parquet")
        about = {
            "format": 1,
            "name": called,
            "checksum": digest.hexdigest(),
            "protocol": protocol_of(protocol, repeats),
            "shards": names,
            "summary": asdict(summary),
            "reading": {
                "user": user,
                "item": item,
                "time": time,
                "in_order": in_order,
                "time_unit": time_unit,
                "time_format": time_format,
                "tie": tie,
                "separator": separator,
                "header": header,
                "quoted": quoted,
                "repeats": repeats,
            },
        }
        text = json.dumps(about, indent=1)
        (fresh / "prepared.json").write_text(text, encoding="utf-8")
        fresh.replace(out)
    return Prepared.open(out)


@dataclass(frozen=True)
class Log:
    """A log inside DuckDB, checked.

    Table `kept` has user, item, time in seconds, `finer`, what is finer than seconds,
    `place`, the order of rows of one second, and `tie`, what breaks ties in time, NULL
    where nothing does; table `catalogue` numbers the items.

    Attributes:
        database: the open connection.
        read: rows in the source.
        dropped: reason -> rows, without the duplicates that shards leave out.
        notes: what reading had to say.
        item_type: "int64" or "str".
        items: ids of the catalogue, ascending.
        described: ids that a table of items is held against: those of the catalogue,
            and of items that were too rare for it.
        bounds: where shards begin, by user id; shard k has the users from bounds[k] on,
            before bounds[k + 1].
        has_time: whether there are times; else `time` numbers the rows.
        drop_duplicates: leave out all but the first event of one user, item and time.
        counted: what `write_shard` counts, and how many events are of "few", where it
            was counted before the rare were left out; else None.
    """

    database: Any
    read: int
    dropped: dict[str, int]
    notes: list[str]
    item_type: str
    items: np.ndarray
    described: np.ndarray
    bounds: list[Any]
    has_time: bool
    drop_duplicates: bool
    counted: Counter[str] | None = None

    def write_shard(self, number: int, folder: Path) -> Counter[str]:
        """Write whole histories of a shard's users, ascending.

        Returns:
            how many events were "duplicates", are "tied" with another of their user, or
            take an item "again".
        """
        folder.mkdir()
        run = self.database.execute
        within, given = "true", {}
        if number > 0:
            within, given["low"] = f'{within} AND "user" >= $low', self.bounds[number]
        if number + 1 < len(self.bounds):
            end = self.bounds[number + 1]
            within, given["high"] = f'{within} AND "user" < $high', end
        read = run(f"SELECT count(*) FROM kept WHERE {within}", given).fetchone()[0]
        events = f"SELECT * FROM kept WHERE {within}"
        if self.drop_duplicates:
            events = _first_of_each(events)
        run(
            'CREATE TABLE shard AS SELECT "user", number, time, finer, tie, place'
            f" FROM ({events}) JOIN catalogue USING (item)",
            given,
        )
        counted = (
            'SELECT "user", count(*) AS n FROM shard GROUP BY "user" ORDER BY "user"'
        )
        lengths = run(f"SELECT n FROM ({counted})").fetchnumpy()["n"]
        users = str(folder / "users.parquet").replace("'", "''")
        run(f"COPY (SELECT \"user\" FROM ({counted})) TO '{users}' (FORMAT parquet)")
        found = run(
            'SELECT number, time FROM shard ORDER BY "user", time, place'
        ).fetchnumpy()
        told = _told(self.database, "shard", "number")
        run("DROP TABLE shard")
        offsets = np.append(0, np.cumsum(lengths))
        _write(folder, "all", found["number"], found["time"], offsets)
        return told + Counter(duplicates=read - len(found["time"]))


def _first_of_each(events: str) -> str:
    """A query for the first of the events of one user, item and time."""
    return (
        'SELECT "user", item, time, finer, arg_min(tie, place) AS tie,'
        f' min(place) AS place FROM ({events}) GROUP BY "user", item, time, finer'
    )


def _told(database: Any, table: str, item: str) -> Counter[str]:
    """How many events are "tied" with another of their user, or are of a pair "again".

    Args:
        database: the open connection.
        table: of events, without duplicates.
        item: its column of items.
    """
    groups = f'SELECT count(*) AS n FROM {table} GROUP BY "user"'
    tied, kept, pairs = database.execute(
        f"SELECT (SELECT sum(n) FROM ({groups}, time, finer, tie) WHERE n > 1),"
        f" (SELECT count(*) FROM {table}), (SELECT count(*) FROM ({groups}, {item}))"
    ).fetchone()
    return Counter(tied=int(tied or 0), again=kept - pairs)


@contextlib.contextmanager
def staged(
    source: Path,
    columns: tuple[str, str, str | None],
    scratch: Path,
    time_unit: str,
    drop_duplicates: bool,
    shards: int | None,
    memory: str = "1GB",
    threads: int | None = None,
    time_format: str | None = None,
    layout: Layout | None = None,
    tie: str | None = None,
    min_count: int = 1,
    name: str = "log",
) -> Iterator[Log]:
    """Read a log into DuckDB, on disk in `scratch`; arguments as for `prepare`.

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
        chunks = _Chunks(source, columns, scratch, layout or Layout(), tie)
        how = (time_format, TICKS[time_unit])
        log = _log(database, chunks, how, drop_duplicates)
        if min_count > 1:
            log = _without_few(log, min_count, name)
        most = shards or max(8, -(-log.read // 5_000_000))
        yield replace(log, bounds=_bounds(database, log.read, most))
    except duckdb.OutOfMemoryException as error:
        raise DataError(
            f"{source}: {memory} of memory are too few ({one_line(error)}); give more"
        ) from None
    except duckdb.Error as error:
        if isinstance(error, duckdb.IOException) and "space" in str(error):
            raise DataError(
                f"{scratch.parent}: no room to prepare {source}; choose another --out"
            ) from None
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
        self,
        source: Path,
        columns: tuple[str, str, str | None],
        scratch: Path,
        layout: Layout,
        tie: str | None = None,
    ) -> None:
        self.source, self.where = source, Source(str(source), layout=layout)
        self.tie = tie
        self.written: dict[str, Counter[str]] = {}
        self.kept: Path | None = None
        kind, _ = file_kind(source, layout)
        if kind == ".jsonl":
            raise DataError(
                f"{source}: only .csv, .tsv and .parquet can be prepared; write it as"
                " one of them"
            )
        if kind == ".parquet":
            _, schema, self.where = parquet_schema(source)
            empty = pd.DataFrame(columns=schema.names)
            check_names(empty, self.where)
            self._name(next(parquet_frames(source, schema.names, 1), empty), columns)
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
        require_tie(frame, self.tie, self.where)
        self.columns = self.roles | ({} if self.tie is None else {TIE: self.tie})

    def _keep(self, columns: tuple[str, str, str | None], kept: Path) -> None:
        fault: DataError | None = None
        with contextlib.ExitStack() as files:
            writer = None
            frames = text_frames(self.source, self.where, ROWS)
            for number, frame in enumerate(frames):
                try:
                    if number == 0:
                        self._name(frame, columns)
                except DataError as error:  # unless the file is worse further on
                    fault = error
                if fault is not None:
                    continue
                for role, column in self.columns.items():
                    so_far = self.written.get(role, Counter())
                    self.written[role] = so_far + written(frame[column])
                table = pa.table(
                    {role: frame[column] for role, column in self.columns.items()}
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
        """Frames of the columns in `roles`, typed, and with a column `TIE` if asked."""
        names = dict.fromkeys(self.columns.values())
        if self.kept is None:
            for frame in parquet_frames(self.source, list(names), ROWS):
                kept = frame[list(self.roles.values())]
                yield (
                    kept if self.tie is None else kept.assign(**{TIE: frame[self.tie]})
                )
            return
        with pa.OSFile(str(self.kept)) as file:
            for batch in pa.ipc.open_stream(file):
                frame = batch.to_pandas()
                texts = frame.drop(columns="row")
                texts = texts.set_axis(pd.Index(frame["row"], name=None))
                yield texts.apply(
                    lambda values: as_number(
                        values, values.name == TIE, self.written[values.name]
                    )
                ).rename(columns=self.roles)

    def times(self) -> Counter[str] | None:
        """How the times of complete rows are written, where they are text."""
        found: Counter[str] = Counter()
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
    how: tuple[str | None, int],
    drop_duplicates: bool,
) -> Log:
    """Clean all chunks into the table `events`, and number its items."""
    where, has_time = chunks.where, "time" in chunks.roles
    times = chunks.times() if has_time else None
    read, events, is_finer = 0, 0, False
    dropped: Counter[str] = Counter()
    refused: RefusedError | None = None
    early: tuple[Any, int] | None = None
    latest = 0
    for frame in chunks:
        kept, without = present(frame, chunks.roles, where)
        read += len(frame)
        dropped.update(without)
        if kept.empty:
            continue
        try:
            columns, finer = clean(kept, chunks.roles, where, *how, times)
        except RefusedError as error:
            if refused is None or error.step < refused.step:
                refused = error
        if refused is not None:
            continue
        place = np.arange(events, events + len(columns))
        if finer is None:
            columns["time"], finer = place, np.zeros(len(columns))
        else:
            before = columns["time"][columns["time"] < EARLY]
            if early is None and not before.empty:
                early = before.index[0], int(before.iloc[0])
            latest = max(latest, int(columns["time"].max()))
        is_finer = is_finer or bool(finer.any())
        # As bits, floats from 0 on keep their order.
        tie = kept[TIE] if TIE in kept else np.zeros(len(kept), np.int8)
        columns = columns.assign(finer=finer.view(np.int64), place=place, tie=tie)
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
    if has_time:
        require_one_era(early, latest, where, chunks.roles["time"])
    if events >= PLACES:
        raise DataError(
            f"{where.name}: {events:,} rows; prepare it in parts of at most {PLACES:,}"
        )
    # What is finer than a second decides the order, then `tie`, then the row.
    order, kind = "place", "VIEW"
    if chunks.tie is not None:
        order = "row_number() OVER (ORDER BY finer, tie NULLS LAST, place)"
        kind = "TABLE"  # sorted once
    elif is_finer:
        order = f"CAST(finer AS HUGEINT) * {PLACES} + place"
    database.execute(
        f'CREATE {kind} kept AS SELECT "user", item, time, finer, tie, {order} AS place'
        " FROM events"
    )
    item_type = "int64" if whole_items else "str"
    items = _catalogue(database, item_type)
    return Log(
        database,
        read,
        {reason: count for reason, count in dropped.items() if count},
        where.notes,
        item_type,
        items,
        items,
        [],
        has_time,
        drop_duplicates and has_time,
    )


def _catalogue(database: Any, item_type: str) -> np.ndarray:
    """Number the items of `kept` in a table `catalogue`; returns their ids."""
    database.execute(
        "CREATE OR REPLACE TABLE catalogue AS SELECT item, CAST(row_number() OVER"
        " (ORDER BY item) AS INTEGER) AS number FROM (SELECT DISTINCT item FROM kept)"
    )
    items = database.execute("SELECT item FROM catalogue ORDER BY number").fetchnumpy()
    return np.asarray(items["item"], np.int64 if item_type == "int64" else object)


def _without_few(log: Log, min_count: int, name: str) -> Log:
    """The log without users and items of fewer events, as by `Interactions.k_core`."""
    run = log.database.execute
    events = "SELECT * FROM kept"
    events = _first_of_each(events) if log.drop_duplicates else events
    run(f"CREATE TABLE core AS {events}")
    before, once = (
        run(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("kept", "core")
    )
    counted = _told(log.database, "core", "item") + Counter(duplicates=before - once)
    rare = "{0} IN (SELECT {0} FROM core GROUP BY {0} HAVING count(*) < {1})"
    few = " OR ".join(rare.format(key, min_count) for key in ('"user"', "item"))
    left = once
    while gone := run(f"DELETE FROM core WHERE {few}").fetchone()[0]:
        left -= gone
    if not left:
        raise DataError(
            f"{name}: no event is left with min_count={min_count}; use a smaller one"
        )
    kind = run(
        "SELECT table_type FROM information_schema.tables WHERE table_name='kept'"
    )
    run(f"DROP {'VIEW' if kind.fetchone()[0] == 'VIEW' else 'TABLE'} kept")
    run("ALTER TABLE core RENAME TO kept")
    return replace(
        log,
        items=_catalogue(log.database, log.item_type),
        drop_duplicates=False,
        counted=counted + Counter(few=once - left),
    )


def _bounds(database: Any, read: int, shards: int) -> list[Any]:
    """User ids at which shards of about equally many events begin, by a sample."""
    step = max(1, read // 100_000)
    sample = database.execute(
        f'SELECT "user" FROM kept WHERE hash(place) % {step} = 0 ORDER BY "user"'
    ).fetchall()
    if not sample:
        return [None]
    firsts = [sample[len(sample) * k // shards][0] for k in range(shards)]
    return list(dict.fromkeys(firsts))


def _known_items(
    log: Log, source: Any, column: str, kinds: Mapping[str, str] | None
) -> dict[str, Any]:
    """What a table says about the items of the catalogue, by column."""
    if source is None:
        return {}
    described = pd.Series(log.described, dtype=log.item_type)
    table = read_known(source, "item", column, described, dict(kinds or {}), log.notes)
    ids = pd.Series(log.items, dtype=log.item_type)
    for taken in table.columns.intersection(["item", "count"]):
        raise DataError(
            f"the table of items has a column '{taken}', which is taken; rename it"
        )
    known = table.reindex(pd.Index(ids)).items()
    return {str(name): pa.array(values, from_pandas=True) for name, values in known}


def _cuts(
    folder: Path, shards: list[str], events: int, valid: float, test: float
) -> tuple[int, int]:
    """The two moments that divide the log, as `split_by_time` finds them."""
    # First the stretch of time that a cut falls into, then the place in it.
    times = [mapped(folder / shard / "all.times.i64", np.int64) for shard in shards]
    counts: Counter[int] = Counter()
    for column in times:
        stretches, many = np.unique(column // STRETCH, return_counts=True)
        counts.update(dict(zip(stretches.tolist(), many.tolist(), strict=True)))

    def at(place: int) -> int:
        for stretch in sorted(counts):
            if place < counts[stretch]:
                break
            place -= counts[stretch]
        inside = [column[column // STRETCH == stretch] for column in times]
        return int(np.sort(np.concatenate(inside))[place])

    return at(int(events * (1 - valid - test))), at(int(events * (1 - test)))


def _divide(
    folder: Path, cuts: tuple[int, int] | None, counts: np.ndarray, digest: Any
) -> int:
    """Divide a shard, count its training events by item; users without a past."""
    columns = [np.fromfile(folder / f"all.{name}", kind) for name, kind in FILES]
    items, times, offsets = columns
    lengths = np.diff(offsets)
    if cuts is None:
        stops = tuple(np.where(lengths >= 3, lengths - n, lengths) for n in (2, 1))
    else:
        passed = [np.concatenate([[0], np.cumsum(times < cut)]) for cut in cuts]
        stops = tuple(early[offsets[1:]] - early[offsets[:-1]] for early in passed)
    place = np.arange(len(items)) - np.repeat(offsets[:-1], lengths)
    part = sum((place >= np.repeat(stop, lengths)).astype(np.int8) for stop in stops)
    begins = np.zeros(len(lengths), np.int64)
    for number, (name, stop) in enumerate(zip(PARTS, (*stops, lengths), strict=True)):
        inside = part == number
        starts = np.append(0, np.cumsum(stop - begins))
        _write(folder, name, items[inside], times[inside], starts)
        digest.update(items[inside])
        begins = stop
    counts += np.bincount(items[part == 0], minlength=len(counts) + 1)[1:]
    for column, _ in FILES:
        (folder / f"all.{column}").unlink()
    return int((stops[1] == 0).sum())


def _write(folder: Path, part: str, *columns: np.ndarray) -> None:
    for (name, kind), column in zip(FILES, columns, strict=True):
        column.astype(kind).tofile(folder / f"{part}.{name}")
