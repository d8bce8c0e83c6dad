"""Are the unit tests awake? Plausible bugs are written into a copy of the core, one at
a time; a test must fail.

Each mutant runs in a process of its own, forked from a server that has imported PyTorch
already: a second or so each, two at a time. The unmutated copy must pass the same
tests, or the catches would prove nothing.
"""

import contextlib
import io
import os
import re
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import CONTEXT

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutant:
    """A bug: in this file, `old` becomes `new`, and one of these tests must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str  # names in tests/test_<file>, or file::name


def of(file, *mutants):
    return [Mutant(name, file, old, new, tests) for name, old, new, tests in mutants]


MUTANTS = [
    *of(
        "attention",
        (
            "scores are divided by the root of the wrong axis",
            "math.sqrt(query.shape[-1])",
            "math.sqrt(query.shape[-2])",
            "test_attend_equals_pytorch_forward_and_backward",
        ),
        (
            "scores are not divided by the root of the width",
            " / math.sqrt(query.shape[-1])",
            "",
            "test_many_heads_equal_pytorch_with_copied_weights_forward_and_backward",
        ),
        (
            "the mask is inverted",
            "scores = scores.masked_fill(~keep, -torch.inf)",
            "scores = scores.masked_fill(keep, -torch.inf)",
            "test_keep_means_may_look_as_in_sdpa_and_opposite_to_multihead_attention",
        ),
        (
            "masked scores become 0 instead of minus infinity",
            "scores = scores.masked_fill(~keep, -torch.inf)",
            "scores = scores.masked_fill(~keep, 0)",
            "test_attend_equals_pytorch_forward_and_backward",
        ),
        (
            "the causal mask lines up the oldest events",
            "torch.arange(context - queries, context, device=device)",
            "torch.arange(queries, device=device)",
            "test_causal_lines_up_the_newest_events_when_lengths_differ",
        ),
        (
            "the causal mask hides the event itself",
            "<= newest[:, None]",
            "< newest[:, None]",
            "test_causal_lines_up_the_newest_events_when_lengths_differ",
        ),
        (
            "the fused kernel's own causal mask is used when lengths differ",
            " and (not causal or length == context):",
            ":",
            "test_causal_lines_up_the_newest_events_when_lengths_differ",
        ),
        (
            "the maximum is not subtracted",
            "((scores - largest) / temperature)",
            "(scores / temperature)",
            "test_softmax_never_overflows_and_widens_half_precision",
        ),
        (
            "softmax sums over queries",
            "exponentials.sum(-1, keepdim=True)",
            "exponentials.sum(-2, keepdim=True)",
            "test_attend_equals_pytorch_forward_and_backward",
        ),
        (
            "the temperature multiplies",
            "(scores - largest) / temperature)",
            "(scores - largest) * temperature)",
            "test_temperature_goes_from_argmax_to_mean",
        ),
        (
            "half precision is not widened",
            "scores = scores.float()",
            "pass",
            "test_softmax_never_overflows_and_widens_half_precision",
        ),
        (
            "a row with nothing to look at is NaN",
            "largest = largest.masked_fill(largest == -torch.inf, 0)",
            "pass",
            "test_a_query_with_nothing_to_look_at_gets_zeros_and_finite_gradients",
        ),
        (
            "a row with nothing to look at sees everything in the fused kernel",
            "return torch.where(asks, _kernel(query, key, value, dropout, mask), 0)",
            "return _kernel(query, key, value, dropout, mask)",
            "test_a_query_with_nothing_to_look_at_gets_zeros_and_finite_gradients",
        ),
        (
            "the joined map's bias is left where there was nothing to look at",
            (
                "attended_BLD = torch.where(keep.any(-1).any(-2).unsqueeze(-1),"
                " attended_BLD, 0)"
            ),
            "pass",
            "test_many_heads_give_zeros_for_an_empty_history_and_ignore_nan_in_padding",
        ),
        (
            "dropout reaches the weights that are shown",
            "return dropped(weights, dropout) @ value, weights if",
            (
                "weights = dropped(weights, dropout)\n    return weights @ value,"
                " weights if"
            ),
            "test_dropout_changes_the_result_but_never_the_weights_shown",
        ),
        (
            "dropout is forgotten",
            "return dropped(weights, dropout) @ value",
            "return weights @ value",
            "test_dropout_changes_the_result_but_never_the_weights_shown",
        ),
        (
            "dropout stays on in evaluation",
            "self.dropout if self.training else 0.0",
            "self.dropout",
            "test_attention_dropout_is_for_training_alone",
        ),
        (
            "padded values are not cleared",
            "torch.where(looked_at, value, 0)",
            "value",
            "test_nan_in_padded_events_never_reaches_a_real_query",
        ),
        (
            "padded context is not cleared before the linear maps",
            (
                "context_BKD = torch.where(keep.any(-2).any(-2).unsqueeze(-1),"
                " context_BKD, 0)"
            ),
            "pass",
            "test_many_heads_give_zeros_for_an_empty_history_and_ignore_nan_in_padding",
        ),
        (
            "a bias is lost on the way to the fused kernel",
            "keep is None and bias is None and (",
            "keep is None and (",
            "test_bias_alone_works_on_both_paths",
        ),
        (
            "autocast narrows the fused kernel on a CPU",
            'torch.autocast("cpu", enabled=False)',
            'torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu"))',
            "test_the_fused_kernel_widens_bfloat16_on_a_cpu",
        ),
        (
            "raw weights are not masked",
            "scores if keep is None else scores.masked_fill(~keep, 0)",
            "scores",
            "test_raw_weights_are_the_scores_and_masked_ones_are_zero",
        ),
        (
            "heads take every H-th element instead of their part",
            "x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)",
            "x_BLD.unflatten(-1, (-1, self.heads)).movedim(-1, 1)",
            "test_many_heads_equal_pytorch_with_copied_weights_forward_and_backward",
        ),
        (
            "heads are joined without turning them back",
            "attended_BHLE.transpose(1, 2).flatten(2)",
            "attended_BHLE.reshape(query_BLD.shape)",
            "test_many_heads_equal_pytorch_with_copied_weights_forward_and_backward",
        ),
        (
            "a block sees the future",
            "normed_BTD, causal=at_B is None",
            "normed_BTD, causal=False",
            "test_a_block_never_sees_the_future_to_the_bit",
        ),
        (
            "the residual is missing",
            "x_BTD = x_BTD + self._branch(attended_BTD, query_BTD, 0)",
            "x_BTD = self._branch(attended_BTD, query_BTD, 0)",
            "test_a_block_is_pre_norm_with_residuals",
        ),
        (
            "the norm comes after the network",
            "x_BTD + self._branch(self.network(normed_BTD), normed_BTD, 1)",
            (
                "self.norm_network(x_BTD + self._branch(self.network(x_BTD),"
                " normed_BTD, 1))"
            ),
            "test_a_block_is_pre_norm_with_residuals",
        ),
        (
            "the gate reads the branch instead of its normed input",
            "self.gates[number](normed_BTD)",
            "self.gates[number](x_BTD)",
            "test_recommender.py::test_a_gate_multiplies_each_branch",
        ),
        (
            "additive attention lacks its tanh",
            "self.unit(hidden.tanh())",
            "self.unit(hidden)",
            "test_additive_score_equals_its_formula",
        ),
        (
            "relative distances look ahead",
            "when_BT[:, :, None] - when_BT[:, None, :]",
            "when_BT[:, None, :] - when_BT[:, :, None]",
            "test_relative.py::test_position_buckets_by_hand",
        ),
        (
            "relative times pass through float32",
            "(difference_BTT, edges, right=True)",
            (
                "(when_BT.float()[:, :, None] - when_BT.float()[:, None, :],"
                " edges.float(), right=True)"
            ),
            "test_relative.py::test_seconds_that_float32_cannot_tell_apart_have_buckets_of_their_own",
        ),
        (
            "a bucket's smallest difference falls into the one below",
            "edges, right=True)",
            "edges)",
            "test_relative.py::test_time_buckets_by_hand_are_exact_at_any_date",
        ),
    ),
    *of(
        "encoders",
        (
            "the lags of a transition are turned around",
            "range(len(self.lag_SD) - 1, -1, -1)",
            "range(len(self.lag_SD))",
            "test_a_transition_adds_what_each_of_the_newest_items_says_by_itself",
        ),
        (
            "all lags of a transition begin alike",
            "(1 / torch.arange(1, lags + 1))",
            "(torch.ones(lags))",
            "test_a_transition_adds_what_each_of_the_newest_items_says_by_itself",
        ),
    ),
    *of(
        "output",
        (
            "smoothing spreads nothing in the value",
            "loss -= smoothing * scores_nV.mean(1).sum()",
            "pass",
            "test_label_smoothing_is_pytorchs",
        ),
        (
            "smoothing spreads nothing in the gradient",
            "error_nV -= smoothing / scores_nV.shape[1]",
            "pass",
            "test_label_smoothing_is_pytorchs",
        ),
        (
            "a temperature scales one side too much",
            "/ math.sqrt(self.temperature)",
            "/ self.temperature",
            "test_with_a_temperature_scores_are_cosines",
        ),
        (
            "the logQ correction of negatives has the wrong sign",
            "(negative_NM - negative_log_q_NM)",
            "(negative_NM + negative_log_q_NM)",
            "test_sampled_softmax_by_hand",
        ),
        (
            "the positive is corrected for logQ as if it were drawn",
            "torch.cat([positive_N[:, None], ",
            "torch.cat([(positive_N - negative_log_q_NM.mean(-1))[:, None], ",
            "test_sampled_softmax_by_hand",
        ),
        (
            "sampled softmax keeps accidental hits",
            ".masked_fill(hit_NM, -torch.inf)",
            "",
            "test_positives_among_the_negatives_count_for_nothing",
        ),
        (
            "hits are looked for among the wrong items",
            "target_N[:, None] == negatives_M",
            "target_N[:, None] - 1 == negatives_M",
            "test_a_criterion_finds_its_own_hits_and_corrections",
        ),
        (
            "negatives are averaged over the hits too",
            "(~hit_NM).sum(1).clamp_min(1)",
            "hit_NM.shape[1]",
            "test_positives_among_the_negatives_count_for_nothing",
        ),
        (
            "binary cross-entropy rewards a low positive",
            "F.softplus(-positive_N.float()) + negative_NM.sum(1)",
            "F.softplus(positive_N.float()) + negative_NM.sum(1)",
            "test_binary_cross_entropy_by_hand",
        ),
        (
            "gBCE's sampling rate counts the positive",
            "negative_NM.shape[1] / (catalogue - 1)",
            "negative_NM.shape[1] / catalogue",
            "test_gbce_is_bce_at_calibration_0_and_weighs_by_the_sampling_rate_at_1",
        ),
        (
            "the plain loss is off by one target",
            "target_N - 1, reduction",
            "target_N, reduction",
            "test_cross_entropy_by_hand_has_no_padding_in_the_denominator",
        ),
        (
            "the lean loss forgets the bias's gradient",
            "grad_bias += error_nV.sum(0)",
            "pass",
            "test_lean_cross_entropy_equals_the_plain_one_in_value_and_gradient",
        ),
        (
            "the lean loss forgets the bias",
            ".to(wide).add_(bias)",
            ".to(wide)",
            "test_lean_cross_entropy_equals_the_plain_one_in_value_and_gradient",
        ),
        (
            "the lean gradients ignore what comes after the loss",
            "*(grad * made for",
            "*(made for",
            "test_lean_cross_entropy_equals_the_plain_one_in_value_and_gradient",
        ),
        (
            "the lean loss takes the largest score for the total",
            " - error_nV.amax(-1, keepdim=True).log()",
            "",
            "test_lean_cross_entropy_equals_the_plain_one_in_value_and_gradient",
        ),
        (
            "the lean gradient of the catalogue keeps the last chunk alone",
            "grad_catalogue += ",
            "grad_catalogue = ",
            "test_lean_cross_entropy_equals_the_plain_one_in_value_and_gradient",
        ),
        (
            "the target is not taken out of the lean gradient",
            'error_nV.scatter_(1, target_n1, smoothing - 1, reduce="add")',
            "pass",
            "test_lean_cross_entropy_equals_the_plain_one_in_value_and_gradient",
        ),
        (
            "padding is drawn as a negative",
            "draw, right=True) + 1",
            "draw, right=True)",
            "test_the_sampler_draws_by_counts_to_a_power_and_never_padding",
        ),
        (
            "the expected count forgets how many are drawn",
            " + math.log(count)",
            "",
            "test_log_q_correction_makes_the_sampled_sum_unbiased",
        ),
        (
            "the catalogue's biases are those of the items before",
            "self.bias[1:]",
            "self.bias[:-1]",
            "test_the_catalogue_bias_leaves_out_padding",
        ),
        (
            "pooling divides by the length of the batch",
            "context_BTD.cumsum(1) / count_T1",
            "context_BTD.cumsum(1) / context_BTD.shape[1]",
            "test_the_connected_context_equals_a_loop_and_sees_no_future",
        ),
        (
            "the whole context lies in the future",
            "(self.whole.kernel_size[0] - 1, 0)",
            "(0, self.whole.kernel_size[0] - 1)",
            "test_the_connected_context_equals_a_loop_and_sees_no_future",
        ),
    ),
    *of(
        "evaluation",
        (
            "the target stands above itself",
            "scores > wanted",
            "scores >= wanted",
            "test_ranks_count_what_stands_above_and_what_is_level",
        ),
        (
            "ties are scored as if the target came first",
            "np.clip((c - above) / tied, 0.0, 1.0)",
            "(above < c) * 1.0",
            "test_metrics_equal_a_hand_worked_example",
        ),
        (
            "the reciprocal rank of ties is that of the first",
            "(reciprocal[last] - reciprocal[above]) / tied",
            "reciprocal[above + 1] - reciprocal[above]",
            "test_metrics_equal_a_hand_worked_example",
        ),
        (
            "the discount is off by one place",
            "1 / np.log2(1 + place)",
            "1 / np.log2(2 + place)",
            "test_metrics_equal_a_hand_worked_example",
        ),
        (
            "places beyond k still gain",
            "gain[np.minimum(last, c)]",
            "gain[last]",
            "test_metrics_of_large_ties_equal_plain_sums",
        ),
        (
            "ranks are compared in bfloat16",
            "scores, column = scores.float(),",
            "scores, column = scores.bfloat16(),",
            "test_scores_that_bfloat16_cannot_tell_apart_are_not_tied",
        ),
        (
            "seen items still stand above",
            "higher & ~excluded",
            "higher",
            "test_ranks_count_what_stands_above_and_what_is_level",
        ),
        (
            "an excluded target is not level with itself",
            "(level & ~excluded).scatter_(1, column, True)",
            "level & ~excluded",
            "test_ranks_count_what_stands_above_and_what_is_level",
        ),
        (
            "the seen filter covers the window alone",
            "torch.from_numpy(cells)",
            "torch.from_numpy(cells[-200:])",
            "test_the_seen_filter_covers_the_whole_history_however_long",
        ),
        (
            "a target seen before is excluded",
            "return seen.scatter_(1, targets[:, None] - 1, False)",
            "return seen",
            "test_a_target_seen_before_stays_a_candidate",
        ),
        (
            "seen items are shown",
            "scores if excluded is None else scores.masked_fill(excluded, -torch.inf)",
            "scores",
            "test_excluded_and_refused_items_are_never_shown",
        ),
        (
            "coverage counts the place of no item",
            "ever[:items].mean()",
            "ever.mean()",
            "test_coverage_and_novelty_equal_a_hand_worked_example",
        ),
        (
            "novelty is in nats",
            "np.log2(max(",
            "np.log(max(",
            "test_coverage_and_novelty_equal_a_hand_worked_example",
        ),
        (
            "equal scores at the end of the list come in any order",
            "if len(crowded):",
            "if False:",
            "test_top_k_of_constant_scores_is_the_first_k_columns",
        ),
        (
            "places in a part are taken for places in the catalogue",
            "found.append((values, columns + start))",
            "found.append((values, columns))",
            "test_top_k_in_parts_equals_top_k_ties_included",
        ),
        (
            "the last item of a part is skipped",
            "score(slice(start, min(start + part, items)))",
            "score(slice(start, min(start + part, items) - (part < items)))",
            "test_top_k_in_parts_equals_top_k_ties_included",
        ),
    ),
    *of(
        "evaluation",
        (
            "the comparison is not paired",
            "_resampled_means(difference, resamples, seed)",
            (
                "_resampled_means(mean_a, resamples, seed) - _resampled_means(mean_b,"
                " resamples, seed + 1)"
            ),
            "test_evaluation.py::test_comparing_is_paired",
        ),
        (
            "the interval is one of 90 %",
            "(values, resamples, seed), [0.025, 0.975]",
            "(values, resamples, seed), [0.05, 0.95]",
            "test_evaluation.py::test_the_interval_has_the_width_of_the_standard_error",
        ),
        (
            "the p-value is one-sided",
            "2 * tail",
            "tail",
            "test_evaluation.py::test_the_p_value_agrees_with_a_normal_test",
        ),
        (
            "users are drawn without replacement",
            "generator.integers(users, size=(len(row), users))",
            "generator.permuted(np.tile(np.arange(users), (len(row), 1)), axis=1)",
            "test_evaluation.py::test_the_interval_has_the_width_of_the_standard_error",
        ),
    ),
]


TOKEN = re.compile(r'"""[\s\S]*?"""|"[^"\n]*"|#[^\n]*|\w+|[^\w\s]')


def tokens(text):
    """The tokens of some code with their places, however its lines are broken.

    Comments do not count, nor does a comma before a closing bracket.
    """
    found = [m for m in TOKEN.finditer(text) if not m[0].startswith("#")]
    ends = [m[0] for m in found[1:]] + [""]
    return [
        (m[0], m.start(), m.end())
        for m, following in zip(found, ends, strict=True)
        if not (m[0] == "," and following in (")", "]", "}"))
    ]


def places(text, old):
    """Where some code stands in a text, token by token."""
    have, want = tokens(text), [word for word, *_ in tokens(old)]
    words = [word for word, *_ in have]
    return [
        (have[at][1], have[at + len(want) - 1][2])
        for at in range(len(have) - len(want) + 1)
        if words[at : at + len(want)] == want
    ]


def selector(mutant):
    return (
        f"tests/{mutant.tests}"
        if "::" in mutant.tests
        else f"tests/test_{mutant.file.replace('/', '_')}.py::{mutant.tests}"
    )


def run(folder, mutant, selectors):
    """Run the tests of a copy of the package, with the bug if there is one; return
    pytest's exit code and output."""
    folder = Path(folder)
    shutil.copytree(
        ROOT / "attncore",
        folder / "attncore",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for test in {
        "tests/conftest.py",
        *(selector.partition("::")[0] for selector in selectors),
    }:
        (folder / "tests").mkdir(exist_ok=True)
        shutil.copy(ROOT / test, folder / test)
    if mutant is not None:
        source = folder / "attncore" / f"{mutant.file}.py"
        text = source.read_text(encoding="utf-8")
        found = places(text, mutant.old)
        if len(found) != 1:
            many = f"{len(found)} times; it must be there once"
            return -1, f"{mutant.file}.py holds {mutant.old!r} {many}"
        start, stop = found[0]
        source.write_text(text[:start] + mutant.new + text[stop:], encoding="utf-8")
    import torch

    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = (
        "1"  # none of these tests needs a plug-in
    )
    sys.path.insert(0, str(folder))
    sys.path[:] = [
        place for place in sys.path if Path(place or ".").resolve() != ROOT / "tests"
    ]
    printed = io.StringIO()
    options = [
        "-x",
        "-q",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:unraisableexception",
        "-o",
        "addopts=",
        f"--rootdir={folder}",
    ]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = int(pytest.main([*options, *selectors]))
    imported = Path(sys.modules["attncore"].__file__).resolve()
    if folder.resolve() not in imported.parents:
        return -1, f"the tests ran on {imported}, not on the copy in {folder}"
    return status, printed.getvalue()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """A future for every mutant, and for none."""
    with ProcessPoolExecutor(2, mp_context=CONTEXT, max_tasks_per_child=1) as pool:
        everything = sorted({selector(mutant) for mutant in MUTANTS})
        futures = {
            None: pool.submit(run, tmp_path_factory.mktemp("control"), None, everything)
        }
        for mutant in MUTANTS:
            futures[mutant] = pool.submit(
                run, tmp_path_factory.mktemp("mutant"), mutant, [selector(mutant)]
            )
        yield futures
        pool.shutdown(cancel_futures=True)


def test_the_copy_without_a_bug_passes_all_the_tests_that_must_catch_one(outcomes):
    status, printed = outcomes[None].result(timeout=300)
    assert status == pytest.ExitCode.OK, printed


@pytest.mark.parametrize(
    "mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-")
)
def test_a_plausible_bug_is_caught(outcomes, mutant):
    status, printed = outcomes[mutant].result(timeout=300)
    assert status == pytest.ExitCode.TESTS_FAILED, printed
    assert "1 failed" in printed


def test_there_are_enough_bugs_and_no_two_alike():
    assert (
        len({(m.file, m.old, m.new) for m in MUTANTS})
        == len({m.name for m in MUTANTS})
        == len(MUTANTS)
        >= 24
    )
    assert {m.file for m in MUTANTS} == {
        "attention",
        "encoders",
        "evaluation",
        "output",
    }
