"""Questions that answer in the page, without a kernel: by choosing, or by a number.

What is likely to go wrong is named with a hint of its own; what is certain is called
right or wrong. Without scripts the answer stands folded under the question.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Question:
    """A question as a cell's output; `question` makes it.

    Attributes:
        text: what is asked; `code` and *emphasis* as in Markdown.
        answer: the right answer, in words.
        why: one sentence that says why it is.
        data: what the script goes by.
    """

    text: str
    answer: str
    why: str
    data: Mapping[str, Any]

    @property
    def html(self) -> str:
        """The whole question as HTML: style, text, folded answer, script."""
        data = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        data = data.replace("</", "<\\/")
        choices = "".join(
            f"<li>{words}</li>" for words, _, _ in self.data.get("choices", [])
        )
        listed = f'<ul class="q-choices">{choices}</ul>\n' if choices else ""
        why = f" {_marked(self.why)}" if self.why else ""
        return (
            '<div class="widget question" role="group" aria-label="Question">\n'
            f"<style>{_file('question.css')}</style>\n"
            f'<p class="q-text">{_marked(self.text)}</p>\n{listed}'
            '<p class="q-says" role="status"></p>\n'
            "<details><summary>Show the answer</summary>"
            f"<p>{self.answer}.{why}</p></details>\n"
            f'<script type="application/json">{data}</script>\n'
            f"<script>{_file('question.js')}</script></div>"
        )

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"Question({self.text!r})"


def question(
    text: str,
    choices: Sequence[tuple[str, bool, str]] = (),
    *,
    number: float | None = None,
    tolerance: float = 0.005,
    slips: Mapping[float, str] | None = None,
    unit: str = "",
    why: str = "",
) -> Question:
    """Ask the reader of a page; say at once what is right, and what went wrong.

    Args:
        text: the question; `code` and *emphasis* as in Markdown.
        choices: (answer, whether it is right, a hint: why it is not, or why it is).
        number: the answer, where it is one; then there are no choices.
        tolerance: how far from it an answer may lie and still be right.
        slips: hints by the wrong number that a likely slip leads to.
        unit: what stands behind the number.
        why: why the answer is right, said once it is found.

    Raises:
        ValueError: neither or both kinds of answer, no right choice or no wrong one, a
            choice without a hint, or a slip that would count as right.
    """
    if bool(choices) == (number is not None):
        raise ValueError("give choices= or number=, one of the two")
    if number is None:
        right = [answer for answer, is_right, _ in choices if is_right]
        if not 0 < len(right) < len(choices):
            raise ValueError("choices need a right answer and a wrong one")
        if lacking := [answer for answer, _, hint in choices if not hint]:
            raise ValueError(f"choice {lacking[0]!r} has no hint")
        rows = [(_marked(answer), ok, _marked(hint)) for answer, ok, hint in choices]
        return Question(
            text,
            " or ".join(map(_marked, right)),
            why or next(hint for _, is_right, hint in choices if is_right),
            {"choices": rows, "why": _marked(why)},
        )
    for slip in slips or {}:
        if abs(slip - number) <= tolerance:
            raise ValueError(f"slip {slip} lies within {tolerance} of {number}")
    return Question(
        text,
        escape(f"{number:g} {unit}".rstrip()),
        why,
        {
            "number": number,
            "tolerance": tolerance,
            "slips": [(slip, _marked(hint)) for slip, hint in (slips or {}).items()],
            "unit": unit,
            "why": _marked(why),
        },
    )


def _marked(words: str) -> str:
    """Text with `code` and *emphasis* as HTML."""
    words = escape(words, quote=False)
    words = re.sub(r"`([^`]+)`", r"<code>\1</code>", words)
    return re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])", r"<em>\1</em>", words)


@cache
def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").strip()
