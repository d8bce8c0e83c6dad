import pytest

import attncore as ac
from attncore.optim import learning_rate


def test_the_schedule_equals_a_table():
    shares = [learning_rate(step, 14, warmup=4) for step in range(14)]
    assert shares[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert shares[4:10] == pytest.approx(
        [1.0, 0.97798, 0.91406, 0.81450, 0.68906, 0.55], abs=1e-5
    )
    assert learning_rate(14, 14, warmup=4) == pytest.approx(0.1)
    assert learning_rate(500, 14, warmup=4) == pytest.approx(0.1)
    assert learning_rate(500, 14, warmup=4, schedule="constant") == 1.0


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
