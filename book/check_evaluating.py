"""Checkers for the exercises of the chapters on evaluating and explaining; see `check`,
whose rules they follow."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from answers import checker
from check import _ask, _same
from torch import Tensor

# --- Evaluating honestly


@checker
def tied_ndcg(my_ndcg: Callable[[int, int, int], float]) -> str:
    """`my_ndcg(above, tied, k)`: expected NDCG@k over the orders of the tied."""
    for above, tied, k in (
        (0, 1, 10),
        (2, 1, 10),
        (0, 3, 10),
        (8, 5, 10),
        (10, 1, 10),
        (0, 100, 1),
    ):
        answer, case = (
            float(my_ndcg(above, tied, k)),
            f"{above} above, {tied} tied, k = {k}",
        )
        gains = [
            1 / math.log2(1 + place) if place <= k else 0.0
            for place in range(above + 1, above + tied + 1)
        ]
        right = sum(gains) / tied
        assert math.isfinite(answer), f"{case}: {answer}; places count from 1"
        if not math.isclose(right, gains[0]):
            assert not math.isclose(answer, gains[0], abs_tol=1e-9), (
                f"{case}: the right item does not win every tie"
            )
            assert not math.isclose(answer, gains[-1], abs_tol=1e-9), (
                f"{case}: nor does it lose every tie"
            )
            middle = above + (tied + 1) / 2
            assert not math.isclose(answer, 1 / math.log2(1 + middle), abs_tol=1e-9), (
                f"{case}: the gain at the mean place is not the mean of the gains"
            )
            assert not math.isclose(answer, sum(gains), abs_tol=1e-9), (
                f"{case}: divide by how many are tied"
            )
        within = sum(gain > 0 for gain in gains)
        assert not 0 < within < tied or not math.isclose(
            answer, sum(gains) / within, abs_tol=1e-9
        ), f"{case}: places beyond k count as 0, but they count"
        assert math.isclose(answer, right, abs_tol=1e-9), (
            f"{case}: {answer:.4f}, not {right:.4f}"
        )
    return "Right: the mean gain over all places that it may have."


@checker
def sampled_hit(my_sampled: Callable[[int, int, int, int], float]) -> str:
    """`my_sampled(place, catalogue, drawn, k)`: the chance of a hit against a sample
    without replacement."""
    for place, catalogue, drawn, k in (
        (1, 6, 2, 2),
        (3, 6, 2, 2),
        (6, 6, 2, 2),
        (40, 200, 50, 10),
        (3, 6, 2, 5),
    ):
        answer, case = (
            float(my_sampled(place, catalogue, drawn, k)),
            f"place {place} of {catalogue}, {drawn} drawn",
        )
        above, others = place - 1, catalogue - 1
        ways = [
            math.comb(above, a) * math.comb(others - above, drawn - a)
            for a in range(drawn + 1)
        ]
        right = sum(ways[:k]) / math.comb(others, drawn)
        chances = [
            math.comb(drawn, a)
            * (above / others) ** a
            * (1 - above / others) ** (drawn - a)
            for a in range(drawn + 1)
        ]
        with_replacement, one_more = (
            sum(chances[:k]),
            sum(ways[: k + 1]) / math.comb(others, drawn),
        )
        assert 0 <= answer <= 1 + 1e-9, f"{case}, k = {k}: {answer:.4f} is no chance"
        if not math.isclose(right, with_replacement, abs_tol=1e-9):
            assert not math.isclose(answer, with_replacement, abs_tol=1e-9), (
                f"{case}: this is with replacement; nobody is drawn twice"
            )
        if not math.isclose(right, one_more, abs_tol=1e-9):
            assert not math.isclose(answer, one_more, abs_tol=1e-9), (
                f"{case}: with k above it, it is not among the first k"
            )
        assert not (0 < right < 1 and answer == float(place <= k)), (
            f"{case}: this is the full metric"
        )
        assert math.isclose(answer, right, abs_tol=1e-9), (
            f"{case}, k = {k}: {answer:.4f}, not {right:.4f}"
        )
    return "Right: fewer than k of those drawn stand above it."


@checker
def paired_p(my_p: Callable[[np.ndarray, np.ndarray, int, int], float]) -> str:
    """`my_p(a, b, resamples, seed)`: two-sided p of a paired bootstrap."""
    rng = np.random.default_rng(1)
    easy, noise = rng.normal(0, 5, 200), rng.normal(0, 1, 200)
    noise = (noise - noise.mean()) / noise.std()
    # A difference of 0.11, 1.56 standard errors: two-sided p is about .12.
    a = easy + noise + 0.11
    answer = float(my_p(a.copy(), easy.copy(), 4000, 0))
    assert 0 <= answer <= 1, f"p = {answer:.3f} is no chance: cut it off at 1"
    assert answer < 0.5, (
        f"p = {answer:.2f}: draw the same users for both, that is what pairing means"
    )
    assert answer > 0.085, f"p = {answer:.3f} is one-sided: take twice the smaller side"
    assert 0.09 < answer < 0.16, f"p = {answer:.3f}; it should be about .12"
    back = float(my_p(easy.copy(), a.copy(), 4000, 0))
    assert abs(back - answer) < 0.03, (
        f"p = {back:.2f} for b against a: the other direction has the same p"
    )
    same = float(my_p(easy.copy(), easy.copy(), 100, 0))
    assert same == 1, (
        f"two equal scorers give p = {same}: all differences are 0, on both sides, and"
        " p is at most 1"
    )
    return "Right: as often as chance alone would turn the difference round."


@checker
def users_needed(my_users: Callable[[np.ndarray, float], float]) -> str:
    """`my_users(difference, effect)`: for a power of .8 at 95 %."""
    difference = np.random.default_rng(0).normal(0.01, 0.3, 500)
    deviation = difference.std(ddof=1)
    right = (2.8 * deviation / 0.02) ** 2
    answer = float(my_users(difference.copy(), 0.02))
    near = {
        "significant in one test of two only: 1.96 errors, add 0.84 for four of five": (
            (1.96 * deviation / 0.02) ** 2
        ),
        "take the square: errors fall with the root of n": 2.8 * deviation / 0.02,
        "divide by the effect that is to be seen, not by the mean of the pilot": (
            (2.8 * deviation / difference.mean()) ** 2
        ),
        "this takes the variance for the deviation": (2.8 * deviation**2 / 0.02) ** 2,
    }
    for says, value in near.items():
        assert not math.isclose(answer, value, rel_tol=0.02, abs_tol=1), says
    assert math.isclose(answer, right, rel_tol=0.02), (
        f"{answer:,.0f} users; it should be about {right:,.0f}"
    )
    assert math.isclose(
        float(my_users(difference.copy(), 0.01)), 4 * right, rel_tol=0.02
    ), "half the effect needs four times the users"
    return "Right: half the effect, four times the users."


@checker
def curse(my_curse: Mapping[str, float]) -> str:
    """`my_curse`: mean score of the winner on the half that chose it, and on fresh
    users."""
    assert set(my_curse) == {
        "chosen on",
        "fresh",
    }, f"the entries are 'chosen on' and 'fresh', not {sorted(my_curse)}"
    chosen, fresh = float(my_curse["chosen on"]), float(my_curse["fresh"])
    assert all(0.08 < value < 0.14 for value in (chosen, fresh)), (
        f"{chosen:.3f} and {fresh:.3f}: are these chains?"
    )
    assert chosen != fresh, "both alike: is the second half other users than the first?"
    assert chosen > fresh, (
        "the winner is better on fresh users: are the two swapped, or chosen on the"
        " second half?"
    )
    assert chosen - fresh < 0.02, (
        f"{chosen - fresh:.3f} too good: is the best of each half taken, or the mean of"
        " both?"
    )
    return (
        f"Right: the winner looks {chosen - fresh:.4f} better than it is where it was"
        " chosen."
    )


# --- What attention weights explain


@checker
def drop(my_drop: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_drop(weights, says)`: how much the average falls without each event, for rows
    (…, K)."""
    weights = torch.tensor([[0.35, 0.05, 0.05, 0.55], [0.25, 0.25, 0.25, 0.25]])
    says = torch.tensor([[9.0, 1.5, 1.5, 10.0], [1.0, 2.0, 3.0, 10.0]])
    score = (weights * says).sum(-1, keepdim=True)
    right, answer = (
        weights / (1 - weights) * (says - score),
        _ask(my_drop, weights, says),
    )
    assert answer.shape == (
        2,
        4,
    ), f"shape {tuple(answer.shape)}; two rows of four events give (2, 4)"
    assert not _same(answer, weights * says), (
        "these are the contributions: without an event the others share its weight"
    )
    assert not _same(answer, -right), (
        "the sign: above 0 where the score is lower without the event"
    )
    assert not _same(answer, weights * (says - score)), (
        "divide by 1 - w: the others' weights grow to fill the row"
    )
    assert not _same(answer, score - right), (
        "this is the score without each event: how much does it fall?"
    )
    assert not _same(
        answer, weights / (1 - weights) * (says - says.mean(-1, keepdim=True))
    ), "compare with the weighted average, which is the score"
    assert _same(answer, right), f"drops\n{answer}\nshould be\n{right}"
    return "Right: what an event says beyond the average, in the share that it has."


@checker
def found(my_found: Callable[[np.ndarray, np.ndarray], float]) -> str:
    """`my_found(pointed, causes)`: share of the questions with a cause whose cause was
    pointed at."""
    pointed, causes = np.array([3, 0, 5, 2, 7, 1]), np.array([3, -1, 4, 2, -1, 0])
    answer = float(my_found(pointed.copy(), causes.copy()))
    assert math.isfinite(answer), f"{answer} is no share"
    assert not math.isclose(answer, 2 / 6), (
        "questions without a cause count as misses: leave them out"
    )
    assert not math.isclose(answer, 4 / 6), (
        "questions without a cause count as found: leave them out"
    )
    assert not math.isclose(answer, 2), "this is a count: give a share"
    assert math.isclose(answer, 2 / 4), (
        f"{answer:.3f}, not 0.5: two of the four that have a cause"
    )
    return "Right: only who has a cause can be found out."


@checker
def until(my_until: Callable[[Tensor], int]) -> str:
    """`my_until(scores)`: events hidden until another item is on top, or K + 1 if that
    never happens."""
    scores = torch.tensor([[1.0, 5, 2], [1, 4, 2], [1, 1, 2], [3, 1, 2]])
    answer = int(my_until(scores.clone()))
    assert answer != 0, "row 0 itself has that item on top: look from row 1 on"
    assert answer != 1, (
        "after 1 the score of the top item is lower, but it is still on top: compare"
        " the places"
    )
    assert answer != 3, "the last change: the first one is asked"
    assert answer == 2, (
        f"{answer}; after hiding 2 events item 2 is on top instead of item 1"
    )
    back = torch.tensor([[1.0, 5, 2], [6, 4, 2], [1, 5, 2]])
    assert int(my_until(back)) == 1, (
        "the old item may come back later: the first change counts"
    )
    never = torch.tensor([[1.0, 5, 2], [1, 4, 2], [1, 3, 2]])
    answer = int(my_until(never))
    assert answer == 3, f"a top item that stays gives {answer}; it should be K + 1 = 3"
    return "Right: the first n at which the list has another head."


@checker
def permuted(my_permuted: Callable[[Tensor], Tensor]) -> str:
    """`my_permuted(weights)`: every row of (N, K) shuffled by itself."""
    torch.manual_seed(0)
    weights = torch.rand(400, 6)
    weights = weights / weights.sum(1, keepdim=True)
    answer = _ask(my_permuted, weights)
    assert answer.shape == weights.shape, (
        f"shape {tuple(answer.shape)}; shuffling keeps the shape"
    )
    assert not torch.equal(answer, weights), "nothing has moved"
    assert not _same(
        answer.sum(0).sort().values, weights.sum(0).sort().values
    ) or not _same(answer.sort(0).values, weights.sort(0).values), (
        "rows have changed places: shuffle the events within each row"
    )
    assert _same(answer.sort(1).values, weights.sort(1).values), (
        "a row must keep its own weights, in another order"
    )
    place = (answer[:, :, None] == weights[:, None, :]).float().argmax(2)
    assert not (place == place[0]).all(), (
        "all rows are shuffled in the same way: draw an order for each"
    )
    share = torch.stack([(place == k).float().mean(0) for k in range(6)])
    assert share.max() < 0.35, (
        "some orders come too often: every event must be as likely at every place"
    )
    return "Right: each row keeps its weights and loses its order."


@checker
def reliability(my_reliability: Mapping[str, float]) -> str:
    """`my_reliability`: share of causes found where the largest weight is low, middle
    and high."""
    assert list(my_reliability) == [
        "low",
        "middle",
        "high",
    ], f"low, middle, high, not {', '.join(my_reliability)}"
    low, middle, high = (float(share) for share in my_reliability.values())
    assert all(0 <= share <= 1 for share in (low, middle, high)), (
        "a share lies between 0 and 1"
    )
    assert max(low, middle, high) > 0.15, (
        "hardly any cause found: are causes and questions in the same order?"
    )
    assert len({low, middle, high}) > 1, "three equal shares: are the questions sorted?"
    said = "surer is more often right" if high > low else "surer is no more often right"
    return f"Right: here {said}; {100 * high:.0f} % in the surest third."
