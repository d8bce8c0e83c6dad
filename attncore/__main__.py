"""The command line: `python -m attncore COMMAND`, with `--help` for each.

Results go to stdout, progress to stderr. A user's mistake is one line on stderr and
exit status 2; Ctrl-C is status 130. The options of a command are the arguments of its
function here, and the fields of the configurations.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args

import numpy as np
import pandas as pd
import torch
from cyclopts import App, CycloptsError, Group, Parameter, Token

import attncore as ac
from attncore.benchmark import measure
from attncore.config import RankerAttention
from attncore.distributed import processes
from attncore.errors import DataError
from attncore.evaluation import Report
from attncore.export import to_onnx
from attncore.files import prepare as ready
from attncore.files import read_config, replacing
from attncore.large.prepared import Prepared, PreparedSplit
from attncore.ranking.asof import IndexedSlates
from attncore.ranking.baselines import PersonalHabit, PopularLately
from attncore.recipes import RECIPES, recipe
from attncore.renewal import newer_questions
from attncore.sequences import Vocabulary
from attncore.serving import best

FULL = ("auto", "full")
SHOWN = ("ndcg@10", "hr@10", "mrr", "coverage@10")
SHOWN_OF_SLATES = ("ndcg@10", "recall@10", "gauc", "auc")
USERS_AT_ONCE = 4096  # whose lists are made together
PAIRS = 20_000_000  # training events up to which pairs of items are counted


Flag = Annotated[bool, Parameter(negative="", show_default=False)]
File = Annotated[str, Parameter(metavar="FILE")]
Folder = Annotated[str, Parameter(metavar="FOLDER")]
Run = Annotated[str, Parameter(metavar="RUN")]
SplitName = Literal["leave-one-out", "time"]
AnySplit = Literal["leave-one-out", "time", "session"]
SPLITS = get_args(AnySplit)
Number = Annotated[int, Parameter(metavar="N")]
Ids = Annotated[list[str], Parameter(metavar="ID ...")]
Column = Annotated[str, Parameter(metavar="COLUMN")]
Pairs = Annotated[tuple[str, ...], Parameter(metavar="NAME=VALUE ...")]


@dataclass(frozen=True)
class Reading:
    """How a log is read, if DATA is a file.

    Attributes:
        user_column: the log's column of users.
        item_column: its column of items.
        time_column: its column of times.
        in_order: there are no times: the rows are in order.
        user_table: what is known of users, by the column of users.
        item_table: what is known of items, by the column of items.
        kinds: what attributes are, as price=number: number, category, categories or
            words.
        time_unit: unit of times that are numbers.
        time_format: how dates are written that are not ISO 8601, as %d.%m.%Y.
        separator: what stands between columns; by default what the file's ending says.
        no_header: the first line names no columns; they are called 1, 2, 3.
        no_quotes: quotes are letters, as in many .tsv.
        tie: a column that orders events of the same time.
        repeats: users take an item again and again, as groceries, so that lists show
            what they had.
        min_count: keep the users and items with so many events.
    """

    user_column: Column = "user"
    item_column: Column = "item"
    time_column: Column = "time"
    in_order: Flag = False
    user_table: File | None = None
    item_table: File | None = None
    kinds: Annotated[tuple[str, ...], Parameter(metavar="COLUMN=KIND ...")] = ()
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    time_format: Annotated[str | None, Parameter(metavar="FORMAT")] = None
    separator: Annotated[str | None, Parameter(metavar="TEXT")] = None
    no_header: Flag = False
    no_quotes: Flag = False
    tie: Column | None = None
    repeats: Flag = False
    min_count: Number = 1

    def options(self) -> dict[str, Any]:
        """What `read_interactions` and `prepare` both take."""
        for pair in self.kinds:
            if "=" not in pair:
                raise DataError(
                    f"--kinds {pair}: must be COLUMN=KIND, such as genres=categories"
                )
        given = {
            "items": self.item_table,
            "kinds": dict(pair.rsplit("=", 1) for pair in self.kinds),
            "time_unit": self.time_unit,
            "time_format": self.time_format,
            "in_order": self.in_order,
            "separator": self.separator,
            "header": not self.no_header,
            "quoted": not self.no_quotes,
            "tie": self.tie,
            "repeats": self.repeats,
            "min_count": self.min_count,
        }
        return self.columns() | given

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Reading:
        """What `options` says of a file, turned round: as `prepare` keeps it."""
        names = {"user": "user_column", "item": "item_column", "time": "time_column"}
        known = {names.get(key, key): value for key, value in options.items()}
        known = {"header": True, "quoted": True} | known
        told = {"no_header": not known["header"], "no_quotes": not known["quoted"]}
        given = {one.name: known[one.name] for one in fields(cls) if one.name in known}
        return cls(**(given | told))

    def columns(self) -> dict[str, str]:
        """The columns' names."""
        names = self.user_column, self.item_column, self.time_column
        return dict(zip(("user", "item", "time"), names, strict=True))

    def log(self, data: str) -> ac.Interactions:
        """The log of that name, or in that file."""
        names = [known.name for known in ac.datasets.available()]
        if data in names:
            self.refuse(data, but=("min_count",))
            log = ac.datasets.load(data)
            return log.k_core(self.min_count) if self.min_count > 1 else log
        if Path(data).exists():
            return ac.read_interactions(data, users=self.user_table, **self.options())
        raise DataError(
            f"{data}: no such file or data set; the data sets are {', '.join(names)}"
        )

    def refuse(self, data: str, but: Sequence[str] = ()) -> None:
        """Raise DataError for an option that means nothing for `data`."""
        for one in fields(self):
            if getattr(self, one.name) != one.default and one.name not in but:
                option = one.name.replace("_", "-")
                raise DataError(f"--{option}: means nothing for {data}; leave it out")


READ = tuple(one.name for one in fields(Reading))
READING, TRAINING, MODEL = Reading(), ac.TrainingConfig(), ac.RecommenderConfig()
ReadingOptions = Annotated[
    Reading, Parameter(name="*", group=Group.create_ordered("Reading the log"))
]
Training = Annotated[
    ac.TrainingConfig, Parameter(name="*", group=Group.create_ordered("Training"))
]
Model = Annotated[
    ac.RecommenderConfig, Parameter(name="*", group=Group.create_ordered("Model"))
]


def default_recipe(words: dict[str, str]) -> str | None:
    """The recipe of a training that names none.

    Complete Journey has slates, which need settings of their own. Another attention
    than self-attention, a log that is on disk, and a model that is made already have no
    recipe.
    """
    data, attention = words.get("DATA", ""), words.get("--attention", "self")
    if data == "complete-journey":
        return data
    if attention != "self" or is_prepared(data) or "--go-on" in words:
        return None
    return "small"


def take_recipe(app: App, commands: tuple[str, ...], arguments: Any) -> None:
    """Give the options that were left out what the recipe says."""
    by_name = {argument.names[0]: argument for argument in arguments}
    words = {
        name: argument.tokens[0].value
        for name, argument in by_name.items()
        if argument.tokens
    }
    if commands == ("train",) and "--go-on" in words:
        read_alike(words, by_name)
    name = words.get("--recipe", default_recipe(words))
    wanted: dict[str, Any] = {"epochs": 4} if commands == ("bench",) else {}
    if commands == ("train",) and name in RECIPES:
        chosen = recipe(name)
        plain = asdict(MODEL) | asdict(TRAINING)
        said = asdict(chosen.recommender) | asdict(chosen.training)
        wanted = {key: said[key] for key in said if said[key] != plain[key]}
        if "--recipe" not in words and words.get("--loss", "full") not in FULL:
            wanted |= {"prior": 0, "label_smoothing": 0.0}  # of the full loss alone
        wanted["recipe"] = name
    for key, value in wanted.items():
        argument = by_name["--" + key.replace("_", "-")]
        if not argument.tokens:
            argument.append(Token(implicit_value=value, source=f"recipe {name}"))


def read_alike(words: dict[str, str], by_name: dict[str, Any]) -> None:
    """Let a grown log be read and divided as the log of the run was that goes on."""
    about = read_config(words["--go-on"]).get("data", {})
    if is_prepared(words.get("DATA", "")) or words.get("DATA") == about.get("name"):
        return
    wanted = dict(about.get("reading", {}))
    if about.get("split") in SPLITS and not {"--valid", "--test"} & set(words):
        wanted |= {"split": about["split"], "session": about.get("session")}
    for key, value in wanted.items():
        argument = by_name.get("--" + key.replace("_", "-"))
        is_default = key in READ and value == getattr(READING, key)
        if argument is None or argument.tokens or value is None or is_default:
            continue
        if isinstance(value, list | tuple):
            for place, one in enumerate(value):
                argument.append(Token(keyword="--" + key, value=one, index=place))
        else:
            argument.append(Token(implicit_value=value, source=words["--go-on"]))


def is_prepared(data: str) -> bool:
    """Whether a path is a folder that `prepare` wrote."""
    return (Path(data) / "prepared.json").is_file()


def histories_of(kind: Any, tokens: Sequence[Token]) -> list[list[str]]:
    """The items after each `--history`."""
    found: list[list[str]] = []
    for token in tokens:
        found += [[]] if token.index == 0 else []
        found[-1].append(token.value)
    return found


PLAIN = Parameter(negative_iterable="", consume_multiple=True, allow_repeating=True)
PER_HISTORY = Parameter(
    metavar="ID ...", converter=histories_of, n_tokens=-1, accepts_keys=False
)
app = App(
    name="python -m attncore",
    help="Attention for recommender systems.",
    version=ac.__version__,
    config=take_recipe,
    default_parameter=PLAIN,
)


@app.command
def train(
    data: str,
    /,
    *,
    out: Run,
    recipe: Annotated[str | None, Parameter(choices=tuple(RECIPES))] = None,
    split: AnySplit | None = None,
    session: Column | None = None,
    valid: File | None = None,
    test: File | None = None,
    resume: Flag = False,
    overwrite: Flag = False,
    go_on: Run | None = None,
    on_all: Folder | None = None,
    reading: ReadingOptions = READING,
    training: Training = TRAINING,
    recommender: Model = MODEL,
) -> None:
    """Train a recommender; shows validation metrics, never test.

    Args:
        data: a data set's name (see `data`), or the path of a log or of a prepared
            folder.
        out: the run folder to write.
        recipe: take all that no option says from this recipe; by default from "small",
            where the attention is self-attention and the log not prepared.
        split: how the log is divided; by time where it has slates, else leave-one-out.
        session: of `--split session`: the column that tells a user's sessions apart, or
            the seconds of silence that part them; by default each user is one session.
        valid: the validation events, where the log is divided already.
        test: the test events, where it is.
        resume: go on from the run folder's newest checkpoint, if any.
        overwrite: replace a finished run that the folder holds.
        go_on: begin with what this run has learned, for a log that has grown since; the
            model is made as it was.
        on_all: train once more, on all events, for the epochs that validation chose,
            into another run folder: the one to serve.
    """
    with processes(training.device) as group:
        about: dict[str, Any] = {"recipe": recipe}
        with group.agreed():
            if is_prepared(data):
                reading.refuse(f"{data}, which is prepared")
                prepared = Prepared.open(data)
                parts: ac.Split = prepared.split(group.rank, group.size)
                summary = prepared.summary
                reading = Reading.of(prepared.about.get("reading", {}))
            else:
                with group.rank_0_first():
                    log = reading.log(data)
                    others = [reading.log(file) for file in (valid, test) if file]
                parts, summary = divided(log, others, split, session), log.summary
            if group.is_rank_0:
                ready(Path(out), clear=False)
            if group.is_rank_0 and summary.read:
                print(f"{data}: {summary}", flush=True)
            about["data"] = {
                "name": data,
                "checksum": parts.checksum,
                "columns": reading.columns(),
                "reading": asdict(reading),
                "split": parts.valid.protocol["split"],
                "session": session,
            }
            if go_on is None:
                model = new_model(recommender, parts, training.seed)
            else:
                model = gone_on(go_on, recommender, parts)
                about["goes_on_from"] = go_on
        run = ac.fit(model, parts, training, out, about, resume, overwrite=overwrite)
        reports = beside_baselines(model, parts, parts.valid, group, run.valid)
        if group.is_rank_0:
            print(f"{parts.name}: {len(parts.items):,} items, {run}\n")
            print(metrics_table(reports, "validation"))
            for row in range(min(3, len(parts.valid))):
                show(model, parts, row)
        if on_all is not None:
            ac.refit(model, run, on_all, about, overwrite=overwrite)
        if group.is_rank_0:
            print(f"\nkept in {out}; next: python -m attncore evaluate {out}")
            if on_all is not None:
                print(f"trained on all events, to be served: {on_all}")


def divided(
    log: ac.Interactions,
    others: Sequence[ac.Interactions],
    split: str | None,
    session: str | None,
) -> ac.Split:
    """A log as the options say; `others` are its validation and test, if it is."""
    if session is not None and split != "session":
        raise DataError("--session: needs --split session")
    if others:
        if len(others) < 2 or split is not None:
            raise DataError("--valid and --test: give both, without --split")
        return ac.presplit(log, others[0], others[1])
    if split == "session":
        seconds = float(session) if session and session.isdigit() else session
        return ac.split_by_session(log, seconds)
    by_time = split == "time" or (split is None and log.slates is not None)
    return ac.split_by_time(log) if by_time else ac.leave_one_out(log)


def gone_on(
    run: str, config: ac.RecommenderConfig, split: ac.Split
) -> ac.Recommender | ac.Ranker:
    """The model of a run for a grown log.

    Raises:
        DataError: the run is a baseline's, or options ask for another model.
    """
    model: Any = ac.load(run)
    if not isinstance(model, ac.Recommender | ac.Ranker):
        raise DataError(f"--go-on {run}: is a baseline, which learns nothing on")
    plain, own = asdict(MODEL), asdict(model.config)
    asked = {name: x for name, x in asdict(config).items() if x != plain[name]}
    if any(own.get(name) != value for name, value in asked.items()):
        raise DataError(
            f"--go-on {run}: the model stays as it was made; leave out its options"
        )
    return ac.go_on(model, split)


def new_model(
    config: ac.RecommenderConfig, split: ac.Split, seed: int
) -> ac.Recommender | ac.Ranker:
    """A ranker where the log has slates, else a recommender.

    Raises:
        ValueError: an option that means nothing for slates.
    """
    if split.slates is None:
        return ac.Recommender(config, split, seed)
    if config.attention not in get_args(RankerAttention):
        raise ValueError(
            f"attention={config.attention!r}: the log has slates, which are ranked by"
            " attention 'target' or 'mean'; choose one (--attention target)"
        )
    known = {one.name for one in fields(ac.RankerConfig)}
    values = asdict(config)
    for name, value in values.items():
        if name not in known and value != getattr(MODEL, name):
            raise ValueError(
                f"{name}={value!r}: means nothing for slates; leave it out"
            )
    return ac.Ranker(ac.RankerConfig(**{n: values[n] for n in known}), split, seed)


def beside_baselines(
    model: Any, split: ac.Split, questions: Any, group: Any, report: Any = None
) -> dict[str, Report]:
    """The reports of the baselines, and of the model as the last."""
    rivals: dict[str, Any]
    if split.slates is not None:
        rivals = {
            "popular this week": PopularLately(split),
            "personal habit": PersonalHabit(split),
        }
    else:
        rivals = {"popularity": ac.baselines.Popularity(split)}
        # Whose pairs of items need not fit into memory.
        if not isinstance(split, PreparedSplit) and len(split.train.items) <= PAIRS:
            chain = ac.baselines.MarkovChain
            rivals["Markov chain"] = chain(split)
            rivals["Markov chain, shares"] = chain(split, normalize=True)
    rivals.pop(name_of(model), None)
    reports = {
        name: ac.evaluate(rival, questions, group=group)
        for name, rival in rivals.items()
    }
    is_trained = isinstance(model, ac.Recommender | ac.Ranker)
    name = f"attention={name_of(model)}" if is_trained else name_of(model)
    reports[name] = report or ac.evaluate(model, questions, group=group)
    return reports


def metrics_table(reports: dict[str, Report], part: str) -> str:
    """A line per report: some metrics, and the 95 % interval of the first.

    Below it a remark, where the last does not win.
    """
    *others, own = reports
    title = f"{part}, {reports[own].users:,} users"
    is_next = all(SHOWN[1] in report.metrics for report in reports.values())
    shown = SHOWN if is_next else SHOWN_OF_SLATES
    wide = max(len(name) for name in [title, *reports])
    heads = "  ".join(f"{name:>11}" for name in shown)
    lines = [f"{title:<{wide}}  {heads}  {shown[0]} 95 % interval"]
    for name, report in reports.items():
        low, high = report.interval[shown[0]]
        figures = "  ".join(f"{report.metrics[metric]:>11.4f}" for metric in shown)
        lines.append(f"{name:<{wide}}  {figures}  {low:.4f} to {high:.4f}")
    if others:
        rival = max(others, key=lambda name: reports[name].metrics[shown[0]])
        found = ac.compare(reports[own], reports[rival], shown[0])
        if found.difference <= 0:
            lines.append(
                f"{own} does not beat {rival}: {shown[0]} {found.difference:+.4f}"
                f" ({found.interval[0]:+.4f} to {found.interval[1]:+.4f}); a longer"
                f" training or another recipe may, else serve {rival}"
            )
    return "\n".join(lines)


def show(model: Any, split: ac.Split, row: int) -> None:
    """What a user did or was shown, the ten best items, and what came, by title."""
    asked, user = split.valid, split.users.ids[split.valid.users[row]]
    if isinstance(asked.slates, IndexedSlates):
        slates, where = asked.slates, asked.slates.list_of(row)
        ids = split.items.decode(slates.items[where]).tolist()
        came = [ids[at] for at in slates.clicked_of(row)]
        scores = model.score_slate(slates, row)
        picks = [ids[at] for at in np.argsort(-scores, kind="stable")[:10]]
        place = slates.situation.iloc[slates.lists[row]].items()
        told = ", ".join(f"{name} {value}" for name, value in place)
        print(f"\nuser {user}, {told}: {len(ids):,} candidates")
        note = "taken"
    else:
        one = np.array([row])
        known = split.items.decode(asked.histories[row]).tolist()
        came = split.items.decode(asked.targets[one]).tolist()
        situation = {name: column[one] for name, column in asked.attributes.items()}
        history = asked.histories.take(one)
        picks = best(model, history, asked.users[one], situation=situation)[0].items
        print(f"\nuser {user}, after {len(known)} items, the last of them")
        print("   " + " | ".join(map(split.label, known[-5:])))
        note = "came next"
    for place, item in enumerate(picks, 1):
        print(f"{place:>4}  {split.label(item)}{f'   <- {note}' * (item in came)}")
    if missed := [split.label(item) for item in came if item not in picks]:
        print(f"{note}: {' | '.join(missed)}")


@app.command
def evaluate(
    run: Run,
    /,
    *,
    split: Literal["test", "valid"] = "test",
    data: Annotated[str | None, Parameter(metavar="DATA")] = None,
    device: str = "auto",
    json: Flag = False,
) -> None:
    """Evaluate a trained recommender, beside the baselines.

    Args:
        run: a run folder.
        split: the questions to ask.
        data: ask other users than the run's own: all those of a prepared folder, or
            those of a newer log, for what came after the run's, and what has changed
            since; it is read as the run's own was.
        device: as for train.
        json: print one JSON object; without baselines.
    """
    with processes(device) as group:
        with group.agreed():
            model: Any = ac.load(run, group.device)
            about = read_config(run)
            questions, changes = getattr(model.split, split), None
            part: str = split
            if data is not None and is_prepared(data):
                prepared = Prepared.open(data)
                if not np.array_equal(prepared.items.ids, model.split.items.ids):
                    raise DataError(
                        f"{data}: its catalogue is not that of {run}; give the log it"
                        " trained on"
                    )
                questions = prepared.questions(split, group.rank, group.size)
            elif data is not None:
                kept = dict(about.get("data", {}).get("reading", {}), min_count=1)
                newer = Reading(**kept).log(data)
                questions, changes = newer_questions(model.split, newer)
                part = "newer events"
        if json:
            reports = {name_of(model): ac.evaluate(model, questions, group=group)}
        else:
            reports = beside_baselines(model, model.split, questions, group)
    if not group.is_rank_0:
        return
    report = list(reports.values())[-1]
    if not json:
        print(f"{changes}\n" * (changes is not None) + metrics_table(reports, part))
        print(not_asked(model.split, questions))
        return
    is_module = isinstance(model, torch.nn.Module)
    weights = model.parameters() if is_module else model.learned.values()
    result = {
        "data": data or about.get("data", {}).get("name", model.split.name),
        "split": part,
        "users": report.users,
        "items": len(model.split.items),
        "attention": name_of(model),
        "parameters": sum(math.prod(each.shape) for each in weights),
        "metrics": report.metrics,
        "interval": {name: list(ends) for name, ends in report.interval.items()},
        "protocol": report.protocol,
    }
    if changes is not None:
        result["changes"] = asdict(changes)
    print_json(result)


def not_asked(split: ac.Split, questions: Any) -> str:
    """Who is asked, and why the others are not."""
    asked = np.unique(questions.users)
    known, users = int((asked >= 0).sum()), len(split.users)
    how = questions.protocol["split"]
    fresh = questions.protocol.get("users_without_history", 0)
    why = {
        "leave-one-out": "the others have fewer than 3 events",
        "time": f"{fresh:,} ha{'s' if fresh == 1 else 've'} nothing before the cut, the"
        " others nothing after it",
        "newer events": f"and {(questions.users < 0).sum():,} new ones",
    }
    said = f"asked {known:,} of {users:,} users"
    return f"{said}; {why[how]}" if how in why and known < users else said


def print_json(result: Any) -> None:
    """One line of JSON on stdout; ids stand in it as they are."""
    print(dumps(result, ensure_ascii=False))


def name_of(model: Any) -> str:
    """A model's kind of attention, or which baseline it is."""
    is_trained = isinstance(model, ac.Recommender | ac.Ranker)
    return str(model.config.attention) if is_trained else type(model).__name__


@app.command
def recommend(
    run: Run,
    /,
    *,
    user: Ids | None = None,
    history: Annotated[list[list[str]] | None, PER_HISTORY] = None,
    events: Annotated[list[list[str]] | None, PER_HISTORY] = None,
    time: Annotated[str | None, Parameter(metavar="WHEN")] = None,
    all: Flag = False,
    out: File | None = None,
    candidates: Ids | None = None,
    exclude: Ids | None = None,
    only: Ids | None = None,
    situation: Pairs = (),
    k: Annotated[int, Parameter(name="-k", metavar="N")] = 10,
    json: Flag = False,
) -> None:
    """Recommend items to users of the log, or after histories.

    Args:
        run: a run folder.
        user: users of the log.
        history: items, oldest first; give it again for another history.
        events: what a user did since the log ended; again for each of several users.
        time: the moment of asking, as 2026-05-01T12:00 or in seconds.
        all: all users of the log, into the file that `--out` names.
        out: of `--all`: .parquet, .csv or .jsonl, with user, rank, item and score.
        candidates: choose among these items only.
        exclude: never show these items.
        only: show these items only, such as what is in stock.
        situation: the moment of asking, or who asks, by feature.
        k: how many items.
        json: print one JSON object (a list for several users).
    """
    if (user is not None) + (history is not None) + all != 1:
        raise DataError("one of --user, --history and --all is required")
    if all != (out is not None):
        raise DataError("--all and --out FILE: give both, or neither")
    for pair in situation:
        if "=" not in pair:
            raise DataError(f"--situation {pair}: must be NAME=VALUE")
    model: Any = ac.load(run)
    split = model.split

    def items(ids: list[str] | None) -> Any:
        return None if ids is None else split.items.parse(ids)

    options = {
        "k": k,
        "candidates": items(candidates),
        "situation": dict(pair.split("=", 1) for pair in situation),
        "exclude": items(exclude) or [],
        "only": items(only),
    }
    if out is not None:
        rows = write_lists(model, Path(out), options)
        print(f"{out}: {rows:,} rows for {len(split.users):,} users")
        return
    if (events or time) and split.slates is not None:
        raise DataError("--events and --time: mean nothing for slates; leave them out")
    if time is not None:
        options["time"] = int(time) if time.isdigit() else time
    if events is not None:
        options["events"] = [checked(split.items, one) for one in events]
    if user is not None:
        asked = [f"user {one}" for one in user]
        found = model.recommend(users=checked(split.users, user), **options)
    else:
        given = history or [[]]  # an empty one is somebody new
        asked = [f"after {' | '.join(one) or 'nothing'}" for one in given]
        histories = [checked(split.items, one) for one in given]
        found = model.recommend(histories=histories, **options)
    if json:
        objects = [{"items": picks.items, "scores": picks.scores} for picks in found]
        print_json(objects[0] if len(objects) == 1 else objects)
        return
    for name, picks in zip(asked, found, strict=True):
        print(f"{name}:")
        for place, (item, score) in enumerate(
            zip(picks.items, picks.scores, strict=True), 1
        ):
            title = "" if split.titles is None else f"  {split.label(item)}"
            print(f"{place:>4}  {score:8.3f}  {item}{title}")


def checked(ids: Vocabulary, words: list[str]) -> list[Any]:
    """Ids that were typed; a typing error is told, not passed over."""
    found = ids.parse(words)
    ids.encode(found)
    return found


def write_lists(model: Any, path: Path, options: dict[str, Any]) -> int:
    """Write the lists of all users to a file; returns the number of rows."""
    kinds = {".parquet": "to_parquet", ".csv": "to_csv", ".jsonl": "to_json"}
    if path.suffix not in kinds:
        raise DataError(f"{path}: its name must end in {', '.join(kinds)}")
    ready(path.parent, clear=False)  # not after hours of work
    parts: list[pd.DataFrame] = []
    ids = model.split.users.ids
    for start in range(0, len(ids), USERS_AT_ONCE):
        users = ids[start : start + USERS_AT_ONCE].tolist()
        found = model.recommend(users=users, **options)
        parts += [
            pd.DataFrame(
                {
                    "user": user,
                    "rank": np.arange(1, len(picks.items) + 1),
                    "item": picks.items,
                    "score": picks.scores,
                }
            )
            for user, picks in zip(users, found, strict=True)
        ]
    table = pd.concat(parts, ignore_index=True)
    how: dict[str, Any] = {"index": False}
    if path.suffix == ".jsonl":
        how = {"orient": "records", "lines": True}
    with replacing(path) as fresh:
        getattr(table, kinds[path.suffix])(fresh, **how)
    return len(table)


@app.command
def prepare(
    data: str,
    /,
    *,
    out: Folder,
    split: SplitName = "leave-one-out",
    shards: Number | None = None,
    memory: Annotated[str, Parameter(metavar="SIZE")] = "1GB",
    threads: Number | None = None,
    reading: ReadingOptions = READING,
) -> None:
    """Turn a log of any size into files that train reads instead of it.

    Args:
        data: the path of a log.
        out: the folder to write.
        split: how the log is divided.
        shards: at least as many as processes will train.
        memory: what the preparing may take, beside a few hundred MB.
        threads: cores that it may use; all by default.
    """
    if reading.user_table is not None:
        raise DataError("--user-table: a prepared log has none; leave it out")
    how: dict[str, Any] = reading.options() | {"split": split, "shards": shards}
    prepared = ac.prepare(data, out, memory=memory, threads=threads, **how)
    print(f"{data}: {prepared.summary}")
    written = len(prepared.about["shards"])
    print(f"{out}: {len(prepared.items):,} items, {written} shards")
    print(f"next: python -m attncore train {out} --out RUN")


@app.command
def export(
    run: Run, /, *, to: Literal["onnx"] = "onnx", out: File | None = None
) -> None:
    """Write a trained recommender for use outside PyTorch.

    Args:
        run: a run folder.
        to: the format.
        out: the file to write; unless given, model.onnx in the run folder.
    """
    print(f"kept in {to_onnx(run, out)}; what it takes and gives: see attncore.export")


@app.command
def bench(
    data: str = "ml-100k",
    /,
    *,
    json: Flag = False,
    reading: ReadingOptions = READING,
    training: Training = TRAINING,
    recommender: Model = MODEL,
) -> None:
    """Measure training (4 epochs), evaluation and requests on this machine.

    Args:
        data: a data set's name, or the path of a log.
        json: print one JSON object.
    """
    found = measure(reading.log(data), recommender, training)
    print_json(asdict(found)) if json else print(found)


@app.command
def data(name: str | None = None, /) -> None:
    """List the data sets, or fetch one and say what it holds.

    Args:
        name: the data set to fetch.
    """
    if name is not None:
        print(ac.datasets.load(name))
        return
    for known in ac.datasets.available():
        where = "cached" if known.cached else "to fetch"
        print(f"{known.name:<18}{where:<10}{known.about}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    words = list(sys.argv[1:] if argv is None else argv)
    with said_once(), any_text():
        _obey(words)


def _obey(words: list[str]) -> None:
    """What `main` does, of a list of words."""
    try:
        if not words:
            raise DataError("a command is required: train, say; --help lists them")
        command, given, _ = app.parse_args(
            words, exit_on_error=False, print_error=False
        )
        command(*given.args, **given.kwargs)
    except (CycloptsError, ValueError, OSError, FloatingPointError) as error:
        fail(str(error))
    except KeyboardInterrupt as stopped:
        fail(str(stopped) or "stopped", status=130)
    if {"--help", "-h", "--version"} & set(words):
        raise SystemExit(0)


@contextmanager
def said_once() -> Iterator[None]:
    """Within the block, no remark that was logged already is logged again."""
    fresh = {handler: Fresh() for handler in logging.getLogger().handlers}
    for handler, one in fresh.items():
        handler.addFilter(one)
    try:
        yield
    finally:
        for handler, one in fresh.items():
            handler.removeFilter(one)


class Fresh(logging.Filter):
    """Lets through what was not said before."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is new."""
        before = len(self.said)
        self.said.add(record.getMessage())
        return len(self.said) > before


@contextmanager
def any_text() -> Iterator[None]:
    """Within the block, what the terminal has no letter for is written as its number.

    Else an id from another alphabet would end the command.
    """
    streams = [one for one in (sys.stdout, sys.stderr) if hasattr(one, "reconfigure")]
    before = [one.errors for one in streams]
    for one in streams:
        one.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for one, errors in zip(streams, before, strict=True):
            one.reconfigure(errors=errors)


def fail(message: str, status: int = 2) -> NoReturn:
    """One line on stderr, and an exit status: 2 for a mistake, 130 for Ctrl-C.

    Of processes that torchrun started, the first says it.
    """
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"attncore: {' '.join(message.split())}\n")
    raise SystemExit(status)


if __name__ == "__main__":
    main()
