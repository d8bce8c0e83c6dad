"""Facts about `attncore.evaluation`, held against an independent
slow reference."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attncore as ac
from attncore import baselines
from attncore.evaluation import (
    bootstrap_interval,
    compare,
    evaluate,
    rank_metrics,
    ranks,
    rows_at_once,
    top_k,
    top_k_in_parts,
)
from attncore.sequences import Histories
from attncore.splits import Holdout


class Fixed:
    """A scorer that returns the rows of a matrix, by user."""

    def __init__(self, scores, logits=False):
        self.scores = torch.as_tensor(scores)
        self.scores_are_logits = logits

    def score(self, histories, users=None):
        return self.scores[torch.as_tensor(users)]


def holdout(histories, targets, items, exclude_seen=True, counts=None, **protocol):
    return Holdout(
        name="test",
        histories=Histories.from_lists(histories),
        users=np.arange(len(targets)),
        targets=np.asarray(targets, np.int32),
        item_counts=(
            np.ones(items, np.int64) if counts is None else np.asarray(counts, np.int64)
        ),
        exclude_seen=exclude_seen,
        protocol={"split": "leave-one-out"} | protocol,
    )


def slow_metrics(scores, history, target, k, exclude_seen=True):
    """hr, ndcg and mrr of one user: every order of the tied items is tried, and the
    results averaged. A target that lists hide has none."""
    seen = set(history) if exclude_seen else set()
    if target in seen:
        return {f"hr@{k}": 0, f"ndcg@{k}": 0, "mrr": 0}
    candidates = [item for item in range(1, len(scores) + 1) if item not in seen]
    above = [item for item in candidates if scores[item - 1] > scores[target - 1]]
    tied = [item for item in candidates if scores[item - 1] == scores[target - 1]]
    places = [
        len(above) + 1 + order.index(target) for order in itertools.permutations(tied)
    ]
    mean = lambda values: sum(values) / len(places)  # noqa: E731
    return {
        f"hr@{k}": mean([place <= k for place in places]),
        f"ndcg@{k}": mean(
            [1 / math.log2(1 + place) if place <= k else 0 for place in places]
        ),
        "mrr": mean([1 / place for place in places]),
    }


@st.composite
def questions(draw, levels=3):
    """A few users with short histories and coarse scores, so that ties abound."""
    size, users = draw(st.integers(2, 7)), draw(st.integers(1, 5))
    item = st.integers(1, size)
    histories = [draw(st.lists(item, max_size=6)) for _ in range(users)]
    targets = [draw(item) for _ in range(users)]
    row = st.lists(st.integers(-levels, levels), min_size=size, max_size=size)
    scores = [draw(row) for _ in range(users)]
    return histories, targets, np.array(scores, np.float32)


@given(questions(), st.integers(1, 9), st.booleans())
@settings(deadline=None)
def test_metrics_equal_the_average_over_every_order_of_ties(question, k, exclude_seen):
    histories, targets, scores = question
    asked = holdout(histories, targets, scores.shape[1], exclude_seen)
    report = evaluate(Fixed(scores), asked, k=k, batch_size=2, bootstrap=0)
    for user, (history, target) in enumerate(zip(histories, targets, strict=True)):
        for name, value in slow_metrics(
            scores[user], history, target, k, exclude_seen
        ).items():
            assert report.per_user[name][user] == pytest.approx(value, abs=1e-12), name


def test_metrics_equal_a_hand_worked_example():
    # Seven items. User 0 saw 1 and 2; of 3..7 the target 5 is beaten by 3 alone: place
    # 2. User 1 saw 7; the target 1 shares the top with 2 and 3: places 1, 2 and 3
    # alike.
    scores = np.array([[9, 8, 7, 1, 6, 2, 3], [5, 5, 5, 4, 3, 2, 9]], np.float32)
    report = evaluate(Fixed(scores), holdout([[1, 2], [7]], [5, 1], 7), k=(1, 2))
    assert report.per_user["hr@1"] == pytest.approx([0, 1 / 3])
    assert report.per_user["hr@2"] == pytest.approx([1, 2 / 3])
    assert report.per_user["ndcg@2"] == pytest.approx(
        [1 / math.log2(3), (1 + 1 / math.log2(3)) / 3]
    )
    assert report.per_user["mrr"] == pytest.approx([1 / 2, (1 + 1 / 2 + 1 / 3) / 3])
    assert report.metrics["hr@2"] == pytest.approx(5 / 6)


@given(st.integers(2, 40), st.integers(0, 30), st.integers(1, 50), st.integers(0, 999))
@settings(deadline=None)
def test_a_constant_scorer_gets_k_over_the_number_of_candidates(items, seen, k, seed):
    order = np.random.default_rng(seed).permutation(items) + 1
    history, target = order[1 : seen + 1], order[0]
    report = evaluate(
        Fixed(np.zeros((1, items), np.float32)),
        holdout([history], [target], items),
        k=k,
        bootstrap=0,
    )
    assert report.metrics[f"hr@{k}"] == pytest.approx(
        min(1, k / (items - len(history)))
    )


@given(questions(levels=20))
@settings(deadline=None)
def test_a_rising_transform_of_the_scores_changes_nothing(question):
    histories, targets, scores = question
    asked = holdout(histories, targets, scores.shape[1])
    before = evaluate(Fixed(scores), asked, k=(1, 3), bootstrap=0)
    after = evaluate(Fixed(np.exp(scores / 4) * 3 - 7), asked, k=(1, 3), bootstrap=0)
    assert before.metrics == after.metrics


def test_the_seen_filter_covers_the_whole_history_however_long():
    items, seen = 2000, 1500
    # All that was seen stands above the target.
    scores = np.arange(items, 0, -1, dtype=np.float32)[None]
    asked = holdout([np.arange(1, seen + 1)], [seen + 1], items)
    report = evaluate(Fixed(scores), asked, k=1)
    assert report.metrics["hr@1"] == 1
    assert report.metrics["coverage@1"] == 1 / items


def test_a_target_that_lists_hide_scores_0_is_counted_and_told(caplog):
    scores = np.array([[3.0, 2, 1], [3, 2, 1]], np.float32)
    asked = holdout([[1, 2], [1]], [2, 2], 3, counts=[4, 2, 2])
    report = evaluate(Fixed(scores), asked, k=(1, 3))
    assert report.per_user["hr@3"].tolist() == [0, 1]
    assert report.per_user["mrr"].tolist() == [0, 1]
    assert report.lists.tolist() == [[3, 0, 0], [2, 3, 0]]
    assert report.protocol["targets_hidden"] == 1
    assert "test: 1 of 2 targets are hidden from lists and score 0" in caplog.text
    caplog.clear()
    open_to_all = evaluate(
        Fixed(scores), holdout([[1, 2], [1]], [2, 2], 3, exclude_seen=False)
    )
    assert open_to_all.protocol["targets_hidden"] == 0
    assert not caplog.text


def test_repeats_are_candidates_when_the_log_allows_them():
    asked = holdout([[1, 2]], [3], 3, exclude_seen=False)
    report = evaluate(Fixed(np.array([[3.0, 2, 1]], np.float32)), asked, k=(1, 3))
    assert report.metrics["hr@1"] == 0
    assert report.metrics["mrr"] == pytest.approx(1 / 3)


def test_what_scores_minus_infinity_is_never_shown_and_so_no_hit():
    scores = np.array([[-np.inf, -np.inf, -np.inf, 1.0]], np.float32)
    report = evaluate(Fixed(scores), holdout([[1, 2]], [3], 4), k=(1, 2))
    assert report.lists.tolist() == [[4, 0]]
    assert report.per_user["mrr"].tolist() == [0]


def test_excluded_and_refused_items_are_never_shown():
    scores = np.array([[9, 8, -np.inf, 1, 0]], np.float32)
    report = evaluate(
        Fixed(scores), holdout([[1, 2]], [5], 5, counts=[1, 1, 1, 8, 5]), k=4
    )
    assert report.metrics["coverage@4"] == 2 / 5  # items 4 and 5 alone
    assert report.metrics["novelty@4"] == pytest.approx(
        (math.log2(16 / 8) + math.log2(16 / 5)) / 2
    )


def test_coverage_and_novelty_equal_a_hand_worked_example():
    scores = np.array([[4, 3, 2, 1], [4, 1, 3, 2]], np.float32)
    report = evaluate(
        Fixed(scores), holdout([[], []], [1, 1], 4, counts=[8, 4, 4, 0]), k=(1, 2, 9)
    )
    assert [report.metrics[f"coverage@{k}"] for k in (1, 2, 9)] == [1 / 4, 3 / 4, 1]
    assert report.metrics["novelty@1"] == pytest.approx(1)
    assert report.metrics["novelty@2"] == pytest.approx(1.5)
    # Never seen counts as once.
    assert report.metrics["novelty@9"] == pytest.approx((1 + 2 + 2 + 4) / 4)


def test_loss_is_over_the_whole_catalogue_and_only_for_logits():
    scores = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    asked = holdout([[1, 2], [3], []], [4, 5, 6], 6)
    expected = [
        -math.log(row.exp()[t] / row.exp().sum())
        for row, t in zip(scores.double(), (3, 4, 5), strict=True)
    ]
    assert evaluate(Fixed(scores, logits=True), asked).per_user[
        "loss"
    ] == pytest.approx(expected, rel=1e-6)
    assert "loss" not in evaluate(Fixed(scores), asked).metrics


@given(questions(), st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_nothing_depends_on_the_batch_size(question, batch_size):
    histories, targets, scores = question
    asked = holdout(histories, targets, scores.shape[1])
    whole = evaluate(Fixed(scores, logits=True), asked, k=(1, 3), bootstrap=10)
    parts = evaluate(
        Fixed(scores, logits=True), asked, k=(1, 3), bootstrap=10, batch_size=batch_size
    )
    assert parts.metrics == pytest.approx(whole.metrics, rel=1e-6)
    assert {"hr@1", "ndcg@3", "mrr", "novelty@3", "loss"} <= set(parts.interval)


def test_rows_are_scored_together_as_the_catalogue_allows():
    class Counting(Fixed):
        def score(self, histories, users=None):
            asked.append(len(users))
            return super().score(histories, users)

    for items, at_once in ((40, 1024), (200_000, 41)):
        asked, rows = [], 1100 if items == 40 else 60
        questions = holdout([[1]] * rows, [2] * rows, items)
        row = torch.rand(1, items, generator=torch.Generator().manual_seed(items))
        scorer = Counting(row.expand(rows, -1))
        found = evaluate(scorer, questions, bootstrap=0)
        assert asked == [at_once, rows - at_once]
        whole = evaluate(scorer, questions, bootstrap=0, batch_size=rows)
        assert found.metrics == whole.metrics
    assert rows_at_once(200_000, "cuda") == 1024
    assert rows_at_once(10**9, "cpu") == 1


def test_scores_are_never_written_to():
    scores = torch.arange(6.0).repeat(2, 1)

    class Shared:
        def score(self, histories, users=None):
            return scores

    evaluate(Shared(), holdout([[1, 2], [3]], [4, 5], 6))
    assert torch.equal(scores, torch.arange(6.0).repeat(2, 1))


def test_an_expanded_row_of_scores_is_accepted():
    class Row:
        def score(self, histories, users=None):
            return torch.arange(4.0).expand(len(histories), 4)

    assert evaluate(Row(), holdout([[4], [1]], [3, 4], 4), k=1).metrics["hr@1"] == 1


def test_bfloat16_scores_are_ranked_and_reported_in_float32():
    scores = torch.randn(50, 300, generator=torch.Generator().manual_seed(1)).bfloat16()
    asked = holdout([[1]] * 50, np.arange(2, 52), 300)
    low, full = (
        evaluate(Fixed(scores, logits=True), asked),
        evaluate(Fixed(scores.float(), logits=True), asked),
    )
    assert low.metrics == full.metrics


def test_counts_above_the_target_are_exact_under_autocast():
    scores = torch.zeros(1, 1001)
    scores[0, 1:] = 1  # a bfloat16 sum of 1000 ones stops at 256
    with torch.autocast("cpu", dtype=torch.bfloat16):
        above, tied = ranks(scores, torch.tensor([1]))
    assert (above.item(), tied.item()) == (1000, 1)


def test_float64_scores_that_float32_cannot_tell_apart_are_tied():
    above, tied = ranks(
        torch.tensor([[1.0, 1.0 + 1e-12]], dtype=torch.float64), torch.tensor([1])
    )
    assert (above.item(), tied.item()) == (0, 2)


def test_scores_that_bfloat16_cannot_tell_apart_are_not_tied():
    above, tied = ranks(torch.tensor([[1.0, 1.001, 0.999]]), torch.tensor([1]))
    assert (above.item(), tied.item()) == (1, 1)


def test_ranks_count_what_stands_above_and_what_is_level():
    scores = torch.tensor([[5.0, 3, 3, 1, 3], [1, 2, 3, 4, 5]])
    excluded = torch.tensor(
        [[False, True, False, False, False], [False, False, True, False, True]]
    )
    above, tied = ranks(scores, torch.tensor([3, 3]), excluded)
    assert above.tolist() == [1, 1]
    assert tied.tolist() == [2, 1]  # the target counts, excluded or not
    above, tied = ranks(scores, torch.tensor([3, 3]))
    assert (above.tolist(), tied.tolist()) == ([1, 2], [3, 1])


def test_metrics_of_large_ties_equal_plain_sums():
    above, tied, k = 7, 5000, 20
    places = np.arange(above + 1, above + tied + 1)
    found = rank_metrics(np.array([above]), np.array([tied]), k)
    assert found["hr@20"][0] == pytest.approx(np.mean(places <= k))
    assert found["ndcg@20"][0] == pytest.approx(
        np.mean((places <= k) / np.log2(1 + places))
    )
    assert found["mrr"][0] == pytest.approx(np.mean(1 / places))


def slow_top_k(row, k):
    order = sorted(range(len(row)), key=lambda column: (-row[column], column))[:k]
    return [row[column] for column in order], order


@given(
    st.integers(1, 4),
    st.integers(1, 60),
    st.integers(1, 70),
    st.integers(1, 8),
    st.integers(0, 999),
)
@settings(deadline=None)
def test_top_k_breaks_ties_by_the_lowest_column(rows, items, k, levels, seed):
    scores = torch.randint(
        levels, (rows, items), generator=torch.Generator().manual_seed(seed)
    ).float()
    scores[scores == 0] = -torch.inf
    values, columns = top_k(scores, k)
    for row in range(rows):
        assert (values[row].tolist(), columns[row].tolist()) == slow_top_k(
            scores[row].tolist(), k
        )


@given(
    st.integers(0, 3),
    st.integers(2000, 3000),
    st.sampled_from([2, 30, 10**6]),
    st.integers(0, 999),
)
@settings(deadline=None, max_examples=40)
def test_top_k_of_a_wide_catalogue_equals_a_full_sort(k, items, levels, seed):
    scores = torch.randint(
        levels, (3, items), generator=torch.Generator().manual_seed(seed)
    ).float()
    scores[1] = -torch.inf
    scores[2, :-2] = -torch.inf  # the best stand in the last block, which is not full
    values, columns = top_k(scores, k + 1)
    for row in range(3):
        assert (values[row].tolist(), columns[row].tolist()) == slow_top_k(
            scores[row].tolist(), k + 1
        )


@given(
    st.integers(1, 3),
    st.integers(1, 60),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 8),
    st.integers(0, 99),
)
def test_top_k_in_parts_equals_top_k_ties_included(rows, items, k, part, levels, seed):
    scores = torch.randint(
        levels, (rows, items), generator=torch.Generator().manual_seed(seed)
    ).float()
    whole = top_k(scores, k)
    found = top_k_in_parts(lambda part: scores[:, part], items, k, part)
    assert all(torch.equal(a, b) for a, b in zip(found, whole, strict=True))


def test_top_k_of_constant_scores_is_the_first_k_columns():
    for items in (50, 100_000):
        assert top_k(torch.zeros(2, items), 10)[1].tolist() == [list(range(10))] * 2


@pytest.mark.parametrize("items", [10, 100_000])
def test_top_k_refuses_nan(items):
    scores = torch.zeros(2, items)
    scores[1, 7] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        top_k(scores, 3)


@pytest.mark.parametrize("k", [0, -1])
def test_top_k_refuses_an_empty_list(k):
    with pytest.raises(ValueError, match="k >= 1"):
        top_k(torch.zeros(1, 3), k)


def test_the_interval_of_one_value_is_that_value():
    low, high = bootstrap_interval(np.full(40, 0.3))
    assert (low, high) == (pytest.approx(0.3), pytest.approx(0.3))


def test_the_interval_has_the_width_of_the_standard_error():
    values = np.random.default_rng(0).normal(5, 2, 4000)
    low, high = bootstrap_interval(values, resamples=4000)
    error = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_the_interval_depends_on_the_seed_alone():
    values = np.random.default_rng(0).random((200, 3))
    first, again, other = (bootstrap_interval(values, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_resampling_in_parts_draws_every_user_equally_often():
    users = 3_000_000  # one resample at a time
    low, high = bootstrap_interval(np.arange(users) / users, resamples=3)
    assert 0.499 < low <= high < 0.501


def report_of(values, **protocol):
    asked = holdout([[]] * len(values), [1] * len(values), 2, **protocol)
    report = evaluate(
        Fixed(np.zeros((len(values), 2), np.float32)), asked, k=10, bootstrap=0
    )
    return replace(report, per_user={"ndcg@10": np.asarray(values, np.float64)})


def test_a_report_compared_with_itself_differs_by_nothing():
    report = report_of(np.random.default_rng(0).random(100))
    found = compare(report, report)
    assert (found.difference, found.interval, found.p_value) == (0, (0, 0), 1)


def test_comparing_is_paired():
    # Users differ far more than the scorers do.
    base = np.random.default_rng(0).normal(0, 10, 300)
    found = compare(report_of(base + 0.1), report_of(base))
    assert found.difference == pytest.approx(0.1)
    assert found.interval == pytest.approx((0.1, 0.1))
    assert found.p_value == pytest.approx(2 / 10_001)


def test_swapping_the_sides_turns_the_sign():
    generator = np.random.default_rng(0)
    a, b = report_of(generator.random(80)), report_of(generator.random(80))
    there, back = compare(a, b), compare(b, a)
    assert there.difference == -back.difference
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert there.p_value == back.p_value


@pytest.mark.parametrize("shift", [0.15, 0.05])
def test_the_p_value_agrees_with_a_normal_test(shift):
    difference = np.random.default_rng(3).normal(shift, 1, 400)
    z = difference.mean() / difference.std() * math.sqrt(len(difference))
    found = compare(report_of(difference), report_of(np.zeros(400)))
    assert found.p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=0.01)


def test_seeds_are_averaged_for_each_user_first():
    a, b, c = (
        [report_of(row) for row in np.random.default_rng(s).random((3, 50))]
        for s in range(3)
    )
    mean = report_of(np.mean([report.per_user["ndcg@10"] for report in a], axis=0))
    several, one = compare(a, c[0]), compare(mean, c[0])
    assert several.difference == pytest.approx(one.difference)
    assert several.interval == pytest.approx(one.interval)
    assert several.seeds == (3, 1)
    assert "tendency" in str(one)
    assert "tendency" not in str(several)
    assert "tendency" not in str(compare(a, b))


def test_reports_of_other_questions_are_refused():
    base = report_of([0.1, 0.2, 0.3])
    others = [
        report_of([0.1, 0.2]),
        report_of([0.1, 0.2, 0.3], fold=1),
        replace(base, split="valid"),
    ]
    asked = replace(holdout([[]] * 3, [1] * 3, 2), users=np.array([0, 1, 1]))
    others.append(evaluate(Fixed(np.zeros((3, 2), np.float32)), asked, k=10))
    for other in others:
        with pytest.raises(
            ValueError, match=r"different questions .*one holdout"
        ) as error:
            compare(base, other)
        assert "\n" not in str(error.value)


def test_the_bootstrap_of_a_report_does_not_stop_a_comparison():
    asked = holdout([[], []], [1, 2], 2)
    a = evaluate(Fixed(np.eye(2, dtype=np.float32)), asked, bootstrap=0)
    b = evaluate(Fixed(1 - np.eye(2, dtype=np.float32)), asked, bootstrap=50, seed=7)
    assert compare(a, b, metric="hr@1").difference == 1


def test_a_metric_that_is_not_there_is_named_with_those_that_are():
    report = report_of([0.1])
    with pytest.raises(ValueError, match=r"'hr@7'.*ndcg@10"):
        compare(report, report, metric="hr@7")
    with pytest.raises(ValueError, match="at least one report"):
        compare([], report)


def test_a_report_becomes_plain_json_and_readable_lines():
    asked = holdout([[1], [2]], [3, 3], 3)
    report = evaluate(
        Fixed(np.array([[1, 2, 3], [1, 2, 3]], np.float32)),
        asked,
        k=(1, 10),
        bootstrap=20,
        seed=4,
    )
    found = json.loads(json.dumps(report.to_json()))
    assert (found["split"], found["users"], found["items"]) == ("test", 2, 3)
    assert found["metrics"]["hr@1"] == 1
    assert found["interval"]["ndcg@10"] == [1, 1]
    assert found["protocol"]["split"] == "leave-one-out"
    assert found["protocol"]["bootstrap"] == {"resamples": 20, "seed": 4}
    assert "hr@1        1.0000 [1.0000, 1.0000]" in str(report).splitlines()
    assert set(report.metrics) - set(report.interval) == {"coverage@1", "coverage@10"}
    assert (
        evaluate(Fixed(np.zeros((2, 3), np.float32)), asked, bootstrap=0).interval == {}
    )


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.zeros(2, 4), r"shape \(2, 4\).*shape \(2, 3\)"),
        (torch.zeros(1, 3), r"shape \(1, 3\).*shape \(2, 3\)"),
        (np.zeros((2, 3)), "ndarray of shape"),
        (torch.tensor([[1.0, 2, 3], [1, torch.nan, 3]]), "NaN"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused_in_one_line(scores, message):
    class Broken:
        def score(self, histories, users=None):
            return scores

    with pytest.raises(ValueError, match=message) as error:
        evaluate(Broken(), holdout([[1], [2]], [3, 3], 3))
    assert "Broken.score" in str(error.value)
    assert "\n" not in str(error.value)


def test_nan_is_refused_even_where_the_item_is_excluded():
    with pytest.raises(ValueError, match="NaN"):
        evaluate(Fixed(np.array([[np.nan, 1, 2]], np.float32)), holdout([[1]], [2], 3))


@pytest.mark.parametrize("k", [0, (), (5, -1)])
def test_a_wrong_k_is_refused(k):
    with pytest.raises(ValueError, match="whole numbers from 1"):
        evaluate(Fixed(np.zeros((1, 3), np.float32)), holdout([[1]], [2], 3), k=k)


def test_an_empty_holdout_and_an_empty_batch_are_refused():
    with pytest.raises(ValueError, match="0 questions of test"):
        evaluate(Fixed(np.zeros((0, 3), np.float32)), holdout([], [], 3))
    with pytest.raises(ValueError, match="0 at a time"):
        evaluate(
            Fixed(np.zeros((1, 3), np.float32)), holdout([[1]], [2], 3), batch_size=0
        )
    with pytest.raises(ValueError, match="bootstrap of 0 users"):
        bootstrap_interval(np.zeros(0))


# --- what is measured is what is served
# --------------------------------------------------------------------------------------


SERVED = {
    **{
        kind: lambda split, kind=kind: ac.Recommender(
            ac.RecommenderConfig(attention=kind, width=8, heads=2, blocks=1, length=6),
            split,
        )
        for kind in ("self", "target", "lstm", "mean")
    },
    "popularity": baselines.Popularity,
    "recent popularity": baselines.RecentPopularity,
    "personal frequency": baselines.PersonalFrequency,
    "chain": baselines.MarkovChain,
    "EASE": baselines.EASE,
}


@st.composite
def logs(draw):
    """A log of some users, who may take things again, declared or not."""
    users, items = draw(st.integers(2, 6)), draw(st.integers(3, 9))
    item = st.integers(100, 99 + items)
    rows = [draw(st.lists(item, min_size=3, max_size=12)) for _ in range(users)]
    events = [(u, i, t) for u, row in enumerate(rows) for t, i in enumerate(row)]
    frame = pd.DataFrame(events, columns=["user", "item", "time"])
    return ac.Interactions.from_frame(frame, repeats=draw(st.booleans()))


@pytest.mark.parametrize("kind", SERVED)
@given(log=logs(), k=st.integers(1, 10), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_the_hits_that_are_measured_are_those_of_the_lists_that_are_served(
    kind, log, k, seed
):
    """To the last one, where the target's score is no other's; where it is, the share
    is between 0 and 1."""
    split = ac.leave_one_out(log)
    torch.manual_seed(seed)
    model = SERVED[kind](split)
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            for weights in model.parameters():
                weights.add_(torch.randn(weights.shape))
    for asked in (split.valid, split.test):
        report = ac.evaluate(model, asked, k=k, bootstrap=0)
        ids = [split.items.decode(row).tolist() for row in rows_of(asked.histories)]
        lists = model.recommend(histories=ids, k=k)
        scores = model.score(asked.histories).numpy()
        for row, target in enumerate(asked.targets):
            found = lists[row].items
            shown = split.items.decode(report.lists[row][report.lists[row] > 0])
            gap = np.abs(scores[row] - scores[row, target - 1])
            if (gap < 1e-4).sum() == 1:
                hit = split.items.decode(target) in found
                assert report.per_user[f"hr@{k}"][row] == hit
            assert len(found) == len(shown)
            near = np.sort(scores[row])
            if len(near) < 2 or np.diff(near).min() > 1e-4:
                assert found == shown.tolist()


def rows_of(histories):
    return [histories[row] for row in range(len(histories))]


@pytest.mark.parametrize(
    ("how", "hint"),
    [
        ({"k": 2.5}, r"k=2.5: must be one or more whole numbers from 1 up"),
        ({"k": "10"}, "k='10': must be one or more whole numbers"),
        ({"k": [1, "x"]}, "must be one or more whole numbers"),
        ({"k": []}, "must be one or more whole numbers"),
        ({"k": None}, "must be one or more whole numbers"),
        ({"k": True}, "must be one or more whole numbers"),
        ({"batch_size": 0}, "0 at a time"),
        ({"bootstrap": -1}, "with -1 resamples"),
    ],
    ids=str,
)
def test_a_wrong_way_to_evaluate_is_one_line(split, how, hint):
    chain = baselines.MarkovChain(split)
    with pytest.raises(ValueError, match=hint):
        evaluate(chain, split.test, **how)


def test_what_is_no_part_of_a_split_no_scorer_and_no_report_is_told(split):
    chain = baselines.MarkovChain(split)
    with pytest.raises(ValueError, match=r"cannot ask a Split: give split\.test"):
        evaluate(chain, split)
    with pytest.raises(ValueError, match="cannot evaluate a dict: it has no score"):
        evaluate({}, split.test)
    report = evaluate(chain, split.test)
    for a in (None, 5, [], [None], "x"):
        with pytest.raises(ValueError, match="report"):
            compare(a, report)


def test_the_batch_follows_the_catalogue(split):
    """A million items are ranked eight questions at a time."""
    asked, sizes = holdout([[]] * 20, [1] * 20, 1_000_000), []

    class Wide:
        def score(self, histories, users=None):
            sizes.append(len(histories))
            return torch.zeros(1, 1).expand(len(histories), 1_000_000)

    evaluate(Wide(), asked, bootstrap=0)
    assert max(sizes) == 8


# --- whom it serves, and what the lists are like
# --------------------------------------------------------------------------------------


def styled_split():
    """Five users; item 100 is taken by all, 105 once, and 106 by nobody in training."""
    rows = {
        1: [100, 101, 102],
        2: [100, 102, 103, 101, 104, 100, 101],
        3: [100, 101, 102, 103, 104, 101, 100, 102],
        4: [100, 104, 103, 102, 101, 100, 104, 103, 102, 105, 100, 106],
        5: [100, 101, 105, 102, 100],
    }
    events = [(u, i, t) for u, row in rows.items() for t, i in enumerate(row)]
    frame = pd.DataFrame(events, columns=["user", "item", "time"])
    styles = [("a",), ("a", "b"), ("b",), "c", None, ("a", "b"), ("c",)]
    items = pd.DataFrame({"item": range(100, 107), "style": styles})
    log = ac.Interactions.from_frame(frame, items=items, repeats=True)
    return ac.leave_one_out(log)


def test_segments_are_counted_by_hand_and_their_means_make_the_whole():
    split = styled_split()
    report = ac.evaluate(baselines.Popularity(split), split.test, k=(1, 3, 10))
    table = ac.segments(report, split, "hr@3", head=0.2)
    # Known when asked: 2, 6, 7, 11 and 4 events; the median of 6, 7 and 11 is 7.
    of_user = table[table.by == "user"].set_index("segment").users.to_dict()
    assert of_user == {"new": 2, "light": 2, "heavy": 1}
    # One item in seven is the head, 100; targets are 102, 101, 102, 106 and 100.
    of_item = table[table.by == "item"].set_index("segment").users.to_dict()
    assert of_item == {"new": 1, "head": 1, "tail": 3}
    for _, part in table.groupby("by"):
        whole = (part["mean"] * part.users).sum() / part.users.sum()
        assert whole == pytest.approx(report.metrics["hr@3"])
        assert (part.low <= part["mean"]).all()
        assert (part["mean"] <= part.high).all()


def test_diversity_and_calibration_equal_a_hand_worked_example():
    split = styled_split()
    report = ac.evaluate(baselines.Popularity(split), split.test, k=3)
    lists = np.tile(np.array([[1, 2, 5]], np.int32), (5, 1))  # 100, 101, 104
    report = ac.list_metrics(replace(report, lists=lists), split, "style", k=3)
    # 100 is a, 101 is a and b, and 104 has no style: one pair, with half in common.
    assert report.per_user["diversity@3"] == pytest.approx([0.5] * 5)
    # User 1 knows 100 and 101: three quarters a, one quarter b, as in the list.
    assert report.per_user["calibration@3"][0] == pytest.approx(0, abs=1e-12)
    # User 5 knows 100, 101, 105 and 102: a is 1 + 1/2 + 1/2, b is 1/2 + 1/2 + 1.
    p, q = np.array([0.5, 0.5]), np.array([0.75, 0.25])
    mixed = 0.99 * q + 0.01 * p
    assert report.per_user["calibration@3"][4] == pytest.approx(
        (p * np.log(p / mixed)).sum()
    )
    assert set(report.interval) >= {"diversity@3", "calibration@3", "hr@3"}
    assert compare(report, report, "diversity@3").difference == 0


def test_a_report_of_another_split_or_of_slates_has_no_segments(split):
    report = evaluate(baselines.Popularity(split), split.test)
    with pytest.raises(ValueError, match="answers other questions"):
        ac.segments(report, styled_split())
    with pytest.raises(ValueError, match="no per-user metric 'hr@7'"):
        ac.segments(report, split, "hr@7")
    with pytest.raises(ValueError, match="give a report of evaluate"):
        ac.segments(split, report)
    styled = styled_split()
    short = evaluate(baselines.Popularity(styled), styled.test, k=2)
    with pytest.raises(ValueError, match="lists have 2 items"):
        ac.list_metrics(short, styled, "style", k=3)
    with pytest.raises(ac.DataError, match="no column 'colour'"):
        ac.list_metrics(short, styled, "colour", k=2)
