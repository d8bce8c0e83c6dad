"""What holds for every notebook as it is stored; nbval proves that its outputs are what its code gives."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest
import yaml

import attncore
from attncore import attention, output, ranking

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))


def cells(path, kind="code"):
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def toc_files(node):
    if isinstance(node, dict):
        found = [node[key] for key in ("root", "file") if key in node]
        return found + [f for value in node.values() for f in toc_files(value)]
    return [f for part in node for f in toc_files(part)] if isinstance(node, list) else []


def test_the_toc_holds_every_page_and_every_entry_exists():
    listed = toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text()))
    pages = [*(ROOT / "book").rglob("*.md"), *NOTEBOOKS]
    assert sorted(listed) == sorted(
        str(p.relative_to(ROOT).with_suffix("")) for p in pages if ".ipynb_" not in str(p)
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestEveryNotebook:
    def test_was_run_from_top_to_bottom_without_errors_or_noise(self, path):
        code = [c for c in cells(path) if c.source.strip()]
        assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
        outputs = [o for c in code for o in c.outputs]
        assert not [o for o in outputs if o.output_type == "error"]
        assert not [o for o in outputs if o.get("name") == "stderr"]

    def test_names_no_machine(self, path):
        assert not re.search(r"/(work|root|home|tmp|Users)/\w", path.read_text(encoding="utf-8"))

    def test_a_cell_that_may_differ_is_followed_by_one_that_asserts(self, path):
        code = cells(path)
        for cell, after in zip(code, [*code[1:], None], strict=True):
            if "NBVAL_IGNORE_OUTPUT" in cell.source or "nbval-ignore-output" in cell.metadata.get("tags", []):
                assert after is not None
                assert re.search(r"^\s*assert ", after.source, re.M), f"no assert after:\n{cell.source[:200]}"

    def test_takes_no_name_that_the_module_holds(self, path):
        held = {*attncore.__all__} | {
            name
            for module in (attention, output, ranking)
            for name in vars(module)
            if callable(getattr(module, name))
        }
        defined = set()
        for cell in cells(path):
            source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    defined.add(node.name)
        assert not defined & held

    def test_every_figure_has_alt_text(self, path):
        for cell in cells(path):
            if any("image/png" in o.get("data", {}) for o in cell.outputs):
                assert len(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")) > 30, cell.source[:200]

    def test_follows_the_template(self, path):
        if not re.match(r"\d\d_", path.name):
            pytest.skip("not a chapter")
        text = "\n".join(c.source for c in cells(path, "markdown"))
        assert len(re.findall(r"^# ", text, re.M)) == 1
        for part in ("**Time:**", "**You will be able to**", "The rung", "Exercise 1", "Summary", "**Next:**"):
            assert part.lower() in text.lower(), f"{part} is missing"
        checkers = [c for c in cells(path) if re.search(r"check\.\w+\(", c.source)]
        assert 3 <= len(re.findall(r"Exercise \d", text)) <= 6
        assert len(checkers) >= 3
        assert all("hide-cell" in c.metadata.get("tags", []) for c in checkers)

    def test_holds_no_widget_state(self, path):
        assert "widgets" not in json.loads(path.read_text(encoding="utf-8"))["metadata"]
