"""How the explorers are drawn: SVG of what is chosen at first; explorer.js redraws.

The script repeats the arithmetic of `_bars` and `_lines`; a test in a browser
holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

# Of a picture, of the names on its left, of one row; in units of the SVG.
WIDTH, LEFT, ROW = 440, 184, 22


@dataclass(frozen=True)
class Control:
    """One thing that a reader can choose."""

    name: str
    # Its choices; or a list of them for each choice of the first control.
    labels: list[Any]
    kind: str = "choose"  # "choose" from a list, "slide", or "point" at one of them
    start: int = 0

    def __post_init__(self) -> None:
        """Tell choices of one name apart, by numbers."""
        nested = bool(self.labels) and isinstance(self.labels[0], list)
        labels = (
            [_told_apart(list_) for list_ in self.labels]
            if nested
            else _told_apart(self.labels)
        )
        object.__setattr__(self, "labels", labels)

    @property
    def single(self) -> bool:
        """Whether there is nothing to choose; such a control is not shown."""
        lists = (
            self.labels
            if self.labels and isinstance(self.labels[0], list)
            else [self.labels]
        )
        return all(len(list_) < 2 for list_ in lists)


@dataclass(frozen=True)
class Panel:
    """One picture: nested lists, indexed by the controls `by`, then by place."""

    title: str
    kind: str  # "bars" or "lines"
    says: str  # what begins the sentence under the picture
    # What the rows are called; or a list of them for each choice of the first control.
    names: list[Any]
    values: list[Any]
    by: list[int]
    digits: int = 2
    low: float = 0.0
    high: float = 1.0
    at: int = 0  # the control that chooses a step of lines
    steps: int = 0
    left: int = LEFT
    width: int = WIDTH - LEFT - 56
    top: int = 14
    height: int = 130
    letters: int = 24  # of a name, if there is room for them; the rest is cut


@dataclass(frozen=True)
class Explorer:
    """An interactive picture, shown in a notebook; `html` can be put into a page."""

    title: str
    controls: list[Control]
    panels: list[Panel]

    @property
    def html(self) -> str:
        """The whole explorer as HTML: style, first picture, numbers, script."""
        data = json.dumps(
            {
                "controls": [asdict(c) for c in self.controls],
                "panels": [asdict(p) for p in self.panels],
            },
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        ).replace("</", "<\\/")
        start = [control.start for control in self.controls]
        words = [
            f"{c.name} {_of(c.labels, start)[i]}"
            for c, i in zip(self.controls, start, strict=True)
            if not c.single
        ]
        parts = [
            (
                '<div class="attncore-explorer" role="group"'
                f' aria-label="{escape(self.title)}">'
            ),
            f"<style>{_file('explorer.css')}</style>",
            (
                f'<p class="ac-title">{escape(self.title)}</p><div class="ac-controls"'
                " hidden></div>"
            ),
            f'<p class="ac-state">{escape(" · ".join(words))}</p>',
            *[_panel(panel, start) for panel in self.panels],
            f'<script type="application/json">{data}</script>',
            f"<script>{_file('explorer.js')}</script></div>",
        ]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        choices = ", ".join(control.name for control in self.controls)
        return f"Explorer({self.title!r}; choose: {choices})"


def _of(labels: list[Any], state: Sequence[int]) -> list[str]:
    return labels[state[0]] if labels and isinstance(labels[0], list) else labels


def _pick(values: Any, by: Sequence[int], state: Sequence[int]) -> Any:
    for control in by:
        values = values[state[control]]
    return values


def _told_apart(labels: Sequence[Any]) -> list[Any]:
    """The labels, the second of one name with a 2 behind it, and so on."""
    seen: dict[Any, int] = {}
    told = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        told.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return told


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _letters(panel: Panel) -> int:
    """How many letters of a name are shown.

    What stands left of a picture must not be cut by its edge.
    """
    return min(panel.letters, (panel.left - 8) // 8)


@cache
def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").strip()


def _panel(panel: Panel, state: Sequence[int]) -> str:
    """One picture as it is at first, its title above and its sentence below."""
    draw = {"bars": _bars, "lines": _lines}[panel.kind]
    height, inside, said = draw(
        panel, _pick(panel.values, panel.by, state), _of(panel.names, state), state
    )
    sentence = f"{panel.says}: {said}."
    return (
        f'<div class="ac-panel"><p class="ac-name">{escape(panel.title)}</p><svg'
        f' role="img" viewBox="0 0 {WIDTH} {height}"'
        f' aria-label="{escape(f"{panel.title}. {sentence}")}">{inside}</svg><p'
        f' class="ac-said" role="status">{escape(sentence)}</p></div>'
    )


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:g}" y="{y:g}"'
        f' text-anchor="{anchor}">{escape(words)}</text>'
    )


def _bars(
    panel: Panel, values: list[float], names: list[str], state: Sequence[int]
) -> tuple[int, str, str]:
    most = (
        max(len(n) for n in panel.names)
        if isinstance(panel.names[0], list)
        else len(names)
    )
    span = panel.high - panel.low

    def place(value: float) -> float:
        return panel.left + (value - panel.low) / span * panel.width

    rows = []
    for i in range(most):
        name, value = (names[i], values[i]) if i < len(names) else ("", 0.0)
        begin, end, y = place(min(value, 0)), place(max(value, 0)), i * ROW
        hidden = "" if i < len(names) else ' style="display:none"'
        label = _short(name, _letters(panel))
        kind = "ac-less" if value < 0 else "ac-more"
        rows.append(
            f"<g{hidden}>{_text(panel.left - 6, y + 15, label, anchor='end')}"
            f'<rect class="{kind}" x="{begin:g}" y="{y + 3}" '
            f'width="{end - begin:g}" height="{ROW - 6}"/>'
            f"{_text(end + 5, y + 15, f'{value:.{panel.digits}f}', 'ac-number')}</g>"
        )
    rows.append(f'<path class="ac-axis" d="M{place(0):g} 0V{most * ROW}"/>')
    order = sorted(range(len(names)), key=lambda i: (-abs(values[i]), i))[:3]
    return (
        most * ROW,
        "".join(rows),
        ", ".join(f"{names[i]} {values[i]:.{panel.digits}f}" for i in order),
    )


def _lines(
    panel: Panel, values: list[Any], names: list[str], state: Sequence[int]
) -> tuple[int, str, str]:
    every = [v for line in values for v in line]
    low, high, at = min(every), max(every), state[panel.at]
    bottom = panel.top + panel.height

    def place(step: int, value: float) -> tuple[float, float]:
        across = 0.5 if panel.steps < 2 else step / (panel.steps - 1)
        return panel.left + across * panel.width, panel.top + panel.height * (
            1 - (value - low) / ((high - low) or 1)
        )

    parts = [
        _text(
            panel.left - 6,
            panel.top + 5,
            f"{high:.{panel.digits}f}",
            "ac-number",
            "end",
        ),
        _text(panel.left - 6, bottom, f"{low:.{panel.digits}f}", "ac-number", "end"),
        _text(panel.left, bottom + 20, "epoch 1"),
        _text(
            panel.left + panel.width, bottom + 20, f"epoch {panel.steps}", anchor="end"
        ),
        (
            f'<path class="ac-axis" d="M{panel.left}'
            f' {panel.top}V{bottom + 3}H{panel.left + panel.width}"/>'
        ),
    ]
    said = []
    for i, (name, line) in enumerate(zip(names, values, strict=True)):
        points = " ".join("{:g},{:g}".format(*place(j, v)) for j, v in enumerate(line))
        step = min(at, len(line) - 1)
        x, y = place(step, line[step])
        key = bottom + 40 + i * ROW
        parts += [
            f'<polyline class="ac-line-{i}" points="{points}"/>',
            f'<circle class="ac-line-{i}" cx="{x:g}" cy="{y:g}" r="4"/>',
            (
                f'<path class="ac-line-{i}" d="M{panel.left}'
                f' {key - 4}h36"/>{_text(panel.left + 44, key, name)}'
            ),
        ]
        said.append(f"{name} {line[step]:.{panel.digits}f}")
    return bottom + 40 + len(names) * ROW, "".join(parts), ", ".join(said)
