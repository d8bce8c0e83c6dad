"""Facts about the kept runs: each is whole, of the promised form, and its users' figures give its metrics."""

import json
from pathlib import Path

import numpy as np
import pytest

RESULTS = Path(__file__).parent / "bench" / "results"
RUNS = [
    path
    for path in sorted(RESULTS.glob("*.json"))
    if '"recipe"' in path.read_text(encoding="utf-8").split("\n", 5)[3]
]


def test_there_are_runs_and_tried_configurations():
    assert len(RUNS) > 10
    tried = json.loads((RESULTS / "tried.json").read_text())
    assert tried
    for run in tried:
        assert set(run) == {"data", "changes", "epochs", "best_epoch", "ndcg@10", "hr@10"}


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_kept_run_has_the_promised_form_and_its_users_give_its_metrics(path):
    run = json.loads(path.read_text())
    assert {"data", "split", "recipe", "seed", "kind", "config", "seconds", "valid", "test", "per_user"} == set(run)
    assert run["kind"] in ("row", "ablation", "baseline")
    assert run["data"] in path.stem
    assert path.stem.endswith(f"{run['recipe']}-{run['seed']}")
    per_user = np.load(RESULTS / run["per_user"])
    for part in ("valid", "test"):
        low, high = run[part]["interval"]["ndcg@10"]
        assert low <= run[part]["metrics"]["ndcg@10"] <= high
        assert per_user[part].mean() == pytest.approx(run[part]["metrics"]["ndcg@10"], abs=1e-6)
