"""Checkers for the exercises on one's own log and on scaling: each names the likely
mistake, or says what is right.

A wrong answer is told what is probably wrong with it, a right one that it is right.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from answers import checker

# --- Your own log


@checker
def time_unit(my_unit: Callable[[float], str]) -> str:
    """`my_unit(time)`: in which unit a number is a time of our days, "s", "ms", "us" or
    "ns"."""
    for unit, many in {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.items():
        for seconds in (1_000_000_000, 1_700_000_000, 2_500_000_000):
            answer = my_unit(seconds * many)
            assert answer is not None, "my_unit returns None: did you forget `return`?"
            assert answer == unit, (
                f"{seconds * many} is a time in {unit}, not {answer}: today is about"
                " 1.7e9 seconds after 1970; each finer unit has a thousand times as"
                " many"
            )
    return (
        "Right: the four units lie a factor of 1,000 apart, so no time of our days can"
        " be taken for another."
    )


@checker
def repeat_share(my_repeats: Callable[[list, list], float]) -> str:
    """`my_repeats(users, items)`: the share of events in which a user takes an item
    that they took before."""
    users, items = ["a", "b", "a", "a", "b", "a"], [1, 1, 1, 2, 1, 1]
    answer = my_repeats(list(users), list(items))
    assert answer is not None, "my_repeats returns None: did you forget `return`?"
    assert abs(answer - 5 / 6) > 1e-9, (
        "every event of a pair that is there twice counts: the first is no repeat"
    )
    assert abs(answer - 4 / 6) > 1e-9, (
        "an item that anybody took before counts: it must be the same user"
    )
    assert abs(answer - 2 / 6) > 1e-9, (
        "pairs are counted, not events: the third time is a repeat too"
    )
    assert abs(answer - 3) > 1e-9, (
        "the number, not the share: divide by the number of events"
    )
    assert abs(answer - 3 / 6) < 1e-9, (
        f"{answer} should be 0.5: 3 of these 6 events are repeats"
    )
    return "Right: all events of a pair but the first, over all events."


@checker
def cold_share(my_cold: Callable[[list, list, float], float]) -> str:
    """`my_cold(users, times, cut)`: of the users with events from `cut` on, the share
    that has none before."""
    users, times = ["a", "b", "a", "c", "d", "c"], [1, 2, 3, 3, 4, 5]
    answer = my_cold(list(users), list(times), 3)
    assert answer is not None, "my_cold returns None: did you forget `return`?"
    assert abs(answer - 3 / 4) > 1e-9, "events are counted: count users, each once"
    assert abs(answer - 2 / 4) > 1e-9, (
        "divided by all users: those without events from the cut on are not asked"
    )
    assert abs(answer - 1) > 1e-9, (
        "an event at the cut itself belongs to the period, those before it are known"
    )
    assert abs(answer - 2 / 3) < 1e-9, (
        f"{answer:.3f} should be 0.667: a, c and d are asked, c and d are new"
    )
    return "Right: asked are all users of the period; cold are those without a past."


# --- Scaling out


@checker
def offsets(my_offsets: Callable[[list], Any]) -> str:
    """`my_offsets(lengths)`: where each row of a flat array begins, and where the last
    one ends."""
    answer = my_offsets([3, 0, 2])
    assert answer is not None, "my_offsets returns None: did you forget `return`?"
    answer = np.asarray(answer).tolist()
    assert answer != [3, 0, 2], "these are the lengths: add them up"
    assert answer != [
        3,
        3,
        5,
    ], "these are the ends: put the first beginning, 0, before them"
    assert answer != [0, 3, 3], (
        "the end of the last row is missing: there is one number more than there are"
        " rows"
    )
    assert answer == [
        0,
        3,
        3,
        5,
    ], f"{answer} should be [0, 3, 3, 5]; the second row is empty"
    return "Right: row r is what lies from offsets[r] up to offsets[r + 1]."


@checker
def shards_of(my_shards: Callable[[int, int, int], Any]) -> str:
    """`my_shards(rank, size, shards)`: the numbers of the shards that one of `size`
    processes reads."""
    for size, shards in ((1, 4), (2, 5), (3, 8), (8, 8)):
        parts = [
            [int(number) for number in my_shards(rank, size, shards)]
            for rank in range(size)
        ]
        every = sorted(number for part in parts for number in part)
        assert len(every) == len(set(every)), (
            f"size {size}: two processes read one shard, so its users count twice"
        )
        assert every == list(range(shards)), (
            f"size {size}: of {shards} shards only {every} are read"
        )
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1, (
            f"size {size}: {sizes} shards a process, so some wait for the others"
        )
    return (
        "Right: every shard is read by one process, and nobody has two more than"
        " another."
    )


@checker
def training_memory(my_memory: Callable[[int, int], float]) -> str:
    """`my_memory(items, width)`: bytes of the item vectors, their gradients and Adam's
    two averages, in float32."""
    answer = my_memory(1000, 64)
    assert answer is not None, "my_memory returns None: did you forget `return`?"
    assert answer != 1000 * 64, "these are numbers: a float32 has 4 bytes"
    assert answer != 1000 * 64 * 4, (
        "these are the vectors alone: add the gradient and the optimizer's two averages"
    )
    assert answer != 1000 * 64 * 4 * 3, (
        "one is missing: vector, gradient, and two averages are four"
    )
    assert answer == 1000 * 64 * 16, (
        f"{answer} should be {1000 * 64 * 16}: 4 numbers of 4 bytes for each"
    )
    return "Right: 16 bytes for each number of the table."
