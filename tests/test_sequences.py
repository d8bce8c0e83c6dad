import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attncore as ac
from attncore.errors import DataError
from attncore.sequences import FEW, Histories, Vocabulary
from attncore.splits import index_log


def make_log(rows, **options):
    return ac.Interactions.from_frame(
        pd.DataFrame(rows, columns=["user", "item", "time"]), **options
    )


def test_vocabulary_counts_from_one_and_returns_the_ids_unchanged():
    words = Vocabulary(np.array(["007", "7", "a,b"], dtype=object))
    assert words.encode(["a,b", "007"]).tolist() == [3, 1]
    assert words.decode(np.array([1, 2])).tolist() == ["007", "7"]


def test_ids_beyond_float_precision_stay_apart():
    big = 2**53
    numbers = Vocabulary(np.array([big, big + 1]))
    assert numbers.encode([big + 1, big]).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("ids", "hint"),
    [([9], "unknown item 9"), (["1"], "an id of this log is an integer")],
)
def test_an_unknown_id_is_named_in_one_line(ids, hint):
    with pytest.raises(ac.DataError, match=hint) as error:
        Vocabulary(np.array([1, 2])).encode(ids)
    assert "\n" not in str(error.value)


def test_typed_ids_become_the_type_of_the_log():
    assert Vocabulary(np.array([1, 2])).parse(["2", "1"]) == [2, 1]
    assert Vocabulary(np.array(["1"], dtype=object)).parse(["1"]) == ["1"]
    with pytest.raises(ac.DataError, match="'x'"):
        Vocabulary(np.array([1, 2])).parse(["1", "x"])


@given(
    st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=6), st.data()
)
def test_take_equals_python_slices(rows, data):
    histories = Histories.from_lists(rows)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    stops = [data.draw(st.integers(0, len(rows[row]))) for row in chosen]
    taken = histories.take(np.array(chosen, np.int64), stops=np.array(stops, np.int64))
    assert [taken[i].tolist() for i in range(len(taken))] == [
        rows[r][:s] for r, s in zip(chosen, stops, strict=True)
    ]
    assert taken.lengths.tolist() == stops


def test_a_row_outside_the_histories_raises():
    with pytest.raises(IndexError, match="row 1 of 1"):
        Histories.from_lists([[1]])[1]


def test_events_of_one_time_keep_the_order_of_the_rows():
    log = make_log([(1, 30, 5), (1, 10, 5), (1, 20, 4), (1, 40, 5)])
    _, items, histories = index_log(log)
    assert items.decode(histories[0]).tolist() == [20, 30, 10, 40]


@given(st.permutations(range(8)))
def test_shuffling_rows_of_different_times_changes_no_split(order):
    rows = [(1, 10 + t, t) for t in range(4)] + [(2, 20 + t, t) for t in range(4)]
    first, other = (
        ac.leave_one_out(make_log(rows)),
        ac.leave_one_out(make_log([rows[i] for i in order])),
    )
    for name in ("items", "offsets", "times"):
        assert (getattr(first.train, name) == getattr(other.train, name)).all()
    assert (first.test.targets == other.test.targets).all()
    assert (first.items.ids == other.items.ids).all()


def test_leave_one_out_by_hand():
    rows = (
        [(1, i, t) for t, i in enumerate([10, 11, 12, 13])]
        + [(2, 10, 0), (2, 14, 1)]
        + [(3, i, i) for i in (11, 12, 15)]
    )
    split = ac.leave_one_out(make_log(rows))
    name = split.items.decode
    assert [name(split.train[u]).tolist() for u in range(3)] == [
        [10, 11],
        [10, 14],
        [11],
    ]
    assert split.valid.users.tolist() == split.test.users.tolist() == [0, 2]
    assert name(split.valid.targets).tolist() == [12, 12]
    assert name(split.test.targets).tolist() == [13, 15]
    assert [name(split.test.histories[r]).tolist() for r in range(2)] == [
        [10, 11, 12],
        [11, 12],
    ]
    # 15 is asked for but never trained: still in the catalogue.
    assert len(split.items) == 6
    assert split.item_counts.tolist() == [2, 2, 0, 0, 1, 0]


def test_leave_one_out_needs_a_user_with_three_events():
    with pytest.raises(ac.DataError, match="leaves no user"):
        ac.leave_one_out(make_log([(1, 1, 1), (1, 2, 2), (2, 1, 1)]))


def test_time_split_by_hand_shows_nothing_after_the_cut():
    rows = [(1, 10 + t, t) for t in range(10)] + [(2, 30, 0), (2, 31, 9), (3, 40, 9)]
    split = ac.split_by_time(make_log(rows), valid=0.2, test=0.3)
    cut_valid, cut_test = (
        split.valid.protocol["valid_from"],
        split.valid.protocol["test_from"],
    )
    assert (cut_valid, cut_test) == (5, 8)
    assert split.train.times.max() < cut_valid
    assert split.test.histories.times.max() < cut_test
    assert split.items.decode(split.test.targets).tolist() == [18, 31]
    assert split.items.decode(split.valid.targets).tolist() == [15]
    assert split.valid.protocol["users_without_history"] == 1


def test_time_split_refuses_a_log_without_times_and_shares_out_of_range():
    log = ac.Interactions.from_frame(
        pd.DataFrame({"user": [1, 1, 1], "item": [1, 2, 3]}), time="time"
    )
    with pytest.raises(ac.DataError, match="no time column"):
        ac.split_by_time(log)
    with pytest.raises(ac.DataError, match="shares"):
        ac.split_by_time(make_log([(1, 1, 1)] * 3), valid=0.6, test=0.6)


def test_user_split_pools_every_user_once_and_trains_on_no_held_out_event(log):
    tested = []
    for fold in range(5):
        split = ac.split_by_user(log, fold=fold, known=3)
        held = set(split.test.users) | set(split.valid.users)
        assert not set(split.test.users) & set(split.valid.users)
        assert all(len(split.train[user]) == 0 for user in held)
        assert (split.test.histories.lengths == 3).all()
        tested += split.test.users.tolist()
    assert sorted(tested) == list(range(40))
    assert len(ac.split_by_user(log, known=0).test.histories.items) == 0
    with pytest.raises(ac.DataError, match="fold=5"):
        ac.split_by_user(log, fold=5)


def test_user_split_asks_each_held_out_user_once_for_each_number_known(log):
    alone = [ac.split_by_user(log, fold=1, known=n) for n in (0, 1, 3)]
    pooled = ac.split_by_user(log, fold=1, known=(0, 1, 3))
    for name in ("valid", "test"):
        parts, whole = [getattr(split, name) for split in alone], getattr(pooled, name)
        assert whole.users.tolist() == [user for part in parts for user in part.users]
        assert whole.targets.tolist() == [
            item for part in parts for item in part.targets
        ]
        assert whole.histories.items.tolist() == [
            item for part in parts for item in part.histories.items
        ]
        assert whole.histories.lengths.tolist() == [
            n for part in parts for n in part.histories.lengths
        ]
    assert pooled.valid.protocol["known"] == [0, 1, 3]
    assert (pooled.train.items == alone[0].train.items).all()


def test_who_has_no_event_after_those_known_is_not_asked():
    log = make_log(
        [(user, item, item) for user in range(9) for item in range(2 + user % 2)]
    )
    split = ac.split_by_user(log, folds=3, known=[1, 2])
    short = split.users.ids[split.test.users[split.test.histories.lengths == 2]]
    assert len(short) > 0
    assert (short % 2 == 1).all()  # two events known, and a third to ask for
    assert (split.test.histories.lengths == 1).sum() == 3


def test_training_users_show_their_opening_alone_and_held_out_users_are_asked_as_before(
    log, tmp_path
):
    whole, split = (
        ac.split_by_user(log, known=3),
        ac.split_by_user(log, known=3, opening=4),
    )
    kept = np.minimum(whole.train.lengths, 4)
    assert kept.max() == 4 < whole.train.lengths.max()
    assert (
        split.train.items.tolist()
        == whole.train.take(np.arange(len(whole.train)), kept).items.tolist()
    )
    assert split.item_counts.sum() == kept.sum()
    assert split.test.targets.tolist() == whole.test.targets.tolist()
    split.save(tmp_path)
    assert ac.Split.load(tmp_path).train.items.tolist() == split.train.items.tolist()


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"known": -1}, "known=-1: need"),
        ({"known": ()}, r"known=\(\): need"),
        ({"known": [2, -1]}, r"known=\[2, -1\]: need"),
        ({"opening": 1}, "opening=1: must be at least 2"),
    ],
)
def test_user_split_refuses_numbers_out_of_range(log, wrong, hint):
    with pytest.raises(ac.DataError, match=hint):
        ac.split_by_user(log, **wrong)


def test_a_split_read_back_is_the_split_that_was_saved(split, tmp_path):
    split.save(tmp_path)
    back = ac.Split.load(tmp_path)
    assert back.valid.protocol == split.valid.protocol
    for part in ("valid", "test"):
        ours, theirs = getattr(split, part), getattr(back, part)
        assert (ours.targets == theirs.targets).all()
        assert (ours.users == theirs.users).all()
        assert (ours.histories.items == theirs.histories.items).all()
    assert (back.train.items == split.train.items).all()
    assert (back.item_counts == split.item_counts).all()


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(0, 5)),
        min_size=12,
        max_size=40,
    )
)
def test_splits_equal_a_slow_reference(rows):
    log = make_log(rows, drop_duplicates=False)
    by_user = {}
    for user, item, time in rows:
        by_user.setdefault(user, []).append((time, item))
    expected = {
        user: [item for _, item in sorted(events, key=lambda e: e[0])]
        for user, events in by_user.items()
    }
    asked = sorted(user for user, items in expected.items() if len(items) >= 3)
    if not asked:
        return
    split = ac.leave_one_out(log)
    name = split.items.decode
    for row, user in enumerate(sorted(expected)):
        items = expected[user]
        assert name(split.train[row]).tolist() == (
            items[:-2] if len(items) >= 3 else items
        )
    for part, back in ((split.valid, 2), (split.test, 1)):
        assert split.users.decode(part.users + 1).tolist() == asked
        for row, user in enumerate(asked):
            assert name(part.histories[row]).tolist() == expected[user][:-back]
            assert name(part.targets)[row] == expected[user][-back]


@pytest.mark.parametrize("repeats", [True, False])
def test_what_was_seen_is_a_candidate_where_users_repeat_purchases(repeats):
    rows = [(user, item % 3, item) for user in (1, 2) for item in range(6)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    split = ac.leave_one_out(ac.Interactions.from_frame(frame, repeats=repeats))
    assert split.valid.exclude_seen is split.test.exclude_seen is (not repeats)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("anna lena 07", "Anna Lena 07"),
        (" Anna Lena 07", "Anna Lena 07"),
        ("Gru\u0308ne Tüte", "Grüne Tüte"),  # as macOS writes an umlaut
        ("Grune Tüte", "Grüne Tüte"),
        ("Tasse, 0.3 l", "Tasse, 0,3 l"),
    ],
)
def test_an_unknown_id_is_told_beside_the_one_that_was_perhaps_meant(typed, meant):
    ids = ["Anna Lena 07", "Grüne Tüte", "Tasse, 0,3 l", "Zoë"]
    known = Vocabulary(np.array(sorted(ids), object))
    with pytest.raises(DataError) as told:
        known.encode([meant, typed])
    line = f"unknown item {typed!r}: it is not among the log's 4 items; {meant!r} is"
    assert str(told.value) == line
    with pytest.raises(DataError, match=r"log's 4 items$"):
        known.encode(["quite another thing"])


def test_a_large_catalogue_is_not_searched_for_what_was_meant_letter_by_letter():
    known = Vocabulary(np.array([f"item {n}" for n in range(FEW + 1)], object))
    with pytest.raises(DataError, match=r"'item 17' is$"):
        known.encode(["ITEM 17"])
    with pytest.raises(DataError, match=r"items$"):
        known.encode(["itm 17"])
