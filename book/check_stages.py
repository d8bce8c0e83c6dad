"""Checkers for the exercises of the chapters on the four stages; see `check`, whose
rules they follow."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from answers import checker
from check import _ask, _same
from torch import Tensor

# --- Data preparation


@checker
def encode(my_encode: Callable[[list[Any]], Sequence[int]]) -> str:
    """`my_encode(ids)`: indices from 1, in ascending order of the ids."""
    answer = list(my_encode([30, 7, 30, 12]))
    assert len(answer) == 4, (
        f"{len(answer)} indices for 4 ids: one for each, repeats included"
    )
    assert answer != [
        2,
        0,
        2,
        1,
    ], "indices start at 0, which is kept for padding: count from 1"
    assert answer != [1, 2, 1, 3], (
        "in order of appearance: then shuffling the rows renames every film; sort"
        " the ids"
    )
    assert answer != [
        2,
        3,
        2,
        1,
    ], "sorted as text, where '7' comes after '30': keep numbers numbers"
    assert answer == [3, 1, 3, 2], f"{answer} should be [3, 1, 3, 2]"
    assert list(my_encode(["b", "a"])) == [2, 1], "ids may be text as well"
    return "Right: equal ids share an index, and the order of rows plays no part."


@checker
def window(my_window: Callable[[list[int], int], tuple[Any, Any]]) -> str:
    """`my_window(history, length)`: inputs and targets of the newest questions."""
    inputs, targets = (list(part) for part in my_window([1, 2, 3, 4, 5], 3))
    assert len(inputs) == len(targets), (
        f"{len(inputs)} inputs and {len(targets)} targets: each input has one target"
    )
    assert inputs != targets, (
        "each event is its own target: the target is the event after it"
    )
    assert (inputs, targets) != (
        [1, 2, 3],
        [2, 3, 4],
    ), "these are the oldest: the newest events are wanted"
    assert len(inputs) != 2, (
        "only 2 questions: length + 1 events make `length` questions"
    )
    assert (inputs, targets) == (
        [2, 3, 4],
        [3, 4, 5],
    ), f"{inputs} -> {targets} should be [2, 3, 4] -> [3, 4, 5]"
    short = tuple(list(part) for part in my_window([8, 9], 3))
    assert short == (
        [8],
        [9],
    ), f"a history of 2 events is one question, [8] -> [9], not {short}"
    return "Right: every event but the newest asks, every event but the oldest answers."


@checker
def core(my_core: Callable[[list[tuple[str, str]], int], list[tuple[str, str]]]) -> str:
    """`my_core(pairs, k)`: the largest part in which each user and item has k
    events."""
    solid = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    pairs = [*solid[:2], ("c", "z"), *solid[2:], ("c", "x"), ("d", "x")]
    answer = [tuple(pair) for pair in my_core(list(pairs), 2)]
    once = [*solid[:2], *solid[2:], ("c", "x")]
    assert answer != once, (
        "c has one event left once z is gone: repeat until nothing changes"
    )
    assert ("d", "x") not in answer, "user d has one event only"
    assert (
        "c",
        "z",
    ) not in answer, "item z has one event only: items must have k events too"
    assert sorted(answer) == sorted(solid), f"{answer} should be {solid}"
    assert answer == solid, "the right pairs, in another order: keep theirs"
    assert my_core([("a", "x")], 2) == [], (
        "where nothing is left, the answer is an empty list"
    )
    return "Right: rare users and rare items go, until nobody is rare."


@checker
def zscore(
    my_zscore: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> str:
    """`my_zscore(train, test)`: both normalized by the mean and deviation of
    training."""
    train, test = np.array([1.0, 2, 3, 6]), np.array([10.0, 14])
    mean, deviation = train.mean(), train.std()
    a, b = (np.asarray(part) for part in my_zscore(train.copy(), test.copy()))
    both = np.concatenate([train, test])
    assert not np.allclose(a, (train - both.mean()) / both.std()), (
        "mean and deviation of both: test helped to train"
    )
    assert not np.allclose(b, (test - test.mean()) / test.std()), (
        "test by its own mean: it must be training's"
    )
    assert not np.allclose(a, (train - mean) / deviation**2), (
        "divided by the variance: take its square root"
    )
    assert np.allclose(a, (train - mean) / deviation, rtol=0.2), f"training becomes {a}"
    assert np.allclose(b, (test - mean) / deviation, rtol=0.2), f"test becomes {b}"
    with np.errstate(all="ignore"):
        flat = np.concatenate(my_zscore(np.ones(3), np.array([2.0])))
    assert np.isfinite(flat).all(), (
        "a constant column gives NaN or infinity: divide by 1 where the deviation is 0"
    )
    return "Right: the test is measured with training's ruler."


@checker
def groups(my_groups: Mapping[str, tuple[float, int]], viewers: int) -> str:
    """`my_groups`: mean NDCG@10 and number of viewers whose film is tied in time, or
    stands alone."""
    assert set(my_groups) == {
        "tied",
        "alone",
    }, f"the groups are 'tied' and 'alone', not {sorted(my_groups)}"
    sizes = {name: int(size) for name, (_, size) in my_groups.items()}
    assert sum(sizes.values()) == viewers, (
        f"{sum(sizes.values())} viewers in both groups together, not {viewers}"
    )
    assert sizes["tied"] > sizes["alone"], (
        "most films are tied: are the names of the groups swapped?"
    )
    means = {name: float(mean) for name, (mean, _) in my_groups.items()}
    assert all(0 < mean < 1 for mean in means.values()), (
        f"means {means}: NDCG lies between 0 and 1"
    )
    whole = sum(means[name] * sizes[name] for name in means) / viewers
    assert 0.08 < whole < 0.13, (
        f"both groups together give {whole:.3f}: is this the chain on validation?"
    )
    return "Right: both groups are there, and together they are everybody."


# --- The embedding layer

TABLE = torch.tensor([[0.0, 0], [1, 2], [3, 5], [7, -4]])


@checker
def lookup(my_lookup: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_lookup(index, table)`: the rows of the table, for indices of any shape."""
    index = torch.tensor([3, 1, 1])
    right, answer = TABLE[index], _ask(my_lookup, index, TABLE)
    assert answer.shape == right.shape, (
        f"shape {tuple(answer.shape)}; 3 indices into rows of 2 numbers give (3, 2)"
    )
    assert not _same(answer, TABLE[index - 1]), (
        "off by one: row i of the table is index i, row 0 is padding"
    )
    assert _same(answer, right), f"rows\n{answer}\nshould be\n{right}"
    deep = torch.tensor([[2, 0], [3, 3]])
    try:
        answer = _ask(my_lookup, deep, TABLE)
    except (RuntimeError, IndexError) as error:
        raise AssertionError(
            f"indices (2, 2) fail ({error}): let the one-hot axis be the last, whatever"
            " comes before"
        ) from None
    assert _same(answer, TABLE[deep]), (
        f"indices (2, 2) give shape {tuple(answer.shape)}, or other rows than theirs"
    )
    return "Right: a row of the product for each index."


@checker
def lookup_gradient(my_gradient: Callable[[Tensor, Tensor, int], Tensor]) -> str:
    """`my_gradient(index, upstream, rows)`: the gradient of a table with padding row
    0."""
    index = torch.tensor([[2, 2, 0], [1, 2, 0]])
    upstream = torch.arange(12.0).view(2, 3, 2) + 1
    right = torch.zeros(4, 2).index_add_(0, index.flatten(), upstream.flatten(0, 1))
    padded = right.clone()
    right[0] = 0
    answer = _ask(my_gradient, index, upstream, 4)
    assert answer.shape == (
        4,
        2,
    ), f"shape {tuple(answer.shape)}; the gradient has the table's, (4, 2)"
    assert not _same(answer, padded), "padding has learned: row 0 must stay 0"
    last = torch.zeros(4, 2)
    last[1], last[2] = upstream[1, 0], upstream[1, 1]
    assert not _same(answer, last), (
        "an index that occurs again overwrites what was there: += on an index adds once"
        " only"
    )
    times = torch.bincount(index.flatten(), minlength=4).clamp_min(1)[:, None]
    assert not _same(answer, right / times), (
        "this is the mean over places: a film that occurs twice collects twice"
    )
    assert _same(answer, right), f"gradient\n{answer}\nshould be\n{right}"
    return "Right: each row collects from all its places, and padding from none."


@checker
def mean_of_codes(my_mean: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`my_mean(codes, table)`: the mean of the rows of (N, M) codes, padding left
    out."""
    table = TABLE.clone()
    table[0] = 100  # whatever stands there must not matter
    codes = torch.tensor([[1, 2, 0], [3, 0, 0], [0, 0, 0]])
    right = torch.tensor([[2.0, 3.5], [7, -4], [0, 0]])
    answer = _ask(my_mean, codes, table)
    assert answer.shape == (
        3,
        2,
    ), f"shape {tuple(answer.shape)}; one vector for each of 3 rows of codes is (3, 2)"
    assert not answer.isnan().any(), (
        "a row without codes is 0 / 0: divide by at least 1"
    )
    assert not _same(answer, table[codes].mean(1)), (
        "padding takes part in the mean: leave its places out"
    )
    assert not _same(answer, right * torch.tensor([[2.0], [1], [0]])), (
        "these are sums: divide by how many there are"
    )
    assert not _same(answer, right * torch.tensor([[2 / 3], [1 / 3], [0]])), (
        "divided by the width of the row, padding included"
    )
    assert _same(answer, right), f"means\n{answer}\nshould be\n{right}"
    return "Right: the mean of what is there, and zeros for nothing."


@checker
def overlap(my_overlap: Mapping[str, float]) -> str:
    """`my_overlap`: genres shared with the five nearest films, by what the similarity
    is made from."""
    wanted = {"chance", "index only", "counts", "with attributes"}
    assert set(my_overlap) == wanted, (
        f"the entries are {sorted(wanted)}, not {sorted(my_overlap)}"
    )
    assert all(0 <= value <= 1 for value in my_overlap.values()), (
        "a share lies between 0 and 1"
    )
    assert min(my_overlap, key=lambda name: my_overlap[name]) == "chance", (
        "some similarity is worse than chance: are the rows films, and is a film its"
        " own neighbour?"
    )
    assert my_overlap["counts"] < 0.9, (
        "nearly all genres shared: is each film its own neighbour?"
    )
    assert max(my_overlap, key=lambda name: my_overlap[name]) == "with attributes", (
        "only the last has seen the genres"
    )
    better = "more" if my_overlap["counts"] > my_overlap["index only"] else "no more"
    return (
        f"Right: plain counts share {better} genres than vectors learned from the index"
        " alone."
    )


# --- The attention layer in a real model


@checker
def layer_norm(my_norm: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> str:
    """`my_norm(x, gain, shift, eps)`: layer normalization along the last axis."""
    x = torch.tensor([[3.0, 1, 1], [10, 20, 60]])
    gain, shift, eps = torch.tensor([1.0, 2, 3]), torch.tensor([0.0, 1, -1]), 1e-5
    plain = torch.nn.functional.layer_norm(x, (3,), eps=eps)
    right, answer = gain * plain + shift, _ask(my_norm, x, gain, shift, eps)
    assert answer.shape == x.shape, (
        f"shape {tuple(answer.shape)}; a norm keeps the shape, (2, 3)"
    )
    assert not _same(answer, plain), "gain and shift are left out"
    assert not _same(answer, gain * (plain * math.sqrt(2 / 3)) + shift), (
        "divided by D - 1: the variance here is over D"
    )
    assert not _same(
        answer, gain * torch.nn.functional.layer_norm(x.T, (2,), eps=eps).T + shift
    ), "each column has mean 0: take mean and variance of each row, over the last axis"
    assert not _same(answer, gain * (x - x.mean(-1, keepdim=True)) + shift), (
        "the mean is 0, now divide by the deviation"
    )
    assert not _same(answer, gain * (plain + shift)), "shift after the gain, not before"
    assert _same(answer, right), f"norm\n{answer}\nshould be\n{right}"
    constant = _ask(my_norm, torch.ones(1, 3), gain, shift, eps)
    assert not constant.isnan().any(), (
        "a constant vector gives NaN: add eps to the variance before the root"
    )
    deep = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    assert _same(
        _ask(my_norm, deep, gain, shift, eps),
        gain * torch.nn.functional.layer_norm(deep, (3,)) + shift,
    ), "a tensor of three axes goes wrong: use -1, not 1"
    return "Right: every vector by itself."


@checker
def dropout(my_dropout: Callable[[Tensor, float], Tensor]) -> str:
    """`my_dropout(x, share)`: a random share set to 0, the mean kept."""
    torch.manual_seed(0)
    x, share = torch.full((400, 500), 3.0), 0.25
    answer = _ask(my_dropout, x, share)
    zeros = float((answer == 0).float().mean())
    assert answer.shape == x.shape, (
        f"shape {tuple(answer.shape)}; dropout keeps the shape"
    )
    assert zeros > 0, "nothing is dropped"
    assert abs(zeros - 0.75) > 0.01, (
        "three quarters are dropped: `share` is what goes, not what stays"
    )
    assert abs(zeros - share) < 0.01, f"{zeros:.2f} of the numbers are 0, not {share}"
    assert abs(float(answer.mean()) - 2.25) > 0.05, (
        "the mean falls: divide what stays by 1 - share"
    )
    assert abs(float(answer.mean()) - 3) < 0.05, (
        f"the mean becomes {answer.mean():.2f}; it should stay 3"
    )
    dead = (answer == 0).float()
    assert dead.mean(0).std() < 0.1 and dead.mean(1).std() < 0.1, (
        "whole rows or columns go: draw for each number"
    )
    assert not torch.equal(answer == 0, _ask(my_dropout, x, share) == 0), (
        "the same numbers go each time: draw anew"
    )
    assert _same(_ask(my_dropout, x, 0.0), x), "with share 0 nothing may change"
    return "Right: each number may go, and the mean stays."


@checker
def block(my_block: Callable[..., Tensor]) -> str:
    """`my_block(x, attention, network, norm_1, norm_2)`: a pre-norm block."""

    def norm_1(x: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(x, x.shape[-1:])

    def norm_2(x: Tensor) -> Tensor:
        return 2 * norm_1(x) + 0.5

    def attention(x: Tensor) -> Tensor:
        return x.cumsum(0) + 0.3

    def network(x: Tensor) -> Tensor:
        return torch.nn.functional.gelu(3 * x) - 1

    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    answer = _ask(my_block, x, attention, network, norm_1, norm_2)
    middle = x + attention(norm_1(x))
    right = middle + network(norm_2(middle))
    wrong = {
        "no residual: add to x what each branch gives": network(
            norm_2(attention(norm_1(x)))
        ),
        "the second residual is missing": network(norm_2(middle)),
        "the first residual is missing": (
            attention(norm_1(x)) + network(norm_2(attention(norm_1(x))))
        ),
        "the norm comes after: normalize what goes into the branch, not the sum": (
            norm_2(norm_1(x + attention(x)) + network(norm_1(x + attention(x))))
        ),
        "side by side: the network reads the stream that attention has added to": (
            x + attention(norm_1(x)) + network(norm_2(x))
        ),
        "no norm: each branch reads the normalized stream": (
            x + attention(x) + network(x + attention(x))
        ),
        "the norm replaces the stream: keep x itself for the sum": (
            norm_1(x)
            + attention(norm_1(x))
            + network(norm_2(norm_1(x) + attention(norm_1(x))))
        ),
        "one norm for both branches: the network has its own": (
            middle + network(norm_1(middle))
        ),
    }
    for says, value in wrong.items():
        assert not _same(answer, value), says
    assert _same(answer, right), f"block\n{answer}\nshould be\n{right}"
    return "Right: two branches, each added to a stream that runs straight through."


@checker
def causal_test(
    my_is_causal: Callable[[Callable[[Tensor], Tensor], int, int], bool],
) -> str:
    """`my_is_causal(model, steps, width)`: does no output depend on a later input?"""

    def past_mean(x: Tensor) -> Tensor:
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]

    def next_event(x: Tensor) -> Tensor:
        return x.roll(-1, 1)

    def whole_mean(x: Tensor) -> Tensor:
        return past_mean(x) + x.mean(1, keepdim=True)

    def one_leak(x: Tensor) -> Tensor:
        """Only the third place sees only the fourth."""
        leak = torch.zeros_like(x)
        leak[:, 2] = x[:, 3]
        return past_mean(x) + leak

    def order_of_size(x: Tensor) -> Tensor:
        """Every place is divided by the largest number of all."""
        return past_mean(x) / x.abs().amax((1, 2), keepdim=True)

    torch.manual_seed(0)
    for fair in (lambda x: x, past_mean, lambda x: x * 0):
        assert my_is_causal(fair, 6, 4), (
            "a model that looks at its past alone is called leaky: is a tolerance"
            " missing?"
        )
    assert not my_is_causal(next_event, 6, 4), (
        "a model that copies the next event passes"
    )
    assert not my_is_causal(whole_mean, 6, 4), (
        "a model that adds the mean of the whole history passes"
    )
    assert not my_is_causal(one_leak, 6, 4), (
        "a leak between two places passes: change each place, not the last alone"
    )
    assert not my_is_causal(order_of_size, 6, 4), (
        "a norm over the whole history passes: make a large change"
    )
    return "Right: it finds leaks between any two places."


@checker
def silenced(my_heads: Mapping[tuple[int, int], float], whole: float) -> str:
    """`my_heads`: validation NDCG@10 without each head, by (block, head)."""
    assert len(my_heads) == 4, (
        f"{len(my_heads)} entries; two blocks of two heads have four"
    )
    assert all(isinstance(key, tuple) and len(key) == 2 for key in my_heads), (
        "the keys are (block, head)"
    )
    values = list(my_heads.values())
    assert all(0 <= value <= 1 for value in values), "NDCG@10 lies between 0 and 1"
    assert max(abs(value - whole) for value in values) > 1e-6, (
        "nothing changes: is the model copied before it is cut?"
    )
    assert len(set(values)) > 1, (
        "all heads cost the same: is one head silenced, or all of them?"
    )
    assert max(values) > 0.5 * whole, (
        "each head costs more than half: is the cut undone before the next?"
    )
    least = max(my_heads, key=lambda key: my_heads[key])
    return (
        f"Right: the head missed least is {least[1] + 1} of block {least[0] + 1};"
        " whether it is needed, only training tells."
    )
