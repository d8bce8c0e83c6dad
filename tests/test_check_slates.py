"""The checkers of the chapter on promotions accept right answers, and name the mistake
in wrong ones."""

import math
import re

import check_slates as check
import pytest
import torch

from attncore import attention


def slate_ndcg(scores, taken, k, cut=True, ideal=None, divide=True):
    order = torch.argsort(scores, descending=True).tolist()
    gain = sum(
        1 / math.log2(p + 2)
        for p, i in enumerate(order)
        if i in taken and (p < k or not cut)
    )
    best = sum(
        1 / math.log2(p + 2)
        for p in range(len(taken) if ideal == "all" else min(k, len(taken)))
    )
    return gain / best if divide else gain


def shared_bias(candidates, past, shared):
    return ((candidates[:, None] == past[None]) * shared).sum(-1)


def among_all(said, drawn, others):
    odds = said / (1 - said) * drawn / others
    return odds / (1 + odds)


def rank_reviews(user, reviews):
    scores = [
        float(attention.attend(user[None], words, words)[0][0] @ user)
        for words in reviews
    ]
    return sorted(range(len(reviews)), key=lambda r: -scores[r])


def test_right_answers_about_slates():
    assert "Right" in check.slate_ndcg(slate_ndcg)
    assert "Right" in check.match_bias(shared_bias)
    assert "Right" in check.among_all(among_all)
    assert "Right" in check.review_ranking(rank_reviews)


@pytest.mark.parametrize(
    ("checker", "answer", "hint"),
    [
        (
            "slate_ndcg",
            lambda s, t, k: slate_ndcg(s, t, k, divide=False),
            "divide by the gain of the best order",
        ),
        (
            "slate_ndcg",
            lambda s, t, k: slate_ndcg(s, t, k, ideal="all"),
            "has only k places",
        ),
        (
            "slate_ndcg",
            lambda s, t, k: slate_ndcg(s, t, k, cut=False),
            "below place k earns nothing",
        ),
        ("slate_ndcg", lambda s, t, k: slate_ndcg(-s, t, k), "not"),
        (
            "match_bias",
            lambda c, p, s: shared_bias(c, p, s).T,
            "a row must be a candidate",
        ),
        (
            "match_bias",
            lambda c, p, s: (c[:, None] == p).float().sum(-1),
            "weigh each thing",
        ),
        (
            "match_bias",
            lambda c, p, s: ((c[:, None] != p) * s).sum(-1),
            "compare with ==",
        ),
        ("match_bias", lambda c, p, s: torch.zeros(2, 3), "should be"),
        ("match_bias", lambda c, p, s: torch.zeros(2), "shape"),
        ("among_all", lambda p, d, n: among_all(p, n, d), "wrong way round"),
        ("among_all", lambda p, d, n: p * d / n, "not the probability"),
        ("among_all", lambda p, d, n: p / (1 - p) * d / n, "these are odds"),
        ("among_all", lambda p, d, n: p, "not"),
        ("review_ranking", lambda u, r: rank_reviews(u, r)[::-1], "falling score"),
        (
            "review_ranking",
            lambda u, r: sorted(range(4), key=lambda i: -float(r[i].mean(0) @ u)),
            "plain means",
        ),
        ("review_ranking", lambda u, r: [0, 1], "must stand once"),
        ("review_ranking", lambda u, r: [0, 1, 2, 3], "attend with the user"),
    ],
)
def test_a_wrong_answer_about_slates_gets_its_hint(checker, answer, hint):
    told = getattr(check, checker)(answer)
    assert told.startswith("Not yet: ")
    assert re.search(hint, told)
