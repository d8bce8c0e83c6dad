"""Stage 1 for logs that memory does not hold: the prepared form, written.

:mod:`attncore.large.prepared` says what it is. The log is cleaned in chunks, by the
rules for a log in memory, and sorted by DuckDB (:mod:`attncore.large.staging`); numpy
divides one shard at a time.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attncore.errors import DataError
from attncore.interactions import ReadSummary
from attncore.large.prepared import PARTS, Prepared, mapped
from attncore.large.staging import Log, staged
from attncore.readers import TICKS, read_known
from attncore.runs import UNFINISHED
from attncore.splits import protocol_of


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
    time_unit: str = "s",
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
        user, item, time, items, name, repeats, drop_duplicates, time_unit, kinds: as
            for `read_interactions`.
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
    source, out = Path(source), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; give another folder, or delete it")
    if time_unit not in TICKS:
        raise DataError(f"time_unit is '{time_unit}'; it is one of {', '.join(TICKS)}")
    if split not in ("leave-one-out", "time"):
        raise DataError(f"split is '{split}'; it is leave-one-out or time")
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise DataError(
            f"valid={valid} and test={test}: shares must be above 0 and sum to less"
            " than 1"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=UNFINISHED) as place:
        scratch, fresh = Path(place), Path(place) / "prepared"
        fresh.mkdir()
        how: dict[str, Any] = {
            "time_unit": time_unit,
            "drop_duplicates": drop_duplicates,
            "shards": shards,
        }
        with staged(
            source, (user, item, time), scratch, memory=memory, threads=threads, **how
        ) as log:
            names, duplicates = _write_shards(log, fresh)
            known = _known_items(log, items, item, kinds)
        dropped = log.dropped | ({"duplicates": duplicates} if duplicates else {})
        summary = ReadSummary(log.read, log.read - sum(dropped.values()), dropped)
        called = name or source.name.split(".")[0]
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
        counts, digest = (
            np.zeros(len(log.items), np.int64),
            hashlib.sha256(repr(log.items.tolist()).encode()),
        )
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
        }
        (fresh / "prepared.json").write_text(
            json.dumps(about, indent=1), encoding="utf-8"
        )
        fresh.replace(out)
    return Prepared.open(out)


def _write_shards(log: Log, folder: Path) -> tuple[list[str], int]:
    """Write whole histories, shard by shard.

    Their names, and how many duplicates were left out.
    """
    names, duplicates = [], 0
    for number in range(len(log.bounds)):
        name = f"shard-{number:05d}"
        (folder / name).mkdir()
        items, times, offsets, again = log.shard(
            number, folder / name / "users.parquet"
        )
        _write(folder / name, "all", items, times, offsets)
        names.append(name)
        duplicates += again
    return names, duplicates


def _known_items(
    log: Log, source: Any, column: str, kinds: Mapping[str, str] | None
) -> dict[str, Any]:
    """What a table says about the items of the catalogue, by column."""
    if source is None:
        return {}
    ids = pd.Series(log.items, dtype=log.item_type)
    table = read_known(source, "item", column, ids, dict(kinds or {}))
    for taken in ("item", "count"):
        if taken in table.columns:
            raise DataError(
                f"the table of items has a column '{taken}', which is taken; rename it"
            )
    table = table.reindex(pd.Index(ids))
    return {
        str(name): pa.array(values, from_pandas=True) for name, values in table.items()
    }


def _cuts(
    folder: Path, shards: list[str], events: int, valid: float, test: float
) -> tuple[int, int]:
    """The two moments that divide the log, as `split_by_time` finds them.

    Not all times are in memory.
    """
    # Seconds; first the stretch of time that a cut falls into, then the place in it.
    wide = 2**16
    counts = pd.Series(dtype="int64")
    times = [mapped(folder / shard / "all.times.i64", np.int64) for shard in shards]
    for column in times:
        stretch, many = np.unique(column // wide, return_counts=True)
        counts = counts.add(pd.Series(many, stretch), fill_value=0)
    before = counts.sort_index().cumsum().astype("int64")

    def at(place: int) -> int:
        number = int(np.searchsorted(before.to_numpy(), place, side="right"))
        stretch = int(before.index[number])
        inside = np.sort(
            np.concatenate([column[column // wide == stretch] for column in times])
        )
        return int(inside[place - (int(before.iloc[number - 1]) if number else 0)])

    return at(int(events * (1 - valid - test))), at(int(events * (1 - test)))


def _divide(
    folder: Path, cuts: tuple[int, int] | None, counts: np.ndarray, digest: Any
) -> int:
    """Divide a shard's histories, and count its training events by item.

    Returns:
        how many users have nothing before test.
    """
    items = np.fromfile(folder / "all.items.i32", "<i4")
    times = np.fromfile(folder / "all.times.i64", "<i8")
    offsets = np.fromfile(folder / "all.offsets.i64", "<i8")
    lengths = np.diff(offsets)
    if cuts is None:
        stops = (
            np.where(lengths >= 3, lengths - 2, lengths),
            np.where(lengths >= 3, lengths - 1, lengths),
        )
    else:
        passed = [np.concatenate([[0], np.cumsum(times < cut)]) for cut in cuts]
        stops = tuple(early[offsets[1:]] - early[offsets[:-1]] for early in passed)
    place = np.arange(len(items)) - np.repeat(offsets[:-1], lengths)
    part = sum((place >= np.repeat(stop, lengths)).astype(np.int8) for stop in stops)
    begins = np.zeros(len(lengths), np.int64)
    for number, (name, stop) in enumerate(zip(PARTS, (*stops, lengths), strict=True)):
        inside = part == number
        _write(
            folder,
            name,
            items[inside],
            times[inside],
            np.concatenate([[0], np.cumsum(stop - begins)]),
        )
        digest.update(items[inside])
        begins = stop
    counts += np.bincount(items[part == 0], minlength=len(counts) + 1)[1:]
    for column in ("items.i32", "times.i64", "offsets.i64"):
        (folder / f"all.{column}").unlink()
    return int((stops[1] == 0).sum())


def _write(
    folder: Path, part: str, items: np.ndarray, times: np.ndarray, offsets: np.ndarray
) -> None:
    items.astype("<i4").tofile(folder / f"{part}.items.i32")
    times.astype("<i8").tofile(folder / f"{part}.times.i64")
    offsets.astype("<i8").tofile(folder / f"{part}.offsets.i64")
