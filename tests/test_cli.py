import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import rhythm_log

import attncore as ac
from attncore.__main__ import main
from attncore.recipes import RECIPES

QUICK = [
    "--epochs",
    "2",
    "--width",
    "16",
    "--length",
    "8",
    "--batch-size",
    "16",
    "--no-progress",
    "--device",
    "cpu",
]


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    rhythm_log().events.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def trained(log_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    main(["train", str(log_file), "--out", str(folder), *QUICK])
    return folder


def said(capsys, *words):
    main([str(word) for word in words])
    return capsys.readouterr().out


def test_train_prints_both_baselines_and_three_users(log_file, tmp_path, capsys):
    out = said(capsys, "train", log_file, "--out", tmp_path / "run", *QUICK)
    for words in (
        "validation, 40 users",
        "popularity",
        "Markov chain",
        "attention=self",
        "positions/s",
    ):
        assert words in out
    assert "test," not in out
    assert out.count("after") == 3
    assert out.count("came next") == 3


def test_evaluate_gives_the_promised_object(trained, capsys):
    result = json.loads(said(capsys, "evaluate", trained, "--json"))
    assert list(result) == [
        *(
            "data",
            "split",
            "users",
            "items",
            "attention",
            "parameters",
            "metrics",
            "interval",
            "protocol",
        )
    ]
    assert (result["split"], result["users"], result["items"], result["attention"]) == (
        "test",
        40,
        12,
        "self",
    )
    assert {"loss", "hr@1", "hr@10", "ndcg@10", "mrr", "coverage@10"} <= set(
        result["metrics"]
    )
    low, high = result["interval"]["ndcg@10"]
    assert low <= result["metrics"]["ndcg@10"] <= high
    model = ac.load(trained)
    assert result["metrics"] == ac.evaluate(model, model.split.test).metrics
    assert result["parameters"] == sum(p.numel() for p in model.parameters())
    valid = json.loads(said(capsys, "evaluate", trained, "--json", "--split", "valid"))
    assert valid["split"] == "valid"
    assert "test, 40 users" in said(capsys, "evaluate", trained)


def test_recommend_gives_the_promised_object(trained, capsys):
    one = json.loads(
        said(capsys, "recommend", trained, "--user", 100, "-k", 3, "--json")
    )
    assert list(one) == ["items", "scores"]
    assert len(one["items"]) == len(one["scores"]) == 3
    assert one["items"] == ac.load(trained).recommend(users=[100], k=3)[0].items
    two = json.loads(
        said(capsys, "recommend", trained, "--user", 100, 101, "-k", 3, "--json")
    )
    assert two[0]["items"] == one["items"]
    assert two[0]["scores"] == pytest.approx(one["scores"], abs=1e-6)
    after = json.loads(
        said(
            capsys,
            "recommend",
            trained,
            "--history",
            500,
            501,
            "--candidates",
            505,
            506,
            "--json",
        )
    )
    assert set(after["items"]) == {505, 506}
    assert "user 100" in said(capsys, "recommend", trained, "--user", 100)
    filters = ["--only", 503, 504, 505, 999, "--exclude", 504]
    left = json.loads(
        said(capsys, "recommend", trained, "--history", 500, 501, *filters, "--json")
    )
    assert set(left["items"]) == {503, 505}


def test_the_run_works_when_the_log_has_moved(log_file, trained, capsys):
    moved = log_file.rename(log_file.with_suffix(".away"))
    try:
        assert json.loads(said(capsys, "evaluate", trained, "--json"))["users"] == 40
    finally:
        moved.rename(log_file)


def test_two_runs_with_one_seed_give_the_same_metrics(
    log_file, trained, tmp_path, capsys
):
    main(["train", str(log_file), "--out", str(tmp_path / "again"), *QUICK])
    capsys.readouterr()
    again, first = (
        json.loads(said(capsys, "evaluate", run, "--json"))
        for run in (tmp_path / "again", trained)
    )
    assert again["metrics"] == first["metrics"]


def test_the_log_line_of_an_epoch_has_the_promised_fields(trained):
    line = json.loads((trained / "log.jsonl").read_text().splitlines()[0])
    assert {"epoch", "loss", "positions_per_s", "seconds", "ndcg@10"} <= set(line)


@pytest.mark.parametrize("kind", ["self", "target", "lstm", "mean"])
def test_every_kind_trains_is_evaluated_and_recommends_from_the_command_line(
    kind, log_file, tmp_path, capsys
):
    run = tmp_path / kind
    assert f"attention={kind}" in said(
        capsys, "train", log_file, "--out", run, "--attention", kind, *QUICK
    )
    result = json.loads(said(capsys, "evaluate", run, "--json"))
    assert (result["attention"], result["users"]) == (kind, 40)
    assert 0 <= result["metrics"]["ndcg@10"] <= 1
    picks = json.loads(said(capsys, "recommend", run, "--user", 100, "-k", 3, "--json"))
    assert picks["items"] == ac.load(run).recommend(users=[100], k=3)[0].items
    after = json.loads(
        said(capsys, "recommend", run, "--history", 500, 501, "-k", 3, "--json")
    )
    assert len(set(after["items"]) - {500, 501}) == 3


def test_columns_and_the_time_split_can_be_named(log_file, tmp_path, capsys):
    pd.read_csv(log_file).rename(
        columns={"user": "who", "item": "what", "time": "when"}
    ).to_csv(tmp_path / "l.tsv", sep="\t")
    columns = [
        "--user-column",
        "who",
        "--item-column",
        "what",
        "--time-column",
        "when",
        "--split",
        "time",
    ]
    said(
        capsys, "train", tmp_path / "l.tsv", "--out", tmp_path / "run", *columns, *QUICK
    )
    result = json.loads(said(capsys, "evaluate", tmp_path / "run", "--json"))
    assert result["protocol"]["split"] == "time"


def test_train_says_what_was_dropped_while_reading_and_nothing_where_nothing_was(
    log_file, tmp_path, capsys
):
    events = pd.read_csv(log_file)
    twice, nobody = events.iloc[[0, 0]], events.iloc[[1]].assign(user="")
    pd.concat([events, twice, nobody]).to_csv(tmp_path / "log.csv", index=False)
    out = said(capsys, "train", tmp_path / "log.csv", "--out", tmp_path / "run", *QUICK)
    read = (
        f"{len(events) + 3} rows read, {len(events)} kept; dropped: 1 without user, 2"
        " duplicates"
    )
    assert out.startswith(f"{tmp_path / 'log.csv'}: {read}")
    assert "dropped" not in said(
        capsys, "train", log_file, "--out", tmp_path / "clean", *QUICK
    )


def test_data_lists_the_data_sets(capsys):
    out = said(capsys, "data")
    assert all(
        name in out for name in ("ml-100k", "ml-1m", "complete-journey", "planted")
    )
    assert "planted" in said(capsys, "data", "planted")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (
            ["train", "ml-99", "--out", "x"],
            "ml-99: no such file or data set; the data sets are ml-100k",
        ),
        (["train", "absent.csv", "--out", "x"], "absent.csv: no such file or data set"),
        (["train", "LOG", "--out", "x", "--device", "cuda"], "no CUDA device"),
        (["train", "LOG", "--out", "x", "--epochs", "0"], "epochs=0: must be"),
        (
            ["train", "LOG", "--out", "x", "--epochs", "many"],
            "Invalid value for --epochs: unable to convert",
        ),
        (["train", "LOG", "--out", "x", "--user-column", "who"], "who"),
        (
            ["train", "LOG", "--out", "LOG"],
            "cannot be written (File exists); give --out another folder",
        ),
        (["train", "LOG"], "--out"),
        (["evaluate", "nowhere"], "nowhere: is not a run folder"),
        (["recommend", "nowhere", "--user", "1"], "nowhere: is not a run folder"),
        (["recommend", "RUN", "--user", "999"], "unknown user 999"),
        (["recommend", "RUN", "--history", "999"], "unknown item 999"),
        (["recommend", "RUN", "--history", "x"], "unknown item 'x'"),
        (["recommend", "RUN"], "one of --user, --history and --all is required"),
        (["data", "nothing"], "nothing"),
        (["trian"], 'Unknown command "trian". Did you mean "train"?'),
        ([], "a command is required"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(
    words, hint, log_file, trained, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    words = [
        {"LOG": str(log_file), "RUN": str(trained)}.get(word, word) for word in words
    ]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(words)
    shown = capsys.readouterr()
    assert stop.value.code == 2
    # What was read is said as soon as it is read.
    assert all(line.startswith(f"{log_file}: ") for line in shown.out.splitlines())
    assert shown.err.count("\n") == 1
    assert hint in shown.err
    assert not (tmp_path / "x").exists()


def test_a_mistake_in_a_real_process_is_one_line_and_status_2():
    command = [sys.executable, "-m", "attncore", "evaluate", "nowhere"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "attncore: nowhere: is not a run folder (it has no config.json); train one with"
        " --out nowhere"
    ]


def test_help_has_an_option_for_every_setting(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for config in (ac.TrainingConfig, ac.RecommenderConfig):
        for setting in dataclasses.fields(config):
            assert f"--{setting.name.replace('_', '-')}" in shown


def test_ctrl_c_is_one_line_that_says_how_to_go_on_and_status_130(
    log_file, tmp_path, monkeypatch, capsys
):
    def stopped(*given, **options):
        raise KeyboardInterrupt(
            "stopped in epoch 2; the same command with --resume goes on from run"
        )

    monkeypatch.setattr(ac, "fit", stopped)
    with pytest.raises(SystemExit) as end:
        main(["train", str(log_file), "--out", str(tmp_path / "run")])
    assert end.value.code == 130
    assert (
        capsys.readouterr().err
        == "attncore: stopped in epoch 2; the same command with --resume goes on from"
        " run\n"
    )


def test_bench_prints_this_machines_figures(log_file, capsys):
    main(
        [
            "bench",
            str(log_file),
            "--json",
            "--width",
            "16",
            "--length",
            "8",
            "--epochs",
            "2",
        ]
    )
    found = json.loads(capsys.readouterr().out)
    assert found["users"] == 40
    assert (
        min(
            found["positions_per_s"],
            found["users_per_s"],
            found["latency_ms"]["p50"],
            found["start_up_s"],
        )
        > 0
    )


def test_a_recipe_gives_what_no_option_says(log_file, tmp_path, capsys):
    said(
        capsys,
        "train",
        log_file,
        "--out",
        tmp_path / "run",
        "--recipe",
        "beauty",
        *QUICK,
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    chosen = RECIPES["beauty"]
    assert config["recipe"] == "beauty"
    assert config["recommender"]["dropout"] == chosen.recommender.dropout
    assert config["training"]["lr"] == chosen.training.lr
    assert (config["recommender"]["width"], config["training"]["epochs"]) == (16, 2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"recipe": "small", "prior": 3, "neighbours": 8, "relative": "position"}),
        (["--loss", "bce"], {"recipe": "small", "prior": 0, "neighbours": 8}),
        (["--attention", "mean"], {"recipe": None, "prior": 0, "neighbours": 0}),
        (["--recipe", "sasrec"], {"recipe": "sasrec", "prior": 0, "neighbours": 0}),
    ],
)
def test_without_a_recipe_the_one_for_small_logs_is_taken(
    words, expected, log_file, tmp_path, capsys
):
    said(capsys, "train", log_file, "--out", tmp_path / "run", *words, *QUICK)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    known = config["recommender"] | {"recipe": config["recipe"]}
    assert {name: known[name] for name in expected} == expected


def test_an_option_cannot_be_abbreviated_so_a_recipe_is_never_overlooked(
    log_file, tmp_path, capsys
):
    with pytest.raises(SystemExit):
        main(
            [
                "train",
                str(log_file),
                "--out",
                str(tmp_path / "run"),
                "--recip",
                "beauty",
            ]
        )
    assert "--recip" in capsys.readouterr().err


def test_a_recipe_without_a_name_is_one_line(log_file, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(log_file), "--out", str(tmp_path / "run"), "--recipe"])
    assert stopped.value.code == 2
    assert (
        capsys.readouterr().err
        == 'attncore: Command "train" parameter --recipe requires an argument.\n'
    )


def test_an_unknown_recipe_names_those_there_are(log_file, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(
            [
                "train",
                str(log_file),
                "--out",
                str(tmp_path / "run"),
                "--recipe",
                "books",
            ]
        )
    said_wrong = capsys.readouterr().err
    assert all(name in said_wrong for name in RECIPES)


def test_the_table_shows_both_chains_and_who_was_not_asked(log_file, tmp_path, capsys):
    run = tmp_path / "run"
    said(capsys, "train", log_file, "--out", run, "--recipe", "sasrec", *QUICK)
    out = said(capsys, "evaluate", run)
    for part in (
        "popularity",
        "Markov chain",
        "Markov chain, shares",
        "attention=self",
    ):
        assert part in out
    assert "asked 40 of 40 users" in out
    model = ac.load(run)
    chain = ac.evaluate(ac.baselines.MarkovChain(model.split), model.split.test)
    assert f"{chain.metrics['ndcg@10']:.4f}" in out
    report = ac.evaluate(model, model.split.test)
    loses = report.metrics["ndcg@10"] <= chain.metrics["ndcg@10"]
    assert loses
    assert "attention=self does not beat Markov chain" in out
    assert not any("does not beat" in line for line in out.splitlines()[:5])


def test_a_finished_run_is_replaced_only_where_that_is_said(log_file, tmp_path, capsys):
    words = ["train", log_file, "--out", tmp_path / "run", *QUICK]
    said(capsys, *words)
    before = (tmp_path / "run" / "weights.safetensors").read_bytes()
    with pytest.raises(SystemExit) as stop:
        said(capsys, *words, "--seed", 1)
    assert stop.value.code == 2
    assert "holds a finished run; add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == before
    said(capsys, *words, "--seed", 1, "--overwrite")
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() != before


def test_each_history_has_its_list(trained, capsys):
    words = ["recommend", trained, "-k", 3, "--json"]
    both = [*words, "--history", 500, 501, "--history", 507]
    found = json.loads(said(capsys, *both))
    model = ac.load(trained)
    expected = model.recommend(histories=[[500, 501], [507]], k=3)
    assert [one["items"] for one in found] == [one.items for one in expected]
    assert "after 500 | 501:" in said(capsys, *both[:4], *both[5:])


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_the_lists_of_all_users_are_written(trained, tmp_path, capsys, ending):
    path = tmp_path / f"lists.{ending}"
    out = said(capsys, "recommend", trained, "--all", "--out", path, "-k", 3)
    assert out.startswith(f"{path}: ")
    how = {"lines": True} if ending == "jsonl" else {}
    table = getattr(pd, f"read_{ending.removesuffix('l')}")(path, **how)
    assert list(table) == ["user", "rank", "item", "score"]
    model = ac.load(trained)
    assert out.endswith(f" {len(table)} rows for 40 users\n")
    assert table["user"].nunique() == 40
    for user, part in table.groupby("user"):
        picks = model.recommend(users=[user], k=3)[0]
        assert part["item"].tolist() == picks.items
        assert part["rank"].tolist() == [1, 2, 3][: len(picks.items)]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["recommend", "RUN", "--all"], "--all and --out FILE: give both"),
        (["train", "LOG", "--out", "x", "--valid", "LOG"], "--valid and --test: give"),
        (["train", "LOG", "--out", "x", "--session", "9"], "needs --split session"),
        (["recommend", "RUN", "--all", "--out", "x.xls"], "must end in .parquet"),
        (["recommend", "RUN", "--all", "--user", "1"], "one of --user, --history"),
        (["train", "planted", "--out", "x", "--repeats"], "--repeats: means nothing"),
        (["train", "LOG", "--out", "x", "--width", "8", "--heads", "3"], "heads=3"),
        (["train", "LOG", "--out", "x", "--kinds", "a"], "must be COLUMN=KIND"),
        (
            ["prepare", "LOG", "--out", "x", "--user-table", "LOG"],
            "--user-table: a prepared",
        ),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    words, hint, log_file, trained, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    known = {"LOG": str(log_file), "RUN": str(trained)}
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([known.get(word, word) for word in words])
    shown = capsys.readouterr()
    assert stop.value.code == 2
    assert shown.err.count("\n") == 1
    assert hint in shown.err


def test_a_log_without_header_quotes_and_usual_separator_is_read(tmp_path, capsys):
    events = rhythm_log().events
    when = pd.to_datetime(1_600_000_000 + events["time"], unit="s")
    written = when.dt.strftime("%d.%m.%Y %H:%M:%S")
    columns = zip(events["user"], events["item"], written, strict=True)
    lines = [f'"{user}::{item}::{time}\n' for user, item, time in columns]
    (tmp_path / "log.dat").write_text(
        "".join(lines) + '"z::rare::01.01.2021 00:00:00\n'
    )
    words = ["train", tmp_path / "log.dat", "--out", tmp_path / "run", *QUICK]
    columns = ["--user-column", 1, "--item-column", 2, "--time-column", 3]
    how = ["--separator", "::", "--no-header", "--no-quotes", "--repeats"]
    when = ["--time-format", "%d.%m.%Y %H:%M:%S", "--min-count", 2]
    out = said(capsys, *words, *columns, *how, *when)
    assert f"{len(events) + 1} rows read" in out
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert about["data"]["reading"]["separator"] == "::"
    model = ac.load(tmp_path / "run")
    assert model.split.users.ids[0] == '"100'
    assert not model.split.test.exclude_seen
    assert len(model.split.items) == 12


def test_a_grown_log_goes_on_from_a_run_and_fresh_events_are_heard(
    trained, log_file, tmp_path, capsys
):
    events = pd.read_csv(log_file)
    fresh = pd.DataFrame({"user": 777, "item": [501, 502, 503], "time": [20, 21, 22]})
    pd.concat([events, fresh]).to_csv(tmp_path / "grown.csv", index=False)
    run = tmp_path / "run"
    words = ["train", tmp_path / "grown.csv", "--out", run, "--go-on", trained]
    few = ["--epochs", 1, "--lr", 1e-12, "--no-progress", "--device", "cpu"]
    said(capsys, *words, *few)
    old, new = ac.load(trained), ac.load(run)
    weight = "embedding.item.id.weight"
    change = (old.state_dict()[weight] - new.state_dict()[weight]).abs().max()
    assert change < 1e-6
    assert new.config == old.config
    assert 777 in new.split.users.ids
    with pytest.raises(SystemExit):
        said(capsys, *words, *few, "--overwrite", "--width", 32)
    assert "the model stays as it was made" in capsys.readouterr().err
    asked = ["recommend", run, "--user", 777, "--events", 509, 510, "-k", 3, "--json"]
    found = json.loads(said(capsys, *asked))
    expected = new.recommend(users=[777], events=[[509, 510]], k=3)[0]
    assert found["items"] == expected.items


def test_a_log_in_three_files_and_whole_sessions_are_trained(tmp_path, capsys):
    events = rhythm_log().events.sort_values("time", kind="stable")
    place = events.groupby("user").cumcount()
    parts = {"train": place < 6, "valid": place.between(6, 7), "test": place > 7}
    for name, rows in parts.items():
        events[rows].to_csv(tmp_path / f"{name}.csv", index=False)
    words = ["--valid", tmp_path / "valid.csv", "--test", tmp_path / "test.csv"]
    out = tmp_path / "run"
    said(capsys, "train", tmp_path / "train.csv", "--out", out, *words, *QUICK)
    found = json.loads(said(capsys, "evaluate", out, "--json"))
    assert (found["protocol"]["split"], found["users"]) == ("presplit", 40)
    events.to_csv(tmp_path / "log.csv", index=False)
    how = ["--split", "session", "--session", "1000", "--overwrite"]
    with pytest.raises(SystemExit):  # all of a user's events are one session
        said(capsys, "train", tmp_path / "log.csv", "--out", out, *how, *QUICK)
    assert "leaves no user for" in capsys.readouterr().err


def test_a_training_on_all_events_is_kept_beside_and_asked_about_newer_ones_alone(
    log_file, tmp_path, capsys
):
    run, served = tmp_path / "run", tmp_path / "served"
    words = ["train", log_file, "--out", run, *QUICK, "--on-all", served]
    assert f"to be served: {served}" in said(capsys, *words)
    model = ac.load(served)
    assert model.split.train.lengths.tolist() == model.split.histories.lengths.tolist()
    assert model.recommend(users=[100], k=3)[0].items
    with pytest.raises(SystemExit):
        said(capsys, "evaluate", served)
    assert "was trained on all events" in capsys.readouterr().err
    assert json.loads(said(capsys, "evaluate", run, "--json"))["users"] == 40


def test_a_training_goes_on_from_a_run_with_a_grown_log(
    trained, log_file, tmp_path, capsys
):
    grown = tmp_path / "grown.csv"
    fresh = [f"900,{item},{20 + n}" for n, item in enumerate((501, 777, 502, 503))]
    grown.write_text(log_file.read_text() + "\n".join(fresh) + "\n")
    words = ["train", grown, "--out", tmp_path / "on", "--go-on", trained, *QUICK]
    assert "13 items" in said(capsys, *words, "--lr", "1e-12")
    old, new = ac.load(trained), ac.load(tmp_path / "on")
    same = new.split.items.find(old.split.items.ids)
    torch.testing.assert_close(
        new.item.id.weight[same], old.item.id.weight[1:], atol=1e-6, rtol=0
    )
    about = json.loads((tmp_path / "on" / "config.json").read_text())
    assert about["goes_on_from"] == str(trained)
    assert new.recommend(users=[900], k=3)[0].items
    words[3] = tmp_path / "other"
    with pytest.raises(SystemExit):
        said(capsys, *words, "--blocks", "1")
    assert "the model stays as it was made" in capsys.readouterr().err


def test_the_page_of_the_command_line_has_the_options_as_they_are():
    import options

    assert options.PAGE.read_text(encoding="utf-8") == options.page()
    for config in (ac.TrainingConfig, ac.RecommenderConfig):
        for setting in dataclasses.fields(config):
            assert f"`--{setting.name.replace('_', '-')}" in options.page()


PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def test_two_hundred_thousand_items_are_evaluated_within_a_gibibyte(tmp_path):
    items, users = 200_000, 150
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user": np.arange(items) % users,
            "item": rng.permutation(items),
            "time": np.arange(items),
        }
    )
    split = ac.leave_one_out(ac.Interactions.from_frame(frame))
    config = ac.RecommenderConfig(width=32, blocks=1, length=20)
    ac.Recommender(config, split).save(tmp_path / "run")
    command = [sys.executable, "-m", "attncore", "evaluate", str(tmp_path / "run")]
    peak = subprocess.run(
        [sys.executable, "-c", PEAK, *command],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert 300 < int(peak.stdout) < 1000  # MiB
