"""Stage 1b: whole sessions, files that are divided already, folds that roll, and what a
split says of itself."""

import numpy as np
import pandas as pd
import pytest

import attncore as ac


def clicks(sessions: int = 40, seed: int = 0) -> pd.DataFrame:
    """Sessions that begin one after another, each of 1 to 6 clicks."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            (f"s{number:03d}", int(rng.integers(20)), 1_600_000_000 + 900 * number + k)
            for number in range(sessions)
            for k in range(int(rng.integers(1, 7)))
        ],
        columns=["user", "item", "time"],
    )


def visits(users: int = 15, seed: int = 0) -> pd.DataFrame:
    """Users who come 1 to 5 times, each visit a column says so and hours apart."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            (user, int(rng.integers(20)), 1_600_000_000 + 7200 * v + k, f"v{v}")
            for user in range(users)
            for v in range(int(rng.integers(1, 6)))
            for k in range(int(rng.integers(1, 4)))
        ],
        columns=["user", "item", "time", "visit"],
    )


def asked(split: ac.Split, part: str) -> list[tuple]:
    """Each question: the user, the items known, the item that came."""
    held = getattr(split, part)
    names = split.items.decode
    return [
        (
            split.users.ids[held.users[k]],
            names(held.histories[k]).tolist(),
            names(held.targets[k : k + 1])[0],
        )
        for k in range(len(held))
    ]


def trained(split: ac.Split) -> dict:
    return {
        user: split.items.decode(split.train[k]).tolist()
        for k, user in enumerate(split.users.ids)
        if len(split.train[k])
    }


def test_where_each_user_is_a_session_whole_ones_lie_on_one_side_of_a_cut():
    table = clicks()
    split = ac.split_by_session(ac.read_interactions(table, repeats=True))
    items = table.groupby("user")["item"].apply(list)
    names = sorted(items.index)  # they begin in this order
    parts = {"valid": names[32:36], "test": names[36:]}
    assert trained(split) == {name: items[name] for name in names[:32]}
    for part, sessions in parts.items():
        assert asked(split, part) == [
            (name, items[name][:k], items[name][k])
            for name in sessions
            for k in range(1, len(items[name]))
        ]


@pytest.mark.parametrize("session", ["visit", 3600])
def test_where_users_have_sessions_the_last_tests_and_the_one_before_validates(session):
    table = visits()
    split = ac.split_by_session(ac.read_interactions(table, repeats=True), session)
    want: dict = {"train": {}, "valid": [], "test": []}
    for user, events in table.groupby("user"):
        history, places = events["item"].tolist(), events["visit"].tolist()
        order = list(dict.fromkeys(places))
        if len(order) < 3:
            want["train"][user] = history
            continue
        begins = {
            part: places.index(order[-k]) for part, k in (("valid", 2), ("test", 1))
        }
        want["train"][user] = history[: begins["valid"]]
        ends = {"valid": begins["test"], "test": len(history)}
        for part in ("valid", "test"):
            want[part] += [
                (user, history[:k], history[k]) for k in range(begins[part], ends[part])
            ]
    assert trained(split) == want["train"]
    assert asked(split, "valid") == want["valid"]
    assert asked(split, "test") == want["test"]


def test_what_cannot_be_split_by_sessions_is_one_line():
    log = ac.read_interactions(clicks(), repeats=True)
    with pytest.raises(ac.DataError, match="no column 'visit' of the events"):
        ac.split_by_session(log, "visit")
    with pytest.raises(ac.DataError, match="session split leaves no user for valid"):
        ac.split_by_session(log, 60.0)
    with pytest.raises(ac.DataError, match="session is 0; give seconds"):
        ac.split_by_session(log, 0)
    with pytest.raises(ac.DataError, match="has no time column"):
        ac.split_by_session(ac.read_interactions(clicks(), in_order=True))
    with pytest.raises(ac.DataError, match="or where each user is one session"):
        ac.split_by_time(log)


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("every", [False, True])
def test_files_that_are_divided_already_ask_what_stands_in_them(every, in_order):
    table = visits().drop(columns="visit")
    place = table.groupby("user").cumcount(ascending=False)
    parts = [
        ac.read_interactions(table[chosen], in_order=in_order, repeats=True)
        for chosen in (place >= 3, place.isin([1, 2]), place == 0)
    ]
    split = ac.presplit(*parts, every=every)
    assert trained(split) == {
        user: events["item"].tolist()
        for user, events in parts[0].events.groupby("user")
    }
    for number, part in enumerate(("valid", "test")):
        want = []
        for user, events in table.groupby("user"):
            known = events["item"].tolist()
            begin = max(0, len(known) - (3, 1)[number])
            end = len(known) - (1, 0)[number]
            places = range(begin, end) if every else range(begin, min(begin + 1, end))
            want += [(user, known[:k], known[k]) for k in places if begin]
        assert asked(split, part) == want
    assert split.valid.protocol["every_event"] is every


def test_parts_that_do_not_fit_together_are_one_line():
    table = clicks().assign(user=1)
    early, late = (ac.read_interactions(part) for part in (table[:50], table[50:]))
    with pytest.raises(ac.DataError, match="valid: user 1 has an event that is older"):
        ac.presplit(late, early, late)
    text = ac.read_interactions(table.astype({"user": "str"}))
    with pytest.raises(ac.DataError, match="test: user ids are str, in train int64"):
        ac.presplit(early, late, text)
    plain = ac.read_interactions(table, time=None)
    with pytest.raises(ac.DataError, match="test: only some parts have times"):
        ac.presplit(early, late, plain)


def test_folds_roll_and_the_last_is_the_whole_log():
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "user": rng.integers(0, 30, 2000),
            "item": rng.integers(0, 50, 2000),
            "time": 1_600_000_000 + 60 * np.arange(2000),
        }
    )
    log = ac.read_interactions(table, repeats=True)
    folds = [ac.split_by_time(log, 0.1, 0.2, fold=k, folds=3) for k in range(3)]
    last = ac.split_by_time(log, 0.1, 0.2)
    assert asked(folds[2], "test") == asked(last, "test")
    begins = [fold.test.protocol["test_from"] for fold in folds]
    for number, share in enumerate((0.4, 0.6, 0.8)):
        assert begins[number] == log.events["time"][int(2000 * share)]
        # Nothing of the next fold's test period, nor of what comes later.
        assert folds[number].histories.times.max() < [*begins[1:], np.inf][number]
        trained_on = folds[number].train.lengths.sum()
        assert trained_on == pytest.approx(2000 * (share - 0.1), abs=2)
        assert folds[number].valid.protocol["fold"] == number
    with pytest.raises(ac.DataError, match="room for as many test periods"):
        ac.split_by_time(log, 0.1, 0.2, fold=0, folds=5)
    with pytest.raises(ac.DataError, match="fold=3, folds=3"):
        ac.split_by_time(log, fold=3, folds=3)


def test_a_split_and_a_log_fit_a_screen():
    log = ac.read_interactions(clicks(3000))
    split = ac.split_by_session(log)
    for shown in (str(log), repr(split), repr(split.test)):
        assert max(map(len, shown.splitlines())) < 110
        assert len(shown.splitlines()) < 12
    assert "3,000 users, 20 items" in repr(split)
    assert f"test {len(split.test):,} questions" in repr(split)
    assert "of events take an item again" in str(log)


def test_an_item_without_a_title_goes_by_its_id():
    items = pd.DataFrame({"item": range(20), "title": ["Heat", "", " ", *"x" * 17]})
    table = clicks().assign(user=1)
    split = ac.leave_one_out(ac.read_interactions(table, items=items))
    assert [split.label(item) for item in (0, 1, 2)] == ["Heat", "1", "2"]
