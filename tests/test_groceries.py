"""Facts about `tests/bench/groceries.py`, on the made-up shop."""

from dataclasses import replace

import groceries
import numpy as np
import pytest
import torch
from shop import shop_log

import attncore as ac
from attncore.ranking.baselines import PersonalHabit
from attncore.ranking.metrics import slate_metrics


@pytest.fixture(scope="module")
def split():
    log = shop_log()
    kinds = log.items["kind"]
    names = ("product_type", "product_category", "department", "brand")
    table = log.items.assign(**dict.fromkeys((*names, "manufacturer_id"), kinds))
    return ac.split_by_time(replace(log, items=table), valid=0.2, test=0.2)


def small(configs):
    return (
        replace(configs[0], width=8, heads=2, item_features=(), user_features=()),
        replace(configs[1], epochs=1, device="cpu", progress=False),
    )


@pytest.mark.parametrize("make", [groceries.regression, groceries.trees])
def test_rivals_learn_from_all_facts_and_may_be_told_less(split, make):
    told = groceries.Learned(split, 0, make)
    less = groceries.Learned(split, 0, make, own=False)
    few = groceries.Learned(split, 0, make, every=False)
    slates = split.test.slates
    one = np.arange(slates.list_of(3).stop - slates.list_of(3).start)
    widths = [model._features(slates, 3, one).shape[1] for model in (told, less, few)]
    ages = 2  # young, old; both 0 where not told
    # Own: ever, how often, when, rate, three windows; kinds as codes: five.
    assert widths == [widths[1] + 7, widths[1], widths[1] + 4 - ages - 5]
    report = ac.evaluate(told, split.test, bootstrap=0)
    assert report.metrics["gauc"] > 0.85
    assert abs(report.metrics["logloss"]) < 0.6


def test_repeated_and_new_candidates_are_ranked_among_themselves(split):
    apart = groceries.Apart(PersonalHabit())
    report = ac.evaluate(apart, split.test, bootstrap=0)
    plain = ac.evaluate(PersonalHabit(), split.test, bootstrap=0)
    assert report.metrics == plain.metrics
    slates, wanted = split.test.slates, {"repeated": {}, "new": {}}
    for row in range(len(slates)):
        user, stop = slates.users[row], slates.stops[row]
        past = set(slates.histories[user][:stop].tolist())
        items = slates.items[slates.list_of(row)].tolist()
        scores = PersonalHabit().score_slate(slates, row)
        taken = {items[place] for place in slates.clicked_of(row)}
        for name in wanted:
            kept = [
                n for n, item in enumerate(items) if (item in past) == (name != "new")
            ]
            clicked = [n for n, at in enumerate(kept) if items[at] in taken]
            if clicked and len(clicked) < len(kept):
                told = slate_metrics(scores[kept], np.array(clicked), (10,))
                wanted[name].setdefault(user, []).append(told["gauc"])
    found = apart.per_household()
    for name, households in wanted.items():
        means = [np.mean(households[user]) for user in sorted(households)]
        assert len(means) > 5
        np.testing.assert_allclose(found[name]["gauc"], means, rtol=1e-6)


def test_a_ranker_without_own_counts_does_not_read_them(split):
    config = small(groceries.MODELS["target"])[0]
    batch = ac.Ranker(config, split).windows(split.slates).whole(40)
    other = replace(batch, own_BN6=torch.rand_like(batch.own_BN6))
    for kind, same in ((groceries.WithoutOwn, True), (ac.Ranker, False)):
        model = kind(config, split).eval()
        with torch.no_grad():
            assert torch.equal(model.scores(batch), model.scores(other)) == same


@pytest.mark.parametrize("recipe", groceries.EVERY)
def test_each_recipe_is_measured_and_kept(split, recipe, tmp_path, monkeypatch):
    for table in (groceries.MODELS, groceries.ABLATIONS):
        for name, configs in table.items():
            monkeypatch.setitem(table, name, small(configs))
    monkeypatch.setattr(groceries, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(groceries, "RESULTS", tmp_path)
    run = groceries.measure(recipe, 0, split)
    groceries.keep(run, tmp_path / f"{groceries.DATA}-{recipe}-0.json")
    (kept,) = groceries.runs_of(recipe)
    assert kept["kind"] in ("row", "ablation", "baseline")
    arrays = np.load(tmp_path / kept["per_user"])
    for part in ("valid", "test"):
        assert np.isfinite(kept[part]["metrics"]["ndcg@10"])
        for name, told in kept[part]["apart"].items():
            figures = arrays[f"{part}_{name}_gauc"]
            assert len(figures) == told["households"]
            assert figures.mean() == pytest.approx(told["gauc"], abs=1e-6)
    assert recipe in groceries.table()


def test_an_ablation_changes_one_thing():
    recipe, training = groceries.MODELS["target"]
    for name, changed in (
        ("target-length-1024", {"length"}),
        ("target-no-situation", {"item_features", "user_features"}),
        ("target-raw", {"normalize"}),
        ("target-no-own", set()),
    ):
        config, how = groceries.ABLATIONS[name]
        fields = vars(config)
        assert {f for f in fields if fields[f] != vars(recipe)[f]} == changed
        assert how == training
    assert groceries.ABLATIONS["target-no-situation"][0].situation_features == ()
