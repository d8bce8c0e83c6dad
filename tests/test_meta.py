"""The training and evaluation steps never wait for the device and never mix devices:
shown without a GPU.

On the `meta` device there are no numbers, so whatever needs one on the host, or brings
in a tensor of the CPU, cannot be computed; a mode that sees every operation turns that
into an error with a name.
"""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import attncore as ac
from attncore.batches import Windows
from attncore.checkpoints import RunFolder
from attncore.distributed import Group
from attncore.evaluation import ranks
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
