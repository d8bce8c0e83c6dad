"""What the built book needs beside Sphinx, as an extension named in _config.yml.

MathJax lies in the build, so that formulas are set without a network, and the notebooks can be had as one archive.
"""

import importlib.util
import zipfile
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset

ROOT = Path(__file__).resolve().parent.parent
ARCHIVE = "attncore-notebooks.zip"


def mathjax_folder() -> Path:
    """Where the package sphinx-mathjax-offline keeps MathJax 3.2.2; its name is none that `import` could say."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise ImportError("formulas need MathJax: pip install -r requirements.txt")
    return Path(spec.origin).parent / "static" / "mathjax"


def copy_mathjax(app: Sphinx) -> None:
    """Copy the one file that sets formulas as SVG.

    It needs no fonts, which matters: Firefox refuses the fonts of another folder to a page that was opened from disk.
    """
    if app.builder.format == "html":
        copy_asset(str(mathjax_folder() / "tex-svg-full.js"), str(Path(app.outdir) / "_static" / "mathjax"))


def pack_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Put the notebooks, the modules beside them and the results that they read into one archive, as in the repository."""
    if exception is not None or app.builder.format != "html":
        return
    wanted = [*(ROOT / "book").glob("*.ipynb"), *(ROOT / "book").glob("*.py"), *(ROOT / "book").glob("*.mplstyle")]
    wanted += (ROOT / "tests" / "bench" / "results").glob("*.json")
    with zipfile.ZipFile(Path(app.outdir) / "_static" / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(wanted):
            if path != Path(__file__).resolve():
                entry = zipfile.ZipInfo(f"attncore/{path.relative_to(ROOT).as_posix()}")  # no time: the same bytes
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", copy_mathjax)
    app.connect("build-finished", pack_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
