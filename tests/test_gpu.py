"""What the other tests prove on a CPU or without numbers, on a real GPU: `pytest -m
gpu`."""

from dataclasses import replace

import pytest
import torch

import attncore as ac
from attncore.checkpoints import RunFolder
from attncore.distributed import Group
from attncore.training import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
KINDS = ["self", "target", "lstm", "mean"]


@pytest.fixture
def config():
    return ac.TrainingConfig(
        epochs=3,
        batch_size=16,
        warmup=2,
        ema=0.9,
        device="cuda",
        precision="float32",
        progress=False,
        checkpoint_every=2,
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("attention", KINDS)
def test_a_training_step_never_waits_for_the_device(
    split, small, config, attention, precision
):
    model = ac.Recommender(replace(small, attention=attention), split)
    trainer = Trainer(
        model,
        split,
        replace(config, precision=precision),
        Group(torch.device("cuda")),
        RunFolder(None, {}, {}, True),
    )
    batches = trainer._batches()
    # The first step may wait: kernels are chosen, memory is found.
    trainer.train_step(*next(batches))
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.train_step(*next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.failed.item() == -1


@pytest.mark.parametrize("attention", ["self", "mean"])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"compile": True}], ids=str)
def test_training_lands_where_a_cpu_lands(split, small, config, attention, options):
    losses = {}
    for device in ("cpu", "cuda"):
        model = ac.Recommender(replace(small, attention=attention, dropout=0.0), split)
        run = ac.fit(model, split, replace(config, device=device, lr=1e-2, **options))
        losses[device] = [entry["loss"] for entry in run.epochs]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=2e-3)


@pytest.mark.parametrize("attention", KINDS)
def test_scores_equal_those_of_a_cpu(split, small, attention):
    model = ac.Recommender(replace(small, attention=attention), split)
    expected = model.score(split.test.histories)
    torch.testing.assert_close(
        model.to("cuda").score(split.test.histories).cpu(),
        expected,
        atol=1e-4,
        rtol=1e-3,
    )


def test_a_resumed_run_continues_the_same_chance(split, small, config, tmp_path):
    config = replace(config, schedule="constant")
    ac.fit(ac.Recommender(small, split), split, replace(config, epochs=2), out=tmp_path)
    resumed = ac.fit(
        ac.Recommender(small, split), split, config, out=tmp_path, resume=True
    )
    straight = ac.fit(ac.Recommender(small, split), split, config)
    assert [e["loss"] for e in resumed.epochs] == pytest.approx(
        [e["loss"] for e in straight.epochs], rel=1e-4
    )


def test_a_memory_mapped_log_is_copied_through_pinned_memory(
    split, small, config, tmp_path
):
    mapped = replace(split, train=split.train.memory_mapped(tmp_path))
    losses = [
        [
            entry["loss"]
            for entry in ac.fit(ac.Recommender(small, one), one, config).epochs
        ]
        for one in (split, mapped)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
