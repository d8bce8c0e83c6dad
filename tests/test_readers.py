"""Stage 1a, files: every broken input is one line, every other is read to the letter,
and every row is accounted for."""

import csv
import datetime
import decimal
import gc
import gzip
import io
import json
import random
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logs import fault, write

from attncore.errors import DataError
from attncore.interactions import Interactions, read_interactions
from attncore.readers import EARLY, read_table
from attncore.splits import leave_one_out, split_by_time

WIDE = 2**63 - 1


def outcome(path: Path, **how) -> tuple[Interactions | None, str]:
    """A log, or the one line that says why there is none; any other failure fails the
    test."""
    try:
        return read_interactions(path, **how), ""
    except DataError as error:
        return None, str(error)


def events(log: Interactions) -> list[tuple]:
    return list(log.events[["user", "item", "time"]].itertuples(index=False, name=None))


# JSON lines


def test_json_lines_give_the_log_that_csv_gives(tmp_path):
    lines = [
        {"user": 7, "item": "007", "time": 30, "rating": 4.5, "tags": ["a", "b"]},
        {"user": 8, "item": "é🍕", "time": 10, "rating": 3, "tags": None},
        {"user": WIDE, "item": "a\n,b", "time": 20},
    ]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n"
    for name, content in (
        ("log.jsonl", text.encode()),
        ("log.ndjson.gz", gzip.compress(text.encode())),
    ):
        log = read_interactions(write(tmp_path, content, name))
        assert events(log) == [(7, "007", 30), (8, "é🍕", 10), (WIDE, "a\n,b", 20)]
        assert log.events["rating"].tolist()[:2] == [4.5, 3.0]
        assert log.events["tags"].tolist()[0] == ("a", "b")
        assert log.name == "log"
        assert log.summary.read == 3


def test_whole_numbers_in_json_stay_exact_beside_gaps_and_become_text_beyond_int64(
    tmp_path,
):
    big = 2**53 + 1
    text = (
        f'{{"user": 1, "item": {big}}}\n{{"user": 1, "item": null}}\n{{"user": 2,'
        f' "item": {big + 1}}}\n'
    )
    log = read_interactions(write(tmp_path, text, "log.jsonl"))
    assert log.events["item"].tolist() == [big, big + 1]
    assert log.summary.dropped == {"without item": 1}
    text = f'{{"user": 1, "item": {2**63}}}\n{{"user": 1, "item": 5}}\n'
    assert read_interactions(write(tmp_path, text, "log.jsonl")).events[
        "item"
    ].tolist() == [str(2**63), "5"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "log.jsonl is empty; it needs a JSON object a line"),
        (
            '{"user": 1, "item": 2}\n{"user": 1, "item"\n',
            "log.jsonl row 2: not a JSON object",
        ),
        (
            '{"user": 1, "item": 2}\n\n[1, 2]\n',
            "log.jsonl row 3: a JSON list, not an object",
        ),
        (
            '{"user": 1, "item": 2, "item": 3}\n',
            "log.jsonl row 1: not a JSON object (a name is there twice)",
        ),
        (
            b'{"user": 1, "item": 2}\n{"user": 1, "item": "\xe9"}\n',
            "log.jsonl row 2: not UTF-8 text",
        ),
        (
            '{"user": 1, "item": 2}\n{"user": 1, "item": "x"}\n',
            "log.jsonl row 2: item 'x' comes after int ids",
        ),
        ('{"user": true, "item": 2}\n', "user ids are boolean"),
        ('{"user": {"id": 1}, "item": 2}\n', "user ids are mixed"),
        (
            '{"user": 1, "item": 2}\n{"user": 1, "item": 2.5}\n',
            "log.jsonl row 2: item 2.5 is not a whole number",
        ),
        (
            '{"user": 1, "item": 2, "time": 3}\n{"user": 1, "item": 2, "time": "x"}\n',
            "row 2: time 'x' comes after",
        ),
        (
            '{"user": "\\ud800", "item": 2}\n',
            "log.jsonl row 1: 'user' holds half a character",
        ),
        ('{"user": 1}\n', "log.jsonl: no column 'item'; its columns are 'user'"),
        ("[" * 100_000, "log.jsonl row 1: not a JSON object"),
    ],
)
def test_a_broken_json_line_is_one_line_with_its_row(tmp_path, content, expected):
    assert expected in fault(write(tmp_path, content, "log.jsonl"))


# Folders of Parquet parts


def part(folder: Path, name: str, **columns) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)


def test_a_folder_of_parts_is_one_log_in_the_order_of_their_names(tmp_path):
    part(tmp_path / "log", "part-1.parquet", user=[3], item=["c"], time=[5])
    part(tmp_path / "log", "part-0.parquet", user=[1, 2], item=["a", "b"], time=[6, 7])
    part(tmp_path / "log", "_temporary/part-9.parquet", user=[9], item=["x"], time=[9])
    (tmp_path / "log" / "_SUCCESS").touch()
    log = read_interactions(tmp_path / "log")
    assert events(log) == [(1, "a", 6), (2, "b", 7), (3, "c", 5)]
    assert log.name == "log"


def test_a_fault_in_a_part_names_the_part_and_the_row_in_it(tmp_path):
    part(tmp_path / "log", "a.parquet", user=[1, 2], item=[1, 1], time=["5", "6"])
    part(tmp_path / "log", "b.parquet", user=[1, 2], item=[1, 1], time=["5", "x"])
    assert "b.parquet row 2: time 'x' is not a number" in fault(tmp_path / "log")
    (tmp_path / "log" / "b.parquet").write_bytes(b"PAR1 no more")
    assert "b.parquet: cannot be read" in fault(tmp_path / "log")
    part(tmp_path / "log", "b.parquet", user=[1], item=[1])
    assert "b.parquet: column 'time' is not in all parts" in fault(tmp_path / "log")
    part(tmp_path / "log", "b.parquet", user=["1"], item=[1], time=["5"])
    assert "its parts differ in type" in fault(tmp_path / "log")
    (tmp_path / "empty").mkdir()
    assert "is a folder without .parquet parts" in fault(tmp_path / "empty")


# Ids and times of any type


def test_decimals_and_uuids_are_ids(tmp_path):
    keys = [uuid.UUID(int=5), uuid.UUID(int=6)]
    amounts = [decimal.Decimal(2**62), decimal.Decimal("3.00")]
    log = read_interactions(pd.DataFrame({"user": keys, "item": amounts}))
    assert log.events["user"].tolist() == [str(key) for key in keys]
    assert log.events["item"].tolist() == [2**62, 3]
    pq.write_table(
        pa.table({"user": [1, 2], "item": pa.array(amounts, pa.decimal128(38, 2))}),
        tmp_path / "log.parquet",
    )
    assert read_interactions(tmp_path / "log.parquet").events["item"].tolist() == [
        2**62,
        3,
    ]
    odd = pd.DataFrame(
        {"user": [1, 2], "item": [decimal.Decimal(1), decimal.Decimal("1.5")]}
    )
    assert "frame row 1: item Decimal('1.5') is not a whole number" in fault(odd)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_moment_is_the_same_in_every_zone_and_unit(tmp_path, zone, unit):
    moment = pd.Timestamp("2024-03-10 12:00:00", tz="UTC")
    there = pd.Series([moment.tz_convert(zone)] * 2).dt.as_unit(unit)
    table = pd.DataFrame({"user": [1, 2], "item": [1, 1], "time": there})
    table.to_parquet(tmp_path / "log.parquet")
    table.astype({"time": "str"}).to_csv(tmp_path / "log.csv", index=False)
    for source in (table, tmp_path / "log.parquet", tmp_path / "log.csv"):
        assert read_interactions(source).events["time"].tolist() == [1710072000] * 2


def test_text_that_no_file_can_hold_is_refused_with_its_row():
    table = pd.DataFrame(
        {"user": pd.Series(["a", "b\ud83c"], dtype=object), "item": [1, 2]}
    )
    assert "frame row 1: user 'b\\ud83c' holds half a character" in fault(table)


def test_dates_of_the_standard_library_are_times():
    dates = [datetime.date(1970, 1, 2), datetime.date(1970, 1, 3)]
    assert read_interactions(
        pd.DataFrame({"user": 1, "item": [1, 2], "time": dates})
    ).events["time"].tolist() == [
        86400,
        172800,
    ]


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (
            "1700000000000",
            (
                "time 1700000000000 lies in the year 55840; pass time_unit='ms'"
                " (--time-unit ms)"
            ),
        ),
        ("1700000000000000", "pass time_unit='us'"),
        ("1700000000000000000", "pass time_unit='ns'"),
        (
            "9999-12-31",
            "time '9999-12-31' lies in the year 9999; mend it, or leave the cell empty",
        ),
        ("-5", "time -5 lies before 1970; mend it, or leave the cell empty"),
        ("1969-12-31", "time '1969-12-31' lies before 1970"),
    ],
)
def test_a_time_that_no_log_can_have_is_refused_with_its_row(tmp_path, time, expected):
    line = fault(write(tmp_path, f"user,item,time\n1,2,{time}\n"))
    assert "log.csv row 2: " in line
    assert expected in line
    if "time_unit='ms'" in expected:
        log = read_interactions(tmp_path / "log.csv", time_unit="ms")
        assert log.events["time"].tolist() == [1700000000]


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "null", "NULL", "None", " "])
def test_among_whole_numbers_a_word_for_nothing_is_a_missing_id_and_is_counted(
    tmp_path, word
):
    log = read_interactions(
        write(tmp_path, f"user,item,time\n1,2,3\n{word},2,4\n5,{word},6\n7,8,{word}\n")
    )
    assert events(log) == [(1, 2, 3)]
    assert log.summary.dropped == {
        "without user": 1,
        "without item": 1,
        "without time": 1,
    }
    assert str(log.summary).startswith("4 rows read, 1 kept; dropped: 1 without user")


def test_among_text_a_word_for_nothing_is_text(tmp_path):
    assert read_interactions(write(tmp_path, "user,item\n1,NA\n1,FR\n")).events[
        "item"
    ].tolist() == ["NA", "FR"]


def test_one_row_is_said_in_the_singular(tmp_path):
    row = "1,2,1700000000\n"
    log = read_interactions(write(tmp_path, "user,item,time\n" + 2 * row))
    assert str(log.summary) == "2 rows read, 1 kept; dropped: 1 duplicate"
    log = read_interactions(write(tmp_path, "user,item,time\n" + 3 * row))
    assert str(log.summary) == "3 rows read, 1 kept; dropped: 2 duplicates"


# Attributes by declared kind


def test_attributes_are_what_they_are_declared(tmp_path):
    log = write(tmp_path, "user,item,time,price\n1,50,3,1.50\n1,51,4,\n")
    items = write(
        tmp_path,
        "item,shelf,genres,weight,blurb\n50,007,a | b,12,3\n51,1,,nan,\n",
        "items.csv",
    )
    users = write(tmp_path, "user,zip\n1,01234\n", "users.csv")
    kinds = {
        "price": "number",
        "shelf": "category",
        "genres": "categories",
        "weight": "number",
        "blurb": "words",
    }
    found = read_interactions(
        log, items=items, users=users, kinds=kinds | {"zip": "category"}
    )
    assert found.events["price"].tolist()[0] == 1.5
    assert found.events["price"].isna().tolist() == [False, True]
    assert found.items["shelf"].tolist() == ["007", "1"]
    assert found.items["genres"].tolist()[0] == ("a", "b")
    assert found.items["genres"].isna().tolist() == [False, True]
    assert found.items["weight"].tolist()[0] == 12.0
    assert np.isnan(found.items["weight"].tolist()[1])
    assert found.items["blurb"].tolist()[0] == "3"
    assert found.users["zip"].tolist() == ["01234"]


@pytest.mark.parametrize(
    ("table", "kinds", "expected"),
    [
        (
            "item,price\n50,1\n51,cheap\n",
            {"price": "number"},
            "items.csv, table of items, row 3: price 'cheap' is not",
        ),
        (
            "item,price\n50,1\n51,inf\n",
            {"price": "number"},
            "row 3: price 'inf' is not a finite number",
        ),
        (
            "item,price\n50,1\n",
            {"prize": "number"},
            "log.csv: no column 'prize' here or in a table",
        ),
        (
            "item,price\n50,1\n",
            {"price": "money"},
            "'price' is declared 'money'; it is one of number, category",
        ),
        (
            "item,price\n50,1\n,2\n",
            {},
            "row 3: item <NA> is missing; write an id, or delete the row",
        ),
        ("item,price\n50,1\n50,2\n", {}, "row 3: item 50 is there twice; keep one row"),
        (
            "item,price\n50,1\nx,2\n",
            {},
            "row 3: item 'x' makes the ids str, in the events they are int64",
        ),
        (
            "film,price\n50,1\n",
            {},
            "has no column or index 'item'; its columns are 'film', 'price'",
        ),
        ("item,price\n", {}, "table of items, has no rows"),
    ],
)
def test_a_broken_table_is_one_line_with_file_row_column_and_mend(
    tmp_path, table, kinds, expected
):
    log = write(tmp_path, "user,item,time\n1,50,3\n")
    assert expected in fault(
        log, items=write(tmp_path, table, "items.csv"), kinds=kinds
    )


# The list of what goes wrong


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "user;item;time\n1;2;3\n",
            "its one column is 'user;item;time'; is it separated by ';'?",
        ),
        (
            "user,item,time\n1,2,3\n1,2,2024-01-01\n1,2,4\n",
            "row 3: time '2024-01-01' is not a number",
        ),
        (
            "user,item,time\n1,2,31/01/2024\n",
            "row 2: time '31/01/2024' is not a date; write ISO 8601",
        ),
        (
            "user,item,time\n1,2,3\n".encode("utf-16"),
            "not UTF-8 text; save it as UTF-8",
        ),
        (
            "user,item,time\n1,2,3\n1,é,3\n".encode("latin-1"),
            "log.csv row 3: not UTF-8 text",
        ),
    ],
)
def test_a_broken_file_is_one_line_with_the_mend(tmp_path, content, expected):
    assert expected in fault(write(tmp_path, content))


def test_a_log_of_one_user_or_one_item_is_read_and_what_cannot_be_asked_is_one_line(
    tmp_path,
):
    one_item = read_interactions(
        write(tmp_path, "user,item,time\n1,5,1\n2,5,2\n3,5,3\n")
    )
    assert one_item.n_items == 1
    with pytest.raises(DataError, match="leave-one-out split leaves no user for valid"):
        leave_one_out(one_item)
    one_user = read_interactions(
        write(tmp_path, "user,item,time\n1,5,1\n1,6,2\n1,7,3\n1,8,4\n")
    )
    assert len(leave_one_out(one_user).test) == 1
    with pytest.raises(DataError, match="the time split leaves no user for"):
        split_by_time(
            read_interactions(write(tmp_path, "user,item,time\n1,5,1\n2,6,2\n3,7,3\n"))
        )


IDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"),
    min_size=1,
    max_size=8,
).filter(str.strip)


@given(
    st.lists(
        st.tuples(IDS, IDS, st.integers(EARLY, 4_000_000_000)),
        min_size=1,
        max_size=6,
        unique_by=lambda e: e[2],
    )
)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_ids_with_commas_quotes_emoji_and_line_breaks_survive_every_format(
    tmp_path, rows
):
    table = pd.DataFrame(
        [("x" + u, "x" + i, t) for u, i, t in rows], columns=["user", "item", "time"]
    )
    expected = list(table.itertuples(index=False, name=None))
    for name, sep in (("log.csv", ","), ("log.tsv", "\t")):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=sep, quoting=csv.QUOTE_ALL)
            writer.writerows([table.columns, *expected])
    table.to_parquet(tmp_path / "log.parquet")
    lines = [json.dumps(row._asdict()) for row in table.itertuples(index=False)]
    write(tmp_path, "\n".join(lines), "log.jsonl")
    for name in ("log.csv", "log.tsv", "log.parquet", "log.jsonl"):
        assert events(read_interactions(tmp_path / name)) == expected, name
    assert events(read_interactions(table)) == expected


@given(
    st.binary(max_size=80)
    | st.text('user,item,time\n\r"123 ;é-.e', max_size=80).map(str.encode)
)
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_bytes_make_the_reader_fail_in_another_way_than_its_own(tmp_path, content):
    for name in ("log.csv", "log.tsv", "log.jsonl", "log.csv.gz", "log.parquet"):
        for body in (content, b"user,item,time\n" + content):
            path = write(
                tmp_path, gzip.compress(body) if name.endswith(".gz") else body, name
            )
            log, line = outcome(path)
            assert "\n" not in line
            if log is not None:
                assert log.summary.read == len(log) + sum(log.summary.dropped.values())


# Nothing in silence

T = 1_700_000_000


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz"])
def test_text_after_a_closing_quote_is_refused_unless_quotes_are_letters(
    tmp_path, ending
):
    rows = [["user", "item", "time"], ["u1", '"weird al" yankovic', T]]
    rows += [["u2", "weird al yankovic", T], ["u3", '7" single', T]]
    sign = "\t" if ending == "tsv" else ","
    text = "\n".join(sign.join(map(str, row)) for row in rows).encode()
    packed = gzip.compress(text) if ending.endswith("gz") else text
    path = write(tmp_path, packed, f"log.{ending}")
    line = fault(path)
    assert f"log.{ending} row 2: text after a closing quote" in line
    assert "quoted=False (--no-quotes)" in line
    items = read_interactions(path, quoted=False).events["item"].tolist()
    assert items == ['"weird al" yankovic', "weird al yankovic", '7" single']


def test_rows_that_quotes_join_are_counted_and_the_first_is_named(tmp_path):
    text = f'user,item,time\nu1,a,{T}\nu1,"Heroes\nlive",{T}\nu3,"x\ny",{T}\n'
    log = read_interactions(write(tmp_path, text))
    assert log.events["item"].tolist() == ["a", "Heroes\nlive", "x\ny"]
    told = "2 rows hold a line break in quotes (row 3; quoted=False, --no-quotes, if"
    assert f"; {told}" in str(log.summary)
    assert f"\n  {told}" in str(log)


@pytest.mark.parametrize(
    ("name", "text", "how", "likely"),
    [
        ("log.csv", "1,1193,5,978300760", {}, "','"),
        ("ratings.dat", "1::1193::5::978300760", {"separator": "::"}, "'::'"),
        ("log.txt", "1 1193 5 978300760", {"separator": " "}, "' '"),
        ("log.dat.gz", "1\t1193\t5\t978300760", {"separator": "\\t"}, "'\\t'"),
        ("log.csv", "1;1193;5;978300760", {"separator": ";"}, "';'"),
    ],
)
def test_a_file_without_a_header_is_told_and_read_by_position(
    tmp_path, name, text, how, likely
):
    other = text.replace("1193", "661")
    content = f"{text}\n{other}\n".encode()
    if name.endswith("gz"):
        content = gzip.compress(content)
    path = write(tmp_path, content, name)
    if how:
        assert f"{likely}" in fault(path)
    assert "row 1 ('1') seems to be an event" in fault(path, **how)
    columns = {"user": "1", "item": "2", "time": "4"}
    assert "header=False (--no-header)" in fault(path, **columns, **how)
    log = read_interactions(path, **columns, **how, header=False)
    assert events(log) == [(1, 1193, 978300760), (1, 661, 978300760)]
    assert log.events["3"].tolist() == [5, 5]


def test_a_header_where_there_is_said_to_be_none_is_no_event(tmp_path):
    path = write(tmp_path, "user,item\nu1,5\nu2,6\n")
    line = fault(path, "1", "2", header=False)
    assert "row 1 ('item') seems to name the columns; leave header=False" in line
    path = write(tmp_path, "Ann,\nBob,6\nAnn,7\n")
    log = read_interactions(path, "1", "2", header=False)
    assert events(log) == [("Bob", 6, 0), ("Ann", 7, 1)]


def test_numbers_may_name_columns_where_they_count_them(tmp_path):
    path = write(tmp_path, f"0,1,2\nu1,5,{T}\n")
    log = read_interactions(path, "0", "1", "2")
    assert events(log) == [("u1", 5, T)]


def test_a_layout_that_cannot_be_is_one_line(tmp_path):
    path = write(tmp_path, "user,item\n1,2\n")
    assert "separator is ''" in fault(path, separator="")
    rows = write(tmp_path, '{"user": 1, "item": 2}\n', "log.jsonl")
    part(tmp_path, "log.parquet", user=[1], item=[2])
    table = pd.DataFrame({"user": [1], "item": [2]})
    for source in (rows, tmp_path / "log.parquet", table):
        for how in ({"separator": ";"}, {"header": False}, {"quoted": False}):
            assert "is no file of text; leave separator" in fault(source, **how)
    films = write(tmp_path, "item::title\n2::Heat\n", "films.dat")
    line = fault(path, items=films)
    assert line.endswith("(each also .gz), or .parquet")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("timestamp", T),
        ("happened at", "2024-01-31 12:00"),
        ("order_date", "31/01/2024"),
        ("eventTime", "Jan 5, 2024"),
        ("Time", "7"),
        ("date", "20240131"),
        ("ms", 1000 * T),
    ],
)
def test_a_time_column_of_another_name_is_never_passed_over(tmp_path, column, value):
    path = write(tmp_path, f'user,item,{column}\n1,5,"{value}"\n1,6,"{value}"\n')
    line = fault(path)
    assert f"log.csv: no column 'time', but '{column}' looks like one" in line
    assert "in_order=True (--in-order)" in line
    for how in ({"in_order": True}, {"time": None}):
        log = read_interactions(path, **how)
        assert not log.has_time
        assert log.events["time"].tolist() == [0, 1]


@pytest.mark.parametrize(
    "column", ["rating", "runtime", "candidate", "lifetime value", "watch_time"]
)
def test_rows_are_in_order_where_nothing_looks_like_a_time_and_it_is_said(
    tmp_path, column
):
    log = read_interactions(write(tmp_path, f"user,item,{column}\n1,5,4\n1,6,\n"))
    assert not log.has_time
    assert "no column is a time, so rows are taken in their order" in str(log.summary)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_of_a_coarser_unit_than_declared_are_refused_and_it_is_named(
    tmp_path, unit
):
    path = write(tmp_path, f"user,item,time\n1,5,{T}\n1,6,{T + 9}\n")
    line = fault(path, time_unit=unit)
    assert "row 2: time 1700000000 lies in the year 1970" in line
    assert "pass time_unit='s' (--time-unit s)" in line


def test_line_numbers_among_times_are_refused_and_alone_are_said_to_be_counts(tmp_path):
    path = write(tmp_path, f"user,item,time\n1,5,{T}\n1,6,2\n1,7,3\n")
    line = fault(path)
    assert "log.csv row 3: time lies on 1970-01-01, others lie decades later" in line
    log = read_interactions(write(tmp_path, "user,item,time\n1,5,1\n1,6,2\n"))
    assert "'time' is taken for a count" in str(log.summary)


def test_duplicates_are_judged_by_all_of_a_time(tmp_path):
    text = "user,item,time\n1,5,{0}.378\n1,5,{0}.378\n1,5,{0}.901\n1,5,{0}\n"
    log = read_interactions(write(tmp_path, text.format(T)))
    assert log.summary.dropped == {"duplicates": 1}
    assert events(log) == [(1, 5, T)] * 3


def test_a_column_can_break_ties_of_time(tmp_path):
    text = f"user,item,time,place\n1,5,{T},3\n1,6,{T},1\n1,7,{T},\n1,8,{T - 1},9\n"
    path = write(tmp_path, text)
    assert "75 % of events share their time" in str(read_interactions(path).summary)
    log = read_interactions(path, tie="place")
    assert log.events["item"].tolist() == [8, 6, 5, 7]
    assert "share their time" not in str(log.summary)
    assert "no column 'spot' to break ties by" in fault(path, tie="spot")


def test_a_minimum_count_is_applied_while_reading(tmp_path):
    text = f"user,item,time\n1,5,{T}\n1,6,{T}\n2,5,{T}\n2,6,{T}\n3,7,{T}\n"
    log = read_interactions(write(tmp_path, text), min_count=2)
    assert log.summary.dropped == {"below min_count=2": 1}


def test_items_taken_again_are_said_unless_the_log_has_repeats(tmp_path):
    text = f"user,item,time\n1,5,{T}\n1,5,{T + 1}\n1,6,{T + 2}\n2,5,{T}\n"
    path = write(tmp_path, text)
    told = "25 % of events take an item again"
    assert told in str(read_interactions(path).summary)
    assert "take an item again" not in str(read_interactions(path, repeats=True))


def test_ids_that_a_spreadsheet_shortened_are_refused(tmp_path):
    path = write(tmp_path, f"user,item,time\n1,1.23E+12,{T}\n1,1.24E+12,{T}\n")
    assert "row 2: item '1.23E+12' has lost its last digits" in fault(path)


def test_a_table_that_describes_nothing_is_refused_and_its_share_is_said(tmp_path):
    log = write(tmp_path, f"user,item,time\n1,5.0,{T}\n1,6.0,{T}\n2,7.0,{T}\n")
    items = write(tmp_path, "item,genre\n5,a\n6,b\n", "items.csv")
    line = fault(log, items=items)
    assert (
        "items.csv, table of items, describes 0 of 3 items: the log has '5.0'" in line
    )
    assert "the table '5'" in line
    items = pd.DataFrame({"item": ["5.0", "7.0"], "genre": "a", "price": [1, 2]})
    told = "items table describes 2 of 3 items (genre: category, price: number)"
    assert told in str(read_interactions(log, items=items).summary)


def test_what_attributes_are_taken_for_is_said(tmp_path):
    text = f"user,item,time,price,tag\n1,5,{T},1.5,x\n1,6,{T},n/a,y\n2,6,{T},2,z\n"
    log = read_interactions(write(tmp_path, text))
    told = "attributes of events: price: category, though 2 of 3 are numbers, tag: cat"
    assert told in str(log.summary)
    log = read_interactions(write(tmp_path, text), kinds={"price": "category"})
    assert "price: category, tag: category" in str(log.summary)


def test_a_wrong_time_format_is_one_line(tmp_path):
    path = write(tmp_path, "user,item,time\n1,5,2024-01-31\n")
    assert "time_format is '%Y-%q'" in fault(path, time_format="%Y-%q")


# Any bytes, any options

OPTIONS = {
    "user": ["user", "1", "item", 1],
    "item": ["item", "2", "who"],
    "time": ["time", "3", None, "when"],
    "separator": [None, ",", ";", "::", "\t", " ", "", "ab"],
    "header": [True, False],
    "quoted": [True, False],
    "time_unit": ["s", "ms", "ns"],
    "time_format": [None, "%Y-%m-%d", "%d", "x"],
    "in_order": [True, False],
    "tie": [None, "tag", "time", "none"],
    "min_count": [1, 2],
    "repeats": [True, False],
    "drop_duplicates": [True, False],
    "kinds": [None, {"tag": "number"}, {"tag": "categories"}, {"none": "words"}],
}


def test_no_options_make_the_reader_fail_in_another_way_than_its_own(tmp_path, request):
    """At least a third of the calls are of logs that can be read."""
    calls = 2500 if request.config.getoption("full") else 250
    chance, read = random.Random(5), 0
    for _ in range(calls):
        name = chance.choice(FORMATS)
        content = original(name)
        if chance.random() < 0.4:
            content = mutated(content, chance)
        path = write(tmp_path, content, name)
        many = chance.choice([0, 0, 1, 2, 3])
        how = {
            option: chance.choice(OPTIONS[option])
            for option in chance.sample(sorted(OPTIONS), many)
        }
        log, line = outcome(path, **how)
        assert "\n" not in line
        if log is None:
            continue
        read += 1
        assert len(str(log).splitlines()) < 20
        assert log.summary.read == len(log) + sum(log.summary.dropped.values())
    assert read > calls / 3


# 200 mutated files

FORMATS = ("log.csv", "text.csv", "log.tsv", "log.jsonl", "log.csv.gz", "log.parquet")


def original(name: str) -> bytes:
    """A log of 40 rows in one of the formats."""
    chance = random.Random(1)
    users = [
        (
            chance.choice(["Ann", "Bö", 'C "D"', "E,F", "G\nH", "🍕"])
            if name == "text.csv"
            else k % 7
        )
        for k in range(40)
    ]
    table = pd.DataFrame(
        {
            "user": users,
            "item": [chance.randrange(12) for _ in users],
            "time": range(1000, 1040),
        }
    )
    if name == "log.parquet":
        file = io.BytesIO()
        table.to_parquet(file)
        return file.getvalue()
    if name == "log.jsonl":
        return table.to_json(orient="records", lines=True).encode()
    text = table.to_csv(index=False, sep="\t" if name == "log.tsv" else ",").encode()
    return gzip.compress(text, mtime=0) if name.endswith(".gz") else text


def mutated(content: bytes, chance: random.Random) -> bytes:
    """One to three faults, such as files get on their way."""
    for _ in range(chance.randint(1, 3)):
        at, to = sorted(chance.randrange(len(content) + 1) for _ in range(2))
        before, after, lines = content[:at], content[at:], content.split(b"\n")
        one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        faults = (
            before + content[min(to, at + 9) :],  # bytes lost
            before,  # cut off
            content[:to] + after,  # a part twice
            before + bytes([chance.randrange(256)]) + after[1:],  # a byte changed
            before
            + chance.choice([b'"', b",", b"\t", b"\r", b"\n", b";", b"{", b"\xff"])
            + after,  # a sign too many
            before
            + chance.choice([b"NaN", b"-", b"e9", b" ", b"x", b"9" * 20, b"."])
            + after,  # another value
            b"\n".join(lines[:one] + lines[one + 1 :]),  # a line lost
            b"\n".join([*lines[:one], lines[other], *lines[one:]]),  # a line twice
        )
        content = chance.choice(faults) or b"\n"
    return content


def by_another_reader(path: Path, content: bytes) -> list[tuple[str, str, str]]:
    """The rows as the standard library reads them: user, item, time as text, "" where
    missing."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in content.split(b"\n") if line.strip()]
        return [
            tuple(
                "" if row.get(c) is None else str(row[c])
                for c in ("user", "item", "time")
            )
            for row in rows
        ]
    text = io.StringIO(content.decode("utf-8"), newline="")
    header, *rows = csv.reader(text, delimiter="\t" if path.suffix == ".tsv" else ",")
    at = [header.index(column) for column in ("user", "item")]
    at += [header.index("time")] if "time" in header else []
    cells = [[row[k] if k < len(row) else "" for k in at] for row in rows if any(row)]
    return [tuple([*row, "0"][:3]) for row in cells]


@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_file_is_refused_in_one_line_or_every_row_of_it_is_accounted_for(
    tmp_path, seed
):
    chance = random.Random(seed)
    name = FORMATS[seed % len(FORMATS)]
    content = mutated(original(name), chance)
    path = write(tmp_path, content, name)
    log, line = outcome(path)
    if log is None:
        assert str(path) in line
        assert "\n" not in line
        return
    assert log.summary.read == log.summary.kept + sum(log.summary.dropped.values())
    assert log.summary.kept == len(log)
    if name == "log.parquet":
        return
    if name.endswith(".gz"):  # it has a checksum of its own
        assert gzip.decompress(content) == gzip.decompress(original(name))
        return
    rows = by_another_reader(path, content)
    assert log.summary.read == len(rows)
    words = ("", "NaN")
    whole = Counter(
        (u, i)
        for u, i, t in rows
        if u.strip() not in words and i.strip() not in words and t.strip() not in words
    )
    ours = Counter(
        (str(user), str(item))
        for user, item in zip(log.events["user"], log.events["item"], strict=True)
    )
    assert not ours - whole  # no event that the file does not hold
    assert (whole - ours).total() == log.summary.dropped.get("duplicates", 0)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_reading_does_not_look_for_circles_in_the_cells_again_and_again(
    tmp_path, ending
):
    rows = 30_000
    line = (
        '{{"user": {0}, "item": {0}, "time": {0}}}' if ending == "jsonl" else "{0},7,5"
    )
    lines = ["user,item,time"] * (ending == "csv") + [
        line.format(n) for n in range(rows)
    ]
    path = write(tmp_path, "\n".join(lines), f"log.{ending}")
    looks: list[str] = []
    gc.callbacks.append(lambda phase, _: looks.append(phase))
    try:
        read_table(path, ())
    finally:
        gc.callbacks.pop()
    assert looks.count("start") < 20  # one for every 700 rows before
    assert gc.isenabled()
    with pytest.raises(DataError):
        read_table(write(tmp_path, 'a\n"', "log.csv"), ())
    assert gc.isenabled()


SWALLOWING = [
    'u1\t"Heroes\t{0}\nu2\tQueen\t{0}\nu3\tLow"\t{0}\nu4\tPulp\t{0}\n',
    'u1\t"Heroes\t{0}\r\nu2\tLow"\t{0}\r\nu4\tPulp\t{0}\r\n',
    'u0\tBlur\t{0}\nu1\t"Heroes\t{0}\nu2\tLow"\t{0}\n',
]
KEPT = [
    'u1\t"Heroes\nlive"\t{0}\nu4\tPulp\t{0}\n',
    'u1\t"a\tb\nc\td"\t{0}\nu4\tPulp\t{0}\n',
    'u1\t"1\n2\n3"\t{0}\nu4\tPulp\t{0}\n',
    'u1\t"x\ny\tz\tw"\t{0}\nu4\tPulp\t{0}\n',  # no number in each line
]


@pytest.mark.parametrize("text", SWALLOWING)
@pytest.mark.parametrize(("ending", "separator"), [("tsv", "\t"), ("csv", ",")])
def test_an_opening_quote_does_not_swallow_whole_rows(
    tmp_path, text, ending, separator
):
    text = ("user\titem\ttime\n" + text.format(T)).replace("\t", separator)
    path = write(tmp_path, text, f"log.{ending}")
    said = fault(path)
    row = 2 + text.startswith(f"user{separator}item{separator}time\nu0")
    lines = 3 if "Queen" in text else 2
    assert f'row {row}: a quote " swallows {lines} lines that are rows' in said
    log = read_interactions(path, quoted=False)
    assert len(log) == text.count("\n") - 1
    assert '"Heroes' in set(log.events["item"])


@pytest.mark.parametrize("text", KEPT)
def test_a_line_break_in_quotes_is_kept_where_no_whole_row_is_in_it(tmp_path, text):
    path = write(tmp_path, "user\titem\ttime\n" + text.format(T), "log.tsv")
    log = read_interactions(path)
    assert len(log) == 2
    assert "\n" in log.events["item"][0]
    assert "holds a line break in quotes (row 2" in str(log.summary)
