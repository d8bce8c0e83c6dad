"""The map of the four stages, where "you are here" is lit: a Sphinx extension.

It stands under the title of every chapter that builds or uses the recommender, and on
the first page where that has `<div class="stages"></div>`.
"""

import re
from typing import Any

from sphinx.application import Sphinx

# What stands on the map: its chapter, what it does, the shape of what comes out.
STAGES = (
    ("06_data_preparation", "1 data", "a log becomes histories", "(B, T)"),
    ("07_embedding_layer", "2 embedding", "items become vectors", "(B, T, D)"),
    (
        "08_attention_in_a_model",
        "3 attention",
        "each vector asks its past",
        "(B, T, D)",
    ),
    ("09_output_layer", "4 output", "a score for every item", "(B, V)"),
    ("10_training", "training", "the loss moves all four", ""),
    ("11_evaluating", "evaluation", "the ten best, and are they good?", ""),
)
EVERYWHERE = ("12_personalized", "13_contextual", "14_sequential", "15_classic_lstm")


def stages(page: str) -> str:
    """The map as HTML, seen from a page: book/09_output_layer, say."""
    here = page.rpartition("/")[2]
    parts = []
    for chapter, name, does, shape in STAGES:
        lit = here == chapter or (here in EVERYWHERE and bool(shape))
        now = ' aria-current="step"' if here == chapter else ""
        made = f" <code>{shape}</code>" if shape else ""
        parts.append(
            f'<li class="{"lit" if lit else "unlit"}"><a href="{chapter}.html"{now}>'
            f"<b>{name}</b> <span>{does}</span>{made}</a></li>"
        )
    return (
        '<nav class="stages" aria-label="The four stages"><ol>'
        + "".join(parts)
        + "</ol></nav>"
    )


def add_map(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Put the map into a page that has a place for it."""
    here = pagename.rpartition("/")[2]
    body = context.get("body")
    if app.builder.name != "html" or not body:
        return
    if '<div class="stages"></div>' in body:
        body = body.replace('<div class="stages"></div>', stages(pagename))
    elif here in {chapter for chapter, *_ in STAGES} or here in EVERYWHERE:
        body = re.sub("(</h1>)", lambda end: end[1] + stages(pagename), body, count=1)
    context["body"] = body


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("html-page-context", add_map)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
