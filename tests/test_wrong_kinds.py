"""Whatever a person hands to a public function by mistake is told in one line.

Not what a function says to good values is held here, but that things of a wrong kind
(a path for a log, a log for a split, a model for a path, None) never end in an error
from somewhere inside.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import rhythm_log

import attncore as ac
from attncore.export import OnnxRecommender, to_onnx
from attncore.large.prepared import Prepared

SPLITS = (
    ac.leave_one_out,
    ac.split_by_time,
    ac.split_by_user,
)
COUNTING = (
    ac.baselines.Popularity,
    ac.baselines.RecentPopularity,
    ac.baselines.PersonalFrequency,
    ac.baselines.MarkovChain,
    ac.baselines.EASE,
)


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    log = rhythm_log()
    split = ac.leave_one_out(log)
    config = ac.RecommenderConfig(width=8, heads=2, blocks=1, length=10)
    model = ac.Recommender(config, split)
    training = ac.TrainingConfig(epochs=1, progress=False, device="cpu")
    run = ac.fit(model, split, training)
    file = tmp_path_factory.mktemp("kinds") / "log.csv"
    log.events.to_csv(file, index=False)
    return {
        "log": log,
        "split": split,
        "config": config,
        "model": model,
        "training": training,
        "run": run,
        "report": ac.evaluate(model, split.test),
        "frame": log.events,
        "chain": ac.baselines.MarkovChain(split),
        "None": None,
        "number": 5,
        "text": "log",
        "path": Path("nowhere"),
        "file": file,
        "list": [1, 2],
        "dict": {"epochs": 1},
        "array": np.arange(3),
        "flag": True,
    }


def told(call):
    """What a call said, in its one line; None where it answered."""
    try:
        call()
    except (ValueError, OSError) as error:
        lines = str(error).splitlines()
    else:
        return None
    assert len(lines) == 1, lines
    return lines[0]


def calls(t):
    """Each public function with one thing in each place, the others right."""
    fit = {"epochs": 1, "progress": False, "device": "cpu"}
    quick = ac.TrainingConfig(**fit)
    for split in SPLITS:
        yield "split", {"log"}, split
    for baseline in COUNTING:
        yield "baseline", {"split"}, baseline
    yield "sessions", set(), ac.split_by_session
    yield "presplit", set(), lambda x: ac.presplit(t["log"], x, x)
    yield "presplit", set(), lambda x: ac.presplit(x, t["log"], t["log"])
    yield "Recommender", {"config"}, lambda x: ac.Recommender(x, t["split"])
    yield "Recommender", {"split"}, lambda x: ac.Recommender(t["config"], x)
    yield "profiles", set(), ac.baselines.ProfilePopularity
    yield "Ranker", set(), lambda x: ac.Ranker(x, t["split"])
    yield "Ranker", set(), lambda x: ac.Ranker(ac.RankerConfig(), x)
    yield "fit", {"model"}, lambda x: ac.fit(x, t["split"], quick)
    yield "fit", {"split"}, lambda x: ac.fit(t["model"], x, quick)
    yield (
        "fit",
        {"training", "None"},
        lambda x: ac.fit(t["model"], t["split"], quick if x is None else x),
    )
    yield "evaluate", {"model", "chain"}, lambda x: ac.evaluate(x, t["split"].test)
    yield "evaluate", set(), lambda x: ac.evaluate(t["model"], x)
    yield "compare", {"report"}, lambda x: ac.compare(x, t["report"])
    yield "compare", {"report"}, lambda x: ac.compare(t["report"], x)
    yield "segments", {"report"}, lambda x: ac.segments(x, t["split"])
    yield "segments", {"split"}, lambda x: ac.segments(t["report"], x)
    yield "lists", set(), lambda x: ac.list_metrics(x, t["split"], "genre")
    yield "lists", set(), lambda x: ac.list_metrics(t["report"], x, "genre")
    yield "refit", {"model"}, lambda x: ac.refit(x, t["run"])
    yield "refit", {"run"}, lambda x: ac.refit(t["model"], x)
    yield "go_on", {"model", "chain"}, lambda x: ac.go_on(x, t["log"])
    yield "go_on", {"log", "split"}, lambda x: ac.go_on(t["model"], x)
    yield "load", set(), ac.load
    yield "to_onnx", set(), to_onnx
    yield "OnnxRecommender", set(), OnnxRecommender
    yield "Prepared", set(), Prepared.open
    yield "datasets", set(), ac.datasets.load
    yield "read", {"frame", "file"}, ac.read_interactions
    yield (
        "read",
        {"None"},
        lambda x: ac.read_interactions(t["frame"], items=x),
    )
    yield "prepare", set(), lambda x: ac.prepare(x, Path("nowhere") / "out")
    yield "prepare", set(), lambda x: ac.prepare(t["file"], x)
    yield "with_items", set(), lambda x: t["model"].with_items(x)
    yield "similar", set(), lambda x: t["model"].similar_items(x, k=2)


def test_a_thing_of_a_wrong_kind_is_one_line_and_never_an_error_from_inside(
    things, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # some of them are names of folders
    wrong = set()
    for what, right, call in calls(things):
        if what == "prepare":
            pytest.importorskip("duckdb")
        for name, thing in things.items():
            try:
                said = told(lambda call=call, thing=thing: call(thing))
            except Exception as error:
                wrong.add(f"{what} of {name}: {type(error).__name__}: {error}"[:150])
                continue
            if name in right and said is not None:
                wrong.add(f"{what} of {name} is refused: {said}"[:150])
    assert wrong == set()


@pytest.mark.parametrize("name", ["None", "number", "list", "frame", "model"])
def test_what_is_no_path_cannot_be_saved_to(things, name):
    for model in things["model"], things["chain"]:
        assert "path" in told(lambda model=model: model.save(things[name]))


def test_a_model_is_not_saved_over_a_file(things):
    before = things["file"].read_bytes()
    said = told(lambda: things["model"].save(things["file"]))
    assert "is a file" in said
    assert things["file"].read_bytes() == before
    assert "is a file" in told(lambda: ac.load(things["file"]))


def test_who_hands_over_things_in_the_wrong_order_is_told_what_goes_there(things):
    assert "Recommender" in told(lambda: ac.fit(things["split"], things["model"]))
    said = told(lambda: ac.fit(things["model"], things["log"]))
    assert said == (
        "fit: an Interactions was given; give a split of a log, such as"
        " ac.leave_one_out(log)"
    )
    said = told(lambda: ac.leave_one_out(things["file"]))
    assert "read_interactions" in said
    said = told(lambda: ac.leave_one_out(pd.DataFrame()))
    assert "read_interactions" in said
