"""Checkers for the exercises of the chapters on the four stages; see `check`, whose rules they follow."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# --- Data preparation


def encode(my_encode: Callable[[list[Any]], Sequence[int]]) -> str:
    """`my_encode(ids)`: indices from 1, in ascending order of the ids."""
    answer = list(my_encode([30, 7, 30, 12]))
    assert len(answer) == 4, f"{len(answer)} indices for 4 ids: one for each, repeats included"
    assert answer != [2, 0, 2, 1], "indices start at 0, which is kept for padding: count from 1"
    assert answer != [1, 2, 1, 3], "in order of appearance: then shuffling the rows renames every film; sort the ids"
    assert answer != [2, 3, 2, 1], "sorted as text, where '7' comes after '30': keep numbers numbers"
    assert answer == [3, 1, 3, 2], f"{answer} should be [3, 1, 3, 2]"
    assert list(my_encode(["b", "a"])) == [2, 1], "ids may be text as well"
    return "Right: equal ids share an index, and the order of rows plays no part."


def window(my_window: Callable[[list[int], int], tuple[Any, Any]]) -> str:
    """`my_window(history, length)`: inputs and targets of the newest questions."""
    inputs, targets = (list(part) for part in my_window([1, 2, 3, 4, 5], 3))
    assert len(inputs) == len(targets), f"{len(inputs)} inputs and {len(targets)} targets: each input has one target"
    assert inputs != targets, "each event is its own target: the target is the event after it"
    assert (inputs, targets) != ([1, 2, 3], [2, 3, 4]), "these are the oldest: the newest events are wanted"
    assert len(inputs) != 2, "only 2 questions: length + 1 events make `length` questions"
    assert (inputs, targets) == ([2, 3, 4], [3, 4, 5]), f"{inputs} -> {targets} should be [2, 3, 4] -> [3, 4, 5]"
    short = tuple(list(part) for part in my_window([8, 9], 3))
    assert short == ([8], [9]), f"a history of 2 events is one question, [8] -> [9], not {short}"
    return "Right: every event but the newest asks, every event but the oldest answers."


def core(my_core: Callable[[list[tuple[str, str]], int], list[tuple[str, str]]]) -> str:
    """`my_core(pairs, k)`: the largest part in which each user and item has k events."""
    solid = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    pairs = [*solid[:2], ("c", "z"), *solid[2:], ("c", "x"), ("d", "x")]
    answer = [tuple(pair) for pair in my_core(list(pairs), 2)]
    once = [*solid[:2], *solid[2:], ("c", "x")]
    assert answer != once, "c has one event left once z is gone: repeat until nothing changes"
    assert ("d", "x") not in answer, "user d has one event only"
    assert ("c", "z") not in answer, "item z has one event only: items must have k events too"
    assert sorted(answer) == sorted(solid), f"{answer} should be {solid}"
    assert answer == solid, "the right pairs, in another order: keep theirs"
    assert my_core([("a", "x")], 2) == [], "where nothing is left, the answer is an empty list"
    return "Right: rare users and rare items go, until nobody is rare."


def zscore(my_zscore: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> str:
    """`my_zscore(train, test)`: both normalized by the mean and deviation of training."""
    train, test = np.array([1.0, 2, 3, 6]), np.array([10.0, 14])
    mean, deviation = train.mean(), train.std()
    a, b = (np.asarray(part) for part in my_zscore(train.copy(), test.copy()))
    both = np.concatenate([train, test])
    assert not np.allclose(a, (train - both.mean()) / both.std()), "mean and deviation of both: test helped to train"
    assert not np.allclose(b, (test - test.mean()) / test.std()), "test by its own mean: it must be training's"
    assert not np.allclose(a, (train - mean) / deviation**2), "divided by the variance: take its square root"
    assert np.allclose(a, (train - mean) / deviation, rtol=0.2), f"training becomes {a}"
    assert np.allclose(b, (test - mean) / deviation, rtol=0.2), f"test becomes {b}"
    with np.errstate(all="ignore"):
        flat = np.concatenate(my_zscore(np.ones(3), np.array([2.0])))
    assert np.isfinite(flat).all(), "a constant column gives NaN or infinity: divide by 1 where the deviation is 0"
    return "Right: the test is measured with training's ruler."


def groups(my_groups: Mapping[str, tuple[float, int]], viewers: int) -> str:
    """`my_groups`: mean NDCG@10 and number of viewers whose film is tied in time, or stands alone."""
    assert set(my_groups) == {"tied", "alone"}, f"the groups are 'tied' and 'alone', not {sorted(my_groups)}"
    sizes = {name: int(size) for name, (_, size) in my_groups.items()}
    assert sum(sizes.values()) == viewers, f"{sum(sizes.values())} viewers in both groups together, not {viewers}"
    assert sizes["tied"] > sizes["alone"], "most films are tied: are the names of the groups swapped?"
    means = {name: float(mean) for name, (mean, _) in my_groups.items()}
    assert all(0 < mean < 1 for mean in means.values()), f"means {means}: NDCG lies between 0 and 1"
    whole = sum(means[name] * sizes[name] for name in means) / viewers
    assert 0.08 < whole < 0.13, f"both groups together give {whole:.3f}: is this the chain on validation?"
    return "Right: both groups are there, and together they are everybody."
