"""Checkers for the exercises of the chapter on who asks; see `check.py`, whose rules
hold here too."""

import math
from collections.abc import Callable

import torch
from answers import checker
from check import _ask, _same
from torch import Tensor


@checker
def masked_mean(my_masked_mean: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_masked_mean(table, codes)`: the mean of the rows that the codes (..., M)
    name; code 0 is padding."""
    # Row 0 must not matter.
    table = torch.tensor([[9.0, 9, 9], [3, 0, 0], [0, 2, 0], [0, 1, 3]])
    codes = torch.tensor([[1, 0], [2, 3], [0, 0], [2, 2]])
    right = torch.tensor([[3.0, 0, 0], [0, 1.5, 1.5], [0, 0, 0], [0, 2, 0]])
    answer = _ask(my_masked_mean, table, codes)
    assert answer.shape == (
        4,
        3,
    ), f"shape {tuple(answer.shape)}: 4 films of width 3 give (4, 3)"
    assert not _same(answer, table[codes].mean(-2)), (
        "padding is averaged too: leave code 0 out of sum and count"
    )
    zeroed = torch.where(codes[..., None] > 0, table[codes], 0)
    assert not _same(answer, zeroed.mean(-2)), (
        "divided by all places: divide by how many are no padding"
    )
    assert not answer.isnan().any(), (
        "0 / 0 where a film has no value at all: its vector should be zeros"
    )
    assert not _same(answer, zeroed.sum(-2)), (
        "this is the sum: divide by how many there are"
    )
    assert _same(answer, right), f"means\n{answer}\nshould be\n{right}"
    deep = _ask(my_masked_mean, table, codes[None])
    assert deep.shape == (1, 4, 3) and _same(deep[0], right), (
        "a batch of histories goes wrong: use axes -1 and -2"
    )
    return (
        "Right: what is padding has no say, and a film without genres is the zero"
        " vector."
    )


@checker
def backed_off(my_backed_off: Callable[[Tensor, Tensor, float], Tensor]) -> str:
    """`my_backed_off(counts, around, smoothing)`: shares in a group that lean on the
    shares around it."""
    counts, around = torch.tensor([3.0, 1.0, 0.0]), torch.tensor([0.2, 0.3, 0.5])
    answer, right = _ask(my_backed_off, counts, around, 6.0), (counts + 6 * around) / 10
    assert answer.shape == (3,), (
        f"shape {tuple(answer.shape)}: a share for each of 3 films"
    )
    assert not _same(answer, counts / 4), (
        "the group alone: what no one in it took gets nothing at all"
    )
    assert not _same(answer, counts + 6 * around), (
        "these are events: divide by how many there are"
    )
    assert not _same(answer, (counts + 6 * around) / 4), (
        "the shares sum to more than 1: the events around count too"
    )
    assert not _same(answer, (counts + 6) / (4 + 18)), (
        "every film gets the same: lean on the shares around instead"
    )
    assert not _same(answer, (counts / 4 + around) / 2), (
        "half and half, whatever the size of the group: use counts"
    )
    assert _same(answer, right), f"{answer} should be {right}"
    empty = _ask(my_backed_off, torch.zeros(3), around, 6.0)
    assert _same(empty, around), "a group without events must give the shares around it"
    return "Right: the smaller the group, the more the larger one speaks for it."


@checker
def audience_mean(my_mean: Callable[..., Tensor]) -> str:
    """`my_mean(item, rating, trained, items, weight)`: each item's mean rating, drawn
    to the mean of all."""
    item = torch.tensor([0, 0, 1, 1, 2, 3])
    rating = torch.tensor([5.0, 4.0, 1.0, 5.0, 2.0, 1.0])
    trained = torch.tensor([True, True, True, False, True, False])
    overall = 3.0
    right = torch.tensor(
        [(9 + 2 * overall) / 4, (1 + 2 * overall) / 3, (2 + 2 * overall) / 3, overall]
    )
    answer = _ask(my_mean, item, rating, trained, 4, 2.0)
    assert answer.shape == (4,), (
        f"shape {tuple(answer.shape)}: a number for each of 4 films"
    )
    assert not answer.isnan().any(), (
        "0 / 0: a film without a training rating has the mean of all"
    )
    all_of_them = torch.tensor(
        [(9 + 6.0) / 4, (6 + 6.0) / 4, (2 + 6.0) / 3, (1 + 6.0) / 3]
    )
    assert not _same(answer, all_of_them), (
        "held-out ratings are read: that is a leak; use the training rows alone"
    )
    assert not _same(answer[:3], torch.tensor([4.5, 1.0, 2.0])), (
        "one rating makes a masterpiece here: let every film have `weight` more ratings"
        " at the mean of all"
    )
    assert _same(answer, right), f"{answer} should be {right}"
    return "Right: it reads training alone, and few ratings say little."


@checker
def overlap(my_overlap: Callable[[list[list[int]], list[list[int]]], float]) -> str:
    """`my_overlap(a, b)`: the mean share of a list's items that the other list has too,
    list by list."""
    a, b = [[1, 2, 3, 4], [5, 6, 7, 8]], [[4, 3, 2, 1], [9, 10, 11, 5]]
    answer = float(my_overlap([list(row) for row in a], [list(row) for row in b]))
    assert not math.isclose(answer, 2.5), (
        "these are items: divide by the length of a list"
    )
    assert not math.isclose(answer, 1 / 16, abs_tol=1e-9) and not math.isclose(
        answer, 0.0
    ), "places are compared: an item counts wherever it stands in the other list"
    assert not math.isclose(answer, 1 - 0.625), (
        "this is the share that differs: take the share in common"
    )
    assert math.isclose(answer, 0.625), (
        f"{answer:.3f} should be 0.625: all of the first list, a quarter of the second"
    )
    return "Right: 1 when a change changes nothing, 0 when it changes everything."
