"""The checkers of the sequential chapters accept right answers, and name the mistake in
wrong ones."""

import heapq
from pathlib import Path

import check_sequences as check
import pytest
import torch

BOOK = Path(__file__).parent.parent / "book"


def step(change=""):
    def my_step(x, h, c, weight_x, weight_h, bias):
        put, keep, new, out = (weight_x @ x + weight_h @ h + bias).chunk(4)
        if change == "gates exchanged":
            put, keep = keep, put
        if change == "order":
            new, out = out, new
        new = new.sigmoid() if change == "sigmoid" else new.tanh()
        put = torch.ones(2) if change == "no input gate" else put.sigmoid()
        memory = keep.sigmoid() * c + put * new
        shown = {"no tanh": memory, "old": c.tanh()}.get(
            change, memory.tanh()
        ) * out.sigmoid()
        memory = memory + 1 if change == "off" else memory
        return (memory, shown) if change == "turned" else (shown, memory)

    return my_step


def mean(change=""):
    def my_mean(vectors, keep):
        if change == "padding":
            return vectors.mean(1)
        if change == "by T":
            return (vectors * keep[..., None]).mean(1)
        count = keep.sum(1, keepdim=True)
        if change == "times":
            return (vectors * keep[..., None]).sum(1) / count.clamp_min(1)
        total = vectors.masked_fill(~keep[..., None], 0).sum(1)
        return total / (count if change == "0 / 0" else count.clamp_min(1))

    return my_mean


def right_rows(scores, labels):
    return (scores.argmax(1) == labels).float()


def by_gate(gates=4, biases=True, scale=1.0):
    def my_xavier(lstm):
        for p in lstm.parameters():
            for part in p.detach().chunk(gates):
                if p.dim() > 1:
                    torch.nn.init.xavier_uniform_(part, gain=scale)
                elif biases:
                    part.zero_()

    return my_xavier


def weights(scores, age, half_life):
    return (scores - age / half_life * torch.tensor(2.0).log()).softmax(-1)


def decay(age, half_life):
    return 0.5 ** (age / half_life)


def best(stream, k):
    kept = heapq.nlargest(
        k, ((value, -at, post) for at, (value, post) in enumerate(stream))
    )
    return [post for _, _, post in kept]


def in_turn(stream, k):
    kept = []
    for value, post in stream:
        kept = sorted([*kept, (value, post)], reverse=True)[:k]
    return [post for _, post in kept]


def noised(history, share, items, rng):
    history = list(history)
    for place in rng.choice(len(history), round(share * len(history)), replace=False):
        history[place] = int(rng.integers(1, items + 1))
    return history


def in_place(history, share, items, rng):
    history[: round(share * len(history))] = [999] * round(share * len(history))
    return history


@pytest.mark.parametrize(
    ("checker", "answer"),
    [
        (check.lstm_step, step()),
        (check.masked_mean, mean()),
        (
            check.accuracy,
            lambda batches: torch.cat([right_rows(*batch) for batch in batches]).mean(),
        ),
        (check.xavier, by_gate()),
        (check.recency_weights, weights),
        (check.keep_best, best),
        (check.replaced, noised),
    ],
)
def test_a_right_answer_is_told_so(checker, answer):
    assert checker(answer).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answer", "says"),
    [
        (check.lstm_step, lambda *given: None, "return two vectors"),
        (check.lstm_step, lambda x, h, c, *more: (x, c), "both are"),
        (check.lstm_step, step("turned"), "wrong way round"),
        (check.lstm_step, step("gates exchanged"), "are exchanged"),
        (check.lstm_step, step("sigmoid"), "through tanh"),
        (check.lstm_step, step("order"), "the order is"),
        (check.lstm_step, step("no input gate"), "how much of the new content"),
        (check.lstm_step, step("off"), "c is"),
        (check.lstm_step, step("no tanh"), "tanh of the memory"),
        (check.lstm_step, step("old"), "not the old one"),
        (
            check.lstm_step,
            lambda *given: (step()(*given)[0] * 3, step()(*given)[1]),
            "h is",
        ),
        (check.masked_mean, lambda vectors, keep: vectors, "width 2 give"),
        (check.masked_mean, mean("padding"), "averaged too"),
        (check.masked_mean, mean("by T"), "how many are kept"),
        (check.masked_mean, mean("0 / 0"), "by 1 at least"),
        (check.masked_mean, mean("times"), "NaN times 0"),
        (
            check.masked_mean,
            lambda vectors, keep: mean()(vectors, keep) + 1,
            "should be",
        ),
        (
            check.accuracy,
            lambda batches: torch.stack(
                [right_rows(*batch).mean() for batch in batches]
            ).mean(),
            "the mean of the batches' means",
        ),
        (
            check.accuracy,
            lambda batches: sum(right_rows(*batch).sum() for batch in batches),
            "how many are right",
        ),
        (
            check.accuracy,
            lambda batches: (
                sum(right_rows(*batch).sum() for batch in batches) / len(batches)
            ),
            "by the number of rows",
        ),
        (check.accuracy, lambda batches: 0.5, "three rows of five"),
        (check.xavier, lambda lstm: None, "nothing has changed"),
        (check.xavier, by_gate(gates=1), "one matrix"),
        (check.xavier, by_gate(scale=3.0), "its bound is"),
        (check.xavier, by_gate(biases=False), "biases begin at 0"),
        (
            check.recency_weights,
            lambda s, age, half: weights(s, age, half)[0],
            "two queries",
        ),
        (check.recency_weights, lambda s, age, half: s.softmax(-1), "changes nothing"),
        (
            check.recency_weights,
            lambda s, age, half: s.softmax(-1) * decay(age, half),
            "no longer sum to 1",
        ),
        (
            check.recency_weights,
            lambda s, age, half: (s * decay(age, half)).softmax(-1),
            "never fades",
        ),
        (
            check.recency_weights,
            lambda s, age, half: (s + decay(age, half)).softmax(-1),
            "add its logarithm",
        ),
        (
            check.recency_weights,
            lambda s, age, half: (s - age / half).softmax(-1),
            "a half-life halves",
        ),
        (
            check.recency_weights,
            lambda s, age, half: (s - decay(age, half).log()).softmax(-1),
            "old events grow",
        ),
        (
            check.recency_weights,
            lambda s, age, half: weights(s, age, 3 * half),
            "should be",
        ),
        (
            check.keep_best,
            lambda stream, k: sorted(stream, key=len(stream)),
            "has no length",
        ),
        (check.keep_best, lambda stream, k: None, "did you forget"),
        (
            check.keep_best,
            lambda stream, k: [post for _, post in stream],
            "3 were asked for",
        ),
        (check.keep_best, lambda stream, k: sorted(stream)[-k:], "the posts alone"),
        (
            check.keep_best,
            lambda stream, k: [post for _, post in sorted(stream)][:k],
            "the worst three",
        ),
        (
            check.keep_best,
            lambda stream, k: [post for _, post in stream][-k:],
            "the best are",
        ),
        (check.keep_best, lambda stream, k: best(stream, k)[::-1], "turn it round"),
        (check.keep_best, in_turn, "came first goes first"),
        (
            check.keep_best,
            lambda stream, k: sorted(
                best(stream, k), key=lambda post: post == "post 3"
            ),
            "best first",
        ),
        (
            check.keep_best,
            lambda stream, k: (best(stream, k) * 3)[:k],
            "shorter than k",
        ),
        (check.replaced, in_place, "has changed"),
        (
            check.replaced,
            lambda history, share, items, rng: history[:-1],
            "still an event",
        ),
        (
            check.replaced,
            lambda history, share, items, rng: [0, *history[1:]],
            "numbered from 1",
        ),
        (
            check.replaced,
            lambda history, share, items, rng: noised(history, 1.0, items, rng),
            "a quarter is 5",
        ),
        (
            check.replaced,
            lambda history, share, items, rng: noised(history, 0.1, items, rng),
            "without putting",
        ),
        (
            check.replaced,
            lambda history, share, items, rng: in_place(
                list(history), share, items, rng
            ),
            "at random",
        ),
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong(checker, answer, says):
    told = checker(answer)
    assert told.startswith("Not yet: ")
    assert says in told
