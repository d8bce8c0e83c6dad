import errno
import json
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from conftest import rhythm_log
from faults import small_disk
from processes import killed, run, train
from safetensors.torch import load_file

import attncore as ac
from attncore import files
from attncore.training import stop_requests


@pytest.fixture
def config():
    return ac.TrainingConfig(
        epochs=3, batch_size=16, precision="float32", progress=False, checkpoint_every=2
    )


def states(folder):
    return [
        torch.load(path, weights_only=True)
        for path in sorted((folder / "checkpoints").glob("*"))
    ]


def assert_same(a, b, where=""):
    """Bit for bit, down all dicts and lists; times and speeds aside."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a.keys() - {"seconds", "positions_per_s"}:
            assert_same(a[name], b[name], f"{where}/{name}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{number}")
    else:
        assert a == b, where


def assert_same_runs(a, b):
    assert_same(
        load_file(a / "weights.safetensors"), load_file(b / "weights.safetensors")
    )
    assert_same(states(a)[-1], states(b)[-1])
    assert (a / "log.jsonl").read_text().count("\n") == (
        b / "log.jsonl"
    ).read_text().count("\n")
    assert not list(b.rglob(".writing-*"))
    ac.load(b)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    process = run(out)
    started = time.perf_counter()
    process.join()
    assert process.exitcode == 0
    return out, time.perf_counter() - started


def test_ten_kills_at_random_moments_change_no_bit_of_the_result(
    uninterrupted, tmp_path
):
    whole, seconds = uninterrupted
    rng, kills = np.random.default_rng(10), 0
    out = tmp_path / "run"
    while kills < 10:
        delay = float(rng.uniform(0, 0.8) * seconds)
        alive = killed(run(out, resume=True), delay)
        kills += alive
        if not alive:  # it came to the end: begin another run
            assert_same_runs(whole, out)
            out = tmp_path / f"run after {kills} kills"
    last = run(out, resume=True)
    last.join()
    assert last.exitcode == 0
    assert_same_runs(whole, out)


@pytest.mark.parametrize("call", [1, 3])
@pytest.mark.parametrize("place", ["writing", "before a rename", "after a rename"])
def test_a_kill_in_the_middle_of_writing_changes_no_bit_of_the_result(
    uninterrupted, tmp_path, place, call
):
    out = tmp_path / "run"
    process = run(out, dies=(place, call))
    process.join()
    assert process.exitcode == -signal.SIGKILL
    again = run(out, resume=True)
    again.join()
    assert again.exitcode == 0
    assert_same_runs(uninterrupted[0], out)


def test_the_last_two_checkpoints_are_kept(split, small, config, tmp_path):
    ac.fit(ac.Recommender(small, split), split, config, out=tmp_path)
    # 40 users, 16 a step: 3 steps an epoch.
    assert [state["step"] for state in states(tmp_path)] == [
        8,
        9,
    ]


def test_resuming_a_finished_run_changes_nothing(split, small, config, tmp_path):
    first = ac.fit(ac.Recommender(small, split), split, config, out=tmp_path)
    before = load_file(tmp_path / "weights.safetensors")
    model = ac.Recommender(small, split, seed=9)
    again = ac.fit(model, split, config, out=tmp_path, resume=True)
    assert_same(before, load_file(tmp_path / "weights.safetensors"))
    assert_same(first.epochs, again.epochs)
    assert first.valid.metrics == again.valid.metrics
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_a_finished_run_can_be_given_more_epochs(split, small, config, tmp_path):
    from dataclasses import replace

    config = replace(config, schedule="constant")
    ac.fit(ac.Recommender(small, split), split, config, out=tmp_path)
    more = ac.fit(
        ac.Recommender(small, split),
        split,
        replace(config, epochs=5),
        out=tmp_path,
        resume=True,
    )
    assert [entry["epoch"] for entry in more.epochs] == [1, 2, 3, 4, 5]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 5


def test_resume_begins_where_there_is_nothing(split, small, config, tmp_path):
    run = ac.fit(
        ac.Recommender(small, split), split, config, out=tmp_path / "new", resume=True
    )
    assert len(run.epochs) == 3


def test_a_finished_run_may_be_replaced_and_an_unfinished_one_not(
    split, small, config, tmp_path
):
    ac.fit(ac.Recommender(small, split), split, config, out=tmp_path)
    ac.fit(ac.Recommender(small, split), split, config, out=tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(about | {"finished": False}))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        ac.DataError,
        match="holds an unfinished run; add --resume, or give --out another folder",
    ):
        ac.fit(ac.Recommender(small, split), split, config, out=tmp_path)
    assert before == {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"width": 32}}, "was made with width=16, not 32"),
        ({"training": {"lr": 0.5}}, "was made with lr=0.001, not 0.5"),
        ({"training": {"epochs": 5}}, "was made with epochs=3, not 5"),
        ({"training": {"epochs": 2}}, "was made with epochs=3, not 2"),
        ({"log": 5}, "was made with training data="),
        ({"model": {"attention": "mean"}}, "was made with attention=self, not mean"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_and_nothing_is_overwritten(
    split, small, config, tmp_path, change, said
):
    from dataclasses import replace

    ac.fit(ac.Recommender(small, split), split, config, out=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    if "log" in change:
        split = ac.leave_one_out(rhythm_log(seed=change["log"]))
    model = ac.Recommender(replace(small, **change.get("model", {})), split)
    with pytest.raises(ac.DataError, match=said) as error:
        ac.fit(
            model,
            split,
            replace(config, **change.get("training", {})),
            out=tmp_path,
            resume=True,
        )
    assert "\n" not in str(error.value)
    assert before == {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (os.mkdir, (str(self.file),))


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "text", "code"])
def test_a_damaged_checkpoint_is_refused_in_one_line_and_the_one_before_still_works(
    split, small, config, tmp_path, harm
):
    ac.fit(ac.Recommender(small, split), split, config, out=tmp_path)
    path = sorted((tmp_path / "checkpoints").glob("*"))[-1]
    whole = path.read_bytes()
    if harm == "code":
        torch.save({"origin": Code(tmp_path / "ran")}, path)
    else:
        middle = (
            whole.index(
                states(tmp_path)[-1]["model"]["embedding.item.id.weight"]
                .numpy()
                .tobytes()
            )
            + 99
        )
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        path.write_bytes(
            {"cut": whole[:middle], "flipped": flipped, "empty": b"", "text": b"hello"}[
                harm
            ]
        )
    model = ac.Recommender(small, split)
    with pytest.raises(
        ac.DataError, match=r"is damaged .*; delete it, and the one before is taken"
    ) as error:
        ac.fit(model, split, config, out=tmp_path, resume=True)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    path.unlink()
    ac.fit(model, split, config, out=tmp_path, resume=True)
    assert_same(
        states(tmp_path)[-1]["model"],
        torch.load(__import__("io").BytesIO(whole), weights_only=True)["model"],
    )


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    split, small, config, tmp_path
):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "run", "/proc/nowhere"):
        with pytest.raises(
            ac.DataError, match=r"cannot be written .*; give --out another folder"
        ):
            ac.fit(ac.Recommender(small, split), split, config, out=place)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_loses_nothing_that_was_saved(
    split, small, config, tmp_path, monkeypatch
):
    real, calls = torch.save, []

    def full(state, path):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(state, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        ac.fit(ac.Recommender(small, split), split, config, out=tmp_path)
    assert [state["step"] for state in states(tmp_path)] == [2, 3]
    assert not list(tmp_path.rglob(".writing-*"))
    ac.load(tmp_path)
    monkeypatch.undo()
    run = ac.fit(ac.Recommender(small, split), split, config, out=tmp_path, resume=True)
    assert len(run.epochs) == 3


def test_a_checkpoint_that_finds_the_disk_full_is_no_error_of_pytorchs(tmp_path):
    folder = files.RunFolder(tmp_path, {}, {}, writes=True)
    folder.keep(1, {"weights": torch.zeros(10)})
    with small_disk(5000), pytest.raises(OSError, match="cannot be written") as told:
        folder.keep(2, {"weights": torch.zeros(100_000)})
    assert len(str(told.value).splitlines()) == 1
    kept = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert kept == ["step-000000001.pt"]


def test_what_is_replaced_is_flushed_first(tmp_path, monkeypatch):
    done = []
    real_flush, real_replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(
        files.os, "fsync", lambda number: done.append("flush") or real_flush(number)
    )
    monkeypatch.setattr(
        type(tmp_path),
        "replace",
        lambda self, to: done.append("rename") or real_replace(self, to),
    )
    with files.replacing(tmp_path / "file") as fresh:
        fresh.write_text("new")
    assert done == ["flush", "rename", "flush"]
    assert (tmp_path / "file").read_text() == "new"


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")

    def fails():
        with files.replacing(tmp_path / "file") as fresh:
            fresh.write_text("half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_saves_and_says_how_to_go_on(
    split, small, config, tmp_path, monkeypatch, number
):
    whole = ac.Recommender(small, split)
    ac.fit(whole, split, config, out=tmp_path / "whole")
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    steps = []
    real = ac.training.update
    monkeypatch.setattr(
        ac.training,
        "update",
        lambda *given: (
            steps.append(len(steps) == 3 and os.kill(os.getpid(), number))
            or real(*given)
        ),
    )
    with pytest.raises(
        KeyboardInterrupt, match=r"stopped in epoch 2; .* with --resume goes on from"
    ):
        ac.fit(ac.Recommender(small, split), split, config, out=tmp_path / "run")
    # The step that was interrupted is whole.
    assert states(tmp_path / "run")[-1]["step"] == 4
    assert [
        signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)
    ] == handlers
    monkeypatch.undo()
    ac.fit(
        ac.Recommender(small, split), split, config, out=tmp_path / "run", resume=True
    )
    assert_same_runs(tmp_path / "whole", tmp_path / "run")


def test_a_second_ctrl_c_acts_at_once():
    with stop_requests(True) as wanted:
        assert not wanted()
        os.kill(os.getpid(), signal.SIGINT)
        assert wanted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_signals_are_left_alone_where_nothing_is_saved_and_outside_the_main_thread():
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests(False) as wanted:
        assert signal.getsignal(signal.SIGTERM) is before
        assert not wanted()
    seen = []

    def elsewhere():
        with stop_requests(True) as wanted:
            seen.append(wanted())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False]


def test_the_training_that_is_killed_is_a_real_one(uninterrupted):
    """It stops in mid-epoch, accumulates, averages, and learns."""
    log = [
        json.loads(line)
        for line in (uninterrupted[0] / "log.jsonl").read_text().splitlines()
    ]
    assert len(log) == 6
    assert log[-1]["loss"] < log[0]["loss"]
    assert train.__module__ == "processes"


def test_what_never_changes_is_written_once_and_at_the_end(
    split, small, config, tmp_path, monkeypatch
):
    saved, real = [], ac.Recommender.save

    def save(model, folder, about, only_weights):
        saved.append(only_weights)
        real(model, folder, about, only_weights)

    monkeypatch.setattr(ac.Recommender, "save", save)
    run = ac.fit(ac.Recommender(small, split), split, config, out=tmp_path)
    improved = sum(
        entry["ndcg@10"]
        > max([0, *(before["ndcg@10"] for before in run.epochs[:number])])
        for number, entry in enumerate(run.epochs)
    )
    assert saved == [False, *[True] * (improved - 1), False]


def test_a_folder_whose_weights_alone_are_new_is_whole(split, small, tmp_path):
    first, second = (
        ac.Recommender(small, split, seed=1),
        ac.Recommender(small, split, seed=2),
    )
    first.save(tmp_path)
    kept = (tmp_path / "histories.safetensors").stat().st_ino
    second.save(tmp_path, only_weights=True)
    assert (tmp_path / "histories.safetensors").stat().st_ino == kept
    assert torch.equal(ac.load(tmp_path).item.id.weight, second.item.id.weight)
