"""Bytes to lines and events, with a cap on what is held."""

from __future__ import annotations

import pytest

from ollama_router_core.errors import UpstreamError
from ollama_router_core.translate import StreamEventTooLarge
from ollama_router_core.translate.framing import EventData, Lines


def test_lines_end_in_lf_or_cr_lf_and_the_last_may_lack_it() -> None:
    """A server that forgets its last line's end is still understood."""
    lines = Lines()
    assert lines.feed(b"a\r\nb\n\n\nc\r") == [b"a", b"b"]
    assert lines.feed(b"\nd") == [b"c"]
    assert lines.end() == [b"d"]
    assert lines.end() == []


def test_data_of_events_is_joined_and_everything_else_left_out() -> None:
    """By the standard: names, ids, comments and unknown fields are no data; one space after the colon goes."""
    stream = b": ping\nevent: x\nid: 1\ndata: a\ndata:b\ndata\n\nretry: 5\n\ndatax: no\n\ndata:  c\r\n\r\n"
    assert EventData().feed(stream) == [b"a\nb\n", b" c"]


def test_an_event_needs_its_empty_line_until_the_stream_ends() -> None:
    """Half an event is not given before the rest can no longer come."""
    events = EventData()
    assert events.feed(b"data: a\n") == []
    assert events.end() == [b"a"]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_line_beyond_the_cap_is_an_error_after_what_came_before(size) -> None:
    """In whatever pieces it comes; a line of just the cap passes, with its CR LF."""
    stream = b"ok\n" + b"x" * 10 + b"\r\n" + b"y" * 11 + b"\n" + b"never\n"
    lines = Lines(10)
    seen = [line for start in range(0, len(stream), size) for line in lines.feed(stream[start : start + size])]
    with pytest.raises(StreamEventTooLarge):
        lines.check()
    assert seen[:2] == [b"ok", b"x" * 10]
    assert b"y" * 11 not in seen


def test_an_unfinished_line_beyond_the_cap_is_an_error_before_it_ends() -> None:
    """Memory stays bounded, whatever a server sends."""
    lines = Lines(10)
    lines.feed(b"x" * 10)
    lines.check()
    lines.feed(b"x" * 2)
    with pytest.raises(StreamEventTooLarge):
        lines.check()


@pytest.mark.parametrize("line", [b"data: 1234\n", b"data:\n", b"data\n"])
def test_an_event_of_many_lines_has_the_same_cap(line) -> None:
    """Many small lines, even empty ones, are not a way around it."""
    events = EventData(100)
    assert events.feed(line * 200) == []
    with pytest.raises(StreamEventTooLarge):
        events.check()


def test_the_error_is_an_upstream_error_with_its_own_code() -> None:
    """Who handles what servers do wrong handles this."""
    assert issubclass(StreamEventTooLarge, UpstreamError)
    assert (StreamEventTooLarge.code, StreamEventTooLarge.status_hint) == ("stream_event_too_large", 502)
