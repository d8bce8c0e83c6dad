"""Checks that every configuration shares: a wrong value fails with what was given and what is allowed."""

from __future__ import annotations

from typing import Any, get_args


def check_choices(config: Any, choices: dict[str, Any]) -> None:
    """Raise ValueError unless each named field holds one of its Literal's values."""
    for name, literal in choices.items():
        value, allowed = getattr(config, name), get_args(literal)
        if value not in allowed:
            raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(str, allowed))}")


def check_range(config: Any, name: str, low: float, high: float | None) -> None:
    """Raise ValueError unless the named field is a number from `low` to `high`."""
    value = getattr(config, name)
    if not isinstance(value, int | float) or not low <= value <= (float("inf") if high is None else high):
        raise ValueError(
            f"{name}={value!r}: must be {f'at least {low}' if high is None else f'from {low} to {high}'}"
        )
