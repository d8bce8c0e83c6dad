"""The attention explorer: pictures that answer to a mouse or a keyboard, without a kernel and without a network.

Each function returns an `Explorer`, which a notebook shows as its output when it is a cell's last line. The picture is
SVG, drawn here and redrawn by `explorer.js` when the reader chooses another viewer, head, candidate or temperature.
All its numbers are computed here, by the module's own functions, rounded, and embedded as JSON; the same output has
the same bytes on every run. Where scripts do not run, and on paper, the first picture stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from attncore import attention
from attncore.interactions import DataError
from attncore.plotting import epochs_of

if TYPE_CHECKING:
    from attncore.recommender import Recommender

WIDTH, LEFT, ROW = 440, 168, 22  # of a picture, of the names on its left, of one row; in units of the SVG
MOST_RUNS = 4  # as many as explorer.css tells apart by colour and dashes


@dataclass(frozen=True)
class Control:
    """One thing that a reader can choose."""

    name: str
    labels: list[Any]  # its choices; or a list of them for each choice of the first control
    kind: str = "choose"  # "choose" from a list, "slide", or "point" at one of them
    start: int = 0


@dataclass(frozen=True)
class Panel:
    """One picture: its values are nested lists, indexed by the controls `by`, then by what is drawn."""

    title: str
    kind: str  # "bars", "table" or "lines"
    says: str  # what begins the sentence under the picture
    names: list[Any]  # what the rows are called; or a list of them for each choice of the first control
    values: list[Any]
    by: list[int]
    digits: int = 2
    low: float = 0.0
    high: float = 1.0
    row: int = 0  # the control that chooses a row of a table
    at: int = 0  # the control that chooses a step of lines
    steps: int = 0
    left: int = LEFT
    width: int = WIDTH - LEFT - 56
    top: int = 14
    height: int = 130
    letters: int = 24  # of a name; the rest is cut


@dataclass(frozen=True)
class Explorer:
    """An interactive picture. In a notebook it is shown; elsewhere `html` can be put into a page."""

    title: str
    controls: list[Control]
    panels: list[Panel]

    @property
    def html(self) -> str:
        """The whole of it: style, first picture, numbers and script."""
        data = json.dumps(
            {"controls": [asdict(c) for c in self.controls], "panels": [asdict(p) for p in self.panels]},
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        ).replace("</", "<\\/")
        start = [control.start for control in self.controls]
        words = [f"{c.name} {_of(c.labels, start)[i]}" for c, i in zip(self.controls, start, strict=True)]
        parts = [
            f'<div class="attncore-explorer" role="group" aria-label="{escape(self.title)}">',
            f"<style>{_file('explorer.css')}</style>",
            f'<p class="ac-title">{escape(self.title)}</p><div class="ac-controls" hidden></div>',
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


def explore_temperature(
    scores: Any, events: Sequence[str], title: str, temperatures: Sequence[float] | None = None
) -> Explorer:
    """A slider for the temperature of a softmax, and the weights that it gives.

    Args:
        scores: (K,), before the softmax.
        events: K names.
        title: what there is to see.
        temperatures: the slider's stops; None takes 31, from 0.1 to 100, with 1 among them, where it begins.

    Raises:
        ValueError: `scores` is not K numbers.
    """
    row = torch.as_tensor(scores, dtype=torch.float32).detach().cpu()
    if row.shape != (len(events),) or len(events) == 0:
        raise ValueError(f"scores {tuple(row.shape)} for {len(events)} events; give one number for each")
    stops = [float(t) for t in (np.logspace(-1, 2, 31) if temperatures is None else temperatures)]
    values = [_rounded(attention.softmax(row, temperature=t), 2) for t in stops]
    slider = Control("temperature", [f"{t:.3g}" for t in stops], "slide", int(np.abs(np.log(stops)).argmin()))
    return Explorer(title, [slider], [Panel("Weights", "bars", "Most weight", list(events), values, [0])])


def explore_mask(scores: Any, events: Sequence[str], title: str, padding: int = 1) -> Explorer:
    """The weights of T events that ask each other, with and without masks; one row at a time can be read out.

    The masks are those of the module: none, causal, and causal with the oldest `padding` events hidden as well.

    Args:
        scores: (T, T), a row for each event that asks.
        events: T names, oldest first.
        title: what there is to see.
        padding: how many of the oldest events stand for padding in the third choice.

    Raises:
        ValueError: `scores` is not T x T.
    """
    table = torch.as_tensor(scores, dtype=torch.float32).detach().cpu()
    count = len(events)
    if table.shape != (count, count) or count == 0:
        raise ValueError(f"scores {tuple(table.shape)} for {count} events; give a row and a column for each")
    causal = attention.causal_keep(count, count)
    filled = causal & (torch.arange(count) >= padding)
    values = []
    for keep in (torch.ones_like(causal), causal, filled):
        weights = attention.softmax(table, keep)
        values.append(
            [
                [v if k else None for v, k in zip(_rounded(w, 2), ks, strict=False)]
                for w, ks in zip(weights, keep, strict=False)
            ]
        )
    masks = ["none", "causal", f"causal, and the oldest {padding} padded"]
    controls = [Control("mask", masks, start=1), Control("who asks", list(events), "slide", count - 1)]
    panel = Panel("Weights", "table", "It looks at", list(events), values, [0], row=1, width=WIDTH - LEFT - 40)
    return Explorer(title, controls, [panel])


def explore_attention(
    model: Recommender,
    histories: Mapping[str, Sequence[Any]],
    names: Mapping[Any, str],
    title: str,
    candidates: Sequence[Any] | None = None,
    newest: int = 12,
) -> Explorer:
    """Choose a history, a layer and a head: what is looked at? Choose a candidate: what matters to it?

    With target attention each candidate has weights of its own. With the other kinds of attention all candidates
    share one row of weights; what differs between them is shown by erasure, how much a candidate's score falls when
    one event is taken out.

    Args:
        model: trained, with attention.
        histories: item ids, oldest first, by what the history is called.
        names: what the items are called.
        title: what there is to see.
        candidates: item ids; None takes the five best of each history.
        newest: how many events are shown; the older ones are looked at, but not shown.

    Raises:
        ValueError: no history, or an empty one.
    """
    if not histories or not all(histories.values()):
        raise ValueError("give at least one history, and none that is empty")
    newest = min(newest, model.config.length)
    viewers, asked, weights, drops = list(histories), [], [], []
    for history in histories.values():
        ids = list(candidates or model.recommend(histories=[list(history)], k=5)[0].items)
        asked.append([str(names[i]) for i in ids])
        told = model.attention(histories=[list(history)], candidates=ids if _is_target(model) else None)
        weights.append(_nested(told, "weight", ids if _is_target(model) else ["next"])[..., -newest:])
        drops.append(_erased(model, history, ids)[:, -newest:])
    shown = [[str(names[i]) for i in list(history)[-newest:]] for history in histories.values()]
    layers, heads = weights[0].shape[:2]
    controls = [
        Control("history", viewers),
        Control("layer", [str(i + 1) for i in range(layers)]),
        Control("head", [str(i + 1) for i in range(heads)]),
        Control("candidate", asked, "point"),
    ]
    most = max(float(w.max()) for w in weights)
    fine = 2 if most >= 0.2 else 3
    by, rows = [0, 1, 2], [_rounded(w[:, :, 0], fine) for w in weights]
    heading = "Attention weights: one row, which all candidates share"
    if _is_target(model):
        by, rows, heading = [0, 1, 2, 3], [_rounded(w, fine) for w in weights], "Attention weights of this candidate"
    low, high = min(float(d.min()) for d in drops), max(float(d.max()) for d in drops)
    fell = Panel(
        "Erasure: how much the candidate's score falls without the event; below 0, it rises",
        "bars",
        "Largest change",
        shown,
        [_rounded(d, 2) for d in drops],
        [0, 3],
        low=round(min(low, 0.0), 4),
        high=round(max(high, 1e-3), 4),
    )
    looks = Panel(heading, "bars", "Most weight", shown, rows, by, digits=fine, high=round(most, 4))
    return Explorer(title, controls, [looks, fell])


def explore_runs(
    runs: Mapping[str, str | Path | Sequence[Mapping[str, Any]]],
    title: str,
    metrics: Sequence[str] = ("loss", "ndcg@10"),
) -> Explorer:
    """The learning curves of up to four runs: choose what is drawn, and walk through the epochs.

    Args:
        runs: run folders, or the `epochs` of a `Run`, by what the run is called.
        title: what there is to see.
        metrics: numbers that every epoch of every run has.

    Raises:
        DataError: there is no log of a training, or no such number in it.
        ValueError: no run, or more than four.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise ValueError(f"{len(runs)} runs; give 1 to {MOST_RUNS}, so that the lines can be told apart")
    logs = {name: epochs_of(run) for name, run in runs.items()}
    for name, log in logs.items():
        if missing := [m for m in metrics if not log or m not in log[0]]:
            raise DataError(f"run {name!r} has no {missing[0]!r}: it has {', '.join(log[0]) if log else 'no epoch'}")
    steps = max(map(len, logs.values()))
    values = [[[round(float(epoch[m]), 4) for epoch in log] for log in logs.values()] for m in metrics]
    controls = [
        Control("number", list(metrics)),
        Control("epoch", [str(i + 1) for i in range(steps)], "slide", steps - 1),
    ]
    panel = Panel(
        "By epoch",
        "lines",
        "At this epoch, or the run's last",
        list(runs),
        values,
        [0],
        digits=3,
        at=1,
        steps=steps,
        left=48,
        width=WIDTH - 64,
    )
    return Explorer(title, controls, [panel])


def _is_target(model: Recommender) -> bool:
    return model.config.attention == "target"


def _nested(table: Any, column: str, queries: Sequence[Any]) -> np.ndarray:
    """One history's labelled weights as an array (layers, heads, queries, events)."""
    layers, heads = table["layer"].nunique(), table["head"].nunique()
    return table[column].to_numpy().reshape(layers, heads, len(queries), -1)


def _erased(model: Recommender, history: Sequence[Any], candidates: Sequence[Any]) -> np.ndarray:
    """How much each candidate's score falls without each event, (candidates, events)."""
    table = model.erasure(histories=[list(history)], candidates=list(candidates))
    return table["drop"].to_numpy().reshape(len(history), len(candidates)).T


def _rounded(values: Any, digits: int) -> list[Any]:
    """Nested lists of rounded numbers; 0.0 for -0.0, so that the text is one and the same."""
    return (np.round(np.asarray(values, np.float64), digits) + 0.0).tolist()


def _of(labels: list[Any], state: Sequence[int]) -> list[str]:
    return labels[state[0]] if labels and isinstance(labels[0], list) else labels


def _pick(values: Any, by: Sequence[int], state: Sequence[int]) -> Any:
    for control in by:
        values = values[state[control]]
    return values


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


@cache
def _file(name: str) -> str:
    return files("attncore").joinpath(name).read_text(encoding="utf-8").strip()


def _panel(panel: Panel, state: Sequence[int]) -> str:
    """One picture as it stands at first, with its title above and its sentence below."""
    draw = {"bars": _bars, "table": _table, "lines": _lines}[panel.kind]
    height, inside, said = draw(panel, _pick(panel.values, panel.by, state), _of(panel.names, state), state)
    sentence = f"{panel.says}: {said}."
    return (
        f'<div class="ac-panel"><p class="ac-name">{escape(panel.title)}</p>'
        f'<svg role="img" viewBox="0 0 {WIDTH} {height}" aria-label="{escape(f"{panel.title}. {sentence}")}">'
        f'{inside}</svg><p class="ac-said" role="status">{escape(sentence)}</p></div>'
    )


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def _bars(panel: Panel, values: list[float], names: list[str], state: Sequence[int]) -> tuple[int, str, str]:
    most = max(len(n) for n in panel.names) if isinstance(panel.names[0], list) else len(names)
    span = panel.high - panel.low

    def place(value: float) -> float:
        return panel.left + (value - panel.low) / span * panel.width

    rows = []
    for i in range(most):
        name, value = (names[i], values[i]) if i < len(names) else ("", 0.0)
        begin, end, y = place(min(value, 0)), place(max(value, 0)), i * ROW
        hidden = "" if i < len(names) else ' style="display:none"'
        rows.append(
            f"<g{hidden}>{_text(panel.left - 6, y + 15, _short(name, panel.letters), anchor='end')}"
            f'<rect class="{"ac-less" if value < 0 else "ac-more"}" x="{begin:g}" y="{y + 3}" '
            f'width="{end - begin:g}" height="{ROW - 6}"/>'
            f"{_text(end + 5, y + 15, f'{value:.{panel.digits}f}', 'ac-number')}</g>"
        )
    rows.append(f'<path class="ac-axis" d="M{place(0):g} 0V{most * ROW}"/>')
    order = sorted(range(len(names)), key=lambda i: (-abs(values[i]), i))[:3]
    return most * ROW, "".join(rows), ", ".join(f"{names[i]} {values[i]:.{panel.digits}f}" for i in order)


def _table(panel: Panel, values: list[Any], names: list[str], state: Sequence[int]) -> tuple[int, str, str]:
    cell, head = panel.width / len(names), 76
    columns = [
        f'<text transform="translate({panel.left + (j + 0.5) * cell:g} {head - 6}) rotate(-32)">'
        f"{escape(_short(name, 15))}</text>"
        for j, name in enumerate(names)
    ]
    rows = []
    for i, (name, row) in enumerate(zip(names, values, strict=True)):
        y, chosen = head + i * (ROW + 4), i == state[panel.row]
        cells = "".join(
            f'<rect class="ac-cell" x="{panel.left + j * cell:g}" y="{y}" width="{cell - 2:g}" height="{ROW + 2}" '
            f'fill-opacity="{max(0.0, (v or 0) / panel.high) * 0.75:g}"/>'
            + _text(
                panel.left + (j + 0.5) * cell - 1,
                y + 16,
                "–" if v is None else f"{v:.{panel.digits}f}",
                "ac-number",
                "middle",
            )
            for j, v in enumerate(row)
        )
        label = _text(panel.left - 8, y + 16, _short(name, panel.letters), anchor="end")
        rows.append(f'<g class="{"ac-chosen" if chosen else ""}">{label}{cells}</g>')
    seen = [(n, v) for n, v in zip(names, values[state[panel.row]], strict=True) if v is not None]
    height = head + len(names) * (ROW + 4)
    return height, "".join(columns + rows), ", ".join(f"{n} {v:.{panel.digits}f}" for n, v in seen)


def _lines(panel: Panel, values: list[Any], names: list[str], state: Sequence[int]) -> tuple[int, str, str]:
    every = [v for line in values for v in line]
    low, high, at = min(every), max(every), state[panel.at]
    bottom = panel.top + panel.height

    def place(step: int, value: float) -> tuple[float, float]:
        across = 0.5 if panel.steps < 2 else step / (panel.steps - 1)
        return panel.left + across * panel.width, panel.top + panel.height * (1 - (value - low) / ((high - low) or 1))

    parts = [
        _text(panel.left - 6, panel.top + 5, f"{high:.{panel.digits}f}", "ac-number", "end"),
        _text(panel.left - 6, bottom, f"{low:.{panel.digits}f}", "ac-number", "end"),
        _text(panel.left, bottom + 20, "epoch 1"),
        _text(panel.left + panel.width, bottom + 20, f"epoch {panel.steps}", anchor="end"),
        f'<path class="ac-axis" d="M{panel.left} {panel.top}V{bottom + 3}H{panel.left + panel.width}"/>',
    ]
    said = []
    for i, (name, line) in enumerate(zip(names, values, strict=True)):
        points = " ".join("{:g},{:g}".format(*place(j, v)) for j, v in enumerate(line))
        step = min(at, len(line) - 1)
        x, y = place(step, line[step])
        key = bottom + 40 + i * ROW
        parts += [
            f'<polyline class="ac-line-{i}" points="{points}"/>'
            f'<circle class="ac-line-{i}" cx="{x:g}" cy="{y:g}" r="4"/>',
            f'<path class="ac-line-{i}" d="M{panel.left} {key - 4}h36"/>{_text(panel.left + 44, key, name)}',
        ]
        said.append(f"{name} {line[step]:.{panel.digits}f}")
    return bottom + 40 + len(names) * ROW, "".join(parts), ", ".join(said)
