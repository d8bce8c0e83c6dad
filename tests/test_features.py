"""Attributes become codes and numbers by what training holds, and by nothing else."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attncore as ac
from attncore.features import Feature, FeatureSet, encode_columns, fit_features

FILMS = pd.DataFrame(
    {
        "genres": [("Drama", "Crime"), ("Comedy",), ()],
        "title": ["The Third Man", "Don't Look Now", "The 39 Steps"],
        "year": pd.array([1949, 1973, None], dtype="Int64"),
        "colour": ["no", "yes", "no"],
    }
)


def fitted(values, how=""):
    return fit_features(
        pd.DataFrame({"x": pd.Series(values)}), [f"x:{how}" if how else "x"], "table"
    )[0]


# --- by hand
# --------------------------------------------------------------------------------------


def test_kinds_are_told_from_the_values():
    features = fit_features(FILMS, ["genres", "title", "year", "colour"], "films")
    assert [f.kind for f in features] == ["categories", "words", "number", "category"]
    assert fitted([[1], [2, 3]]).kind == "categories"
    assert fitted([True, False]).kind == "category"
    assert fitted([None, 3, 4]).kind == "number"
    assert fitted(pd.Categorical(["a", "b"])).kind == "category"


def test_a_category_is_coded_by_hand():
    feature = fitted(["b", "a", None, "b"])
    assert feature.values == ("a", "b")
    assert feature.size == 4
    codes = feature.encode(["a", "b", "c", None, np.nan])
    assert codes.tolist() == [2, 3, 1, 1, 1]
    assert codes.dtype == np.int32


def test_one_value_is_one_category_however_it_is_written():
    feature = fitted([3, 1, 3], "category")
    assert feature.values == ("1", "3")
    assert feature.encode([3, 3.0, "3", np.int64(3), True]).tolist() == [3, 3, 3, 3, 1]


def test_many_values_are_coded_by_hand_and_padded_on_the_right():
    feature = fit_features(FILMS, ["genres"], "films")[0]
    assert feature.values == ("Comedy", "Crime", "Drama")
    codes = feature.encode(
        [
            ("Drama", "Crime"),
            ("Comedy",),
            (),
            ("Western", "Drama"),
            None,
            ["Crime"],
            {"Drama"},
        ]
    )
    assert codes.tolist() == [[4, 3], [2, 0], [0, 0], [1, 4], [1, 0], [3, 0], [4, 0]]
    assert codes.dtype == np.int32
    assert feature.encode([("Drama", "Drama"), ("Crime", "Crime")]).tolist() == [
        [4, 4],
        [3, 3],
    ]
    assert feature.encode([()]).tolist() == [[0]]
    assert feature.encode([]).shape == (0, 1)


def test_text_with_bars_is_split_where_categories_are_asked_for():
    feature = fitted(["Drama|Crime", "Comedy"], "categories")
    assert feature.values == ("Comedy", "Crime", "Drama")
    assert feature.encode(["Crime| Comedy"]).tolist() == [[3, 2]]


def test_words_are_lower_case_and_keep_their_apostrophe():
    feature = fit_features(FILMS, ["title"], "films")[0]
    assert feature.values == (
        "39",
        "don't",
        "look",
        "man",
        "now",
        "steps",
        "the",
        "third",
    )
    assert feature.encode(["Now: THE End!", "?!", None]).tolist() == [
        [6, 8, 1],
        [0, 0, 0],
        [1, 0, 0],
    ]


def test_a_number_is_normalized_by_hand():
    score = fitted([1.0, 3.0, np.nan])
    assert score.statistics == (2.0, 1.0)
    np.testing.assert_array_equal(
        score.encode([3, "1", None, 5.0]), np.array([1, -1, np.nan, 3], np.float32)
    )
    assert score.encode([3]).dtype == np.float32
    log = fitted([0.0, np.e - 1], "log")
    np.testing.assert_allclose(
        log.encode([0, np.e - 1, 1 - np.e]), [-1, 1, -3], rtol=1e-6
    )
    share = fitted([10.0, 20.0, 30.0, 1000.0, 25.0], "quantile")
    np.testing.assert_allclose(
        share.encode([10, 25, 1000, -5, 5000, 20]), [-1, 0, 1, -1, 1, -0.5], atol=1e-6
    )
    same = fitted([1.0, 1.0, 1.0, 2.0], "quantile").encode([1, 2])
    assert same[0] < 0 < same[1] <= 1


def test_quantiles_that_nearly_touch_give_places_between_the_least_and_the_most():
    near = fitted([0.0, 0.0, -2.2e-308 / 1000], "quantile")
    places = near.encode([-2.2e-308 / 1000, -2.2e-308 / 3000, 0.0, 1.0])
    assert np.isfinite(places).all()
    assert np.abs(places).max() <= 1


def test_numbers_that_say_nothing_stay_finite():
    assert fitted([7, 7, 7]).encode([7, 8]).tolist() == [0, 1]
    # Their deviation, computed, is 1e-17.
    assert fitted([0.1, 0.1, 0.1]).statistics[1] == 1
    for how in ("zscore", "log", "quantile"):
        nothing = fitted([None, None], how).encode([None, 3])
        assert np.isnan(nothing[0])
        assert np.isfinite(nothing[1])


def test_a_column_that_is_absent_at_serving_is_unknown():
    features = fit_features(FILMS, ["colour", "genres", "year"], "films")
    codes = encode_columns(features, {}, 2, "films")
    assert codes["colour"].tolist() == [1, 1]
    assert codes["genres"].tolist() == [[1], [1]]
    assert np.isnan(codes["year"]).all()


# --- laws
# --------------------------------------------------------------------------------------

TEXTS = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_known_values_have_codes_of_their_own_and_all_others_share_one(seen, asked):
    feature = fitted(pd.Series(seen, dtype=object), "category")
    codes = feature.encode(asked)
    for text, code in zip(asked, codes, strict=True):
        assert code == (feature.values.index(text) + 2 if text in seen else 1)
    assert feature.size == len(set(seen)) + 2


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_rows_codes_do_not_depend_on_the_rows_beside_it(rows):
    feature = fitted(pd.Series(rows[:2], dtype=object), "categories")
    together = feature.encode(rows)
    for row, codes in zip(rows, together, strict=True):
        alone = feature.encode([row])[0]
        assert codes[: len(alone)].tolist() == alone.tolist()
        assert not codes[len(alone) :].any()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    st.lists(st.floats(-1e7, 1e7), min_size=2, max_size=8),
)
@pytest.mark.parametrize("how", ["zscore", "log", "quantile"])
def test_normalizing_keeps_order_and_stays_finite(how, seen, asked):
    codes = fitted(seen, how).encode(sorted(asked))
    assert np.isfinite(codes).all()
    assert (np.diff(codes) >= 0).all()
    if how == "quantile":
        assert np.abs(codes).max() <= 1


@settings(max_examples=30, deadline=None)
@given(TEXTS, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_a_feature_comes_back_from_json(texts, numbers):
    made = [
        fitted(pd.Series(texts, dtype=object), how)
        for how in ("category", "categories", "words")
    ]
    for feature in [
        *made,
        *(fitted(numbers, how) for how in ("zscore", "log", "quantile")),
    ]:
        assert Feature.from_json(json.loads(json.dumps(feature.to_json()))) == feature


# --- from training alone
# --------------------------------------------------------------------------------------


def shop(late="rare", late_price=9.0, old=50, mood="odd"):
    """Three users with four events each; item 4 and the users' last two events are
    never in training."""
    rows = [
        (user, item, time)
        for user in (1, 2, 3)
        for time, item in enumerate((1, 2, 3, 4))
    ]
    events = pd.DataFrame(rows, columns=["user", "item", "time"])
    events["mood"] = ["good", "bad", mood, mood] * 3
    items = pd.DataFrame(
        {"kind": ["a", "b", "c", late], "price": [1.0, 3.0, 5.0, late_price]},
        index=[1, 2, 3, 4],
    )
    users = pd.DataFrame(
        {"age": [20, 30, old]}, index=pd.Index([1, 2, 99], name="user")
    )
    return ac.Interactions(
        ac.Interactions.from_frame(events).events,
        users,
        items.rename_axis("item"),
        "shop",
    )


COLUMNS = {
    "item": ["kind", "price"],
    "user": ["age"],
    "event": ["mood"],
    "situation": ["mood:category"],
}


def test_what_only_the_test_holds_changes_nothing():
    one = FeatureSet.fit(ac.leave_one_out(shop()), **COLUMNS)
    other = FeatureSet.fit(ac.leave_one_out(shop("new", -1e6, 99, "glad")), **COLUMNS)
    assert one == other
    kind, price = one.item
    assert kind.values == ("a", "b")  # of items 1 and 2, which alone are in training
    assert price.statistics == (2.0, 1.0)
    assert one.user[0].statistics == (25.0, 5.0)  # user 99 has no event
    assert one.event[0].values == one.situation[0].values == ("bad", "good")


def test_tables_hold_every_id_and_start_with_padding_or_the_unknown_user():
    split = ac.leave_one_out(shop())
    features = FeatureSet.fit(split, **COLUMNS)
    kind, price = features.table_codes(split, "item")
    assert kind.tolist() == [0, 2, 3, 1, 1]
    assert price.tolist() == [0, -1, 1, 3, 7]
    (age,) = features.table_codes(split, "user")
    # User 3 is not in the table.
    np.testing.assert_array_equal(age, np.array([np.nan, -1, 1, np.nan], np.float32))


def test_an_item_outside_the_table_is_unknown_whatever_the_kind():
    log = shop()
    items = pd.DataFrame(
        {"tags": [("x",), ("y", "z"), ("x", "y")]},
        index=pd.Index([1, 2, 4], name="item"),
    )
    split = ac.leave_one_out(ac.Interactions(log.events, None, items, "shop"))
    (tags,) = FeatureSet.fit(split, item=["tags"]).table_codes(split, "item")
    assert tags.tolist() == [[0, 0], [2, 0], [3, 4], [1, 0], [2, 3]]


def test_a_feature_set_comes_back_from_json():
    features = FeatureSet.fit(ac.leave_one_out(shop()), **COLUMNS)
    assert FeatureSet.from_json(json.loads(json.dumps(features.to_json()))) == features
    assert FeatureSet.from_json({}) == FeatureSet()
    assert features.event_columns == ["mood"]


# --- mistakes
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (
            {"item": ["size"]},
            "shop, table of items: no column 'size'; its columns are 'kind', 'price'",
        ),
        (
            {"user": ["size:number"]},
            "shop, table of users: no column 'size'; its columns are 'age'",
        ),
        (
            {"event": ["rating"]},
            "shop, events: no column 'rating'; its columns are 'mood'",
        ),
        ({"item": ["price:colour"]}, "no column 'price:colour'"),
        (
            {"item": ["price", "price:log"]},
            "shop, table of items: 'price' is asked for twice",
        ),
        (
            {"item": ["kind:number"]},
            (
                "shop, table of items, column 'kind': 'a' is not a finite number; mend"
                " it, or"
            ),
        ),
    ],
)
def test_a_wrong_column_is_one_line_that_names_it(columns, hint):
    with pytest.raises(ac.DataError) as error:
        FeatureSet.fit(ac.leave_one_out(shop()), **columns)
    assert str(error.value).startswith(hint) or hint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", ["a\nb", "", "inf", np.inf, (1, 2), pd.Timestamp(0)])
def test_a_value_that_is_no_number_is_named(wrong):
    with pytest.raises(
        ac.DataError,
        match=r"users, column 'x': .* is not a finite number; mend it, or ask for 'x:c",
    ):
        fitted([1, 2]).encode([1, wrong], "users")


def test_what_is_no_attribute_is_refused():
    with pytest.raises(
        ac.DataError,
        match="table, column 'x': is Timestamp; make it numbers, text or tuples",
    ):
        fitted(pd.to_datetime(["2024-01-01"]))
    with pytest.raises(ValueError, match="no kind 'colour'"):
        Feature("x", "colour")


def test_a_table_that_is_absent_is_named_with_the_mend():
    log = shop()
    split = ac.leave_one_out(ac.Interactions(log.events, name="shop"))
    with pytest.raises(
        ac.DataError,
        match=r"item_features need a table of items; give the log one with items=",
    ):
        FeatureSet.fit(split, item=["kind"])
    with pytest.raises(ac.DataError, match=r"users= \(--user-table\)$"):
        FeatureSet.fit(split, user=["age"])


def test_lists_in_lists_are_refused_where_a_feature_reads_them():
    items = pd.DataFrame({"item": [1], "deep": [[["a"], ["b"]]]})
    log = ac.read_interactions(
        pd.DataFrame({"user": [1] * 4, "item": 1, "time": range(4)}), items=items
    )
    with pytest.raises(ac.DataError, match="column 'deep': holds lists in lists"):
        FeatureSet.fit(ac.leave_one_out(log), item=["deep"])


@pytest.mark.parametrize("how", ["zscore", "quantile", "log"])
def test_numbers_too_large_for_32_bits_are_refused_and_none_overflows(how):
    table = pd.DataFrame({"x": [1.0, 1.0 + 1e-11, 2.0]})
    (feature,) = fit_features(table, [f"x:{how}"], "table")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(feature.encode([3e38, -3e38])).all()
        with pytest.raises(ac.DataError, match=r"1e\+300 is not a finite number of 32"):
            feature.encode([1e300])
        with pytest.raises(ac.DataError, match="table, column 'x': -1e"):
            fit_features(pd.DataFrame({"x": [1.0, -1e300]}), [f"x:{how}"], "table")
