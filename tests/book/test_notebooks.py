"""What holds for every notebook as it is stored.

nbval proves that its outputs are what its code gives.
"""

import ast
import importlib
import itertools
import json
import pkgutil
import re
from pathlib import Path

import nbformat
import pytest
import yaml

import attncore

ROOT = Path(__file__).parent.parent.parent
SOLVED = ":::{solution-end}\n:::"
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))


def cells(path, kind="code"):
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def held():
    """Every public function and class of the module, whichever file it is in."""
    found = set(attncore.__all__)
    for info in pkgutil.walk_packages(attncore.__path__, "attncore."):
        if info.name != "attncore.__main__":
            module = importlib.import_module(info.name)
            own = {
                name
                for name, thing in vars(module).items()
                if getattr(thing, "__module__", "") == module.__name__
            }
            found |= {name for name in own if not name.startswith("_")}
    return found


HELD = held()


def defined(source):
    """What a cell defines, assigns or loops over; imports are no definitions."""
    source = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def toc_files(node):
    if isinstance(node, dict):
        found = [node[key] for key in ("root", "file") if key in node]
        return found + [f for value in node.values() for f in toc_files(value)]
    return (
        [f for part in node for f in toc_files(part)] if isinstance(node, list) else []
    )


def test_the_toc_holds_every_page_and_every_entry_exists():
    listed = toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text()))
    pages = [*(ROOT / "book").rglob("*.md"), *NOTEBOOKS]
    assert sorted(listed) == sorted(
        str(p.relative_to(ROOT).with_suffix(""))
        for p in pages
        if ".ipynb_" not in str(p)
    )


def test_chapters_stand_in_the_order_of_their_numbers():
    listed = [
        Path(f).name for f in toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text()))
    ]
    numbers = [int(name[:2]) for name in listed if re.match(r"\d\d_", name)]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert len(numbers) >= 20


def test_the_notation_has_every_letter_of_shapes():
    letters = set(re.findall(r"(?:^| {2,})([A-Z]) \w", attncore.__doc__, re.M))
    assert len(letters) >= 12
    for page in ("notation", "how_to_use"):
        rows = re.findall(
            r"^\|.*\|$",
            (ROOT / "book" / f"{page}.md").read_text(encoding="utf-8"),
            re.M,
        )
        named = {cell.strip(" $") for row in rows for cell in row.split("|")}
        assert letters <= named, f"{sorted(letters - named)} are not on the page {page}"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def softmax(x):\n    y = x", {"softmax", "y"}),
        ("%config a\nfor fit in (1,): pass", {"fit"}),
        ("from a import b", set()),
    ],
)
def test_definitions_are_found(source, names):
    assert set(defined(source)) == names
    assert {"softmax", "fit", "attend", "Recommender"} <= HELD


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestEveryNotebook:
    def test_was_run_from_top_to_bottom_without_errors_or_noise(self, path):
        code = [c for c in cells(path) if c.source.strip()]
        assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
        outputs = [o for c in code for o in c.outputs]
        assert not [o for o in outputs if o.output_type == "error"]
        assert not [o for o in outputs if o.get("name") == "stderr"]

    def test_names_no_machine(self, path):
        assert not re.search(
            r"/(work|root|home|tmp|Users)/\w", path.read_text(encoding="utf-8")
        )

    def test_a_cell_that_may_differ_is_followed_by_an_assertion_before_any_prose(
        self, path
    ):
        everything = nbformat.read(path, as_version=4).cells
        for number, cell in enumerate(everything):
            if "nbval-ignore-output" in cell.metadata.get("tags", []):
                block = list(
                    itertools.takewhile(
                        lambda c: c.cell_type == "code" or c.source == SOLVED,
                        everything[number:],
                    )
                )
                assert any(re.search(r"^\s*assert ", c.source, re.M) for c in block), (
                    cell.source[:200]
                )

    def test_takes_no_name_that_the_module_holds(self, path):
        assert (
            not {name for cell in cells(path) for name in defined(cell.source)} & HELD
        )

    def test_every_figure_has_alt_text(self, path):
        for cell in cells(path):
            if any("image/png" in o.get("data", {}) for o in cell.outputs):
                assert (
                    len(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", ""))
                    > 30
                ), cell.source[:200]

    def test_follows_the_template(self, path):
        if not re.match(r"\d\d_", path.name):
            pytest.skip("not a chapter")
        text = "\n".join(c.source for c in cells(path, "markdown"))
        assert len(re.findall(r"^# ", text, re.M)) == 1
        for part in (
            "**Time:**",
            "**You will be able to**",
            "## Exercises",
            "Summary",
            "**Next:**",
        ):
            assert part.lower() in text.lower(), f"{part} is missing"
        assert re.search(r"^## (The rung|Where we stand)\b", text, re.M)
        exercises = re.findall(
            r"^:::\{exercise\} (?:easy|medium|harder|research)\b.*\n:label: (\S+)$",
            text,
            re.M,
        )
        assert 3 <= len(exercises) <= 6
        assert exercises == [
            f"exercise-{path.stem[3:].replace('_', '-')}-{n}"
            for n in range(1, len(exercises) + 1)
        ]
        assert exercises == re.findall(
            r"^:::\{solution-start\} (\S+)\n:class: dropdown$", text, re.M
        )

    def test_every_checker_is_called_in_a_folded_solution(self, path):
        folded = False
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                folded = cell.source.startswith(":::{solution-start}")
            assert (
                folded
                or not re.search(r"\bcheck\.\w+\(", cell.source)
                or cell.cell_type == "markdown"
            )

    def test_every_solution_is_told_that_it_is_right(self, path):
        for cell in cells(path, "code"):
            if re.search(r"^(?:print\()?check\.\w+\(", cell.source, re.M):
                told = "".join(
                    "".join(o.get("text", "") or o.data.get("text/plain", ""))
                    for o in cell.outputs
                )
                assert re.search(r"(Right|Plausible): ", told), cell.source
                assert "Not yet" not in told

    def test_holds_no_widget_state(self, path):
        assert "widgets" not in json.loads(path.read_text(encoding="utf-8"))["metadata"]
