"""Stage 3: attention. One masked attention, and the kinds built on it.

A query is compared with every key; softmax turns the scores into weights that sum to 1;
the values are averaged by those weights. All the rest of this file says who asks, who
is looked at, and who may not look where. See the chapters "Query, key, value and
context vectors", "Softmax and attention weights", "The attention layer" and
"Self-attention".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attncore.layers import Dropout, dropped

Score = Callable[[Tensor, Tensor], Tensor]


def softmax(
    scores: Tensor, keep: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """Turn the scores along the last axis into weights: positive, and summing to 1.

    The largest score is subtracted first, so no exponential overflows. Half-precision
    scores are widened to float32. A row with nothing to keep gets zeros, not NaN.

    Args:
        scores: real numbers, (..., K).
        keep: True where a weight may be above 0, broadcastable to `scores`; None keeps
            all.
        temperature: scores are divided by it; towards 0 the largest takes all, towards
            infinity all are equal.

    Returns:
        weights, the shape of `scores`, exactly 0 where not kept.

    Raises:
        ValueError: the temperature is not above 0.

    Source: Goodfellow et al. 2016, §4.1 (stability); Hinton et al. 2015, eq. 1
    (temperature).
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature}: must be above 0")
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    if keep is not None:
        scores = scores.masked_fill(~keep, -torch.inf)
    largest = scores.detach().amax(-1, keepdim=True)
    largest = largest.masked_fill(largest == -torch.inf, 0)
    exponentials = ((scores - largest) / temperature).exp()
    # The largest score adds exp(0) = 1, so a total below 1 means that nothing was kept.
    return exponentials / exponentials.sum(-1, keepdim=True).clamp_min(1)


def scaled_dot_product(query: Tensor, key: Tensor) -> Tensor:
    """Score every query (..., L, E) against every key (..., K, E).

    Their dot product over √E, (..., L, K).

    Source: Vaswani et al. 2017, eq. 1.
    """
    return query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])


def causal_keep(
    queries: int, context: int, device: torch.device | None = None
) -> Tensor:
    """Who may look where when no query may see its future.

    True at (query, event), shape (L, K). The queries are the newest L of the K events,
    so the last query sees all of them. (PyTorch's own `is_causal` lines up the *oldest*
    ones when L and K differ.)
    """
    newest = torch.arange(context - queries, context, device=device)
    return torch.arange(context, device=device) <= newest[:, None]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    keep: Tensor | None = None,
    *,
    causal: bool = False,
    bias: Tensor | None = None,
    score: Score = scaled_dot_product,
    normalize: bool = True,
    dropout: float = 0.0,
    need_weights: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Average the values, weighted by how well each key matches the query.

    Args:
        query: what is asked, (..., L, E).
        key: what each event is matched by, (..., K, E).
        value: what each event gives, (..., K, Ev).
        keep: True where a query may look, broadcastable to (..., L, K); None lets it
            look everywhere.
        causal: a query may not see events newer than itself (see `causal_keep`).
        bias: added to the scores, broadcastable to (..., L, K).
        score: compares queries (..., L, E) with keys (..., K, E), giving (..., L, K).
        normalize: False leaves out the softmax and weighs by the raw scores (Deep
            Interest Network).
        dropout: share of the weights set to 0 before the values are averaged; 0 when
            not training.
        need_weights: False returns None for the weights and takes PyTorch's fused
            kernel where that can be.

    Returns:
        attended (..., L, Ev), and weights (..., L, K) as they are before dropout. A
        query that may look nowhere gets zeros, not NaN; an event that no query may look
        at may hold anything, NaN included.

    Source: Vaswani et al. 2017, eq. 1; Zhou et al. 2018, eq. 3 for `normalize=False`.
    """
    length, context = query.shape[-2], key.shape[-2]
    if keep is not None:
        keep = keep.expand(*keep.shape[:-2], length, context)
        looked_at = keep.any(-2).unsqueeze(-1)
        key, value = torch.where(looked_at, key, 0), torch.where(looked_at, value, 0)
    fused = score is scaled_dot_product and normalize and not need_weights
    if fused and keep is None and bias is None and (not causal or length == context):
        return _kernel(query, key, value, dropout, causal=causal), None
    if causal:
        past = causal_keep(length, context, query.device)
        keep = past if keep is None else keep & past
    if fused:
        return _fused(query, key, value, keep, bias, dropout), None

    scores = score(query, key)
    if bias is not None:
        scores = scores + bias
    if normalize:
        weights = softmax(scores, keep).to(value.dtype)
    else:
        weights = scores if keep is None else scores.masked_fill(~keep, 0)
    return dropped(weights, dropout) @ value, weights if need_weights else None


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    keep: Tensor | None,
    bias: Tensor | None,
    dropout: float,
) -> Tensor:
    """The fused kernel, with a defined answer for queries that may look nowhere."""
    if keep is None:
        return _kernel(query, key, value, dropout, bias)
    asks = keep.any(-1, keepdim=True)
    # Such a query looks everywhere inside the kernel and is zeroed after it.
    mask = keep | ~asks
    if bias is not None:
        mask = bias.masked_fill(~mask, -torch.inf)
    return torch.where(asks, _kernel(query, key, value, dropout, mask), 0)


def _kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """PyTorch's fused kernel."""
    dtype = wide = query.dtype
    # On a CPU it gets float32: in bfloat16 its backward pass takes 2 (200 events) to 8
    # times as long (25 events; PyTorch 2.13, Zen 4).
    if query.device.type == "cpu":
        wide = torch.promote_types(dtype, torch.float32)
    if mask is not None and mask.is_floating_point():
        mask = mask.to(wide)
    with torch.autocast("cpu", enabled=False):
        attended = F.scaled_dot_product_attention(
            query.to(wide), key.to(wide), value.to(wide), mask, dropout, causal
        )
    return attended.to(dtype)


class AdditiveScore(nn.Module):
    """Score by a small network: v · tanh(W_q q + W_k k + b).

    Args:
        width: size of queries and keys.
        units: hidden units of the network.

    Source: Bahdanau et al. 2015, §A.1.2.
    """

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, units)
        self.key = nn.Linear(width, units, bias=False)
        self.unit = nn.Linear(units, 1, bias=False)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Scores (..., L, K) of queries (..., L, E) against keys (..., K, E)."""
        hidden = self.query(query).unsqueeze(-2) + self.key(key).unsqueeze(-3)
        return self.unit(hidden.tanh()).squeeze(-1)


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each on its own part of three linear maps.

    Context vectors become keys and values, query vectors become queries; the heads'
    results are joined and mapped once more. Queries and context may differ in number (K
    ≠ L) and both may be masked by `keep`.

    Args:
        width: size D of queries, context and result; a multiple of `heads`.
        heads: number of heads H; each works in D / H dimensions.
        dropout: share of the weights dropped while training.
        score: "dot" (scaled dot product) or "additive".
        normalize: False weighs by raw scores instead of their softmax.

    Source: Vaswani et al. 2017, §3.2.2.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        score: Literal["dot", "additive"] = "dot",
        normalize: bool = True,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(
                f"width {width} cannot be divided among {heads} heads; use a multiple"
            )
        self.heads, self.dropout, self.normalize = heads, dropout, normalize
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        each = width // heads
        self.additive = AdditiveScore(each, each) if score == "additive" else None

    def forward(
        self,
        query_BLD: Tensor,
        context_BKD: Tensor,
        keep: Tensor | None = None,
        *,
        causal: bool = False,
        bias: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attended vectors (B, L, D), and weights (B, H, L, K) when asked for.

        Args:
            query_BLD: who asks.
            context_BKD: who is looked at.
            keep: True where a query may look: (B, K), or (B or 1, H or 1, L or 1, K).
            causal: no query sees events newer than itself.
            bias: added to the scores, broadcastable to (B, H, L, K).
            need_weights: return the weights too.
        """
        if keep is not None:
            keep = keep[:, None, None, :] if keep.dim() == 2 else keep
            # A padded event may hold anything, NaN included, so it is cleared before
            # the linear maps.
            looked_at_BK1 = keep.any(-2).any(-2).unsqueeze(-1)
            context_BKD = torch.where(looked_at_BK1, context_BKD, 0)
        attended_BHLE, weights_BHLK = attend(
            self._split(self.query(query_BLD)),
            self._split(self.key(context_BKD)),
            self._split(self.value(context_BKD)),
            keep,
            causal=causal,
            bias=bias,
            score=self.additive or scaled_dot_product,
            normalize=self.normalize,
            dropout=self.dropout if self.training else 0.0,
            need_weights=need_weights,
        )
        attended_BLD = self.out_proj(attended_BHLE.transpose(1, 2).flatten(2))
        if keep is not None:  # what may look nowhere gets zeros, not the map's bias
            asks_BL1 = keep.any(-1).any(-2).unsqueeze(-1)
            attended_BLD = torch.where(asks_BL1, attended_BLD, 0)
        return attended_BLD, weights_BHLK

    def _split(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, H, L, E)."""
        return x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class RelativeBias(nn.Module):
    """What is added to a pair's score for how far apart its events are.

    One learned number per head and bucket of distance; with `time_buckets`, one more
    per bucket of time difference. All start at 0: untrained, it changes nothing.

    Args:
        heads: attention heads H.
        position_buckets: the first half hold the distances 0, 1, 2, … one by one; the
            rest widen by a constant factor, and the last holds all from about
            `farthest` events on.
        time_buckets: bucket 0 holds the same second, bucket n from 2ⁿ⁻¹ to 2ⁿ - 1
            seconds, the last all beyond (32 buckets: 34 years); 0 leaves time out.
        farthest: see `position_buckets`, of which there are at most twice as many.

    Source: Raffel et al. 2020, §2.1 (buckets of distance); Zhai et al. 2024 (HSTU) for
    buckets of time.
    """

    position_edges: Tensor  # a bucket's smallest distance, from bucket 1 on
    time_edges: Tensor

    def __init__(
        self,
        heads: int,
        position_buckets: int = 32,
        time_buckets: int = 0,
        farthest: int = 128,
    ) -> None:
        super().__init__()
        exact = position_buckets // 2
        if not 1 <= exact < farthest:
            asked = f"{position_buckets} buckets up to {farthest} events"
            raise ValueError(f"{asked}: use from 2 to {2 * farthest - 1}")
        wide = position_buckets - exact
        widening = [
            round(exact * (farthest / exact) ** (n / wide)) for n in range(wide)
        ]
        edges = torch.tensor([*range(1, exact), *widening])
        self.register_buffer("position_edges", edges, persistent=False)
        edges = 2 ** torch.arange(max(time_buckets - 1, 0))
        self.register_buffer("time_edges", edges, persistent=False)
        self.position_SH = nn.Parameter(torch.zeros(position_buckets, heads))
        self.time_SH = None
        if time_buckets:
            self.time_SH = nn.Parameter(torch.zeros(time_buckets, heads))

    def forward(self, length: int, times_BT: Tensor | None = None) -> Tensor:
        """The bias (1, H, T, T), or (B, H, T, T) with time.

        [.., q, k] is for query event q and past event k.

        Args:
            length: number of events T.
            times_BT: Unix seconds, int64, oldest first; needed with `time_buckets`. 0
                or anything where padded.
        """
        step_1T = torch.arange(length, device=self.position_edges.device)[None]
        bias_1HTT = self._looked_up(self.position_SH, step_1T, self.position_edges)
        if self.time_SH is None:
            return bias_1HTT
        if times_BT is None:
            raise ValueError("a bias for time differences needs times_BT")
        return bias_1HTT + self._looked_up(self.time_SH, times_BT, self.time_edges)

    @staticmethod
    def _looked_up(bias_SH: Tensor, when_BT: Tensor, edges: Tensor) -> Tensor:
        """The number of each pair's bucket, (B, H, T, T)."""
        # Whole numbers all the way: float32 cannot tell two seconds of our century
        # apart. What comes later than its query (the future, padding) has a negative
        # difference and lands in bucket 0; the mask hides it.
        difference_BTT = when_BT[:, :, None] - when_BT[:, None, :]
        bucket_BTT = torch.bucketize(difference_BTT, edges, right=True)
        return F.embedding(bucket_BTT, bias_SH).permute(0, 3, 1, 2).contiguous()


class SelfAttentionBlock(nn.Module):
    """Attention of a sequence to its own past, then a small network on each position.

    Each added to its input. Pre-norm: x + attention(norm(x)), then x +
    network(norm(x)).

    Args:
        width: size D of every vector.
        heads: attention heads.
        dropout: share dropped from each branch before it is added.
        attention_dropout: share of the attention weights dropped.
        feedforward: hidden units of the network, as a multiple of `width`.
        gated: multiply each branch by a gate, the sigmoid of a map of its normed input.

    Source: Vaswani et al. 2017, §3.1; Xiong et al. 2020 for pre-norm; Kang and McAuley
    2018 for its use here.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        attention_dropout: float = 0.0,
        feedforward: int = 1,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, attention_dropout)
        self.norm_network = nn.LayerNorm(width)
        self.network = nn.Sequential(
            nn.Linear(width, feedforward * width),
            nn.GELU(),
            nn.Linear(feedforward * width, width),
        )
        gates = [nn.Linear(width, width) for _ in range(2)] if gated else None
        self.gates = None if gates is None else nn.ModuleList(gates)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x_BTD: Tensor,
        bias: Tensor | None = None,
        need_weights: bool = False,
        at_B: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The sequence after one block, (B, T, D), and weights (B, H, T, T) if asked.

        With `at_B`, only the event at that place of each row asks, and T is 1 in what
        is returned.
        """
        query_BTD = normed_BTD = self.norm_attention(x_BTD)
        if at_B is not None:
            row_B = torch.arange(len(x_BTD), device=x_BTD.device)
            step_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
            hidden_B11T = (step_T > at_B[:, None])[:, None, None]
            seen = x_BTD.new_zeros(())
            if bias is not None:
                seen = bias.expand(len(row_B), -1, -1, -1)[row_B, :, at_B][:, :, None]
            bias = torch.where(hidden_B11T, -torch.inf, seen)
            x_BTD = x_BTD[row_B, at_B][:, None]
            query_BTD = normed_BTD[row_B, at_B][:, None]
        how = {"causal": at_B is None, "bias": bias, "need_weights": need_weights}
        attended_BTD, weights_BHTT = self.attention(query_BTD, normed_BTD, **how)
        x_BTD = x_BTD + self._branch(attended_BTD, query_BTD, 0)
        normed_BTD = self.norm_network(x_BTD)
        x_BTD = x_BTD + self._branch(self.network(normed_BTD), normed_BTD, 1)
        return x_BTD, weights_BHTT

    def _branch(self, x_BTD: Tensor, normed_BTD: Tensor, number: int) -> Tensor:
        if self.gates is not None:
            x_BTD = x_BTD * self.gates[number](normed_BTD).sigmoid()
        return self.dropout(x_BTD)
