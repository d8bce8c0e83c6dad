"""The checkers of the chapters on one's own log and on scaling accept right answers,
and name the mistake in others."""

from collections import Counter

import check_logs as check
import numpy as np
import pytest


def unit(time):
    return next(
        unit
        for unit, ends in zip(
            ("s", "ms", "us", "ns"), (1e10, 1e13, 1e16, 1e19), strict=True
        )
        if time < ends
    )


def repeats(users, items):
    return sum(
        count - 1 for count in Counter(zip(users, items, strict=True)).values()
    ) / len(users)


def cold(users, times, cut):
    known = {user for user, time in zip(users, times, strict=True) if time < cut}
    asked = {user for user, time in zip(users, times, strict=True) if time >= cut}
    return len(asked - known) / len(asked)


def spread(rank, size, shards):
    return range(rank, shards, size)


RIGHT = {
    check.time_unit: unit,
    check.repeat_share: repeats,
    check.cold_share: cold,
    check.offsets: lambda lengths: np.concatenate([[0], np.cumsum(lengths)]),
    check.shards_of: spread,
    check.training_memory: lambda items, width: 16 * items * width,
}


@pytest.mark.parametrize("checker", RIGHT, ids=lambda checker: checker.__name__)
def test_a_right_answer_is_told_so(checker):
    assert checker(RIGHT[checker]).startswith("Right")


def everybody(users, items):
    seen = [items[k] in items[:k] for k in range(len(items))]
    return sum(seen) / len(seen)


@pytest.mark.parametrize(
    ("checker", "wrong", "hint"),
    [
        (check.time_unit, lambda time: None, "did you forget `return`"),
        (
            check.time_unit,
            lambda time: "s",
            "each finer unit has a thousand times as many",
        ),
        (
            check.time_unit,
            lambda time: "ms" if time > 2e9 else unit(time),
            "is a time in s, not ms",
        ),
        (check.repeat_share, lambda users, items: None, "did you forget `return`"),
        (
            check.repeat_share,
            lambda u, i: (
                sum(c for c in Counter(zip(u, i, strict=True)).values() if c > 1)
                / len(u)
            ),
            "no repeat",
        ),
        (check.repeat_share, everybody, "must be the same user"),
        (
            check.repeat_share,
            lambda u, i: (
                sum(c > 1 for c in Counter(zip(u, i, strict=True)).values()) / len(u)
            ),
            "pairs are counted",
        ),
        (
            check.repeat_share,
            lambda users, items: len(users) * repeats(users, items),
            "divide by the number",
        ),
        (check.repeat_share, lambda users, items: 0.1, "0.1 should be 0.5"),
        (check.cold_share, lambda users, times, cut: None, "did you forget `return`"),
        (check.cold_share, lambda users, times, cut: 3 / 4, "count users, each once"),
        (
            check.cold_share,
            lambda u, t, cut: len(u) and cold(u, t, cut) * 3 / len(set(u)),
            "divided by all users",
        ),
        (check.cold_share, lambda users, times, cut: 0.1, "0.100 should be 0.667"),
        (check.cold_share, lambda u, t, cut: 1.0, "an event at the cut itself"),
        (check.offsets, lambda lengths: None, "did you forget `return`"),
        (check.offsets, lambda lengths: lengths, "add them up"),
        (check.offsets, np.cumsum, "put the first beginning"),
        (
            check.offsets,
            lambda lengths: np.cumsum([0, *lengths[:-1]]),
            "the end of the last row is missing",
        ),
        (check.offsets, lambda lengths: [0, 3, 4, 6], "should be [0, 3, 3, 5]"),
        (
            check.shards_of,
            lambda rank, size, shards: range(shards),
            "two processes read one shard",
        ),
        (
            check.shards_of,
            lambda rank, size, shards: [rank],
            "of 4 shards only [0] are read",
        ),
        (
            check.shards_of,
            lambda rank, size, shards: (
                range(rank, shards) if rank == size - 1 else [rank]
            ),
            "some wait for the others",
        ),
        (check.training_memory, lambda items, width: None, "did you forget `return`"),
        (
            check.training_memory,
            lambda items, width: items * width,
            "a float32 has 4 bytes",
        ),
        (
            check.training_memory,
            lambda items, width: 4 * items * width,
            "the vectors alone",
        ),
        (
            check.training_memory,
            lambda items, width: 12 * items * width,
            "one is missing",
        ),
        (check.training_memory, lambda items, width: 1, "should be 1024000"),
    ],
)
def test_a_wrong_answer_gets_the_hint_that_fits(checker, wrong, hint):
    told = checker(wrong)
    assert told.startswith("Not yet: ")
    assert hint in told
