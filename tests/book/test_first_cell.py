"""A notebook's first cell: silent beside the book, else one line, or it fetches all.

The whole cell is run, in a kernel of an environment without the repository.
"""

import http.server
import json
import threading
import zipfile
from pathlib import Path

import archive
import first_cell
import nbformat
import pytest
from elsewhere import furnish, imports, run, surroundings
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import attncore as ac

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
CHAPTER = ROOT / "book" / "20_scoreboard.ipynb"
EXECUTE = """\
import sys
import nbclient
import nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
client = nbclient.NotebookClient(notebook, timeout=300, allow_errors=True)
client.execute(cwd=".")
nbformat.write(notebook, sys.argv[1])
"""
WHEEL = "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return surroundings(tmp_path_factory.mktemp("jupyter"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory, env):
    """A folder with an environment for notebooks, without any module of ours."""
    folder = tmp_path_factory.mktemp("reader")
    assert run("python3 -m venv .venv", folder, env).returncode == 0
    furnish(folder / ".venv", archive.requirements())
    for absent in ("attncore", "page", "rungs", "myst_nb"):
        assert "ModuleNotFoundError" in imports(absent, folder, env)
    return folder


@pytest.fixture
def executed(reader, env):
    """Run a notebook in its folder, on through errors; returns its code cells."""

    def execute(path):
        program = [reader / ".venv/bin/python", "-c", EXECUTE, path.name]
        done = run(program, path.parent, env)
        assert done.returncode == 0, done.stderr[-3000:]
        cells = nbformat.read(path, as_version=4).cells
        return [cell for cell in cells if cell.cell_type == "code"]

    return execute


@pytest.fixture
def repository(tmp_path):
    """A local stand-in for the repository: its address, and what was asked of it."""
    url = "/someone/attncore"
    path = tmp_path / "served" / first_cell.address(url, "main")[1:]
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as packed:  # as GitHub packs a branch
        for name, data in archive.contents().items():
            packed.writestr(f"attncore-main/{name}", data)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path / "served")

        def log_message(self, form, *values):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{url}", asked
        server.shutdown()


def notebook(path, *code, address=""):
    """A notebook that was not run, with our first cell before its own."""
    made = new_notebook(
        cells=[new_markdown_cell("# A title"), *map(new_code_cell, code)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(made, path)
    first_cell.write([path], address)
    return path


def line_of(cell):
    """The one line that a cell stops with."""
    (error,) = [o for o in cell.outputs if o.output_type == "error"]
    (line,) = error.traceback
    assert "\n" not in line
    assert line == error.evalue
    return line


def said(cell):
    return "".join(o.get("text", "") for o in cell.outputs)


# --- What stands in the notebooks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_notebook_begins_with_the_cell_and_the_address_of_the_config(path):
    cells = nbformat.read(path, as_version=4).cells
    first = next(cell for cell in cells if cell.cell_type == "code")
    assert first.source == first_cell.source(first_cell.configured())
    assert first.metadata.items() >= first_cell.METADATA.items()
    assert first.outputs == []
    assert sum(cell.id == first_cell.ID for cell in cells) == 1


def test_the_address_is_that_of_the_branch_as_one_zip(tmp_path):
    config = tmp_path / "_config.yml"
    config.write_text("repository: {url: https://github.com/a/b/, branch: next}")
    wanted = "https://github.com/a/b/archive/refs/heads/next.zip"
    assert first_cell.configured(config) == wanted
    config.write_text("repository: {url: '', branch: main}")
    assert first_cell.configured(config) == ""


def test_writing_the_cell_twice_changes_nothing_more(tmp_path):
    path = tmp_path / "one.ipynb"
    path.write_bytes(CHAPTER.read_bytes())
    first_cell.write([path], "")
    once = path.read_bytes()
    assert first_cell.write([path], "") == []
    assert path.read_bytes() == once
    assert first_cell.write([path], "https://somewhere") == [path]
    assert first_cell.write([path], "") == [path]
    assert path.read_bytes() == once


def test_a_notebook_that_was_run_stays_numbered_from_its_top(tmp_path):
    path = notebook(tmp_path / "one.ipynb", "1 + 1", "2 + 2")
    made = nbformat.read(path, as_version=4)
    assert [c.execution_count for c in made.cells[1:]] == [None, None, None]
    made.cells = [made.cells[0], *made.cells[2:]]
    for count, cell in enumerate(made.cells[1:], start=1):
        result = nbformat.v4.new_output("execute_result", {"text/plain": "2"})
        cell.execution_count = result.execution_count = count
        cell.outputs = [result]
    nbformat.write(made, path)
    for _ in range(2):
        first_cell.write([path], "")
        now = nbformat.read(path, as_version=4).cells
        assert [c.execution_count for c in now[1:]] == [1, 2, 3]
        assert [c.outputs[0].execution_count for c in now[2:]] == [2, 3]
    nbformat.validate(nbformat.read(path, as_version=4))


def test_a_notebook_without_the_cell_is_left_alone_when_asked(tmp_path):
    path = tmp_path / "one.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), path)
    assert first_cell.write([path], "", anew=False) == []
    assert first_cell.write([path], "") == [path]
    assert first_cell.write([path], "https://somewhere", anew=False) == [path]


# --- What it does


def test_a_notebook_alone_says_in_one_line_what_is_missing(tmp_path, executed):
    cell, after = executed(notebook(tmp_path / "one.ipynb", "import attncore"))
    line = line_of(cell)
    assert "attncore-notebooks.zip" in line
    assert "unpack" in line
    assert len(line) < 180
    assert after.outputs[0].ename == "ModuleNotFoundError"


def test_it_finds_the_archive_that_was_unpacked_beside_it(tmp_path, executed):
    archive.pack(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as held:
        held.extractall(tmp_path)
    code = "import rungs, attncore\nfrom page import glue"
    where = "from pathlib import Path\nprint(Path('data/books.csv').exists())"
    shown = "glue('a', 3, display=False)\nglue('b', 5)"
    path = notebook(tmp_path / "one.ipynb", code, where, shown)
    cells = executed(path)
    assert [said(cell) for cell in cells[:3]] == ["", "", "True\n"]
    assert [o.data["text/plain"] for o in cells[3].outputs] == ["5"]


def test_in_the_book_it_does_nothing(tmp_path, executed):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as held:
        for name, data in archive.contents().items():
            held.writestr(name, data)
        held.extractall(tmp_path)
    check = "import os\nprint(os.getcwd())"
    path = notebook(tmp_path / "book" / "one.ipynb", check, address="http://[::1]:1")
    cells = executed(path)
    assert [said(cell) for cell in cells] == ["", f"{tmp_path / 'book'}\n"]


def test_with_an_address_a_real_chapter_alone_fetches_all_and_runs(
    tmp_path, executed, repository
):
    ac.datasets.load("ml-100k")  # into the cache: there pip has no registry to ask
    url, asked = repository
    address = first_cell.address(url, "main")
    alone = tmp_path / "alone"
    alone.mkdir()
    path = alone / CHAPTER.name
    path.write_bytes(CHAPTER.read_bytes())
    first_cell.write([path], address)
    cells = executed(path)
    errors = [o for c in cells for o in c.outputs if o.output_type == "error"]
    assert errors == []
    assert said(cells[0]) == f"Fetching {address}\n"
    assert {p.name for p in alone.iterdir()} == {path.name, "attncore-book"}
    first, then = executed(
        notebook(alone / "two.ipynb", "import rungs", address=address)
    )
    assert said(first) + said(then) == ""
    assert len(asked) == 1


@pytest.mark.parametrize("how", ["nobody answers", "not there", "no zip"])
def test_what_cannot_be_fetched_is_said_in_one_line(
    tmp_path, executed, repository, how
):
    url, _ = repository
    if how == "no zip":
        (tmp_path / "served" / "page.html").write_text("<p>Sign in</p>")
    address = {
        "nobody answers": "http://127.0.0.1:1/a.zip",
        "not there": f"{url}/nothing.zip",
        "no zip": f"{url.rsplit('/', 2)[0]}/page.html",
    }[how]
    alone = tmp_path / "alone"
    alone.mkdir()
    first, *_ = executed(notebook(alone / "one.ipynb", "1", address=address))
    line = line_of(first)
    assert "cannot be fetched" in line
    assert "attncore-notebooks.zip" in line
    assert [p.name for p in alone.iterdir()] == ["one.ipynb"]


# --- Packages


def wheel(folder, version="1.0"):
    """A package of one module, for pip to find without its index."""
    folder.mkdir(exist_ok=True)
    info = f"tiny_stand_in-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: tiny-stand-in\nVersion: {version}\n"
    files = {"tiny_stand_in.py": f"version = {version!r}\n"}
    files |= {f"{info}/METADATA": metadata, f"{info}/WHEEL": WHEEL}
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(
        folder / f"tiny_stand_in-{version}-py3-none-any.whl", "w"
    ) as held:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            held.writestr(name, text)


def asks_for(folder, requirement):
    """A pyproject.toml that needs one package for an extra."""
    path = folder / "pyproject.toml"
    path.write_text(
        '[project]\ndependencies = ["numpy>=1"]\n'
        f'[project.optional-dependencies]\nmore = ["{requirement}"]\n'
    )
    return path


def test_missing_packages_are_named_with_the_command_that_installs_them(tmp_path):
    import page

    project = asks_for(tmp_path, "tiny-stand-in>=1")
    assert page.lacking(project) == ["tiny-stand-in>=1"]
    with pytest.raises(page.NotReady, match=r'%pip install "tiny-stand-in>=1"') as got:
        page.ready(project=project)
    assert got.value._render_traceback_() == [str(got.value)]
    assert page.lacking(asks_for(tmp_path, "numpy>=1000")) == ["numpy>=1000"]
    assert page.lacking() == []


def test_packages_are_installed_when_the_notebook_had_to_fetch_the_book(
    tmp_path, reader, env
):
    wheel(tmp_path / "wheels")
    env = {**env, "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    python = reader / ".venv/bin/python"
    project = asks_for(tmp_path, "tiny-stand-in>=1")
    (tmp_path / "page.py").write_bytes((ROOT / "book" / "page.py").read_bytes())
    ask = f"import page, pathlib\nproject = pathlib.Path({json.dumps(str(project))})\n"
    ready = "page.ready(install=True, project=project)\n"

    done = run([python, "-c", f"{ask}{ready}import tiny_stand_in"], tmp_path, env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Installing tiny-stand-in>=1\n"

    wheel(tmp_path / "wheels", "2.0")
    asks_for(tmp_path, "tiny-stand-in>=2")
    late = f"import tiny_stand_in\n{ask}{ready}"
    done = run([python, "-c", late], tmp_path, env)
    assert "restart the kernel" in done.stderr.splitlines()[-1]
    done = run([python, "-c", late], tmp_path, env)
    assert (done.returncode, done.stdout) == (0, "")

    asks_for(tmp_path, "tiny-stand-in>=3")
    done = run([python, "-c", f"{ask}{ready}"], tmp_path, env)
    assert '%pip install "tiny-stand-in>=3"' in done.stderr.splitlines()[-1]


def test_a_mere_folder_named_as_the_module_is_not_taken_for_it(tmp_path, reader, env):
    for name, data in archive.contents().items():
        if name.startswith(("attncore/", "book/page.py", "pyproject")):
            (tmp_path / "home" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "home" / name).write_bytes(data)
    (tmp_path / "attncore").mkdir()
    program = "import sys; sys.path.insert(1, 'home/book'); import page; page.ready()"
    program += "; import attncore; print(attncore.__doc__ is not None)"
    done = run([reader / ".venv/bin/python", "-c", program], tmp_path, env)
    assert done.stdout == "True\n", done.stderr
