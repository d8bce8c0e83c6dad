"""The prepared form holds what the log in memory holds, and trains, asks and fails
alike."""

import gzip
import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import rhythm_log
from faults import small_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attncore as ac
from attncore.__main__ import main
from attncore.large import preparing
from attncore.readers import Layout
from attncore.sequences import Joined

pytest.importorskip("duckdb")
SPLITS = {"leave-one-out": ac.leave_one_out, "time": ac.split_by_time}


def odd_log(kind: str, rows: int = 300) -> pd.DataFrame:
    """Made-up events with repeats, ties and gaps, in one of several guises."""
    rng = np.random.default_rng(3)
    user, item = rng.integers(0, 30, rows), rng.zipf(1.5, rows).clip(max=40)
    seconds = 1_600_000_000 + rng.integers(0, 40, rows)
    table = pd.DataFrame({"user": user, "item": item, "time": seconds})
    if kind == "text":
        return table.assign(
            user=[f"ü{u}" for u in user], item=[f'i,"{i}"\n🍕' for i in item]
        )
    if kind == "dates":
        moments = pd.to_datetime(
            seconds * 1000 + rng.integers(0, 1000, rows), unit="ms", utc=True
        )
        return table.assign(time=moments.tz_convert("Asia/Tokyo"))
    if kind == "dates as text":
        moments = pd.to_datetime(seconds, unit="s")
        return table.assign(time=moments.astype("str"))
    if kind == "times as text":  # whole numbers at first, not throughout
        times = [str(s) for s in seconds[:-1]] + [f"{seconds[-1]}.5"]
        return table.assign(time=times)
    if kind == "quarters":
        return table.assign(time=seconds + rng.integers(0, 4, rows) / 4)
    if kind == "gaps":
        return table.astype("Int64").mask(rng.random(table.shape) < 0.1)
    return table.drop(columns="time") if kind == "no time" else table


def written(table: pd.DataFrame, path):
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        text = table.to_csv(
            index=False, sep="\t" if ".tsv" in path.name else ","
        ).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def assert_same(prepared: ac.Prepared, log: ac.Interactions, want: ac.Split) -> None:
    """The prepared form, asked for everybody, is the split of the log in memory."""
    got = prepared.split(asked=None)
    assert prepared.summary == log.summary
    assert got.users.ids.tolist() == want.users.ids.tolist()
    assert got.items.ids.tolist() == want.items.ids.tolist()
    every = np.arange(len(want.users))
    for ours, theirs in (
        (got.train, want.train),
        (got.histories.take(every), want.histories),
    ):
        for name in ("items", "times", "offsets"):
            np.testing.assert_array_equal(
                getattr(ours, name)[:], getattr(theirs, name), err_msg=name
            )
    np.testing.assert_array_equal(got.histories.lengths, want.histories.lengths)
    for part in ("valid", "test"):
        theirs = getattr(want, part)
        for ours in (getattr(got, part), prepared.questions(part)):
            asked = np.arange(len(theirs))
            np.testing.assert_array_equal(ours.users, theirs.users)
            np.testing.assert_array_equal(ours.targets, theirs.targets)
            np.testing.assert_array_equal(ours.item_counts, theirs.item_counts)
            np.testing.assert_array_equal(
                ours.histories.take(asked).items, theirs.histories.items
            )
            assert len(ours.histories) == len(theirs)
            assert ours.protocol == theirs.protocol


@pytest.mark.parametrize(
    "kind",
    [
        *("numbers", "text", "quarters", "gaps", "no time"),
        *("dates", "dates as text", "times as text"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "tsv.gz", "parquet"])
@pytest.mark.parametrize("rows", [7, preparing.ROWS])
def test_a_prepared_log_is_the_log_in_memory(tmp_path, monkeypatch, kind, ending, rows):
    monkeypatch.setattr(preparing, "ROWS", rows)  # whole, or in many chunks
    path = written(odd_log(kind), tmp_path / f"log.{ending}")
    log = ac.read_interactions(path)
    for name, split in SPLITS.items():
        if name == "leave-one-out" or kind != "no time":
            assert_same(
                ac.prepare(path, tmp_path / name, split=name, shards=5), log, split(log)
            )


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 9), st.integers(0, 5)),
        min_size=12,
        max_size=60,
    ),
    st.integers(1, 9),
)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_log_is_prepared_as_it_is_read_in_any_number_of_shards(
    tmp_path, rows, shards
):
    path = written(
        pd.DataFrame(rows, columns=["user", "item", "time"]), tmp_path / "log.csv"
    )
    log = ac.read_interactions(path)
    if log.events["user"].value_counts().max() < 3:
        return
    shutil.rmtree(tmp_path / "prepared", ignore_errors=True)
    assert_same(
        ac.prepare(path, tmp_path / "prepared", shards=shards),
        log,
        ac.leave_one_out(log),
    )


@pytest.mark.parametrize("kind", ["numbers", "text", "quarters", "no time"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("tie", [None, "place", "word", "item"])
@pytest.mark.parametrize("min_count", [1, 4])
def test_ties_are_broken_and_the_rare_left_out_as_in_memory(
    tmp_path, monkeypatch, kind, ending, tie, min_count
):
    monkeypatch.setattr(preparing, "ROWS", 64)
    table, rng = odd_log(kind), np.random.default_rng(5)
    place = pd.Series(rng.integers(0, 9, len(table)) / 2)
    table["place"] = place.mask(rng.random(len(table)) < 0.2)
    table["word"] = [f"{chr(97 + n)}ü" for n in rng.integers(0, 5, len(table))]
    path = written(table, tmp_path / f"log.{ending}")
    books = pd.DataFrame({"item": table["item"].drop_duplicates(), "genre": "a"})
    how = {"tie": tie, "min_count": min_count, "items": books}
    log = ac.read_interactions(path, **how)
    prepared = ac.prepare(path, tmp_path / "out", shards=3, **how)
    assert_same(prepared, log, ac.leave_one_out(log))
    notes = [one for one in log.summary.notes if not one.startswith("attributes")]
    assert sorted(prepared.summary.notes) == sorted(notes)
    if min_count > 1:
        assert log.summary.dropped["below min_count=4"] > 10
    if tie is not None and kind == "numbers":
        plain = ac.read_interactions(path, min_count=min_count)
        assert plain.events["item"].tolist() != log.events["item"].tolist()


def test_a_tie_or_a_count_that_cannot_be_is_refused_in_the_same_words(tmp_path):
    path = written(odd_log("numbers"), tmp_path / "log.csv")
    for how in (
        {"tie": "spot"},
        {"min_count": 400},
        {"min_count": 0},
        {"kinds": {"item": "words"}},
        {"kinds": {"genre": "colour"}},
    ):
        with pytest.raises(ac.DataError) as in_memory:
            ac.read_interactions(path, **how)
        with pytest.raises(ac.DataError) as prepared:
            ac.prepare(path, tmp_path / "out", **how)
        assert str(prepared.value) == str(in_memory.value)


def test_parts_in_a_folder_other_columns_and_another_unit_are_read_alike(tmp_path):
    table = odd_log("numbers").rename(
        columns={"user": "who", "item": "what", "time": "when"}
    )
    table["when"] *= 1000
    (tmp_path / "log").mkdir()
    for number in range(3):
        table[100 * number : 100 * number + 100].to_parquet(
            tmp_path / "log" / f"part-{number}.parquet"
        )
    how = {"user": "who", "item": "what", "time": "when", "time_unit": "ms"}
    log = ac.read_interactions(tmp_path / "log", **how)
    assert_same(
        ac.prepare(tmp_path / "log", tmp_path / "out", **how),
        log,
        ac.leave_one_out(log),
    )


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("", "log.csv"),
        ("user,item,time\n", "log.csv"),
        ("a,b\n1,2\n", "log.csv"),
        ("user;item;time\n1;2;3\n", "log.csv"),
        ("user,item,item\n1,2,3\n", "log.csv"),
        ("user,item\n1,2\n1,2,3\n", "log.csv"),
        ("user,item,time\n1,2,3\n1,2,yesterday\n", "log.csv"),
        ("user,item,time\n1,2,3\n1,2,2020-01-01\n4,5,6\n", "log.csv"),
        ("user,item,time\n1,2,2020-01-01\n1,2,2020-02-30\n", "log.csv"),
        ("user,item,time\n1,2,1700000000000\n", "log.csv"),
        ("user,item,time\n1,2,-5\n", "log.csv"),
        ("user,item,time\n1,2,9999-12-31\n", "log.csv"),
        ("user,item,time\n1,2,99999999999999999999\n", "log.csv"),
        ("user,item,time\n1,2,nan\n1,2,3.5\n", "log.csv"),
        ("not gzip", "log.csv.gz"),
        ("not parquet", "log.parquet"),
        ("x", "log.xlsx"),
    ],
)
def test_a_broken_log_fails_in_the_words_of_the_reader_and_leaves_nothing(
    tmp_path, content, name
):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ac.DataError) as read:
        ac.read_interactions(path)
    with pytest.raises(ac.DataError) as prepared:
        ac.prepare(path, tmp_path / "out")
    assert str(prepared.value) == str(read.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


T = 1_240_000_000
ODD = [  # what people's files are like, or what a slip makes of them
    "",
    "user,item,time\n",
    f"user,item,time\nu1,a,{T}\nu2,b,{T + 1}\nu1,c,{T + 2}\nu1,a,{T}\n",
    f"user,item,time\n1,7,{T}\n2,8,{T + 1}\n,9,{T}\n3,NaN,{T}\n1,7,{T}\n4,8,\n",
    "user,item,time\n007,+7,1.5\n7,1,1.25\n7,1,1.75\n7,2,1\n8,2,0.5\n",
    "user,item,time\n1,2,2020-01-02\n1,3,2020-01-01T10:00:00.5Z\n2,3,2020-01-01\n",
    "user,item,time\n1,2,2020-01-01\n1,3,5\n2,3,6\n1,4,7\n,9,later\n",
    "user,item\n1,2\n2,3\n1,2\n",
    f'user,item,time,title\nu1,1,{T},"a, b"\nu2,2,{T},"a ""b""\nc"\nu3,3,{T},d\n',
    f'user,item,time\nu1,"weird al" yankovic,{T}\nu2,weird al yankovic,{T + 1}\n',
    f'user,item,time\nu1,"Heroes,{T}\nu2,Queen,{T + 1}\nu3,Low",{T}\nu4,Pulp,{T}\n',
    f'user,item,time\nu1,"Heroes,{T}\nu2,Queen,{T}\nu3,Low,{T}\n',
    f'user,item,time\nu1,7" single,{T}\nu2,12" mix,{T + 1}\nu3,Pulp,{T + 2}\n',
    f"user,item,time\n1,2,{T}\n1,2\n1,2,{T},4\n",
    "user,item,time\n99999999999999999999,1,5\n1,NULL,5\n2,2,6\n",
    "user,item,time\n1,2,-5\n1,3,9999999999999\n2,x,yesterday\n",
    "\ufeffuser,item,time\r\n1,2,3\r\n\r\n4,5,6\r\n\r\n",
    "user;item;time\n1;2;3\n",
    "user,user,time\n1,2,3\n",
    f"user,item,timestamp\n1,2,{T}\n2,3,{T}\n",
    "\nuser,item,happened at\n1,2,2020-01-01\n2,3,2020-01-01\n",
    "user,item,time\n1,2,1\n1,3,2\n2,4,3\n2,2,3\n",
    f"user,item,time\n1,2,{T}\n\n1,3,0\n2,4,{T + 1}\n1,2,{T}.5\n",
    f"user,item,time\nu1,1.23E+12,{T}\nu2,1.24E+12,{T}\n",
    f"7,8,{T}\n7,9,{T + 1}\n8,9,{T + 2}\n",
    f"user,item,time\n5.0,1,{T}\n6.0,1,{T}\n5.0,1,{T}.25\n5.0,1,{T}\n",
]
LAYOUTS = [  # most files are read as they come
    *[{}] * 6,
    {"quoted": False},
    {"separator": ";"},
    {"header": False, "user": "1", "item": "2", "time": "3"},
    {"in_order": True},
    {"tie": "item"},
    {"tie": "user", "min_count": 2},
    {"min_count": 2},
    {"time_format": "%Y-%m-%d"},
    {"time_unit": "ms"},
]
CELLS = [*["", " ", "0", "-1", "7.0", "007", "NaN", "NULL", "1e3", "2020-02-30"]]
CELLS += [
    "9" * 19,
    "9" * 20,
    "ü",
    "a b",
    '"',
    '""',
    '"a\nb"',
    "1970-01-01T00:00:01.25Z",
]


def mutated(text: str, chance: random.Random) -> str:
    """A file with some slips: cells, characters and lines changed, lost or doubled."""
    for _ in range(chance.randrange(4)):
        lines = text.split("\n")
        row = chance.randrange(len(lines))
        cells = lines[row].split(",")
        at = chance.randrange(len(cells))
        kind = chance.randrange(6)
        if kind < 2:
            cells[at] = chance.choice(CELLS)
            lines[row] = ",".join(cells)
        elif kind == 2:
            lines.insert(chance.randrange(len(lines)), lines[row])
        elif kind == 3 and len(lines) > 2:
            del lines[row]
        elif kind == 4:
            lines[row] += chance.choice([",", ",x", " ", "\r", "\t"])
        text = "\n".join(lines)
        if kind == 5 and text:
            at = chance.randrange(len(text))
            sign = chance.choice(["", '"', ",", "\n", "\r\n", ".", "é", "\0"])
            text = text[:at] + sign + text[at + 1 :]
    return text


def said(log, notes) -> tuple:
    """The summary; notes on attributes, which a prepared log has none of, left out."""
    return log, sorted(note for note in notes if not note.startswith("attributes"))


def read_outcome(path, how):
    """The events in order of users and times and the summary; else the refusal."""
    try:
        log = ac.read_interactions(path, **how)
    except ac.DataError as refused:
        return str(refused)
    events = log.events[["user", "item", "time"]]
    ordered = events.sort_values(["user", "time"], kind="stable")
    return ordered.to_numpy().tolist(), said(log.summary, log.summary.notes)


def prepared_outcome(path, how, out):
    """The same by the way of preparing."""
    shutil.rmtree(out, ignore_errors=True)
    try:
        log = ac.prepare(path, out, shards=2, threads=1, **how)
    except ac.DataError as refused:
        return str(refused)
    rows = []
    for number in range(len(log.about["shards"])):
        users, parts = log._shard(number)
        for row, user in enumerate(users):
            for part in parts:
                events = slice(*part.offsets[row : row + 2])
                names = log.items.decode(part.items[events]).tolist()
                times = part.times[events].tolist()
                rows += [[user, *event] for event in zip(names, times, strict=True)]
    return rows, said(log.summary, log.summary.notes)


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz"])
def test_any_file_is_prepared_as_it_is_read_or_refused_in_the_same_words(
    tmp_path, monkeypatch, request, ending
):
    chance, path = random.Random(ending), tmp_path / f"log.{ending}"
    count = 200 if request.config.getoption("full") else 60
    read = 0
    for number in range(count):
        text, how = ODD[number % len(ODD)], {}
        if number >= len(ODD):
            text, how = mutated(text, chance), chance.choice(LAYOUTS)
        text = text.replace(",", how.get("separator", ","))
        text = text.replace(",", "\t") if ending == "tsv" else text
        content = text.encode(
            "latin-1" if chance.random() < 0.03 else "utf-8", "replace"
        )
        path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
        rows = chance.choice([1, 2, 3, preparing.ROWS])
        monkeypatch.setattr(preparing, "ROWS", rows)
        wanted, found = (
            read_outcome(path, how),
            prepared_outcome(path, how, tmp_path / "out"),
        )
        assert found == wanted, (rows, how, text)
        monkeypatch.undo()
        read += not isinstance(wanted, str)
    assert count / 5 < read < count  # both kinds of outcome are there


def test_a_full_disk_is_one_line(tmp_path):
    path = written(odd_log("text", rows=3000), tmp_path / "log.csv")
    with small_disk(2000), pytest.raises(ac.DataError) as caught:
        preparing._Chunks(path, ("user", "item", "time"), tmp_path, Layout())
    assert str(caught.value).startswith(
        f"{tmp_path.parent}: no room to prepare {path} ("
    )
    assert str(caught.value).endswith("; choose another --out")


def test_wrong_options_are_one_line(tmp_path):
    path = written(odd_log("numbers"), tmp_path / "log.csv")
    for wrong, expected in (
        ({"split": "user"}, "split is 'user'"),
        ({"split": "time", "valid": 0.9}, "shares must be above 0"),
        ({"time_unit": "h"}, "time_unit is 'h'"),
        ({"memory": "much"}, "memory is 'much'"),
        ({"item": "user"}, "need a column each"),
    ):
        with pytest.raises(ac.DataError, match=expected):
            ac.prepare(path, tmp_path / "out", **wrong)
    ac.prepare(path, tmp_path / "out", shards=2)
    with pytest.raises(ac.DataError, match="is there already"):
        ac.prepare(path, tmp_path / "out")
    with pytest.raises(
        ac.DataError, match="2 shards for 3 processes; prepare it with --shards 3"
    ):
        ac.Prepared.open(tmp_path / "out").split(rank=0, size=3)


# Training and asking


@pytest.fixture(scope="module")
def rhythm(tmp_path_factory):
    """The rhythm log, its prepared form in 5 shards, and its file."""
    folder = tmp_path_factory.mktemp("rhythm")
    path = written(rhythm_log().events, folder / "rhythm.csv")
    return (
        ac.read_interactions(path),
        ac.prepare(path, folder / "prepared", shards=5),
        path,
    )


def test_training_from_the_prepared_form_gives_the_same_bits(rhythm, small, quick):
    log, prepared, _ = rhythm
    split, found = prepared.split(), []
    assert isinstance(split.train.items, Joined)
    assert len(split.train.items.parts) == 5
    for one in (ac.leave_one_out(log), split):
        model = ac.Recommender(small, one)
        run = ac.fit(model, one, quick)
        found.append(
            (
                run.epochs[-1]["loss"],
                ac.evaluate(model, one.test).metrics,
                model.state_dict(),
            )
        )
    (loss, metrics, weights), (mapped_loss, mapped_metrics, mapped_weights) = found
    assert (loss, metrics) == (mapped_loss, mapped_metrics)
    assert all(torch.equal(weights[name], mapped_weights[name]) for name in weights)


def test_who_is_asked_does_not_depend_on_the_number_of_processes(rhythm):
    _, prepared, _ = rhythm
    alone = prepared.split(asked=10)
    assert 5 <= len(alone.valid) <= 15
    asked = set(alone.users.ids[alone.valid.users])
    parts = [prepared.split(rank, 2, asked=10) for rank in range(2)]
    together = [
        user for part in parts for user in part.users.ids[part.valid.users].tolist()
    ]
    assert sorted(together) == sorted(asked)
    everybody = [user for part in parts for user in part.users.ids.tolist()]
    assert sorted(everybody) == alone.users.ids.tolist()
    assert all(part.valid.sharded and part.test.sharded for part in parts)


def test_a_run_keeps_the_asked_users_whole_and_the_counts_of_all(
    rhythm, small, tmp_path
):
    _, prepared, _ = rhythm
    split = prepared.split(asked=10)
    model = ac.Recommender(small, split)
    model.save(tmp_path / "run")
    again = ac.load(tmp_path / "run")
    assert len(again.split.users) == len(split.valid) < len(split.users)
    np.testing.assert_array_equal(again.split.item_counts, split.item_counts)
    assert (
        ac.evaluate(again, again.split.test).metrics
        == ac.evaluate(model, split.test).metrics
    )
    user = again.split.users.ids[0]
    assert again.recommend(users=[user], k=3) == model.recommend(users=[user], k=3)
    seen = again.split.histories[0]
    assert len(seen) == 10  # the held-out events too


def test_titles_and_features_come_from_the_table_of_items(rhythm, tmp_path):
    _, _, path = rhythm
    items = tmp_path / "items.csv"
    items.write_text(
        "item,title,shelf\n"
        + "".join(f"{500 + k},Book {k},{k % 3}\n" for k in range(11))
    )
    how = {"items": items, "kinds": {"shelf": "category"}}
    split = ac.prepare(path, tmp_path / "out", **how).split()
    want = ac.leave_one_out(ac.read_interactions(path, **how))
    assert split.titles.tolist() == want.titles.tolist()
    assert split.label(511) == "511"
    config = ac.RecommenderConfig(width=16, length=8, item_features=("title", "shelf"))
    ours, theirs = ac.Recommender(config, split), ac.Recommender(config, want)
    assert ours.features == theirs.features
    history = want.histories.take(np.array([0]))
    assert torch.equal(ours.eval().score(history), theirs.eval().score(history))


# The folder


def by_hand(folder, offsets=(0, 3, 5)):
    """A prepared folder as the documentation describes it, written without the
    module."""
    (folder / "shard-00000").mkdir(parents=True)
    pq.write_table(
        pa.table({"item": ["a", "b", "c"], "count": [2, 2, 1]}),
        folder / "items.parquet",
    )
    pq.write_table(
        pa.table({"user": [10, 20]}), folder / "shard-00000" / "users.parquet"
    )
    shard = folder / "shard-00000"
    for part, items, times, ends in (
        ("train", [1, 2, 3, 1, 2], [5, 6, 7, 5, 6], offsets),
        ("valid", [1], [8], (0, 1, 1)),
        ("test", [2], [9], (0, 1, 1)),
    ):
        np.array(items, "<i4").tofile(shard / f"{part}.items.i32")
        np.array(times, "<i8").tofile(shard / f"{part}.times.i64")
        np.array(ends, "<i8").tofile(shard / f"{part}.offsets.i64")
    about = {
        "format": 1,
        "name": "hand",
        "checksum": "",
        "protocol": {"split": "leave-one-out", "exclude_seen": False},
    }
    (folder / "prepared.json").write_text(
        json.dumps(about | {"shards": ["shard-00000"]})
    )
    return folder


def test_a_folder_that_another_engine_wrote_is_read(tmp_path, small, quick):
    split = ac.Prepared.open(by_hand(tmp_path / "hand")).split()
    assert split.users.ids.tolist() == [10, 20]
    assert split.items.decode(split.train[0]).tolist() == ["a", "b", "c"]
    assert split.items.decode(split.test.histories[0]).tolist() == ["a", "b", "c", "a"]
    assert split.items.decode(split.test.targets).tolist() == ["b"]
    model = ac.Recommender(small, split)
    assert len(ac.fit(model, split, replace(quick, batch_size=2)).epochs) == 2


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: (f / "prepared.json").unlink(), "is no prepared log"),
        (lambda f: (f / "prepared.json").write_text("{"), "is no prepared log"),
        (
            lambda f: (f / "prepared.json").write_text('{"format": 2}'),
            "is no prepared log",
        ),
        (
            lambda f: (f / "items.parquet").write_bytes(b"PAR1"),
            "items.parquet: cannot be read",
        ),
        (
            lambda f: pq.write_table(
                pa.table({"item": ["a", "a"]}), f / "items.parquet"
            ),
            "needs a column item, each id once",
        ),
        (
            lambda f: pq.write_table(
                pa.table({"user": [7, 7]}), f / "shard-00000/users.parquet"
            ),
            "a user is there twice",
        ),
        (
            lambda f: (f / "shard-00000/train.items.i32").unlink(),
            "train.items.i32: is missing",
        ),
        (
            lambda f: (f / "shard-00000/train.items.i32").write_bytes(b"123"),
            "3 bytes are no whole numbers of 4",
        ),
        (
            lambda f: (f / "shard-00000/train.items.i32").write_bytes(b"1234"),
            "do not fit together",
        ),
        (
            lambda f: np.array([0, 1, 2, 3, 1], "<i4").tofile(
                f / "shard-00000/train.items.i32"
            ),
            "an item outside 1..3",
        ),
        (
            lambda f: np.array([0, 4, 3], "<i8").tofile(
                f / "shard-00000/train.offsets.i64"
            ),
            "do not fit together",
        ),
    ],
)
def test_a_damaged_folder_is_one_line(tmp_path, damage, expected):
    folder = by_hand(tmp_path / "hand")
    damage(folder)
    with pytest.raises(ac.DataError) as caught:
        ac.Prepared.open(folder).split()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


# The command line


def test_prepare_train_and_evaluate_work_in_turn(rhythm, tmp_path, capsys):
    _, _, path = rhythm
    prepared, run = str(tmp_path / "prepared"), str(tmp_path / "run")
    main(["prepare", str(path), "--out", prepared, "--shards", "3"])
    assert "400 rows read, 400 kept" in capsys.readouterr().out
    options = [
        "--epochs",
        "1",
        "--width",
        "16",
        "--length",
        "8",
        "--batch-size",
        "16",
        "--no-progress",
    ]
    main(["train", prepared, "--out", run, "--device", "cpu", *options])
    shown = capsys.readouterr().out
    assert "popularity" in shown
    assert "Markov chain" not in shown
    main(["evaluate", run, "--json"])
    asked = json.loads(capsys.readouterr().out)
    main(["evaluate", run, "--data", prepared, "--json"])
    everybody = json.loads(capsys.readouterr().out)
    assert asked["users"] == everybody["users"] == 40
    assert asked["metrics"] == pytest.approx(everybody["metrics"])
    other = written(rhythm_log(items=11).events, tmp_path / "other.csv")
    ac.prepare(other, tmp_path / "other")
    with pytest.raises(SystemExit):
        main(["evaluate", run, "--data", str(tmp_path / "other")])
    assert "its catalogue is not that of" in capsys.readouterr().err


def test_the_command_line_reads_other_units_and_declared_kinds(tmp_path, capsys):
    table = rhythm_log().events.assign(price="cheap")
    table["time"] += 1_700_000_000_000
    path = written(table, tmp_path / "log.csv")
    for words, expected in (
        (["--kinds", "price"], "--kinds price: must be COLUMN=KIND"),
        (
            ["--kinds", "price=number", "--time-unit", "ms"],
            "row 2: price 'cheap' is not a finite number",
        ),
        ([], "pass time_unit='ms' (--time-unit ms)"),
    ):
        with pytest.raises(SystemExit):
            main(["train", str(path), "--out", str(tmp_path / "run"), *words])
        assert expected in capsys.readouterr().err


# Joined


@given(
    st.lists(st.lists(st.integers(-5, 5), max_size=4), min_size=1, max_size=5),
    st.data(),
)
@settings(deadline=None)
def test_joined_arrays_read_as_one(parts, data):
    whole = np.array([entry for part in parts for entry in part], np.int64)
    joined = Joined([np.array(part, np.int64) for part in parts])
    assert len(joined) == len(whole)
    np.testing.assert_array_equal(joined[:], whole)
    if len(whole):
        at = np.array(
            data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=4, max_size=4))
        ).reshape(2, 2)
        np.testing.assert_array_equal(joined[at], whole[at])
