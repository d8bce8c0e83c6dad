"""The checkers of the chapters on losses and training accept right answers, and name the mistake in wrong ones."""

import pytest
import torch
import torch.nn.functional as F
from test_check_stages import hint, load

check = load("check_losses")

# --- The output layer and its losses


def full(shift=1, reduction="sum", biased=True):
    return lambda s, c, b, t: F.cross_entropy(s @ c.T + (b if biased else 0), t - shift, reduction=reduction)


def naive(s, c, b, t):
    exponentials = (s @ c.T + b).exp()
    return -(exponentials[torch.arange(len(t)), t - 1] / exponentials.sum(1)).log().sum()


def over_positions(s, c, b, t):
    return -(s @ c.T + b).log_softmax(0)[torch.arange(len(t)), t - 1].sum()


def gradient(shift=1, scale=1.0, error_only=False):
    def answer(s, c, b, t):
        error = (s @ c.T + b).softmax(-1) - F.one_hot(t - shift, len(c))
        return error if error_only else scale * error.T @ s

    return answer


def expected(least=1, draws=True, log=True, divide=True, power=True, raise_first=True):
    def answer(counts, p, n):
        counts = counts.double().clamp_min(least)
        if raise_first:
            share = counts ** (p if power else 1)
            share = share / share.sum() if divide else share
        else:
            share = (counts / counts.sum()) ** p
        share = share * (n if draws else 1)
        return share.log() if log else share

    return answer


def solved(p, sigma, negatives, catalogue, less=1):
    alpha = negatives / (catalogue - less)
    ratio = sigma / (1 - sigma) * (1 - p) / p  # beta / alpha
    return (ratio - 1 / alpha) / (1 - 1 / alpha)


def beta_alone(p, sigma, negatives, catalogue):
    return negatives / (catalogue - 1) * sigma / (1 - sigma) * (1 - p) / p


NOVELTY = {name: (8.0 + i, 0.3) for i, name in enumerate("abcdef")}


@pytest.mark.parametrize(
    ("checker", "answers"),
    [
        (check.cross_entropy, (full(),)),
        (check.catalogue_gradient, (gradient(),)),
        (check.log_q, (expected(),)),
        (check.calibration, (solved,)),
        (check.novelty, (NOVELTY,)),
    ],
)
def test_right_answers_about_losses_pass(checker, answers):
    assert checker(*answers).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answers", "says"),
    [
        (check.cross_entropy, (full(reduction="none"),), "one number"),
        (check.cross_entropy, (full(reduction="mean"),), "give the sum"),
        (check.cross_entropy, (lambda *q: -full()(*q),), "minus the logarithm"),
        (check.cross_entropy, (full(shift=0),), "off by one"),
        (check.cross_entropy, (full(biased=False),), "biases are left out"),
        (check.cross_entropy, (over_positions,), "over the catalogue"),
        (check.cross_entropy, (lambda *q: full()(*q) + 1,), "should be"),
        (check.cross_entropy, (naive,), "logsumexp"),
        (check.catalogue_gradient, (lambda s, c, b, t: s,), "by the states"),
        (check.catalogue_gradient, (gradient(error_only=True),), "by the scores"),
        (check.catalogue_gradient, (lambda s, c, b, t: b,), "has the catalogue's"),
        (check.catalogue_gradient, (gradient(scale=-1),), "turned round"),
        (check.catalogue_gradient, (gradient(scale=1 / 3),), "of the mean"),
        (check.catalogue_gradient, (lambda s, c, b, t: (s @ c.T + b).softmax(-1).T @ s,), "taken off"),
        (check.catalogue_gradient, (gradient(shift=0),), "off by one"),
        (check.catalogue_gradient, (lambda s, c, b, t: c,), "should be"),
        (check.log_q, (lambda counts, p, n: torch.zeros(3),), "one number for each"),
        (check.log_q, (expected(least=0),), "treat it as 1"),
        (check.log_q, (expected(draws=False),), "number of draws"),
        (check.log_q, (expected(log=False),), "take the logarithm"),
        (check.log_q, (expected(divide=False),), "shares sum to 1"),
        (check.log_q, (expected(power=False),), "the power is left out"),
        (check.log_q, (expected(raise_first=False),), "raise first"),
        (check.log_q, (lambda counts, p, n: torch.zeros(4),), "should be"),
        (check.calibration, (lambda *q: float("nan"),), "is not 0 here"),
        (check.calibration, (lambda *q: 1 - solved(*q),), "1 - t"),
        (check.calibration, (beta_alone,), "solve it for t"),
        (check.calibration, (lambda *q: solved(*q, less=0),), "catalogue - 1"),
        (check.calibration, (lambda *q: 0.4,), "not 0.75"),
        (check.novelty, ({"a": (8.0, 0.3)},), "six were trained"),
        (check.novelty, (NOVELTY | {"a": (8.0,)},), "a pair is wanted"),
        (check.novelty, (NOVELTY | {"a": (0.3, 8.0)},), "swapped"),
        (check.novelty, (NOVELTY | {"a": (30.0, 0.3)},), "between 1 and 17"),
        (check.novelty, (dict.fromkeys(NOVELTY, (8.0, 0.3)),), "all alike"),
    ],
)
def test_wrong_answers_about_losses_get_the_hint_that_fits(checker, answers, says):
    assert says in hint(checker, *answers)
