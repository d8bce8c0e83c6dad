import itertools
import json
import math
import shutil
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import need, rhythm_log
from mapped import memory_mapped

import attncore as ac
from attncore import training
from attncore.batches import Windows, shuffled_batches
from attncore.distributed import Group
from attncore.evaluation import evaluate
from attncore.files import RunFolder


def test_the_loss_of_an_epoch_is_the_mean_over_real_positions(split, small):
    run = ac.fit(
        ac.Recommender(small, split),
        split,
        ac.TrainingConfig(epochs=1, lr=1e-12, progress=False),
    )
    assert run.epochs[0]["loss"] == pytest.approx(math.log(len(split.items)), abs=0.05)


def test_training_keeps_the_best_epoch_by_validation_and_stops_early(
    split, small, monkeypatch
):
    curve = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.9])
    real = training.evaluate

    def scripted(model, holdout, **options):
        report = real(model, holdout, **options)
        report.metrics["ndcg@10"] = next(curve)
        kept.append({name: x.clone() for name, x in model.state_dict().items()})
        return report

    kept = []
    monkeypatch.setattr(training, "evaluate", scripted)
    model = ac.Recommender(small, split)
    run = ac.fit(
        model, split, ac.TrainingConfig(epochs=6, patience=3, warmup=0, progress=False)
    )
    assert (run.best_epoch, len(run.epochs)) == (2, 5)
    assert all(torch.equal(x, kept[1][name]) for name, x in model.state_dict().items())
    assert not model.training


def test_training_never_reads_test(split, small, quick, monkeypatch):
    asked = []
    real = training.evaluate
    monkeypatch.setattr(
        training,
        "evaluate",
        lambda m, holdout, **o: asked.append(holdout.name) or real(m, holdout, **o),
    )
    ac.fit(ac.Recommender(small, split), split, quick)
    assert set(asked) == {"valid"}


def test_a_run_folder_holds_a_line_an_epoch_and_the_best_model(
    split, small, quick, tmp_path
):
    model = ac.Recommender(small, split)
    run = ac.fit(
        model, split, quick, out=tmp_path / "run", about={"data": {"name": "rhythm"}}
    )
    lines = [
        json.loads(line)
        for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    ]
    assert lines == run.epochs
    assert {"epoch", "loss", "positions_per_s", "seconds", "ndcg@10"} <= set(lines[0])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"] == {"name": "rhythm"}
    assert config["training"]["batch_size"] == 16
    back = ac.load(tmp_path / "run")
    assert torch.equal(
        back.score(split.valid.histories), model.score(split.valid.histories)
    )


def test_nothing_is_written_without_a_folder(
    split, small, quick, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    ac.fit(ac.Recommender(small, split), split, quick)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["loss", "gradient"])
def test_a_step_that_is_not_finite_never_reaches_the_weights_and_stops_with_the_mend(
    split, small, tmp_path, monkeypatch, place
):
    config = ac.TrainingConfig(
        epochs=3, batch_size=16, precision="float32", progress=False
    )
    model = ac.Recommender(small, split)
    real, before, calls = training.update, [], []

    def poisoned(model, optimizer, loss, *how):
        calls.append(len(calls))
        if len(calls) < 4:  # from the first step of the second epoch on
            return real(model, optimizer, loss, *how)
        if place == "gradient":
            model.item.id.weight.grad[3] = torch.inf
        before.insert(0, {name: x.clone() for name, x in model.state_dict().items()})
        finite = real(
            model,
            optimizer,
            torch.full_like(loss, torch.nan) if place == "loss" else loss,
            *how,
        )
        assert all(
            torch.equal(x, before[0][name]) for name, x in model.state_dict().items()
        )
        return finite

    monkeypatch.setattr(training, "update", poisoned)
    monkeypatch.setattr(training, "LOOK_EVERY", 5)
    with pytest.raises(
        FloatingPointError, match=r"epoch 2, step 1: .* not finite.*; lower --lr"
    ) as error:
        ac.fit(model, split, config, out=tmp_path)
    # Two such steps, read back by LOOK_EVERY before the epoch ends; the first is named.
    assert len(calls) == 5
    batches = list(shuffled_batches(np.arange(len(split.train)), 16, 0, 2))
    assert (
        f"users begin with {', '.join(map(str, split.users.ids[batches[0][:5]]))};"
        in str(error.value)
    )
    assert "\n" not in str(error.value)
    steps = [
        torch.load(path, weights_only=True)["step"]
        for path in (tmp_path / "checkpoints").iterdir()
    ]
    assert steps == [3]
    assert torch.isfinite(ac.load(tmp_path).score(split.valid.histories)).all()
    monkeypatch.undo()
    assert (
        len(
            ac.fit(
                ac.Recommender(small, split), split, config, out=tmp_path, resume=True
            ).epochs
        )
        == 3
    )


def fitted(split, small, **options):
    """Weights in float64 after training without dropout."""
    model = ac.Recommender(replace(small, dropout=0.0), split).double()
    config = {
        "epochs": 2,
        "lr": 1e-2,
        "warmup": 0,
        "precision": "float32",
        "progress": False,
        "device": "cpu",
    }
    run = ac.fit(model, split, ac.TrainingConfig(**(config | options)))
    return model.state_dict(), run


def test_four_batches_of_32_accumulated_equal_one_of_128(small):
    split = ac.leave_one_out(rhythm_log(users=200))
    in_parts, run = fitted(split, small, batch_size=32, accumulate=4, clip=0.1)
    at_once, other = fitted(split, small, batch_size=128, clip=0.1)
    for name, weight in in_parts.items():
        torch.testing.assert_close(weight, at_once[name], atol=1e-10, rtol=1e-8)
    assert run.epochs[-1]["loss"] == pytest.approx(other.epochs[-1]["loss"], rel=1e-6)


def test_the_average_is_what_is_evaluated_and_kept(split, small):
    model = ac.Recommender(small, split)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    config = ac.TrainingConfig(
        epochs=1, lr=0.1, warmup=0, ema=0.999999, precision="float32", progress=False
    )
    run = ac.fit(model, split, config)
    # An average that hardly moves is the model of before.
    for (
        name,
        x,
    ) in model.state_dict().items():
        torch.testing.assert_close(x, before[name], atol=1e-5, rtol=0)
    untrained = ac.evaluate(ac.Recommender(small, split), split.valid)
    assert run.valid.metrics["ndcg@10"] == pytest.approx(untrained.metrics["ndcg@10"])


def test_the_average_takes_in_the_weights_after_every_step(split, small, monkeypatch):
    model = ac.Recommender(small, split)
    expected, real = model.item.id.weight.detach().clone(), training.update

    def watched(*given):
        finite = real(*given)
        expected.lerp_(model.item.id.weight.detach(), 0.5)
        return finite

    monkeypatch.setattr(training, "update", watched)
    config = ac.TrainingConfig(
        epochs=1,
        batch_size=16,
        lr=0.1,
        warmup=0,
        ema=0.5,
        precision="float32",
        progress=False,
    )
    ac.fit(model, split, config)
    torch.testing.assert_close(model.item.id.weight, expected)


def trainer(split, recommender, **options):
    model = ac.Recommender(recommender, split)
    config = ac.TrainingConfig(**{"progress": False} | options)
    return training.Trainer(
        model,
        split,
        config,
        Group(torch.device("cpu")),
        RunFolder(None, {}, {}, writes=True),
    )


def test_every_epoch_shows_each_user_once_in_an_order_of_its_own(split, small):
    sampler = trainer(split, small, epochs=2, batch_size=16).sampler
    batches = [parts for parts, _ in sampler.steps(0)]
    steps = [np.concatenate([part.users_B for part in parts]) for parts in batches]
    assert [len(rows) for rows in steps] == [16, 16, 8] * 2
    first, second = np.concatenate(steps[:3]), np.concatenate(steps[3:])
    assert sorted(first) == sorted(second) == list(range(40))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize(
    ("attention", "loss"), [("target", "sampled"), ("self", "full"), ("lstm", "full")]
)
def test_the_automatic_loss_is_full_where_that_can_be_paid(
    split, small, attention, loss
):
    assert (
        trainer(split, replace(small, attention=attention)).loss_of.criterion.loss
        == loss
    )


def test_the_seed_decides_what_is_dropped(small):
    """All users have one history, so their order changes nothing."""
    rows = [(user, item, item) for user in range(8) for item in range(6)]
    split = ac.leave_one_out(
        ac.Interactions.from_frame(pd.DataFrame(rows, columns=["user", "item", "time"]))
    )
    losses = []
    for seed in (0, 0, 1):
        config = ac.TrainingConfig(
            epochs=1, seed=seed, precision="float32", progress=False
        )
        losses.append(
            ac.fit(ac.Recommender(small, split), split, config).epochs[0]["loss"]
        )
    assert losses[0] == losses[1]
    assert losses[0] != pytest.approx(losses[2], abs=1e-7)


def test_seconds_and_positions_are_those_of_each_epoch_alone(split, small, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(training.time, "perf_counter", lambda: float(next(clock)))
    run = ac.fit(
        ac.Recommender(small, split),
        split,
        ac.TrainingConfig(epochs=3, batch_size=16, progress=False),
    )
    assert [entry["seconds"] for entry in run.epochs] == [1.0, 1.0, 1.0]
    windows = Windows(split.train, small.length, targets=True)
    assert {entry["positions_per_s"] for entry in run.epochs} == {
        float(windows.lengths.sum())
    }


def test_a_memory_mapped_log_trains_to_the_same_bits(split, small, quick, tmp_path):
    mapped = replace(split, train=memory_mapped(split.train, tmp_path))
    assert isinstance(mapped.train.items, np.memmap)
    weights = []
    for one in (split, mapped):
        model = ac.Recommender(small, one)
        ac.fit(model, one, quick)
        weights.append(model.state_dict())
    assert all(torch.equal(x, weights[1][name]) for name, x in weights[0].items())


def test_the_progress_bar_shows_loss_speed_and_validation(
    split, small, capsys, monkeypatch
):
    monkeypatch.setattr(training, "LOOK_EVERY", 1)
    ac.fit(
        ac.Recommender(small, split),
        split,
        ac.TrainingConfig(epochs=2, batch_size=16),
    )
    shown = capsys.readouterr().err
    assert "6/6" in shown  # steps, with the time that is left
    assert all(f"{name}=" in shown for name in ("loss", "positions", "ndcg"))


def test_a_batch_larger_than_the_data_is_refused_and_the_default_never_is(
    split, small, quick
):
    with pytest.raises(
        ac.DataError,
        match=(
            r"batch_size=100 × accumulate=2 users a step, but only 40 .*lower"
            r" --batch-size"
        ),
    ):
        ac.fit(
            ac.Recommender(small, split),
            split,
            replace(quick, batch_size=100, accumulate=2),
        )
    ac.fit(
        ac.Recommender(small, split), split, ac.TrainingConfig(epochs=1, progress=False)
    )


def test_compiled_training_equals_plain_training(split, small):
    need(shutil.which("g++") is not None, "a C++ compiler")
    plain, run = fitted(split, small, batch_size=16)
    compiled, other = fitted(split, small, batch_size=16, compile=True)
    for name, weight in plain.items():
        torch.testing.assert_close(compiled[name], weight, atol=1e-8, rtol=1e-6)
    assert other.epochs[-1]["loss"] == pytest.approx(run.epochs[-1]["loss"])


def test_a_log_without_a_second_training_event_is_refused(small, quick):
    rows = [
        (user, item, item) for user in (1, 2) for item in (user, user + 1, user + 2)
    ]
    split = ac.leave_one_out(
        ac.Interactions.from_frame(pd.DataFrame(rows, columns=["user", "item", "time"]))
    )
    with pytest.raises(ac.DataError, match="no next item to learn"):
        ac.fit(ac.Recommender(small, split), split, quick)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"epochs": 0}, "epochs=0: must be a whole number, at least 1"),
        ({"batch_size": 1.5}, "batch_size=1.5: must be a whole number"),
        ({"lr": float("inf")}, "lr=inf: must be at least 1e-12"),
        ({"clip": float("nan")}, "clip=nan: must be at least 0"),
        ({"ema": 1.0}, "ema=1.0: must be from 0 to 0.999999999"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"schedule": "steps"}, "schedule='steps': must be one of cosine, constant"),
        ({"lr": -1}, "lr=-1"),
        (
            {"precision": "int8"},
            "precision='int8': must be one of auto, float32, tf32, bfloat16, float16",
        ),
        ({"loss": "hinge"}, "loss='hinge'"),
        ({"popularity": 2}, "popularity=2: must be from 0 to 1"),
        ({"windows": "first"}, "windows='first': must be one of last, random"),
        ({"label_smoothing": 1}, "label_smoothing=1: must be from 0 to 0.99"),
    ],
)
def test_a_wrong_setting_says_what_was_given_and_what_is_allowed(wrong, hint):
    with pytest.raises(ValueError, match=hint):
        ac.TrainingConfig(**wrong)


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_training_in_half_precision_lands_near_float32(split, small, half):
    losses = {}
    for precision in ("float32", half):
        config = ac.TrainingConfig(
            epochs=5, batch_size=10, lr=1e-2, precision=precision, progress=False
        )
        losses[precision] = ac.fit(ac.Recommender(small, split), split, config).epochs[
            -1
        ]["loss"]
    assert losses[half] != losses["float32"]
    assert losses[half] == pytest.approx(losses["float32"], rel=0.03)


def test_a_scale_that_is_too_large_for_float16_is_halved_and_kept(split, small):
    made = trainer(split, small, precision="float16", batch_size=10)
    made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    weight, drawn = made.model.item.id.weight, made._batches()
    before = weight.detach().clone()
    made.train_step(*next(drawn))
    assert torch.equal(weight, before)
    made._check()  # nothing was wrong
    other = trainer(split, small, precision="float16", batch_size=10)
    other.restore(made.state())
    assert other.scaler.get_scale() == 2.0**39
    other.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    other.train_step(*next(drawn))
    assert not torch.equal(other.model.item.id.weight, before)


def test_a_gradient_that_no_scale_makes_finite_stops_a_float16_training(split, small):
    made = trainer(split, small, precision="float16", batch_size=10)
    made.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    made.model.item.id.weight.register_hook(lambda gradient: gradient * torch.nan)
    made.train_step(*next(made._batches()))
    with pytest.raises(FloatingPointError, match="epoch 1, step 1: the loss or its"):
        made._check()


@pytest.mark.parametrize("precision", ["auto", "float32", "tf32", "bfloat16"])
def test_tf32_is_for_steps_alone_and_never_for_float32(
    split, small, quick, monkeypatch, precision
):
    said, within = [], []

    @contextmanager
    def noted(device, allowed=True):
        said.append(allowed)
        within.append(device)
        yield
        within.pop()

    def evaluated(*given, **named):
        assert not within  # as `evaluate` computes later
        return evaluate(*given, **named)

    monkeypatch.setattr(training, "tensor_float_32", noted)
    monkeypatch.setattr(training, "evaluate", evaluated)
    ac.fit(ac.Recommender(small, split), split, replace(quick, precision=precision))
    assert set(said) == {precision != "float32"}


def test_random_windows_end_anywhere_and_follow_the_seed_and_the_epoch_alone(small):
    split = ac.leave_one_out(rhythm_log(events=30))

    def shown(**options):
        loop = trainer(split, replace(small, length=4), epochs=3, **options)
        return [
            [part.items_BT.tolist() for part in parts] for parts, _ in loop._batches()
        ]

    windows = shown(windows="random")
    assert windows == shown(windows="random")
    assert windows[0] != windows[1]
    assert windows != shown(windows="random", seed=1)
    seen = {tuple(row) for parts in windows for part in parts for row in part}
    allowed = {
        tuple(row[at : at + 4])
        for row in map(split.train.__getitem__, range(40))
        for at in range(len(row) - 4)
    }
    assert seen <= allowed
    newest = {tuple(row[-5:-1]) for row in map(split.train.__getitem__, range(40))}
    assert len(seen - newest) > 10
    assert {tuple(row) for parts in shown() for part in parts for row in part} == newest


def test_random_windows_of_short_histories_change_nothing(split, small):
    last, everywhere = (
        fitted(split, small, windows=windows)[0] for windows in ("last", "random")
    )
    assert all(torch.equal(weight, everywhere[name]) for name, weight in last.items())


def test_the_loss_of_slates_is_refused_where_there_are_none(split, small):
    with pytest.raises(
        ValueError, match=r"loss='combined': is for slates, and .* has none; use 'bce'"
    ):
        trainer(split, small, loss="combined")


@pytest.mark.parametrize(
    ("attention", "loss"), [("self", "sampled"), ("self", "bce"), ("target", "auto")]
)
def test_label_smoothing_without_the_full_loss_is_refused(
    split, small, attention, loss
):
    with pytest.raises(
        ValueError, match=r"label_smoothing=0.1: needs the full loss, not '\w+'; use 0"
    ):
        trainer(
            split, replace(small, attention=attention), loss=loss, label_smoothing=0.1
        )


@pytest.mark.parametrize(
    ("column", "kind", "first"), [("item", "items", 7500), ("user", "users", 7100)]
)
def test_a_split_of_other_items_or_users_is_refused(
    split, log, small, quick, column, kind, first
):
    events = log.events.assign(**{column: log.events[column] + 7000})
    other = ac.leave_one_out(ac.Interactions.from_frame(events, name="other"))
    assert len(other.items) == len(split.items)  # so nothing else would notice
    model, shorter = ac.Recommender(small, split), ac.leave_one_out(rhythm_log(users=9))
    made_for = rf"the model was made for the \d+ of rhythm \({first - 7000},"
    said = rf"\d+ {kind} \({first}, .*{made_for}"
    with pytest.raises(ac.DataError, match=f"other: has {said}"):
        ac.fit(model, other, quick)
    with pytest.raises(ac.DataError, match=f"test: has {said}") as caught:
        ac.evaluate(model, other.test)
    assert "\n" not in str(caught.value)
    with pytest.raises(ac.DataError, match=r"has 9 users"):
        ac.evaluate(model, shorter.test)
    same = ac.leave_one_out(ac.Interactions.from_frame(log.events, name="again"))
    assert ac.evaluate(model, same.test, bootstrap=0).users == len(split.test)


def test_the_tracker_gets_each_line_of_the_log(split, small, quick, tmp_path):
    seen = []
    model = ac.Recommender(small, split)
    run = ac.fit(model, split, quick, out=tmp_path, on_epoch=seen.append)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert seen == run.epochs == [json.loads(line) for line in lines]


def test_a_run_is_shown_in_a_line(split, small, quick):
    run = ac.fit(ac.Recommender(small, split), split, quick)
    assert str(run) == repr(run)
    assert f"{len(run.epochs)} epochs at" in str(run)
    assert f"{run.valid.metrics['ndcg@10']:.4f}" in str(run)
    assert len(str(run)) < 160


def test_a_learning_rate_that_is_far_too_high_is_named(split, small, quick):
    config = replace(quick, lr=1e30, batch_size=40, epochs=3)
    with pytest.raises(FloatingPointError, match=r"not finite.*--lr \(now 1e\+30\)"):
        ac.fit(ac.Recommender(small, split), split, config)


def test_refit_learns_from_all_events_as_long_as_validation_chose(split, small, quick):
    model = ac.Recommender(small, split)
    run = ac.fit(model, split, replace(quick, epochs=6, patience=0, lr=1e-2))
    before = {name: x.clone() for name, x in model.state_dict().items()}
    final = ac.refit(model, run)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    everything = split.with_all_in_training()
    assert everything.item_counts.sum() == len(split.histories.items)
    # Steps of a training on all events, as many, with the learning rate as it was.
    loop = trainer(everything, small, **asdict(run.training))
    loop.model.train()
    for parts, positions in loop.sampler.steps(0):
        if loop.step == run.best_epoch * loop.steps_an_epoch:
            break
        loop.train_step(parts, positions)
    assert loop.step > 0
    for a, b in zip(final.parameters(), loop.model.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ac.DataError, match="trained on all events, the answers"):
        ac.evaluate(final, split.test)
    with pytest.raises(ac.DataError, match="only a trained recommender"):
        ac.refit(model, ac.Run())
