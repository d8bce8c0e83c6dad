"""The script that measures a GPU loses nothing to a bad step and hides no fault."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import gpu
import pytest
import report
import torch

import attncore as ac

HERE = gpu.Here(torch.device("cpu"), dry=True)
BENCH = Path(gpu.__file__).parent
PLANTED = f"""
import os, sys, time
sys.path.insert(0, {str(BENCH)!r})
import gpu

def good(here):
    yield "one", lambda: {{"said": "fine", "figure": 1}}

def bad(here):
    yield "raises", lambda: 1 / 0
    yield "slow", lambda: time.sleep(60)
    yield "untrue", lambda: {{"ok": False, "said": "too far off"}}
    yield "after", lambda: {{"said": "still there"}}

def crash(here):
    yield "before", lambda: {{"said": "kept"}}
    yield "dies", lambda: os._exit(3)

def hang(here):
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
    yield

def nothing(here):
    yield from ()

steps = [(good, 60), (bad, 60), (crash, 60), (hang, 2), (nothing, 60)]
gpu.main([gpu.Step(p.__name__, p.__name__, cap, 0.2, p) for p, cap in steps])
"""


def planted(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    script = folder / "planted.py"
    script.write_text(PLANTED, encoding="utf-8")
    command = [
        sys.executable,
        str(script),
        "--dry-run",
        "--json",
        str(folder / "kept.json"),
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The planted steps, run once: how the script ended, and what it kept."""
    folder = tmp_path_factory.mktemp("planted")
    done = planted(folder)
    return done, {
        step["name"]: step
        for step in json.loads((folder / "kept.json").read_text())["steps"]
    }


def test_no_step_loses_another_and_the_script_ends_with_a_failure(ran):
    done, steps = ran
    assert done.returncode == 1
    assert list(steps) == ["good", "bad", "crash", "hang", "nothing"]
    assert [name for name, step in steps.items() if step["ok"]] == ["good"]
    assert steps["good"]["parts"][0]["figure"] == 1


def test_a_part_that_fails_is_named_and_the_next_is_done(ran):
    parts = {part["part"]: part for part in ran[1]["bad"]["parts"]}
    assert parts["raises"]["said"] == "ZeroDivisionError: division by zero"
    assert parts["slow"]["said"] == "TimeoutError: took more than 0.8 s"
    assert parts["untrue"]["said"] == "too far off"
    assert [name for name, part in parts.items() if part["ok"]] == ["after"]


def test_what_a_step_found_before_it_crashed_is_kept(ran):
    assert ran[1]["crash"]["why"].startswith("ended with status 3")
    assert [part["said"] for part in ran[1]["crash"]["parts"]] == ["kept"]


def test_a_step_that_hangs_is_killed(ran):
    assert ran[1]["hang"]["why"] == "killed after 8 s"
    assert ran[1]["hang"]["seconds"] < 20


def test_a_step_that_does_nothing_has_failed(ran):
    assert ran[1]["nothing"]["why"] == "nothing ran"


def test_the_summary_says_what_was_and_what_was_not_reached(ran):
    reached, missed = ran[0].stdout.split("Not reached:")
    assert "- good. one: fine." in reached
    assert "- bad. after: still there." in reached
    assert "- hang. killed after 8 s." in missed
    assert "untrue: too far off" in missed


def test_one_step_alone_can_be_run_again(tmp_path):
    assert planted(tmp_path, "--only", "good").returncode == 0
    assert [
        step["name"]
        for step in json.loads((tmp_path / "kept.json").read_text())["steps"]
    ] == ["good"]


def test_a_step_without_time_left_is_not_run_and_said(tmp_path):
    results, kept = {"steps": []}, []
    assert not gpu.run_steps(
        gpu.STEPS[:2],
        HERE,
        results,
        0,
        tmp_path,
        lambda found: kept.append(len(found["steps"])),
    )
    assert [step["why"] for step in results["steps"]] == [
        "not run: the budget is spent"
    ] * 2
    assert kept == [1, 2]


def test_all_steps_fit_into_six_minutes_and_follow_the_letters():
    letters = [step.title[:3] for step in gpu.STEPS]
    assert letters == sorted(letters)
    assert {letter[1] for letter in letters} == set("abcdefg")
    assert gpu.BUDGET <= 360
    assert all(step.each <= step.cap < gpu.BUDGET / 3 for step in gpu.STEPS)


def test_carried_wheels_are_found_by_the_script_and_by_what_it_starts(tmp_path):
    bench, wheel = (
        tmp_path / "tests" / "bench",
        tmp_path / "build" / "wheels" / "carried-1-py3-none-any.whl",
    )
    for folder in (bench, wheel.parent):
        folder.mkdir(parents=True)
    for name in ("gpu", "harness", "report", "scaling"):
        shutil.copy(BENCH / f"{name}.py", bench)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("carried_module.py", "value = 7")
    code = (
        "import gpu, carried_module; "
        "print(carried_module.value, gpu.environment()['PYTHONPATH'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=bench,
        capture_output=True,
        text=True,
        timeout=120,
    )
    value, path = done.stdout.split(" ", 1)
    assert value == "7", done.stderr
    assert str(wheel) in path


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("numpy-2-cp312-cp312-manylinux_x86_64.whl", 10),
        ("big-1-py3-none-any.whl", 2**20),
    ],
)
def test_only_small_pure_wheels_are_packed(monkeypatch, tmp_path, name, size):
    fetched = []

    def fetch(command, check):
        fetched.extend(command)
        (tmp_path / name).write_bytes(bytes(size))

    monkeypatch.setattr(gpu.subprocess, "run", fetch)
    with pytest.raises(SystemExit, match="carry pure wheels of less than a megabyte"):
        gpu.pack(tmp_path)
    assert any(word.startswith("platformdirs==") for word in fetched)


@pytest.fixture
def reads(monkeypatch):
    """A loss that reads a number back."""
    real = ac.Recommender.loss

    def loss(self, batch, criterion):
        found = real(self, batch, criterion)
        assert found.item() > 0
        return found

    monkeypatch.setattr(ac.Recommender, "loss", loss)


@pytest.mark.usefixtures("reads")
def test_a_step_that_reads_a_number_back_is_an_error():
    with pytest.raises(RuntimeError, match="read back"):
        gpu.waits(HERE, "mean", "float32")


@pytest.mark.usefixtures("reads")
def test_the_profiler_counts_numbers_that_are_read_back(monkeypatch):
    monkeypatch.setattr(gpu, "strictly", lambda device: contextlib.nullcontext())
    found = gpu.waits(HERE, "mean", "float32", count=3)
    assert (found["ok"], found["waits"]) == (False, 3)


def test_waits_and_copies_of_cuda_count_by_their_names():
    assert gpu.waits(HERE, "mean", "float32")["ok"]
    assert {"cudaStreamSynchronize", "cudaDeviceSynchronize"} <= set(gpu.WAITS)


@pytest.mark.parametrize("kind", ["self", "slates"])
def test_losses_that_differ_from_a_cpus_are_an_error(monkeypatch, kind):
    assert gpu.compared(HERE, kind, "float32")["ok"]
    real = gpu.losses

    def off(here, *how):
        return [loss * (1 if here is not HERE else 1.001) for loss in real(here, *how)]

    monkeypatch.setattr(gpu, "losses", off)
    found = gpu.compared(HERE, kind, "float32")
    assert not found["ok"]
    assert found["worst"] == pytest.approx(1e-3, rel=1e-3)


def test_bits_that_differ_between_two_runs_are_counted(monkeypatch):
    real, runs = gpu.steps, []

    def steps(made, batches, count):
        runs.append(real(made, batches, count))
        with torch.no_grad():
            made.model.item.id.weight[1, :3] += len(runs)

    monkeypatch.setattr(gpu, "steps", steps)
    found = gpu.repeated(HERE, "mean")
    assert not found["ok"]
    assert found["said"].startswith("3 of ")
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_test_that_is_skipped_has_not_passed():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, so nothing is skipped")
    found = gpu.tested(
        gpu.Here(torch.device("cuda")), ["tests/test_gpu.py", "-k", "memory_mapped"]
    )
    assert not found["ok"]
    assert found["said"].startswith("0 of 1 tests passed; not test_a_memory_mapped")


def test_products_are_counted_by_the_formula():
    """The mean has no product but the catalogue's.

    That is 2 D V for the scores of a position, twice as much for gradients.
    """
    config = ac.RecommenderConfig(attention="mean", width=16, length=16)
    split = gpu.large_log(True)
    made = gpu.trainer(
        HERE, config, split, ac.TrainingConfig(batch_size=16), precision="float32"
    )
    assert gpu.products(made, made._batches()) == 6 * 16 * len(split.items)


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("Tesla T4", 65),
        ("cpu", None),
    ],
)
def test_a_card_is_known_by_its_name(card, peak):
    assert gpu.peak_of(card) == peak


def results(**changes):
    training = {
        "part": "sasrec",
        "ok": True,
        "said": "fast",
        "model": "sasrec",
        "mode": "compiled",
        "full": True,
        "precision": "bfloat16",
        "positions": 1_000_000,
        "positions_per_s": 2e6,
        "epoch_s": 0.5,
        "memory_mib": 1234.5,
        "share": 0.123,
        "first_s": 20.0,
        "recompiles": 2,
    }
    late = {"part": "self", "ok": False, "said": "3 waits"}
    steps = [
        {
            "title": "(c) training",
            "ok": True,
            "why": "",
            "parts": [training],
            "others": 0.5,
        },
        {"title": "(d) waits", "ok": False, "why": "", "parts": [late], "others": None},
        {"title": "(e) requests", "ok": False, "why": "killed after 25 s", "parts": []},
    ]
    return {
        "command": "x",
        "dry": False,
        "machine": {"device": "NVIDIA H100"},
        "steps": steps,
    } | changes


def test_figures_become_a_table_with_the_cards_name():
    text = report.gpu(results())
    (row,) = [line for line in text.splitlines() if line.startswith("| sasrec")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["sasrec, full histories", "compiled", "bfloat16"]
    assert cells[3:] == [
        "1,000,000",
        "2,000,000",
        "0.50",
        "1,234",
        "12.3%",
        "20.0",
        "2",
    ]
    assert "NVIDIA H100" in text
    assert "0.50 cores" in text
    assert "dry run" not in text
    assert text.endswith(
        "Not reached:\n\n- (d) waits. self: 3 waits."
        "\n- (e) requests. killed after 25 s."
    )


def test_a_dry_run_says_so_and_is_never_published(tmp_path):
    assert report.gpu(results(dry=True)).startswith(
        "A dry run: everything small and on a CPU"
    )
    command = [sys.executable, str(BENCH / "gpu.py"), "--dry-run", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 2
    assert "a dry run has no figures to publish" in done.stderr


def test_the_page_claims_nothing_until_figures_are_kept(monkeypatch, tmp_path):
    page = report.PAGE.read_text(encoding="utf-8")
    block = re.search("<!-- gpu -->(.*?)<!-- /gpu -->", page, re.DOTALL)[1]
    if not (report.RESULTS / "gpu.json").exists():
        assert block.strip() == "Nothing has been measured yet: no GPU was at hand."
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "gpu.json").write_text(json.dumps(results()), encoding="utf-8")
    assert report.gpu(results()) in report.render(page)
