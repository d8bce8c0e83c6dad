"""What other tests prove on a CPU or without numbers, on a GPU: `pytest -m gpu`."""

from dataclasses import replace

import pytest
import torch
from gpu import strictly
from mapped import memory_mapped
from shop import shop_log

import attncore as ac
from attncore.distributed import Group
from attncore.files import RunFolder
from attncore.training import Trainer

pytestmark = pytest.mark.gpu
KINDS = ["self", "target", "lstm", "mean"]


@pytest.fixture
def device(request):
    """CUDA, unless `--device cpu` only tries whether the tests themselves run."""
    name = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device(name)


@pytest.fixture
def config(device):
    return ac.TrainingConfig(
        epochs=3,
        batch_size=16,
        warmup=2,
        ema=0.9,
        device=str(device),
        precision="float32",
        progress=False,
        checkpoint_every=2,
    )


@pytest.fixture
def _exact(monkeypatch):
    """cuDNN's LSTM rounds to TF32 unless it is told not to.

    Products do not, outside of `fit`.
    """
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="session")
def slates():
    return ac.split_by_time(shop_log(), valid=0.2, test=0.2)


def never_waits(model, split, config, device):
    trainer = Trainer(
        model, split, config, Group(device), RunFolder(None, {}, {}, True)
    )
    batches = trainer._batches()
    # The first step may wait: kernels are chosen, memory is found.
    trainer.train_step(*next(batches))
    with strictly(device):
        trainer.train_step(*next(batches))
    assert trainer.failed.item() == -1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("attention", KINDS)
def test_a_training_step_never_waits_for_the_device(
    split, small, config, device, attention, precision
):
    model = ac.Recommender(replace(small, attention=attention), split)
    never_waits(model, split, replace(config, precision=precision), device)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("attention", ["target", "mean"])
def test_a_training_step_on_slates_never_waits_for_the_device(
    slates, config, device, attention, precision
):
    model = ac.Ranker(ac.RankerConfig(attention=attention, width=16, length=8), slates)
    never_waits(model, slates, replace(config, precision=precision), device)


@pytest.mark.parametrize(
    "options",
    [{"relative": "time"}, {"gated": True, "transition": 3, "relative": "position"}],
)
def test_a_training_step_of_a_recipe_never_waits_for_the_device(
    split, small, config, device, options
):
    never_waits(ac.Recommender(replace(small, **options), split), split, config, device)


@pytest.mark.parametrize("attention", ["self", "mean"])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"compile": True}], ids=str)
def test_training_lands_where_a_cpu_lands(
    split, small, config, device, attention, options
):
    losses = {}
    for place in ("cpu", str(device)):
        model = ac.Recommender(replace(small, attention=attention, dropout=0.0), split)
        run = ac.fit(model, split, replace(config, device=place, lr=1e-2, **options))
        losses[place] = [entry["loss"] for entry in run.epochs]
    assert losses[str(device)] == pytest.approx(losses["cpu"], rel=2e-3)


@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize("attention", KINDS)
def test_scores_equal_those_of_a_cpu(split, small, device, attention):
    model = ac.Recommender(replace(small, attention=attention), split)
    expected = model.score(split.test.histories)
    torch.testing.assert_close(
        model.to(device).score(split.test.histories).cpu(),
        expected,
        atol=1e-4,
        rtol=1e-3,
    )


@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize("attention", ["target", "mean"])
def test_scores_of_slates_equal_those_of_a_cpu(slates, device, attention):
    model = ac.Ranker(ac.RankerConfig(attention=attention, width=16, length=8), slates)
    expected = [model.score_slate(slates.slates, row) for row in range(5)]
    model.to(device)
    for row, scores in enumerate(expected):
        assert model.score_slate(slates.slates, row) == pytest.approx(
            scores, abs=1e-4, rel=1e-3
        )


@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize("attention", KINDS)
def test_evaluation_and_recommendation_equal_those_of_a_cpu(
    split, small, device, attention
):
    model = ac.Recommender(replace(small, attention=attention), split)
    users = split.users.ids[:5]
    expected = (
        ac.evaluate(model, split.test, bootstrap=0).metrics,
        model.recommend(users=users, k=3),
    )
    model.to(device)
    found = (
        ac.evaluate(model, split.test, bootstrap=0).metrics,
        model.recommend(users=users, k=3),
    )
    assert found[0] == pytest.approx(expected[0], abs=1e-3)
    for ours, theirs in zip(found[1], expected[1], strict=True):
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-4)


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
    mapped = replace(split, train=memory_mapped(split.train, tmp_path))
    losses = [
        [
            entry["loss"]
            for entry in ac.fit(ac.Recommender(small, one), one, config).epochs
        ]
        for one in (split, mapped)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
