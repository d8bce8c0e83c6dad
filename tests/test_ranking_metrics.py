import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shop import shop_log

import attncore as ac
from attncore.evaluation import by_group, pooled_auc
from attncore.ranking.baselines import PersonalHabit, PopularLately
from attncore.ranking.metrics import logistic_loss, slate_metrics


def by_hand(order, taken, k):
    """NDCG, recall and AUC of one order of the candidates."""
    places = [order.index(t) + 1 for t in taken]
    gain = sum(1 / math.log2(1 + p) for p in places if p <= k)
    best = sum(1 / math.log2(1 + p) for p in range(1, min(k, len(taken)) + 1))
    others = [c for c in order if c not in taken]
    pairs = [(t, o) for t in taken for o in others]
    won = sum(order.index(t) < order.index(o) for t, o in pairs)
    return (
        gain / best,
        sum(p <= k for p in places) / len(taken),
        won / len(pairs) if pairs else 0.5,
    )


@given(
    st.lists(st.integers(0, 2), min_size=2, max_size=6).flatmap(
        lambda s: st.tuples(
            st.just(s),
            st.sets(st.integers(0, len(s) - 1), min_size=1),
            st.integers(1, 7),
        )
    )
)
def test_metrics_are_means_over_all_orders_of_equal_scores(case):
    scores, taken, k = case
    orders = [
        p
        for p in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(p))
    ]
    expected = np.mean(
        [by_hand(list(order), sorted(taken), k) for order in orders], axis=0
    )
    found = slate_metrics(np.array(scores), np.array(sorted(taken)), [k])
    assert [found[f"ndcg@{k}"], found[f"recall@{k}"], found["gauc"]] == pytest.approx(
        expected.tolist()
    )


def test_a_constant_scorer_earns_chance():
    found = slate_metrics(np.zeros(50), np.array([3, 9]), [10])
    assert found["recall@10"] == pytest.approx(0.2)
    assert found["gauc"] == pytest.approx(0.5)


def test_the_logistic_loss_is_that_of_the_probabilities():
    scores, taken = np.array([2.0, -1.0, 0.0]), np.array([0])
    probability = 1 / (1 + np.exp(-scores))
    expected = -np.mean(
        [np.log(probability[0]), np.log(1 - probability[1]), np.log(1 - probability[2])]
    )
    assert logistic_loss(scores, taken) == pytest.approx(expected)
    assert np.isfinite(logistic_loss(np.array([1e4, -1e4]), np.array([1])))


def test_the_pooled_auc_counts_pairs_across_slates():
    scores, taken = np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, False, True, False])
    assert pooled_auc(scores, taken) == pytest.approx((2 + 1.5) / 4)


class Backwards:
    """Scores a slate's candidates by their place, the last highest."""

    def score_slate(self, slates, row):
        where = slates.list_of(row)
        return np.arange(where.stop - where.start)


@pytest.fixture(scope="module")
def split():
    return ac.split_by_time(shop_log(), valid=0.2, test=0.2)


def test_every_user_counts_alike(split):
    report = ac.evaluate(Backwards(), split.test, k=10)
    slates, rows = split.test.slates, {}
    for row in range(len(slates)):
        where = slates.list_of(row)
        found = slate_metrics(
            np.arange(where.stop - where.start), slates.clicked_of(row), [10]
        )
        rows.setdefault(slates.users[row], []).append(found["ndcg@10"])
    assert report.per_user["ndcg@10"] == pytest.approx(
        [np.mean(rows[user]) for user in sorted(rows)]
    )
    assert report.users == len(rows)
    assert report.metrics["ndcg@10"] == pytest.approx(report.per_user["ndcg@10"].mean())
    low, high = report.interval["gauc"]
    assert low < report.metrics["gauc"] < high
    # No logits, no loss.
    assert set(report.metrics) == {
        "ndcg@10",
        "recall@10",
        "gauc",
        "auc",
    }


def test_reports_of_slates_can_be_compared(split):
    habit, week = (
        ac.evaluate(scorer, split.test) for scorer in (PersonalHabit(), PopularLately())
    )
    found = ac.compare(habit, week, "gauc")
    assert found.difference == pytest.approx(
        habit.metrics["gauc"] - week.metrics["gauc"]
    )
    assert found.interval[0] > 0
    with pytest.raises(ValueError, match="different questions"):
        ac.compare(habit, ac.evaluate(PersonalHabit(), split.valid))


def test_groups_part_the_users(split):
    report = ac.evaluate(PersonalHabit(), split.test)
    groups = [f"kind {user % 5}" for user in np.unique(split.test.users)]
    found = by_group(report, groups, "gauc")
    assert sorted(found) == [f"kind {n}" for n in range(5)]
    mean = sum(found[name][0] * groups.count(name) for name in found) / report.users
    assert mean == pytest.approx(report.metrics["gauc"])
    with pytest.raises(ValueError, match="need one group for each"):
        by_group(report, groups[1:], "gauc")


@pytest.mark.parametrize(
    ("scores", "hint"),
    [
        (lambda n: np.zeros(n + 1), "shape"),
        (lambda n: np.full(n, np.nan), "NaN"),
        (lambda n: np.zeros((n, 1)), "shape"),
    ],
)
def test_scores_that_are_none_are_refused(split, scores, hint):
    class Wrong:
        def score_slate(self, slates, row):
            where = slates.list_of(row)
            return scores(where.stop - where.start)

    with pytest.raises(
        ValueError, match=rf"Wrong.score_slate: \d+ numbers, not {hint}"
    ):
        ac.evaluate(Wrong(), split.test)


def test_what_cannot_rank_slates_is_refused(split):
    with pytest.raises(ValueError, match="Popularity cannot rank slates"):
        ac.evaluate(ac.baselines.Popularity(split), split.test)


def test_habit_counts_what_was_taken_before_the_moment_alone(split):
    slates = split.test.slates
    for row in range(0, len(slates), 9):
        items = slates.items[slates.list_of(row)]
        past = split.test.histories[row]
        own = np.array([(past == item).sum() for item in items])
        week = slates.count_lately(items, slates.times[row], 7)
        scores = PersonalHabit().score_slate(slates, row)
        order = np.lexsort((week, own))
        assert (np.diff(scores[order]) >= 0).all()
        same = (np.diff(own[order]) == 0) & (np.diff(week[order]) == 0)
        assert ((np.diff(scores[order]) == 0) == same).all()


def test_a_baseline_made_without_a_log_is_measured_but_not_asked(split, tmp_path):
    ac.evaluate(PopularLately(), split.test, bootstrap=0)
    for ask in (lambda b: b.recommend(users=[1]), lambda b: b.save(tmp_path)):
        with pytest.raises(ValueError, match="PopularLately: knows no log"):
            ask(PopularLately())
