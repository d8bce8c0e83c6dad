"""Whatever a learner gives to a checker, it answers in words and raises nothing."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import torch
from answers import checker

BOOK = Path(__file__).parent.parent / "book"
CHECKERS = [
    function
    for path in sorted(BOOK.glob("check*.py"))
    for name, function in vars(import_module(path.stem)).items()
    if inspect.isfunction(function)
    and function.__module__ == path.stem
    and not name.startswith("_")
]
NONSENSE = {
    "None": None,
    "a text": "text",
    "a number": 3.0,
    "not a number": float("nan"),
    "an empty dictionary": {},
    "an empty list": [],
    "a tensor of another shape": torch.zeros(2, 3, 5),
    "a function that returns None": lambda *a, **k: None,
    "a function that takes nothing": lambda: 0,
    "a function that returns text": lambda *a, **k: "text",
    "a function that returns an empty tensor": lambda *a, **k: torch.empty(0),
    "a function that fails": lambda *a, **k: 1 / 0,
}


@pytest.mark.parametrize("check", CHECKERS, ids=lambda check: check.__qualname__)
@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_is_answered_in_words(check, nonsense):
    needed = [
        parameter
        for parameter in inspect.signature(check).parameters.values()
        if parameter.default is parameter.empty
    ]
    told = check(*[NONSENSE[nonsense]] * len(needed))
    assert told.startswith("Not yet: ")
    assert len(told) > 20
    if nonsense == "None":
        assert told == "Not yet: the answer is None. Is it written, and does it return?"


def test_an_error_of_the_learner_is_named():
    @checker
    def check(function):
        return function()

    assert check(lambda: 1 / 0) == (
        "Not yet: it stops with ZeroDivisionError: division by zero"
    )
    assert check(lambda: "Right: so it is.") == "Right: so it is."
