"""What goes wrong: mistakes that a reader can mend, told in one line."""

from __future__ import annotations


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
