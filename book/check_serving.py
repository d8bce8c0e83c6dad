"""Checkers for the exercises of the chapter on serving; see `check.py`, whose rules
hold here too."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from answers import checker
from torch import Tensor


@checker
def allowed_top_k(
    my_top_k: Callable[[Tensor, Sequence[int], int], Sequence[int]],
) -> str:
    """`my_top_k(scores, allowed, k)`: the places of the k highest scores among the
    allowed places, best first."""
    scores = torch.tensor([0.3, 2.0, -1.0, 0.9, 0.9, -2.0])
    for allowed, k, right in (
        ([0, 1, 2, 3, 4, 5], 2, [1, 3]),
        ([0, 2, 3], 2, [3, 0]),
        ([2, 5], 2, [2, 5]),
        ([4, 3], 1, [3]),
        ([5], 3, [5]),
        ([], 2, []),
    ):
        before = scores.clone()
        answer = my_top_k(scores, allowed, k)
        assert answer is not None, "my_top_k returns None: did you forget `return`?"
        answer = [int(place) for place in answer]
        case = f"allowed {allowed}, k = {k}"
        assert torch.equal(scores, before), (
            f"{case}: the scores were changed; work on a copy"
        )
        outside = [place for place in answer if place not in allowed]
        if outside and allowed and all(place < len(allowed) for place in answer):
            raise AssertionError(
                f"{case}: {answer} are places in the list of what is allowed: turn them"
                " into places"
            )
        assert not outside, f"{case}: {outside} may not be shown"
        assert len(answer) <= k, f"{case}: {len(answer)} places, not {k}"
        assert len(answer) == len(right), (
            f"{case}: {len(answer)} places; as many as there are, {len(right)}, are"
            " wanted"
        )
        if sorted(answer) == sorted(right) and len(right) > 1:
            assert answer == right, f"{case}: {answer} is not best first"
        assert answer == right, (
            f"{case}: {answer}, not {right}; of equal scores the lower place comes"
            " first"
        )
    return "Right: the best of what may be shown, however little that is."


@checker
def merged(
    my_merged: Callable[[Sequence[tuple[list[float], list[int]]], int], list[int]],
) -> str:
    """`my_merged(parts, k)`: the best k places of several parts' own best, given as
    (values, places)."""
    parts = [([5.0, 1.0], [2, 0]), ([4.0, 4.0], [3, 5]), ([9.0], [7])]
    for given, k, right in (
        (parts, 1, [7]),
        (parts, 3, [7, 2, 3]),
        (parts, 9, [7, 2, 3, 5, 0]),
        ([([1.0, 1.0], [4, 6]), ([1.0], [1])], 2, [1, 4]),
        ([([3.0], [0])], 2, [0]),
    ):
        answer = my_merged(given, k)
        assert answer is not None, "my_merged returns None: did you forget `return`?"
        answer = [int(place) for place in answer]
        case = f"parts {given}, k = {k}"
        assert (
            answer != [place for _, places in given for place in places][:k]
            or answer == right
        ), f"{case}: the parts were joined, but not sorted by their values"
        assert answer != right[::-1] or len(right) < 2, (
            f"{case}: worst first; the best comes first"
        )
        if sorted(answer) == sorted(right) and len(right) > 1:
            assert answer == right, (
                f"{case}: {answer}; of equal values the lower place comes first:"
                f" {right}"
            )
        assert answer == right, f"{case}: {answer}, not {right}"
    return "Right: the best of the parts' best are the best of all."


@checker
def percentile(my_percentile: Callable[[Sequence[float], float], float]) -> str:
    """`my_percentile(times, share)`: the smallest time within which `share` percent of
    the requests were answered."""
    times = [5.0, 1.0, 2.0, 4.0, 3.0, 6.0, 7.0, 9.0, 8.0, 100.0]
    for share, right in (
        (50, 5.0),
        (90, 9.0),
        (99, 100.0),
        (100, 100.0),
        (1, 1.0),
        (91, 100.0),
    ):
        before = list(times)
        answer = float(my_percentile(times, share))
        case = f"the ten times {before} and {share} percent"
        assert times == before, "the list of times was changed; sort a copy"
        assert not (share == 50 and math.isclose(answer, sum(times) / 10)), (
            "that is the mean, which one slow request moves"
        )
        unsorted = before[math.ceil(share / 100 * 10) - 1]
        assert answer == right or answer != unsorted, (
            f"{case}: {answer:g} is what stands at that place: sort first"
        )
        within = sum(time <= answer for time in times)
        assert within >= share / 100 * 10, (
            f"{case}: within {answer:g} only {within} of 10 were answered"
        )
        assert answer == right, (
            f"{case}: {answer:g}; within {right:g} enough were answered already"
        )
    return "Right: a time that really happened, and enough requests within it."


@checker
def slow_page(my_slow_page: Callable[[float, int], float]) -> str:
    """`my_slow_page(share, requests)`: chance that at least one of several requests is
    slower than `share` percent."""
    for share, requests, right in (
        (99, 1, 0.01),
        (99, 100, 1 - 0.99**100),
        (50, 2, 0.75),
        (99.9, 10, 1 - 0.999**10),
    ):
        answer = float(my_slow_page(share, requests))
        case = f"p{share:g} and {requests} requests"
        assert not math.isclose(answer, (share / 100) ** requests), (
            f"{case}: {answer:.3f} is the chance that none is slow"
        )
        assert not (
            requests > 1 and math.isclose(answer, requests * (1 - share / 100))
        ), (
            f"{case}: {answer:.3f} adds the chances up, and two requests can be slow"
            " together: multiply those to be fast"
        )
        assert math.isclose(answer, right, rel_tol=1e-6), (
            f"{case}: {answer:.4f}, not {right:.4f}"
        )
    return (
        "Right: with 100 requests behind one page, almost two pages in three wait for a"
        " slow one."
    )


@checker
def recall(my_recall: Callable[[Any, Any], float]) -> str:
    """`my_recall(found, true)`: the mean share of each row's true items that were
    found."""
    cases = (
        ([[1, 2, 3]], [[3, 2, 1]], 1.0),
        ([[1, 2, 9, 8]], [[1, 2, 3, 4]], 0.5),
        ([[1, 2], [5, 6]], [[1, 3], [7, 8]], 0.25),
        ([[4, -1, -1]], [[4, 5, 6]], 1 / 3),
    )
    for found, true, right in cases:
        answer = float(my_recall(found, true))
        case = f"found {found}, true {true}"
        by_place = sum(
            a == b
            for x, y in zip(found, true, strict=True)
            for a, b in zip(x, y, strict=True)
        )
        by_place /= sum(map(len, true))
        assert math.isclose(answer, right) or not math.isclose(answer, by_place), (
            f"{case}: {answer:.2f} compares place by place; the order does not matter"
            " here"
        )
        assert answer <= 1, (
            f"{case}: {answer:.2f} is more than all: divide by the number of true items"
        )
        assert math.isclose(answer, right, rel_tol=1e-6), (
            f"{case}: {answer:.3f}, not {right:.3f}"
        )
    return "Right: what share of the best was found, wherever it stands."
