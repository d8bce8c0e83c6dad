"""Keeping a trained model fresh: all events, a grown log, and what has changed.

`refit` trains once more on all events, `go_on` takes what was learned into a grown log,
and `newer_questions` asks about what came since: new users, new items, another taste.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from attncore.distributed import processes
from attncore.errors import DataError, expect
from attncore.features import FIRST, Feature, FeatureSet
from attncore.files import RunFolder
from attncore.interactions import Interactions
from attncore.sequences import Histories
from attncore.splits import (
    Holdout,
    Split,
    leave_one_out,
    protocol_of,
    require_log,
    split_by_time,
)
from attncore.training import Run, Trainer

# Of `FollowerCounts`: counted in the log that a model is made for.
COUNTS = {f"followers.{name}" for name in ("total_VS", "many_VS", "after_P", "count_P")}
logger = logging.getLogger(__name__)

SAMPLES = 20  # of the old log, that show how much chance alone changes


@dataclass(frozen=True)
class Changes:
    """What is new in the events after a model's log.

    Attributes:
        name: of the newer log.
        since: the last moment of the model's log, Unix seconds.
        events: events after it.
        users: users who have them.
        new_users: share of these users whom the model does not know.
        new_items: share of the events on items that it does not know, which are left
            out of the rest.
        popularity_shift: total variation between the items' shares of these events and
            of the training events: 0, the same; 1, nothing in common.
        chance_shift: the same for as many events drawn by the training shares.
    """

    name: str
    since: int
    events: int
    users: int
    new_users: float
    new_items: float
    popularity_shift: float
    chance_shift: float

    def __str__(self) -> str:
        """Two lines."""
        since = pd.Timestamp(self.since, unit="s")
        return (
            f"{self.name}: {self.events:,} events of {self.users:,} users after"
            f" {since}; {self.new_users:.1%} of the users are new, and"
            f" {self.new_items:.1%} of the events are on new items\nthe items'"
            f" popularity moved by {self.popularity_shift:.2f} of 1; chance alone moves"
            f" it by {self.chance_shift:.2f}"
        )


def newer_questions(split: Split, log: Interactions) -> tuple[Holdout, Changes]:
    """Questions about what came after a model's log, and what has changed.

    Asked is each user's last event on a known item. The history is all before it: the
    user's own in `split`, then the newer events. New users are asked from their second
    event on. Events up to the end of the model's log are passed over, so `log` may be
    the same log, grown.

    Args:
        split: the model's.
        log: read as the model's was.

    Raises:
        DataError: either log has slates or no times, nothing in it is newer, nobody can
            be asked, or an attribute that the model reads is missing.
    """
    if split.slates is not None or log.slates is not None or not log.has_time:
        raise DataError(f"{log.name}: must be a log with times and without slates")
    since = int(split.histories.times.max())
    events = log.events[log.events["time"] > since].sort_values("time", kind="stable")
    if events.empty:
        raise DataError(
            f"{log.name}: no event is later than {pd.Timestamp(since, unit='s')}, where"
            " the model's log ends; give a newer log"
        )
    user = pd.Index(split.users.ids).get_indexer(pd.Index(events["user"]))
    item = pd.Index(split.items.ids).get_indexer(pd.Index(events["item"]))
    people = events["user"].to_numpy()
    changes = Changes(
        log.name,
        since,
        len(events),
        users=len(pd.unique(people)),
        new_users=len(pd.unique(people[user < 0])) / len(pd.unique(people)),
        new_items=float((item < 0).mean()),
        **_shift(split.item_counts, item[item >= 0]),
    )

    # Users, then strangers, each a number; the old events of each before the new ones.
    owner = np.where(user < 0, len(split.users) + pd.factorize(people)[0], user)
    events, owner, item = events[item >= 0], owner[item >= 0], item[item >= 0]
    known = np.unique(owner[owner < len(split.users)])
    old = split.histories.take(known)
    for name in old.attributes:
        if name not in events:
            raise DataError(f"{log.name}: has no column {name!r}; the model reads it")
    owner = np.concatenate([np.repeat(known, old.lengths), owner])
    order = np.argsort(owner, kind="stable")
    asked, lengths = np.unique(owner, return_counts=True)
    joined = Histories(
        np.concatenate([old.items, item.astype(np.int32) + 1])[order],
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([old.times, events["time"]])[order],
        {
            name: np.concatenate([column, events[name].to_numpy()])[order]
            for name, column in old.attributes.items()
        },
    )
    rows = np.flatnonzero(lengths > 1)
    if len(rows) == 0:
        raise DataError(f"{log.name}: nobody has a history and a newer event")
    last = joined.offsets[1:][rows] - 1
    questions = Holdout(
        "newer events",
        joined.take(rows, stops=lengths[rows] - 1),
        np.where(asked < len(split.users), asked, -1)[rows],
        joined.items[last],
        split.item_counts,
        split.test.exclude_seen,
        protocol_of({"split": "newer events", "since": since}, log.repeats),
        {name: column[last] for name, column in joined.attributes.items()},
        catalogue=split.items,
        people=split.users,
    )
    return questions, changes


def _shift(counts: np.ndarray, items: np.ndarray) -> dict[str, float]:
    """How far the items' shares moved, and how far chance alone moves them."""
    shares = counts / counts.sum()

    def moved(other: np.ndarray) -> float:
        return float(np.abs(other / max(other.sum(), 1) - shares).sum() / 2)

    draws = np.random.default_rng(0).multinomial(len(items), shares, SAMPLES)
    return {
        "popularity_shift": moved(np.bincount(items, minlength=len(counts))),
        "chance_shift": float(np.mean([moved(draw) for draw in draws])),
    }


def refit(
    model: Any,
    run: Run,
    out: str | Path | None = None,
    about: dict[str, Any] | None = None,
    *,
    overwrite: bool = True,
) -> Any:
    """Train once more from the start, on all events, as long as validation chose.

    Validation has said how many epochs are best; now its events and those of the test
    may teach too. The learning rate takes the same course as in `run`. What comes out
    is to be served, and can only be evaluated on newer events: `evaluate` refuses
    questions whose answers it was trained on.

    Args:
        model: a `Recommender` trained by `fit`, which stays as it is.
        run: what `fit` gave.
        out: the run folder to write; None writes nothing.
        about: more entries for its `config.json`.
        overwrite: replace a finished run that `out` holds.

    Returns:
        a model of the same kind.

    Raises:
        DataError: the model ranks slates, is of a prepared log, or `run` is of no
            training; or as for `fit`.
    """
    if not hasattr(model, "check_training"):
        expect(model, (), "refit", "a trained Recommender, and what fit gave after it")
    expect(run, Run, "refit", "what fit gave after the model")
    split, config = model.split, run.training
    if split.slates is not None or split.sharded or config is None or not run.epochs:
        raise DataError(
            f"{split.name}: only a trained recommender of the next item, of a log in"
            " memory, can be trained on all events"
        )
    whole = split.with_all_in_training()
    fresh = type(model)(model.config, whole, config.seed, model.features)
    for name, codes in model.named_buffers():
        if ".codes_" in name:  # a loaded model has them, but no log to make them from
            own = fresh.get_buffer(name)
            own.resize_(codes.shape).copy_(codes)
    with processes(config.device) as group:
        about = dict(about or {}) | {"training": asdict(config), "on_all": True}
        folder = RunFolder(out, {}, about, writes=group.is_rank_0)
        with ExitStack() as held:
            with group.agreed():
                held.enter_context(folder.held())
                folder.open(False, overwrite)
            Trainer(fresh, whole, config, group, folder, only=run.best_epoch).train()
    return fresh


# One row an item, index 0 for padding: in a `Recommender`, and in a `Ranker`.
ITEM_ROWS = {
    "embedding.item.id.weight",
    "transition.item.weight",
    "output.bias",
    "item.id.weight",
    "bias",
}


def go_on(model: Any, log: Interactions | Split) -> Any:
    """A model for a grown log, which knows what this one has learned: a warm start.

    Whatever the old log held keeps its weights, whatever is new begins at the mean of
    its kind: a new item at the mean of the items' own vectors and biases, to which its
    attributes add theirs; a new category at the mean of its column's. Users need no
    weights: their histories are those of the new log. Numbers are scaled as before.
    `fit(grown, grown.split)` goes on from there, with its learning rate and the state
    of its optimizer anew; a tenth of the epochs may do. This model stays as it is.

    Args:
        model: a `Recommender` or `Ranker`; a baseline is counted anew.
        log: old and new events together, with the tables that the model reads; it is
            split as the model's was, by time at the usual shares. Or a split of them.

    Raises:
        DataError: the model's split is of another kind than leave-one-out or time (give
            a split), an attribute is of another kind than it was, or as for the split.
    """
    if not hasattr(model, "features"):
        expect(model, (), "go_on", "a model, and the grown log after it")
    if not isinstance(log, Split):
        require_log(log, "go_on")
    split = log if isinstance(log, Split) else _split_alike(log, model.split)
    gone = int((split.users.find(model.split.users.ids) == 0).sum())
    if gone:
        logger.warning(
            "%s: %d of the %d users that the model knows are not in this log, so that"
            " their histories end here; give old and new events together",
            split.name,
            gone,
            len(model.split.users),
        )
    if not hasattr(model, "config"):
        return type(model)(split, **model.options)
    fresh = type(model)(model.config, split)
    known = _grown_features(model.features, fresh.features)
    grown = type(model)(model.config, split, features=known)
    old, new = model.split.items, split.items
    rows = torch.from_numpy(np.append(0, old.find(new.ids))).long()
    learned, weights = model.state_dict(), grown.state_dict()
    for name, made in weights.items():
        was = learned.get(name)
        if was is None or ".codes_" in name or name in COUNTS:
            continue
        if name in ITEM_ROWS:
            mean, is_new = was[1:].mean(0), rows == 0
            is_new[0] = False
            weights[name] = was[rows]
            weights[name][is_new] = mean
        elif was.shape == made.shape:
            weights[name] = was
        else:  # vectors of a column's values, to which values were added
            mean = was[FIRST:].mean(0) if len(was) > FIRST else torch.zeros_like(was[0])
            weights[name] = torch.cat([was, mean.expand(len(made) - len(was), -1)])
    grown.load_state_dict(weights)
    return grown.to(model.device).train(model.training)


def _split_alike(log: Interactions, split: Split) -> Split:
    """A log divided as another was."""
    how = split.valid.protocol["split"]
    if how == "leave-one-out":
        return leave_one_out(log)
    if how == "time":
        return split_by_time(log)
    raise DataError(
        f"{log.name}: the model's split is by {how}; give a split of the log"
    )


def _grown_features(old: FeatureSet, new: FeatureSet) -> FeatureSet:
    """Features as learned before, with the values that are new behind their own."""

    def grown(was: Feature, now: Feature) -> Feature:
        if was.kind != now.kind:
            raise DataError(
                f"attribute '{was.name}': is {now.kind} in this log and was {was.kind};"
                " make it alike"
            )
        known = set(was.values)
        more = tuple(value for value in now.values if value not in known)
        return replace(was, values=was.values + more)

    parts = {}
    for part in fields(old):
        pairs = zip(getattr(old, part.name), getattr(new, part.name), strict=True)
        parts[part.name] = tuple(grown(was, now) for was, now in pairs)
    return FeatureSet(**parts)
