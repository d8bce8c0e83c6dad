"""The book's own log is what its code makes, on every machine."""

from pathlib import Path

import bookshop

BOOK = Path(__file__).parent.parent / "book"


def test_the_bookshops_files_are_what_its_code_writes(tmp_path):
    bookshop.write(tmp_path / "data")
    for name in ("bookshop.csv", "books.csv"):
        assert (tmp_path / "data" / name).read_bytes() == (
            BOOK / "data" / name
        ).read_bytes()
