"""The archive of notebooks runs far from this repository, as its README says."""

import ast
import json
import os
import re
import subprocess
import time
import zipfile
from pathlib import Path
from urllib.request import urlopen

import archive
import nbformat
import pytest
from elsewhere import furnish, imports, run, surroundings

import attncore as ac

ROOT = Path(__file__).parent.parent.parent
READS_RESULTS = "20_scoreboard"  # beside the chapter that README names
BUDGET = 6e6


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("download") / archive.NAME
    if given := os.environ.get("ATTNCORE_BOOK"):  # a book that is built already
        return Path(given) / "_static" / archive.NAME
    archive.pack(path)
    return path


@pytest.fixture(scope="module")
def unpacked(packed, tmp_path_factory):
    """The one folder that an empty folder holds when the archive was unpacked there."""
    empty = tmp_path_factory.mktemp("reader")
    with zipfile.ZipFile(packed) as held:
        held.extractall(empty)
    (folder,) = empty.iterdir()
    return folder


@pytest.fixture(scope="module")
def commands(unpacked):
    """README's commands, in its order."""
    return re.findall(r"`([^`]*)`", (unpacked / "README.md").read_text("utf-8"))


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    home = tmp_path_factory.mktemp("jupyter")
    server = {"allow_root": True, "ip": "127.0.0.1", "open_browser": False, "port": 0}
    config = {"ServerApp": server, "IdentityProvider": {"token": "ours"}}
    (home / "jupyter_server_config.json").write_text(json.dumps(config))
    return surroundings(home)


@pytest.fixture(scope="module")
def ready(unpacked, commands, env):
    """The folder after README's two lines of set-up; before them it was without us."""
    make, install = commands[:2]
    assert "venv" in make
    done = run(make, unpacked, env)
    assert done.returncode == 0, done.stderr
    furnish(unpacked / ".venv", (unpacked / "requirements.txt").read_text())
    assert imports("torch", unpacked, env) == ""
    # From the folder above, as the module lies in this one.
    above = [unpacked / ".venv/bin/python", "-c", "import attncore"]
    before = run(above, unpacked.parent, env)
    assert "ModuleNotFoundError: No module named 'attncore'" in before.stderr
    for absent in ("myst_nb", "sphinx", "pytest"):
        assert "ModuleNotFoundError" in imports(absent, unpacked, env)
    assert install.endswith("pip install -r requirements.txt")
    done = run(install, unpacked, env)
    assert done.returncode == 0, done.stdout + done.stderr
    after = run(above, unpacked.parent, env)
    assert after.returncode == 0, after.stderr
    return unpacked


def test_its_readme_has_three_lines_and_its_commands_are_these(unpacked, commands):
    assert len((unpacked / "README.md").read_text("utf-8").splitlines()) == 3
    assert [command.split()[:2] for command in commands] == [
        ["python3", "-m"],
        [".venv/bin/pip", "install"],
        [".venv/bin/jupyter", "lab"],
        [".venv/bin/jupyter", "execute"],
    ]


def test_a_chapter_runs_as_readme_says_and_so_does_one_that_reads_results(
    ready, commands, env
):
    ac.datasets.load("ml-100k")  # into the cache: there pip has no registry to ask
    (named,) = re.findall(r"book/(\w+)\.ipynb", commands[3])
    for chapter in (named, READS_RESULTS):
        done = run(commands[3].replace(named, chapter), ready, env)
        assert done.returncode == 0, done.stderr[-3000:]


def test_jupyterlab_opens_the_chapters_as_readme_says(ready, commands, env):
    home = Path(env["JUPYTER_RUNTIME_DIR"])
    program = [ready / commands[2].split()[0], *commands[2].split()[1:]]
    with subprocess.Popen(
        program, cwd=ready, env=env, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            until = time.monotonic() + 120
            while not (found := [*home.glob("jpserver-*.json")]):
                assert server.poll() is None, server.stderr.read()[-3000:]
                assert time.monotonic() < until, "the server does not start"
                time.sleep(0.2)
            time.sleep(1)
            url = json.loads(found[0].read_text())["url"]
            with urlopen(f"{url}api/contents?token=ours", timeout=60) as answer:
                shown = {entry["name"] for entry in json.load(answer)["content"]}
            with urlopen(f"{url}lab?token=ours", timeout=60) as answer:
                text = answer.read().decode()
            assert "<title>JupyterLab</title>" in text
            (script,) = re.findall(r'src="/(static/lab/main\.[^"]+)"', text)
            with urlopen(f"{url}{script}", timeout=60) as answer:
                assert answer.status == 200
        finally:
            server.terminate()
    assert {path.name for path in (ROOT / "book").glob("*.ipynb")} <= shown


def test_every_import_of_every_notebook_works_there(ready, env):
    lines = set()
    for path in (ready / "book").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                text = re.sub(r"^[%!].*", "", cell.source, flags=re.M)
                nodes = ast.walk(ast.parse(text))
                found = [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
                lines |= set(map(ast.unparse, found))
    assert len(lines) > 60
    program = "\n".join(sorted(lines))
    done = run([ready / ".venv/bin/python", "-c", program], ready / "book", env)
    assert done.returncode == 0, done.stderr[-2000:]


def test_it_holds_every_result_and_all_that_lies_beside_the_notebooks(packed):
    with zipfile.ZipFile(packed) as held:
        names = {name.partition("/")[2] for name in held.namelist()}
        assert {entry.external_attr >> 16 for entry in held.infolist()} == {0o100644}
    patterns = ["attncore/**/*.py", "attncore/py.typed", "book/explorer*.*"]
    patterns += ["book/widget*.*"]
    patterns += ["book/*.ipynb", "book/data/*.csv", "book/check*.py"]
    patterns += ["tests/bench/results/*.json", "tests/bench/results/*.npz"]
    for pattern in patterns:
        wanted = {str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)}
        assert wanted
        assert wanted <= names
    assert {"book/radio.py", "book/rungs.py", "LICENSE"} <= names
    assert not [n for n in names if re.search(r"__pycache__|/pages\.py|egg-info", n)]


def test_the_same_sources_give_the_same_bytes_and_few_of_them(packed, tmp_path):
    archive.pack(tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    assert packed.stat().st_size < BUDGET


def test_requirements_leave_out_what_builds_and_checks_the_book():
    lines = archive.requirements().splitlines()
    assert lines[-1] == "-e ."
    held = {line.partition("==")[0] for line in lines}
    assert {"torch", "matplotlib", "jupyterlab", "fastapi", "duckdb"} <= held
    assert not {"jupyter-book", "pytest", "ruff", "playwright"} & held
