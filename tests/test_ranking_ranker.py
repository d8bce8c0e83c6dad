import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from shop import shop_log
from torch import nn

import attncore as ac
from attncore.__main__ import main
from attncore.distributed import Group
from attncore.output import Criterion
from attncore.ranking.asof import DAY, Known
from attncore.ranking.batches import CLICKED_AT_MOST, SlateWindows, own_habit
from attncore.ranking.encoders import MatchBias
from attncore.ranking.ranker import Ranker
from attncore.recipes import RECIPES
from attncore.sequences import Histories, Vocabulary

SMALL = ac.RankerConfig(width=16, heads=2, length=50, dropout=0.0)
QUICK = ac.TrainingConfig(
    epochs=4,
    batch_size=32,
    lr=1e-2,
    negatives=16,
    warmup=5,
    progress=False,
    device="cpu",
    precision="float32",
)
KINDS = ("target", "mean")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def split():
    return ac.split_by_time(shop_log(), valid=0.2, test=0.2)


@pytest.fixture(scope="module")
def trained(split):
    models = {}
    for kind in KINDS:
        models[kind] = ac.Ranker(dataclasses.replace(SMALL, attention=kind), split)
        ac.fit(models[kind], split, QUICK)
    return models


def test_each_kind_of_model_refuses_the_other_kind_of_log(split):
    with pytest.raises(
        ac.DataError, match="shop: has slates, which are ranked; use Ranker"
    ):
        ac.Recommender(ac.RecommenderConfig(width=16), split)
    plain = ac.leave_one_out(dataclasses.replace(shop_log(), slates=None))
    with pytest.raises(ac.DataError, match="shop: has no slates; use Recommender"):
        ac.Ranker(SMALL, plain)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"attention": "self"}, "attention='self': must be one of target, mean"),
        ({"heads": 3}, "heads=3: must divide width=16"),
        (
            {"situation_features": ("colour",)},
            "no situation feature 'colour'; slates and events have display, store",
        ),
        ({"item_features": ("size",)}, "no column 'size'"),
    ],
)
def test_a_setting_that_slates_do_not_know_is_one_clear_line(split, wrong, hint):
    with pytest.raises(ValueError, match=hint.replace("(", r"\(")) as caught:
        ac.Ranker(dataclasses.replace(SMALL, **wrong), split)
    assert "\n" not in str(caught.value)


def test_a_batch_can_be_pinned_for_its_way_to_a_gpu(split):
    sampler = ac.Ranker(SMALL, split).sampler(split, QUICK, Group(CPU))
    batch = sampler.windows.batch(np.arange(20))
    tensors = [
        batch.items_BT,
        batch.own_BN6,
        batch.clicked_BN,
        batch.correction_BN,
        *batch.situation.values(),
    ]
    for tensor in tensors:
        pinned = torch.empty_strided(
            tensor.shape, tensor.stride(), dtype=tensor.dtype
        )  # as `pin_memory` copies
        torch.testing.assert_close(pinned.copy_(tensor), tensor, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_training_learns_the_order(split, trained, kind):
    report = ac.evaluate(trained[kind], split.test, bootstrap=0)
    assert report.metrics["gauc"] > {"target": 0.8, "mean": 0.52}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_training_by_probabilities_alone_learns_them(split, kind):
    model = ac.Ranker(dataclasses.replace(SMALL, attention=kind), split)
    before = ac.evaluate(model, split.test, bootstrap=0)
    ac.fit(model, split, dataclasses.replace(QUICK, loss="bce"))
    assert (
        ac.evaluate(model, split.test, bootstrap=0).metrics["logloss"]
        < before.metrics["logloss"]
    )


def test_the_recipe_for_slates_learns_any_shop(split):
    chosen = RECIPES["complete-journey"]
    model = ac.Ranker(dataclasses.replace(chosen.recommender, width=16), split)
    training = dataclasses.replace(
        chosen.training, epochs=4, batch_size=32, lr=1e-2, warmup=5, negatives=16
    )
    ac.fit(model, split, dataclasses.replace(training, progress=False, device="cpu"))
    assert ac.evaluate(model, split.test, bootstrap=0).metrics["gauc"] > 0.75


def test_attention_beats_the_plain_mean(split, trained):
    target, mean = (
        ac.evaluate(trained[kind], split.test, bootstrap=0) for kind in KINDS
    )
    assert target.metrics["ndcg@10"] > mean.metrics["ndcg@10"] + 0.02


def test_scores_are_calibrated_although_taken_candidates_were_drawn_more_often(
    split, trained
):
    slates = split.slates.only(
        np.flatnonzero(split.slates.times < split.valid.protocol["valid_from"])
    )
    scores = [trained["target"].score_slate(slates, row) for row in range(len(slates))]
    said = np.mean([(1 / (1 + np.exp(-s.astype(float)))).mean() for s in scores])
    happened = np.mean(
        [len(slates.clicked_of(row)) / len(scores[row]) for row in range(len(slates))]
    )
    assert said == pytest.approx(happened, rel=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_comes_back_as_it_was_without_its_log(split, trained, kind, tmp_path):
    model = trained[kind]
    model.save(tmp_path / "run", {"note": 1})
    again = ac.load(tmp_path / "run")
    assert isinstance(again, Ranker)
    before, after = (ac.evaluate(m, m.split.test, bootstrap=0) for m in (model, again))
    assert after.metrics == before.metrics
    assert after.protocol == before.protocol
    assert (
        ac.evaluate(again, again.split.valid, bootstrap=0).metrics
        == ac.evaluate(model, split.valid, bootstrap=0).metrics
    )
    assert again.recommend(users=[3], k=4) == model.recommend(users=[3], k=4)


def test_one_seed_gives_one_model(split):
    quick = dataclasses.replace(QUICK, epochs=1)
    models = [ac.Ranker(SMALL, split, seed=4) for _ in range(2)]
    for model in models:
        ac.fit(model, split, quick)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_stopped_training_goes_on_to_the_same_weights(split, tmp_path, monkeypatch):
    quick = dataclasses.replace(QUICK, epochs=2)
    whole = ac.Ranker(SMALL, split, seed=1)
    ac.fit(whole, split, quick)
    from attncore import training

    half, step = ac.Ranker(SMALL, split, seed=1), training.Trainer.train_step

    def stopping(self, *given):
        if self.step == 9:
            raise RuntimeError("power cut")
        step(self, *given)

    monkeypatch.setattr(training.Trainer, "train_step", stopping)
    with pytest.raises(RuntimeError, match="power cut"):
        ac.fit(half, split, quick, tmp_path / "run")
    monkeypatch.undo()
    again = ac.Ranker(SMALL, split, seed=9)
    ac.fit(again, split, quick, tmp_path / "run", resume=True)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_happens_at_or_after_the_moment_changes_no_score(split, trained):
    """The answer, and all that follows it, is rewritten: other items, other price
    cuts."""
    model, slates = trained["target"], split.test.slates
    row = len(slates) // 2
    h = slates.histories
    future = h.times >= slates.times[row]
    items = np.where(future, (h.items % len(split.items)) + 1, h.items).astype(np.int32)
    cuts = np.where(future, 0.9, h.attributes["price_cut"])
    assert (items != h.items).any()
    rewritten = dataclasses.replace(
        slates, histories=Histories(items, h.offsets, h.times, {"price_cut": cuts})
    )
    assert (model.score_slate(rewritten, row) == model.score_slate(slates, row)).all()


def test_what_happened_before_the_moment_does_change_scores(split, trained):
    model, slates = trained["target"], split.test.slates
    h = slates.histories
    rewritten = dataclasses.replace(
        slates,
        histories=Histories(np.full_like(h.items, 1), h.offsets, h.times, h.attributes),
    )
    row = len(slates) // 2
    assert not np.allclose(
        model.score_slate(rewritten, row), model.score_slate(slates, row)
    )


def test_features_are_learned_from_training_alone(split):
    log = shop_log()
    model = ac.Ranker(SMALL, split)
    (cut,) = [
        feature for feature in model.features.situation if feature.name == "price_cut"
    ]
    early = log.events["price_cut"][
        log.events["time"] < split.valid.protocol["valid_from"]
    ]
    assert cut.statistics[0] == pytest.approx(early.mean())


def test_a_batch_gives_each_slate_what_it_gets_alone(split, trained):
    model = trained["target"]
    windows = SlateWindows(split.slates, model.features.situation, 50, users=30)
    rows = np.array([3, 90, 150])  # the first user has no past
    torch.manual_seed(1)
    together = windows.drawn_from(rows)
    scores = model.scores(together).detach()
    for number, row in enumerate(rows):
        alone = model.score_slate(split.slates, row)
        items = split.slates.items[split.slates.list_of(row)]
        for place in torch.nonzero(together.candidates_BN[number])[:, 0].tolist():
            at = int(
                np.flatnonzero(items == int(together.candidates_BN[number, place]))[0]
            )
            assert float(scores[number, place]) == pytest.approx(
                float(alone[at]), abs=1e-4
            )


def test_drawn_candidates_are_of_the_list_and_marked_rightly(split):
    windows = SlateWindows(split.slates, (), 50, users=30, drawn=20)
    rows = np.arange(0, 200, 11)
    batch = windows.drawn_from(rows)
    for number, row in enumerate(rows):
        items = split.slates.items[split.slates.list_of(row)]
        taken = set(items[split.slates.clicked_of(row)].tolist())
        drawn, marks = batch.candidates_BN[number], batch.clicked_BN[number]
        assert set(drawn[drawn > 0].tolist()) <= set(items.tolist())
        assert set(drawn[marks == 1].tolist()) <= taken
        assert (
            len(drawn[marks == 1].unique())
            == min(len(taken), CLICKED_AT_MOST)
            == int(marks.sum())
        )
        assert not taken & set(drawn[(marks == 0) & (drawn > 0)].tolist())


def test_training_draws_no_slate_from_after_training(split):
    model = ac.Ranker(SMALL, split)
    windows = model.sampler(split, QUICK, Group(CPU)).windows
    seen, rows = [], np.flatnonzero(windows.lengths)
    windows.drawn_from = lambda slates: seen.extend(slates.tolist())
    for _ in range(10):
        windows.batch(rows)
    users = split.slates.users[seen].reshape(10, -1)
    assert (users == windows.users_of(rows)).all()
    assert (np.bincount(users[0], minlength=30)[np.unique(users[0])] == 8).all()
    assert split.slates.times[seen].max() < split.valid.protocol["valid_from"]
    assert len(set(seen)) > 100


def test_slates_drawn_ahead_are_those_of_a_run_that_draws_in_the_step(split):
    """As for a GPU: dropout draws elsewhere, and a run goes on from any step."""

    def steps(ahead, first, state):
        torch.set_rng_state(state)
        sampler = ac.Ranker(SMALL, split).sampler(split, QUICK, Group(CPU))
        windows = sampler.windows
        windows.ahead, windows.chance = ahead, torch.Generator() if ahead else None
        found = []
        for parts, _ in sampler.steps(first):
            drawn = [part.candidates_BN.clone() for part in parts]
            found.append(
                (torch.cat([d.flatten() for d in drawn]), torch.get_rng_state())
            )
        return found

    start = torch.Generator().manual_seed(3).get_state()
    plain, ahead = steps(False, 0, start), steps(True, 0, start)
    assert len(plain) == len(ahead) > 3
    for one, other in zip(plain, ahead, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])  # what a checkpoint keeps
    resumed = steps(True, 2, plain[1][1])
    assert all(torch.equal(a[0], b[0]) for a, b in zip(plain[2:], resumed, strict=True))


def test_match_bias_adds_one_number_for_each_thing_shared():
    bias = MatchBias(2, 3)
    nn.init.normal_(bias.shared)
    found = bias(
        [torch.tensor([[5, 6]]), torch.tensor([[1, -1]])],
        [torch.tensor([[5, 7, -2]]), torch.tensor([[1, 1, -2]])],
    )
    item, kind = bias.shared.detach()
    assert found.shape == (1, 3, 2, 3)
    expected = torch.stack(
        [torch.stack([item + kind, kind, 0 * kind], 1), torch.zeros(3, 3)], 1
    )
    assert torch.allclose(found[0].detach(), expected)
    found.sum().backward()
    assert bias.shared.grad.tolist() == [[1.0] * 3, [2.0] * 3]


@pytest.mark.parametrize("things", [1, 7, 8, 9, 17, 40])
def test_match_bias_adds_what_is_shared_of_any_number_of_things(things):
    torch.manual_seed(0)
    bias = MatchBias(things, 2)
    nn.init.normal_(bias.shared)
    assert bias.bits.numel() <= 256 * 8
    asking, past = torch.randint(3, (things, 2, 4)), torch.randint(3, (things, 2, 5))
    same = asking[..., :, None] == past[..., None, :]
    expected = torch.einsum("sbnk,sh->bhnk", same.float(), bias.shared.detach())
    found = bias(list(asking), list(past))
    torch.testing.assert_close(found.detach(), expected)
    found.sum().backward()
    shared = same.sum((1, 2, 3)).float()[:, None].expand(-1, 2)
    torch.testing.assert_close(bias.shared.grad, shared)
    # As a GPU does it.
    product = bias._product(list(same))
    torch.testing.assert_close(product, found)
    bias.shared.grad = None
    product.sum().backward()
    torch.testing.assert_close(bias.shared.grad, shared)


def test_weights_sum_to_one_and_are_labelled_with_the_past(split, trained):
    slates, row = split.test.slates, 5
    candidates = split.items.decode(slates.items[slates.list_of(row)])[:3].tolist()
    frame = trained["target"].slate_attention(slates, row, candidates)
    assert frame.groupby(["head", "candidate"])[
        "weight"
    ].sum().to_numpy() == pytest.approx(1, abs=1e-5)
    past = split.items.decode(split.test.histories[row])
    one = frame[(frame["head"] == 0) & (frame["candidate"] == candidates[0])]
    assert one["item"].iloc[0] is None
    counts = pd.Series(past).value_counts()
    for item, count in zip(one["item"].iloc[1:], one["count"].iloc[1:], strict=True):
        assert counts[item] == count
    shown = split.items.decode(slates.items[slates.list_of(row)])
    gone = next(item for item in split.items.ids.tolist() if item not in shown)
    with pytest.raises(ac.DataError, match="is not among the 17 candidates of slate 5"):
        trained["target"].slate_attention(slates, row, [gone])


def test_a_past_item_of_the_candidates_kind_gets_more_weight(split, trained):
    slates, kinds = split.test.slates, shop_log().items["kind"]
    more = []
    for row in range(0, len(slates), 6):
        candidate = split.items.decode(slates.items[slates.list_of(row)])[0]
        frame = (
            trained["target"]
            .slate_attention(slates, row, [candidate])
            .dropna(subset=["item"])
        )
        same = kinds[frame["item"]].to_numpy() == kinds[candidate]
        if same.any() and not same.all():
            more.append(frame["weight"][same].mean() > frame["weight"][~same].mean())
    assert len(more) > 5
    assert np.mean(more) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_recommend_ranks_the_list_that_is_asked_for(split, trained, kind):
    model, slates = trained[kind], split.slates
    last = np.flatnonzero(slates.users == split.users.encode([3])[0] - 1)[-1]
    shown = set(split.items.decode(slates.items[slates.list_of(last)]).tolist())
    picks = model.recommend(users=[3], k=40)[0]
    assert set(picks.items) == shown
    assert picks.scores == sorted(picks.scores, reverse=True)
    told = slates.situation.iloc[slates.lists[-1]]
    named = model.recommend(
        users=[3],
        k=40,
        situation={"store": str(told["store"]), "week": str(told["week"])},
    )[0]
    assert set(named.items) == set(
        split.items.decode(slates.items[slates.list_of(len(slates) - 1)]).tolist()
    )
    some = model.recommend(users=[3], candidates=[100, 101, 139], k=5)[0]
    assert sorted(some.items) == [100, 101, 139]
    assert not set(model.recommend(users=[3], k=40, exclude_seen=True)[0].items) & set(
        split.items.decode(split.histories[3])
    )


def test_excluding_what_was_seen_asks_the_whole_history(split):
    model = ac.Ranker(dataclasses.replace(SMALL, length=1), split)
    taken = split.items.decode(split.histories[3]).tolist()
    fresh = next(i for i in split.items.ids.tolist() if i not in taken)
    every = [*dict.fromkeys(taken), fresh]
    for asked in ({"users": [3]}, {"histories": [taken]}):
        (picks,) = model.recommend(**asked, candidates=every, exclude_seen=True)
        assert picks.items == [fresh]


@pytest.mark.parametrize("kind", ["target", "mean"])
def test_exclude_and_only_narrow_the_list(trained, kind):
    whole = trained[kind].recommend(users=[3], k=40)[0].items
    fewer = (
        trained[kind].recommend(users=[3], k=40, exclude=[*whole[:2], 999_999])[0].items
    )
    assert fewer == whole[2:]
    assert (
        trained[kind].recommend(users=[3], k=40, only=[*whole[3:5], 999_999])[0].items
        == whole[3:5]
    )
    assert trained[kind].recommend(users=[3], only=[999_999])[0].items == []


def test_recommend_after_a_history_prefers_what_it_holds(split, trained):
    candidates, leads = [102, 107, 112, 103, 108, 113], []
    for history in ([102, 107, 112, 102, 107, 112], [103, 108, 113, 103, 108, 113]):
        picks = trained["target"].recommend(
            histories=[history], candidates=candidates, k=6
        )[0]
        score = dict(zip(picks.items, picks.scores, strict=True))
        leads.append(
            np.mean([score[item] for item in candidates[:3]])
            - np.mean([score[item] for item in candidates[3:]])
        )
    # Items of kind 2 lead by more after themselves.
    assert leads[0] > leads[1] + 0.1
    # With nothing known there is still an answer.
    assert trained["target"].recommend(histories=[[]], k=3)[0].items


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"users": [77], "strict": True}, "unknown user 77"),
        ({"users": [3], "candidates": [1]}, "unknown item 1"),
        (
            {"users": [3], "situation": {"colour": 1}},
            "unknown situation 'colour': the model reads display",
        ),
        (
            {"users": [3], "situation": {"store": 9}},
            "no slate of shop has the situation",
        ),
        ({}, "give either users= or histories="),
        ({"users": [3], "k": 0}, "k=0: must be at least 1"),
    ],
)
def test_a_wrong_question_is_one_line(trained, asked, hint):
    with pytest.raises(ValueError, match=hint) as caught:
        trained["target"].recommend(**asked)
    assert "\n" not in str(caught.value)


def criterion(split, loss):
    return Criterion(loss, 8, 0.0, 0.75, torch.from_numpy(split.item_counts))


def test_a_candidates_own_past_is_counted_over_a_week_four_weeks_and_three_months(
    split,
):
    slates = split.valid.slates
    model = ac.Ranker(SMALL, split)
    for row in range(len(slates)):
        own, items = (
            model.windows(slates).whole(row).own_BN6[0],
            slates.items[slates.list_of(row)],
        )
        for column, days in ((3, 7), (4, 28), (5, 91)):
            lately = slates.own_lately(
                np.full(len(items), slates.users[row]), items, slates.times[row], days
            )
            np.testing.assert_allclose(own[:, column], np.log1p(lately), rtol=1e-6)
    assert len({float(own[:, column].sum()) for column in (3, 4, 5)}) > 1


def test_hidden_ids_reach_the_embedding(split):
    assert (
        ac.Ranker(dataclasses.replace(SMALL, id_dropout=0.3), split).item.id_dropout
        == 0.3
    )


def test_a_loss_of_catalogues_is_refused(split):
    model = ac.Ranker(SMALL, split)
    batch = model.sampler(split, QUICK, Group(CPU)).windows.batch(np.arange(4))
    with pytest.raises(
        ValueError, match="loss='full': slates are trained with 'bce' or 'combined'"
    ):
        model.loss(batch, criterion(split, "full"))


def test_the_combined_loss_adds_the_order_within_each_slate(split):
    model = ac.Ranker(SMALL, split).eval()
    assert model.default_loss == "combined"
    batch = model.sampler(split, QUICK, Group(CPU)).windows.batch(np.arange(6))
    alone, both = (
        model.loss(batch, criterion(split, loss)) for loss in ("bce", "combined")
    )
    scores, by_hand = model.scores(batch), 0.0
    for row in range(len(scores)):
        real = batch.candidates_BN[row] > 0
        taken = batch.clicked_BN[row] > 0
        for place in (taken & real).nonzero()[:, 0]:
            rivals = torch.cat(
                [scores[row, place : place + 1], scores[row, real & ~taken]]
            )
            by_hand -= rivals.log_softmax(0)[0]
    torch.testing.assert_close(both - alone, by_hand, rtol=1e-4, atol=1e-4)


def test_raw_weights_and_additive_scores_train_too(split):
    for change in ({"normalize": False}, {"score": "additive"}, {"item_bias": False}):
        model = ac.Ranker(dataclasses.replace(SMALL, **change), split)
        before = [p.detach().clone() for p in model.parameters()]
        ac.fit(model, split, dataclasses.replace(QUICK, epochs=1))
        assert all(torch.isfinite(p).all() for p in model.parameters())
        assert any(
            not torch.equal(a, b)
            for a, b in zip(before, model.parameters(), strict=True)
        )


def test_the_command_line_trains_evaluates_and_recommends(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(ac.datasets, "load", lambda name: shop_log())
    words = [
        "--epochs",
        "1",
        "--width",
        "16",
        "--length",
        "20",
        "--batch-size",
        "16",
        "--negatives",
        "16",
        "--no-progress",
        "--device",
        "cpu",
    ]
    run = str(tmp_path / "run")
    main(["train", "complete-journey", "--out", run, "--attention", "target", *words])
    out = capsys.readouterr().out
    for part in (
        "popular this week",
        "personal habit",
        "attention=target",
        "gauc",
        "candidates",
        "<- taken",
    ):
        assert part in out
    main(["evaluate", run, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"]["split"] == "time"
    assert {"ndcg@10", "recall@10", "gauc", "auc", "logloss"} <= set(found["metrics"])
    main(["evaluate", run])
    assert "gauc" in capsys.readouterr().out
    main(["recommend", run, "--user", "3", "-k", "2", "--json"])
    assert len(json.loads(capsys.readouterr().out)["items"]) == 2
    main(
        [
            "recommend",
            run,
            "--user",
            "3",
            "--situation",
            "store=1",
            "week=13",
            "-k",
            "2",
        ]
    )
    assert "user 3" in capsys.readouterr().out
    for wrong, hint in (
        (["--split", "leave-one-out"], "has slates"),
        (["--attention", "self"], "'target' or 'mean'"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(
                [
                    "train",
                    "complete-journey",
                    "--out",
                    run,
                    "--attention",
                    "target",
                    *wrong,
                    *words,
                ]
            )
        shown = capsys.readouterr().err
        assert stop.value.code == 2
        assert shown.count("\n") == 1
        assert hint in shown


@pytest.mark.parametrize("kind", KINDS)
def test_who_or_what_is_unknown_is_passed_over_and_counted(trained, kind, caplog):
    model = trained[kind]
    found = model.recommend(users=[3, 777, 4], k=4)
    alone = [model.recommend(users=user, k=4)[0] for user in (3, 4)]
    (new,) = model.recommend(histories=[[]], k=4)
    assert [one.unknown for one in found] == [0, 1, 0]
    assert [found[0], found[2]] == alone
    assert found[1].items == new.items
    assert "1 of 3 users is unknown (777) and passed over" in caplog.text
    (some,) = model.recommend(histories=[[101, 5, 102]], k=4)
    (same,) = model.recommend(histories=[[101, 102]], k=4)
    assert (some.items, some.unknown, same.unknown) == (same.items, 1, 0)
    for wrong in ({"users": [777]}, {"histories": [[5]]}, {"users": [3], "only": [5]}):
        with pytest.raises(ac.DataError, match=r"unknown (user|item) "):
            model.recommend(**wrong, strict=True)


def test_a_situation_is_one_for_all_or_one_each(split, trained):
    model = trained["target"]
    each = model.recommend(users=[3, 4], situation={"store": [1, 2], "week": 13}, k=3)
    for user, store, found in zip((3, 4), (1, 2), each, strict=True):
        here = {"store": store, "week": 13}
        assert model.recommend(users=[user], situation=here, k=3) == [found]
    looked = model.attention(users=[3, 4], situation={"store": [1, 2], "week": 13})
    assert looked["history"].nunique() == 2
    with pytest.raises(ValueError, match="'store': has 3 values for 2 questions"):
        model.recommend(users=[3, 4], situation={"store": [1, 2, 1]})
    with pytest.raises(ValueError, match="takes values by name"):
        model.recommend(users=[3, 4], situation=5)


def test_undated_items_are_known_once_each_with_their_count():
    from attncore.ranking.serving import _undated

    known = _undated(np.array([5, 7, 5, 9], np.int32))
    assert isinstance(known, Known)
    assert known.items.tolist() == [[7, 5, 9]]
    assert known.counts.tolist() == [[1, 2, 1]]


def test_the_newest_items_are_the_last_ones_of_each_user():
    known = Known(
        np.array([[3, 4, 5], [6, 0, 0]]),
        np.array([[1, 2, 3], [4, 0, 0]]),
        np.array([[9, 8, 7], [6, 0, 0]]),
    )
    newest = known.newest(2)
    assert newest.items.tolist() == [[4, 5], [6, 0]]
    assert newest.counts.tolist() == [[2, 3], [4, 0]]
    assert newest.ages.tolist() == [[8, 7], [6, 0]]
    assert known.newest(9).items.tolist() == known.items.tolist()


def test_own_habit_is_read_from_the_whole_past_of_the_same_user():
    known = Known(
        np.array([[3, 4, 5], [6, 0, 0]]),
        np.array([[1, 2, 3], [4, 0, 0]]),
        np.array([[0, DAY, 3 * DAY], [0, 0, 0]]),
    )
    found = own_habit(known, np.array([[5, 6, 4], [6, 5, 0]]))
    assert found[..., 0].tolist() == [[1, 0, 1], [1, 0, 0]]
    np.testing.assert_allclose(found[0, 0], [1, np.log(4), np.log(4)], rtol=1e-6)
    np.testing.assert_allclose(found[1, 0], [1, np.log(5), 0], rtol=1e-6)
    assert (found[0, 1] == 0).all()
    assert (found[1, 1:] == 0).all()
    nobody = Known(*(np.zeros((2, 0), int),) * 3)
    assert (own_habit(nobody, np.array([[1], [2]])) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_candidates_own_past_reaches_its_score_without_a_detour(split, kind):
    model = ac.Ranker(dataclasses.replace(SMALL, attention=kind), split).eval()
    torch.nn.init.zeros_(model.output[-1].weight)
    batch = model.windows(split.valid.slates).whole(0)
    with torch.no_grad():
        found = model.scores(batch) - (
            model.output[-1].bias + model.base + model.bias[batch.candidates_BN]
        )
    assert batch.own_BN6.any()
    torch.testing.assert_close(
        found, batch.own_BN6 @ model.again.weight[0] + model.again.bias
    )
    assert found.std() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_weights_after_the_log_are_labelled_and_sum_to_one_for_each_candidate(
    split, trained, kind
):
    model = trained[kind]
    frame = model.attention(users=[3, 4], candidates=[100, 101])
    assert set(frame["history"]) == {0, 1}
    sums = frame.groupby(["history", "head", "candidate"])["weight"].sum()
    assert sums.to_numpy() == pytest.approx(1.0, abs=1e-5)
    taken = set(split.log.events.query("user == 3")["item"])
    assert set(frame.query("history == 0")["item"].dropna()) == taken
    (best,) = model.recommend(histories=[[100, 105]])
    asks = model.attention(histories=[[100, 105]])["candidate"]
    assert list(dict.fromkeys(asks)) == best.items


def test_erasure_is_the_fall_of_the_score_without_all_that_was_taken_of_an_item(
    split, trained
):
    model = trained["target"]
    frame = model.erasure(histories=[[100, 105, 100]], candidates=[100, 110])
    whole, without = (
        model.recommend(histories=[past], candidates=[100, 110], exclude_seen=False)[0]
        for past in ([100, 105, 100], [105])
    )
    before, after = (
        dict(zip(p.items, p.scores, strict=True)) for p in (whole, without)
    )
    drops = frame.query("item == 100").set_index("candidate")["drop"]
    assert sorted(frame["item"].unique()) == [100, 105]
    for item in (100, 110):
        assert drops[item] == pytest.approx(before[item] - after[item], abs=1e-5)
    known = model.erasure(users=[3], candidates=[100])
    assert set(known["item"]) == set(split.log.events.query("user == 3")["item"])


def test_slates_of_other_items_are_refused(split):
    moved = dataclasses.replace(split.test, catalogue=Vocabulary(split.items.ids + 1))
    with pytest.raises(ac.DataError, match="the model was made for the 41 of shop"):
        ac.evaluate(ac.Ranker(SMALL, split), moved)


def test_a_seed_leaves_all_generators_as_they_were(split, monkeypatch):
    def seeded(*given):
        raise AssertionError("the generators of GPUs are seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    before = torch.get_rng_state()
    first, same, other = (ac.Ranker(SMALL, split, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [model.item.id.weight for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
