"""Figures as SVG that follows the page: what matplotlib drew, in the book's colours.

Text stays text and takes the colour of what surrounds it, the ground is transparent,
and the colours of `figures.COLOURS` become variables that book.css sets for a light
page, a dark one and paper; in Jupyter, where there is no book.css, they have values of
their own. Nothing is random: the same figure gives the same bytes.
"""

import hashlib
import io
import math
import re
import textwrap
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation

SMALLEST = 11  # px of a letter on a phone
LARGEST = 1.36  # times its drawn size, where there is room
# A weight is a grey cell, the darker the larger; the number on it can still be read.
FAINT, FULL = 0.04, 0.54
NUMBERED = 80  # cells, up to which each has its number
RAISED = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"
GREY = "#767676"  # of cells and lines; as dark on white as light on black
# What no page has set is as on a light page.
VARIABLES = {
    "#0072b2": "var(--f-blue,#0072b2)",
    "#e69f00": "var(--f-orange,#c27f00)",
    "#009e73": "var(--f-green,#008f68)",
    "#555555": "var(--f-grey,#767676)",
    "#767676": "var(--f-grey,#767676)",
    "#d55e00": "var(--f-red,#d55e00)",
    "#cc79a7": "var(--f-purple,#b8609a)",
    "#56b4e9": "var(--f-sky,#2b8fca)",
    "#bbbbbb": "var(--f-pale,#919191)",
    "#cccccc": "var(--f-pale,#919191)",
    "#111111": "currentColor",
    "#000000": "currentColor",
    "#ffffff": "var(--f-paper,var(--jp-layout-color0,#fff))",
}
# What matplotlib says of every stroke, and every browser takes for granted or need not
# know.
NEEDLESS = re.compile(r"(?:stroke-(?:linejoin|linecap|miterlimit)|font-family)\b")
SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Picture:
    """An SVG with its caption; a cell's output in Jupyter, a numbered figure in the
    book.

    Attributes:
        svg: the whole element.
        caption: what the figure says, in a sentence or two.
        alt: what it shows, for those who cannot see it.
        name: by which {numref} finds it; "" for none.
    """

    svg: str
    caption: str
    alt: str
    name: str = ""

    def __post_init__(self) -> None:
        if not self.caption or not self.alt:
            raise ValueError(
                "a figure needs caption= (its message) and alt= (its look)"
            )
        if self.name and not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise ValueError(f"name {self.name!r}: small letters, digits and - only")

    def _repr_html_(self) -> str:
        """What book/pages.py makes a figure of."""
        name = f' data-name="{self.name}"' if self.name else ""
        return (
            f'<figure class="drawn"{name} style="margin:1em 0">\n'
            '<div class="drawn-box" style="display:flex;flex-wrap:wrap;gap:0 1em;'
            f'overflow-x:auto">{self.svg}</div>\n'
            f"<figcaption>{escape(self.caption, quote=False)}</figcaption></figure>"
        )

    def __repr__(self) -> str:
        return f"Figure({self.caption!r})"


def drawn(inside: str, width: float, height: float, alt: str, smallest: float) -> str:
    """An SVG element around shapes; wide enough that its letters can be read.

    Where the page is narrower than that, the figure scrolls in its own box.

    Args:
        inside: the shapes.
        width, height: of the picture, in units of its own.
        alt: what it shows; "" for the second part of a figure, and so on.
        smallest: size of its smallest letters, in the same units.
    """
    least = width * SMALLEST / smallest
    said = f'role="img" aria-label="{escape(alt)}"' if alt else 'aria-hidden="true"'
    return (
        f'<svg {said} viewBox="0 0 {width:g} {height:g}"'
        ' fill="currentColor" style="display:block;'
        f"flex:1 1 {least:.0f}px;height:auto;min-width:{least:.0f}px;"
        f"max-width:{max(width * LARGEST, least):.0f}px;"
        f'font-family:system-ui,sans-serif">{inside}</svg>'
    )


def exported(figure: Figure, alt: str) -> str:
    """What matplotlib has drawn, as SVG of the book; the figure is closed to changes.

    Args:
        figure: with axes; its tables of weights become cells with numbers.
        alt: what it shows.
    """
    for ax in figure.axes:
        _cells(ax)
    for ax in figure.axes:
        ax.patch.set_visible(False)
        for axis in (ax.xaxis, ax.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatterSciNotation):
                axis.set_major_formatter(FuncFormatter(_power))
    _wrap_labels(figure)
    how = {"svg.fonttype": "none", "svg.hashsalt": "attncore"}
    file = io.StringIO()
    with mpl.rc_context(how):
        figure.savefig(
            file,
            format="svg",
            bbox_inches="tight",
            pad_inches=0.03,
            facecolor="none",
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    root = ET.fromstring(file.getvalue())
    _, _, width, height = map(float, root.get("viewBox", "").split())
    for child in list(root):  # what describes the file, and a style of nothing
        if child.tag == f"{SVG}metadata" or child.find(f"{SVG}style") is not None:
            root.remove(child)
    sizes: list[float] = []
    for node in root.iter():
        _inked(node, sizes)
    _named(root)
    inside = "".join(_written(child) for child in root)
    return drawn(inside, width, height, alt, min(sizes, default=SMALLEST))


def _cells(ax: Any) -> None:
    """Draw an image of weights as cells, and leave its bar of colours out."""
    for image in list(ax.images):
        table, most = image.get_array(), image.norm.vmax or 1.0
        if image.colorbar is not None:
            image.colorbar.remove()

        def shade(value: float, most: float = most) -> float:
            return FAINT + (FULL - FAINT) * max(0.0, min(1.0, value / most))

        limits = ax.get_xlim(), ax.get_ylim()
        for row, values in enumerate(table):
            for column, value in enumerate(values):
                corner = (column - 0.48, row - 0.48)
                look = {"facecolor": GREY, "alpha": shade(float(value))}
                ax.add_patch(Rectangle(corner, 0.96, 0.96, linewidth=0, **look))
        ax.set(xlim=limits[0], ylim=limits[1])
        image.remove()
        for text in ax.texts:
            text.set(color="#111111", fontsize=SMALLEST)
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.tick_params(length=0)
        if table.size > NUMBERED:
            steps = [0.0, most / 2, most]
            keys = [Patch(facecolor=GREY, alpha=shade(step)) for step in steps]
            names = [f"{step:.2f}" for step in steps]
            ax.get_figure(root=True).legend(
                keys, names, title="weight", loc="outside right center", frameon=False
            )


def _power(value: float, place: int | None = None) -> str:
    """A tick of a logarithmic scale, without small raised letters of another size."""
    if 1e-3 <= value < 1e6:
        return f"{value:,.12g}"
    power = math.log10(value)
    if abs(power - round(power)) > 1e-6:
        return ""
    return "10" + str(round(power)).translate(str.maketrans("-0123456789", RAISED))


def _wrap_labels(figure: Figure) -> None:
    """Put what an axis shows on two lines where it is longer than the figure."""
    figure.canvas.draw()
    whole = figure.bbox
    for ax in figure.axes:
        for label in (ax.xaxis.label, ax.yaxis.label):
            text, box = label.get_text(), label.get_window_extent()
            out = box.x0 < 0 or box.x1 > whole.x1 or box.y0 < 0 or box.y1 > whole.y1
            if out and "\n" not in text and " " in text:
                label.set_text(
                    textwrap.fill(text, max(12, math.ceil(len(text) / 2) + 4))
                )


def _inked(node: ET.Element, sizes: list[float]) -> None:
    """Give an element the book's colours and short numbers; note the size of text."""
    style = node.attrib.pop("style", "")
    kept = []
    for part in filter(None, (part.strip() for part in style.split(";"))):
        key, value = (half.strip() for half in part.split(":", 1))
        if key == "font":  # "10px 'DejaVu Sans', …" or "bold 12px …"
            size = re.search(r"([\d.]+)px", value)
            weight = "bold" if "bold" in value or "700" in value else ""
            if size:
                sizes.append(float(size[1]))
                kept.append(f"font-size:{size[1]}px")
            if weight:
                kept.append("font-weight:600")
            continue
        if NEEDLESS.match(key):
            continue
        if key == "font-size":
            sizes.append(float(value.removesuffix("px")))
        kept.append(f"{key}:{VARIABLES.get(value, value)}")
    if kept:
        node.set("style", ";".join(kept))
    if "d" in node.attrib:
        node.set("d", _short(node.get("d", ""), 1))
    for key in ("x", "y", "width", "height"):
        if key in node.attrib:
            node.set(key, _short(node.get(key, ""), 1))
    if "transform" in node.attrib:
        turned = _short(node.attrib.pop("transform"), 2)
        if not turned.startswith("rotate(0 "):
            node.set("transform", turned)
    if "points" in node.attrib:
        node.set("points", _short(node.get("points", ""), 1))
    if LINK in node.attrib:
        node.set("href", node.attrib.pop(LINK))


def _short(numbers: str, digits: int) -> str:
    """Numbers in a string, rounded."""

    def cut(found: re.Match[str]) -> str:
        return f"{float(found[0]):.{digits}f}".rstrip("0").rstrip(".") or "0"

    text = re.sub(r"-?\d+\.\d+(?:e-?\d+)?", cut, numbers)
    return re.sub(r"\s+", " ", text).strip().replace("-0 ", "0 ")


def _named(root: ET.Element) -> None:
    """Drop identifiers that nothing uses; let the others be this figure's own."""
    text = ET.tostring(root, encoding="unicode")
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    new = {old: f"f{mark}-{n}" for n, old in enumerate(sorted(used))}
    for node in root.iter():
        name = node.attrib.pop("id", None)
        if name in new:
            node.set("id", new[name])
        for key, value in list(node.attrib.items()):
            value = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{new[m[1]]})", value)
            if key == "href":
                value = "#" + new[value[1:]]
            node.set(key, value)


def _written(node: ET.Element) -> str:
    """An element as HTML takes it: no namespaces, no groups that do nothing."""
    tag = node.tag.removeprefix(SVG)
    inside = (node.text or "") if tag in ("text", "tspan") else ""
    inside = escape(inside, quote=False)
    inside += "".join(_written(child) for child in node)
    ground = tag == "path" and node.get("style") == "fill:none"  # without a stroke
    if (tag in ("g", "defs") and not inside) or ground:
        return ""
    if tag == "g" and not node.attrib:
        return inside
    values = "".join(f' {key}="{escape(v)}"' for key, v in node.attrib.items())
    return f"<{tag}{values}>{inside}</{tag}>" if inside else f"<{tag}{values}/>"
