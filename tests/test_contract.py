"""One contract for all that answers: recommenders of every kind, rankers, baselines."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import rhythm_log
from shop import shop_log

import attncore as ac
from attncore.ranking.baselines import PersonalHabit, PopularLately
from attncore.sequences import Histories

SMALL = {"width": 16, "length": 8}
KINDS = ("self", "target", "lstm", "mean")
RANKS = ("target", "mean")


def next_item_split():
    log = rhythm_log()
    towns = pd.DataFrame({"user": range(100, 140), "town": ["here", "there"] * 20})
    return ac.leave_one_out(
        ac.Interactions.from_frame(log.events, users=towns, name="rhythm")
    )


def trained(model):
    """The weights as after a training: no bias or vector is 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def recommender(kind, **options):
    config = ac.RecommenderConfig(attention=kind, dropout=0.5, **SMALL, **options)
    return lambda split: trained(ac.Recommender(config, split))


def ranker(kind):
    config = ac.RankerConfig(attention=kind, **SMALL)
    return lambda split: trained(ac.Ranker(config, split))


OF_ITEMS = {
    **{f"attention={kind}": recommender(kind) for kind in KINDS},
    "attention=self, counts": recommender("self", prior=2, neighbours=3),
    "popularity": ac.baselines.Popularity,
    "recent popularity": ac.baselines.RecentPopularity,
    "profile popularity": lambda split: ac.baselines.ProfilePopularity(split, ["town"]),
    "personal frequency": ac.baselines.PersonalFrequency,
    "chain": ac.baselines.MarkovChain,
    "chain, normalized": lambda split: ac.baselines.MarkovChain(split, 2, True),
    "EASE": ac.baselines.EASE,
}
OF_SLATES = {
    **{f"ranker, attention={kind}": ranker(kind) for kind in RANKS},
    "popular lately": PopularLately,
    "personal habit": PersonalHabit,
}


@dataclass
class Case:
    """A model, and what can be asked of it.

    Attributes:
        model: what answers.
        users: ids of two users.
        history: ids of items.
        items: ids of all that may be shown.
        unknown: an id that is neither a user's nor an item's.
    """

    model: Any
    users: list[int]
    history: list[int]
    items: list[int]
    unknown: int = 77

    @property
    def options(self):
        """How all that may be shown is asked for."""
        return {"candidates": self.items, "k": len(self.items), "exclude_seen": False}

    def all_of(self, **asked):
        return self.model.recommend(**asked, **self.options)


@pytest.fixture(scope="module")
def splits():
    return {"items": next_item_split(), "slates": ac.split_by_time(shop_log())}


@pytest.fixture(params=[*OF_ITEMS, *OF_SLATES])
def case(request, splits):
    if request.param in OF_ITEMS:
        model = OF_ITEMS[request.param](splits["items"])
        return Case(model, [101, 139], [500, 503], list(range(500, 512)))
    model = OF_SLATES[request.param](splits["slates"])
    return Case(model, [1, 4], [101, 106], [*range(100, 116), 999])


def test_the_answer_is_a_list_of_the_best_k_best_first(case):
    whole = case.all_of(users=case.users)
    assert [type(picks) for picks in whole] == [ac.Recommendation] * 2
    for picks in whole:
        assert sorted(picks.items) == sorted(case.items)
        assert picks.scores == sorted(picks.scores, reverse=True)
        assert np.isfinite(picks.scores).all()
        assert all(type(item) is int for item in picks.items)
        assert all(type(score) is float for score in picks.scores)
    for k in (1, 3, 99):
        for few, all_ in zip(
            case.model.recommend(users=case.users, **case.options | {"k": k}),
            whole,
            strict=True,
        ):
            assert few.items == all_.items[:k]
    assert case.model.recommend(users=case.users, candidates=case.items)[0].items


def test_who_shares_the_call_changes_nothing(case):
    both = case.all_of(users=case.users)
    for user, picks in zip(case.users, both, strict=True):
        (alone,) = case.all_of(users=[user])
        assert alone.items == picks.items
        assert alone.scores == pytest.approx(picks.scores, abs=1e-5)
    assert case.all_of(users=[]) == case.all_of(histories=[]) == []


def test_the_same_question_has_the_same_answer_whatever_the_random_state(case):
    torch.manual_seed(1)
    first = case.all_of(histories=[case.history, []])
    state = torch.get_rng_state()
    assert case.all_of(histories=[case.history, []]) == first
    assert torch.equal(torch.get_rng_state(), state)


def test_exclude_and_only_move_the_next_best_up(case):
    (whole,) = case.all_of(histories=[case.history])
    best, kept = whole.items[:2], whole.items[1::2]
    (left,) = case.all_of(histories=[case.history], exclude=[*best, case.unknown])
    assert left.items == whole.items[2:]
    (left,) = case.all_of(histories=[case.history], only=[*kept, case.unknown])
    assert left.items == kept
    (left,) = case.all_of(histories=[case.history], only=kept, exclude=kept[:1])
    assert left.items == kept[1:]
    assert case.all_of(histories=[case.history], only=[])[0] == ac.Recommendation(
        [], []
    )


def test_what_was_seen_is_left_out_where_that_is_asked(case):
    (whole,) = case.all_of(histories=[case.history])
    options = case.options | {"exclude_seen": True}
    (fresh,) = case.model.recommend(histories=[case.history], **options)
    assert fresh.items == [item for item in whole.items if item not in case.history]
    (usual,) = case.model.recommend(
        histories=[case.history], **case.options | {"exclude_seen": None}
    )
    is_hidden = case.model.split.test.exclude_seen
    assert usual.items == (fresh if is_hidden else whole).items


@pytest.mark.parametrize(
    ("how", "hint"),
    [
        ({"users": [77]}, "unknown user 77"),
        ({"histories": [[77]]}, "unknown item 77"),
        ({"histories": [["x"]]}, "unknown item 'x': an id of this log is an integer"),
        ({"users": [1], "k": 0}, "k=0: must be at least 1"),
        ({"users": [1], "histories": [[1]]}, "give either users= or histories="),
        ({}, "give either users= or histories="),
        ({"histories": [[]], "candidates": [77]}, "unknown item 77"),
        ({"histories": [[]], "only": ["x"]}, "unknown item 'x'"),
        ({"histories": [[]], "situation": {"mood": 1}}, "unknown situation 'mood'"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_that_names_it(case, how, hint):
    how = how | {"strict": True}
    with pytest.raises(ValueError, match=hint) as error:
        case.model.recommend(**how)
    assert "\n" not in str(error.value)


def of_items(case):
    if case.model.split.slates is not None:
        pytest.skip("slates are asked about with the ids of their log")
    return case.model


def test_what_is_unknown_is_passed_over_counted_and_logged(case, caplog):
    model = of_items(case)
    known = case.all_of(users=[*case.users, 101], histories=None)
    found = case.all_of(users=[case.users[0], case.unknown, case.users[1]])
    assert [one.unknown for one in found] == [0, 1, 0]
    assert [one.items for one in found[::2]] == [one.items for one in known[:2]]
    (new,) = case.all_of(histories=[[]])
    assert found[1].items == new.items
    assert "1 of 3 users is unknown (77) and passed over" in caplog.text
    history = case.history
    found = case.all_of(histories=[[77, *history, 78], history, [79]])
    assert [one.unknown for one in found] == [2, 0, 1]
    assert found[0].items == found[1].items
    assert found[2].items == new.items
    assert "3 of 7 items are unknown (77 …) and passed over" in caplog.text
    for asked in (
        {"users": [case.users[0], 77]},
        {"histories": [[77]]},
        {"users": case.users[:1], "events": [[77]]},
        {"histories": [history], "exclude": [77]},
        {"histories": [history], "only": [77]},
    ):
        with pytest.raises(ac.DataError, match=r"unknown (user|item) 77"):
            model.recommend(**asked, strict=True)


def test_fresh_events_stand_behind_what_the_log_knows_of_the_user(case):
    model = of_items(case)
    split, users = model.split, case.users
    rows = split.users.encode(users) - 1
    fresh = [[505, 502], []]
    together = [
        [*split.items.decode(split.histories[row]).tolist(), *more]
        for row, more in zip(rows, fresh, strict=True)
    ]
    options = case.options | {"exclude_seen": True}
    found = model.recommend(users=users, events=fresh, **options)
    assert found[1] == model.recommend(users=users, **options)[1]
    for one, events in zip(found, together, strict=True):
        assert not set(one.items) & set(events)
    if isinstance(model, ac.baselines.ProfilePopularity):
        return  # it reads the user, not the events
    alike = model.recommend(histories=together, **options)
    for one, other in zip(found, alike, strict=True):
        assert one.items == other.items
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_at_an_earlier_moment_what_came_later_is_not_known(case):
    model = of_items(case)
    split, user = model.split, case.users[0]
    row = int(split.users.encode([user])[0]) - 1
    whole = split.items.decode(split.histories[row]).tolist()
    options = case.options | {"exclude_seen": True}
    for time in (
        3,
        3.7,
        [3],
        "1970-01-01 00:00:03",
        pd.Timestamp(3, unit="s", tz="UTC"),
    ):
        (then,) = model.recommend(users=[user], time=time, **options)
        assert set(then.items) == set(case.items) - set(whole[:4])
    (late,) = model.recommend(users=[user], time="2030-01-01", **options)
    assert late == model.recommend(users=[user], **options)[0]
    both = model.recommend(users=[user, user], time=[3, 5], **options)
    assert set(both[1].items) == set(case.items) - set(whole[:6])
    with pytest.raises(ValueError, match=r"time=\['x'\]|time='x'"):
        model.recommend(users=[user], time=["x"])
    with pytest.raises(ValueError, match="time= has 2 moments for 1 question"):
        model.recommend(users=[user], time=[1, 2])


@pytest.mark.parametrize(
    ("asked", "alike"),
    [
        ({"users": 101}, {"users": [101]}),
        ({"users": np.int64(101)}, {"users": [101]}),
        ({"users": (101, 139)}, {"users": [101, 139]}),
        ({"users": pd.Series([101, 139])}, {"users": [101, 139]}),
        ({"users": pd.Index([101, 139])}, {"users": [101, 139]}),
        ({"users": np.array([101, 139.0])}, {"users": [101, 139]}),
        ({"users": torch.tensor([101, 139])}, {"users": [101, 139]}),
        ({"users": dict.fromkeys([101, 139]).keys()}, {"users": [101, 139]}),
        ({"histories": ((500, 503),)}, {"histories": [[500, 503]]}),
        ({"histories": np.array([[500, 503]])}, {"histories": [[500, 503]]}),
        ({"histories": pd.Series([[500, 503]])}, {"histories": [[500, 503]]}),
        ({"histories": [pd.Series([500, 503])]}, {"histories": [[500, 503]]}),
        ({"users": [101], "exclude": 505}, {"users": [101], "exclude": [505]}),
        ({"users": [101], "exclude": {505}}, {"users": [101], "exclude": [505]}),
        ({"users": [101], "exclude": None}, {"users": [101]}),
        ({"users": [101], "only": 505}, {"users": [101], "only": [505]}),
        ({"users": [101], "k": np.int64(3)}, {"users": [101], "k": 3}),
        ({"users": [101], "k": 10**30}, {"users": [101], "k": 99}),
    ],
    ids=str,
)
def test_what_is_given_in_another_form_has_the_obvious_meaning(case, asked, alike):
    model = of_items(case)
    assert model.recommend(**asked) == model.recommend(**alike)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"users": "u5"}, "unknown user 'u5': an id of this log is an integer"),
        ({"users": [None]}, "unknown user None"),
        ({"users": [True]}, "unknown user True"),
        ({"users": [5.5]}, "unknown user 5.5"),
        ({"users": [float("nan")]}, "unknown user nan"),
        ({"users": [[101]]}, "users: \\[101\\] is no id; give a flat list"),
        ({"users": {101: 1}}, "is no list of ids"),
        ({"users": object()}, "is no list of ids"),
        ({"histories": [500, 501]}, r"histories: 500 is no list of item ids"),
        (
            {"histories": ["A", "B"]},
            r"'A' is no list of item ids; give a list of lists",
        ),
        ({"histories": "AB"}, "histories: 'AB' is no list of item ids"),
        ({"histories": 500}, "histories: 500 is no list of item ids"),
        ({"histories": {1: [500]}}, "is no list of item ids"),
        ({"histories": [[[500]]]}, "is no id; give a flat list"),
        ({"histories": [[500.5]]}, "unknown item 500.5"),
        ({"histories": Histories.from_lists([[99]])}, "must be from 1 to 12"),
        ({"histories": [[500]], "events": [[501]]}, "events= are of users="),
        ({"users": [101], "events": [[501], [502]]}, "events= has 2 lists for 1 users"),
        ({"users": [101], "events": [501]}, "events: 501 is no list of item ids"),
        ({"users": [101], "k": 2.5}, "k=2.5: must be at least 1, a whole number"),
        ({"users": [101], "k": "3"}, "k='3': must be at least 1, a whole number"),
        ({"users": [101], "k": None}, "k=None: must be at least 1, a whole number"),
        ({"users": [101], "k": -1}, "k=-1: must be at least 1"),
        ({"users": [101], "time": "soon"}, "time='soon': give seconds, or a"),
        ({"users": [101], "time": float("nan")}, "time=nan: give seconds, or a date"),
        ({"users": [101], "situation": 5}, "situation= takes values by name"),
        ({"users": [101], "situation": ["x"]}, "situation= takes values by name"),
        ({"users": [101], "exclude": "x"}, "unknown item 'x'"),
        ({"users": [101], "only": [[500]]}, "is no id; give a flat list"),
        (
            {"users": [101], "candidates": [2**70]},
            "unknown item 1180591620717411303424",
        ),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],  # the same in each process
)
def test_what_has_no_meaning_is_one_line(case, asked, hint):
    model = of_items(case)
    with pytest.raises(ValueError, match=hint) as error:
        model.recommend(**asked)
    assert "\n" not in str(error.value)


def test_scores_are_finite_and_of_the_promised_shape(case):
    split = case.model.split
    if split.slates is not None:
        slates = split.test.slates
        for row in range(3):
            where = slates.list_of(row)
            scores = case.model.score_slate(slates, row)
            assert scores.shape == (where.stop - where.start,)
            assert scores.dtype == np.float32
            assert np.isfinite(scores).all()
        return
    asked = Histories.from_lists([[1, 4], [], [3]])
    scores = case.model.score(asked, np.array([0, -1, 39]))
    assert scores.shape == (3, len(split.items))
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    assert case.model.score(asked.take(np.zeros(0, int))).shape == (0, 12)


def test_what_is_recommended_is_what_is_scored(case):
    split = case.model.split
    if split.slates is not None:
        pytest.skip("slates are scored as of their moment, questions after the log")
    user = case.users[0]
    row = split.users.encode([user]) - 1
    (scores,) = case.model.score(split.histories.take(row), row)
    (found,) = case.all_of(users=[user])
    at = split.items.encode(found.items) - 1
    assert found.scores == pytest.approx(
        scores[torch.from_numpy(at)].tolist(), abs=1e-5
    )


def test_what_is_saved_answers_as_before_when_it_is_loaded(case, tmp_path):
    model = case.model
    model.save(tmp_path / "run", {"data": {"name": "a log"}})
    again = ac.load(tmp_path / "run")
    assert type(again) is type(model)
    assert again.split.log is None
    for asked in ({"users": case.users}, {"histories": [case.history, []]}):
        assert again.recommend(**asked, **case.options) == case.all_of(**asked)
    for part in ("valid", "test"):
        before = ac.evaluate(model, getattr(model.split, part), bootstrap=0)
        after = ac.evaluate(again, getattr(again.split, part), bootstrap=0)
        assert after.metrics == before.metrics
    again.save(tmp_path / "again")
    names = ("weights.safetensors", "vocabulary.json", "histories.safetensors")
    for name in names:
        once, twice = (tmp_path / run / name for run in ("run", "again"))
        assert once.read_bytes() == twice.read_bytes(), name


def test_evaluation_accepts_it_and_finds_what_is_promised(case):
    model = case.model
    report = ac.evaluate(model, model.split.test, bootstrap=0)
    is_ranked = model.split.slates is not None
    names = ["recall@10", "gauc"] if is_ranked else ["hr@1", "mrr", "coverage@10"]
    assert {"ndcg@10", *names} <= set(report.metrics)
    assert all(np.isfinite(value) for value in report.metrics.values())
    loss = "logloss" if is_ranked else "loss"
    assert (loss in report.metrics) == getattr(model, "scores_are_logits", False)


def test_no_answer_changes_the_mode(case):
    if not isinstance(case.model, torch.nn.Module):
        assert not hasattr(case.model, "training")
        return
    calm = case.all_of(users=case.users)
    for mode in (True, False):
        case.model.train(mode)
        assert case.all_of(users=case.users) == calm
        ac.evaluate(case.model, case.model.split.test, bootstrap=0)
        assert all(part.training is mode for part in case.model.modules())


def test_threads_that_ask_at_once_get_the_answers_of_one_alone(case):
    alone, found = case.all_of(users=case.users), {}

    def ask(number):
        found[number] = [case.all_of(users=case.users) for _ in range(3)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [alone] * 3 for number in range(4)}


@pytest.mark.parametrize("kind", [*OF_ITEMS, *OF_SLATES])
def test_what_has_an_onnx_form_answers_alike_and_the_rest_says_so(
    kind, splits, tmp_path
):
    if kind in OF_SLATES or not kind.startswith("attention="):
        part = "slates" if kind in OF_SLATES else "items"
        ({**OF_ITEMS, **OF_SLATES}[kind](splits[part])).save(tmp_path)
        with pytest.raises(ac.DataError, match=r"no ONNX form; serve it with load\(\)"):
            ac.export.to_onnx(tmp_path)
        return
    pytest.importorskip("onnxruntime")
    model = OF_ITEMS[kind](splits["items"])
    model.save(tmp_path)
    ac.export.to_onnx(tmp_path)
    onnx = ac.export.OnnxRecommender(tmp_path)
    for a, b in zip(
        onnx.recommend(users=[101, 139]), model.recommend(users=[101, 139]), strict=True
    ):
        assert a.items == b.items
        assert a.scores == pytest.approx(b.scores, abs=1e-3)
