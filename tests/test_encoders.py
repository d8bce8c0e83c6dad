"""The encoders by hand: what each joins, averages and asks."""

import torch

from attncore.encoders import LSTMAttention, MeanPooling

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
