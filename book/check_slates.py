"""Checkers for the exercises of the chapter on promotions; see `check.py`, whose rules
hold here too."""

import math
from collections.abc import Callable

import torch
from answers import checker
from check import _ask, _same
from torch import Tensor

from attncore import attention


@checker
def slate_ndcg(my_ndcg: Callable[[Tensor, set[int], int], float]) -> str:
    """`my_ndcg(scores, taken, k)`: NDCG@k of one slate whose scores all differ."""
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.3])
    for taken, k in (
        ({1}, 5),
        ({3}, 1),
        ({0}, 2),
        ({1, 2}, 5),
        ({2, 0}, 3),
        ({0, 1, 2, 3}, 2),
    ):
        places = [int((scores > scores[i]).sum()) + 1 for i in sorted(taken)]
        gains = [1 / math.log2(1 + place) for place in places if place <= k]
        best = [1 / math.log2(1 + place) for place in range(1, min(k, len(taken)) + 1)]
        right, answer = (
            sum(gains) / sum(best),
            float(my_ndcg(scores.clone(), set(taken), k)),
        )
        case = f"taken {sorted(taken)}, k={k}"
        assert (
            len(taken) == 1
            or not math.isclose(answer, sum(gains), abs_tol=1e-6)
            or math.isclose(sum(best), 1)
        ), (
            f"{case}: {answer:.3f} is the gain alone: divide by the gain of the best"
            " order"
        )
        every = sum(1 / math.log2(1 + place) for place in range(1, len(taken) + 1))
        assert math.isclose(right, sum(gains) / every) or not math.isclose(
            answer, sum(gains) / every, abs_tol=1e-6
        ), f"{case}: {answer:.3f}; the best order, too, has only k places"
        uncut = sum(1 / math.log2(1 + place) for place in places) / sum(best)
        assert math.isclose(right, uncut) or not math.isclose(
            answer, uncut, abs_tol=1e-6
        ), f"{case}: {answer:.3f}; what stands below place k earns nothing"
        assert math.isclose(answer, right, abs_tol=1e-6), (
            f"{case}: {answer:.3f}, not {right:.3f}"
        )
    return "Right: the gain within k places, over the gain of the best order."


@checker
def match_bias(my_bias: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """`my_bias(candidates, past, shared)` from codes (N, F) and (K, F) and one number a
    thing (F,): (N, K)."""
    candidates = torch.tensor([[7, 1, 2], [8, 1, 3]])
    past = torch.tensor([[7, 1, 2], [9, 1, 3], [5, 4, 4]])
    shared = torch.tensor([1.0, 2.0, 4.0])
    right = torch.tensor([[7.0, 2.0, 0.0], [2.0, 6.0, 0.0]])
    answer = _ask(my_bias, candidates, past, shared)
    assert answer.shape != (3, 2), "a row must be a candidate, a column a past item"
    assert answer.shape == (
        2,
        3,
    ), f"shape {tuple(answer.shape)}; 2 candidates against 3 past items give (2, 3)"
    assert not _same(answer, (candidates[:, None] == past).float().sum(-1)), (
        "this counts what is shared: weigh each thing by its number in `shared`"
    )
    assert not _same(answer, 7 - right), "this weighs what differs: compare with =="
    assert _same(answer, right), f"bias\n{answer}\nshould be\n{right}"
    return "Right: for each pair, the numbers of all things that they share, added up."


@checker
def among_all(my_probability: Callable[[float, int, int], float]) -> str:
    """`my_probability(said, drawn, others)`: what a model means that saw `drawn` of
    `others` that were not taken."""
    for said, drawn, others in (
        (0.5, 10, 1000),
        (0.9, 64, 3600),
        (0.2, 5, 5),
        (0.01, 64, 3600),
    ):
        odds = said / (1 - said) * drawn / others
        right, answer = odds / (1 + odds), float(my_probability(said, drawn, others))
        case = f"said {said}, {drawn} of {others} drawn"
        wrong_way = said / (1 - said) * others / drawn
        assert math.isclose(right, wrong_way / (1 + wrong_way)) or not math.isclose(
            answer, wrong_way / (1 + wrong_way), rel_tol=1e-6
        ), (
            f"{case}: {answer:.3f}, the wrong way round: among all there are more that"
            " were not taken, so it falls"
        )
        assert math.isclose(right, said * drawn / others) or not math.isclose(
            answer, said * drawn / others, rel_tol=1e-6
        ), f"{case}: it is the odds p / (1 - p) that shrink, not the probability"
        assert math.isclose(right, odds) or not math.isclose(
            answer, odds, rel_tol=1e-6
        ), f"{case}: these are odds: turn them back into a probability"
        assert math.isclose(answer, right, rel_tol=1e-6), (
            f"{case}: {answer:.5f}, not {right:.5f}"
        )
    return "Right: odds shrink by the share that was drawn."


@checker
def review_ranking(my_rank: Callable[[Tensor, list[Tensor]], list[int]]) -> str:
    """`my_rank(user, reviews)`: numbers of the reviews, best first, by attention of the
    user over each one's words."""
    user = torch.tensor([2.0, 0.0, 0.5])
    dull, sharp = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([3.0, 0.0, 0.0])
    # One word that speaks to this user, among five.
    reviews = [
        torch.stack([dull, dull, dull]),
        torch.stack([dull, dull, dull, dull, dull, sharp]),
        torch.tensor([[0.9, 0.0, 0.0], [0.9, 0.2, 0.0]]),
        torch.tensor([[-2.0, 0.0, 1.0]]),
    ]
    scores = []
    for words in reviews:
        attended, _ = attention.attend(user[None], words, words)
        scores.append(float(attended[0] @ user))
    right = sorted(range(len(reviews)), key=lambda r: -scores[r])
    answer = [
        int(r) for r in my_rank(user.clone(), [words.clone() for words in reviews])
    ]
    assert sorted(answer) == [
        0,
        1,
        2,
        3,
    ], f"{answer}: each of the four reviews must stand once"
    assert answer != right[::-1], "the worst stands first: sort by falling score"
    means = sorted(range(len(reviews)), key=lambda r: -float(reviews[r].mean(0) @ user))
    assert answer != means, (
        "that is the order of the plain means: let the user's vector weigh the words"
        " first"
    )
    assert answer == right, (
        f"{answer}, not {right}: attend with the user as query, the words as keys and"
        " values"
    )
    return "Right: one word that speaks to the user outweighs five that do not."
