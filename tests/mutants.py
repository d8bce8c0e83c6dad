"""Plausible bugs, each with the test that must fail for it: see `test_mutants.py`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A bug: in this file, `old` becomes `new`, and one of these tests must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str  # a name in tests/test_<file>, or file::name


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
            ("attended_BLD = torch.where(asks_BL1, attended_BLD, 0)"),
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
            ("context_BKD = torch.where(looked_at_BK1, context_BKD, 0)"),
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
            '"causal": at_B is None',
            '"causal": False',
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
            "reversed(range(len(self.lag_SD)))",
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
            " - weight_n1.log()",
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
            "context_BTD.cumsum(1) / count_T[:, None]",
            "context_BTD.cumsum(1) / context_BTD.shape[1]",
            "test_the_connected_context_equals_a_loop_and_sees_no_future",
        ),
        (
            "the whole context lies in the future",
            "(before, 0)",
            "(0, before)",
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
            "level.scatter_(1, column, True)",
            "pass",
            "test_ranks_count_what_stands_above_and_what_is_level",
        ),
        (
            "the seen filter covers the window alone",
            "torch.from_numpy(places + histories.items - 1)",
            "torch.from_numpy((places + histories.items - 1)[-200:])",
            "test_the_seen_filter_covers_the_whole_history_however_long",
        ),
        (
            "a target that lists hide is a hit",
            'x * ~per_row["hidden"]',
            "x",
            "test_a_target_that_lists_hide_scores_0_is_counted_and_told",
        ),
        (
            "seen items are shown",
            "allowed = scores.masked_fill(seen, -torch.inf)",
            "pass",
            "test_excluded_and_refused_items_are_never_shown",
        ),
        (
            "coverage counts the place of no item",
            "(np.unique(np.append(0, listed)).size - 1)",
            "np.unique(np.append(0, listed)).size",
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
            "np.quantile(means, [0.025, 0.975], axis=0)",
            "np.quantile(means, [0.05, 0.95], axis=0)",
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
    *of(
        "training",
        (
            "validation is done with the weights of the last step, not their average",
            "with self.average.applied():",
            "with torch.no_grad():",
            "test_the_average_is_what_is_evaluated_and_kept",
        ),
        (
            "the average takes in no step",
            "self.average.update()",
            "pass",
            "test_the_average_takes_in_the_weights_after_every_step",
        ),
        (
            "patience lasts an epoch too long",
            "0 < self.config.patience <= since",
            "0 < self.config.patience < since",
            "test_training_keeps_the_best_epoch_by_validation_and_stops_early",
        ),
        (
            "the last epoch is kept instead of the best",
            'if self.only is not None or self.run.best_epoch == entry["epoch"]:',
            "if True:",
            "test_training_keeps_the_best_epoch_by_validation_and_stops_early",
        ),
        (
            "the test chooses the epoch",
            "self.questions = split.valid\n        if",
            "self.questions = split.test\n        if",
            "test_training_never_reads_test",
        ),
        (
            "an epoch's loss is the sum over its steps",
            "self.total += loss * positions",
            "self.total += loss",
            "test_the_loss_of_an_epoch_is_the_mean_over_real_positions",
        ),
        (
            "the seed does not reach dropout",
            "torch.manual_seed(config.seed + 1_000_003 * group.rank)",
            "torch.manual_seed(1_000_003 * group.rank)",
            "test_the_seed_decides_what_is_dropped",
        ),
        (
            "nothing is dropped after the first validation",
            "model = evaluating(self.model)",
            "model = self.model.eval()",
            "test_leaks.py::test_training_goes_on_in_training_mode_after_validation",
        ),
        (
            "the learning rate never leaves its highest",
            'settings["lr"] = config.lr * rate',
            'settings["lr"] = config.lr',
            "test_leaks.py::test_the_learning_rate_falls_to_a_tenth",
        ),
        (
            "resuming forgets the optimizer's moments",
            'self.optimizer.load_state_dict(state["optimizer"])',
            "pass",
            "test_leaks.py::test_a_stopped_training_goes_on_to_the_same_weights",
        ),
        (
            "resuming forgets what would be dropped next",
            'torch.set_rng_state(random_state["cpu"])',
            "pass",
            "test_leaks.py::test_a_stopped_training_goes_on_to_the_same_weights",
        ),
        (
            "resuming forgets the average",
            "average.copy_(kept)",
            "pass",
            "test_leaks.py::test_a_stopped_training_goes_on_to_the_same_weights",
        ),
    ),
    *of(
        "optim",
        (
            "warm-up begins with a step of nothing",
            "(step + 1) / (warmup + 1)",
            "step / warmup",
            "test_the_schedule_equals_a_table",
        ),
        (
            "accumulated parts are not weighed by their positions",
            "loss_of(part) / positions",
            "loss_of(part) / len(part.real_N) / len(parts)",
            "test_leaks.py::test_parts_of_different_sizes_weigh_as_their_positions",
        ),
        (
            "accumulated parts are a sum",
            "loss_of(part) / positions",
            "loss_of(part) / len(part.real_N)",
            "test_training.py::test_four_batches_of_32_accumulated_equal_one_of_128",
        ),
        (
            "embeddings decay too",
            '"weight_decay": 0.0',
            '"weight_decay": weight_decay',
            "test_only_matrices_decay",
        ),
        (
            "the gradient is not clipped",
            "if clip:",
            "if False:",
            "test_clipping_comes_before_the_step_and_bounds_the_norm",
        ),
        (
            "a loss that is not finite is stepped on",
            "(norm + loss).isfinite()",
            "norm.isfinite()",
            "test_what_is_not_finite_never_reaches_the_weights",
        ),
        (
            "the average forgets as much as it should keep",
            "get_ema_multi_avg_fn(decay)",
            "get_ema_multi_avg_fn(1 - decay)",
            "test_the_moving_average_equals_its_closed_form",
        ),
        (
            "the average stays in the model after validation",
            "weight.copy_(before)",
            "pass",
            "test_the_moving_average_equals_its_closed_form",
        ),
    ),
    *of(
        "counts",
        (
            "a trained position knows its own answer by the counts",
            "- int(target_N is not None)",
            "",
            "test_a_trained_position_is_not_in_its_own_counts",
        ),
        (
            "what is popular is known a bucket too early",
            "time_N, right=True) - 1",
            "time_N, right=True)",
            "test_what_was_popular_is_what_was_taken_before_and_fades",
        ),
        (
            "an item counts no less the farther it is back",
            "torch.maximum(from_F % self.window, b_at)",
            "torch.minimum(from_F % self.window, b_at)",
            "test_counts_of_alike_moments.py::test_votes_are_those_of_a_comparison_with_every_moment",
        ),
        (
            "who asks is voted for what they just had",
            "votes_BV.scatter(1, newest_BK, 0)[:, 1:]",
            "votes_BV[:, 1:]",
            "test_counts_of_alike_moments.py::test_votes_are_those_of_a_comparison_with_every_moment",
        ),
        (
            "the farthest of the nearest states has a vote",
            "share_BN - share_BN[:, -1:]",
            "share_BN",
            "test_counts_of_alike_moments.py::test_the_nearest_states_vote_for_what_came_next",
        ),
    ),
    *of(
        "batches",
        (
            "the target is the newest input",
            "(at_BT + 1).masked_fill(~keep_BT, 0), keep_BT",
            "at_BT, keep_BT",
            "test_a_training_batch_by_hand",
        ),
        (
            "the last target is an input too",
            "np.maximum(seen - targets, 0)",
            "np.maximum(seen, 0)",
            "test_a_training_batch_by_hand",
        ),
        (
            "a window begins an event too early",
            "np.stack([ends - seen,",
            "np.stack([ends - seen - 1,",
            "test_an_inference_batch_holds_the_newest_events_and_may_be_empty",
        ),
        (
            "a window of training has no place for the newest target",
            "np.minimum(known, length + targets)",
            "np.minimum(known, length)",
            "test_a_training_batch_by_hand",
        ),
        (
            "a window ends where none was asked to",
            "starts_B = starts_B - back_B",
            "starts_B = starts_B + back_B",
            "test_a_window_may_end_before_the_newest_event",
        ),
        (
            "an input's attributes are those of its target",
            "n: _looked_up(c, at_BT, keep_BT)",
            "n: _looked_up(c, asked, asks_BT)",
            "test_leaks.py"
            "::test_an_input_has_its_own_attributes_and_its_target_the_situation",
        ),
        (
            "the situation is that of the event before the target",
            "n: _looked_up(c, asked, asks_BT)",
            "n: _looked_up(c, at_BT, keep_BT)",
            "test_embedding.py"
            "::test_the_situation_is_that_of_the_target_in_training_and_in_evaluation",
        ),
        (
            "the seed does not reach the order of the users",
            "np.random.default_rng((seed, epoch)).permutation(rows)",
            "np.random.default_rng(epoch).permutation(rows)",
            "test_an_epoch_shows_each_row_once_in_an_order_of_its_own",
        ),
        (
            "every epoch has the order of the first",
            "np.random.default_rng((seed, epoch)).permutation(rows)",
            "np.random.default_rng(seed).permutation(rows)",
            "test_an_epoch_shows_each_row_once_in_an_order_of_its_own",
        ),
        (
            "the users of a last small step are left out",
            "range(0, len(order), batch_size)",
            "range(0, len(order) - batch_size + 1, batch_size)",
            "test_an_epoch_shows_each_row_once_in_an_order_of_its_own",
        ),
        (
            "random windows end alike in every epoch",
            "(self.config.seed, epoch + 1, 1)",
            "(self.config.seed, 1)",
            "test_training.py"
            "::test_random_windows_end_anywhere_and_follow_the_seed_and_the_epoch_alone",
        ),
        (
            "random windows never hold the oldest events",
            "chance.integers(self.windows.earlier + 1)",
            "chance.integers(np.maximum(self.windows.earlier, 1))",
            "test_leaks.py::test_random_windows_reach_the_newest_and_the_oldest_events",
        ),
        (
            "a resumed epoch begins with its first step again",
            "if epoch > first or number >= skipped:",
            "if True:",
            "test_leaks.py::test_a_stopped_training_goes_on_to_the_same_weights",
        ),
        (
            "a resumed epoch leaves out a step",
            "number >= skipped",
            "number > skipped",
            "test_leaks.py::test_a_stopped_training_goes_on_to_the_same_weights",
        ),
    ),
    *of(
        "splits",
        (
            "the validation item stands in the training history",
            "np.where(lengths >= 3, lengths - 2, lengths)",
            "np.where(lengths >= 3, lengths - 1, lengths)",
            "test_sequences.py::test_leave_one_out_by_hand",
        ),
        (
            "validation asks for the test item",
            "(asked, lengths[asked] - 2)",
            "(asked, lengths[asked] - 1)",
            "test_sequences.py::test_leave_one_out_by_hand",
        ),
        (
            "a question's history holds its answer",
            "histories.take(rows, stops=places)",
            "histories.take(rows, stops=places + 1)",
            "test_sequences.py::test_leave_one_out_by_hand",
        ),
        (
            "how often items occur is counted in the test too",
            "np.bincount(train.items,",
            "np.bincount(histories.items,",
            "test_sequences.py::test_leave_one_out_by_hand",
        ),
        (
            "training reads the moment of the cut",
            "histories.times < cut",
            "histories.times <= cut",
            "test_sequences.py::test_time_split_by_hand_shows_nothing_after_the_cut",
        ),
        (
            "training goes on until the second cut",
            "_split_log(log, indexed, before_valid, questions, protocol)",
            "_split_log(log, indexed, before_test, questions, protocol)",
            "test_sequences.py::test_time_split_by_hand_shows_nothing_after_the_cut",
        ),
        (
            "held-out users train",
            "np.where(kept, stops, 0)",
            "stops",
            "test_sequences.py"
            "::test_user_split_pools_every_user_once_and_trains_on_no_held_out_event",
        ),
        (
            "the users who validate train",
            '~(held["test"] | held["valid"])',
            '~held["test"]',
            "test_sequences.py"
            "::test_user_split_pools_every_user_once_and_trains_on_no_held_out_event",
        ),
        (
            "the seed does not deal the users",
            "np.random.default_rng(seed).permutation(len(users))",
            "np.arange(len(users))",
            "test_leaks.py::test_the_seed_deals_the_users_of_a_user_split",
        ),
        (
            "what was seen is never asked for, even where users repeat purchases",
            '"exclude_seen": not repeats',
            '"exclude_seen": True',
            "test_sequences.py"
            "::test_what_was_seen_is_a_candidate_where_users_repeat_purchases",
        ),
        (
            "validation asks for the slates of the test too",
            "(slates.times >= since) & (slates.times < until)",
            "(slates.times >= since)",
            "test_ranking_slates.py::test_the_time_split_parts_slates_by_their_moment",
        ),
        (
            "a question of slates begins with the user's last",
            "np.unique(self.users, return_index=True)[1]",
            "len(self) - 1 - np.unique(self.users[::-1], return_index=True)[1]",
            "test_ranking_slates.py::test_a_part_of_the_questions_has_one_of_each_user",
        ),
    ),
    *of(
        "features",
        (
            "features are learned from the test too",
            "dict(split.train.attributes)",
            "dict(split.histories.attributes)",
            "test_what_only_the_test_holds_changes_nothing",
        ),
    ),
    *of(
        "serving",
        (
            "what was seen is recommended again",
            "_places(asked.take(group)) if exclude_seen else None",
            "None",
            "test_recommender.py"
            "::test_what_was_seen_is_left_out_unless_the_log_repeats_or_one_asks"
            "_otherwise",
        ),
        (
            "what is allowed forgets what is excluded",
            "shown[index] = False",
            "pass",
            "test_candidates_exclude_and_only_hold_together",
        ),
        (
            "what may be shown is not all of what is listed",
            "shown &= np.isin",
            "shown |= np.isin",
            "test_candidates_exclude_and_only_hold_together",
        ),
        (
            "excluded places are those of the catalogue, not of what is allowed",
            "row, column, items = row[kept], at[kept], len(allowed)",
            "row, column, items = row[kept], column[kept], len(allowed)",
            "test_leaks.py::test_what_was_seen_stays_hidden_among_candidates",
        ),
    ),
    *of(
        "ranking/asof",
        (
            "a slate's history holds its own moment",
            "np.searchsorted(number, rows * span + (times - first))",
            'np.searchsorted(number, rows * span + (times - first), side="right")',
            "test_ranking_slates.py"
            "::test_a_slates_history_is_all_before_its_moment_and_nothing_of_it",
        ),
        (
            "what was taken lately was taken at the moment too",
            "np.searchsorted(number, high)",
            'np.searchsorted(number, high, side="right")',
            "test_counts_of_late_are_those_strictly_before_the_moment",
        ),
        (
            "lately is all that was before",
            "(times - int(days * DAY), times)",
            "(times - int(1000 * DAY), times)",
            "test_counts_of_late_are_those_strictly_before_the_moment",
        ),
        (
            "an item is known once for each time it was taken",
            "latest = following[event] >= stops[row]",
            "latest = following[event] >= 0",
            "test_leaks.py::test_an_item_is_known_once_however_often_it_was_taken",
        ),
        (
            "an item that is taken at the moment itself is not known",
            "latest = following[event] >= stops[row]",
            "latest = following[event] > stops[row]",
            "test_known_items_have_their_count_and_age_at_the_moment",
        ),
        (
            "counts are those of the whole log",
            "counts[row, at] = count[event]",
            "counts[row, at] = np.bincount(self.histories.items)[items[row, at]]",
            "test_known_items_have_their_count_and_age_at_the_moment",
        ),
        (
            "the newest items are the oldest",
            "at = np.maximum(kept - length, 0) + np.arange(",
            "at = np.maximum(0 * kept, 0) + np.arange(",
            "test_ranking_ranker.py"
            "::test_the_newest_items_are_the_last_ones_of_each_user",
        ),
        (
            "a user's own habit is everybody's",
            "users.astype(np.int64) * many + items",
            "0 * users.astype(np.int64) * many + items",
            "test_how_often_a_user_took_an_item_lately_is_counted_before_the_moment_alone",
        ),
        (
            "a mean of late reads the day of asking",
            "total = self._sums[name][high] - self._sums[name][low]",
            (
                "high = np.minimum(high + 1, len(self.histories.items))\n"
                "        total = self._sums[name][high] - self._sums[name][low]"
            ),
            "test_counts_of_late_are_those_strictly_before_the_moment",
        ),
    ),
    *of(
        "ranking/batches",
        (
            "training draws slates from after training",
            "few = int(np.searchsorted(slates.times, until))",
            "pass",
            "test_ranking_ranker.py::test_training_draws_no_slate_from_after_training",
        ),
        (
            "a clicked candidate that is drawn once more counts as not clicked",
            "others = np.where(np.isin(mine, key), -1, others)",
            "pass",
            "test_ranking_ranker.py"
            "::test_drawn_candidates_are_of_the_list_and_marked_rightly",
        ),
        (
            "drawn candidates are those of another list",
            "others = start[:, None] + drawn",
            "others = np.roll(start, 1)[:, None] + drawn",
            "test_ranking_ranker.py"
            "::test_drawn_candidates_are_of_the_list_and_marked_rightly",
        ),
        (
            "what was drawn more often is not corrected",
            "torch.from_numpy(np.log(often))",
            "torch.from_numpy(0 * np.log(often))",
            "test_leaks.py"
            "::test_a_drawn_slates_correction_is_how_much_likelier_a_click_is_drawn",
        ),
        (
            "the situation's features are learned from all slates",
            'trained = slates.times < split.valid.protocol["valid_from"]',
            "trained = slates.times == slates.times",
            "test_leaks.py::test_categories_of_the_situation_are_those_of_training",
        ),
        (
            "own habit is read from the newest items alone",
            "own_habit(whole, items)",
            "own_habit(known, items)",
            "test_leaks.py::test_own_habit_of_a_batch_is_that_of_the_whole_past",
        ),
        (
            "a batch knows the moment that it asks about",
            "slates.known(users, slates.stops[rows],",
            "slates.known(users, slates.stops[rows] + 1,",
            "test_leaks.py::test_a_batch_of_slates_holds_nothing_of_its_moment",
        ),
        (
            "every slate of a user is the first",
            "self._uniform(len(rows)) * self._many[users]",
            "0 * self._uniform(len(rows)) * self._many[users]",
            "test_ranking_ranker.py::test_training_draws_no_slate_from_after_training",
        ),
    ),
    *of(
        "ranking/ranker",
        (
            "the first share of clicks is that of the test too",
            "few = int(before) or len(slates)",
            "few = len(slates)",
            "test_leaks.py::test_a_ranker_begins_at_the_share_of_training",
        ),
        (
            "padded candidates have a loss",
            "(loss_BN * real_BN).sum()",
            "loss_BN.sum()",
            "test_leaks.py::test_padded_candidates_have_no_loss",
        ),
        (
            "the loss forgets that clicks were drawn more often",
            "scores_BN + correction_BN",
            "scores_BN",
            "test_leaks.py::test_padded_candidates_have_no_loss",
        ),
        (
            "candidates attend to padding",
            "F.pad(batch.items_BT > 0, (1, 0), value=True)",
            "F.pad(batch.items_BT >= 0, (1, 0), value=True)",
            "test_leaks.py::test_a_slate_scores_alike_alone_and_beside_a_longer_past",
        ),
    ),
    *of(
        "ranking/serving",
        (
            "a ranker shows what was seen",
            "if exclude_seen:",
            "if False:",
            "test_leaks.py::test_a_ranker_leaves_out_what_was_seen_where_asked",
        ),
        (
            "a ranker shows what is excluded",
            "hide_BN = ~np.isin(asked_BN - 1, allowed)",
            "pass",
            "test_leaks.py::test_a_ranker_leaves_out_what_was_seen_where_asked",
        ),
    ),
    *of(
        "ranking/metrics",
        (
            "a clicked candidate stands above those level with it",
            'np.searchsorted(ordered, wanted, side="right")',
            "np.searchsorted(ordered, wanted)",
            "test_metrics_are_means_over_all_orders_of_equal_scores",
        ),
        (
            "clicked candidates count among what stands above",
            "above - up + (tied - level) / 2",
            "above + tied / 2",
            "test_metrics_are_means_over_all_orders_of_equal_scores",
        ),
    ),
]
