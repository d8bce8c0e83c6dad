"""The checkers of the chapters on the four stages accept right answers, and name the mistake in wrong ones."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

BOOK = Path(__file__).parent.parent / "book"


def load(name):
    """A checker module of the book, which may import its neighbours."""
    spec = importlib.util.spec_from_file_location(name, BOOK / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(BOOK))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BOOK))
    return module


check = load("check_stages")


def hint(checker, *answers):
    with pytest.raises(AssertionError) as raised:
        checker(*answers)
    return str(raised.value)


# --- Data preparation


def by_appearance(ids):
    return [list(dict.fromkeys(ids)).index(i) + 1 for i in ids]


def sorted_from(first, key=None):
    return lambda ids: [sorted(set(ids), key=key).index(i) + first for i in ids]


def cut(pairs, k):
    users, items = (Counter(column) for column in zip(*pairs, strict=True))
    return [(u, i) for u, i in pairs if users[u] >= k and items[i] >= k]


def whole_core(pairs, k):
    while pairs and (kept := cut(pairs, k)) != pairs:
        pairs = kept
    return pairs


def users_only(pairs, k):
    users = Counter(u for u, _ in pairs)
    return [(u, i) for u, i in pairs if users[u] >= k]


def scaled(mean_of, std_of=None, guard=True):
    def answer(train, test):
        both = np.concatenate([train, test])
        mean, deviation = (f({"train": train, "both": both}[mean_of]) for f in (np.mean, np.std))
        deviation = deviation**2 if std_of == "variance" else deviation
        deviation = 1.0 if guard and deviation == 0 else deviation
        if std_of == "own":
            return (train - mean) / deviation, (test - test.mean()) / (test.std() or 1.0)
        return (train - mean) / deviation, (test - mean) / deviation

    return answer


GROUPS = {"tied": (0.117, 599), "alone": (0.088, 344)}


@pytest.mark.parametrize(
    ("checker", "answers"),
    [
        (check.encode, (sorted_from(1),)),
        (check.window, (lambda h, n: (h[-n - 1 : -1], h[-n - 1 :][1:]),)),
        (check.core, (whole_core,)),
        (check.zscore, (scaled("train"),)),
        (check.groups, (GROUPS, 943)),
    ],
)
def test_right_answers_about_data_pass(checker, answers):
    assert checker(*answers).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answers", "says"),
    [
        (check.encode, (lambda ids: sorted_from(1)(ids)[:3],), "one for each"),
        (check.encode, (sorted_from(0),), "kept for padding"),
        (check.encode, (by_appearance,), "order of appearance"),
        (check.encode, (sorted_from(1, str),), "sorted as text"),
        (check.encode, (lambda ids: [1] * 4,), "should be"),
        (check.encode, (lambda ids: [3, 1, 3, 2],), "text as well"),
        (check.window, (lambda h, n: (h[-n - 1 :], h[-n:]),), "each input has one target"),
        (check.window, (lambda h, n: (h[-n:], h[-n:]),), "its own target"),
        (check.window, (lambda h, n: (h[:n], h[1 : n + 1]),), "the oldest"),
        (check.window, (lambda h, n: (h[-n:-1], h[-n:][1:]),), "length + 1"),
        (check.window, (lambda h, n: ([9] * 3, [8] * 3),), "should be"),
        (
            check.window,
            (lambda h, n: (h[-n - 1 : -1], h[-n:]) if len(h) > n else ([0, 0, 8], [0, 0, 9]),),
            "one question",
        ),
        (check.core, (cut,), "repeat until nothing changes"),
        (check.core, (lambda p, k: p,), "user d"),
        (check.core, (users_only,), "items must have k events too"),
        (check.core, (lambda p, k: [],), "should be"),
        (check.core, (lambda p, k: whole_core(p, k)[::-1],), "another order"),
        (check.core, (lambda p, k: whole_core(p, k) or p,), "an empty list"),
        (check.zscore, (scaled("both"),), "test helped to train"),
        (check.zscore, (scaled("train", "own"),), "must be training's"),
        (check.zscore, (scaled("train", "variance"),), "square root"),
        (check.zscore, (lambda a, b: (a, b),), "training becomes"),
        (check.zscore, (lambda a, b: (scaled("train")(a, b)[0], b),), "test becomes"),
        (check.zscore, (scaled("train", guard=False),), "constant column"),
        (check.groups, ({"tied": (0.1, 1)}, 943), "the groups are"),
        (check.groups, ({"tied": (0.1, 1), "alone": (0.1, 1)}, 943), "not 943"),
        (check.groups, ({"alone": (0.117, 599), "tied": (0.088, 344)}, 943), "swapped"),
        (check.groups, ({"tied": (1.1, 599), "alone": (0.088, 344)}, 943), "between 0 and 1"),
        (check.groups, ({"tied": (0.04, 599), "alone": (0.03, 344)}, 943), "the chain on validation"),
    ],
)
def test_wrong_answers_about_data_get_the_hint_that_fits(checker, answers, says):
    assert says in hint(checker, *answers)
