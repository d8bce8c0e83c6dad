"""The notebooks as one archive that runs anywhere: with all that they read and import.

Every build of the book makes it (book/pages.py). The same sources give the same bytes.
"""

import json
import re
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "attncore-notebooks.zip"
FOLDER = "attncore-notebooks"  # not "attncore": Python would take it for the module
TOOLS = {
    "archive",
    "explained",
    "first_cell",
    "pages",
    "pdf",
    "stages",
    "symbols",
}  # they make the book
README = """\
# The notebooks of "Attention in recommender systems", for Python 3.11 or newer
Set up in this folder, once: `python3 -m venv .venv`, then \
`.venv/bin/pip install -r requirements.txt`.
`.venv/bin/jupyter lab book` opens the chapters; \
`.venv/bin/jupyter execute book/06_data_preparation.ipynb` runs one.
"""


def requirements() -> str:
    """What notebooks need of requirements.txt: not what builds or checks the book."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    needed, rest = text.split("# the book\n")
    return f"{needed}{rest.rstrip().splitlines()[-1]}\n"


def pictures(notebook: Path) -> set[Path]:
    """The files of _static that a notebook names."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    return {notebook.parent / name for name in re.findall(r"_static/[\w.-]+", text)}


def contents() -> dict[str, bytes]:
    """Every file of the archive by its path there, which is that in the repository."""
    book = ROOT / "book"
    notebooks = [*book.glob("*.ipynb")]
    helpers = [path for path in book.glob("*.py") if path.stem not in TOOLS]
    files = {*notebooks, *helpers, *book.glob("*.mplstyle"), *book.glob("data/*.csv")}
    files |= {*book.glob("*.css"), *book.glob("*.js")} - {book / "scorer.js"}
    module = ROOT / "attncore"
    files |= {*module.rglob("*.py"), module / "py.typed"}
    results = ROOT / "tests" / "bench" / "results"
    files |= {*results.glob("*.json"), *results.glob("*.npz")}
    files |= {picture for path in notebooks for picture in pictures(path)}
    files |= {ROOT / "pyproject.toml", ROOT / "LICENSE"}
    held = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files}
    held["README.md"] = README.encode()
    held["requirements.txt"] = requirements().encode()
    return held


def pack(path: Path) -> None:
    """Write the archive to `path`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in sorted(contents().items()):
            entry = zipfile.ZipInfo(f"{FOLDER}/{name}")  # without a time
            entry.external_attr = 0o100644 << 16  # or nobody might read the file
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
