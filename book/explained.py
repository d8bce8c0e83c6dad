"""Links from a name of the module to the chapters that explain or use it: a Sphinx
extension named in _config.yml.

The chapters are read, not listed: one that shows a name's code explains it; of those
that use the name, the ones whose prose says it most often come first.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
SHOWN = 3  # chapters, at most, for a name


@cache
def chapters() -> dict[str, tuple[str, str]]:
    """Each notebook of the table of contents, in its order: its prose and its code."""
    pages = re.findall(
        r"file: (book/\w+)", (ROOT / "_toc.yml").read_text(encoding="utf-8")
    )
    found = {}
    for page in pages:
        path = ROOT / f"{page}.ipynb"
        if path.exists():
            cells = nbformat.read(path, as_version=4).cells
            sides = [
                "\n".join(c.source for c in cells if c.cell_type == kind)
                for kind in ("markdown", "code")
            ]
            found[path.stem] = (sides[0], sides[1])
    return found


def chapters_of(name: str) -> tuple[list[str], list[str]]:
    """The chapters that show the code of `name`, a class's or a function's, and those
    that only use it."""
    shown = re.compile(rf":pyobject: {name}\b|getsource\([\w.]*\b{name}\b")
    used = re.compile(
        rf"\b(?:ac|attncore)\.(?:\w+\.)*{name}\b|from attncore[\w.]* import"
        rf" (?:\([^)]*|[^\n(]*)\b{name}\b"
    )
    said = re.compile(rf"`(?:ac\.)?(?:\w+\.)*{name}[`(]")
    explain = [
        page for page, (prose, code) in chapters().items() if shown.search(prose + code)
    ]
    mentions = {
        page: len(said.findall(prose))
        for page, (prose, _) in chapters().items()
        if page not in explain
    }
    use = [
        page
        for page, count in mentions.items()
        if count or used.search(chapters()[page][1])
    ]
    use.sort(key=lambda page: -mentions[page])
    return explain, use


def add_chapters(
    app: Sphinx, what: str, name: str, thing: object, options: Any, lines: list[str]
) -> None:
    """Add the chapters of a class or a function at the end of its docstring."""
    if what not in ("class", "function", "exception"):
        return
    explain, use = chapters_of(name.rsplit(".", 1)[-1])
    parts = [
        f"{verb} in {', '.join(f':doc:`/book/{page}`' for page in pages)}."
        for verb, pages in (
            ("Explained", explain[:SHOWN]),
            ("Used", use[: max(0, SHOWN - len(explain))]),
        )
        if pages
    ]
    if parts:
        lines += ["", " ".join(parts), ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", add_chapters)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
