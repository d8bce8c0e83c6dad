"""Stage 3 of a ranker: what a candidate shares with the past, and attention's rival."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attncore.config import RankerConfig
from attncore.layers import Dropout

BYTE = 8  # things whose matches are one number together


class MatchBias(nn.Module):
    """What is added to the score of a candidate and a past item for what they share.

    One learned number per head and thing: to be the same item, to be of the same
    category, of the same brand, and so on. All start at 1, so that a candidate first
    looks at what is most like it. In every other head, being the same item starts at 4:
    one head then looks at the item's own past, one at that of its kind. It is the
    sibling of `RelativeBias`: there the scores know how far apart two events are, here
    how alike.

    Args:
        things: how many things can be shared, any number.
        heads: attention heads H.
    """

    bits: Tensor

    def __init__(self, things: int, heads: int) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.ones(things, heads))
        with torch.no_grad():
            self.shared[0, ::2] = 4
        many = min(things, BYTE)
        bits = torch.arange(2**many)[:, None] >> torch.arange(many) & 1
        self.register_buffer("bits", bits.float(), persistent=False)

    def forward(self, candidates: Sequence[Tensor], past: Sequence[Tensor]) -> Tensor:
        """The bias (B, H, N, K) from codes (B, N) and (B, K), a pair a thing.

        A code below 0 matches none.
        """
        pairs = zip(candidates, past, strict=True)
        same = [code_BN[:, :, None] == code_BK[:, None] for code_BN, code_BK in pairs]
        if self.shared.device.type != "cpu":
            return self._product(same)
        bias_BHNK = self._of_byte(same[:BYTE], self.shared[:BYTE])
        for start in range(BYTE, len(same), BYTE):
            some = slice(start, start + BYTE)
            bias_BHNK = bias_BHNK + self._of_byte(same[some], self.shared[some])
        return bias_BHNK

    def _product(self, same: Sequence[Tensor]) -> Tensor:
        """The bias as one product, whose gradient is one too.

        That of a look-up would be added, number by number, into the same few rows.
        """
        same_BNKS = torch.stack(list(same), -1).to(self.shared.dtype)
        return (same_BNKS @ self.shared).permute(0, 3, 1, 2)

    def _of_byte(self, same: Sequence[Tensor], shared_SH: Tensor) -> Tensor:
        """The part of the bias that is owed to S things, 8 at most.

        What a pair shares of them is one byte, a bit a thing. So the sums are made once
        for each byte and looked up: on a CPU a few operations on bytes are faster than
        a sum of N × K floats each.
        """
        shared_BNK = torch.zeros((), dtype=torch.uint8)
        for number, same_BNK in enumerate(same):
            shared_BNK = shared_BNK | (same_BNK.view(torch.uint8) << number)
        sums = self.bits[: 2 ** len(same), : len(same)] @ shared_SH
        at = shared_BNK.int().flatten()
        looked_up = [column.index_select(0, at) for column in sums.unbind(1)]
        return torch.stack([column.view(shared_BNK.shape) for column in looked_up], 1)


class MeanOfPast(nn.Module):
    """Attention's rival with the same inputs: the plain mean of the values.

    It is the same for every candidate.

    Args:
        config: its width and dropout.
    """

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm = nn.LayerNorm(width)
        self.value, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, query_BND: Tensor, context_BKD: Tensor, keep_BK: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pooled vectors (B, N, D) and the equal weights (B, 1, N, K)."""
        weights_B1K = (keep_BK / keep_BK.sum(1, keepdim=True))[:, None]
        pooled_B1D = self.out_proj(weights_B1K @ self.value(self.norm(context_BKD)))
        many = query_BND.shape[1]
        pooled_BND = self.dropout(pooled_B1D.expand(-1, many, -1))
        return pooled_BND, weights_B1K[:, None].expand(-1, -1, many, -1)
