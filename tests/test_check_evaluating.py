"""The checkers of the chapters on evaluating and explaining accept right answers, and
name the mistake in wrong ones."""

import math

import check_evaluating as check
import numpy as np
import pytest
import torch
from test_check_stages import hint

# --- Evaluating honestly


def gains(above, tied, k):
    return [
        1 / math.log2(1 + place) if place <= k else 0
        for place in range(above + 1, above + tied + 1)
    ]


def expected_gain(above, tied, k):
    return sum(gains(above, tied, k)) / tied


def of_those_within(above, tied, k):
    found = [gain for gain in gains(above, tied, k) if gain]
    return sum(found) / max(len(found), 1)


def hits(extra=0, replacement=False):
    def answer(place, catalogue, drawn, k):
        above, others, few = place - 1, catalogue - 1, min(k + extra, drawn + 1)
        if replacement:
            p = above / others
            return sum(
                math.comb(drawn, a) * p**a * (1 - p) ** (drawn - a) for a in range(few)
            )
        ways = sum(
            math.comb(above, a) * math.comb(others - above, drawn - a)
            for a in range(few)
        )
        return ways / math.comb(others, drawn)

    return answer


def p_value(paired=True, sides=2, one_way=False, most=1.0, strict=False):
    def answer(a, b, resamples, seed):
        rng, users = np.random.default_rng(seed), len(a)
        means = []
        for _ in range(resamples):
            drawn = rng.integers(users, size=users)
            other = drawn if paired else rng.integers(users, size=users)
            means.append(a[drawn].mean() - b[other].mean())
        means = np.array(means)
        below, above = (means < 0, means > 0) if strict else (means <= 0, means >= 0)
        return min(
            most, sides * (below.mean() if one_way else min(below.mean(), above.mean()))
        )

    return answer


def users(
    errors=2.8, power=2, spread=lambda d: d.std(ddof=1), by=lambda d, effect: effect
):
    return lambda d, effect: (errors * spread(d) / by(d, effect)) ** power


CURSE = {"chosen on": 0.112, "fresh": 0.106}


@pytest.mark.parametrize(
    ("checker", "answers"),
    [
        (check.tied_ndcg, (expected_gain,)),
        (check.sampled_hit, (hits(),)),
        (check.paired_p, (p_value(),)),
        (check.users_needed, (users(),)),
        (
            check.users_needed,
            (lambda d, effect: math.ceil(users(spread=np.std)(d, effect)),),
        ),
        (check.curse, (CURSE,)),
    ],
)
def test_right_answers_about_evaluation_pass(checker, answers):
    assert checker(*answers).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answers", "says"),
    [
        (check.tied_ndcg, (lambda a, t, k: math.inf,), "count from 1"),
        (check.tied_ndcg, (lambda a, t, k: gains(a, t, k)[0],), "win every tie"),
        (check.tied_ndcg, (lambda a, t, k: gains(a, t, k)[-1],), "lose every tie"),
        (
            check.tied_ndcg,
            (lambda a, t, k: 1 / math.log2(2 + a + (t - 1) / 2),),
            "the mean of the gains",
        ),
        (check.tied_ndcg, (lambda a, t, k: sum(gains(a, t, k)),), "how many are tied"),
        (check.tied_ndcg, (of_those_within,), "beyond k count as 0"),
        (check.tied_ndcg, (lambda a, t, k: 0.5,), "not 1.0000"),
        (check.sampled_hit, (lambda *q: 2.0,), "is no chance"),
        (check.sampled_hit, (hits(replacement=True),), "nobody is drawn twice"),
        (check.sampled_hit, (hits(extra=1),), "not among the first k"),
        (
            check.sampled_hit,
            (lambda place, catalogue, drawn, k: float(place <= k),),
            "the full metric",
        ),
        (check.sampled_hit, (lambda *q: 0.5,), "not 1.0000"),
        (check.paired_p, (lambda *q: 1.5,), "cut it off at 1"),
        (check.paired_p, (p_value(paired=False),), "the same users for both"),
        (check.paired_p, (p_value(sides=1),), "one-sided"),
        (check.paired_p, (lambda *q: 0.3,), "about .12"),
        (check.paired_p, (p_value(one_way=True),), "the other direction"),
        (check.paired_p, (p_value(strict=True),), "two equal scorers"),
        (check.users_needed, (users(errors=1.96),), "add 0.84"),
        (check.users_needed, (users(power=1),), "take the square"),
        (
            check.users_needed,
            (users(by=lambda d, effect: d.mean()),),
            "the mean of the pilot",
        ),
        (check.users_needed, (users(spread=np.var),), "variance for the deviation"),
        (check.users_needed, (lambda d, effect: 10_000,), "it should be about"),
        (check.users_needed, (lambda d, effect: users()(d, 0.02),), "four times"),
        (check.curse, ({"a": 1},), "the entries are"),
        (check.curse, ({"chosen on": 0.5, "fresh": 0.1},), "are these chains"),
        (check.curse, ({"chosen on": 0.11, "fresh": 0.11},), "both alike"),
        (check.curse, ({"chosen on": 0.106, "fresh": 0.112},), "swapped"),
        (check.curse, ({"chosen on": 0.13, "fresh": 0.1},), "too good"),
    ],
)
def test_wrong_answers_about_evaluation_get_the_hint_that_fits(checker, answers, says):
    assert says in hint(checker, *answers)


# --- What attention weights explain


def fall(divide=True, by="score", sign=1, left=False):
    def answer(w, u):
        score = (w * u).sum(-1, keepdim=True)
        middle = score if by == "score" else u.mean(-1, keepdim=True)
        drop = sign * w / ((1 - w) if divide else 1) * (u - middle)
        return score - drop if left else drop

    return answer


def first_change(scores, start=0):
    changed = (scores.argmax(1) != scores[0].argmax()).nonzero().flatten()
    return int(changed[start]) if len(changed) else len(scores)


def each_row(weights):
    return weights.gather(1, torch.rand_like(weights).argsort(1))


def turned(weights):
    """Each row is turned by one or two places."""
    by = torch.randint(1, 3, (len(weights), 1))
    return weights.gather(1, (torch.arange(weights.shape[1]) + by) % weights.shape[1])


@pytest.mark.parametrize(
    ("checker", "answers"),
    [
        (check.drop, (fall(),)),
        (check.found, (lambda p, c: (p == c)[c >= 0].mean(),)),
        (check.until, (first_change,)),
        (check.permuted, (each_row,)),
        (check.reliability, ({"low": 0.2, "middle": 0.5, "high": 0.9},)),
        (check.reliability, ({"low": 0.6, "middle": 0.5, "high": 0.4},)),
    ],
)
def test_right_answers_about_explaining_pass(checker, answers):
    assert checker(*answers).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answers", "says"),
    [
        (check.drop, (lambda w, u: w[0],), "give (2, 4)"),
        (check.drop, (lambda w, u: w * u,), "contributions"),
        (check.drop, (fall(sign=-1),), "the sign"),
        (check.drop, (fall(divide=False),), "1 - w"),
        (check.drop, (fall(left=True),), "how much does it fall"),
        (check.drop, (fall(by="mean"),), "weighted average"),
        (check.drop, (lambda w, u: w,), "should be"),
        (check.found, (lambda p, c: float("nan"),), "is no share"),
        (check.found, (lambda p, c: (p == c).mean(),), "count as misses"),
        (check.found, (lambda p, c: ((p == c) | (c < 0)).mean(),), "count as found"),
        (check.found, (lambda p, c: (p == c).sum(),), "give a share"),
        (check.found, (lambda p, c: 0.4,), "two of the four"),
        (check.until, (lambda s: 0,), "look from row 1 on"),
        (
            check.until,
            (lambda s: int((s[:, 1] != s[0, 1]).nonzero()[0]),),
            "still on top",
        ),
        (check.until, (lambda s: first_change(s, -1),), "the first one is asked"),
        (check.until, (lambda s: 4,), "item 2 is on top"),
        (check.until, (lambda s: 2,), "come back later"),
        (check.until, (lambda s: first_change(s) % 3,), "K + 1 = 3"),
        (check.permuted, (lambda w: w[:, :2],), "keeps the shape"),
        (check.permuted, (lambda w: w,), "nothing has moved"),
        (
            check.permuted,
            (lambda w: w[torch.randperm(len(w))],),
            "rows have changed places",
        ),
        (
            check.permuted,
            (lambda w: torch.full_like(w, 1 / 6),),
            "keep its own weights",
        ),
        (check.permuted, (lambda w: w[:, torch.randperm(6)],), "the same way"),
        (check.permuted, (turned,), "come too often"),
        (check.reliability, ({"high": 1, "middle": 1, "low": 1},), "low, middle, high"),
        (check.reliability, ({"low": 2, "middle": 1, "high": 1},), "between 0 and 1"),
        (check.reliability, ({"low": 0.0, "middle": 0.1, "high": 0.1},), "hardly any"),
        (check.reliability, ({"low": 0.5, "middle": 0.5, "high": 0.5},), "sorted"),
    ],
)
def test_wrong_answers_about_explaining_get_the_hint_that_fits(checker, answers, says):
    assert says in hint(checker, *answers)
