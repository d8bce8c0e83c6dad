"""Serving: what may be shown, who shares a call, catalogues worked through in parts,
new items, and whatever else is asked."""

from threading import Event, Thread

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import rhythm_log
from hypothesis import given, settings
from hypothesis import strategies as st

import attncore as ac
from attncore import serving
from attncore.layers import evaluating
from attncore.sequences import Histories

KINDS = ["self", "target", "lstm", "mean"]


def model_of(split, kind="self", **options):
    return ac.Recommender(
        ac.RecommenderConfig(attention=kind, width=16, length=8, **options),
        split,
        seed=3,
    ).eval()


@pytest.fixture(params=KINDS)
def model(request, split):
    return model_of(split, request.param)


def by_hand(model, history, k, shown):
    """The best items by sorting all scores."""
    asked = Histories.from_lists([model.split.items.encode(history)])
    scores = model.score(asked)[0]
    order = sorted(range(len(scores)), key=lambda place: (-scores[place].item(), place))
    ids = [int(model.split.items.ids[place]) for place in order]
    return [item for item in ids if item in shown][:k]


# --- what may be shown
# --------------------------------------------------------------------------------------


def test_excluded_items_are_not_shown_and_the_next_best_move_up(model):
    everything = set(model.split.items.ids.tolist())
    history = [500, 503]
    best = model.recommend(histories=[history], k=3)[0].items
    found = model.recommend(histories=[history], k=3, exclude=best[:2])[0].items
    assert found == by_hand(model, history, 3, everything - {*history, *best[:2]})
    assert found[0] == best[2]


def test_only_the_allowed_items_are_shown_in_order_of_their_scores(model):
    history, allowed = [500, 503], [511, 500, 505, 508]
    assert model.recommend(histories=[history], k=9, only=allowed)[0].items == by_hand(
        model, history, 9, {511, 505, 508}
    )
    seen_too = model.recommend(
        histories=[history], k=9, only=allowed, exclude_seen=False
    )[0].items
    assert seen_too == by_hand(model, history, 9, set(allowed))


def test_candidates_exclude_and_only_hold_together(model):
    found = model.recommend(
        histories=[[500]],
        k=9,
        candidates=[500, 502, 504, 506],
        only=[502, 504, 511],
        exclude=[504],
    )
    assert found[0].items == [502]


def test_scores_do_not_depend_on_what_else_may_be_shown(model):
    whole = model.recommend(histories=[[500, 503]], k=12, exclude_seen=False)[0]
    score = dict(zip(whole.items, whole.scores, strict=True))
    few = model.recommend(
        histories=[[500, 503]], k=12, only=[504, 510], exclude_seen=False
    )[0]
    assert few.scores == pytest.approx([score[item] for item in few.items], abs=1e-5)


def test_a_filter_passes_over_unknown_items_and_candidates_do_not(model):
    assert model.recommend(histories=[[500]], k=2, exclude=[9], only=[501, 7])[
        0
    ].items == [501]
    assert model.recommend(histories=[[500]], k=2, only=[7])[0] == ac.Recommendation(
        [], []
    )
    assert model.recommend(histories=[[500]], k=2, only=[])[0] == ac.Recommendation(
        [], []
    )
    with pytest.raises(ac.DataError, match="unknown item 7"):
        model.recommend(histories=[[500]], candidates=[501, 7])


@pytest.mark.parametrize("name", ["exclude", "only"])
def test_a_filter_of_another_type_is_refused_since_it_would_hold_nothing_back(
    model, name
):
    with pytest.raises(
        ac.DataError, match="unknown item '501': an id of this log is an integer"
    ):
        model.recommend(histories=[[500]], **{name: ["501"]})


def test_somebody_new_is_answered_by_the_item_biases(model):
    with torch.no_grad():
        model.output.bias.normal_(generator=torch.Generator().manual_seed(0))
    found = model.recommend(histories=[[]], k=4)[0]
    order = model.output.bias[1:].topk(4)
    assert found.items == (order.indices + 500).tolist()
    assert found.scores == pytest.approx(order.values.tolist())
    assert model.recommend(histories=[]) == []


# --- who shares the call
# --------------------------------------------------------------------------------------


def same(a, b):
    assert a.items == b.items
    assert a.scores == pytest.approx(b.scores, abs=1e-5)


@pytest.mark.parametrize("size", [1, 3, 40])
def test_answers_are_stable_under_batch_size_and_order(model, size):
    users = model.split.users.ids[::-1].tolist()
    alone = {user: model.recommend(users=[user], k=5)[0] for user in users}
    found = []
    for start in range(0, len(users), size):
        found += model.recommend(users=users[start : start + size], k=5)
    for user, picks in zip(users, found, strict=True):
        same(picks, alone[user])


def test_a_user_is_answered_as_their_history_is(model, split):
    for user in (100, 139):
        history = split.items.decode(split.histories[user - 100]).tolist()
        same(
            model.recommend(users=[user], k=5)[0],
            model.recommend(histories=[history], k=5)[0],
        )


@pytest.mark.parametrize("part", [1, 7, 40])
@pytest.mark.parametrize(
    "options",
    [{}, {"only": [501, 502, 503, 506, 509, 510]}, {"exclude_seen": False}],
    ids=str,
)
def test_a_catalogue_in_parts_gives_what_it_gives_whole(
    model, monkeypatch, part, options
):
    users = model.split.users.ids.tolist()
    whole = model.recommend(users=users, k=6, **options)
    similar = model.similar_items([500, 507], k=6)
    monkeypatch.setattr(serving, "PART", part)
    for a, b in zip(model.recommend(users=users, k=6, **options), whole, strict=True):
        same(a, b)
    for a, b in zip(model.similar_items([500, 507], k=6), similar, strict=True):
        same(a, b)


def test_no_more_scores_exist_at_a_time_than_a_part(split, monkeypatch):
    model, asked = model_of(split), []
    real = model.scorer

    def watched(batch):
        score = real(batch)

        def counted(places):
            scores = score(places)
            asked.append(scores.numel())
            return scores

        return counted

    monkeypatch.setattr(model, "scorer", watched)
    monkeypatch.setattr(serving, "PART", 50)
    model.recommend(users=split.users.ids.tolist(), k=3)
    assert max(asked) <= 50
    assert sum(asked) == 40 * 12


def test_similar_items_say_what_is_wrong_with_a_question(split):
    model = model_of(split)
    with pytest.raises(ac.DataError, match="unknown item 77"):
        model.similar_items([500, 77])
    with pytest.raises(ValueError, match="k=0: must be at least 1"):
        model.similar_items([500], k=0)
    assert [len(picks.items) for picks in model.similar_items([500, 501], k=99)] == [
        11,
        11,
    ]
    assert model.similar_items([]) == []


# --- new items
# --------------------------------------------------------------------------------------


def table_of(ids):
    """Attributes that follow from the id: odd and even, a third of the catalogue, and
    words."""
    return pd.DataFrame(
        {
            "parity": ["odd" if item % 2 else "even" for item in ids],
            "third": [
                ("low",) if item < 504 else ("middle", "high")[: 1 + item % 2]
                for item in ids
            ],
            "size": [float(item) for item in ids],
            "title": [f"film {item}" for item in ids],
        },
        index=pd.Index(ids, name="item"),
    )


FEATURES = ("parity", "third", "size", "title")


@pytest.fixture(scope="module")
def described():
    log = rhythm_log()
    log = ac.Interactions.from_frame(
        log.events, items=table_of(range(500, 512)).reset_index(), name="rhythm"
    )
    return ac.leave_one_out(log)


def featured(described, kind="self"):
    model = model_of(described, kind, item_features=FEATURES)
    with torch.no_grad():
        for parameter in model.item.features.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
            )
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_item_is_scored_by_its_attributes_alone(described, kind):
    model = featured(described, kind)
    # An item that is known by its attributes alone, and a new one of the same.
    with torch.no_grad():
        model.item.id.weight[4] = 0
        model.output.bias[4] = 0
    new = table_of([503]).set_axis([900])
    bigger = model.with_items(new)
    found = bigger.recommend(histories=[[500, 501]], k=13, exclude_seen=False)[0]
    score = dict(zip(found.items, found.scores, strict=True))
    assert len(found.items) == 13
    assert score[900] == pytest.approx(score[503], abs=1e-5)
    old = model.recommend(histories=[[500, 501]], k=12, exclude_seen=False)[0]
    assert [item for item in found.items if item != 900] == old.items
    assert model.split.items.ids.tolist() == list(range(500, 512))
    assert bigger.similar_items([900], k=1)[0].items == [503]


def test_a_new_item_can_be_allowed_excluded_and_stand_in_a_history(described, tmp_path):
    bigger = featured(described).with_items(table_of([901, 900]))
    assert bigger.recommend(histories=[[500]], only=[900, 901], exclude=[901])[
        0
    ].items == [900]
    assert (
        bigger.recommend(histories=[[900, 500]], k=20)[0].items
        != bigger.recommend(histories=[[500]], k=20)[0].items
    )
    assert bigger.split.label(901) == "film 901"
    bigger.save(tmp_path)
    again = ac.load(tmp_path)
    assert again.recommend(users=[100], k=14) == bigger.recommend(users=[100], k=14)
    assert ac.evaluate(again, again.split.test).items == 14


def test_a_loaded_model_learns_new_items_too(described, tmp_path):
    model = featured(described)
    model.save(tmp_path)
    new = table_of([900])
    same(
        ac.load(tmp_path).with_items(new).recommend(users=[101], k=13)[0],
        model.with_items(new).recommend(users=[101], k=13)[0],
    )


def test_new_items_with_more_values_than_any_before_are_read_whole(described):
    new = table_of([900])
    new.at[900, "third"] = ("low", "middle", "high", "unheard of")
    bigger = featured(described).with_items(new)
    codes = bigger.item.features.codes()[1]
    assert codes[13].tolist() == [3, 4, 2, 1]
    assert codes[1].tolist() == [3, 0, 0, 0]


def test_new_items_are_read_from_a_column_too_and_what_is_unseen_is_told(
    described, caplog
):
    model, table = featured(described), table_of([900, 901])
    in_column = table.rename_axis("item").reset_index()
    a, b = model.with_items(table), model.with_items(in_column)
    assert b.split.items.ids.tolist()[-2:] == [900, 901]
    assert a.recommend(users=[100], k=14) == b.recommend(users=[100], k=14)
    assert "not seen" not in caplog.text
    table["third"] = pd.Series([("low",), ("unheard of",)], table.index)
    model.with_items(table)
    assert "1 of 2 have a 'third' that the model has not seen" in caplog.text


@pytest.mark.parametrize(
    ("table", "hint"),
    [
        (table_of([900]).drop(columns="size"), "new items: no column 'size'"),
        (table_of([900, 505]), "new item 505: is known already"),
        (table_of([900, 900]), "new item 900: is known already, or given twice"),
        (
            table_of([900]).set_axis(["900"]),
            "unknown item '900': an id of this log is an integer",
        ),
        (
            table_of([900]).assign(size="big"),
            "new items, column 'size': 'big' is not a finite number",
        ),
    ],
)
def test_a_table_of_new_items_that_does_not_fit_is_refused_in_one_line(
    described, table, hint
):
    with pytest.raises(ac.DataError, match=hint) as error:
        featured(described).with_items(table)
    assert "\n" not in str(error.value)


def test_new_items_need_a_model_that_reads_attributes(split):
    with pytest.raises(ac.DataError, match="item_features"):
        model_of(split).with_items(table_of([900]))


def test_a_large_catalogue_is_looked_up_and_ranked_exactly():
    items = 50_000
    frame = pd.DataFrame(
        {"user": 1, "item": np.arange(items), "time": np.arange(items)}
    )
    split = ac.leave_one_out(ac.Interactions.from_frame(frame, name="large"))
    model = model_of(split, "mean")
    with torch.no_grad():
        model.output.bias.zero_()
        model.output.bias[[7, 49_000]] = 100.0  # equal but for their vectors
    found = model.recommend(histories=[[3], [4, 5]], k=2)
    assert [set(picks.items) for picks in found] == [{6, 48_999}] * 2
    same(model.recommend(histories=[[4, 5]], k=2)[0], found[1])


# --- who else uses the model
# --------------------------------------------------------------------------------------


def test_asking_changes_no_mode_that_another_thread_sees(split):
    """Another thread reads the mode of every module in the middle of each answer."""
    for kind in KINDS:
        model = model_of(split, kind, dropout=0.5, blocks=2).train()
        met, real = [], model.windows

        def looked(*args, real=real, model=model, met=met, **how):
            windows = real(*args, **how)
            cut = windows.batch

            def batch(rows):
                other = Thread(
                    target=lambda: met.extend(m.training for m in model.modules())
                )
                other.start()
                other.join()
                return cut(rows)

            object.__setattr__(windows, "batch", batch)
            return windows

        model.windows = looked
        model.recommend(histories=[[500, 503]])
        model.attention(histories=[[500, 503]])
        model.score(Histories.from_lists([[1, 2]]))
        assert met
        assert all(met)
        assert model.training


def test_a_thread_that_trains_puts_no_dropout_into_answers(split):
    for kind in KINDS:
        model = model_of(split, kind, dropout=0.5, blocks=2)
        calm = model.recommend(histories=[[500, 503]], k=5)
        over, modes = Event(), [False, True]

        def train(model=model, over=over, modes=modes):
            while not over.is_set():
                for mode in modes:
                    model.train(mode)

        other = Thread(target=train)
        other.start()
        try:
            found = [model.recommend(histories=[[500, 503]], k=5) for _ in range(10)]
        finally:
            over.set()
            other.join()
        assert all(one == calm for one in found)


def test_a_model_in_evaluation_mode_shares_every_weight(split):
    model = model_of(split, "lstm").train()
    twin = evaluating(model)
    assert not any(part.training for part in twin.modules())
    assert all(part.training for part in model.modules())
    pairs = zip(model.named_parameters(), twin.named_parameters(), strict=True)
    assert all(a[0] == b[0] and a[1] is b[1] for a, b in pairs)


# --- whatever is asked, an answer or one line
# --------------------------------------------------------------------------------------


def told_models():
    """A model that reads attributes, and a chain, of integer ids and of text."""
    found = []
    for text in (False, True):
        events = rhythm_log(users=12, events=8).events
        rng = np.random.default_rng(0)
        events = events.assign(
            device=rng.choice(["web", "app"], len(events)),
            mood=rng.normal(size=len(events)),
            tags=[("x", "y")[: 1 + n % 2] for n in range(len(events))],
        )
        if text:
            events = events.astype({"user": str, "item": str})
        users = pd.DataFrame({"user": events.user.unique()[:10], "age": range(10)})
        items = pd.DataFrame({"item": events.item.unique(), "size": range(12)})
        log = ac.Interactions.from_frame(events, users=users, items=items)
        split = ac.leave_one_out(log)
        for kind in ("self", "target"):
            reads = {
                "item_features": ("size",),
                "user_features": ("age",),
                "event_features": ("mood",),
                "situation_features": ("device", "tags:categories", "mood"),
            }
            found.append(model_of(split, kind, **reads))
        found.append(ac.baselines.MarkovChain(split))
    return found


MODELS = told_models()
TOLD = {number: MODELS[number] for number in (0, 1)}  # these read attributes


def scores_of(model, **asked):
    return [
        dict(zip(picks.items, picks.scores, strict=True))
        for picks in model.recommend(k=12, exclude_seen=False, **asked)
    ]


@pytest.mark.parametrize("number", TOLD)
@pytest.mark.parametrize(
    ("given", "each"),
    [
        ({"device": ["web", "app"]}, [{"device": "web"}, {"device": "app"}]),
        ({"device": np.array(["web", "app"])}, [{"device": "web"}, {"device": "app"}]),
        ({"device": "app"}, [{"device": "app"}] * 2),
        ({"age": pd.Series([3, 9])}, [{"age": 3}, {"age": 9}]),
        ({"mood": [0.5, None]}, [{"mood": 0.5}, {}]),
        ({"tags": ["x", "y"]}, [{"tags": ("x", "y")}] * 2),  # one value, of two
        ({"tags": [["x"], ("x", "y")]}, [{"tags": ("x",)}, {"tags": "x|y"}]),
        (
            pd.DataFrame({"device": ["web", "app"], "mood": [1.0, 2.0]}),
            [{"device": "web", "mood": 1.0}, {"device": "app", "mood": 2.0}],
        ),
    ],
    ids=str,
)
def test_a_situation_may_be_told_for_each_row(number, given, each):
    model, histories = TOLD[number], [[500, 503], [507]]
    both = scores_of(model, histories=histories, situation=given)
    for found, history, one in zip(both, histories, each, strict=True):
        (alone,) = scores_of(model, histories=[history], situation=one)
        assert found == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("number", TOLD)
def test_a_situation_that_fits_no_row_is_one_line(number):
    model = TOLD[number]
    for told, hint in (
        ({"device": ["web"]}, "'device': has 1 values for 2 questions"),
        ({"age": [1, 2, 3]}, "'age': has 3 values for 2 questions"),
        ({"device": [["web"], {"a": 1}]}, "is no value of it"),
        ({"device": object()}, "is no value of it"),
        ({"mood": ["low", "high"]}, "'low' is not a finite number"),
        ([("device", "web")], "takes values by name"),
    ):
        for verb in (model.recommend, model.erasure):
            with pytest.raises(ValueError, match=hint) as error:
                verb(histories=[[500], [501]], situation=told)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", TOLD)
def test_fresh_events_are_looked_at_and_can_be_erased(number, caplog):
    model = TOLD[number]
    frame = model.erasure(users=[100], events=[[505, 77, 502]], candidates=501)
    assert frame["item"].tolist()[-2:] == [505, 502]
    assert "1 of 3 items is unknown (77)" in caplog.text
    asked = {"candidates": [501]} if model.config.attention == "target" else {}
    seen = model.attention(users=[100, 77], events=[[505, 502], []], **asked)
    assert seen["item"].tolist()[-2:] == [505, 502]
    assert set(seen["history"]) == {0}  # who is new has no event to look at
    early = model.attention(users=[100], time=2, **asked)
    assert early["event"].max() == 2
    with pytest.raises(ac.DataError, match="unknown user 77"):
        model.attention(users=[77], strict=True)


def test_events_may_come_as_histories_with_their_attributes():
    model = MODELS[0]
    rows = model.split.histories.take(np.array([3]))
    cut = rows.take(np.array([0]), stops=np.array([5]))
    late = Histories(
        rows.items[5:],
        np.array([0, len(rows.items) - 5]),
        rows.times[5:],
        {name: column[5:] for name, column in rows.attributes.items()},
    )
    joined = cut.followed_by(late)
    assert joined.items.tolist() == rows.items.tolist()
    assert joined.times.tolist() == rows.times.tolist()
    (user,) = model.split.users.ids[[3]].tolist()
    (whole,) = scores_of(model, users=[user])
    (again,) = scores_of(model, users=[user], time=4, events=late)
    assert again == pytest.approx(whole, abs=1e-5)


NUMBERS = [100, 103, 111, 500, 503, 511, 77, -1, 0, 2**70, 5.0, 500.0]
ODD = [
    None,
    True,
    2.5,
    float("nan"),
    float("inf"),
    "",
    "u5",
    "500",
    b"x",
    pd.NA,
    pd.NaT,
]
ODD += [(), {}, {"a": 1}, object(), [[500]], "\ud800", "a\nb", np.float32(1), 10**400]
an_id = st.one_of(
    st.sampled_from([100, 103, 111, 500, 503, 511, "100", "103", "500", "503"]),
    st.sampled_from([*NUMBERS, *ODD]),
)
FORMS = [list, tuple, pd.Series, lambda ids: np.array(ids, object), pd.Index]


@st.composite
def calls(draw):
    """Which model, a verb and its arguments; each is odd once in a while."""
    number = draw(st.integers(0, len(MODELS) - 1))
    model = MODELS[number]
    user = st.sampled_from(model.split.users.ids.tolist())
    item = st.sampled_from(model.split.items.ids.tolist())

    def usual(good, chance=12):
        is_odd = draw(st.integers(0, chance)) == 0
        odd = st.one_of(st.sampled_from(ODD), st.lists(an_id, max_size=3))
        return draw(odd if is_odd else good)

    def some(one, most=4):
        ids = st.lists(one, max_size=most)
        return st.builds(lambda form, ids: form(ids), st.sampled_from(FORMS), ids)

    how, rows = {}, draw(st.integers(0, 3))
    verbs = ["recommend", "recommend", "attention", "erasure", "similar_items"]
    is_chain = isinstance(model, ac.baselines.MarkovChain)
    verb = "recommend" if is_chain else draw(st.sampled_from(verbs))
    if verb == "similar_items":
        how["items"] = usual(some(item), 6)
        how["k"] = usual(st.integers(1, 20), 6)
        return number, verb, how
    if draw(st.booleans()):
        how["users"] = usual(st.lists(user, min_size=rows, max_size=rows))
        if draw(st.booleans()):
            how["events"] = usual(st.lists(some(item), min_size=rows, max_size=rows))
    else:
        how["histories"] = usual(st.lists(some(item), min_size=rows, max_size=rows))
    if draw(st.booleans()):
        moment = st.one_of(
            st.integers(0, 10),
            st.just("1970-01-01"),
            st.just(pd.Timestamp(5, unit="s")),
        )
        each = st.lists(moment, min_size=rows, max_size=rows)
        how["time"] = usual(st.one_of(moment, each))
    if draw(st.booleans()) and not is_chain:
        device = st.sampled_from(["web", "app", "fridge", None])
        value = st.one_of(device, st.lists(device, min_size=rows, max_size=rows))
        told = {"device": value, "mood": st.floats(-1, 1), "age": st.integers(0, 90)}
        told["tags"] = st.sampled_from(["x", ("x", "y"), "x|y", ["x", "y"], [["x"]]])
        names = draw(st.lists(st.sampled_from(sorted(told)), max_size=2))
        how["situation"] = usual(st.just({name: usual(told[name]) for name in names}))
    if draw(st.booleans()):
        how["strict"] = draw(st.booleans())
    if verb == "recommend":
        for name in ("exclude", "only", "candidates"):
            if draw(st.integers(0, 2)) == 0:
                how[name] = usual(some(item))
        if draw(st.booleans()):
            how["k"] = usual(st.integers(1, 20))
    elif draw(st.integers(0, 2)) == 0 and (verb, model.config.attention) != (
        "attention",
        "self",
    ):
        how["candidates"] = usual(some(item))
    return number, verb, how


ANSWERED = {True: 0, False: 0}  # how many calls were, and were not


@given(calls())
@settings(max_examples=125, deadline=None)
def test_whatever_is_asked_is_answered_or_refused_in_one_line(call):
    """Of 125 calls; of 2,500 with --full."""
    number, verb, how = call
    refused = None
    try:
        getattr(MODELS[number], verb)(**how)
    except ValueError as error:
        refused = error
    ANSWERED[refused is None] += 1
    if refused is not None:
        assert type(refused) in (ValueError, ac.DataError)
        assert "\n" not in str(refused)
        assert len(str(refused)) < 400


def test_at_least_a_third_of_those_calls_was_answered():
    assert ANSWERED[True] >= ANSWERED[False] / 2
