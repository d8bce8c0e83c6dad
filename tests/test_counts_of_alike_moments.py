"""Alike moments of the training histories, in items or states, and what came next."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import rhythm_log

import attncore as ac
from attncore import counts
from attncore.counts import DECAY, RARE, SMALL, Memory, Neighbours, newest_at
from attncore.errors import DataError
from attncore.sequences import Histories

ROWS = [[1, 2, 3, 2, 5], [2, 3, 4], [4], [1, 3, 2, 4, 1], []]
CONFIG = ac.RecommenderConfig(width=8, length=8, neighbours=4)
REMEMBERS = ac.RecommenderConfig(width=8, length=8, memory_weight=0.5)
SPLIT = ac.leave_one_out(rhythm_log())


def votes_by_hand(newest: list[int], items: int) -> np.ndarray:
    """Every moment of every history is compared with the newest items."""
    taken = np.bincount(np.concatenate([np.array(row, int) for row in ROWS]))
    votes = np.zeros(items + 1)
    for row in ROWS:
        for place in range(len(row) - 1):
            alike = sum(
                DECAY ** max(a, b) / taken[item] ** RARE
                for a, item in enumerate(newest)
                for b in range(min(len(newest), place + 1))
                if item and item == row[place - b]
            )
            votes[row[place + 1]] += alike**2
    votes[newest] = 0
    return votes[1:]


@pytest.mark.parametrize("at_once", [2**22, 1])
def test_votes_are_those_of_a_comparison_with_every_moment(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "AT_ONCE", at_once)
    asked = [[3, 2, 1], [2, 3, 0], [5, 0, 0], [0, 0, 0]]
    found = Neighbours(Histories.from_lists(ROWS), 5, 3, 0.3)(torch.tensor(asked))
    for newest, logits in zip(asked, found, strict=True):
        votes = votes_by_hand(newest, 5)
        share = votes / max(votes.sum(), 1e-12)
        expected = 0.3 * np.log1p(share / SMALL)
        np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_of_a_large_log_some_histories_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every_second = Histories.from_lists(ROWS[::2])
    asked = torch.tensor([[3, 2, 1], [2, 3, 0]])
    expected = Neighbours(every_second, 5, 3, 0.3)(asked)
    monkeypatch.setattr(counts, "KEPT", 10)
    found = Neighbours(Histories.from_lists(ROWS), 5, 3, 0.3)(asked)
    torch.testing.assert_close(found, expected)


def test_newest_items_at_a_place() -> None:
    items = torch.tensor([[1, 2, 3], [4, 0, 0], [0, 0, 0]])
    found = newest_at(items, torch.tensor([2, 0, -1]), 2)
    assert found.tolist() == [[3, 2], [4, 0], [0, 0]]


def test_a_loaded_run_seeks_in_the_same_histories(tmp_path: Path) -> None:
    model = ac.Recommender(CONFIG, SPLIT, seed=1)
    asked = SPLIT.test.histories
    expected = model.score(asked)
    model.save(tmp_path)
    torch.testing.assert_close(ac.load(tmp_path).score(asked), expected)
    plain = ac.Recommender(replace(CONFIG, neighbours=0), SPLIT, seed=1)
    assert (expected - plain.score(asked)).max() > 1


def test_a_log_on_disk_is_refused(tmp_path: Path) -> None:
    on_disk = np.memmap(tmp_path / "items", np.int32, "w+", shape=3)
    histories = Histories(on_disk, np.array([0, 3]), np.zeros(3, np.int64))
    with pytest.raises(DataError, match="neighbours=4: looks histories up in memory"):
        Neighbours(histories, 5, 4, 0.3)
    with pytest.raises(DataError, match=r"memory_weight=0\.3: looks histories up"):
        Memory(histories, 5, 0.3)


@pytest.mark.parametrize("at_once", [2**25, 1])
def test_the_nearest_states_vote_for_what_came_next(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "NEAREST", 3)
    monkeypatch.setattr(counts, "COSINES", at_once)
    memory = Memory(Histories.from_lists(ROWS), 5, 0.3)
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 2.0])
    key_PD = torch.stack([angles.cos(), angles.sin()], 1)
    follow_P = torch.tensor([2, 4, 2, 5, 3])
    # Their lengths do not matter.
    memory.keep([(3 * key_PD[:2], follow_P[:2]), (key_PD[2:] / 2, follow_P[2:])])
    found = memory(5 * key_PD[:1].expand(2, -1))
    weight = np.exp(np.cos([0.0, 0.1, 0.2]) / counts.SHARPNESS)
    share = (weight - weight[2]) / weight.sum()  # the farthest of the three has none
    expected = np.zeros(5)
    expected[[1, 3]] = share[:2]
    expected = 0.3 * np.log1p(expected / SMALL)
    np.testing.assert_allclose(found, np.stack([expected, expected]), rtol=1e-4)


def test_nothing_to_remember_adds_nothing() -> None:
    memory = Memory(Histories.from_lists(ROWS), 5, 0.3)
    assert memory(torch.randn(2, 4)).tolist() == [[0] * 5] * 2
    memory.keep([(torch.randn(3, 4), torch.tensor([1, 2, 3]))])
    assert memory(torch.randn(2, 4)).max() > 0
    memory.keep([])
    assert memory(torch.randn(2, 4)).tolist() == [[0] * 5] * 2


def test_every_moment_of_training_is_remembered_with_what_came_next() -> None:
    model = ac.Recommender(REMEMBERS, SPLIT, seed=1).eval()
    train = SPLIT.train
    assert len(model.memory.next_P) == (train.lengths - 1).clip(0).sum()
    row = int(np.flatnonzero(train.lengths > 3)[0])
    history = train.items[train.offsets[row] : train.offsets[row + 1]]
    batch = model.windows(Histories.from_lists([history[:3]])).batch(np.arange(1))
    state_D = torch.nn.functional.normalize(model.states(batch)[0, 2], dim=-1)
    same = torch.isclose(model.memory.key_PD, state_D, atol=1e-5).all(1)
    assert history[3] in model.memory.next_P[same]


def test_a_model_remembers_by_the_weights_that_it_is_asked_with(
    tmp_path: Path,
) -> None:
    model = ac.Recommender(REMEMBERS, SPLIT, seed=1)
    forgetful = ac.Recommender(replace(REMEMBERS, memory_weight=0), SPLIT, seed=1)
    asked = SPLIT.test.histories
    torch.testing.assert_close(model.score(asked), forgetful.score(asked))
    model.eval()
    first = model.score(asked)
    assert (first - forgetful.score(asked)).max() > 0.5
    run = ac.fit(model, SPLIT, ac.TrainingConfig(epochs=1, progress=False))
    learned = model.score(asked)
    other = ac.Recommender(REMEMBERS, SPLIT, seed=2)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.eval().score(asked), learned)
    assert run.valid.metrics == ac.evaluate(model, SPLIT.valid).metrics
    model.save(tmp_path)
    torch.testing.assert_close(ac.load(tmp_path).score(asked), learned)
    assert len(model.train().memory.next_P) == 0


def test_who_has_no_history_asks_no_memory() -> None:
    model = ac.Recommender(REMEMBERS, SPLIT, seed=1).eval()
    nobody = Histories.from_lists([[]])
    before = ac.Recommender(REMEMBERS, SPLIT, seed=1).score(nobody)
    torch.testing.assert_close(model.score(nobody), before)
