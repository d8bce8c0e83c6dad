"""One colour for one symbol, on the pages where they are born: a Sphinx extension.

Query is blue, key orange, value green, weight grey: in formulas, in the code beside
them and in the widgets. Formulas and code are written as everywhere, so a notebook
shows them plainly; _static/symbols.js colours them on the page.
"""

import json
from html import escape
from typing import Any

from sphinx.application import Sphinx

# For each role: its letters in formulas ("k_" only with an index, "W_Q" with that one),
# its names in code, and what the page calls it.
INDEX = r"(?:_(?:[A-Z]+|map|\d))?"
ATTENTION = {
    "query": {
        "formula": ["q", "W_Q"],
        "code": rf"(?:my_)?(?:query|queries){INDEX}",
        "shown": "query q",
    },
    "key": {
        "formula": ["k_", "W_K"],
        "code": rf"(?:my_)?keys?{INDEX}",
        "shown": "key k",
    },
    "value": {
        "formula": ["v_", "W_V"],
        "code": rf"(?:my_)?values?{INDEX}",
        "shown": "value v",
    },
    "score": {
        "formula": ["s_"],
        "code": rf"(?:my_)?scores?{INDEX}",
        "shown": "score s",
    },
    "weight": {
        "formula": ["w"],
        "code": rf"(?:my_)?weights?{INDEX}",
        "shown": "weight w",
    },
}
# In the output layer what was attended to asks, and every item of the catalogue is
# looked at.
OUTPUT = {
    "query": {"formula": ["z"], "code": r"states?", "shown": "what asks, z"},
    "key": {"formula": ["W_"], "code": r"item_vectors?", "shown": "items W"},
    "score": ATTENTION["score"],
    "weight": {
        "formula": ["p_"],
        "code": r"probability|probabilities|chances?",
        "shown": "chance p",
    },
}
PAGES = {
    "02_query_key_value": ATTENTION,
    "03_softmax_and_weights": {
        role: ATTENTION[role] for role in ("score", "weight", "query", "key")
    },
    "04_attention_layer": ATTENTION,
    "05_self_attention": ATTENTION,
    "09_output_layer": OUTPUT,
}


def legend(roles: dict[str, dict[str, Any]]) -> str:
    """The colours of a page as a row of buttons, which light what they name."""
    told = json.dumps(
        {
            role: {"formula": one["formula"], "code": one["code"]}
            for role, one in roles.items()
        }
    )
    buttons = "".join(
        f'<button type="button" class="sym-{role}" data-role="{role}"'
        f' aria-pressed="false" disabled>{one["shown"]}</button>'
        for role, one in roles.items()
    )
    return (
        f'<nav class="symbols" aria-label="Colours of this page"'
        f' data-symbols="{escape(told)}">{buttons}</nav>'
    )


def add_colours(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Put the legend under the title of a page that has coloured symbols."""
    roles = PAGES.get(pagename.rpartition("/")[2])
    if app.builder.name == "html" and roles and context.get("body"):
        app.add_js_file("symbols.js", loading_method="defer")
        context["body"] = context["body"].replace("</h1>", "</h1>" + legend(roles), 1)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("html-page-context", add_colours)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
