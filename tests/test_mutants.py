"""Are the unit tests awake? Plausible bugs are written into a copy of the module, one
at a time; a test must fail.

Each mutant runs in a process of its own, forked from a server that has imported PyTorch
already: two seconds or so each, two at a time. The unmutated copy must pass the same
tests, or the catches would prove nothing. A few mutants run each time, others whenever
the module has changed, and all with `--full`.
"""

import contextlib
import hashlib
import io
import os
import random
import re
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from mutants import MUTANTS
from processes import CONTEXT

ROOT = Path(__file__).parents[1]

SAMPLE = 24
HELPERS = ("conftest.py", "logs.py", "processes.py", "shop.py")  # what tests import
TOKEN = re.compile(r'"""[\s\S]*?"""|"[^"\n]*"|#[^\n]*|\w+|[^\w\s]')


def tokens(text):
    """The tokens of some code with their places, however its lines are broken.

    Comments do not count, nor does a comma before a closing bracket.
    """
    found = [m for m in TOKEN.finditer(text) if not m[0].startswith("#")]
    ends = [m[0] for m in found[1:]] + [""]
    return [
        (m[0], m.start(), m.end())
        for m, following in zip(found, ends, strict=True)
        if not (m[0] == "," and following in (")", "]", "}"))
    ]


def places(text, old):
    """Where some code stands in a text, token by token."""
    have, want = tokens(text), [word for word, *_ in tokens(old)]
    words = [word for word, *_ in have]
    return [
        (have[at][1], have[at + len(want) - 1][2])
        for at in range(len(have) - len(want) + 1)
        if words[at : at + len(want)] == want
    ]


def selector(mutant):
    return (
        f"tests/{mutant.tests}"
        if "::" in mutant.tests
        else f"tests/test_{mutant.file.replace('/', '_')}.py::{mutant.tests}"
    )


def run(folder, mutant, selectors):
    """Run the tests of a copy of the package, with the bug if there is one; return
    pytest's exit code and output."""
    folder = Path(folder)
    shutil.copytree(
        ROOT / "attncore",
        folder / "attncore",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (folder / "tests").mkdir()
    for helper in HELPERS:
        shutil.copy(ROOT / "tests" / helper, folder / "tests")
    for test in {selector.partition("::")[0] for selector in selectors}:
        shutil.copy(ROOT / test, folder / test)
    if mutant is not None:
        source = folder / "attncore" / f"{mutant.file}.py"
        text = source.read_text(encoding="utf-8")
        found = places(text, mutant.old)
        if len(found) != 1:
            many = f"{len(found)} times; it must be there once"
            return -1, f"{mutant.file}.py holds {mutant.old!r} {many}"
        start, stop = found[0]
        source.write_text(text[:start] + mutant.new + text[stop:], encoding="utf-8")
    import torch

    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = (
        "1"  # none of these tests needs a plug-in
    )
    sys.path.insert(0, str(folder))
    sys.path[:] = [
        place for place in sys.path if Path(place or ".").resolve() != ROOT / "tests"
    ]
    printed = io.StringIO()
    options = [
        "-x",
        "-q",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:unraisableexception",
        "-o",
        "addopts=",
        f"--rootdir={folder}",
    ]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = int(pytest.main([*options, *selectors]))
    imported = Path(sys.modules["attncore"].__file__).resolve()
    if folder.resolve() not in imported.parents:
        return -1, f"the tests ran on {imported}, not on the copy in {folder}"
    return status, printed.getvalue()


def sample():
    """Some of the mutants, drawn by what the module holds: each change draws others."""
    held = hashlib.sha256()
    for path in sorted((ROOT / "attncore").rglob("*.py")):
        held.update(path.read_bytes())
    chosen = random.Random(held.hexdigest()).sample(range(len(MUTANTS)), SAMPLE)
    return [MUTANTS[number] for number in sorted(chosen)]


def pytest_generate_tests(metafunc):
    if "mutant" in metafunc.fixturenames:
        full = metafunc.config.getoption("full")
        names = {"ids": lambda mutant: mutant.name.replace(" ", "-")}
        metafunc.parametrize("mutant", MUTANTS if full else sample(), **names)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, request):
    """A future for every mutant of this run, and for none."""
    mutants = MUTANTS if request.config.getoption("full") else sample()
    with ProcessPoolExecutor(2, mp_context=CONTEXT, max_tasks_per_child=1) as pool:
        everything = sorted({selector(mutant) for mutant in mutants})
        futures = {
            None: pool.submit(run, tmp_path_factory.mktemp("control"), None, everything)
        }
        for mutant in mutants:
            futures[mutant] = pool.submit(
                run, tmp_path_factory.mktemp("mutant"), mutant, [selector(mutant)]
            )
        yield futures
        pool.shutdown(cancel_futures=True)


def test_the_copy_without_a_bug_passes_all_the_tests_that_must_catch_one(outcomes):
    status, printed = outcomes[None].result(timeout=600)
    assert status == pytest.ExitCode.OK, printed


def test_a_plausible_bug_is_caught(outcomes, mutant):
    status, printed = outcomes[mutant].result(timeout=600)
    assert status == pytest.ExitCode.TESTS_FAILED, printed
    assert "1 failed" in printed


def test_every_bug_has_one_place_in_the_module_and_a_test_that_there_is():
    for file in {mutant.file for mutant in MUTANTS}:
        text = (ROOT / "attncore" / f"{file}.py").read_text(encoding="utf-8")
        for mutant in MUTANTS:
            assert mutant.file != file or len(places(text, mutant.old)) == 1, mutant
    for test in {selector(mutant) for mutant in MUTANTS}:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_there_are_enough_bugs_and_no_two_alike():
    assert (
        len({(m.file, m.old, m.new) for m in MUTANTS})
        == len({m.name for m in MUTANTS})
        == len(MUTANTS)
        >= 120
    )
    assert {m.file for m in MUTANTS} == {
        "attention",
        "batches",
        "counts",
        "encoders",
        "evaluation",
        "features",
        "optim",
        "output",
        "ranking/asof",
        "ranking/batches",
        "ranking/metrics",
        "ranking/ranker",
        "ranking/serving",
        "serving",
        "splits",
        "training",
    }
