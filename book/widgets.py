"""The widgets: pictures that compute what they show, in the page, without a kernel.

Each function returns a `Widget`, which a notebook shows as its output when it is a
cell's last line. The first picture is SVG, drawn here with numbers of the module's own
functions; widget.js computes and redraws everything once a reader moves something.
A test in a browser holds the two together. Without scripts, and on paper, the first
picture stays.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from heads import heads
from questions import question
from shelf import shelf
from torch import Tensor
from widget import Widget, cut

from attncore import attention

if TYPE_CHECKING:
    from attncore.recommender import Recommender

__all__ = [
    "Widget",
    "heads",
    "loss_dial",
    "order_and_masks",
    "question",
    "sampled_metric",
    "shelf",
    "softmax_dials",
    "stepper",
    "talk",
]

MOST = 6  # events that a reader may put together
BEST = 10  # recommended items


def stepper(
    history: Mapping[str, Sequence[float]],
    candidates: Mapping[str, Sequence[float]],
    features: Sequence[str],
    query_map: Any,
    key_map: Any,
    value_map: Any,
    title: str,
) -> Widget:
    """Attention, one step at a time, over a history whose numbers the reader turns.

    Args:
        history: D numbers for each past item, oldest first.
        candidates: D numbers for each item that may ask.
        features: what the D numbers are called.
        query_map, key_map, value_map: tables (D, D); a vector times a table is its
            query, key or value.
        title: what there is to see and to do.

    Raises:
        ValueError: a vector or a table has another size than D.
    """
    width = len(features)
    context = torch.tensor(list(history.values()), dtype=torch.float64)
    asked = torch.tensor(list(candidates.values()), dtype=torch.float64)
    maps = [
        torch.as_tensor(table, dtype=torch.float64)
        for table in (query_map, key_map, value_map)
    ]
    shapes = {context.shape[1:], asked.shape[1:]} | {table.shape[1:] for table in maps}
    if shapes != {(width,)} or any(len(table) != width for table in maps):
        raise ValueError(
            f"{width} features need vectors of {width} numbers and maps of {width} x"
            f" {width}"
        )
    query, key, value = (
        vectors @ table
        for vectors, table in zip((asked, context, context), maps, strict=True)
    )
    attended, weights = attention.attend(query, key, value)
    scores = (attended * asked).sum(-1)
    top = int(weights[0].argmax())
    names, asking = list(history), list(candidates)
    told = (
        f"{asking[0]} looks most at {names[top]}, weight {weights[0, top]:.2f};"
        + " the scores are "
        + " and ".join(
            f"{n} {s:.2f}" for n, s in zip(asking, scores.tolist(), strict=True)
        )
        + "."
    )
    return Widget(
        "stepper",
        title,
        _stepper_picture(
            names, asking, features, value, asked, attended[0], weights[0], scores
        ),
        (360, 18 + max(60 * len(names), 60 * len(asking) + 52 + 18 * len(asking))),
        told,
        {
            "history": names,
            "candidates": asking,
            "features": list(features),
            "context": context.tolist(),
            "asked": asked.tolist(),
            "maps": [table.tolist() for table in maps],
        },
    )


def softmax_dials(scores: Any, events: Sequence[str], title: str) -> Widget:
    """Scores that the reader turns, and the attention weights that they become.

    Args:
        scores: (K,), before the softmax.
        events: K names.
        title: what there is to see and to do.

    Raises:
        ValueError: `scores` is not K numbers.
    """
    row = _numbers(scores, len(events))
    weights = attention.softmax(row)
    rows = [
        (name, weight, f"{weight:.2f}")
        for name, weight in zip(events, weights.tolist(), strict=True)
    ]
    best = int(weights.argmax())
    return Widget(
        "softmax",
        title,
        _bars(rows, "weight"),
        (360, 26 * len(rows)),
        f"Most weight: {rows[best][0]}, {rows[best][2]}.",
        {"names": list(events), "scores": _rounded(row)},
    )


def loss_dial(scores: Any, items: Sequence[str], target: int, title: str) -> Widget:
    """The score of the right item among all, its probability, its loss, its gradient.

    Args:
        scores: (V,), of every item of a small catalogue.
        items: V names.
        target: place of the item that was really taken.
        title: what there is to see and to do.

    Raises:
        ValueError: `scores` is not V numbers, or `target` is none of their places.
    """
    row = _numbers(scores, len(items))
    if not 0 <= target < len(items):
        raise ValueError(f"target {target}: must be from 0 to {len(items) - 1}")
    chance = attention.softmax(row)
    gradient = chance.clone()
    gradient[target] -= 1
    rows = [
        (name + (" ✓" if j == target else ""), share, f"{share:.2f} ({pull:+.2f})")
        for j, (name, share, pull) in enumerate(
            zip(items, chance.tolist(), gradient.tolist(), strict=True)
        )
    ]
    return Widget(
        "loss",
        title,
        _bars(rows, "query"),
        (360, 26 * len(rows)),
        f"{items[target]} has probability {chance[target]:.2f}.",
        {"names": list(items), "scores": _rounded(row), "target": target},
    )


def sampled_metric(items: int, rank: int, k: int, sample: int, title: str) -> Widget:
    """What a rank is worth in the full catalogue, and among a few items drawn from it.

    Args:
        items: in the catalogue, with the true one.
        rank: of the true item; 1 is best.
        k: how long the list is.
        sample: how many wrong items are drawn.
        title: what there is to see and to do.

    Raises:
        ValueError: a rank or a sample that the catalogue does not have.
    """
    if not 1 <= rank <= items or not 1 <= sample < items:
        raise ValueError(
            f"rank {rank} and sample {sample}: need 1 to {items:,} and less than"
            f" {items:,}"
        )
    values = [*_full(rank, k), *_among(items, rank, k, sample)]
    names = ["hit rate", "NDCG", "hit rate, sampled", "NDCG, sampled"]
    rows = [(n, v, f"{v:.3f}") for n, v in zip(names, values, strict=True)]
    return Widget(
        "evaluation",
        title,
        _bars(rows, "query"),
        (360, 26 * len(rows)),
        ", ".join(f"{name} {value}" for name, _, value in rows) + ".",
        {"items": items, "rank": rank, "k": k, "sample": sample},
    )


def _full(rank: int, k: int) -> tuple[float, float]:
    return (1.0, 1 / math.log2(rank + 1)) if rank <= k else (0.0, 0.0)


def _among(items: int, rank: int, k: int, sample: int) -> tuple[float, float]:
    """Hit rate and NDCG, in the mean over all draws of wrong items.

    How many of the better items are drawn is hypergeometric.
    """
    better, worse = rank - 1, items - rank
    chances = [
        math.comb(better, above) * math.comb(worse, sample - above)
        for above in range(min(k, better + 1, sample + 1))
    ]
    draws = math.comb(items - 1, sample)
    hit = sum(chances) / draws
    gain = sum(c / draws / math.log2(above + 2) for above, c in enumerate(chances))
    return hit, gain


def order_and_masks(
    scores: Any, events: Sequence[str], title: str, step: float = 0.5
) -> Widget:
    """Events that ask each other: the reader moves them, and says who may look at whom.

    Args:
        scores: (T, T), a row for each event that asks, oldest first.
        events: T names.
        title: what there is to see and to do.
        step: how much a score falls with each place between two events, as long as
            positions count.

    Raises:
        ValueError: `scores` is not T x T, or T is less than 2.
    """
    count = len(events)
    table = torch.as_tensor(scores, dtype=torch.float64).detach().cpu()
    if table.shape != (count, count) or count < 2:
        raise ValueError(
            f"scores {tuple(table.shape)} for {count} events; give a row and a column"
            " for each of two or more"
        )
    places = torch.arange(count)
    apart = (places[:, None] - places).abs()
    keep = attention.causal_keep(count, count)
    weights = attention.softmax(table - step * apart, keep)
    top = int(weights[-1].argmax())
    return Widget(
        "order",
        title,
        _table(events, weights.tolist(), keep.tolist()),
        (360, 60 + 34 * count),
        f"{events[-1]}, the newest, looks most at {events[top]},"
        f" {weights[-1, top]:.2f}. The further back, the less.",
        {"names": list(events), "scores": _rounded(table), "step": step},
    )


def talk(
    model: Recommender, names: Mapping[Any, str], history: Sequence[Any], title: str
) -> Widget:
    """A trained model in the page: the reader puts a history together, and it answers.

    The model's matrices travel with the page as whole numbers from -127 to 127 and a
    scale each, and what it says is what a model with these rounded matrices says.

    Args:
        model: with self-attention, of the plainest kind: no gates, no transition, no
            features; positions relative, learned or none.
        names: what every item of the catalogue is called.
        history: item ids, oldest first, to begin with.
        title: what there is to see and to do.

    Raises:
        ValueError: another kind of model, or a history of none or more than 6 items.
    """
    c = model.config
    plain = c.attention == "self" and not (
        c.gated
        or c.transition
        or c.temperature
        or c.combine != "attended"
        or c.positions == "newest"
        or c.relative == "time"
        or c.item_features
        or c.user_features
        or c.event_features
        or c.situation_features
    )
    if not plain or not 1 <= len(history) <= MOST:
        raise ValueError(
            f"needs plain self-attention and 1 to {MOST} items; this is"
            f" {c.attention!r} with {len(history)}"
        )
    rounded, tables = _in_whole_numbers(model)
    ids = model.split.items.ids
    seen = list(history)
    (best,) = rounded.recommend(histories=[seen], k=BEST, exclude_seen=True)
    looked = rounded.attention(histories=[seen])
    looked = looked[looked["layer"] == c.blocks - 1].sort_values(["head", "event"])
    weights = looked["weight"].to_numpy().reshape(c.heads, len(seen))
    fell = rounded.erasure(histories=[seen], candidates=best.items[:1])
    drops = fell.sort_values("event")["drop"].tolist()
    called = [str(names[item]) for item in seen]
    top = str(names[best.items[0]])
    return Widget(
        "talk",
        title,
        _talk_picture(called, weights.tolist(), drops, top),
        (360, 40 + 26 * MOST),
        f"After {called[-1]}, the best next is {top}.",
        {
            "names": [str(names[item]) for item in ids],
            "history": [int(i) - 1 for i in model.split.items.encode(seen)],
            "heads": c.heads,
            "blocks": c.blocks,
            "most": MOST,
            "best": BEST,
            "tables": tables,
        },
    )


@torch.no_grad()
def _in_whole_numbers(model: Recommender) -> tuple[Recommender, dict[str, Any]]:
    """A copy whose matrices are whole numbers times a scale; and all that it needs."""
    copy = deepcopy(model).eval()
    tables: dict[str, Any] = {}
    for name, parameter in copy.named_parameters():
        values = parameter.detach().double()
        if parameter.dim() < 2:
            values = values.round(decimals=4)
            tables[name] = values.tolist()
        else:
            scale = float(values.abs().max().clamp_min(1e-9) / 127)
            whole = (values / scale).round()
            values = whole * scale
            packed = base64.b64encode(whole.to(torch.int8).numpy().tobytes()).decode()
            tables[name] = [packed, list(values.shape), scale]
        parameter.copy_(values)
    return copy, tables


def _talk_picture(
    names: Sequence[str],
    weights: Sequence[Sequence[float]],
    drops: Sequence[float],
    top: str,
) -> str:
    """The past, each head's weights, what erasure says; widget.js writes the same."""
    heads = len(weights)
    most = max(0.05, *(abs(drop) for drop in drops))
    middle = (150 + 56 * heads + 318) / 2
    parts = [
        f'<text class="w-head" x="{150 + 56 * h}" y="30">head {h + 1}</text>'
        for h in range(heads)
    ]
    parts.append(
        f'<text class="w-head" x="358" y="14" text-anchor="end">'
        f"score of {escape(cut(top, 24))} lost without it</text>"
        f'<path class="w-axis" d="M{middle:.1f} 22V{40 + 26 * len(names)}"/>'
    )
    for i, name in enumerate(names):
        y = 40 + 26 * i
        parts.append(
            f'<text class="w-row" x="146" y="{y + 14}" text-anchor="end">'
            f"{escape(cut(name, 21))}</text>"
        )
        for h in range(heads):
            long = 28 * weights[h][i]
            parts.append(
                f'<rect class="w-bar w-weight" x="{150 + 56 * h}" y="{y}"'
                f' width="{long:.1f}" height="18"/>'
                f'<text class="w-in" x="{152 + 56 * h + long:.1f}" y="{y + 14}">'
                f"{weights[h][i]:.2f}</text>"
            )
        long = 22 * abs(drops[i]) / most
        left = middle - (long if drops[i] < 0 else 0)
        kind = "w-less" if drops[i] < 0 else "w-value"
        parts.append(
            f'<rect class="w-bar {kind}" x="{left:.1f}" y="{y}" width="{long:.1f}"'
            f' height="18"/><text class="w-in" x="358" y="{y + 14}"'
            f' text-anchor="end">{drops[i]:+.1f}</text>'
        )
    return "".join(parts)


def _numbers(scores: Any, count: int) -> Tensor:
    row = torch.as_tensor(scores, dtype=torch.float64).detach().cpu()
    if row.shape != (count,) or count == 0:
        raise ValueError(
            f"scores {tuple(row.shape)} for {count} names; give one number for each"
        )
    return row


def _rounded(numbers: Tensor) -> Any:
    """Numbers as short as a page needs them."""
    return np.round(numbers.numpy(), 4).tolist()


def _bars(rows: Sequence[tuple[str, float, str]], kind: str) -> str:
    """A bar for each name; widget.js writes the same."""
    return "".join(
        f'<text class="w-row" x="132" y="{26 * i + 17}" text-anchor="end">'
        f"{escape(cut(name, 20))}</text>"
        f'<rect class="w-bar w-{kind}" x="138" y="{26 * i + 4}"'
        f' width="{138 * value:.1f}" height="18"/>'
        f'<text class="w-number" x="{142 + 138 * value:.1f}"'
        f' y="{26 * i + 17}">{escape(label)}</text>'
        for i, (name, value, label) in enumerate(rows)
    )


def _table(
    names: Sequence[str],
    weights: Sequence[Sequence[float]],
    keep: Sequence[Sequence[bool]],
) -> str:
    """Who looks (rows) at whom (columns); widget.js writes the same."""
    pitch = 204 / len(names)
    heads = "".join(
        f'<text class="w-head" transform="translate({132 + (j + 0.3) * pitch:.1f} 54)'
        f' rotate(-38)">{escape(cut(name, 11))}</text>'
        for j, name in enumerate(names)
    )
    return heads + "".join(
        f'<text class="w-row" x="126" y="{60 + 34 * i + 20}" text-anchor="end">'
        f"{escape(cut(name, 18))}</text>"
        + "".join(
            f'<g class="w-pair" data-pair="{i}.{j}"><rect class="w-cell w-weight"'
            f' x="{132 + j * pitch:.1f}" y="{60 + 34 * i}" width="{pitch - 3:.1f}"'
            f' height="30" rx="3"'
            f' fill-opacity="{0.05 + 0.75 * weights[i][j] if may else 0:.2f}"/>'
            f'<text class="w-in" x="{132 + (j + 0.5) * pitch - 1.5:.1f}"'
            f' y="{60 + 34 * i + 20}" text-anchor="middle">'
            f"{f'{weights[i][j]:.2f}' if may else '–'}</text></g>"
            for j, may in enumerate(keep[i])
        )
        for i, name in enumerate(names)
    )


def _stepper_picture(
    names: Sequence[str],
    asking: Sequence[str],
    features: Sequence[str],
    value: Tensor,
    asked: Tensor,
    attended: Tensor,
    weights: Tensor,
    scores: Tensor,
) -> str:
    """Cards of the past on the left, who asks on the right, a link for each weight."""
    parts = [
        _text(4 + 46 * d + 22, 11, name, "w-head", "middle")
        for d, name in enumerate(features)
    ]
    for i, weight in enumerate(weights.tolist()):
        y = 18 + 60 * i + 26
        parts.append(
            f'<path class="w-link" data-link="{i}" d="M222 44C186 44 186 {y} 150 {y}"'
            f' stroke-width="{0.5 + 14 * weight:.2f}"/>'
        )
    for i, name in enumerate(names):
        parts.append(_card("film", i, 2, 18 + 60 * i, name, value[i].tolist(), "value"))
    for i, weight in enumerate(weights.tolist()):
        parts.append(
            _text(156, 18 + 60 * i + 31, f"{weight:.2f}", "w-number", data=f"link-{i}")
        )
    for i, name in enumerate(asking):
        parts.append(
            _card("candidate", i, 224, 18 + 60 * i, name, asked[i].tolist(), "context")
        )
    y = 18 + 60 * len(asking) + 12
    parts.append(
        f'<g data-sum="">{_text(228, y, "attended vector", "w-name")}'
        f"{_cells(229, y + 6, attended.tolist(), 'value', 43)}"
    )
    for i, score in enumerate(scores.tolist()):
        kind = "w-best" if score == scores.max() else ""
        parts.append(_text(228, y + 46 + 18 * i, cut(asking[i], 14), kind))
        parts.append(
            _text(358, y + 46 + 18 * i, f"{score:.2f}", kind, "end", f"score-{i}")
        )
    parts.append("</g>")
    return "".join(parts)


def _card(
    kind: str,
    i: int,
    x: int,
    y: int,
    name: str,
    vector: Sequence[float],
    role: str,
) -> str:
    """A film with its numbers; the script makes it a button."""
    width = 148 if kind == "film" else 136
    return (
        f'<g class="w-card" data-{kind}="{i}"><rect class="w-box" x="{x}" y="{y}"'
        f' width="{width}" height="52" rx="6"/>'
        f'<text class="w-name" x="{x + 6}" y="{y + 17}"{_squeezed(name, width - 12)}>'
        f"{escape(cut(name, 24))}</text>"
        + _cells(x + 5, y + 24, vector, role, 46 if kind == "film" else 43)
        + "</g>"
    )


def _cells(x: int, y: int, vector: Sequence[float], role: str, pitch: int) -> str:
    """A vector as a row of boxes; the fuller the colour, the larger the number."""
    return "".join(
        f'<rect class="w-cell w-{role}" x="{x + pitch * d}" y="{y}"'
        f' width="{pitch - 3}" height="22" rx="3" fill-opacity="{_shade(number):.2f}"/>'
        + _text(x + pitch * d + (pitch - 3) / 2, y + 15.5, f"{number:.2f}", "w-in")
        for d, number in enumerate(vector)
    )


def _squeezed(name: str, room: int) -> str:
    """What keeps a long name within its card."""
    fits = f' textLength="{room}" lengthAdjust="spacingAndGlyphs"'
    return fits if len(name) * 6.6 > room else ""


def _shade(number: float) -> float:
    return 0.08 + 0.5 * min(1.0, abs(number) / 4)


def _text(
    x: float, y: float, words: str, kind: str, anchor: str = "start", data: str = ""
) -> str:
    at = f' data-at="{data}"' if data else ""
    anchor = "middle" if kind == "w-in" else anchor
    return (
        f'<text class="{kind}"{at} x="{x:g}" y="{y:g}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )
