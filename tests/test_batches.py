import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attncore.batches import Windows, prefetched, shuffled_batches
from attncore.sequences import Histories

ROWS = [[1, 2, 3, 4, 5], [6], [], [7, 8, 9]]


def test_a_training_batch_by_hand():
    windows = Windows(Histories.from_lists(ROWS), length=3, targets=True)
    batch = windows.batch(np.array([0, 3]))
    assert batch.items_BT.tolist() == [[2, 3, 4], [7, 8, 0]]
    assert batch.targets_BT.tolist() == [[3, 4, 5], [8, 9, 0]]
    assert batch.lengths_B.tolist() == [3, 2]
    assert batch.real_N.tolist() == [0, 1, 2, 3, 4]
    assert windows.lengths.tolist() == [3, 0, 0, 2]


def test_an_inference_batch_holds_the_newest_events_and_may_be_empty():
    windows = Windows(Histories.from_lists(ROWS), length=2)
    batch = windows.batch(np.array([2, 0, 1]))
    assert batch.items_BT.tolist() == [[0, 0], [4, 5], [6, 0]]
    assert batch.targets_BT is None
    assert windows.batch(np.array([2])).items_BT.tolist() == [[0]]


@given(
    st.lists(st.lists(st.integers(1, 9), max_size=7), min_size=1, max_size=8),
    st.integers(1, 9),
)
def test_real_places_are_exactly_the_real_events(rows, length):
    batch = Windows(Histories.from_lists(rows), length).batch(np.arange(len(rows)))
    assert (batch.items_BT.flatten()[batch.real_N] > 0).all()
    assert (
        len(batch.real_N)
        == int(batch.keep_BT.sum())
        == sum(min(len(row), length) for row in rows)
    )


def test_an_epoch_shows_each_row_once_in_an_order_of_its_own():
    def epoch(seed, number):
        return np.concatenate(list(shuffled_batches(np.arange(50), 16, seed, number)))

    assert sorted(epoch(0, 1)) == list(range(50))
    assert (epoch(0, 1) == epoch(0, 1)).all()
    assert (epoch(0, 1) != epoch(0, 2)).any()
    assert (epoch(0, 1) != epoch(1, 1)).any()


def test_parts_of_a_step_and_groups_for_inference_hold_each_row_once():
    windows = Windows(
        Histories.from_lists([[1] * n for n in (5, 1, 9, 3, 7, 2, 8)]), length=9
    )
    parts = windows.parts(np.arange(7))
    assert sorted(np.concatenate(parts)) == list(range(7))
    assert [int(windows.lengths[part].max()) for part in parts] == sorted(
        windows.lengths[part].max() for part in parts
    )
    groups = list(windows.by_length(events=10))
    assert sorted(np.concatenate(groups)) == list(range(7))
    assert all(len(g) == 1 or len(g) * windows.lengths[g].max() <= 10 for g in groups)
    windows.device = torch.device("meta")  # as a GPU, which takes many events at once
    assert len(list(windows.by_length(events=10))) == 1


@pytest.mark.parametrize("length", [1, 4, 5])
def test_windows_of_all_events_train_each_event_once(length):
    histories = Histories.from_lists([list(range(1, 13)), [5], [7, 8], []])
    windows = Windows(histories, length, targets=True, every=True)
    batch = windows.batch(np.flatnonzero(windows.lengths))
    trained = batch.targets_BT.flatten()[batch.real_N].tolist()
    assert sorted(trained) == sorted([*range(2, 13), 8])
    row_N, place_N = batch.real_N // length, batch.real_N % length
    # Its past is there: half a window, or all that there is.
    asked_N = batch.items_BT[row_N, place_N]
    before_N = torch.where(batch.users_B[row_N] == 0, asked_N, 1)
    assert (place_N + 1 >= before_N.clamp_max(length - (length + 1) // 2 + 1)).all()
    assert windows.users_of(np.flatnonzero(windows.lengths)).tolist()[-1] == 2


def test_times_never_pass_through_a_float():
    late = 2**53 + 1
    histories = Histories(
        np.array([1, 2], np.int32), np.array([0, 2]), np.array([late, late + 1])
    )
    batch = Windows(histories, 2).batch(np.array([0]))
    assert batch.times_BT.tolist() == [[late, late + 1]]
    assert batch.times_BT.dtype == torch.int64


def test_a_second_thread_is_one_call_ahead_and_keeps_the_order():
    begun = []

    def make(number):
        return lambda: begun.append(number) or number

    made = prefetched(make(number) for number in range(4))
    assert next(made) == 0
    deadline = time.monotonic() + 10
    while begun != [0, 1] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert begun == [0, 1]
    assert list(made) == [1, 2, 3]


def test_a_window_may_end_before_the_newest_event():
    windows = Windows(
        Histories.from_lists([[1, 2, 3, 4, 5, 6], [7, 8]]), length=2, targets=True
    )
    assert windows.earlier.tolist() == [3, 0]
    batch = windows.batch(np.array([1, 0]), back=np.array([0, 3]))
    assert batch.items_BT.tolist() == [[7, 0], [1, 2]]
    assert batch.targets_BT.tolist() == [[8, 0], [2, 3]]
