"""Times in and out, sizes, cells: small rules of what a person types and reads."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_cli.arguments.times import parse_moment
from ollama_router_cli.commands.requests import _print_replay, _print_request
from ollama_router_cli.rendering.output import clean
from ollama_router_cli.rendering.tables import format_bytes, format_count, format_ms, print_table


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), (" 1w ", 604_800)]
)
def test_a_duration_means_so_long_ago(text, seconds):
    """Counted back from now."""
    assert parse_moment(text, now=1_000_000.0) == 1_000_000.0 - seconds


def test_an_end_lies_ahead():
    """Where a time to come is asked for, a span counts from now on."""
    assert parse_moment("30d", now=1_000_000.0, ahead=True) == 1_000_000.0 + 30 * 86_400


def test_a_date_is_local_and_an_offset_is_kept():
    """As people write them."""
    assert parse_moment("2026-01-31", now=0.0) == datetime(2026, 1, 31).timestamp()  # noqa: DTZ001 - local is meant
    assert parse_moment("2026-01-31T15:00+02:00", now=0.0) == datetime.fromisoformat("2026-01-31T13:00Z").timestamp()


@given(st.text(max_size=12))
def test_any_other_text_is_refused_in_words(text):
    """Never an error of another kind: a program of ours that is fed rubbish says what it wants."""
    with suppress(typer.BadParameter):
        assert isinstance(parse_moment(text, now=0.0), float)


@given(st.text())
def test_clean_leaves_nothing_that_moves_a_cursor(text):
    """What is printable stays, everything else is one question mark."""
    cleaned = clean(text)
    assert cleaned.isprintable()
    assert len(cleaned) == len(text)


@pytest.mark.parametrize(
    ("value", "text"), [(None, None), (0.4, "0 ms"), (870, "870 ms"), (4100, "4.1 s"), (125_000, "2 min 5 s")]
)
def test_durations_read_like_speech(value, text):
    """Two digits are enough for a person."""
    assert format_ms(value) == text


def test_sizes_and_counts():
    """Binary units; groups of three digits."""
    assert [format_bytes(512), format_bytes(4 * 1024**3 + 700 * 1024**2)] == ["512 B", "4.7 GiB"]
    assert [format_count(None), format_count(1234567)] == [None, "1,234,567"]


def test_a_piped_table_is_whole_plain_and_without_trailing_blanks(capsys):
    """A pipe has no width: cells are never cut, folded or coloured."""
    long = "x" * 300
    print_table(("name", "text"), [("refused", long), (None, "y")])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["name     text", f"refused  {long}", "-        y"]


def test_a_request_of_a_router_elsewhere_moves_no_cursor(capsys):
    """Its sentence and reason, and why it would go nowhere now, are another machine's texts."""
    _print_request({"sentence": "\x1b[2J", "reason": "\x1b]0;x\x07", "phases": [], "expected": None, "decision": None})
    _print_replay({"error": {"text": "\x1b[2J"}, "then": "\x1b[1A", "candidates": [], "strategies": {}})
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))
