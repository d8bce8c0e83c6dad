"""Every source that a docstring of the module names is in the bibliography, and cited
on the module's page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NAMED = re.compile(
    r"([A-Z][\w\-]+)(?: et al\.| and [A-Z][\w\-]+) ((?:19|20)\d\d)|([A-Z][\w\-]+)"
    r" ((?:19|20)\d\d)\)"
)
MODULES = sorted((ROOT / "attncore").glob("*.py"))


def named(path):
    """(first author, year) of every source that a module names."""
    found = NAMED.findall(path.read_text(encoding="utf-8"))
    return {(a or c, b or d) for a, b, c, d in found}


def bibliography():
    """(first author, year) of every entry, and its key."""
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"@\w+\{(\w+),(.*?)\n\}", text, re.S)
    found = {}
    for key, body in entries:
        author = (
            re.search(r"author = \{(.*)\},\n", body)[1].split(" and ")[0].split(",")[0]
        )
        plain = re.sub(r"\{\\.(\w)\}|[{}]", r"\1", author).split()[-1]
        found.setdefault((plain, re.search(r"year = \{(\d+)\}", body)[1]), []).append(
            key
        )
    return found


def test_the_module_names_sources_at_all():
    assert len(set().union(*map(named, MODULES))) > 15


@pytest.mark.parametrize("path", [p for p in MODULES if named(p)], ids=lambda p: p.stem)
def test_every_named_source_is_in_the_bibliography_and_cited_on_its_page(path):
    page = (ROOT / "book" / "api" / f"{path.stem}.md").read_text(encoding="utf-8")
    known = bibliography()
    for source in named(path):
        assert source in known, f"{source} is not in references.bib"
        assert any(f"`{key}`" in page for key in known[source]), (
            f"{source} is not cited in book/api/{path.stem}.md"
        )


def test_no_entry_of_the_bibliography_stands_there_twice():
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    keys, titles = (
        re.findall(r"^@\w+\{(\w+),", text, re.M),
        re.findall(r"^  title = \{(.*)\},$", text, re.M),
    )
    assert len(set(keys)) == len(keys)
    assert len({title.lower() for title in titles}) == len(titles)
