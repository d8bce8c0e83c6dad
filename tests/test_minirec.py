"""The script of Part II is the module's plain recommender, number by number."""

import sys

import minirec
import numpy as np
import pandas as pd
import pytest
import torch

import attncore as ac
from attncore.batches import Windows
from attncore.optim import adamw
from attncore.output import Criterion
from attncore.training import fit

NAMES = {
    "embedding.item.id": "embedding.item",
    "embedding.position.place.weight": "embedding.place.weight",
    "encoder.norm": "norm",
    "encoder.blocks": "blocks",
    "output.bias": "bias",
    "out_proj": "join",
}


@pytest.fixture(scope="module")
def split():
    events = ac.datasets.planted(users=200, items=100, length=40).events
    once = events[["user", "item", "time"]].drop_duplicates(["user", "item"])
    return ac.leave_one_out(ac.Interactions.from_frame(once, name="no repeats"))


def twins(split, length=20):
    """The module's model and the script's, with the same weights, without dropout."""
    config = ac.RecommenderConfig(length=length, dropout=0.0)
    theirs = ac.Recommender(config, split)
    ours = minirec.MiniRec(len(split.items), length, dropout=0.0)
    weights = {}
    for name, tensor in theirs.state_dict().items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        weights[name] = tensor.clone()
    weights = {k: v for k, v in weights.items() if k in ours.state_dict()}
    ours.load_state_dict(weights)
    return theirs, ours


def test_twenty_steps_lose_what_the_module_loses(split):
    theirs, ours = twins(split)
    counts = torch.from_numpy(split.item_counts)
    criterion = Criterion("full", 1, 0.0, 0.0, counts)
    optimizers = adamw(theirs, 1e-3, 0.01), minirec.optimizer_of(ours)
    windows = Windows(split.train, 20, targets=True)
    rng = np.random.default_rng(0)
    for _ in range(20):
        batch = windows.batch(rng.permutation(200)[:64])
        their_loss = theirs.loss(batch, criterion) / len(batch.real_N)
        our_loss = ours.loss(batch.items_BT.long(), batch.targets_BT.long())
        assert abs(their_loss.item() - our_loss.item()) < 1e-5
        for optimizer, loss in zip(optimizers, (their_loss, our_loss), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert our_loss < 4.5  # ln 100 is 4.6: something was learned


def test_a_question_is_scored_as_the_module_scores_it(split):
    theirs, ours = twins(split)
    theirs.eval()
    known = [split.valid.histories[row] for row in range(len(split.valid))]
    found = minirec.evaluate(ours, known, split.valid.targets.tolist())
    report = ac.evaluate(theirs, split.valid)
    assert np.allclose(found, report.per_user["ndcg@10"], atol=1e-6)


def test_a_batch_is_the_modules_batch(split):
    histories = [split.train[row].astype(np.int64) for row in range(7)]
    torch.manual_seed(0)
    order = torch.randperm(7)
    torch.manual_seed(0)
    ((items, targets),) = minirec.batches(histories, 20, 7)
    theirs = Windows(split.train, 20, targets=True).batch(order.numpy())
    assert torch.equal(items, theirs.items_BT.long())
    assert torch.equal(targets, theirs.targets_BT.long())


def test_reading_sorts_by_time_and_keeps_ties_in_their_order():
    log = pd.DataFrame(
        {"user": [1, 2, 1, 1], "item": ["c", "a", "a", "b"], "time": [5, 1, 3, 5]}
    )
    histories, items = minirec.read(log)
    assert items == ["a", "b", "c"]
    assert [history.tolist() for history in histories] == [[1, 3, 2], [1]]


def test_the_trained_figures_agree(split):
    """Within what another seed changes: the script's training is the module's."""
    figures = []
    histories = [split.train[row].astype(np.int64) for row in range(200)]
    known = [split.valid.histories[row] for row in range(200)]
    for seed in range(2):
        torch.manual_seed(seed)
        model = minirec.MiniRec(len(split.items), 30)
        *_, _ = minirec.train(model, histories, epochs=30, size=16)
        figures.append(minirec.evaluate(model, known, split.valid.targets.tolist()))
        theirs = ac.Recommender(ac.RecommenderConfig(length=30), split, seed=seed)
        training = ac.TrainingConfig(
            epochs=30,
            batch_size=16,
            seed=seed,
            patience=0,
            progress=False,
            precision="float32",
            device="cpu",
        )
        fit(theirs, split, training)
        report = ac.evaluate(theirs.eval(), split.valid)
        figures.append(report.per_user["ndcg@10"])
    ours, theirs = np.mean(figures[::2]), np.mean(figures[1::2])
    assert abs(ours - theirs) < 0.03
    assert min(ours, theirs) > 0.06


def test_the_script_runs_on_a_file(tmp_path, monkeypatch, capsys):
    log = ac.datasets.planted(users=60, items=50, length=12).events
    log[["user", "item", "time"]].to_csv(tmp_path / "log.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["minirec.py", str(tmp_path / "log.csv")])
    whole = minirec.train
    monkeypatch.setattr(minirec, "train", lambda m, h, epochs: whole(m, h, epochs=2))
    minirec.main(sys.argv[1])
    assert len(capsys.readouterr().out.splitlines()) == 2
