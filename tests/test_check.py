"""The checkers of the exercises accept right answers, and name the mistake in wrong ones."""

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from attncore import attention

SPEC = importlib.util.spec_from_file_location("check", Path(__file__).parent.parent / "book" / "check.py")
check = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check)

KEY = torch.tensor([[3.0, 0, 0], [1, 3, 1.5], [0, 1, 3.5], [3, 1, 1.5]])


def dot(query, key):
    return query @ key.T


def hint(checker, answer, *more):
    with pytest.raises(AssertionError) as raised:
        checker(answer, *more)
    return str(raised.value)


def masked(fill, after=lambda weights: weights):
    return lambda scores, keep: after(scores.masked_fill(~keep, fill).softmax(-1))


def stable(scores):
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    return exponentials / exponentials.sum(-1, keepdim=True)


def bisected(scores, events):
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        weights = attention.softmax(scores, temperature=middle)
        spread = float((-(weights * weights.clamp_min(1e-30).log()).sum()).exp())
        low, high = (middle, high) if spread < events else (low, middle)
    return middle


@pytest.mark.parametrize(
    ("checker", "answers"),
    [
        (check.scores, (attention.scaled_dot_product,)),
        (check.shapes, ({"scores": (3, 20), "weights": [3, 20], "attended": (3, 16)},)),
        (check.query_for, (4 * (KEY[1] - KEY.mean(0)), KEY, 1)),
        (check.showing_values, (torch.eye(4),)),
        (check.moved, (lambda a, b: (a - b).abs().sum(-1) / 2,)),
        (check.moved, (lambda a, b: 1 - torch.minimum(a, b).sum(-1),)),
        (check.softmax, (stable,)),
        (check.softmax, (lambda scores: torch.softmax(scores, -1),)),
        (check.masked_softmax, (attention.softmax,)),
        (check.masked_softmax, (masked(-torch.inf, lambda weights: weights.nan_to_num(0)),)),
        (check.temperature_for, (bisected,)),
        (check.softmax_gradient, (lambda w, g: w * (g - (w * g).sum(-1, keepdim=True)),)),
        (check.best_temperature, ({0.5: 0.050, 1.0: 0.052, 2.0: 0.051, 64.0: 0.03},)),
        (check.best_temperature, ({0.5: 0.053, 1.0: 0.052, 2.0: 0.051, 64.0: 0.03},)),
    ],
)
def test_a_right_answer_is_told_so(checker, answers):
    assert checker(*answers).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answers", "says"),
    [
        (check.scores, (lambda q, k: (q @ k.T).T / 2,), "query @ key.T"),
        (check.scores, (lambda q, k: q[0] @ k.T,), "2 queries against 3 keys"),
        (check.scores, (dot,), "square root of the width"),
        (check.scores, (lambda q, k: dot(q, k) / 4,), "take its square root"),
        (check.scores, (lambda q, k: dot(q, k) / 3**0.5,), "take √E"),
        (check.scores, (lambda q, k: (dot(q, k) / 2).softmax(-1),), "weights already"),
        (check.scores, (lambda q, k: dot(q, k) + 1,), "should be"),
        (check.scores, (lambda q, k: None,), "did you forget `return`"),
        (check.shapes, ({"scores": (3, 20)},), "no entry 'weights'"),
        (check.shapes, ({"scores": (20, 3), "weights": (3, 20), "attended": (3, 16)},), "other way round"),
        (check.shapes, ({"scores": (3, 20), "weights": (3, 8), "attended": (3, 16)},), "queries x events"),
        (check.shapes, ({"scores": (3, 20), "weights": (3, 20), "attended": (3, 8)},), "that of the values"),
        (check.query_for, (torch.ones(2), KEY, 1), "one query is 3 numbers"),
        (check.query_for, (torch.full((3,), torch.nan), KEY, 1), "finite"),
        (check.query_for, (torch.zeros(3), KEY, 1), "prefers none"),
        (check.query_for, (torch.tensor([1.0, 0, 0]), KEY, 1), "what does the key of that event have"),
        (check.query_for, (KEY[1] - KEY.mean(0), KEY, 1), "make the query longer"),
        (check.showing_values, (torch.ones(4),), "a table, an event a row"),
        (check.showing_values, (torch.eye(3),), "each gives one value"),
        (check.showing_values, (torch.ones(4, 3),), "must hold 4 weights"),
        (check.showing_values, (torch.ones(4, 4),), "all ones"),
        (check.showing_values, (torch.eye(4).flip(0),), "another order"),
        (check.showing_values, (2 * torch.eye(4),), "is not the weights"),
        (check.moved, (lambda a, b: (a - b).abs().sum(-1),), "twice too much"),
        (check.moved, (lambda a, b: (a - b).sum(-1),), "absolute differences first"),
        (check.moved, (lambda a, b: (a - b).abs().sum() / 2,), "the events alone"),
        (check.moved, (lambda a, b: (a - b).abs() / 2,), "three pairs of rows"),
        (check.moved, (lambda a, b: (a - b).abs().mean(-1),), "mean over the events"),
        (check.moved, (lambda a, b: ((a - b) ** 2).sum(-1),), "squares measure something else"),
        (check.moved, (lambda a, b: 1 - (a - b).abs().sum(-1) / 2,), "should be"),
        (check.softmax, (lambda s: stable(s)[0],), "the shape of the scores"),
        (check.softmax, (lambda s: s.softmax(0),), "each column sums to 1"),
        (check.softmax, (lambda s: s.exp(),), "divide each row"),
        (check.softmax, (lambda s: s.exp() / s.exp().sum(),), "the whole table sums to 1"),
        (check.softmax, (lambda s: s / s.sum(-1, keepdim=True).clamp_min(1),), "should be"),
        (check.softmax, (lambda s: s.exp() / s.exp().sum(-1, keepdim=True),), "overflows"),
        (
            check.softmax,
            (lambda s: (s - s.max()).exp() / (s - s.max()).exp().sum(-1, keepdim=True),),
            "each row's own largest",
        ),
        (
            check.softmax,
            (lambda s: stable(s - s.abs().amax(-1, keepdim=True)) if s.max() > 0 else (s * 0).softmax(-1),),
            "scores of -1000",
        ),
        (check.softmax, (lambda s: torch.softmax(s, 1),), "three axes"),
        (check.masked_softmax, (lambda s, keep: s.softmax(-1)[:1],), "the shape of the scores"),
        (check.masked_softmax, (lambda s, keep: s.softmax(-1),), "changes nothing"),
        (check.masked_softmax, (lambda s, keep: s.softmax(-1) * keep,), "no longer sum to 1"),
        (check.masked_softmax, (lambda s, keep: attention.softmax(s, ~keep),), "wrong way round"),
        (check.masked_softmax, (lambda s, keep: (s * keep).softmax(-1),), "exp(0) = 1"),
        (
            check.masked_softmax,
            (lambda s, keep: (s + torch.where(keep, 0.0, torch.inf) * 0).softmax(-1),),
            "-inf * 0",
        ),
        (check.masked_softmax, (masked(-10.0),), "exactly 0"),
        (check.masked_softmax, (masked(-20.0),), "exactly 0"),
        (check.masked_softmax, (masked(-torch.inf),), "0 / 0"),
        (check.masked_softmax, (masked(-1e9),), "is not -inf"),
        (
            check.masked_softmax,
            (lambda s, keep: stable_after(s, keep),),
            "mask first",
        ),
        (check.temperature_for, (lambda s, n: float("nan"),), "finite number"),
        (check.temperature_for, (lambda s, n: -1.0,), "above 0"),
        (check.temperature_for, (lambda s, n: 1 / bisected(s, n),), "divided by it, not multiplied"),
        (check.temperature_for, (lambda s, n: 0.01,), "raise it"),
        (check.temperature_for, (lambda s, n: 100.0,), "lower it"),
        (check.softmax_gradient, (lambda w, g: torch.diag_embed(w) - w[..., None] * w[..., None, :],), "Jacobian"),
        (check.softmax_gradient, (lambda w, g: (w * g).sum(-1),), "the shape of the scores"),
        (check.softmax_gradient, (lambda w, g: w * g,), "subtract the weighted mean"),
        (check.softmax_gradient, (lambda w, g: g - (w * g).sum(-1, keepdim=True),), "multiply each by its weight"),
        (check.softmax_gradient, (lambda w, g: w * (1 - w) * g,), "the diagonal"),
        (check.softmax_gradient, (lambda w, g: w * (g - g.mean(-1, keepdim=True)),), "not the plain mean"),
        (check.softmax_gradient, (lambda w, g: w * (g - (w * g).sum()),), "over all rows"),
        (check.softmax_gradient, (lambda w, g: w * ((w * g).sum(-1, keepdim=True) - g),), "turned round"),
        (check.softmax_gradient, (lambda w, g: w * w,), "should be"),
        (check.best_temperature, ({0.5: 0.05, 2.0: 0.04},), "temperature 1"),
        (check.best_temperature, ({1.0: 0.05, 2.0: 0.04},), "below 1"),
        (check.best_temperature, ({0.5: 0.05, 1.0: 0.04},), "above 1"),
        (check.best_temperature, ({0.5: 5.0, 1.0: 4.0, 2.0: 3.0},), "between 0 and 1"),
        (check.best_temperature, ({0.5: 0.05, 1.0: 0.05, 2.0: 0.05},), "restored each time"),
        (check.best_temperature, ({0.5: 0.05, 1.0: 0.03, 2.0: 0.04},), "before the next temperature"),
    ],
)
def test_a_wrong_answer_gets_the_hint_that_fits(checker, answers, says):
    assert says in hint(checker, *answers)


def stable_after(scores, keep):
    """The largest of all scores is subtracted, masked ones too; kept ones may then vanish."""
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp() * keep
    return exponentials / exponentials.sum(-1, keepdim=True).clamp_min(1e-30)


def test_a_checker_does_not_mind_an_answer_that_writes_into_its_input():
    def in_place(scores):
        scores -= scores.amax(-1, keepdim=True).clone()
        scores.exp_()
        scores /= scores.sum(-1, keepdim=True)
        return scores

    assert check.softmax(in_place).startswith("Right: ")


# --- A first recommender


def _pairs(histories, items, count=lambda counts, a, b: counts[a, b] + 1):
    counts = torch.zeros(items, items)
    for row in histories:
        for before, after in itertools.pairwise(row):
            counts[before, after] = count(counts, before, after)
    return counts


def test_right_answers_of_the_first_recommender_pass():
    assert "Right" in check.ndcg_of_rank(lambda rank, k: 1 / math.log2(1 + rank) if rank <= k else 0)
    assert "Right" in check.transitions(_pairs)
    assert "Right" in check.expected_hit(lambda above, tied, k: min(max((k - above) / tied, 0), 1))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda rank, k: 1 / math.log2(1 + rank), "outside the first"),
        (lambda rank, k: 1 / math.log(1 + rank) if rank <= k else 0, "natural logarithm"),
        (lambda rank, k: 1 / rank if rank <= k else 0, "reciprocal rank"),
        (lambda rank, k: 1 / math.log2(rank) if 1 < rank <= k else math.inf if rank == 1 else 0, "counted from 1"),
        (lambda rank, k: 1.0 if rank <= k else 0, "not 0.63"),
    ],
)
def test_a_wrong_ndcg_gets_its_hint(answer, hint):
    with pytest.raises(AssertionError, match=hint):
        check.ndcg_of_rank(answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda rows, items: _pairs(rows, items).T, "the other way round"),
        (lambda rows, items: _pairs([[item for row in rows for item in row]], items), "within one history"),
        (lambda rows, items: _pairs(rows, items, lambda *_: 1), "count how often"),
        (lambda rows, items: torch.zeros(3), "one row and one column"),
        (lambda rows, items: torch.zeros(3, 3), "should be"),
    ],
)
def test_a_wrong_table_of_transitions_gets_its_hint(answer, hint):
    with pytest.raises(AssertionError, match=hint):
        check.transitions(answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda above, tied, k: float(above < k), "does not win every tie"),
        (lambda above, tied, k: float(above + tied <= k), "does not lose every tie"),
        (lambda above, tied, k: (k - above) / tied, "cut it off"),
        (lambda above, tied, k: min(max((k - above) / (tied + 1), 0), 1), "places are free"),
    ],
)
def test_a_wrong_expected_hit_gets_its_hint(answer, hint):
    with pytest.raises(AssertionError, match=hint):
        check.expected_hit(answer)


def paired(first, second, resamples, seed):
    difference = np.asarray(first) - np.asarray(second)
    drawn = np.random.default_rng(seed).integers(len(difference), size=(resamples, len(difference)))
    return tuple(np.quantile(difference[drawn].mean(1), [0.025, 0.975]))


def unpaired(first, second, resamples, seed):
    generator = np.random.default_rng(seed)
    drawn = [generator.choice(side, (resamples, len(side))).mean(1) for side in (first, second)]
    return tuple(np.quantile(drawn[0] - drawn[1], [0.025, 0.975]))


def test_right_answers_about_the_scoreboard():
    assert "Right" in check.sampled_rank(lambda above, candidates, sample: 1 + sample * above / candidates)
    assert "Right" in check.paired_interval(paired)
    assert "Right" in check.users_needed(lambda spread, difference: math.ceil((2 * spread / difference) ** 2))


@pytest.mark.parametrize(
    ("checker", "answer", "hint"),
    [
        ("sampled_rank", lambda above, candidates, sample: sample * above / candidates, "counted from 1"),
        ("sampled_rank", lambda above, candidates, sample: 1 + above, "place among all"),
        ("sampled_rank", lambda above, candidates, sample: 1 + candidates * above / sample, "sample / candidates"),
        ("paired_interval", unpaired, "far too wide"),
        ("paired_interval", lambda a, b, n, s: paired(b, a, n, s), "turned around"),
        ("paired_interval", lambda a, b, n, s: paired(a, b, n, s)[::-1], "low comes first"),
        ("paired_interval", lambda a, b, n, s: [(a - b).mean()] * 2, "low comes first"),
        ("users_needed", lambda spread, difference: 2 * spread / difference, "did you square it"),
        ("users_needed", lambda spread, difference: (spread / difference) ** 2, "take two errors"),
        ("users_needed", lambda spread, difference: (4 * spread / difference) ** 2, "two standard errors"),
    ],
)
def test_a_wrong_answer_about_the_scoreboard_gets_its_hint(checker, answer, hint):
    with pytest.raises(AssertionError, match=hint):
        getattr(check, checker)(answer)


def slate_ndcg(scores, taken, k, cut=True, ideal=None, divide=True):
    order = torch.argsort(scores, descending=True).tolist()
    gain = sum(1 / math.log2(p + 2) for p, i in enumerate(order) if i in taken and (p < k or not cut))
    best = sum(1 / math.log2(p + 2) for p in range(len(taken) if ideal == "all" else min(k, len(taken))))
    return gain / best if divide else gain


def shared_bias(candidates, past, shared):
    return ((candidates[:, None] == past[None]) * shared).sum(-1)


def among_all(said, drawn, others):
    odds = said / (1 - said) * drawn / others
    return odds / (1 + odds)


def rank_reviews(user, reviews):
    scores = [float(attention.attend(user[None], words, words)[0][0] @ user) for words in reviews]
    return sorted(range(len(reviews)), key=lambda r: -scores[r])


def test_right_answers_about_slates():
    assert "Right" in check.slate_ndcg(slate_ndcg)
    assert "Right" in check.match_bias(shared_bias)
    assert "Right" in check.among_all(among_all)
    assert "Right" in check.review_ranking(rank_reviews)


@pytest.mark.parametrize(
    ("checker", "answer", "hint"),
    [
        ("slate_ndcg", lambda s, t, k: slate_ndcg(s, t, k, divide=False), "divide by the gain of the best order"),
        ("slate_ndcg", lambda s, t, k: slate_ndcg(s, t, k, ideal="all"), "has only k places"),
        ("slate_ndcg", lambda s, t, k: slate_ndcg(s, t, k, cut=False), "below place k earns nothing"),
        ("slate_ndcg", lambda s, t, k: slate_ndcg(-s, t, k), "not"),
        ("match_bias", lambda c, p, s: shared_bias(c, p, s).T, "a row must be a candidate"),
        ("match_bias", lambda c, p, s: (c[:, None] == p).float().sum(-1), "weigh each thing"),
        ("match_bias", lambda c, p, s: ((c[:, None] != p) * s).sum(-1), "compare with =="),
        ("match_bias", lambda c, p, s: torch.zeros(2, 3), "should be"),
        ("match_bias", lambda c, p, s: torch.zeros(2), "shape"),
        ("among_all", lambda p, d, n: among_all(p, n, d), "wrong way round"),
        ("among_all", lambda p, d, n: p * d / n, "not the probability"),
        ("among_all", lambda p, d, n: p / (1 - p) * d / n, "these are odds"),
        ("among_all", lambda p, d, n: p, "not"),
        ("review_ranking", lambda u, r: rank_reviews(u, r)[::-1], "falling score"),
        ("review_ranking", lambda u, r: sorted(range(4), key=lambda i: -float(r[i].mean(0) @ u)), "plain means"),
        ("review_ranking", lambda u, r: [0, 1], "must stand once"),
        ("review_ranking", lambda u, r: [0, 1, 2, 3], "attend with the user"),
    ],
)
def test_a_wrong_answer_about_slates_gets_its_hint(checker, answer, hint):
    with pytest.raises(AssertionError, match=hint):
        getattr(check, checker)(answer)
