"""A connection that is to be closed does not wait for a client that has stopped reading."""

from __future__ import annotations

import asyncio

import pytest

from support.eventually import eventually
from support.strict_front import connected, read_to_end, serve_front
from support.waiting import wait_until

pytestmark = pytest.mark.anyio

HELD = 1000
"""Bytes that wait for the client: fewer than the high-water mark, so that nobody else watches whether it reads."""


def get(path: bytes, *fields: bytes) -> bytes:
    """A request without a body."""
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"Host: a", *fields, b"", b""])


@pytest.mark.parametrize("request_bytes", [get(b"/unfinished"), get(b"/x", b"Connection: close")])
async def test_what_waits_for_the_client_is_dropped_after_write_stall(request_bytes: bytes) -> None:
    """An answer that is cut, and one after which the connection closes."""
    protocol, transport = connected(write_stall=0.02)
    transport.held = HELD
    protocol.data_received(request_bytes)
    await eventually(lambda: transport.aborted)
    protocol.connection_lost(None)


async def test_an_idle_connection_is_not_waited_for_at_shutdown() -> None:
    """Its last answer is complete, but not taken."""
    protocol, transport = connected(write_stall=0.02)
    transport.held = HELD
    protocol.data_received(get(b"/x"))
    await eventually(lambda: transport.written != b"")
    protocol.shutdown()
    await eventually(lambda: transport.aborted)
    protocol.connection_lost(None)


async def test_the_rest_below_the_low_water_mark_is_watched_too() -> None:
    """A client that reads until the transport resumes writing, and then stops again, is cut all the same."""
    protocol, transport = connected(write_stall=0.02)
    protocol.pause_writing()
    transport.held = HELD
    protocol.close()
    protocol.resume_writing()
    await eventually(lambda: transport.aborted)
    protocol.connection_lost(None)


async def test_an_application_goes_on_once_the_client_has_taken_enough() -> None:
    """A page or an export is not written into memory for a client that does not read."""
    protocol, transport = connected()
    protocol.pause_writing()
    protocol.data_received(get(b"/pieces"))
    for _ in range(30):
        await asyncio.sleep(0)
    assert transport.written == b""
    protocol.resume_writing()
    await eventually(lambda: b"three" in transport.written)
    protocol.connection_lost(None)


@pytest.mark.parametrize("also_shut_down", [False, True])
def test_no_client_is_sending_while_a_retiring_server_closes(*, also_shut_down: bool) -> None:
    """An answer that began before does not say that it is the last, so it is not: the next one is, and says so."""
    with serve_front() as front, front.connect() as sock:
        sock.sendall(get(b"/pause"))
        seen = b""
        while b"three" not in seen:
            seen += sock.recv(65536)
        (connection,) = front.server.server_state.connections
        front.bounds.retiring = True
        connection.retire()
        if also_shut_down:
            connection.shutdown()
        front.app.released.set()
        while not seen.endswith(b"0\r\n\r\n"):
            seen += sock.recv(65536)
        sock.sendall(get(b"/next"))
        last = read_to_end(sock)
    assert b"connection: close" not in seen
    assert last.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in last


def test_an_answer_that_begins_while_a_server_retires_is_the_last() -> None:
    """It says so, and the connection ends."""
    with serve_front() as front, front.connect() as sock:
        sock.sendall(get(b"/wait"))
        wait_until(lambda: bool(front.app.seen), "the request is under way")
        (connection,) = front.server.server_state.connections
        front.bounds.retiring = True
        connection.retire()
        front.app.released.set()
        assert b"connection: close" in read_to_end(sock)
