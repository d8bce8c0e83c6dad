"""Counts of what followed, as a prior of the next item."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import rhythm_log

import attncore as ac
from attncore import counts
from attncore.counts import FADING, SMALL, FollowerCounts, RecentCounts
from attncore.output import Criterion
from attncore.sequences import Histories

CONFIG = ac.RecommenderConfig(width=8, length=8, dropout=0.0, prior=2)
SPLIT = ac.leave_one_out(rhythm_log())
GENRES = pd.DataFrame({"item": range(500, 512), "genre": [("a",), ("b", "c")] * 6})
TABLED = ac.leave_one_out(ac.Interactions.from_frame(rhythm_log().events, items=GENRES))
HISTORIES = Histories.from_lists([[1, 2, 3, 2], [2, 3], [4], [1, 3, 2]])


def share(newest: list[int], item: int, own: bool) -> float:
    """The mean share at lags 1 and 2, counted by hand; `own` leaves one event out."""
    rows = [[1, 2, 3, 2], [2, 3], [4], [1, 3, 2]]
    found = 0.0
    for lag, (asked, weight) in enumerate(zip(newest, (2 / 3, 1 / 3), strict=True), 1):
        pairs = [(r[i], r[i + lag]) for r in rows for i in range(len(r) - lag)]
        after = [second for first, second in pairs if first == asked]
        if asked and len(after) > own:
            found += weight * (after.count(item) - own) / (len(after) - own)
    return max(found, 0.0)


@pytest.mark.parametrize("dense", [2**26, 0])
@pytest.mark.parametrize("newest", [[2, 1], [3, 0], [4, 2], [0, 0]])
def test_shares_are_those_counted_by_hand(
    newest: list[int], dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "DENSE", dense)
    prior = FollowerCounts(HISTORIES, 4, 2)
    assert (prior.table is None) == (dense == 0)
    found = prior(torch.tensor([newest]))[0]
    expected = [np.log1p(share(newest, item, False) / SMALL) for item in range(1, 5)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("dense", [2**26, 0])
def test_a_trained_position_is_not_in_its_own_counts(
    dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "DENSE", dense)
    prior = FollowerCounts(HISTORIES, 4, 2)
    others = Histories.from_lists([[2, 3], [4], [1, 3, 2]])
    newest = torch.tensor([[3, 2]])  # the first history's last question
    found = prior(newest, torch.tensor([2]))
    torch.testing.assert_close(found, FollowerCounts(others, 4, 2)(newest))


def test_newest_items_at_each_event() -> None:
    prior = FollowerCounts(HISTORIES, 4, 3)
    found = prior.newest(torch.tensor([[1, 2, 3]]))
    assert found.tolist() == [[[1, 0, 0], [2, 1, 0], [3, 2, 1]]]


def test_the_loss_is_cross_entropy_of_scores_and_priors_and_trains_scales() -> None:
    model = ac.Recommender(replace(CONFIG, recent=True), SPLIT, seed=1).eval()
    for parameter in model.recent.parameters():  # so that groups differ
        torch.nn.init.uniform_(parameter)
    batch = model.windows(SPLIT.train, targets=True).batch(np.arange(5))
    target_N = batch.targets_BT.flatten()[batch.real_N]
    priors = model._priors(batch, target_N)
    torch.nn.init.uniform_(model.output.bias)
    scales = model.followers.scale, model.output.bias, *model.recent.parameters()
    criterion = Criterion("full", 1, 0, 0, torch.ones(len(SPLIT.items)), 0.1)
    lean = model.loss(batch, criterion)
    grads = torch.autograd.grad(lean, scales)

    states_ND = model.states(batch).flatten(0, 1)[batch.real_N]
    _, group_N = model._pauses(batch, 0)
    scores_NV = states_ND @ model.item.catalogue().T + model.output.catalogue_bias()
    scores_NV = scores_NV * model.recent.trust_G[group_N, None]
    assert len(priors) == 1 + len(FADING)
    for prior in priors:
        scores_NV = scores_NV + prior.scale * prior.logits(slice(None))
    how = {"reduction": "sum", "label_smoothing": 0.1}
    plain = torch.nn.functional.cross_entropy(scores_NV, target_N - 1, **how)
    torch.testing.assert_close(lean, plain)
    exact = torch.autograd.grad(plain, scales)
    torch.testing.assert_close(grads, exact, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dense", [2**26, 0])
def test_a_saved_run_keeps_its_counts(
    dense: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(counts, "DENSE", dense)
    model = ac.Recommender(CONFIG, SPLIT, seed=1)
    asked = SPLIT.test.histories
    expected = model.score(asked)
    model.save(tmp_path)
    torch.testing.assert_close(ac.load(tmp_path).score(asked), expected)
    with torch.no_grad():
        model.followers.scale.zero_()
    assert (model.score(asked) - expected).abs().max() > 0.1


def test_new_items_are_in_no_counts() -> None:
    model = ac.Recommender(replace(CONFIG, item_features=("genre",)), TABLED, seed=1)
    new = pd.DataFrame({"genre": ["a"]}, index=[900])
    bigger = model.with_items(new)
    history = [model.split.items.ids[:3].tolist()]
    newest = torch.tensor([[3, 2]])
    known = len(model.split.items)
    torch.testing.assert_close(
        bigger.followers(newest)[:, :known], model.followers(newest)
    )
    assert bigger.followers(newest)[0, known] == 0
    assert len(bigger.recommend(histories=history, k=50)[0].items) == known - 2


def test_what_it_cannot_be_trained_with_is_said() -> None:
    model = ac.Recommender(CONFIG, SPLIT)
    with pytest.raises(ValueError, match="prior=2: needs the full loss, not 'bce'"):
        ac.fit(model, SPLIT, ac.TrainingConfig(loss="bce", progress=False))
    with pytest.raises(ValueError, match="prior=2: needs one state"):
        ac.RecommenderConfig(attention="target", prior=2)
    model = ac.Recommender(replace(CONFIG, prior=0, recent=True), SPLIT)
    with pytest.raises(ValueError, match="recent=True: needs the full loss, not 'bce'"):
        ac.fit(model, SPLIT, ac.TrainingConfig(loss="bce", progress=False))


def test_what_was_popular_is_what_was_taken_before_and_fades() -> None:
    rows = [[1, 2, 1], [3, 1]]
    when = np.array([0, 10, 20, 5, 30])
    histories = replace(Histories.from_lists(rows), times=when)
    recent = RecentCounts(histories, 3)  # in time: 1, 3, 2, 1, 1, each a bucket
    before = recent.before(torch.tensor([0, 5, 9, 30, 99]))
    assert before.tolist() == [0, 1, 1, 4, 4]
    for log_WV, rate in zip(recent.log_FWV, FADING, strict=True):
        left = np.exp(-1 / max(rate * 5, 1))
        weight = left ** np.arange(3, -1, -1)  # of 1, 3, 2, 1 as the last one is taken
        share = np.array([weight[0] + weight[3], weight[2], weight[1]]) / weight.sum()
        assert log_WV[0].tolist() == [0, 0, 0]
        np.testing.assert_allclose(log_WV[4], np.log1p(share / SMALL), rtol=1e-5)
        share = np.array([left**4 + left + 1, left**2, left**3])
        share /= share.sum()
        np.testing.assert_allclose(log_WV[5], np.log1p(share / SMALL), rtol=1e-5)


def test_the_pause_before_the_event_asked_for_chooses_the_scale() -> None:
    histories = replace(Histories.from_lists([[1, 2, 1]]), times=np.array([0, 5, 9]))
    recent = RecentCounts(histories, 2)
    hour, day = 3600, 86400
    pauses = torch.tensor([-5, 0, hour - 1, hour, day, 7 * day, 40 * day])
    assert recent.group(pauses).tolist() == [0, 0, 0, 1, 2, 3, 4]
    for parameter in recent.parameters():
        torch.nn.init.uniform_(parameter)
    trust, found = recent(torch.tensor([9, 9 - 2 * day]))
    torch.testing.assert_close(trust, recent.trust_G[[0, 2], None])
    for row, group in zip(found, (0, 2), strict=True):
        logits_FV = recent.scale_FG[:, group, None] * recent.log_FWV[:, -1]
        torch.testing.assert_close(row, logits_FV.sum(0))


def test_a_trained_position_does_not_know_what_becomes_popular_with_it() -> None:
    model = ac.Recommender(replace(CONFIG, prior=0, recent=True), SPLIT, seed=1)
    batch = model.windows(SPLIT.train, targets=True).batch(np.arange(3))
    asked_N = batch.asked_BT.flatten()[batch.real_N]
    at_N = batch.times_BT.flatten()[batch.real_N]
    assert (asked_N > at_N).all()
    begins = model.recent.begin_W
    bucket_N = model.recent.before(asked_N)
    assert (begins[bucket_N] <= asked_N).all()
    times = torch.from_numpy(SPLIT.train.times)
    known = [(times < begins[bucket]).sum() for bucket in bucket_N]
    assert max(known) < len(times)
    priors = model._priors(batch, asked_N)
    for prior, log_WV in zip(priors, model.recent.log_FWV, strict=True):
        torch.testing.assert_close(prior.logits(slice(None)), log_WV[bucket_N])


def test_who_asks_is_told_what_is_popular_as_training_ends(tmp_path: Path) -> None:
    config = replace(CONFIG, prior=0, recent=True)
    model = ac.Recommender(config, SPLIT, seed=1)
    plain = ac.Recommender(replace(config, recent=False), SPLIT, seed=1)
    asked = SPLIT.test.histories
    newest = torch.from_numpy(asked.times[asked.offsets[1:] - 1])
    torch.nn.init.uniform_(model.recent.trust_part_G)
    trust, popular = model.recent(newest)
    torch.nn.init.uniform_(model.output.bias)
    plain.load_state_dict(model.state_dict(), strict=False)
    expected = plain.score(asked) * trust + popular
    torch.testing.assert_close(model.score(asked), expected)
    model.save(tmp_path)
    torch.testing.assert_close(ac.load(tmp_path).score(asked), expected)
