import dataclasses
import json
import math
import re
from pathlib import Path

import harness
import numpy as np
import pytest
import report
import torch
from conftest import rhythm_log

import attncore as ac
from attncore.benchmark import Benchmark, describe_machine, measure, peak_memory

BENCH = Path(__file__).parent / "bench"
SMALL = ac.RecommenderConfig(width=16, blocks=1, length=8)
QUICK = ac.TrainingConfig(
    epochs=3, batch_size=16, patience=1, device="cpu", precision="float32"
)


@pytest.fixture(scope="module")
def ballast():
    """MiB that this process holds, which the measured one must not be charged with."""
    held = np.ones(700 * 2**17)
    yield held.nbytes / 2**20
    del held


@pytest.fixture(scope="module")
def found(ballast) -> Benchmark:
    return measure(ac.datasets.load("planted"), SMALL, QUICK, requests=20)


def test_every_figure_is_finite_and_positive_and_has_its_unit(found):
    rates = [
        found.positions_per_s,
        found.users_per_s,
        found.start_up_s,
        found.memory_mib["host"],
    ]
    assert all(
        math.isfinite(rate) and rate > 0
        for rate in rates + found.epochs + list(found.latency_ms.values())
    )
    assert found.latency_ms["p50"] <= found.latency_ms["p99"]
    assert found.memory_mib["cuda"] is None
    text = str(found)
    for unit in (
        "positions/s",
        "users/s",
        "ms median",
        "s to the end of the first step",
        "MiB host",
        "precision float32",
    ):
        assert unit in text


def test_the_positions_are_the_splits_real_ones_and_nothing_stops_early(found):
    split = ac.leave_one_out(ac.datasets.load("planted"))
    assert found.positions == np.clip(split.train.lengths - 1, 0, SMALL.length).sum()
    assert (found.users, found.items, found.data) == (
        len(split.valid),
        len(split.items),
        "planted",
    )
    assert len(found.epochs) == QUICK.epochs
    assert found.positions_per_s == pytest.approx(np.median(found.epochs[1:]))


def test_a_figure_of_ten_milliseconds_is_not_called_ten_seconds(found):
    assert 0.01 < found.latency_ms["p50"] < 60_000
    # Importing PyTorch alone takes longer than 0.3 s.
    assert 0.3 < found.start_up_s < 600


def test_memory_is_the_measuring_process_own(found, ballast):
    assert 50 < found.memory_mib["host"] < ballast + 100
    assert peak_memory() > ballast


def test_the_result_survives_json(found):
    assert Benchmark(**json.loads(json.dumps(dataclasses.asdict(found)))) == found


def test_a_file_is_measured_with_this_package_whatever_lies_in_the_working_folder(
    tmp_path, monkeypatch
):
    (tmp_path / "attncore.py").write_text("raise SystemExit('the wrong attncore')")
    rhythm_log().events.to_csv(tmp_path / "log.csv", index=False)
    monkeypatch.chdir(tmp_path)
    found = measure("log.csv", SMALL, dataclasses.replace(QUICK, epochs=2), requests=1)
    assert (found.data, found.users, found.positions) == ("log", 40, 40 * 7)


def test_a_mistake_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(
        ac.DataError, match=r"^absent\.csv: no such file; check the path$"
    ):
        measure("absent.csv", SMALL, QUICK)
    with pytest.raises(ValueError, match="epochs=1, requests=500: needs 2 epochs"):
        measure(rhythm_log(), SMALL, dataclasses.replace(QUICK, epochs=1))
    with pytest.raises(ac.DataError, match="leaves no user for valid"):
        measure(rhythm_log(events=2), SMALL, QUICK)
    monkeypatch.setattr("attncore.benchmark._WORKER", "raise MemoryError('no more')")
    with pytest.raises(
        ChildProcessError, match="ended with status 1: MemoryError: no more"
    ):
        measure(rhythm_log(), SMALL, QUICK)


def test_the_machine_is_named():
    machine = describe_machine(torch.device("cpu"), torch.bfloat16)
    assert machine["device"] == "cpu"
    assert machine["precision"] == "bfloat16"
    assert machine["threads"] == torch.get_num_threads()
    assert machine["cpu"]


def test_the_results_page_is_what_the_kept_figures_make():
    page = report.PAGE.read_text(encoding="utf-8")
    assert report.render(page) == page
    for name in report.SECTIONS:
        assert len(re.findall(f"<!-- /?{name} -->", page)) == 2


def test_the_exponent_of_a_power_law_is_found():
    x = [100, 200, 400]
    assert report.slope(x, [3 * value**1.5 for value in x]) == pytest.approx(1.5)


def test_a_ratio_compares_each_turn_with_its_own_round():
    def turn(name, number, speed):
        figures = {
            "positions_per_s": speed,
            "users_per_s": speed,
            "memory_mib": 1.0,
            "start_up_s": 1.0,
            "others": 0.0,
        }
        return {
            "name": name,
            "round": number,
            "latency_ms": {"p50": 1, "p99": 2},
        } | figures

    # The machine was slow in the second round, and slower for us.
    pairs = [
        (80, 10),
        (8, 2),
        (90, 10),
    ]
    turns = [
        turn(*one)
        for n, (a, b) in enumerate(pairs)
        for one in (("attncore", n, a), ("RecTools", n, b))
    ]
    text = report.speed({"turns": turns, "command": "x", "machine": {}, "positions": 1})
    assert "8.0x" in text
    assert "80 (80, 8, 90)" in text


def test_a_turn_beside_busy_neighbours_is_taken_again(monkeypatch):
    clock = iter(range(0, 1000, 10))  # every turn takes ten seconds
    monkeypatch.setattr(harness.time, "perf_counter", lambda: next(clock))
    # Seconds that others computed: nine in the first turn, half a second in the second.
    busy = iter([0, 9, 9, 9.5])
    monkeypatch.setattr(harness, "_busy_seconds", lambda: next(busy))
    turns = iter([{"speed": 1}, {"speed": 2}])
    assert harness.quietly(lambda: next(turns)) == {"speed": 2, "others": 0.05}


def test_the_quietest_turn_counts_where_none_is_quiet(monkeypatch):
    clock, busy = iter(range(0, 1000, 10)), iter([0, 9, 9, 14, 14, 22])
    monkeypatch.setattr(harness.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(harness, "_busy_seconds", lambda: next(busy))
    turns = iter([{"speed": 1}, {"speed": 2}, {"speed": 3}])
    assert harness.quietly(lambda: next(turns), tries=3) == {"speed": 2, "others": 0.5}
