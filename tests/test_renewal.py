"""A model asked about events that are newer than its log."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import rhythm_log

import attncore as ac
from attncore.__main__ import main
from attncore.renewal import newer_questions


def log_of(rows, name="newer", **how):
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    return ac.Interactions.from_frame(frame, name=name, **how)


@pytest.fixture(scope="module")
def split():
    return ac.leave_one_out(rhythm_log())


@pytest.fixture(scope="module")
def end(split):
    return int(split.histories.times.max())


def test_the_last_newer_event_is_asked_after_all_before_it(split, end):
    old = split.items.decode(split.histories[0]).tolist()
    newer = log_of(
        [
            (100, 999, end + 4),  # of no known item
            (100, 503, end + 3),
            (100, 502, end + 2),
            (100, 501, end),  # not newer
            (7, 501, end + 1),  # a new user, asked from the second event on
            (7, 502, end + 2),
            (8, 501, end + 2),
        ]
    )
    questions, changes = newer_questions(split, newer)
    asked = [split.items.decode(questions.histories[row]).tolist() for row in (0, 1)]
    assert asked == [[*old, 502], [501]]
    assert split.items.decode(questions.targets).tolist() == [503, 502]
    assert questions.users.tolist() == [0, -1]
    assert (changes.events, changes.users) == (6, 3)
    assert changes.new_users == pytest.approx(2 / 3)
    assert changes.new_items == pytest.approx(1 / 6)
    model = ac.baselines.MarkovChain(split)
    report = ac.evaluate(model, replace(questions, exclude_seen=False), k=3)
    best = model.recommend(histories=asked, k=3, exclude_seen=False)
    hits = [
        target in row.items
        for row, target in zip(best, split.items.decode(questions.targets), strict=True)
    ]
    assert report.metrics["hr@3"] == pytest.approx(np.mean(hits))


def test_a_grown_log_asks_what_its_new_end_asks(split, end):
    events = rhythm_log().events[["user", "item", "time"]]
    fresh = pd.DataFrame({"user": 100, "item": [503, 502], "time": [end + 5, end + 6]})
    alone = newer_questions(split, log_of(fresh))
    grown = newer_questions(split, log_of(pd.concat([events, fresh])))
    assert alone[1] == grown[1]
    assert alone[0].histories.items.tolist() == grown[0].histories.items.tolist()


def test_a_shift_of_popularity_is_told_from_chance(split, end):
    rng, counts = np.random.default_rng(3), split.item_counts
    for shares, moved in ((counts / counts.sum(), False), (np.eye(12)[3], True)):
        items = split.items.ids[rng.choice(12, 400, p=shares)]
        users, times = np.repeat(split.users.ids[:40], 10), end + 1 + np.arange(400)
        rows = list(zip(users, items, times, strict=True))
        changes = newer_questions(split, log_of(rows, repeats=True))[1]
        assert (changes.popularity_shift > 2 * changes.chance_shift) == moved


def test_what_cannot_be_asked_is_said(split, end):
    for rows, how, hint in (
        ([(100, 501, end)], {}, "no event is later than"),
        ([(1, 501, end + 1)], {}, "nobody has a history"),
        ([(100, 501, 1)], {"has_time": False}, "with times"),
    ):
        log = log_of(rows)
        if how:
            log = ac.Interactions(log.events, name="newer", **how)
        with pytest.raises(ac.DataError, match=hint):
            newer_questions(split, log)


def test_the_command_line_asks_about_a_newer_log_and_says_what_changed(
    split, end, tmp_path, capsys
):
    model = ac.baselines.MarkovChain(split)
    columns = {"user": "who", "item": "item", "time": "time"}
    reading = {"reading": {"user_column": "who"}, "columns": columns}
    model.save(tmp_path / "run", {"data": {"name": "log.csv", **reading}})
    newer = pd.DataFrame({"who": 100, "item": [503, 502], "time": [end + 5, end + 6]})
    newer.to_csv(tmp_path / "newer.csv", index=False)
    words = ["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "newer.csv")]
    main(words)
    out = capsys.readouterr().out
    for part in ("2 events of 1 users", "popularity moved", "newer events, 1 users"):
        assert part in out
    main([*words, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["split"], found["users"]) == ("newer events", 1)
    assert found["changes"]["new_items"] == 0
