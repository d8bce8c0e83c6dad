"""Heads and ladder in a real browser: what they say is what the module computes."""

import json

import heads
import ladder
import numpy as np
import pytest
import rungs
import torch
import widgets
from test_widgets import picture

from attncore import attention
from attncore.evaluation import Report

pytestmark = pytest.mark.browser
FILMS = ["Alien", "Groundhog Day", "Casablanca", "Star Wars"]
ASKING = ["Blade Runner", "Sleepless in Seattle"]
FEATURES = ["space", "laughter", "love", "age"]


def tables(seed):
    rng = np.random.default_rng(seed)
    return [torch.tensor(rng.integers(-8, 9, (n, 4)) / 4) for n in (2, 4, 4)]


def matrices(seed=0):
    return widgets.heads(*tables(seed), ASKING, FILMS, FEATURES, "Point at a cell")


def stands():
    return rungs.ladder_of(
        {"popularity": [0.1], "chain": [0.2], "attention": [0.61, 0.6, 0.65]},
        {"chain": (0.19, 0.22), "attention": (0.58, 0.64)},
        lit=("chain", "attention"),
        where="a log",
    )


def long_names():
    """A ladder whose names and words are as long as any of the book."""
    names = ["self-attention, full softmax", "the mean of the whole history"]
    low, high = report([0.1, 0.2, 0.3]), report([0.1, 0.25, 0.28])
    return rungs.ladder_of(dict(zip(names, (low, high), strict=True)), lit=names)


def report(values):
    return Report(
        {"ndcg@10": float(np.mean(values))},
        {"ndcg@10": (0.1, 0.9)},
        {"ndcg@10": np.array(values)},
        len(values),
        9,
        "test",
        {"questions": 1},
    )


WIDGETS = {"heads": matrices(), "ladder": stands(), "long": long_names()}


def told(page, name):
    return json.loads(page.get_attribute(".widget", f"data-{name}"))


@pytest.mark.parametrize("name", WIDGETS)
def test_the_script_begins_with_the_picture_that_stands_without_it(show, name):
    still, live = show(WIDGETS[name], scripts=False), show(WIDGETS[name])
    (shapes, numbers), (still_shapes, still_numbers) = picture(live), picture(still)
    assert shapes == still_shapes
    assert numbers == pytest.approx(still_numbers, abs=0.06)
    for kind in ("h-lit", "l-lit", "l-shown"):
        assert live.locator(f".{kind}").count() == still.locator(f".{kind}").count()
    assert live.get_attribute("svg", "aria-label") == still.get_attribute(
        "svg", "aria-label"
    )
    assert not still.locator(".w-side").is_visible()


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_heads_split_and_joined_are_those_of_the_module(show, seed, count):
    query, key, value = tables(seed)
    page = show(matrices(seed))
    page.get_by_role("button", name=str(count), exact=True).click()
    page.get_by_role("button", name="weights").click()

    def split(x):
        return x.unflatten(-1, (count, -1)).transpose(0, 1)

    attended, weights = attention.attend(split(query), split(key), split(value))
    joined = attended.transpose(0, 1).flatten(-2)
    assert np.allclose(told(page, "attended"), joined, atol=1e-6)
    for head in range(count):
        if count > 1:
            page.get_by_role("button", name=f"head {head + 1}").click()
        assert np.allclose(told(page, "weights"), weights[head], atol=1e-6)
        scores = split(query)[head] @ split(key)[head].T
        assert np.allclose(told(page, "scores"), scores, atol=1e-6)
        shown = page.locator(".h-score text").all_text_contents()
        assert shown == [f"{w:.2f}" for w in weights[head].flatten().tolist()]


def test_a_cell_lights_its_row_and_its_column_and_is_worked_out(show):
    page = show(
        widgets.heads(
            [[1.5, 0, 0.5], [0, 1.5, 1.5]],
            [[3, 0, 0], [0, 2, 2], [0, 1, 2.5], [3, 1, 1.5]],
            [[3, 0, 0], [0, 1.5, 1.5], [0, 1.5, 1.5], [3, 1, 1]],
            ASKING,
            FILMS,
            FEATURES[:3],
            "t",
        )
    )
    page.locator('.h-score[data-cell="0.3"]').hover()
    lit = page.locator(".h-lit").evaluate_all(
        "all => all.map(n => n.classList[0] + ' ' + n.dataset.cell)"
    )
    assert set(lit) == {
        *(f"h-query 0.{d}" for d in range(3)),
        *(f"h-key {d}.3" for d in range(3)),
        "h-score 0.3",
    }
    assert page.locator(".w-sum").text_content() == "1.5·3 + 0·1 + 0.5·1.5 = 5.25"
    page.get_by_role("button", name="weights").click()
    page.locator('.h-score[data-cell="0.0"]').click()
    said = page.locator(".w-sum").text_content()
    assert said == (
        "1.5·3 + 0·0 + 0.5·0 = 4.5; ÷ √3 = 2.6exp(2.6) = 13.44; ÷ 38 = 0.35"
    )
    page.get_by_role("button", name="3", exact=True).click()
    page.locator('.h-sum[data-cell="2.1"]').click()
    assert "those of head 3" in page.locator(".w-says").text_content()
    assert page.get_by_role("button", name="head 3").get_attribute("aria-pressed")
    assert page.locator(".h-off").count() > 0


def test_cells_are_reached_by_keyboard(show):
    page = show(matrices())
    page.locator(".h-score[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.cell") == "1.1"
    words = page.locator(".w-says").text_content()
    assert words.startswith("Sleepless in Seattle meets Groundhog Day")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.cell") == "1.1"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.classList[0]") == "h-sum"


def test_a_view_of_the_heads_can_be_shared(show):
    page = show(matrices())
    page.evaluate(
        """() => document.querySelector("main").insertAdjacentHTML(
            "beforeend", '<article class="bd-article"></article>')"""
    )
    page.get_by_role("button", name="2", exact=True).click()
    page.get_by_role("button", name="head 2").click()
    page.locator('.h-score[data-cell="1.2"]').click()
    assert page.evaluate("location.hash") == "#heads=2.1.0.s.1.2"
    words = page.locator(".w-says").text_content()
    page.evaluate(
        """() => {
            const root = document.querySelector(".widget");
            delete root.dataset.ready;
            root.querySelector(".w-side").replaceChildren();
            const script = document.createElement("script");
            script.textContent = root.querySelector("script:last-of-type").text;
            document.body.append(script);
        }"""
    )
    assert page.locator(".w-says").text_content() == words


def test_too_much_for_a_phone_is_refused():
    with pytest.raises(ValueError, match="do not fit a phone"):
        heads.heads(
            torch.zeros(2, 4),
            torch.zeros(9, 4),
            torch.zeros(9, 4),
            ASKING,
            [str(n) for n in range(9)],
            FEATURES,
            "t",
        )
    with pytest.raises(ValueError, match="the names ask for"):
        heads.heads(*tables(0), FILMS, FILMS, FEATURES, "t")


def test_the_ladder_of_the_book_says_what_its_steps_say(show):
    names = {"mean": "mean", "self": "self-attention", "markov-chain": "chain"}
    page = show(rungs.ladder(("mean", "self"), names=names))
    step = rungs.step("ml-100k", "self", "mean")
    figures = f"{step.value:+.4f} [{step.low:+.4f}, {step.high:+.4f}], above"
    assert told(page, "said") == ["self-attention against mean:", figures]
    assert page.locator(".l-lit").count() == 2
    rows = page.locator(".l-rung text:first-of-type").all_text_contents()
    assert rows == ["chain", "self-attention", "mean"]
    assert page.locator(".l-seed").count() == 6
    page.locator(".l-rung").first.hover()
    step = rungs.step("ml-100k", "markov-chain", "mean")
    figures = f"{step.value:+.4f} [{step.low:+.4f}, {step.high:+.4f}], above"
    assert told(page, "said") == ["chain against mean:", figures]
    page.locator(".l-rung").first.click()
    page.locator(".l-rung").nth(1).focus()
    step = rungs.step("ml-100k", "self", "markov-chain")
    assert step.verdict == "level"
    assert told(page, "said")[1].endswith("not to be told apart")
    assert told(page, "said")[1].startswith(f"{step.value:+.4f}")


def test_a_ladder_of_reports_compares_user_by_user(show):
    low, high = report([0.1, 0.2, 0.3]), report([0.5, 0.5, 0.8])
    page = show(
        rungs.ladder_of({"low": low, "high": [high, high]}, lit=("low", "high"))
    )
    assert told(page, "said")[0] == "high against low:"
    assert told(page, "said")[1].startswith("+0.4000 [+0.3")
    assert told(page, "said")[1].endswith("tends to be above")
    sure = {"low": low, "high": [high] * 3}
    page = show(rungs.ladder_of(sure, lit=("low", "high"), counted=("low",)))
    assert told(page, "said")[1].endswith("], above")
    page = show(stands())
    assert told(page, "said") == [
        "attention against chain:",
        "+0.4200, interval not known",
    ]


def test_the_ladder_is_climbed_by_keyboard_and_keeps_its_place(show):
    page = show(stands())
    page.locator(".l-rung").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert told(page, "said")[0] == "popularity against chain:"
    page.keyboard.press("Enter")
    assert page.locator(".l-rung[aria-pressed=true]").get_attribute("data-rung") == "2"
    page.keyboard.press("ArrowUp")
    assert told(page, "said")[0] == "chain against popularity:"


def test_each_ladder_of_a_page_has_an_address_of_its_own(show):
    page = show(stands(), stands())
    page.evaluate(
        """() => document.querySelector("main").insertAdjacentHTML(
            "beforeend", '<article class="bd-article"></article>')"""
    )
    second = page.locator(".widget").nth(1)
    second.locator(".l-rung").first.click()
    assert page.evaluate("location.hash") == "#ladder-2=0.0"
    page.evaluate(
        """() => document.querySelectorAll(".widget").forEach(root => {
            delete root.dataset.ready;
            root.querySelector(".w-side").replaceChildren();
            const script = document.createElement("script");
            script.textContent = root.querySelector("script:last-of-type").text;
            document.body.append(script);
        })"""
    )
    pressed = page.locator(".l-rung[aria-pressed=true]")
    assert pressed.evaluate_all("all => all.map(n => n.dataset.rung)") == ["1", "0"]


@pytest.mark.parametrize(
    ("least", "most", "ends"),
    [(0.03, 0.135, (0, 0.15)), (0.902, 0.937, (0.9, 0.94)), (0.0, 0.65, (0, 0.8))],
)
def test_a_scale_ends_at_round_numbers(least, most, ends):
    assert ladder._scale(least, most) == ends


def test_a_ladder_that_cannot_stand_is_refused():
    with pytest.raises(ValueError, match="two rungs or more"):
        rungs.ladder_of({"one": [0.1]})
    with pytest.raises(ValueError, match="is no rung"):
        rungs.ladder_of({"one": [0.1], "two": [0.2]}, lit=("three",))
    with pytest.raises(LookupError):
        rungs.ladder(("no-such-recipe",))


@pytest.mark.parametrize("name", WIDGETS)
def test_both_fit_a_phone_and_a_laptop_and_suit_any_eye(show, name):
    from axe_playwright_python.sync_playwright import Axe

    for width, height in ((360, 700), (390, 700), (1280, 800)):
        page = show(WIDGETS[name], width=width)
        for button in page.get_by_role("button", name="2", exact=True).all():
            button.click()
        assert page.locator(".widget").bounding_box()["height"] <= height
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        small = page.eval_on_selector_all(
            "button, .h-score, .l-rung",
            """nodes => nodes.filter(n => n.getClientRects().length)
                .map(n => n.getBoundingClientRect())
                .filter(r => r.height < 24 || r.width < 24).length""",
        )
        assert small == 0
        letters = page.eval_on_selector_all(
            "svg text",
            """texts => texts.map(t => parseFloat(getComputedStyle(t).fontSize)
                * t.closest("svg").getBoundingClientRect().width
                / t.closest("svg").viewBox.baseVal.width)""",
        )
        assert min(letters) >= (10.9 if width >= 390 else 10)
        found = Axe().run(page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []


def test_a_change_is_answered_within_50_ms(show):
    page = show(*WIDGETS.values())
    took = page.evaluate(
        """() => [...document.querySelectorAll("button, .h-score, .l-rung")].map(n => {
            const from = performance.now();
            n.dispatchEvent(new MouseEvent("click", { bubbles: true }));
            n.dispatchEvent(new PointerEvent("pointerenter", { pointerType: "mouse" }));
            return performance.now() - from;
        })"""
    )
    assert sorted(took)[len(took) // 2] < 50
