"""Alike moments in the training histories, and what came next there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import rhythm_log

import attncore as ac
from attncore import counts
from attncore.counts import DECAY, RARE, SMALL, Neighbours, newest_at
from attncore.errors import DataError
from attncore.sequences import Histories

ROWS = [[1, 2, 3, 2, 5], [2, 3, 4], [4], [1, 3, 2, 4, 1], []]
CONFIG = ac.RecommenderConfig(width=8, length=8, neighbours=4)
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
