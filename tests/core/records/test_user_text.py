"""What users wrote fills neither a row nor a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.records.user_text import LONGEST_TEXT, shown, shown_within


@given(st.text())
def test_a_shown_text_is_short_and_printable(text: str) -> None:
    """Law: whatever it was; and what was both already is left alone."""
    assert shown(text).isprintable()
    assert len(shown(text)) <= LONGEST_TEXT
    if text.isprintable() and len(text) <= LONGEST_TEXT:
        assert shown(text) == text


def test_a_terminal_obeys_nothing() -> None:
    """Escapes are seen, not executed; a reversed reading order, too."""
    assert shown("a\x1b[2Jb\n\u202ec") == r"a\x1b[2Jb\n\u202ec"


def test_a_sentence_keeps_its_words() -> None:
    """The name in it is cut wherever it stands, blanks included; so is any word as long."""
    name = "m x" * 300
    assert shown_within(f"model '{name}' not found", name) == f"model '{shown(name)}' not found"
    cut = shown_within(f"the key {'k' * 5000!r} is read by nobody", None)
    assert cut.startswith("the key 'kkk")
    assert cut.endswith("… is read by nobody")
    assert len(shown_within("word " * 10_000, None)) <= 1000
