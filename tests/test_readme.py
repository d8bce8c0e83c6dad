"""README's promises, held against the files that must keep them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> list[str]:
    return re.search(rf"<!-- {name} -->\n```bash\n(.*?)```", README, re.S)[
        1
    ].splitlines()


@pytest.mark.parametrize("name", ["train", "read", "test"])
def test_each_command_does_all_its_set_up(name):
    lines = block(name)
    assert lines[:2] == [
        "python3 -m venv .venv",
        ".venv/bin/pip install -r requirements.txt",
    ]
    assert len(lines) == 3
    assert lines[2].startswith(".venv/bin/")


def test_the_commands_are_the_promised_ones():
    assert (
        block("train")[2]
        == ".venv/bin/python -m attncore train ml-100k --out runs/first"
    )
    assert block("read")[2] == ".venv/bin/jupyter-book build ."
    assert block("test")[2] == ".venv/bin/python -m pytest"


def test_ci_runs_the_test_command_as_the_readme_has_it():
    line = "sed -n \"/^<!-- test -->/,/^\\`\\`\\`\\$/p\" README.md | sed '1,2d;$d'"
    extracted = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert extracted.splitlines() == block("test")
    assert "readme test" in (ROOT / ".ci" / "run").read_text()


def test_the_five_line_example_runs():
    example = re.search(r"```python\n(.*?)```", README, re.S)[1]
    assert (
        len(
            [
                line
                for line in example.splitlines()
                if line and not line.startswith("import")
            ]
        )
        <= 5
    )
    done = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figure, picks = done.stdout.split("\n", 1)
    assert float(figure) > 0.05
    assert picks.count(",") >= 9  # five items and five scores


def test_requirements_hold_what_the_module_needs_and_end_in_the_module_itself():
    lines = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and line[0] != "#"
    ]
    assert lines[-1] == "-e ."
    pinned = {re.split(r"==", line)[0] for line in lines[:-1]}
    assert all("==" in line for line in lines[:-1])
    project = (ROOT / "pyproject.toml").read_text()
    needed = re.findall(
        r'"([a-z-]+)>=', re.search(r"\ndependencies = \[(.*?)\]", project, re.S)[1]
    )
    assert set(needed) <= pinned
    assert not {"jupyter-book", "pytest", "matplotlib", "nbval"} & set(needed)


def test_the_citation_file_the_readme_and_the_package_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    assert (
        citation["version"]
        == project["version"]
        == re.search(r"version = \{(.*?)\}", README)[1]
    )
    assert citation["title"] == re.search(r"title = \{(.*?)\}", README)[1]
    assert citation["license"] == project["license"]


def test_binder_installs_the_same_with_a_python_that_the_pins_are_for():
    """Without binder/ it takes requirements.txt, and the Python of runtime.txt.

    Without that it would take a Python of its own choice.
    """
    assert not [
        name
        for name in ("binder", ".binder", "environment.yml")
        if (ROOT / name).exists()
    ]
    pinned = re.fullmatch(r"python-(3\.\d+)\n", (ROOT / "runtime.txt").read_text())[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    assert project["requires-python"] == f">={pinned}"


def test_every_requirement_of_the_project_is_among_the_pins():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    asked = [
        *project["dependencies"],
        *(
            line
            for extra in project["optional-dependencies"].values()
            for line in extra
        ),
    ]
    pinned = set(
        re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.M)
    )
    assert {re.split(r"[><=]", line)[0] for line in asked} - {
        "nbformat"
    } <= pinned  # nbclient brings nbformat
