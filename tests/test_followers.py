"""Counts of what followed, as a prior of the next item."""

import numpy as np
import pytest
import torch

from attncore import followers
from attncore.followers import SMALL, Followers
from attncore.sequences import Histories

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
    monkeypatch.setattr(followers, "DENSE", dense)
    prior = Followers(HISTORIES, 4, 2)
    assert (prior.table is None) == (dense == 0)
    found = prior(torch.tensor([newest]))[0]
    expected = [np.log1p(share(newest, item, False) / SMALL) for item in range(1, 5)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("dense", [2**26, 0])
def test_a_trained_position_is_not_in_its_own_counts(
    dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "DENSE", dense)
    prior = Followers(HISTORIES, 4, 2)
    others = Histories.from_lists([[2, 3], [4], [1, 3, 2]])
    newest = torch.tensor([[3, 2]])  # the first history's last question
    found = prior(newest, torch.tensor([2]))
    torch.testing.assert_close(found, Followers(others, 4, 2)(newest))


def test_newest_items_at_each_event() -> None:
    prior = Followers(HISTORIES, 4, 3)
    found = prior.newest(torch.tensor([[1, 2, 3]]))
    assert found.tolist() == [[[1, 0, 0], [2, 1, 0], [3, 2, 1]]]
