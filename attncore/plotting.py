"""Pictures of attention weights, and of how a training went.

See the chapter "Query, key, value and context vectors". Needs matplotlib, which `import
attncore` does not: it is imported when the first picture is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attncore.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Okabe and Ito 2008: told apart by colour-blind readers. book.css and
# book/attncore.mplstyle have the same.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


BLUE = PALETTE[0]


# An opaque page, so that a picture can be read on a dark one too.
INK, PAPER = "#111111", "#ffffff"


def heat_map(
    weights: Any,
    queries: Sequence[str],
    events: Sequence[str],
    title: str,
    *,
    query_label: str = "query",
    event_label: str = "event of the history, oldest first",
    most: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw attention weights as a table of colours.

    A row for each query, a column for each event. The numbers are written into the
    cells where there are at most 80 of them.

    Args:
        weights: (L, K), a tensor or an array.
        queries: L names, from top to bottom.
        events: K names, from left to right.
        title: the message of the picture.
        query_label: name of the vertical axis.
        event_label: name of the horizontal axis.
        most: weight of the brightest colour; None takes the largest there is.
        ax: where to draw; None makes a figure of a fitting size.

    Returns:
        The axes that were drawn on.

    Raises:
        ValueError: `weights` is not L x K, or holds NaN.
        ImportError: matplotlib is not installed.
    """
    table = _numbers(weights, 2)
    if table.shape != (len(queries), len(events)):
        raise ValueError(
            f"weights {table.shape} for {len(queries)} queries and {len(events)}"
            " events; give one row a query"
        )
    rows, columns = table.shape
    if ax is None:
        longest = max(map(len, events), default=0)
        height = 1.9 + 0.42 * rows + 0.06 * longest
        ax = _axes(min(3.2 + 0.62 * columns, 11.0), height)
    top = float(table.max()) if most is None else most
    image = ax.imshow(table, cmap="cividis", vmin=0, vmax=top or 1.0, aspect="auto")
    if table.size <= 80:
        how: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9}
        for (row, column), weight in np.ndenumerate(table):
            text = f"{weight:.2f}".removeprefix("0") if weight < 0.995 else "1"
            color = INK if weight > 0.55 * top else PAPER
            ax.text(column, row, text, color=color, **how)
    slanted: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(columns), list(events), **slanted)
    ax.set_yticks(range(rows), list(queries))
    ax.set_xlabel(event_label)
    ax.set_ylabel(query_label)
    ax.set_title(title)
    _figure(ax).colorbar(image, ax=ax, label="attention weight", pad=0.02)
    return ax


def weights_bars(
    weights: Any,
    events: Sequence[str],
    title: str,
    *,
    event_label: str = "event of the history, oldest on top",
    uniform: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw one row of attention weights as bars, one for each event.

    Args:
        weights: (K,), a tensor or an array.
        events: K names, from top to bottom.
        title: the message of the picture.
        event_label: name of the vertical axis.
        uniform: mark the weight that each event would have if all were equal, 1 / K.
        ax: where to draw; None makes a figure of a fitting size.

    Returns:
        The axes that were drawn on.

    Raises:
        ValueError: `weights` is not K numbers, or holds NaN.
        ImportError: matplotlib is not installed.
    """
    row = _numbers(weights, 1)
    if row.shape != (len(events),) or len(row) == 0:
        raise ValueError(
            f"weights {row.shape} for {len(events)} events; there must be one for each,"
            " and at least one"
        )
    if ax is None:
        ax = _axes(7.5, 1.4 + 0.28 * len(row))
    ax.barh(range(len(row)), row, color=BLUE)
    ax.set_yticks(range(len(row)), list(events))
    ax.invert_yaxis()
    if uniform:
        _mark(ax, 1 / len(row), f"all equal: 1/{len(row)}")
    ax.set_xlim(left=0)
    ax.set_xlabel("attention weight")
    ax.set_ylabel(event_label)
    ax.set_title(title)
    return ax


def learning_curve(
    run: str | Path | Sequence[Mapping[str, Any]],
    title: str = "",
    metric: str = "ndcg@10",
) -> Axes:
    """Draw the training loss and a validation metric of every epoch; mark the best.

    Args:
        run: a run folder, or the `epochs` of a `Run`.
        title: the message of the picture; by default it names the best epoch.
        metric: a validation metric of the epochs.

    Returns:
        The axes of the metric; those of the loss lie above them in the same figure.

    Raises:
        DataError: the folder has no log of a training, or no epoch has the metric.
        ImportError: matplotlib is not installed.
    """
    epochs = epochs_of(run)
    if not epochs or metric not in epochs[0]:
        known = ", ".join(epochs[0]) if epochs else "no epoch"
        raise DataError(f"no epoch with {metric!r}: the log has {known}")
    number = [entry["epoch"] for entry in epochs]
    values = [entry[metric] for entry in epochs]
    best = int(np.argmax(values))
    ax = _axes(7.5, 5.2)
    ax.set_subplotspec(_figure(ax).add_gridspec(2, 1)[1])
    above = _figure(ax).add_subplot(2, 1, 1, sharex=ax, facecolor=PAPER)
    dots, losses = "." if len(epochs) < 40 else "", [entry["loss"] for entry in epochs]
    above.plot(number, losses, color=INK, marker=dots)
    above.set_ylabel("training loss (nats)")
    above.tick_params(labelbottom=False)
    found = f"epoch {number[best]}, {metric} {values[best]:.3f}"
    above.set_title(title or f"Best of {len(epochs)} epochs: {found}")
    ax.plot(number, values, color=BLUE, marker=dots)
    _mark(ax, number[best], f"best epoch: {number[best]}")
    ax.set_ylabel(f"validation {metric}")
    ax.set_xlabel("epoch")
    return ax


def epochs_of(run: str | Path | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The epochs of a run folder's log, or those that are given."""
    if not isinstance(run, str | Path):
        return list(run)
    path = Path(run) / "log.jsonl"
    try:
        return [*map(json.loads, path.read_text(encoding="utf-8").splitlines())]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: is not the log of a training ({error}); name a run folder"
        ) from None


def _numbers(weights: Any, axes: int) -> np.ndarray:
    """Weights as float64 with that many axes, from a tensor or an array."""
    if hasattr(weights, "detach"):
        weights = weights.detach().float().cpu().numpy()
    table = np.asarray(weights, np.float64)
    if table.ndim != axes:
        raise ValueError(
            f"weights {table.shape} have {table.ndim} axes; this picture shows {axes},"
            " so choose a part"
        )
    if np.isnan(table).any():
        raise ValueError(
            "weights hold NaN; see attncore.attention.softmax, which gives zeros"
            " instead"
        )
    return table


def _mark(ax: Axes, place: float, label: str) -> None:
    """A broken line from top to bottom, and what it says."""
    ax.axvline(place, color=INK, linestyle="--", linewidth=1, label=label)
    ax.legend(loc="best", frameon=True)


def _figure(ax: Axes) -> Any:
    return ax.get_figure(root=True)


def _axes(width: float, height: float) -> Axes:
    """Axes in a new figure on an opaque white page, in inches."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError(
            "pictures need matplotlib: pip install attncore[plot]"
        ) from None
    _, ax = plt.subplots(figsize=(width, height), layout="constrained", facecolor=PAPER)
    ax.set_facecolor(PAPER)
    return ax
