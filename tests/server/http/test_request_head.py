"""The server's `protocol.request_head`: recognising a head that was let in before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_server.http.request_head import RequestHead, known_head

FIELDS = b"POST /api/chat HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nContent-Length: %d\r\nX-Last: 1\r\n\r\n"
HEAD = RequestHead("POST", b"/api/chat", [(b"host", b"a")], "1.1", keep_alive=True)


def test_a_head_that_differs_only_in_its_length_is_recognised() -> None:
    """The body is found by the new length, and what follows it stays."""
    known = known_head(FIELDS % 2, HEAD)
    assert known is not None
    data = FIELDS % 11 + b"hello world" + b"POST"
    begin, end = known.body(data, 0) or (0, 0)
    assert data[begin:end] == b"hello world"
    assert data[end:] == b"POST"


def test_a_body_that_is_not_all_there_is_left_to_the_parser() -> None:
    """So is an empty one: only the parser keeps a beginning until the rest comes."""
    known = known_head(FIELDS % 2, HEAD)
    assert known is not None
    assert known.body(FIELDS % 11 + b"hello", 0) is None
    assert known.body(FIELDS % 0, 0) is None


@given(st.binary(min_size=1, max_size=3), st.integers(min_value=0, max_value=len(FIELDS % 7) - 1))
def test_any_other_change_is_not_recognised(change: bytes, place: int) -> None:
    """Bytes changed anywhere but in the digits of the length make another head."""
    known = known_head(FIELDS % 7, HEAD)
    assert known is not None
    head = FIELDS % 7
    data = head[:place] + change + head[place + len(change) :] + b"1234567" * 200
    digits = data[len(known.before) : data.find(b"\r", len(known.before))]
    same = (
        data.startswith(known.before)
        and digits.isdigit()
        and data[len(known.before) + len(digits) :].startswith(known.after)
    )
    assert (known.body(data, 0) is not None) == (same and 0 < int(digits) <= 1400)


@given(st.binary(max_size=12))
def test_only_digits_are_a_length(text: bytes) -> None:
    """No sign, no blank, no underscore: what `int` would take and HTTP does not."""
    known = known_head(FIELDS % 7, HEAD)
    assert known is not None
    data = known.before + text + known.after + b"x" * 100
    good = text.isdigit() and 0 < int(text) <= 100
    assert (known.body(data, 0) is not None) == good


def test_heads_that_are_not_kept() -> None:
    """A head without a length, a long one, and one that closes the connection are parsed each time."""
    closing = RequestHead("POST", b"/", [], "1.1", keep_alive=False)
    assert known_head(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", HEAD) is None
    assert known_head(FIELDS % 7 + b"x" * 4096, HEAD) is None
    assert known_head(FIELDS % 7, closing) is None
