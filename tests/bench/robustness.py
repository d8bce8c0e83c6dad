"""What becomes of a ranking when the history changes: `python tests/bench/robustness.py
[RECIPE ...] [--seeds 0 1 2]`.

The models are those of `classic.py`, trained if they are not there yet. Each is asked
ML-100K's test questions again and again, with only the history changed: cut to its
newest events, without its older or newer half, shuffled, or with a share of its events
replaced by items drawn at random. The candidates stay those of the true history. All
goes into `results/robustness.json`: NDCG@10, what share of the untouched ranking's is
kept, and 95 % intervals of both, from one bootstrap of users that serves every figure,
so that differences are paired. A recipe that was measured with as many seeds is not
measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from classic import DATA, trained
from quality import RESULTS
from torch import Tensor

import attncore as ac
from attncore.evaluation import Scorer
from attncore.sequences import Histories
from attncore.splits import Holdout, Split

BASELINES: dict[str, Callable[[Split], Scorer]] = {
    "popularity": ac.baselines.Popularity,
    "markov-chain": ac.baselines.MarkovChain,
}
NEWEST = (1, 2, 5, 10, 20, 50, 100, 200)
NOISE = (0.1, 0.2, 0.3, 0.4, 0.5)
DRAWS = 3  # times that chance is asked, wherever it takes part
RESAMPLES = 2000

Change = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def newest(count: int) -> Change:
    """Keep the newest `count` events."""
    return lambda items, target, rng: items[-count:]


def halved(which: str) -> Change:
    """Keep the older, the newer or a random half, in order."""

    def change(items: np.ndarray, target: int, rng: np.random.Generator) -> np.ndarray:
        half = len(items) // 2
        if which == "random":
            return items[np.sort(rng.permutation(len(items))[:half])]
        return items[:half] if which == "older" else items[len(items) - half :]

    return change


def replaced(share: float, catalogue: int) -> Change:
    """Replace a share of the events, at random places, by items drawn evenly, but never
    by the answer."""

    def change(items: np.ndarray, target: int, rng: np.random.Generator) -> np.ndarray:
        items = items.copy()
        places = rng.permutation(len(items))[: round(share * len(items))]
        # One item fewer: those from the answer on move up.
        drawn = rng.integers(1, catalogue, len(places))
        items[places] = drawn + (drawn >= target)
        return items

    return change


def shuffled(items: np.ndarray, target: int, rng: np.random.Generator) -> np.ndarray:
    """Forget the order."""
    return rng.permutation(items)


def changes(catalogue: int) -> dict[str, Change]:
    """Every change by its name."""
    found: dict[str, Change] = {f"newest {count}": newest(count) for count in NEWEST}
    found |= {f"{which} half": halved(which) for which in ("older", "newer", "random")}
    found |= {"shuffled": shuffled}
    return found | {f"noise {share}": replaced(share, catalogue) for share in NOISE}


class Told:
    """A scorer that is told another history than the true one.

    Args:
        scorer: who answers.
        holdout: the true questions.
        told: a history for each of them.
    """

    def __init__(self, scorer: Scorer, holdout: Holdout, told: Histories) -> None:
        self.scorer, self.told = scorer, told
        self.row_of = {int(user): row for row, user in enumerate(holdout.users)}

    def score(self, histories: Histories, users: np.ndarray | None = None) -> Tensor:
        """Scores after what was told of the same users."""
        assert users is not None
        rows = np.array([self.row_of[int(user)] for user in users])
        return self.scorer.score(self.told.take(rows), users)


def changed_ndcg(
    scorer: Scorer, holdout: Holdout, change: Change, draw: int
) -> np.ndarray:
    """Each user's NDCG@10 after a change; the draw decides whatever is left to chance,
    alike for all scorers."""
    rng = np.random.default_rng(draw)
    rows = [
        change(holdout.histories[row], int(holdout.targets[row]), rng)
        for row in range(len(holdout))
    ]
    told = Told(scorer, holdout, Histories.from_lists(rows))
    return ac.evaluate(told, holdout, k=10, bootstrap=0).per_user["ndcg@10"]


def resampled(users: int) -> np.ndarray:
    """How often each user is drawn in each resample, as shares, (resamples, users)."""
    return (
        np.random.default_rng(0).multinomial(
            users, np.full(users, 1 / users), RESAMPLES
        )
        / users
    )


def with_interval(value: float, samples: np.ndarray) -> dict[str, Any]:
    """A figure and its 95 % interval."""
    return {"value": value, "interval": np.quantile(samples, [0.025, 0.975]).tolist()}


def measure(
    scorers: list[Scorer], holdout: Holdout, shares: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What one recipe does, over its seeds: the figures, and the resampled shares kept,
    by change."""
    reports = [ac.evaluate(scorer, holdout, bootstrap=0) for scorer in scorers]
    shown = ("ndcg@10", "hr@10", "hr@1", "novelty@10", "coverage@10")
    metrics = {
        name: float(np.mean([report.metrics[name] for report in reports]))
        for name in shown
    }
    whole = np.mean([report.per_user["ndcg@10"] for report in reports], axis=0)
    sampled = shares @ whole
    found: dict[str, Any] = {
        "metrics": metrics,
        "whole": with_interval(whole.mean(), sampled),
        "changed": {},
    }
    kept: dict[str, np.ndarray] = {}
    for name, change in changes(len(holdout.item_counts)).items():
        draws = DRAWS if name.split()[0] in ("noise", "random", "shuffled") else 1
        runs = [
            changed_ndcg(scorer, holdout, change, draw)
            for scorer in scorers
            for draw in range(draws)
        ]
        after = np.mean(runs, axis=0)
        kept[name] = shares @ after / sampled
        found["changed"][name] = {
            "ndcg@10": with_interval(after.mean(), shares @ after),
            "kept": with_interval(after.mean() / whole.mean(), kept[name]),
        }
    lengths = holdout.histories.lengths
    edges = np.quantile(lengths, [0.25, 0.5, 0.75])
    found["by_length"] = []
    for quarter in range(4):
        rows = np.searchsorted(edges, lengths, side="left") == quarter
        samples = (shares[:, rows] @ whole[rows]) / shares[:, rows].sum(1)
        group = {
            "from": int(lengths[rows].min()),
            "to": int(lengths[rows].max()),
            "users": int(rows.sum()),
        }
        found["by_length"].append(group | with_interval(whole[rows].mean(), samples))
    return found, kept


def main() -> None:
    """Measure all recipes, and compare the shares that they keep with those of the
    chain."""
    known = [*BASELINES, "mean-classic", "lstm-classic", "self-classic"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "recipes", nargs="*", default=known, metavar="RECIPE", help=", ".join(known)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    if unknown := set(args.recipes) - set(known):
        parser.error(
            f"unknown recipe {', '.join(sorted(unknown))}; choose from"
            f" {', '.join(known)}"
        )
    split = ac.leave_one_out(ac.datasets.load(DATA))
    shares, path = resampled(len(split.test)), RESULTS / "robustness.json"
    found: dict[str, Any] = {
        "data": DATA,
        "split": "test",
        "users": len(split.test),
        "draws": DRAWS,
    }
    found["command"] = "python tests/bench/robustness.py"
    found["recipes"] = (
        json.loads(path.read_text(encoding="utf-8"))["recipes"] if path.exists() else {}
    )
    chain, chain_kept = measure([BASELINES["markov-chain"](split)], split.test, shares)
    for recipe in args.recipes:
        seeds = [0] if recipe in BASELINES else args.seeds
        if found["recipes"].get(recipe, {}).get("seeds") == len(seeds):
            continue
        scorers = [
            (
                BASELINES[recipe](split)
                if recipe in BASELINES
                else trained(recipe, s, split)[0]
            )
            for s in seeds
        ]
        one, kept = measure(scorers, split.test, shares)
        # Above 0: it keeps a larger share than the chain does.
        for (
            name,
            samples,
        ) in kept.items():
            apart = (
                one["changed"][name]["kept"]["value"]
                - chain["changed"][name]["kept"]["value"]
            )
            one["changed"][name]["kept_above_chain"] = with_interval(
                apart, samples - chain_kept[name]
            )
        found["recipes"][recipe] = one | {"seeds": len(seeds)}
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{recipe}: NDCG@10 {one['whole']['value']:.4f}", flush=True)


if __name__ == "__main__":
    main()
