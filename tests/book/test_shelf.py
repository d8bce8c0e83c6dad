"""The shelf in a real browser: weights and chances are those of the ranker, whatever is
taken away."""

import dataclasses
import json

import numpy as np
import pytest
import shelf as drawn
import torch
from shop import shop_log
from test_widgets import picture
from widgets import shelf

import attncore as ac
from attncore.ranking.batches import SlateWindows

pytestmark = pytest.mark.browser


def trained(**options):
    torch.manual_seed(0)
    split = ac.split_by_time(shop_log(), valid=0.2, test=0.2)
    config = ac.RankerConfig(width=16, heads=2, length=20, **options)
    model = ac.Ranker(config, split)
    quick = ac.TrainingConfig(
        epochs=3,
        batch_size=32,
        lr=1e-2,
        negatives=16,
        progress=False,
        device="cpu",
        precision="float32",
    )
    ac.fit(model, split, quick)
    return model


MODEL = trained()
SLATES = MODEL.split.test.slates
NAMES = {item: f"Product {item % 7}" for item in MODEL.split.items.ids}
DETAILS = {item: f"{item} g" for item in MODEL.split.items.ids if item % 2}
ROWS = [3, 11]
SHELF = shelf(MODEL, SLATES, ROWS, NAMES, DETAILS, "Which purchases wake up?")


def told(page, name):
    return json.loads(page.get_attribute(".widget", f"data-{name}"))


def without(row, gone):
    """Scores of a slate's candidates when attention cannot see some past items."""
    batch = SlateWindows(SLATES, MODEL.features.situation, 20).whole(row)
    kept = torch.ones(batch.items_BT.shape[1], dtype=torch.bool)
    kept[list(gone)] = False
    fields = ("items_BT", "counts_BT", "ages_BT", "habit_BT2")
    batch = dataclasses.replace(
        batch, **{name: getattr(batch, name)[:, kept] for name in fields}
    )
    with torch.no_grad():
        MODEL.eval()
        scores = MODEL.scores(batch)[0]
        _, _, layers = MODEL.attended(batch, need_weights=True)
    return scores, layers[-1][0]


def places(row):
    """Candidates on top, and the past items that the picture shows."""
    scores, weights = without(row, ())
    top = scores.argsort(descending=True, stable=True)[:8]
    most = weights[:, top, 1:].amax((0, 1))
    batch = SlateWindows(SLATES, MODEL.features.situation, 20).whole(row)
    most = most.masked_fill(batch.items_BT[0] == 0, -1)
    return top, most.argsort(descending=True, stable=True)[:7].sort().values


def test_the_script_begins_with_the_picture_that_stands_without_it(show):
    still, live = show(SHELF, scripts=False), show(SHELF)
    (shapes, numbers), (still_shapes, still_numbers) = picture(live), picture(still)
    assert shapes == still_shapes
    assert numbers == pytest.approx(still_numbers, abs=0.06)
    assert live.get_attribute("svg", "aria-label") == still.get_attribute(
        "svg", "aria-label"
    )
    assert live.locator(".s-awake").count() == still.locator(".s-awake").count() == 1


@pytest.mark.parametrize("home", range(2))
@pytest.mark.parametrize("gone", [(), (1,), (2, 5, 7)])
def test_what_is_left_is_weighed_as_by_the_ranker(show, home, gone):
    page = show(SHELF)
    page.get_by_role("button", name=f"household {home + 1}").click()
    top, shown = places(ROWS[home])
    for place in gone:
        page.locator(f".s-row[data-item='{place}']").click()
    scores, weights = without(ROWS[home], [int(shown[place - 1]) for place in gone])
    kept = [0, *(1 + place for place in range(len(shown)) if place + 1 not in gone)]
    lost = [int(shown[place - 1]) for place in gone]
    left = [int(shown[place - 1]) for place in kept[1:]]
    order = [0, *(1 + at - sum(one < at for one in lost) for at in left)]
    for n in (0, 3, 7):
        page.locator(".w-list button").nth(n).click()
        assert told(page, "score") == pytest.approx(float(scores[top[n]]), abs=0.005)
        found = np.array(told(page, "weights"))
        assert found[:, [g for g in gone]].sum() == 0
        assert np.allclose(found.sum(1), 1)
        expected = weights[:, top[n]][:, order].numpy()
        assert np.allclose(found[:, kept], expected, atol=2e-3)


def test_names_are_told_apart_and_counts_are_said_in_words(show):
    page = show(SHELF)
    for home in (1, 2):
        page.get_by_role("button", name=f"household {home}").click()
        offered = page.locator(".w-list span:first-child").all_text_contents()
        assert len(offered) == len(set(offered)) == 8
        past = page.locator(".s-row .s-name").all_text_contents()
        assert len(past) == len(set(past)) == 9
        for words in page.locator(".s-row .w-head").all_text_contents()[1:-1]:
            assert words.split(",")[0] == "once" or words.split(",")[0].endswith(
                "times"
            )
    assert drawn.since({"count": 1, "days": 1}) == "once, yesterday"
    assert drawn.since({"count": 5, "days": 71}) == "5 times, last 71 days ago"
    assert drawn.since({"count": 2, "days": 0}) == "2 times, last today"
    names = {1: "Sugar", 2: "Sugar", 3: "Sugar", 4: "Salt"}
    assert drawn._apart([1, 2, 3, 4], names, {1: "4 LB", 2: float("nan")}) == [
        "Sugar, 4 LB",
        "Sugar",
        "Sugar (2)",
        "Salt",
    ]


def test_hovering_previews_and_a_click_chooses(show):
    page = show(SHELF)
    first = page.locator(".s-chance").text_content()
    page.locator(".w-list button").nth(2).hover()
    assert page.locator(".s-chance").text_content() != first
    page.locator("h1").hover()
    assert page.locator(".s-chance").text_content() == first
    page.locator(".w-list button").nth(2).click()
    page.locator("h1").hover()
    assert page.locator(".s-chance").text_content() != first


def test_purchases_are_taken_away_by_keyboard(show):
    page = show(SHELF)
    row = page.locator(".s-row[role=checkbox]").nth(1)
    row.focus()
    page.keyboard.press("Space")
    assert row.get_attribute("aria-checked") == "false"
    assert page.evaluate("document.activeElement.dataset.item") == "2"
    assert "With all of the past" in page.locator(".w-says").text_content()
    page.keyboard.press("Enter")
    assert row.get_attribute("aria-checked") == "true"


def test_the_shelf_fits_a_phone_and_suits_any_eye(show):
    from axe_playwright_python.sync_playwright import Axe

    for width, height in ((390, 700), (1280, 800)):
        page = show(SHELF, width=width)
        assert page.locator(".widget").bounding_box()["height"] <= height
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        small = page.eval_on_selector_all(
            "button, .s-row[role]",
            """nodes => nodes.map(n => n.getBoundingClientRect())
                .filter(r => r.height < 24 || r.width < 24).length""",
        )
        assert small == 0
        letters = page.eval_on_selector_all(
            "svg text",
            """texts => texts.map(t => parseFloat(getComputedStyle(t).fontSize)
                * t.closest("svg").getBoundingClientRect().width
                / t.closest("svg").viewBox.baseVal.width)""",
        )
        assert min(letters) >= 10.9
        found = Axe().run(page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []


def test_a_change_is_answered_within_50_ms(show):
    page = show(SHELF)
    took = page.evaluate(
        """() => [...document.querySelectorAll(".w-list button")].map(n => {
            const from = performance.now();
            n.click();
            return performance.now() - from;
        })"""
    )
    assert sorted(took)[len(took) // 2] < 50


def test_a_ranker_without_attention_is_refused():
    with pytest.raises(ValueError, match="needs target attention"):
        shelf(trained(attention="mean"), SLATES, ROWS, NAMES, DETAILS, "t")
