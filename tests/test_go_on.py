"""Going on with a grown log: what was learned stays, what is new begins at a mean."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import rhythm_log
from shop import shop_log

import attncore as ac

KINDS = ["self", "target", "lstm", "mean"]
KIND_OF = {i: "ab"[i % 2] for i in range(500, 512)}


def log_of(events, kinds=KIND_OF, **columns):
    items = pd.DataFrame({"item": list(kinds), "kind": list(kinds.values()), **columns})
    return ac.Interactions.from_frame(events, items=items, name="rhythm")


def grown_events():
    """The rhythm log with a new user, who takes two new items among the old ones: ids
    before and behind the others', so that every index moves."""
    old = rhythm_log().events[["user", "item", "time"]]
    items = [400, 500, 501, 900, 502, 503, 504, 400, 900, 505]
    fresh = pd.DataFrame({"user": 7, "item": items[:7], "time": range(20, 27)})
    more = pd.DataFrame(
        {"user": 8, "item": [900, 400, 501, 502], "time": range(30, 34)}
    )
    return pd.concat([old, fresh.drop_duplicates("item"), more])


def trained(split, kind="self", **options):
    config = ac.RecommenderConfig(attention=kind, width=16, length=8, **options)
    model = ac.Recommender(config, split, seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn(weights.shape, generator=generator))
        model.item.id.weight[0] = 0
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_same_log_it_is_the_same_model(kind):
    log = log_of(rhythm_log().events)
    lags = 0 if kind == "target" else 2
    options = {"item_features": ("kind",), "transition": lags}
    model = trained(ac.leave_one_out(log), kind, **options)
    same = ac.go_on(model, log)
    assert same is not model
    for name, weights in model.state_dict().items():
        assert torch.equal(same.state_dict()[name], weights), name
    assert same.recommend(users=[101], k=5) == model.recommend(users=[101], k=5)


def test_what_is_known_keeps_its_vectors_and_what_is_new_begins_at_the_mean():
    model = trained(ac.leave_one_out(log_of(rhythm_log().events)), transition=2)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    log = ac.Interactions.from_frame(grown_events())
    grown = ac.go_on(model, log)
    items = grown.split.items
    assert items.ids.tolist() == [400, *range(500, 512), 900]
    tables = {
        "embedding.item.id.weight",
        "transition.item.weight",
        "output.bias",
    }
    for name, weights in grown.state_dict().items():
        if name not in tables:
            assert torch.equal(weights, before[name]), name
            continue
        assert torch.equal(weights[2:14], before[name][1:])
        assert torch.equal(weights[0], before[name][0])
        for row in (1, 14):
            torch.testing.assert_close(weights[row], before[name][1:].mean(0))
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, before[name]), name
    assert 7 in grown.split.users.ids
    assert grown.recommend(users=[7], k=3)[0].items
    old = range(500, 512)
    a = model.recommend(histories=[[500, 503]], k=12, exclude_seen=False)[0]
    b = grown.recommend(histories=[[500, 503]], k=12, exclude_seen=False, only=old)[0]
    assert a.items == b.items


def test_a_new_category_begins_at_the_mean_of_its_column():
    events = grown_events()
    model = trained(
        ac.leave_one_out(log_of(rhythm_log().events)), item_features=("kind",)
    )
    kinds = {400: "aa", **KIND_OF, 900: "b"}  # sorted, "aa" stands before "b"
    grown = ac.go_on(model, log_of(events, kinds))
    was = model.item.features.embedding["kind"]
    now = grown.item.features.embedding["kind"]
    for text in ("a", "b"):
        assert torch.equal(
            now.value.weight[now.code_of[text]], was.value.weight[was.code_of[text]]
        )
    mean = was.value.weight[2:].mean(0)
    torch.testing.assert_close(now.value.weight[now.code_of["aa"]], mean)
    known = grown.item.catalogue()[1:13]
    torch.testing.assert_close(known, model.item.catalogue())
    own = model.item.id.weight[1:].mean(0)
    b = was.value.weight[was.code_of["b"]]
    torch.testing.assert_close(grown.item.catalogue()[13], own + b)


def test_numbers_are_scaled_as_before():
    sizes = [float(i) for i in range(12)]
    model = trained(
        ac.leave_one_out(log_of(rhythm_log().events, size=sizes)),
        item_features=("size", "kind"),
    )
    kinds = {400: "a", **KIND_OF, 900: "b"}
    log = log_of(grown_events(), kinds, size=[1e6, *sizes, 5.0])
    grown = ac.go_on(model, log)
    torch.testing.assert_close(grown.item.catalogue()[1:13], model.item.catalogue())


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_and_the_run_is_kept(kind, quick, tmp_path):
    model = trained(ac.leave_one_out(log_of(rhythm_log().events)), kind)
    model.save(tmp_path / "old")
    grown = ac.go_on(
        ac.load(tmp_path / "old"), ac.Interactions.from_frame(grown_events())
    )
    run = ac.fit(grown, grown.split, quick, out=tmp_path / "new")
    assert len(run.epochs) == quick.epochs
    again = ac.load(tmp_path / "new")
    assert again.recommend(users=[7], k=5) == grown.recommend(users=[7], k=5)


def test_it_knows_from_the_start_what_a_new_model_must_learn(quick):
    old, events = rhythm_log(users=60), rhythm_log(users=80, events=12).events
    model = ac.Recommender(
        ac.RecommenderConfig(width=16, length=8, dropout=0.0), ac.leave_one_out(old)
    )
    ac.fit(model, model.split, replace(quick, epochs=30, lr=1e-2))
    grown = ac.go_on(model, ac.Interactions.from_frame(events))
    fresh = ac.Recommender(model.config, grown.split)
    asked = grown.split.valid
    warm, cold = (ac.evaluate(one, asked).metrics["ndcg@10"] for one in (grown, fresh))
    assert warm > cold + 0.1


def test_a_split_a_time_split_a_ranker_and_a_baseline_go_on_too():
    log, events = log_of(rhythm_log().events), grown_events()
    bigger = ac.Interactions.from_frame(events)
    model = trained(ac.leave_one_out(log))
    assert ac.go_on(model, split := ac.split_by_time(bigger)).split is split
    by_time = trained(ac.split_by_time(log))
    assert ac.go_on(by_time, bigger).split.valid.protocol["split"] == "time"
    chain = ac.baselines.MarkovChain(ac.leave_one_out(log), lags=2)
    again = ac.go_on(chain, bigger)
    assert again.lags == 2
    anew = ac.baselines.MarkovChain(ac.leave_one_out(bigger), lags=2)
    assert again.recommend(users=[7]) == anew.recommend(users=[7])
    shop = ac.split_by_time(shop_log())
    ranker = ac.Ranker(ac.RankerConfig(width=16), shop)
    grown = ac.go_on(ranker, shop_log(weeks=16))
    for name, weights in ranker.state_dict().items():
        if ".codes_" not in name:
            assert torch.equal(grown.state_dict()[name], weights), name


def test_what_cannot_go_on_is_one_line():
    log = log_of(rhythm_log().events)
    by_user = trained(ac.split_by_user(log))
    with pytest.raises(ac.DataError, match="the model's split is by user; give "):
        ac.go_on(by_user, log)
    model = trained(ac.leave_one_out(log), item_features=("kind",))
    numbers = log_of(rhythm_log().events, dict.fromkeys(KIND_OF, 1.5))
    with pytest.raises(ac.DataError, match="attribute 'kind': is number in this log"):
        ac.go_on(model, numbers)
    with pytest.raises(ac.DataError, match=r"no column|table of items"):
        ac.go_on(model, ac.Interactions.from_frame(rhythm_log().events))
    assert np.isfinite(model.score(model.split.histories).numpy()).all()


def test_followers_are_those_of_the_grown_log():
    log = ac.Interactions.from_frame(grown_events())
    config = ac.RecommenderConfig(width=8, length=8, prior=2, neighbours=2)
    model = ac.Recommender(config, ac.leave_one_out(rhythm_log()))
    grown = ac.go_on(model, log)
    fresh = ac.Recommender(config, ac.leave_one_out(log))
    newest = torch.tensor([[1, 2], [5, 0]])
    torch.testing.assert_close(grown.followers(newest), fresh.followers(newest))
    torch.testing.assert_close(grown.neighbours(newest), fresh.neighbours(newest))
