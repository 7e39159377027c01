"""A connection that is to be closed does not wait for a client that has stopped reading."""

from __future__ import annotations

import pytest

from support.eventually import eventually
from support.strict_front import connected

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
