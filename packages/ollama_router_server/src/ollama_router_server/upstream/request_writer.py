"""The sending side of a connection to a server: write requests at the server's pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

from ollama_router_core.errors import UpstreamDisconnected
from ollama_router_server.http.deadline import Deadline
from ollama_router_server.upstream.http1 import ResponseParser
from ollama_router_server.upstream.interface import Timeouts, UpstreamRequest
from ollama_router_server.upstream.upload import send_body

__all__ = ["Phase", "RequestWriter"]

_JOIN_LIMIT: Final = 64 * 1024
"""Maximum bytes of a body that is sent in one write with its head."""

Phase = Literal["send", "first_byte", "idle", "keepalive"]
"""The purpose of a connection's deadline; the first two belong to the sending side."""


class RequestWriter:
    """Write one request after another; the response timeout starts once the kernel has accepted all of a request.

    Args:
        shown: the server's name in error messages.
        loop: the running loop.
        deadline: the connection's deadline.
        answer: the response parser; the head may arrive before the request is sent.
        fail: called with the error that stops an upload.

    Attributes:
        paused: whether the transport's buffer is above its high-water mark.
        timeouts: of the current request.
    """

    __slots__ = (
        "_answer", "_deadline", "_draining", "_fail", "_loop", "_shown", "_transport", "_unsent",
        "_upload", "paused", "timeouts",
    )  # fmt: skip

    def __init__(
        self,
        shown: str,
        loop: asyncio.AbstractEventLoop,
        deadline: Deadline[Phase],
        answer: ResponseParser,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.paused = False
        self._shown = shown
        self._loop = loop
        self._deadline = deadline
        self._answer = answer
        self._fail = fail
        self.timeouts = Timeouts()
        self._transport: asyncio.Transport | None = None
        self._draining: asyncio.Future[None] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._unsent = 0

    def begin(self, transport: asyncio.Transport, request: UpstreamRequest, head: bytes) -> None:
        """Write a request; a task sends a streamed body."""
        self._transport = transport
        self.timeouts = request.timeouts
        self._upload = None
        body = request.body
        if not isinstance(body, bytes):
            transport.write(head)
            self._upload = self._loop.create_task(self._send_body(body, request.body_length))
        elif len(body) <= _JOIN_LIMIT:
            transport.write(head + body)
            self._sent()
        else:
            transport.write(head)
            transport.write(body)
            self._sent()

    @property
    def unfinished(self) -> bool:
        """Whether part of the last request is still to be sent."""
        return self.paused or (self._upload is not None and not self._upload.done())

    def stop(self) -> None:
        """Stop the upload."""
        if self._upload is not None:
            self._upload.cancel()

    def close(self) -> None:
        """Drop the lost connection."""
        self.stop()
        self._transport = None
        self._fail = lambda _: None

    def resume(self) -> None:
        """Continue: the kernel has accepted everything."""
        self.paused = False
        if self._draining is not None:
            if not self._draining.done():
                self._draining.set_result(None)
        elif not self._answer.status:
            self._deadline.set(self.timeouts.first_byte, "first_byte")

    def goes_on(self) -> bool:
        """Return whether the server read some of the request before the deadline; if so, restart the deadline."""
        if self._held() >= self._unsent:
            return False
        self._arm()
        return True

    async def _send_body(self, body: AsyncIterator[bytes], length: int | None) -> None:
        """Send a body as it arrives, concurrently with the wait for the response, which may arrive first."""
        try:
            await send_body(body, length, self._write, self._drained)
            if not self._answer.status:
                self._sent()
        except asyncio.CancelledError:
            self._fail(UpstreamDisconnected(f"the upload to {self._shown} was cut"))
            raise
        except Exception as error:  # noqa: BLE001  # `head_arrived` raises it
            self._fail(error)
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def _drained(self) -> None:
        """Wait until the kernel has accepted everything, if writing is paused."""
        if not self.paused:
            return
        if not self._answer.status:
            self._arm()
        self._draining = self._loop.create_future()
        try:
            await self._draining
        finally:
            self._draining = None
            if not self._answer.status:
                self._deadline.lift()

    def _sent(self) -> None:
        """Start the response timeout, or the send timeout while the kernel has not accepted everything."""
        if self.paused:
            self._arm()
        else:
            self._deadline.set(self.timeouts.first_byte, "first_byte")

    def _arm(self) -> None:
        self._unsent = self._held()
        self._deadline.set(self.timeouts.idle, "send")

    def _held(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()
