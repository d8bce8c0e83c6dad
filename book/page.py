"""What a notebook needs before its first line of teaching, anywhere. For the notebooks.

The first cell of every notebook (book/first_cell.py writes it) finds this file and
calls `ready`. Until then nothing is known to be installed, so only the standard library
is imported above.
"""

import importlib
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

try:
    from myst_nb import glue
except ImportError:  # outside the book's own environment: no page takes the values

    def glue(name: str, variable: Any, display: bool = True) -> None:
        """Show what the built book would put into its sentences as `name`."""
        if display:
            from IPython.display import display as show

            show(variable)


class NotReady(RuntimeError):
    """What is missing, in one line, which Jupyter shows without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def lacking(project: Path = ROOT / "pyproject.toml") -> list[str]:
    """What pyproject.toml asks for, extras included, and is not here or is too old."""
    import tomllib

    from packaging.requirements import Requirement  # Jupyter's kernel needs it too

    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = table.get("optional-dependencies", {}).values()
    wanted = [*table["dependencies"], *(line for extra in extras for line in extra)]

    def held(one: Requirement) -> bool:
        try:
            return one.specifier.contains(version(one.name), prereleases=True)
        except PackageNotFoundError:  # a package under another name, as onnxruntime-gpu
            return find_spec(one.name.replace("-", "_")) is not None

    return [str(one) for one in map(Requirement, wanted) if not held(one)]


def ready(install: bool = False, project: Path = ROOT / "pyproject.toml") -> None:
    """Make sure that the packages and `attncore` can be imported.

    Args:
        install: let pip install the packages that are missing.
        project: the pyproject.toml that names the packages.

    Raises:
        NotReady: something is missing; the message says what to do, in one line.
    """
    if find_spec("tomllib") is None:  # new in 3.11
        raise NotReady(f"This is Python {sys.version.split()[0]}; the book needs 3.11.")
    needed = lacking(project)
    if needed and install:
        print("Installing", *needed)
        command = [sys.executable, "-m", "pip", "install", "--quiet", *needed]
        subprocess.run(command, capture_output=True, check=False)
        importlib.invalidate_caches()
        before, needed = needed, lacking(project)
        old = [
            one for one in before if one not in needed and module(one) in sys.modules
        ]
        if old:
            raise NotReady(
                f"Newer versions were installed ({', '.join(old)}): restart the "
                "kernel, then run the notebook from its top."
            )
    if needed:
        quoted = " ".join(f'"{one}"' for one in needed)
        raise NotReady(
            f"Packages are missing here: run  %pip install {quoted}  in a cell of its "
            "own, then the notebook from its top."
        )
    found = find_spec("attncore")
    if found is None or found.origin is None:  # None: a mere folder of that name
        sys.path.insert(0, str(ROOT))
        importlib.invalidate_caches()


def module(requirement: str) -> str:
    """The module of a requirement: "scikit-learn>=1.5" is `scikit_learn`."""
    from packaging.requirements import Requirement

    return Requirement(requirement).name.replace("-", "_")
