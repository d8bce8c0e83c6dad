"""Facts about book/vector.py: a figure follows the page, can be read, and repeats."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import figures
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import vector

matplotlib.use("Agg")
BOOK = Path(__file__).parent.parent.parent / "book"
TOLD = {"caption": "What it says.", "alt": "What it shows.", "name": "fig-it"}
FILMS = ["Alien", "Heat", "Ran"]
WEIGHTS = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])
DRAWN = {
    "lines": lambda: figures.lines(None, {"a": [1, 3, 2], "b": [2, 1, 3]}, **TOLD),
    "bars": lambda: figures.bars({"a": 1, "b": -2}, intervals=[(0, 2), None], **TOLD),
    "columns": lambda: figures.columns({"a": 1, "b": 2}, **TOLD),
    "grouped": lambda: figures.grouped_bars(FILMS, {"x": [1, 2, 3]}, **TOLD),
    "stacked": lambda: figures.stacked_bars(
        FILMS, {"x": [1, 2, 3]}, colours=["pale"], **TOLD
    ),
    "scatter": lambda: figures.scatter(
        [1, 2, 3], [3, 1, 2], shade=([1, 2, 3], "how many"), **TOLD
    ),
    "spans": lambda: figures.spans({"train": (0, 8)}, mark={"now": 5}, **TOLD),
    "weights": lambda: figures.weights(WEIGHTS, FILMS, FILMS, **TOLD),
    "many weights": lambda: figures.weights(
        np.full((10, 9), 0.1), list("abcdefghij"), list("abcdefghi"), **TOLD
    ),
    "weight bars": lambda: figures.weight_bars(WEIGHTS[0], FILMS, **TOLD),
    "learning": lambda: figures.learning(
        [{"epoch": n, "loss": 5 - n, "ndcg@10": n / 10} for n in (1, 2)], **TOLD
    ),
    "beside": lambda: figures.beside(
        figures.panel(figures.lines, None, [1, 2]),
        figures.panel(figures.lines, None, [5, 6]),
        share="y",
        **TOLD,
    ),
    "block": lambda: figures.block(**TOLD),
    "picture": lambda: figures.picture('<text x="0" y="12">x</text>', (90, 20), **TOLD),
}


@pytest.fixture
def draw(monkeypatch):
    """Draws a figure of `DRAWN`; gives what a cell would put out."""

    def drawn(name):
        found = []
        monkeypatch.setattr(figures, "display", found.append)
        DRAWN[name]()
        assert plt.get_fignums() == []
        (picture,) = found
        return picture

    return drawn


def elements(picture):
    box = re.search(r"<div.*</div>", picture._repr_html_(), re.DOTALL)[0]
    return list(ET.fromstring(box).iter())


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_follows_the_page(draw, name):
    picture = draw(name)
    nodes = elements(picture)
    assert not {"image", "style", "script", "metadata"} & {node.tag for node in nodes}
    (shown, *rest) = [node for node in nodes if node.tag == "svg"]
    assert (shown.get("role"), shown.get("aria-label")) == ("img", TOLD["alt"])
    assert all(node.get("aria-hidden") == "true" for node in rest)
    bare = re.sub(r"var\([^;\"]*\)", "", picture.svg)
    colours = set(re.findall(r"(?:fill|stroke):\s*(#\w+)", bare))
    if name != "scatter":  # whose points have colours between two of the palette
        assert colours == set()
    assert "What it says." in picture._repr_html_()
    assert 'data-name="fig-it"' in picture._repr_html_()


@pytest.mark.parametrize("name", DRAWN)
def test_letters_are_of_11_px_on_a_phone(draw, name):
    for svg in [node for node in elements(draw(name)) if node.tag == "svg"]:
        least = float(re.search(r"min-width:(\d+)px", svg.get("style"))[1])
        across = float(svg.get("viewBox").split()[2])
        sizes = [
            float(found)
            for node in svg.iter()
            for found in re.findall(r"font-size:([\d.]+)px", node.get("style", ""))
        ]
        assert min(sizes, default=vector.SMALLEST) * least / across >= 10.95
        assert least <= 358 or name == "many weights"


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_repeats_to_the_byte_and_its_names_are_its_own(draw, name):
    first, again = draw(name), draw(name)
    assert first.svg == again.svg
    ids = re.findall(r'\bid="([^"]+)"', first.svg)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', first.svg))
    assert used == set(ids)


def test_two_figures_share_no_identifier(draw):
    marks = [set(re.findall(r'\bid="([^"]+)"', draw(n).svg)) for n in ("lines", "bars")]
    assert all(marks)
    assert not marks[0] & marks[1]


def test_cells_are_as_dark_as_their_weights_and_say_them(draw):
    nodes = elements(draw("weights"))
    shades = [
        float(found[1])
        for node in nodes
        if (found := re.search(r"opacity:([\d.]+)", node.get("style", "")))
    ]
    assert np.argsort(shades[:9]).tolist()[-1] == 5
    assert shades[0] > shades[1] > shades[2]
    words = [node.text for node in nodes if node.tag == "text"]
    assert {".70", ".20", ".80"} <= set(words)


def test_panels_that_share_a_scale_show_the_same_one(draw):
    nodes = elements(draw("beside"))
    texts = [[t.text for t in node.iter("text")] for node in nodes if node.tag == "svg"]
    assert len(texts) == 2
    assert texts[0] == texts[1]
    assert {"1", "6"} <= {text for text in texts[0] if text}


@pytest.mark.parametrize(
    ("value", "words"),
    [(1e-3, "0.001"), (1, "1"), (5e5, "500,000"), (1e-14, "10⁻¹⁴"), (2e-14, "")],
)
def test_a_tick_of_a_logarithmic_scale_has_letters_of_one_size(value, words):
    assert vector._power(value) == words


def test_a_label_longer_than_the_figure_stands_on_two_lines(monkeypatch):
    found = []
    monkeypatch.setattr(figures, "display", found.append)
    names = ["a recommender of a very long name indeed", "b"]
    label = "questions in which the true cause is found by looking at the weights (%)"
    figures.bars(dict.fromkeys(names, 1), xlabel=label, **TOLD)
    words = [node.text for node in elements(found[0]) if node.tag == "text"]
    assert label not in words
    assert any(text.startswith("questions in which") for text in words)


@pytest.mark.parametrize("lacking", ["caption", "alt"])
def test_a_figure_without_caption_or_alternative_text_is_refused(lacking):
    told = {**TOLD, lacking: ""}
    with pytest.raises(ValueError, match=r"caption= .* alt="):
        figures.lines(None, [1, 2], **told)
    plt.close("all")


def test_a_name_that_cannot_be_an_anchor_is_refused():
    with pytest.raises(ValueError, match="small letters"):
        vector.Picture("<svg/>", "says", "shows", "Fig 1")


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_colour_can_be_told_from_its_page():
    css = (BOOK / "_static" / "book.css").read_text(encoding="utf-8")
    rules = [
        dict(re.findall(r"(--f-\w+): (#[0-9a-f]{6})", block))
        for block in re.findall(r"\{[^{}]*--f-blue[^{}]*\}", css)
    ]
    light, dark, paper = rules
    assert light == paper
    names = {f"--f-{n}" for n in figures.COLOURS if n != "black"}
    assert set(light) == set(dark) == names
    assert all(contrast(colour, "#ffffff") >= 3 for colour in light.values())
    assert all(contrast(colour, "#121212") >= 3 for colour in dark.values())
    # What stands in the figure itself, for pages without book.css.
    for value in vector.VARIABLES.values():
        if found := re.fullmatch(r"var\((--f-\w+),(#[0-9a-f]{6})\)", value):
            assert light[found[1]] == found[2]


def test_a_weight_s_number_can_be_read_on_its_cell():
    for grey, page, ink in (
        (0x76, 0xFF, "#323232"),
        (0x9A, 0x12, "#ced6dd"),
    ):
        mixed = round(vector.FULL * grey + (1 - vector.FULL) * page)
        assert contrast(f"#{mixed:02x}{mixed:02x}{mixed:02x}", ink) >= 4.5


MOVED = sorted(
    path
    for path in BOOK.glob("*.ipynb")
    if 'class=\\"drawn\\"' in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", MOVED, ids=lambda path: path.stem)
def test_a_chapter_of_drawn_figures_has_no_other(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [out.get("data", {}) for c in cells for out in c.get("outputs", [])]
    assert not [data for data in outputs if "image/png" in data]
    html = ["".join(data["text/html"]) for data in outputs if "text/html" in data]
    drawn = [text for text in html if '<figure class="drawn"' in text]
    assert drawn
    for text in drawn:
        assert re.search(r"<figcaption>.{15,}</figcaption>", text)
        assert re.search(r'role="img"[^>]* aria-label="[^"]{15,}"', text)
        assert "data:image" not in text
        assert "<image" not in text
    names = re.findall(r'data-name="([^"]+)"', "".join(drawn))
    assert len(names) == len(drawn)
