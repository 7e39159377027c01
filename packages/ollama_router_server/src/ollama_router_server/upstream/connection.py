"""One connection to one server: an asyncio protocol that carries one exchange at a time.

`start` begins an exchange; its listener polls `head_arrived` and `take`; `release` or `abort` ends it. One `Deadline`
holds all timeouts.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final, assert_never, cast

from ollama_router_core.errors import UpstreamDisconnected, UpstreamProtocolError, UpstreamTimeout
from ollama_router_server.http.deadline import Deadline
from ollama_router_server.upstream.http1 import ResponseParser, encode_head
from ollama_router_server.upstream.interface import Origin, UpstreamRequest
from ollama_router_server.upstream.pool import Pool
from ollama_router_server.upstream.request_writer import Phase, RequestWriter

__all__ = ["READ_SIZE", "Connection"]

READ_SIZE: Final = 32 * 1024
"""Size in bytes of the read buffer shared by all connections of one engine; see `Connection`."""

_READ_HIGH: Final = 32 * 1024
"""Reading pauses above this many bytes; with a last read of `READ_SIZE`, at most 64 KiB are buffered here.

The client side buffers 64 KiB before it applies backpressure, plus one such piece: 192 KiB per stream in total.
"""
_WRITE_HIGH: Final = 64 * 1024
"""The upload pauses above this many bytes, until the kernel has accepted everything."""


class Connection(asyncio.BufferedProtocol):
    """A connection that `Pool` keeps between exchanges.

    Args:
        origin: the server's origin.
        loop: the running loop.
        buffer: `READ_SIZE` bytes shared by all connections of one loop: each read is parsed before the next.
        pool: notified when the connection becomes idle, and when it is lost.
        keepalive: seconds that an idle connection is kept.
    """

    def __init__(
        self,
        origin: Origin,
        loop: asyncio.AbstractEventLoop,
        buffer: memoryview,
        pool: Pool[Connection],
        keepalive: float,
    ) -> None:
        self.origin = origin
        self.parser = ResponseParser()
        self.error: BaseException | None = None
        self.lost = False
        self._deadline: Deadline[Phase] = Deadline(loop, "first_byte", self._expire)
        self._buffer = buffer
        self._pool = pool
        self._keepalive = keepalive
        self._host_line = f"host: {origin.authority}\r\n".encode("ascii")
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._busy = True
        self._reused = False
        self._listener: Callable[[], None] | None = None
        self._read_paused = False
        self._writer = RequestWriter(origin.shown, loop, self._deadline, self.parser, self._fail)

    # the exchange -------------------------------------------------------------------------------------

    def start(self, request: UpstreamRequest, listener: Callable[[], None]) -> None:
        """Send a request; `listener` is called on its head, each piece, its end and a failure.

        Raises:
            ValueError: the request cannot be encoded; the connection is free again.
        """
        try:
            head = encode_head(request, self._host_line)
        except ValueError:
            self._give_back()
            raise
        self._listener = listener
        self._busy = True
        self._deadline.lift()  # lift the idle connection's deadline: an upload may last longer
        self.parser.begin(head_only=request.method == "HEAD")
        transport = self._transport
        if transport is None or transport.is_closing():
            self._fail(UpstreamDisconnected(f"{self.origin.shown} closed the connection", reused=self._reused))
        else:
            self._writer.begin(transport, request, head)

    def head_arrived(self) -> bool:
        """Return whether the response head is in `parser`; if so, lift the deadline until the body is polled.

        Raises:
            UpstreamError: the request failed.
            Exception: an error of the request's body.
        """
        if self.parser.status:
            self._deadline.lift()
            return True
        if self.error is not None:
            raise self.error
        return False

    def take(self) -> bytes:
        """Return what has arrived of the body; if nothing, return b"" and start the idle timeout.

        Raises:
            UpstreamError: the response failed, and everything before that has been taken.
        """
        parser = self.parser
        piece = parser.take()
        while parser.buffered:
            piece += parser.take()
        if not piece and not parser.complete:
            if self.error is not None:
                raise self.error
            if not self._deadline.is_set:  # else it is running: another poll must not extend it
                self._deadline.set(self._writer.timeouts.idle, "idle")
        else:
            self._deadline.lift()
        if self._read_paused:
            self._resume_reading()
        return piece

    def release(self) -> None:
        """End the exchange: keep the connection if the response is complete and it is reusable, else cut it."""
        self._listener = None
        parser = self.parser
        reusable = parser.complete and parser.keep_alive and self.error is None
        if not reusable or self._writer.unfinished or self._transport is None or self._transport.is_closing():
            self.abort()
            return
        if parser.buffered:
            parser.discard()
        self._give_back()

    def abort(self) -> None:
        """Close at once; waiters are woken and find the connection closed."""
        self._deadline.lift()
        if not self._busy:
            self._pool.forget(self)
        self._writer.stop()
        if self._transport is not None:
            self._transport.abort()

    def give_up(self, error: Exception) -> None:
        """Fail the request in flight, unless a byte of its response has arrived."""
        if self._busy and self.parser.untouched:
            self._fail(error)

    def usable(self) -> bool:
        """Return whether the server has neither closed nor sent anything since the last response.

        Polls the kernel, because the event loop may not have seen the end of the connection yet.
        """
        if self._transport is None or self._transport.is_closing():
            return False
        return self._poll is None or not self._poll.poll(0)

    def _give_back(self) -> None:
        self._busy = False
        self._reused = True
        self._listener = None
        if self._read_paused:
            self._resume_reading()
        self._deadline.set(self._keepalive, "keepalive")
        self._pool.put(self)

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._listener is not None:
            self._listener()

    # deadlines ----------------------------------------------------------------------------------------

    def _expire(self) -> None:
        phase = self._deadline.phase
        where = self.origin.shown
        match phase:
            case "send":
                if not self._writer.goes_on():
                    self._fail(UpstreamTimeout(f"{where} stopped reading the request", phase="send"))
            case "first_byte":
                self._fail(UpstreamTimeout(f"{where} did not begin to answer in time", phase="first_byte"))
            case "idle":
                self._fail(UpstreamTimeout(f"{where} fell silent in the middle of an answer", phase="idle"))
            case "keepalive":
                self.abort()
            case _:
                assert_never(phase)

    # asyncio's protocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the transport of the new connection."""
        transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from it
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_HIGH, low=0)
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        """Return the shared read buffer."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse received bytes and call the listener."""
        if not self._busy:
            self.abort()
            return
        parser = self.parser
        parser.feed(self._buffer[:nbytes])
        if parser.broken is not None:
            self._fail(UpstreamProtocolError(f"{self.origin.shown} sent bad HTTP: {parser.broken}"))
            return
        if parser.buffered > _READ_HIGH and not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()
        self._wake()

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._read_paused = False
            self._transport.resume_reading()

    def eof_received(self) -> None:
        """Complete a response without a length: the server has closed its side; asyncio closes the transport."""
        if self._busy:
            self.parser.feed_eof()
            self._wake()
        else:
            self.abort()

    def pause_writing(self) -> None:
        """Pause writing: the transport buffers more than `_WRITE_HIGH`."""
        self._writer.paused = True

    def resume_writing(self) -> None:
        """Resume writing: the kernel has accepted everything."""
        self._writer.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after a closed connection; an incomplete exchange fails."""
        if not self._busy:
            self._pool.forget(self)
        elif not self.parser.complete:
            how = "closed" if exc is None else "reset"
            error = UpstreamDisconnected(
                f"{self.origin.shown} {how} the connection before its answer was complete",
                reused=self._reused and self.parser.untouched,
                reset=exc is not None,
            )
            self._fail(error)
        self._deadline.close()
        self._transport = None
        self._poll = None
        self.lost = True
        self.parser.release()
        self._writer.close()
        self._pool.lost(self)
