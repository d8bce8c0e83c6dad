"""What a recommender is made of, and the checks that every configuration shares.

A wrong value fails with what was given and what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from attncore.embedding import Positions
from attncore.encoders import Relative
from attncore.output import Combine


def check_choices(config: Any, choices: dict[str, Any]) -> None:
    """Raise ValueError unless each named field holds one of its Literal's values."""
    for name, literal in choices.items():
        value, allowed = getattr(config, name), get_args(literal)
        if value not in allowed:
            raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(str, allowed))}")


def check_range(config: Any, name: str, low: float, high: float | None) -> None:
    """Raise ValueError unless the named field is a number from `low` to `high`."""
    value = getattr(config, name)
    if not isinstance(value, int | float) or not low <= value <= (float("inf") if high is None else high):
        raise ValueError(
            f"{name}={value!r}: must be {f'at least {low}' if high is None else f'from {low} to {high}'}"
        )


Attention = Literal["self", "target", "lstm", "mean"]


@dataclass(frozen=True)
class RecommenderConfig:
    """What the model is made of.

    Attributes:
        attention: "self" (causal self-attention), "target" (each candidate asks the history), "lstm" (the
            classic recipe) or "mean" (no attention: the mean of the history).
        width: size D of every vector.
        blocks: self-attention blocks, or LSTM layers.
        heads: attention heads; divides width.
        length: the newest events of a history that the model sees.
        dropout: share of embeddings and branches dropped while training.
        attention_dropout: share of self-attention's weights dropped while training.
        feedforward: hidden units of a block's network, as a multiple of width.
        hidden: size of the LSTM's states.
        positions: "none", "learned" (counted from the oldest event seen) or "newest" (from the newest).
        relative: self-attention only: its scores also depend on how far apart two events are, by "position" or by
            position and "time"; "none" leaves that out.
        score: target attention's score, "dot" or "additive".
        normalize: target attention's weights are a softmax; False leaves them raw (Deep Interest Network).
        combine: the output sees "attended" vectors alone, with the "pooled" context, or with the "whole" context.
        item_bias: learn one number per item, added to its score.
        item_features: columns of the log's table of items that join an item's vector, as "name" or "name:kind"; see
            `fit_features`.
        user_features: columns of its table of users that say who asks.
        event_features: columns of its events that join the vector of a past event.
        situation_features: columns of its events, known before the answer, that say in what situation is asked.
        feature_dropout: share of askers, situations and events that are unknown while training, so that "unknown"
            is learned.
    """

    attention: Attention = "self"
    width: int = 64
    blocks: int = 2
    heads: int = 2
    length: int = 200
    dropout: float = 0.2
    attention_dropout: float = 0.0
    feedforward: int = 1
    hidden: int = 16
    positions: Positions = "learned"
    relative: Relative = "none"
    score: Literal["dot", "additive"] = "dot"
    normalize: bool = True
    combine: Combine = "attended"
    item_bias: bool = True
    item_features: tuple[str, ...] = ()
    user_features: tuple[str, ...] = ()
    event_features: tuple[str, ...] = ()
    situation_features: tuple[str, ...] = ()
    feature_dropout: float = 0.05

    def __post_init__(self) -> None:
        check_choices(self, {"attention": Attention, "positions": Positions, "combine": Combine})
        check_choices(self, {"score": Literal["dot", "additive"], "relative": Relative})
        for name in ("width", "blocks", "heads", "length", "feedforward", "hidden"):
            check_range(self, name, 1, None)
        for name in ("item_features", "user_features", "event_features", "situation_features"):
            columns = getattr(self, name)
            if isinstance(columns, str) or not all(isinstance(column, str) for column in columns):
                raise ValueError(f"{name}={columns!r}: must be names of columns, such as ('genres', 'year')")
            object.__setattr__(self, name, tuple(columns))  # JSON and command lines give lists
        for name in ("dropout", "attention_dropout", "feature_dropout"):
            check_range(self, name, 0, 0.99)
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads}: must divide width={self.width}")
        if self.relative != "none" and self.attention != "self":
            raise ValueError(f"relative={self.relative!r}: needs attention='self', not {self.attention!r}")
