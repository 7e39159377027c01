"""The server's `upstream.known_answers`: an answer whose head came before is taken without the parser, and alike."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_server.upstream.framing import ResponseParser

DATE = b"Mon, 02 Nov 2026 10:00:00 GMT"
GO = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %b\r\nContent-Length: %d\r\n\r\n%b"
OTHERS = b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\ndate: %b\r\nx: 1\r\n\r\n%b"
BARE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"


def go(body: bytes, date: bytes = DATE) -> bytes:
    """An answer as Ollama sends it."""
    return GO % (date, len(body), body)


def primed(first: bytes) -> ResponseParser:
    """A parser that has read one answer whole."""
    parser = ResponseParser()
    parser.begin()
    parser.feed(first)
    assert parser.complete
    assert parser.known is None
    parser.discard()
    return parser


def read(parser: ResponseParser, answer: bytes) -> tuple[object, ...]:
    """All that a caller can learn from the next answer."""
    parser.begin()
    parser.feed(answer)
    keep_alive = parser.complete and parser.keep_alive
    body = parser.take() if parser.buffered else b""
    return parser.status, parser.headers, body, parser.complete, keep_alive, parser.broken is not None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (go(b"one"), go(b"one")),
        (go(b"one"), go(b"a longer one" * 9)),
        (go(b"one"), go(b"one", b"Tue, 03 Nov 2026 10:00:07 GMT")),
        (OTHERS % (2, DATE, b"no"), OTHERS % (3, DATE[:-5] + b"9 GMT", b"not")),
        (BARE % (2, b"ok"), BARE % (4, b"okay")),
    ],
)
def test_the_same_head_is_recognised(first: bytes, second: bytes) -> None:
    """With another length or date; fields, body and verdict are those that the parser finds."""
    parser = primed(first)
    assert read(parser, second) == read(primed(go(b"x")), second) == read(ResponseParser(), second)
    assert parser.known is not None


def test_it_is_the_same_object_for_whoever_keeps_something_with_it() -> None:
    """`note` and `length` of one head, as long as the connection brings no other one."""
    parser = primed(go(b"one"))
    read(parser, go(b"two"))
    first = parser.known
    assert first is not None
    first.note = b"kept"
    read(parser, go(b"three"))
    assert parser.known is first
    assert (first.note, first.length) == (b"kept", 5)


@pytest.mark.parametrize(
    "second",
    [
        go(b"whole")[:-1],
        go(b"whole") + b"H",
        go(b""),
        go(b"x", b"Mon, 02 Nov 2026 10:00:00 GM\n"),
        go(b"x", b"Mon, 02 Nov 2026\x0010:00:00 GMT"),
        go(b"x", b"today"),
        go(b"x").replace(b"Content-Length: 1", b"Content-Length: +1"),
        go(b"x").replace(b"Content-Length: 1", b"Content-Length: 1\r\nContent-Length: 1"),
        go(b"x").replace(b"Content-Length", b"Connection: close\r\nContent-Length"),
        go(b"x").replace(b"200", b"201"),
    ],
)
def test_what_differs_or_is_not_whole_is_left_to_the_parser(second: bytes) -> None:
    """And ends as it would have without an answer before it."""
    parser = primed(go(b"one"))
    assert read(parser, second) == read(ResponseParser(), second)
    assert parser.known is None


@given(change=st.binary(min_size=1, max_size=4), place=st.integers(min_value=0, max_value=len(go(b"body"))))
def test_any_change_is_judged_as_by_the_parser_alone(change: bytes, place: int) -> None:
    """Law: what was read before on a connection changes nothing about what an answer means."""
    answer = go(b"body")
    second = answer[:place] + change + answer[place + len(change) :]
    assert read(primed(answer), second) == read(ResponseParser(), second)


@given(cuts=st.lists(st.integers(min_value=1, max_value=len(go(b"body")) - 1), min_size=1, max_size=3))
def test_an_answer_in_pieces_is_the_same(cuts: list[int]) -> None:
    """Law: so does where its segments end."""
    parser, answer = primed(go(b"one")), go(b"body")
    parser.begin()
    edges = [0, *sorted(cuts), len(answer)]
    for start, end in itertools.pairwise(edges):
        parser.feed(answer[start:end])
    assert (parser.status, parser.take(), parser.complete, parser.keep_alive) == (200, b"body", True, True)


def test_heads_that_say_anything_of_the_connection_are_parsed_each_time() -> None:
    """Nothing is kept of them, nor of heads without a length."""
    for answer in (
        go(b"x").replace(b"Date", b"Keep-Alive: timeout=5\r\nDate"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + go(b"x"),
    ):
        parser = primed(answer)
        read(parser, answer)
        assert parser.known is None
