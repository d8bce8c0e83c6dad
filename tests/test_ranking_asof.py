import numpy as np
import pytest
from shop import DAY, shop_log

import attncore as ac
from attncore.ranking.asof import IndexedSlates


@pytest.fixture(scope="module")
def split():
    return ac.split_by_time(shop_log(), valid=0.2, test=0.2)


def past_of(slates, row):
    """Items and times of the user's events before a slate, by hand."""
    h = slates.histories
    span = slice(h.offsets[slates.users[row]], h.offsets[slates.users[row] + 1])
    before = h.times[span] < slates.times[row]
    return h.items[span][before], h.times[span][before]


def test_known_items_have_their_count_and_age_at_the_moment(split):
    slates = split.slates
    for row in range(0, len(slates), 7):
        of = slice(row, row + 1)
        known = slates.known(
            slates.users[of], slates.stops[of], slates.times[of], 10_000
        )
        items, times = past_of(slates, row)
        expected = {
            i: ((items == i).sum(), slates.times[row] - times[items == i].max())
            for i in items.tolist()
        }
        real = known.items[0] > 0
        found = dict(
            zip(
                known.items[0][real],
                zip(known.counts[0][real], known.ages[0][real], strict=True),
                strict=True,
            )
        )
        assert found == expected
        assert (np.diff(known.ages[0][real]) <= 0).all()  # the latest last


def test_many_rows_at_once_and_a_short_length_keep_the_newest(split):
    slates = split.test.slates
    every = slates.known(slates.users, slates.stops, slates.times, 10_000)
    few = slates.known(slates.users, slates.stops, slates.times, 5)
    for row in range(len(slates)):
        whole = every.items[row][every.items[row] > 0]
        assert few.items[row][few.items[row] > 0].tolist() == whole[-5:].tolist()


def test_nobody_known_has_no_past(split):
    known = split.slates.known(np.array([-1]), np.array([0]), np.array([10**6]), 5)
    assert known.items.tolist() == [[]]


def test_counts_of_late_are_those_strictly_before_the_moment(split):
    slates, h = split.slates, split.histories
    row = len(slates) - 1
    items, time = slates.items[slates.list_of(row)], slates.times[row]
    lately = (h.times >= time - 7 * DAY) & (h.times < time)
    expected = [(h.items[lately] == item).sum() for item in items]
    assert slates.count_lately(items, time, 7).tolist() == expected
    assert sum(expected) > 0
    cuts = slates.mean_lately("price_cut", items, time, 7)
    for item, cut in zip(items, cuts, strict=True):
        seen = h.attributes["price_cut"][lately & (h.items == item)]
        assert np.isnan(cut) if len(seen) == 0 else cut == pytest.approx(seen.mean())


def test_padding_was_never_taken(split):
    assert split.slates.count_lately(
        np.array([0, 0]), np.array([10**7, 0]), 10**4
    ).tolist() == [0, 0]


def test_how_often_a_user_took_an_item_lately_is_counted_before_the_moment_alone(split):
    slates, histories = split.slates, split.slates.histories
    rng = np.random.default_rng(0)
    users = rng.integers(0, len(histories), 300)
    items = rng.integers(1, len(split.items) + 1, 300)
    # The log's last event is among those that are asked for.
    last = histories.times.argmax()
    users[0], items[0] = (
        np.searchsorted(histories.offsets, last, side="right") - 1,
        histories.items[last],
    )
    times = rng.choice(np.concatenate([histories.times, slates.times]), 300)
    for days in (0.5, 7, 10**4):
        expected = [
            sum(
                item == i and t - days * DAY <= when < t
                for item, when in zip(
                    histories[u], histories.times[histories.offsets[u] :], strict=False
                )
            )
            for u, i, t in zip(users, items, times, strict=True)
        ]
        assert slates.own_lately(users, items, times, days).tolist() == expected
        assert sum(expected) > 0
    assert (slates.own_lately(np.full(300, -1), items, times, 10**4) == 0).all()
    long_after = slates.own_lately(
        users, items, np.full(300, histories.times.max() + 10**9), 10**6
    )
    assert long_after.tolist() == [
        (histories[u] == i).sum() for u, i in zip(users, items, strict=True)
    ]
    assert slates.only(np.arange(3)).own_lately(users, items, times, 7).tolist() == (
        slates.own_lately(users, items, times, 7).tolist()
    )


def test_an_unknown_number_of_the_events_is_named(split):
    with pytest.raises(ac.DataError, match="the events have no column 'colour'"):
        split.slates.mean_lately("colour", np.array([1]), np.array([0]), 7)


def test_some_slates_alone_are_the_same_slates(split):
    slates, rows = split.slates, np.array([5, 40, 41, 200])
    part = slates.only(rows)
    assert len(part) == 4
    for new, old in enumerate(rows):
        assert (
            part.items[part.list_of(new)].tolist()
            == slates.items[slates.list_of(old)].tolist()
        )
        assert part.clicked_of(new).tolist() == slates.clicked_of(old).tolist()
        a, b = (
            part.shown["display"][part.list_of(new)],
            slates.shown["display"][slates.list_of(old)],
        )
        assert a.tolist() == b.tolist()
        assert (
            part.situation.iloc[part.lists[new]].tolist()
            == slates.situation.iloc[slates.lists[old]].tolist()
        )
    assert (part.users == slates.users[rows]).all()
    assert (part.stops == slates.stops[rows]).all()


def test_slates_come_back_from_arrays(split):
    slates = split.test.slates
    again = IndexedSlates.from_arrays(*slates.to_arrays(), slates.histories)
    assert again.items.tolist() == slates.items.tolist()
    assert again.shown["display"].tolist() == slates.shown["display"].tolist()
    assert again.situation.equals(slates.situation)
    assert [again.clicked_of(row).tolist() for row in range(5)] == [
        slates.clicked_of(row).tolist() for row in range(5)
    ]
