"""The protocol class that uvicorn runs for each connection.

The bytes of a connection are cut into heads and bodies before the parser sees them: a head is held until it is
whole, judged, and only then parsed, a body is fed up to its own end. So the verdict does not depend on segments,
there is one request at a time (what a client pipelines waits, and holds back the client), and nothing that follows
a refusal, or an answer that closes, is ever looked at.

    HEAD --whole and good--> SIZED or CHUNKED --last byte--> HEAD        (no body: HEAD again at once)
    any  --refused, deadline, Connection: close--> CLOSED                (bytes are thrown away)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Final, assert_never

import httptools

from ollama_router_server.http.cycle import FrontCycle
from ollama_router_server.http.head import (
    Refusal,
    check_fields,
    check_partial,
    check_target,
    too_large,
    without_upgrade,
)
from ollama_router_server.http.limits import Bounds
from ollama_router_server.http.request_head import RequestHead
from ollama_router_server.http.serving import ServingProtocol
from ollama_router_server.http.status_lines import STATUS_LINES

__all__ = ["StrictProtocol", "strict_protocol"]

_HEAD: Final = 0
_SIZED: Final = 1
_CHUNKED: Final = 2
_CLOSED: Final = 3

_BAD_HEAD: Final = Refusal(400, "the head is not valid HTTP/1.1")
_NO_TRACE: Final = Refusal(405, "TRACE would show fields that are for the router alone")
_BAD_BODY: Final = Refusal(400, "the body's framing is broken")
_HEAD_END: Final = b"\r\n\r\n"


class _StoppedError(Exception):
    """Stops httptools from inside a callback; why is in `StrictProtocol._refusal`, or it is `_upgrade`."""


class StrictProtocol(ServingProtocol):
    """A connection with bounds; `strict_protocol` is for others than the usual ones."""

    __slots__ = (
        "_ahead",
        "_held",
        "_keeps_alive",
        "_left",
        "_payload",
        "_quiet",
        "_raw",
        "_refusal",
        "_request_head",
        "_state",
        "_upgrade",
        "_version",
        "_whole",
        "expect_100_continue",
        "headers",
        "parser",
        "url",
    )

    def _prepare(self) -> None:
        super()._prepare()
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.expect_100_continue = False
        self._version = "1.1"
        self._keeps_alive = True
        self._state: int = _HEAD
        self._held = bytearray()
        self._left = 0
        self._raw = 0
        self._payload = 0
        self._quiet = 0
        self._refusal: Refusal | None = None
        self._upgrade = False
        self._ahead = 0
        self._whole: bytes | None = None
        self._request_head: RequestHead

    # asyncio's protocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected: its first head must come in time."""
        super().connection_made(transport)
        self._deadline.set(self.limits.header_timeout, "head")

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        if not self._held:
            self._consume(data)
            return
        if self._waits_for_answer():
            self._keep(data)
        else:
            self._held += data
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and with it every deadline."""
        self._state = _CLOSED
        self._held.clear()
        self._end_timers()
        cycle, self._cycle = self._cycle, None  # it holds us: without garbage to collect both go at once
        if cycle is not None:
            cycle.disconnect()
        super().connection_lost(exc)
        if cycle is not None:
            cycle.left()
        del self.parser  # it holds us, too

    # which bytes go where -----------------------------------------------------------------------------

    def _consume(self, data: bytes) -> None:
        place, size = 0, len(data)
        while place < size:
            state = self._state
            if state == _HEAD:
                if self._waits_for_answer():
                    self._keep(data[place:])
                    return
                place = self._take_head(data, place)
            elif state == _SIZED:
                place = self._take_sized(data, place)
            elif state == _CHUNKED:
                place = self._take_chunked(data, place)
            else:
                return
        if (self._state == _SIZED or self._state == _CHUNKED) and self._deadline.phase != "unwanted":  # noqa: PLR1714 - hot
            self._deadline.set(self.limits.body_idle, "body")
            if self._cycle is not None and self._cycle.body:
                self.flow.pause_reading()  # until the application asks for more

    def body_wanted(self) -> None:
        """The application waits for more of a body: from now on it has to come in time."""
        if self._deadline.phase == "body" and self._deadline.is_set:
            self._deadline.set(self.limits.body_idle, "body")

    def _keep(self, data: bytes) -> None:
        """Hold what follows a request until that is answered; much of it holds the client back too.

        Not at once, as a client that is not read is not seen to leave.
        """
        if self._held or data != b"\r\n":  # which old clients send after a body, and which means nothing
            self._held += data
            if len(self._held) > self.limits.header_bytes:
                self.flow.pause_reading()

    def _waits_for_answer(self) -> bool:
        cycle = self._cycle
        return self._state == _HEAD and cycle is not None and not cycle.response_complete

    def _take_head(self, data: bytes, place: int) -> int:
        start = place
        while data.startswith(b"\r\n", start):
            start += 2
        end = data.find(_HEAD_END, start)
        if end < 0:
            self._hold(data[place:], data[start:])
            return len(data)
        if end + 4 - place > self.limits.header_bytes:
            self._refuse(too_large(data[start : max(start, place + self.limits.header_bytes)]))
            return len(data)
        # llhttp skips line ends of its own before a method, and blanks after it.
        if not 65 <= data[start] <= 90 or data.count(b" ", start, data.find(b"\r", start)) != 2:
            self._refuse(_BAD_HEAD)
            return len(data)
        if data.startswith(b"TRACE ", start):
            self._refuse(_NO_TRACE)
            return len(data)
        self._deadline.lift()
        self._ahead = len(data) - end - 4
        head = data[start : end + 4]
        self._feed(head, _BAD_HEAD)
        if self._upgrade:
            self._upgrade = False
            self.parser = httptools.HttpRequestParser(self)
            self._feed(without_upgrade(head), _BAD_HEAD)
        if self._whole is not None:
            method = self.parser.get_method().decode("ascii")
            self._request_head = RequestHead(method, self.url, self.headers, self._version, self._keeps_alive)
        return end + 4

    def _hold(self, data: bytes, head: bytes) -> None:
        """Keep the beginning of a head until the rest comes."""
        refusal = check_partial(head, self.limits) if head else None
        if refusal is None and len(data) > self.limits.header_bytes:
            refusal = too_large(data[: self.limits.header_bytes].lstrip(b"\r\n"))
        if refusal is not None:
            self._refuse(refusal)
            return
        self._held += data
        if self._deadline.phase != "head" or not self._deadline.is_set:
            self._deadline.set(self.limits.header_timeout, "head")

    def _take_sized(self, data: bytes, place: int) -> int:
        piece = data[place : place + self._left]
        self._left -= len(piece)
        self._feed(piece, _BAD_BODY)
        if self._whole is not None:
            self._offer()
        return place + len(piece)

    def _take_chunked(self, data: bytes, place: int) -> int:
        """Feed up to where the body may end, which is always an empty line.

        The empty line may have begun in the last segment, so the first three bytes are fed one by one; and it may
        have begun among those three.
        """
        if place < 3:
            stop = place + 1
        else:
            end = data.find(_HEAD_END, place - 3)
            stop = len(data) if end < 0 else end + 4
        payload = self._payload
        self._raw += stop - place
        self._feed(data[place:stop], _BAD_BODY)
        self._quiet = self._quiet + stop - place if self._payload == payload else 0
        overhead = self._raw - self._payload
        if self._quiet > self.limits.header_bytes or overhead > self.limits.header_bytes + self._payload:
            self._refuse(Refusal(400, "more framing than body"))
        return stop

    def _feed(self, data: bytes, otherwise: Refusal) -> None:
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._upgrade:
                self._refuse(self._refusal or otherwise)

    # httptools' protocol ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of a head; fields after a body (trailers) are dropped."""
        if self._state == _HEAD:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """A head has been parsed: refuse it, or start the application.

        A request whose body lies in the same segment is first offered to the fast path, once the parser is done.
        """
        parser = self.parser
        self._version = version = parser.get_http_version()
        fields = self.headers
        named = dict(fields)
        self._refusal = check_target(self.url, self.limits) or check_fields(fields, named, version, self.limits)
        if self._refusal is not None:
            raise _StoppedError
        if parser.should_upgrade():
            self._upgrade = True
            raise _StoppedError
        if version == "1.1" and b"expect" in named:
            self.expect_100_continue = named[b"expect"].lower() == b"100-continue"
        self._keeps_alive = version != "1.0" and parser.should_keep_alive()
        length = named.get(b"content-length")
        if length is not None:
            self._left = int(length)
            self._state = _SIZED
            if 0 < self._left <= self._ahead and self._fast is not None and not self.expect_100_continue:
                self._whole = b""
                return
        elif b"transfer-encoding" in named:
            self._raw = self._payload = self._quiet = 0
            self._state = _CHUNKED
        self._cycle = cycle = FrontCycle(
            self,
            parser.get_method().decode("ascii"),
            version,
            keep_alive=self._keeps_alive,
            expect_100_continue=self.expect_100_continue,
        )
        self._start(cycle, self.url, fields, version)

    def on_body(self, body: bytes) -> None:
        """Bytes of a body."""
        self._payload += len(body)
        if self._whole is not None:
            self._whole += body
        elif self._cycle is not None:
            self._cycle.add_body(body)

    def on_message_complete(self) -> None:
        """A request has ended; after one that closes, nothing more is read."""
        keep = self.parser.should_keep_alive()
        self._state = _HEAD if keep else _CLOSED
        self._deadline.lift()
        if self._whole is not None:
            return
        cycle = self._cycle
        if cycle is None:
            return
        cycle.body_complete()
        if cycle.response_complete:
            self._deadline.set(self.timeout_keep_alive, "keepalive")

    def _offer(self) -> None:
        """Serve a request that the parser has seen whole."""
        body, self._whole = self._whole, None
        if self._state != _SIZED and body is not None:  # else the parser refused it
            self._serve(self._request_head, body)

    def on_response_complete(self) -> None:
        """An answer has ended: go on with what the client sent meanwhile, or wait for it."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._close()
            return
        self.flow.resume_reading()
        if self._held:
            self.loop.call_soon(self._go_on)
        elif self._state == _HEAD:
            self._deadline.set(self.timeout_keep_alive, "keepalive")
        else:
            self._deadline.set(self.limits.body_idle, "unwanted")

    def _go_on(self) -> None:
        if self._held and not self.transport.is_closing():
            data = bytes(self._held)
            self._held.clear()
            self._consume(data)

    # refusals and deadlines ---------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        """Tell the client why, unless an answer has begun, and close."""
        if self._state == _CLOSED:
            return
        in_body = self._state != _HEAD
        self._state = _CLOSED
        self._held.clear()
        cycle = self._cycle if in_body else None
        if cycle is not None:
            cycle.disconnect()
            if cycle.response_started:
                self.transport.abort()
                return
        self.transport.write(self._refusal_bytes(refusal))
        self._linger()

    def _refusal_bytes(self, refusal: Refusal) -> bytes:
        body = json.dumps({"error": refusal.text}).encode()
        defaults = [name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers]
        return b"".join(
            (
                STATUS_LINES[refusal.status],
                *defaults,
                b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
                b"connection: close\r\n\r\n",
                body,
            )
        )

    def _linger(self) -> None:
        """Close in the client's direction first: closing with bytes unread would destroy the answer."""
        if not self.transport.can_write_eof():
            self._close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._deadline.set(self.limits.linger, "linger")

    def _expire(self) -> None:
        if self.transport.is_closing():
            return
        phase = self._deadline.phase
        match phase:
            case "head" if self._held:
                self._refuse(Refusal(408, "the head of a request did not arrive in time"))
            case "body" if self.flow.read_paused or (self._cycle and self._cycle.waiting_for_100_continue):
                self._deadline.set(self.limits.body_idle, "body")  # the application is slow, not the client
            case "body":
                self._refuse(Refusal(408, "the body of a request stopped arriving"))
            case "head" | "keepalive" | "linger" | "unwanted":
                self._close()
            case _:
                assert_never(phase)

    def _close(self) -> None:
        """Close after what has been written, if the client takes it."""
        self._state = _CLOSED
        self.transport.close()
        if self._stall is None and self.transport.get_write_buffer_size():
            self._watch_writing()


def strict_protocol(bounds: Bounds) -> Callable[..., StrictProtocol]:
    """What makes protocols with these bounds, for `uvicorn.Config(http=...)`."""
    return partial(StrictProtocol, bounds=bounds)
