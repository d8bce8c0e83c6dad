"""A recommender that knows who asks: profiles told or looked up, cold users, new items,
and tables that are bad."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import rhythm_log

import attncore as ac
from attncore.__main__ import main
from attncore.features import FeatureSet, audience_means
from attncore.output import Criterion
from attncore.recommender import candidate_scores
from attncore.sequences import Histories
from attncore.serving import best

KINDS = ["self", "target", "lstm", "mean"]
USER = ("age", "team")


def tabled(users=None, items=None) -> ac.Interactions:
    """The rhythm log with ratings, a table of all but the last user, and a table of all
    but the last item."""
    log = rhythm_log()
    events = log.events.assign(rating=np.arange(len(log.events)) % 5 + 1)
    ids, films = np.unique(events["user"]), np.unique(events["item"])
    people = pd.DataFrame(
        {"age": 20 + np.arange(39), "team": ["red", "blue", "green"] * 13},
        index=ids[:-1],
    )
    things = pd.DataFrame(
        {"kind": ["a", "b"] * 6, "price": np.arange(12) / 4}, index=films
    ).iloc[:-1]
    users = people.rename_axis("user") if users is None else users
    items = things.rename_axis("item") if items is None else items
    return ac.Interactions(events, users, items, name="rhythm")


@pytest.fixture(scope="module")
def known():
    return ac.leave_one_out(tabled())


def build(split, kind="self", **changes):
    options = {
        "width": 16,
        "length": 8,
        "dropout": 0.0,
        "user_features": USER,
    } | changes
    model = ac.Recommender(
        ac.RecommenderConfig(attention=kind, **options), split, seed=1
    )
    with torch.no_grad():  # the unknown begins as zero; here it shall be somebody
        for parameter in model.user_side.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    return model.eval()


# --- who asks
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_profile_that_is_told_counts_like_that_of_the_table(known, kind):
    model, history = build(known, kind), [501, 502, 503]
    rows = known.users.encode([100, 104]).astype(np.int64) - 1
    asked = Histories.from_lists([known.items.encode(history)] * 2)
    looked_up = [picks.items for picks in best(model, asked, rows, k=5)]
    told = [
        model.recommend(histories=[history], k=5, situation={"age": age, "team": team})[
            0
        ].items
        for age, team in ((20, "red"), (24, "blue"))
    ]
    assert told == looked_up
    assert told[0] != told[1]  # nothing else differs
    nobody = model.recommend(histories=[history], k=5)[0]
    unknown = model.recommend(
        histories=[history], k=5, situation={"age": None, "team": "purple"}
    )[0]
    assert unknown == nobody


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_out_of_a_profile_is_unknown(known, kind):
    model, history = build(known, kind), [501, 502]
    some = model.recommend(histories=[history], situation={"team": "red"})[0]
    assert (
        some
        == model.recommend(histories=[history], situation={"team": "red", "age": None})[
            0
        ]
    )
    assert some != model.recommend(histories=[history])[0]


def test_a_profile_moves_the_weights_of_target_attention_not_of_self_attention(
    known,
):
    told = [{"age": 20, "team": "red"}, {"age": 58, "team": "blue"}]
    for kind, moves in (("target", True), ("self", False)):
        model = build(known, kind)
        candidates = {"candidates": [510]} if kind == "target" else {}
        one, other = (
            model.attention([[501, 502, 503]], situation=who, **candidates)["weight"]
            for who in told
        )
        assert (np.abs(one - other).max() > 1e-3) is np.bool_(moves)
        drops = [
            model.erasure([[501, 502, 503]], candidates=[510], situation=who)["drop"]
            for who in told
        ]
        assert np.allclose(*drops, atol=1e-5) is not moves


def test_a_profile_survives_saving(known, tmp_path):
    model = build(known)
    model.save(tmp_path / "run")
    asked = {"histories": [[501, 502]], "situation": {"age": 33, "team": "green"}}
    assert ac.load(tmp_path / "run").recommend(**asked) == model.recommend(**asked)


def test_a_column_of_the_events_is_never_taken_for_the_profile():
    log = tabled()
    log = dataclasses.replace(log, events=log.events.assign(age=99.0, mood="good"))
    split = ac.leave_one_out(log)
    model = build(split, situation_features=("mood",))
    with_age = ac.evaluate(model, split.test, bootstrap=0).metrics
    other = dataclasses.replace(
        split.test, attributes=dict(split.test.attributes) | {"age": np.zeros(40)}
    )
    assert ac.evaluate(model, other, bootstrap=0).metrics == with_age


# --- cold users
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_made_for_cold_users_learns_what_comes_first(kind, quick):
    """Red users begin with item 0, blue ones with item 1; all go on alike."""
    rng = np.random.default_rng(0)
    rows = [(user, user % 2, 0) for user in range(80)]
    rows += [
        (user, int(rng.integers(2, 8)), time)
        for user in range(80)
        for time in (1, 2, 3, 4)
    ]
    people = pd.DataFrame(
        {"team": ["red", "blue"] * 40}, index=pd.RangeIndex(80, name="user")
    )
    log = ac.Interactions.from_frame(
        pd.DataFrame(rows, columns=["user", "item", "time"]), users=people, repeats=True
    )
    split = ac.split_by_user(log, known=0)
    found = {}
    for cold in (False, True):
        config = ac.RecommenderConfig(
            attention=kind,
            width=16,
            length=6,
            dropout=0.0,
            cold=cold,
            user_features=("team",),
        )
        model = ac.Recommender(config, split)
        ac.fit(
            model, split, dataclasses.replace(quick, epochs=40, lr=2e-2, negatives=8)
        )
        found[cold] = ac.evaluate(model, split.test, k=1, bootstrap=0).metrics["hr@1"]
    assert found[True] == 1
    assert found[False] < 0.7


def test_without_cold_an_empty_history_teaches_nothing(known):
    plain, cold = (build(known, cold=cold) for cold in (False, True))
    windows = plain.windows(known.train, np.arange(len(known.train)), targets=True)
    batch = windows.batch(np.arange(6))
    criterion = Criterion("full", 1, 0.0, 0.0, torch.from_numpy(known.item_counts))
    first = batch.items_BT[:, 0]
    scores = cold.score(known.train.take(np.arange(6), np.zeros(6, int)), np.arange(6))
    with torch.no_grad():
        extra = cold.loss(batch, criterion) - plain.loss(batch, criterion)
    torch.testing.assert_close(
        extra, torch.nn.functional.cross_entropy(scores, first - 1, reduction="sum")
    )


@pytest.mark.parametrize("combine", ["attended", "pooled", "whole"])
def test_target_attention_asked_of_an_empty_history_sees_none_of_it(known, combine):
    model = build(known, "target", combine=combine, cold=True)
    batch = model.windows(known.test.histories).batch(np.array([3]))
    empty = model.windows(
        known.test.histories.take(np.array([3]), np.zeros(1, int))
    ).batch(np.array([0]))
    candidates, before = torch.arange(1, 13).expand(1, 1, -1), torch.tensor([[-1]])
    seen, unseen = (
        candidate_scores(model, model.embedding(b), candidates, before)
        for b in (batch, empty)
    )
    torch.testing.assert_close(seen, unseen)


def test_cold_refuses_situation_features():
    with pytest.raises(ValueError, match=r"cold=True: .* leave situation_features out"):
        ac.RecommenderConfig(cold=True, situation_features=("mood",))


# --- new items
# --------------------------------------------------------------------------------------


def with_new_item(kind_of_new):
    """Users take items of one kind only; item 20, of kind `kind_of_new`, is asked for
    but never in training."""
    rng = np.random.default_rng(0)
    rows = [
        (user, int(rng.integers(4)) * 2 + user % 2, time)
        for user in range(60)
        for time in range(6)
    ]
    rows += [(user, 20, 6) for user in range(60)] + [
        (user, 21, 7) for user in range(60)
    ]
    things = pd.DataFrame(
        {"kind": ["even", "odd"] * 4 + [kind_of_new, "odd"]}, index=[*range(8), 20, 21]
    )
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    log = ac.Interactions.from_frame(
        frame, items=things.rename_axis("item"), repeats=True
    )
    return ac.leave_one_out(log)


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("self", "full"), ("mean", "sampled"), ("target", "sampled"), ("mean", "bce")],
)
def test_an_item_that_training_never_shows_is_scored_by_its_attributes(
    kind, loss, quick
):
    split = with_new_item("odd")
    assert split.item_counts[split.items.encode([20])[0] - 1] == 0
    config = ac.RecommenderConfig(
        attention=kind, width=16, length=6, dropout=0.0, item_features=("kind",)
    )
    model = ac.Recommender(config, split)
    ac.fit(
        model,
        split,
        dataclasses.replace(quick, epochs=20, lr=1e-2, loss=loss, negatives=32),
    )
    index = int(split.items.encode([20])[0])
    assert not model.item.id.weight[index].any()
    assert model.output.bias[index] == 0
    odd, even = (
        model.score(Histories.from_lists([split.items.encode(h)]))[0]
        for h in ([1, 3, 5], [0, 2, 4])
    )
    # Above all of the other kind, which were trained.
    assert odd[index - 1] > odd[:8:2].max()
    assert even[index - 1] < even[:8:2].min()


def test_without_attributes_nothing_is_hidden_and_a_new_item_is_a_negative(
    split, quick
):
    assert ac.Recommender(ac.RecommenderConfig(width=16), split).place_V is None
    new = with_new_item("odd")
    model = ac.Recommender(
        ac.RecommenderConfig(attention="mean", width=16, length=6), new
    )
    assert model.place_V is None
    ac.fit(model, new, quick)
    assert model.output.bias[int(new.items.encode([20])[0])] < 0


def test_a_model_without_item_biases_learns_with_new_items_too(quick):
    split = with_new_item("even")
    config = ac.RecommenderConfig(
        attention="self", width=16, length=6, item_bias=False, item_features=("kind",)
    )
    run = ac.fit(ac.Recommender(config, split), split, quick)
    assert np.isfinite([epoch["loss"] for epoch in run.epochs]).all()


# --- what the audience thinks
# ------------------------------------------------------------------------------------


def rated(last=3.0):
    rows = [(1, 10, 0, 5.0), (1, 20, 1, 1.0), (1, 30, 2, last), (1, 30, 3, last)]
    rows += [(2, 10, 0, 4.0), (2, 20, 1, 2.0), (2, 20, 2, last), (2, 40, 3, last)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "rating"])
    items = pd.DataFrame(
        {"kind": ["a", "b", "a"]}, index=pd.Index([10, 20, 30], name="item")
    )
    return ac.leave_one_out(
        ac.Interactions.from_frame(frame, items=items, repeats=True)
    )


def test_the_audiences_mean_by_hand_leans_on_the_mean_of_all():
    means = audience_means(rated(), "rating")
    assert means.index.tolist() == [10, 20]
    assert means.tolist() == pytest.approx([(9 + 5 * 3) / 7, (3 + 5 * 3) / 7])


def test_the_audiences_mean_reads_no_held_out_rating():
    columns = ("kind", "rating:mean")
    one, other = (
        FeatureSet.fit(split, item=columns) for split in (rated(3.0), rated(-100.0))
    )
    assert one == other
    (_, codes), (_, same) = (
        one.table_codes(rated(3.0), "item"),
        one.table_codes(rated(-100.0), "item"),
    )
    np.testing.assert_array_equal(codes, same)
    assert codes[1] > 0 > codes[2]
    assert np.isnan(codes[3:]).all()  # items 30 and 40 are never rated in training


def test_the_audiences_mean_needs_no_table_of_items():
    split = rated()
    bare = dataclasses.replace(split, log=dataclasses.replace(split.log, items=None))
    (codes,) = FeatureSet.fit(bare, item=["rating:mean"]).table_codes(bare, "item")
    assert np.isnan(codes[3:]).all()
    assert np.isfinite(codes[1:3]).all()


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (["mood:mean"], "no column 'mood:mean'; its columns are 'kind'"),
        (["word:mean"], "events, column 'word': 'x' is not a finite number"),
    ],
)
def test_a_mean_of_what_is_no_number_or_not_there_is_one_clear_line(columns, hint):
    split = rated()
    train = dataclasses.replace(
        split.train,
        attributes=dict(split.train.attributes) | {"word": np.array(["x"] * 4, object)},
    )
    with pytest.raises(ac.DataError) as error:
        FeatureSet.fit(dataclasses.replace(split, train=train), item=columns)
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


# --- bad tables
# --------------------------------------------------------------------------------------


def test_who_is_not_in_the_table_is_the_unknown_user(known):
    model = build(known)
    assert 139 not in tabled().users.index
    row = known.users.encode([139]).astype(np.int64) - 1
    asked = known.test.histories.take(row)
    assert torch.equal(model.score(asked, row), model.score(asked))
    assert not torch.equal(model.score(asked, np.zeros(1, int)), model.score(asked))


def test_an_item_that_is_not_in_the_table_has_unknown_attributes(known):
    table = build(known, item_features=("kind", "price")).item.features
    kind, price = table.codes()
    assert kind[12] == 1
    assert price[12].isnan()
    assert (kind[1:12] > 1).all()


def test_a_table_of_others_leaves_every_user_unknown():
    strangers = pd.DataFrame(
        {"age": [30], "team": ["red"]}, index=pd.Index([7], name="user")
    )
    split = ac.leave_one_out(tabled(users=strangers))
    model = build(split)
    assert torch.equal(
        model.score(split.test.histories, split.test.users),
        model.score(split.test.histories),
    )


def test_missing_values_are_unknown_and_everything_stays_finite(quick):
    users = tabled().users.astype({"age": float, "team": object})
    users.iloc[::2] = np.nan
    split = ac.leave_one_out(tabled(users=users))
    model = ac.Recommender(
        ac.RecommenderConfig(width=16, length=8, user_features=USER), split
    )
    run = ac.fit(model, split, quick)
    assert np.isfinite([epoch["loss"] for epoch in run.epochs]).all()
    assert model.score(split.test.histories, split.test.users).isfinite().all()


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        (
            {"age": "old"},
            (
                "rhythm, table of users, column 'age': 'old' is not a finite number;"
                " mend it, or ask for"
            ),
        ),
        ({"age": float("inf")}, "column 'age': inf is not a finite number"),
        (
            {"size": 3},
            (
                "unknown situation 'size': the model does not read it; it was trained"
                " without situation_features; of a profile, it knows age, team"
            ),
        ),
    ],
)
def test_a_wrong_profile_is_one_clear_line(known, asked, hint):
    with pytest.raises(ac.DataError) as error:
        build(known).recommend(histories=[[501]], situation=asked)
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (
            {
                "users": lambda t: t.assign(
                    age=t["age"].astype(object).where(t.index != 105, "old")
                )
            },
            "'old' is not a fin",
        ),
        (
            {"users": lambda t: t.assign(age=pd.Timestamp(0))},
            "column 'age': is Timestamp; make it numbers, text",
        ),
        (
            {"users": lambda t: t.drop(columns="team")},
            "table of users: no column 'team'; its columns are 'age'",
        ),
        (
            {"users": lambda t: pd.concat([t, t.iloc[:1]])},
            "table of users: user 100 is there twice; keep one row",
        ),
        (
            {"users": lambda t: t.set_axis(t.index.astype(str)).rename_axis("user")},
            "table of users: ids are",
        ),
        (
            {"users": lambda t: t.rename_axis("person")},
            "no column or index 'user' but 'person'",
        ),
    ],
)
def test_a_bad_table_is_one_clear_line(change, hint):
    with pytest.raises(ac.DataError) as error:
        build(
            ac.leave_one_out(
                tabled(
                    **{
                        name: make(getattr(tabled(), name))
                        for name, make in change.items()
                    }
                )
            )
        )
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


# --- the command line
# --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    log = tabled()
    log.events.to_csv(folder / "log.csv", index=False)
    log.users.to_csv(folder / "users.csv")
    log.items.to_csv(folder / "items.csv")
    return folder


def words(files, out):
    asked = [
        "train",
        files / "log.csv",
        "--out",
        out,
        "--user-table",
        files / "users.csv",
    ]
    asked += [
        "--item-table",
        files / "items.csv",
        "--user-features",
        "age",
        "team",
        "--item-features",
        "kind",
    ]
    asked += [
        "price:log",
        "rating:mean",
        "--event-features",
        "rating",
        "--epochs",
        "2",
        "--width",
        "16",
    ]
    return [
        str(w)
        for w in [
            *asked,
            "--length",
            "8",
            "--batch-size",
            "16",
            "--no-progress",
            "--device",
            "cpu",
        ]
    ]


def said(capsys, *command):
    main([str(word) for word in command])
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ["self", "target"])
def test_a_personal_model_goes_from_the_command_line_to_a_recommendation(
    files, tmp_path, capsys, kind
):
    run = tmp_path / "run"
    main([*words(files, run), "--attention", kind])
    capsys.readouterr()
    report = json.loads(said(capsys, "evaluate", run, "--json"))
    assert report["users"] == 40
    model = ac.load(run)
    assert [f.name for f in model.features.item] == ["kind", "price", "rating:mean"]
    assert json.loads(said(capsys, "recommend", run, "--user", 100, "--json"))["items"]
    told = ["--situation", "age=24", "team=blue", "--json"]
    picks = json.loads(said(capsys, "recommend", run, "--history", 501, 502, *told))
    expected = model.recommend(
        histories=[[501, 502]], situation={"age": 24, "team": "blue"}
    )[0]
    assert picks == {"items": expected.items, "scores": expected.scores}


def test_a_wrong_profile_on_the_command_line_is_one_line_and_status_2(
    files, tmp_path, capsys
):
    run = tmp_path / "run"
    main(words(files, run))
    for pair, hint in (
        ("age=old", "'old' is not a finite number"),
        ("size=3", "unknown situation 'size'"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as status:
            main(["recommend", str(run), "--history", "501", "--situation", pair])
        error = capsys.readouterr().err
        assert status.value.code == 2
        assert hint in error
        assert error.count("\n") == 1


def test_a_feature_that_is_not_there_is_one_line_and_status_2(files, tmp_path, capsys):
    command = words(files, tmp_path / "run")
    command[command.index("team")] = "tribe"
    with pytest.raises(SystemExit) as status:
        main(command)
    error = capsys.readouterr().err
    assert status.value.code == 2
    assert "no column 'tribe'; its columns are 'age', 'team'" in error
    assert error.count("\n") == 1
