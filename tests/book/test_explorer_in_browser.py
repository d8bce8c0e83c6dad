"""The attention explorer in a real browser: with a mouse, with a keyboard, without
scripts and on paper."""

import pytest
from drawing import Control, Explorer, Panel
from explorers import explore_runs

pytestmark = pytest.mark.browser
FILMS = ["Alien", "Groundhog Day", "Casablanca", "Star Wars"]
EPOCHS = [{"epoch": i + 1, "loss": 5 - i / 3, "ndcg@10": i / 100} for i in range(8)]


def people() -> Explorer:
    """What `explore_attention` makes of target attention, with numbers that can be told
    apart."""
    controls = [
        Control("history", ["Ann", "Ben"]),
        Control("head", ["1", "2"]),
        Control(
            "candidate",
            [["Blade Runner", "Heat"], ["Sleepless in Seattle", "Ran", "Heat"]],
            "point",
        ),
    ]
    weights = [
        [[[0.7, 0.3], [0.4, 0.6]]] * 2,
        [[[0.1, 0.2, 0.7], [0.5, 0.5, 0.0], [0.9, 0.1, 0.0]]] * 2,
    ]
    drops = [
        [[0.5, -0.5], [0.0, 1.0]],
        [[0.2, -0.1, 0.3], [0.4, 0.0, 0.1], [-0.6, 0.1, 0.2]],
    ]
    names = [
        ["Alien", "Star Wars"],
        ["Casablanca", "Groundhog Day", "An Affair to Remember, once more"],
    ]
    return Explorer(
        "Who looks at what",
        controls,
        [
            Panel("Weights", "bars", "Most weight", names, weights, [0, 1, 2]),
            Panel(
                "Erasure",
                "bars",
                "Largest change",
                names,
                drops,
                [0, 2],
                low=-0.6,
                high=1.0,
            ),
        ],
    )


EXPLORERS = {
    "runs": explore_runs({"self": EPOCHS, "mean": EPOCHS[:5]}, "Two runs"),
    "people": people(),
}


def said(page, panel=0):
    return page.locator(".ac-said").nth(panel).text_content()


def picture(page):
    """What is drawn: the shapes and texts that are seen, and the numbers that place
    them."""
    drawn = page.eval_on_selector_all(
        ".attncore-explorer svg *",
        """nodes => nodes
            .filter(n => n.closest('g')?.style.display !== 'none')
            .map(n => [
                [n.tagName, n.getAttribute('class') || '',
                 n.tagName === 'text' ? n.textContent : ''],
                ['x', 'width', 'cx', 'cy', 'fill-opacity']
                    .map(a => Number(n.getAttribute(a) ?? 0))])""",
    )
    return [shape for shape, _ in drawn], [
        number for _, numbers in drawn for number in numbers
    ]


@pytest.mark.parametrize("name", EXPLORERS)
def test_the_script_begins_with_the_picture_that_stands_without_it(show, name):
    still, live = show(EXPLORERS[name], scripts=False), show(EXPLORERS[name])
    (shapes, numbers), (still_shapes, still_numbers) = picture(live), picture(still)
    assert shapes == still_shapes
    assert numbers == pytest.approx(still_numbers, abs=0.002)
    assert said(live) == said(still)
    assert live.get_attribute("svg", "aria-label") == still.get_attribute(
        "svg", "aria-label"
    )


def test_without_scripts_there_is_a_picture_with_a_name_and_no_dead_control(show):
    page = show(EXPLORERS["people"], scripts=False)
    assert page.locator("svg[role=img][aria-label*='Alien 0.70']").is_visible()
    assert not page.locator(".ac-controls").is_visible()
    assert (
        "history Ann · head 1 · candidate Blade Runner"
        in page.locator(".ac-state").text_content()
    )


def test_pointing_at_a_candidate_is_a_look_and_a_click_chooses(show):
    page = show(EXPLORERS["people"])
    assert said(page) == "Most weight: Alien 0.70, Star Wars 0.30."
    page.locator("label", has_text="Heat").hover()
    assert said(page) == "Most weight: Star Wars 0.60, Alien 0.40."
    assert said(page, 1) == "Largest change: Star Wars 1.00, Alien 0.00."
    page.locator("h1").hover()
    assert said(page) == "Most weight: Alien 0.70, Star Wars 0.30."
    page.locator("label", has_text="Heat").click()
    page.locator("h1").hover()
    assert said(page) == "Most weight: Star Wars 0.60, Alien 0.40."
    page.locator("input[type=radio]").nth(1).focus()
    page.keyboard.press("ArrowUp")
    assert said(page) == "Most weight: Alien 0.70, Star Wars 0.30."


def test_what_offers_no_choice_is_not_shown_and_choices_of_one_name_are_told_apart(
    show,
):
    controls = [
        Control("layer", ["1"]),
        Control("product", ["Sugar", "Milk", "Sugar"], "point"),
    ]
    panel = Panel(
        "Weights", "bars", "Most weight", FILMS, [[0.1] * 4, [0.2] * 4, [0.3] * 4], [1]
    )
    page = show(Explorer("One layer", controls, [panel]))
    assert page.locator("select").count() == 0
    assert page.locator("fieldset label").all_text_contents() == [
        "Sugar",
        "Milk",
        "Sugar (2)",
    ]
    assert page.locator(".ac-state").text_content() == "product Sugar"


def test_pictures_stand_side_by_side_where_there_is_room_and_labels_are_not_cut(show):
    page = show(EXPLORERS["people"], width=900)
    one, two = (
        page.locator(".ac-panel").nth(0).bounding_box(),
        page.locator(".ac-panel").nth(1).bounding_box(),
    )
    assert one["y"] == two["y"]
    for width in (360, 900):
        page.set_viewport_size({"width": width, "height": 800})
        cut = page.eval_on_selector_all(
            "svg text",
            """texts => texts
                .filter(t => t.closest('g')?.style.display !== 'none')
                .filter(t => t.getBoundingClientRect().left
                    < t.closest('svg').getBoundingClientRect().left - 1)
                .map(t => t.textContent)""",
        )
        assert cut == []


def test_what_is_pressed_is_large_enough_for_a_finger(show):
    page = show(*EXPLORERS.values(), width=390)
    small = page.eval_on_selector_all(
        "select, input[type=range], fieldset label:not([hidden])",
        """nodes => nodes.map(n => n.getBoundingClientRect())
            .filter(r => r.height < 24 || r.width < 24).length""",
    )
    assert small == 0


def test_another_history_brings_its_own_events_and_candidates(show):
    page = show(EXPLORERS["people"])
    page.locator("select").first.select_option("1")
    assert said(page).startswith(
        "Most weight: An Affair to Remember, once more 0.70, Groundhog Day 0.20"
    )
    assert page.locator("label:visible input[type=radio]").count() == 3
    page.locator("label", has_text="Heat").click()
    assert (
        said(page, 1)
        == "Largest change: Casablanca -0.60, An Affair to Remember, once more 0.20,"
        " Groundhog Day 0.10."
    )
    # It has no third candidate: the last one is chosen.
    page.locator("select").first.select_option("0")
    assert said(page) == "Most weight: Star Wars 0.60, Alien 0.40."
    assert page.locator("label:visible input[type=radio]").count() == 2


def test_the_learning_curve_walks_through_the_epochs(show):
    page = show(EXPLORERS["runs"])
    assert said(page) == "At this epoch, or the run's last: self 2.667, mean 3.667."
    page.locator("input[type=range]").focus()
    page.keyboard.press("Home")
    assert said(page) == "At this epoch, or the run's last: self 5.000, mean 5.000."
    page.locator("select").select_option(label="ndcg@10")
    assert said(page) == "At this epoch, or the run's last: self 0.000, mean 0.000."


def test_explorers_on_one_page_do_not_disturb_each_other(show):
    page = show(EXPLORERS["people"], EXPLORERS["people"], EXPLORERS["runs"])
    page.locator(".attncore-explorer").nth(1).locator("label", has_text="Heat").click()
    assert said(page, 0) == "Most weight: Alien 0.70, Star Wars 0.30."
    assert said(page, 2) == "Most weight: Star Wars 0.60, Alien 0.40."
    assert page.locator("input[type=radio]:checked").count() == 2


def test_on_paper_the_controls_give_way_to_what_is_chosen(show):
    page = show(EXPLORERS["people"])
    page.locator("label", has_text="Heat").click()
    page.emulate_media(media="print")
    assert not page.locator(".ac-controls").is_visible()
    assert page.locator(".ac-state").is_visible()
    assert (
        page.locator(".ac-state").text_content()
        == "history Ann · head 1 · candidate Heat"
    )


def test_explorers_fit_a_phone_and_any_eye(show):
    from axe_playwright_python.sync_playwright import Axe

    page = show(*EXPLORERS.values(), width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    found = Axe().run(page).response["violations"]
    assert [
        (v["id"], v["nodes"][0]["html"])
        for v in found
        if v["impact"] in ("serious", "critical")
    ] == []
