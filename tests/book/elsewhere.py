"""Environments as a reader has them who took an archive or one notebook: no repository.

PyTorch is too large to be installed for a test. A new environment sees, by links, the
packages of this one that were asked for and what they depend on, and nothing else: no
module of ours, and no package that only builds or checks the book.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

SCRIPT = """\
#!{python}
import sys
from {module} import {name}
sys.exit({name}())
"""


def needed(requirements: str) -> dict[str, Distribution]:
    """The installed packages of a requirements.txt, and all that they depend on."""
    lines = [line for line in requirements.splitlines() if line and line[0] not in "#-"]
    waiting, found, seen = list(map(Requirement, lines)), {}, set()
    while waiting:
        one = waiting.pop()
        for extra in one.extras or {""}:
            if one.marker and not one.marker.evaluate({"extra": extra}):
                continue
            if (one.name, extra) in seen:
                continue
            seen.add((one.name, extra))
            try:
                found[one.name] = held = distribution(one.name)
            except PackageNotFoundError:
                continue  # for another system; what is really missing pip will name
            for line in held.requires or []:
                more = Requirement(line)
                if not more.marker or more.marker.evaluate({"extra": extra}):
                    more.marker = None
                    waiting.append(more)
    return found


def link(path: Path, target: Path) -> None:
    """A link at `path`, unless something is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.symlink_to(target)


def furnish(venv: Path, requirements: str) -> None:
    """Make packages seen in a new environment as if pip had installed them there."""
    links, prefix = venv / "links", Path(sys.prefix)
    for held in needed(requirements).values():
        home = Path(held.locate_file(""))
        for file in held.files or []:
            if file.parts[0] not in ("..", "__pycache__"):
                link(links / file.parts[0], home / file.parts[0])
            elif file.parts[0] == "..":
                path = Path(os.path.normpath(home / file)).relative_to(prefix)
                if path.parts[0] in (
                    "share",
                    "etc",
                ):  # no server serves a link's target
                    (venv / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(prefix / path, venv / path)
        for script in held.entry_points.select(group="console_scripts"):
            path = venv / "bin" / script.name
            if not path.exists():
                module, name = script.value.split("[")[0].strip().split(":")
                python = venv / "bin" / "python"
                path.write_text(SCRIPT.format(python=python, module=module, name=name))
                path.chmod(0o755)
    (site,) = venv.glob("lib/python*/site-packages")
    line = f"import sys; sys.path.insert(0, {str(links)!r})\n"  # before venv's own
    (site / "links.pth").write_text(line)


def surroundings(home: Path, **more: str) -> dict[str, str]:
    """Environment variables: data, a `python3`, no path to us, pip without its index.

    pip finds every package in its place; to install the module itself it takes the
    setuptools that is there.
    """
    names = ("HOME", "LANG", "ATTNCORE_DATA", "OMP_NUM_THREADS", "XDG_CACHE_HOME")
    own = {name: os.environ[name] for name in names if name in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    pip = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    pip |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    jupyter = {"JUPYTER_CONFIG_DIR": str(home), "JUPYTER_RUNTIME_DIR": str(home)}
    jupyter["IPYTHONDIR"] = str(home)
    return {**own, "PATH": path, "PYTHONNOUSERSITE": "1", **pip, **jupyter, **more}


def run(command: str | list, folder: Path, env: dict[str, str]):
    """Run a command line, or a program with its arguments, in a folder."""
    shell = isinstance(command, str)
    return subprocess.run(
        command,
        cwd=folder,
        env=env,
        shell=shell,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def imports(module: str, folder: Path, env: dict[str, str]) -> str:
    """The last line that an import fails with in a folder's `.venv`, or ""."""
    done = run([folder / ".venv/bin/python", "-c", f"import {module}"], folder, env)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""
