"""One request and its response on a connection.

A `FrontApp` receives the cycle itself and is called back when it can read, write or has to end. Any other application,
and any request that a `FrontApp` does not take, uses ASGI's `receive` and `send`. The head is held until the first
piece, so that both are sent in one system call: at most until the application has nothing left to do or, under ASGI,
until the event loop's next iteration.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from ollama_router_server.http.answer_framing import AnswerFraming
from ollama_router_server.http.connection_context import ServerState
from ollama_router_server.http.field_lines import encode_fields
from ollama_router_server.http.flow_control import READ_HIGH_WATER, FlowControl
from ollama_router_server.http.request_head import RequestHead
from ollama_router_server.http.status_lines import STATUS_LINES

__all__ = ["FrontApp", "FrontCycle", "reset_on_close"]

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NOTHING: Final = b""
_FAILED: Final = b"Internal Server Error"

Fields = Sequence[tuple[bytes, bytes]]


def reset_on_close(transport: asyncio.BaseTransport, *, on: bool) -> None:
    """Switch whether the kernel closes the connection with RST in place of FIN and drops its send buffer."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0))


class Front(Protocol):
    """The connection of a cycle."""

    transport: asyncio.Transport
    flow: FlowControl
    loop: asyncio.AbstractEventLoop
    server_state: ServerState

    @property
    def client(self) -> tuple[str, int] | None:
        """The client's address."""

    def close(self) -> None:
        """Close once the client has read what was written; abort if it stops reading."""

    def on_response_complete(self) -> None:
        """Handle the end of a response."""

    def body_wanted(self) -> None:
        """Note that the application waits for more of the body."""


class FrontApp(Protocol):
    """An ASGI application that can also serve requests through their cycles, without a task."""

    def take(self, cycle: FrontCycle, head: RequestHead, /) -> bool:
        """Serve a request whose head has arrived; return False to leave it untouched to ASGI."""


class FrontCycle:
    """The counterpart of uvicorn's own cycle; `scope` is set only when the ASGI application runs.

    `on_leave` is called once if the client disconnects before the response is complete, `on_drained` when the client
    has read what was written, `on_body` when a piece or the end of the body has arrived.

    `method` is the request's method, `client` the client's address.

    A response that ends with its connection is reset if it is incomplete; the client could not tell otherwise.
    """

    __slots__ = (
        "_framing",
        "_front",
        "_has_message",
        "_head",
        "_message",
        "_version",
        "body",
        "client",
        "disconnected",
        "flow",
        "keep_alive",
        "method",
        "more_body",
        "on_body",
        "on_drained",
        "on_leave",
        "response_complete",
        "response_started",
        "scope",
        "transport",
        "waiting_for_100_continue",
    )

    scope: Any

    def __init__(
        self,
        front: Front,
        method: str,
        version: str,
        *,
        keep_alive: bool,
        expect_100_continue: bool = False,
    ) -> None:
        self.method = method
        self.client = front.client
        self.transport = front.transport
        self.flow = front.flow
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expect_100_continue
        self.body: bytes | bytearray = _NOTHING
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.on_leave: Callable[[], None] | None = None
        self.on_drained: Callable[[], None] | None = None
        self.on_body: Callable[[], None] | None = None
        self._version = version
        self._framing: AnswerFraming | None = None
        self._front = front
        self._head: bytes | None = None
        self._has_message = False  # whether `receive` has a message to return
        self._message: asyncio.Future[None] | None = None

    # called by the front ------------------------------------------------------------------------------

    def add_body(self, piece: bytes) -> None:
        """Append a piece of the body; stop reading from the client above the high-water mark."""
        if self.response_complete:
            return
        if not self.body:
            self.body = piece
        else:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)
            self.body += piece
        if len(self.body) > READ_HIGH_WATER:
            self.flow.pause_reading()
        self._wake()

    def body_complete(self) -> None:
        """Mark the body as complete."""
        if not self.response_complete:
            self.more_body = False
            self._wake()

    def disconnect(self) -> None:
        """Mark the client as disconnected: nothing more is read or written."""
        if not self.response_complete:
            self.disconnected = True
        self._wake()

    def left(self) -> None:
        """Call `on_leave`, unless the response is complete: the connection is gone."""
        on_leave, self.on_leave, self.on_drained, self.on_body = self.on_leave, None, None, None
        if on_leave is not None and not self.response_complete:
            on_leave()

    # the request --------------------------------------------------------------------------------------

    def want_body(self) -> None:
        """Request the body from the client; `on_body` is called as it arrives."""
        self._front.body_wanted()
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(_CONTINUE)
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()

    def take_body(self) -> bytes:
        """Return what has arrived of the body since the last call; `more_body` says whether more will follow."""
        body, self.body = bytes(self.body), _NOTHING
        if self.flow.read_paused:  # also after the end of the body, to see a disconnect
            self.call_soon(self._read_on)
        return body

    def _read_on(self) -> None:
        """Resume reading, an iteration later: uvloop would read megabytes of a body before it serves other clients."""
        if len(self.body) <= READ_HIGH_WATER:
            self.flow.resume_reading()

    def call_soon(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call back in the event loop's next iteration."""
        self._front.loop.call_soon(callback, *arguments)

    # the response -------------------------------------------------------------------------------------

    async def drained(self) -> None:
        """Wait until the transport accepts more data."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()

    def begin(self, status: int, headers: Fields) -> None:
        """Start the response; the head is sent with the first piece, or by `flush`. Field names are in lower case.

        Raises:
            RuntimeError: the response has already started.
            ValueError: a field contains a line end.
        """
        if self.response_started:
            raise RuntimeError("the answer has begun already")
        length: int | None = None
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
        fields = headers if self.keep_alive else [field for field in headers if field[0] != b"connection"]
        lines = encode_fields([*self._front.server_state.default_headers, *fields])
        self._framing = framing = AnswerFraming(self.method, status, length, self._version)
        if framing.ends_with_connection:
            reset_on_close(self.transport, on=True)
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        self._head = b"%b%b%b%b\r\n" % (STATUS_LINES[status], lines, closing, framing.field)
        self.response_started = True
        self.waiting_for_100_continue = False

    def put(self, piece: bytes, *, more: bool = True) -> bool:
        """Write a piece of the body; return whether to await `drained` before the next.

        Raises:
            RuntimeError: the response has not started, is complete, or does not match its declared length.
        """
        if self.disconnected:
            return False
        framing = self._framing
        if framing is None or self.response_complete:
            raise RuntimeError("there is no answer under way")
        data = framing.frame(piece, more=more)
        if self._head is not None:
            data, self._head = self._head + data, None
        if data:
            self.transport.write(data)
        if not more:
            self._complete(framing)
        return self.flow.write_paused

    def _complete(self, framing: AnswerFraming) -> None:
        framing.check_complete()
        self.response_complete = True
        self._wake()
        if framing.ends_with_connection:
            reset_on_close(self.transport, on=False)
        if not self.keep_alive:
            self._front.close()
        self._front.on_response_complete()

    def cut(self) -> None:
        """Abandon the response: send a 500 if it has not started, else close the connection."""
        if self.response_started or self.disconnected:
            self.flush()
            self._front.close()
            return
        length = b"%d" % len(_FAILED)
        fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", length)]
        self.begin(500, [*fields, (b"connection", b"close")])
        self.put(_FAILED, more=False)

    def flush(self) -> None:
        """Send the head if it is still held for the first piece."""
        head, self._head = self._head, None
        if head is not None and not self.disconnected and not self.transport.is_closing():
            self.transport.write(head)

    # ASGI ---------------------------------------------------------------------------------------------

    async def receive(self) -> Any:
        """Implement ASGI's `receive`; reads only while a caller waits, so that at most one segment is buffered."""
        self.want_body()
        if not self.disconnected and not self.response_complete:
            await self._wait_for_message()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), _NOTHING
        if self.more_body:
            self.flow.pause_reading()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        """Implement ASGI's `send` with `begin` and `put`."""
        await self.drained()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self.begin(message["status"], tuple(message.get("headers", ())))
            self._front.loop.call_soon(self.flush)
        else:
            self.put(message.get("body", b""), more=message.get("more_body", False))

    async def _wait_for_message(self) -> None:
        while not self._has_message:
            self._message = waiter = self._front.loop.create_future()
            await waiter
        self._has_message = False

    def _wake(self) -> None:
        self._has_message = True
        waiter, self._message = self._message, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
