"""What of the notebooks' code a reader sees is there to teach.

A cell is visible unless it is tagged `hide-input`, `hide-cell`, `remove-input` or
`remove-cell`, or stands in the folded solution of an exercise. A line of code (neither
blank nor only a comment) is plumbing if the innermost statement that it belongs to is

- an import, beyond the first four lines of imports that the page shows;
- figure code: a statement that reads `plt`, a figure or axes made by it, or calls
  `figures.…` or a function of `attncore.plotting`;
- an assertion;
- `glue(…)`;
- set-up: a magic, `set_num_threads`, `manual_seed`, `set_printoptions`,
  `filterwarnings`;
- the head of a compound statement which holds nothing but plumbing.

All other lines teach. A comment that only a tool reads is a marker, and has no place.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
PLOTTING = {"heat_map", "weights_bars", "learning_curve"}
SETTING_UP = {"set_num_threads", "manual_seed", "set_printoptions", "filterwarnings"}
MARKER = re.compile(r"#\s*(NBVAL_\w+|fmt: ?\w+|noqa|type: ?ignore|ruff:)")
IMPORTS_SHOWN = 4
COLUMNS = 88


def code_of(path):
    """Every code cell, and whether the page shows its code."""
    solution = False
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            if re.search(r"^:::+\{solution-(start|end)\}", cell.source, re.M):
                solution = "{solution-start}" in cell.source
        elif cell.source.strip():
            yield cell, not solution and not FOLDED & set(cell.metadata.get("tags", []))


def tree_of(source):
    """The statements of a cell; a magic stands as a name that nothing else has."""
    return ast.parse(re.sub(r"^%.*$", "MAGIC", source, flags=re.M))


def names(node):
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def stored(node):
    return {
        n.id
        for n in ast.walk(node)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }


def called(node):
    """What a statement calls: `f` of f(…), `m.f` of m.f(…)."""
    calls = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
    return {f.id if isinstance(f, ast.Name) else ast.unparse(f) for f in calls}


def axes_of(tree):
    """Names of figures and axes: what `plt` makes, and what is taken from that."""
    found = {"plt"}
    while True:
        more = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and names(node.value) & found:
                more |= stored(node)
            elif isinstance(node, ast.For) and names(node.iter) & found:
                more |= first_of_zip(node, found)
        if more <= found:
            return found
        found |= more


def first_of_zip(loop, found):
    """The targets that run over axes in `for …, axis, … in zip(…, axes, …)`."""
    parts = getattr(loop.iter, "args", [])
    if not isinstance(loop.target, ast.Tuple) or len(parts) != len(loop.target.elts):
        return stored(loop.target)
    return set().union(
        *(
            stored(t)
            for t, part in zip(loop.target.elts, parts, strict=True)
            if names(part) & found
        )
    )


def kind(statement, axes):
    """What a simple statement does: the name of its kind of plumbing, or "teach"."""
    calls = called(statement)
    last = {call.rsplit(".", 1)[-1] for call in calls}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return "import"
    if isinstance(statement, ast.Assert):
        return "assert"
    if isinstance(statement, ast.Expr) and ast.unparse(statement.value).startswith(
        "glue("
    ):
        return "glue"
    if (
        names(statement) & axes
        or last & PLOTTING
        or any(c.startswith("figures.") for c in calls)
    ):
        return "figure"
    if isinstance(statement, ast.Expr | ast.Assign) and (
        "MAGIC" in names(statement)
        or ast.unparse(statement.value).split("(")[0].split(".")[-1] in SETTING_UP
    ):
        return "set-up"
    return "teach"


def kinds_of_lines(source):
    """The kind of every line of code, by its number, imports all counted."""
    tree = tree_of(source)
    axes = axes_of(tree)
    found = {}

    def mark(statement):
        first = min(
            [
                statement.lineno,
                *(d.lineno for d in getattr(statement, "decorator_list", [])),
            ]
        )
        blocks = [
            getattr(statement, part, []) for part in ("body", "orelse", "finalbody")
        ]
        blocks += [handler.body for handler in getattr(statement, "handlers", [])]
        inside = [
            child for block in blocks for child in block if isinstance(child, ast.stmt)
        ]
        if not inside:
            own = kind(statement, axes)
        else:
            below = {mark(child) for child in inside}
            own = (
                below.pop()
                if len(below) == 1
                else "teach"
                if "teach" in below
                else below.pop()
            )
        for line in range(first, statement.end_lineno + 1):
            found.setdefault(line, own)
        return own

    for statement in tree.body:
        mark(statement)
    lines = dict(enumerate(source.splitlines(), 1))
    return {
        n: k
        for n, k in sorted(found.items())
        if lines[n].strip() and not lines[n].strip().startswith("#")
    }


def counts(path):
    """Visible lines of plumbing and of teaching on a page."""
    plumbing = teaching = imports = 0
    for cell, visible in code_of(path):
        if visible:
            for what in kinds_of_lines(cell.source).values():
                imports += what == "import"
                shown = what == "import" and imports <= IMPORTS_SHOWN
                plumbing += what != "teach" and not shown
                teaching += what == "teach"
    return plumbing, teaching


def test_lines_are_told_apart():
    source = """import a
from b import (
    c,
)
figure, (left, right) = plt.subplots(1, 2)
for axis, row in zip((left, right), rows):
    axis.plot(row)
    total = sum(row)
for row in rows:
    assert row
x = f(y)  # a remark

# only a remark
glue("x", f"{x}", display=False)
figures.lines(
    x,
)
torch.manual_seed(0)
_ = torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
%config a
with no_grad():
    heat_map(x)
    model.eval()"""
    found = kinds_of_lines(source)
    assert list(found.values()) == (
        ["import"] * 4
        + ["figure", "teach", "figure", "teach", "assert", "assert", "teach", "glue"]
        + ["figure"] * 3
        + ["set-up", "set-up", "teach", "set-up", "teach", "figure", "teach"]
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestEveryNotebook:
    def test_shows_teaching_and_not_plumbing(self, path):
        plumbing, teaching = counts(path)
        assert plumbing <= 0.08 * (plumbing + teaching), (
            f"{plumbing} lines of plumbing, {teaching} that teach"
        )

    def test_has_no_line_that_the_column_cuts(self, path):
        cut = [
            line
            for cell, _ in code_of(path)
            for line in cell.source.splitlines()
            if len(line) > COLUMNS
        ]
        assert not cut

    def test_has_tags_and_no_markers(self, path):
        assert not [
            found[0]
            for cell, _ in code_of(path)
            for found in MARKER.finditer(cell.source)
        ]

    def test_shows_no_cell_that_only_asserts(self, path):
        for cell, visible in code_of(path):
            found = set(kinds_of_lines(cell.source).values())
            assert not (
                visible and "assert" in found and found <= {"assert", "glue"}
            ), cell.source

    def test_prints_nothing_while_it_imports(self, path):
        for cell, _ in code_of(path):
            if set(kinds_of_lines(cell.source).values()) <= {"import", "set-up"}:
                assert not cell.outputs, cell.source


def test_the_book_shows_little_plumbing():
    plumbing, teaching = map(sum, zip(*map(counts, NOTEBOOKS), strict=True))
    assert plumbing < 0.08 * (plumbing + teaching)
