"""One request and its answer on a connection: uvicorn's cycle with a short way for answers.

Belongs here: writing heads and pieces, saying that the client has left.
Does not belong here: which bytes are let in (`strict`), what is answered (the application).

The application finds the cycle in its scope under `extensions[FRONT]` and may then write without a coroutine for each
piece and without a task that waits for the client's leaving. Without it, or for other parts of the application, ASGI's
`send` and `receive` do the same. The head waits for the first piece, at most until the event loop's next turn, so that
both leave in one system call.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from ollama_router_server.protocol.request_head import RequestHead

if TYPE_CHECKING:
    from ollama_router_server.protocol.serving import ServingProtocol

__all__ = ["FRONT", "FastPath", "FrontCycle", "reset_on_close"]

FRONT: Final = "ollama_router.front"


def reset_on_close(transport: asyncio.BaseTransport, *, on: bool) -> None:
    """Have the kernel end a connection with RST in place of FIN, and drop what it holds, until told otherwise."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0))


class FastPath(Protocol):
    """What an ASGI application may have as its attribute `fast_path`: answers whole requests without a task."""

    def __call__(self, cycle: FrontCycle, head: RequestHead, body: bytes, /) -> bool:
        """Take a request and answer it through the cycle, now or later; False leaves it to ASGI, untouched."""


class FrontCycle(RequestResponseCycle):
    """What uvicorn's own cycle is to uvicorn; `scope` is there once the ASGI application runs.

    `on_leave` is called once if the client closes the connection before the answer is complete, `on_drained` when it
    has taken what was written. `method` is the request's, `client` the address it came from.

    HTTP/1.0 knows no chunks: an answer without a length ends there with the connection, and one that does not get to
    its end is reset, as nothing else would tell the two apart.
    """

    def __init__(
        self,
        front: ServingProtocol,
        method: str,
        version: str,
        *,
        keep_alive: bool,
        expect_100_continue: bool = False,
    ) -> None:
        self.method = method
        self._knows_chunks = version != "1.0"
        self._ends_with_connection = False
        self.client = front.client
        self.transport = front.transport
        self.flow = front.flow
        self.logger = front.logger
        self.access_logger = front.access_logger
        self.access_log = front.access_log
        self.default_headers = front.server_state.default_headers
        self.message_event = asyncio.Event()
        self.on_response = front.on_response_complete
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expect_100_continue
        self.body = bytearray()
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.chunked_encoding = None
        self.expected_content_length = 0
        self.on_leave: Callable[[], None] | None = None
        self.on_drained: Callable[[], None] | None = None
        self._front = front
        self._loop = front.loop
        self._head: bytes | None = None

    def run(self, answering: Callable[[], Awaitable[None]]) -> None:
        """Go on with a task, as uvicorn does for an application: one that fails or ends early cuts the connection."""

        async def application(_scope: Any, _receive: Any, _send: Any) -> None:
            await answering()

        self.more_body = False
        self.scope = self._front.scope
        self._front.start(self, application)

    def left(self) -> None:
        """The connection is gone."""
        told, self.on_leave, self.on_drained = self.on_leave, None, None
        if told is not None and not self.response_complete:
            told()

    async def drained(self) -> None:
        """Wait until the client has taken enough for more to be written."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], *, piece_follows: bool = False) -> None:
        """Begin the answer. Field names are in lower case. With `piece_follows` the caller has a piece in hand.

        Raises:
            RuntimeError: the answer has begun before, or a field holds a line end.
        """
        if self.response_started:
            raise RuntimeError("the answer has begun already")
        self.response_started = True
        self.waiting_for_100_continue = False
        fields = [*self.default_headers, *headers]
        named = dict(fields)
        if b"content-length" in named:
            self.expected_content_length = int(named[b"content-length"])
            self.chunked_encoding = False
        if b"connection" in named and b"close" in named[b"connection"].lower():
            self.keep_alive = False
            fields = [field for field in fields if field[0] != b"connection"]
        lines = [STATUS_LINE[status], *[b"%b: %b\r\n" % field for field in fields]]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.method != "HEAD" and status not in {204, 304}:
            if self._knows_chunks:
                self.chunked_encoding = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self._ends_with_connection = True
                reset_on_close(self.transport, on=True)
        head = b"".join((*lines, b"\r\n"))
        if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
            raise RuntimeError("a header field of the answer holds a line end")
        self._head = head
        if not piece_follows:
            self._loop.call_soon(self._flush)

    def put(self, piece: bytes, *, more: bool = True) -> bool:
        """Write a piece of the body; says whether `drained` should be awaited before the next.

        Raises:
            RuntimeError: the answer has not begun, is complete, or its length is not the one it declared.
        """
        if self.disconnected:
            return False
        if not self.response_started or self.response_complete:
            raise RuntimeError("there is no answer under way")
        data = self._framed(piece, more=more)
        if self._head is not None:
            data, self._head = self._head + data, None
        if data:
            self.transport.write(data)
        if not more:
            self._complete()
        return self.flow.write_paused

    async def receive(self) -> Any:
        """As ASGI has it; the client is read only while somebody waits here, so one segment is held and no more."""
        self._front.body_wanted()
        message = await super().receive()
        if self.more_body:
            self.flow.pause_reading()
        return message

    async def send(self, message: Any) -> None:
        """ASGI's way to do the same."""
        await self.drained()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self.begin(message["status"], tuple(message.get("headers", ())))
        else:
            self.put(message.get("body", b""), more=message.get("more_body", False))

    def _framed(self, piece: bytes, *, more: bool) -> bytes:
        if self.method == "HEAD":
            self.expected_content_length = 0
            return b""
        if self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
            return chunk if more else chunk + b"0\r\n\r\n"
        if self._ends_with_connection:
            return piece
        self.expected_content_length -= len(piece)
        if self.expected_content_length < 0:
            raise RuntimeError("the answer is longer than its Content-Length")
        return piece

    def _complete(self) -> None:
        if self.expected_content_length != 0:
            raise RuntimeError("the answer is shorter than its Content-Length")
        self.response_complete = True
        self.message_event.set()
        if self._ends_with_connection:
            reset_on_close(self.transport, on=False)
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _flush(self) -> None:
        head, self._head = self._head, None
        if head is not None and not self.disconnected and not self.transport.is_closing():
            self.transport.write(head)
