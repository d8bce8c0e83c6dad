"""The checkers of the chapters on losses and training accept right answers, and name
the mistake in wrong ones."""

import math

import check_losses as check
import pytest
import torch
import torch.nn.functional as F
from test_check_stages import hint

# --- The output layer and its losses


def full(shift=1, reduction="sum", biased=True):
    return lambda s, c, b, t: F.cross_entropy(
        s @ c.T + (b if biased else 0), t - shift, reduction=reduction
    )


def naive(s, c, b, t):
    exponentials = (s @ c.T + b).exp()
    return (
        -(exponentials[torch.arange(len(t)), t - 1] / exponentials.sum(1)).log().sum()
    )


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
        (
            check.catalogue_gradient,
            (lambda s, c, b, t: (s @ c.T + b).softmax(-1).T @ s,),
            "taken off",
        ),
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


# --- Training


def cosine(end=0.1, after=True, turns=1, first=1):
    def answer(step, steps, warmup):
        if step < warmup:
            return (step + first) / (warmup + first)
        done = (step - warmup) / (steps - warmup) if after else step / steps
        return end + (1 - end) / 2 * (1 + math.cos(turns * math.pi * done))

    return answer


def shortened(power=1, always=False, most=None):
    def answer(gradients, asked):
        length = torch.stack([g.norm() for g in gradients]).norm() ** power
        factor = (most or asked) / length
        return [g * (factor if always else factor.clamp(max=1)) for g in gradients]

    return answer


def adam(unbiased=True, decays=True, sign=1, squares=True, late=False, momentum=True):
    def answer(weight, gradient, m, v, n, lr, decay):
        m = 0.9 * m + 0.1 * gradient if momentum else gradient
        v = 0.999 * v + 0.001 * (gradient**2 if squares else gradient.abs())
        high, low = (m / (1 - 0.9**n), v / (1 - 0.999**n)) if unbiased else (m, v)
        step, shrink = lr * high / (low.sqrt() + 1e-8), lr * decay if decays else 0
        if late:
            return (weight - step) * (1 - shrink), m, v
        return weight - sign * (shrink * weight + step), m, v

    return answer


def counted(scale=1, maps=4, products=2, **more):
    def answer(T, D, V):
        parts = {
            "maps": maps * 2 * T * D * D,
            "attention": products * 2 * T * T * D,
            "network": 4 * T * D * D,
            "output": 2 * T * D * V,
        }
        return {name: scale * value for name, value in parts.items()} | more

    return answer


@pytest.mark.parametrize(
    ("checker", "answers"),
    [
        (check.rate, (cosine(),)),
        (check.clip, (shortened(),)),
        (
            check.mean_of_parts,
            (lambda m, n: sum(a * b for a, b in zip(m, n, strict=True)) / sum(n),),
        ),
        (check.adamw_step, (adam(),)),
        (check.flops, (counted(),)),
    ],
)
def test_right_answers_about_training_pass(checker, answers):
    assert checker(*answers).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answers", "says"),
    [
        (check.rate, (cosine(first=0),), "must not be 0"),
        (check.rate, (cosine(end=0.0),), "end at a tenth"),
        (check.rate, (cosine(after=False),), "after the warm-up"),
        (check.rate, (cosine(turns=2),), "half a cosine"),
        (check.rate, (lambda *q: 0.5,), "not 0.1000"),
        (check.clip, (lambda g, most: [g[0]],), "shapes"),
        (
            check.clip,
            (lambda gs, most: [g / g.norm() * most for g in gs],),
            "by itself, which turns the direction: one length",
        ),
        (
            check.clip,
            (lambda gs, most: [g.clamp(-most, most) for g in gs],),
            "scale all by one factor",
        ),
        (check.clip, (shortened(power=2),), "squared length"),
        (check.clip, (shortened(most=1.0),), "whatever `most` is"),
        (check.clip, (lambda gs, most: gs,), "0.4 times"),
        (check.clip, (shortened(always=True),), "must stay as it is"),
        (
            check.mean_of_parts,
            (lambda m, n: sum(m) / 3,),
            "few positions count for too much",
        ),
        (
            check.mean_of_parts,
            (lambda m, n: sum(a * b for a, b in zip(m, n, strict=True)),),
            "this is the sum",
        ),
        (
            check.mean_of_parts,
            (lambda m, n: sum(a * b for a, b in zip(m, n, strict=True)) / 3,),
            "number of parts",
        ),
        (check.mean_of_parts, (lambda m, n: 1.0,), "not 2.6250"),
        (check.adamw_step, (adam(momentum=False),), "m is"),
        (check.adamw_step, (adam(squares=False),), "mean of the squares"),
        (check.adamw_step, (adam(unbiased=False),), "start at 0"),
        (check.adamw_step, (adam(decays=False),), "does not decay"),
        (check.adamw_step, (adam(late=True),), "the old weight decays"),
        (check.adamw_step, (adam(sign=-1),), "walks up"),
        (
            check.adamw_step,
            (lambda w, g, m, v, *q: (w, 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2),),
            "weight tensor",
        ),
        (check.flops, (counted(more=1),), "the parts are"),
        (check.flops, (counted(scale=0.5),), "count 2"),
        (check.flops, (counted(scale=3),), "the forward pass alone"),
        (check.flops, (counted(maps=3),), "four maps"),
        (check.flops, (counted(products=1),), "two products"),
        (check.flops, (counted(network=1),), "not 2,560"),
    ],
)
def test_wrong_answers_about_training_get_the_hint_that_fits(checker, answers, says):
    assert says in hint(checker, *answers)
