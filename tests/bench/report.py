"""Writes the tables of RESULTS.md from the JSON under results/: `python
tests/bench/report.py`.

Between `<!-- NAME -->` and `<!-- /NAME -->` the page is what this file makes of
results/NAME.json, so it cannot drift.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from attncore.files import replacing

PAGE = Path(__file__).parent / "RESULTS.md"
RESULTS = Path(__file__).parent / "results"
Results = dict[str, Any]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns also line up in a terminal; all but the first are
    right-aligned."""
    cells = [list(head), *map(list, rows)]
    wide = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| "
        + " | ".join(_pad(text, wide[c], c > 0) for c, text in enumerate(row))
        + " |"
        for row in cells
    ]
    rule = (
        "|"
        + "|".join(
            "-" * (size + 2) if c == 0 else "-" * (size + 1) + ":"
            for c, size in enumerate(wide)
        )
        + "|"
    )
    return "\n".join([lines[0], rule, *lines[1:]])


def _pad(text: str, size: int, right: bool) -> str:
    return text.rjust(size) if right else text.ljust(size)


def measured(results: Results) -> str:
    """The machine, the command, and whether the machine was quiet."""
    runs = results.get("turns") or [
        run
        for part in results.values()
        for run in (part if isinstance(part, list) else [part])
        if "others" in run
    ]
    others = [run["others"] for run in runs if run["others"] is not None]
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    quiet = f" Other processes used {max(others):.2f} cores at most." if others else ""
    return f"`{results['command']}`\n\nMachine: {machine}.{quiet}"


def speed(results: Results) -> str:
    """Every round, the medians, and what was asked."""
    turns: dict[str, list[Results]] = {}
    for turn in results["turns"]:
        turns.setdefault(turn["name"], []).append(turn)
    columns = {
        "positions/s": ("positions_per_s", ",.0f"),
        "users/s": ("users_per_s", ",.0f"),
        "peak memory, MiB": ("memory_mib", ",.0f"),
        "start-up, s": ("start_up_s", ".1f"),
        "cores used by others": ("others", ".2f"),
    }

    def figures(runs: list[Results], key: str, form: str) -> str:
        values = [run[key] for run in runs if run[key] is not None]
        if not values:
            return "unknown"
        rounds = (
            f" ({', '.join(format(value, form) for value in values)})"
            if len(values) > 1
            else ""
        )
        return format(median(values), form) + rounds

    rows = [
        [name, *(figures(runs, *column) for column in columns.values())]
        for name, runs in turns.items()
    ]
    text = (
        f"{measured(results)}\n\nML-100K, {results['positions']:,} real positions an"
        " epoch; width 64, 2 blocks, 2 heads, length 200, batch 128, dropout 0.2, full"
        " softmax. Medians, and in brackets every"
        f" round.\n\n{markdown(['', *columns], rows)}"
    )
    latency = [turn["latency_ms"] for turn in turns["attncore"]]
    p50, p99 = (median(one[share] for one in latency) for share in ("p50", "p99"))
    text += (
        f"\n\nOne request of ours, `model.recommend(users=[user], k=10)`: {p50:.1f} ms"
        f" median, {p99:.1f} ms for 99 of 100."
    )
    rivals = [name for name in turns if not name.startswith("attncore")]
    if not rivals:
        return text

    def ratio(key: str, rival: str) -> float:
        """The median over rounds, each compared with its own neighbour in time."""
        return median(
            a[key] / b[key]
            for a, b in zip(turns["attncore"], turns[rival], strict=True)
        )

    def start_up(name: str) -> float:
        return median(turn["start_up_s"] for turn in turns[name])

    rows = [
        [
            f"against {rival}",
            f"{ratio('positions_per_s', rival):.1f}x",
            f"{ratio('users_per_s', rival):.1f}x",
            f"{ratio('memory_mib', rival):.2f}x",
            f"{start_up('attncore'):.1f} s to {start_up(rival):.1f} s",
        ]
        for rival in rivals
    ]
    rows.append(
        [
            "asked, against RecTools",
            "at least 8x",
            "at least 5x",
            "at most 1x",
            "under 5 s",
        ]
    )
    columns = ["attncore", "training", "evaluation", "peak memory", "start-up"]
    return f"{text}\n\n{markdown(columns, rows)}"


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent e of y ~ x^e: the slope of a straight line through the
    logarithms."""
    a, b = [math.log(value) for value in x], [math.log(value) for value in y]
    middle_a, middle_b = sum(a) / len(a), sum(b) / len(b)
    across = sum((p - middle_a) ** 2 for p in a)
    return (
        sum((p - middle_a) * (q - middle_b) for p, q in zip(a, b, strict=True)) / across
    )


def scaling(results: Results) -> str:
    """Speed and memory by length and catalogue, and how they grow."""
    grid, growth = results["grid"], results["growth"]

    def where(**wanted: Any) -> list[Results]:
        return [
            one
            for one in grid
            if all(one[name] == value for name, value in wanted.items())
        ]

    head = [
        "catalogue",
        "loss",
        "length",
        "positions/s",
        "s per million positions",
        "peak memory, MiB",
    ]
    head += ["AdamW's state, MiB", "AdamW's share of a step"]
    rows = [
        [
            f"{one['items']:,}",
            (
                one["loss"]
                if one["negatives"] is None
                else f"{one['loss']}, {one['negatives']}"
            ),
            f"{one['length']:,}",
            f"{one['positions_per_s']:,.0f}",
            f"{1e6 / one['positions_per_s']:,.0f}",
            f"{one['memory_mib']:,.0f}",
            f"{one['optimizer_mib']:,.0f}",
            f"{one['optimizer_s'] / one['step_s']:.0%}",
        ]
        for one in sorted(
            grid, key=lambda one: (one["items"], one["loss"], one["length"])
        )
    ]
    big, small = (
        pick(where(length=200, loss="sampled"), key=lambda one: one["items"])
        for pick in (max, min)
    )
    text = (
        f"{measured(results)}\n\nWidth {results['model']['width']},"
        f" {results['model']['blocks']} blocks, {results['model']['heads']} heads;"
        " about 25,600 positions a step; full histories, so no"
        f" padding.\n\n{markdown(head, rows)}\n\nGradients and AdamW are dense: each"
        " step also clears, adds and moves the vectors of items that it did not meet."
        f" With {big['items']:,} items AdamW's state takes {big['optimizer_mib']:,.0f}"
        " MiB, weights and gradients about as much again, and a step takes"
        f" {big['step_s'] - small['step_s']:.2f} s longer than with {small['items']:,}"
        " items, however few positions are trained; of it AdamW takes"
        f" {big['optimizer_s']:.2f} s, the gradients the most. Larger steps spread that"
        " cost."
    )
    rows = [
        [
            f"{one['positions']:,}",
            f"{one['seconds']:.2f}",
            f"{1e6 * one['seconds'] / one['positions']:.1f}",
            f"{one['memory_mib']:,.0f}",
        ]
        for one in growth
    ]
    text += "\n\n" + markdown(
        ["training positions", "s an epoch", "s per million", "peak memory, MiB"], rows
    )
    long = [one for one in where(items=1_000, loss="full") if one["length"] >= 200]
    wide = where(length=200, loss="full")
    exponents = {
        "time of an epoch ~ events": slope(
            [g["positions"] for g in growth], [g["seconds"] for g in growth]
        ),
        "time of a history ~ length, 200 to 1,000": (
            1
            + slope(
                [one["length"] for one in long],
                [1 / one["positions_per_s"] for one in long],
            )
        ),
        "time of a position ~ catalogue, full softmax, 10 k to 100 k": slope(
            [one["items"] for one in wide[-2:]],
            [1 / one["positions_per_s"] for one in wide[-2:]],
        ),
    }
    asked = ("1", "at most 2", "at most 1")
    rows = [
        [what, f"{value:.2f}", most]
        for (what, value), most in zip(exponents.items(), asked, strict=True)
    ]
    return text + "\n\n" + markdown(["grows as a power", "exponent", "asked"], rows)


def serving(results: Results) -> str:
    """Requests, everybody at once, a large catalogue, and where an approximate index
    pays."""
    asked, large = results["requests"], results["million"]

    def took(ms: Results) -> str:
        return f"{ms['p50']:.1f} / {ms['p99']:.1f}"

    rows = [
        [
            name,
            took(asked[name]["user"]),
            took(asked[name]["history"]),
            f"{asked[name]['users_per_s']:,.0f}",
        ]
        for name in ("PyTorch", "ONNX")
    ]
    if "rectools" in results:
        rows.append(
            [
                f"RecTools {results['rectools']['version']}",
                "",
                "",
                f"{results['rectools']['users_per_s']:,.0f}",
            ]
        )
    rows.append(["asked", "at most 3 / 10", "at most 3 / 10", "at least 2,500"])
    head = [
        "",
        "one user of the log, ms",
        "one history, ms",
        "everybody at once, users/s",
    ]
    text = (
        f"{measured(results)}\n\nML-100K, {asked['items']:,} items, width 64, 2 blocks,"
        " 2 heads, length 200; the 10 best unseen items. A request is one call of"
        " `recommend` in the process: median / 99th of 100. Everybody: one call for"
        f" all {asked['users']:,} users, median of 7. Export took"
        f" {asked['export_s']:.0f} s.\n\n{markdown(head, rows)}\n\n{large['items']:,}"
        f" items, width {large['width']}, histories of 50 events, exact top 10:"
        f" {large['batch']} histories together in {large['ms']['p50']:,.0f} ms (99th of"
        f" 100: {large['ms']['p99']:,.0f} ms), one in {large['ms_one']['p50']:,.0f} ms;"
        f" the process held {large['memory_mib']:,.0f} MiB at most. Asked: 400 ms and"
        " 1,000 MiB."
    )
    rows = [
        [
            f"{one['items']:,}",
            f"{one['exact']['one_ms']:.2f}",
            f"{one['approximate']['one_ms']:.2f}",
            f"{one['exact']['together_ms']:.1f}",
            f"{one['approximate']['together_ms']:.1f}",
            f"{one['approximate']['recall']:.1%}",
            f"{one['approximate']['build_s']:.1f}",
            f"{one['others']:.2f}",
        ]
        for one in results["search"]
    ]
    head = [
        "vectors",
        "one, exact, ms",
        "one, approximate",
        "64, exact, ms",
        "64, approximate",
        "found of the true 10",
    ]
    head += ["to build, s", "cores used by others"]
    return f"{text}\n\n{markdown(head, rows)}"


def gpu(results: Results) -> str:
    """What a GPU did: a table of trainings, a line for every other part.

    At its end stands what was not reached.
    """
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    dry = (
        "A dry run: everything small and on a CPU. These are not a GPU's figures.\n\n"
        if results["dry"]
        else ""
    )
    text = f"{dry}`{results['command']}`\n\nMachine: {machine}."
    steps = results["steps"]
    if others := [step["others"] for step in steps if step.get("others") is not None]:
        text += f" Other processes used {max(others):.2f} cores at most."
    trained = [
        part for step in steps for part in step["parts"] if "positions_per_s" in part
    ]

    def figure(part: Results, name: str, form: str) -> str:
        return "" if part.get(name) is None else format(part[name], form)

    rows = [
        [
            f"{part['model']}{', full histories' if part['full'] else ''}",
            part["mode"],
            part["precision"],
            f"{part['positions']:,}",
            f"{part['positions_per_s']:,.0f}",
            f"{part['epoch_s']:.2f}",
            figure(part, "memory_mib", ",.0f"),
            figure(part, "share", ".1%") or "unknown",
            f"{part['first_s']:.1f}",
            figure(part, "recompiles", "d"),
        ]
        for part in trained
    ]
    head = [
        "training",
        "how",
        "precision",
        "positions an epoch",
        "positions/s",
        "s an epoch",
        "peak memory, MiB",
    ]
    head += ["share of bf16 peak", "first step, s", "recompiled"]
    if rows:
        text += f"\n\n{markdown(head, rows)}"
    done, missed = [], []
    for step in steps:
        said = [
            f"{part['part']}: {part['said']}"
            for part in step["parts"]
            if part["ok"] and part not in trained
        ]
        failed = [
            f"{part['part']}: {part['said']}"
            for part in step["parts"]
            if not part["ok"]
        ]
        done += [f"- {step['title']}. {'; '.join(said)}."] if said else []
        failed += [step["why"]] if step["why"] else []
        missed += [f"- {step['title']}. {'; '.join(failed)}."] if failed else []
    if done:
        text += "\n\n" + "\n".join(done)
    return (
        text
        + "\n\n"
        + (
            "Not reached:\n\n" + "\n".join(missed)
            if missed
            else "Every step was reached."
        )
    )


def go_on(results: Results) -> str:
    """What going on costs and gives beside training anew, a row a quarter and seed."""
    head = ("quarter", "seed", "how", "events", "epochs", "CPU s", "NDCG@10", "95 %")
    rows = [
        (
            str(run["quarter"]),
            str(run["seed"]),
            run["how"],
            f"{run['events']:,}",
            str(run["epochs"]),
            f"{run['seconds']:.0f}",
            f"{run['ndcg@10']:.4f}",
            "{:.4f} to {:.4f}".format(*run["interval"]),
        )
        for run in results["runs"]
    ]
    gaps = [
        (
            str(one["quarter"]),
            str(one["seeds"][0]),
            f"{one['difference']:+.4f}",
            "{:+.4f} to {:+.4f}".format(*one["interval"]),
            f"{one['p_value']:.3f}",
        )
        for one in results["compared"]
    ]
    told = markdown(("quarter", "seeds", "going on - anew", "95 %", "p"), gaps)
    return f"{measured(results)}\n\n{markdown(head, rows)}\n\n{told}"


def load(results: Results) -> str:
    """The example service under load, beside a bare route."""
    names = {"load:bare": "a bare route", "service:app": "the service"}
    clients = list(results["servers"][0]["clients"])
    rows = [
        [
            f"{names[one['app']]}, {one['workers']} worker{'s'[: one['workers'] - 1]}",
            *(f"{one['clients'][many]['per_s']:,.0f}" for many in clients),
            *(
                f"{one['clients'][many]['p50']:.1f} / {one['clients'][many]['p99']:.1f}"
                for many in clients
            ),
        ]
        for one in results["servers"]
    ]
    head = ["", *(f"{many} clients, requests/s" for many in clients)]
    head += [f"{many} clients, ms" for many in clients]
    head = [title.replace("1 clients", "1 client") for title in head]
    return f"{measured(results)}\n\n{markdown(head, rows)}"


SECTIONS = {
    "speed": speed,
    "scaling": scaling,
    "go_on": go_on,
    "serving": serving,
    "load": load,
    "gpu": gpu,
}


def render(page: str) -> str:
    """The page with every section whose JSON is there made anew."""
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            fresh = section(json.loads(path.read_text(encoding="utf-8")))
            between = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
            page = between.sub(
                lambda found, fresh=fresh: f"{found[1]}\n{fresh}\n\n{found[2]}", page
            )
    return page


def update() -> None:
    """Rewrite RESULTS.md."""
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def publish(name: str, results: Results, path: Path | None) -> None:
    """Print a section of the page; keep its results at `path`, if there is one, and
    rewrite the page."""
    print(SECTIONS[name](results))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as fresh:
            fresh.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        update()


if __name__ == "__main__":
    update()
