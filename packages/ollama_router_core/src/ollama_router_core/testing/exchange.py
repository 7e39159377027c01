"""One request and its response, as seen by the routes.

Contains the body, whole and streamed responses, and injected faults. The socket is in `wire`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from email.utils import formatdate
from http.client import responses
from typing import Any, Protocol
from urllib.parse import unquote

import h11

from ollama_router_core.testing.faults import (
    Answer,
    Cut,
    Delay,
    Drip,
    EndEarly,
    ExtraHeaders,
    Fault,
    Garbage,
    Reset,
    Silence,
    StreamError,
)
from ollama_router_core.testing.gojson import dumps
from ollama_router_core.testing.recording import RecordedRequest

__all__ = [
    "JSON",
    "JSON_UTF8",
    "NDJSON",
    "NO_CACHE",
    "SSE",
    "TEXT",
    "Exchange",
    "HangUp",
    "StreamEnded",
    "StreamFailed",
]

JSON = "application/json"
JSON_UTF8 = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
TEXT = "text/plain; charset=utf-8"
NO_CACHE = (("Cache-Control", "no-cache"), ("Connection", "keep-alive"))
"""Header fields of the streams of /v1/messages and /v1/responses."""

_GO_BUFFER = 2048  # Go adds a Content-Length only to responses up to this size


class HangUp(Exception):
    """Raised to end the connection, with an RST or a FIN."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("reset" if reset else "close")
        self.reset = reset


class StreamEnded(Exception):
    """Raised by a fault to end the stream, correctly framed, without its final message."""


class StreamFailed(Exception):
    """Raised by a fault to send an error message in the stream."""


class Channel(Protocol):
    """The interface of an exchange's connection."""

    async def next_event(self) -> Any:
        """Return the next h11 event of the client."""

    async def send_continue(self) -> None:
        """Send `100 Continue` if the client waits for it."""

    def frame(self, event: h11.Event) -> bytes:
        """Return the bytes of an h11 event."""

    async def write(self, data: bytes) -> None:
        """Write bytes to the socket."""


class Exchange:
    """One request and its response."""

    def __init__(self, *, connection: Channel, record: RecordedRequest, fault: Fault | None) -> None:
        self.record = record
        self.fault = fault
        self.path = unquote(record.path)
        self.query = record.target.partition("?")[2]
        self.request_complete = asyncio.Event()
        self.params: dict[str, str] = {}
        self._channel = connection
        self._chunks = 0
        self._stream_head: tuple[str, list[tuple[str, str]]] = (TEXT, [])

    @property
    def started(self) -> bool:
        """Whether the head of the response was sent."""
        return self.record.status is not None

    async def body(self) -> bytes:
        """Read the whole request body."""
        if not self.record.complete:
            await self._channel.send_continue()
        while not self.record.complete:
            event = await self._channel.next_event()
            if isinstance(event, h11.Data):
                self.record.body += event.data
                self._check_request_bytes()
            elif isinstance(event, h11.EndOfMessage):
                self.record.complete = True
                self.request_complete.set()
            else:
                raise HangUp(reset=False)
        return bytes(self.record.body)

    def _check_request_bytes(self) -> None:
        limit = self.fault.after_request_bytes if isinstance(self.fault, Reset) else None
        if limit is not None and len(self.record.body) >= limit:
            raise HangUp(reset=True)

    async def json(self, status: int, value: Any, *, content_type: str = JSON_UTF8, newline: bool = False) -> None:
        """Send a whole JSON response."""
        await self.whole(status, dumps(value) + (b"\n" if newline else b""), content_type)

    async def whole(
        self, status: int, body: bytes, content_type: str = "", headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Send a whole response: with a Content-Length if it is small, otherwise in one chunk, as Go does."""
        small = len(body) <= _GO_BUFFER
        framing = ("Content-Length", str(len(body))) if small else ("Transfer-Encoding", "chunked")
        head = self._head(status, content_type, [framing, *headers])
        if self.record.method == "HEAD":
            head = head.replace(b"Transfer-Encoding: chunked\r\n", b"")  # Go omits it without a body
        parts = [] if self.record.method == "HEAD" or not body else [self._channel.frame(h11.Data(data=body))]
        if self._breaks_body():
            await self._transmit(head + b"".join(parts)[: len(body) // 2])
            raise HangUp(reset=isinstance(self.fault, Reset))
        parts.append(self._channel.frame(h11.EndOfMessage()))
        await self._transmit(head + b"".join(parts))
        self.record.finished = True

    async def flushed_json(self, status: int, value: Any, headers: Iterable[tuple[str, str]], *, newline: bool) -> None:
        """Send a JSON response of a route that had started to stream: flushed, so without a length."""
        head = self._head(status, JSON, [("Transfer-Encoding", "chunked"), *headers])
        body = self._channel.frame(h11.Data(data=dumps(value) + (b"\n" if newline else b"")))
        await self._transmit(head + body + self._channel.frame(h11.EndOfMessage()))
        self.record.finished = True

    def _breaks_body(self) -> bool:
        return isinstance(self.fault, Cut) or (isinstance(self.fault, Reset) and self.fault.after_chunks is not None)

    def begin_stream(self, content_type: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Set the head of a streamed response; it is sent with the first chunk, as in Go."""
        self._stream_head = (content_type, [*headers, ("Transfer-Encoding", "chunked")])

    async def chunk(self, data: bytes) -> None:
        """Send and flush one chunk of a streamed response.

        Raises:
            HangUp, StreamEnded, StreamFailed: a fault stops the stream before this chunk.
        """
        self._check_chunk()
        self._chunks += 1
        await self._transmit(self._late_head() + self._channel.frame(h11.Data(data=data)))

    async def end_stream(self) -> None:
        """Send the terminating chunk."""
        await self._transmit(self._late_head() + self._channel.frame(h11.EndOfMessage()))
        self.record.finished = True

    def _late_head(self) -> bytes:
        if self.started:
            return b""
        content_type, headers = self._stream_head
        return self._head(200, content_type, headers)

    def _check_chunk(self) -> None:
        fault = self.fault
        if isinstance(fault, Cut | EndEarly | StreamError | Reset) and fault.after_chunks == self._chunks:
            if isinstance(fault, EndEarly):
                raise StreamEnded
            if isinstance(fault, StreamError):
                self.fault = None
                raise StreamFailed(fault.message)
            raise HangUp(reset=isinstance(fault, Reset))

    async def misbehave(self) -> bool:
        """Inject a fault that replaces or delays the response; return True if the response is complete."""
        fault = self.fault
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.seconds)
        elif isinstance(fault, Silence):
            await self.body()
            await asyncio.Event().wait()
        elif isinstance(fault, Garbage):
            await self.body()
            await self._channel.write(fault.data)
            raise HangUp(reset=False)
        elif isinstance(fault, Answer):
            await self.body()
            await self.whole(fault.status, fault.body, fault.content_type, fault.headers)
            return True
        elif isinstance(fault, Reset) and fault.after_chunks is None:
            await self.body()
            raise HangUp(reset=True)
        return False

    def _head(self, status: int, content_type: str, headers: Iterable[tuple[str, str]]) -> bytes:
        self.record.status = status
        every = [("Content-Type", content_type)] if content_type else []
        every += [("Date", formatdate(usegmt=True)), *headers]
        extra = self.fault.headers if isinstance(self.fault, ExtraHeaders) else ()
        if self.record.header("Expect") and self.record.header("Transfer-Encoding"):
            every.append(("Connection", "close"))  # Go's server does not read to the end of such a body
        response = h11.Response(status_code=status, headers=every, reason=responses.get(status, "").encode())
        head = self._channel.frame(response)
        raw = "".join(f"{name}: {value}\r\n" for name, value in extra).encode("latin-1")
        return head[:-2] + raw + head[-2:]

    async def _transmit(self, data: bytes) -> None:
        if not isinstance(self.fault, Drip):
            await self._channel.write(data)
            return
        for start in range(0, len(data), self.fault.size):
            await self._channel.write(data[start : start + self.fault.size])
            pause = self.fault.seconds
            await asyncio.sleep(pause() if callable(pause) else pause)
