"""Questions in a real browser: every answer gets the word it deserves."""

import re

import pytest
from questions import question

pytestmark = pytest.mark.browser
CHOICES = question(
    "The query doubles. Which film gets *more* weight: `Alien` or Heat?",
    [
        ("Alien, which led before", True, "Scores double, so the gap grows."),
        ("Heat, which was behind", False, "Its score doubles too, but from less."),
        (
            "Neither: weights are shares",
            False,
            "Shares of exponentials, not of scores.",
        ),
    ],
)
NUMBER = question(
    "Scores 2 and 0: what weight has the first?",
    number=0.881,
    slips={1.0: "That is the share of the scores: raise e first.", 0.119: "The other."},
    why="e² / (e² + 1).",
)


def said(page, place=0):
    return page.locator(".q-says").nth(place).text_content()


def test_each_choice_has_its_own_word(show):
    page = show(CHOICES)
    for place, words in enumerate(
        ("✓ Right. Scores double", "✗ Not so. Its score doubles", "✗ Not so. Shares of")
    ):
        page.locator(".q-choices button").nth(place).click()
        assert said(page).startswith(words)
        pressed = page.locator("button[aria-pressed=true]")
        assert pressed.count() == 1
    assert page.locator("em").text_content() == "more"
    assert page.locator("code").text_content() == "Alien"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("0.88", "✓ Right. e² / (e² + 1)."),
        (" ,881 ", "✓ Right"),
        ("0.8761", "✓ Right"),
        ("0.8759", "✗ Not so. That is too small."),
        ("37/42", "✓ Right"),
        ("1", "✗ Not so. That is the share of the scores"),
        (".119", "✗ Not so. The other."),
        ("-0.881", "✗ Not so. The size is right"),
        ("-5", "✗ Not so. That is too small."),
        ("1,682", "✗ Not so. That is too large."),
        ("1/0", "✗ Not so. That is too large."),
        ("two", "Write a number"),
        ("", "Write a number"),
        ("1/2/3", "Write a number"),
        ("alert(1)", "Write a number"),
    ],
)
def test_each_number_has_its_own_word(show, typed, words):
    page = show(NUMBER)
    page.get_by_label("Your answer").fill(typed)
    page.keyboard.press("Enter")
    assert said(page).startswith(words)


def test_a_unit_may_be_written_or_not(show):
    page = show(question("How much?", number=25, unit="%", why="A quarter."))
    for typed in ("25", "25 %", "25%"):
        page.get_by_label("Your answer").fill(typed)
        page.get_by_role("button", name="Check").click()
        assert said(page) == "✓ Right. A quarter."


def test_questions_of_one_page_answer_for_themselves_and_by_keyboard(show):
    page = show(CHOICES, NUMBER, CHOICES)
    page.locator(".q-choices button").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert said(page, 0).startswith("✗ Not so. Its score")
    assert said(page, 1) == said(page, 2) == ""
    page.get_by_label("Your answer").focus()
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    assert said(page, 1).startswith("✗")
    assert said(page, 2) == ""
    assert page.evaluate("location.hash") == ""


def test_without_scripts_the_answer_is_folded(show):
    page = show(CHOICES, NUMBER, scripts=False)
    assert page.locator(".q-choices li").count() == 3
    assert page.locator("button, form").count() == 0
    for place, words in enumerate(("Alien, which led before. Scores", "0.881. e²")):
        answer = page.locator("details p").nth(place)
        assert not answer.is_visible()
        page.locator("summary").nth(place).click()
        assert answer.is_visible()
        assert answer.text_content().startswith(words)


def test_a_question_suits_any_eye_and_any_finger(show):
    from axe_playwright_python.sync_playwright import Axe

    for width in (390, 1280):
        page = show(CHOICES, NUMBER, width=width)
        page.locator(".q-choices button").first.click()
        page.locator(".q-choices button").nth(1).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        small = page.eval_on_selector_all(
            "button, summary, input",
            """nodes => nodes.map(n => n.getBoundingClientRect())
                .filter(r => r.height < 24 || r.width < 24).length""",
        )
        assert small == 0
        for theme, ground in (("light", "#ffffff"), ("dark", "#121212")):
            page.evaluate(
                """([theme, ground]) => {
                    document.documentElement.dataset.theme = theme;
                    document.body.style.background = ground;
                    document.body.style.color = theme === "dark" ? "#ced6dd" : "#222";
                }""",
                [theme, ground],
            )
            found = Axe().run(page).response["violations"]
            assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []


def test_text_is_no_markup():
    html = question("1 < 2 & `a<b>`?", number=1, slips={2: "<b>no</b>"}).html
    assert "1 &lt; 2 &amp; <code>a&lt;b&gt;</code>?" in html
    assert not re.search(r"<b>", html)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "one of the two"),
        ({"choices": [("a", True, "x")], "number": 1}, "one of the two"),
        ({"choices": [("a", True, "x")]}, "a right answer and a wrong one"),
        ({"choices": [("a", False, "x"), ("b", False, "y")]}, "a right answer"),
        ({"choices": [("a", True, "x"), ("b", False, "")]}, "'b' has no hint"),
        ({"number": 1, "slips": {1.001: "near"}}, "slip 1.001 lies within"),
    ],
)
def test_a_question_that_cannot_be_answered_well_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        question("What?", **wrong)
