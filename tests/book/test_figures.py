"""Facts about book/figures.py: what a figure shows is what it was given."""

import itertools
import json
import re
from pathlib import Path

import figures
import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

matplotlib.use("Agg")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def shown(monkeypatch):
    """The figures that were shown, instead of a window."""
    found = []
    monkeypatch.setattr(
        plt, "show", lambda: found.append(plt.gcf()) or plt.gcf().canvas.draw()
    )
    yield found
    plt.close("all")


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_lines_hold_their_numbers_and_each_has_a_look_of_its_own(shown):
    curves = {"a": torch.tensor([1.0, 2, 3]), "b": [3, 2, 1], "own": ([5, 6], [0, 1])}
    figures.lines([1, 2, 4], curves, level={"chance": 0.5}, title="T", ylim=(0, 4))
    (ax,) = shown[0].axes
    drawn = {line.get_label(): line for line in ax.lines}
    assert drawn["a"].get_xydata().tolist() == [[1, 1], [2, 2], [4, 3]]
    assert drawn["own"].get_xdata().tolist() == [5, 6]
    assert len({line.get_color() for line in ax.lines}) == 4
    assert len({drawn[name].get_linestyle() for name in ("a", "b", "own")}) == 3
    assert legend(ax) == ["a", "b", "own", "chance"]
    assert (ax.get_title(), ax.get_ylim()) == ("T", (0, 4))


def test_a_recommender_has_one_colour_wherever_it_stands(shown):
    figures.lines(None, {"new": [1, 2], "Markov chain": [2, 3], "popularity": [1, 1]})
    figures.lines(None, {"popularity": [2, 3]}, level={"Markov chain": 1})
    first, second = (
        {line.get_label(): line.get_color() for line in figure.axes[0].lines}
        for figure in shown
    )
    assert first["Markov chain"] == second["Markov chain"] == figures.COLOURS["red"]
    assert first["popularity"] == second["popularity"]
    assert len(set(first.values())) == 3


def test_one_curve_needs_no_name_and_no_legend(shown):
    figures.lines(None, np.array([1.0, 4, 9]), step=True)
    (ax,) = shown[0].axes
    assert ax.lines[0].get_ydata().tolist() == [1, 4, 9]
    assert ax.get_legend() is None


def test_bars_stand_in_order_with_whiskers_at_their_intervals(shown):
    figures.bars({"best": 0.3, "worse": -0.1}, intervals=[(0.2, 0.5), None], sign=True)
    (ax,) = shown[0].axes
    assert [patch.get_width() for patch in ax.patches] == [0.3, -0.1]
    assert [to_hex(patch.get_facecolor()).upper() for patch in ax.patches] == [
        figures.COLOURS["blue"],
        figures.COLOURS["red"],
    ]
    assert ax.yaxis_inverted()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["best", "worse"]
    (whisker,) = (
        lines for part in ax.collections for lines in part.get_segments() if len(lines)
    )
    assert np.allclose(whisker[:, 0], [0.2, 0.5])  # no interval, no whisker


def test_dots_take_the_colour_of_their_whiskers(shown):
    figures.bars(
        {"a": 1, "b": 2}, intervals=[(0, 2), (1, 3)], colours={"b": "red"}, dots=True
    )
    (ax,) = shown[0].axes
    whiskers = [part for part in ax.collections if hasattr(part, "get_segments")]
    inks = [to_hex(part.get_color()[0]).upper() for part in whiskers]
    assert inks == [figures.COLOURS["blue"], figures.COLOURS["red"]]


def test_columns_stand_upright(shown):
    figures.columns(
        {"a": 1, "b": 3}, intervals=[(0, 2), (2, 5)], spans={"late": (0.5, 1)}
    )
    (ax,) = shown[0].axes
    assert [patch.get_height() for patch in ax.patches[:2]] == [1, 3]
    assert legend(ax) == ["late"]


@pytest.mark.parametrize("upright", [True, False])
def test_grouped_bars_do_not_overlap(shown, upright):
    figures.grouped_bars(
        ["x", "y"], {"a": [1, 2], "b": [3, 4], "c": [5, 6]}, upright=upright
    )
    (ax,) = shown[0].axes
    ends = sorted(
        (p.get_x(), p.get_x() + p.get_width())
        if upright
        else (p.get_y(), p.get_y() + p.get_height())
        for p in ax.patches
    )
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(ends))
    assert legend(ax) == ["a", "b", "c"]


def test_stacked_bars_join(shown):
    figures.stacked_bars(["x"], {"a": [0.25], "b": [0.75]}, colours=("blue", "green"))
    first, second = shown[0].axes[0].patches
    assert second.get_x() == first.get_width() == 0.25


def test_scatter_marks_what_it_is_asked_to(shown):
    figures.scatter(
        [0, 1], {"a": [0, 1], "b": [1, 0]}, diagonal="truth", names={"here": (1, 1)}
    )
    (ax,) = shown[0].axes
    assert [points.get_offsets().tolist() for points in ax.collections] == [
        [[0, 0], [1, 1]],
        [[0, 1], [1, 0]],
    ]
    assert [text.get_text() for text in ax.texts] == ["here"]


def test_panels_stand_side_by_side_on_one_scale(shown):
    figures.beside(
        figures.panel(figures.lines, None, [1, 2], title="left"),
        figures.panel(figures.bars, {"a": 1}, title="right"),
        title="both",
    )
    figures.beside(
        figures.panel(figures.lines, None, {"a": [1, 2]}, ylabel="shared"),
        figures.panel(figures.lines, None, {"a": [1, 9]}, ylabel="shared"),
        share="y",
    )
    assert [ax.get_title() for ax in shown[0].axes] == ["left", "right"]
    assert len({ax.get_ylim() for ax in shown[1].axes}) == 1
    assert [ax.get_ylabel() for ax in shown[1].axes] == ["shared", ""]
    assert [ax.get_legend() is None for ax in shown[1].axes] == [False, True]


def test_the_style_ends_with_the_figure(shown):
    before = dict(matplotlib.rcParams)
    figures.spans({"a": (1, 3)}, mark={"here": 2})
    figures.block()
    figures.shards({"Ann": [1, 2], "Ben": [3]}, [["Ann"], ["Ben"]])
    figures.best_of_parts(
        ["a", "b", "c", "d"], [1, 2, 3, 4], ["a"], [1, 3], [3], part=2
    )
    figures.storage(
        [1, 2], [0, 2], np.array([[1, 0]]), np.array([[2, 0]]), {1: "A", 2: "B"}
    )
    assert dict(matplotlib.rcParams) == before
    assert len(shown) == 5
    texts = [text.get_text() for text in shown[-1].axes[1].texts]
    assert texts == ["A", "padding"]


def test_every_function_stands_in_some_chapter():
    code = "\n".join(
        cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        for path in (ROOT / "book").glob("*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    )
    assert not [
        name for name in figures.__all__ if not re.search(rf"\bfigures\.{name}\b", code)
    ]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda p: p.stem
)
def test_a_notebook_draws_by_one_call_a_figure(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert "pyplot" not in cell.source
