"""What the built book needs beside Sphinx, as an extension named in _config.yml.

MathJax lies in the build, so that formulas are set without a network; the notebooks can
be had as one archive; launch buttons stay off until the repository has an address; and
what a screen reader stumbles over in the pages is mended.
"""

import importlib.util
import re
import zipfile
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.fileutil import copy_asset

ROOT = Path(__file__).resolve().parent.parent
ARCHIVE = "attncore-notebooks.zip"


def mathjax_folder() -> Path:
    """Where the package sphinx-mathjax-offline keeps MathJax 3.2.2; its name is none
    that `import` could say."""
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
        copy_asset(
            str(mathjax_folder() / "tex-svg-full.js"),
            str(Path(app.outdir) / "_static" / "mathjax"),
        )


def share_visitors(app: Sphinx) -> None:
    """Let the single page, from which the PDF is printed, write all that the many pages
    can.

    Sphinx takes the visitors of "html" for "singlehtml" only as long as no extension
    registers some of its own there, as sphinx-exercise does.
    """
    visitors = app.registry.translation_handlers
    if "singlehtml" in visitors:
        visitors["singlehtml"] = visitors.get("html", {}) | visitors["singlehtml"]


def launch_from_the_repository_only(app: Sphinx, config: Config) -> None:
    """Drop the launch buttons while `repository: url` in _config.yml is empty: there is
    nothing to launch from."""
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options["launch_buttons"] = {}


def mended(html: str) -> str:
    """A page with names and lists as a screen reader needs them.

    The side bar's toggles have no name. The bibliography calls itself a list, but its
    entries are none of a list. Sphinx writes a signature of several lines as a list
    inside the heading of another list, which HTML does not allow.
    """
    html = html.replace(
        '<summary><span class="toctree',
        '<summary aria-label="pages below"><span class="toctree',
    )
    html = html.replace(
        '<div role="list" class="citation-list">', '<div class="citation-list">'
    )

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


def pack_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Put the notebooks, the modules beside them and the results that they read into
    one archive, as in the repository."""
    if exception is not None or app.builder.format != "html":
        return
    wanted = [
        *(ROOT / "book").glob("*.ipynb"),
        *(ROOT / "book").glob("*.py"),
        *(ROOT / "book").glob("*.mplstyle"),
    ]
    wanted += (ROOT / "book" / "data").glob("*.csv")
    wanted += (ROOT / "tests" / "bench" / "results").glob("*.json")
    with zipfile.ZipFile(
        Path(app.outdir) / "_static" / ARCHIVE, "w", zipfile.ZIP_DEFLATED
    ) as archive:
        for path in sorted(wanted):
            if path != Path(__file__).resolve():
                # No time: the same bytes.
                entry = zipfile.ZipInfo(f"attncore/{path.relative_to(ROOT).as_posix()}")
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", launch_from_the_repository_only)
    app.connect("builder-inited", copy_mathjax)
    app.connect("builder-inited", share_visitors)
    app.connect("build-finished", mend_pages)
    app.connect("build-finished", pack_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
