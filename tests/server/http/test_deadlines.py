"""How long a client may take, over real sockets: every slow client is let go, and is told so when it can be."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from support.pauses import stay_silent_in_thread
from support.strict_front import Front, read_to_end, serve_front
from support.waiting import wait_until

LIMITS = {"header_timeout": 0.4, "body_idle": 0.4, "write_stall": 0.4, "linger": 0.2}
POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    """A server with short limits on each event loop."""
    with serve_front(request.param, **LIMITS) as running:
        yield running


def drip(sock: socket.socket, data: bytes, every: float) -> threading.Thread:
    """Send one byte now and then until the other side has had enough."""

    def run() -> None:
        try:
            for byte in data:
                sock.sendall(bytes([byte]))
                stay_silent_in_thread(every)
        except OSError:
            return

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_silent_connection_is_closed(front: Front):
    """A connection without a byte costs nothing for long; there is nothing to answer."""
    with front.connect() as sock:
        assert read_to_end(sock) == b""


def test_dripping_head_is_answered_with_408(front: Front):
    """The deadline of a head is absolute: a byte now and then does not move it."""
    with front.connect() as sock:
        started = time.monotonic()
        thread = drip(sock, b"GET /x HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 1000, 0.05)
        answer = read_to_end(sock)
        assert time.monotonic() - started < 5
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        sock.close()
        thread.join()


def test_dripping_head_of_a_later_request_is_answered_with_408(front: Front):
    """Keep-alive and one byte is no way around the deadline."""
    with front.connect() as sock:
        sock.sendall(POST + b"Content-Length: 0\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        sock.sendall(b"G")
        assert read_to_end(sock).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("start", [b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"])
def test_body_that_stops_is_answered_with_408_and_cut(front: Front, start: bytes):
    """A silent upload ends: the client hears 408, the application that its client has gone, never a short body."""
    before, cut = len(front.app.seen), front.app.cut
    with front.connect() as sock:
        sock.sendall(POST + start)
        assert read_to_end(sock).startswith(b"HTTP/1.1 408 ")
    wait_until(lambda: front.app.cut == cut + 1, "the application hears of it")
    assert len(front.app.seen) == before


def test_slow_but_steady_body_is_taken(front: Front):
    """The deadline of a body is between bytes, not for the whole."""
    with front.connect() as sock:
        sock.sendall(POST + b"Content-Length: 12\r\n\r\n")
        for _ in range(12):
            stay_silent_in_thread(0.08)
            sock.sendall(b"x")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_no_408_after_an_answer_has_begun(front: Front):
    """A second status line inside an answer would be taken for its body: the connection is cut instead."""
    with front.connect() as sock:
        sock.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        answer = read_to_end(sock)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"408" not in answer
    assert not answer.endswith(b"0\r\n\r\n")


def test_broken_chunk_after_an_answer_has_begun_cuts_the_connection(front: Front):
    """The same for a body whose framing breaks."""
    with front.connect() as sock:
        sock.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert b"200 OK" in sock.recv(15)
        sock.sendall(b"zz\r\n")
        answer = read_to_end(sock)
    assert b"HTTP/1.1 400" not in answer
    assert not answer.endswith(b"0\r\n\r\n")


def test_client_that_takes_nothing_is_cut(front: Front):
    """Slow read: an answer that the client does not take is not held for ever."""
    before = len(front.server.server_state.connections)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", front.port))
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sock.recv(10)
        wait_until(lambda: len(front.server.server_state.connections) <= before, "the connection is let go")
        assert len(read_to_end(sock)) < 4_194_304


def slow_reader(port: int, size: int | None) -> socket.socket:
    """A client that has asked for a large answer; `size` is what its kernel takes without being asked."""
    sock = socket.socket()
    if size is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    sock.settimeout(10)
    sock.connect(("127.0.0.1", port))
    sock.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    return sock


def test_client_that_takes_a_few_bytes_now_and_then_is_cut(front: Front):
    """A byte is no progress: who takes less than 512 bytes a second of what waits is let go."""
    before = len(front.server.server_state.connections)
    with slow_reader(front.port, 4096) as sock:
        deadline = time.monotonic() + 10
        while len(front.server.server_state.connections) > before or time.monotonic() < deadline - 9.5:
            assert time.monotonic() < deadline, "it is still held"
            with suppress(ConnectionError):
                sock.recv(4)
            stay_silent_in_thread(0.05)


def test_client_that_is_slow_but_goes_on_is_served_to_the_end(front: Front):
    """What counts is what the client takes, not whether the kernel has room for more, which comes in great leaps."""
    got = 0
    with slow_reader(front.port, None) as sock:
        started = time.monotonic()
        while time.monotonic() - started < 5 * LIMITS["write_stall"]:
            got += len(sock.recv(16_384))
            stay_silent_in_thread(0.02)
        while data := sock.recv(1 << 20):
            got += len(data)
            if got > 4_194_304:
                break
    assert got > 4_194_304


def test_application_that_thinks_is_not_a_slow_client(front: Front):
    """While the application works on a complete request no deadline runs, however long it takes."""
    front.app.released.clear()
    with front.connect() as sock:
        sock.sendall(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        sock.settimeout(1.0)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        front.app.released.set()
        sock.settimeout(10)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_connection_is_let_go_after_a_refusal_that_is_not_read(front: Front):
    """A refused client that goes on sending is not listened to for long."""
    with front.connect() as sock:
        thread = drip(sock, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n" + b"x" * 2000, 0.002)
        wait_until(lambda: not thread.is_alive(), "the connection is closed under the client")
        thread.join()
