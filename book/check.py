"""Checkers for the exercises: each names the likely mistake, or says that the answer is right. Beside the notebooks.

A wrong answer raises AssertionError with a hint; a right one returns a line to read.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncore import attention


def _ask(function: Callable[..., Any], *inputs: Any) -> Tensor:
    """The answer as a tensor; the inputs are copies, so that a function may write into its own."""
    name = getattr(function, "__name__", "the function")
    result = function(*[x.clone() if isinstance(x, Tensor) else x for x in inputs])
    assert result is not None, f"{name} returns None: did you forget `return`?"
    return torch.as_tensor(result)


def _same(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    return a.shape == b.shape and torch.allclose(a.to(b.dtype), b, atol=tolerance, rtol=tolerance)


# --- Query, key, value and context vectors


def scores(my_scores: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_scores(query, key)`: scaled dot products (L, K)."""
    query = torch.tensor([[1.0, 2, 0, -1], [0, 1, 1, 3]])
    key = torch.tensor([[2.0, 0, 1, 1], [1, 1, 1, 1], [0, -3, 2, 0]])
    right, answer = attention.scaled_dot_product(query, key), _ask(my_scores, query, key)
    assert answer.shape != (3, 2), "shape (3, 2) is K x L: a row must be a query, so it is query @ key.T"
    assert answer.shape == (2, 3), f"shape {tuple(answer.shape)}; 2 queries against 3 keys give (2, 3)"
    assert not _same(answer, right * 2), "these are the plain dot products: divide by the square root of the width"
    assert not _same(answer, right / 2), "divided by the width itself: take its square root"
    assert not _same(answer, right * 2 / math.sqrt(3)), "divided by √K, the number of events: take √E, the width"
    assert not _same(answer, right.softmax(-1)), "these are weights already: the softmax comes after the scores"
    assert _same(answer, right), f"scores\n{answer}\nshould be\n{right}"
    return "Right: a row for each query, a column for each event, every number divided by √E."


def shapes(my_shapes: Mapping[str, tuple[int, ...]]) -> str:
    """`my_shapes` for 3 queries of width 8, 20 events, values of width 16."""
    right = {"scores": (3, 20), "weights": (3, 20), "attended": (3, 16)}
    for name, shape in right.items():
        assert name in my_shapes, f"the answer has no entry {name!r}"
        answer = tuple(my_shapes[name])
        assert answer != shape[::-1], f"{name} {answer}: the other way round, a row belongs to a query"
        hint = "the width of the attended vectors is that of the values" if name == "attended" else "queries x events"
        assert answer == shape, f"{name} {answer}: {hint}"
    return "Right: L x K, L x K, and L x the width of the values."


def query_for(my_query: Tensor, key: Tensor, event: int, least: float = 0.9) -> str:
    """`my_query` (E,) whose weight on `key[event]` is at least `least`."""
    query = torch.as_tensor(my_query, dtype=torch.float32)
    assert query.shape == key.shape[1:], f"shape {tuple(query.shape)}; one query is {key.shape[1]} numbers"
    assert torch.isfinite(query).all(), "every number must be finite"
    weights = attention.softmax(attention.scaled_dot_product(query[None], key))[0]
    best = int(weights.argmax())
    assert weights.max() - weights.min() > 1e-6, "every event gets the same weight: the query prefers none"
    assert best == event, (
        f"event {best} gets most, {weights[best]:.2f}, and event {event} gets {weights[event]:.2f}: "
        "what does the key of that event have that the other does not?"
    )
    assert weights[event] >= least, (
        f"event {event} leads with {weights[event]:.2f}: the direction is right, now make the query longer"
    )
    return f"Right: event {event} gets a weight of at least {least:.2f}."


def showing_values(my_value: Tensor, events: int = 4) -> str:
    """`my_value` (K, K) with which the attended vectors are the weights."""
    value = torch.as_tensor(my_value, dtype=torch.float32)
    assert value.dim() == 2, f"{value.dim()} axes; values are a table, an event a row"
    assert len(value) == events, f"{len(value)} rows; there are {events} events, each gives one value"
    assert value.shape[1] == events, f"width {value.shape[1]}; the attended vector must hold {events} weights"
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 3, generator=generator), torch.randn(events, 3, generator=generator)
    attended, weights = attention.attend(query, key, value)
    assert weights is not None
    assert not torch.equal(value, torch.ones_like(value)), "all ones: every number of the result is the sum, 1"
    assert not _same(attended.sort(-1).values, weights.sort(-1).values) or _same(attended, weights), (
        "the right numbers in another order: event i must fill place i"
    )
    assert _same(attended, weights), f"attended\n{attended}\nis not the weights\n{weights}"
    return "Right: with one-hot values the attended vector is the row of weights."


def moved(my_moved: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_moved(a, b)`: the share of the weight that lies elsewhere, of rows (..., K)."""
    a = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    b = torch.tensor([[0.0, 0, 1], [0, 0.5, 0.5], [0.2, 0.3, 0.5]])
    right, answer = torch.tensor([1.0, 0.5, 0.0]), _ask(my_moved, a, b)
    assert answer.shape != (), "one number for all rows: sum over the events alone, the last axis"
    assert answer.shape == (3,), f"shape {tuple(answer.shape)}; three pairs of rows give (3,)"
    assert not _same(answer, right * 2), "twice too much: what leaves one event arrives at another and counts once"
    assert not _same(answer, torch.zeros(3)), "always 0, since both rows sum to 1: take absolute differences first"
    assert not _same(answer, 2 * right / 3), "this is a mean over the events: take the sum, halved"
    assert not _same(answer, ((a - b) ** 2).sum(-1)), "squares measure something else: take absolute differences"
    assert _same(answer, right), f"{answer} should be {right}"
    return "Right: 0 for equal rows, 1 for rows that look at nothing in common."


# --- Softmax and attention weights


def softmax(my_softmax: Callable[[Tensor], Tensor]) -> str:
    """`my_softmax(scores)`: weights along the last axis, for scores of any size."""
    scores = torch.tensor([[1.0, 2, 3], [0, 0, 0]])
    right, answer = attention.softmax(scores), _ask(my_softmax, scores)
    assert answer.shape == right.shape, f"shape {tuple(answer.shape)}; weights have the shape of the scores, (2, 3)"
    assert not _same(answer, scores.softmax(0)), "each column sums to 1: sum over the last axis, keepdim=True"
    assert not _same(answer, scores.exp()), "these are exponentials: divide each row by its sum"
    assert not _same(answer, scores.exp() / scores.exp().sum()), (
        "the whole table sums to 1: each row must, so sum over the last axis"
    )
    assert _same(answer, right), f"weights\n{answer}\nshould be\n{right}"
    far = _ask(my_softmax, torch.tensor([[1000.0, 999.0]]))
    assert not far.isnan().any(), "scores of 1000 give NaN, for exp(1000) overflows: subtract the largest score first"
    rows = _ask(my_softmax, torch.tensor([[1000.0, 999.0], [1.0, 0.0]]))
    assert not rows.isnan().any(), (
        "a row of small scores beside a row of large ones gives NaN: subtract each row's own largest, "
        "not the largest of all"
    )
    assert _same(_ask(my_softmax, torch.tensor([[-1000.0, -1001.0]])), right.new_tensor([[0.7311, 0.2689]]), 1e-3), (
        "scores of -1000 go wrong: subtract the largest score itself, not its absolute value"
    )
    deep = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert _same(_ask(my_softmax, deep), deep.softmax(-1)), "a tensor of three axes goes wrong: use -1, not 1"
    return "Right: rows sum to 1, for small scores and for very large ones."


def masked_softmax(my_masked_softmax: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_masked_softmax(scores, keep)`: exactly 0 where not kept, zeros where a row keeps nothing."""
    scores = torch.tensor([[1.0, 2, 3], [3, 1, 0]])
    keep = torch.tensor([[True, True, False], [True, False, True]])
    right, answer = attention.softmax(scores, keep), _ask(my_masked_softmax, scores, keep)
    assert answer.shape == right.shape, f"shape {tuple(answer.shape)}; weights have the shape of the scores, (2, 3)"
    assert not _same(answer, scores.softmax(-1)), "the mask changes nothing: is masked_fill's result kept?"
    assert not _same(answer, scores.softmax(-1) * keep), (
        "the rows no longer sum to 1: mask the scores before the softmax, not the weights after it"
    )
    assert not _same(answer, attention.softmax(scores, ~keep)), "the mask is the wrong way round: True keeps"
    assert not _same(answer, (scores * keep).softmax(-1)), "a score of 0 is still a score, exp(0) = 1: use -inf"
    assert not answer.isnan().any(), "NaN in a row that keeps something: -inf * 0 is NaN, so use masked_fill"
    assert _same(answer, right), f"weights\n{answer}\nshould be\n{right}"
    assert (answer[~keep] == 0).all(), "a weight outside the mask is small but not exactly 0: use -inf"
    nowhere = _ask(my_masked_softmax, scores, torch.tensor([[False, False, False], [True, True, True]]))
    assert not nowhere[0].isnan().any(), "a row that keeps nothing is NaN: 0 / 0; decide what it should be, zeros"
    assert not _same(nowhere[0], torch.full((3,), 1 / 3)), (
        "a row that may look nowhere looks everywhere alike: a large negative number is not -inf"
    )
    assert _same(nowhere[0], torch.zeros(3)), f"a row that keeps nothing is {nowhere[0]}; it should be zeros"
    assert _same(nowhere[1], scores[1].softmax(-1)), "the row beside a row that keeps nothing goes wrong"
    far = _ask(my_masked_softmax, torch.tensor([[500.0, 499.0, 900.0]]), torch.tensor([[True, True, False]]))
    assert _same(far, torch.tensor([[0.7311, 0.2689, 0.0]]), 1e-3), (
        "a large score outside the mask matters: mask first, then take the largest of what is kept"
    )
    return "Right: masked events weigh exactly 0, and a row that may look nowhere is zeros."


def temperature_for(my_temperature_for: Callable[[Tensor, float], float]) -> str:
    """`my_temperature_for(scores, events)`: the temperature whose weights are as spread as that many events."""
    scores = torch.tensor([3.0, 1.0, 0.5, -1.0, 2.0])
    spread = []
    for wanted in (1.5, 2.5, 4.0):
        temperature = float(my_temperature_for(scores.clone(), wanted))
        assert math.isfinite(temperature), f"temperature {temperature} for {wanted} events: must be a finite number"
        assert temperature > 0, f"temperature {temperature} for {wanted} events: must be above 0"
        weights = attention.softmax(scores, temperature=temperature)
        spread.append(float((-(weights * weights.clamp_min(1e-30).log()).sum()).exp()))
        inverse = attention.softmax(scores, temperature=1 / temperature)
        turned = float((-(inverse * inverse.clamp_min(1e-30).log()).sum()).exp())
        assert abs(spread[-1] - wanted) < 0.02 or abs(turned - wanted) >= 0.02, (
            f"{temperature:.3f} is one over the right temperature: scores are divided by it, not multiplied"
        )
        assert abs(spread[-1] - wanted) < 0.02, (
            f"temperature {temperature:.3f} gives {spread[-1]:.2f} effective events, not {wanted}: "
            + ("raise it" if spread[-1] < wanted else "lower it")
        )
    return "Right: a higher temperature spreads the weights, and each spread has its temperature."


def softmax_gradient(my_gradient: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_gradient(weights, upstream)`: the gradient by the scores, without building the Jacobian."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 4, generator=generator).requires_grad_()
    upstream = torch.randn(3, 4, generator=generator)
    weights = attention.softmax(scores)
    (right,) = torch.autograd.grad(weights, scores, upstream)
    weights = weights.detach()
    answer = _ask(my_gradient, weights, upstream)
    assert answer.shape != (3, 4, 4), "this is the Jacobian: multiply it with the upstream gradient"
    assert answer.shape == right.shape, (
        f"shape {tuple(answer.shape)}; the gradient has the shape of the scores, (3, 4)"
    )
    mean = (weights * upstream).sum(-1, keepdim=True)
    assert not _same(answer, weights * upstream), "each weight pushes the others down: subtract the weighted mean"
    assert not _same(answer, upstream - mean), "the differences are right: multiply each by its weight"
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


def best_temperature(my_quality: Mapping[float, float]) -> str:
    """`my_quality`: validation NDCG@10 of the trained model by temperature; 1 is as it was trained."""
    assert 1.0 in my_quality, "temperature 1, the model as it was trained, is missing: it is what you compare with"
    below, above = [t for t in my_quality if t < 1], [t for t in my_quality if t > 1]
    assert below, "try a temperature below 1 too"
    assert above, "try a temperature above 1 too"
    values = list(my_quality.values())
    assert all(0 <= value <= 1 for value in values), "NDCG@10 lies between 0 and 1: what did you measure?"
    assert max(values) > min(values), (
        "every temperature gives the same: is the model's query map really scaled, and is it restored each time?"
    )
    assert my_quality[1.0] > my_quality[max(my_quality)], (
        "flattened weights are no worse than the trained ones: was the map restored before the next temperature?"
    )
    best = max(my_quality, key=lambda t: my_quality[t])
    said = (
        "as it was trained" if best == 1 else "but choose on validation, and mind the interval before you believe it"
    )
    return f"Right: the best of these temperatures is {best:g}, {said}."


# --- A first recommender


def ndcg_of_rank(my_ndcg: Callable[[int, int], float]) -> str:
    """`my_ndcg(rank, k)`: NDCG@k when the one right item stands at `rank`, counted from 1."""
    for rank, k in ((1, 10), (2, 10), (3, 10), (10, 10), (11, 10), (2, 1)):
        answer = float(my_ndcg(rank, k))
        right = 1 / math.log2(1 + rank) if rank <= k else 0.0
        if rank > k:
            assert answer == 0, f"rank {rank} lies outside the first {k}: that is worth 0, not {answer:.3f}"
        assert math.isfinite(answer), (
            f"rank {rank} gives {answer}: ranks are counted from 1, so divide by log2(1 + rank)"
        )
        assert not math.isclose(answer, 1 / math.log(1 + rank), rel_tol=1e-6), (
            "that is the natural logarithm: take log2"
        )
        assert not math.isclose(answer, 1 / rank, rel_tol=1e-6) or rank == 1, "that is 1/rank, the reciprocal rank"
        assert math.isclose(answer, right, rel_tol=1e-6), (
            f"rank {rank} among the first {k}: {answer:.4f}, not {right:.4f}"
        )
    return "Right: 1 at the top, falling with the logarithm, 0 outside the list."


def transitions(my_transitions: Callable[[list[list[int]], int], Tensor]) -> str:
    """`my_transitions(histories, items)`: entry [i, j] counts how often j comes right after i."""
    answer = _ask(my_transitions, [[0, 1, 2, 1], [2, 1], [1]], 3).double()
    right = torch.tensor([[0.0, 1, 0], [0, 0, 1], [0, 2, 0]]).double()
    assert answer.shape == (3, 3), f"shape {tuple(answer.shape)}: one row and one column for each of 3 items"
    assert not _same(answer, right.T), "the other way round: the row is the item before, the column the item after"
    assert answer[1, 1] == 0, "a history ends where the next begins: count pairs within one history only"
    assert not _same(answer, (right > 0).double()), "these are yes or no: count how often"
    assert _same(answer, right), f"counts\n{answer}\nshould be\n{right}"
    return "Right: rows are where one comes from, columns where one goes."


def expected_hit(my_hit: Callable[[int, int, int], float]) -> str:
    """`my_hit(above, tied, k)`: expected HR@k with `above` items scored higher and `tied` alike, target included."""
    cases = {(0, 1, 1): 1.0, (3, 1, 3): 0.0, (0, 10, 1): 0.1, (2, 4, 4): 0.5, (0, 100, 10): 0.1, (5, 2, 10): 1.0}
    for (above, tied, k), right in cases.items():
        answer = float(my_hit(above, tied, k))
        case = f"{above} above, {tied} tied, k = {k}"
        assert 0 <= answer <= 1, f"{case}: {answer:.3f} is no chance; cut it off at 0 and at 1"
        assert not (tied > 1 and 0 < right < 1 and answer == 1), f"{case}: the target does not win every tie"
        assert not (tied > 1 and 0 < right < 1 and answer == 0), f"{case}: the target does not lose every tie"
        assert math.isclose(answer, right, abs_tol=1e-9), (
            f"{case}: {answer:.3f}, not {right:.3f}; k - above places are free"
        )
    return "Right: the free places shared by all that are tied."


# --- The scoreboard


def sampled_rank(my_sampled_rank: Callable[[int, int, int], float]) -> str:
    """`my_sampled_rank(above, candidates, sample)`: expected place among `sample` of the `candidates` others."""
    for above, candidates, sample in ((0, 50, 10), (5, 50, 10), (50, 50, 10), (300, 1600, 100), (7, 20, 20)):
        answer, right = float(my_sampled_rank(above, candidates, sample)), 1 + sample * above / candidates
        case = f"{above} of {candidates} above, {sample} sampled"
        assert not math.isclose(answer, right - 1), f"{case}: places are counted from 1, this counts the better ones"
        assert not (above and sample < candidates and math.isclose(answer, 1 + above)), (
            f"{case}: that is the place among all candidates"
        )
        assert math.isclose(answer, right), (
            f"{case}: {answer:g}, not {right:g}; each better one is drawn with chance sample / candidates"
        )
    return "Right: a sample shrinks the number of better items, and with it the place."


def paired_interval(my_interval: Callable[..., tuple[float, float]]) -> str:
    """`my_interval(first, second, resamples, seed)`: the 95 % bootstrap interval of the mean difference over users."""
    generator = np.random.default_rng(0)
    level = generator.random(400) * 5
    first, second = level + generator.normal(0.1, 0.5, 400), level
    low, high = (float(end) for end in my_interval(first, second, 2000, 0))
    assert low < high, f"({low:.3f}, {high:.3f}): low comes first"
    error = float((first - second).std() / math.sqrt(400))
    assert high - low < 8 * error, "far too wide: draw users, and keep each user's two figures together"
    assert low <= (first - second).mean() <= high, "the mean of first - second lies outside: is it turned around?"
    assert 3.2 * error < high - low < 4.6 * error, (
        f"width {high - low:.4f}: take the 2.5 and 97.5 % quantiles of resampled means"
    )
    return "Right: users are drawn in pairs, so what is common to both models cancels."


def users_needed(my_users_needed: Callable[[float, float], float]) -> str:
    """`my_users_needed(spread, difference)`: users that make a difference two standard errors."""
    for spread, difference in ((0.25, 0.01), (0.25, 0.005), (0.1, 0.02)):
        answer, right = float(my_users_needed(spread, difference)), (2 * spread / difference) ** 2
        assert answer < 2 * right, f"{answer:,.0f} users for {difference}: two standard errors, each spread / √users"
        assert answer > 0.9 * right, (
            f"{answer:,.0f} users for {difference}: too few; did you square it, and take two errors?"
        )
        assert answer <= right + 1, f"{answer:,.0f} users for {difference}, not {right:,.0f}"
    return "Right: half the difference asks for four times the users."


# --- Ranking slates


def slate_ndcg(my_ndcg: Callable[[Tensor, set[int], int], float]) -> str:
    """`my_ndcg(scores, taken, k)`: NDCG@k of one slate whose scores all differ."""
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.3])
    for taken, k in (({1}, 5), ({3}, 1), ({0}, 2), ({1, 2}, 5), ({2, 0}, 3), ({0, 1, 2, 3}, 2)):
        places = [int((scores > scores[i]).sum()) + 1 for i in sorted(taken)]
        gains = [1 / math.log2(1 + place) for place in places if place <= k]
        best = [1 / math.log2(1 + place) for place in range(1, min(k, len(taken)) + 1)]
        right, answer = sum(gains) / sum(best), float(my_ndcg(scores.clone(), set(taken), k))
        case = f"taken {sorted(taken)}, k={k}"
        assert len(taken) == 1 or not math.isclose(answer, sum(gains), abs_tol=1e-6) or math.isclose(sum(best), 1), (
            f"{case}: {answer:.3f} is the gain alone: divide by the gain of the best order"
        )
        every = sum(1 / math.log2(1 + place) for place in range(1, len(taken) + 1))
        assert math.isclose(right, sum(gains) / every) or not math.isclose(
            answer, sum(gains) / every, abs_tol=1e-6
        ), f"{case}: {answer:.3f}; the best order, too, has only k places"
        uncut = sum(1 / math.log2(1 + place) for place in places) / sum(best)
        assert math.isclose(right, uncut) or not math.isclose(answer, uncut, abs_tol=1e-6), (
            f"{case}: {answer:.3f}; what stands below place k earns nothing"
        )
        assert math.isclose(answer, right, abs_tol=1e-6), f"{case}: {answer:.3f}, not {right:.3f}"
    return "Right: the gain within k places, over the gain of the best order."


def match_bias(my_bias: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """`my_bias(candidates, past, shared)` from codes (N, F) and (K, F) and one number a thing (F,): (N, K)."""
    candidates = torch.tensor([[7, 1, 2], [8, 1, 3]])
    past = torch.tensor([[7, 1, 2], [9, 1, 3], [5, 4, 4]])
    shared = torch.tensor([1.0, 2.0, 4.0])
    right = torch.tensor([[7.0, 2.0, 0.0], [2.0, 6.0, 0.0]])
    answer = _ask(my_bias, candidates, past, shared)
    assert answer.shape != (3, 2), "a row must be a candidate, a column a past item"
    assert answer.shape == (2, 3), f"shape {tuple(answer.shape)}; 2 candidates against 3 past items give (2, 3)"
    assert not _same(answer, (candidates[:, None] == past).float().sum(-1)), (
        "this counts what is shared: weigh each thing by its number in `shared`"
    )
    assert not _same(answer, 7 - right), "this weighs what differs: compare with =="
    assert _same(answer, right), f"bias\n{answer}\nshould be\n{right}"
    return "Right: for each pair, the numbers of all things that they share, added up."


def among_all(my_probability: Callable[[float, int, int], float]) -> str:
    """`my_probability(said, drawn, others)`: what a model means that saw `drawn` of `others` that were not taken."""
    for said, drawn, others in ((0.5, 10, 1000), (0.9, 64, 3600), (0.2, 5, 5), (0.01, 64, 3600)):
        odds = said / (1 - said) * drawn / others
        right, answer = odds / (1 + odds), float(my_probability(said, drawn, others))
        case = f"said {said}, {drawn} of {others} drawn"
        wrong_way = said / (1 - said) * others / drawn
        assert math.isclose(right, wrong_way / (1 + wrong_way)) or not math.isclose(
            answer, wrong_way / (1 + wrong_way), rel_tol=1e-6
        ), f"{case}: {answer:.3f}, the wrong way round: among all there are more that were not taken, so it falls"
        assert math.isclose(right, said * drawn / others) or not math.isclose(
            answer, said * drawn / others, rel_tol=1e-6
        ), f"{case}: it is the odds p / (1 - p) that shrink, not the probability"
        assert math.isclose(right, odds) or not math.isclose(answer, odds, rel_tol=1e-6), (
            f"{case}: these are odds: turn them back into a probability"
        )
        assert math.isclose(answer, right, rel_tol=1e-6), f"{case}: {answer:.5f}, not {right:.5f}"
    return "Right: odds shrink by the share that was drawn."


def review_ranking(my_rank: Callable[[Tensor, list[Tensor]], list[int]]) -> str:
    """`my_rank(user, reviews)`: numbers of the reviews, best first, by attention of the user over each one's words."""
    user = torch.tensor([2.0, 0.0, 0.5])
    dull, sharp = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([3.0, 0.0, 0.0])
    reviews = [
        torch.stack([dull, dull, dull]),
        torch.stack([dull, dull, dull, dull, dull, sharp]),  # one word that speaks to this user, among five
        torch.tensor([[0.9, 0.0, 0.0], [0.9, 0.2, 0.0]]),
        torch.tensor([[-2.0, 0.0, 1.0]]),
    ]
    scores = []
    for words in reviews:
        attended, _ = attention.attend(user[None], words, words)
        scores.append(float(attended[0] @ user))
    right = sorted(range(len(reviews)), key=lambda r: -scores[r])
    answer = [int(r) for r in my_rank(user.clone(), [words.clone() for words in reviews])]
    assert sorted(answer) == [0, 1, 2, 3], f"{answer}: each of the four reviews must stand once"
    assert answer != right[::-1], "the worst stands first: sort by falling score"
    means = sorted(range(len(reviews)), key=lambda r: -float(reviews[r].mean(0) @ user))
    assert answer != means, "that is the order of the plain means: let the user's vector weigh the words first"
    assert answer == right, f"{answer}, not {right}: attend with the user as query, the words as keys and values"
    return "Right: one word that speaks to the user outweighs five that do not."
