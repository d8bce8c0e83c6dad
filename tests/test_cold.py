"""Facts about tests/bench/cold.py: who is asked, what is hidden from training, and how
folds are pooled."""

from pathlib import Path

import cold
import numpy as np
import pytest
from conftest import rhythm_log

import attncore as ac


@pytest.fixture(scope="module")
def log():
    return rhythm_log(users=50, items=40, events=12)


def test_a_new_film_is_in_nobodys_training_or_history_and_everything_else_is(log):
    split, whole = cold.new_films(log), ac.leave_one_out(log)
    held = cold.held_films(len(split.items))
    hidden = held["test"] | held["valid"]
    assert not (held["test"] & held["valid"]).any()
    assert not hidden[split.train.items - 1].any()
    assert len(split.train.items) == (~hidden[whole.histories.items - 1]).sum()
    for name in ("valid", "test"):
        holdout = getattr(split, name)
        assert len(holdout) > 5
        assert held[name][holdout.targets - 1].all()
        assert not hidden[holdout.histories.items - 1].any()
        for row in range(len(holdout)):
            events = whole.histories[holdout.users[row]]
            at = np.flatnonzero(held[name][events - 1])[-1]  # the last of the user
            assert holdout.targets[row] == events[at]
            assert holdout.histories[row].tolist() == [
                i for i in events[:at] if not hidden[i - 1]
            ]
    assert (split.item_counts[hidden] == 0).all()


def test_new_films_compete_among_themselves_and_chance_is_what_it_should_be(log):
    split = cold.new_films(log)
    found = cold.figures(ac.baselines.Popularity(split), split.test, "new")
    films = cold.held_films(len(split.items))["test"].sum()
    assert np.mean(found["hr@10"]) == pytest.approx(min(1, 10 / films))
    assert np.mean(found["hr@10 among all"]) < np.mean(found["hr@10"])


def test_the_folds_together_ask_each_user_once_for_each_number_known(log):
    recipe = cold.RECIPES["cold-popularity"]
    folds = [
        cold.measure(recipe, log, fold, 0, ["valid", "test"])
        for fold in cold.folds_of(recipe)
    ]
    for part in ("valid", "test"):
        found = cold.joined(folds, part)
        assert found["users"].tolist() == list(range(50))
        alone = [found[f"ndcg@10 after {n}"] for n in cold.KNOWN]
        np.testing.assert_allclose(found["ndcg@10"], np.mean(alone, axis=0))


def test_a_choice_is_made_on_validation_alone(log, monkeypatch):
    asked = []

    def measure(recipe, log, fold, seed, parts):
        asked.append((recipe.opening, tuple(parts)))
        value = {None: 0.1, 50: 0.2, 20: 0.5, 10: 0.3, 5: 0.4}[recipe.opening]
        return {"valid": {"users": [fold], "ndcg@10": [value]}}

    monkeypatch.setattr(cold, "measure", measure)
    assert cold.chosen("cold-popularity-opening", log).opening == 20
    assert {parts for _, parts in asked} == {("valid",)}
    assert {opening for opening, _ in asked} == set(cold.OPENINGS)


def test_what_is_kept_is_not_made_again(tmp_path):
    made = []
    for _ in range(2):
        assert cold.kept(
            tmp_path / "a" / "run.json", lambda: made.append(1) or {"value": len(made)}
        ) == {"value": 1}
    assert made == [1]


def test_the_page_shows_the_kept_runs():
    page = (Path(cold.__file__).parent / "RESULTS.md").read_text(encoding="utf-8")
    assert cold.table().strip("\n") in page
