"""What is packed, and that it needs no more than it names.

`tests/packed.py` installs it into new environments.
"""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import packed as made
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROGRAM = """
import sys
sys.path[:0] = {places!r}
import time
started = time.process_time()
import attncore as ac
print(time.process_time() - started)
assert ac.__file__.startswith({places!r}[0]), ac.__file__
split = ac.leave_one_out(ac.datasets.load("planted"))
model = ac.Recommender(ac.RecommenderConfig(width=16, length=16), split)
ac.fit(model, split, ac.TrainingConfig(epochs=1, progress=False), out="run")
print(ac.evaluate(ac.load("run"), split.test).metrics["ndcg@10"])
from attncore.__main__ import main
main(["recommend", "run", "--user", str(split.users.ids[0]), "-k", "5"])
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    code = (
        "import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"
    )
    tree = folder / "tree"
    tree.mkdir()
    for name in ("attncore", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", ROOT / name, tree], check=True)
    command = [sys.executable, "-c", code, str(folder)]
    subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.whl"))


def closure(names):
    """The installed packages of these names, and of all that they ask for."""
    found, open_ = {}, list(names)
    while open_:
        name = re.sub(r"[-_.]+", "-", open_.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another system
            continue
        asked = map(Requirement, found[name].requires or [])
        open_ += [one.name for one in asked if holds(one)]
    return found


def holds(requirement):
    """True if a package is asked for here, without any extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def test_the_wheel_holds_the_module_and_nothing_else(built):
    names, about = made.contents(built)
    files = {name for name in names if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(ROOT)) for path in (ROOT / "attncore").rglob("*.py")
    }
    assert files == sources | {"attncore/py.typed"}
    assert about["Requires-Python"] == ">=3.11"
    assert set(about.get_all("Provides-Extra")) == {*made.EXTRAS, "notebooks"}


def test_the_wheel_alone_imports_trains_and_recommends_with_what_it_names(
    built, tmp_path
):
    _, about = made.contents(built)
    asked = map(Requirement, about.get_all("Requires-Dist"))
    (known := tmp_path / "known").mkdir()
    for package in closure(one.name for one in asked if holds(one)).values():
        for top in {file.parts[0] for file in package.files} - {"..", "__pycache__"}:
            if not (known / top).exists():
                (known / top).symlink_to(package.locate_file(top))
    assert (known / "torch").is_dir()
    assert not (known / "matplotlib").exists()
    places = [str(built), str(known)]
    # Without site, only these and Python's own.
    command = [sys.executable, "-S", "-P", "-c", PROGRAM.format(places=places)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    took, ndcg, *rows = done.stdout.splitlines()
    assert float(took) < made.SECONDS
    assert 0 < float(ndcg) < 1
    assert len(rows) == 6
