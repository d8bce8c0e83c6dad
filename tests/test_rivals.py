"""The rivals that `tests/bench/quality.py` measures."""

import numpy as np
import pytest
import torch
from conftest import rhythm_log
from rivals import RIVALS, HistoryNeighbours, ItemNeighbours, taken

import attncore as ac
from attncore.sequences import Histories

SPLIT = ac.leave_one_out(rhythm_log())
ITEMS = len(SPLIT.items)


def plain(histories: Histories) -> np.ndarray:
    found = np.zeros((len(histories), ITEMS))
    for row in range(len(histories)):
        events = slice(histories.offsets[row], histories.offsets[row + 1])
        found[row, histories.items[events] - 1] = 1
    return found


def test_what_was_taken_and_how_lately() -> None:
    histories = Histories.from_lists([[1, 2, 1, 3], [], [2]])
    assert taken(histories, 3).toarray().tolist() == [[1, 1, 1], [0, 0, 0], [0, 1, 0]]
    found = taken(histories, 3, decay=True).toarray()
    assert found.tolist() == [[0.75, 0.5, 1], [0, 0, 0], [0, 1, 0]]


def test_items_that_go_together_speak_for_each_other() -> None:
    rival = ItemNeighbours(SPLIT, most=ITEMS, shrink=2.0)
    known = plain(SPLIT.train)
    together = known.T @ known
    length = np.sqrt(np.diag(together))
    alike = together / (np.outer(length, length) + 2)
    np.fill_diagonal(alike, 0)
    asked = SPLIT.valid.histories
    np.testing.assert_allclose(rival.score(asked), plain(asked) @ alike, rtol=1e-5)
    fewer = ItemNeighbours(SPLIT, most=2).alike_VV.getnnz(axis=0)
    assert fewer.max() < ITEMS - 1


def test_histories_that_share_the_newest_items_vote() -> None:
    rival = HistoryNeighbours(SPLIT, most=3, newest=2)
    known = plain(SPLIT.train)
    rare = np.log(len(known) / np.maximum(known.sum(0), 1) + 1)
    first, second = 4, 7
    asked = np.zeros(ITEMS)
    asked[[first - 1, second - 1]] = 0.5, 1
    alike = known @ (asked * rare)
    alike[alike < np.sort(alike)[-3]] = 0
    expected = (alike @ known) * rare
    found = rival.score(Histories.from_lists([[1, first, second]]))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("name", list(RIVALS))
def test_a_trained_rival_learns_a_rhythm(name: str) -> None:
    config = ac.RecommenderConfig(width=16, length=8, dropout=0.1, positions="newest")
    model = RIVALS[name](config, SPLIT, seed=1)
    how = ac.TrainingConfig(epochs=40, batch_size=8, lr=1e-2, progress=False)
    run = ac.fit(model, SPLIT, how)
    popular = ac.evaluate(ac.baselines.Popularity(SPLIT), SPLIT.valid)
    assert run.valid.metrics["ndcg@10"] > popular.metrics["ndcg@10"] + 0.1


def test_a_gap_is_guessed_from_both_sides_and_not_from_itself() -> None:
    config = ac.RecommenderConfig(width=16, length=8, positions="newest")
    model = RIVALS["bert4rec"](config, SPLIT, seed=1).eval()
    rows = [[1, 2, 3, 4], [1, 5, 3, 4], [1, 2, 3, 6]]
    batch = model.windows(Histories.from_lists(rows)).batch(np.arange(3))
    hidden = torch.zeros(3, 4, dtype=torch.bool)
    hidden[:, 1] = True
    state = model.guesses(batch, hidden)[:, 1]
    torch.testing.assert_close(state[0], state[1])
    assert (state[0] - state[2]).abs().max() > 1e-4
