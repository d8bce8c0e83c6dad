"""Checkers for the exercises of the sequential chapters; see `check.py`, whose rules
hold here too."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from answers import checker
from check import _ask, _same
from torch import Tensor

# --- The classic recipe


@checker
def lstm_step(my_step: Callable[..., tuple[Tensor, Tensor]]) -> str:
    """`my_step(x, h, c, weight_x, weight_h, bias)`: the next h and c; gates in the
    order input, forget, new, output."""
    generator = torch.Generator().manual_seed(0)
    x, h, c = (torch.randn(size, generator=generator) for size in (3, 2, 2))
    weight_x, weight_h, bias = (
        torch.randn(*size, generator=generator) for size in ((8, 3), (8, 2), (8,))
    )
    inputs = [tensor.clone() for tensor in (x, h, c, weight_x, weight_h, bias)]
    answer = my_step(*inputs)
    assert isinstance(answer, tuple | list) and len(answer) == 2, (
        "return two vectors, h and c"
    )
    my_h, my_c = (torch.as_tensor(part) for part in answer)
    assert my_h.shape == my_c.shape == (2,), (
        f"shapes {tuple(my_h.shape)} and {tuple(my_c.shape)}; both are (2,)"
    )
    gates = weight_x @ x + weight_h @ h + bias
    put, keep, new, out = gates.chunk(4)
    right_c = keep.sigmoid() * c + put.sigmoid() * new.tanh()
    right_h = out.sigmoid() * right_c.tanh()
    assert not _same(my_c, right_h) or not _same(my_h, right_c), (
        "h and c are the wrong way round"
    )
    assert not _same(my_c, put.sigmoid() * c + keep.sigmoid() * new.tanh()), (
        "input and forget gate are exchanged"
    )
    assert not _same(my_c, keep.sigmoid() * c + put.sigmoid() * new.sigmoid()), (
        "the new content goes through tanh"
    )
    assert not _same(my_c, keep.sigmoid() * c + put.sigmoid() * out.tanh()), (
        "the order is input, forget, new, output"
    )
    assert not _same(my_c, keep.sigmoid() * c + new.tanh()), (
        "the input gate says how much of the new content goes in"
    )
    assert _same(my_c, right_c), f"c is {my_c}; it should be {right_c}"
    assert not _same(my_h, out.sigmoid() * right_c), (
        "what is shown is tanh of the memory, times the output gate"
    )
    assert not _same(my_h, out.sigmoid() * c.tanh()), (
        "h shows the new memory, not the old one"
    )
    assert _same(my_h, right_h), f"h is {my_h}; it should be {right_h}"
    return "Right: forget some, add some, show some."


@checker
def masked_mean(my_mean: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_mean(vectors, keep)`: the mean (B, D) of the kept rows of (B, T, D); zeros
    where nothing is kept."""
    vectors = torch.tensor(
        [[[1.0, 2], [3, 4], [9, 9]], [[2, 2], [7, 7], [7, 7]], [[5, 5], [5, 5], [5, 5]]]
    )
    keep = torch.tensor(
        [[True, True, False], [True, False, False], [False, False, False]]
    )
    right, answer = (
        torch.tensor([[2.0, 3], [2, 2], [0, 0]]),
        _ask(my_mean, vectors, keep),
    )
    assert answer.shape == (
        3,
        2,
    ), f"shape {tuple(answer.shape)}; three histories of width 2 give (3, 2)"
    assert not _same(answer[:2], vectors.mean(1)[:2]), (
        "the padding is averaged too: multiply by the mask first"
    )
    assert not _same(answer[:2], (vectors * keep[..., None]).mean(1)[:2]), (
        "divided by T: divide by how many are kept"
    )
    assert not answer[2].isnan().any(), (
        "nothing kept gives 0 / 0: divide by the count, but by 1 at least"
    )
    assert _same(answer, right), f"means\n{answer}\nshould be\n{right}"
    holes = vectors.masked_fill(~keep[..., None], torch.nan)
    assert not _ask(my_mean, holes, keep).isnan().any(), (
        "NaN in the padding comes through: NaN times 0 is NaN"
    )
    return "Right: padding counts for nothing, and an empty history is zeros."


@checker
def accuracy(my_accuracy: Callable[[list[tuple[Tensor, Tensor]]], float]) -> str:
    """`my_accuracy(batches)`: the share of right rows; a batch is scores (B, V) and
    labels (B,)."""
    one_hot = torch.eye(4)
    batches = [
        (one_hot[[0, 1, 2, 3]], torch.tensor([0, 1, 2, 0])),
        (one_hot[[1]], torch.tensor([2])),
    ]
    answer = float(
        my_accuracy([(scores.clone(), labels.clone()) for scores, labels in batches])
    )
    assert not math.isclose(answer, 0.375), (
        "this is the mean of the batches' means: the short batch counts too much"
    )
    assert not math.isclose(answer, 3.0), (
        "this is how many are right: divide by how many there are"
    )
    assert not math.isclose(answer, 1.5), (
        "divided by the number of batches: divide by the number of rows"
    )
    assert math.isclose(answer, 0.6, abs_tol=1e-6), (
        f"{answer:.3f}; three rows of five are right, 0.6"
    )
    return "Right: every row counts once, whatever batch it came in."


@checker
def xavier(my_xavier: Callable[[torch.nn.LSTM], None]) -> str:
    """`my_xavier(lstm)` draws each gate's matrix by Xavier's rule, in place, and sets
    biases to 0."""
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(40, 24, 2)
    before = [p.detach().clone() for p in lstm.parameters()]
    my_xavier(lstm)
    matrices = {name: p for name, p in lstm.named_parameters() if p.dim() > 1}
    assert not all(
        torch.equal(a, b) for a, b in zip(before, lstm.parameters(), strict=True)
    ), "nothing has changed"
    for name, matrix in matrices.items():
        for gate in matrix.detach().chunk(4):
            bound, wide = (
                math.sqrt(6 / sum(gate.shape)),
                math.sqrt(6 / sum(matrix.shape)),
            )
            largest = float(gate.abs().max())
            assert not largest <= wide, (
                f"{name} stays below {wide:.3f}: all four gates were drawn as one"
                " matrix; draw each for its own size"
            )
            assert 0.9 * bound < largest <= bound + 1e-6, (
                f"{name}: up to {largest:.3f}; its bound is {bound:.3f}"
            )
    for name, p in lstm.named_parameters():
        assert p.dim() > 1 or not p.any(), f"{name}: biases begin at 0"
    return "Right: four gates, four matrices, each with its own bound."


# --- What comes next


@checker
def recency_weights(my_weights: Callable[[Tensor, Tensor, float], Tensor]) -> str:
    """`my_weights(scores, age, half_life)`: attention weights (L, K) in which an
    event's share halves with its age."""
    scores, age, half_life = (
        torch.tensor([[1.0, 0, 2], [0, 0, 0]]),
        torch.tensor([4.0, 2, 0]),
        2.0,
    )
    decay = 0.5 ** (age / half_life)
    plain = scores.softmax(-1)
    right, answer = (
        (plain * decay) / (plain * decay).sum(-1, keepdim=True),
        _ask(my_weights, scores, age, half_life),
    )
    assert answer.shape == (
        2,
        3,
    ), f"shape {tuple(answer.shape)}; two queries and three events give (2, 3)"
    assert not _same(answer, plain), "age changes nothing"
    assert not _same(answer, plain * decay), (
        "rows no longer sum to 1: add log(decay) to the scores, before the softmax"
    )
    assert not _same(answer, (scores * decay).softmax(-1)), (
        "the scores were multiplied: a score of 0 never fades then; add the logarithm"
        " of the decay"
    )
    assert not _same(answer, (scores + decay).softmax(-1)), (
        "the decay was added itself: add its logarithm"
    )
    assert not _same(answer, (scores - age / half_life).softmax(-1)), (
        "that decays by e: a half-life halves, so by 2"
    )
    assert not _same(answer, (scores - decay.log()).softmax(-1)), (
        "the sign is turned round: old events grow"
    )
    assert _same(answer, right), f"weights\n{answer}\nshould be\n{right}"
    return (
        "Right: a bias on the scores is a factor on the weights, and rows still sum"
        " to 1."
    )


@checker
def keep_best(my_keep: Callable[[Any, int], list[Any]]) -> str:
    """`my_keep(stream, k)`: the posts with the k highest values, best first, from an
    iterator of (value, post)."""
    values = [0.3, 0.9, 0.1, 0.9, 0.7, 0.2, 0.8]
    try:
        answer = my_keep(((value, f"post {i}") for i, value in enumerate(values)), 3)
    except TypeError as error:
        raise AssertionError(
            f"{error}: the stream can be walked through once, and has no length"
        ) from None
    assert answer is not None, "the function returns None: did you forget `return`?"
    answer = list(answer)
    assert len(answer) == 3, f"{len(answer)} posts; 3 were asked for"
    assert not all(isinstance(post, tuple) for post in answer), (
        "return the posts alone, without their values"
    )
    assert set(answer) != {"post 2", "post 5", "post 0"}, "these are the worst three"
    assert set(answer) == {
        "post 1",
        "post 3",
        "post 6",
    }, f"kept {answer}; the best are posts 1, 3 and 6"
    assert answer != [
        "post 6",
        "post 3",
        "post 1",
    ], "the worst of them comes first: turn it round"
    assert answer != [
        "post 3",
        "post 1",
        "post 6",
    ], "of equal values, the post that came first goes first"
    assert answer == ["post 1", "post 3", "post 6"], f"{answer}: best first"
    few = list(my_keep(iter([(0.5, "only")]), 3))
    assert few == ["only"], (
        f"a stream shorter than k gives {few}; it should give what there is"
    )
    return "Right: one pass, k posts in memory, the best first."


@checker
def replaced(my_replaced: Callable[[list[int], float, int, Any], list[int]]) -> str:
    """`my_replaced(history, share, items, rng)`: that share of the events, at random
    places, becomes random items."""
    history, places = list(range(1, 21)), []
    for seed in range(30):
        given = list(history)
        answer = list(my_replaced(given, 0.25, 1000, np.random.default_rng(seed)))
        assert given == history, (
            "the history that was passed in has changed: work on a copy"
        )
        assert len(answer) == 20, (
            f"{len(answer)} events; a replaced event is still an event, so 20"
        )
        assert all(1 <= item <= 1000 for item in answer), (
            "items are numbered from 1 to `items`"
        )
        moved = [
            place
            for place, (a, b) in enumerate(zip(history, answer, strict=True))
            if a != b
        ]
        assert len(moved) <= 5, f"{len(moved)} of 20 events replaced; a quarter is 5"
        assert len(moved) >= 3, (
            f"only {len(moved)} of 20 events replaced: draw the places without putting"
            " them back"
        )
        places += moved
    assert len(set(places)) > 15, "always the same places: draw them at random"
    return "Right: the same length, the same order, some events that mean nothing."
