"""One suite that every kind of attention passes, and what is special to some."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import rhythm_log

import attncore as ac
from attncore.attention import SelfAttentionBlock
from attncore.batches import Windows
from attncore.output import Criterion
from attncore.recommender import candidate_scores
from attncore.sequences import Histories

KINDS = ["self", "target", "lstm", "mean"]


def build(split, kind, **changes):
    options = {"width": 16, "heads": 2, "length": 8, "dropout": 0.1} | changes
    model = ac.Recommender(
        ac.RecommenderConfig(attention=kind, **options), split, seed=3
    )
    with torch.no_grad():  # biases that matter
        if model.output.bias is not None:
            model.output.bias.normal_(generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind, split):
    return build(split, kind)


# --- every kind
# --------------------------------------------------------------------------------------


def test_scores_do_not_depend_on_dropout_or_on_who_shares_the_batch(model, split):
    model.train()
    together = model.score(split.test.histories)
    assert model.training
    for row in (0, 7):
        alone = model.score(split.test.histories.take(np.array([row])))
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=1e-5)
    assert torch.equal(model.score(split.test.histories), together)
    assert together.dtype == torch.float32
    assert together.shape == (40, 12)


def test_only_the_newest_events_and_their_order_of_arrival_matter(model):
    old = [[1, 2, *range(1, 9)], list(range(1, 9))]
    scores = model.score(Histories.from_lists(old))
    torch.testing.assert_close(scores[0], scores[1], atol=1e-6, rtol=1e-6)


def test_padding_never_changes_a_real_position_nor_the_loss(model, split):
    model.eval()
    if model.config.attention == "target":
        pytest.skip(
            "target attention draws its positions at random; its padding is tested"
            " below"
        )
    windows = Windows(split.train, 8, targets=True)
    criterion = Criterion("full", 1, 0.0, 0.0, torch.from_numpy(split.item_counts))
    rows = np.arange(6)
    batch = windows.batch(rows)
    whole = model.loss(batch, criterion)
    parts = sum(model.loss(windows.batch(rows[i : i + 1]), criterion) for i in rows)
    torch.testing.assert_close(whole, parts)
    assert len(batch.real_N) == sum(windows.lengths[rows])


def test_no_position_sees_the_future(model):
    if model.config.attention == "target":
        pytest.skip("target attention has one moment a query; its past is tested below")
    model.eval()
    first, other = [1, 2, 3, 4, 5, 6], [1, 2, 3, 9, 8, 7]
    states = [
        model.states(Windows(Histories.from_lists([row]), 8).batch(np.array([0])))
        for row in (first, other)
    ]
    assert torch.equal(states[0][:, :3], states[1][:, :3])
    assert not torch.equal(states[0][:, 3:], states[1][:, 3:])


def test_an_empty_history_is_scored_by_the_item_biases_with_finite_gradients(model):
    scores = model.score(Histories.from_lists([[], [3]]))
    torch.testing.assert_close(scores[0], model.output.bias[1:].detach())
    assert not torch.allclose(scores[0], scores[1])
    batch = Windows(Histories.from_lists([[], [3]]), 8).batch(np.array([0, 1]))
    model.scorer(batch)(slice(None)).sum().backward()
    assert all(
        p.grad.isfinite().all() for p in model.parameters() if p.grad is not None
    )


def test_nobody_known_is_recommended_what_the_biases_say(model):
    nobody, somebody = model.recommend(histories=[[], [500]], k=12)
    biases = model.output.bias[1:].detach()
    order = biases.argsort(descending=True, stable=True).numpy() + 1
    assert nobody.items == model.split.items.decode(order).tolist()
    assert nobody.scores == pytest.approx(biases.sort(descending=True).values.tolist())
    assert 500 not in somebody.items


def test_a_user_whose_events_are_too_few_to_train_on_is_served_after_those(kind):
    new = pd.DataFrame({"user": [99, 99], "item": [500, 501], "time": [0, 1]})
    few = ac.Interactions.from_frame(
        pd.concat([rhythm_log().events, new]), name="with a newcomer"
    )
    cold = build(ac.leave_one_out(few), kind)
    assert 99 not in cold.split.users.ids[cold.split.test.users]
    served, typed = (
        cold.recommend(users=[99], k=3)[0],
        cold.recommend(histories=[[500, 501]], k=3)[0],
    )
    assert served.items == typed.items
    assert served.scores == pytest.approx(typed.scores)


def test_held_out_users_are_served_after_the_few_events_that_they_show(kind):
    for known in (0, 1, 3):
        cold = build(ac.split_by_user(rhythm_log(), known=known), kind)
        report = ac.evaluate(cold, cold.split.test, k=10)
        assert report.users == 8
        assert np.isfinite(report.metrics["loss"])
        assert set(cold.split.test.histories.lengths) == {known}


def test_the_padding_row_stays_zero_through_training(model, split, quick):
    ac.fit(model, split, quick)
    assert (model.item.id.weight[0] == 0).all()


def test_training_learns_the_rhythm_and_repeats_to_the_bit(split, model):
    kind = model.config.attention
    config = ac.TrainingConfig(
        epochs=30,
        batch_size=10,
        lr=1e-2,
        warmup=5,
        progress=False,
        device="cpu",
        negatives=8,
    )
    runs = []
    for _ in range(2):
        fresh = ac.Recommender(
            ac.RecommenderConfig(attention=kind, width=16, length=8, dropout=0.1), split
        )
        runs.append((ac.fit(fresh, split, config), fresh))
    assert runs[0][0].valid.metrics == runs[1][0].valid.metrics
    for a, b in zip(runs[0][1].parameters(), runs[1][1].parameters(), strict=True):
        assert torch.equal(a, b)
    popularity = ac.evaluate(
        ac.baselines.Popularity(split), split.valid, k=(1, 10)
    ).metrics["hr@1"]
    # The next item depends on the newest one, which a mean cannot tell.
    if kind in (
        "self",
        "lstm",
    ):
        assert runs[0][0].valid.metrics["hr@1"] > popularity + 0.2


def test_a_loaded_model_gives_the_same_scores_and_the_same_split(
    model, split, tmp_path
):
    model.save(tmp_path / "run")
    back = ac.load(tmp_path / "run")
    assert torch.equal(
        back.score(split.test.histories), model.score(split.test.histories)
    )
    assert back.recommend(users=[100, 101], k=3) == model.recommend(
        users=[100, 101], k=3
    )
    assert (back.split.test.targets == split.test.targets).all()
    assert back.config == model.config
    assert not [p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(".")]


def test_recommend_gives_the_logs_ids_best_first_and_nothing_seen(model, split):
    picks = model.recommend(users=[100], k=20)[0]
    seen = set(split.items.decode(split.histories[0]).tolist())
    assert not seen & set(picks.items)
    assert set(picks.items) | seen == set(split.items.ids.tolist())
    assert picks.scores == sorted(picks.scores, reverse=True)
    assert all(isinstance(item, int) for item in picks.items)
    all_scores = model.score(split.histories.take(np.array([0])))[0]
    assert picks.scores[0] == pytest.approx(
        all_scores[split.items.encode([picks.items[0]])[0] - 1].item()
    )
    assert len(model.recommend(users=[100], k=20, exclude_seen=False)[0].items) == 12


def test_what_was_seen_is_left_out_unless_the_log_repeats_or_one_asks_otherwise(kind):
    events = rhythm_log().events
    once, again = (
        build(ac.leave_one_out(ac.Interactions(events, repeats=repeats)), kind)
        for repeats in (False, True)
    )
    history = [500, 503, 501]
    assert not set(history) & set(once.recommend(histories=[history], k=12)[0].items)
    assert set(history) <= set(again.recommend(histories=[history], k=12)[0].items)
    assert set(history) <= set(
        once.recommend(histories=[history], k=12, exclude_seen=False)[0].items
    )
    assert not set(history) & set(
        again.recommend(histories=[history], k=12, exclude_seen=True)[0].items
    )


def test_candidates_limit_the_choice(model):
    picks = model.recommend(histories=[[500, 501]], k=5, candidates=[501, 505, 507])[0]
    assert set(picks.items) == {505, 507}


def test_recommend_in_bulk_equals_one_by_one(model, split):
    users = split.users.ids[:9].tolist()
    bulk = model.recommend(users=users, k=4)
    for user, picks in zip(users, bulk, strict=True):
        alone = model.recommend(users=[user], k=4)[0]
        assert alone.items == picks.items
        assert alone.scores == pytest.approx(picks.scores, abs=1e-5)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"users": [999]}, "unknown user 999"),
        ({"histories": [[500, 77]]}, "unknown item 77"),
        ({"users": [100], "candidates": [1]}, "unknown item 1"),
        ({}, "either users= or histories="),
        ({"users": [100], "histories": [[500]]}, "either users= or histories="),
        (
            {"histories": [["500"]]},
            "unknown item '500': an id of this log is an integer",
        ),
        ({"users": [100], "k": 0}, "k=0: must be at least 1"),
    ],
)
def test_a_wrong_question_gives_one_clear_line(model, asked, hint):
    with pytest.raises(ValueError, match=hint) as error:
        model.recommend(**asked, strict=True)
    assert "\n" not in str(error.value)


def test_weights_shown_sum_to_one_and_are_those_without_dropout(model):
    model.train()
    history = [500, 503, 501, 507]
    frame = model.attention(histories=[history, history[:2]], candidates=None)
    assert list(frame.columns) == [
        "history",
        "layer",
        "head",
        "query",
        "event",
        "item",
        "weight",
    ]
    sums = frame.groupby(["history", "layer", "head", "query"])["weight"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    first = frame[
        (frame["history"] == 0) & (frame["layer"] == 0) & (frame["head"] == 0)
    ]
    one_query = first[first["query"] == first["query"].iloc[0]]
    assert one_query["item"].tolist() == history
    assert (
        frame["weight"].tolist()
        == model.attention(histories=[history, history[:2]])["weight"].tolist()
    )
    assert model.training


def test_erasure_is_the_fall_of_the_score_when_one_event_is_gone(model):
    history = [500, 503, 501]
    frame = model.erasure(histories=[history], candidates=[505, 508])
    assert list(frame.columns) == ["history", "candidate", "event", "item", "drop"]
    assert len(frame) == 6
    encode = model.split.items.encode
    with_all = model.score(Histories.from_lists([encode(history)]))[0]
    without = model.score(Histories.from_lists([encode([500, 501])]))[0]
    place = encode([508])[0] - 1
    row = frame[(frame["candidate"] == 508) & (frame["event"] == 1)].iloc[0]
    assert row["item"] == 503
    assert row["drop"] == pytest.approx((with_all - without)[place].item(), abs=1e-5)


def test_no_history_gives_tables_without_rows(model):
    for ask, columns in (
        (
            model.attention,
            ["history", "layer", "head", "query", "event", "item", "weight"],
        ),
        (model.erasure, ["history", "candidate", "event", "item", "drop"]),
    ):
        for histories in ([], [[]]):
            frame = ask(histories=histories)
            assert list(frame.columns) == columns
            assert len(frame) == 0


def test_a_question_that_fails_leaves_the_mode_as_it_was(model, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("in the middle")

    model.train()
    monkeypatch.setattr(model.encoder, "forward", fail)
    for ask in (model.attention, model.erasure):
        with pytest.raises(RuntimeError, match="in the middle"):
            ask(histories=[[500, 503]])
        assert model.training


def test_similar_items_are_other_items_by_cosine(model):
    found = model.similar_items([500], k=3)[0]
    assert 500 not in found.items
    vectors = torch.nn.functional.normalize(model.item.catalogue().detach(), dim=1)
    assert found.scores == pytest.approx(
        (vectors[1:] @ vectors[0]).topk(3).values.tolist(), abs=1e-6
    )


# --- some kinds
# --------------------------------------------------------------------------------------


def test_self_attention_shares_one_query_and_says_so():
    pass_by = ac.leave_one_out(rhythm_log(10))
    model = build(pass_by, "self", blocks=2)
    history = [500, 501, 502, 503, 504, 505, 506, 507, 508, 509]
    frame = model.attention(histories=[history])
    assert set(frame["query"]) == {"next"}
    assert set(frame["layer"]) == set(frame["head"]) == {0, 1}
    # Length is 8: the two oldest events are out of sight.
    assert frame["event"].min() == 2
    assert frame["item"].iloc[0] == 502
    every = model.attention(histories=[history[:3]], every_query=True)
    assert len(every) == 2 * 2 * 3 * 3
    assert every[(every["query"] == 0) & (every["event"] > 0)]["weight"].eq(0).all()
    with pytest.raises(ValueError, match="attention='target'"):
        model.attention(histories=[history], candidates=[500])


def test_target_attention_has_a_row_of_weights_for_each_candidate(split):
    model = build(split, "target")
    with torch.no_grad():
        model.item.id.weight.mul_(50)
    frame = model.attention(histories=[[500, 503, 501]], candidates=[505, 508])
    assert set(frame["query"]) == {505, 508}
    rows = (
        frame[frame["head"] == 0]
        .pivot(index="query", columns="event", values="weight")
        .to_numpy()
    )
    assert not np.allclose(rows[0], rows[1])


@pytest.mark.parametrize("combine", ["attended", "pooled", "whole"])
def test_a_target_candidate_is_scored_alike_alone_among_others_and_at_an_earlier_moment(
    split, combine
):
    model = build(split, "target", combine=combine).eval()
    windows = Windows(Histories.from_lists([[1, 2, 3, 4, 5], [1, 2, 3]]), 8)
    long, short = windows.batch(np.array([0])), windows.batch(np.array([1]))
    whole = model.scorer(short)(slice(None))
    asked = torch.tensor([[[4, 9]]]), torch.tensor([[2]])
    some = candidate_scores(model, model.embedding(short), *asked)
    torch.testing.assert_close(some[:, 0], whole[:, [3, 8]])
    earlier = candidate_scores(model, model.embedding(long), *asked)
    torch.testing.assert_close(earlier, some)


def test_raw_din_weights_need_not_sum_to_one(split):
    model = build(split, "target", normalize=False)
    frame = model.attention(histories=[[500, 503]], candidates=[505])
    assert not np.allclose(frame.groupby("head")["weight"].sum(), 1)


def test_mean_pooling_weighs_every_event_alike(split):
    frame = build(split, "mean").attention(histories=[[500, 501, 502, 503]])
    np.testing.assert_allclose(frame["weight"], 0.25)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("combine", ["pooled", "whole"])
@pytest.mark.parametrize("positions", ["none", "newest"])
def test_every_choice_of_output_and_positions_trains(
    split, quick, kind, combine, positions
):
    model = build(split, kind, combine=combine, positions=positions, item_bias=False)
    run = ac.fit(model, split, quick)
    assert np.isfinite([epoch["loss"] for epoch in run.epochs]).all()


@pytest.mark.parametrize("kind", ["self", "target"])
@pytest.mark.parametrize("loss", ["sampled", "gbce", "bce"])
def test_every_loss_trains(split, kind, loss):
    config = ac.TrainingConfig(
        epochs=8,
        batch_size=10,
        lr=1e-2,
        warmup=2,
        loss=loss,
        negatives=6,
        progress=False,
    )
    run = ac.fit(build(split, kind), split, config)
    assert run.epochs[-1]["loss"] < run.epochs[0]["loss"]


def test_positions_from_the_newest_differ_from_positions_from_the_oldest(split):
    histories = Histories.from_lists([[1, 2, 3], [4, 1, 2, 3]])
    batch = Windows(histories, 8).batch(np.array([0, 1]))
    newest = build(split, "self", positions="newest").embedding.position(batch)
    assert torch.equal(newest[0, 2], newest[1, 3])
    assert torch.equal(newest[0, 0], newest[1, 1])
    assert build(split, "self", positions="none").embedding.position is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (
            {"attention": "other"},
            "attention='other': must be one of self, target, lstm, mean",
        ),
        ({"width": 0}, "width=0: must be .*at least 1"),
        ({"width": 10, "heads": 3}, "heads=3: must divide width=10"),
        ({"dropout": 1.5}, r"dropout=1.5: must be from 0 to 0.99"),
        ({"positions": "round"}, "positions='round'"),
    ],
)
def test_a_wrong_configuration_says_what_was_given_and_what_is_allowed(wrong, hint):
    with pytest.raises(ValueError, match=hint):
        ac.RecommenderConfig(**wrong)


def test_weights_are_drawn_by_seed_and_leave_the_global_generator_alone(
    split, small, monkeypatch
):
    torch.manual_seed(5)

    def seeded(*given):
        raise AssertionError("the generators of GPUs are seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    before = torch.get_rng_state()
    first, same, other = (ac.Recommender(small, split, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.item.id.weight, same.item.id.weight)
    assert not torch.equal(first.item.id.weight, other.item.id.weight)


# --- run folders
# --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    build(split, "self").save(folder, {"data": {"name": "rhythm"}})
    return folder


def test_a_folder_that_is_no_run_folder_is_named(tmp_path):
    with pytest.raises(ac.DataError, match="is not a run folder"):
        ac.load(tmp_path)


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "histories.safetensors", "vocabulary.json"]
)
def test_a_missing_a_truncated_or_a_foreign_file_is_refused_with_its_name(
    saved, tmp_path, name
):
    folder = shutil.copytree(saved, tmp_path / "run")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-7])
    with pytest.raises(ac.DataError, match=f"{name}: is damaged or of another run"):
        ac.load(folder)
    (folder / name).unlink()
    with pytest.raises(ac.DataError, match=f"{name}: is missing"):
        ac.load(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"files": {}}'])
def test_a_damaged_config_is_refused(saved, tmp_path, text):
    folder = shutil.copytree(saved, tmp_path / "run")
    (folder / "config.json").write_text(text)
    with pytest.raises(ac.DataError, match=r"run") as error:
        ac.load(folder)
    assert "\n" not in str(error.value)


def test_an_unknown_setting_in_a_config_is_refused(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["recommender"]["depth"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ac.DataError, match="does not describe a recommender"):
        ac.load(folder)


def test_saving_over_a_file_or_into_a_forbidden_place_leaves_it_as_it_was(
    split, saved, tmp_path
):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        build(split, "self").save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("attention", ["self", "lstm", "mean"])
@pytest.mark.parametrize(
    "options", [{}, {"combine": "pooled"}, {"combine": "whole"}], ids=str
)
def test_the_newest_states_are_those_of_all_positions(split, attention, options):
    config = ac.RecommenderConfig(attention=attention, width=16, length=8, **options)
    check_newest(config, split)


@pytest.mark.parametrize("attention", ["self", "lstm", "mean"])
def test_the_newest_states_with_a_transition_are_those_of_all_positions(
    split, attention
):
    check_newest(
        ac.RecommenderConfig(attention=attention, width=16, length=8, transition=3),
        split,
    )


@pytest.mark.parametrize("relative", ["position", "time"])
def test_the_newest_states_with_a_relative_bias_are_those_of_all_positions(
    split, relative
):
    check_newest(ac.RecommenderConfig(width=16, length=8, relative=relative), split)


def check_newest(config, split):
    model = ac.Recommender(config, split).eval()
    for name, parameter in model.named_parameters():
        if "_SH" in name:  # biases start at 0
            torch.nn.init.normal_(parameter)
    windows = model.windows(
        Histories.from_lists([[1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 1], [5, 2, 4, 1, 7]])
    )
    batch = windows.batch(np.array([0, 1, 2]))
    expected = model.states(batch)[torch.arange(3), batch.lengths_B - 1]
    torch.testing.assert_close(
        model._newest_states(batch), expected, atol=1e-5, rtol=1e-4
    )


class Ones:
    """A criterion whose loss is 1 a position; it keeps the scores that it was given."""

    loss = "sampled"

    def draw(self):
        return torch.tensor([2, 7, 9])

    def __call__(self, positive_N, negative_NM, target_N, negatives_M):
        self.given = positive_N, negative_NM, target_N
        return torch.ones_like(positive_N)


def test_target_attention_weighs_its_draws_to_stand_for_all_positions(split):
    model = ac.Recommender(
        ac.RecommenderConfig(attention="target", width=16, length=8), split
    )
    batch = model.windows(split.train, targets=True).batch(np.array([0, 3, 5]))
    assert model.loss(batch, Ones()).item() == pytest.approx(len(batch.real_N))


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_sampled_scores_are_those_of_the_catalogue_biases_included(split, temperature):
    model = ac.Recommender(
        ac.RecommenderConfig(width=16, length=8, temperature=temperature), split
    ).eval()
    torch.nn.init.normal_(model.output.bias)
    batch, criterion = (
        model.windows(split.train, targets=True).batch(np.array([0, 3])),
        Ones(),
    )
    model.loss(batch, criterion)
    state_ND = model.states(batch).flatten(0, 1)[batch.real_N]
    scores_NV = (
        state_ND @ model.output.scaled(model.item.catalogue()).T
        + model.output.catalogue_bias()
    )
    positive_N, negative_NM, target_N = criterion.given
    torch.testing.assert_close(negative_NM, scores_NV[:, criterion.draw() - 1])
    torch.testing.assert_close(
        positive_N, scores_NV.gather(1, target_N[:, None] - 1)[:, 0]
    )


@pytest.mark.parametrize(
    "options",
    [{"transition": 3}, {"gated": True}, {"temperature": 0.1, "item_bias": False}],
    ids=str,
)
def test_scores_of_one_history_are_those_of_training_at_its_last_position(
    split, options
):
    model = ac.Recommender(
        ac.RecommenderConfig(width=16, length=8, **options), split
    ).eval()
    histories = Histories.from_lists([[1, 2, 3, 4, 5], [3, 1]])
    batch = model.windows(histories).batch(np.array([0, 1]))
    state_BD = model.states(batch)[torch.arange(2), batch.lengths_B - 1]
    expected = state_BD @ model.output.scaled(model.item.catalogue()).T
    torch.testing.assert_close(model.score(histories), expected)
    if "temperature" in options:
        assert model.score(histories).abs().max() <= 1 / 0.1 + 1e-4


def test_a_gate_multiplies_each_branch(split):
    block = SelfAttentionBlock(8, 2, dropout=0.0, gated=True).eval()
    x = torch.randn(2, 5, 8)
    normed = block.norm_attention(x)
    attended, _ = block.attention(normed, normed, causal=True)
    x_after = x + attended * block.gates[0](normed).sigmoid()
    normed = block.norm_network(x_after)
    torch.testing.assert_close(
        block(x)[0], x_after + block.network(normed) * block.gates[1](normed).sigmoid()
    )


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (
            {"attention": "target", "transition": 2},
            "transition=2: needs one state for all candidates",
        ),
        (
            {"attention": "mean", "gated": True},
            "gated=True: needs attention='self', not 'mean'",
        ),
        (
            {"attention": "target", "memory_weight": 0.5},
            "memory_weight=0.5: needs one state for all candidates",
        ),
        ({"transition": -1}, "transition=-1: must be a whole number, at least 0"),
        ({"temperature": -1.0}, "temperature=-1.0: must be at least 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(wrong, hint):
    with pytest.raises(ValueError, match=hint):
        ac.RecommenderConfig(**wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_temperature_no_score_is_larger_than_its_inverse(split, kind):
    model = build(split, kind, temperature=0.1, item_bias=False)
    with torch.no_grad():
        # Long vectors, whose plain products would be far larger.
        for parameter in model.parameters():
            parameter.mul_(30)
    scores = model.score(Histories.from_lists([[1, 2, 3], [4]]))
    assert scores.abs().max() <= 10 + 1e-3
    assert scores.abs().max() > 1
