"""Checkers for the exercises of the chapters on losses and on training; see `check`, whose rules they follow."""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from check import _ask, _same
from torch import Tensor

# --- The output layer and its losses


def _question() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States (3, 2), catalogue (4, 2), biases (4,) and targets from 1 (3,)."""
    generator = torch.Generator().manual_seed(0)
    state, catalogue, bias = (torch.randn(*shape, generator=generator) for shape in ((3, 2), (4, 2), (4,)))
    return state, catalogue, bias, torch.tensor([2, 1, 3])


def cross_entropy(my_cross_entropy: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> str:
    """`my_cross_entropy(state, catalogue, bias, target)`: summed over positions."""
    state, catalogue, bias, target = _question()
    scores = state @ catalogue.T + bias
    right, answer = F.cross_entropy(scores, target - 1, reduction="sum"), _ask(my_cross_entropy, *_question())
    assert answer.shape == (), f"shape {tuple(answer.shape)}; the sum over positions is one number"
    assert not _same(answer, right / 3), "this is the mean over positions: give the sum"
    assert not _same(answer, -right), "the sign: minus the logarithm of the chance"
    assert not _same(answer, F.cross_entropy(scores, target, reduction="sum")), "off by one: item 1 is column 0"
    assert not _same(answer, F.cross_entropy(scores - bias, target - 1, reduction="sum")), "the biases are left out"
    across = -scores.log_softmax(0)[torch.arange(3), target - 1].sum()
    assert not _same(answer, across), (
        "the softmax runs over the positions: it must run over the catalogue, the last axis"
    )
    assert _same(answer, right), f"{answer:.4f} should be {right:.4f}"
    far = _ask(my_cross_entropy, 1000 * state, catalogue, bias, target)
    assert far.isfinite(), "large scores give infinity or NaN: subtract the largest, or use logsumexp"
    return "Right: the logarithm of the total, minus the right score, summed."


def catalogue_gradient(my_gradient: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> str:
    """`my_gradient(state, catalogue, bias, target)`: of the summed loss by the catalogue."""
    state, catalogue, bias, target = _question()
    catalogue.requires_grad_()
    scores = state @ catalogue.T + bias
    (right,) = torch.autograd.grad(F.cross_entropy(scores, target - 1, reduction="sum"), catalogue)
    catalogue, scores = catalogue.detach(), scores.detach()
    answer = _ask(my_gradient, *_question())
    error = scores.softmax(-1) - F.one_hot(target - 1, 4)
    assert answer.shape != (3, 2), (
        "shape (3, 2) is the gradient by the states: error @ catalogue; the catalogue is asked"
    )
    assert answer.shape != (3, 4), "this is the gradient by the scores: carry it on to the catalogue"
    assert answer.shape == (4, 2), f"shape {tuple(answer.shape)}; the gradient has the catalogue's, (4, 2)"
    assert not _same(answer, -right), "the sign is turned round: p - e, not e - p"
    assert not _same(answer, right / 3), "this is of the mean loss: the sum is asked"
    assert not _same(answer, scores.softmax(-1).T @ state), "1 must be taken off at each target"
    assert not _same(answer, (scores.softmax(-1) - F.one_hot(target, 4)).T @ state), "off by one: item 1 is column 0"
    assert _same(answer, error.T @ state), f"gradient\n{answer}\nshould be\n{right}"
    return "Right: what was believed, less what happened, times who asked."


def log_q(my_log_q: Callable[[Tensor, float, int], Tensor]) -> str:
    """`my_log_q(counts, power, draws)`: log of how often each item is expected among the draws."""
    counts = torch.tensor([16, 4, 1, 0])
    at_least_one = counts.clamp_min(1).double()
    for power in (0.5, 1.0, 0.0):
        share = at_least_one**power / (at_least_one**power).sum()
        right, answer = (8 * share).log(), _ask(my_log_q, counts, power, 8)
        case = f"power {power}"
        assert answer.shape == (4,), f"shape {tuple(answer.shape)}; one number for each of 4 items"
        assert answer.isfinite().all(), f"{case}: an item with count 0 gives infinity: treat it as 1"
        assert not _same(answer, share.log()), f"{case}: the number of draws is missing: expected *among 8 draws*"
        assert not _same(answer, 8 * share), f"{case}: these are the counts expected: take the logarithm"
        assert not _same(answer, (8 * at_least_one**power).log()), f"{case}: divide by the sum: shares sum to 1"
        plain = at_least_one / at_least_one.sum()
        assert power == 1 or not _same(answer, (8 * plain).log()), f"{case}: the power is left out"
        assert power == 1 or not _same(answer, (8 * plain**power).log()), (
            f"{case}: raise first, then divide by the sum"
        )
        assert _same(answer, right), f"{case}: {answer} should be {right}"
    return "Right: draws times share, and its logarithm."


def calibration(my_t: Callable[[float, float, int, int], float]) -> str:
    """`my_t(p, sigma, negatives, catalogue)`: gBCE's t that makes a chance p look like sigma."""
    for p, t, negatives, catalogue in ((0.01, 0.75, 256, 1683), (0.001, 0.0, 64, 1001), (0.05, 1.0, 128, 5001)):
        alpha = negatives / (catalogue - 1)
        beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
        sigma = beta * p / (beta * p + alpha * (1 - p))
        answer = float(my_t(p, sigma, negatives, catalogue))
        case = f"p = {p}, sigma = {sigma:.4f}, {negatives} negatives of {catalogue}"
        assert math.isfinite(answer), f"{case}: {answer}; 1 - 1/alpha is not 0 here"
        assert not math.isclose(answer, 1 - t, abs_tol=1e-6), f"{case}: this is 1 - t"
        assert not math.isclose(answer, beta, rel_tol=1e-6), f"{case}: this is beta: solve it for t"
        near = negatives / catalogue
        shifted = (beta / alpha - 1 / near) / (1 - 1 / near)
        assert math.isclose(answer, t, abs_tol=1e-6) or not math.isclose(answer, shifted, abs_tol=1e-6), (
            f"{case}: alpha is over catalogue - 1, for the right film is no negative"
        )
        assert math.isclose(answer, t, abs_tol=1e-6), f"{case}: t = {answer:.4f}, not {t}"
    return "Right: belief to weight, weight to t."


def novelty(my_novelty: Mapping[str, tuple[float, float]]) -> str:
    """`my_novelty`: novelty@10 in bits and coverage@10 of each of six models."""
    assert len(my_novelty) == 6, f"{len(my_novelty)} models; six were trained"
    for name, pair in my_novelty.items():
        assert len(pair) == 2, f"{name}: a pair is wanted, novelty and coverage"
        bits, coverage = (float(value) for value in pair)
        assert 0 <= coverage <= 1, f"{name}: coverage {coverage} is a share: are the two swapped?"
        assert 1 < bits < 17, (
            f"{name}: novelty {bits:.2f} bits; -log2 of a share of 98,114 events lies between 1 and 17"
        )
    assert len({round(float(bits), 6) for bits, _ in my_novelty.values()}) > 1, "all alike: is each its own model?"
    least = min(my_novelty, key=lambda name: my_novelty[name][0])
    return f"Right: the most popular films are shown by {least}."
