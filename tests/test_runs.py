"""Run folders under faults: tampered, replaced while read, written by two processes, on
a full disk."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from faults import small_disk
from processes import CONTEXT
from safetensors.torch import load_file, save_file

import attncore as ac
from attncore import files
from attncore.__main__ import main


def model_of(split, seed=3, **options):
    return ac.Recommender(
        ac.RecommenderConfig(width=16, length=8, **options), split, seed=seed
    ).eval()


@pytest.fixture
def run(split, tmp_path):
    model_of(split).save(tmp_path / "run", {"data": {"name": "rhythm"}})
    return tmp_path / "run"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sign(folder):
    """Make the checksums those of the files, as somebody who tampers on purpose
    would."""
    config = json.loads((folder / "config.json").read_text())
    config["files"] = files.file_checksums(folder, files.RUN_FILES[:-1])
    (folder / "config.json").write_text(json.dumps(config))


def refused(folder, hint):
    with pytest.raises(ac.DataError, match=hint) as error:
        ac.load(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


# --- tampered
# --------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return open, ("exploded", "w")


@pytest.mark.parametrize("name", ["weights.safetensors", "histories.safetensors"])
@pytest.mark.parametrize("signed", [False, True])
def test_loading_never_runs_what_is_in_a_file(run, tmp_path, monkeypatch, name, signed):
    monkeypatch.chdir(tmp_path)
    (run / name).write_bytes(pickle.dumps(Bomb()))
    if signed:
        sign(run)
    refused(run, "run")
    assert not (tmp_path / "exploded").exists()


def changed_weights(run, change):
    weights = load_file(run / "weights.safetensors")
    change(weights)
    save_file(weights, run / "weights.safetensors")
    sign(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("embedding.item.id.weight"),
        lambda weights: weights.update(more=torch.zeros(3)),
        lambda weights: weights.update(
            {"embedding.item.id.weight": torch.zeros(13, 17)}
        ),
        lambda weights: weights.update(
            {"embedding.item.id.weight": torch.zeros(5, 16)}
        ),
    ],
    ids=["one is missing", "one too many", "wider", "fewer items"],
)
def test_weights_that_do_not_fit_the_configuration_are_refused_with_the_reason(
    run, change
):
    changed_weights(run, change)
    refused(run, r"weights.safetensors: does not fit config.json \(.*(id.weight|more)")


def test_a_table_of_codes_with_too_few_rows_is_refused(split, tmp_path):
    import pandas as pd
    from conftest import rhythm_log

    items = pd.DataFrame({"item": range(500, 512), "genre": ["a", "b"] * 6})
    log = ac.Interactions.from_frame(rhythm_log().events, items=items, name="rhythm")
    model_of(ac.leave_one_out(log), item_features=("genre",)).save(tmp_path)
    changed_weights(
        tmp_path,
        lambda weights: weights.update(
            {"embedding.item.features.codes_0": torch.zeros(9, dtype=torch.int32)}
        ),
    )
    refused(tmp_path, "a table of codes is not that of 12 items")


@pytest.mark.parametrize("name", ["users", "items", "protocol", "titles"])
def test_a_vocabulary_that_lacks_something_is_refused(run, name):
    about = json.loads((run / "vocabulary.json").read_text())
    del about[name]
    (run / "vocabulary.json").write_text(json.dumps(about))
    sign(run)
    refused(run, "vocabulary and histories do not fit together")


def test_files_of_another_run_are_refused(run, split, tmp_path):
    model_of(split, seed=4).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "weights.safetensors", run)
    refused(run, "weights.safetensors: is damaged or of another run")


def test_weights_that_are_no_numbers_give_no_ranking(run):
    changed_weights(run, lambda weights: weights["output.bias"].fill_(torch.nan))
    with pytest.raises(ValueError, match="scores hold NaN"):
        ac.load(run).recommend(users=[100])


# --- replaced, or cut off, while it is in use
# -----------------------------------------------------------------------


def test_a_loaded_model_needs_its_folder_no_more(run):
    model = ac.load(run)
    before = model.recommend(users=[100, 101], k=3)
    for path in run.iterdir():
        with open(path, "r+b") as file:
            file.truncate(10)
    assert model.recommend(users=[100, 101], k=3) == before
    assert model.similar_items([500], k=2)
    refused(run, "run")
    shutil.rmtree(run)
    assert model.recommend(users=[100, 101], k=3) == before


def keep_saving(folder, begun, over):
    """Save two models in turns; a process of its own."""
    from conftest import rhythm_log

    split = ac.leave_one_out(rhythm_log())
    models = [model_of(split, seed) for seed in (1, 2)]
    models[0].save(folder)
    begun.set()
    turn = 0
    while not over.is_set():
        turn += 1
        models[turn % 2].save(folder)


def test_a_folder_that_is_replaced_while_it_is_read_gives_one_whole_run(
    split, tmp_path
):
    begun, over = CONTEXT.Event(), CONTEXT.Event()
    process = CONTEXT.Process(target=keep_saving, args=(tmp_path / "run", begun, over))
    process.start()
    whole = [model_of(split, seed).state_dict() for seed in (1, 2)]
    met = set()
    try:
        assert begun.wait(400)
        for _ in range(15):
            try:
                weights = ac.load(tmp_path / "run").state_dict()
            except ac.DataError:  # replaced faster than it can be read
                continue
            same = [
                all(torch.equal(weights[name], x) for name, x in one.items())
                for one in whole
            ]
            assert sum(same) == 1
            met.add(same.index(True))
    finally:
        over.set()
        process.join(60)
    assert process.exitcode == 0
    assert met


def test_a_reader_waits_for_a_writer_who_is_halfway(run, split, tmp_path, monkeypatch):
    model_of(split, seed=4).save(tmp_path / "other")
    old, new = contents(run), contents(tmp_path / "other")
    (run / ".writing-x").mkdir()
    (run / "weights.safetensors").write_bytes(new["weights.safetensors"])
    slept = []

    def finish(seconds):
        slept.append(seconds)
        (run / "config.json").write_bytes(new["config.json"])
        (run / "histories.safetensors").write_bytes(new["histories.safetensors"])
        (run / "vocabulary.json").write_bytes(new["vocabulary.json"])
        (run / ".writing-x").rmdir()

    monkeypatch.setattr(files.time, "sleep", finish)
    loaded = ac.load(run).state_dict()
    assert len(slept) == 1
    assert old["weights.safetensors"] != new["weights.safetensors"]
    assert torch.equal(
        loaded["embedding.item.id.weight"], model_of(split, seed=4).item.id.weight
    )


def test_a_reader_gives_up_on_a_writer_who_died_halfway(
    run, split, tmp_path, monkeypatch
):
    model_of(split, seed=4).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "weights.safetensors", run)
    (run / ".writing-x").mkdir()
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    started = time.monotonic()
    refused(run, "weights.safetensors: is damaged or of another run")
    assert time.monotonic() - started >= 0.1


def test_what_changes_between_reading_and_checking_is_read_again(run, split, tmp_path):
    model_of(split, seed=4).save(tmp_path / "other")
    read = []

    def replaced_meanwhile(folder, config):
        read.append(config["files"]["weights.safetensors"])
        if len(read) == 1:
            for name in files.RUN_FILES:
                shutil.copy(tmp_path / "other" / name, folder / "new")
                (folder / "new").replace(folder / name)
        return read[-1]

    assert files.read_whole(run, replaced_meanwhile) == read[1] != read[0]


# --- two processes
# --------------------------------------------------------------------------------------


def hold(folder, begun):
    """Write a folder until it is killed."""
    with files.alone(folder):
        begun.set()
        time.sleep(1000)


@pytest.fixture
def held(run):
    """A run folder that another process is writing."""
    begun = CONTEXT.Event()
    process = CONTEXT.Process(target=hold, args=(run, begun))
    process.start()
    assert begun.wait(400)
    yield run, process
    process.kill()
    process.join()


def test_a_second_writer_is_refused_in_one_line_and_changes_nothing(
    held, split, quick, capsys
):
    run, process = held
    old = contents(run)
    for write in (
        lambda: model_of(split, seed=4).save(run),
        lambda: ac.fit(model_of(split, seed=4), split, quick, out=run),
        lambda: ac.fit(model_of(split, seed=4), split, quick, out=run, resume=True),
        lambda: ac.export.to_onnx(run),
    ):
        with pytest.raises(
            ac.DataError,
            match="another process or thread is writing it; wait for it, or name",
        ):
            write()
    with pytest.raises(SystemExit):
        main(["export", str(run)])
    assert capsys.readouterr().err.count("\n") == 1
    assert contents(run) == old
    assert ac.load(run).recommend(users=[100])  # reading is free
    process.kill()  # what it held is free again
    process.join()
    model_of(split, seed=4).save(run)
    assert contents(run) != old


def test_one_process_may_write_within_its_own_training(run, split, quick):
    with files.alone(run):
        model_of(split, seed=4).save(run)
    ac.fit(model_of(split), split, quick, out=run)
    with files.alone(run), files.alone(run / ".." / run.name):
        pass


def test_a_second_thread_is_refused_until_the_first_is_done(run, split):
    def saved():
        try:
            model_of(split, seed=4).save(run)
        except ac.DataError as error:
            return str(error)
        return "saved"

    old = contents(run)
    with ThreadPoolExecutor(1) as other:
        with files.alone(run):
            assert "another process or thread is writing it" in other.submit(
                saved
            ).result(60)
            with files.alone(run):
                pass
            # The inner block let nobody in.
            assert "is writing it" in other.submit(saved).result(60)
            assert contents(run) == old
        assert other.submit(saved).result(60) == "saved"
        model_of(split, seed=5).save(run)  # and the other thread has let go


def test_all_files_of_a_run_have_the_mode_that_the_umask_gives(split, quick, tmp_path):
    before = os.umask(0o027)
    try:
        ac.fit(model_of(split), split, quick, out=tmp_path / "run")
        ac.baselines.EASE(split).save(tmp_path / "ease")
    finally:
        os.umask(before)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in written}
    assert {*files.RUN_FILES, "log.jsonl"} <= set(modes)
    assert set(modes.values()) == {"0o640"}, modes


class Windows:
    """`os` as Windows has it, where this matters: no folder is opened, and only what
    may be written is flushed."""

    name = "nt"

    def __init__(self):
        self.flushed, self.opened = [], {}

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags, *mode):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        descriptor = os.open(path, flags, *mode)
        self.opened[descriptor] = os.path.basename(path), flags & os.O_ACCMODE
        return descriptor

    def fsync(self, descriptor):
        name, access = self.opened[descriptor]
        if access == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        self.flushed.append(name)
        os.fsync(descriptor)


def test_a_run_is_written_and_flushed_where_no_folder_can_be_opened(
    split, quick, tmp_path, monkeypatch
):
    windows = Windows()
    monkeypatch.setattr(files, "os", windows)
    ac.fit(model_of(split), split, quick, out=tmp_path / "run")
    assert {*files.RUN_FILES} <= set(windows.flushed)
    assert any("step-" in name for name in windows.flushed)
    monkeypatch.undo()
    assert ac.load(tmp_path / "run").recommend(users=[100])


def test_a_training_is_not_disturbed_by_a_second_one(tmp_path):
    """Two trainings as a user would start them; the later one ends with a line."""
    rows = "\n".join(
        f"{user},{(user + time) % 12},{time}"
        for user in range(60)
        for time in range(30)
    )
    (tmp_path / "log.csv").write_text("user,item,time\n" + rows + "\n")
    options = [
        "--epochs",
        "2",
        "--width",
        "16",
        "--no-progress",
        "--device",
        "cpu",
        "--precision",
        "float32",
    ]
    command = [
        sys.executable,
        "-m",
        "attncore",
        "train",
        str(tmp_path / "log.csv"),
        "--out",
        str(tmp_path / "run"),
    ]
    both = [
        subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    statuses = [process.returncode for process in both]
    assert 0 in statuses
    for status, errors in zip(statuses, said, strict=True):
        assert status == 0 or (
            status == 2
            and errors.count("\n") == 1
            and "another process or thread is writing it" in errors
        )
    assert ac.load(tmp_path / "run").recommend(users=[1])


# --- a full disk
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 300, 3000, 9000])
def test_a_full_disk_leaves_the_old_run_whole(run, split, size):
    old = contents(run)
    with (
        small_disk(size),
        pytest.raises(
            OSError, match=r"run: cannot be written .*too large.*unchanged"
        ) as error,
    ):
        model_of(split, seed=4).save(run)
    assert "\n" not in str(error.value)
    assert contents(run) == old
    ac.load(run)


def test_everything_is_on_the_disk_before_anything_is_replaced(run, split, monkeypatch):
    done, real_flush, real_replace = [], files.os.fsync, type(run).replace
    monkeypatch.setattr(
        files.os, "fsync", lambda number: done.append("flush") or real_flush(number)
    )
    monkeypatch.setattr(
        type(run),
        "replace",
        lambda self, to: done.append(to.name) or real_replace(self, to),
    )
    model_of(split, seed=4).save(run)
    assert done == ["flush"] * 4 + list(files.RUN_FILES) + ["flush"]
