"""Stage 1a: a log is read exactly as it is, cleaned in the open, and refused in one
clear line."""

import dataclasses
import gzip
import hashlib
import logging
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import fault, write

from attncore.errors import DataError
from attncore.interactions import Interactions, ReadSummary, read_interactions

LOG = "user,item,time\n7,50,30\n7,51,10\n8,50,20\n"


def frame(**columns) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))
    return pd.DataFrame(
        {"user": range(rows), "item": range(rows), "time": range(rows)} | columns
    )


# Reading


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "tsv.gz", "parquet"])
def test_every_file_format_gives_the_same_log(tmp_path, ending):
    table = pd.DataFrame(
        {
            "who": [7, 7, 8],
            "what": ["007", "x", "é"],
            "when": [30, 10, 20],
            "rating": [1, 2, 3],
        }
    )
    path = tmp_path / f"log.{ending}"
    if ending == "parquet":
        table.to_parquet(path)
    else:
        text = table.to_csv(
            index=False, sep="\t" if ending.startswith("tsv") else ","
        ).encode()
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    log = read_interactions(path, user="who", item="what", time="when")
    pd.testing.assert_frame_equal(
        log.events,
        pd.DataFrame(
            {
                "user": [7, 7, 8],
                "item": ["007", "x", "é"],
                "time": [30, 10, 20],
                "rating": [1, 2, 3],
            }
        ),
    )
    assert log.name == "log"
    assert log.has_time


def test_rows_keep_the_order_they_were_loaded_in(tmp_path):
    assert read_interactions(write(tmp_path, LOG)).events["time"].tolist() == [
        30,
        10,
        20,
    ]


def test_a_missing_default_time_column_means_row_order_is_time_order(tmp_path):
    log = read_interactions(write(tmp_path, "user,item\n1,5\n1,5\n1,6\n"))
    assert not log.has_time
    assert log.events["time"].tolist() == [0, 1, 2]
    assert len(log) == 3  # without times the same pair twice is two events


def test_time_none_ignores_a_time_column(tmp_path):
    log = read_interactions(write(tmp_path, LOG), time=None)
    assert not log.has_time
    assert log.events["time"].tolist() == [0, 1, 2]


def test_a_named_time_column_that_is_absent_is_an_error_that_lists_the_columns(
    tmp_path,
):
    line = fault(write(tmp_path, LOG), time="when")
    assert "log.csv: no column 'when'" in line
    assert "'user', 'item', 'time'" in line


def test_columns_of_another_name_and_attributes_are_kept(tmp_path):
    text = "u,i,t,rating,price,note,zip\n1,2,3,4,1.5,fine,01234\n1,3,4,,,,99\n"
    events = read_interactions(
        write(tmp_path, text), user="u", item="i", time="t"
    ).events
    assert list(events) == ["user", "item", "time", "rating", "price", "note", "zip"]
    assert events["rating"].tolist()[0] == 4
    assert events["rating"].isna().tolist() == [False, True]
    assert events["price"].dtype == "float64"
    assert events["zip"].tolist() == ["01234", "99"]
    assert events["note"].isna().tolist() == [False, True]


def test_an_attribute_whose_name_is_taken_gives_way_to_the_chosen_column(tmp_path):
    log = read_interactions(
        write(tmp_path, "user,user_id,item\nAnn,1,5\nBob,2,5\n"), user="user_id"
    )
    assert list(log.events) == ["user", "item", "time"]
    assert log.events["user"].tolist() == [1, 2]


def test_a_byte_order_mark_windows_lines_and_empty_lines_do_no_harm(tmp_path):
    text = "\ufeff" + LOG.replace("\n", "\r\n").replace("7,51", "\r\n7,51") + "\r\n\r\n"
    log = read_interactions(write(tmp_path, text))
    assert log.events["item"].tolist() == [50, 51, 50]
    assert log.summary.read == 3


def test_tables_of_users_and_items_come_along_with_ids_of_the_logs_type(tmp_path):
    write(tmp_path, "item,title\n50,Heat\n51,Seven\n99,Unseen\n", "items.csv")
    log = read_interactions(write(tmp_path, LOG), items=tmp_path / "items.csv")
    assert log.items.loc[50, "title"] == "Heat"
    log = read_interactions(
        write(tmp_path, LOG.replace("51", "x1")), items=tmp_path / "items.csv"
    )
    assert log.items.loc["50", "title"] == "Heat"
    people = pd.DataFrame({"who": [7, 8], "age": [30, 40]})
    log = read_interactions(
        pd.DataFrame({"who": [7], "item": [1]}), user="who", users=people
    )
    assert log.users.loc[8, "age"] == 40
    assert log.users.index.name == "user"


# Ids


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_any_int64_id_survives_csv_to_the_last_digit(tmp_path_factory, ids):
    path = write(
        tmp_path_factory.mktemp("ids"),
        "user,item\n" + "".join(f"{i},{i}\n" for i in ids),
    )
    log = read_interactions(path)
    assert log.events["item"].dtype == "int64"
    assert log.events["user"].tolist() == log.events["item"].tolist() == ids


@given(
    st.lists(
        st.text("01239+-.eExX _#", min_size=1, max_size=6).filter(str.strip),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_text_id_survives_csv_to_the_letter(tmp_path_factory, ids):
    path = write(
        tmp_path_factory.mktemp("ids"),
        "item,user\n" + "".join(f'"{i}",1\n' for i in ids),
    )
    assert [str(item) for item in read_interactions(path).events["item"]] == ids


@pytest.mark.parametrize(
    "odd", ["007", "+7", "-0", "1.0", "1e3", "9223372036854775808", " 7", "x"]
)
def test_one_id_that_is_no_canonical_int64_makes_the_column_text(tmp_path, odd):
    items = read_interactions(write(tmp_path, f"user,item\n1,12\n1,{odd}\n")).events[
        "item"
    ]
    assert items.dtype == "str"
    assert items.tolist() == ["12", odd]


@pytest.mark.parametrize("big", [2**53 + 1, 2**63 - 1])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_ids_beyond_2_to_53_never_pass_through_float_even_beside_a_missing_one(
    tmp_path, big, ending
):
    table = pd.DataFrame(
        {"user": [1, 1, 1], "item": pd.array([big, None, big - 1], dtype="Int64")}
    )
    path = tmp_path / f"log.{ending}"
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    log = read_interactions(path)
    assert log.events["item"].dtype == "int64"
    assert log.events["item"].tolist() == [big, big - 1]
    assert log.summary.dropped == {"without item": 1}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.array([3, 5], dtype="int16"), [3, 5]),
        (pd.array([3, 5], dtype="uint64"), [3, 5]),
        (pd.array([3, 5], dtype="Int64"), [3, 5]),
        (np.array([3.0, 5.0]), [3, 5]),
        (np.array([2**53 + 1, 5], dtype=object), [2**53 + 1, 5]),
        (pd.Categorical([5, 3]), [5, 3]),
        (pd.Categorical(["b", "a"]), ["b", "a"]),
        (np.array(["3", "05"], dtype=object), ["3", "05"]),
        (pd.array(["3", "5"], dtype="string"), ["3", "5"]),
    ],
)
def test_a_frames_ids_keep_their_kind_and_value(values, expected):
    items = Interactions.from_frame(frame(item=values)).events["item"]
    assert str(items.dtype) == ("str" if isinstance(expected[0], str) else "int64")
    assert items.tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, "x"], "frame row 1: item 'x' comes after int ids"),
        (["x", 1], "frame row 1: item 1 comes after str ids"),
        ([1.0, 1.5], "frame row 1: item 1.5 is not a whole number"),
        (
            [1.0, 2.0**53],
            "frame row 1: item 9007199254740992.0 cannot be exact as float64",
        ),
        (
            np.array([1, 2**24], dtype="float32"),
            "frame row 1: item 16777216.0 cannot be exact as float32",
        ),
        (
            np.array([1, 2**63], dtype="uint64"),
            "frame row 1: item 9223372036854775808 cannot be exact",
        ),
        ([True, False], "item ids are boolean"),
        ([(1, 2), (3, 4)], "item ids are mixed"),
    ],
)
def test_ids_that_cannot_be_exact_are_refused_with_row_and_mend(values, expected):
    line = fault(frame(item=pd.Series(values)))
    assert expected in line
    assert "text" in line


# Times


@pytest.mark.parametrize("time", [0, 1, 881250949, 4102444800])
def test_integer_times_from_1970_to_2100_are_exact(tmp_path, time):
    assert read_interactions(write(tmp_path, f"user,item,time\n1,2,{time}\n")).events[
        "time"
    ].tolist() == [time]
    assert Interactions.from_frame(frame(time=[time])).events["time"].tolist() == [time]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-02", 86400),
        ("1970-01-02 00:00:01", 86401),
        ("1970-01-02T00:00:01Z", 86401),
        ("1970-01-02T01:00:01+01:00", 86401),
        ("1970-01-01T00:00:01.9", 1),
        ("2099-12-31", 4102358400),
        ("881250949.0", 881250949),
        ("1.5", 1),
    ],
)
def test_dates_and_decimals_become_unix_seconds_rounded_down(tmp_path, text, expected):
    assert read_interactions(write(tmp_path, f"user,item,time\n1,2,{text}\n")).events[
        "time"
    ].tolist() == [expected]


@pytest.mark.parametrize(
    "dates",
    [
        pd.to_datetime(["1970-01-02 00:00:00", "1970-01-01 00:00:01"]),
        pd.to_datetime(["1970-01-02 00:00:00", "1970-01-01 00:00:01"])
        .tz_localize("UTC")
        .tz_convert("Asia/Tokyo"),
        np.array(["1970-01-02", "1970-01-01T00:00:01"], dtype="datetime64[s]"),
        pd.to_datetime(["1970-01-02 00:00:00", "1970-01-01 00:00:01"]).to_pydatetime(),
    ],
)
def test_a_frames_dates_become_unix_seconds(dates):
    assert Interactions.from_frame(frame(time=dates)).events["time"].tolist() == [
        86400,
        1,
    ]


def test_a_time_format_reads_dates_that_look_like_numbers(tmp_path):
    path = write(tmp_path, "user,item,time\n1,2,19700102\n1,3,19700103\n")
    assert read_interactions(path, time_format="%Y%m%d").events["time"].tolist() == [
        86400,
        172800,
    ]


def test_times_finer_than_a_second_still_decide_the_order(tmp_path):
    text = "user,item,time\n1,30,5.75\n1,10,5.25\n1,20,5.50\n"
    log = read_interactions(write(tmp_path, text))
    assert log.events["item"].tolist() == [10, 20, 30]
    assert log.events["time"].tolist() == [5, 5, 5]
    log = read_interactions(
        write(tmp_path, text.replace("5.", "17000000001")), time_unit="ms"
    )
    assert log.events["item"].tolist() == [10, 20, 30]
    assert log.events["time"].tolist() == [1700000000] * 3


def test_fractions_of_a_second_are_divided_in_integers(tmp_path):
    # A float64 would round it up.
    path = write(tmp_path, f"user,item,time\n1,2,{4_000_000_001 * 10**9 - 1}\n")
    assert read_interactions(path, time_unit="ns").events["time"].tolist() == [
        4_000_000_000
    ]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (
            ["1", "2", "yesterday"],
            "log.csv row 4: time 'yesterday' is not a number; write Unix seconds",
        ),
        (
            ["2024-01-01", "2024-01-02", "x"],
            "log.csv row 4: time 'x' is not a date; write ISO 8601",
        ),
        (
            ["1", "2", "99999999999999999999"],
            "log.csv row 4: time 1e+20 cannot be exact as float64",
        ),
        (["1", "2.5", "nan"], "log.csv row 4: time 'nan' is not a number"),
        (
            ["2024-01-01", "2024-01-02", "2024-02-30"],
            "row 4: time '2024-02-30' is not a date",
        ),
    ],
)
def test_a_time_that_cannot_be_read_names_its_row_and_the_mend(
    tmp_path, times, expected
):
    text = "user,item,time\n" + "".join(f"1,2,{time}\n" for time in times)
    assert expected in fault(write(tmp_path, text))


def test_float32_times_are_refused_because_they_lost_seconds():
    line = fault(frame(time=np.array([881250949], dtype="float32")))
    assert "frame row 0: time 881250944.0 cannot be exact as float32" in line


def test_rows_in_errors_count_empty_lines_too(tmp_path):
    assert "row 5: time 'x'" in fault(
        write(tmp_path, "user,item,time\n1,2,3\n\n1,2,4\n1,2,x\n")
    )


# Cleaning


def test_rows_without_user_item_or_time_are_dropped_and_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    text = "user,item,time\n,1,1\n1,,1\n1,1,\n1, ,1\n1,2,3\n"
    log = read_interactions(write(tmp_path, text))
    assert log.events.to_numpy().tolist() == [[1, 2, 3]]
    assert log.events["item"].dtype == "int64"
    assert log.summary == ReadSummary(
        5, 1, {"without user": 1, "without item": 2, "without time": 1}
    )
    assert (
        "5 rows read, 1 kept; dropped: 1 without user, 2 without item, 1 without time"
        in caplog.text
    )


def test_the_first_of_duplicate_events_is_kept(tmp_path):
    text = "user,item,time,rating\n1,2,3,5\n1,2,4,4\n1,2,3,1\n2,2,3,2\n"
    log = read_interactions(write(tmp_path, text))
    assert log.events["rating"].tolist() == [5, 4, 2]
    assert log.summary.dropped == {"duplicates": 1}
    assert len(read_interactions(tmp_path / "log.csv", drop_duplicates=False)) == 4


def test_missing_values_of_a_frame_are_dropped_in_every_spelling():
    table = pd.DataFrame(
        {"user": ["a", None, np.nan, "", "b"], "item": [1.0, 1.0, 1.0, 1.0, np.nan]}
    )
    log = Interactions.from_frame(table)
    assert log.events["user"].tolist() == ["a"]
    assert log.events["item"].dtype == "int64"


def test_reading_changes_nothing_in_the_frame_given():
    table = frame(item=[3, 1, 1])
    before = table.copy()
    Interactions.from_frame(table)
    pd.testing.assert_frame_equal(table, before)


def test_the_index_of_a_frame_does_not_matter():
    table = frame(item=[3, 1, 2])
    odd = table.set_index(pd.Index([5, 5, 9]))
    pd.testing.assert_frame_equal(
        Interactions.from_frame(odd).events, Interactions.from_frame(table).events
    )


def slow_core(pairs, least):
    """Remove rare users and items, one pass at a time, until nothing changes."""
    while True:
        users, items = Counter(u for u, _ in pairs), Counter(i for _, i in pairs)
        kept = [(u, i) for u, i in pairs if users[u] >= least and items[i] >= least]
        if kept == pairs:
            return kept
        pairs = kept


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(1, 5),
)
@settings(deadline=None)
def test_k_core_equals_repeated_removal(pairs, least):
    log = Interactions.from_frame(pd.DataFrame(pairs, columns=["user", "item"]))
    expected = slow_core(pairs, least)
    if not expected:
        with pytest.raises(DataError, match=f"min_count={least}"):
            log.k_core(least)
        return
    core = log.k_core(least)
    assert list(zip(core.events["user"], core.events["item"], strict=True)) == expected
    assert core.events.index.equals(pd.RangeIndex(len(expected)))
    assert core.summary.kept == len(expected)
    assert core.summary.read == len(pairs)


def test_k_core_repeats_where_one_pass_is_not_enough():
    # Item 9 is rare; without it user 3 is rare; without user 3 item 5 is rare.
    pairs = [(1, 4), (1, 6), (2, 4), (2, 6), (3, 9), (3, 5), (4, 5), (4, 4)]
    core = Interactions.from_frame(
        pd.DataFrame(pairs, columns=["user", "item"])
    ).k_core(2)
    assert core.events["user"].tolist() == [1, 1, 2, 2]
    assert core.summary.dropped == {"below min_count=2": 4}


def test_k_core_adds_to_what_reading_dropped():
    log = Interactions.from_frame(
        frame(user=[1, 1, None, 2], item=[5, 5, 5, 6])
    ).k_core(2)
    assert log.summary == ReadSummary(4, 2, {"without user": 1, "below min_count=2": 1})


def test_a_minimum_count_below_one_is_refused():
    with pytest.raises(DataError, match="min_count is 0"):
        Interactions.from_frame(frame(item=[1])).k_core(0)


# Files that are no log


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("log.csv", b"", "log.csv is empty"),
        (
            "log.csv",
            b"user,item,time\n",
            "log.csv: no events (0 rows below the header)",
        ),
        ("log.csv", b"user,item,time\n,,\n", "log.csv: no events"),
        (
            "log.csv",
            b"a,b\n1,2\n",
            "log.csv: no column 'user'; its columns are 'a', 'b'; name the user column",
        ),
        (
            "log.csv",
            b"user,item,item\n1,2,3\n",
            "log.csv: two columns are called 'item'",
        ),
        (
            "log.csv",
            b"user,item\n1,2\n1,2,3\n",
            "log.csv row 3: 3 columns under 2 names",
        ),
        (
            "log.csv",
            b"user,item\n1,2,3\n1,2,3\n",
            "log.csv row 1: fewer names than the rows have columns",
        ),
        (
            "log.csv",
            b'user,item\n1,2\n1,"3\n1,2\n',
            'log.csv row 3: a quote " is opened and never closed',
        ),
        (
            "log.csv",
            "user,item\n1,é\n".encode("latin-1"),
            "log.csv row 2: not UTF-8 text",
        ),
        ("log.xlsx", b"x", "log.xlsx: unknown ending; write .csv, .tsv"),
        ("log", b"x", "log: unknown ending"),
        ("log.parquet.gz", b"x", "unknown ending"),
        ("log.parquet", b"not parquet", "log.parquet: cannot be read"),
        ("log.csv.gz", b"not gzip", "log.csv.gz: cannot be read"),
        (
            "log.csv.gz",
            gzip.compress(LOG.encode() * 99, mtime=0)[:60],
            "log.csv.gz: cannot be read",
        ),
    ],
)
def test_a_file_that_is_no_log_gives_one_line_with_the_mend(
    tmp_path, name, content, expected
):
    (tmp_path / name).write_bytes(content)
    line = fault(tmp_path / name)
    assert expected in line
    assert str(tmp_path / name) in line


def test_a_missing_file_and_a_folder_give_one_line(tmp_path):
    assert "no such file" in fault(tmp_path / "none.csv")
    assert "is a folder without .parquet parts" in fault(tmp_path)


def test_one_column_cannot_be_two_things(tmp_path):
    assert "'item' is asked for twice" in fault(write(tmp_path, LOG), user="item")


def test_an_unknown_time_unit_names_those_there_are(tmp_path):
    assert "it is one of s, ms, us, ns" in fault(write(tmp_path, LOG), time_unit="h")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("item,title\n50,a\n50,b\n", "item 50 is there twice"),
        ("film,title\n50,a\n", "no column or index 'item'"),
        ("item,title\nx50,a\n", "ids str, in the events they are int64"),
    ],
)
def test_a_wrong_table_of_items_gives_one_line(tmp_path, table, expected):
    line = fault(write(tmp_path, LOG), items=write(tmp_path, table, "items.csv"))
    assert expected in line
    assert "table of items" in line


# The log itself


@pytest.mark.parametrize(
    "events",
    [
        {"user": [1], "item": [2]},
        {"user": [1], "item": [2], "time": [3.0]},
        {"user": [1.0], "item": [2], "time": [3]},
        {"user": [None], "item": [2], "time": [3]},
        {"user": pd.array(["a", None], dtype="str"), "item": [2, 2], "time": [3, 3]},
        {"user": np.array([1], dtype="int32"), "item": [2], "time": [3]},
    ],
)
def test_an_unclean_log_cannot_be_built(events):
    with pytest.raises(DataError, match="the events need a column"):
        Interactions(pd.DataFrame(events))


def test_a_log_with_gaps_in_its_numbering_cannot_be_built():
    with pytest.raises(DataError, match="not numbered"):
        Interactions(frame(item=[1, 2, 3])[::2])


def test_a_log_is_frozen_and_says_what_it_is():
    log = Interactions.from_frame(frame(item=[1, 1, 2]), name="films")
    assert repr(log) == "Interactions(films: 3 events, 3 users, 2 items)"
    assert len(log) == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        log.name = "other"


def test_the_checksum_is_the_sha256_of_tab_separated_lines():
    log = Interactions.from_frame(
        frame(user=[1, 2], item=[3, 4], time=[5, 6], rating=[4, 3], note=["a", "b"])
    )
    assert log.checksum == hashlib.sha256(b"1\t3\t4\t5\n2\t4\t3\t6\n").hexdigest()


@pytest.mark.parametrize("column", ["user", "item", "time", "rating"])
def test_the_checksum_changes_with_every_column_it_covers_and_with_row_order(column):
    table = frame(user=[1, 2], item=[3, 4], time=[5, 6], rating=[4, 3])
    changed = table.copy()
    changed.loc[1, column] += 7
    checksums = {
        Interactions.from_frame(t).checksum for t in (table, changed, table[::-1])
    }
    assert len(checksums) == 3


def test_the_checksum_tells_text_from_numbers():
    numbers = Interactions.from_frame(frame(item=[1, 2]))
    text = Interactions.from_frame(frame(item=["1", "2"]))
    assert numbers.checksum != text.checksum
