"""Features in the model: what they add to its vectors, what they leave alone, and that
they survive a save."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import rhythm_log
from torch import nn

import attncore as ac
from attncore.__main__ import main
from attncore.batches import Windows
from attncore.embedding import (
    FeatureEmbedding,
    FeatureVector,
    ItemEmbedding,
    PositionEmbedding,
)
from attncore.features import Feature
from attncore.layers import dropped
from attncore.output import Criterion
from attncore.recommender import candidate_scores
from attncore.sequences import Histories

KINDS = ["self", "target", "lstm", "mean"]
COLUMNS = {
    "item_features": ("genres", "title", "year"),
    "user_features": ("age", "job"),
    "event_features": ("rating", "tags"),
    "situation_features": ("mood", "price:log"),
}


def known_log() -> ac.Interactions:
    """The rhythm, with tables and event attributes of every kind; some users and items
    are not in the tables."""
    rng = np.random.default_rng(0)
    events = rhythm_log().events.copy()
    n = len(events)
    events["rating"] = rng.integers(1, 6, n)
    events["tags"] = [tuple("abc"[: rng.integers(4)]) for _ in range(n)]
    events["mood"] = rng.choice(["good", "bad"], n)
    events["price"] = rng.exponential(size=n)
    ids = pd.Index(range(500, 511), name="item")  # 511 is missing
    items = pd.DataFrame(
        {
            "year": 1990.0 + np.arange(11),
            "title": [f"Film {i % 3} of all" for i in range(11)],
        },
        ids,
    )
    items["genres"] = [("Drama", "Crime")[: i % 3] for i in range(11)]
    items.loc[505, "year"] = np.nan
    ids = pd.Index(range(101, 140), name="user")  # 100 is missing
    users = pd.DataFrame(
        {"age": rng.integers(18, 60, 39), "job": rng.choice(["cook", "nurse"], 39)}, ids
    )
    return ac.Interactions(events, users, items, "known")


@pytest.fixture(scope="module")
def known():
    return ac.leave_one_out(known_log())


def build(split, kind, **changes):
    options = {"width": 16, "heads": 2, "length": 8, "dropout": 0.1} | COLUMNS | changes
    model = ac.Recommender(
        ac.RecommenderConfig(attention=kind, **options), split, seed=3
    )
    with torch.no_grad():  # weights that matter, those of "unknown" too
        for vector in [m for m in model.modules() if isinstance(m, FeatureVector)]:
            for parameter in vector.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(1))
            if vector.kind != "number":
                vector.value.weight[0] = 0
    return model.eval()


@pytest.fixture(params=KINDS)
def model(request, known):
    return build(known, request.param)


# --- one feature
# --------------------------------------------------------------------------------------


def test_the_mean_of_many_values_counts_real_ones_only():
    vector = FeatureVector(Feature("x", "categories", values=("a", "b")), 4)
    with torch.no_grad():
        vector.value.weight[1:] = torch.arange(12.0).view(3, 4)
    found = vector(torch.tensor([[2, 3, 0], [3, 0, 0], [0, 0, 0], [1, 0, 0]]))
    expected = torch.tensor(
        [[6.0, 7, 8, 9], [8, 9, 10, 11], [0, 0, 0, 0], [0, 1, 2, 3]]
    )
    assert torch.equal(found, expected)


def test_words_are_averaged_then_layer_normalized_and_no_words_are_zero():
    vector = FeatureVector(Feature("x", "words", values=("a", "b")), 8)
    with torch.no_grad():
        vector.norm.bias.fill_(3.0)
    found = vector(torch.tensor([[2, 3], [0, 0]]))
    expected = (
        0.02 * nn.functional.layer_norm(vector.value.weight[2:].mean(0), (8,)) + 3
    )
    torch.testing.assert_close(found[0], expected)
    assert not found[1].any()


def test_a_number_stretches_a_vector_and_a_missing_one_has_its_own():
    vector = FeatureVector(Feature("x", "number", statistics=(0.0, 1.0)), 4)
    with torch.no_grad():
        vector.missing.fill_(5.0)
    found = vector(torch.tensor([2.0, torch.nan, 0.0]))
    torch.testing.assert_close(
        found, torch.stack([2 * vector.direction, vector.missing, torch.zeros(4)])
    )
    found.sum().backward()
    assert vector.direction.grad.tolist() == [2.0] * 4
    assert vector.missing.grad.tolist() == [1.0] * 4


def test_unknown_starts_as_zero_and_is_learned():
    features = [
        Feature("x", "category", values=("a",)),
        Feature("y", "number", statistics=(0.0, 1.0)),
    ]
    embedding = FeatureEmbedding(features, 4, hide=0.5)
    codes = [torch.tensor([1, 2]), torch.tensor([torch.nan, 1.0])]
    assert not embedding.eval()(codes)[0].any()
    assert torch.equal(embedding(codes), embedding(codes))
    embedding.train()(codes).sum().backward()
    assert embedding.vectors[0].value.weight.grad[1].any()
    assert embedding.vectors[1].missing.grad.any()


def test_hiding_makes_all_features_of_a_place_unknown_together_at_its_share():
    features = [
        Feature("x", "category", values=("a",)),
        Feature("y", "categories", values=("a", "b")),
        Feature("z", "number", statistics=(0.0, 1.0)),
    ]
    embedding = FeatureEmbedding(features, 1, hide=0.25).train()
    seen = []
    for vector in embedding.vectors:
        vector.register_forward_pre_hook(lambda _, codes: seen.append(codes[0]))
    embedding([torch.full((4000,), 2), torch.full((4000, 2), 3), torch.ones(4000)])
    hidden = seen[0] == 1
    assert 0.2 < hidden.float().mean() < 0.3
    assert torch.equal(seen[2].isnan(), hidden)
    assert (seen[1][hidden] == torch.tensor([1, 0])).all()
    assert (seen[1][~hidden] == 3).all()


# --- items
# --------------------------------------------------------------------------------------


def test_an_items_vector_is_its_id_plus_its_features_and_padding_is_zero(model, known):
    item = model.item
    assert isinstance(item, ItemEmbedding)
    every = torch.arange(len(known.items) + 1)
    table = item(every)
    assert item.catalogue().shape == (12, 16)
    torch.testing.assert_close(item.catalogue(), table[1:])
    assert not table[0].any()
    by_hand = item.id.weight[3] + sum(
        vector(codes[3])
        for vector, codes in zip(
            item.features.embedding.vectors, item.features.codes(), strict=True
        )
    )
    torch.testing.assert_close(table[3], by_hand)
    many = item(every.repeat(3))  # more places than items: looked up another way
    torch.testing.assert_close(many, table.repeat(3, 1))
    assert all(not codes[0].any() for codes in item.features.codes())


@pytest.mark.parametrize("kind", ["self", "target"])
def test_padding_is_zero_with_zero_gradient_for_ever(known, kind):
    model = build(known, kind).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    loss = "full" if kind == "self" else "sampled"
    criterion = Criterion(loss, 6, 0.0, 0.0, torch.from_numpy(known.item_counts))
    windows = model.windows(known.train, np.arange(len(known.train)), targets=True)
    tables = [model.item.id.weight]
    tables += [
        m.value.weight
        for m in model.modules()
        if isinstance(m, FeatureVector) and m.kind != "number"
    ]
    for _ in range(5):
        optimizer.zero_grad()
        model.loss(windows.batch(np.array([0, 3, 7])), criterion).backward()
        assert all(not table.grad[0].any() for table in tables)
        assert all(table.grad.any() for table in tables)
        optimizer.step()
        assert all(not table[0].any() for table in tables)
    assert not model.item(torch.zeros(2, dtype=torch.int64)).any()
    assert model.item.catalogue()[0].any()


def test_padding_and_company_change_no_score(model, known):
    together = model.score(
        known.test.histories, known.test.users, known.test.attributes
    )
    assert together.isfinite().all()
    for row in (0, 7):
        one = np.array([row])
        told = {name: column[one] for name, column in known.test.attributes.items()}
        alone = model.score(known.test.histories.take(one), known.test.users[one], told)
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-4)


# --- who asks, and when
# --------------------------------------------------------------------------------------


def test_only_the_profile_changes_and_so_do_the_scores(model):
    histories = Histories.from_lists([[1, 2, 3], [1, 2, 3], [1, 2, 3], [], []])
    scores = model.score(histories, np.array([5, 6, -1, 5, 6]))
    # A profile speaks even where the history is empty.
    for a, b in (
        (0, 1),
        (0, 2),
        (3, 4),
    ):
        assert (scores[a] - scores[b]).abs().max() > 1e-3
    unknown = model.score(histories)
    torch.testing.assert_close(unknown[2], scores[2])
    # 100 has no row.
    torch.testing.assert_close(
        model.score(histories, np.array([0, 0, 0, 0, 0]))[0], scores[2]
    )


def test_only_the_situation_changes_and_so_do_the_scores(model):
    asked = {"histories": [[500, 501]], "k": 12, "exclude_seen": False}
    good, bad = (
        model.recommend(**asked, situation={"mood": mood, "price": 1.5})[0]
        for mood in ("good", "bad")
    )
    assert good != bad
    nothing = model.recommend(**asked)[0]
    assert nothing == model.recommend(**asked, situation={"mood": "never seen"})[0]
    assert (
        nothing == model.recommend(**asked, situation={"mood": None, "price": None})[0]
    )
    assert nothing not in (good, bad)
    assert (
        model.recommend(**asked, situation={"price": "1.5", "mood": "good"})[0] == good
    )


def test_an_events_attributes_change_the_scores_and_without_them_it_is_unknown(model):
    items, offsets, times = (
        np.array([1, 2, 1, 2, 1, 2], np.int32),
        np.array([0, 2, 4, 6]),
        np.arange(6),
    )
    rating, tags = (
        [5, 1, 1, 5, None, None],
        [("a",), (), ("b", "c"), ("a",), None, None],
    )
    scores = model.score(
        Histories(
            items, offsets, times, {"rating": np.array(rating, object), "tags": tags}
        )
    )
    assert (scores[0] - scores[1]).abs().max() > 1e-3
    torch.testing.assert_close(
        scores[2], model.score(Histories.from_lists([[1, 2]]))[0]
    )


def test_the_situation_is_that_of_the_target_in_training_and_in_evaluation(
    model, known
):
    batch = model.windows(known.train, np.arange(len(known.train)), targets=True).batch(
        np.array([4, 2])
    )
    good = model.features.situation[0].encode(["good"])[0]
    moods = known.histories.attributes["mood"]
    for row, user in enumerate((4, 2)):
        start, stop = known.train.offsets[user], known.train.offsets[user + 1]
        whole = known.histories.offsets[user]
        expected = moods[whole + 1 : whole + (stop - start)] == "good"
        assert (
            batch.situation["mood"][row, : len(expected)] == good
        ).tolist() == expected.tolist()
    last = known.histories.offsets[1:] - 1  # the test event of each user
    assert known.test.attributes["mood"].tolist() == moods[last].tolist()
    assert (
        known.valid.attributes["price"].tolist()
        == known.histories.attributes["price"][last - 1].tolist()
    )
    asked = []
    score = model.score
    model.score = lambda *given, **told: (
        asked.append(told["situation"]) or score(*given, **told)
    )
    ac.evaluate(model, known.test, bootstrap=0)
    assert asked[0]["mood"].tolist() == known.test.attributes["mood"].tolist()


def test_a_targets_other_attributes_never_leak(model, known):
    plain = ac.evaluate(model, known.test, bootstrap=0).metrics
    other = dict(known.test.attributes) | {
        "rating": np.full(40, 5),
        "tags": np.array([("a",)] * 41, object)[:40],
    }
    assert (
        ac.evaluate(
            model, dataclasses.replace(known.test, attributes=other), bootstrap=0
        ).metrics
        == plain
    )


def test_no_position_sees_what_comes_after_the_item_it_predicts(known):
    model = build(known, "self")
    columns = known.train.attributes
    late = {name: column.copy() for name, column in columns.items()}
    third = known.train.offsets[0] + 3
    late["rating"][third], late["mood"][third], late["price"][third] = 9, "odd", 77.0
    states = [
        model.states(
            model.windows(
                dataclasses.replace(known.train, attributes=held),
                np.zeros(40, int),
                targets=True,
            ).batch(np.array([0]))
        )[0]
        for held in (columns, late)
    ]
    assert torch.equal(states[0][:2], states[1][:2])
    # It predicts the changed event: its situation is known.
    assert not torch.equal(states[0][2], states[1][2])
    assert not torch.equal(states[0][3], states[1][3])


def test_target_scores_alike_alone_among_others_and_at_an_earlier_moment(known):
    model = build(known, "target")
    batches = [
        model.windows(Histories.from_lists([row]), np.array([5])).batch(np.array([0]))
        for row in ([1, 2], [1, 2, 3])
    ]
    whole = model.scorer(batches[0])(slice(None))
    for batch in batches:
        moment = torch.tensor([[[4, 9]]]), torch.tensor([[1]]), model.user_side(batch)
        some = candidate_scores(model, model.embedding(batch), *moment)[:, 0]
        torch.testing.assert_close(some, whole[:, [3, 8]])


# --- the whole
# --------------------------------------------------------------------------------------


def test_every_kind_trains_with_features(model, known, quick):
    run = ac.fit(model, known, dataclasses.replace(quick, negatives=8))
    assert np.isfinite([epoch["loss"] for epoch in run.epochs]).all()
    assert not model.item.id.weight[0].any()


def test_a_profile_that_decides_is_learned(quick):
    """All begin with item 99; then half of the users take even items, half odd ones:
    only their profile tells."""
    rng = np.random.default_rng(0)
    rows = [(user, 99, 0) for user in range(120)]
    rows += [
        (user, int(rng.integers(6)) * 2 + user % 2, time)
        for user in range(120)
        for time in (1, 2, 3)
    ]
    users = pd.DataFrame(
        {"team": ["even", "odd"] * 60}, index=pd.Index(range(120), name="user")
    )
    log = ac.Interactions.from_frame(
        pd.DataFrame(rows, columns=["user", "item", "time"]), users=users, repeats=True
    )
    split = ac.split_by_user(log, known=1)
    found = {}
    for columns in ((), ("team",)):
        config = ac.RecommenderConfig(
            attention="mean", width=16, length=4, dropout=0.0, user_features=columns
        )
        model = ac.Recommender(config, split)
        ac.fit(model, split, dataclasses.replace(quick, epochs=40, lr=1e-2))
        found[columns] = ac.evaluate(model, split.test, k=6, bootstrap=0).metrics[
            "hr@6"
        ]
    assert found["team",] > 0.95
    assert found[()] < 0.8


def test_without_features_nothing_is_there_and_nothing_changes(known, split):
    plain = ac.RecommenderConfig(width=16, length=8)
    one, other = ac.Recommender(plain, known), ac.Recommender(plain, split)
    assert [name for name, _ in one.named_parameters()] == [
        name for name, _ in other.named_parameters()
    ]
    assert torch.equal(
        one.score(known.test.histories, known.test.users),
        other.score(split.test.histories),
    )
    assert one.item.catalogue().data_ptr() == one.item.id.weight[1:].data_ptr()
    assert not one.reads_situation


def test_batches_of_raw_windows_hold_attributes_of_every_shape(known):
    codes = {"one": np.arange(6), "many": np.arange(12).reshape(6, 2)}
    histories = dataclasses.replace(
        Histories.from_lists([[1, 2, 3], [4, 5, 6]]), attributes=codes
    )
    batch = Windows(histories, 5, targets=True, situation=codes).batch(np.array([1, 0]))
    assert batch.attributes["one"].tolist() == [[3, 4], [0, 1]]
    assert batch.situation["one"].tolist() == [[4, 5], [1, 2]]
    assert batch.situation["many"].tolist() == [[[8, 9], [10, 11]], [[2, 3], [4, 5]]]
    asked = Windows(histories, 5, situation={"one": np.array([7, 8])}).batch(
        np.array([1, 0])
    )
    assert asked.situation["one"].tolist() == [[8], [7]]


@pytest.mark.parametrize("kind", ["self", "target"])
def test_a_saved_model_needs_no_log(known, kind, tmp_path):
    model = build(known, kind)
    model.save(tmp_path / "run")
    back = ac.load(tmp_path / "run")
    assert back.features == model.features
    assert back.config == model.config
    assert back.split.log is None
    metrics = ac.evaluate(model, known.test, bootstrap=0).metrics
    assert ac.evaluate(back, back.split.test, bootstrap=0).metrics == metrics
    assert ac.evaluate(back, known.test, bootstrap=0).metrics == metrics
    asked = {"users": [100, 105], "k": 4, "situation": {"mood": "bad"}}
    assert back.recommend(**asked) == model.recommend(**asked)
    assert back.attention(users=[105], situation={"mood": "bad"}).equals(
        model.attention(users=[105], situation={"mood": "bad"})
    )
    back.save(tmp_path / "again")  # and a loaded one can be saved
    assert ac.load(tmp_path / "again").recommend(**asked) == model.recommend(**asked)
    with pytest.raises(
        ac.DataError,
        match="item_features need the log, which a run folder does not hold",
    ):
        ac.Recommender(model.config, back.split)
    kept = json.loads((tmp_path / "run" / "vocabulary.json").read_text())["attributes"]
    assert [column["name"] for column in kept] == ["mood", "price", "rating", "tags"]


def test_only_attributes_that_are_read_are_saved(known, tmp_path):
    build(known, "self", event_features=("rating",), situation_features=()).save(
        tmp_path / "run"
    )
    assert list(ac.load(tmp_path / "run").split.histories.attributes) == ["rating"]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_erasure_are_those_of_who_asks(known, kind):
    model = build(known, kind)
    frame = model.attention(users=[105, 107], situation={"mood": "good"})
    sums = frame.groupby(["history", "layer", "head", "query"])["weight"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    drops = model.erasure(users=[105], candidates=[503], situation={"mood": "good"})
    row = known.users.encode([105]).astype(int) - 1
    history = known.histories.take(row)
    whole, without = (
        model.score(history.erased(0).take(np.array([n])), row, {"mood": ["good"]})[
            0, 3
        ].item()
        for n in (0, 1)
    )
    assert drops["drop"][0] == pytest.approx(whole - without, abs=1e-4)
    if kind == "target":
        best = model.recommend(users=[105], situation={"mood": "good"})[0].items
        assert frame[frame["history"] == 0]["query"].unique().tolist() == best


@pytest.mark.parametrize(
    ("columns", "situation", "hint"),
    [
        (
            COLUMNS,
            {"weather": 1},
            (
                "unknown situation 'weather': the model does not read it; it knows"
                " mood, price"
            ),
        ),
        (
            COLUMNS,
            {"price": "dear"},
            "events, column 'price': 'dear' is not a finite number",
        ),
        (
            {"situation_features": ()},
            {"mood": 1},
            "it was trained without situation_features",
        ),
    ],
)
def test_a_wrong_situation_is_one_clear_line(known, columns, situation, hint):
    with pytest.raises(ac.DataError, match=hint) as error:
        build(known, "self", **columns).recommend(users=[101], situation=situation)
    assert "\n" not in str(error.value)


def test_a_wrong_configuration_of_features_says_so():
    with pytest.raises(
        ValueError,
        match=r"item_features='genres': must be names of columns, such as \('genres'",
    ):
        ac.RecommenderConfig(item_features="genres")
    with pytest.raises(ValueError, match="feature_dropout=2"):
        ac.RecommenderConfig(feature_dropout=2)


def test_id_dropout_hides_items_own_vectors_in_training_alone(known):
    model = build(known, "self")
    table = ItemEmbedding(
        len(model.split.items), 16, model.item.features, id_dropout=0.4
    )
    items = torch.randint(1, len(model.split.items) + 1, (50, 40))
    with torch.no_grad():
        features, whole = table.features(items), table.eval()(items)
        torch.manual_seed(0)
        seen = table.train()(items)
    hidden = (seen == features).all(-1)
    assert torch.equal(whole, table.id(items) + features)
    assert torch.equal(seen[~hidden], whole[~hidden])
    assert 0.35 < hidden.float().mean() < 0.45
    assert not table(torch.zeros(3, dtype=torch.long)).any()


def test_id_dropout_reaches_the_embedding(known):
    assert build(known, "self", id_dropout=0.3).item.id_dropout == 0.3


def test_id_dropout_without_features_is_refused():
    with pytest.raises(
        ValueError,
        match=r"id_dropout=0\.3: would leave nothing of an item; name item_features",
    ):
        ItemEmbedding(5, 8, id_dropout=0.3)
    with pytest.raises(ValueError, match="id_dropout=1: must be"):
        ac.RecommenderConfig(id_dropout=1)
    assert ac.RecommenderConfig(item_features=["a"]) == ac.RecommenderConfig(
        item_features=("a",)
    )


def test_the_command_line_trains_with_features_and_asks_in_a_situation(
    tmp_path, capsys
):
    known_log().events[["user", "item", "time", "rating", "mood"]].to_csv(
        tmp_path / "log.csv", index=False
    )
    quick = [
        "--epochs",
        "1",
        "--width",
        "16",
        "--length",
        "8",
        "--no-progress",
        "--device",
        "cpu",
    ]
    columns = [
        "--event-features",
        "rating",
        "--situation-features",
        "mood",
        "rating:category",
    ]
    main(
        [
            "train",
            str(tmp_path / "log.csv"),
            "--out",
            str(tmp_path / "run"),
            *columns,
            *quick,
        ]
    )
    (tmp_path / "log.csv").unlink()
    capsys.readouterr()
    asked = [
        "recommend",
        str(tmp_path / "run"),
        "--user",
        "105",
        "--json",
        "-k",
        "12",
        "--situation",
    ]
    said = []
    for pairs in (["mood=good"], ["mood=bad"], ["mood=bad", "rating=5"]):
        main([*asked, *pairs])
        said.append(json.loads(capsys.readouterr().out)["scores"])
    assert said[0] != said[1] != said[2]
    for pair, hint in (
        ("mood", "--situation mood: must be NAME=VALUE"),
        ("x=1", "it knows mood, rating"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*asked, pair])
        assert stop.value.code == 2
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1
        assert hint in shown


def test_the_command_line_reads_tables_of_users_and_items(tmp_path, capsys):
    log = rhythm_log(users=9)
    log.events.to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "users.csv").write_text("user,team\n100,red\n101,blue\n")
    (tmp_path / "items.csv").write_text("item,genres\n500,Drama|Crime\n501,Comedy\n")
    words = [
        "train",
        str(tmp_path / "log.csv"),
        "--out",
        str(tmp_path / "run"),
        "--epochs",
        "1",
        "--no-progress",
    ]
    words += [
        "--width",
        "16",
        "--length",
        "8",
        "--user-features",
        "team",
        "--item-features",
        "genres:categories",
    ]
    tables = [
        "--user-table",
        str(tmp_path / "users.csv"),
        "--item-table",
        str(tmp_path / "items.csv"),
    ]
    main([*words, *tables])
    features = ac.load(tmp_path / "run").features
    assert features.item[0].values == ("Comedy", "Crime", "Drama")
    assert features.user[0].values == ("blue", "red")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(words)
    assert (
        "item_features need a table of items; give the log one with items="
        in capsys.readouterr().err
    )


def test_places_from_the_newest_count_back_from_each_rows_own_end():
    position = PositionEmbedding(6, 4, newest=True)
    batch = Windows(Histories.from_lists([[1, 2, 3], [4]]), 6).batch(np.array([0, 1]))
    vectors, place = position(batch), position.place.weight
    assert torch.equal(vectors[0], place[[2, 1, 0]])
    assert torch.equal(vectors[1, 0], place[0])


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    kept = dropped(torch.ones(400_000), share)
    limit = round(share * 256)
    assert kept.unique().tolist() == pytest.approx([0, 256 / (256 - limit)])
    assert (kept == 0).double().mean().item() == pytest.approx(limit / 256, abs=0.004)
    assert kept.mean().item() == pytest.approx(1, abs=0.01)


def test_vectors_learned_elsewhere_are_where_the_words_begin():
    feature = Feature("title", "words", values=("alien", "star", "wars"))
    vector = FeatureVector(feature, 3)
    before = vector.value.weight.detach().clone()
    found = vector.start_from(
        {"alien": [1.0, 2.0, 3.0], "wars": np.full(3, 2.0), "elsewhere": [0, 0, 0]}
    )
    assert found == 2
    table = vector.value.weight
    assert table[2].tolist() == [1, 2, 3]
    assert table[4].tolist() == [2, 2, 2]
    assert torch.equal(table[[0, 1, 3]], before[[0, 1, 3]])
    assert table.requires_grad


def test_words_of_a_model_can_begin_with_vectors_learned_elsewhere(known):
    model = ac.Recommender(
        ac.RecommenderConfig(width=16, length=8, item_features=("title", "year")), known
    )
    before = model.score(known.test.histories)
    assert (
        model.item.features.embedding["title"].start_from(
            {"film": np.linspace(-1, 1, 16)}
        )
        == 1
    )
    assert not torch.allclose(model.score(known.test.histories), before)


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [[1.0, 2.0, 3.0]], [1.0, 2.0, np.nan]])
def test_a_vector_of_the_wrong_kind_is_named(wrong):
    vector = FeatureVector(Feature("title", "words", values=("alien",)), 3)
    with pytest.raises(
        ValueError, match=r"vector of 'alien', shape .*must be 3 finite numbers"
    ):
        vector.start_from({"alien": wrong})
    with pytest.raises(ValueError, match="a number has no values"):
        FeatureVector(Feature("year", "number", statistics=(0.0, 1.0)), 3).start_from(
            {}
        )
