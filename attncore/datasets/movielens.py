"""What is inside the archives that logs come in.

One parser each, and the rules that make their tables agree.
"""

import csv
import io
import zipfile
from typing import Any

import pandas as pd

from attncore.interactions import Interactions

# The columns of u.item, in order.
_GENRES = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|"
    "Fantasy|Film-Noir|Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
# ML-1M's codes 0 to 20.
_OCCUPATIONS_1M = (
    "other|academic/educator|artist|clerical/admin|college/grad student|"
    "customer service|doctor/health care|executive/managerial|farmer|homemaker|"
    "K-12 student|lawyer|programmer|retired|sales/marketing|scientist|self-employed|"
    "technician/engineer|tradesman/craftsman|unemployed|writer"
)
GENRES, OCCUPATIONS_1M = _GENRES.split("|"), _OCCUPATIONS_1M.split("|")


def _table(
    archive: zipfile.ZipFile, path: str, sep: str, names: str, **options: Any
) -> pd.DataFrame:
    """A table of an archive.

    `names` are its columns, "zip" is text, nothing is quoted or taken for missing.
    """
    text = archive.read(path)
    if sep == "::":
        text, sep = text.replace(b"::", b"\t"), "\t"
    return pd.read_csv(
        io.BytesIO(text),
        sep=sep,
        names=names.split(),
        quoting=csv.QUOTE_NONE,
        keep_default_na=False,
        dtype={"zip": str},
        **options,
    )


def grouplens_100k(archive: zipfile.ZipFile) -> Interactions:
    """MovieLens-100K as GroupLens packs it: `u.data`, `u.user`, `u.item`."""
    events = _table(archive, "ml-100k/u.data", "\t", "user item rating time")
    users = _table(archive, "ml-100k/u.user", "|", "user age gender occupation zip")
    flags = " ".join(f"genre{i}" for i in range(len(GENRES)))
    items = _table(
        archive,
        "ml-100k/u.item",
        "|",
        f"item title date video url {flags}",
        encoding="latin-1",
    )
    has = items[flags.split()].to_numpy() == 1
    items["genres"] = [
        [genre for genre, flag in zip(GENRES, row, strict=True) if flag] for row in has
    ]
    return _films(events, users, items)


def recbole_100k(archive: zipfile.ZipFile) -> Interactions:
    """The same log as the `recbole` wheel holds it.

    Its item table is brought into line.
    """
    path = "recbole/dataset_example/ml-100k/ml-100k"
    events = _table(archive, f"{path}.inter", "\t", "user item rating time", skiprows=1)
    users = _table(
        archive, f"{path}.user", "\t", "user age gender occupation zip", skiprows=1
    )
    items = _table(archive, f"{path}.item", "\t", "item title year genres", skiprows=1)
    items["genres"] = items["genres"].str.split()
    return _films(events, users, items)


def grouplens_1m(archive: zipfile.ZipFile) -> Interactions:
    """MovieLens-1M as GroupLens packs it."""
    events = _table(archive, "ml-1m/ratings.dat", "::", "user item rating time")
    users = _table(archive, "ml-1m/users.dat", "::", "user gender age occupation zip")
    users["occupation"] = [OCCUPATIONS_1M[code] for code in users["occupation"]]
    items = _table(
        archive, "ml-1m/movies.dat", "::", "item title genres", encoding="latin-1"
    )
    items["genres"] = items["genres"].str.split("|")
    return _films(events, users, items)


def _films(
    events: pd.DataFrame, users: pd.DataFrame, items: pd.DataFrame
) -> Interactions:
    """One form for every source of MovieLens.

    - title: spaces single; without a year in brackets at its end, nor "(V)" or "(TV)"
      after that.
    - year: the one in brackets, else the source's own if it is four digits, else
      missing.
    - "unkonwn", as RecBole has it, is "unknown". The genre "unknown" is no genre.
    - genres: a sorted tuple.
    """
    spaced = items["title"].str.split().str.join(" ").astype("str")
    parts = spaced.replace("unkonwn", "unknown").str.extract(
        r"^(?P<title>.*?)(?: ?\((?P<year>\d{4})\)(?: \(T?V\))?)?$"
    )
    none = pd.Series(pd.NA, items.index, dtype="str")
    given = items.get("year", none)
    year = parts["year"].fillna(given.where(given.str.fullmatch(r"\d{4}", na=False)))
    genres = [tuple(sorted(set(names) - {"unknown"})) for names in items["genres"]]
    films = pd.DataFrame(
        {"title": parts["title"], "year": year.astype("Int64"), "genres": genres}
    )
    people = users.set_index("user")[["age", "gender", "occupation", "zip"]]
    return Interactions(
        events, people, films.set_index(pd.Index(items["item"], name="item"))
    )
