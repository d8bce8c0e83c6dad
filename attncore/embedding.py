"""Stage 2: events become vectors: item, position, and what else is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attncore.batches import Batch
from attncore.config import RecommenderConfig
from attncore.features import FIRST, PROFILE, UNKNOWN, Feature, FeatureSet
from attncore.layers import Dropout
from attncore.splits import Split


class FeatureVector(nn.Module):
    """One feature's codes become vectors, (..., D).

    A category has a learned vector per code; several categories are averaged, and the
    mean of words is layer-normalized. A number stretches a learned vector; a missing
    one has a vector of its own. What is padding, or has no value at all, is the zero
    vector and never learns. "Unknown" starts as zero, so it adds nothing until training
    has seen it.

    Args:
        feature: see `Feature`.
        width: size D of a vector.
    """

    def __init__(self, feature: Feature, width: int) -> None:
        super().__init__()
        self.kind = feature.kind
        self.code_of = {text: code for code, text in enumerate(feature.values, FIRST)}
        if self.kind == "number":
            self.direction = nn.Parameter(torch.empty(width))
            self.missing = nn.Parameter(torch.zeros(width))
            nn.init.normal_(self.direction, std=0.02)
            return
        self.value = nn.Embedding(feature.size, width, padding_idx=0)
        nn.init.normal_(self.value.weight, std=0.02)
        with torch.no_grad():
            self.value.weight[: UNKNOWN + 1] = 0
        self.norm = None
        if self.kind == "words":
            self.norm = nn.LayerNorm(width)
            # As small as all other vectors: the softmax is tied to them.
            nn.init.constant_(self.norm.weight, 0.02)

    @torch.no_grad()
    def start_from(self, vectors: Mapping[str, Sequence[float] | np.ndarray]) -> int:
        """Begin with vectors that were learned elsewhere (word2vec, GloVe).

        Args:
            vectors: of each value by its text, words in lower case; what the feature
                does not know is passed over.

        Returns:
            how many values have such a vector now; the others keep theirs.

        Raises:
            ValueError: a vector is not `width` finite numbers, or the feature is a
                number.
        """
        if self.kind == "number":
            raise ValueError("a number has no values; vectors are for those that have")
        table, known = self.value.weight, self.code_of.keys() & vectors.keys()
        for text in sorted(known):
            vector = torch.as_tensor(vectors[text], dtype=table.dtype)
            if vector.shape != table.shape[1:] or not vector.isfinite().all():
                wanted = f"must be {table.shape[1]} finite numbers, the model's width"
                shape = tuple(vector.shape)
                raise ValueError(f"vector of {text!r}, shape {shape}: {wanted}")
            table[self.code_of[text]] = vector.to(table.device)
        return len(known)

    def forward(self, codes: Tensor) -> Tensor:
        """Vectors (..., D) of codes (...), or (..., M) where there are many."""
        if self.kind == "number":
            stretched = codes.nan_to_num()[..., None] * self.direction
            return torch.where(codes.isnan()[..., None], self.missing, stretched)
        vectors = self.value(codes)
        if self.kind == "category":
            return vectors
        count = (codes > 0).sum(-1, keepdim=True)
        mean = vectors.sum(-2) / count.clamp_min(1)
        return mean if self.norm is None else torch.where(count > 0, self.norm(mean), 0)

    def hidden(self, codes: Tensor, hide: Tensor) -> Tensor:
        """The codes, unknown where `hide` (...) is True."""
        if self.kind == "number":
            return codes.masked_fill(hide, torch.nan)
        if self.kind == "category":
            return codes.masked_fill(hide, UNKNOWN)
        first = torch.arange(codes.shape[-1], device=codes.device) == 0
        return torch.where(hide[..., None], first.to(codes.dtype) * UNKNOWN, codes)


class FeatureEmbedding(nn.Module):
    """Several features become one vector: the sum of a `FeatureVector` each.

    Args:
        features: one or more.
        width: size D of a vector.
        hide: share of the places whose features are all unknown while training, so that
            "unknown" is learned.
    """

    def __init__(
        self, features: Sequence[Feature], width: int, hide: float = 0.0
    ) -> None:
        super().__init__()
        self.names, self.hide = [feature.name for feature in features], hide
        self.vectors = nn.ModuleList(FeatureVector(one, width) for one in features)

    def __getitem__(self, name: str) -> FeatureVector:
        """The vectors of one feature."""
        return cast(FeatureVector, self.vectors[self.names.index(name)])

    def forward(self, codes: Sequence[Tensor]) -> Tensor:
        """Vectors (..., D) of one tensor of codes per feature."""
        pairs: Any = list(zip(self.vectors, codes, strict=True))
        if self.training and self.hide:
            vector, code = pairs[0]
            has_many = vector.kind in ("categories", "words")
            shape = code.shape[: code.ndim - has_many]
            hide = torch.rand(shape, device=code.device) < self.hide
            pairs = [(vector, vector.hidden(code, hide)) for vector, code in pairs]
        return torch.stack([vector(code) for vector, code in pairs]).sum(0)


class FeatureTable(nn.Module):
    """The features of every item or user: codes, kept with the weights, and vectors.

    Args:
        features: one or more.
        codes: of each feature, what `FeatureSet.table_codes` gives, R rows high.
        width: size D of a vector.
        hide: as for `FeatureEmbedding`.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        codes: Sequence[np.ndarray],
        width: int,
        hide: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(features, width, hide)
        # Names of columns may hold dots, which names of buffers may not.
        for number, code in enumerate(codes):
            self.register_buffer(f"codes_{number}", torch.tensor(code))

    def codes(self) -> list[Tensor]:
        """Codes of all rows, a tensor per feature."""
        return list(self.buffers(recurse=False))

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Vectors (..., D) of row numbers (...); of all rows, (R, D), when None."""
        codes = self.codes()
        return self.embedding(codes if rows is None else [c[rows] for c in codes])


def feature_table(
    known: FeatureSet,
    split: Split,
    part: Literal["item", "user"],
    width: int,
    hide: float = 0.0,
) -> FeatureTable | None:
    """The features of all items or users of a split; None where a model reads none."""
    features = getattr(known, part)
    if not features:
        return None
    return FeatureTable(features, known.table_codes(split, part), width, hide)


class ItemEmbedding(nn.Module):
    """One learned vector per item, plus those of its features.

    Padding (index 0) is zero and never learns.

    Args:
        items: size V of the catalogue.
        width: size D of a vector.
        features: what is known of the items; None learns from ids alone.
        id_dropout: share of the items asked for while training whose own vector is left
            out, so that their features have to do.

    Raises:
        ValueError: id_dropout without features.

    Source: Volkovs et al. 2017 (DropoutNet) for id_dropout.
    """

    def __init__(
        self,
        items: int,
        width: int,
        features: FeatureTable | None = None,
        id_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if id_dropout and features is None:
            what = "would leave nothing of an item; name item_features as well"
            raise ValueError(f"id_dropout={id_dropout}: {what}")
        self.id = nn.Embedding(items + 1, width, padding_idx=0)
        nn.init.normal_(self.id.weight, std=0.02)
        with torch.no_grad():
            self.id.weight[0] = 0
        self.features, self.id_dropout = features, id_dropout

    def forward(self, items: Tensor) -> Tensor:
        """Vectors (..., D) of item indices (...)."""
        own = self.id(items)
        if self.features is None:
            return own
        if self.training and self.id_dropout:
            kept = torch.rand(items.shape, device=items.device) >= self.id_dropout
            own = own * kept[..., None]
        # Many items repeat: the whole table, once, is then less work. In an exported
        # graph it is a constant.
        few = not torch.compiler.is_compiling() and items.numel() < len(self.id.weight)
        vectors = self.features(items) if few else F.embedding(items, self.features())
        return own + torch.where(items[..., None] > 0, vectors, 0)

    def catalogue(self) -> Tensor:
        """Vectors of all items, (V, D): row j is item index j + 1."""
        own = self.id.weight[1:]
        return own if self.features is None else own + self.features()[1:]


class PositionEmbedding(nn.Module):
    """A learned vector per place in the window, from the oldest event or the newest.

    Args:
        length: number of places.
        width: size D of a vector.
        newest: count places from the newest event (its place is 0) instead of the
            oldest.
    """

    def __init__(self, length: int, width: int, newest: bool = False) -> None:
        super().__init__()
        self.place = nn.Embedding(length, width)
        nn.init.normal_(self.place.weight, std=0.02)
        self.newest = newest

    def forward(self, batch: Batch) -> Tensor:
        """Vectors (T, D), or (B, T, D) when counted from the newest."""
        step_T = torch.arange(batch.items_BT.shape[1], device=batch.items_BT.device)
        if not self.newest:
            return self.place.weight[: len(step_T)]
        return self.place((batch.lengths_B[:, None] - 1 - step_T).clamp_min(0))


class EventEmbedding(nn.Module):
    """The context vector of each event: its item, its attributes and its position.

    Their vectors are added up and dropped out together; where padded, the sum is zero.

    Args:
        config: its length, width, positions, dropout and id_dropout.
        items: size V of the catalogue.
        item_features: what is known of the items.
        features: what is known of an event, read from the batch's attributes.
    """

    def __init__(
        self,
        config: RecommenderConfig,
        items: int,
        item_features: FeatureTable | None = None,
        features: FeatureEmbedding | None = None,
    ) -> None:
        super().__init__()
        width = config.width
        self.item = ItemEmbedding(items, width, item_features, config.id_dropout)
        self.position = None
        if config.positions != "none":
            newest = config.positions == "newest"
            self.position = PositionEmbedding(config.length, width, newest)
        self.features = features
        self.dropout = Dropout(config.dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Context vectors (B, T, D) of a batch."""
        context_BTD = self.item(batch.items_BT)
        if self.position is not None:
            context_BTD = context_BTD + self.position(batch)
        if self.features is not None:
            codes = [batch.attributes[name] for name in self.features.names]
            context_BTD = context_BTD + self.features(codes)
        return torch.where(batch.keep_BT[..., None], self.dropout(context_BTD), 0)


class UserSide(nn.Module):
    """What asks beside the history: the user's profile plus the situation.

    Args:
        profile: what is known of the users; its row 0 is the unknown user. A batch's
            situation may tell the profile instead, in columns whose names begin with
            `PROFILE`.
        situation: what is known of the moment, read from the batch's situation.
    """

    def __init__(
        self, profile: FeatureTable | None, situation: FeatureEmbedding | None
    ) -> None:
        super().__init__()
        self.profile, self.situation = profile, situation

    def forward(self, batch: Batch) -> Tensor | None:
        """One vector a question, (B, 1, D), or (B, T, D) where each position asks.

        None where nothing is known.
        """
        user = None
        if self.profile is not None:
            names = self.profile.embedding.names
            told = [batch.situation.get(PROFILE + name) for name in names]
            known = [codes for codes in told if codes is not None]
            if known:
                user = self.profile.embedding(known)
            else:
                user = self.profile(batch.users_B + 1)[:, None]
        if self.situation is None:
            return user
        codes = [batch.situation[name] for name in self.situation.names]
        situation = self.situation(codes)
        return situation if user is None else user + situation
