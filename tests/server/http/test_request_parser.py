"""The server's `http.request_parser`: what the bytes of a connection mean, without a connection."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_server.http.head import Refusal
from ollama_router_server.http.protocol_limits import Bounds, ProtocolLimits
from ollama_router_server.http.request_head import RequestHead
from ollama_router_server.http.request_parser import END, Event, RequestParser

GET = b"GET /x?y=1 HTTP/1.1\r\nHost: a\r\nX-One:  1 \r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKS = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
LAST = b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


def parser() -> RequestParser:
    """A new connection with the usual limits."""
    return RequestParser(Bounds(ProtocolLimits()))


def events(requests: RequestParser, *pieces: bytes) -> list[Event]:
    """All events that the pieces give; those of a body are joined."""
    found: list[Event] = []
    for piece in pieces:
        requests.feed(piece)
        while (event := requests.next_event()) is not None:
            if isinstance(event, bytes) and found and isinstance(found[-1], bytes):
                found[-1] += event
            else:
                found.append(event)
    return found


def test_a_head_is_an_event_with_names_in_lower_case() -> None:
    """A request without a body ends at once."""
    head, end = events(parser(), GET)
    assert head == RequestHead("GET", b"/x?y=1", [(b"host", b"a"), (b"x-one", b"1")], "1.1", keep_alive=True)
    assert end is END


@pytest.mark.parametrize("request_bytes", [POST, CHUNKS])
def test_a_body_is_its_bytes_without_framing(request_bytes: bytes) -> None:
    """Whether it has a length or comes in chunks."""
    _, body, end = events(parser(), request_bytes)
    assert (body, end) == (b"hello", END)


@given(st.lists(st.sampled_from([GET, POST, CHUNKS]), min_size=1, max_size=3), st.data())
def test_events_do_not_depend_on_segments(requests: list[bytes], data: st.DataObject) -> None:
    """Law: the same for every way to cut the bytes of a connection."""
    whole = b"".join(requests)
    places = sorted(data.draw(st.sets(st.integers(min_value=1, max_value=len(whole) - 1), max_size=8)))
    pieces = [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)]
    assert events(parser(), *pieces) == events(parser(), whole)


def test_nothing_follows_a_refusal() -> None:
    """Not even a good request in the same segment."""
    requests = parser()
    (refusal,) = events(requests, b"GET /x HTTP/1.1\r\n\r\n" + GET, GET)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400
    assert (requests.closed, requests.held, requests.in_body) == (True, 0, False)


def test_a_refusal_tells_whether_it_is_of_a_body() -> None:
    """What came of the body before is still an event."""
    requests = parser()
    head, body, refusal = events(requests, CHUNKS.replace(b"2\r\nlo", b"zz\r\nlo"))
    assert isinstance(head, RequestHead)
    assert body == b"hel"
    assert isinstance(refusal, Refusal)
    assert requests.in_body


def test_nothing_follows_the_last_request() -> None:
    """One that closes the connection; its events are still given."""
    requests = parser()
    requests.feed(LAST + GET)
    head = requests.next_event()
    assert isinstance(head, RequestHead)
    assert not head.keep_alive
    assert not requests.closed
    assert events(requests, GET) == [b"ok", END]
    assert requests.closed


def test_the_beginning_of_a_head_is_held() -> None:
    """Until the rest has come."""
    requests = parser()
    assert events(requests, GET[:10]) == []
    assert (requests.held, requests.between_requests) == (10, True)


@pytest.mark.parametrize("request_bytes", [POST, CHUNKS])
def test_a_segment_is_let_go_of_once_it_is_parsed(request_bytes: bytes) -> None:
    """Thousands of connections that wait must not keep what they received last."""
    requests = parser()
    segment = bytes(bytearray(request_bytes))
    references = sys.getrefcount(segment)
    requests.feed(segment)
    while not isinstance(requests.next_event(), bytes):
        pass
    requests.next_event()
    assert sys.getrefcount(segment) == references


def test_limits_may_change_between_heads() -> None:
    """The next head is judged by what the bounds say then."""
    bounds = Bounds(ProtocolLimits())
    requests = RequestParser(bounds)
    assert events(requests, GET)[-1] is END
    bounds.limits = ProtocolLimits(header_bytes=10)
    (refusal,) = events(requests, GET)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 414


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"])
@pytest.mark.parametrize("target", [b"/", b"example.org:443", b"*"])
def test_methods_of_proxies_and_debuggers_are_405(method: bytes, target: bytes) -> None:
    """Whatever they ask for, and without waiting for the rest of the head."""
    for rest in (b"Host: a\r\n\r\n", b"Ho"):
        (refusal,) = events(parser(), method + b" " + target + b" HTTP/1.1\r\n" + rest)
        assert isinstance(refusal, Refusal)
        assert refusal.status == 405
