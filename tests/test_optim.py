import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import attncore as ac
from attncore.batches import Windows
from attncore.optim import LossOf, MovingAverage, adamw, backward, learning_rate, update
from attncore.output import Criterion


def full_loss(model: ac.Recommender, split: ac.Split) -> LossOf:
    return LossOf(
        model, Criterion("full", 1, 0.0, 0.0, torch.from_numpy(split.item_counts))
    )


def test_only_matrices_decay(split, small):
    model = ac.Recommender(small, split)
    decayed, others = adamw(model, lr=0.1, weight_decay=0.3).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert all(p.dim() >= 2 for p in decayed["params"])
    assert any(p is model.item.id.weight for p in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(
        list(model.parameters())
    )


def test_parts_add_up_to_the_gradient_of_the_whole_step(split):
    config = ac.RecommenderConfig(width=16, length=8, dropout=0.0)
    rows = np.arange(12)
    gradients = []
    for parts in ([rows], np.array_split(rows, 4)):
        model = ac.Recommender(config, split).double()
        windows = Windows(split.train, 8, targets=True)
        batches = [windows.batch(part) for part in parts]
        positions = int(windows.lengths[rows].sum())
        loss = backward(full_loss(model, split), batches, positions, torch.float32)
        gradients.append((loss, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(gradients[0][0].double(), gradients[1][0].double())
    for whole, summed in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(whole, summed, atol=1e-10, rtol=1e-8)


def test_the_loss_is_the_mean_over_the_positions_of_the_step(split, small):
    model = ac.Recommender(small, split).eval()
    windows = Windows(split.train, 8, targets=True)
    rows = np.array([0, 3])
    positions = int(windows.lengths[rows].sum())
    loss_of = full_loss(model, split)
    expected = loss_of(windows.batch(rows)).item() / positions
    assert backward(
        loss_of, [windows.batch(rows)], positions, torch.float32
    ).item() == pytest.approx(expected)


def stepped(weights, gradients, clip=0.0, loss=1.0):
    """Weights after one SGD-like look at what `update` hands to the optimizer: AdamW
    without decay, from rest."""
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([weights]))
    model.weight.grad = torch.tensor([gradients])
    optimizer = adamw(model, lr=0.1, weight_decay=0.0)
    finite = update(model, optimizer, torch.tensor(loss), clip)
    return model.weight.detach()[0], model.weight.grad[0], bool(finite)


def test_clipping_comes_before_the_step_and_bounds_the_norm():
    _, gradient, finite = stepped([1.0, 2.0, 3.0], [3.0, 0.0, 4.0], clip=0.5)
    torch.testing.assert_close(
        gradient, torch.tensor([0.3, 0.0, 0.4]), atol=1e-5, rtol=0
    )
    assert finite
    model = nn.Linear(2, 1, bias=False)
    optimizer = adamw(model, lr=0.1, weight_decay=0.0)
    model.weight.grad = torch.tensor([[30.0, 40.0]])
    update(model, optimizer, torch.tensor(1.0), clip=5.0)
    torch.testing.assert_close(
        optimizer.state[model.weight]["exp_avg"], torch.tensor([[0.3, 0.4]])
    )


def test_a_small_gradient_is_not_clipped_and_zero_never_clips():
    assert stepped([0.0, 0.0, 0.0], [0.3, 0.0, 0.4], clip=1.0)[
        1
    ].tolist() == pytest.approx([0.3, 0.0, 0.4])
    assert stepped([0.0, 0.0, 0.0], [30.0, 0.0, 40.0], clip=0.0)[1].tolist() == [
        30.0,
        0.0,
        40.0,
    ]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_what_is_not_finite_never_reaches_the_weights(bad, where, clip):
    gradients = [1.0, bad if where == "gradient" else 1.0, 1.0]
    weights, _, finite = stepped(
        [1.0, 2.0, 3.0], gradients, clip, loss=bad if where == "loss" else 1.0
    )
    assert weights.tolist() == [1.0, 2.0, 3.0]
    assert not finite


def test_a_step_that_was_left_out_leaves_the_next_as_it_would_have_been():
    plain, broken = nn.Linear(2, 1), nn.Linear(2, 1)
    broken.load_state_dict(plain.state_dict())
    for model, values in ((plain, (1.0, 0.5)), (broken, (1.0, torch.nan, 0.5))):
        optimizer = adamw(model, lr=0.1, weight_decay=0.1)
        for value in values:
            for p in model.parameters():
                p.grad = torch.full_like(p, value)
            update(model, optimizer, torch.tensor(1.0))
    assert all(
        torch.equal(a, b)
        for a, b in zip(plain.parameters(), broken.parameters(), strict=True)
    )


def test_the_moving_average_equals_its_closed_form():
    model = nn.Linear(1, 1, bias=False).double()
    values = [3.0, -1.0, 4.0, 1.0, -5.0]
    with torch.no_grad():
        model.weight.fill_(2.0)
    average = MovingAverage(model, 0.9)
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
        average.update()
    expected = 0.9**5 * 2.0 + sum(
        0.1 * 0.9 ** (4 - n) * value for n, value in enumerate(values)
    )
    with average.applied():
        assert model.weight.item() == pytest.approx(expected, abs=1e-12)
    assert model.weight.item() == -5.0


def test_the_moving_average_is_pytorchs_to_the_last_bit(split, small):
    model = ac.Recommender(small, split)
    ours, weights = MovingAverage(model, 0.9), nn.ParameterList(model.parameters())
    theirs = AveragedModel(weights, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(weights)  # its first step copies: so does ours
    for _ in range(5):
        with torch.no_grad():
            for weight in weights:
                weight += torch.randn_like(weight)
        ours.update()
        theirs.update_parameters(weights)
    for a, b in zip(ours.average, theirs.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_pytorchs_own_moving_average_reads_a_number_back_at_each_step():
    weights = nn.Linear(2, 2, device="meta")
    theirs = AveragedModel(weights, torch.device("meta"))
    with pytest.raises(RuntimeError, match="meta tensors"):
        theirs.update_parameters(weights)
    average = MovingAverage(weights, 0.9)
    average.update()  # ours does not
    assert average.average[0].device == torch.device("meta")


def test_without_a_decay_the_average_is_the_weights():
    model = nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    average = MovingAverage(model, 0.0)
    average.update()
    with average.applied():
        assert all(
            torch.equal(x, before[name]) for name, x in model.state_dict().items()
        )


@pytest.mark.parametrize("relative", ["none", "position", "time"])
def test_a_process_without_users_gives_every_weight_a_gradient_of_zero(
    split, small, relative
):
    model = ac.Recommender(replace(small, relative=relative), split)
    batch = model.windows(split.train, targets=True).batch(np.zeros(0, int))
    assert backward(full_loss(model, split), [batch], 40, torch.float32).item() == 0
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.parameters())


def test_the_schedule_equals_a_table():
    shares = [learning_rate(step, 14, warmup=4) for step in range(14)]
    assert shares[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert shares[4:10] == pytest.approx(
        [1.0, 0.97798, 0.91406, 0.81450, 0.68906, 0.55], abs=1e-5
    )
    assert learning_rate(14, 14, warmup=4) == pytest.approx(0.1)
    assert learning_rate(500, 14, warmup=4) == pytest.approx(0.1)
    assert learning_rate(500, 14, warmup=4, schedule="constant") == 1.0


@pytest.mark.parametrize("warmup", [0, 1, 40])
def test_the_schedule_is_pytorchs_to_rounding(warmup):
    steps, optimizer = 200, torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    theirs = cosine = CosineAnnealingLR(optimizer, steps - warmup, eta_min=0.1)
    if warmup:
        rise = LinearLR(optimizer, 1 / (warmup + 1), 1.0, total_iters=warmup)
        theirs = SequentialLR(optimizer, [rise, cosine], [warmup])
    for step in range(steps):
        rate = optimizer.param_groups[0]["lr"]
        assert learning_rate(step, steps, warmup) == pytest.approx(rate, abs=1e-12)
        optimizer.step()
        theirs.step()


def test_training_follows_the_schedule_that_is_named(split, small):
    with pytest.raises(
        ValueError, match="schedule='falling': must be one of cosine, constant"
    ):
        ac.TrainingConfig(schedule="falling")
    config = ac.TrainingConfig(
        epochs=4, warmup=0, lr=1e-2, schedule="constant", progress=False
    )
    run = ac.fit(ac.Recommender(small, split), split, config)
    assert [entry["lr"] for entry in run.epochs] == pytest.approx([1e-2] * 4)
