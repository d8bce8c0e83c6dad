"""What an evaluation found: metrics with intervals over users, and whether one scorer is better than another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class Report:
    """What one evaluation found."""

    metrics: dict[
        str, float
    ]  # means over users; "coverage@k" is the share of the catalogue shown to anyone
    interval: dict[
        str, tuple[float, float]
    ]  # 95 % bootstrap over users, of each per-user metric
    per_user: dict[str, np.ndarray]  # float64, an entry per row of the holdout
    users: int  # rows evaluated
    items: int  # size of the catalogue
    split: str  # "valid" or "test"
    protocol: dict[
        str, Any
    ]  # how the questions were made; "questions" is a checksum of which they were

    def __str__(self) -> str:
        """One line per metric, with its interval."""
        lines = [f"{self.split}: {self.users:,} users, {self.items:,} items"]
        for name, value in self.metrics.items():
            bounds = (
                " [{:.4f}, {:.4f}]".format(*self.interval[name])
                if name in self.interval
                else ""
            )
            lines.append(f"{name:<12}{value:.4f}{bounds}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report as plain Python values, without the per-user figures."""
        report = {
            name: getattr(self, name)
            for name in ("split", "users", "items", "metrics", "protocol")
        }
        return report | {
            "interval": {name: list(bounds) for name, bounds in self.interval.items()}
        }


Reports = Report | Sequence[Report]  # one, or one per seed


@dataclass(frozen=True)
class Comparison:
    """A paired bootstrap of two scorers over the same users."""

    metric: str
    difference: float  # mean over users of a - b
    interval: tuple[float, float]  # 95 %, of the difference
    p_value: float  # two-sided: how often resampling moves the difference to the other side of zero
    users: int
    seeds: tuple[int, int]  # reports on either side

    def __str__(self) -> str:
        """One line; fewer than three seeds on both sides is called a tendency."""
        (low, high), (a, b) = self.interval, self.seeds
        note = (
            f"{self.users:,} users, {a} against {b}"
            f" seeds{', a tendency' if max(a, b) < 3 else ''}"
        )
        return (
            f"{self.metric}: {self.difference:+.4f} [{low:+.4f}, {high:+.4f}], p ="
            f" {self.p_value:.4f} ({note})"
        )


def bootstrap_interval(
    values: np.ndarray, resamples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile bootstrap interval of the mean over users (Efron 1979).

    Args:
        values: (users,) or (users, metrics); one draw of users serves all metrics.
        resamples, seed: how often users are drawn anew, with replacement, and what
            makes it repeatable.

    Returns:
        low and high, shaped like `values` without its users.
    """
    low, high = np.quantile(
        _resampled_means(values, resamples, seed), [0.025, 0.975], axis=0
    )
    return low, high


def by_group(
    report: Report, groups: Sequence[Any], metric: str = "ndcg@10"
) -> dict[Any, tuple[float, float, float]]:
    """A metric of a report for each group of its users: the mean, and its 95 % bootstrap interval.

    Args:
        report: what `evaluate` gave.
        groups: the group of each of its users, in the order of `report.per_user`.
        metric: any per-user metric.

    Raises:
        ValueError: no such metric, or not one group per user.
    """
    if metric not in report.per_user or len(groups) != report.users:
        raise ValueError(
            f"{len(groups)} groups and {metric!r}: need one group for each of"
            f" {report.users} users"
        )
    names, found = np.asarray(groups, dtype=object), {}
    for name in sorted(set(groups), key=str):
        figures = report.per_user[metric][names == name]
        low, high = bootstrap_interval(figures)
        found[name] = (float(figures.mean()), float(low), float(high))
    return found


def compare(
    a: Reports,
    b: Reports,
    metric: str = "ndcg@10",
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Is a better than b? Paired bootstrap over users of the difference a - b.

    Args:
        a, b: a report, or the reports of several seeds, averaged for each user first.
        metric: any per-user metric of the reports.
        resamples, seed: of the bootstrap; p is never below 2 / (resamples + 1).

    Raises:
        ValueError: no such metric, or reports that answer different questions.
    """
    sides = [[side] if isinstance(side, Report) else list(side) for side in (a, b)]
    if not all(sides):
        raise ValueError("compare needs at least one report on either side")
    first = sides[0][0]
    for report in sides[0] + sides[1]:
        if metric not in report.per_user:
            raise ValueError(
                f"no per-user metric {metric!r} in a report; it has"
                f" {', '.join(report.per_user)}"
            )
        if _questions(report) != _questions(first):
            pair = " and ".join(
                f"{r.split} of {r.users:,} users" for r in (first, report)
            )
            raise ValueError(
                f"reports answer different questions ({pair}); evaluate both on one"
                " holdout"
            )
    mean_a, mean_b = (
        np.mean([report.per_user[metric] for report in side], axis=0) for side in sides
    )
    difference = mean_a - mean_b
    means = _resampled_means(difference, resamples, seed)
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    p_value = (
        2 * (int(min((means <= 0).sum(), (means >= 0).sum())) + 1) / (resamples + 1)
    )
    seeds = (len(sides[0]), len(sides[1]))
    return Comparison(
        metric,
        float(difference.mean()),
        (low, high),
        min(1.0, p_value),
        first.users,
        seeds,
    )


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of `values` over users drawn with replacement, (resamples, ...)."""
    users = len(values)
    if users == 0 or resamples < 1:
        raise ValueError(
            f"a bootstrap of {users} users, {resamples} times; both must be 1 or more"
        )
    # PyTorch multiplies, since NumPy's own threads would wait for PyTorch's, which are
    # still spinning.
    figures, generator, means = (
        torch.as_tensor(values, dtype=torch.float64),
        np.random.default_rng(seed),
        [],
    )
    at_once = max(1, 200_000 // users)  # resamples whose counts fit a cache
    for start in range(0, resamples, at_once):
        row = np.arange(min(at_once, resamples - start))[:, None]
        drawn = generator.integers(users, size=(len(row), users)) + row * users
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        means.append(torch.from_numpy(times).double() @ figures / users)
    return torch.cat(means).numpy()


def _questions(report: Report) -> tuple[Any, ...]:
    protocol = {
        name: value for name, value in report.protocol.items() if name != "bootstrap"
    }
    return report.split, report.users, report.items, protocol
