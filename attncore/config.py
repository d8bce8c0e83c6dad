"""What a recommender is made of, and how it is trained.

A wrong value fails with what was given and what is allowed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal, get_args

Attention = Literal["self", "target", "lstm", "mean"]
RankerAttention = Literal["target", "mean"]
Positions = Literal["none", "learned", "newest"]
Relative = Literal["none", "position", "time"]
TargetScore = Literal["dot", "additive"]
Combine = Literal["attended", "pooled", "whole"]
Loss = Literal["auto", "full", "sampled", "gbce", "bce", "combined"]
Schedule = Literal["cosine", "constant"]
WindowChoice = Literal["last", "random", "all"]
Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]


@dataclass(frozen=True)
class RecommenderConfig:
    """What a model of the next item is made of.

    Attributes:
        attention: "self" (causal self-attention), "target" (each candidate asks the
            history), "lstm" (the classic recipe) or "mean" (no attention: the mean of
            the history).
        width: size D of every vector.
        length: the newest events of a history that the model sees.
        dropout: share of embeddings and branches dropped while training.

        heads: of "self" and "target": attention heads; divides width.
        blocks: of "self" and "lstm": self-attention blocks, or LSTM layers.
        attention_dropout: of "self": share of its weights dropped while training.
        feedforward: of "self": hidden units of a block's network, as a multiple of
            width.
        relative: of "self": its scores also depend on how far apart two events are, by
            "position" or by position and "time"; "none" leaves that out.
        gated: of "self": each branch of a block is multiplied by a gate that its input
            opens and closes.
        score: of "target": its score, "dot" or "additive".
        normalize: of "target": its weights are a softmax; False leaves them raw (Deep
            Interest Network).
        hidden: of "lstm": size of the LSTM's states.

        positions: "none", "learned" (counted from the oldest event seen) or "newest"
            (from the newest).
        transition: how many of the newest items also speak for the next one by
            themselves, through vectors of their own; 0 leaves that to attention. Not
            for "target".
        prior: of how many of the newest items it is counted what followed them in
            training; the log of its share, times a learned scale, is added to the
            scores. 0 counts nothing. Not for "target", and for the full loss alone.
        recent: how popular items were at each moment adds to the scores, and after a
            pause the rest of them is trusted less, both as learned for pauses of that
            length. Who asks does so as training ends: for logs that are split by time.
            Not for "target", and for the full loss alone.
        neighbours: by how many of the newest items moments of the training histories
            are sought that are like this one; what came next there adds to the scores
            when the model is asked. 0 seeks none. Not for "target".
        neighbour_weight: what they add, as a multiple of the log of an item's share.
        memory_weight: the states of the training histories are kept, and what came next
            at those nearest to the state that asks adds to the scores, this times the
            log of its share. Training itself does not know of it. 0 keeps none. Not
            for "target".
        combine: the output sees "attended" vectors alone, with the "pooled" context, or
            with the "whole" context.
        item_bias: learn one number per item, added to its score.
        temperature: scores are cosines divided by this; 0 takes plain dot products.

        item_features: columns of the log's table of items that join an item's vector,
            as "name" or "name:kind"; see `fit_features`.
        user_features: columns of its table of users that join the user side.
        event_features: columns of its events that join the vector of a past event.
        situation_features: columns of its events, known before the answer, that say in
            what situation is asked.
        cold: learn to answer an empty history too: the first event of each window is
            asked of the user side alone.
        feature_dropout: share of users, situations and events that are unknown while
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
    prior: int = 0
    recent: bool = False
    neighbours: int = 0
    neighbour_weight: float = 0.5
    memory_weight: float = 0.0
    temperature: float = 0.0
    item_features: tuple[str, ...] = ()
    user_features: tuple[str, ...] = ()
    event_features: tuple[str, ...] = ()
    situation_features: tuple[str, ...] = ()
    cold: bool = False
    feature_dropout: float = 0.05
    id_dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_choices(
            self,
            attention=Attention,
            positions=Positions,
            relative=Relative,
            score=TargetScore,
            combine=Combine,
        )
        _check_whole(
            self, 1, "width", "blocks", "heads", "length", "feedforward", "hidden"
        )
        _check_whole(self, 0, "transition", "prior", "neighbours")
        _check_range(self, "temperature", 0)
        _check_range(self, "neighbour_weight", 0)
        _check_range(self, "memory_weight", 0)
        _check_range(self, "attention_dropout", 0, 0.99)
        _check_shared(self)
        if self.cold and self.situation_features:
            raise ValueError(
                "cold=True: a window has no situation of its first event; leave"
                " situation_features out"
            )
        for name in ("transition", "prior", "recent", "neighbours", "memory_weight"):
            if getattr(self, name) and self.attention == "target":
                raise ValueError(
                    f"{name}={getattr(self, name)}: needs one state for all candidates,"
                    " so not 'target'"
                )
        for name, off in (("relative", "none"), ("gated", False)):
            if getattr(self, name) != off and self.attention != "self":
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: needs attention='self', not"
                    f" {self.attention!r}"
                )


@dataclass(frozen=True)
class RankerConfig:
    """What a model that ranks slates is made of; fields are as in `RecommenderConfig`.

    Attributes:
        attention: "target" (each candidate asks the past) or "mean" (all look at its
            mean).
        width: size D of every vector.
        length: the newest distinct items of the past that the model sees.
        dropout: share of embeddings and branches dropped while training.

        heads: of "target": attention heads; divides width.
        score: of "target": its score, "dot" or "additive".
        normalize: of "target": its weights are a softmax; False leaves them raw.

        item_bias: learn one number per item, added to its score.
        item_features, user_features, situation_features: columns of the table of items,
            of the table of users, and of slates and events; where none of the three is
            given, what the log's slates name.
        feature_dropout: share of users and situations that are unknown while training.
        id_dropout: share of the items of which only the features are seen.
    """

    attention: RankerAttention = "target"
    width: int = 64
    heads: int = 2
    length: int = 200
    dropout: float = 0.2
    score: TargetScore = "dot"
    normalize: bool = True
    item_bias: bool = True
    item_features: tuple[str, ...] = ()
    user_features: tuple[str, ...] = ()
    situation_features: tuple[str, ...] = ()
    feature_dropout: float = 0.05
    id_dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_choices(self, attention=RankerAttention, score=TargetScore)
        _check_whole(self, 1, "width", "heads", "length")
        _check_shared(self)


ModelConfig = RecommenderConfig | RankerConfig


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained.

    Attributes:
        epochs: times that each user's window is shown. A training resumes with another
            number where the schedule is "constant" alone; the cosine would be bent.
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
            that ends anywhere, so that histories longer than a window are used whole;
            "all" as many as ask about every event, each trained on its newer half, so
            that half a window or more comes before each target. A step then takes
            `batch_size` windows.
        loss: "auto" is "full", or "sampled" for target attention; else "full",
            "sampled", "gbce" or "bce". A ranker knows "combined", which is its "auto",
            and "bce".
        negatives: items drawn per batch for losses other than "full".
        popularity: they are drawn by training counts to this power; 0 is uniform.
        label_smoothing: share of the target's probability that is spread over the
            catalogue; full loss only.
        calibration: gBCE's t, from 0 to 1.
        seed: order of users, dropout and drawn negatives; `fit` sets PyTorch's global
            generators by it.
        device: "auto" is CUDA where there is one, else the CPU; or "cpu", "cuda",
            "cuda:1", "mps".
        precision: of a training step's matrix products. "auto" is "bfloat16" where the
            device multiplies it fast, else "tf32"; "float32" is exact, "tf32" lets CUDA
            round the factors of float32 products to 10 bits, which is faster and which
            "bfloat16" and "float16" let it do for what they leave in float32. "float16"
            is for cards without bfloat16: the loss is scaled, and a step whose gradient
            is then too large is passed over with a smaller scale. Weights are float32,
            and validation computes as `evaluate` does later, whatever is chosen.
        progress: show a progress bar on stderr.
        compile: let `torch.compile` fuse the model's operations; it needs a C++
            compiler on a CPU.
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
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        _check_choices(
            self,
            schedule=Schedule,
            precision=Precision,
            loss=Loss,
            windows=WindowChoice,
        )
        at_least_1 = ("epochs", "batch_size", "accumulate", "negatives")
        _check_whole(self, 1, *at_least_1, "checkpoint_every")
        _check_whole(self, 0, "warmup", "patience", "seed")
        for name in ("weight_decay", "clip"):
            _check_range(self, name, 0)
        _check_range(self, "lr", 1e-12)
        _check_range(self, "popularity", 0, 1)
        _check_range(self, "label_smoothing", 0, 0.99)
        _check_range(self, "calibration", 0, 1)
        _check_range(self, "ema", 0, 1 - 1e-9)


def _check_shared(config: RecommenderConfig | RankerConfig) -> None:
    """Check what both kinds of model have, and make tuples of columns' names."""
    for part in ("item", "user", "event", "situation"):
        _take_columns(config, f"{part}_features")
    for name in ("dropout", "feature_dropout", "id_dropout"):
        _check_range(config, name, 0, 0.99)
    if config.width % config.heads:
        raise ValueError(f"heads={config.heads}: must divide width={config.width}")


def _take_columns(config: Any, name: str) -> None:
    columns = getattr(config, name, ())
    if isinstance(columns, str) or not all(isinstance(one, str) for one in columns):
        raise ValueError(
            f"{name}={columns!r}: must be names of columns, such as ('genres', 'year')"
        )
    if hasattr(config, name):  # JSON and command lines give lists
        object.__setattr__(config, name, tuple(columns))


def _check_choices(config: Any, **choices: Any) -> None:
    """Raise ValueError unless each named field holds one of its literal's choices."""
    for name, literal in choices.items():
        value, allowed = getattr(config, name), get_args(literal)
        if value not in allowed:
            raise ValueError(f"{name}={value!r}: must be one of {', '.join(allowed)}")


def _check_whole(config: Any, low: int, *names: str) -> None:
    for name in names:
        _check_range(config, name, low, whole=True)


def _check_range(
    config: Any, name: str, low: float, high: float | None = None, whole: bool = False
) -> None:
    """Raise ValueError unless a field is a finite number from `low` to `high`."""
    value = getattr(config, name)
    kinds = int if whole else int | float
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not number or not low <= value <= (sys.float_info.max if high is None else high):
        kind = "a whole number, " if whole else ""
        allowed = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name}={value!r}: must be {kind}{allowed}")
