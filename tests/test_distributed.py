"""Two processes that train together equal one, and answer every question once."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import rhythm_log
from processes import CONTEXT
from shop import shop_log

import attncore as ac
from attncore.distributed import (
    Group,
    choose_device,
    choose_precision,
    processes,
    tensor_float_32,
)

STEPS = 20


def small_model(attention="self", users=41):
    split = ac.leave_one_out(rhythm_log(users=users))
    return (
        ac.Recommender(
            ac.RecommenderConfig(attention=attention, width=16, length=8, dropout=0.0),
            split,
        ),
        split,
    )


def train_20_steps() -> list[dict[str, torch.Tensor]]:
    """Weights after each of 20 steps in float64, without dropout; the last step of an
    epoch has one user."""
    model, split = small_model()
    model.double()
    kept = []
    real = ac.training.update

    def update(*given):
        finite = real(*given)
        kept.append(
            {name: x.detach().clone() for name, x in model.state_dict().items()}
        )
        return finite

    ac.training.update = update
    config = ac.TrainingConfig(
        epochs=10,
        batch_size=20,
        lr=1e-2,
        warmup=2,
        clip=0.3,
        precision="float32",
        progress=False,
    )
    try:
        ac.fit(model, split, config)
    finally:
        ac.training.update = real
    return kept[:STEPS]


def figures(attention="self") -> dict[str, float]:
    """The metrics of fixed weights over 41 users."""
    model, split = small_model(attention)
    with processes("cpu") as group:
        report = ac.evaluate(model, split.test, group=group)
    return report.metrics | {
        f"interval of {name}": bounds for name, bounds in report.interval.items()
    }


def prepared() -> dict:
    """What each process sees and learns of a log that it has prepared in 4 shards."""
    with processes("cpu") as group, tempfile.TemporaryDirectory() as place:
        path = Path(place) / "log.csv"
        rhythm_log(users=41).events.to_csv(path, index=False)
        log = ac.prepare(path, Path(place) / "prepared", shards=4)
        split = log.split(group.rank, group.size)
        model = ac.Recommender(
            ac.RecommenderConfig(width=16, length=8, dropout=0.0), split
        )
        config = ac.TrainingConfig(
            epochs=3, batch_size=8, precision="float32", progress=False, device="cpu"
        )
        run = ac.fit(model, split, config)
        questions = log.questions("test", group.rank, group.size)
        return {
            "users": split.users.ids.tolist(),
            "positions": int((split.train.lengths - 1).sum()),
            "losses": [epoch["loss"] for epoch in run.epochs],
            "metrics": ac.evaluate(model, questions, group=group).metrics,
            "asked": ac.evaluate(model, questions, group=group).users,
            "weight": model.item.id.weight.detach(),
        }


def rankers() -> dict:
    """The losses of two epochs of each kind of ranker."""
    with processes("cpu"):  # one group for both: its port is not free at once
        split = ac.split_by_time(shop_log(), valid=0.2, test=0.2)
        return {kind: losses_of(kind, split) for kind in ("target", "mean")}


def losses_of(kind: str, split: ac.Split) -> list[float]:
    config = ac.RankerConfig(attention=kind, width=16, length=20, dropout=0.0)
    training = ac.TrainingConfig(
        epochs=2,
        batch_size=10,
        lr=1e-2,
        negatives=8,
        warmup=0,
        precision="float32",
        progress=False,
        device="cpu",
    )
    run = ac.fit(ac.Ranker(config, split), split, training)
    return [epoch["loss"] for epoch in run.epochs]


def facts() -> tuple:
    """What the group's own functions do."""
    with processes("cpu") as group:
        with processes("cpu") as inner:
            same = (inner.rank, inner.size) == (group.rank, group.size)
        with group.rank_0_first():
            pass
        shared = group.share(np.arange(7)).tolist()
        total = group.total(torch.tensor(float(group.rank + 1))).item()
        return (
            same,
            shared,
            total,
            group.gather(group.rank),
            group.from_rank_0(group.rank),
            group.is_rank_0,
        )


def called(name, rank, size, port, queue, out=None):
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    result = globals()[name]()
    queue.put((rank, pickled(result)))


def pickled(result):
    """Plain values: tensors shared through a queue need their sender alive."""
    if isinstance(result, torch.Tensor):
        return result.numpy().copy()
    if isinstance(result, dict):
        return {name: pickled(value) for name, value in result.items()}
    return [pickled(value) for value in result] if isinstance(result, list) else result


def on(size: int, name: str) -> list:
    """The results of a function of this file in `size` processes, in order of rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = CONTEXT.Queue()
    started = [
        CONTEXT.Process(target=called, args=(name, rank, size, port, queue))
        for rank in range(size)
    ]
    for process in started:
        process.start()
    results = dict(queue.get(timeout=120) for _ in started)
    for process in started:
        process.join()
    return [results[rank] for rank in range(size)]


def test_two_processes_train_as_one_does_at_the_same_global_batch():
    (alone,) = on(1, "train_20_steps")
    both = on(2, "train_20_steps")
    assert len(alone) == STEPS
    for together in both:
        for step, (ours, theirs) in enumerate(zip(alone, together, strict=True)):
            for name in ours:
                np.testing.assert_allclose(
                    theirs[name], ours[name], atol=1e-11, err_msg=f"step {step}, {name}"
                )
    assert not np.allclose(
        alone[0]["embedding.item.id.weight"],
        alone[-1]["embedding.item.id.weight"],
        atol=1e-3,
    )


def test_both_kinds_of_ranker_train_in_two_processes():
    (alone,), (first, second) = on(1, "rankers"), on(2, "rankers")
    assert first == second
    for kind, losses in first.items():
        assert losses[1] < losses[0]
        # Other slates of each user are drawn, of the same users.
        assert losses == pytest.approx(alone[kind], rel=0.1)


def test_each_process_reads_its_own_shards_and_all_learn_and_report_the_same():
    pytest.importorskip("duckdb")
    (alone,), (first, second) = on(1, "prepared"), on(2, "prepared")
    assert sorted(first["users"] + second["users"]) == alone["users"]
    assert min(len(first["users"]), len(second["users"])) > 5
    assert first["positions"] + second["positions"] == alone["positions"]
    assert first["losses"] == second["losses"]
    assert first["losses"][-1] < first["losses"][0]
    # Other users a step, the same weighting.
    assert first["losses"][0] == pytest.approx(alone["losses"][0], rel=0.05)
    assert first["metrics"] == second["metrics"]
    assert first["asked"] == second["asked"] == alone["asked"] == 41
    np.testing.assert_array_equal(first["weight"], second["weight"])


def test_metrics_are_the_same_on_one_and_two_processes_for_an_odd_count():
    (alone,) = on(1, "figures")
    assert on(2, "figures") == [alone, alone]
    model, split = small_model()
    assert len(split.test) % 2 == 1
    for name, value in ac.evaluate(model, split.test).metrics.items():
        assert alone[name] == pytest.approx(value)


def test_a_group_shares_rows_sums_and_agrees():
    assert on(2, "facts") == [
        (True, [0, 2, 4, 6], 3.0, [0, 1], 0, True),
        (True, [1, 3, 5], 3.0, [0, 1], 0, False),
    ]


def test_alone_a_group_changes_nothing():
    group = Group(torch.device("cpu"))
    module = torch.nn.Linear(1, 1)
    assert group.wrap(module) is module
    assert group.share(np.arange(3)).tolist() == [0, 1, 2]
    assert group.total(torch.tensor(2.0)).item() == 2.0
    assert (group.gather(5), group.from_rank_0(5), group.is_rank_0) == ([5], 5, True)


@pytest.fixture
def torchrun(tmp_path):
    """Run `python -m attncore ...` in two processes."""

    def command(*words, program=("-m", "attncore")):
        line = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*line, *program, *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=240,
        )

    return command


def test_torchrun_trains_from_the_command_line_with_one_writer_and_resumes(
    torchrun, tmp_path
):
    rhythm_log(users=41).events.to_csv(tmp_path / "log.csv", index=False)
    words = [
        "train",
        "log.csv",
        "--out",
        "run",
        "--width",
        "16",
        "--length",
        "8",
        "--precision",
        "float32",
        "--schedule",
        "constant",
    ]
    first = torchrun(*words, "--epochs", "2")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("kept in run") == 1
    again = torchrun(*words, "--epochs", "3", "--resume")
    assert again.returncode == 0, again.stderr
    lines = [
        json.loads(line)
        for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    ]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    model = ac.load(tmp_path / "run")
    report = ac.evaluate(model, model.split.valid)
    assert max(line["ndcg@10"] for line in lines) == pytest.approx(
        report.metrics["ndcg@10"], abs=1e-6
    )
    alone = subprocess.run(
        [sys.executable, "-m", "attncore", *words, "--epochs", "4", "--resume"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert alone.returncode == 2
    assert re.search(r"was made with processes=2, not 1", alone.stderr)


def test_devices_are_chosen_by_what_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ac.DataError, match="no CUDA device"):
        choose_device("cuda")
    with pytest.raises(ac.DataError, match="must be auto, cpu, cuda"):
        choose_device("gpu0")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ac.DataError, match="no MPS device"):
        choose_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto").type == "cuda"
    with pytest.raises(ac.DataError, match="has 1 CUDA devices"):
        choose_device("cuda:3")


def test_precision_is_asked_of_the_device(monkeypatch):
    cpu = torch.device("cpu")
    assert choose_precision("float32", cpu) == torch.float32
    assert choose_precision("tf32", cpu) == torch.float32
    assert choose_precision("bfloat16", cpu) == torch.bfloat16
    assert choose_precision("float16", cpu) == torch.float16
    for able, dtype in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert choose_precision("auto", cpu) == dtype
    for capability, dtype in (((9, 0), torch.bfloat16), ((7, 5), torch.float32)):
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device, c=capability: c
        )
        assert choose_precision("auto", torch.device("cuda")) == dtype


def test_tf32_is_allowed_or_forbidden_for_cuda_and_only_within_the_block(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    for device, allowed, within in (
        ("cuda", True, "high"),
        ("cuda", False, "highest"),
        ("cpu", True, "highest"),
    ):
        with tensor_float_32(torch.device(device), allowed):
            assert torch.get_float32_matmul_precision() == within
            lstm = torch.backends.cudnn.allow_tf32
            assert lstm == (allowed or device == "cpu")
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("place", ["nowhere.csv", "log.csv"])
def test_a_mistake_under_torchrun_is_said_once_in_one_line(torchrun, tmp_path, place):
    rhythm_log(users=41).events.to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "run").write_text(
        "a file, which only the first process finds in its way"
    )
    done = torchrun("train", place, "--out", "run", "--device", "cpu", "--epochs", "1")
    assert done.returncode
    # What torchrun itself reports comes after it.
    said = [line for line in done.stderr.splitlines() if line.startswith("attncore: ")]
    assert len(said) == 1
    assert ("no such file" if place == "nowhere.csv" else "cannot be written") in said[
        0
    ]
    assert not re.search(r"DataError|RuntimeError|NotADirectory", done.stderr)


# The disk fills up under the first process, which alone writes, at some file.
FULL = """
import errno, os, sys
from attncore import __main__, files
fails, kept = sys.argv[1], getattr(files.RunFolder, sys.argv[1])
def full(self, *given, **how):
    if os.environ["RANK"] == "0":
        raise OSError(errno.ENOSPC, "No space left on device")
    return kept(self, *given, **how)
setattr(files.RunFolder, fails, full)
__main__.main(sys.argv[2:])
"""


@pytest.mark.parametrize("fails", ["keep", "save", "write_log"])
def test_a_disk_that_is_full_under_torchrun_is_said_once_in_one_line(
    torchrun, tmp_path, fails
):
    rhythm_log(users=41).events.to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "full.py").write_text(FULL)
    words = ["train", "log.csv", "--out", "run", "--device", "cpu", "--epochs", "2"]
    done = torchrun(fails, *words, "--no-progress", program=("full.py",))
    assert done.returncode
    said = [line for line in done.stderr.splitlines() if line.startswith("attncore: ")]
    assert len(said) == 1
    assert "No space left" in said[0]
    before = done.stderr.split("torch/distributed/")[0]  # torchrun's own report
    assert not re.search(r"Traceback|RuntimeError|OSError", before)
