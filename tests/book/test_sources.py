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
MODULES = sorted((ROOT / "attncore").rglob("*.py"))


def named(path):
    """(first author, year) of every source that a module names."""
    text = " ".join(path.read_text(encoding="utf-8").split())
    found = NAMED.findall(text)
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
        if year := re.search(r"year = \{(\d+)\}", body):  # one article has no date
            found.setdefault((plain, year[1]), []).append(key)
    return found


def test_the_module_names_sources_at_all():
    assert len(set().union(*map(named, MODULES))) > 15


def page_of(path):
    """The name of a module's page: of an annex, with the folder before it."""
    return "_".join(path.relative_to(ROOT / "attncore").with_suffix("").parts)


def test_every_module_has_its_page():
    modules = {page_of(p) for p in MODULES if p.stem not in ("__init__", "__main__")}
    pages = {page.stem for page in (ROOT / "book" / "api").glob("*.md")}
    assert modules == (pages - {"index", "command_line"})


@pytest.mark.parametrize("path", [p for p in MODULES if named(p)], ids=page_of)
def test_every_named_source_is_in_the_bibliography_and_cited_on_its_page(path):
    page = (ROOT / "book" / "api" / f"{page_of(path)}.md").read_text("utf-8")
    known = bibliography()
    for source in named(path):
        assert source in known, f"{source} is not in references.bib"
        assert any(f"`{key}`" in page for key in known[source]), (
            f"{source} is not cited in book/api/{page_of(path)}.md"
        )


def test_no_entry_of_the_bibliography_stands_there_twice():
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    keys, titles = (
        re.findall(r"^@\w+\{(\w+),", text, re.M),
        re.findall(r"^  title = \{(.*)\},$", text, re.M),
    )
    assert len(set(keys)) == len(keys)
    assert len({title.lower() for title in titles}) == len(titles)
