"""Twice the bytes of a connection are at most twice the work, on both sides of the router."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_router_core.errors import RouterError
from ollama_router_core.exchange.actions import ReadBody
from ollama_router_server.http.protocol_limits import Bounds, ProtocolLimits
from ollama_router_server.http.request_parser import RequestParser
from ollama_router_server.relay.bodies import decoded
from ollama_router_server.upstream.http1 import ResponseParser
from support.work import work

LARGE = Bounds(ProtocolLimits(header_bytes=1 << 24, target_bytes=1 << 24, header_lines=1 << 20))
POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"
SLACK = 1000


def requests(piece: int) -> Callable[[bytes], None]:
    """A client's bytes, so many at a time, at a front whose own limits do not help."""

    def read(data: bytes) -> None:
        parser = RequestParser(LARGE)
        for start in range(0, len(data), piece):
            parser.feed(data[start : start + piece])
            while parser.next_event() is not None:
                pass

    return read


def answer(data: bytes) -> None:
    """A server's bytes, 100 at a time."""
    parser = ResponseParser()
    parser.begin()
    for start in range(0, len(data), 100):
        parser.feed(data[start : start + 100])
        parser.take()


READERS: Mapping[str, Callable[[bytes], object]] = {
    "requests": requests(1000),
    "answer": answer,
    "zstd": lambda data: decoded(data, ReadBody(1 << 24, compressed=True)),
}
BEGINNINGS = [
    b"",
    POST,
    POST + b"X: ",
    POST + b"Transfer-Encoding: chunked\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n1;",
    POST + b"Content-Length: 1000000\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
]
UNITS = [
    b" ", b"\r\n", b"\n", b"a", b"a: b\r\n", b"\t", b"1\r\na\r\n", b"0001\r\na\r\n", b"1;x=y\r\na\r\n", b"0", b";a",
    b"\0", bytes.fromhex("28b52ffd2000010000"), b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60)
@given(
    beginning=st.sampled_from(BEGINNINGS),
    unit=st.sampled_from(UNITS) | st.binary(min_size=1, max_size=4),
    count=st.integers(500, 3000),
)
def test_twice_the_bytes_are_at_most_twice_the_work(name: str, beginning: bytes, unit: bytes, count: int) -> None:
    """The law, in calls and bytes touched: heads, lengths, chunks with and without extensions, frames."""

    def ran(times: int) -> None:
        with suppress(RouterError, ValueError):
            READERS[name](beginning + unit * times)

    ran(count)
    assert work(lambda: ran(2 * count)) <= 2.1 * work(lambda: ran(count)) + SLACK
