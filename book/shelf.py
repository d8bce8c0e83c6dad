"""A shelf of promotions: which past purchases each of them wakes up. A widget.

The reader chooses a promotion, and takes past purchases away. What is left is weighed
anew, and the promotion's chance is computed from it in the page, by the last layers of
the trained ranker.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from widget import Widget, cut

from attncore.ranking.batches import SlateWindows

if TYPE_CHECKING:
    from attncore.ranking.ranker import Ranker
    from attncore.ranking.slates import Slates

ROW, TOP = 33, 26
LEAST = 0.1  # weight of what is awake
NOTHING = "nothing of the past"


@torch.no_grad()
def shelf(
    model: Ranker,
    slates: Slates,
    rows: Sequence[int],
    names: Mapping[Any, str],
    details: Mapping[Any, str],
    title: str,
    *,
    promotions: int = 8,
    purchases: int = 7,
    caption: str = "",
    name: str = "",
) -> Widget:
    """Households, the promotions that a ranker puts on top, and what wakes them up.

    Args:
        model: with target attention.
        slates: a holdout of its split.
        rows: slates, one a household.
        names: what each item is called.
        details: what is added to a name that two items of a picture share.
        title: what there is to see and to do.
        promotions: how many of each slate, the best first.
        purchases: how many of the past are shown, those that get most weight; all
            others are one row together.
        caption, name: of a numbered figure of the book.

    Raises:
        ValueError: the ranker has no target attention, or a slate no past to show.
    """
    if model.config.attention != "target":
        raise ValueError(f"needs target attention; this is {model.config.attention!r}")
    model.eval()
    homes = [
        _home(model, slates, row, names, details, promotions, purchases) for row in rows
    ]
    hidden, _, _, last = model.output
    layer = model.encoder.attention
    tables = {
        "join": layer.out_proj.weight,
        "joinBias": layer.out_proj.bias,
        "inside": hidden.weight,
        "insideBias": hidden.bias,
        "last": last.weight,
        "lastBias": last.bias,
    }
    first = homes[0]
    told = _says(first["promotions"][0], first["items"])
    return Widget(
        "shelf",
        title,
        _picture(first),
        (360, TOP + ROW * (len(first["items"]) + 2) + 26),
        told,
        {
            "homes": homes,
            "tables": {n: _packed(table) for n, table in tables.items()},
            "heads": model.config.heads,
        },
        style=("widget.css", "shelf.css"),
        script="shelf.js",
        caption=caption,
        name=name,
    )


def _home(
    model: Ranker,
    slates: Slates,
    row: int,
    names: Mapping[Any, str],
    details: Mapping[Any, str],
    promotions: int,
    purchases: int,
) -> dict[str, Any]:
    """One household: what the page needs to weigh its past anew."""
    heads, length = model.config.heads, model.config.length
    batch = SlateWindows(slates, model.features.situation, length).whole(row)
    scores = model.scores(batch)[0]
    top = scores.argsort(descending=True, stable=True)[:promotions]
    asks, attended, layers = model.attended(batch, need_weights=True)
    layer = model.encoder.attention
    weights = layers[-1][0][:, top]  # (H, N, 1 + K)
    values = layer.value(model.encoder.norm_context(model.context(batch)))[0]
    values = values.unflatten(-1, (heads, -1)).transpose(0, 1)  # (H, 1 + K, E)
    found = batch.items_BT[0]
    most = weights[..., 1:].amax((0, 1)).masked_fill(found == 0, -1)
    shown = most.argsort(descending=True, stable=True)[:purchases].sort().values
    shown = shown[most[shown] >= 0]
    if len(shown) == 0:
        raise ValueError(f"slate {row}: the household has no past")
    kept = torch.cat([torch.zeros(1, dtype=shown.dtype), 1 + shown])
    others = torch.ones(weights.shape[-1], dtype=torch.bool)
    others[kept] = False
    rest = weights[..., others]
    rest_sum = rest.sum(-1, keepdim=True)
    rest_value = rest @ values[:, others] / rest_sum.clamp_min(1e-12)  # (H, N, E)

    # What the page will compute, from the same parts.
    again = weights[..., kept] @ values[:, kept] + rest_sum * rest_value
    joined = layer.out_proj(again.transpose(0, 1).flatten(-2))
    if not torch.allclose(joined, attended[0, top], atol=1e-3):
        raise ValueError("attended vectors are not the weighted values; another ranker")
    inside = torch.cat([asks[0, top], joined, asks[0, top] * joined], -1)
    constant = scores[top] - model.output(inside)[:, 0]

    ids = model.split.items.decode(found[shown].numpy())
    offered = model.split.items.decode(batch.candidates_BN[0, top].numpy())
    asof = model.slate_attention(slates, row, [offered[0]])
    asof = asof[asof["head"] == 0].iloc[1:]
    columns = asof.set_index("item")[["count", "days"]]
    bought = [
        {"name": called, "count": int(columns["count"][i]), "days": round(days)}
        for called, i in zip(_apart(ids, names, details), ids, strict=True)
        for days in [float(columns["days"][i])]
    ]
    many = int((found > 0).sum()) - len(shown)
    all_weights = torch.cat([weights[..., kept], rest_sum], -1)
    return {
        "items": bought,
        "rest": f"{many} other products",
        "values": _short(values[:, kept].transpose(0, 1).flatten(1), 4),
        "promotions": [
            {
                "name": called,
                "chance": round(float(scores[top[n]].sigmoid()), 5),
                "constant": round(float(constant[n]), 4),
                "asks": _short(asks[0, top[n]], 4),
                "weights": _short(all_weights[:, n], 5),
                "rest": _short(rest_value[:, n].flatten(), 4),
            }
            for n, called in enumerate(_apart(offered, names, details))
        ],
    }


def _apart(
    ids: Sequence[Any], names: Mapping[Any, str], details: Mapping[Any, str]
) -> list[str]:
    """A name for each item that no other has: with its detail, or a number."""
    plain = [str(names.get(i, "unknown")) for i in ids]
    often = Counter(plain)
    told = [
        f"{called}, {details[i]}"
        if often[called] > 1 and str(details.get(i, "nan")) != "nan"
        else called
        for called, i in zip(plain, ids, strict=True)
    ]
    seen: Counter[str] = Counter()
    for n, called in enumerate(told):
        seen[called] += 1
        if seen[called] > 1:
            told[n] = f"{called} ({seen[called]})"
    return told


def _short(values: Tensor, digits: int) -> Any:
    return np.round(values.double().numpy(), digits).tolist()


def _packed(table: Tensor) -> list[Any]:
    """A table as whole numbers of 16 bits and what they are times."""
    values = table.detach().double()
    scale = float(values.abs().max().clamp_min(1e-9) / 32767)
    whole = (values / scale).round().to(torch.int16).numpy().astype("<i2")
    return [base64.b64encode(whole.tobytes()).decode(), list(values.shape), scale]


def _awake(weights: Sequence[Sequence[float]]) -> int:
    """The shown purchase that gets most weight of any head; 0 if none gets a tenth."""
    most = np.max(weights, axis=0)[1:-1]
    return 1 + int(most.argmax()) if most.max() >= LEAST else 0


def _says(one: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> str:
    """What a promotion wakes up, in a sentence; shelf.js says the same."""
    awake = _awake(one["weights"])
    if awake == 0:
        return f"{one['name']} wakes up none of these purchases."
    column = [row[awake] for row in one["weights"]]
    head = int(np.argmax(column))
    return (
        f"{one['name']} wakes up {items[awake - 1]['name']}: {column[head]:.2f} of head"
        f" {head + 1}."
    )


def since(item: Mapping[str, Any]) -> str:
    """How often and how long ago, in words; shelf.js says the same."""
    times = "once" if item["count"] == 1 else f"{item['count']} times"
    days = {0: "today", 1: "yesterday"}.get(item["days"], f"{item['days']} days ago")
    return f"{times}, {days}" if item["count"] == 1 else f"{times}, last {days}"


def _picture(home: Mapping[str, Any]) -> str:
    """The past and each head's weights, a row each; shelf.js writes the same."""
    one = home["promotions"][0]
    weights = one["weights"]
    rows = [
        (NOTHING, "where else to look"),
        *((item["name"], since(item)) for item in home["items"]),
        (home["rest"], "together"),
    ]
    awake = _awake(weights)
    parts = [
        f'<text class="w-head" x="{206 + 78 * h}" y="16">head {h + 1}</text>'
        for h in range(len(weights))
    ]
    for i, (called, more) in enumerate(rows):
        y = TOP + ROW * i
        kind = "s-row s-awake" if i == awake > 0 else "s-row"
        bars = "".join(
            f'<rect class="w-bar w-weight" x="{206 + 78 * h}" y="{y + 4}"'
            f' width="{40 * row[i]:.1f}" height="18"/>'
            f'<text class="w-in" x="{210 + 78 * h + 40 * row[i]:.1f}" y="{y + 18}">'
            f"{row[i]:.2f}</text>"
            for h, row in enumerate(weights)
        )
        parts.append(
            f'<g class="{kind}" data-item="{i}"><text class="s-name" x="28"'
            f' y="{y + 12}">{escape(cut(called, 25))}</text>'
            f'<text class="w-head" x="28" y="{y + 26}">{escape(more)}</text>{bars}</g>'
        )
    y = TOP + ROW * len(rows) + 16
    parts.append(
        f'<text class="s-chance" x="2" y="{y}">{escape(cut(one["name"], 34))}: taken in'
        f" {100 * one['chance']:.1f} of 100</text>"
    )
    return "".join(parts)
