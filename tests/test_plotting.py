"""Facts about `attncore.plotting`: what is drawn, where, and what a mistake is told."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot
import numpy as np
import pytest
import torch

import attncore as ac
from attncore.plotting import PALETTE, heat_map, learning_curve, weights_bars

mpl.use("Agg")
WEIGHTS = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
QUERIES, EVENTS = ["Blade Runner", "Titanic"], ["Alien", "Toy Story", "Casablanca"]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    mpl.pyplot.close("all")


def labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def test_a_row_of_the_heat_map_is_a_query_and_a_column_an_event():
    ax = heat_map(WEIGHTS, QUERIES, EVENTS, "who looks where")
    assert np.allclose(ax.images[0].get_array(), WEIGHTS)
    assert labels(ax.yaxis) == QUERIES
    assert labels(ax.xaxis) == EVENTS
    assert ax.get_title() == "who looks where"
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert [text.get_text() for text in ax.texts] == [
        ".70",
        ".20",
        ".10",
        ".00",
        ".00",
        "1",
    ]


def test_a_heat_map_writes_no_numbers_where_they_could_not_be_read():
    ax = heat_map(np.full((2, 50), 0.02), QUERIES, [str(i) for i in range(50)], "many")
    assert not ax.texts


def test_two_heat_maps_can_share_one_scale_of_colours():
    assert heat_map(WEIGHTS, QUERIES, EVENTS, "own scale").images[0].get_clim() == (
        0,
        1,
    )
    assert heat_map(WEIGHTS, QUERIES, EVENTS, "given", most=0.8).images[
        0
    ].get_clim() == (0, 0.8)


def test_a_heat_map_of_nothing_but_zeros_is_dark():
    ax = heat_map(np.zeros((2, 3)), QUERIES, EVENTS, "nowhere to look")
    assert ax.images[0].get_clim() == (0, 1)


def test_bars_stand_in_the_order_of_the_events_from_the_top():
    ax = weights_bars(WEIGHTS[0], EVENTS, "one row")
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.7, 0.2, 0.1])
    assert labels(ax.yaxis) == EVENTS
    assert ax.yaxis_inverted()
    assert ax.lines[0].get_xdata()[0] == pytest.approx(1 / 3)
    assert not weights_bars(WEIGHTS[0], EVENTS, "one row", uniform=False).lines


def test_pictures_are_drawn_on_the_axes_that_are_given():
    _, (left, right) = mpl.pyplot.subplots(1, 2)
    assert heat_map(WEIGHTS, QUERIES, EVENTS, "left", ax=left) is left
    assert weights_bars(WEIGHTS[0], EVENTS, "right", ax=right) is right


def test_pictures_lie_on_an_opaque_page():
    ax = heat_map(WEIGHTS, QUERIES, EVENTS, "dark mode")
    assert ax.get_figure().get_facecolor() == (1, 1, 1, 1)


def test_weights_that_need_a_gradient_or_are_half_precision_can_be_drawn():
    heat_map(WEIGHTS.clone().requires_grad_(), QUERIES, EVENTS, "gradient")
    weights_bars(WEIGHTS[0].bfloat16(), EVENTS, "half")


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (
            WEIGHTS.T,
            r"weights \(3, 2\) for 2 queries and 3 events; give one row a query",
        ),
        (WEIGHTS[None], r"have 3 axes; this picture shows 2"),
        (WEIGHTS * float("nan"), "hold NaN"),
    ],
)
def test_a_heat_map_refuses_what_it_cannot_draw(weights, says):
    with pytest.raises(ValueError, match=says):
        heat_map(weights, QUERIES, EVENTS, "wrong")


def test_bars_refuse_a_row_of_another_length_and_no_row_at_all():
    with pytest.raises(ValueError, match="for 2 events; there must be one for each"):
        weights_bars(WEIGHTS[0], EVENTS[:2], "wrong")
    with pytest.raises(ValueError, match="at least one"):
        weights_bars([], [], "empty")


def test_attncore_does_not_import_matplotlib_and_names_the_mend_where_it_is_absent():
    script = """
import sys
import attncore, attncore.plotting
assert "matplotlib" not in sys.modules
sys.modules["matplotlib"] = sys.modules["matplotlib.pyplot"] = None
try:
    attncore.plotting.weights_bars([1.0], ["Alien"], "none")
except ImportError as error:
    print(error, end="")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "pictures need matplotlib: pip install attncore[plot]"


def test_a_learning_curve_shows_loss_metric_and_best_epoch_of_a_run_folder(
    split, small, quick, tmp_path
):
    run = ac.fit(ac.Recommender(small, split), split, quick, out=tmp_path)
    for source in (tmp_path, str(tmp_path), run.epochs):
        ax = learning_curve(source)
        curve, best = ax.lines
        assert curve.get_ydata().tolist() == [entry["ndcg@10"] for entry in run.epochs]
        assert best.get_xdata()[0] == run.best_epoch
        (above,) = [other for other in ax.figure.axes if other is not ax]
        assert above.lines[0].get_ydata().tolist() == [
            entry["loss"] for entry in run.epochs
        ]
        assert f"epoch {run.best_epoch}" in above.get_title()
        assert "nats" in above.get_ylabel()


def test_a_learning_curve_says_what_is_missing(tmp_path):
    with pytest.raises(ac.DataError, match=r"log\.jsonl: is not the log of a training"):
        learning_curve(tmp_path)
    with pytest.raises(
        ac.DataError, match="no epoch with 'recall': the log has epoch, loss"
    ):
        learning_curve([{"epoch": 1, "loss": 2.0}], metric="recall")


def test_figures_pages_and_explorers_share_one_palette_for_any_eye():
    root = Path(__file__).parent.parent
    style = (root / "book" / "attncore.mplstyle").read_text(encoding="utf-8")
    page = (root / "book" / "_static" / "book.css").read_text(encoding="utf-8")
    explorers = (root / "book" / "explorer.css").read_text(encoding="utf-8")
    assert [f"#{colour}" for colour in re.findall(r'"([0-9A-F]{6})"', style)] == list(
        PALETTE
    )
    assert re.findall(r"--book-\w+: (#\w+)", page) == [
        colour.lower() for colour in PALETTE
    ]
    greys = {f"#{part * 3}" for part in re.findall(r"#([0-9a-f]{2})\1\1", explorers)}
    assert set(re.findall(r"#[0-9a-f]{6}", explorers)) - greys == {
        colour.lower() for colour in PALETTE[:4]
    }
    with mpl.pyplot.style.context(root / "book" / "attncore.mplstyle"):
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == list(PALETTE)
        dashes = mpl.rcParams["axes.prop_cycle"].by_key()["linestyle"]
    assert len(set(dashes[:4])) == 4
