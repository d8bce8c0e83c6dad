"""The lists of what is slow name what there is."""

from pathlib import Path

from conftest import LONG_NOTEBOOKS, SLOW_FILES, SLOW_TESTS

ROOT = Path(__file__).parents[1]


def test_every_slow_file_and_test_and_long_notebook_is_there():
    tests = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(SLOW_FILES) <= tests.keys()
    assert set(LONG_NOTEBOOKS) <= {
        path.name for path in (ROOT / "book").glob("*.ipynb")
    }
    text = "\n".join(path.read_text(encoding="utf-8") for path in tests.values())
    assert [name for name in SLOW_TESTS if f"def {name}(" not in text] == []


def test_a_test_is_quick_unless_it_is_said_to_be_slow(request):
    assert request.node.get_closest_marker("quick")
    assert not request.node.get_closest_marker("slow")
