"""The book's own log is what its code makes, on every machine."""

import importlib.util
from pathlib import Path

BOOK = Path(__file__).parent.parent / "book"
SPEC = importlib.util.spec_from_file_location("bookshop", BOOK / "bookshop.py")
bookshop = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bookshop)


def test_the_bookshops_files_are_what_its_code_writes(tmp_path):
    bookshop.write(tmp_path / "data")
    for name in ("bookshop.csv", "books.csv"):
        assert (tmp_path / "data" / name).read_bytes() == (BOOK / "data" / name).read_bytes()
