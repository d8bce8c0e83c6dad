import math

import pytest
import torch
import torch.nn.functional as F

from attncore.embedding import ItemEmbedding
from attncore.layers import dropped
from attncore.output import (
    Criterion,
    NegativeSampler,
    Output,
    _rows_at_a_time,
    binary_cross_entropy,
    catalogue_scores,
    cross_entropy,
    generalized_bce,
    lean_cross_entropy,
    sampled_softmax,
    slate_softmax,
)


def draw(seed, *shape, dtype=torch.float64):
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype
    )


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("biased", [False, True])
def test_lean_cross_entropy_equals_the_plain_one_in_value_and_gradient(chunk, biased):
    target = torch.tensor([1, 7, 3, 7, 2, 5, 1])
    ours = [draw(0, 7, 4), draw(1, 7, 4), draw(2, 7) if biased else None]
    theirs = [None if x is None else x.clone().requires_grad_() for x in ours]
    ours = [None if x is None else x.requires_grad_() for x in ours]
    lean, plain = (
        lean_cross_entropy(*ours, target, chunk=chunk),
        cross_entropy(*theirs, target),
    )
    torch.testing.assert_close(lean, plain, atol=1e-12, rtol=1e-12)
    (3 * lean).backward()
    (3 * plain).backward()
    for a, b in zip(ours, theirs, strict=True):
        if a is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-12, rtol=1e-12)


def test_lean_cross_entropy_passes_gradcheck_and_stays_close_in_bfloat16():
    target = torch.tensor([1, 3, 2])
    inputs = [
        draw(i, *shape).requires_grad_()
        for i, shape in enumerate([(3, 4), (5, 4), (5,)])
    ]
    assert torch.autograd.gradcheck(
        lambda s, c, b: lean_cross_entropy(s, c, b, target, 2), inputs
    )
    single = [x.detach().float() for x in inputs]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = lean_cross_entropy(*single, target)
    assert rounded.dtype == torch.float32
    assert (rounded - cross_entropy(*single, target)).abs() / cross_entropy(
        *single, target
    ) < 1e-2


def test_lean_cross_entropy_is_exact_where_the_targets_weight_is_tiny():
    state, catalogue = (
        torch.tensor([[1.0, 0], [0, 500.0]]).requires_grad_(),
        torch.tensor([[-1000.0, 1], [0, -1]]),
    )
    loss = lean_cross_entropy(state, catalogue, None, torch.tensor([1, 2]))
    loss.backward()
    assert loss.item() == 2000
    torch.testing.assert_close(state.grad, torch.tensor([[1000.0, -2], [-1000, 2]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lean_cross_entropy_runs_where_there_is_no_autocast(dtype):
    state, catalogue, bias = (
        torch.empty(size, device="meta", dtype=dtype) for size in [(3, 4), (5, 4), 5]
    )
    loss = lean_cross_entropy(
        state.requires_grad_(),
        catalogue,
        bias,
        torch.ones(3, dtype=torch.int64, device="meta"),
    )
    loss.backward()
    assert loss.device.type == "meta"
    assert loss.dtype == state.grad.dtype == dtype


def test_cross_entropy_by_hand_has_no_padding_in_the_denominator():
    item = ItemEmbedding(3, 2)
    with torch.no_grad():
        item.id.weight[1:] = torch.tensor([[1.0, 0], [0, 1.0], [1.0, 1.0]])
    state = torch.tensor([[1.0, 2.0]])
    loss = cross_entropy(state, item.catalogue(), None, torch.tensor([2]))
    assert loss.item() == pytest.approx(
        -math.log(math.exp(2) / (math.exp(1) + math.exp(2) + math.exp(3)))
    )
    assert catalogue_scores(state, item.catalogue(), None).tolist() == [[1, 2, 3]]


def test_a_tied_embedding_never_trains_its_padding_row():
    item = ItemEmbedding(5, 4)
    optimizer = torch.optim.AdamW(item.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        state = item(torch.tensor([0, 1, 2]))
        lean_cross_entropy(
            state, item.catalogue(), None, torch.tensor([1, 2, 3])
        ).backward()
        assert (item.id.weight.grad[0] == 0).all()
        optimizer.step()
    assert (item.id.weight[0] == 0).all()
    assert (item.id.weight[1] != 0).all()


def test_sampled_softmax_over_the_whole_catalogue_is_the_full_cross_entropy():
    state, catalogue = draw(0, 3, 4), draw(1, 6, 4)
    target, every = torch.tensor([1, 4, 6]), torch.arange(1, 7)
    scores = catalogue_scores(state, catalogue, None)
    zero = torch.zeros(())
    loss = sampled_softmax(
        scores.gather(1, target[:, None] - 1)[:, 0],
        scores,
        zero,
        target[:, None] == every,
    )
    torch.testing.assert_close(
        loss.sum().double(),
        cross_entropy(state, catalogue, None, target),
        atol=1e-5,
        rtol=1e-5,
    )


def test_positives_among_the_negatives_count_for_nothing():
    positive, negative = torch.tensor([1.0]), torch.tensor([[1.0, 0.5]])
    hit, free = torch.tensor([[True, False]]), torch.tensor([[False]])
    zero = torch.zeros(())
    torch.testing.assert_close(
        sampled_softmax(positive, negative, zero, hit),
        sampled_softmax(positive, negative[:, 1:], zero, free),
    )
    torch.testing.assert_close(
        binary_cross_entropy(positive, negative, hit),
        binary_cross_entropy(positive, negative[:, 1:], free),
    )


def test_log_q_correction_makes_the_sampled_sum_unbiased():
    scores, counts = draw(0, 20).float(), torch.arange(1, 21)
    for power in (0.0, 1.0):
        sampler = NegativeSampler(counts, power)
        drawn = sampler.sample(200_000)
        estimate = (
            (scores[drawn - 1] - sampler.log_expected(drawn, len(drawn))).exp().sum()
        )
        assert estimate.item() == pytest.approx(scores.exp().sum().item(), rel=0.03)


def gradient_error(negatives: int, corrects_positive: bool = False) -> float:
    """How far the sampled gradient is from the full softmax's, on average.

    Of 20 scores that say the truth, where the full one vanishes: the largest error of a
    score's gradient. Both see the same 100,000 targets, which come by their true
    chances; negatives are drawn by popularity.
    """
    rows = 100_000
    torch.manual_seed(0)
    truth = 1 / torch.arange(1, 21).float()
    by_chance = NegativeSampler(truth * rows, 1.0)
    by_popularity = NegativeSampler(truth * rows, 0.75)
    scores = (truth / truth.sum()).log().requires_grad_()
    for target in by_chance.sample(rows).split(10_000):
        drawn = by_popularity.sample(len(target) * negatives).view(-1, negatives)
        positive = scores[target - 1]
        if corrects_positive:
            positive = positive - by_popularity.log_expected(target, negatives)
        log_q = by_popularity.log_expected(drawn, negatives)
        hit = drawn == target[:, None]
        sampled = sampled_softmax(positive, scores[drawn - 1], log_q, hit).sum()
        full = cross_entropy(torch.ones(len(target), 1), scores[:, None], None, target)
        ((sampled - full) / rows).backward()
    return scores.grad.abs().max().item()


def test_the_sampled_gradient_nears_the_full_one_as_the_draws_grow():
    few, many = gradient_error(8), gradient_error(64)
    assert few < 0.01
    assert many < few / 4
    # A correction of the positive, which was not drawn, leaves an error that stays.
    assert 0.03 < gradient_error(8, True) < gradient_error(64, True)


def test_sampled_softmax_by_hand():
    positive, negative = torch.tensor([1.0]), torch.tensor([[0.5, 2.0]])
    loss = sampled_softmax(
        positive,
        negative,
        torch.tensor([[-0.2, 0.9]]),
        torch.zeros(1, 2, dtype=torch.bool),
    )
    corrected = [math.exp(1.0), math.exp(0.5 + 0.2), math.exp(2.0 - 0.9)]
    assert loss.item() == pytest.approx(-math.log(corrected[0] / sum(corrected)))


def test_a_criterion_finds_its_own_hits_and_corrections():
    counts, target, negatives = (
        torch.arange(1, 11),
        torch.tensor([3, 4]),
        torch.tensor([2, 3, 9]),
    )
    positive, negative = draw(0, 2).float(), draw(1, 2, 3).float()
    hit = torch.tensor([[False, True, False], [False] * 3])
    log_q = (counts / counts.sum() * 3).log()  # three draws by popularity
    expected = {
        "sampled": sampled_softmax(positive, negative, log_q[negatives - 1], hit),
        "gbce": generalized_bce(positive, negative, hit, 10, 0.75),
        "bce": binary_cross_entropy(positive, negative, hit),
    }
    for loss, value in expected.items():
        found = Criterion(loss, 3, 1.0, 0.75, counts)(
            positive, negative, target, negatives
        )
        torch.testing.assert_close(found, value)


def test_the_sampler_draws_by_counts_to_a_power_and_never_padding():
    drawn = NegativeSampler(torch.tensor([1, 3, 6]), 1.0).sample(60_000)
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    assert share[0] == 0
    torch.testing.assert_close(
        share[1:], torch.tensor([0.1, 0.3, 0.6]), atol=0.01, rtol=0
    )
    # The rarest of many: float32 could not tell its share from none.
    bounds = NegativeSampler(torch.tensor([10**9, 1, 1]), 1.0).bounds
    assert bounds.diff().tolist() == pytest.approx([2**60 / 1e9] * 2, rel=1e-6)
    assert NegativeSampler(
        torch.tensor([1, 3, 6]), 0.0
    ).log_share.exp().tolist() == pytest.approx([1 / 3] * 3)


def test_binary_cross_entropy_by_hand():
    loss = binary_cross_entropy(
        torch.tensor([2.0]),
        torch.tensor([[0.0, 1.0]]),
        torch.zeros(1, 2, dtype=torch.bool),
    )
    expected = math.log(1 + math.exp(-2)) + (math.log(2) + math.log(1 + math.e)) / 2
    assert loss.item() == pytest.approx(expected)


def test_the_softmax_of_a_slate_by_hand():
    scores = torch.tensor([[2.0, 1.0, 0.0, 9.0], [1.0, 1.0, 1.0, 1.0]])
    taken = torch.tensor([[True, False, True, False], [False] * 4])
    real = torch.tensor([[True, True, True, False], [True] * 4])
    by_hand = -(
        torch.tensor([2.0, 1.0]).log_softmax(0)[0]
        + torch.tensor([0.0, 1.0]).log_softmax(0)[0]
    )
    torch.testing.assert_close(slate_softmax(scores, taken, real), by_hand)


def test_a_slate_in_which_all_is_taken_has_no_order_and_no_gradient():
    scores = torch.zeros(1, 3, requires_grad=True)
    loss = slate_softmax(
        scores, torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)
    )
    loss.backward()
    assert loss == 0
    assert (scores.grad == 0).all()


def test_gbce_is_bce_at_calibration_0_and_weighs_by_the_sampling_rate_at_1():
    positive, negative = torch.tensor([2.0]), torch.tensor([[0.0, 1.0]])
    none = torch.zeros(1, 2, dtype=torch.bool)
    negatives = math.log(2) + math.log(1 + math.e)
    taken = math.log(1 + math.exp(-2))
    assert generalized_bce(positive, negative, none, 101, 0.0).item() == pytest.approx(
        taken + negatives
    )
    assert generalized_bce(positive, negative, none, 101, 1.0).item() == pytest.approx(
        2 / 100 * taken + negatives
    )


@pytest.mark.parametrize("loss", ["sampled", "gbce", "bce"])
def test_every_sampled_criterion_falls_when_the_positive_rises(loss):
    criterion = Criterion(loss, 4, 0.5, 0.75, torch.arange(1, 11))
    negatives = criterion.draw()
    target = torch.tensor([3])
    low, high = (
        criterion(torch.tensor([x]), torch.zeros(1, 4), target, negatives)
        for x in (0.0, 3.0)
    )
    assert low.shape == (1,)
    assert high.item() < low.item()


@pytest.mark.parametrize("combine", ["pooled", "whole"])
def test_the_connected_context_equals_a_loop_and_sees_no_future(combine):
    output = Output(4, 9, combine, length=3, item_bias=False).double()
    context, attended = draw(0, 2, 5, 4), draw(1, 2, 5, 4)
    states = output(attended, output.connected(context))
    for t in range(5):
        if combine == "pooled":
            extra = output.pooled(context[:, : t + 1].mean(1))
        else:
            newest_first = [context[:, t - back] for back in range(3) if t >= back]
            taps = [
                output.whole.weight[:, :, 2 - back] for back in range(len(newest_first))
            ]
            extra = (
                sum(x @ tap.T for x, tap in zip(newest_first, taps, strict=True))
                + output.whole.bias
            )
        torch.testing.assert_close(
            states[:, t], output.attended(attended[:, t]) + extra
        )


def test_attended_alone_is_the_state_itself():
    output, attended = Output(4, 9, "attended", 3, True), draw(0, 1, 2, 4)
    assert output(attended, output.connected(attended)) is attended
    assert output.catalogue_bias().shape == (9,)


def test_the_catalogue_bias_leaves_out_padding():
    output = Output(4, 3, "attended", 3, True)
    with torch.no_grad():
        output.bias[:] = torch.tensor([9.0, 1, 2, 3])
    assert output.catalogue_bias().tolist() == [1, 2, 3]
    assert Output(4, 3, "attended", 3, False).catalogue_bias() is None


def test_cheap_dropout_keeps_the_mean_and_drops_the_share():
    x = torch.ones(100_000)
    y = dropped(x, 0.2)
    assert (y == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert y[y > 0].unique().tolist() == pytest.approx([256 / 205])
    assert dropped(x, 0.0) is x
    torch.manual_seed(1)
    first = dropped(x, 0.5)
    torch.manual_seed(1)
    assert torch.equal(first, dropped(x, 0.5))
    assert F.dropout(x, 0.5, training=False).equal(x)


@pytest.mark.parametrize("chunk", [3, 100])
def test_label_smoothing_is_pytorchs(chunk):
    state, catalogue, bias = (
        draw(0, 7, 4).requires_grad_(),
        draw(1, 9, 4).requires_grad_(),
        draw(2, 9).requires_grad_(),
    )
    target = torch.tensor([1, 9, 3, 3, 5, 2, 8])
    ours = lean_cross_entropy(state, catalogue, bias, target, chunk, smoothing=0.2)
    plain = F.cross_entropy(
        state @ catalogue.T + bias, target - 1, reduction="sum", label_smoothing=0.2
    )
    torch.testing.assert_close(ours, plain)
    inputs = state, catalogue, bias
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs), torch.autograd.grad(plain, inputs)
    )


def test_with_a_temperature_scores_are_cosines():
    output = Output(4, 9, "attended", 8, item_bias=False, temperature=0.1)
    state, items = draw(0, 3, 4), draw(1, 9, 4)
    scores = output.scaled(state) @ output.scaled(items).T
    torch.testing.assert_close(
        scores, F.cosine_similarity(state[:, None], items, dim=-1) / 0.1
    )
    assert Output(4, 9, "attended", 8, item_bias=False).scaled(state) is state


class TestRowsAtATime:
    GPU = torch.device("cuda:0")

    @pytest.fixture
    def card(self, monkeypatch):
        def of(memory):
            properties = type("Properties", (), {"total_memory": memory})
            monkeypatch.setattr(
                torch.cuda, "get_device_properties", lambda device: properties
            )

        return of

    def test_a_cpu_works_on_what_its_cache_holds(self):
        for rows, items in ((100, 10), (25_600, 1_682), (10_000, 1_000_000)):
            assert _rows_at_a_time(rows, items, torch.device("cpu")) == 256

    def test_a_gpu_makes_eight_chunks_however_many_rows_there_are(self, card):
        card(80 << 30)
        for rows in (8, 25_600, 100_001):
            chunk = _rows_at_a_time(rows, 3_416, self.GPU)
            assert -(-rows // chunk) == 8

    def test_a_large_catalogue_takes_no_more_than_its_share_of_the_memory(self, card):
        card(16 << 30)
        chunk = _rows_at_a_time(100_000, 1_000_000, self.GPU)
        assert 1 <= chunk * 1_000_000 * 16 <= (16 << 30) / 16
        card(1 << 20)
        assert _rows_at_a_time(100_000, 1_000_000, self.GPU) == 1
