"""What goes wrong: mistakes that a reader can mend, told in one line."""

from __future__ import annotations

import os


class DataError(ValueError):
    """A mistake in the data that the reader can mend.

    Its text is one line and says how.
    """

    def __init__(self, text: str) -> None:
        # Names of columns and ids may hold line breaks.
        super().__init__(" ".join(text.splitlines()))


def one_line(text: object) -> str:
    """Any text as one line of at most 200 characters."""
    return " ".join(str(text).split())[:200]


def expect(
    value: object, kinds: type | tuple[type, ...], name: str, instead: str
) -> None:
    """Raise DataError unless `value` is of one of some kinds.

    Args:
        value: what was given.
        kinds: what it may be an instance of.
        name: what it was given as.
        instead: what to give.
    """
    if not isinstance(value, kinds):
        plain = value is None or isinstance(value, str | int | float)
        kind = type(value).__name__
        shown = repr(value) if plain else f"{'an' if kind[0] in 'AEIO' else 'a'} {kind}"
        raise DataError(f"{name}: {one_line(shown)} was given; give {instead}")


def expect_path(value: object, name: str, instead: str = "a path") -> None:
    """Raise DataError unless `value` names a file or a folder; as `expect`."""
    expect(value, (str, os.PathLike), name, instead)
