"""The training and evaluation steps never wait for the device, never mix devices and
never need float64: shown without a GPU.

On the `meta` device there are no numbers, so whatever needs one on the host, or brings
in a tensor of the CPU, cannot be computed; a mode that sees every operation turns that
into an error with a name. Another such mode refuses float64, which Apple's MPS lacks.
"""

import numpy as np
import pytest
import torch
from shop import shop_log
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

import attncore as ac
import attncore.ranking.serving
from attncore.batches import Windows
from attncore.distributed import Group
from attncore.evaluation import ranks
from attncore.files import RunFolder
from attncore.ranking.batches import slate_batch
from attncore.training import Trainer

META = torch.device("meta")


class OneDevice(TorchDispatchMode):
    """Fails on a copy between devices, on a tensor of the CPU, and on a number that is
    read back."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if (
            function is torch.ops.aten._local_scalar_dense.default
            and args[0].device == META
        ):
            raise AssertionError("a number is read back from the device")
        if kwargs.get("device") not in (None, META):
            raise AssertionError(f"{function} makes a tensor on {kwargs['device']}")
        for value in tree_leaves((args, kwargs)):
            if (
                isinstance(value, torch.Tensor)
                and value.device != META
                and value.dim() > 0
            ):
                raise AssertionError(f"{function} is given a tensor of {value.device}")
        return function(*args, **kwargs)


class NoFloat64(TorchDispatchMode):
    """Fails on an operation that takes or makes float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, made)):
            if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
                raise AssertionError(f"{function} works in float64")
        return made


@pytest.fixture
def trainer(split):
    """A trainer on the meta device, with every option that adds to a step."""

    def made(attention="self", **options):
        model = ac.Recommender(
            ac.RecommenderConfig(
                attention=attention, width=16, heads=2, length=8, **options
            ),
            split,
        )
        config = ac.TrainingConfig(
            epochs=1, batch_size=8, ema=0.9, precision="float32", progress=False
        )
        return Trainer(
            model, split, config, Group(META), RunFolder(None, {}, {}, writes=True)
        )

    return made


def gathered(windows: Windows, rows: list[int]):
    """A batch, its row numbers being on the device already."""
    lengths = windows.lengths[np.array(rows)]
    return lambda: windows.gathered(
        torch.tensor(rows, device=META), int(lengths.max()), int(lengths.sum())
    )


def train_step(trainer):
    batch = gathered(trainer.sampler.windows, [0, 2, 5])
    trainer.model.train()
    with OneDevice():
        trainer.train_step([batch(), batch()], 40)


OPTIONS = [
    {},
    {"relative": "time"},
    {"positions": "newest", "combine": "whole"},
    {"combine": "pooled", "item_bias": False},
    {"gated": True, "transition": 3, "temperature": 0.1},
    {"attention_dropout": 0.1, "dropout": 0.3},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_training_step_runs_without_waiting_for_the_device(trainer, options):
    train_step(trainer(**options))


@pytest.mark.parametrize("attention", ["self", "target", "lstm", "mean"])
def test_every_kind_of_attention_trains_and_scores_without_waiting(
    trainer, split, attention
):
    made = trainer(attention)
    train_step(made)
    windows = made.model.windows(split.valid.histories)
    batch = gathered(windows, [0, 2, 5])
    made.model.eval()
    targets = torch.tensor([1, 2, 3], device=META)
    excluded = torch.zeros(3, len(split.items), dtype=torch.bool, device=META)
    with OneDevice(), torch.no_grad():
        above, _ = ranks(made.model.scorer(batch())(slice(None)), targets, excluded)
    assert above.device == META


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        (lambda x: x.sum().item(), "read back|meta tensors"),
        (lambda x: bool(x.sum() > 0), "read back|meta tensors"),
        (lambda x: x[torch.tensor([0, 1])], "given a tensor of cpu"),
        (lambda x: x.to("cpu"), "makes a tensor on cpu|read back|Cannot copy"),
        (
            lambda x: x + torch.zeros(x.shape).to(META),
            "makes a tensor on cpu|given a tensor of cpu",
        ),
    ],
    ids=["item", "bool", "cpu index", "copy to the host", "copy from the host"],
)
def test_the_check_catches_a_planted_mistake(trainer, planted, found):
    made = trainer()
    real = made.model.loss

    def loss(batch, criterion):
        planted(made.model.item.id.weight)
        return real(batch, criterion)

    made.model.loss = loss
    with pytest.raises(
        (AssertionError, RuntimeError, NotImplementedError), match=found
    ):
        train_step(made)


def without_float64(model, split, **options):
    """Train a step, evaluate and recommend where there is no float64."""
    config = ac.TrainingConfig(
        epochs=1, batch_size=8, ema=0.9, precision="float32", progress=False, **options
    )
    group = Group(torch.device("cpu"))
    made = Trainer(model, split, config, group, RunFolder(None, {}, {}, writes=True))
    for tensor in (*made.loss_of.parameters(), *made.loss_of.buffers()):
        assert tensor.dtype != torch.float64
    model.train()
    parts, positions = next(made.sampler.steps(0))
    with NoFloat64():
        made.train_step(parts, positions)
        model.eval()
        with made.average.applied():
            ac.evaluate(model, split.valid, bootstrap=0)
        assert model.recommend(users=split.users.ids[:2].tolist(), k=3)


@pytest.mark.parametrize("loss", ["full", "sampled", "gbce", "bce"])
@pytest.mark.parametrize("attention", ["self", "target"])
def test_a_recommender_needs_no_float64(split, attention, loss):
    if attention == "target" and loss == "full":
        loss = "auto"
    config = ac.RecommenderConfig(
        attention=attention,
        width=16,
        length=8,
        relative="time" if attention == "self" else "none",
    )
    without_float64(ac.Recommender(config, split), split, loss=loss, popularity=0.5)


@pytest.mark.parametrize("attention", ["target", "mean"])
def test_a_ranker_needs_no_float64(attention, monkeypatch):
    def on_the_host(*given, **named):
        with _disable_current_modes():
            return slate_batch(*given, **named)

    for place in (attncore.ranking.batches, attncore.ranking.serving):
        monkeypatch.setattr(place, "slate_batch", on_the_host)
    split = ac.split_by_time(shop_log(), valid=0.2, test=0.2)
    config = ac.RankerConfig(attention=attention, width=16, length=20)
    without_float64(ac.Ranker(config, split), split, negatives=8)


def test_the_check_catches_a_planted_float64():
    with pytest.raises(AssertionError, match="float64"), NoFloat64():
        torch.ones(2).double()
