import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

import attncore as ac
from attncore import training
from attncore.batches import Windows
from attncore.output import Criterion
from attncore.training import adamw, backward, choose_device, choose_precision, learning_rate


def test_the_schedule_equals_a_table():
    config = ac.TrainingConfig(warmup=4)
    shares = [learning_rate(step, 14, config) for step in range(14)]
    assert shares[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert shares[4] == pytest.approx(1.0)
    assert shares[9] == pytest.approx(0.55)
    assert learning_rate(14, 14, config) == pytest.approx(0.1)
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert learning_rate(500, 14, ac.TrainingConfig(warmup=4, schedule="constant")) == 1.0


def test_only_matrices_decay(split, small):
    model = ac.Recommender(small, split)
    decayed, others = adamw(model, ac.TrainingConfig(weight_decay=0.3), torch.device("cpu")).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert all(p.dim() >= 2 for p in decayed["params"])
    assert any(p is model.item.id.weight for p in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_parts_add_up_to_the_gradient_of_the_whole_step(split):
    config = ac.RecommenderConfig(width=16, length=8, dropout=0.0)
    rows = np.arange(12)
    gradients = []
    for parts in ([rows], np.array_split(rows, 4)):
        model = ac.Recommender(config, split).double()
        windows = Windows(split.train, 8, targets=True)
        criterion = Criterion("full", 1, 0.0, 0.0, torch.from_numpy(split.item_counts))
        batches = [windows.batch(part) for part in parts]
        loss = backward(model, criterion, batches, int(windows.lengths[rows].sum()), torch.float32)
        gradients.append((loss, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(gradients[0][0].double(), gradients[1][0].double())
    for whole, summed in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(whole, summed, atol=1e-10, rtol=1e-8)


def test_the_loss_of_an_epoch_is_the_mean_over_real_positions(split, small):
    run = ac.fit(ac.Recommender(small, split), split, ac.TrainingConfig(epochs=1, lr=1e-12, progress=False))
    assert run.epochs[0]["loss"] == pytest.approx(math.log(len(split.items)), abs=0.05)


def test_training_keeps_the_best_epoch_by_validation_and_stops_early(split, small, monkeypatch):
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
    run = ac.fit(model, split, ac.TrainingConfig(epochs=6, patience=3, warmup=0, progress=False))
    assert (run.best_epoch, len(run.epochs)) == (2, 5)
    assert all(torch.equal(x, kept[1][name]) for name, x in model.state_dict().items())
    assert not model.training


def test_training_never_reads_test(split, small, quick, monkeypatch):
    asked = []
    real = training.evaluate
    monkeypatch.setattr(
        training, "evaluate", lambda m, holdout, **o: asked.append(holdout.name) or real(m, holdout, **o)
    )
    ac.fit(ac.Recommender(small, split), split, quick)
    assert set(asked) == {"valid"}


def test_a_run_folder_holds_a_line_an_epoch_and_the_best_model(split, small, quick, tmp_path):
    model = ac.Recommender(small, split)
    run = ac.fit(model, split, quick, out=tmp_path / "run", about={"data": {"name": "rhythm"}})
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines == run.epochs
    assert {"epoch", "loss", "positions_per_s", "seconds", "ndcg@10"} <= set(lines[0])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"] == {"name": "rhythm"}
    assert config["training"]["batch_size"] == 16
    back = ac.load(tmp_path / "run")
    assert torch.equal(back.score(split.valid.histories), model.score(split.valid.histories))


def test_nothing_is_written_without_a_folder(split, small, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ac.fit(ac.Recommender(small, split), split, quick)
    assert list(tmp_path.iterdir()) == []


def test_clipping_bounds_the_gradient(split, small, monkeypatch):
    norms = []
    real = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda p, limit: norms.append(limit) or real(p, limit))
    config = ac.TrainingConfig(epochs=1, clip=0.5, progress=False)
    ac.fit(ac.Recommender(small, split), split, config)
    assert set(norms) == {0.5}
    norms.clear()
    ac.fit(ac.Recommender(small, split), split, ac.TrainingConfig(epochs=1, clip=0, progress=False))
    assert norms == []


def test_a_loss_that_is_not_finite_stops_with_the_mend(split, small, quick):
    model = ac.Recommender(small, split)
    with torch.no_grad():
        model.item.id.weight[3] = torch.nan
    with pytest.raises(FloatingPointError, match="lower --lr"):
        ac.fit(model, split, quick)


def test_a_log_without_a_second_training_event_is_refused(small, quick):
    rows = [(user, item, item) for user in (1, 2) for item in (user, user + 1, user + 2)]
    split = ac.leave_one_out(ac.Interactions.from_frame(pd.DataFrame(rows, columns=["user", "item", "time"])))
    with pytest.raises(ac.DataError, match="no next item to learn"):
        ac.fit(ac.Recommender(small, split), split, quick)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"epochs": 0}, "epochs=0: must be at least 1"),
        ({"lr": -1}, "lr=-1"),
        ({"precision": "int8"}, "precision='int8': must be one of auto, float32, bfloat16"),
        ({"loss": "hinge"}, "loss='hinge'"),
        ({"popularity": 2}, "popularity=2: must be from 0 to 1"),
    ],
)
def test_a_wrong_setting_says_what_was_given_and_what_is_allowed(wrong, hint):
    with pytest.raises(ValueError, match=hint):
        ac.TrainingConfig(**wrong)


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
    assert choose_precision("bfloat16", cpu) == torch.bfloat16
    for able, dtype in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert choose_precision("auto", cpu) == dtype
    for capability, dtype in (((9, 0), torch.bfloat16), ((7, 5), torch.float32)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert choose_precision("auto", torch.device("cuda")) == dtype


def test_bfloat16_training_lands_near_float32(split, small):
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = ac.TrainingConfig(epochs=5, batch_size=10, lr=1e-2, precision=precision, progress=False)
        losses[precision] = ac.fit(ac.Recommender(small, split), split, config).epochs[-1]["loss"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.03)
