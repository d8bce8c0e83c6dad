import dataclasses

import numpy as np
import pandas as pd
import pytest
from shop import shop_log

import attncore as ac
from attncore.ranking.slates import Slates

EVENTS = pd.DataFrame(
    [
        # one basket with two promoted items and one other, one without any, one at
        # another store
        (7, "milk", 100, 1, 1),
        (7, "bread", 100, 1, 1),
        (7, "salt", 100, 1, 1),
        (7, "salt", 200, 1, 1),
        (8, "milk", 50, 2, 1),
        (8, "milk", 300, 1, 2),
    ],
    columns=["user", "item", "time", "store", "week"],
)
PROMOTED = pd.DataFrame(
    [
        ("bread", 1, 1, "0", "A"),
        ("milk", 1, 1, "0", "A"),
        ("tea", 1, 1, "3", "0"),
        ("milk", 1, 1, "5", "A"),  # twice in one list
        ("tea", 1, 2, "0", "D"),
        ("milk", 3, 1, "0", "A"),  # a store that nobody enters
        ("milk", 1, 2, "0", "0"),
    ],
    columns=["item", "store", "week", "display", "mailer"],
)


@pytest.fixture
def slates():
    return Slates.from_promotions(
        EVENTS, PROMOTED, ["store", "week"], ["display", "mailer"]
    )


def test_a_slate_is_a_basket_with_a_promoted_item_and_the_list_of_store_and_week(
    slates,
):
    assert slates.users.tolist() == [7, 8]
    assert slates.times.tolist() == [100, 300]
    lists = [
        slates.items[slice(*slates.offsets[where : where + 2])].tolist()
        for where in slates.lists
    ]
    assert lists == [["bread", "milk", "tea"], ["milk", "tea"]]
    assert slates.situation.iloc[slates.lists].to_numpy().tolist() == [[1, 1], [1, 2]]


def test_taken_are_the_promoted_items_of_the_basket(slates):
    taken = [
        slates.items[slates.clicked[slice(*slates.clicked_offsets[s : s + 2])]].tolist()
        for s in range(2)
    ]
    assert taken == [["bread", "milk"], ["milk"]]


def test_an_item_that_stands_in_a_list_twice_counts_once_as_it_sorts_last(slates):
    shown = pd.DataFrame(
        {name: list(column) for name, column in slates.shown.items()},
        index=list(slates.items),
    )
    assert shown.iloc[:3].to_numpy().tolist() == [["0", "A"], ["5", "A"], ["3", "0"]]


def test_what_happens_in_other_orders_of_rows_is_the_same(slates):
    again = Slates.from_promotions(
        EVENTS.iloc[::-1].reset_index(drop=True),
        PROMOTED.sample(frac=1, random_state=0),
        ["store", "week"],
        ["display"],
    )
    assert list(again.items) == list(slates.items)
    assert again.clicked.tolist() == slates.clicked.tolist()
    assert again.times.tolist() == slates.times.tolist()


def test_columns_are_small():
    log = shop_log()
    assert log.slates.items.codes.nbytes <= 2 * len(log.slates.items)
    assert log.slates.shown["display"].codes.dtype == np.int8


def test_a_gap_or_an_absent_column_is_named():
    with pytest.raises(
        ac.DataError, match="promotions: need a column 'shop' without gaps"
    ):
        Slates.from_promotions(EVENTS.assign(shop=1), PROMOTED, ["shop"])
    with pytest.raises(ac.DataError, match="events: need a column 'week' without gaps"):
        Slates.from_promotions(EVENTS.assign(week=None), PROMOTED, ["store", "week"])


def test_no_promotion_gives_no_slate():
    assert (
        len(
            Slates.from_promotions(
                EVENTS, PROMOTED[:0].astype(PROMOTED.dtypes), ["store", "week"]
            )
        )
        == 0
    )
    assert (
        len(Slates.from_promotions(EVENTS.assign(week=9), PROMOTED, ["store", "week"]))
        == 0
    )


def test_arrays_that_do_not_fit_together_are_refused(slates):
    for name, wrong in (
        ("clicked", slates.clicked + 9),
        ("times", slates.times[::-1]),
        ("users", slates.users[:1]),
    ):
        with pytest.raises(ac.DataError, match="do not fit together"):
            dataclasses.replace(slates, **{name: wrong})


def test_splits_that_would_leak_refuse_slates_in_one_line():
    log = shop_log()
    for split in (ac.leave_one_out, ac.split_by_user):
        with pytest.raises(
            ac.DataError,
            match=r"shop: has slates, and .* use split_by_time \(--split time\)",
        ) as caught:
            split(log)
        assert "\n" not in str(caught.value)
    with pytest.raises(ac.DataError, match="has slates, from which min_count=2"):
        log.k_core(2)


def test_candidates_that_nobody_takes_are_in_the_catalogue():
    split = ac.split_by_time(shop_log())
    assert 999 in split.items.ids
    assert split.item_counts[split.items.encode([999])[0] - 1] == 0


def test_the_time_split_parts_slates_by_their_moment():
    split = ac.split_by_time(shop_log(), valid=0.2, test=0.2)
    valid_from, test_from = (
        split.valid.protocol["valid_from"],
        split.valid.protocol["test_from"],
    )
    assert (split.valid.slates.times >= valid_from).all()
    assert (split.valid.slates.times < test_from).all()
    assert (split.test.slates.times >= test_from).all()
    assert len(split.valid) + len(split.test) + (
        split.slates.times < valid_from
    ).sum() == len(split.slates)
    assert split.train.times.max() < valid_from


def test_a_slates_history_is_all_before_its_moment_and_nothing_of_it():
    split = ac.split_by_time(shop_log(), valid=0.2, test=0.2)
    whole = split.histories
    for row in range(len(split.test)):
        user, time = split.test.users[row], split.test.slates.times[row]
        span = slice(whole.offsets[user], whole.offsets[user + 1])
        assert (
            split.test.histories[row].tolist()
            == whole.items[span][whole.times[span] < time].tolist()
        )


def test_some_users_alone_keep_their_slates_and_events():
    log = shop_log()
    some = log.only_users([3, 8])
    assert set(some.events["user"]) == set(some.slates.users.tolist()) == {3, 8}
    assert len(some.slates) == np.isin(log.slates.users, [3, 8]).sum()
    taken = [some.slates.items[i] for i in some.slates.clicked]
    of = np.repeat(some.slates.times, np.diff(some.slates.clicked_offsets))
    events = {
        (t, i) for t, i in zip(some.events["time"], some.events["item"], strict=True)
    }
    assert len(taken) > 10
    assert all(
        (time, item) in events for time, item in zip(of.tolist(), taken, strict=True)
    )
    with pytest.raises(ac.DataError, match="none of the 1 users has an event"):
        log.only_users([777])


def test_a_part_of_the_questions_has_one_of_each_user():
    split = ac.split_by_time(shop_log(), valid=0.2, test=0.2)
    few = split.valid.first_of_users(7)
    assert len(few) == len(set(few.users.tolist())) == len(few.slates) == 7
    assert (few.slates.users == few.users).all()
    for user, time in zip(few.users, few.slates.times, strict=True):
        assert time == split.valid.slates.times[split.valid.users == user].min()
