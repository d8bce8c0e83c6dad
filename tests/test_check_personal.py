"""The checkers of the chapter on who asks accept right answers, and name the mistake in
wrong ones."""

import check_personal as check
import pytest
import torch


def masked_mean(table, codes):
    keep = (codes > 0)[..., None]
    return torch.where(keep, table[codes], 0).sum(-2) / keep.sum(-2).clamp_min(1)


def audience_mean(item, rating, trained, items, weight):
    item, rating = item[trained], rating[trained]
    total = torch.zeros(items).index_add(0, item, rating)
    return (total + weight * rating.mean()) / (
        torch.bincount(item, minlength=items) + weight
    )


def overlap(a, b):
    return sum(len(set(x) & set(y)) / len(x) for x, y in zip(a, b, strict=True)) / len(
        a
    )


@pytest.mark.parametrize(
    ("checker", "answer"),
    [
        (check.masked_mean, masked_mean),
        (
            check.backed_off,
            lambda counts, around, s: (counts + s * around) / (counts.sum() + s),
        ),
        (check.audience_mean, audience_mean),
        (check.overlap, overlap),
    ],
)
def test_right_answers_pass(checker, answer):
    assert checker(answer).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answer", "says"),
    [
        (
            check.masked_mean,
            lambda table, codes: table[codes].mean(-2),
            "padding is averaged too",
        ),
        (
            check.masked_mean,
            lambda table, codes: torch.where(
                codes[..., None] > 0, table[codes], 0
            ).mean(-2),
            "divided by all places",
        ),
        (
            check.masked_mean,
            lambda table, codes: (
                torch.where(codes[..., None] > 0, table[codes], 0).sum(-2)
                / (codes > 0).sum(-1, keepdim=True)
            ),
            "0 / 0",
        ),
        (
            check.masked_mean,
            lambda table, codes: torch.where(codes[..., None] > 0, table[codes], 0).sum(
                -2
            ),
            "this is the sum",
        ),
        (check.masked_mean, lambda table, codes: table[codes], "shape (4, 2, 3)"),
        (
            check.masked_mean,
            lambda table, codes: masked_mean(table, codes.flatten(0, -2)),
            "a batch of histories",
        ),
        (
            check.masked_mean,
            lambda table, codes: masked_mean(table, codes) + 1,
            "should be",
        ),
        (
            check.backed_off,
            lambda counts, around, s: counts / counts.sum(),
            "the group alone",
        ),
        (
            check.backed_off,
            lambda counts, around, s: counts + s * around,
            "these are events",
        ),
        (
            check.backed_off,
            lambda counts, around, s: (counts + s * around) / counts.sum(),
            "sum to more than 1",
        ),
        (
            check.backed_off,
            lambda counts, around, s: (counts + s) / (counts + s).sum(),
            "every film gets the same",
        ),
        (
            check.backed_off,
            lambda counts, around, s: (counts / counts.sum() + around) / 2,
            "half and half",
        ),
        (
            check.backed_off,
            lambda counts, around, s: (counts + s * around) / 10,
            "a group without events",
        ),
        (check.backed_off, lambda counts, around, s: around, "should be"),
        (
            check.audience_mean,
            lambda item, rating, trained, items, weight: audience_mean(
                item, rating, trained, items, 0.0
            ),
            "0 / 0",
        ),
        (
            check.audience_mean,
            lambda item, rating, trained, items, weight: audience_mean(
                item, rating, torch.ones_like(trained), items, weight
            ),
            "that is a leak",
        ),
        (
            check.audience_mean,
            lambda item, rating, trained, items, weight: audience_mean(
                item, rating, trained, items, 0.0
            ).nan_to_num(rating[trained].mean()),
            "one rating makes a masterpiece",
        ),
        (
            check.audience_mean,
            lambda item, rating, trained, items, weight: torch.zeros(items),
            "should be",
        ),
        (
            check.audience_mean,
            lambda item, rating, trained, items, weight: rating,
            "a number for each",
        ),
        (check.overlap, lambda a, b: overlap(a, b) * 4, "these are items"),
        (
            check.overlap,
            lambda a, b: (
                sum(
                    x == y
                    for r, s in zip(a, b, strict=True)
                    for x, y in zip(r, s, strict=True)
                )
                / 8
            ),
            "places are",
        ),
        (check.overlap, lambda a, b: 1 - overlap(a, b), "the share that differs"),
        (check.overlap, lambda a, b: 0.5, "should be 0.625"),
    ],
)
def test_a_wrong_answer_gets_the_hint_that_fits(checker, answer, says):
    told = checker(answer)
    assert told.startswith("Not yet: ")
    assert says in told
