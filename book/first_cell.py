"""Write the first code cell of every notebook: `python book/first_cell.py`.

A chapter needs files that lie beside it. Its first cell finds them, or fetches the
repository once `repository: url` stands in _config.yml, or says in one line what to do.
All notebooks hold the same cell, the source of `_set_up` below and one call of it. In
Colab a notebook has nothing but itself, so the address must stand in the cell; a build
of the book puts it there too.
"""

import inspect
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
ID = "set-up"
# Not on the page; folded in JupyterLab; a form with a title in Colab.
METADATA = {
    "cellView": "form",
    "jupyter": {"source_hidden": True},
    "tags": ["remove-cell"],
}


def _set_up(address):
    """Find the book's own files or fetch them; say in one line what is missing."""
    import io
    import os
    import sys
    import tempfile
    import zipfile
    from pathlib import Path
    from urllib.request import urlopen

    def found():
        beside = sorted(Path().glob("*/book/page.py"))
        for path in (Path("page.py"), Path("book/page.py"), *beside):
            if path.is_file():
                return path.resolve().parent
        return None

    home, wrong = found(), "The book's own files are not beside this notebook"
    fetch = home is None and address
    if fetch:
        print("Fetching", address)
        try:
            with urlopen(address, timeout=60) as answer:
                packed = zipfile.ZipFile(io.BytesIO(answer.read()))
            with tempfile.TemporaryDirectory(dir=".") as folder:
                packed.extractall(folder)
                (top,) = Path(folder).iterdir()
                top.rename("attncore-book")
            home = found()
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            wrong += f" and cannot be fetched ({error})"
    if home is None:
        where = "attncore-notebooks.zip, which the book's front page offers,"
        error = RuntimeError(f"{wrong}: unpack {where} here, and run this cell again.")
        error._render_traceback_ = lambda: [str(error)]  # one line, and no traceback
        raise error
    os.chdir(home)
    if str(home) not in sys.path:
        sys.path.insert(0, str(home))
    import page

    page.ready(install=bool(fetch))


def address(url: str, branch: str) -> str:
    """Where a repository is to be had as one zip; "" as long as it has no address."""
    return f"{url.rstrip('/')}/archive/refs/heads/{branch}.zip" if url else ""


def configured(config: Path = ROOT / "_config.yml") -> str:
    """The address that _config.yml gives the repository."""
    repository = yaml.safe_load(config.read_text(encoding="utf-8"))["repository"]
    return address(repository["url"], repository["branch"])


def source(address: str) -> str:
    """The text of the first code cell."""
    code = inspect.getsource(_set_up)
    return f"# @title The book's own files\n{code}\n\n_set_up({json.dumps(address)})"


def carries(notebook: dict[str, Any]) -> bool:
    """Whether a notebook has a first cell of ours, with whatever address."""
    return any(cell.get("id") == ID for cell in notebook["cells"])


def put(notebook: dict[str, Any], text: str) -> None:
    """Make `text` the notebook's first code cell; it prints nothing where all is well.

    The cells of a notebook that was run from top to bottom are numbered anew.
    """
    cells = notebook["cells"]
    old = next((cell for cell in cells if cell.get("id") == ID), {"metadata": {}})
    cells[:] = [cell for cell in cells if cell.get("id") != ID]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    run = [cell for cell in code if "".join(cell["source"]).strip()]
    first = 2 if "source" in old and old["execution_count"] else 1
    counts = list(range(first, len(run) + first))
    in_order = bool(run) and [cell["execution_count"] for cell in run] == counts
    cell = {
        "cell_type": "code",
        "execution_count": 1 if in_order else None,
        "id": ID,
        "metadata": {**old["metadata"], **METADATA},
        "outputs": [],
        "source": text.splitlines(keepends=True),
    }
    cells.insert(cells.index(code[0]) if code else len(cells), cell)
    if in_order:
        for count, one in enumerate(run, start=2):
            one["execution_count"] = count
            for output in one["outputs"]:
                if "execution_count" in output:
                    output["execution_count"] = count


def write(paths: Iterable[Path], address: str, anew: bool = True) -> list[Path]:
    """Write the cell into notebooks; returns those that were changed.

    Args:
        paths: the notebooks.
        address: of the repository as a zip, or "".
        anew: give it to notebooks that have none too.
    """
    text, changed = source(address), []
    for path in sorted(paths):
        before = path.read_text(encoding="utf-8")
        notebook = json.loads(before)
        if not anew and not carries(notebook):
            continue
        put(notebook, text)
        after = (
            json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        )
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    paths = [Path(name) for name in sys.argv[1:]] or (ROOT / "book").glob("*.ipynb")
    for path in write(paths, configured()):
        print(path)
