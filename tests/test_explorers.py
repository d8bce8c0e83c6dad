"""Facts about `explorers`: the numbers that are shown are the module's, and the
text is always the same."""

import json
import re
from pathlib import Path

import drawing
import pytest
from explorers import explore_attention, explore_runs

import attncore as ac

EPOCHS = [{"epoch": i + 1, "loss": 5 - i, "ndcg@10": i / 10} for i in range(3)]


def data(explorer):
    return json.loads(
        re.search(
            r'<script type="application/json">(.*?)</script>', explorer.html, re.S
        )[1]
    )


@pytest.fixture
def model(split):
    """Makes an untrained model: its weights differ from event to event, which is all
    that is asked here."""

    def made(kind):
        return ac.Recommender(
            ac.RecommenderConfig(attention=kind, width=16, blocks=2, heads=2, length=8),
            split,
        )

    return made


@pytest.fixture
def histories(split):
    return {
        f"user {user}": split.log.events.query("user == @user")["item"].tolist()[:6]
        for user in (100, 101)
    }


@pytest.fixture
def names(log):
    return {item: f"item {item}" for item in log.events["item"].unique()}


def test_with_target_attention_each_candidate_has_the_weights_that_the_model_gives_it(
    model, histories, names
):
    target, candidates = model("target"), [503, 505, 507]
    looks, fell = data(explore_attention(target, histories, names, "t", candidates))[
        "panels"
    ]
    assert looks["by"] == [0, 1, 2, 3]
    assert fell["by"] == [0, 3]
    for h, history in enumerate(histories.values()):
        told = target.attention(histories=[history], candidates=candidates)
        for c, candidate in enumerate(candidates):
            for head in range(2):
                row = told[
                    (told["query"] == candidate) & (told["head"] == head)
                ].sort_values("event")["weight"]
                assert looks["values"][h][0][head][c] == pytest.approx(
                    row.tolist(), abs=0.005
                )


def test_with_self_attention_one_row_serves_all_candidates_and_erasure_tells_them_apart(
    model, histories, names
):
    own, candidates = model("self"), [503, 505]
    looks, fell = data(explore_attention(own, histories, names, "t", candidates))[
        "panels"
    ]
    assert looks["by"] == [0, 1, 2]
    assert "share" in looks["title"]
    history = histories["user 101"]
    told = own.attention(histories=[history])
    for layer in range(2):
        for head in range(2):
            row = told[(told["layer"] == layer) & (told["head"] == head)].sort_values(
                "event"
            )["weight"]
            assert looks["values"][1][layer][head] == pytest.approx(
                row.tolist(), abs=0.005
            )
    drop = own.erasure(histories=[history], candidates=candidates)
    for c, candidate in enumerate(candidates):
        row = drop[drop["candidate"] == candidate].sort_values("event")["drop"]
        assert fell["values"][1][c] == pytest.approx(row.tolist(), abs=0.005)


def test_only_the_newest_events_are_shown_by_their_names(model, histories, names):
    looks, fell = data(
        explore_attention(model("self"), histories, names, "t", newest=3)
    )["panels"]
    assert (
        looks["names"][0]
        == [names[i] for i in histories["user 100"][-3:]]
        == fell["names"][0]
    )
    assert len(looks["values"][0][0][0]) == len(fell["values"][0][0]) == 3


def test_a_star_marks_one_event_of_one_history(model, histories, names):
    looks, _ = data(
        explore_attention(
            model("self"), histories, names, "t", newest=3, marked={"user 101": 4}
        )
    )["panels"]
    plain = [names[i] for i in histories["user 101"][-3:]]
    assert looks["names"] == [
        [names[i] for i in histories["user 100"][-3:]],
        [plain[0], f"★ {plain[1]}", plain[2]],
    ]


def test_without_candidates_the_five_best_of_each_history_are_taken(
    model, histories, names
):
    own = model("self")
    *_, candidates = data(explore_attention(own, histories, names, "t"))["controls"]
    best = own.recommend(histories=[histories["user 101"]], k=5)[0].items
    assert candidates["labels"][1] == [names[i] for i in best]


def test_learning_curves_hold_every_epoch_of_every_run():
    explorer = explore_runs({"self": EPOCHS, "mean": EPOCHS[:2]}, "Two runs")
    (panel,), (metric, epoch) = data(explorer)["panels"], data(explorer)["controls"]
    assert metric["labels"] == ["loss", "ndcg@10"]
    assert epoch["labels"] == ["1", "2", "3"]
    assert panel["values"] == [[[5, 4, 3], [5, 4]], [[0, 0.1, 0.2], [0, 0.1]]]


def test_the_same_explorer_has_the_same_bytes_and_shows_itself_in_a_notebook():
    one, two = (explore_runs({"self": EPOCHS}, "How did it go?") for _ in range(2))
    assert one.html == two.html == one._repr_html_()
    assert repr(one) == "Explorer('How did it go?'; choose: number, epoch)"


def test_names_cannot_break_out_of_the_page():
    bad = "</script><b>&"
    html = explore_runs({bad: EPOCHS}, bad).html
    assert bad not in html
    assert html.count("</script>") == 2
    assert data(explore_runs({bad: EPOCHS}, bad))["panels"][0]["names"] == [bad]


def test_the_script_is_short_and_fetches_nothing():
    script = (Path(drawing.__file__).with_name("explorer.js")).read_text(
        encoding="utf-8"
    )
    assert len(script.splitlines()) <= 200
    assert not re.search(
        r"fetch\(|import\(|XMLHttpRequest|https?://(?!www\.w3\.org/2000/svg)", script
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: explore_runs({}, "t"), "0 runs; give 1 to 4"),
        (lambda: explore_attention(None, {}, {}, "t"), "at least one history"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_run_without_the_number_is_named():
    with pytest.raises(
        ac.DataError, match="run 'mine' has no 'recall': it has epoch, loss"
    ):
        explore_runs({"mine": [{"epoch": 1, "loss": 2.0}]}, "t", metrics=["recall"])
