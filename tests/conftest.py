"""What several test files share: small logs with a rhythm that a model can learn."""

import os

import numpy as np
import pandas as pd
import pytest
import torch

import attncore as ac


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        default="cuda",
        help="where tests marked gpu run; on cpu they only show that they can",
    )
    parser.addoption(
        "--full",
        action="store_true",
        help="every planted bug, not a few of them",
    )


@pytest.fixture(autouse=True)
def _repeatable():
    torch.manual_seed(0)


def rhythm_log(
    users: int = 40, items: int = 12, events: int = 10, seed: int = 0
) -> ac.Interactions:
    """Users who mostly walk the items in order, from a place of their own, with a few
    leaps."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        place = int(rng.integers(items))
        for time in range(events):
            rows.append((100 + user, 500 + place, time))
            place = (
                place + (1 if rng.random() < 0.9 else int(rng.integers(items)))
            ) % items
    return ac.Interactions.from_frame(
        pd.DataFrame(rows, columns=["user", "item", "time"]), name="rhythm"
    )


@pytest.fixture(scope="session")
def log() -> ac.Interactions:
    return rhythm_log()


@pytest.fixture(scope="session")
def split(log) -> ac.Split:
    return ac.leave_one_out(log)


@pytest.fixture
def small() -> ac.RecommenderConfig:
    return ac.RecommenderConfig(width=16, blocks=2, heads=2, length=8)


@pytest.fixture
def quick() -> ac.TrainingConfig:
    return ac.TrainingConfig(
        epochs=2,
        batch_size=16,
        warmup=2,
        progress=False,
        precision="float32",
        device="cpu",
    )


def need(found: bool, what: str) -> None:
    """Skip on a reader's machine that lacks something; fail in CI, where it must be
    there."""
    if not found and os.environ.get("CI"):
        pytest.fail(f"CI lacks {what}")
    if not found:
        pytest.skip(f"needs {what}")
