"""Facts about the recipes: each is a whole configuration that trains on any log."""

from dataclasses import replace

import pytest
from conftest import rhythm_log

import attncore as ac
from attncore.recipes import recipe


@pytest.mark.parametrize(
    "name", ["small", "long-histories", "short-histories", "sasrec"]
)
def test_a_recipe_trains_on_any_log_and_learns_its_rhythm(name):
    chosen = recipe(name)
    split = ac.leave_one_out(rhythm_log(users=60, events=12))
    model = ac.Recommender(chosen.recommender, split)
    few_users = min(32, chosen.training.batch_size)
    ac.fit(
        model,
        split,
        replace(
            chosen.training,
            epochs=8,
            lr=5e-3,
            warmup=0,
            batch_size=few_users,
            progress=False,
        ),
    )
    ours, popular = (
        ac.evaluate(s, split.valid).metrics["ndcg@10"]
        for s in (model, ac.baselines.Popularity(split))
    )
    assert ours > popular + 0.1


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(
        ValueError,
        match=r"no recipe 'books'; the recipes are small, long",
    ):
        recipe("books")


def test_the_names_of_before_are_other_names_of_the_kinds():
    assert recipe("ml-1m") is recipe("long-histories")
    assert recipe("beauty") is recipe("short-histories")
    assert recipe("ml-100k") is recipe("small")
