"""What every widget is: a first picture, its numbers, and a script that goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Widget:
    """A picture that a reader can move; `html` can be put into a page.

    Attributes:
        kind: the part of widget.js that moves it.
        title: in one line, what there is to see and to do.
        picture: the first picture, as the inside of an SVG element.
        size: its width and height.
        told: what the picture says, for those who cannot see it.
        data: what the script starts from.
        style, script: files beside this one.
        caption: what it says, if it is one of the book's figures; "" if not.
        name: by which {numref} finds it; "" for none.
    """

    kind: str
    title: str
    picture: str
    size: tuple[int, int]
    told: str
    data: Mapping[str, Any]
    style: Sequence[str] = ("widget.css",)
    script: str = "widget.js"
    caption: str = ""
    name: str = ""

    @property
    def html(self) -> str:
        """The whole widget as HTML: style, first picture, numbers, script."""
        data = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        data = data.replace("</", "<\\/")
        width, height = self.size
        style = "\n".join(map(_file, self.style))
        html = (
            f'<div class="widget" data-widget="{self.kind}" role="group"'
            f' aria-label="{escape(self.title)}">\n'
            f"<style>{style}</style>\n"
            f'<p class="w-title">{escape(self.title)}</p>\n'
            f'<div class="w-scene"><svg role="img" viewBox="0 0 {width} {height}"'
            f' aria-label="{escape(self.told)}">{self.picture}</svg></div>\n'
            '<div class="w-side" hidden></div>\n'
            f'<script type="application/json">{data}</script>\n'
            f"<script>{_file(self.script)}</script></div>"
        )
        if not self.caption:
            return html
        name = f' data-name="{self.name}"' if self.name else ""
        return (
            f'<figure class="drawn"{name}>\n{html}\n'
            f"<figcaption>{escape(self.caption, quote=False)}</figcaption></figure>"
        )

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"Widget({self.title!r})"


def cut(name: str, letters: int) -> str:
    """A name of at most so many letters."""
    return name if len(name) <= letters else name[: letters - 1] + "…"


@cache
def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").strip()
