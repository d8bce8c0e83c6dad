"""The figures of the chapters: one call each. Beside the notebooks, for them.

A family of figures is one function: lines, bars, bars of several models, points, spans,
attention weights; at the end stand the few drawings that only one chapter has. All
follow `attncore.mplstyle`, and the same thing has the same colour on every page:
queries are blue, keys orange, values green, weights grey; each recommender has its own.

Every figure takes `caption` (its message, in a sentence or two), `alt` (what it shows,
for those who cannot see it) and `name` (by which {numref} finds it), and becomes an SVG
that follows the page (book/vector.py) with a number in the book.

Most take `ax`, to draw into a part of another figure; without it, they make a figure
and show it. Other keywords go to `Axes.set`: xlabel, ylabel, xscale and so on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from vector import SMALLEST, Picture, drawn, exported

from attncore.plotting import heat_map, learning_curve, weights_bars

__all__ = [
    "bars",
    "beside",
    "best_of_parts",
    "block",
    "columns",
    "grouped_bars",
    "learning",
    "lines",
    "panel",
    "scatter",
    "shards",
    "spans",
    "stacked_bars",
    "storage",
    "weight_bars",
    "weights",
]

STYLE = Path(__file__).parent / "attncore.mplstyle"

# Okabe and Ito 2008: told apart by colour-blind readers.
QUERY, KEY, VALUE, WEIGHT = "#0072B2", "#E69F00", "#009E73", "#555555"
COLOURS = {
    "blue": QUERY,
    "orange": KEY,
    "green": VALUE,
    "grey": WEIGHT,
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "pale": "#BBBBBB",
    "black": "#111111",
}
INK, PAPER = COLOURS["black"], "#ffffff"
# A colour has its own dashes and marker, for print.
LOOKS = {
    "blue": ("-", "o"),
    "red": ("--", "s"),
    "green": ("-.", "^"),
    "purple": (":", "D"),
    "orange": ("-", "v"),
    "sky": ("--", "*"),
    "grey": (":", "v"),
    "pale": ("-", "."),
    "black": ("--", "P"),
}
# The same recommender has the same colour on every page.
RECOMMENDERS = {
    "popularity": "grey",
    "Markov chain": "red",
    "mean": "green",
    "self-attention": "blue",
    "LSTM with attention": "purple",
}
FEW = 24  # points of a line that are marked one by one


panel = partial  # a figure that is a part of another

# Blue, grey, red: each step can be told from a light page and from a dark one.
SHADES = LinearSegmentedColormap.from_list(
    "book", [COLOURS["blue"], "#8a8a8a", COLOURS["red"]], N=24
)
# The caption, alternative text and name of the figure that is being drawn.
_TOLD: ContextVar[tuple[str, str, str]] = ContextVar("_TOLD", default=("", "", ""))


def _figure(draw: Callable[..., None]) -> Callable[..., None]:
    """A function of figures that also takes `caption`, `alt` and `name`."""

    @wraps(draw)
    def told(
        *args: Any, caption: str = "", alt: str = "", name: str = "", **how: Any
    ) -> None:
        if not (caption or alt or name):
            return draw(*args, **how)
        before = _TOLD.set((caption, alt, name))
        try:
            draw(*args, **how)
        finally:
            _TOLD.reset(before)

    return told


def _show() -> None:
    """Show what was drawn: as a figure of the book if it has a caption."""
    caption, alt, name = _TOLD.get()
    if not (caption or alt):
        plt.show()
        return
    figure = plt.gcf()
    display(Picture(exported(figure, alt), caption, alt, name))
    plt.close(figure)


@_figure
def picture(inside: str, size: tuple[float, float], smallest: float = SMALLEST) -> None:
    """Show shapes of SVG that were written by hand.

    Args:
        inside: what stands in the SVG element. Text without a colour follows the page;
            `var(--f-blue)`, `--f-orange`, `--f-green` and `--f-grey` are its colours.
        size: width and height in units of its own; 360 is the width of a phone.
        smallest: size of the smallest letters, in the same units.
    """
    caption, alt, name = _TOLD.get()
    display(Picture(drawn(inside, *size, alt, smallest), caption, alt, name))


@contextmanager
def _page(ax: Axes | None, width: float, height: float) -> Iterator[Axes]:
    """The axes that were given, or those of a new figure, which is shown at the end."""
    with plt.style.context(STYLE):
        if ax is not None:
            yield ax
            return
        _, ax = plt.subplots(figsize=(width, height))
        yield ax
        _show()


def _array(values: Any) -> np.ndarray:
    """Numbers of a tensor, a series or a list."""
    return np.asarray(values.detach() if hasattr(values, "detach") else values)


def _looks(
    names: Sequence[str], colours: Mapping[str, str] | None
) -> Iterator[tuple[str, str, str]]:
    """Colour, dashes and marker of each name: as asked, as everywhere, or the next."""
    fixed = {**RECOMMENDERS, **(colours or {})}
    taken = {fixed[name] for name in names if name in fixed}
    free = cycle([colour for colour in LOOKS if colour not in taken] or list(LOOKS))
    for name in names:
        colour = fixed[name] if name in fixed else next(free)
        yield COLOURS[colour], *LOOKS[colour]


def _references(
    ax: Axes, level: Mapping[str, float] | None, mark: Mapping[str, float] | None
) -> None:
    """Thin lines across: `level` at heights, `mark` at places from left to right."""
    for lines_of, draw, dashes in ((level, ax.axhline, ":"), (mark, ax.axvline, "--")):
        for name, value in (lines_of or {}).items():
            known = name in RECOMMENDERS
            colour = RECOMMENDERS.get(name, "grey")
            look = {"linestyle": LOOKS[colour][0] if known else dashes}
            look["linewidth"] = 2 if known else 1.3
            draw(value, color=COLOURS[colour], label=name, **look)


def _legend(ax: Axes, where: str | None, **how: Any) -> None:
    """A legend, if anything has a name; "below" stands under the figure."""
    handles, names = ax.get_legend_handles_labels()
    if not (where and names):
        return
    if where == "below":
        across = (
            3 if max(map(len, names)) < 20 else 2 if max(map(len, names)) < 30 else 1
        )
        ax.get_figure(root=True).legend(
            handles, names, loc="outside lower center", ncols=across, frameon=False
        )
    else:
        ax.legend(loc=where, **how)


@_figure
def lines(
    x: Any,
    curves: Mapping[str, Any] | Any,
    *,
    colours: Mapping[str, str] | None = None,
    level: Mapping[str, float] | None = None,
    mark: Mapping[str, float] | None = None,
    bands: Mapping[str, tuple[Any, Any]] | None = None,
    points: Mapping[str, Any] | None = None,
    step: bool = False,
    ticks: bool = False,
    legend: str | None = "best",
    size: tuple[float, float] = (4.95, 3),
    ax: Axes | None = None,
    **axes: Any,
) -> None:
    """Draw curves over one horizontal axis, each with its colour, dashes and markers.

    Args:
        x: positions for all curves; None counts from 0.
        curves: numbers by name, or one curve without a name. A curve that has positions
            of its own is a pair of them and its numbers.
        colours: names of `COLOURS` by curve; the others follow the palette.
        level: horizontal lines to compare with, by name.
        mark: vertical lines, by name.
        bands: lower and upper numbers around a curve, by its name.
        points: numbers drawn as dots at `x`, by name.
        step: draw steps instead of slopes.
        ticks: mark exactly the positions of `x`.
        legend: where; "below" the figure; None for no legend.
        size: inches.
        ax: where to draw; None makes a figure.
        **axes: for `Axes.set`.
    """
    named = curves if isinstance(curves, Mapping) else {"": curves}
    with _page(ax, *size) as ax:
        looks = _looks([*named, *(points or {})], colours)
        for (name, values), (colour, dashes, marker) in zip(named.items(), looks):
            at, values = values if isinstance(values, tuple) else (x, values)
            values = _array(values)
            at = np.arange(len(values)) if at is None else _array(at)
            few = marker if len(values) <= FEW and not step else ""
            draw = ax.step if step else ax.plot
            how = {"where": "mid"} if step else {"marker": few}
            if name == "":
                dashes = "-"
            draw(at, values, color=colour, linestyle=dashes, label=name or None, **how)
            if name in (bands or {}):
                low, high = bands[name]
                ax.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
        for (name, values), (colour, _, _) in zip((points or {}).items(), looks):
            ax.plot(x, _array(values), "o", color=colour, label=name)
        _references(ax, level, mark)
        ax.set(**axes)
        if ticks:
            ax.set_xticks(x, [f"{value:,}" for value in x])
            ax.minorticks_off()
        _legend(ax, legend)


@_figure
def bars(
    values: Mapping[str, float],
    *,
    intervals: Sequence[tuple[float, float] | None] | None = None,
    colours: Mapping[str, str] | None = None,
    sign: bool = False,
    dots: bool = False,
    mark: Mapping[str, float] | None = None,
    legend: str | None = "best",
    size: tuple[float, float] | None = None,
    ax: Axes | None = None,
    **axes: Any,
) -> None:
    """Draw a horizontal bar for each name, the first on top.

    Args:
        values: numbers by name.
        intervals: lower and upper end for each, drawn as a whisker; None for none.
        colours: names of `COLOURS` by bar; the others are blue.
        sign: bars below 0 are red, and 0 is marked.
        dots: draw dots instead of bars, for numbers that do not begin at 0.
        mark: vertical lines to compare with, by name.
        legend, size, ax, **axes: as in `lines`.
    """
    names, numbers = list(values), _array(list(values.values())).astype(float)
    shades = [(colours or {}).get(name, "blue") for name in names]
    if sign:
        shades = ["red" if number < 0 else "blue" for number in numbers]
    paints = [COLOURS[shade] for shade in shades]
    row = 0.36 if len(names) <= FEW / 2 else 0.28  # inches
    with _page(ax, *(size or (4.95, 1.0 + row * len(names)))) as ax:
        place = np.arange(len(names))
        if dots:
            ax.scatter(numbers, place, color=paints, zorder=3)
        else:
            ax.barh(place, numbers, color=paints)
        if intervals is not None:
            ends = [
                (np.nan, np.nan) if pair is None else tuple(pair) for pair in intervals
            ]
            for at, (low, high) in enumerate(ends):
                reach = [[numbers[at] - low], [high - numbers[at]]]
                ink = paints[at] if dots else INK
                ax.errorbar(
                    numbers[at], at, xerr=reach, fmt="none", ecolor=ink, capsize=3
                )
        if sign or (numbers < 0).any():
            ax.axvline(0, color=INK, linewidth=1)
        _references(ax, None, mark)
        ax.set_yticks(place, names)
        ax.invert_yaxis()
        ax.set(**axes)
        _legend(ax, legend)


@_figure
def columns(
    values: Mapping[Any, float],
    *,
    intervals: Sequence[tuple[float, float]] | None = None,
    colours: Mapping[Any, str] | None = None,
    spans: Mapping[str, tuple[Any, Any]] | None = None,
    width: float = 0.8,
    turn: float = 0,
    legend: str | None = "best",
    size: tuple[float, float] = (4.95, 3),
    ax: Axes | None = None,
    **axes: Any,
) -> None:
    """Draw an upright bar for each name, number or moment.

    Args:
        values: numbers by name; by number or moment for an axis that is measured.
        intervals: lower and upper end for each, drawn as a whisker.
        colours: names of `COLOURS` by bar; the others are blue.
        spans: from and to on the horizontal axis, by name, shaded.
        width: of a bar, in units of the horizontal axis.
        turn: degrees by which the names are turned.
        legend, size, ax, **axes: as in `lines`.
    """
    names, numbers = list(values), _array(list(values.values())).astype(float)
    paints = [COLOURS[(colours or {}).get(name, "blue")] for name in names]
    with _page(ax, *size) as ax:
        ax.bar(names, numbers, width, color=paints)
        if intervals is not None:
            low, high = np.array(intervals, float).T
            reach = [numbers - low, high - numbers]
            ax.errorbar(names, numbers, yerr=reach, fmt="none", ecolor=INK, capsize=4)
        for (name, (start, stop)), shade in zip(
            (spans or {}).items(), ("orange", "red")
        ):
            ax.axvspan(start, stop, color=COLOURS[shade], alpha=0.35, label=name)
        if turn:
            ax.tick_params(axis="x", rotation=turn)
        ax.set(**axes)
        _legend(ax, legend)


@_figure
def grouped_bars(
    names: Sequence[str],
    groups: Mapping[str, Any],
    *,
    colours: Mapping[str, str] | None = None,
    upright: bool = False,
    level: Mapping[str, float] | None = None,
    legend: str | None = "best",
    size: tuple[float, float] | None = None,
    ax: Axes | None = None,
    **axes: Any,
) -> None:
    """Draw bars of several groups side by side, one of each group for each name.

    Args:
        names: what is measured, along the axis.
        groups: numbers for each name, by group.
        colours: names of `COLOURS` by group.
        upright: names along the bottom instead of from top to bottom.
        level: a number to compare with, by name; needs `upright`.
        legend, size, ax, **axes: as in `lines`.
    """
    height = 3.4 if upright else 1.3 + 0.09 * len(names) * (len(groups) + 1)
    with _page(ax, *(size or (4.95, height))) as ax:
        place, share = np.arange(len(names)), 0.8 / len(groups)
        for n, ((name, values), (colour, _, _)) in enumerate(
            zip(groups.items(), _looks(list(groups), colours))
        ):
            at = place + share * (n - (len(groups) - 1) / 2)
            draw = ax.bar if upright else ax.barh
            draw(at, _array(values), 0.94 * share, color=colour, label=name)
        if upright:
            ax.set_xticks(place, names)
        else:
            ax.set_yticks(place, names)
            ax.invert_yaxis()
            if min(_array(values).min() for values in groups.values()) < 0:
                ax.axvline(0, color=INK, linewidth=1)
        _references(ax, level, None)
        ax.set(**axes)
        _legend(ax, legend)


@_figure
def stacked_bars(
    names: Sequence[str],
    parts: Mapping[str, Any],
    *,
    colours: Sequence[str],
    size: tuple[float, float] = (4.95, 3.2),
    ax: Axes | None = None,
    **axes: Any,
) -> None:
    """Draw for each name one horizontal bar that is made of parts; the legend is below.

    Args:
        names: of the bars, from top to bottom.
        parts: the length of the part in each bar, by part, from left to right.
        colours: names of `COLOURS`, one a part.
        size, ax, **axes: as in `lines`.
    """
    with _page(ax, *size) as ax:
        start = np.zeros(len(names))
        for (name, lengths), colour in zip(parts.items(), colours, strict=True):
            ax.barh(
                names, _array(lengths), left=start, color=COLOURS[colour], label=name
            )
            start += _array(lengths)
        ax.invert_yaxis()
        ax.set(**axes)
        _legend(ax, "below")


@_figure
def scatter(
    x: Any,
    groups: Mapping[str, Any] | Any,
    *,
    colours: Mapping[str, str] | None = None,
    shade: tuple[Any, str] | None = None,
    names: Mapping[str, tuple[float, float]] | None = None,
    diagonal: str = "",
    cross: bool = False,
    legend: str | None = "best",
    size: tuple[float, float] = (4.95, 3.6),
    ax: Axes | None = None,
    **axes: Any,
) -> None:
    """Draw points, of one kind or of several.

    Args:
        x: horizontal positions of all points.
        groups: vertical positions by group, or those of one group without a name.
        colours: names of `COLOURS` by group.
        shade: a number for each point that its colour shows, and what it means.
        names: places where a name is written.
        diagonal: name of the line on which both numbers are equal; "" for none.
        cross: mark 0 on both axes.
        legend, size, ax, **axes: as in `lines`.
    """
    named = groups if isinstance(groups, Mapping) else {"": groups}
    across = _array(x)
    with _page(ax, *size) as ax:
        if diagonal:
            ends = [across.min(), across.max()]
            ax.plot(
                ends, ends, color=WEIGHT, linestyle="--", linewidth=1, label=diagonal
            )
        if cross:
            ax.axhline(0, color=WEIGHT, linewidth=0.8)
            ax.axvline(0, color=WEIGHT, linewidth=0.8)
        dot = 20 if len(across) < 100 else 12 if len(across) < 600 else 6
        for (name, up), (colour, _, marker) in zip(
            named.items(), _looks(list(named), colours)
        ):
            how = {"color": colour, "marker": marker, "alpha": 0.6}
            if shade is not None:
                how = {"c": _array(shade[0]), "cmap": SHADES}
                dot = 14
            drawn = ax.scatter(across, _array(up), s=dot, label=name or None, **how)
        if shade is not None:
            ax.get_figure(root=True).colorbar(drawn, ax=ax, label=shade[1])
        for name, place in (names or {}).items():
            ax.annotate(
                name,
                place,
                xytext=(4, 4),
                textcoords="offset points",
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.7, "pad": 1},
            )
        ax.set(**axes)
        _legend(ax, legend, markerscale=2 if dot < 20 else 1)


@_figure
def spans(
    ranges: Mapping[str, tuple[float, float]],
    *,
    mark: Mapping[str, float] | None = None,
    legend: str | None = "upper right",
    size: tuple[float, float] = (4.95, 2.4),
    ax: Axes | None = None,
    **axes: Any,
) -> None:
    """Draw for each name where it begins and ends, the first on top.

    Args:
        ranges: from and to, by name.
        mark: vertical lines, by name.
        legend, size, ax, **axes: as in `lines`.
    """
    with _page(ax, *size) as ax:
        for place, (low, high) in enumerate(ranges.values()):
            ax.barh(place, high - low, left=low, height=0.6, color=QUERY)
        for name, value in (mark or {}).items():
            ax.axvline(value, color=COLOURS["red"], linestyle="--", label=name)
        ax.set_yticks(range(len(ranges)), list(ranges))
        ax.invert_yaxis()
        ax.set(**axes)
        _legend(ax, legend)


@_figure
def beside(
    *panels: Any,
    title: str = "",
    share: str = "",
    size: tuple[float, float] | None = None,
    ratios: Sequence[float] | None = None,
) -> None:
    """Draw several figures side by side as one.

    Args:
        *panels: `panel(lines, x, curves, title=…)` and so on: a function of this file
            and its arguments.
        title: above all.
        share: "x", "y" or "xy": axes that have one scale.
        size: inches.
        ratios: widths, relative to each other.
    """
    size = size or (4.2 * len(panels), 3.2)
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(panels),
            figsize=size,
            sharex="x" in share,
            sharey="y" in share,
            width_ratios=ratios,
            squeeze=False,
        )
        said = []
        for draw, ax in zip(panels, axes[0]):
            draw(ax=ax)
            if "y" in share and ax is not axes[0, 0]:
                ax.set_ylabel("")
            names = ax.get_legend_handles_labels()[1]
            if names and names == said:  # one legend for what is the same
                ax.get_legend().remove()
            said = said or names
        if title:
            figure.suptitle(title)
        if not _TOLD.get()[0]:
            plt.show()
            return
        limits = {
            which: getattr(axes[0, 0], f"get_{which}lim")()
            for which in "xy"
            if which in share
        }
        plt.close(figure)
        shares = np.array(ratios or [1] * len(panels))
        shares = shares / shares.sum()
        _one_by_one(
            [
                (partial(_with_limits, draw, limits), (size[0] * part, size[1]))
                for draw, part in zip(panels, shares)
            ]
        )


def _with_limits(draw: Any, limits: Mapping[str, Any], ax: Axes) -> None:
    """Draw a panel on the scale that it shares with others."""
    draw(ax=ax)
    ax.set(**{f"{which}lim": ends for which, ends in limits.items()})


def _one_by_one(panels: Sequence[tuple[Any, tuple[float, float]]]) -> None:
    """Show panels as one figure: side by side, and where there is no room, stacked."""
    caption, alt, name = _TOLD.get()
    drawings, said = [], []
    for draw, size in panels:
        figure, ax = plt.subplots(figsize=size)
        draw(ax=ax)
        names = ax.get_legend_handles_labels()[1]
        if names and names == said and ax.get_legend():
            ax.get_legend().remove()
        said = said or names
        drawings.append(exported(figure, "" if drawings else alt))
        plt.close(figure)
    display(Picture("".join(drawings), caption, alt, name))


@_figure
def weights(
    table: Any,
    queries: Sequence[str],
    events: Sequence[str],
    title: str = "",
    **labels: Any,
) -> None:
    """Show `attncore.plotting.heat_map`: weights (L, K), a row for each query."""
    with plt.style.context(STYLE):
        figure = heat_map(table, queries, events, title, **labels).figure
        width, height = figure.get_size_inches()
        if _TOLD.get()[0]:  # the bar of colours goes
            figure.set_size_inches(0.8 * width, height)
        _show()


@_figure
def weight_bars(
    row: Any, events: Sequence[str], title: str = "", **labels: Any
) -> None:
    """Show `attncore.plotting.weights_bars`: one row of weights (K,)."""
    with plt.style.context(STYLE):
        ax = weights_bars(row, events, title, **labels)
        if _TOLD.get()[0]:
            ax.figure.set_size_inches(4.95, max(2.5, 1.1 + 0.26 * len(events)))
        _show()


@_figure
def learning(epochs: Any, title: str = "") -> None:
    """Show `attncore.plotting.learning_curve`: loss and validation metric by epoch."""
    with plt.style.context(STYLE):
        figure = learning_curve(epochs, title).figure
        if _TOLD.get()[0]:
            figure.set_size_inches(4.95, 4)
            if not title:  # it would say the best epoch, as the broken line does
                figure.axes[1].set_title("")
        _show()


@_figure
def storage(
    items: Sequence[int],
    offsets: Sequence[int],
    inputs: Any,
    targets: Any,
    names: Mapping[int, str],
) -> None:
    """Draw how histories lie in one array, and the windows that a batch takes from it.

    Args:
        items: all histories, one after the other.
        offsets: where each begins, and the end of the last.
        inputs: item indices (B, T), padded with 0.
        targets: the item that comes next, (B, T), padded with 0.
        names: of the items, by index.
    """
    shades = [QUERY, KEY, VALUE]
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))

    def box(ax: Axes, x: float, y: float, width: float, text: str, colour: str) -> None:
        for look in (
            {"facecolor": colour, "alpha": 0.25, "linewidth": 0},
            {"facecolor": "none", "edgecolor": WEIGHT},
        ):
            ax.add_patch(plt.Rectangle((x, y), width, 0.9, **look))
        ax.text(x + width / 2, y + 0.45, text, ha="center", va="center")

    with plt.style.context(STYLE):
        _, axes = plt.subplots(3, 1, figsize=(6.4, 4.6), height_ratios=[1, 2.4, 2.4])
        for place, (item, user) in enumerate(zip(items, owner)):
            box(axes[0], place, 0, 0.96, str(item), shades[user])
        for start in offsets[:-1]:
            axes[0].text(start, 1.05, f"offset {start}")
        for ax, grid in zip(axes[1:], (inputs, targets)):
            for b, t in np.ndindex(*grid.shape):
                item = int(grid[b, t])
                shade = PAPER if item == 0 else shades[b]
                box(ax, 3 * t, 2 - b, 2.9, names.get(item, "padding"), shade)
        titles = (
            "One flat array holds all histories …",
            "… of which a batch takes windows (inputs) …",
            "… and asks at each event for the next (targets)",
        )
        for ax, title in zip(axes, titles):
            ax.set(xlim=(-0.1, 9.1), ylim=(-0.1, 1.5 if ax is axes[0] else 3.05))
            ax.set_title(title, loc="left")
            ax.axis("off")
        _show()


@_figure
def block() -> None:
    """Draw a block of self-attention: two things are added to the stream of vectors."""
    parts = (
        (4.6, ("norm", "attention\nto the past", "dropout")),
        (2.2, ("norm", "network on\neach event", "dropout")),
    )
    back = {"arrowstyle": "-|>", "color": WEIGHT, "lw": 1.5}
    back["connectionstyle"] = "angle,angleA=-90,angleB=0"
    box = {"facecolor": PAPER, "edgecolor": WEIGHT}
    with _page(None, 4.95, 4) as ax:
        stream = {"arrowstyle": "-|>", "lw": 4, "color": QUERY}
        ax.annotate("", (0.4, -0.2), (0.4, 5.4), arrowprops=stream)
        ax.text(0.6, 5.1, "the stream x", color=QUERY)
        for top, names in parts:
            ax.plot([0.4, 0.95], [top, top], color=WEIGHT, linestyle="-", lw=1.5)
            for n, name in enumerate(names):
                left = 0.95 + 1.45 * n
                ax.add_patch(plt.Rectangle((left, top - 0.4), 1.3, 0.8, **box))
                ax.text(left + 0.65, top, name, ha="center", va="center")
            end = top - 1.4
            ax.annotate("", (0.56, end), (4.5, top - 0.4), arrowprops=back)
            ring = {"facecolor": PAPER, "edgecolor": QUERY, "lw": 2, "zorder": 3}
            ax.add_patch(plt.Circle((0.4, end), 0.16, **ring))
            ax.text(0.4, end - 0.01, "+", ha="center", va="center", zorder=4)
        ax.set(xlim=(0.1, 5.3), ylim=(-0.3, 5.5), aspect="equal")
        ax.axis("off")


@_figure
def shards(
    histories: Mapping[str, Sequence[int]], parts: Sequence[Sequence[str]]
) -> None:
    """Draw histories in one array, and below it the shards into which they are cut.

    Args:
        histories: items by viewer.
        parts: the viewers of each shard.
    """
    shades = ("sky", "orange", "green", "purple")
    colours = {
        viewer: COLOURS[shade] for viewer, shade in zip(histories, cycle(shades))
    }
    with _page(None, 5.6, 2.4) as ax:
        for y, viewers in enumerate([list(histories), *parts]):
            place = 0
            for viewer in viewers:
                if y == 0:
                    ax.text(place, -0.4, viewer, va="bottom")
                for item in histories[viewer]:
                    look = {"color": colours[viewer], "alpha": 0.5}
                    ax.barh(y, 0.94, left=place, height=0.6, **look)
                    ax.text(place + 0.47, y, str(item), ha="center", va="center")
                    place += 1
        rows = ["one array", *(f"shard {n}" for n in range(len(parts)))]
        ax.set_yticks(range(len(rows)), rows)
        ax.set(
            xlabel="place in the array",
            ylim=(len(rows) - 0.5, -0.9),
        )


@_figure
def best_of_parts(
    items: Sequence[str],
    scores: Any,
    seen: Sequence[str],
    kept: Sequence[int],
    best: Sequence[int],
    part: int,
) -> None:
    """Draw how the best of all are found among the best of each part of the catalogue.

    Args:
        items: names, in the order of the catalogue.
        scores: a score for each.
        seen: items that may not be shown, hatched.
        kept: places of the best of each part.
        best: places of the best of all.
        part: items in a part.
    """
    with _page(None, 4.95, 3) as ax:
        for place, (item, score) in enumerate(zip(items, _array(scores))):
            shade = "pale" if item in seen else "blue" if place in kept else "sky"
            hatch = "//" if item in seen else ""
            ax.bar(item, score, color=COLOURS[shade], hatch=hatch)
            if place in best:
                ax.annotate("best of all", (place, score), ha="center", va="bottom")
        top = 1.2 * float(_array(scores).max())
        for start in range(part, len(items), part):
            ax.axvline(start - 0.5, color=WEIGHT, linestyle="--", linewidth=1)
        for number, start in enumerate(range(0, len(items), part)):
            middle = start + (part - 1) / 2
            ax.text(middle, 0.97 * top, f"part {number + 1}", ha="center", va="top")
        ax.set(
            ylabel="score",
            ylim=(0, top),
        )
        ax.tick_params(axis="x", labelrotation=20)
