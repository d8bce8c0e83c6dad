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
from attncore.counts import SMALL, FollowerCounts
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


def test_the_loss_is_cross_entropy_of_scores_and_prior_and_trains_the_scale() -> None:
    model = ac.Recommender(CONFIG, SPLIT, seed=1).eval()
    batch = model.windows(SPLIT.train, targets=True).batch(np.arange(5))
    prior = model._prior(batch, batch.targets_BT.flatten()[batch.real_N])
    criterion = Criterion("full", 1, 0, 0, torch.ones(len(SPLIT.items)), 0.1)
    lean = model.loss(batch, criterion)
    (grad,) = torch.autograd.grad(lean, prior.scale)

    states_ND = model.states(batch).flatten(0, 1)[batch.real_N]
    scores_NV = states_ND @ model.item.catalogue().T + model.output.catalogue_bias()
    scores_NV = scores_NV + prior.scale * prior.logits(slice(None))
    wanted = prior.target_N - 1
    how = {"reduction": "sum", "label_smoothing": 0.1}
    plain = torch.nn.functional.cross_entropy(scores_NV, wanted, **how)
    torch.testing.assert_close(lean, plain)
    torch.testing.assert_close(grad, torch.autograd.grad(plain, prior.scale)[0])


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
