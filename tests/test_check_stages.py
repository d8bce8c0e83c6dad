"""The checkers of the chapters on the four stages accept right answers, and name the
mistake in wrong ones."""

from collections import Counter
from pathlib import Path

import check_stages as check
import numpy as np
import pytest
import torch

BOOK = Path(__file__).parent.parent / "book"


def hint(checker, *answers):
    told = checker(*answers)
    assert told.startswith("Not yet: ")
    return told


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
        mean, deviation = (
            f({"train": train, "both": both}[mean_of]) for f in (np.mean, np.std)
        )
        deviation = deviation**2 if std_of == "variance" else deviation
        deviation = 1.0 if guard and deviation == 0 else deviation
        if std_of == "own":
            return (train - mean) / deviation, (test - test.mean()) / (
                test.std() or 1.0
            )
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
        (
            check.window,
            (lambda h, n: (h[-n - 1 :], h[-n:]),),
            "each input has one target",
        ),
        (check.window, (lambda h, n: (h[-n:], h[-n:]),), "its own target"),
        (check.window, (lambda h, n: (h[:n], h[1 : n + 1]),), "the oldest"),
        (check.window, (lambda h, n: (h[-n:-1], h[-n:][1:]),), "length + 1"),
        (check.window, (lambda h, n: ([9] * 3, [8] * 3),), "should be"),
        (
            check.window,
            (
                lambda h, n: (
                    (h[-n - 1 : -1], h[-n:]) if len(h) > n else ([0, 0, 8], [0, 0, 9])
                ),
            ),
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
        (
            check.groups,
            ({"tied": (1.1, 599), "alone": (0.088, 344)}, 943),
            "between 0 and 1",
        ),
        (
            check.groups,
            ({"tied": (0.04, 599), "alone": (0.03, 344)}, 943),
            "the chain on validation",
        ),
    ],
)
def test_wrong_answers_about_data_get_the_hint_that_fits(checker, answers, says):
    assert says in hint(checker, *answers)


# --- The embedding layer


def one_hot(index, table):
    return (index[..., None] == torch.arange(len(table))).to(table.dtype) @ table


def collected(padding=False, mean=False):
    def answer(index, upstream, rows):
        gradient = torch.zeros(rows, upstream.shape[-1])
        gradient.index_add_(0, index.flatten(), upstream.flatten(0, -2))
        if mean:
            gradient /= torch.bincount(index.flatten(), minlength=rows).clamp_min(1)[
                :, None
            ]
        return gradient if padding else gradient.index_fill(0, torch.tensor([0]), 0)

    return answer


def overwritten(index, upstream, rows):
    gradient = torch.zeros(rows, upstream.shape[-1])
    for place, row in zip(index.flatten(), upstream.flatten(0, -2), strict=True):
        gradient[place] = row
    gradient[0] = 0
    return gradient


def averaged(divide):
    return lambda codes, table: divide(
        (table[codes] * (codes > 0)[..., None]).sum(1), (codes > 0).sum(1)[:, None]
    )


OVERLAP = {"chance": 0.18, "index only": 0.24, "counts": 0.3, "with attributes": 0.4}


@pytest.mark.parametrize(
    ("checker", "answers"),
    [
        (check.lookup, (one_hot,)),
        (check.lookup_gradient, (collected(),)),
        (check.mean_of_codes, (averaged(lambda total, n: total / n.clamp_min(1)),)),
        (check.overlap, (OVERLAP,)),
        (check.overlap, (OVERLAP | {"counts": 0.2},)),
    ],
)
def test_right_answers_about_embeddings_pass(checker, answers):
    assert checker(*answers).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answers", "says"),
    [
        (check.lookup, (lambda i, t: t,), "give (3, 2)"),
        (check.lookup, (lambda i, t: t[i - 1],), "off by one"),
        (check.lookup, (lambda i, t: t[i] + 1,), "should be"),
        (
            check.lookup,
            (lambda i, t: (i[:, None] == torch.arange(4)).float() @ t,),
            "the one-hot axis be the last",
        ),
        (
            check.lookup,
            (lambda i, t: t[i] if i.dim() == 1 else t[i] * 2,),
            "other rows than theirs",
        ),
        (
            check.lookup_gradient,
            (lambda i, u, rows: u,),
            "the gradient has the table's",
        ),
        (check.lookup_gradient, (collected(padding=True),), "row 0 must stay 0"),
        (check.lookup_gradient, (overwritten,), "overwrites"),
        (check.lookup_gradient, (collected(mean=True),), "collects twice"),
        (check.lookup_gradient, (lambda i, u, rows: torch.ones(rows, 2),), "should be"),
        (check.mean_of_codes, (lambda c, t: t[c],), "one vector for each"),
        (check.mean_of_codes, (averaged(lambda total, n: total / n),), "at least 1"),
        (check.mean_of_codes, (lambda c, t: t[c].mean(1),), "padding takes part"),
        (check.mean_of_codes, (averaged(lambda total, n: total),), "these are sums"),
        (
            check.mean_of_codes,
            (averaged(lambda total, n: total / 3),),
            "width of the row",
        ),
        (check.mean_of_codes, (averaged(lambda total, n: total * 9),), "should be"),
        (check.overlap, ({"chance": 0.1},), "the entries are"),
        (check.overlap, (OVERLAP | {"counts": 1.2},), "between 0 and 1"),
        (check.overlap, (OVERLAP | {"counts": 0.1},), "worse than chance"),
        (check.overlap, (OVERLAP | {"counts": 0.95},), "its own neighbour"),
        (check.overlap, (OVERLAP | {"counts": 0.5},), "only the last has seen"),
    ],
)
def test_wrong_answers_about_embeddings_get_the_hint_that_fits(checker, answers, says):
    assert says in hint(checker, *answers)


# --- The attention layer in a real model


def norm(axis=-1, eps=True, over_d=True):
    def answer(x, gain, shift, e):
        mean = x.mean(axis, keepdim=True)
        variance = ((x - mean) ** 2).mean(axis, keepdim=True)
        if not over_d:
            variance = variance * x.shape[axis] / (x.shape[axis] - 1)
        return gain * (x - mean) / (variance + (e if eps else 0)).sqrt() + shift

    return answer


def plain_norm(x):
    return torch.nn.functional.layer_norm(x, x.shape[-1:])


def drop(stays=None, scale=None, shape=lambda x: x):
    def answer(x, share):
        stay = 1 - share if stays is None else stays(share)
        return (
            x
            * (torch.rand_like(shape(x)) < stay)
            / (stay if scale is None else scale(share))
        )

    return answer


def same_each_time(x, share):
    kept = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) >= share
    return x * kept / (1 - share)


def good_block(x, attention, network, norm_1, norm_2):
    x = x + attention(norm_1(x))
    return x + network(norm_2(x))


def normed_first(x, a, n, n1, n2):
    x = n1(x)
    x = x + a(x)
    return x + n(n2(x))


def post_norm(x, a, n, n1, n2):
    x = n1(x + a(x))
    return n2(x + n(x))


def causal(places=None, size=10.0, tolerance=1e-5):
    def answer(model, steps, width):
        x = torch.randn(1, steps, width)
        for place in range(1, steps) if places is None else places(steps):
            changed = x.clone()
            changed[:, place:] += size * torch.randn(1, steps - place, width)
            if (
                model(changed)[:, :place] - model(x)[:, :place]
            ).abs().max() > tolerance:
                return False
        return True

    return answer


def careful_but_small(model, steps, width):
    """Finds every leak that a small change shows."""
    return causal(size=1e-3, tolerance=1e-4)(model, steps, width) if steps else True


HEADS = {(0, 0): 0.08, (0, 1): 0.09, (1, 0): 0.095, (1, 1): 0.07}


@pytest.mark.parametrize(
    ("checker", "answers"),
    [
        (check.layer_norm, (norm(),)),
        (check.dropout, (drop(),)),
        (check.block, (good_block,)),
        (check.causal_test, (causal(),)),
        (check.silenced, (HEADS, 0.1)),
    ],
)
def test_right_answers_about_blocks_pass(checker, answers):
    assert checker(*answers).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answers", "says"),
    [
        (check.layer_norm, (lambda x, g, s, e: x.mean(-1),), "keeps the shape"),
        (check.layer_norm, (lambda x, g, s, e: plain_norm(x),), "left out"),
        (check.layer_norm, (norm(over_d=False),), "D - 1"),
        (check.layer_norm, (norm(axis=0),), "each column"),
        (
            check.layer_norm,
            (lambda x, g, s, e: g * (x - x.mean(-1, keepdim=True)) + s,),
            "divide by the deviation",
        ),
        (
            check.layer_norm,
            (lambda x, g, s, e: g * (plain_norm(x) + s),),
            "shift after the gain",
        ),
        (check.layer_norm, (lambda x, g, s, e: x,), "should be"),
        (check.layer_norm, (norm(eps=False),), "add eps"),
        (check.layer_norm, (norm(axis=1),), "use -1, not 1"),
        (check.dropout, (lambda x, share: x[0],), "keeps the shape"),
        (check.dropout, (lambda x, share: x,), "nothing is dropped"),
        (check.dropout, (drop(stays=lambda share: share),), "not what stays"),
        (check.dropout, (drop(stays=lambda share: 0.5),), "of the numbers are 0"),
        (check.dropout, (drop(scale=lambda share: 1),), "the mean falls"),
        (check.dropout, (drop(scale=lambda share: 0.5),), "it should stay 3"),
        (check.dropout, (drop(shape=lambda x: x[:, :1]),), "draw for each number"),
        (check.dropout, (same_each_time,), "draw anew"),
        (
            check.dropout,
            (lambda x, share: drop()(x, share) if share else 2 * x,),
            "with share 0",
        ),
        (check.block, (lambda x, a, n, n1, n2: n(n2(a(n1(x)))),), "no residual"),
        (
            check.block,
            (lambda x, a, n, n1, n2: n(n2(x + a(n1(x)))),),
            "second residual",
        ),
        (
            check.block,
            (lambda x, a, n, n1, n2: a(n1(x)) + n(n2(a(n1(x)))),),
            "first residual",
        ),
        (check.block, (post_norm,), "comes after"),
        (
            check.block,
            (lambda x, a, n, n1, n2: x + a(n1(x)) + n(n2(x)),),
            "side by side",
        ),
        (check.block, (lambda x, a, n, n1, n2: x + a(x) + n(x + a(x)),), "no norm"),
        (check.block, (normed_first,), "replaces the stream"),
        (
            check.block,
            (lambda x, a, n, n1, n2: good_block(x, a, n, n1, n1),),
            "one norm for both",
        ),
        (check.block, (lambda x, a, n, n1, n2: x,), "should be"),
        (check.causal_test, (lambda model, steps, width: False,), "called leaky"),
        (
            check.causal_test,
            (lambda model, steps, width: True,),
            "copies the next event",
        ),
        (
            check.causal_test,
            (lambda model, steps, width: model.__name__ != "next_event",),
            "mean of the whole",
        ),
        (
            check.causal_test,
            (causal(places=lambda steps: [steps - 1]),),
            "not the last alone",
        ),
        (check.causal_test, (careful_but_small,), "make a large change"),
        (check.silenced, ({(0, 0): 0.1}, 0.1), "have four"),
        (check.silenced, (dict.fromkeys(range(4), 0.1), 0.1), "the keys are"),
        (check.silenced, (dict.fromkeys(HEADS, 1.5), 0.1), "between 0 and 1"),
        (check.silenced, (dict.fromkeys(HEADS, 0.1), 0.1), "nothing changes"),
        (check.silenced, (dict.fromkeys(HEADS, 0.09), 0.1), "all heads cost the same"),
        (
            check.silenced,
            ({key: value / 3 for key, value in HEADS.items()}, 0.1),
            "undone before the next",
        ),
    ],
)
def test_wrong_answers_about_blocks_get_the_hint_that_fits(checker, answers, says):
    assert says in hint(checker, *answers)
