"""What the built book needs beside Sphinx, as an extension named in _config.yml.

MathJax and the texts that a search quotes lie in the build, so that both work without a
network; the notebooks can be had as one archive; figures have numbers; outputs that
follow one another stand in one box; what needs an address waits until there is one; and
what a screen reader stumbles over in the pages is mended.
"""

import gc
import importlib.util
import json
import re
import tomllib
from html import unescape
from pathlib import Path
from typing import Any

import archive
import first_cell
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.fileutil import copy_asset

ROOT = Path(__file__).resolve().parent.parent
logger = logging.getLogger(__name__)


def mathjax_folder() -> Path:
    """Where the package sphinx-mathjax-offline keeps MathJax 3.2.2.

    The package's name is none that `import` could say.
    """
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise ImportError("formulas need MathJax: pip install -r requirements.txt")
    return Path(spec.origin).parent / "static" / "mathjax"


def copy_mathjax(app: Sphinx) -> None:
    """Copy the one file that sets formulas as SVG.

    It needs no fonts, which matters: Firefox refuses the fonts of another folder to a
    page that was opened from disk.
    """
    if app.builder.format == "html":
        static = Path(app.outdir) / "_static"
        copy_asset(str(mathjax_folder() / "tex-svg-full.js"), str(static / "mathjax"))


def copy_licence(app: Sphinx) -> None:
    """Copy the licence that every page's footer links to."""
    if app.builder.format == "html":
        text = (ROOT / "LICENSE").read_text(encoding="utf-8")
        (Path(app.outdir) / "_static").mkdir(exist_ok=True)
        (Path(app.outdir) / "_static" / "LICENSE.txt").write_text(
            text, encoding="utf-8"
        )


def name_the_version(app: Sphinx, config: Config) -> None:
    """Take the version from pyproject.toml, where alone it is written."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    config.version = config.release = project["project"]["version"]


def share_visitors(app: Sphinx) -> None:
    """Let the single page, which becomes the PDF, write all that the many pages can.

    Sphinx takes the visitors of "html" for "singlehtml" only as long as no extension
    registers some of its own there, as sphinx-exercise does.
    """
    visitors = app.registry.translation_handlers
    if "singlehtml" in visitors:
        visitors["singlehtml"] = visitors.get("html", {}) | visitors["singlehtml"]


def launch_from_the_repository_only(app: Sphinx, config: Config) -> None:
    """Drop the launch buttons while `repository: url` in _config.yml is empty.

    There is nothing to launch from.
    """
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options["launch_buttons"] = {}


def wait_for_an_address(app: Sphinx, config: Config) -> None:
    """Write a sitemap, and addresses for link previews, once `html: baseurl` is set."""
    config.ogp_site_url = config.html_baseurl
    if config.html_baseurl:
        config.sitemap_url_scheme = "{link}"
        config.sitemap_excludes = ["404.html", "search.html"]
        config.ogp_image = "_static/attention.png"
        config.html_context["html_baseurl"] = config.html_baseurl


def is_text(output: nodes.Node) -> bool:
    """Whether an output of a cell is plain text, printed or returned, no warning."""
    return (
        isinstance(output, nodes.literal_block)
        and "output" in output["classes"]
        and not {"stderr", "traceback"} & set(output["classes"])
    )


def joined(outputs: list[nodes.Node]) -> list[nodes.Node]:
    """The outputs of a cell without empty ones, neighbouring texts as one."""
    kept: list[nodes.Node] = []
    for output in outputs:
        if isinstance(output, nodes.literal_block) and not output.astext().strip():
            continue
        if kept and is_text(output) and is_text(kept[-1]):
            text = f"{kept[-1].astext().rstrip()}\n{output.astext()}"
            kept[-1].rawsource = text  # Sphinx colours a block only if the two agree
            kept[-1].children = []
            kept[-1] += nodes.Text(text)
        else:
            kept.append(output)
    return kept


class OneBox(SphinxPostTransform):
    """Join what cells without visible code, and cells of several outputs, have printed.

    A cell whose code is not shown has outputs alone: they go to those of the cell
    before, if nothing stands between the two. A reader cannot see where one cell ended.
    """

    default_priority = 6  # after MyST-NB has chosen one form of each output (4)
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Run the transform."""
        for cell in list(self.document.findall(nodes.container)):
            if cell.get("nb_element") != "cell_code" or cell.parent is None:
                continue
            outputs = [c for c in cell.children if self.is_output(c)]
            place = cell.parent.index(cell)
            before = cell.parent[place - 1] if place else None
            if outputs and len(outputs) == len(cell.children) and self.takes(before):
                before.children[-1].extend(c for o in outputs for c in o.children)
                cell.parent.remove(cell)
                cell, outputs = before, [before.children[-1]]
            for output in outputs:
                output.children = joined(output.children)
                if not output.children:
                    cell.remove(output)
            if not cell.children:
                cell.parent.remove(cell)

    @staticmethod
    def is_output(node: nodes.Node) -> bool:
        return isinstance(node, nodes.container) and "cell_output" in node["classes"]

    def takes(self, node: nodes.Node | None) -> bool:
        """Whether a node is a cell that ends in outputs."""
        return (
            isinstance(node, nodes.container)
            and node.get("nb_element") == "cell_code"
            and bool(node.children)
            and self.is_output(node.children[-1])
        )


class Figures(SphinxTransform):
    """Make figures, with a number and a name, of what book/vector.py has put out.

    A name that is given is a target of {numref}; the number is Sphinx's.
    """

    default_priority = 500  # before the names of a page are noted (850)

    def apply(self, **kwargs: Any) -> None:
        """Run the transform."""
        found = re.compile(
            r'<figure class="drawn"(?: data-name="([a-z0-9-]+)")?[^>]*>\s*'
            r"(<div.*</div>)\s*<figcaption>(.*)</figcaption></figure>\s*",
            re.DOTALL,
        )
        number = 0
        for raw in list(self.document.findall(nodes.raw)):
            one = found.fullmatch(raw.astext().strip())
            if one is None:
                continue
            number += 1
            name, box, caption = one.groups()
            figure = nodes.figure("", nodes.raw("", box, format="html"))
            figure += nodes.caption("", unescape(caption))
            if name:
                figure["names"].append(name)
                self.document.note_explicit_target(figure, figure)
            else:
                figure["ids"].append(f"figure-{number}")
            bundle = raw.parent
            while bundle.get("nb_element") != "mime_bundle":
                bundle = bundle.parent
            bundle.parent.replace(bundle, figure)


def add_search_words(app: Sphinx, doctree: nodes.document) -> None:
    """Let the search find a page by its `search_words`, which it may not contain."""
    phrases = app.config.search_words.get(app.env.docname, [])
    forms = {form for words in phrases for form in (words, words.replace(" ", "-"))}
    if forms:
        entries = [("single", form, "", "main", None) for form in sorted(forms)]
        doctree.insert(0, addnodes.index(entries=entries))


def sections(doctree: nodes.document) -> list[tuple[str, str]]:
    """A page's text as (anchor, text), by section; each glossary entry by itself."""
    found: dict[str, list[str]] = {}

    def walk(node: nodes.Node, anchor: str) -> None:
        if isinstance(node, nodes.Text):
            found.setdefault(anchor, []).append(node.astext())
        elif isinstance(
            node, nodes.raw | nodes.comment | nodes.math_block | addnodes.index
        ):
            return
        elif isinstance(node, nodes.Element):
            if (
                isinstance(node, nodes.section | addnodes.desc_signature)
                and node["ids"]
            ):
                anchor = node["ids"][0]
            elif isinstance(node, nodes.definition_list_item):
                names = [i for term in node.findall(nodes.term) for i in term["ids"]]
                anchor = names[0] if names else anchor
            for child in node.children:
                walk(child, anchor)
            if isinstance(node, nodes.TextElement) and not isinstance(
                node, nodes.Inline
            ):
                found.setdefault(anchor, []).append(" ")

    walk(doctree, "")
    return [(a, re.sub(r"\s+", " ", "".join(t)).strip()) for a, t in found.items()]


def glossary(doctree: nodes.document) -> dict[str, list[str]]:
    """English and Chinese words and meaning of each entry, by the anchor of each word.

    A word that stands beside the first as another name for it is not shown; it leads
    to the same entry.
    """
    found = {}
    for item in doctree.findall(nodes.definition_list_item):
        words = [(term["ids"], term.astext()) for term in item.findall(nodes.term)]
        chinese = [text for _, text in words if re.search("[\u4e00-\u9fff]", text)]
        english = [text for _, text in words if text not in chinese]
        meaning = " ".join(d.astext() for d in item.findall(nodes.definition))
        entry = [", ".join(english), ", ".join(chinese), re.sub(r"\s+", " ", meaning)]
        found |= {anchor: entry for ids, _ in words for anchor in ids}
    return found


def keep_text(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Keep a page's text for the search; give the search page its scripts."""
    if app.builder.name != "html":
        return
    if doctree is not None:
        app.book_texts[pagename] = sections(doctree)  # type: ignore[attr-defined]
        if pagename == "book/glossary":
            app.book_terms = glossary(doctree)  # type: ignore[attr-defined]
    if pagename == "search":
        # After the scripts of the search itself.
        app.add_js_file("excerpts.js", loading_method="defer")
        app.add_js_file("search.js", loading_method="defer")


def write_texts(app: Sphinx, exception: Exception | None) -> None:
    """Write the texts, and the words of the glossary, as scripts.

    A page opened from disk may load one, but fetch nothing.
    """
    if exception is None and app.builder.name == "html":
        static = Path(app.outdir) / "_static"
        for file, name, kept in (
            ("excerpts.js", "const BOOK_TEXTS", app.book_texts),  # type: ignore[attr-defined]
            ("terms.js", "window.BOOK_TERMS", app.book_terms),  # type: ignore[attr-defined]
        ):
            if not kept:  # nothing was written anew
                continue
            texts = json.dumps(kept, ensure_ascii=False)
            (static / file).write_text(f"{name} = {texts};\n", encoding="utf-8")


def mended(html: str) -> str:
    """A page with names, lists and identifiers as a screen reader needs them.

    The side bar is no part of the page, and its toggles have no name. The bibliography
    calls itself a list, but its entries are none of a list, and have a role of the
    past. Sphinx writes a signature of several lines as a list inside the heading of
    another list, which HTML does not allow. The corner of a table is no heading. All
    exercises and all solutions of a page share one identifier. What is Chinese is not
    said to be. A link preview wants whole addresses.
    """
    html = html.replace(
        '<summary><span class="toctree',
        '<summary aria-label="pages below"><span class="toctree',
    )
    html = html.replace(
        '<div role="list" class="citation-list">', '<div class="citation-list">'
    )
    html = html.replace(' role="doc-biblioentry"', "")
    html = html.replace(
        '<div id="pst-primary-sidebar"',
        '<div id="pst-primary-sidebar" role="region" aria-label="Book"',
    )
    html = re.sub(r"<th(?: class=\"head\")?>(?:<p></p>)?</th>", "<td></td>", html)
    html = re.sub(
        r'<section id="(?:exercise|solution|proof)-content">', "<section>", html
    )
    html = re.sub(r'<dt(?= id="[^"]*">[^<]*[\u4e00-\u9fff])', '<dt lang="zh"', html)
    html = html.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    html = re.sub(r'<meta property="og:url" content="(?!http)[^"]*" ?/?>\n?', "", html)

    def lines(found: re.Match[str]) -> str:
        inner = (
            found[1]
            .replace("<dd>", '<span class="sig-line">')
            .replace("</dd>", "</span>")
        )
        return f'<span class="sig-lines">\n{inner}</span>'

    return re.sub(r"<dl>\n((?:<dd>.*</dd>\n)+)</dl>", lines, html)


def mend_pages(app: Sphinx, exception: Exception | None) -> None:
    """Mend every page that was written."""
    if exception is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            path.write_text(mended(path.read_text(encoding="utf-8")), encoding="utf-8")


def write_address(app: Sphinx, config: Config) -> None:
    """Let the notebooks' first cells know the repository's address, once it has one."""
    theme = config.html_theme_options
    address = first_cell.address(
        theme.get("repository_url", ""), theme.get("repository_branch", "")
    )
    notebooks = (Path(app.srcdir) / "book").glob("*.ipynb")
    if changed := first_cell.write(notebooks, address, anew=False):
        logger.info("wrote the repository's address into %d notebooks", len(changed))


def pack_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Put the notebooks, with all that they need, into one archive for readers."""
    if exception is None and app.builder.format == "html":
        archive.pack(Path(app.outdir) / "_static" / archive.NAME)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    # A build makes millions of small objects that it keeps. Python would look through
    # them for circles again and again, which takes half of its time; this costs up to
    # 1 GB.
    gc.set_threshold(1_000_000)
    app.book_texts = {}  # type: ignore[attr-defined]
    app.book_terms = {}  # type: ignore[attr-defined]
    app.add_config_value("search_words", {}, "env")
    if app.config.html_baseurl:
        app.setup_extension("sphinx_sitemap")
    app.add_transform(Figures)
    app.add_post_transform(OneBox)
    app.connect("config-inited", launch_from_the_repository_only)
    app.connect("config-inited", write_address)
    app.connect("config-inited", name_the_version)
    app.connect("config-inited", wait_for_an_address)
    app.connect("builder-inited", copy_mathjax)
    app.connect("builder-inited", copy_licence)
    app.connect("builder-inited", share_visitors)
    app.connect("doctree-read", add_search_words)
    app.connect("html-page-context", keep_text)
    app.connect("build-finished", write_texts)
    app.connect("build-finished", mend_pages)
    app.connect("build-finished", pack_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
