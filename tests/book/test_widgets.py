"""The widgets in a real browser: what they compute is what the module computes; by
mouse, by keyboard, without scripts, on a phone."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from conftest import rhythm_log
from widgets import (
    _in_whole_numbers,
    loss_dial,
    order_and_masks,
    sampled_metric,
    softmax_dials,
    stepper,
    talk,
)

import attncore as ac
from attncore import attention

pytestmark = pytest.mark.browser
FILMS = ["Alien", "Groundhog Day", "Casablanca", "Star Wars"]
CONTEXT = [[3.0, 0, 0], [0, 2, 1], [0, 1, 2], [3, 1, 1]]
ASKED = [[3.0, 0, 1], [0, 3, 3]]
MAPS = (
    torch.eye(3) / 2,
    torch.tensor([[1.0, 0, 0], [0, 1, 0.5], [0, 0, 1]]),
    torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]]),
)
SCORES = [2.6, 0.6, 0.7, 3.0]


def steps():
    return stepper(
        dict(zip(FILMS, CONTEXT, strict=True)),
        dict(zip(["Blade Runner", "Sleepless in Seattle"], ASKED, strict=True)),
        ("space", "laughter", "love"),
        *MAPS,
        "Who counts?",
    )


def shop(**options):
    """A model that has learned a rhythm of twelve items, and what they are called."""
    torch.manual_seed(0)
    split = ac.leave_one_out(rhythm_log())
    config = {"width": 16, "heads": 2, "blocks": 2, "length": 9, "relative": "position"}
    model = ac.Recommender(ac.RecommenderConfig(**config | options), split)
    quick = ac.TrainingConfig(epochs=4, batch_size=16, progress=False, device="cpu")
    ac.fit(model, split, quick)
    return model, {item: f"Book {item}" for item in split.items.ids}


MODEL, NAMES = shop()
WIDGETS = {
    "talk": talk(MODEL, NAMES, [503, 504, 505], "Put books into a basket"),
    "stepper": steps(),
    "softmax": softmax_dials(SCORES, FILMS, "Drag the scores"),
    "loss": loss_dial(SCORES, FILMS, 1, "Move the right answer"),
    "evaluation": sampled_metric(1682, 40, 10, 100, "Move the film"),
    "order": order_and_masks(
        torch.tensor(CONTEXT) @ torch.tensor(CONTEXT).T / 4, FILMS, "Move the films"
    ),
}


def told(page, name):
    """What the script says that it has computed."""
    return json.loads(page.get_attribute(".widget", f"data-{name}"))


def turn(page, place, value):
    """Move a slider as a reader would."""
    page.eval_on_selector_all(
        "input[type=range]",
        """(all, [place, value]) => {
            all[place].value = value;
            all[place].dispatchEvent(new Event("input", { bubbles: true }));
        }""",
        [place, float(value)],
    )


def picture(page):
    """The texts that are seen, and the numbers that place the shapes."""
    drawn = page.eval_on_selector_all(
        ".widget svg *",
        """nodes => nodes
            .filter(n => !n.closest('[style*="display: none"], .w-out'))
            .map(n => [
                [n.tagName, n.children.length ? "" : n.textContent],
                ["x", "y", "width", "height", "fill-opacity", "stroke-width"]
                    .map(a => Number(n.getAttribute(a) ?? 0))])""",
    )
    return [shape for shape, _ in drawn], [
        number for _, numbers in drawn for number in numbers
    ]


@pytest.mark.parametrize("name", WIDGETS)
def test_the_script_begins_with_the_picture_that_stands_without_it(show, name):
    still, live = show(WIDGETS[name], scripts=False), show(WIDGETS[name])
    (shapes, numbers), (still_shapes, still_numbers) = picture(live), picture(still)
    assert shapes == still_shapes
    assert numbers == pytest.approx(still_numbers, abs=0.06)
    words = still.get_attribute("svg", "aria-label").rstrip(".")
    assert live.get_attribute("svg", "aria-label").startswith(words)
    assert still.locator("svg[role=img][aria-label]").is_visible()
    assert not still.locator(".w-side").is_visible()


@pytest.mark.parametrize("seed", range(5))
def test_the_stepper_computes_what_the_module_computes(show, seed):
    page = show(WIDGETS["stepper"])
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 7, (6, 3)) / 2
    for card, row in zip(page.locator(".w-card").all(), table, strict=True):
        card.click()
        for d, number in enumerate(row):
            turn(page, d, number)
    asks = int(rng.integers(2))
    page.locator(f"[data-candidate='{asks}']").click()
    context, asked = torch.tensor(table[:4]), torch.tensor(table[4:])
    query, key, value = (
        vectors @ one.double()
        for vectors, one in zip((asked, context, context), MAPS, strict=True)
    )
    attended, weights = attention.attend(query, key, value)
    assert told(page, "weights") == pytest.approx(weights[asks].tolist(), abs=1e-6)
    assert told(page, "attended") == pytest.approx(attended[asks].tolist(), abs=1e-6)
    answers = (attended * asked).sum(-1).tolist()
    assert told(page, "answers") == pytest.approx(answers, abs=1e-6)
    for j, weight in enumerate(weights[asks].tolist()):
        assert page.locator(f"[data-at='link-{j}']").text_content() == f"{weight:.2f}"


def test_each_step_of_the_stepper_shows_its_own_numbers(show):
    page = show(WIDGETS["stepper"])
    back = page.get_by_label("one step back")
    seen = [page.locator(".w-sum").text_content()]
    while back.is_enabled():
        back.click()
        seen.append(page.locator(".w-sum").text_content())
    assert seen[::-1] == [
        "Alien = (3, 0, 0)",
        "query = (1.5, 0, 0.5)",
        "key of Alien = (3, 0, 0)",
        "1.5·3 + 0·0 + 0.5·0 = 4.5",
        "4.5 ÷ √3 = 2.6",
        "exp(2.6) = 13.44",
        "13.44 ÷ 38 = 0.35",
        "value of Alien = (3, 0, 0)",
        "2.7·3 + 0.7·0 + 0.7·1 = 8.79",
    ]
    page.get_by_text("Start over").click()
    assert "9 of 9" in page.locator(".w-steps").text_content()


def test_the_stepper_is_driven_by_keyboard_alone(show):
    page = show(WIDGETS["stepper"])
    before = told(page, "weights")
    page.locator("[data-film='0']").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("legend").text_content() == "Groundhog Day"
    page.locator("input[type=range]").first.focus()
    page.keyboard.press("End")
    after = told(page, "weights")
    assert page.locator("output").first.text_content() == "3"
    assert after[1] > before[1]
    page.locator("[data-candidate='1']").focus()
    page.keyboard.press("Space")
    assert told(page, "weights")[1] > after[1]


@pytest.mark.parametrize("seed", range(3))
def test_dragged_scores_give_the_softmax_of_the_module(show, seed):
    page = show(WIDGETS["softmax"])
    rng = np.random.default_rng(seed)
    scores = rng.integers(-50, 100, 4) / 10
    for j, score in enumerate(scores):
        turn(page, j, score)
    turn(page, 4, math.log10(2) if seed else 0)
    warm = 10 ** float(page.locator("input[type=range]").nth(4).input_value())
    page.get_by_label("Casablanca may be looked at").uncheck()
    keep = torch.tensor([True, True, False, True])
    row = torch.tensor(scores)
    expected = attention.softmax(row, keep, temperature=warm).tolist()
    assert told(page, "weights") == pytest.approx(expected, abs=1e-5)
    page.get_by_label("add 90 to every score").check()
    assert told(page, "weights") == pytest.approx(expected, abs=1e-4)


def test_without_the_subtraction_large_scores_overflow_as_in_float32(show):
    page = show(WIDGETS["softmax"])
    page.get_by_label("add 90 to every score").check()
    page.get_by_label("subtract the largest score first").uncheck()
    naive = (torch.tensor(SCORES) + 90).exp()
    naive = (naive / naive.sum()).tolist()
    assert [w is None for w in told(page, "weights")] == [math.isnan(w) for w in naive]
    assert "not a number" in page.locator(".w-says").text_content()
    for name in FILMS:
        page.get_by_label(f"{name} may be looked at").uncheck()
    assert told(page, "weights") == [0, 0, 0, 0]


def test_the_loss_and_its_gradient_are_those_of_the_module(show):
    page = show(WIDGETS["loss"])
    for score in (-5, 0.6, 4, 10):
        turn(page, 0, score)
        row = torch.tensor(SCORES, requires_grad=True)
        changed = torch.cat([row[:1], torch.tensor([float(score)]), row[2:]])
        loss = torch.nn.functional.cross_entropy(changed[None], torch.tensor([1]))
        assert told(page, "loss") == pytest.approx(loss.item(), abs=1e-4)
        chances = attention.softmax(changed).tolist()
        assert told(page, "chances") == pytest.approx(chances, abs=1e-5)


@pytest.mark.parametrize(
    ("rank", "k", "sample"), [(1, 1, 10), (40, 10, 100), (400, 20, 1681)]
)
def test_a_sampled_rank_is_worth_what_many_draws_give(show, rank, k, sample):
    page = show(WIDGETS["evaluation"])
    for place, value in enumerate((rank, k, sample)):
        turn(page, place, value)
    rng = np.random.default_rng(0)
    above = rng.hypergeometric(rank - 1, 1682 - rank, sample, 200_000)
    gain = np.where(above < k, 1 / np.log2(above + 2), 0)
    full = [float(rank <= k), 1 / math.log2(rank + 1) if rank <= k else 0]
    drawn = [(above < k).mean(), gain.mean()]
    assert told(page, "values") == pytest.approx([*full, *drawn], abs=0.005)


def test_moved_films_and_painted_masks_give_the_weights_of_the_module(show):
    page = show(WIDGETS["order"])
    page.get_by_label("Star Wars one place earlier").click()
    page.get_by_label("Star Wars one place earlier").click()
    page.locator("[data-pair='3.0']").click()
    order, keep = [0, 3, 1, 2], attention.causal_keep(4, 4).clone()
    keep[3, 0] = False
    scores = (torch.tensor(CONTEXT) @ torch.tensor(CONTEXT).T / 4)[order][:, order]
    apart = (torch.arange(4)[:, None] - torch.arange(4)).abs()
    for positions in (True, False):
        page.get_by_label("positions count").set_checked(positions)
        expected = attention.softmax(scores - 0.5 * positions * apart, keep)
        found = list(itertools.chain(*told(page, "weights")))
        assert found == pytest.approx(expected.flatten().tolist(), abs=1e-6)
    page.get_by_label("events may look ahead").check()
    assert "It reads." in page.locator(".w-says").text_content()
    page.locator("[data-pair='0.3']").focus()
    page.keyboard.press("Enter")
    assert told(page, "weights")[0][3] == 0
    assert page.evaluate("document.activeElement.dataset.pair") == "0.3"


@pytest.mark.parametrize("name", WIDGETS)
def test_a_widget_fits_a_phone_and_a_laptop_without_scrolling(show, name):
    for width, height in ((390, 700), (1280, 800)):
        page = show(WIDGETS[name], width=width)
        box = page.locator(".widget").bounding_box()
        assert box["height"] <= height
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        small = page.eval_on_selector_all(
            "button, input, .w-card, .w-pair",
            """nodes => nodes
                .map(n => (n.closest("label") ?? n).getBoundingClientRect())
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


def test_a_change_is_answered_within_50_ms(show):
    page = show(*WIDGETS.values())
    took = page.evaluate(
        """() => [...document.querySelectorAll("input[type=range]")].map(input => {
            const from = performance.now();
            input.value = input.max;
            input.dispatchEvent(new Event("input", { bubbles: true }));
            return performance.now() - from;
        })"""
    )
    assert sorted(took)[len(took) // 2] < 50


def test_widgets_suit_any_eye(show):
    from axe_playwright_python.sync_playwright import Axe

    page = show(*WIDGETS.values(), width=390)
    found = Axe().run(page).response["violations"]
    assert [
        (v["id"], v["nodes"][0]["html"])
        for v in found
        if v["impact"] in ("serious", "critical")
    ] == []


def test_a_view_can_be_shared_by_the_address_of_a_page(show):
    page = show(WIDGETS["stepper"])
    page.evaluate(
        """() => document.querySelector("main").insertAdjacentHTML(
            "beforeend", '<article class="bd-article"></article>')"""
    )
    page.locator("[data-film='2']").click()
    turn(page, 0, 2.5)
    address = page.evaluate("location.hash")
    weights = told(page, "weights")
    other = show(WIDGETS["softmax"])
    other.evaluate("address => { location.hash = address; }", address)
    other.evaluate(
        """html => {
            const place = document.querySelector("main");
            place.innerHTML = html;
            const script = document.createElement("script");
            script.textContent = place.querySelector("script:last-of-type").textContent;
            document.body.append(script);
        }""",
        WIDGETS["stepper"].html,
    )
    assert told(other, "weights") == pytest.approx(weights)


def test_the_model_in_the_page_ranks_a_hundred_histories_as_python_does(show):
    rounded, _ = _in_whole_numbers(MODEL)
    page = show(WIDGETS["talk"])
    rng = np.random.default_rng(0)
    for _ in range(100):
        history = [int(i) for i in rng.choice(12, int(rng.integers(1, 7)), False)]
        page.evaluate(
            """address => {
                const root = document.querySelector(".widget");
                delete root.dataset.ready;
                root.querySelector(".w-side").replaceChildren();
                location.hash = address;
                const script = document.createElement("script");
                script.textContent = root.querySelector("script:last-of-type").text;
                document.body.append(script);
            }""",
            "talk=" + ".".join(str(i + 1) for i in history),
        )
        ids = rounded.split.items.decode(np.array(history) + 1).tolist()
        (best,) = rounded.recommend(histories=[ids], k=10, exclude_seen=True)
        found = [rounded.split.items.ids[place] for place in told(page, "order")]
        assert found == list(best.items)
        fell = rounded.erasure(histories=[ids], candidates=best.items[:1])
        drops = fell.sort_values("event")["drop"].tolist()
        assert told(page, "drops") == pytest.approx(drops, abs=1e-4)
        looked = rounded.attention(histories=[ids]).query("layer == 1")
        looked = looked.sort_values(["head", "event"])["weight"].tolist()
        found = list(itertools.chain(*told(page, "weights")))
        assert found == pytest.approx(looked, abs=1e-5)


def test_a_basket_is_filled_and_emptied_by_keyboard(show):
    page = show(WIDGETS["talk"])
    page.get_by_label("take Book 503 out").focus()
    page.keyboard.press("Enter")
    assert page.locator(".w-out").count() == 2
    before = told(page, "order")
    page.locator(".w-list button + button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".w-out").count() == 3
    assert before[0] not in told(page, "order")
    page.locator("select").select_option(label="Book 511")
    assert "After Book 511" in page.locator(".w-says").text_content()
    page.get_by_text("Start over").click()
    assert page.locator(".w-out").count() == 3


def test_learned_positions_are_computed_too(show):
    model, names = shop(relative="none", positions="learned")
    page = show(talk(model, names, [505, 503], "t"))
    rounded, _ = _in_whole_numbers(model)
    (best,) = rounded.recommend(histories=[[505, 503]], k=10, exclude_seen=True)
    found = [rounded.split.items.ids[place] for place in told(page, "order")]
    assert found == list(best.items)


def test_whole_numbers_cost_the_model_nothing_that_counts():
    rounded, tables = _in_whole_numbers(MODEL)
    one, two = (ac.evaluate(m, MODEL.split.valid) for m in (MODEL, rounded))
    assert two.metrics["ndcg@10"] == pytest.approx(one.metrics["ndcg@10"], abs=0.02)
    assert len(json.dumps(tables)) < 20_000


def test_names_cannot_break_out_of_the_page():
    bad = "</script><b>&"
    html = softmax_dials([1.0], [bad], bad).html
    assert bad not in html
    assert html.count("</script>") == 2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: talk(MODEL, NAMES, [], "t"), "1 to 6 items; this is 'self' with 0"),
        (
            lambda: talk(shop(gated=True)[0], NAMES, [503], "t"),
            "needs plain self-attention",
        ),
        (lambda: softmax_dials(SCORES, FILMS[:3], "t"), "one number for each"),
        (lambda: softmax_dials([], [], "t"), "one number for each"),
        (lambda: loss_dial(SCORES, FILMS, 4, "t"), "must be from 0 to 3"),
        (lambda: sampled_metric(10, 11, 1, 5, "t"), "need 1 to 10 and less than 10"),
        (lambda: order_and_masks(SCORES, FILMS, "t"), "a row and a column for each"),
        (
            lambda: stepper({"a": [1]}, {"b": [1, 2]}, ("x", "y"), *MAPS, "t"),
            "2 features need vectors of 2 numbers",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(call, says):
    with pytest.raises(ValueError, match=says):
        call()
