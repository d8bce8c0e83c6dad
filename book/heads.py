"""One matrix from dot products, split into heads and joined: a widget for chapter 4.

The tables stand as a product is written on paper: the keys above, turned, the queries
on the left, and where a row and a column meet their dot product; below, the values
meet the weights and become attended vectors. heads.js goes on from the first picture.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import torch
from torch import Tensor
from widget import Widget, cut

from attncore import attention

LEFT, CELL, ROW = 66, 30, 30  # names on the left; a number of a vector; a row of scores
WIDE = 358


def heads(
    query: Any,
    key: Any,
    value: Any,
    queries: Sequence[str],
    events: Sequence[str],
    features: Sequence[str],
    title: str,
    *,
    caption: str = "",
    name: str = "",
) -> Widget:
    """Queries and keys whose dot products the reader points at, in one head or more.

    Numbers are rounded to two decimals first, so that a worked sum adds up.

    Args:
        query: (L, E), before it is split into heads.
        key, value: (K, E).
        queries, events: L and K names.
        features: what the E numbers are called.
        title: what there is to see and to do.
        caption, name: of a numbered figure of the book.

    Raises:
        ValueError: shapes and names that do not fit, or too many for a phone.
    """
    tables = [
        torch.as_tensor(one, dtype=torch.float64).detach().cpu().round(decimals=2)
        for one in (query, key, value)
    ]
    width = len(features)
    wanted = [(len(queries), width), (len(events), width), (len(events), width)]
    if [tuple(one.shape) for one in tables] != wanted:
        shapes = ", ".join(str(tuple(one.shape)) for one in tables)
        raise ValueError(f"query, key, value {shapes}; the names ask for {wanted}")
    left = LEFT + CELL * width + 12
    if width < 2 or len(queries) > 4 or (WIDE - left) / len(events) < 32:
        raise ValueError(
            f"{len(queries)} queries, {len(events)} events and width {width} do not fit"
            " a phone: take at most 4 queries and, of width 4, 5 events"
        )
    asks, looked, _ = tables
    products = asks[0] * looked[0]
    total = f"{queries[0]} · {events[0]} = {few(products.sum())}"
    return Widget(
        "heads",
        title,
        _picture(*tables, queries, events, features),
        (360, _places(len(queries), width)[3]),
        f"{total}. Each cell is a row of query times a column of key.",
        {
            "query": asks.tolist(),
            "key": looked.tolist(),
            "value": tables[2].tolist(),
            "queries": list(queries),
            "events": list(events),
            "features": list(features),
        },
        style=("widget.css", "heads.css"),
        script="heads.js",
        caption=caption,
        name=name,
    )


def two(number: Any) -> str:
    """A number with two decimals, halves away from zero, as JavaScript rounds."""
    number = float(number)
    number = 0.0 if abs(number) < 0.005 else math.copysign(abs(number) + 1e-9, number)
    return f"{number:.2f}"


def few(number: Any) -> str:
    """A number with at most two decimals, and no more of them than it has."""
    return two(number).rstrip("0").rstrip(".")


def _in_two(name: str) -> list[str]:
    """A name on one line, or on two where it has the words for it."""
    first, *rest = name.split(" ")
    while rest and len(first) + 1 + len(rest[0]) <= 10:
        first = f"{first} {rest.pop(0)}"
    return [cut(line, 11) for line in (first, " ".join(rest)) if line]


def _places(many: int, width: int) -> tuple[int, int, int, int]:
    """Where keys, queries and values begin from above, and where all ends."""
    keys = 62
    asks = keys + 24 * width + 24
    values = asks + ROW * many + 26
    return keys, asks, values, values + 24 * width + 4


def _picture(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    queries: Sequence[str],
    events: Sequence[str],
    features: Sequence[str],
) -> str:
    """Dot products of one head, the first of them lit; heads.js writes the same."""
    width = len(features)
    attended, _ = attention.attend(query, key, value)
    keys, asks, values, _ = _places(len(queries), width)
    left = LEFT + CELL * width + 12
    pitch = (WIDE - left) / len(events)
    across = min(40.0, CELL * width / len(queries))
    scores = query @ key.T
    most = float(scores.abs().max()) or 1.0
    parts = [
        f'<text class="w-head" transform="translate({left + (j + 0.35) * pitch:.1f}'
        f' {keys - 6}) rotate(-35)">{escape(cut(name, 13))}</text>'
        for j, name in enumerate(events)
    ]
    parts += [
        _label(left - 8, keys - 6, "key", "end"),
        _label(LEFT, asks - 6, "query", "start"),
        _label(left, asks - 6, "dot products", "start"),
        _label(LEFT, values - 6, "attended", "start"),
        _label(left, values - 6, "value", "start"),
    ]
    for d, name in enumerate(features):
        for x, y in ((left - 8, keys), (LEFT - 6, values)):
            parts.append(
                f'<text class="w-head" x="{x}" y="{y + 24 * d + 15.5}"'
                f' text-anchor="end">{escape(cut(name, 10))}</text>'
            )
    for j in range(len(events)):
        for d in range(width):
            x = left + j * pitch
            for kind, table, y in (("key", key, keys), ("value", value, values)):
                number = float(table[j, d])
                parts.append(
                    _cell(
                        f"h-{kind}",
                        f"{d}.{j}",
                        (x, y + 24 * d, pitch - 3, 21),
                        kind,
                        _shade(number),
                        few(number),
                        lit=kind == "key" and j == 0,
                    )
                )
    for i, name in enumerate(queries):
        y = asks + ROW * i
        lines = _in_two(name)
        parts += [
            f'<text class="w-head" x="{LEFT - 6}" text-anchor="end"'
            f' y="{y + 17.5 - 6.5 * (len(lines) - 1) + 13 * n}">{escape(line)}</text>'
            for n, line in enumerate(lines)
        ]
        for d in range(width):
            number = float(query[i, d])
            box = (LEFT + CELL * d, y, CELL - 3, ROW - 3)
            parts.append(
                _cell(
                    "h-query",
                    f"{i}.{d}",
                    box,
                    "query",
                    _shade(number),
                    few(number),
                    lit=i == 0,
                )
            )
        for j in range(len(events)):
            number = float(scores[i, j])
            box = (left + j * pitch, y, pitch - 3, ROW - 3)
            shade = 0.05 + 0.45 * abs(number) / most
            parts.append(
                _cell(
                    "h-score",
                    f"{i}.{j}",
                    box,
                    "weight",
                    shade,
                    two(number),
                    lit=i == j == 0,
                )
            )
    for i in range(len(queries)):
        for d in range(width):
            number = float(attended[i, d])
            box = (LEFT + across * i, values + 24 * d, across - 3, 21)
            parts.append(
                _cell("h-sum", f"{d}.{i}", box, "value", _shade(number), two(number))
            )
    return "".join(parts)


def _label(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text class="w-name" x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'


def _cell(
    kind: str,
    place: str,
    box: tuple[float, float, float, float],
    role: str,
    shade: float,
    words: str,
    lit: bool = False,
) -> str:
    x, y, width, height = box
    return (
        f'<g class="{kind}{" h-lit" if lit else ""}" data-cell="{place}">'
        f'<rect class="w-cell w-{role}"'
        f' x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" rx="3"'
        f' fill-opacity="{shade:.2f}"/><text class="h-in"'
        f' x="{x + width / 2:.1f}" y="{y + height / 2 + 4}" text-anchor="middle">'
        f"{words}</text></g>"
    )


def _shade(number: float) -> float:
    return 0.08 + 0.5 * min(1.0, abs(number) / 4)
