import numpy as np
import pytest
import torch
from two_stage import TwoStage

import attncore as ac


class Fixed:
    """Scores every row alike."""

    def __init__(self, scores):
        self.scores = torch.tensor(scores)

    def score(self, histories, users=None):
        return self.scores.repeat(len(histories), 1)


def test_the_second_ranks_what_the_first_proposes_and_the_rest_comes_after(split):
    items = len(split.items)
    first, second = torch.arange(items).float(), -torch.arange(items).float()
    rows = split.valid.histories.take(np.array([0]))
    scores = TwoStage(
        Fixed(first.tolist()), Fixed(second.tolist()), keep=3, exclude_seen=False
    ).score(rows)[0]
    order = torch.argsort(scores, descending=True).tolist()
    assert order == [items - 3, items - 2, items - 1, *range(items - 4, -1, -1)]


def test_what_was_seen_takes_no_place_among_the_proposed(split):
    rows = split.valid.histories.take(np.arange(5))
    scorer = TwoStage(
        ac.baselines.Popularity(split), ac.baselines.MarkovChain(split), keep=2
    )
    proposed = scorer.proposed(rows)
    assert proposed.sum(1).tolist() == [2] * 5
    for row in range(5):
        assert not proposed[row, rows[row].astype(np.int64) - 1].any()


def test_proposing_everything_is_the_second_alone(split):
    second = ac.baselines.MarkovChain(split)
    both = TwoStage(ac.baselines.Popularity(split), second, keep=len(split.items))
    assert (
        ac.evaluate(both, split.test).metrics["ndcg@10"]
        == ac.evaluate(second, split.test).metrics["ndcg@10"]
    )


def test_no_proposals_are_refused(split):
    with pytest.raises(ValueError, match="keep=0: must be at least 1"):
        TwoStage(ac.baselines.Popularity(split), ac.baselines.Popularity(split), keep=0)
