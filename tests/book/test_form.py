"""The form of a chapter of the second edition: short, moved by hand, and honest about
time."""

import math
import re
from pathlib import Path

import nbformat
import pytest
from test_plumbing import code_of

ROOT = Path(__file__).parent.parent.parent
CHAPTERS = sorted((ROOT / "book").glob("0[1-5]_*.ipynb"))
ASIDE = re.compile(  # what is folded, and what no reader reads as a word
    r"^(:{3,})\{[^\n]*\n:class: dropdown\n.*?^\1$|\$\$.*?\$\$|^:.*$|^:::.*$",
    re.M | re.S,
)


def prose(path):
    """The words that stand open on the page; a formula in a line is one word."""
    folded, parts = False, []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "markdown":
            continue
        if "{solution-start}" in cell.source or "{solution-end}" in cell.source:
            folded = "{solution-start}" in cell.source
        elif not folded:
            parts.append(ASIDE.sub(" ", cell.source))
    text = re.sub(r"\$[^$]+\$", "formula", "\n".join(parts))
    text = re.sub(r"\{[\w:]+\}`([^`<]*?)(?: <[^`]*>)?`", r"\1", text)
    return re.findall(r"[\w’'.-]*\w", text)


def html_of(path):
    outputs = [
        output.get("data", {}).get("text/html", "")
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
        and "remove-cell" not in cell.metadata.get("tags", [])
        for output in cell.outputs
    ]
    return "\n".join(outputs)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
class TestEveryChapter:
    def test_is_short(self, path):
        lines = [
            line
            for cell, visible in code_of(path)
            if visible
            for line in cell.source.splitlines()
            if line.strip() and not line.strip().startswith("#")
        ]
        assert len(prose(path)) <= 2500
        assert len(lines) <= 200

    def test_says_honestly_how_long_it_takes(self, path):
        head = nbformat.read(path, as_version=4).cells[0].source
        said = re.search(r"\*\*Time:\*\* (\d+) minutes to read, (\d+) with the", head)
        words = math.ceil(len(prose(path)) / 200)
        assert words <= int(said[1]) <= words + 6  # and some minutes for the code
        exercises = len(re.findall(r"\{exercise\}", path.read_text(encoding="utf-8")))
        assert int(said[2]) >= int(said[1]) + 4 * exercises

    def test_has_something_to_move_to_draw_and_to_answer(self, path):
        html = html_of(path)
        assert re.search(r'class="widget" data-widget="', html)
        assert html.count('class="drawn"') >= 2
        assert 2 <= html.count('class="widget question"') <= 3
