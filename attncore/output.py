"""Stage 4: attended vectors become scores of items, and scores become a loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attncore.config import Combine, Loss
from attncore.counts import Prior

HALF_BITS = 30  # a negative is drawn by a number of twice as many bits


class Output(nn.Module):
    """The state that is compared with item vectors, and the items' biases.

    The state is the attended vector alone, or a linear map of it joined with the mean
    of the context so far, or with the whole context: up to `length` context vectors
    side by side, newest first.

    Args:
        width: size D.
        items: catalogue size V.
        combine: "attended", "pooled" or "whole".
        length: most context vectors that "whole" connects.
        item_bias: learn one number per item, added to its score.
        temperature: scores are cosines divided by this, before the bias; 0 takes plain
            dot products.
    """

    def __init__(
        self,
        width: int,
        items: int,
        combine: Combine,
        length: int,
        item_bias: bool,
        temperature: float = 0.0,
    ) -> None:
        super().__init__()
        self.combine, self.temperature = combine, temperature
        self.bias = nn.Parameter(torch.zeros(items + 1)) if item_bias else None
        if combine != "attended":  # a map of joined vectors is the sum of a map of each
            self.attended = nn.Linear(width, width, bias=False)
        if combine == "pooled":
            self.pooled = nn.Linear(width, width)
        # One D × D map per place counted from the newest: a convolution over the past.
        if combine == "whole":
            self.whole = nn.Conv1d(width, width, length)

    def connected(self, context_BTD: Tensor) -> Tensor | None:
        """What the context up to each event adds to the state there, (B, T, D).

        None for "attended".
        """
        if self.combine == "pooled":
            steps = context_BTD.shape[1]
            count_T = torch.arange(1, steps + 1, device=context_BTD.device)
            return self.pooled(context_BTD.cumsum(1) / count_T[:, None])
        if self.combine == "whole":
            before = self.whole.kernel_size[0] - 1
            past_BDT = F.pad(context_BTD.transpose(1, 2), (before, 0))
            return self.whole(past_BDT).transpose(1, 2)
        return None

    def forward(self, attended: Tensor, connected: Tensor | None) -> Tensor:
        """States (..., D) from attended vectors and what `connected` gave there."""
        return attended if connected is None else self.attended(attended) + connected

    def scaled(self, x: Tensor) -> Tensor:
        """States or item vectors (..., D), as they are or of length 1/√temperature."""
        if not self.temperature:
            return x
        return F.normalize(x, dim=-1) / math.sqrt(self.temperature)

    def catalogue_bias(self) -> Tensor | None:
        """Biases of all items, (V,), without padding."""
        return None if self.bias is None else self.bias[1:]


def catalogue_scores(
    state_ND: Tensor, catalogue_VD: Tensor, bias_V: Tensor | None
) -> Tensor:
    """Score of every item for every state, (N, V): dot product plus item bias."""
    scores_NV = state_ND @ catalogue_VD.T
    return scores_NV if bias_V is None else scores_NV + bias_V


def cross_entropy(
    state_ND: Tensor, catalogue_VD: Tensor, bias_V: Tensor | None, target_N: Tensor
) -> Tensor:
    """The summed -log of the softmax over the whole catalogue at each target.

    Holds all N × V scores; `lean_cross_entropy` gives the same value and gradients
    without.

    Args:
        state_ND: states.
        catalogue_VD: item vectors without padding.
        bias_V: item biases or None.
        target_N: item indices 1..V.
    """
    scores_NV = catalogue_scores(state_ND, catalogue_VD, bias_V)
    return F.cross_entropy(scores_NV, target_N - 1, reduction="sum")


def _rows_at_a_time(rows: int, items: int, device: torch.device) -> int:
    """Rows whose scores of all items exist at once.

    A CPU works on what its cache holds, 256 rows. A GPU starves on small launches: it
    takes an eighth of the rows, unless their scores, softmax and gradient, some 16
    bytes an item, took more than a sixteenth of its memory.

    Args:
        rows, items: how many there are.
        device: where they are.
    """
    if device.type != "cuda":
        return 256
    most = torch.cuda.get_device_properties(device).total_memory // (256 * items)
    return max(1, min(-(-rows // 8), most))


def lean_cross_entropy(
    state_ND: Tensor,
    catalogue_VD: Tensor,
    bias_V: Tensor | None,
    target_N: Tensor,
    chunk: int | None = None,
    smoothing: float = 0.0,
    priors: Sequence[Prior] = (),
) -> Tensor:
    """`cross_entropy` in chunks of rows, so that only `chunk` × V scores exist.

    A chunk's gradient is a
    by-product of its softmax, so both are made at once and nothing of size N × V waits
    for the backward pass. Under autocast the matrix products run in its dtype, the
    softmax in float32.

    Args:
        state_ND, catalogue_VD, bias_V, target_N: as for `cross_entropy`.
        chunk: rows at a time; None chooses by device and catalogue.
        smoothing: share of the target's probability that is spread evenly over the
            catalogue.
        priors: what is added to the scores, made a chunk at a time.
    """
    if chunk is None:
        chunk = _rows_at_a_time(len(state_ND), len(catalogue_VD), state_ND.device)
    if bias_V is None:
        bias_V = catalogue_VD.new_zeros(len(catalogue_VD))
    given = (state_ND, catalogue_VD, bias_V, target_N, chunk, smoothing, priors)
    return _LeanCrossEntropy.apply(*given, *(prior.scale for prior in priors))


class _LeanCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        state_ND: Tensor,
        catalogue_VD: Tensor,
        bias_V: Tensor,
        target_N: Tensor,
        chunk: int,
        smoothing: float,
        priors: Sequence[Prior],
        *scales: Tensor,
    ) -> Tensor:
        dtype = (state_ND[:0] @ catalogue_VD[:0].T).dtype  # autocast's, where it is on
        wide = torch.promote_types(torch.float32, dtype)
        state, catalogue = state_ND.to(dtype), catalogue_VD.to(dtype)
        bias, target_N1 = bias_V.to(wide), target_N[:, None] - 1
        loss = torch.zeros((), dtype=wide, device=state_ND.device)
        grad_state = torch.empty_like(state_ND)
        grad_catalogue = torch.zeros_like(catalogue_VD, dtype=wide)
        grad_bias = torch.zeros_like(bias)
        grad_scales = [torch.zeros_like(scale) for scale in scales]
        # The length of the argument: PyTorch 2.11 cannot compile that of a cast.
        for start in range(0, len(state_ND), chunk):
            rows = slice(start, start + chunk)
            target_n1 = target_N1[rows]
            scores_nV = (state[rows] @ catalogue.T).to(wide).add_(bias)
            priors_nV = [prior.logits(rows).to(wide) for prior in priors]
            for prior_nV, scale in zip(priors_nV, scales, strict=True):
                own = scale[rows] if scale.dim() else scale
                scores_nV.addcmul_(prior_nV, own.to(wide))
            error_nV = scores_nV.softmax(-1)
            # The largest weight is exp(largest score) / total, so it tells the total
            # without one more exponential.
            largest_n1, weight_n1 = (
                x.amax(-1, keepdim=True) for x in (scores_nV, error_nV)
            )
            wanted_n1 = (1 - smoothing) * scores_nV.gather(1, target_n1)
            loss += (largest_n1 - weight_n1.log() - wanted_n1).sum()
            if smoothing:
                loss -= smoothing * scores_nV.mean(1).sum()
                error_nV -= smoothing / scores_nV.shape[1]
            error_nV.scatter_(1, target_n1, smoothing - 1, reduce="add")
            grad_bias += error_nV.sum(0)
            for prior_nV, grad_scale in zip(priors_nV, grad_scales, strict=True):
                pulled_nV = error_nV * prior_nV
                if grad_scale.dim():
                    grad_scale[rows] = pulled_nV.sum(1, keepdim=True)
                else:
                    grad_scale += pulled_nV.sum()
            error_nV = error_nV.to(dtype)
            grad_state[rows] = error_nV @ catalogue
            grad_catalogue += error_nV.T @ state[rows]
        grad_catalogue = grad_catalogue.to(catalogue_VD.dtype)
        made = (grad_state, grad_catalogue, grad_bias.to(bias_V.dtype))
        ctx.save_for_backward(*made, *grad_scales)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = (*(grad * made for made in ctx.saved_tensors),)
        return *grads[:3], *(4 * [None]), *grads[3:]


class NegativeSampler(nn.Module):
    """Draws items to stand for all the items that were not taken.

    Args:
        item_counts: training counts of the catalogue, (V,).
        power: 0 draws uniformly, 1 by popularity, values between by counts to that
            power.
    """

    bounds: Tensor
    log_share: Tensor

    def __init__(self, item_counts: Tensor, power: float = 0.0) -> None:
        super().__init__()
        share = item_counts.double().clamp_min(1) ** power
        total = share.cumsum(0)
        # Whole numbers, since some devices have no float64, and float32 is too coarse
        # for the shares of a large catalogue.
        bounds = (total / total[-1] * 2 ** (2 * HALF_BITS)).long()
        self.register_buffer("bounds", bounds, persistent=False)
        log_share = (share / total[-1]).log().float()
        self.register_buffer("log_share", log_share, persistent=False)

    def sample(self, count: int) -> Tensor:
        """`count` item indices 1..V, drawn with replacement, int64."""
        halves = torch.randint(2**HALF_BITS, (2, count), device=self.bounds.device)
        draw = (halves[0] << HALF_BITS) + halves[1]
        return torch.searchsorted(self.bounds, draw, right=True) + 1

    def log_expected(self, items: Tensor, count: int) -> Tensor:
        """Log of how often each of `items` is expected among `count` draws: logQ."""
        return self.log_share[items - 1] + math.log(count)


def sampled_softmax(
    positive_N: Tensor, negative_NM: Tensor, negative_log_q_NM: Tensor, hit_NM: Tensor
) -> Tensor:
    """Cross-entropy against sampled negatives, corrected for how they were drawn.

    One loss per position, (N,). Subtracting the log of each negative's expected count
    makes the sum over the negatives an estimate, right on average, of the sum over all
    items but the positive. The positive was not drawn, it is always there, so it stands
    in the sum as it is. The gradient is then that of the full softmax as the draws
    grow in number: the error falls as one over it. With the positive's own log q
    subtracted too, an error would stay however many are drawn, and popular items would
    learn scores that are too high.

    Args:
        positive_N, negative_NM: scores.
        negative_log_q_NM: `NegativeSampler.log_expected` of the negatives.
        hit_NM: True where a sampled "negative" is the positive itself; it is left out.

    Source: Bengio and Senécal 2008 for the correction; Khrylchenko et al. 2025
    (arXiv 2507.09331) for why the positive has none, unlike in Yi et al. 2019, eq. 3.
    """
    negative_NM = (negative_NM - negative_log_q_NM).masked_fill(hit_NM, -torch.inf)
    scores = torch.cat([positive_N[:, None], negative_NM], 1).float()
    return scores.logsumexp(1) - scores[:, 0]


def binary_cross_entropy(
    positive_N: Tensor, negative_NM: Tensor, hit_NM: Tensor
) -> Tensor:
    """Each candidate judged alone: one loss per position, (N,), negatives averaged.

    Args:
        positive_N, negative_NM, hit_NM: as for `sampled_softmax`.

    Source: Kang and McAuley 2018, eq. 6 (with one negative).
    """
    negative_NM = F.softplus(negative_NM.float()).masked_fill(hit_NM, 0)
    count_N = (~hit_NM).sum(1).clamp_min(1)
    return F.softplus(-positive_N.float()) + negative_NM.sum(1) / count_N


def generalized_bce(
    positive_N: Tensor,
    negative_NM: Tensor,
    hit_NM: Tensor,
    catalogue: int,
    calibration: float = 0.75,
) -> Tensor:
    """gBCE: the positive's probability is raised to a power that undoes overconfidence.

    Args:
        positive_N, negative_NM, hit_NM: as for `sampled_softmax`.
        catalogue: size V of the catalogue.
        calibration: t from 0 (plain BCE over the negatives) to 1 (fully calibrated).

    Source: Petrov and Macdonald 2023 (gSASRec).
    """
    alpha = negative_NM.shape[1] / (catalogue - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    negative_N = F.softplus(negative_NM.float()).masked_fill(hit_NM, 0).sum(1)
    return beta * F.softplus(-positive_N.float()) + negative_N


def slate_softmax(scores_BN: Tensor, clicked_BN: Tensor, real_BN: Tensor) -> Tensor:
    """How far clicked candidates stand from the top of their slates, summed.

    Each clicked candidate is the right
    answer of a softmax over itself and those candidates of its slate that were not
    clicked. A slate with nothing clicked, or with nothing else, adds 0.

    Args:
        scores_BN: a row of candidates for each slate, (B, N).
        clicked_BN: True where one was taken.
        real_BN: False where padded.

    Source: Cao et al. 2007 (ListNet's top-one probability), with each clicked candidate
    alone among the others.
    """
    lowest = torch.finfo(scores_BN.dtype).min
    others_BN = scores_BN.masked_fill(clicked_BN | ~real_BN, lowest)
    loss_BN = F.softplus(others_BN.logsumexp(1, keepdim=True) - scores_BN)
    return (loss_BN * (clicked_BN & real_BN)).sum()


class Criterion(nn.Module):
    """Which loss, over which negatives.

    Args:
        loss: "full" (cross-entropy over the catalogue), "sampled" (sampled softmax),
            "gbce" or "bce"; what slates make of it, and of "combined",
            `Ranker.loss` says.
        negatives: items drawn per batch, shared by its positions; unused by "full".
        popularity: negatives are drawn by training counts to this power; 0 is uniform.
        calibration: gBCE's t.
        item_counts: training counts of the catalogue, (V,).
        smoothing: share of the target's probability that "full" spreads over the
            catalogue.
    """

    def __init__(
        self,
        loss: Loss,
        negatives: int,
        popularity: float,
        calibration: float,
        item_counts: Tensor,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.loss, self.negatives = loss, negatives
        self.calibration, self.smoothing = calibration, smoothing
        self.sampler = NegativeSampler(item_counts, popularity)

    def draw(self) -> Tensor:
        """Fresh negatives, item indices (M,)."""
        return self.sampler.sample(self.negatives)

    def forward(
        self,
        positive_N: Tensor,
        negative_NM: Tensor,
        target_N: Tensor,
        negatives_M: Tensor,
    ) -> Tensor:
        """Loss per position, (N,), from scores of targets and of drawn negatives."""
        hit_NM = target_N[:, None] == negatives_M
        if self.loss == "sampled":
            log_q_M = self.sampler.log_expected(negatives_M, self.negatives)
            return sampled_softmax(positive_N, negative_NM, log_q_M, hit_NM)
        if self.loss == "gbce":
            how = len(self.sampler.log_share), self.calibration
            return generalized_bce(positive_N, negative_NM, hit_NM, *how)
        return binary_cross_entropy(positive_N, negative_NM, hit_NM)
