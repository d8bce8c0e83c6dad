"""Facts about book/rungs.py: which runs make a rung, and when a chapter may call one
above another."""

import json

import numpy as np
import pytest
import rungs


@pytest.fixture
def results(tmp_path):
    def write(
        recipe, seed, per_user, kind="row", data="ml-100k", split="leave-one-out"
    ):
        value = sum(per_user) / len(per_user)
        report = {
            "metrics": {"ndcg@10": value, "hr@10": 1.0},
            "interval": {"ndcg@10": [0, value], "hr@10": [1, 1]},
        }
        run = {
            "data": data,
            "split": split,
            "recipe": recipe,
            "seed": seed,
            "kind": kind,
            "valid": report,
            "test": report,
        }
        run["per_user"] = f"{data}-{split}-{recipe}-{seed}.npz"
        np.savez_compressed(tmp_path / run["per_user"], valid=per_user, test=per_user)
        (tmp_path / f"{data}-{split}-{recipe}-{seed}.json").write_text(json.dumps(run))

    write("mean", 0, [0.0, 0.5, 0.1, 0.0] * 50, kind="baseline")
    for seed in (1, 0, 2):
        write("target", seed, [0.1 * seed, 0.7, 0.3, 0.1] * 50)
    write("target", 3, [1.0] * 200, split="time")
    write("target", 4, [1.0] * 200, data="ml-1m")
    write("same", 0, [0.5, 0.0, 0.0, 0.1] * 50)
    write("once", 0, [0.2, 0.7, 0.3, 0.1] * 50)
    return tmp_path


def test_a_rung_is_the_mean_over_the_seeds_of_its_own_data_and_split(results):
    assert [run["seed"] for run in rungs.load("ml-100k", "target", results)] == [
        0,
        1,
        2,
    ]
    found = rungs.rung("ml-100k", "target", folder=results)
    assert found.value == pytest.approx((0.1 + 0.7 + 0.3 + 0.1) / 4)
    assert found.seeds == 3
    assert rungs.rung("ml-100k", "target", folder=results, how="time").value == 1.0
    assert str(found) == "0.3000 [0.0000, 0.3000]"


def test_a_missing_recipe_says_what_makes_it(results):
    with pytest.raises(LookupError, match=r"no run of 'self' on ml-100k .*quality\.py"):
        rungs.rung("ml-100k", "self", folder=results)


def test_a_step_is_the_difference_user_by_user_and_its_verdict_follows_the_interval(
    results,
):
    up = rungs.step("ml-100k", "target", "mean", folder=results)
    assert up.value == pytest.approx(0.3 - 0.15)
    assert up.low < up.value < up.high
    assert up.verdict == "above"
    assert up.words.startswith("above (a difference of +0.1500, 95 % interval +0.1")
    assert rungs.step("ml-100k", "mean", "target", folder=results).verdict == "below"
    level = rungs.step("ml-100k", "same", "mean", folder=results)
    assert level.verdict == "level"
    assert level.words.startswith("not to be told from (")


def test_fewer_than_three_seeds_make_a_tendency(results):
    assert rungs.step("ml-100k", "once", "mean", folder=results).words.startswith(
        "tends to be above"
    )


def test_a_table_has_the_rows_and_the_names_that_were_asked_for(results):
    table = rungs.table(
        "ml-100k", {"target": "target attention", "mean": "the mean"}, folder=results
    )
    assert list(table.index) == ["target attention", "the mean"]
    assert list(table.columns) == ["ndcg@10", "hr@10", "seeds"]
    assert table.loc["target attention", "seeds"] == "3"
    assert list(rungs.table("ml-100k", ["mean"], folder=results).index) == ["mean"]
