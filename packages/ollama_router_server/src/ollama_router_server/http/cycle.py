"""One request and its answer on a connection.

An application that is a `FrontApp` gets the cycle itself, and is called back when there is something to read, to write
or to end. For any other, and for what it does not take, there are ASGI's `receive` and `send`. The head waits for the
first piece, so that both leave in one system call: at most until the application has nothing to do any more, or under
ASGI until the event loop's next turn.
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
    """Have the kernel end a connection with RST in place of FIN, and drop what it holds, until told otherwise."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0))


class Front(Protocol):
    """The connection that a cycle is on."""

    transport: asyncio.Transport
    flow: FlowControl
    loop: asyncio.AbstractEventLoop
    server_state: ServerState

    @property
    def client(self) -> tuple[str, int] | None:
        """The client's address."""

    def close(self) -> None:
        """Close once the client has taken what was written; one that stops reading is cut."""

    def on_response_complete(self) -> None:
        """Note that an answer has ended."""

    def body_wanted(self) -> None:
        """Note that the application waits for more of a body."""


class FrontApp(Protocol):
    """What an ASGI application may be beside that: it answers requests through their cycles, without a task."""

    def take(self, cycle: FrontCycle, head: RequestHead, /) -> bool:
        """Take a request whose head has come; False leaves it to ASGI, untouched."""


class FrontCycle:
    """What uvicorn's own cycle is to uvicorn; `scope` is there once the ASGI application runs.

    `on_leave` is called once if the client closes the connection before the answer is complete, `on_drained` when it
    has taken what was written, `on_body` when a piece of the body has come, or its end.

    `method` is the request's, `client` the address it came from.

    An answer that ends with its connection is reset where it does not get to its end: nothing else tells the two apart.
    """

    __slots__ = (
        "_framing",
        "_front",
        "_head",
        "_message",
        "_news",
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
        self._news = False  # whether `receive` has something to say
        self._message: asyncio.Future[None] | None = None

    # what the front tells -----------------------------------------------------------------------------

    def add_body(self, piece: bytes) -> None:
        """Take a piece of the body; hold the client back where much is there that nobody has asked for."""
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
        """Note the end of the body."""
        if not self.response_complete:
            self.more_body = False
            self._wake()

    def disconnect(self) -> None:
        """Nothing more comes from the client, and nothing more goes to it."""
        if not self.response_complete:
            self.disconnected = True
        self._wake()

    def left(self) -> None:
        """Tell `on_leave` that the connection is gone, unless the answer is complete."""
        told, self.on_leave, self.on_drained, self.on_body = self.on_leave, None, None, None
        if told is not None and not self.response_complete:
            told()

    def body_arrived(self) -> None:
        """Tell `on_body` that the parser is done with a piece of the body, or with its end."""
        if self.on_body is not None:
            self.on_body()

    # the request --------------------------------------------------------------------------------------

    def want_body(self) -> None:
        """From now on the client has to send the body; `on_body` is called as it comes."""
        self._front.body_wanted()
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(_CONTINUE)
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()

    def take_body(self) -> bytes:
        """Take what has come of the body and was not taken yet; `more_body` says whether there will be more."""
        body, self.body = bytes(self.body), _NOTHING
        if self.flow.read_paused:  # after the body's end, too: the client's leaving is read
            self.call_soon(self._read_on)
        return body

    def _read_on(self) -> None:
        """Read from the client again; uvloop would read megabytes of one body before it looks after anybody else."""
        if len(self.body) <= READ_HIGH_WATER:
            self.flow.resume_reading()

    def call_soon(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call back in the next turn of the event loop."""
        self._front.loop.call_soon(callback, *arguments)

    # the answer ---------------------------------------------------------------------------------------

    async def drained(self) -> None:
        """Wait until the client has taken enough for more to be written."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()

    def begin(self, status: int, headers: Fields) -> None:
        """Begin the answer; its head is written with the first piece, or by `flush`. Field names are in lower case.

        Raises:
            RuntimeError: the answer has begun before.
            ValueError: a field holds a line end.
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
        """Write a piece of the body; says whether `drained` should be awaited before the next.

        Raises:
            RuntimeError: the answer has not begun, is complete, or its length is not the one it declared.
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
        """Nobody goes on with the answer: an error if it has not begun, else the end of the connection."""
        if self.response_started or self.disconnected:
            self.flush()
            self._front.close()
            return
        length = b"%d" % len(_FAILED)
        fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", length)]
        self.begin(500, [*fields, (b"connection", b"close")])
        self.put(_FAILED, more=False)

    def flush(self) -> None:
        """Write the head if it still waits for the first piece."""
        head, self._head = self._head, None
        if head is not None and not self.disconnected and not self.transport.is_closing():
            self.transport.write(head)

    # ASGI ---------------------------------------------------------------------------------------------

    async def receive(self) -> Any:
        """As ASGI has it; the client is read only while somebody waits here, so one segment is held and no more."""
        self.want_body()
        if not self.disconnected and not self.response_complete:
            await self._news_to_come()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), _NOTHING
        if self.more_body:
            self.flow.pause_reading()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        """ASGI's way to begin and to put."""
        await self.drained()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self.begin(message["status"], tuple(message.get("headers", ())))
            self._front.loop.call_soon(self.flush)
        else:
            self.put(message.get("body", b""), more=message.get("more_body", False))

    async def _news_to_come(self) -> None:
        while not self._news:
            self._message = waiter = self._front.loop.create_future()
            await waiter
        self._news = False

    def _wake(self) -> None:
        self._news = True
        waiter, self._message = self._message, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
