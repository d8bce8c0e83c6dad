"""The checkers of the exercises accept right answers, and name the mistake in wrong
ones."""

import math
import re

import check
import numpy as np
import pytest
import torch

from attncore import attention

KEY = torch.tensor([[3.0, 0, 0], [1, 3, 1.5], [0, 1, 3.5], [3, 1, 1.5]])


def dot(query, key):
    return query @ key.T


def hint(checker, answer, *more):
    told = checker(answer, *more)
    assert told.startswith("Not yet: ")
    return told


def masked(fill, after=lambda weights: weights):
    return lambda scores, keep: after(scores.masked_fill(~keep, fill).softmax(-1))


def stable(scores):
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    return exponentials / exponentials.sum(-1, keepdim=True)


def bisected(scores, events):
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        weights = attention.softmax(scores, temperature=middle)
        spread = float((-(weights * weights.clamp_min(1e-30).log()).sum()).exp())
        low, high = (middle, high) if spread < events else (low, middle)
    return middle


@pytest.mark.parametrize(
    ("checker", "answers"),
    [
        (check.shapes, ({"scores": (3, 20), "weights": [3, 20], "attended": (3, 16)},)),
        (check.query_for, (4 * (KEY[1] - KEY.mean(0)), KEY, 1)),
        (check.showing_values, (torch.eye(4),)),
        (check.moved, (lambda a, b: (a - b).abs().sum(-1) / 2,)),
        (check.moved, (lambda a, b: 1 - torch.minimum(a, b).sum(-1),)),
        (check.masked_softmax, (attention.softmax,)),
        (
            check.masked_softmax,
            (masked(-torch.inf, lambda weights: weights.nan_to_num(0)),),
        ),
        (check.temperature_for, (bisected,)),
        (
            check.softmax_gradient,
            (lambda w, g: w * (g - (w * g).sum(-1, keepdim=True)),),
        ),
    ],
)
def test_a_right_answer_is_told_so(checker, answers):
    assert checker(*answers).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answers", "says"),
    [
        (check.shapes, ({"scores": (3, 20)},), "no entry 'weights'"),
        (
            check.shapes,
            ({"scores": (20, 3), "weights": (3, 20), "attended": (3, 16)},),
            "other way round",
        ),
        (
            check.shapes,
            ({"scores": (3, 20), "weights": (3, 8), "attended": (3, 16)},),
            "queries x events",
        ),
        (
            check.shapes,
            ({"scores": (3, 20), "weights": (3, 20), "attended": (3, 8)},),
            "that of the values",
        ),
        (check.query_for, (torch.ones(2), KEY, 1), "one query is 3 numbers"),
        (check.query_for, (torch.full((3,), torch.nan), KEY, 1), "finite"),
        (check.query_for, (torch.zeros(3), KEY, 1), "prefers none"),
        (
            check.query_for,
            (torch.tensor([1.0, 0, 0]), KEY, 1),
            "what does the key of that event have",
        ),
        (check.query_for, (KEY[1] - KEY.mean(0), KEY, 1), "make the query longer"),
        (check.showing_values, (torch.ones(4),), "a table, an event a row"),
        (check.showing_values, (torch.eye(3),), "each gives one value"),
        (check.showing_values, (torch.ones(4, 3),), "must hold 4 weights"),
        (check.showing_values, (torch.ones(4, 4),), "all ones"),
        (check.showing_values, (torch.eye(4).flip(0),), "another order"),
        (check.showing_values, (2 * torch.eye(4),), "is not the weights"),
        (check.moved, (lambda a, b: (a - b).abs().sum(-1),), "twice too much"),
        (check.moved, (lambda a, b: (a - b).sum(-1),), "absolute differences first"),
        (check.moved, (lambda a, b: (a - b).abs().sum() / 2,), "the events alone"),
        (check.moved, (lambda a, b: (a - b).abs() / 2,), "three pairs of rows"),
        (check.moved, (lambda a, b: (a - b).abs().mean(-1),), "mean over the events"),
        (
            check.moved,
            (lambda a, b: ((a - b) ** 2).sum(-1),),
            "squares measure something else",
        ),
        (check.moved, (lambda a, b: 1 - (a - b).abs().sum(-1) / 2,), "should be"),
        (
            check.masked_softmax,
            (lambda s, keep: s.softmax(-1)[:1],),
            "the shape of the scores",
        ),
        (check.masked_softmax, (lambda s, keep: s.softmax(-1),), "changes nothing"),
        (
            check.masked_softmax,
            (lambda s, keep: s.softmax(-1) * keep,),
            "no longer sum to 1",
        ),
        (
            check.masked_softmax,
            (lambda s, keep: attention.softmax(s, ~keep),),
            "wrong way round",
        ),
        (check.masked_softmax, (lambda s, keep: (s * keep).softmax(-1),), "exp(0) = 1"),
        (
            check.masked_softmax,
            (lambda s, keep: (s + torch.where(keep, 0.0, torch.inf) * 0).softmax(-1),),
            "-inf * 0",
        ),
        (check.masked_softmax, (masked(-10.0),), "exactly 0"),
        (check.masked_softmax, (masked(-20.0),), "exactly 0"),
        (check.masked_softmax, (masked(-torch.inf),), "0 / 0"),
        (check.masked_softmax, (masked(-1e9),), "is not -inf"),
        (
            check.masked_softmax,
            (lambda s, keep: stable_after(s, keep),),
            "mask first",
        ),
        (check.temperature_for, (lambda s, n: float("nan"),), "finite number"),
        (check.temperature_for, (lambda s, n: -1.0,), "above 0"),
        (
            check.temperature_for,
            (lambda s, n: 1 / bisected(s, n),),
            "divided by it, not multiplied",
        ),
        (check.temperature_for, (lambda s, n: 0.01,), "raise it"),
        (check.temperature_for, (lambda s, n: 100.0,), "lower it"),
        (
            check.softmax_gradient,
            (lambda w, g: torch.diag_embed(w) - w[..., None] * w[..., None, :],),
            "Jacobian",
        ),
        (
            check.softmax_gradient,
            (lambda w, g: (w * g).sum(-1),),
            "the shape of the scores",
        ),
        (check.softmax_gradient, (lambda w, g: w * g,), "subtract the weighted mean"),
        (
            check.softmax_gradient,
            (lambda w, g: g - (w * g).sum(-1, keepdim=True),),
            "multiply each by its weight",
        ),
        (check.softmax_gradient, (lambda w, g: w * (1 - w) * g,), "the diagonal"),
        (
            check.softmax_gradient,
            (lambda w, g: w * (g - g.mean(-1, keepdim=True)),),
            "not the plain mean",
        ),
        (
            check.softmax_gradient,
            (lambda w, g: w * (g - (w * g).sum()),),
            "over all rows",
        ),
        (
            check.softmax_gradient,
            (lambda w, g: w * ((w * g).sum(-1, keepdim=True) - g),),
            "turned round",
        ),
        (check.softmax_gradient, (lambda w, g: w * w,), "should be"),
    ],
)
def test_a_wrong_answer_gets_the_hint_that_fits(checker, answers, says):
    assert says in hint(checker, *answers)


def stable_after(scores, keep):
    """The largest of all scores is subtracted, masked ones too; kept ones may then
    vanish."""
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp() * keep
    return exponentials / exponentials.sum(-1, keepdim=True).clamp_min(1e-30)


def test_a_checker_does_not_mind_an_answer_that_writes_into_its_input():
    def in_place(scores, keep):
        scores.masked_fill_(~keep, -torch.inf)
        keep.fill_(True)
        return attention.softmax(scores, scores > -torch.inf)

    assert check.masked_softmax(in_place).startswith("Right: ")


COLD = {1: 0.57, 3: 0.56, 10: 0.5, 30: 0.24, 100: 0.12}


@pytest.mark.parametrize(
    ("quality", "says"),
    [
        ({1: 0.57, 100: 0.1}, "no figure for 3"),
        (COLD | {10: 0.9}, "no NDCG@10 of this show"),
        (dict.fromkeys(COLD, 0.12), "of the last round"),
        (COLD | {1: 0.2}, "above .5"),
        (COLD | {100: 0.55}, "inside the softmax"),
    ],
)
def test_a_wrong_measurement_of_the_cold_gets_its_hint(quality, says):
    assert says in hint(check.cold, quality)
    assert check.cold(COLD).startswith("Plausible: ")


# --- The attention layer


def _parameters(width, heads, additive, maps=4, networks=1, bias=1):
    e = width // heads
    return maps * (width**2 + bias * width) + additive * networks * (2 * e**2 + 2 * e)


def _pairwise(query, key, A, B, v):
    return ((query @ A)[:, None] + (key @ B)[None]).tanh() @ v


@pytest.mark.parametrize(
    ("checker", "answer"),
    [
        (check.joined, lambda x: torch.cat(list(x), -1)),
        (check.layer_parameters, _parameters),
        (check.additive, _pairwise),
        (check.disguise, lambda query_map, key_map: key_map @ query_map.T),
    ],
)
def test_right_answers_about_the_layer_pass(checker, answer):
    assert checker(answer).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answer", "says"),
    [
        (check.joined, lambda x: x.flatten(0, 1), "side by side"),
        (check.joined, lambda x: x.reshape(4, 6), "swap the first two axes"),
        (check.joined, lambda x: x.permute(1, 2, 0).flatten(1), "interleaved"),
        (check.joined, lambda x: x, "give (4, 6)"),
        (check.joined, lambda x: torch.cat(list(x), -1) + 1, "should be"),
        (check.unstuck, {2: 5}, "no count for 4"),
        (check.unstuck, {2: 0.5, 4: 6}, "is no count"),
        (check.unstuck, {2: 5, 4: 9}, "of six seeds"),
        (check.unstuck, {2: 0, 4: 0}, "none with four heads"),
        (check.unstuck, {2: 6, 4: 5}, "mixed up"),
        (check.layer_parameters, lambda *a: _parameters(*a, bias=0), "has a bias too"),
        (check.layer_parameters, lambda *a: _parameters(*a, maps=3), "a fourth map"),
        (
            check.layer_parameters,
            lambda w, h, a: h * _parameters(w, h, a),
            "they cost nothing",
        ),
        (
            check.layer_parameters,
            lambda w, h, a: _parameters(w, h, a, networks=h),
            "share one small network",
        ),
        (
            check.layer_parameters,
            lambda w, h, a: _parameters(w, h, False),
            "has parameters too",
        ),
        (
            check.layer_parameters,
            lambda w, h, a: _parameters(w, h, a) + a * (w // h),
            "only one of A and B",
        ),
        (check.layer_parameters, lambda w, h, a: 7, "not 16,640"),
        (
            check.additive,
            lambda q, k, A, B, v: ((q @ A)[:, None] + (k @ B)[None]).tanh() * v,
            "sums over the units",
        ),
        (check.additive, lambda *a: _pairwise(*a).T, "K x L"),
        (
            check.additive,
            lambda q, k, A, B, v: (q @ A).tanh() @ v,
            "2 queries against 4 keys",
        ),
        (
            check.additive,
            lambda q, k, A, B, v: ((q @ A)[:, None] + (k @ B)[None]) @ v,
            "tanh is missing",
        ),
        (
            check.additive,
            lambda q, k, A, B, v: (((q @ A)[:, None] + (k @ B)[None]) @ v).tanh(),
            "before they are",
        ),
        (check.additive, lambda *a: _pairwise(*a).softmax(-1), "weights already"),
        (
            check.additive,
            lambda q, k, A, B, v: (
                ((q @ A).tanh() @ v)[:, None] + ((k @ B).tanh() @ v)[None]
            ),
            "before the tanh",
        ),
        (check.additive, lambda *a: _pairwise(*a) + 1, "should be"),
        (check.disguise, lambda q, k: q.T @ k, "shape (E, E)"),
        (check.disguise, lambda q, k: k, "keys need it too"),
        (check.disguise, lambda q, k: q @ k.T, "turn it over"),
        (check.disguise, lambda q, k: k @ k.T, "regroup it"),
    ],
)
def test_wrong_answers_about_the_layer_get_the_hint_that_fits(checker, answer, says):
    assert says in hint(checker, answer)


# --- Self-attention


def _triangle(queries, context):
    return torch.ones(queries, context).tril(context - queries).bool()


def _places(lengths, T):
    return (lengths[:, None] - 1 - torch.arange(T)).clamp_min(0)


@pytest.mark.parametrize(
    ("checker", "answers"),
    [
        (check.triangle, (_triangle,)),
        (check.triangle, (attention.causal_keep,)),
        (check.unshuffled, (lambda rows, order: rows[order.argsort()],)),
        (check.places, (_places,)),
    ],
)
def test_right_answers_about_self_attention_pass(checker, answers):
    assert checker(*answers).startswith("Right: ")


@pytest.mark.parametrize(
    ("checker", "answers", "says"),
    [
        (check.triangle, (lambda q, c: _triangle(c, c),), "a row for each query"),
        (check.triangle, (lambda q, c: _triangle(q, c).float(),), "True or False"),
        (check.triangle, (lambda q, c: ~_triangle(q, c),), "wrong way round"),
        (
            check.triangle,
            (lambda q, c: torch.ones(q, c).tril(c - q - 1).bool(),),
            "may look at itself",
        ),
        (
            check.triangle,
            (lambda q, c: torch.ones(q, c).triu(c - q).bool(),),
            "nothing older",
        ),
        (
            check.triangle,
            (lambda q, c: torch.ones(q, c).tril().bool(),),
            "lined up with the oldest",
        ),
        (check.triangle, (lambda q, c: torch.ones(q, c).bool(),), "should be"),
        (check.unshuffled, (lambda rows, order: rows[:2],), "no event is lost"),
        (check.unshuffled, (lambda rows, order: rows,), "nothing has been put back"),
        (check.unshuffled, (lambda rows, order: rows[order],), "where each row went"),
        (check.unshuffled, (lambda rows, order: rows.flip(0),), "should be"),
        (check.places, (lambda lengths, T: torch.arange(T),), "3 histories in a table"),
        (
            check.places,
            (lambda lengths, T: torch.arange(T).flip(0).expand(3, T),),
            "counted from the last column",
        ),
        (
            check.places,
            (lambda lengths, T: torch.arange(T).expand(3, T),),
            "counted from the oldest",
        ),
        (check.places, (lambda lengths, T: _places(lengths + 1, T),), "one too many"),
        (
            check.places,
            (lambda lengths, T: lengths[:, None] - 1 - torch.arange(T),),
            "negative places",
        ),
        (check.places, (lambda lengths, T: _places(lengths, T) * 2,), "should be"),
    ],
)
def test_wrong_answers_about_self_attention_get_the_hint_that_fits(
    checker, answers, says
):
    assert says in hint(checker, *answers)


# --- A recommender without attention


def _running(context):
    return context.cumsum(0) / torch.arange(1, len(context) + 1)[:, None]


def test_a_right_running_mean_passes():
    assert check.running_mean(_running).startswith("Right: ")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda c: c.mean(0), "one after every event"),
        (lambda c: _running(c)[1:], "after each of 4 events"),
        (lambda c: c.cumsum(0), "these are sums"),
        (lambda c: c.cumsum(0) / len(c), "count the events so far"),
        (lambda c: torch.cat([torch.zeros(1, 2), _running(c)[:-1]]), "one behind"),
        (lambda c: c.mean(0).expand(4, 2), "the future is in it"),
        (lambda c: _running(c) + 1, "should be"),
        (lambda c: c.cumsum(0) / torch.arange(1, len(c) + 1), "a second axis"),
    ],
)
def test_a_wrong_running_mean_gets_its_hint(answer, says):
    assert says in hint(check.running_mean, answer)


def _tables(shows, records=5):
    tables = torch.zeros(5, 200, 200)
    for played, call, answer in zip(
        shows.played, shows.call, shows.answer, strict=True
    ):
        tables[call, played[:records], answer] += 1
    return tables


def test_right_answers_about_counting_and_score_pass():
    assert "Right" in check.ndcg_of_rank(
        lambda rank, k: 1 / math.log2(1 + rank) if rank <= k else 0
    )
    assert "Right" in check.tables_of_calls(_tables)
    assert "Right" in check.expected_hit(
        lambda above, tied, k: min(max((k - above) / tied, 0), 1)
    )


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda rank, k: 1 / math.log2(1 + rank), "outside the first"),
        (
            lambda rank, k: 1 / math.log(1 + rank) if rank <= k else 0,
            "natural logarithm",
        ),
        (lambda rank, k: 1 / rank if rank <= k else 0, "reciprocal rank"),
        (
            lambda rank, k: (
                1 / math.log2(rank) if 1 < rank <= k else math.inf if rank == 1 else 0
            ),
            "counted from 1",
        ),
        (lambda rank, k: 1.0 if rank <= k else 0, "not 0.63"),
        (lambda rank, k: 1 / math.log2(2 + rank) if rank <= k else 0, "begin at 0"),
        (lambda rank, k: 1 / math.log2(rank) if rank <= k else 0, "counted from 1"),
        (lambda rank, k: 1 / math.log2(1 + rank) if rank < k else 0, "not `<`"),
    ],
)
def test_a_wrong_ndcg_gets_its_hint(answer, hint):
    told = check.ndcg_of_rank(answer)
    assert told.startswith("Not yet: ")
    assert re.search(hint, told)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda shows: _tables(shows).transpose(1, 2), "the other way round"),
        (lambda shows: _tables(shows).sum(0).expand(5, -1, -1), "the call only"),
        (lambda shows: (_tables(shows) > 0).double(), "count how often"),
        (lambda shows: _tables(shows, records=1), "each of the five records"),
        (lambda shows: _tables(shows).sum(0), "for each of 5 calls"),
        (lambda shows: _tables(shows).roll(1, 0), "not where they belong"),
        (lambda shows: None, "did you forget `return`"),
    ],
)
def test_a_wrong_table_of_calls_gets_its_hint(answer, hint):
    told = check.tables_of_calls(answer)
    assert told.startswith("Not yet: ")
    assert re.search(hint, told)


@pytest.mark.parametrize(
    ("figures", "hint"),
    [
        ({"three maps": 0.57}, "no entry 'no value map'"),
        ({"three maps": 0.57, "no value map": 0.9, "no maps": 0.58}, "take part in"),
        ({"three maps": 0.57, "no value map": 0.1, "no maps": 0.58}, "still there"),
        ({"three maps": 0.57, "no value map": 0.57, "no maps": 0.57}, "one model?"),
    ],
)
def test_a_wrong_measurement_of_maps_gets_its_hint(figures, hint):
    told = check.maps(figures)
    assert told.startswith("Not yet: ")
    assert hint in told


def _peeks(model, items, first=1, all_of_them=True):
    before = model(items)[0]
    for t in range(first, items.shape[1]):
        changed = items.clone()
        changed[:, t] = (changed[:, t] + 1) % 7
        if not torch.allclose(model(changed)[0][:, :t], before[:, :t]):
            return True
        if not all_of_them:
            break
    return False


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda model, items: True, "a peeping one"),
        (lambda model, items: False, "event 5 passes"),
        (lambda model, items: None, "did you forget `return`"),
        (lambda model, items: _peeks(model, items, first=2), "very first event"),
        (lambda model, items: _peeks(model, items[:, :5]), "passes"),
    ],
)
def test_a_test_for_peeking_that_misses_something_is_told(answer, says):
    assert says in hint(check.peeks, answer)
    assert check.peeks(_peeks).startswith("Right: ")


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ({0.1: 0.5, 0.5: 0.2}, "no entry for noise 0.9"),
        ({0.1: 0.5, 0.5: 0.2, 0.9: 1.2}, "cannot be"),
        ({0.1: -0.5, 0.5: -0.2, 0.9: 0.0}, "minus chain"),
        ({0.1: 0.5, 0.5: 0.0, 0.9: 0.2}, "mixed up"),
    ],
)
def test_a_wrong_measurement_of_the_gaps_gets_its_hint(figures, says):
    assert says in hint(check.gaps, figures)
    assert check.gaps({0.1: 0.5, 0.5: 0.2, 0.9: 0.0}).startswith("Plausible: ")


def test_figures_that_may_be_so_are_called_plausible():
    maps = {"three maps": 0.57, "no value map": 0.58, "no maps": 0.585}
    leak = {"training shuffled": 0.058, "log shuffled first": 0.072}
    assert check.maps(maps).startswith("Plausible: ")
    assert check.unstuck({2: 5, 4: 6}).startswith("Plausible: ")
    assert check.leak(leak).startswith("Plausible: ")


@pytest.mark.parametrize(
    ("figures", "hint"),
    [
        ({"training shuffled": 0.058}, "no entry 'log shuffled first'"),
        ({"training shuffled": 0.072, "log shuffled first": 0.058}, "must help"),
        ({"training shuffled": 0.058, "log shuffled first": 0.058}, "must help"),
        ({"training shuffled": 0.058, "log shuffled first": 0.9}, "cannot be expected"),
        (
            {"training shuffled": "none", "log shuffled first": 0.07},
            "could not convert",
        ),
    ],
)
def test_a_wrong_measurement_of_the_leak_gets_its_hint(figures, hint):
    told = check.leak(figures)
    assert told.startswith("Not yet: ")
    assert hint in told


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda above, tied, k: float(above < k), "does not win every tie"),
        (lambda above, tied, k: float(above + tied <= k), "does not lose every tie"),
        (lambda above, tied, k: (k - above) / tied, "cut it off"),
        (
            lambda above, tied, k: float(above + (tied + 1) / 2 <= k),
            "nor stands in the middle",
        ),
        (
            lambda above, tied, k: min(max((k - above) / (tied + 1), 0), 1),
            "places are free",
        ),
    ],
)
def test_a_wrong_expected_hit_gets_its_hint(answer, hint):
    told = check.expected_hit(answer)
    assert told.startswith("Not yet: ")
    assert re.search(hint, told)


def paired(first, second, resamples, seed):
    difference = np.asarray(first) - np.asarray(second)
    drawn = np.random.default_rng(seed).integers(
        len(difference), size=(resamples, len(difference))
    )
    return tuple(np.quantile(difference[drawn].mean(1), [0.025, 0.975]))


def unpaired(first, second, resamples, seed):
    generator = np.random.default_rng(seed)
    drawn = [
        generator.choice(side, (resamples, len(side))).mean(1)
        for side in (first, second)
    ]
    return tuple(np.quantile(drawn[0] - drawn[1], [0.025, 0.975]))


def test_right_answers_about_the_scoreboard():
    assert "Right" in check.sampled_rank(
        lambda above, candidates, sample: 1 + sample * above / candidates
    )
    assert "Right" in check.paired_interval(paired)
    assert "Right" in check.users_needed(
        lambda spread, difference: math.ceil((2 * spread / difference) ** 2)
    )


@pytest.mark.parametrize(
    ("checker", "answer", "hint"),
    [
        (
            "sampled_rank",
            lambda above, candidates, sample: sample * above / candidates,
            "counted from 1",
        ),
        (
            "sampled_rank",
            lambda above, candidates, sample: 1 + above,
            "place among all",
        ),
        (
            "sampled_rank",
            lambda above, candidates, sample: 1 + candidates * above / sample,
            "sample / candidates",
        ),
        ("paired_interval", unpaired, "far too wide"),
        ("paired_interval", lambda a, b, n, s: paired(b, a, n, s), "turned around"),
        (
            "paired_interval",
            lambda a, b, n, s: paired(a, b, n, s)[::-1],
            "low comes first",
        ),
        ("paired_interval", lambda a, b, n, s: [(a - b).mean()] * 2, "low comes first"),
        (
            "users_needed",
            lambda spread, difference: 2 * spread / difference,
            "did you square it",
        ),
        (
            "users_needed",
            lambda spread, difference: (spread / difference) ** 2,
            "take two errors",
        ),
        (
            "users_needed",
            lambda spread, difference: (4 * spread / difference) ** 2,
            "two standard errors",
        ),
    ],
)
def test_a_wrong_answer_about_the_scoreboard_gets_its_hint(checker, answer, hint):
    told = getattr(check, checker)(answer)
    assert told.startswith("Not yet: ")
    assert re.search(hint, told)
