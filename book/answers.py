"""How every checker answers: in one line, and never with an error. For the checkers."""

from collections.abc import Callable
from functools import wraps


def checker(check: Callable[..., str]) -> Callable[..., str]:
    """Let a check that asserts answer in words, whatever it is given.

    A wrong answer gives "Not yet: " and the hint of the assertion that fails. Code that
    stops with an error of its own gives "Not yet: " too, with the error.
    """

    @wraps(check)
    def told(*answers: object, **more: object) -> str:
        if answers and answers[0] is None:
            return "Not yet: the answer is None. Is it written, and does it return?"
        try:
            return check(*answers, **more)
        except AssertionError as wrong:
            return f"Not yet: {wrong}"
        except Exception as error:  # whatever a learner's own code may raise
            first = str(error).strip().split("\n")[0] or "no more is said"
            return f"Not yet: it stops with {type(error).__name__}: {first}"

    return told
