"""The command line.

`python -m attncore train | evaluate | recommend | prepare | export | bench | data`.
Results go to stdout, progress to stderr. A user's mistake is one line on stderr and
exit status 2.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
import torch
from simple_parsing import ArgumentParser, DashVariant

import attncore as ac
from attncore.benchmark import measure
from attncore.config import RankerAttention
from attncore.distributed import processes
from attncore.errors import DataError
from attncore.evaluation import Report
from attncore.export import to_onnx
from attncore.large.prepared import Prepared, PreparedSplit
from attncore.ranking.asof import IndexedSlates
from attncore.ranking.baselines import PersonalHabit, PopularLately
from attncore.readers import TICKS
from attncore.recipes import RECIPES, Recipe, recipe
from attncore.runs import read_config
from attncore.serving import best

SPLITS = {"leave-one-out": ac.leave_one_out, "time": ac.split_by_time}


SHOWN = ("ndcg@10", "hr@10", "mrr", "coverage@10")


SHOWN_OF_SLATES = ("ndcg@10", "recall@10", "gauc", "auc")


class Parser(ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command, and end with status 2."""
        fail(message)


def fail(message: str, status: int = 2) -> NoReturn:
    """One line on stderr, and an exit status: 2 for a mistake, 130 for Ctrl-C."""
    sys.stderr.write(f"attncore: {' '.join(message.split())}\n")
    raise SystemExit(status)


def parser(defaults: Recipe) -> Parser:
    """The whole command line.

    Options of training and model are made from their configurations.

    Args:
        defaults: what `train` takes where an option is not given.
    """

    def command(name: str, run: Callable[[Namespace], None], text: str) -> Any:
        dashes: Any = {"add_option_string_dash_variants": DashVariant.DASH}
        sub = commands.add_parser(
            name, help=text, description=text, allow_abbrev=False, **dashes
        )
        sub.set_defaults(run=run)
        return sub

    top = Parser(
        prog="python -m attncore", description="Attention for recommender systems."
    )
    commands = top.add_subparsers(dest="command", required=True, parser_class=Parser)

    sub = command(
        "train", train, "Train a recommender; shows validation metrics, never test."
    )
    sub.add_argument(
        "data",
        help=(
            "a data set's name (see `data`), or the path of a log or of a prepared"
            " folder"
        ),
    )
    sub.add_argument("--out", required=True, help="the run folder to write")
    sub.add_argument(
        "--recipe",
        choices=list(RECIPES),
        help="take all that no option says from this recipe",
    )
    sub.add_argument(
        "--resume",
        action="store_true",
        help="go on from the run folder's newest checkpoint, if any",
    )
    sub.add_argument(
        "--split",
        choices=list(SPLITS),
        help="how the log is divided; by time where it has slates",
    )
    add_columns(sub)
    sub.add_arguments(ac.TrainingConfig, dest="training", default=defaults.training)
    sub.add_arguments(
        ac.RecommenderConfig, dest="recommender", default=defaults.recommender
    )

    sub = command("evaluate", evaluate, "Evaluate a trained recommender.")
    sub.add_argument("folder", metavar="RUN", help="a run folder")
    sub.add_argument(
        "--split",
        choices=["test", "valid"],
        default="test",
        help="the questions to ask",
    )
    sub.add_argument(
        "--data",
        metavar="FOLDER",
        help="ask all users of a prepared folder, not the run's own",
    )
    sub.add_argument("--device", default="auto", help="as for train")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = command(
        "recommend",
        recommend,
        "Recommend items to a user of the log, or after a history.",
    )
    sub.add_argument("folder", metavar="RUN", help="a run folder")
    asked = sub.add_mutually_exclusive_group(required=True)
    asked.add_argument("--user", nargs="+", metavar="ID", help="users of the log")
    asked.add_argument("--history", nargs="+", metavar="ID", help="items, oldest first")
    sub.add_argument(
        "--candidates", nargs="+", metavar="ID", help="choose among these items only"
    )
    sub.add_argument(
        "--exclude", nargs="+", metavar="ID", default=[], help="never show these items"
    )
    sub.add_argument(
        "--only",
        nargs="+",
        metavar="ID",
        help="show these items only, such as what is in stock",
    )
    about_asker = "the moment of asking, or who asks, by feature"
    sub.add_argument(
        "--situation", nargs="+", metavar="K=V", default=[], help=about_asker
    )
    sub.add_argument("-k", type=int, default=10, help="how many items")
    sub.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object (a list for several users)",
    )

    sub = command(
        "prepare",
        prepare,
        "Turn a log of any size into files that train reads instead of it.",
    )
    sub.add_argument("data", help="the path of a log")
    sub.add_argument(
        "--out", required=True, metavar="FOLDER", help="the folder to write"
    )
    sub.add_argument(
        "--split",
        choices=list(SPLITS),
        default="leave-one-out",
        help="how the log is divided",
    )
    sub.add_argument(
        "--shards", type=int, help="at least as many as processes will train"
    )
    sub.add_argument(
        "--memory",
        default="1GB",
        help="what the preparing may take, beside a few hundred MB",
    )
    sub.add_argument(
        "--threads", type=int, help="cores that it may use; all by default"
    )
    add_columns(sub)

    sub = command(
        "export", export, "Write a trained recommender for use outside PyTorch."
    )
    sub.add_argument("folder", metavar="RUN", help="a run folder")
    sub.add_argument("--to", choices=["onnx"], default="onnx", help="the format")
    sub.add_argument(
        "--out",
        metavar="FILE",
        help="the file to write; unless given, model.onnx in the run folder",
    )

    sub = command(
        "bench", bench, "Measure training, evaluation and requests on this machine."
    )
    sub.add_argument(
        "data",
        nargs="?",
        default="ml-100k",
        help="a data set's name, or the path of a log",
    )
    add_columns(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub.add_arguments(
        ac.TrainingConfig, dest="training", default=ac.TrainingConfig(epochs=4)
    )
    sub.add_arguments(ac.RecommenderConfig, dest="recommender")

    sub = command("data", data, "List the data sets, or fetch one.")
    sub.add_argument("name", nargs="?", help="the data set to fetch")
    return top


def defaults_of(words: Sequence[str]) -> Recipe:
    """What the options' defaults are.

    Those of the recipe that the command names, if it names one. Complete Journey has
    slates, which need settings of their own, so there its own recipe is the default.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # Without a name, the whole parser has the word.
    first.add_argument("--recipe", nargs="?")
    known, others = first.parse_known_args(words)
    name = known.recipe or (
        "complete-journey" if others[:2] == ["train", "complete-journey"] else None
    )
    if name not in RECIPES:
        return Recipe("", ac.RecommenderConfig(), ac.TrainingConfig())
    found = recipe(name)
    return replace(found, recommender=ac.RecommenderConfig(**asdict(found.recommender)))


def add_columns(sub: Any) -> None:
    """Options that say how the log is read, if it is a file."""
    for column in ("user", "item", "time"):
        sub.add_argument(
            f"--{column}-column",
            default=column,
            help=f"the log's {column} column, if data is a path",
        )
    for kind in ("user", "item"):
        sub.add_argument(
            f"--{kind}-table",
            metavar="FILE",
            help=f"what is known of its {kind}s, by {kind} column",
        )
    sub.add_argument(
        "--time-unit",
        choices=list(TICKS),
        default="s",
        help="unit of times that are numbers",
    )
    sub.add_argument(
        "--kinds",
        nargs="+",
        metavar="COLUMN=KIND",
        default=[],
        help="attributes: number, category, …",
    )


def train(args: Namespace) -> None:
    """Train, and show the result beside the baselines and for three users.

    Under torchrun, the first process does.
    """
    with processes(args.training.device) as group:
        if (Path(args.data) / "prepared.json").is_file():
            prepared = Prepared.open(args.data)
            split, summary = prepared.split(group.rank, group.size), prepared.summary
            about = {
                "data": {
                    "name": args.data,
                    "checksum": split.checksum,
                    "split": split.valid.protocol["split"],
                }
            }
        else:
            with group.rank_0_first():
                log, about = read_log(args)
            how = args.split or ("leave-one-out" if log.slates is None else "time")
            split, summary = SPLITS[how](log), log.summary
            about["data"]["split"] = how
        about["recipe"] = args.recipe
        if group.is_rank_0 and summary.dropped:
            print(f"{args.data}: {summary}", flush=True)
        model: ac.Recommender | ac.Ranker
        if split.slates is None:
            model = ac.Recommender(args.recommender, split, args.training.seed)
        else:
            config = ranker_config(args.recommender, "attention" in args.given)
            model = ac.Ranker(config, split, args.training.seed)
        run = ac.fit(model, split, args.training, args.out, about, args.resume)
        if group.is_rank_0:
            show_training(model, split, run)
            print(f"\nkept in {args.out}; next: python -m attncore evaluate {args.out}")


def ranker_config(config: ac.RecommenderConfig, chosen: bool) -> ac.RankerConfig:
    """What the options say of a ranker; its attention is "target" unless one is chosen.

    Raises:
        ValueError: an option that means nothing for slates.
    """
    plain, known = ac.RecommenderConfig(), {one.name for one in fields(ac.RankerConfig)}
    values = asdict(config) | ({} if chosen else {"attention": "target"})
    if values["attention"] not in get_args(RankerAttention):
        raise ValueError(
            f"attention={config.attention!r}: the log has slates, which are ranked by"
            " attention 'target' or 'mean'; choose one (--attention target)"
        )
    for name, value in values.items():
        if name not in known and value != getattr(plain, name):
            raise ValueError(
                f"{name}={value!r}: means nothing for slates; leave it out"
            )
    return ac.RankerConfig(**{name: values[name] for name in known})


def read_log(args: Namespace) -> tuple[ac.Interactions, dict[str, Any]]:
    """The log that the command names, and what `config.json` says of it."""
    columns = {
        name: getattr(args, f"{name}_column") for name in ("user", "item", "time")
    }
    names = [known.name for known in ac.datasets.available()]
    if args.data in names:
        log = ac.datasets.load(args.data)
    elif Path(args.data).exists():
        how = {
            "users": args.user_table,
            "items": args.item_table,
            "time_unit": args.time_unit,
        }
        log = ac.read_interactions(args.data, **columns, **how, kinds=kinds_of(args))
    else:
        raise DataError(
            f"{args.data}: no such file or data set; the data sets are"
            f" {', '.join(names)}"
        )
    return log, {
        "data": {"name": args.data, "checksum": log.checksum, "columns": columns}
    }


def kinds_of(args: Namespace) -> dict[str, str]:
    """The declared kinds of attributes, by column."""
    for pair in args.kinds:
        if "=" not in pair:
            raise DataError(
                f"--kinds {pair}: must be COLUMN=KIND, such as genres=categories"
            )
    return dict(pair.rsplit("=", 1) for pair in args.kinds)


def prepare(args: Namespace) -> None:
    """Prepare a log."""
    columns = {
        name: getattr(args, f"{name}_column") for name in ("user", "item", "time")
    }
    if args.user_table is not None:
        raise DataError(
            "--user-table: a prepared log has no table of users; leave it out"
        )
    how = {
        "split": args.split,
        "shards": args.shards,
        "memory": args.memory,
        "threads": args.threads,
    }
    how |= {
        "time_unit": args.time_unit,
        "items": args.item_table,
        "kinds": kinds_of(args),
    }
    prepared = ac.prepare(args.data, args.out, **columns, **how)
    print(f"{args.data}: {prepared.summary}")
    print(
        f"{args.out}: {len(prepared.items):,} items, {len(prepared.about['shards'])}"
        " shards"
    )
    print(f"next: python -m attncore train {args.out} --out RUN")


def show_training(model: Any, split: ac.Split, run: ac.Run) -> None:
    """What was trained: beside the baselines on validation, and for three users."""
    print(
        f"{split.name}: {len(split.items):,} items, {split.train.lengths.sum():,}"
        " training events"
    )
    print(
        f"trained {run.positions_per_s:,.0f} positions/s; best epoch {run.best_epoch}"
        f" of {len(run.epochs)}\n"
    )
    rivals: dict[str, Any] = {"popularity": ac.baselines.Popularity(split)}
    # Whose pairs of items need not fit into memory.
    if not isinstance(split, PreparedSplit):
        rivals["Markov chain"] = ac.baselines.MarkovChain(split)
    if split.slates is not None:
        rivals = {
            "popular this week": PopularLately(split),
            "personal habit": PersonalHabit(split),
        }
    reports = {name: ac.evaluate(rival, split.valid) for name, rival in rivals.items()}
    assert run.valid is not None
    reports[f"attention={model.config.attention}"] = run.valid
    print(metrics_table(reports, f"validation, {run.valid.users:,} users"))
    for row in range(min(3, len(split.valid))):
        (
            show_user(model, split, row)
            if split.slates is None
            else show_slate(model, split, row)
        )


def metrics_table(reports: dict[str, Report], title: str) -> str:
    """A line per report: the shown metrics, and the 95 % interval of the first."""
    wide = max(len(name) for name in [title, *reports])
    shown = (
        SHOWN
        if all(SHOWN[1] in report.metrics for report in reports.values())
        else SHOWN_OF_SLATES
    )
    lines = [
        f"{title:<{wide}}  "
        + "  ".join(f"{name:>11}" for name in shown)
        + f"  {shown[0]} 95 % interval"
    ]
    for name, report in reports.items():
        low, high = report.interval[shown[0]]
        figures = "  ".join(f"{report.metrics[metric]:>11.4f}" for metric in shown)
        lines.append(f"{name:<{wide}}  {figures}  {low:.4f} to {high:.4f}")
    return "\n".join(lines)


def show_user(model: ac.Recommender, split: ac.Split, row: int) -> None:
    """A user's last items, what is recommended, and what came next, by title."""
    known = split.items.decode(split.valid.histories[row]).tolist()
    came = split.items.decode(split.valid.targets[row : row + 1])[0]
    situation = {name: column[[row]] for name, column in split.valid.attributes.items()}
    history, user = (
        split.valid.histories.take(np.array([row])),
        split.valid.users[[row]],
    )
    picks = best(model, history, user, situation=situation)[0].items
    print(
        f"\nuser {split.users.ids[split.valid.users[row]]}, after {len(known)} items,"
        " the last of them"
    )
    print("   " + " | ".join(split.label(item) for item in known[-5:]))
    for place, item in enumerate(picks, 1):
        print(
            f"{place:>4} "
            f" {split.label(item)}{'   <- came next' if item == came else ''}"
        )
    if came not in picks:
        print(f"came next: {split.label(came)}")


def show_slate(model: Any, split: ac.Split, row: int) -> None:
    """What a user was shown, the ten best of it, and what was taken, by title."""
    slates = split.valid.slates
    assert isinstance(slates, IndexedSlates)
    scores, where = model.score_slate(slates, row), slates.list_of(row)
    ids = split.items.decode(slates.items[where])
    taken, place = (
        set(slates.clicked_of(row).tolist()),
        slates.situation.iloc[slates.lists[row]],
    )
    told = ", ".join(f"{name} {value}" for name, value in place.items())
    print(
        f"\nuser {split.users.ids[slates.users[row]]}, {told}: {len(ids):,} candidates,"
        f" {len(taken)} of them taken"
    )
    for number, at in enumerate(np.argsort(-scores, kind="stable")[:10].tolist(), 1):
        print(
            f"{number:>4}  {split.label(ids[at])}{'   <- taken' if at in taken else ''}"
        )
    missed = [
        split.label(ids[at])
        for at in taken - set(np.argsort(-scores, kind="stable")[:10].tolist())
    ]
    if missed:
        print(f"taken too: {' | '.join(missed)}")


def evaluate(args: Namespace) -> None:
    """Evaluate a run on its test or validation questions."""
    with processes(args.device) as group:
        model = ac.load(args.folder, group.device)
        if args.data is None:
            questions = getattr(model.split, args.split)
        else:
            prepared = Prepared.open(args.data)
            if not np.array_equal(prepared.items.ids, model.split.items.ids):
                raise DataError(
                    f"{args.data}: its catalogue is not that of {args.folder}; give the"
                    " log it trained on"
                )
            questions = prepared.questions(args.split, group.rank, group.size)
        report = ac.evaluate(model, questions, group=group)
        if not group.is_rank_0:
            return
    config = read_config(args.folder)
    if not args.json:
        print(
            metrics_table(
                {name_of(model): report},
                f"{args.split}, {report.users:,} users",
            )
        )
        return
    result = {
        "data": config.get("data", {}).get("name", model.split.name),
        "split": args.split,
        "users": report.users,
        "items": len(model.split.items),
        "attention": name_of(model),
        "parameters": (
            sum(p.numel() for p in model.parameters())
            if isinstance(model, torch.nn.Module)
            else sum(array.size for array in model.learned.values())
        ),
        "metrics": report.metrics,
        "interval": {name: list(ends) for name, ends in report.interval.items()},
        "protocol": report.protocol,
    }
    print(json.dumps(result))


def name_of(model: Any) -> str:
    """A model's kind of attention, or which baseline it is."""
    is_trained = isinstance(model, ac.Recommender | ac.Ranker)
    return str(model.config.attention) if is_trained else type(model).__name__


def recommend(args: Namespace) -> None:
    """Recommend to users or after a history."""
    model = ac.load(args.folder)
    split = model.split
    candidates = None if args.candidates is None else split.items.parse(args.candidates)
    for pair in args.situation:
        if "=" not in pair:
            raise DataError(f"--situation {pair}: must be NAME=VALUE")
    options = {
        "k": args.k,
        "candidates": candidates,
        "situation": dict(p.split("=", 1) for p in args.situation),
        "exclude": split.items.parse(args.exclude),
        "only": None if args.only is None else split.items.parse(args.only),
    }
    ids, words = split.items, args.history
    if args.user is not None:
        ids, words = split.users, args.user
    asked = ids.parse(words)
    ids.encode(asked)  # a typing error is told, not passed over
    if args.user is not None:
        found = model.recommend(users=asked, **options)
    else:
        found = model.recommend(histories=[asked], **options)
    if args.json:
        objects = [{"items": picks.items, "scores": picks.scores} for picks in found]
        print(json.dumps(objects[0] if len(objects) == 1 else objects))
        return
    for name, picks in zip(args.user or ["history"], found, strict=True):
        print(f"{'user ' + name if args.user else name}:")
        for place, (item, score) in enumerate(
            zip(picks.items, picks.scores, strict=True), 1
        ):
            print(
                f"{place:>4}  {score:8.3f}  {item} "
                f" {split.label(item) if split.titles is not None else ''}".rstrip()
            )


def export(args: Namespace) -> None:
    """Write a run as an ONNX file."""
    print(
        f"kept in {to_onnx(args.folder, args.out)}; what it takes and gives: see"
        " attncore.export"
    )


def bench(args: Namespace) -> None:
    """Measure this machine on a log."""
    found = measure(read_log(args)[0], args.recommender, args.training)
    print(json.dumps(asdict(found)) if args.json else found)


def data(args: Namespace) -> None:
    """List the data sets, or fetch one and say what it holds."""
    if args.name is None:
        for known in ac.datasets.available():
            where = "cached" if known.cached else "to fetch"
            print(f"{known.name:<18}{where:<10}{known.about}")
    else:
        print(ac.datasets.load(args.name))


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    words = [
        re.sub(r"^--no-", "--no", word)
        for word in (sys.argv[1:] if argv is None else argv)
    ]
    try:
        args = parser(defaults_of(words)).parse_args(words)
        args.given = {w.lstrip("-").split("=")[0] for w in words if w[:2] == "--"}
        args.run(args)
    except (ValueError, OSError, FloatingPointError) as error:
        fail(str(error))
    except KeyboardInterrupt as stopped:
        fail(str(stopped) or "stopped", status=130)


if __name__ == "__main__":
    main()
