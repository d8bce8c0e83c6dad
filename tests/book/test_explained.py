"""Facts about book/explained.py: chapters are found by what they show and say."""

from pathlib import Path

import explained

import attncore

ROOT = Path(__file__).parent.parent.parent


def test_what_shows_code_explains_and_what_names_it_uses():
    explain, use = explained.chapters_of("MultiHeadAttention")
    assert explain == ["04_attention_layer"]
    assert "04_attention_layer" not in use
    assert explained.chapters_of("attend")[0] == ["02_query_key_value"]
    assert explained.chapters_of("no_such_name") == ([], [])


def test_the_chapters_stand_in_the_order_of_the_book():
    pages = list(explained.chapters())
    assert (
        pages.index("02_query_key_value")
        < pages.index("11_evaluating")
        < pages.index("20_scoreboard")
    )


def test_the_functions_of_the_package_are_used_in_some_chapter():
    functions = [
        n for n in attncore.__all__ if n.islower() and callable(getattr(attncore, n))
    ]
    assert not [n for n in functions if explained.chapters_of(n) == ([], [])]


def test_a_docstring_ends_with_its_chapters():
    lines = ["Attend."]
    explained.add_chapters(
        None, "function", "attncore.attention.attend", None, None, lines
    )
    assert lines[-2].startswith(
        "Explained in :doc:`/book/02_query_key_value`. Used in :doc:`/book/"
    )
    explained.add_chapters(
        None, "module", "attncore.attention", None, None, lines := ["Attention."]
    )
    assert lines == ["Attention."]
