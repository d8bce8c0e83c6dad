"""The drawings of Part I that are made by hand: records, keys, heads and masks.

Each is one call in a notebook. The same thing has the same colour as everywhere:
queries are blue, keys orange, values green, weights grey.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from figures import picture

QUERY, KEY, VALUE = "var(--f-blue)", "var(--f-orange)", "var(--f-green)"
WEIGHT, PAPER = "var(--f-grey)", "var(--f-paper)"


def _text(
    x: float,
    y: float,
    words: str,
    colour: str = "",
    anchor: str = "start",
    size: int = 12,
) -> str:
    ink = f' fill="{colour}"' if colour else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"{ink}>'
        f"{words}</text>"
    )


def _cells(
    x: float, y: float, numbers: Iterable[float], colour: str, side: float = 22
) -> str:
    """A vector as a row of cells with a number each, filled as strongly as it is
    large."""
    numbers = list(numbers)
    most = max(map(abs, numbers), default=0) or 1
    parts = []
    for i, number in enumerate(numbers):
        left = x + i * side
        parts.append(
            f'<rect x="{left}" y="{y}" width="{side}" height="{side}" fill="{colour}"'
            f' fill-opacity="{0.3 * abs(number) / most:.2f}" stroke="{colour}"/>'
        )
        parts.append(
            _text(left + side / 2, y + side / 2 + 4, f"{number:g}", "", "middle")
        )
    return "".join(parts)


def _arrow(x1: float, y1: float, x2: float, y2: float, colour: str = WEIGHT) -> str:
    """A line with a head, for lines that run to the right or downwards."""
    if abs(x2 - x1) >= abs(y2 - y1):
        head = f"{x2 - 7},{y2 - 4} {x2},{y2} {x2 - 7},{y2 + 4}"
    else:
        head = f"{x2 - 4},{y2 - 7} {x2},{y2} {x2 + 4},{y2 - 7}"
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"'
        f' stroke-width="1.5"/><polyline points="{head}" fill="none" stroke="{colour}"'
        ' stroke-width="1.5"/>'
    )


def two_faces(**told: str) -> None:
    """One record, its key and its value; the call, its query; and their score."""
    names = ("jazz", "soul", "Velvet", "Copper")
    picture(
        _text(8, 34, "the record")
        + _text(8, 54, "Copper jazz", size=14)
        + _cells(8, 64, (1, 0, 0, 1), WEIGHT, 40)
        + "".join(
            _text(28 + 40 * i, 118, n, "", "middle", 11) for i, n in enumerate(names)
        )
        + _arrow(172, 76, 226, 46, KEY)
        + _arrow(172, 92, 226, 128, VALUE)
        + _text(234, 22, "found by its key", KEY)
        + _cells(234, 30, (1, 0), KEY, 30)
        + _text(300, 49, "jazz", "", "start", 11)
        + _text(234, 112, "says its value", VALUE)
        + _cells(234, 120, (0, 1), VALUE, 30)
        + _text(300, 139, "Copper", "", "start", 11)
        + _text(8, 186, "the call")
        + _text(8, 206, "“jazz, please”", size=14)
        + _cells(8, 216, (1, 0), WEIGHT, 40)
        + _arrow(96, 232, 226, 226, QUERY)
        + _text(234, 203, "asks with its query", QUERY)
        + _cells(234, 211, (3, 0), QUERY, 30)
        + _text(300, 230, "jazz?", "", "start", 11)
        + f'<path d="M 232 216 C 196 180 196 80 232 52" fill="none" stroke="{WEIGHT}"'
        ' stroke-dasharray="4 3" stroke-width="1.5"/>'
        + _text(352, 262, "compared: 3 · 1 + 0 · 0 = 3", "", "end", 11),
        (360, 272),
        11,
        **told,
    )


def split_and_join(
    names: Sequence[str], weights: Sequence[Sequence[float]], **told: str
) -> None:
    """How a query of width 4 is split into two heads, each with its own row of weights
    over the events `names`, and how what they bring is joined."""
    left, parts = 118, []
    for head, row in enumerate(weights):
        top = 62 + 92 * head
        parts += [
            _text(8, top - 8, f"head {head + 1}", QUERY),
            _arrow(58, top + 11, left - 6, top + 11, WEIGHT),
        ]
        parts.append(
            "".join(
                f'<rect x="{8 + 22 * i}" y="{top}" width="22" height="22"'
                f' fill="{QUERY}" fill-opacity=".25" stroke="{QUERY}"/>'
                for i in range(2)
            )
        )
        for i, (name, weight) in enumerate(zip(names, row, strict=True)):
            y = top - 14 + 18 * i
            parts.append(
                f'<rect x="{left}" y="{y}" width="{70 * weight:.1f}" height="13"'
                f' fill="{WEIGHT}" fill-opacity=".7"/>'
            )
            parts.append(_text(left + 4 + 70 * weight, y + 11, name, "", "start", 11))
        parts.append(_arrow(258, top + 11, 290, top + 11, WEIGHT))
        parts.append(
            "".join(
                f'<rect x="{294 + 22 * i}" y="{top}" width="22" height="22"'
                f' fill="{VALUE}" fill-opacity=".25" stroke="{VALUE}"/>'
                for i in range(2)
            )
        )
    parts.append(_text(8, 18, "split the query", QUERY))
    parts.append(_text(left, 18, "each head looks", WEIGHT))
    parts.append(_text(352, 18, "join the answers", VALUE, "end"))
    parts.append(_arrow(316, 180, 316, 204, WEIGHT))
    for i in range(4):
        parts.append(
            f'<rect x="{264 + 22 * i}" y="208" width="22" height="22" fill="{VALUE}"'
            f' fill-opacity=".25" stroke="{VALUE}"/>'
        )
    parts.append(_text(258, 224, "one attended vector", "", "end", 11))
    picture("".join(parts), (360, 240), 11, **told)


def who_may_look(names: Sequence[str], **told: str) -> None:
    """The causal mask as arcs: every event looks back, and none ahead."""
    step, parts = 344 / len(names), []
    for t, name in enumerate(names):
        x = 8 + step * (t + 0.5)
        parts.append(_text(x, 150, name, "", "middle", 11))
        parts.append(f'<circle cx="{x:.0f}" cy="128" r="7" fill="{KEY}"/>')
        for s in range(t):
            start = 8 + step * (s + 0.5)
            height = 116 - 26 * (t - s)
            parts.append(
                f'<path d="M {x:.0f} 120 Q {(x + start) / 2:.0f} {height:.0f}'
                f' {start:.0f} 120" fill="none" stroke="{QUERY}" stroke-width="1.5"/>'
            )
    parts.append(_text(8, 18, "may look back", QUERY))
    last = 8 + step * (len(names) - 0.5)
    parts.append(
        f'<path d="M {8 + step * 0.5:.0f} 160 Q {(last + 8) / 2:.0f} 215'
        f' {last:.0f} 160"'
        ' fill="none" stroke="var(--f-red)" stroke-width="1.5" stroke-dasharray="4 3"/>'
    )
    parts.append(
        _text(180, 208, "never ahead: the answer stands there", "", "middle", 11)
    )
    picture("".join(parts), (360, 216), 11, **told)


def two_steps(colours: Sequence[str], **told: str) -> None:
    """What the host of the silent station does: the newest record asks, an older one
    answers."""
    step, parts = 344 / len(colours), []
    for t, colour in enumerate(colours):
        x = 8 + step * (t + 0.5)
        ring = QUERY if t == len(colours) - 1 else KEY if t == 1 else WEIGHT
        parts.append(
            f'<circle cx="{x:.0f}" cy="86" r="20" fill="none" stroke="{ring}"'
            ' stroke-width="2"/>'
        )
        parts.append(f'<circle cx="{x:.0f}" cy="86" r="4" fill="{ring}"/>')
        parts.append(_text(x, 126, colour, "", "middle", 11))
    newest, cause = 8 + step * (len(colours) - 0.5), 8 + step * 1.5
    parts.append(
        f'<path d="M {newest:.0f} 62 Q {(newest + cause) / 2:.0f} 4 {cause:.0f} 62"'
        f' fill="none" stroke="{QUERY}" stroke-width="2"/>'
    )
    parts.append(
        _text(180, 16, "asks: where was the last orange one?", QUERY, "middle")
    )
    parts.append(_text(cause, 144, "the cause", KEY, "middle", 11))
    parts.append(_text(newest, 144, "the newest", QUERY, "middle", 11))
    parts.append(
        _text(180, 172, "next comes a record that goes with the cause", VALUE, "middle")
    )
    picture("".join(parts), (360, 182), 11, **told)
