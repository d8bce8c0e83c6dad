"""The checkers of the chapter on serving accept right answers, and name the mistake in
wrong ones."""

import math
import re
import statistics

import check_serving as check
import numpy as np
import pytest


def allowed_top_k(scores, allowed, k):
    return sorted(sorted(allowed), key=lambda place: -scores[place])[:k]


def in_place(scores, allowed, k):
    shown = allowed_top_k(scores, allowed, k)
    scores[0] = -9
    return shown


def merged(parts, k):
    pairs = [
        (-v, p) for values, places in parts for v, p in zip(values, places, strict=True)
    ]
    return [place for _, place in sorted(pairs)[:k]]


def last_first(parts, k):
    pairs = [
        (-v, -p)
        for values, places in parts
        for v, p in zip(values, places, strict=True)
    ]
    return [-place for _, place in sorted(pairs)[:k]]


def percentile(times, share):
    return sorted(times)[math.ceil(share / 100 * len(times)) - 1]


def sorts(times, share):
    times.sort()
    return percentile(times, share)


def recall(found, true):
    return np.mean(
        [len(set(a) & set(b)) / len(b) for a, b in zip(found, true, strict=True)]
    )


def by_place(found, true):
    pairs = [
        pair
        for x, y in zip(found, true, strict=True)
        for pair in zip(x, y, strict=True)
    ]
    return np.mean([a == b for a, b in pairs])


@pytest.mark.parametrize(
    ("checker", "answer"),
    [
        (check.allowed_top_k, allowed_top_k),
        (check.merged, merged),
        (check.percentile, percentile),
        (
            check.percentile,
            lambda times, share: np.percentile(times, share, method="inverted_cdf"),
        ),
        (check.slow_page, lambda share, requests: 1 - (share / 100) ** requests),
        (check.recall, recall),
    ],
)
def test_a_right_answer_is_accepted(checker, answer):
    assert checker(answer).startswith("Right")


@pytest.mark.parametrize(
    ("checker", "answer", "hint"),
    [
        (check.allowed_top_k, lambda *_: None, "forget `return`"),
        (check.allowed_top_k, in_place, "scores were changed"),
        (
            check.allowed_top_k,
            lambda s, a, k: s.topk(k).indices,
            "may not be shown|of equal scores",
        ),
        (
            check.allowed_top_k,
            lambda s, a, k: s[a].topk(min(k, len(a))).indices,
            "places in the list|of equal scores",
        ),
        (
            check.allowed_top_k,
            lambda s, a, k: allowed_top_k(s, a, k + 1),
            "places, not 2",
        ),
        (
            check.allowed_top_k,
            lambda s, a, k: allowed_top_k(s, a, k)[::-1],
            "not best first",
        ),
        (
            check.allowed_top_k,
            lambda s, a, k: allowed_top_k(s, a, 1),
            "as many as there are",
        ),
        (
            check.allowed_top_k,
            lambda s, a, k: sorted(a[::-1], key=lambda p: (-s[p], -p))[:k],
            "the lower place",
        ),
        (check.merged, lambda *_: None, "forget `return`"),
        (
            check.merged,
            lambda parts, k: [p for _, places in parts for p in places][:k],
            "not sorted",
        ),
        (check.merged, lambda parts, k: merged(parts, k)[::-1], "worst first"),
        (check.merged, lambda parts, k: merged(parts, k)[1:], "not"),
        (check.merged, last_first, "not|the lower place"),
        (check.percentile, lambda times, share: statistics.mean(times), "mean"),
        (
            check.percentile,
            lambda times, share: times[math.ceil(share / 10) - 1],
            "sort first",
        ),
        (check.percentile, sorts, "list of times was changed"),
        (
            check.percentile,
            lambda times, share: sorted(times)[int(share / 100 * 9)],
            "only 9 of 10",
        ),
        (check.percentile, lambda times, share: max(times), "already"),
        (
            check.slow_page,
            lambda share, requests: (share / 100) ** requests,
            "none is slow",
        ),
        (
            check.slow_page,
            lambda share, requests: requests * (1 - share / 100),
            "adds the chances up",
        ),
        (check.slow_page, lambda share, requests: 0.5, "not 0.0100"),
        (check.recall, by_place, "place by place"),
        (check.recall, lambda found, true: recall(found, true) * 3, "more than all"),
        (
            check.recall,
            lambda found, true: float(recall(found, true) == 1),
            "not 0.500",
        ),
    ],
)
def test_a_mistake_is_named(checker, answer, hint):
    told = checker(answer)
    assert told.startswith("Not yet: ")
    assert re.search(hint, told)
