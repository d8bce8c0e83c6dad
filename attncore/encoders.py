"""Stage 3 in the model: how a history's context vectors become attended vectors.

"self", "lstm" and
"mean" give one attended vector per position, made from that position and its past.
"target" gives one per candidate: the candidate itself is the query. Every kind can show
its weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attncore.attention import (
    MultiHeadAttention,
    RelativeBias,
    SelfAttentionBlock,
    causal_keep,
)
from attncore.config import RankerConfig, RecommenderConfig
from attncore.layers import Dropout

Weights = list[Tensor]  # one (B, H, L, K) per layer


def encoder_of(config: RecommenderConfig) -> nn.Module:
    """The encoder that a configuration names."""
    if config.attention == "mean":
        return MeanPooling()
    kinds = {"self": SelfAttention, "target": TargetAttention, "lstm": LSTMAttention}
    return kinds[config.attention](config)


class SelfAttention(nn.Module):
    """A stack of causal self-attention blocks: every event asks its own past.

    Args:
        config: its width, blocks, heads, dropout, attention_dropout, feedforward and
            gated, see `SelfAttentionBlock`; with relative "position" a `RelativeBias`
            for the distance between events is added to the scores, with "time" one for
            their time difference too, and all blocks share it.

    Source: Kang and McAuley 2018 (SASRec).
    """

    def __init__(self, config: RecommenderConfig) -> None:
        super().__init__()
        c = config
        block = (c.width, c.heads, c.dropout, c.attention_dropout, c.feedforward)
        blocks = [SelfAttentionBlock(*block, c.gated) for _ in range(c.blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(c.width)
        self.relative = None
        if c.relative != "none":
            buckets = 32 if c.relative == "time" else 0
            self.relative = RelativeBias(c.heads, time_buckets=buckets)

    def forward(
        self,
        context_BTD: Tensor,
        times_BT: Tensor | None = None,
        need_weights: bool = False,
        at_B: Tensor | None = None,
    ) -> tuple[Tensor, Weights]:
        """Attended vectors (B, T, D), and a list of weights (B, H, T, T) when asked.

        Padding needs no mask here: it lies to the right, and no event sees what is to
        its right.

        Args:
            context_BTD: the history's context vectors.
            times_BT: when each event was, in Unix seconds, int64; only
                `relative="time"` reads it.
            need_weights: return the weights too.
            at_B: in the last block only the event at this place of each row asks: the
                result is (B, 1, D).
        """
        x_BTD, bias, layers = context_BTD, None, []
        if self.relative is not None:
            bias = self.relative(context_BTD.shape[1], times_BT)
        for number, block in enumerate(self.blocks, 1):
            at = at_B if number == len(self.blocks) else None
            x_BTD, weights_BHTT = block(x_BTD, bias, need_weights, at)
            layers.append(weights_BHTT)
        return self.norm(x_BTD), layers if need_weights else []


class MeanPooling(nn.Module):
    """Attention's simplest rival: the plain mean of the history up to each event."""

    def forward(
        self,
        context_BTD: Tensor,
        times_BT: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Weights]:
        """Running means (B, T, D), and the equal weights (B, 1, T, T) when asked for.

        Times do not matter.
        """
        steps, device = context_BTD.shape[1], context_BTD.device
        count_T = torch.arange(1, steps + 1, device=device, dtype=context_BTD.dtype)
        count_T1, layers = count_T[:, None], []
        if need_weights:
            past_TT = causal_keep(steps, steps, device)
            layers = [(past_TT / count_T1).expand(len(context_BTD), 1, -1, -1)]
        return context_BTD.cumsum(1) / count_T1, layers


def xavier(module: nn.Module) -> None:
    """Draw the matrices of linear maps and LSTMs by Xavier's rule; their biases are 0.

    An LSTM keeps the matrices of its four gates in one parameter: each is drawn for its
    own size.

    Source: Glorot and Bengio 2010, eq. 16.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.LSTM):
            gates = 4 if isinstance(layer, nn.LSTM) else 1
            for parameter in layer.parameters(recurse=False):
                for part in parameter.detach().chunk(gates):
                    if part.dim() > 1:
                        nn.init.xavier_uniform_(part)
                    else:
                        nn.init.zeros_(part)


class Transition(nn.Module):
    """What each of the newest items says of the next one by itself.

    A Markov chain whose counts are learned. The item l steps back adds its own vector,
    stretched by a learned vector for l that starts at 1/l, as in
    `baselines.MarkovChain`. The vectors are not those of attention: what an item is,
    and what tends to follow it, are two things.

    Args:
        items: size V of the catalogue.
        width: size D.
        lags: how many of the newest items speak.

    Source: Rendle et al. 2010 (factorized Markov chains); He and McAuley 2016 for
    several lags.
    """

    def __init__(self, items: int, width: int, lags: int) -> None:
        super().__init__()
        self.item = nn.Embedding(items + 1, width, padding_idx=0)
        nn.init.normal_(self.item.weight, std=0.02)
        with torch.no_grad():
            self.item.weight[0] = 0
        lag_S1 = (1 / torch.arange(1, lags + 1))[:, None]
        self.lag_SD = nn.Parameter(lag_S1.repeat(1, width))

    def forward(self, items_BT: Tensor) -> Tensor:
        """What is added to the state after each event, (B, T, D)."""
        vectors_BTD, steps = self.item(items_BT), items_BT.shape[1]
        # A history's first events look at zeros.
        past_BTD = F.pad(vectors_BTD, (0, 0, len(self.lag_SD) - 1, 0))
        later = reversed(range(len(self.lag_SD)))
        pairs = zip(later, self.lag_SD, strict=True)
        return sum((past_BTD[:, at : at + steps] * lag_D for at, lag_D in pairs), 0)


class LSTMAttention(nn.Module):
    """The classic recipe: an LSTM reads the history, its states attend to their past.

    Args:
        config: its width D of the context vectors and of the result, hidden (size of
            the LSTM's states), blocks (its layers), and dropout, the share dropped
            between layers and from the attended vector.

    Source: Hochreiter and Schmidhuber 1997; Luong et al. 2015 for dot-product attention
    over its states.
    """

    def __init__(self, config: RecommenderConfig) -> None:
        super().__init__()
        width, hidden, layers = config.width, config.hidden, config.blocks
        between = config.dropout if layers > 1 else 0.0
        self.norm = nn.LayerNorm(width)
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True, dropout=between)
        self.attention = MultiHeadAttention(hidden, heads=1)
        self.dropout = Dropout(config.dropout)
        self.widen = nn.Linear(2 * hidden, width)
        xavier(self)

    def forward(
        self,
        context_BTD: Tensor,
        times_BT: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Weights]:
        """Attended vectors joined with the states that asked, (B, T, D), and weights.

        Times do not matter; all encoders of a sequence are called alike.
        """
        states_BTH, _ = self.lstm(self.norm(context_BTD))
        attended_BTH, weights_B1TT = self.attention(
            states_BTH, states_BTH, causal=True, need_weights=need_weights
        )
        joined = torch.cat([states_BTH, attended_BTH], -1)
        layers = [] if weights_B1TT is None else [weights_B1TT]
        return self.widen(self.dropout(joined)), layers


class TargetAttention(nn.Module):
    """A candidate item asks the history what in it speaks for the candidate.

    Args:
        config: its width, heads and score, as for `MultiHeadAttention`; dropout, the
            share dropped from the attended vectors; normalize, False for Deep Interest
            Network's raw weights, which can grow with interest.

    Source: Zhou et al. 2018 (Deep Interest Network), §4.3.
    """

    def __init__(self, config: RecommenderConfig | RankerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm_query, self.norm_context = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = MultiHeadAttention(
            width, config.heads, score=config.score, normalize=config.normalize
        )
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        query_BLD: Tensor,
        context_BKD: Tensor,
        keep: Tensor | None,
        need_weights: bool = False,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Weights]:
        """Attended vectors, one per candidate, (B, L, D), and weights if asked.

        Args:
            query_BLD: candidate vectors.
            context_BKD: the history's context vectors.
            keep: True where a candidate may look, (B, K) or (B, 1, L, K); None lets it
                look everywhere.
            need_weights: return the weights too.
            bias: added to the scores, broadcastable to (B, H, L, K).
        """
        asking, known = self.norm_query(query_BLD), self.norm_context(context_BKD)
        attended_BLD, weights_BHLK = self.attention(
            asking, known, keep, bias=bias, need_weights=need_weights
        )
        layers = [] if weights_BHLK is None else [weights_BHLK]
        return self.dropout(attended_BLD), layers
