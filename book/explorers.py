"""The explorers: pictures that answer to mouse and keyboard, without a kernel.

Each function returns an `Explorer`, which a notebook shows as its output when it is a
cell's last line. The picture is SVG, drawn here and redrawn by a script when the reader
chooses another history, head, candidate or epoch. All its numbers are computed
here, by the module's own functions, rounded, and embedded as JSON; the same output has
the same bytes on every run. Where scripts do not run, and on paper, the first picture
stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from drawing import WIDTH, Control, Explorer, Panel

from attncore.errors import DataError
from attncore.plotting import epochs_of

if TYPE_CHECKING:
    from attncore.recommender import Recommender

MOST_RUNS = 4  # as many as explorer.css tells apart by colour and dashes


def explore_attention(
    model: Recommender,
    histories: Mapping[str, Sequence[Any]],
    names: Mapping[Any, str],
    title: str,
    candidates: Sequence[Any] | None = None,
    newest: int = 12,
    marked: Mapping[str, int] | None = None,
) -> Explorer:
    """Choose a history, a layer and a head to see what is looked at, and what matters.

    With target attention each candidate has weights of its own. With the other kinds of
    attention all candidates share one row of weights; what differs between them is
    shown by erasure, how much a candidate's score falls when one event is taken out.

    Args:
        model: trained, with attention.
        histories: item ids, oldest first, by what the history is called.
        names: what the items are called.
        title: what there is to see.
        candidates: item ids; None takes the five best of each history.
        newest: how many events are shown; the older ones are looked at, but not shown.
        marked: the place of an event that gets a star, by what its history is called; 0
            is the oldest event.

    Raises:
        ValueError: no history, or an empty one.
    """
    if not histories or not all(histories.values()):
        raise ValueError("give at least one history, and none that is empty")
    newest = min(newest, model.config.length)
    viewers, asked, weights, drops = list(histories), [], [], []
    for history in histories.values():
        ids = list(
            candidates or model.recommend(histories=[list(history)], k=5)[0].items
        )
        asked.append([str(names[i]) for i in ids])
        told = model.attention(
            histories=[list(history)], candidates=ids if _is_target(model) else None
        )
        weights.append(
            _nested(told, "weight", ids if _is_target(model) else ["next"])[
                ..., -newest:
            ]
        )
        drops.append(_erased(model, history, ids)[:, -newest:])
    shown = [[str(names[i]) for i in history] for history in histories.values()]
    for called, place in (marked or {}).items():
        shown[viewers.index(called)][place] = f"★ {shown[viewers.index(called)][place]}"
    shown = [labels[-newest:] for labels in shown]
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
        by, rows, heading = (
            [0, 1, 2, 3],
            [_rounded(w, fine) for w in weights],
            "Attention weights of this candidate",
        )
    low, high = min(float(d.min()) for d in drops), max(float(d.max()) for d in drops)
    fell = Panel(
        "Erasure: how much the candidate's score falls without the event; below 0, it"
        " rises",
        "bars",
        "Largest change",
        shown,
        [_rounded(d, 2) for d in drops],
        [0, 3],
        low=round(min(low, 0.0), 4),
        high=round(max(high, 1e-3), 4),
    )
    looks = Panel(
        heading,
        "bars",
        "Most weight",
        shown,
        rows,
        by,
        digits=fine,
        high=round(most, 4),
    )
    return Explorer(title, controls, [looks, fell])


def explore_runs(
    runs: Mapping[str, str | Path | Sequence[Mapping[str, Any]]],
    title: str,
    metrics: Sequence[str] = ("loss", "ndcg@10"),
) -> Explorer:
    """The learning curves of up to four runs, to walk through their epochs.

    Args:
        runs: run folders, or the `epochs` of a `Run`, by what the run is called.
        title: what there is to see.
        metrics: numbers that every epoch of every run has.

    Raises:
        DataError: there is no log of a training, or no such number in it.
        ValueError: no run, or more than four.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise ValueError(
            f"{len(runs)} runs; give 1 to {MOST_RUNS}, so that the lines can be told"
            " apart"
        )
    logs = {name: epochs_of(run) for name, run in runs.items()}
    for name, log in logs.items():
        if missing := [m for m in metrics if not log or m not in log[0]]:
            raise DataError(
                f"run {name!r} has no {missing[0]!r}: it has"
                f" {', '.join(log[0]) if log else 'no epoch'}"
            )
    steps = max(map(len, logs.values()))
    values = [
        [[round(float(epoch[m]), 4) for epoch in log] for log in logs.values()]
        for m in metrics
    ]
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


def _erased(
    model: Recommender, history: Sequence[Any], candidates: Sequence[Any]
) -> np.ndarray:
    """How much each candidate's score falls without an event, (candidates, events)."""
    table = model.erasure(histories=[list(history)], candidates=list(candidates))
    return table["drop"].to_numpy().reshape(len(history), len(candidates)).T


def _rounded(values: Any, digits: int) -> list[Any]:
    """Nested lists of rounded numbers; 0.0 for -0.0, so the text is the same."""
    return (np.round(np.asarray(values, np.float64), digits) + 0.0).tolist()
