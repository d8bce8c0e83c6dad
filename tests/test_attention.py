import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from attncore.attention import (
    AdditiveScore,
    MultiHeadAttention,
    SelfAttentionBlock,
    attend,
    causal_keep,
    scaled_dot_product,
    softmax,
)

shapes = st.tuples(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 8)
)
seeds = st.integers(0, 2**31)


def draw(seed, *shape, dtype=torch.float64):
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype
    )


def random_keep(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.6


# --- softmax
# --------------------------------------------------------------------------------------


def test_softmax_by_hand():
    weights = softmax(torch.tensor([0.0, math.log(2), math.log(5)]))
    torch.testing.assert_close(weights, torch.tensor([1 / 8, 2 / 8, 5 / 8]))


def test_softmax_never_overflows_and_widens_half_precision():
    weights = softmax(torch.tensor([1e4, 1e4, -1e4]))
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.5, 0.0]))
    assert softmax(torch.zeros(3, dtype=torch.bfloat16)).dtype == torch.float32


@given(shapes, seeds, st.floats(-50, 50))
def test_rows_sum_to_one_masked_weights_are_zero_and_a_shift_changes_nothing(
    shape, seed, shift
):
    batch, length, context, _ = shape
    scores, keep = (
        draw(seed, batch, length, context),
        random_keep(seed, batch, length, context),
    )
    weights = softmax(scores, keep)
    assert (weights[~keep] == 0).all()
    torch.testing.assert_close(weights.sum(-1), keep.any(-1).double())
    torch.testing.assert_close(softmax(scores + shift, keep), weights)


@given(seeds)
def test_temperature_goes_from_argmax_to_mean(seed):
    scores = draw(seed, 4, 6)
    cold, hot = softmax(scores, temperature=1e-9), softmax(scores, temperature=1e9)
    torch.testing.assert_close(cold, F.one_hot(scores.argmax(-1), 6).double())
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / 6))
    torch.testing.assert_close(
        softmax(scores, temperature=2.0), torch.softmax(scores / 2, -1)
    )


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="temperature 0"):
        softmax(torch.zeros(2), temperature=0)


# --- attend
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-10)]
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_attend_equals_pytorch_forward_and_backward(dtype, limit, masked, need_weights):
    keep = (
        random_keep(1, 2, 3, 4, 5)
        | F.one_hot(torch.zeros(2, 3, 4, dtype=torch.long), 5).bool()
        if masked
        else None
    )
    ours = [
        draw(i, 2, 3, n, 8, dtype=dtype).requires_grad_()
        for i, n in enumerate((4, 5, 5))
    ]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    attended, weights = attend(*ours, keep, need_weights=need_weights)
    expected = F.scaled_dot_product_attention(*theirs, attn_mask=keep)
    torch.testing.assert_close(attended, expected, atol=limit, rtol=limit)
    assert (weights is not None) == need_weights
    attended.square().sum().backward()
    expected.square().sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=limit, rtol=limit)


def test_attend_passes_gradcheck():
    inputs = [draw(i, 1, n, 3).requires_grad_() for i, n in enumerate((2, 4, 4))]
    keep = torch.tensor([[True, True, False, True], [False, False, False, False]])
    for need_weights in (True, False):
        assert torch.autograd.gradcheck(
            lambda q, k, v, w=need_weights: attend(q, k, v, keep, need_weights=w)[0],
            inputs,
        )


def test_attend_stays_close_under_bfloat16_autocast():
    query, key, value = (draw(i, 2, 2, 9, 16, dtype=torch.float32) for i in range(3))
    exact, _ = attend(query, key, value)
    for need_weights in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            rounded, _ = attend(
                query.bfloat16(),
                key.bfloat16(),
                value.bfloat16(),
                need_weights=need_weights,
            )
        assert (rounded.float() - exact).norm() / exact.norm() < 1e-2


@pytest.mark.parametrize("biased", [False, True])
def test_the_fused_kernel_widens_bfloat16_on_a_cpu(biased):
    query, key, value = (draw(i, 2, 2, 9, 16, dtype=torch.bfloat16) for i in range(3))
    bias = draw(3, 9, 9, dtype=torch.float32) if biased else None
    with torch.autocast("cpu", torch.bfloat16):
        attended, _ = attend(query, key, value, bias=bias, need_weights=False)
    exact = F.scaled_dot_product_attention(
        query.float(), key.float(), value.float(), bias
    )
    assert torch.equal(attended, exact.bfloat16())


@given(shapes, seeds)
def test_permuting_the_context_permutes_the_weights_and_leaves_the_result(shape, seed):
    batch, length, context, width = shape
    query, key, value = (
        draw(seed + i, batch, n, width)
        for i, n in enumerate((length, context, context))
    )
    order = torch.randperm(context, generator=torch.Generator().manual_seed(seed))
    attended, weights = attend(query, key, value)
    attended_permuted, weights_permuted = attend(query, key[:, order], value[:, order])
    torch.testing.assert_close(attended_permuted, attended)
    torch.testing.assert_close(weights_permuted, weights[..., order])


@given(shapes, seeds)
def test_attend_equals_a_loop_over_queries_and_events(shape, seed):
    batch, length, context, width = shape
    query, key, value = (
        draw(seed + i, batch, n, width)
        for i, n in enumerate((length, context, context))
    )
    keep = random_keep(seed, batch, length, context)
    attended, weights = attend(query, key, value, keep)
    for b in range(batch):
        for i in range(length):
            seen = [k for k in range(context) if keep[b, i, k]]
            raw = [
                math.exp(sum(query[b, i] * key[b, k]).item() / math.sqrt(width))
                for k in seen
            ]
            for weight, k in zip(raw, seen, strict=True):
                assert weights[b, i, k].item() == pytest.approx(weight / sum(raw))
            expected = sum(
                (w / sum(raw) * value[b, k] for w, k in zip(raw, seen, strict=True)),
                torch.zeros(width).double(),
            )
            torch.testing.assert_close(attended[b, i], expected)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_query_with_nothing_to_look_at_gets_zeros_and_finite_gradients(
    need_weights, bias
):
    query, key, value = (
        draw(i, 2, n, 4).requires_grad_() for i, n in enumerate((3, 5, 5))
    )
    keep = torch.ones(2, 3, 5, dtype=torch.bool)
    keep[0, 1] = False
    keep[1] = False
    added = draw(9, 3, 5) if bias else None
    attended, weights = attend(
        query, key, value, keep, bias=added, need_weights=need_weights
    )
    assert (attended[0, 1] == 0).all()
    assert (attended[1] == 0).all()
    if weights is not None:
        assert (weights[1] == 0).all()
    attended.sum().backward()
    assert all(x.grad.isfinite().all() for x in (query, key, value))


@pytest.mark.parametrize("need_weights", [False, True])
def test_nan_in_padded_events_never_reaches_a_real_query(need_weights):
    query, key, value = draw(0, 1, 3, 4), draw(1, 1, 5, 4), draw(2, 1, 5, 4)
    keep = torch.tensor([True, True, True, False, False])
    clean, _ = attend(query, key, value, keep, need_weights=need_weights)
    key[:, 3:], value[:, 3:] = torch.nan, torch.nan
    poisoned, _ = attend(
        query, key.requires_grad_(), value, keep, need_weights=need_weights
    )
    assert torch.equal(clean, poisoned)
    poisoned.sum().backward()
    assert key.grad.isfinite().all()
    plain = F.scaled_dot_product_attention(query, key, value, keep[None])
    assert plain.isnan().any()  # why the clearing is needed


def test_keep_means_may_look_as_in_sdpa_and_opposite_to_multihead_attention():
    query, key, value = draw(0, 1, 2, 4), draw(1, 1, 3, 4), draw(2, 1, 3, 4)
    keep = torch.tensor([[[True, False, True], [False, True, True]]])
    ours, _ = attend(query, key, value, keep)
    torch.testing.assert_close(
        ours, F.scaled_dot_product_attention(query, key, value, attn_mask=keep)
    )
    assert not torch.allclose(
        ours, F.scaled_dot_product_attention(query, key, value, attn_mask=~keep)
    )


@pytest.mark.parametrize("need_weights", [False, True])
def test_causal_lines_up_the_newest_events_when_lengths_differ(need_weights):
    assert causal_keep(2, 4).tolist() == [
        [True, True, True, False],
        [True, True, True, True],
    ]
    query, key, value = draw(0, 1, 2, 4), draw(1, 1, 4, 4), draw(2, 1, 4, 4)
    attended, _ = attend(query, key, value, causal=True, need_weights=need_weights)
    torch.testing.assert_close(
        attended[:, 1:], F.scaled_dot_product_attention(query[:, 1:], key, value)
    )
    theirs = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert not torch.allclose(attended, theirs)


def test_causal_and_keep_and_bias_work_together_on_both_paths():
    query, key, value = (draw(i, 2, 5, 4) for i in range(3))
    keep, bias = random_keep(5, 2, 5, 5), draw(6, 5, 5)
    slow, weights = attend(query, key, value, keep, causal=True, bias=bias)
    fast, none = attend(
        query, key, value, keep, causal=True, bias=bias, need_weights=False
    )
    torch.testing.assert_close(slow, fast)
    assert none is None
    assert (weights.triu(1) == 0).all()
    expected = softmax(scaled_dot_product(query, key) + bias, keep & causal_keep(5, 5))
    torch.testing.assert_close(weights, expected)


def test_bias_alone_works_on_both_paths():
    query, key, value, bias = (
        draw(0, 2, 3, 4),
        draw(1, 2, 5, 4),
        draw(2, 2, 5, 4),
        draw(3, 3, 5),
    )
    slow, _ = attend(query, key, value, bias=bias)
    fast, _ = attend(query, key, value, bias=bias, need_weights=False)
    torch.testing.assert_close(slow, fast)
    assert not torch.allclose(slow, attend(query, key, value)[0])


def test_raw_weights_are_the_scores_and_masked_ones_are_zero():
    query, key, value = draw(0, 1, 2, 4), draw(1, 1, 3, 4), draw(2, 1, 3, 4)
    keep = torch.tensor([True, False, True])
    attended, weights = attend(query, key, value, keep, normalize=False)
    expected = scaled_dot_product(query, key) * keep
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(attended, expected @ value)
    # The newest event is hidden from one query and not from the other.
    past = causal_keep(2, 3)
    attended, weights = attend(query, key, value, past, normalize=False)
    torch.testing.assert_close(weights, scaled_dot_product(query, key) * past)
    torch.testing.assert_close(attended, weights @ value)


def test_dropout_changes_the_result_but_never_the_weights_shown():
    query, key, value = draw(0, 1, 2, 4), draw(1, 1, 50, 4), draw(2, 1, 50, 4)
    plain, weights = attend(query, key, value)
    dropped, shown = attend(query, key, value, dropout=0.5)
    torch.testing.assert_close(shown, weights)
    torch.testing.assert_close(shown.sum(-1), torch.ones(1, 2).double())
    assert not torch.allclose(plain, dropped)


# --- scores
# --------------------------------------------------------------------------------------


def test_additive_attention_equals_dot_product_on_signs():
    """On vectors of ±1, tanh(s + 1) − tanh(s − 1) with s = q + k takes one value where
    signs agree, one where not."""
    width = 4
    score = AdditiveScore(width, 2 * width).double()
    with torch.no_grad():
        eye = torch.eye(width).double()
        score.query.weight[:] = torch.cat([eye, eye])
        score.key.weight[:] = torch.cat([eye, eye])
        score.query.bias[:] = torch.cat([torch.ones(width), -torch.ones(width)])
        differ, agree = 2 * math.tanh(1), math.tanh(3) - math.tanh(1)
        # A change of agreement moves the dot product by 2.
        unit = 2 / (agree - differ) / math.sqrt(width)
        score.unit.weight[:] = torch.cat([torch.ones(width), -torch.ones(width)]) * unit
    query, key, value = (
        draw(0, 1, 3, width).sign(),
        draw(1, 1, 5, width).sign(),
        draw(2, 1, 5, 2),
    )
    dot, dot_weights = attend(query, key, value)
    additive, additive_weights = attend(query, key, value, score=score)
    torch.testing.assert_close(additive_weights, dot_weights)
    torch.testing.assert_close(additive, dot)


def test_additive_score_equals_its_formula():
    score = AdditiveScore(3, 5).double()
    query, key = draw(0, 2, 3), draw(1, 4, 3)
    for i in range(2):
        for k in range(4):
            hidden = torch.tanh(
                score.query.weight @ query[i]
                + score.key.weight @ key[k]
                + score.query.bias
            )
            torch.testing.assert_close(
                score(query, key)[i, k], (score.unit.weight @ hidden)[0]
            )


# --- many heads
# --------------------------------------------------------------------------------------


def pytorch_twin(ours: MultiHeadAttention) -> torch.nn.MultiheadAttention:
    width = ours.query.in_features
    theirs = torch.nn.MultiheadAttention(
        width, ours.heads, batch_first=True, dtype=ours.query.weight.dtype
    )
    with torch.no_grad():
        theirs.in_proj_weight[:] = torch.cat(
            [ours.query.weight, ours.key.weight, ours.value.weight]
        )
        theirs.in_proj_bias[:] = torch.cat(
            [ours.query.bias, ours.key.bias, ours.value.bias]
        )
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    return theirs


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-10)]
)
def test_many_heads_equal_pytorch_with_copied_weights_forward_and_backward(
    dtype, limit
):
    ours = MultiHeadAttention(12, 3).to(dtype)
    theirs = pytorch_twin(ours)
    query, context = draw(0, 2, 4, 12, dtype=dtype), draw(1, 2, 6, 12, dtype=dtype)
    # True hides, in PyTorch's module.
    padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    attended, weights = ours(query, context, ~padding, need_weights=True)
    expected, expected_weights = theirs(
        query, context, context, padding, average_attn_weights=False
    )
    torch.testing.assert_close(attended, expected, atol=limit, rtol=limit)
    torch.testing.assert_close(weights, expected_weights, atol=limit, rtol=limit)
    attended.square().sum().backward()
    expected.square().sum().backward()
    for part, name in enumerate(("query", "key", "value")):
        rows = slice(12 * part, 12 * part + 12)
        torch.testing.assert_close(
            getattr(ours, name).weight.grad,
            theirs.in_proj_weight.grad[rows],
            atol=limit,
            rtol=limit,
        )
    torch.testing.assert_close(
        ours.out_proj.weight.grad, theirs.out_proj.weight.grad, atol=limit, rtol=limit
    )


def test_many_heads_give_zeros_for_an_empty_history_and_ignore_nan_in_padding():
    attention = MultiHeadAttention(8, 2)
    query, context = (
        draw(0, 2, 3, 8, dtype=torch.float32),
        draw(1, 2, 4, 8, dtype=torch.float32),
    )
    keep = torch.tensor([[True, True, False, False], [False] * 4])
    context[0, 2:], context[1] = torch.nan, torch.nan
    for need_weights in (False, True):
        attended, _ = attention(query, context, keep, need_weights=need_weights)
        assert (attended[1] == 0).all()
        assert attended.isfinite().all()
        attention.zero_grad()
        attended.sum().backward()
        assert all(p.grad.isfinite().all() for p in attention.parameters())


def test_attention_dropout_is_for_training_alone():
    attention = MultiHeadAttention(8, 2, dropout=0.5)
    x = draw(0, 1, 6, 8, dtype=torch.float32)
    for need_weights in (False, True):
        assert not torch.equal(
            attention.train()(x, x, need_weights=need_weights)[0],
            attention(x, x, need_weights=need_weights)[0],
        )
        attention.eval()
        first, again = (attention(x, x, need_weights=need_weights)[0] for _ in range(2))
        assert torch.equal(first, again)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width 10 cannot be divided among 3 heads"):
        MultiHeadAttention(10, 3)


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(2, 6), seeds)
def test_self_attention_without_positions_and_mask_is_permutation_equivariant(
    batch, length, seed
):
    attention = MultiHeadAttention(8, 2).double()
    x = draw(seed, batch, length, 8)
    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        attention(x[:, order], x[:, order])[0], attention(x, x)[0][:, order]
    )


def test_a_block_never_sees_the_future_to_the_bit():
    block = SelfAttentionBlock(8, 2, dropout=0.0)
    x = draw(0, 1, 6, 8, dtype=torch.float32)
    changed = x.clone()
    changed[:, 4:] = draw(1, 1, 2, 8, dtype=torch.float32)
    assert torch.equal(block(x)[0][:, :4], block(changed)[0][:, :4])
    assert not torch.equal(block(x)[0][:, 4:], block(changed)[0][:, 4:])


def test_a_block_is_pre_norm_with_residuals():
    block = SelfAttentionBlock(8, 2, dropout=0.0).double()
    x = draw(0, 1, 4, 8)
    normed = block.norm_attention(x)
    middle = x + block.attention(normed, normed, causal=True)[0]
    torch.testing.assert_close(
        block(x)[0], middle + block.network(block.norm_network(middle))
    )
