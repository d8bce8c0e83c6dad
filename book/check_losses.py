"""Checkers for the exercises of the chapters on losses and on training; see `check`,
whose rules they follow."""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from answers import checker
from check import _ask, _same
from torch import Tensor

# --- The output layer and its losses


def _question() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States (3, 2), catalogue (4, 2), biases (4,) and targets from 1 (3,)."""
    generator = torch.Generator().manual_seed(0)
    state, catalogue, bias = (
        torch.randn(*shape, generator=generator) for shape in ((3, 2), (4, 2), (4,))
    )
    return state, catalogue, bias, torch.tensor([2, 1, 3])


@checker
def cross_entropy(
    my_cross_entropy: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
) -> str:
    """`my_cross_entropy(state, catalogue, bias, target)`: summed over positions."""
    state, catalogue, bias, target = _question()
    scores = state @ catalogue.T + bias
    right, answer = (
        F.cross_entropy(scores, target - 1, reduction="sum"),
        _ask(my_cross_entropy, *_question()),
    )
    assert answer.shape == (), (
        f"shape {tuple(answer.shape)}; the sum over positions is one number"
    )
    assert not _same(answer, right / 3), "this is the mean over positions: give the sum"
    assert not _same(answer, -right), "the sign: minus the logarithm of the chance"
    assert not _same(answer, F.cross_entropy(scores, target, reduction="sum")), (
        "off by one: item 1 is column 0"
    )
    assert not _same(
        answer, F.cross_entropy(scores - bias, target - 1, reduction="sum")
    ), "the biases are left out"
    across = -scores.log_softmax(0)[torch.arange(3), target - 1].sum()
    assert not _same(answer, across), (
        "the softmax runs over the positions: it must run over the catalogue, the last"
        " axis"
    )
    assert _same(answer, right), f"{answer:.4f} should be {right:.4f}"
    far = _ask(my_cross_entropy, 1000 * state, catalogue, bias, target)
    assert far.isfinite(), (
        "large scores give infinity or NaN: subtract the largest, or use logsumexp"
    )
    return "Right: the logarithm of the total, minus the right score, summed."


@checker
def catalogue_gradient(
    my_gradient: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
) -> str:
    """`my_gradient(state, catalogue, bias, target)`: of the summed loss by the
    catalogue."""
    state, catalogue, bias, target = _question()
    catalogue.requires_grad_()
    scores = state @ catalogue.T + bias
    (right,) = torch.autograd.grad(
        F.cross_entropy(scores, target - 1, reduction="sum"), catalogue
    )
    catalogue, scores = catalogue.detach(), scores.detach()
    answer = _ask(my_gradient, *_question())
    error = scores.softmax(-1) - F.one_hot(target - 1, 4)
    assert answer.shape != (3, 2), (
        "shape (3, 2) is the gradient by the states: error @ catalogue; the catalogue"
        " is asked"
    )
    assert answer.shape != (
        3,
        4,
    ), "this is the gradient by the scores: carry it on to the catalogue"
    assert answer.shape == (
        4,
        2,
    ), f"shape {tuple(answer.shape)}; the gradient has the catalogue's, (4, 2)"
    assert not _same(answer, -right), "the sign is turned round: p - e, not e - p"
    assert not _same(answer, right / 3), "this is of the mean loss: the sum is asked"
    assert not _same(answer, scores.softmax(-1).T @ state), (
        "1 must be taken off at each target"
    )
    assert not _same(answer, (scores.softmax(-1) - F.one_hot(target, 4)).T @ state), (
        "off by one: item 1 is column 0"
    )
    assert _same(answer, error.T @ state), f"gradient\n{answer}\nshould be\n{right}"
    return "Right: what was believed, less what happened, times who asked."


@checker
def log_q(my_log_q: Callable[[Tensor, float, int], Tensor]) -> str:
    """`my_log_q(counts, power, draws)`: log of how often each item is expected among
    the draws."""
    counts = torch.tensor([16, 4, 1, 0])
    at_least_one = counts.clamp_min(1).double()
    for power in (0.5, 1.0, 0.0):
        share = at_least_one**power / (at_least_one**power).sum()
        right, answer = (8 * share).log(), _ask(my_log_q, counts, power, 8)
        case = f"power {power}"
        assert answer.shape == (4,), (
            f"shape {tuple(answer.shape)}; one number for each of 4 items"
        )
        assert answer.isfinite().all(), (
            f"{case}: an item with count 0 gives infinity: treat it as 1"
        )
        assert not _same(answer, share.log()), (
            f"{case}: the number of draws is missing: expected *among 8 draws*"
        )
        assert not _same(answer, 8 * share), (
            f"{case}: these are the counts expected: take the logarithm"
        )
        assert not _same(answer, (8 * at_least_one**power).log()), (
            f"{case}: divide by the sum: shares sum to 1"
        )
        plain = at_least_one / at_least_one.sum()
        assert power == 1 or not _same(answer, (8 * plain).log()), (
            f"{case}: the power is left out"
        )
        assert power == 1 or not _same(answer, (8 * plain**power).log()), (
            f"{case}: raise first, then divide by the sum"
        )
        assert _same(answer, right), f"{case}: {answer} should be {right}"
    return "Right: draws times share, and its logarithm."


@checker
def calibration(my_t: Callable[[float, float, int, int], float]) -> str:
    """`my_t(p, sigma, negatives, catalogue)`: gBCE's t that makes a chance p look like
    sigma."""
    for p, t, negatives, catalogue in (
        (0.01, 0.75, 256, 1683),
        (0.001, 0.0, 64, 1001),
        (0.05, 1.0, 128, 5001),
    ):
        alpha = negatives / (catalogue - 1)
        beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
        sigma = beta * p / (beta * p + alpha * (1 - p))
        answer = float(my_t(p, sigma, negatives, catalogue))
        case = f"p = {p}, sigma = {sigma:.4f}, {negatives} negatives of {catalogue}"
        assert math.isfinite(answer), f"{case}: {answer}; 1 - 1/alpha is not 0 here"
        assert not math.isclose(answer, 1 - t, abs_tol=1e-6), f"{case}: this is 1 - t"
        assert not math.isclose(answer, beta, rel_tol=1e-6), (
            f"{case}: this is beta: solve it for t"
        )
        near = negatives / catalogue
        shifted = (beta / alpha - 1 / near) / (1 - 1 / near)
        assert math.isclose(answer, t, abs_tol=1e-6) or not math.isclose(
            answer, shifted, abs_tol=1e-6
        ), f"{case}: alpha is over catalogue - 1, for the right film is no negative"
        assert math.isclose(answer, t, abs_tol=1e-6), (
            f"{case}: t = {answer:.4f}, not {t}"
        )
    return "Right: belief to weight, weight to t."


@checker
def novelty(my_novelty: Mapping[str, tuple[float, float]]) -> str:
    """`my_novelty`: novelty@10 in bits and coverage@10 of each of six models."""
    assert len(my_novelty) == 6, f"{len(my_novelty)} models; six were trained"
    for name, pair in my_novelty.items():
        assert len(pair) == 2, f"{name}: a pair is wanted, novelty and coverage"
        bits, coverage = (float(value) for value in pair)
        assert 0 <= coverage <= 1, (
            f"{name}: coverage {coverage} is a share: are the two swapped?"
        )
        assert 1 < bits < 17, (
            f"{name}: novelty {bits:.2f} bits; -log2 of a share of 98,114 events lies"
            " between 1 and 17"
        )
    assert len({round(float(bits), 6) for bits, _ in my_novelty.values()}) > 1, (
        "all alike: is each its own model?"
    )
    least = min(my_novelty, key=lambda name: my_novelty[name][0])
    return f"Right: the most popular films are shown by {least}."


# --- Training


@checker
def rate(my_rate: Callable[[int, int, int], float]) -> str:
    """`my_rate(step, steps, warmup)`: share of the highest learning rate, warm-up and
    cosine."""
    for step, steps, warmup in (
        (0, 100, 9),
        (4, 100, 9),
        (8, 100, 9),
        (9, 100, 9),
        (50, 100, 0),
        (99, 100, 9),
        (40, 80, 20),
    ):
        answer, case = (
            float(my_rate(step, steps, warmup)),
            f"step {step} of {steps}, warm-up {warmup}",
        )
        if step < warmup:
            assert answer != step / warmup, (
                f"{case}: {answer:.3f}; the first step must not be 0: (step + 1) /"
                " (warmup + 1)"
            )
            right = (step + 1) / (warmup + 1)
        else:
            done = (step - warmup) / (steps - warmup)
            right = 0.1 + 0.45 * (1 + math.cos(math.pi * done))
            assert done == 0 or not math.isclose(
                answer, 0.5 * (1 + math.cos(math.pi * done)), abs_tol=1e-9
            ), f"{case}: this ends at 0: it must end at a tenth"
            late = 0.1 + 0.45 * (1 + math.cos(math.pi * step / steps))
            assert warmup == 0 or not math.isclose(answer, late, abs_tol=1e-9), (
                f"{case}: the cosine begins after the warm-up"
            )
            whole = 0.1 + 0.45 * (1 + math.cos(2 * math.pi * done))
            assert done == 0 or not math.isclose(answer, whole, abs_tol=1e-9), (
                f"{case}: half a cosine, not a whole one"
            )
        assert math.isclose(answer, right, abs_tol=1e-9), (
            f"{case}: {answer:.4f}, not {right:.4f}"
        )
    return "Right: up in a straight line, down along half a cosine, to a tenth."


@checker
def clip(my_clip: Callable[[list[Tensor], float], list[Tensor]]) -> str:
    """`my_clip(gradients, most)`: all tensors as one vector, shortened to `most`."""
    # Length 5
    gradients = [
        torch.tensor([[2.0, 0], [2, 0]]),
        torch.tensor([1.0, -4.0]),
    ]
    answer = [torch.as_tensor(g) for g in my_clip([g.clone() for g in gradients], 2.0)]
    assert [g.shape for g in answer] == [g.shape for g in gradients], (
        "the shapes of the gradients must stay"
    )
    each = [g / g.norm() * 2 for g in gradients]
    assert not all(_same(a, g) for a, g in zip(answer, each, strict=True)), (
        "each tensor is clipped by itself, which turns the direction: one length for"
        " all"
    )
    assert not all(
        _same(a, g.clamp(-2, 2)) for a, g in zip(answer, gradients, strict=True)
    ), (
        "each number is clipped by itself, which turns the direction: scale all by one"
        " factor"
    )
    assert not all(
        _same(a, g / 2.5 / 5) for a, g in zip(answer, gradients, strict=True)
    ), "divided by the squared length"
    assert not all(_same(a, g / 5) for a, g in zip(answer, gradients, strict=True)), (
        "length 1, whatever `most` is"
    )
    assert all(_same(a, g * 0.4) for a, g in zip(answer, gradients, strict=True)), (
        f"{answer} should be 0.4 times as long"
    )
    short = [torch.as_tensor(g) for g in my_clip([g.clone() for g in gradients], 50.0)]
    assert all(_same(a, g) for a, g in zip(short, gradients, strict=True)), (
        "a gradient that is short enough must stay as it is"
    )
    return "Right: one factor for all, and none where it is short enough."


@checker
def mean_of_parts(my_mean: Callable[[list[float], list[int]], float]) -> str:
    """`my_mean(means, counts)`: the mean loss of a step from that of its parts."""
    means, counts = [2.0, 5.0, 3.0], [10, 2, 4]
    answer, right = float(my_mean(list(means), list(counts))), 42 / 16
    assert not math.isclose(answer, 10 / 3), (
        "the mean of the means: parts with few positions count for too much"
    )
    assert not math.isclose(answer, 42), "this is the sum: divide by all positions"
    assert not math.isclose(answer, 42 / 3), (
        "divided by the number of parts: divide by all positions"
    )
    assert math.isclose(answer, right), f"{answer:.4f}, not {right:.4f}"
    return "Right: every position counts alike."


@checker
def adamw_step(my_step: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> str:
    """`my_step(weight, gradient, m, v, n, lr, decay)`: the new weight, m and v."""
    generator = torch.Generator().manual_seed(0)
    weight, gradients = (
        torch.randn(3, generator=generator),
        torch.randn(3, 3, generator=generator),
    )
    lr, decay = 0.1, 0.5
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.AdamW([parameter], lr=lr, weight_decay=decay)
    m = v = torch.zeros(3)
    for n, gradient in enumerate(gradients, 1):
        parameter.grad = gradient.clone()
        before = parameter.detach().clone()
        optimizer.step()
        right_m, right_v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        given = (before.clone(), gradient.clone(), m.clone(), v.clone(), n, lr, decay)
        new, new_m, new_v = (torch.as_tensor(part) for part in my_step(*given))
        assert _same(new_m, right_m), f"step {n}: m is {new_m}, not {right_m}"
        assert _same(new_v, right_v, 1e-6), (
            f"step {n}: v is {new_v}, not {right_v}; it is the mean of the squares"
        )
        raw = before * (1 - lr * decay) - lr * right_m / (right_v.sqrt() + 1e-8)
        assert not _same(new, raw), (
            f"step {n}: m and v start at 0: divide them by 1 - 0.9^n and 1 - 0.999^n"
        )
        plain = parameter.detach() + lr * decay * before
        assert not _same(new, plain), f"step {n}: the weight does not decay"
        late = plain * (1 - lr * decay)
        assert _same(late, parameter.detach()) or not _same(new, late), (
            f"step {n}: the old weight decays, not the new one"
        )
        assert not _same(new, 2 * before - parameter.detach()), (
            f"step {n}: this walks up the gradient"
        )
        assert _same(new, parameter.detach()), (
            f"step {n}: weight {new}, not {parameter.detach()}"
        )
        m, v = right_m, right_v
    return "Right: three steps in a row as PyTorch takes them."


@checker
def flops(my_flops: Callable[[int, int, int], Mapping[str, int]]) -> str:
    """`my_flops(T, D, V)`: operations of one forward pass over one history, by part."""
    for T, D, V in ((10, 8, 100), (7, 16, 33)):
        answer = {name: int(value) for name, value in my_flops(T, D, V).items()}
        right = {
            "maps": 8 * T * D * D,
            "attention": 4 * T * T * D,
            "network": 4 * T * D * D,
            "output": 2 * T * D * V,
        }
        assert set(answer) == set(right), (
            f"the parts are {', '.join(right)}, not {', '.join(answer)}"
        )
        for name, value in right.items():
            said = f"{name} with T = {T}, D = {D}, V = {V}"
            assert answer[name] != value // 2 or name == "attention", (
                f"{said}: a multiplication and an addition count 2"
            )
            assert answer[name] != 3 * value, (
                f"{said}: this is the whole step: the forward pass alone is asked"
            )
            assert name != "maps" or answer[name] != 3 * value // 4, (
                f"{said}: four maps: queries, keys, values, and the joined"
            )
            assert name != "attention" or answer[name] != value // 2, (
                f"{said}: two products: the scores, and the average"
            )
            assert answer[name] == value, f"{said}: {answer[name]:,}, not {value:,}"
    return (
        "Right: attention grows with the square of the history, all else in proportion."
    )
