"""Checkers for the exercises: each names the likely mistake, or says that the answer is
right. Beside the notebooks.

A wrong answer is told what is probably wrong with it, a right one that it is right.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import radio
import torch
from answers import checker
from torch import Tensor

from attncore import attention


def _ask(function: Callable[..., Any], *inputs: Any) -> Tensor:
    """The answer as a tensor; the inputs are copies, so that a function may write into
    its own."""
    name = getattr(function, "__name__", "the function")
    result = function(*[x.clone() if isinstance(x, Tensor) else x for x in inputs])
    assert result is not None, f"{name} returns None: did you forget `return`?"
    return torch.as_tensor(result)


def _same(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    return a.shape == b.shape and torch.allclose(
        a.to(b.dtype), b, atol=tolerance, rtol=tolerance
    )


# --- Query, key, value and context vectors


@checker
def shapes(my_shapes: Mapping[str, tuple[int, ...]]) -> str:
    """`my_shapes` for 3 queries of width 8, 20 events, values of width 16."""
    right = {"scores": (3, 20), "weights": (3, 20), "attended": (3, 16)}
    for name, shape in right.items():
        assert name in my_shapes, f"the answer has no entry {name!r}"
        answer = tuple(my_shapes[name])
        assert answer != shape[::-1], (
            f"{name} {answer}: the other way round, a row belongs to a query"
        )
        hint = (
            "the width of the attended vectors is that of the values"
            if name == "attended"
            else "queries x events"
        )
        assert answer == shape, f"{name} {answer}: {hint}"
    return "Right: L x K, L x K, and L x the width of the values."


@checker
def query_for(my_query: Tensor, key: Tensor, event: int, least: float = 0.9) -> str:
    """`my_query` (E,) whose weight on `key[event]` is at least `least`."""
    query = torch.as_tensor(my_query, dtype=torch.float32)
    assert query.shape == key.shape[1:], (
        f"shape {tuple(query.shape)}; one query is {key.shape[1]} numbers"
    )
    assert torch.isfinite(query).all(), "every number must be finite"
    weights = attention.softmax(attention.scaled_dot_product(query[None], key))[0]
    best = int(weights.argmax())
    assert weights.max() - weights.min() > 1e-6, (
        "every event gets the same weight: the query prefers none"
    )
    assert best == event, (
        f"event {best} gets most, {weights[best]:.2f}, and event {event} gets"
        f" {weights[event]:.2f}: what does the key of that event have that the other"
        " does not?"
    )
    assert weights[event] >= least, (
        f"event {event} leads with {weights[event]:.2f}: the direction is right, now"
        " make the query longer"
    )
    return f"Right: event {event} gets a weight of at least {least:.2f}."


@checker
def showing_values(my_value: Tensor, events: int = 4) -> str:
    """`my_value` (K, K) with which the attended vectors are the weights."""
    value = torch.as_tensor(my_value, dtype=torch.float32)
    assert value.dim() == 2, f"{value.dim()} axes; values are a table, an event a row"
    assert len(value) == events, (
        f"{len(value)} rows; there are {events} events, each gives one value"
    )
    assert value.shape[1] == events, (
        f"width {value.shape[1]}; the attended vector must hold {events} weights"
    )
    generator = torch.Generator().manual_seed(0)
    query, key = (
        torch.randn(2, 3, generator=generator),
        torch.randn(events, 3, generator=generator),
    )
    attended, weights = attention.attend(query, key, value)
    assert weights is not None
    assert not torch.equal(value, torch.ones_like(value)), (
        "all ones: every number of the result is the sum, 1"
    )
    assert not _same(attended.sort(-1).values, weights.sort(-1).values) or _same(
        attended, weights
    ), "the right numbers in another order: event i must fill place i"
    assert _same(attended, weights), (
        f"attended\n{attended}\nis not the weights\n{weights}"
    )
    return "Right: with one-hot values the attended vector is the row of weights."


@checker
def moved(my_moved: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_moved(a, b)`: the share of the weight that lies elsewhere, of rows (...,
    K)."""
    a = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    b = torch.tensor([[0.0, 0, 1], [0, 0.5, 0.5], [0.2, 0.3, 0.5]])
    right, answer = torch.tensor([1.0, 0.5, 0.0]), _ask(my_moved, a, b)
    assert answer.shape != (), (
        "one number for all rows: sum over the events alone, the last axis"
    )
    assert answer.shape == (3,), (
        f"shape {tuple(answer.shape)}; three pairs of rows give (3,)"
    )
    assert not _same(answer, right * 2), (
        "twice too much: what leaves one event arrives at another and counts once"
    )
    assert not _same(answer, torch.zeros(3)), (
        "always 0, since both rows sum to 1: take absolute differences first"
    )
    assert not _same(answer, 2 * right / 3), (
        "this is a mean over the events: take the sum, halved"
    )
    assert not _same(answer, ((a - b) ** 2).sum(-1)), (
        "squares measure something else: take absolute differences"
    )
    assert _same(answer, right), f"{answer} should be {right}"
    return "Right: 0 for equal rows, 1 for rows that look at nothing in common."


@checker
def maps(my_figures: Mapping[str, float]) -> str:
    """`my_figures`: NDCG@10 of the request show with three maps, without the value map,
    and without any."""
    names = ("three maps", "no value map", "no maps")
    for name in names:
        assert name in my_figures, f"the answer has no entry {name!r}"
    figures = [float(my_figures[name]) for name in names]
    for name, figure in zip(names, figures, strict=True):
        assert figure < 0.65, (
            f"{name}: {figure:.2f} is more than knowing the rule gives, .59: do shows"
            " that are asked take part in training?"
        )
        assert figure > 0.3, (
            f"{name}: {figure:.2f}: 20 epochs of all 4,000 shows bring it above .5; is"
            " the softmax still there, and does the call still ask?"
        )
    assert len(set(figures)) == 3, "two figures are equal to the last digit: one model?"
    spread = max(figures) - min(figures)
    return (
        f"Plausible: the three lie within {spread:.2f}. Here the maps could be spared,"
        " since the record vectors are learned too and wide enough for both faces."
    )


# --- Softmax and attention weights


@checker
def masked_softmax(my_masked_softmax: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_masked_softmax(scores, keep)`: exactly 0 where not kept, zeros where a row
    keeps nothing."""
    scores = torch.tensor([[1.0, 2, 3], [3, 1, 0]])
    keep = torch.tensor([[True, True, False], [True, False, True]])
    right, answer = (
        attention.softmax(scores, keep),
        _ask(my_masked_softmax, scores, keep),
    )
    assert answer.shape == right.shape, (
        f"shape {tuple(answer.shape)}; weights have the shape of the scores, (2, 3)"
    )
    assert not _same(answer, scores.softmax(-1)), (
        "the mask changes nothing: is masked_fill's result kept?"
    )
    assert not _same(answer, scores.softmax(-1) * keep), (
        "the rows no longer sum to 1: mask the scores before the softmax, not the"
        " weights after it"
    )
    assert not _same(answer, attention.softmax(scores, ~keep)), (
        "the mask is the wrong way round: True keeps"
    )
    assert not _same(answer, (scores * keep).softmax(-1)), (
        "a score of 0 is still a score, exp(0) = 1: use -inf"
    )
    assert not answer.isnan().any(), (
        "NaN in a row that keeps something: -inf * 0 is NaN, so use masked_fill"
    )
    assert _same(answer, right), f"weights\n{answer}\nshould be\n{right}"
    assert (answer[~keep] == 0).all(), (
        "a weight outside the mask is small but not exactly 0: use -inf"
    )
    nowhere = _ask(
        my_masked_softmax,
        scores,
        torch.tensor([[False, False, False], [True, True, True]]),
    )
    assert not nowhere[0].isnan().any(), (
        "a row that keeps nothing is NaN: 0 / 0; decide what it should be, zeros"
    )
    assert not _same(nowhere[0], torch.full((3,), 1 / 3)), (
        "a row that may look nowhere looks everywhere alike: a large negative number is"
        " not -inf"
    )
    assert _same(nowhere[0], torch.zeros(3)), (
        f"a row that keeps nothing is {nowhere[0]}; it should be zeros"
    )
    assert _same(nowhere[1], scores[1].softmax(-1)), (
        "the row beside a row that keeps nothing goes wrong"
    )
    far = _ask(
        my_masked_softmax,
        torch.tensor([[500.0, 499.0, 900.0]]),
        torch.tensor([[True, True, False]]),
    )
    assert _same(far, torch.tensor([[0.7311, 0.2689, 0.0]]), 1e-3), (
        "a large score outside the mask matters: mask first, then take the largest of"
        " what is kept"
    )
    return (
        "Right: masked events weigh exactly 0, and a row that may look nowhere is"
        " zeros."
    )


@checker
def temperature_for(my_temperature_for: Callable[[Tensor, float], float]) -> str:
    """`my_temperature_for(scores, events)`: the temperature whose weights are as spread
    as that many events."""
    scores = torch.tensor([3.0, 1.0, 0.5, -1.0, 2.0])
    spread = []
    for wanted in (1.5, 2.5, 4.0):
        temperature = float(my_temperature_for(scores.clone(), wanted))
        assert math.isfinite(temperature), (
            f"temperature {temperature} for {wanted} events: must be a finite number"
        )
        assert temperature > 0, (
            f"temperature {temperature} for {wanted} events: must be above 0"
        )
        weights = attention.softmax(scores, temperature=temperature)
        spread.append(float((-(weights * weights.clamp_min(1e-30).log()).sum()).exp()))
        inverse = attention.softmax(scores, temperature=1 / temperature)
        turned = float((-(inverse * inverse.clamp_min(1e-30).log()).sum()).exp())
        assert abs(spread[-1] - wanted) < 0.02 or abs(turned - wanted) >= 0.02, (
            f"{temperature:.3f} is one over the right temperature: scores are divided"
            " by it, not multiplied"
        )
        assert abs(spread[-1] - wanted) < 0.02, (
            f"temperature {temperature:.3f} gives {spread[-1]:.2f} effective events,"
            f" not {wanted}: " + ("raise it" if spread[-1] < wanted else "lower it")
        )
    return (
        "Right: a higher temperature spreads the weights, and each spread has its"
        " temperature."
    )


@checker
def softmax_gradient(my_gradient: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_gradient(weights, upstream)`: the gradient by the scores, without building
    the Jacobian."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 4, generator=generator).requires_grad_()
    upstream = torch.randn(3, 4, generator=generator)
    weights = attention.softmax(scores)
    (right,) = torch.autograd.grad(weights, scores, upstream)
    weights = weights.detach()
    answer = _ask(my_gradient, weights, upstream)
    assert answer.shape != (
        3,
        4,
        4,
    ), "this is the Jacobian: multiply it with the upstream gradient"
    assert answer.shape == right.shape, (
        f"shape {tuple(answer.shape)}; the gradient has the shape of the scores, (3, 4)"
    )
    mean = (weights * upstream).sum(-1, keepdim=True)
    assert not _same(answer, weights * upstream), (
        "each weight pushes the others down: subtract the weighted mean"
    )
    assert not _same(answer, upstream - mean), (
        "the differences are right: multiply each by its weight"
    )
    assert not _same(answer, weights * (1 - weights) * upstream), (
        "this is the diagonal of the Jacobian alone: the other entries are not 0"
    )
    assert not _same(answer, weights * (upstream - upstream.mean(-1, keepdim=True))), (
        "subtract the mean weighted by the weights, not the plain mean"
    )
    assert not _same(answer, weights * (upstream - (weights * upstream).sum())), (
        "the mean is over all rows: take it in each row, over the last axis"
    )
    assert not _same(answer, -right), "the sign is turned round"
    assert _same(answer, right), f"gradient\n{answer}\nshould be\n{right}"
    return "Right: w * (g - mean of g weighted by w), and every row of it sums to 0."


@checker
def cold(my_quality: Mapping[int, float]) -> str:
    """`my_quality`: NDCG@10 of the request show by the factor that scores are
    multiplied by before training."""
    factors = (1, 3, 10, 30, 100)
    missing = [factor for factor in factors if factor not in my_quality]
    assert not missing, f"no figure for {missing[0]}: there must be five, {factors}"
    figures = {factor: float(my_quality[factor]) for factor in factors}
    for factor, figure in figures.items():
        assert 0 <= figure < 0.65, (
            f"factor {factor}: {figure:.2f} is no NDCG@10 of this show; knowing the"
            " rule gives .59"
        )
    assert len(set(figures.values())) == 5, (
        "two figures are equal to the last digit: do both train with one factor? A"
        " lambda in a loop sees the factor of the last round, unless it is a default"
    )
    assert figures[1] > 0.5, (
        f"factor 1 gives {figures[1]:.2f}, and it is the model of the chapter, above .5"
    )
    assert figures[100] < figures[1] - 0.1, (
        "a hundred times too large does no harm here: is the factor inside the softmax?"
    )
    return (
        f"Plausible: {figures[1]:.2f} as it is, {figures[100]:.2f} when every row is"
        " saturated from the start."
    )


# --- The attention layer


@checker
def joined(my_join: Callable[[Tensor], Tensor]) -> str:
    """`my_join(x)`: (H, L, E) to (L, D), head h being the columns hE to (h + 1)E -
    1."""
    right = torch.arange(24.0).reshape(4, 6)
    x = torch.stack([right[:, :2], right[:, 2:4], right[:, 4:]])
    answer = _ask(my_join, x)
    assert answer.shape != (12, 2), (
        "shape (H L, E): the heads stand below each other; lay them side by side"
    )
    assert answer.shape == (4, 6), (
        f"shape {tuple(answer.shape)}; 3 heads of 4 rows and 2 columns give (4, 6)"
    )
    assert not _same(answer, x.reshape(4, 6)), (
        "a plain reshape reads the numbers head after head, so that a row mixes"
        " queries: swap the first two axes before it"
    )
    assert not _same(answer, x.permute(1, 2, 0).reshape(4, 6)), (
        "interleaved: the numbers of one head must be neighbours"
    )
    assert _same(answer, right), f"joined\n{answer}\nshould be\n{right}"
    return "Right: a row for each query, the heads side by side in it."


@checker
def layer_parameters(my_parameters: Callable[[int, int, bool], int]) -> str:
    """`my_parameters(width, heads, additive)`: the parameters of one attention layer,
    biases included."""
    for width, number, score in (
        (64, 1, "dot"),
        (64, 8, "dot"),
        (12, 3, "additive"),
        (64, 2, "additive"),
    ):
        layer = attention.MultiHeadAttention(
            width, number, score="additive" if score == "additive" else "dot"
        )
        right = sum(p.numel() for p in layer.parameters())
        answer, case = (
            int(my_parameters(width, number, score == "additive")),
            f"D = {width}, H = {number}, {score}",
        )
        assert answer != 4 * width**2 or right == answer, (
            f"{case}: each of the maps has a bias too"
        )
        assert answer != 3 * (width**2 + width), (
            f"{case}: there is a fourth map, which joins the heads"
        )
        assert answer != number * right or number == 1, (
            f"{case}: heads are cuts of the same maps, they cost nothing"
        )
        e = width // number
        assert score == "dot" or answer != 4 * (width**2 + width) + number * (
            2 * e**2 + 2 * e
        ), f"{case}: all heads share one small network"
        assert score == "dot" or answer != 4 * (width**2 + width), (
            f"{case}: the small network has parameters too"
        )
        assert score == "dot" or answer != right + e, (
            f"{case}: only one of A and B has a bias"
        )
        assert answer == right, f"{case}: {answer:,}, not {right:,}"
    return (
        "Right: four maps however they are cut, and the network of the additive score"
        " only once."
    )


@checker
def additive(
    my_additive: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor],
) -> str:
    """`my_additive(query, key, A, B, v)`: v . tanh(q A + k B) for every pair, (L,
    K)."""
    generator = torch.Generator().manual_seed(0)
    query, key = (
        torch.randn(2, 3, generator=generator),
        torch.randn(4, 3, generator=generator),
    )
    A, B = (
        torch.randn(3, 5, generator=generator),
        torch.randn(3, 5, generator=generator),
    )
    v = torch.randn(5, generator=generator)
    right = torch.tensor(
        [[float(v @ (q @ A + k @ B).tanh()) for k in key] for q in query]
    )
    answer = _ask(my_additive, query, key, A, B, v)
    assert answer.shape != (
        2,
        4,
        5,
    ), "shape (L, K, units): the product with v sums over the units"
    assert answer.shape != (4, 2), "shape K x L: a row must be a query"
    assert answer.shape == (
        2,
        4,
    ), f"shape {tuple(answer.shape)}; 2 queries against 4 keys give (2, 4)"
    outside = torch.tensor(
        [[float((v * (q @ A + k @ B)).sum()) for k in key] for q in query]
    )
    assert not _same(answer, outside), (
        "the tanh is missing: without it the score of a pair is a sum, and queries"
        " cancel"
    )
    assert not _same(answer, outside.tanh()), (
        "tanh acts on the hidden units, before they are summed up with v"
    )
    apart = ((query @ A).tanh() @ v)[:, None] + ((key @ B).tanh() @ v)[None]
    assert not _same(answer, apart), (
        "add before the tanh: one hidden unit sees query and key together"
    )
    assert not _same(answer, right.softmax(-1)), (
        "these are weights already: the softmax comes after the scores"
    )
    assert _same(answer, right), f"scores\n{answer}\nshould be\n{right}"
    return "Right: every pair through the small network, one score each."


@checker
def disguise(my_disguise: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_disguise(query_map, key_map)`: the key map with which unmapped queries give
    the same unscaled scores."""
    generator = torch.Generator().manual_seed(0)
    query_map, key_map = torch.randn(2, 4, 3, generator=generator)
    asked, context = (
        torch.randn(2, 4, generator=generator),
        torch.randn(5, 4, generator=generator),
    )
    answer = _ask(my_disguise, query_map, key_map)
    assert answer.shape != (
        3,
        3,
    ), "shape (E, E): multiply along the width E, so that (D, D) remains"
    assert answer.shape == (4, 4), (
        f"shape {tuple(answer.shape)}; unmapped queries have width D = 4, so keys need"
        " it too"
    )
    right = (asked @ query_map) @ (context @ key_map).T
    assert not _same(asked @ (context @ answer.T).T, right), (
        "the other way round: it maps the events, so turn it over"
    )
    assert _same(asked @ (context @ answer).T, right), (
        "the scores are others: write (u W_Q)(c W_K)^T out and regroup it"
    )
    return (
        "Right: one table does the work of two maps, and is as large as the vectors are"
        " wide, squared."
    )


@checker
def unstuck(my_counts: Mapping[int, int]) -> str:
    """`my_counts`: how many of six seeds end above .5 with 2 and with 4 heads."""
    for heads in (2, 4):
        assert heads in my_counts, f"no count for {heads} heads"
        count = my_counts[heads]
        assert count == int(count), (
            f"{heads} heads: {count} is no count: how many of the six seeds?"
        )
        assert 0 <= count <= 6, f"{heads} heads: {count} of six seeds"
    assert my_counts[4] > 0, (
        "none with four heads, where all three of the page are above .5: are these"
        " shows with two-part calls?"
    )
    assert my_counts[4] >= my_counts[2], (
        "more with two heads than with four: are the two mixed up?"
    )
    return f"Plausible: {my_counts[2]} of six with 2 heads, {my_counts[4]} with 4."


# --- Self-attention


@checker
def triangle(my_triangle: Callable[[int, int], Tensor]) -> str:
    """`my_triangle(queries, context)`: True where a query may look, the queries being
    the newest events."""
    for queries, context in ((4, 4), (1, 4), (2, 5)):
        right, answer = (
            attention.causal_keep(queries, context),
            _ask(my_triangle, queries, context),
        )
        case = f"{queries} queries, {context} events"
        assert answer.shape == right.shape, (
            f"{case}: shape {tuple(answer.shape)}; a row for each query"
        )
        assert answer.dtype == torch.bool, (
            f"{case}: numbers of type {answer.dtype}; a mask is True or False"
        )
        assert not torch.equal(answer, ~right), (
            f"{case}: the wrong way round, True is where a query may look"
        )
        assert not torch.equal(answer, right.tril(context - queries - 1)), (
            f"{case}: an event may look at itself"
        )
        assert not torch.equal(
            answer, torch.ones_like(right).triu(context - queries)
        ), f"{case}: this lets every event look at what is newer, and at nothing older"
        assert queries == context or not torch.equal(
            answer, torch.ones_like(right).tril()
        ), (
            f"{case}: the queries are lined up with the oldest events; the last query"
            " must see all"
        )
        assert torch.equal(answer, right), (
            f"{case}:\n{answer.int()}\nshould be\n{right.int()}"
        )
    return (
        "Right: each query sees itself and what is older, and the last one sees"
        " everything."
    )


@checker
def unshuffled(my_unshuffled: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_unshuffled(shuffled, order)`: the rows as they would be had the input not
    been `x[order]`."""
    order = torch.tensor([2, 0, 3, 1])
    right = torch.arange(8.0).reshape(4, 2)
    answer = _ask(my_unshuffled, right[order], order)
    assert answer.shape == right.shape, (
        f"shape {tuple(answer.shape)}; no event is lost, so (4, 2)"
    )
    assert not _same(answer, right[order]), "nothing has been put back"
    assert not _same(answer, right[order][order]), (
        "shuffled a second time: `order` says where each row came from; you need where"
        " each row went"
    )
    assert _same(answer, right), f"rows\n{answer}\nshould be\n{right}"
    return "Right: every row is back where its event stands."


@checker
def places(my_places: Callable[[Tensor, int], Tensor]) -> str:
    """`my_places(lengths, T)`: how many events ago, counted from the newest real event;
    0 where padded."""
    lengths = torch.tensor([3, 1, 4])
    right = torch.tensor([[2, 1, 0, 0], [0, 0, 0, 0], [3, 2, 1, 0]])
    answer = _ask(my_places, lengths, 4)
    assert answer.shape == right.shape, (
        f"shape {tuple(answer.shape)}; 3 histories in a table of 4 columns give (3, 4)"
    )
    assert not _same(answer, torch.arange(4).flip(0).expand(3, 4)), (
        "counted from the last column, which is padding in short histories: count from"
        " the newest real event"
    )
    assert not _same(answer, torch.arange(4).expand(3, 4)), (
        "counted from the oldest: the newest has place 0"
    )
    assert not _same(answer, (lengths[:, None] - torch.arange(4)).clamp_min(0)), (
        "one too many: the newest is 0 events ago"
    )
    assert (answer >= 0).all(), (
        "negative places where padded: no embedding has such a row, use clamp_min(0)"
    )
    assert _same(answer, right), f"places\n{answer}\nshould be\n{right}"
    return (
        "Right: the newest event of every history is at place 0, whatever its length."
    )


@checker
def peeks(my_peeks: Callable[[Any, Tensor], bool]) -> str:
    """`my_peeks(model, items)`: does an output depend on a later item?"""
    table = torch.linspace(-1, 1, 7 * 3).reshape(7, 3).sin()
    items = torch.tensor([[3, 1, 4, 1, 5, 2], [2, 6, 5, 3, 5, 0]])

    def looking(first: int, ahead: int) -> Callable[[Tensor], tuple[Tensor, None]]:
        def model(items: Tensor) -> tuple[Tensor, None]:
            x = table[items]
            out = x.cumsum(1)
            if ahead:
                last = min(first + ahead, items.shape[1] - 1)
                out[:, first] = out[:, first] + x[:, last]
            return out, None

        return model

    def told(first: int, ahead: int) -> bool:
        answer = my_peeks(looking(first, ahead), items.clone())
        assert answer is not None, "my_peeks returns None: did you forget `return`?"
        return bool(answer)

    assert not told(0, 0), "it calls a model that only looks back a peeping one"
    assert told(2, 3), "a model whose event 2 looks at event 5 passes unnoticed"
    assert told(4, 1), (
        "a model whose event 4 looks one place ahead passes: is the last item ever"
        " changed?"
    )
    assert told(0, 1), (
        "a model whose very first event looks one place ahead passes: change each later"
        " item by itself"
    )
    return "Right: whatever looks ahead moves when something later is changed."


@checker
def gaps(my_gaps: Mapping[float, float]) -> str:
    """`my_gaps`: self-attention minus chain in NDCG@10 at noise 0.1, 0.5 and 0.9."""
    for noise in (0.1, 0.5, 0.9):
        assert noise in my_gaps, f"no entry for noise {noise}"
        assert abs(my_gaps[noise]) < 0.7, (
            f"noise {noise}: a difference of {my_gaps[noise]:.2f} in NDCG@10 cannot be"
        )
    gap = [float(my_gaps[noise]) for noise in (0.1, 0.5, 0.9)]
    assert gap[0] > 0.4, (
        f"{gap[0]:.2f} at noise 0.1, where this page has .6 against .1: is it"
        " self-attention minus chain?"
    )
    assert gap[0] > gap[1] > gap[2], (
        "the gap must shrink as the habit drowns: were the logs mixed up?"
    )
    return (
        f"Plausible: {gap[0]:.2f}, {gap[1]:.2f}, {gap[2]:.2f}. Attention pays where"
        " there is something to find."
    )


# --- A recommender without attention


@checker
def ndcg_of_rank(my_ndcg: Callable[[int, int], float]) -> str:
    """`my_ndcg(rank, k)`: NDCG@k when the one right item stands at `rank`, counted from
    1."""
    for rank, k in ((1, 10), (2, 10), (3, 10), (10, 10), (11, 10), (2, 1)):
        try:
            answer = float(my_ndcg(rank, k))
        except ZeroDivisionError:
            answer = math.inf
        right = 1 / math.log2(1 + rank) if rank <= k else 0.0
        if rank > k:
            assert answer == 0, (
                f"rank {rank} lies outside the first {k}: that is worth 0, not"
                f" {answer:.3f}"
            )
        assert math.isfinite(answer), (
            f"rank {rank} gives {answer}: ranks are counted from 1, so divide by log2(1"
            " + rank)"
        )
        from_0 = rank == 1 and math.isclose(answer, 1 / math.log2(3), rel_tol=1e-6)
        assert not from_0, (
            "your ranks begin at 0: the first place is rank 1 and worth 1"
        )
        assert not (rank == k and answer == 0), (
            f"rank {k} is still among the first {k}: `<=`, not `<`"
        )
        assert not math.isclose(answer, 1 / math.log(1 + rank), rel_tol=1e-6), (
            "that is the natural logarithm: take log2"
        )
        assert not math.isclose(answer, 1 / rank, rel_tol=1e-6) or rank == 1, (
            "that is 1/rank, the reciprocal rank"
        )
        assert math.isclose(answer, right, rel_tol=1e-6), (
            f"rank {rank} among the first {k}: {answer:.4f}, not {right:.4f}"
        )
    return "Right: 1 at the top, falling with the logarithm, 0 outside the list."


@checker
def tables_of_calls(my_tables: Callable[[radio.Shows], Tensor]) -> str:
    """`my_tables(shows)`: how often an answer came with a record, for each call, (5,
    200, 200)."""
    shows = radio.shows(60, seed=3)
    answer = _ask(my_tables, shows).double()
    right = torch.zeros(5, 200, 200, dtype=torch.float64)
    for played, call, after in zip(
        shows.played.tolist(), shows.call.tolist(), shows.answer.tolist(), strict=True
    ):
        for before in played:
            right[call, before, after] += 1
    assert answer.shape == (5, 200, 200), (
        f"shape {tuple(answer.shape)}: a table of 200 by 200 for each of 5 calls"
    )
    assert not _same(answer, right.transpose(1, 2)), (
        "the other way round: the row is a record that was played, the column the"
        " answer"
    )
    assert not _same(answer, right.sum(0).expand(5, -1, -1)), (
        "all five tables are alike: count into the table of the call only"
    )
    assert not _same(answer, (right > 0).double()), (
        "these are yes or no: count how often"
    )
    assert answer.sum() != len(shows), (
        "one count a show: each of the five records is counted with the answer"
    )
    assert _same(answer, right), (
        f"{answer.sum():.0f} counts in all, and not where they belong; each of"
        f" {len(shows)} shows gives five"
    )
    return "Right: the question chooses the table, the records choose the rows."


@checker
def leak(my_figures: Mapping[str, float]) -> str:
    """`my_figures`: the chain's validation NDCG@10 with shuffled training, and with a
    log that was shuffled before it was split."""
    names = ("training shuffled", "log shuffled first")
    for name in names:
        assert name in my_figures, f"the answer has no entry {name!r}"
    honest, careless = (float(my_figures[name]) for name in names)
    for name, figure in zip(names, (honest, careless), strict=True):
        assert 0.03 < figure < 0.107, (
            f"{name}: {figure:.3f}, but less than popularity (.034) or more than the"
            " chain in its true order (.107) cannot be expected, even with the leak"
        )
    assert careless > honest + 0.005, (
        f"{careless:.3f} after the leak and {honest:.3f} without: answers that have"
        " slipped into training must help. Are the last two films of each person still"
        " the last two where only training is shuffled?"
    )
    return (
        f"Plausible: {honest:.3f} is what is left without order; the other"
        f" {careless - honest:.3f} are validation answers that had moved into training."
    )


@checker
def expected_hit(my_hit: Callable[[int, int, int], float]) -> str:
    """`my_hit(above, tied, k)`: expected HR@k with `above` items scored higher and
    `tied` alike, target included."""
    cases = {
        (0, 1, 1): 1.0,
        (3, 1, 3): 0.0,
        (0, 10, 1): 0.1,
        (2, 4, 4): 0.5,
        (0, 100, 10): 0.1,
        (5, 2, 10): 1.0,
    }
    for (above, tied, k), right in cases.items():
        answer = float(my_hit(above, tied, k))
        case = f"{above} above, {tied} tied, k = {k}"
        others = min((k - above) / max(tied - 1, 1), 1)
        slip = tied > 1 and others != right and math.isclose(answer, others)
        assert not slip, (
            f"{case}: {answer:.3f}; the target is one of the tied: divide by {tied}"
        )
        assert 0 <= answer <= 1, (
            f"{case}: {answer:.3f} is no chance; cut it off at 0 and at 1"
        )
        assert not (tied > 1 and 0 < right < 1 and answer == 1), (
            f"{case}: the target does not win every tie"
        )
        assert not (tied > 1 and 0 < right < 1 and answer == 0), (
            f"{case}: the target does not lose every tie, nor stands in the middle:"
            " each of the tied places is as likely"
        )
        assert math.isclose(answer, right, abs_tol=1e-9), (
            f"{case}: {answer:.3f}, not {right:.3f}; k - above places are free"
        )
    return "Right: the free places shared by all that are tied."


# --- The scoreboard


@checker
def sampled_rank(my_sampled_rank: Callable[[int, int, int], float]) -> str:
    """`my_sampled_rank(above, candidates, sample)`: expected place among `sample` of
    the `candidates` others."""
    for above, candidates, sample in (
        (0, 50, 10),
        (5, 50, 10),
        (50, 50, 10),
        (300, 1600, 100),
        (7, 20, 20),
    ):
        answer, right = (
            float(my_sampled_rank(above, candidates, sample)),
            1 + sample * above / candidates,
        )
        case = f"{above} of {candidates} above, {sample} sampled"
        assert not math.isclose(answer, right - 1), (
            f"{case}: places are counted from 1, this counts the better ones"
        )
        assert not (
            above and sample < candidates and math.isclose(answer, 1 + above)
        ), f"{case}: that is the place among all candidates"
        assert math.isclose(answer, right), (
            f"{case}: {answer:g}, not {right:g}; each better one is drawn with chance"
            " sample / candidates"
        )
    return "Right: a sample shrinks the number of better items, and with it the place."


@checker
def paired_interval(my_interval: Callable[..., tuple[float, float]]) -> str:
    """`my_interval(first, second, resamples, seed)`: the 95 % bootstrap interval of the
    mean difference over users."""
    generator = np.random.default_rng(0)
    level = generator.random(400) * 5
    first, second = level + generator.normal(0.1, 0.5, 400), level
    low, high = (float(end) for end in my_interval(first, second, 2000, 0))
    assert low < high, f"({low:.3f}, {high:.3f}): low comes first"
    error = float((first - second).std() / math.sqrt(400))
    assert high - low < 8 * error, (
        "far too wide: draw users, and keep each user's two figures together"
    )
    assert low <= (first - second).mean() <= high, (
        "the mean of first - second lies outside: is it turned around?"
    )
    assert 3.2 * error < high - low < 4.6 * error, (
        f"width {high - low:.4f}: take the 2.5 and 97.5 % quantiles of resampled means"
    )
    return "Right: users are drawn in pairs, so what is common to both models cancels."


@checker
def users_needed(my_users_needed: Callable[[float, float], float]) -> str:
    """`my_users_needed(spread, difference)`: users that make a difference two standard
    errors."""
    for spread, difference in ((0.25, 0.01), (0.25, 0.005), (0.1, 0.02)):
        answer, right = (
            float(my_users_needed(spread, difference)),
            (2 * spread / difference) ** 2,
        )
        assert answer < 2 * right, (
            f"{answer:,.0f} users for {difference}: two standard errors, each spread /"
            " √users"
        )
        assert answer > 0.9 * right, (
            f"{answer:,.0f} users for {difference}: too few; did you square it, and"
            " take two errors?"
        )
        assert answer <= right + 1, (
            f"{answer:,.0f} users for {difference}, not {right:,.0f}"
        )
    return "Right: half the difference asks for four times the users."


@checker
def running_mean(my_running_mean: Callable[[Tensor], Tensor]) -> str:
    """`my_running_mean(context)`: row t is the mean of the rows 0 to t, (T, D)."""
    context = torch.tensor([[2.0, 0], [4, 3], [0, 3], [2, 6]])
    right = torch.stack([context[: t + 1].mean(0) for t in range(4)])
    try:
        answer = _ask(my_running_mean, context)
    except RuntimeError as error:
        if "must match the size" not in str(error):
            raise
        answer = torch.empty(0)
    assert answer.numel(), (
        "(4, 2) cannot be divided by (4,): one number a row needs a second axis,"
        " [:, None]"
    )
    assert answer.shape != (2,), (
        "one mean for the whole history: there must be one after every event"
    )
    assert answer.shape == right.shape, (
        f"shape {tuple(answer.shape)}; a mean after each of 4 events gives (4, 2)"
    )
    assert not _same(answer, context.cumsum(0)), (
        "these are sums: divide by the number of events so far"
    )
    assert not _same(answer, context.cumsum(0) / 4), (
        "divided by the length of the whole history: count the events so far"
    )
    before = torch.cat([torch.zeros(1, 2), right[:-1]])
    assert not _same(answer[1:], before[1:]), (
        "one behind: the event itself belongs to its mean"
    )
    assert not _same(answer, context.mean(0).expand(4, 2)), (
        "the future is in it: row t may use the rows up to t only"
    )
    assert _same(answer, right), f"means\n{answer}\nshould be\n{right}"
    return "Right: after each event the mean of all events so far."
