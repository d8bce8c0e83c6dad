"""The encoders by hand: what each joins, averages and asks."""

import math

import torch
from torch import nn

import attncore as ac
from attncore.encoders import LSTMAttention, MeanPooling, Transition, xavier

CLASSIC = ac.RecommenderConfig(width=8, hidden=6, blocks=2, dropout=0.5)
CONTEXT = torch.randn(2, 5, 8)


def test_the_mean_is_that_of_the_events_so_far():
    means, _ = MeanPooling()(CONTEXT)
    for step in range(5):
        torch.testing.assert_close(means[:, step], CONTEXT[:, : step + 1].mean(1))


def test_the_lstm_joins_the_state_that_asks_with_what_it_attended_to():
    encoder = LSTMAttention(CLASSIC).eval()
    found, (weights,) = encoder(CONTEXT, need_weights=True)
    states, _ = encoder.lstm(encoder.norm(CONTEXT))
    value = encoder.attention.value(states)
    attended = encoder.attention.out_proj(weights[:, 0] @ value)
    torch.testing.assert_close(found, encoder.widen(torch.cat([states, attended], -1)))
    assert torch.equal(weights[:, 0].triu(1), torch.zeros(2, 5, 5))


def test_the_lstms_state_weighs_the_state_that_asks_and_all_older_ones():
    encoder = LSTMAttention(CLASSIC).eval()
    _, (weights,) = encoder(CONTEXT, need_weights=True)
    assert (weights[:, 0, -1] > 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 5))


def test_xavier_draws_each_gate_for_its_own_size_and_leaves_norms_alone():
    torch.manual_seed(0)
    layer = nn.ModuleList([nn.LSTM(30, 20, 2), nn.Linear(50, 10), nn.LayerNorm(8)])
    xavier(layer)
    lstm, linear, norm = layer
    for matrix, bound in (
        (lstm.weight_ih_l0, math.sqrt(6 / (30 + 20))),
        (lstm.weight_hh_l1, math.sqrt(6 / (20 + 20))),
        (linear.weight, math.sqrt(6 / (50 + 10))),
    ):
        for gate in matrix.chunk(4) if matrix is not linear.weight else [matrix]:
            assert 0.9 * bound < gate.abs().max() <= bound
    assert all(
        (bias == 0).all() for bias in (lstm.bias_ih_l0, lstm.bias_hh_l1, linear.bias)
    )
    assert (norm.weight == 1).all()


def test_the_lstm_begins_with_xavier():
    encoder = LSTMAttention(CLASSIC)
    assert (encoder.lstm.bias_ih_l0 == 0).all()
    assert encoder.widen.weight.abs().max() <= math.sqrt(6 / (12 + 8))


def test_a_transition_adds_what_each_of_the_newest_items_says_by_itself():
    transition = Transition(items=9, width=4, lags=3)
    torch.testing.assert_close(
        transition.lag_SD, torch.tensor([1, 1 / 2, 1 / 3])[:, None].expand(3, 4)
    )
    torch.nn.init.normal_(transition.lag_SD)
    vector, lag = transition.item.weight, transition.lag_SD
    found = transition(torch.tensor([[3, 5, 2, 7], [4, 0, 0, 0]]))
    assert found.shape == (2, 4, 4)
    torch.testing.assert_close(found[0, 0], vector[3] * lag[0])
    torch.testing.assert_close(found[0, 1], vector[5] * lag[0] + vector[3] * lag[1])
    torch.testing.assert_close(
        found[0, 3], vector[7] * lag[0] + vector[2] * lag[1] + vector[5] * lag[2]
    )
    torch.testing.assert_close(found[1, 0], vector[4] * lag[0])
