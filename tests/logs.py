"""What the tests of reading share: a file to read, and the one line that the reader of
a bad log sees."""

from pathlib import Path

import pytest

from attncore.errors import DataError
from attncore.interactions import read_interactions


def write(folder: Path, content: str | bytes, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fault(*args, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        read_interactions(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    return line
