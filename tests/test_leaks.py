"""Nothing of the answer, of what comes later, or of padding reaches a training."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from shop import shop_log

import attncore as ac
from attncore import training
from attncore.batches import Sampler, Windows
from attncore.distributed import Group
from attncore.optim import LossOf, backward
from attncore.output import Criterion
from attncore.ranking.batches import CLICKED_AT_MOST, SlateWindows, fit_situation
from attncore.sequences import Histories

SMALL = ac.RankerConfig(width=16, heads=2, length=50, dropout=0.0)


@pytest.fixture(scope="module")
def shop():
    return ac.split_by_time(shop_log(), valid=0.2, test=0.2)


def test_training_goes_on_in_training_mode_after_validation(
    split, small, quick, monkeypatch
):
    modes, step = [], training.Trainer.train_step

    def watched(self, *given):
        modes.append(self.model.training)
        step(self, *given)

    monkeypatch.setattr(training.Trainer, "train_step", watched)
    ac.fit(ac.Recommender(small, split), split, quick)
    assert modes == [True] * 6


def test_a_stopped_training_goes_on_to_the_same_weights(
    split, small, quick, tmp_path, monkeypatch
):
    """It stops in the middle of the second epoch, and its newest checkpoint is from
    there; 3 steps an epoch."""
    small = dataclasses.replace(small, dropout=0.3)
    config = dataclasses.replace(
        quick, epochs=3, checkpoint_every=1, ema=0.9, lr=1e-2, warmup=0
    )
    ac.fit(ac.Recommender(small, split), split, config, tmp_path / "whole")
    step = training.Trainer.train_step

    def stopping(self, *given):
        if self.step == 4:
            raise RuntimeError("power cut")
        step(self, *given)

    monkeypatch.setattr(training.Trainer, "train_step", stopping)
    with pytest.raises(RuntimeError, match="power cut"):
        ac.fit(ac.Recommender(small, split), split, config, tmp_path / "run")
    monkeypatch.undo()
    torch.manual_seed(99)
    again = ac.Recommender(small, split, seed=9)
    ac.fit(again, split, config, tmp_path / "run", resume=True)
    whole, run = (
        torch.load(max((tmp_path / name / "checkpoints").glob("*")), weights_only=True)
        for name in ("whole", "run")
    )
    assert whole["step"] == run["step"] == 9
    for a, b in zip(whole["average"], run["average"], strict=True):
        assert torch.equal(a, b)
    for part in ("model", "best"):
        for name, weight in whole[part].items():
            assert torch.equal(weight, run[part][name]), (part, name)


def test_the_learning_rate_falls_to_a_tenth(split, small, quick):
    config = dataclasses.replace(quick, epochs=4, lr=1e-2)
    run = ac.fit(ac.Recommender(small, split), split, config)
    rates = [entry["lr"] for entry in run.epochs]
    assert rates == sorted(rates, reverse=True)
    assert 1e-3 < rates[-1] < 1.5e-3


def test_parts_of_different_sizes_weigh_as_their_positions(split, small):
    rows, losses, gradients = np.arange(12), [], []
    for parts in ([rows], [rows[:1], rows[1:]]):
        model = ac.Recommender(small, split).eval()
        windows = Windows(split.train, 8, targets=True)
        counts = torch.from_numpy(split.item_counts)
        loss_of = LossOf(model, Criterion("full", 16, 0.0, 0.0, counts))
        batches = [windows.batch(part) for part in parts]
        positions = int(windows.lengths[rows].sum())
        losses.append(float(backward(loss_of, batches, positions, torch.float32)))
        gradients.append(model.item.id.weight.grad)
    assert losses[0] == pytest.approx(losses[1])
    torch.testing.assert_close(*gradients)


def test_an_input_has_its_own_attributes_and_its_target_the_situation():
    numbers = np.arange(10, 15, dtype=np.int32)
    histories = Histories(
        np.arange(1, 6, dtype=np.int32),
        np.array([0, 5]),
        np.arange(5),
        {"rating": numbers},
    )
    windows = Windows(histories, 3, targets=True, situation={"hour": numbers})
    batch = windows.batch(np.array([0]))
    assert batch.items_BT.tolist() == [[2, 3, 4]]
    assert batch.targets_BT.tolist() == [[3, 4, 5]]
    assert batch.attributes["rating"].tolist() == [[11, 12, 13]]
    assert batch.situation["hour"].tolist() == [[12, 13, 14]]


def test_random_windows_reach_the_newest_and_the_oldest_events():
    histories = Histories.from_lists([[1, 2, 3, 4, 5]] * 40)
    windows = Windows(histories, 2, targets=True)
    config = ac.TrainingConfig(epochs=1, windows="random")
    sampler = Sampler(windows, config, Group(torch.device("cpu")))
    ((parts, _),) = sampler.steps(0)
    seen = {tuple(row) for part in parts for row in part.items_BT.tolist()}
    assert seen == {(1, 2), (2, 3), (3, 4)}


def test_what_was_seen_stays_hidden_among_candidates(split, small):
    model = ac.Recommender(small, split)
    user = split.users.ids[0]
    seen = set(split.items.decode(split.histories[0]).tolist())
    candidates = split.items.ids[3:].tolist()
    assert seen & set(candidates)
    (found,) = model.recommend(
        users=[user], k=20, candidates=candidates, exclude_seen=True
    )
    assert set(found.items) == set(candidates) - seen


def test_the_seed_deals_the_users_of_a_user_split(log):
    asked = [ac.split_by_user(log, seed=seed).test.users.tolist() for seed in (0, 0, 1)]
    assert asked[0] == asked[1] != asked[2]


def test_a_batch_of_slates_holds_nothing_of_its_moment(shop):
    slates, h = shop.slates, shop.histories
    for row in (len(slates) // 2, len(slates) - 1):
        future = h.times >= slates.times[row]
        items = np.where(future, (h.items % len(shop.items)) + 1, h.items)
        assert (items != h.items).any()
        rewritten = dataclasses.replace(
            slates,
            histories=Histories(
                items.astype(np.int32), h.offsets, h.times, h.attributes
            ),
        )
        one, other = (
            SlateWindows(each, (), 50).whole(row) for each in (slates, rewritten)
        )
        for field in ("items_BT", "counts_BT", "ages_BT", "own_BN6", "popularity_BN2"):
            assert torch.equal(getattr(one, field), getattr(other, field)), field


def test_an_item_is_known_once_however_often_it_was_taken(shop):
    slates = shop.slates
    known = slates.known(slates.users, slates.stops, slates.times, 10_000)
    assert known.counts.max() > 1
    for items in known.items:
        past = items[items > 0]
        assert len(np.unique(past)) == len(past)


def test_own_habit_of_a_batch_is_that_of_the_whole_past(shop):
    row = len(shop.slates) - 1
    whole, newest = (
        SlateWindows(shop.slates, (), length).whole(row) for length in (10_000, 1)
    )
    assert newest.items_BT.shape == (1, 1)
    assert (whole.own_BN6[..., 0] > 0).sum() > 1
    assert torch.equal(whole.own_BN6, newest.own_BN6)


def test_categories_of_the_situation_are_those_of_training(shop):
    (week,) = fit_situation(shop, ["week"])
    slates = shop.slates
    early = slates.times < shop.valid.protocol["valid_from"]
    weeks = slates.situation["week"].to_numpy()[slates.lists[early]]
    assert set(week.values) == {str(number) for number in weeks}
    assert len(week.values) < slates.situation["week"].nunique()


def test_a_drawn_slates_correction_is_how_much_likelier_a_click_is_drawn(shop):
    slates, rows = shop.slates, np.arange(0, 200, 17)
    batch = SlateWindows(slates, (), 50, users=30, drawn=20).drawn_from(rows)
    for number, row in enumerate(rows.tolist()):
        size, many = len(slates.items[slates.list_of(row)]), len(slates.clicked_of(row))
        often = min(1, CLICKED_AT_MOST / many) / (20 / size)
        found = batch.correction_BN[number].tolist()
        assert found == pytest.approx([math.log(often)] * len(found), abs=1e-6)


def test_padded_candidates_have_no_loss(shop):
    model = ac.Ranker(SMALL, shop).eval()
    windows = SlateWindows(shop.slates, model.features.situation, 50, users=30)
    batch = windows.drawn_from(np.arange(0, 200, 17))
    real = batch.candidates_BN > 0
    assert not real.all()
    scores = model.scores(batch) + batch.correction_BN
    by_hand = F.softplus(scores) - scores * batch.clicked_BN
    counts = torch.from_numpy(shop.item_counts)
    found = model.loss(batch, Criterion("bce", 16, 0.0, 0.0, counts))
    torch.testing.assert_close(found, by_hand[real].sum())


def test_a_slate_scores_alike_alone_and_beside_a_longer_past(shop):
    model = ac.Ranker(SMALL, shop).eval()
    windows = SlateWindows(shop.slates, model.features.situation, 50, users=30)
    rows = np.array([40, len(shop.slates) - 1])
    batch = windows.drawn_from(rows)
    past = (batch.items_BT > 0).sum(1)
    assert past[0] < past[1]
    scores = model.scores(batch)
    for number, row in enumerate(rows.tolist()):
        items = shop.slates.items[shop.slates.list_of(row)].tolist()
        alone = dict(zip(items, model.score_slate(shop.slates, row), strict=True))
        for item, score in zip(
            batch.candidates_BN[number].tolist(), scores[number].tolist(), strict=True
        ):
            assert item == 0 or score == pytest.approx(float(alone[item]), abs=1e-5)


def test_a_ranker_begins_at_the_share_of_training(shop):
    slates, before = shop.slates, shop.valid.protocol["valid_from"]
    rows = np.flatnonzero(slates.times < before)
    clicked = sum(len(slates.clicked_of(row)) for row in rows)
    shown = sum(len(slates.items[slates.list_of(row)]) for row in rows)
    base = float(ac.Ranker(SMALL, shop).base.detach())
    assert base == pytest.approx(math.log(clicked / (shown - clicked)), abs=1e-6)


def test_a_ranker_leaves_out_what_was_seen_where_asked(shop):
    model = ac.Ranker(SMALL, shop)
    seen = set(shop.items.decode(shop.histories[3]).tolist())
    every, fresh = (
        model.recommend(users=[3], k=40, exclude_seen=leave_out)[0].items
        for leave_out in (False, True)
    )
    assert fresh == [item for item in every if item not in seen]
    assert 0 < len(fresh) < len(every)
    kept = model.recommend(users=[3], k=40, exclude=every[:2], exclude_seen=False)
    assert kept[0].items == every[2:]
