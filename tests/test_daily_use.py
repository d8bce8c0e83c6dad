"""A small shop's daily use of the command line, with a log of its own kind: text ids
with commas, spaces and umlauts, its own names of columns, a table of articles, and a
log that grows."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import attncore as ac
from attncore.__main__ import main

QUICK = ["--epochs", "1", "--no-progress", "--width", "8", "--heads", "2"]
QUICK += ["--blocks", "1", "--length", "8"]
COLUMNS = ["--user-column", "Kunde", "--item-column", "Artikel"]
COLUMNS += ["--time-column", "gekauft am"]
TABLE = ["--item-table", "artikel.csv", "--kinds", "Gruppe=category", "Maß=number"]
ITEMS = [f"{a} {b}" for a in ("Grüne", "Süße") for b in ("Tasse, 0,3 l", "Tüte", "Uhr")]


def sales(first, days):
    rng = np.random.default_rng(first)
    rows = [
        (f"Łukasz {u:02d}", ITEMS[(u + day + rng.integers(2)) % 6], day)
        for day in range(first, first + days)
        for u in range(20)
    ]
    frame = pd.DataFrame(rows, columns=["Kunde", "Artikel", "day"])
    start = pd.Timestamp("2025-01-01T12:00", tz="Europe/Berlin")
    times = start + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame.assign(**{"gekauft am": times.map(pd.Timestamp.isoformat)})


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a log, its grown form, its newest part, and a trained run."""
    place = tmp_path_factory.mktemp("shop")
    old, new = sales(0, 12), sales(12, 4)
    old.to_csv(place / "old.csv", index=False)
    pd.concat([old, new]).to_csv(place / "grown.csv", index=False)
    new[new["Kunde"] < "Łukasz 05"].to_csv(place / "new.csv", index=False)
    groups = [item.split()[0] for item in ITEMS]
    table = {"Artikel": ITEMS, "Gruppe": groups, "Maß": range(6)}
    pd.DataFrame(table).to_csv(place / "artikel.csv", index=False)
    before = os.getcwd()
    os.chdir(place)
    try:
        more = ["--split", "time", "--repeats", "--item-features", "Gruppe", "Maß"]
        main(["train", "old.csv", "--out", "run", *COLUMNS, *TABLE, *more, *QUICK])
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def said(shop, monkeypatch, capsys):
    monkeypatch.chdir(shop)

    def say(*words, refused=False):
        capsys.readouterr()
        if refused:
            with pytest.raises(SystemExit) as stop:
                main([str(word) for word in words])
            assert stop.value.code == 2
            line = capsys.readouterr().err
            assert line.count("\n") == 1
            return line
        main([str(word) for word in words])
        return capsys.readouterr().out

    return say


def about(run):
    return json.loads((run / "config.json").read_text(encoding="utf-8"))["data"]


def test_a_grown_log_is_read_and_divided_as_the_runs_own_was(said, shop, caplog):
    out = said("train", "grown.csv", "--go-on", "run", "--out", "on", *QUICK[:2])
    assert "320 rows read" in out
    assert "describes 6 of 6 items (Gruppe: category, Maß: number)" in out
    was, now = about(shop / "run"), about(shop / "on")
    assert now["reading"] == was["reading"]
    assert (now["split"], now["reading"]["repeats"]) == ("time", True)
    assert not ac.load(shop / "on").split.test.exclude_seen
    assert "are not in this log" not in caplog.text


def test_what_is_said_for_a_grown_log_goes_before_what_its_run_had(said, shop):
    words = ["--split", "leave-one-out", "--tie", "Artikel", "--overwrite"]
    words += ["--go-on", "run", "--out", "on-2"]
    said("train", "grown.csv", *words, *QUICK[:2])
    now = about(shop / "on-2")
    assert now["split"] == "leave-one-out"
    assert (now["reading"]["tie"], now["reading"]["repeats"]) == ("Artikel", True)


def test_going_on_with_the_newest_part_alone_says_whom_it_forgets(said, caplog):
    words = ["--split", "leave-one-out", *QUICK[:2]]
    said("train", "new.csv", "--go-on", "run", "--out", "on-3", *words)
    assert "15 of the 20 users that the model knows are not in this log" in caplog.text


def test_a_run_of_a_prepared_log_reads_a_newer_one_as_its_own_was(said, shop):
    pytest.importorskip("duckdb")
    said("prepare", "old.csv", "--out", "prepared", "--repeats", *COLUMNS)
    said("train", "prepared", "--out", "large", *QUICK)
    assert about(shop / "large")["reading"]["user_column"] == "Kunde"
    out = said("evaluate", "large", "--data", "new.csv")
    assert "20 events of 5 users" in out


def test_a_history_of_nothing_is_somebody_new(said, shop):
    out = said("recommend", "run", "--history", "-k", 2)
    (picks,) = ac.load(shop / "run").recommend(histories=[[]], k=2)
    assert out.splitlines()[0] == "after nothing:"
    assert [line.split(maxsplit=2)[2] for line in out.splitlines()[1:]] == picks.items


def test_items_after_one_another_can_be_told_apart(said):
    out = said("recommend", "run", "--history", ITEMS[0], ITEMS[1], "-k", 1)
    assert out.startswith("after Grüne Tasse, 0,3 l | Grüne Tüte:\n")


def test_a_typing_error_is_told_beside_what_was_meant(said):
    line = said("recommend", "run", "--user", "lukasz 01", refused=True)
    assert "unknown user 'lukasz 01'" in line
    assert "'Łukasz 01' is" in line
    line = said("recommend", "run", "--history", "Tasse, 0,3 l", refused=True)
    assert "Tasse, 0,3 l' is" in line


def test_json_shows_ids_as_they_are(said):
    out = said("recommend", "run", "--user", "Łukasz 01", "--json", "-k", 6)
    assert "Grüne Tüte" in out
    assert set(json.loads(out)["items"]) == set(ITEMS)


def test_lists_go_into_a_folder_that_is_made_and_fail_before_the_work(
    said, shop, monkeypatch
):
    said("recommend", "run", "--all", "--out", "made/here/lists.csv", "-k", 2)
    assert len(pd.read_csv(shop / "made/here/lists.csv")) == 40
    monkeypatch.setattr(ac.Recommender, "recommend", None)  # the work
    place = "old.csv/lists.csv"
    line = said("recommend", "run", "--all", "--out", place, refused=True)
    assert "old.csv: cannot be written" in line


def test_a_value_of_the_situation_that_was_never_seen_is_said(shop, caplog):
    split = ac.load(shop / "run").split
    people = pd.DataFrame({"user": split.users.ids, "town": ["Köln", "Bonn"] * 10})
    log = ac.read_interactions(
        shop / "old.csv", "Kunde", "Artikel", "gekauft am", users=people
    )
    config = ac.RecommenderConfig(width=8, heads=2, blocks=1, user_features=("town",))
    model = ac.Recommender(config, ac.split_by_time(log))
    model.recommend(histories=[[]], situation={"town": "Bonn"})
    assert caplog.text == ""
    model.recommend(histories=[[], []], situation={"town": ["Bonn", "Wien"]})
    assert "situation 'town': the model has not seen 'Wien'" in caplog.text


def test_a_remark_is_made_once_for_all_that_are_compared(shop, monkeypatch, capfd):
    monkeypatch.chdir(shop)
    command = [sys.executable, "-m", "attncore", "train", "old.csv", "--out", "plain"]
    done = subprocess.run(
        [*command, *COLUMNS, *QUICK], capture_output=True, text=True, check=True
    )
    told = [line for line in done.stderr.splitlines() if "are hidden" in line]
    assert len(told) == 1
    assert "--repeats" in told[0]


def test_a_terminal_of_another_alphabet_does_not_end_the_command(shop):
    command = [sys.executable, "-m", "attncore", "recommend", "run", "-k", "2"]
    done = subprocess.run(
        [*command, "--user", "Łukasz 01"],
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        cwd=shop,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"user \\u0141ukasz 01:")


def test_after_a_command_remarks_are_made_again(said, caplog):
    for _ in range(2):
        said("recommend", "run", "--user", "Łukasz 01", "--only", "x")
    told = [line for line in caplog.messages if "is unknown ('x')" in line]
    assert len(told) == 2
    assert not [one for one in logging.getLogger().handlers if one.filters]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "old.csv", "--out", "x"], "name the user column (--user-column)"),
        (
            ["train", "old.csv", "--out", "x", *COLUMNS, "--item-features", "Gruppe"],
            "give the log one with items= (--item-table)",
        ),
        (
            ["train", "old.csv", "--out", "x", *COLUMNS, "--kinds", "Artikel=words"],
            "'Artikel' is the column of items and no attribute",
        ),
        (
            ["train", "old.csv", "--out", "x", *COLUMNS, "--kinds", "Farbe=words"],
            "kinds= (--kinds) names columns that exist",
        ),
        (["evaluate", "old.csv"], "old.csv: is a file, not a run folder"),
        (
            ["recommend", "run", "--user", "Łukasz 01", "--time", "1767500000000"],
            "lies in the year 57979; give seconds",
        ),
        (
            ["train", "old.csv", "--go-on", "old.csv", "--out", "x"],
            "old.csv: is a file, not a run folder",
        ),
    ],
)
def test_a_mistake_names_the_option_that_mends_it(said, words, says):
    assert says in said(*words, refused=True)


def test_semicolons_are_named_where_cells_hold_commas(tmp_path):
    head, path = "Kunde;Artikel;time\n", tmp_path / "log.csv"
    for row in 'Müller, A;"Tasse, 0,3 l";1\n', '"Müller, A";"Tasse";1\n':
        path.write_text(head + row, encoding="utf-8")
        with pytest.raises(ac.DataError, match="is it separated by ';'"):
            ac.read_interactions(path, "Kunde", "Artikel")


def test_a_loaded_model_is_trained_once_more_on_all_events(shop):
    model, config = ac.load(shop / "run"), ac.TrainingConfig(epochs=1, progress=False)
    log = ac.read_interactions(
        *(shop / "old.csv", "Kunde", "Artikel", "gekauft am"),
        items=shop / "artikel.csv",
        kinds={"Gruppe": "category", "Maß": "number"},
        repeats=True,
    )
    fresh = ac.Recommender(model.config, ac.split_by_time(log))
    run = ac.fit(fresh, fresh.split, config)
    by_log, by_run = ac.refit(fresh, run), ac.refit(model, run)
    asked = {"users": ["Łukasz 01"], "k": 6}
    assert by_run.recommend(**asked)[0].items == by_log.recommend(**asked)[0].items


def test_new_items_need_their_ids_in_a_column_or_an_index_that_is_meant(shop):
    model = ac.load(shop / "run")
    table = pd.DataFrame({"Artikel": ["Rote Uhr"], "Gruppe": ["Rote"], "Maß": [1]})
    with pytest.raises(
        ac.DataError, match=r"column of ids 'item'.*'Artikel', 'Gruppe'"
    ):
        model.with_items(table)
    bigger = model.with_items(table.rename(columns={"Artikel": "item"}))
    assert "Rote Uhr" in bigger.split.items.ids
    bigger = model.with_items(table.set_index("Artikel"))
    assert "Rote Uhr" in bigger.split.items.ids


def test_whose_list_is_nested_is_told_by_its_name(shop):
    model = ac.load(shop / "run")
    with pytest.raises(ac.DataError, match=r"candidates: \[.*\] is no id"):
        model.recommend(histories=[[]], candidates=[[ITEMS[0]]])
