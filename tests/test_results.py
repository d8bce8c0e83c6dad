"""Facts about the kept runs: each is whole, of the promised form, and its users'
figures give its metrics."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import classic
import cold
import groceries
import numpy as np
import own_log
import pytest
import quality
from conftest import rhythm_log

import attncore as ac

RESULTS = Path(__file__).parent / "bench" / "results"
READ = {
    path: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(RESULTS.glob("*.json"))
}
RUNS = [path for path, run in READ.items() if "recipe" in run]


@pytest.mark.parametrize("name", ["tried", "tried_second"])
def test_there_are_runs_and_tried_configurations(name):
    assert len(RUNS) > 10
    tried = READ[RESULTS / f"{name}.json"]
    assert tried
    for run in tried:
        assert set(run) == {
            "data",
            "changes",
            "epochs",
            "best_epoch",
            "ndcg@10",
            "hr@10",
        }


def test_what_was_tried_on_slates_is_named():
    for run in READ[RESULTS / "tried_slates.json"]:
        assert set(run) == {
            "attention",
            "changes",
            "epochs",
            "ndcg@10",
            "gauc",
            "logloss",
        }


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_kept_run_has_the_promised_form_and_its_users_give_its_metrics(path):
    run = READ[path]
    assert {
        "data",
        "split",
        "recipe",
        "seed",
        "kind",
        "config",
        "seconds",
        "valid",
        "test",
        "per_user",
    } == set(run)
    assert run["kind"] in ("row", "ablation", "baseline")
    assert run["data"] in path.stem
    assert path.stem.endswith(f"{run['recipe']}-{run['seed']}")
    per_user = np.load(RESULTS / run["per_user"])
    for part in ("valid", "test"):
        low, high = run[part]["interval"]["ndcg@10"]
        assert low <= run[part]["metrics"]["ndcg@10"] <= high
        assert per_user[part].mean() == pytest.approx(
            run[part]["metrics"]["ndcg@10"], abs=1e-6
        )


def defined_now(run):
    """The configurations of a run's recipe as its script has them today."""
    if run["data"] == "bookshop":
        return own_log.MODELS[run["recipe"]], own_log.TRAINING
    if run["data"] == "complete-journey":
        return (groceries.MODELS | groceries.ABLATIONS)[run["recipe"]]
    if run["recipe"] in cold.RECIPES:
        return cold.RECIPES[run["recipe"]].config, cold.TRAINING
    return (
        quality.rows_of(run["data"])
        | quality.ablations_of(run["data"])
        | classic.RECIPES
    )[run["recipe"]]


def made_then(kind, kept):
    """A configuration from a file; a field that is gone must be as it always was."""
    known = {field.name for field in fields(kind)}
    always = asdict(ac.RecommenderConfig()) | {"log_every": 50}
    for name in kept.keys() - known:
        value = kept[name]
        assert (tuple(value) if isinstance(value, list) else value) == always[name]
    return kind(**{name: value for name, value in kept.items() if name in known})


@pytest.mark.parametrize(
    "path",
    [path for path in RUNS if READ[path]["kind"] != "baseline"],
    ids=lambda path: path.stem,
)
def test_a_kept_run_is_what_would_be_run_now(path):
    run = READ[path]
    if run["recipe"].startswith("two-stage-"):
        models = {
            name: ac.RecommenderConfig(**config)
            for name, config in run["config"].items()
        }
        assert models == {
            name: quality.rows_of("ml-100k")[name][0] for name in ("ml-100k", "target")
        }
        return
    recommender, training = defined_now(run)
    assert made_then(type(recommender), run["config"]["recommender"]) == recommender
    kept = made_then(ac.TrainingConfig, run["config"]["training"])
    assert kept == replace(training, seed=run["seed"])
    steps = quality.ablations_of(run["data"]) if run["data"] in quality.PENALTY else {}
    assert run["kind"] == ("ablation" if run["recipe"] in steps else "row")


@pytest.mark.parametrize("data", quality.KIND)
def test_an_ablation_of_the_second_edition_changes_one_choice(data):
    whole = quality.rows_of(data)[quality.KIND[data]]
    for name, changes in quality.WITHOUT[data].items():
        recommender, training = quality.ablations_of(data)[name]
        told = asdict(recommender) | asdict(training)
        before = asdict(whole[0]) | asdict(whole[1])
        assert {field for field in told if told[field] != before[field]} == set(changes)
    assert len(quality.WITHOUT[data]) <= 6


def test_what_only_adds_when_asked_is_taken_from_the_trained_model(monkeypatch):
    """No training: the recipe's own weights are asked without their neighbours."""
    split = ac.leave_one_out(rhythm_log())
    small = replace(quality.rows_of("ml-100k")["small"][0], width=8, length=8)
    whole = small, ac.TrainingConfig(epochs=1, progress=False)
    model, names = ac.Recommender(small, split, seed=1).eval(), []

    def trained(configs, split, seed, name, recipe):
        names.append((configs, name))
        return model, {}, None

    monkeypatch.setattr(quality, "trained", trained)
    monkeypatch.setattr(quality, "rows_of", lambda data: {"small": whole})
    configs = quality.changed(whole, {"neighbours": 0})
    asked = "ml-100k", "leave-one-out", "without-neighbours", 1, split, configs
    run = quality.measure(*asked)
    assert names == [(whole, "ml-100k-small-1")]
    plain = ac.Recommender(configs[0], split)
    plain.load_state_dict(model.state_dict())
    expected = ac.evaluate(plain.eval(), split.test)
    assert run["test"]["metrics"] == expected.metrics
    assert run["test"]["metrics"] != ac.evaluate(model, split.test).metrics


def test_an_ablation_undoes_one_choice_after_another_down_to_plain_sasrec():
    all_of_them = quality.ablations_of("ml-100k")
    steps = [all_of_them[name] for name, _ in quality.UNDONE["ml-100k"]]
    assert len(steps) == 6
    recommender, training = steps[-1]
    assert (recommender.gated, recommender.transition, recommender.relative) == (
        False,
        0,
        "none",
    )
    assert (recommender.positions, training.loss, training.windows) == (
        "learned",
        "bce",
        "last",
    )
    assert (training.label_smoothing, training.batch_size) == (0.0, 16)
