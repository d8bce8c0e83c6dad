"""Facts about `attncore.baselines`, held against exact arithmetic and the published
reference figures."""

import json
import os
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attncore
from attncore.__main__ import main
from attncore.baselines import (
    EASE,
    MarkovChain,
    PersonalFrequency,
    Popularity,
    ProfilePopularity,
    RecentPopularity,
)
from attncore.errors import DataError
from attncore.evaluation import compare, evaluate
from attncore.interactions import Interactions
from attncore.sequences import Histories
from attncore.splits import leave_one_out, split_by_user

BASELINES = [Popularity, RecentPopularity, PersonalFrequency, MarkovChain]


def split_of(histories, times=None):
    """A leave-one-out split of item-index histories; the last two events of each are
    held out."""
    user = np.repeat(np.arange(len(histories)), [len(row) for row in histories])
    item = np.concatenate([np.asarray(row, np.int64) for row in histories])
    time = np.arange(len(item)) if times is None else np.concatenate(times)
    frame = pd.DataFrame({"user": user, "item": item, "time": time.astype(np.int64)})
    return leave_one_out(Interactions(frame))


def with_catalogue(items, *train):
    """A split whose training histories are `train`, over a catalogue of `items`
    items."""
    split, histories = split_of([range(1, items + 1)]), Histories.from_lists(train)
    counts = np.bincount(histories.items, minlength=items + 1)[1:]
    return replace(
        split, train=histories, valid=replace(split.valid, item_counts=counts)
    )


def places(keys):
    """Dense place of each key from 0, exactly."""
    order = sorted(set(keys))
    return [order.index(key) for key in keys]


def chain_scores(split, history, lags=5, normalize=False):
    """Design's formula in fractions, with loops."""
    size = len(split.items)
    matrix = [[Fraction(0)] * (size + 1) for _ in range(size + 1)]
    for row in range(len(split.train)):
        events = split.train[row].tolist()
        for at, item in enumerate(events):
            for lag in range(1, lags + 1):
                if at + lag < len(events):
                    matrix[item][events[at + lag]] += Fraction(1, lag)
    if normalize:
        matrix = [
            [entry / sum(row) if sum(row) else entry for entry in row] for row in matrix
        ]
    newest = list(reversed(history))[:lags]
    return [
        sum(Fraction(1, k) * matrix[item][j] for k, item in enumerate(newest, 1))
        for j in range(1, size + 1)
    ]


histories_of_items = st.lists(
    st.lists(st.integers(1, 6), min_size=3, max_size=12), min_size=2, max_size=6
)


@given(histories_of_items, st.integers(1, 6), st.data())
@settings(deadline=None)
def test_the_chain_orders_items_as_exact_fractions_do_ties_by_popularity(
    logs, lags, data
):
    split = split_of(logs)
    size = len(split.items)
    asked = [data.draw(st.lists(st.integers(1, size), max_size=8)) for _ in range(3)]
    found = MarkovChain(split, lags=lags).score(Histories.from_lists(asked))
    for row, history in enumerate(asked):
        pairs = list(
            zip(
                chain_scores(split, history, lags),
                split.item_counts.tolist(),
                strict=True,
            )
        )
        assert found[row].tolist() == places(pairs)


@given(histories_of_items, st.data())
@settings(deadline=None)
def test_the_normalized_chain_orders_items_as_exact_fractions_do(logs, data):
    split = split_of(logs)
    history = data.draw(st.lists(st.integers(1, len(split.items)), max_size=8))
    found = (
        MarkovChain(split, normalize=True)
        .score(Histories.from_lists([history]))[0]
        .tolist()
    )
    exact = chain_scores(split, history, normalize=True)
    for i, j in np.ndindex(len(exact), len(exact)):
        if exact[i] > exact[j]:
            assert found[i] > found[j]


def test_the_chain_equals_a_hand_worked_example():
    # Training: 1 2 3 and 1 3, with 4 seen nowhere. M[1, 2] = 1, M[1, 3] = 1/2 + 1, M[2,
    # 3] = 1.
    split = with_catalogue(4, [1, 2, 3], [1, 3])
    assert split.item_counts.tolist() == [2, 1, 2, 0]
    chain = MarkovChain(split)
    # After 1, 2: score(3) = M[2, 3] + 1/2 M[1, 3] = 1.75, score(2) = 1/2 M[1, 2] = 0.5,
    # 1 and 4 have 0. Then popularity puts 1 (twice) before 4 (never).
    assert chain.score(Histories.from_lists([[1, 2]]))[0].tolist() == [1, 2, 3, 0]


def test_two_followers_at_equal_chance_are_tied_where_float32_sums_would_part_them():
    # 2 follows 1 at lag 1 once (1); 3 follows at lags 2, 3 and 6 (1/2 + 1/3 + 1/6 = 1
    # in whole numbers only).
    split = with_catalogue(
        5, [1, 2], [1, 4, 3], [1, 4, 4, 3], [1, 4, 4, 4, 4, 4, 3], [2, 2]
    )
    counts = split.item_counts
    assert counts[1] == counts[2] == 3
    found = MarkovChain(split, lags=6).score(Histories.from_lists([[1]]))[0]
    assert found[1] == found[2] > found[4]


def test_popularity_never_overrules_a_real_difference_in_the_chain():
    # Items 2 and 3 follow 1 nearly as often; 3 is far more popular elsewhere, 2 still
    # stands above it.
    follows_two, follows_three = [[1, 2]] * 1001, [[1, 3]] * 1000
    split = with_catalogue(3, *follows_two, *follows_three, *[[3, 3]] * 2000)
    found = MarkovChain(split).score(Histories.from_lists([[1]]))[0]
    assert split.item_counts[2] > 4 * split.item_counts[1]
    assert found[1] > found[2]


def test_normalizing_lets_a_rare_item_speak_as_loudly_as_a_common_one():
    split = with_catalogue(4, *[[1, 3]] * 9, [2, 4])
    # Newest: 2, which 4 always follows; before: 1, which 3 always follows.
    asked = Histories.from_lists([[1, 2]])
    plain, normalized = (
        MarkovChain(split, normalize=n).score(asked)[0] for n in (False, True)
    )
    assert plain[2] > plain[3]
    assert normalized[3] > normalized[2]


def test_the_chain_crosses_no_user_and_reads_no_held_out_event():
    split = split_of([[1, 2, 5, 6], [3, 4, 6, 5]])  # training is 1 2 and 3 4
    found = MarkovChain(split).score(Histories.from_lists([[2], [4], [1]]))
    # Nothing follows 2 or 4.
    assert found.tolist()[0] == found.tolist()[1] == [1, 1, 1, 1, 0, 0]
    assert found.tolist()[2] == [1, 2, 1, 1, 0, 0]


def test_only_the_newest_events_within_the_lags_speak():
    split = with_catalogue(9, [1, 2], [3, 4])
    chain = MarkovChain(split, lags=2)
    near, far = chain.score(Histories.from_lists([[1, 9], [1, 9, 9]]))
    assert near[1] > near[3]
    assert far[1] == far[3]


def test_the_chain_of_a_large_catalogue_overflows_no_int32():
    items = 70_000  # more than 2^31 pairs of items
    found = MarkovChain(with_catalogue(items, [items - 1, items])).score(
        Histories.from_lists([[items - 1]])
    )
    assert found.argmax().item() + 1 == items
    assert found[0].unique().tolist() == [0, 1, 2]


def test_popularity_counts_training_events_alone():
    split = split_of([[1, 1, 2, 3], [1, 2, 3, 3]])
    assert (
        Popularity(split).score(Histories.from_lists([[], [3]])).tolist()
        == [[3, 1, 0]] * 2
    )


def test_recent_popularity_counts_the_newest_share_and_breaks_ties_by_all():
    # Training in time order: 1 1 1 2 | 3 3. The newest third is 3 3; then 1 (three
    # times), then 2.
    split = split_of(
        [[1, 1, 1, 2, 9, 9], [3, 3, 9, 9]],
        [np.array([0, 1, 2, 3, 50, 51]), np.array([10, 11, 50, 51])],
    )
    histories = Histories.from_lists([[1]])
    assert RecentPopularity(split, window=1 / 3).score(histories)[0].tolist() == [
        2,
        1,
        3,
        0,
    ]
    assert RecentPopularity(split, window=1).score(histories)[0].tolist() == [
        3,
        1,
        2,
        0,
    ]


def test_recent_popularity_never_parts_events_of_one_moment():
    times = [np.array([0, 7, 7, 90, 91])]
    for order in ([1, 2, 3, 4, 4], [1, 3, 2, 4, 4]):
        assert RecentPopularity(
            split_of([order], times), window=0.1
        ).recent_counts.tolist() == [0, 1, 1, 0]


def test_personal_frequency_counts_the_history_asked_ties_by_popularity():
    split = with_catalogue(4, [1, 1, 1, 2], [2, 3])
    found = PersonalFrequency(split).score(Histories.from_lists([[3, 4, 3], [4], []]))
    assert found.tolist() == [
        places([(0, 3), (0, 2), (2, 1), (1, 0)]),
        places([(0, 3), (0, 2), (0, 1), (1, 0)]),
        places([(0, 3), (0, 2), (0, 1), (0, 0)]),
    ]


PEOPLE = pd.DataFrame(
    {
        "team": ["red", "red", "red", "blue", "blue", None],
        "town": ["Rome", "Rome", "Oslo", "Rome", "Rome", "Rome"],
        "age": [10, 20, 30, 40, 50, 60],
    },
    index=pd.Index([1, 2, 3, 4, 5, 6], name="user"),
)
# 7 is in no table.
TAKEN = {
    1: [1, 1, 2],
    2: [1],
    3: [3],
    4: [3, 3],
    5: [2],
    6: [1],
    7: [3],
}


def of_people(
    smoothing=2.0, columns=("team", "town"), people=PEOPLE, taken=TAKEN, **options
):
    """Training histories `taken`; each user's last two events, items 8 and 9, are held
    out."""
    rows = [(user, item) for user, items in taken.items() for item in [*items, 8, 9]]
    log = Interactions.from_frame(
        pd.DataFrame(rows, columns=["user", "item"]), users=people
    )
    split = leave_one_out(log)
    baseline = ProfilePopularity(split, columns, smoothing, **options)
    return baseline.score(split.test.histories, split.test.users).numpy(), split


def test_profile_popularity_by_hand():
    found, split = of_people()
    assert split.items.ids.tolist() == [1, 2, 3, 8, 9]
    everybody = np.array([4, 2, 4, 0, 0]) / 10
    red = (np.array([3, 1, 1, 0, 0]) + 2 * everybody) / (5 + 2)
    red_in_rome = (np.array([3, 1, 0, 0, 0]) + 2 * red) / (4 + 2)
    red_in_oslo = (np.array([0, 0, 1, 0, 0]) + 2 * red) / (1 + 2)
    blue = (np.array([0, 1, 2, 0, 0]) + 2 * everybody) / (3 + 2)
    blue_in_rome = (np.array([0, 1, 2, 0, 0]) + 2 * blue) / (3 + 2)
    expected = [
        red_in_rome,
        red_in_rome,
        red_in_oslo,
        blue_in_rome,
        blue_in_rome,
        everybody,
        everybody,
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)


def test_without_a_profile_popularity_is_that_of_all():
    _, split = of_people()
    plain = Popularity(split).score(split.test.histories)
    nobody = ProfilePopularity(split, ("team", "town")).score(split.test.histories)
    nothing = ProfilePopularity(split, ()).score(split.test.histories, split.test.users)
    torch.testing.assert_close(nobody, plain / plain.sum(1, keepdim=True))
    torch.testing.assert_close(nothing, nobody)


def test_much_smoothing_gives_popularity_and_little_gives_the_group_alone():
    much, _ = of_people(1e12)
    np.testing.assert_allclose(much, np.tile([0.4, 0.2, 0.4, 0, 0], (7, 1)), rtol=1e-5)
    little, _ = of_people(1e-9)
    # The only red one in Oslo.
    np.testing.assert_allclose(little[2], [0, 0, 1, 0, 0], atol=1e-6)


def test_a_number_is_cut_where_equally_many_training_users_are_on_either_side():
    found, _ = of_people(columns=("age:quantile",), bands=2)
    assert (found[:3] == found[0]).all()  # 10, 20, 30
    assert (found[3:6] == found[3]).all()
    assert not np.allclose(found[0], found[3])
    assert not np.allclose(found[6], found[0])  # no age: all alike
    assert not np.allclose(found[6], found[3])


def test_profile_popularity_reads_no_held_out_user_and_no_held_out_event():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user": np.repeat(np.arange(40), 6),
            "item": rng.integers(9, size=240),
            "time": np.arange(240),
        }
    )
    people = pd.DataFrame(
        {"team": rng.choice(["a", "b"], 40)}, index=pd.RangeIndex(40, name="user")
    )
    split = split_by_user(Interactions(frame, people), known=2)
    held = ~np.isin(frame["user"], np.flatnonzero(split.train.lengths))
    frame.loc[held, "item"] = rng.integers(9, size=held.sum())
    other = split_by_user(Interactions(frame, people), known=2)
    asked = Histories.from_lists([[]] * 40), np.arange(40)
    one, two = (
        ProfilePopularity(s, ("team",), 3.0).score(*asked) for s in (split, other)
    )
    assert torch.equal(one, two)
    assert not torch.equal(
        one[0],
        one[people["team"].tolist().index("b" if people["team"][0] == "a" else "a")],
    )


def test_a_value_that_no_training_user_has_leans_on_the_group_around():
    frame = pd.DataFrame(
        {
            "user": np.repeat(np.arange(10), 3),
            "item": np.arange(30) % 4,
            "time": np.arange(30),
        }
    )
    split = split_by_user(Interactions(frame), known=0)
    asked = int(split.test.users[0])
    people = pd.DataFrame(
        {"team": ["a", "b"] * 5, "town": "Rome"}, index=pd.RangeIndex(10, name="user")
    )
    people.loc[asked, "town"] = "Oslo"
    split = split_by_user(Interactions(frame, people), known=0)
    question = Histories.from_lists([[]]), np.array([asked])
    both = ProfilePopularity(split, ("team", "town"), 2.0).score(*question)
    team = ProfilePopularity(split, ("team",), 2.0).score(*question)
    assert torch.equal(both, team)
    assert not torch.equal(
        team, ProfilePopularity(split, ("town",), 2.0).score(*question)
    )


@pytest.mark.parametrize(
    ("columns", "options", "hint"),
    [
        (("age",), {}, r"'age' makes no groups; ask for 'age:quantile'"),
        (("town:words",), {}, r"'town' makes no groups; ask for 'town:category'"),
        (
            ("size",),
            {},
            r"table of users: no column 'size'; its columns are 'team', 'town', 'age'",
        ),
        (("team",), {"smoothing": 0.0}, r"smoothing=0.0 must be above 0"),
        (
            ("team",),
            {"smoothing": float("inf")},
            r"smoothing=inf must be above 0 and finite",
        ),
        (("team",), {"bands": 0}, r"bands=0 at least 1"),
    ],
)
def test_a_profile_that_makes_no_groups_is_one_clear_line(columns, options, hint):
    with pytest.raises(ValueError, match=hint):
        of_people(columns=columns, **options)


def test_a_log_without_a_table_of_users_is_refused_with_the_mend():
    with pytest.raises(
        DataError,
        match=r"need a table of users; give the log one with users= \(--user-table\)$",
    ):
        ProfilePopularity(split_of([[1, 2, 3]]))


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_baseline_keeps_the_scorer_contract(baseline):
    split = with_catalogue(7, [1, 2, 3], [2, 3, 4], [])
    scorer = baseline(split)
    rows = [[1, 2], [], [7], [3, 3, 3, 1, 2, 6, 5]]
    scores = scorer.score(Histories.from_lists(rows), np.arange(4))
    assert scores.dtype == torch.float32
    assert scores.shape == (4, 7)
    assert scores.isfinite().all()
    for row in range(4):
        alone = scorer.score(Histories.from_lists(rows[row : row + 1]))
        # No row depends on who shares the batch.
        assert torch.equal(alone[0], scores[row])
    scores.zero_()
    # What was returned belongs to the caller.
    assert scorer.score(Histories.from_lists(rows)).any()
    assert scorer.score(Histories.from_lists([])).shape == (0, 7)


def test_working_in_parts_changes_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    split = split_of([generator.integers(1, 40, 20) for _ in range(30)])
    whole = [
        baseline(split).score(split.test.histories)
        for baseline in (MarkovChain, PersonalFrequency)
    ]
    monkeypatch.setattr("attncore.baselines.CELLS", 100)
    parts = [
        baseline(split).score(split.test.histories)
        for baseline in (MarkovChain, PersonalFrequency)
    ]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("baseline", [MarkovChain, PersonalFrequency])
@pytest.mark.parametrize("item", [0, -1, 5])
def test_an_item_outside_the_catalogue_is_refused(baseline, item):
    split = with_catalogue(4, [1, 2, 3])
    with pytest.raises(ValueError, match=r"indices are 1\.\.4"):
        baseline(split).score(Histories.from_lists([[1, item]]))


@pytest.mark.parametrize("lags", [0, 11])
def test_lags_out_of_range_are_refused(lags):
    with pytest.raises(ValueError, match=f"lags={lags} must be between 1 and 10"):
        MarkovChain(with_catalogue(3, [1, 2]), lags=lags)


@pytest.mark.parametrize("window", [0, -0.5, 1.5, float("nan")])
def test_a_window_that_is_no_share_is_refused(window):
    with pytest.raises(ValueError, match="window="):
        RecentPopularity(with_catalogue(3, [1, 2]), window=window)


@pytest.fixture(scope="module")
def movielens():
    """MovieLens-100K, leave-one-out; skipped where no source answers, except in CI."""
    from attncore import datasets

    try:
        return leave_one_out(datasets.load("ml-100k"))
    except DataError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("baseline", "options", "holdout", "ndcg", "hits"),
    [
        (Popularity, {}, "valid", 0.0343, 0.0742),
        (Popularity, {}, "test", 0.0442, 0.0859),
        (MarkovChain, {}, "valid", 0.1066, 0.2025),
        (MarkovChain, {}, "test", 0.1033, 0.1972),
        (MarkovChain, {"normalize": True}, "test", 0.1078, 0.1941),
    ],
)
def test_movielens_gives_the_reference_figures(
    movielens, baseline, options, holdout, ndcg, hits
):
    report = evaluate(baseline(movielens, **options), getattr(movielens, holdout))
    # The popularity reference breaks its ties in one order, here they are scored in
    # expectation: a hit apart.
    near, near_hits = (
        (0.00006, 0.00006) if baseline is MarkovChain else (0.0003, 0.0012)
    )
    assert report.metrics["ndcg@10"] == pytest.approx(ndcg, abs=near)
    assert report.metrics["hr@10"] == pytest.approx(hits, abs=near_hits)
    assert (report.users, report.items) == (943, 1682)


def test_movielens_chain_beats_popularity_beyond_chance(movielens):
    chain, popular = (
        evaluate(baseline(movielens), movielens.valid)
        for baseline in (MarkovChain, Popularity)
    )
    found = compare(chain, popular)
    assert found.interval[0] > 0.04
    assert found.p_value < 0.001


def test_ease_solves_one_ridge_regression_per_item():
    split = with_catalogue(5, [1, 2, 3], [2, 3, 2], [1, 4], [5, 3, 1], [2, 4])
    taken = np.zeros((5, 5))
    for row, items in enumerate([[0, 1, 2], [1, 2], [0, 3], [4, 2, 0], [1, 3]]):
        taken[row, items] = 1
    weights = np.zeros((5, 5))
    for item in range(5):
        others = [other for other in range(5) if other != item]
        x = taken[:, others]
        weights[others, item] = np.linalg.solve(
            x.T @ x + 0.5 * np.eye(4), x.T @ taken[:, item]
        )
    found = EASE(split, penalty=0.5).score(Histories.from_lists([[1], [3, 2, 3], []]))
    np.testing.assert_allclose(found[0], weights[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], weights[1] + weights[2], rtol=1e-4, atol=1e-6)
    assert not found[2].any()


def test_ease_refuses_a_penalty_that_leaves_the_regression_open():
    with pytest.raises(ValueError, match=r"penalty=0 must be above 0"):
        EASE(with_catalogue(3, [1, 2]), penalty=0)


# --- asked, saved and loaded like a model
# --------------------------------------------------------------------------------------


def test_a_baseline_recommends_the_best_of_its_scores_by_id():
    split = split_of([[1, 2, 3, 4, 1], [1, 2, 4, 3, 2], [2, 3, 4, 1, 1]])
    chain = MarkovChain(split)
    score = chain.score(split.histories.take(np.array([1])))[0]
    found = chain.recommend(users=[1], k=4, exclude_seen=False)[0]
    ids = split.items.ids.tolist()
    assert found.items == sorted(ids, key=lambda id: -score[ids.index(id)])
    assert found.scores == sorted(score.tolist(), reverse=True)
    assert chain.recommend(users=[1], k=4)[0].items == []  # they took all of it
    assert chain.recommend(histories=[[4]], k=1, exclude=found.items[:1])[0].items


def test_what_a_baseline_learned_is_loaded_and_not_counted_anew(tmp_path, monkeypatch):
    split = split_of([[1, 2, 3, 4, 1], [1, 2, 4, 3, 2], [2, 3, 4, 1, 1]])
    chain = MarkovChain(split, lags=2, normalize=True)
    chain.save(tmp_path, {"data": {"name": "rows"}})
    monkeypatch.setattr(MarkovChain, "_matrix", None)
    again = attncore.load(tmp_path)
    assert type(again) is MarkovChain
    assert (again.lags, again.normalize) == (2, True)
    assert torch.equal(again.score(split.histories), chain.score(split.histories))
    assert again.recommend(users=[0, 2], k=3) == chain.recommend(users=[0, 2], k=3)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"kind": "Oracle"}, "Oracle"),
        ({"lags": 99}, "lags=99 must be between 1 and 10"),
        ({"depth": 3}, "depth"),
    ],
)
def test_a_folder_that_holds_no_such_baseline_is_refused_in_one_line(
    tmp_path, change, hint
):
    MarkovChain(split_of([[1, 2, 3, 4], [2, 3, 1, 4]])).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["baseline"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=f"does not hold a baseline .*{hint}") as error:
        attncore.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_chain_of_another_catalogue_is_refused(tmp_path):
    small, large = (split_of([[*range(1, n)]] * 2) for n in (6, 9))
    with pytest.raises(ValueError, match=r"starts has the shape \(6,\)"):
        MarkovChain(large, learned=MarkovChain(small).learned)


def test_a_run_folder_of_a_baseline_works_on_the_command_line(tmp_path, capsys):
    split = split_of([[1, 2, 3, 4, 1], [1, 2, 4, 3, 2], [2, 3, 4, 1, 1]])
    chain = MarkovChain(split)
    chain.save(tmp_path)
    main(["recommend", str(tmp_path), "--history", "1", "2", "-k", "1", "--json"])
    expected = chain.recommend(histories=[[1, 2]], k=1)[0]
    told = json.loads(capsys.readouterr().out)
    assert told == {"items": expected.items, "scores": expected.scores}
    main(["evaluate", str(tmp_path), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["attention"] == "MarkovChain"
    assert told["metrics"] == evaluate(chain, split.test).metrics
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path)])
    assert "a MarkovChain has no ONNX form" in capsys.readouterr().err
