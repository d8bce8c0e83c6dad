"""The encoders by hand: what each joins, averages and asks."""

import torch

from attncore.encoders import LSTMAttention, MeanPooling, Transition

CONTEXT = torch.randn(2, 5, 8)


def test_the_mean_is_that_of_the_events_so_far():
    means, _ = MeanPooling()(CONTEXT)
    for step in range(5):
        torch.testing.assert_close(means[:, step], CONTEXT[:, : step + 1].mean(1))


def test_the_lstm_joins_the_state_that_asks_with_what_it_attended_to():
    encoder = LSTMAttention(width=8, hidden=6, layers=2, dropout=0.5).eval()
    found, (weights,) = encoder(CONTEXT, need_weights=True)
    states, _ = encoder.lstm(encoder.norm(CONTEXT))
    value = encoder.attention.value(states)
    attended = encoder.attention.joined(weights[:, 0] @ value)
    torch.testing.assert_close(found, encoder.widen(torch.cat([states, attended], -1)))
    assert torch.equal(weights[:, 0].triu(1), torch.zeros(2, 5, 5))


def test_a_transition_adds_what_each_of_the_newest_items_says_by_itself():
    transition = Transition(items=9, width=4, lags=3)
    torch.testing.assert_close(transition.lag_SD, torch.tensor([1, 1 / 2, 1 / 3])[:, None].expand(3, 4))
    torch.nn.init.normal_(transition.lag_SD)
    vector, lag = transition.item.weight, transition.lag_SD
    found = transition(torch.tensor([[3, 5, 2, 7], [4, 0, 0, 0]]))
    assert found.shape == (2, 4, 4)
    torch.testing.assert_close(found[0, 0], vector[3] * lag[0])
    torch.testing.assert_close(found[0, 1], vector[5] * lag[0] + vector[3] * lag[1])
    torch.testing.assert_close(found[0, 3], vector[7] * lag[0] + vector[2] * lag[1] + vector[5] * lag[2])
    torch.testing.assert_close(found[1, 0], vector[4] * lag[0])
