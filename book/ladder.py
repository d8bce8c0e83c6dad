"""The ladder: what each recommender reaches, in one picture, and how two compare.

Each rung shows its seeds as dots and its 95 % interval as a line; the step of the
chapter is lit. `rungs.ladder` draws that of finished runs, `rungs.ladder_of` one of
figures that a page has measured itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from widget import Widget, cut

ROW, LEFT, RIGHT = 28, 152, 312  # of a rung; of the scale, in units of the picture
# What keeps a long line on the picture.
LONG = ' textLength="354" lengthAdjust="spacingAndGlyphs"'
Pair = tuple[float, float, float]  # a difference, and its interval


@dataclass(frozen=True)
class Stand:
    """Where one recommender stands.

    Attributes:
        name: what the page calls it.
        seeds: the figure of each seed.
        interval: 95 %, low and high; None where it is not known.
        counted: nothing is drawn, so that one run says as much as many seeds.
    """

    name: str
    seeds: Sequence[float]
    interval: tuple[float, float] | None = None
    counted: bool = False

    @property
    def value(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.seeds))


def ladder(
    stands: Sequence[Stand],
    pairs: Mapping[tuple[str, str], Pair],
    *,
    lit: Sequence[str] = (),
    metric: str = "NDCG@10",
    where: str = "",
    caption: str = "",
    name: str = "",
) -> Widget:
    """Draw the ladder, the best rung on top.

    Args:
        stands: the rungs, in any order.
        pairs: how far the first of two names stands above the second, and the 95 %
            interval of the difference, compared user by user; one order of each two.
        lit: names of the chapter's step, from and to; or of one rung.
        metric: what is measured.
        where: the log, and what part of it.
        caption, name: of a numbered figure of the book.

    Raises:
        ValueError: fewer than two rungs, two of one name, or `lit` names none of them.
    """
    order = sorted(stands, key=lambda one: -one.value)
    names = [one.name for one in order]
    if len(set(names)) != len(names) or len(names) < 2:
        raise ValueError(f"a ladder needs two rungs or more, each of its name: {names}")
    if unknown := [one for one in lit if one not in names]:
        raise ValueError(f"lit {unknown} is no rung; there are {names}")
    table: list[list[list[float] | None]] = [[None] * len(names) for _ in names]
    for (one, other), (value, low, high) in pairs.items():
        i, j = names.index(one), names.index(other)
        table[i][j] = np.round([value, low, high], 4).tolist()
        table[j][i] = np.round([-value, -high, -low], 4).tolist()
    shown = names.index(lit[-1]) if lit else 0
    base = names.index(lit[0]) if len(lit) > 1 else (1 if shown == 0 else 0)
    ends = [end for one in order for end in (*one.seeds, *(one.interval or ()))]
    low, top = _scale(min(ends), max(ends))
    rows = [
        {
            "name": one.name,
            "value": round(one.value, 4),
            "seeds": np.round(one.seeds, 4).tolist(),
            "interval": None
            if one.interval is None
            else np.round(one.interval, 4).tolist(),
            "lit": one.name in lit,
            "sure": one.counted or len(one.seeds) >= 3,
        }
        for one in order
    ]
    words = _words(rows, table, shown, base)
    height = ROW * len(rows) + 84
    place = f", {where}" if where else ""
    return Widget(
        "ladder",
        f"{metric}{place}: dots are seeds, lines 95 % intervals",
        _picture(rows, (low, top), metric, words, shown, base),
        (360, height),
        " ".join(words),
        {
            "rows": rows,
            "pairs": table,
            "scale": [low, top],
            "metric": metric,
            "shown": shown,
            "base": base,
        },
        style=("widget.css", "ladder.css"),
        script="ladder.js",
        caption=caption,
        name=name,
    )


def _scale(least: float, most: float) -> tuple[float, float]:
    """Where the scale begins and ends: at round numbers, and at 0 if that is near."""
    span = most - least if least > 0.5 * most else most
    step = 10.0 ** math.floor(math.log10(span / 2)) if span > 0 else 1.0
    step = next(step * many for many in (1, 2, 5, 10) if span <= 4 * step * many)
    low = math.floor(least / step) * step if least > 0.5 * most else 0.0
    return round(low, 6), round(math.ceil(most / step - 1e-9) * step, 6)


def _words(
    rows: Sequence[Mapping],
    pairs: Sequence[Sequence[list[float] | None]],
    shown: int,
    base: int,
) -> list[str]:
    """What two rungs say of each other, in two lines; ladder.js says the same."""
    first, second = rows[shown], rows[base]
    begin = f"{first['name']} against {second['name']}:"
    if shown == base:
        return [f"{first['name']}: {first['value']:.4f}", "the rung to compare with"]
    pair = pairs[shown][base]
    if pair is None:
        return [begin, f"{first['value'] - second['value']:+.4f}, interval not known"]
    value, low, high = pair
    verdict = "above" if low > 0 else "below" if high < 0 else "not to be told apart"
    sure = first["sure"] and second["sure"]
    if verdict != "not to be told apart" and not sure:
        verdict = f"tends to be {verdict}"
    return [begin, f"{value:+.4f} [{low:+.4f}, {high:+.4f}], {verdict}"]


def _squeezed(name: str) -> str:
    """What keeps a long name on the picture."""
    fits = len(name) <= 19
    return "" if fits else f' textLength="{LEFT - 14}" lengthAdjust="spacingAndGlyphs"'


def _picture(
    rows: Sequence[Mapping],
    scale: tuple[float, float],
    metric: str,
    words: Sequence[str],
    shown: int,
    base: int,
) -> str:
    """Rungs from top to bottom, and below them what two of them say; ladder.js goes
    on from there."""

    low, top = scale

    def x(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (value - low) / (top - low)

    bottom = ROW * len(rows) + 4
    parts = [
        f'<path class="l-base" d="M{x(rows[base]["value"]):.1f} 2V{bottom}"/>'
        f'<path class="w-axis" d="M{LEFT} {bottom}H{RIGHT}"/>'
    ]
    for tick in (low, (low + top) / 2, top):
        parts.append(
            f'<text class="w-head" x="{x(tick):.1f}" y="{bottom + 15}"'
            f' text-anchor="middle">{f"{tick:.3f}".rstrip("0").rstrip(".")}</text>'
        )
    parts.append(
        f'<text class="w-head" x="{LEFT - 28}" y="{bottom + 15}" text-anchor="end">'
        f"{escape(metric)}</text>"
    )
    for i, row in enumerate(rows):
        y = ROW * i + 4
        middle = y + ROW / 2 - 1
        kinds = "l-rung"
        kinds += " l-lit" if row["lit"] else ""
        kinds += " l-shown" if i == shown else ""
        inside = f'<rect class="l-band" x="0" y="{y}" width="360" height="{ROW - 2}"/>'
        inside += (
            f'<text class="w-row" x="{LEFT - 10}" y="{middle + 4.5:g}"'
            f' text-anchor="end"{_squeezed(row["name"])}>'
            f"{escape(cut(row['name'], 27))}</text>"
        )
        if row["interval"]:
            left, right = map(x, row["interval"])
            inside += f'<path class="l-span" d="M{left:.1f} {middle}H{right:.1f}"/>'
        if len(row["seeds"]) > 1:
            inside += "".join(
                f'<circle class="l-seed" cx="{x(seed):.1f}" cy="{middle}" r="3"/>'
                for seed in row["seeds"]
            )
        inside += (
            f'<path class="l-mean" d="M{x(row["value"]):.1f} {middle - 7}v14"/>'
            f'<text class="w-row" x="358" y="{middle + 4.5:g}" text-anchor="end">'
            f"{row['value']:.3f}</text>"
        )
        parts.append(f'<g class="{kinds}" data-rung="{i}">{inside}</g>')
    parts += [
        f'<text class="l-says" x="2" y="{bottom + 40 + 20 * n}"'
        f"{LONG if len(line) > 44 else ''}>{escape(cut(line, 62))}</text>"
        for n, line in enumerate(words)
    ]
    return "".join(parts)
