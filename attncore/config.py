"""What a recommender is made of, and how it is trained.

A wrong value fails with what was given and what is allowed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args


def check_choices(config: Any, choices: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError unless each named field holds one of its choices."""
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value not in allowed:
            raise ValueError(
                f"{name}={value!r}: must be one of {', '.join(map(str, allowed))}"
            )


def check_range(
    config: Any, name: str, low: float, high: float | None = None, whole: bool = False
) -> None:
    """Raise ValueError unless the named field is a finite number from `low` to `high`, and a whole one if asked."""
    value = getattr(config, name)
    number = isinstance(value, int if whole else int | float) and not isinstance(
        value, bool
    )
    if not number or not low <= value <= (sys.float_info.max if high is None else high):
        kind = "a whole number, " if whole else ""
        raise ValueError(
            f"{name}={value!r}: must be"
            f" {kind}{f'at least {low}' if high is None else f'from {low} to {high}'}"
        )


Attention = Literal["self", "target", "lstm", "mean"]
Positions = Literal["none", "learned", "newest"]
Relative = Literal["none", "position", "time"]
Combine = Literal["attended", "pooled", "whole"]
Loss = Literal["auto", "full", "sampled", "gbce", "bce", "combined"]
Schedule = Literal["cosine", "constant"]


TargetScore = Literal["dot", "additive"]


WindowChoice = Literal["last", "random"]


Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class RecommenderConfig:
    """What the model is made of.

    Attributes:
        attention: "self" (causal self-attention), "target" (each candidate asks the
            history), "lstm" (the classic recipe) or "mean" (no attention: the mean of
            the history).
        width: size D of every vector.
        blocks: self-attention blocks, or LSTM layers.
        heads: attention heads; divides width.
        length: the newest events of a history that the model sees.
        dropout: share of embeddings and branches dropped while training.
        attention_dropout: share of self-attention's weights dropped while training.
        feedforward: hidden units of a block's network, as a multiple of width.
        hidden: size of the LSTM's states.
        positions: "none", "learned" (counted from the oldest event seen) or "newest"
            (from the newest).
        relative: self-attention only: its scores also depend on how far apart two
            events are, by "position" or by position and "time"; "none" leaves that out.
        score: target attention's score, "dot" or "additive".
        normalize: target attention's weights are a softmax; False leaves them raw (Deep
            Interest Network).
        combine: the output sees "attended" vectors alone, with the "pooled" context, or
            with the "whole" context.
        item_bias: learn one number per item, added to its score.
        gated: self-attention only: each branch of a block is multiplied by a gate that
            its input opens and closes.
        transition: how many of the newest items also speak for the next one by
            themselves, through vectors of their own; 0 leaves that to attention. Not
            for target attention.
        temperature: scores are cosines divided by this; 0 takes plain dot products.
        item_features: columns of the log's table of items that join an item's vector,
            as "name" or "name:kind"; see `fit_features`.
        user_features: columns of its table of users that say who asks.
        event_features: columns of its events that join the vector of a past event.
        situation_features: columns of its events, known before the answer, that say in
            what situation is asked.
        cold: learn to answer an empty history too: the first event of each window is
            asked of the asker alone.
        feature_dropout: share of askers, situations and events that are unknown while
            training, so that "unknown" is learned.
        id_dropout: share of the items met in training of which only the features are
            seen, not the item's own vector; it keeps the rare ones from being learned
            by heart. 0 hides none; needs features of items.
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
    score: TargetScore = "dot"
    normalize: bool = True
    combine: Combine = "attended"
    item_bias: bool = True
    gated: bool = False
    transition: int = 0
    temperature: float = 0.0
    item_features: tuple[str, ...] = ()
    user_features: tuple[str, ...] = ()
    event_features: tuple[str, ...] = ()
    situation_features: tuple[str, ...] = ()
    cold: bool = False
    feature_dropout: float = 0.05
    id_dropout: float = 0.0

    def __post_init__(self) -> None:
        literals = {
            "attention": Attention,
            "positions": Positions,
            "relative": Relative,
            "score": TargetScore,
            "combine": Combine,
        }
        check_choices(
            self, {name: get_args(literal) for name, literal in literals.items()}
        )
        for name in ("width", "blocks", "heads", "length", "feedforward", "hidden"):
            check_range(self, name, 1, whole=True)
        for name in (
            "item_features",
            "user_features",
            "event_features",
            "situation_features",
        ):
            columns = getattr(self, name)
            if isinstance(columns, str) or not all(
                isinstance(column, str) for column in columns
            ):
                raise ValueError(
                    f"{name}={columns!r}: must be names of columns, such as ('genres',"
                    " 'year')"
                )
            object.__setattr__(
                self, name, tuple(columns)
            )  # JSON and command lines give lists
        for name in ("dropout", "attention_dropout", "feature_dropout", "id_dropout"):
            check_range(self, name, 0, 0.99)
        check_range(self, "transition", 0, whole=True)
        check_range(self, "temperature", 0)
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads}: must divide width={self.width}")
        if self.cold and self.situation_features:
            raise ValueError(
                "cold=True: a window has no situation of its first event; leave"
                " situation_features out"
            )
        if self.transition and self.attention == "target":
            raise ValueError(
                f"transition={self.transition}: needs one state for all candidates, so"
                " not 'target'"
            )
        for name, off in (("relative", "none"), ("gated", False)):
            if getattr(self, name) != off and self.attention != "self":
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: needs attention='self', not"
                    f" {self.attention!r}"
                )


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained.

    Attributes:
        epochs: times that each user's window is shown.
        batch_size: users per step, in each of `accumulate` batches.
        accumulate: batches whose gradients add up to one step; memory is that of one
            batch.
        lr: highest learning rate.
        weight_decay: AdamW's decay of matrices (not of biases, norms and embeddings).
        warmup: steps over which the learning rate rises to `lr`.
        schedule: after warm-up, "cosine" (down to a tenth of `lr` at the last epoch),
            or "constant".
        clip: largest norm of the gradient; 0 does not clip.
        ema: the model that is evaluated and kept is a moving average of the weights, of
            which this share stays at each step (.999, say); 0 keeps the weights
            themselves.
        patience: epochs without a better validation NDCG@10 before training stops; 0
            never stops early.
        windows: "last" shows each user's newest window in every epoch; "random" one
            that ends anywhere, so that histories longer than a window are used whole.
        loss: "auto" is "full", or "sampled" for target attention; else "full",
            "sampled", "gbce" or "bce". Slates know "combined", which is their "auto",
            and "bce".
        negatives: items drawn per batch for losses other than "full".
        popularity: they are drawn by training counts to this power; 0 is uniform.
        label_smoothing: share of the target's probability that is spread over the
            catalogue; full loss only.
        calibration: gBCE's t, from 0 to 1.
        seed: order of users, dropout and drawn negatives.
        device: "auto" is CUDA where there is one, else the CPU; or "cpu", "cuda",
            "cuda:1", "mps".
        precision: "auto" is bfloat16 where the device multiplies it fast, else float32.
        progress: show a progress bar on stderr.
        compile: let `torch.compile` fuse the model's operations; it needs a C++
            compiler on a CPU.
        log_every: steps between readings of the loss; a loss that is not finite stops
            training there.
        checkpoint_every: steps between checkpoints; one is also kept after each epoch.
    """

    epochs: int = 100
    batch_size: int = 128
    accumulate: int = 1
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 50
    schedule: Schedule = "cosine"
    clip: float = 1.0
    ema: float = 0.0
    patience: int = 30
    windows: WindowChoice = "last"
    loss: Loss = "auto"
    label_smoothing: float = 0.0
    negatives: int = 256
    popularity: float = 0.0
    calibration: float = 0.75
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    compile: bool = False
    progress: bool = True
    log_every: int = 50
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        check_choices(
            self,
            {
                "schedule": get_args(Schedule),
                "precision": get_args(Precision),
                "loss": get_args(Loss),
                "windows": get_args(WindowChoice),
            },
        )
        for name in (
            "epochs",
            "batch_size",
            "accumulate",
            "negatives",
            "log_every",
            "checkpoint_every",
        ):
            check_range(self, name, 1, whole=True)
        for name in ("warmup", "patience", "seed"):
            check_range(self, name, 0, whole=True)
        for name in ("weight_decay", "clip"):
            check_range(self, name, 0)
        check_range(self, "lr", 1e-12)
        check_range(self, "popularity", 0, 1)
        check_range(self, "label_smoothing", 0, 0.99)
        check_range(self, "calibration", 0, 1)
        check_range(self, "ema", 0, 1 - 1e-9)
