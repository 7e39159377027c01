"""The protocol that uvicorn runs for each connection: deadlines and flow control around `request_parser`.

Requests are served one at a time; pipelined ones wait, with backpressure on the client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, assert_never, cast

from ollama_router_server.http.connection_context import Addresses, ServerConfig, ServerState
from ollama_router_server.http.cycle import FrontCycle
from ollama_router_server.http.deadline import Deadline
from ollama_router_server.http.dispatcher import Dispatcher
from ollama_router_server.http.field_lines import encode_fields
from ollama_router_server.http.flow_control import FlowControl
from ollama_router_server.http.head import Refusal
from ollama_router_server.http.protocol_limits import USUAL_BOUNDS, Bounds
from ollama_router_server.http.request_head import RequestHead
from ollama_router_server.http.request_parser import END, RequestParser
from ollama_router_server.http.send_stall import SendStallWatch
from ollama_router_server.http.status_lines import STATUS_LINES

__all__ = ["StrictProtocol", "strict_protocol"]

_ANOTHER_TRY = (b"retry-after", b"1")
_NO_OTHER_TRY = (b"x-should-retry", b"false")


_METHODS = b"GET, HEAD, POST, DELETE"


Phase = Literal["head", "body", "unwanted", "keepalive", "linger"]
"""The purpose of a deadline; `unwanted` is the rest of a body whose response is complete."""


class StrictProtocol(asyncio.Protocol):
    """A client's connection; `strict_protocol` binds other bounds than the defaults."""

    __slots__ = (
        "_addresses",
        "_bounds",
        "_cycle",
        "_deadline",
        "_dispatcher",
        "_requests",
        "_stall",
        "flow",
        "loop",
        "server_state",
        "timeout_keep_alive",
        "transport",
    )

    transport: asyncio.Transport
    flow: FlowControl
    _addresses: Addresses
    _stall: SendStallWatch

    def __init__(
        self,
        config: ServerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        bounds: Bounds = USUAL_BOUNDS,
    ) -> None:
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.timeout_keep_alive = config.timeout_keep_alive
        self._bounds = bounds
        self._deadline: Deadline[Phase] = Deadline(self.loop, "head", self._expire)
        self._cycle: FrontCycle | None = None
        self._dispatcher = Dispatcher(config.loaded_app, app_state, server_state, self.loop)
        self._requests = RequestParser(bounds)

    @property
    def client(self) -> tuple[str, int] | None:
        """The client's address."""
        return self._addresses.client

    # the connection -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the new connection against the caps, and start the deadline of its first head."""
        self.transport = cast("asyncio.Transport", transport)
        self.flow = FlowControl(self.transport)
        self._addresses = Addresses.of(transport)
        self._stall = SendStallWatch(self.loop, self.transport, self._bounds)
        self.server_state.connections.add(self)
        limits, client = self._bounds.limits, self.client
        self._deadline.set(limits.header_timeout, "head")
        self._bounds.caps.opened(
            self,
            client[0] if client else "",
            total=limits.connections,
            of_one=limits.connections_of_one,
            now=self.loop.time(),
        )

    def pause_writing(self) -> None:
        """Pause writing and measure the client's read rate: it reads more slowly than the application writes."""
        self.flow.pause_writing()
        self._stall.start()

    def resume_writing(self) -> None:
        """Resume writing: the client has caught up."""
        self.flow.resume_writing()
        if self._cycle is not None and self._cycle.on_drained is not None:
            self._cycle.on_drained()
        self._stall.stop()
        if self.transport.is_closing():
            self._stall.start_if_idle()  # the rest, below the low-water mark, has to be sent as well

    def shutdown(self) -> None:
        """Close after the response in flight, if any; called by uvicorn's server when it stops.

        While retiring, an idle connection stays open for its client's last request, up to the keep-alive timeout.
        """
        cycle = self._cycle
        if self._bounds.retiring:
            self.retire()
        elif cycle is None or cycle.response_complete:
            self.close()
        else:
            cycle.keep_alive = False

    def retire(self) -> None:
        """Close after the response in flight, or after the next one if this one has started: others accept now.

        A client that has not seen `connection: close` could be sending its next request while the connection closes.
        """
        if self._cycle is not None and not self._cycle.response_started:
            self._cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        if data == b"\r\n" and not self._requests.held and self._waits_for_answer():
            return  # old clients send CR LF after a body; it has no meaning
        self._requests.feed(data)
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Clean up after a closed connection and cancel its deadlines."""
        self._bounds.caps.closed(self)
        self._requests.close()
        self._deadline.close()
        self._stall.stop()
        cycle, self._cycle = self._cycle, None  # breaks the reference cycle, so that both are freed at once
        if cycle is not None:
            cycle.disconnect()
        self.server_state.connections.discard(self)
        self.flow.resume_writing()  # writers in `drain` continue and find the connection closed
        if cycle is not None:
            cycle.left()

    # requests -----------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Handle parsed events, one request at a time."""
        requests = self._requests
        while not self._waits_for_answer() and (event := requests.next_event()) is not None:
            match event:
                case RequestHead():
                    self._begin(event)
                case bytes():
                    self._add_body(event)
                case _ if event is END:
                    self._end_request()
                case Refusal():
                    self._refuse(event)
                case _:
                    assert_never(event)
        if self._cycle is not None and self._cycle.on_body is not None:
            self._cycle.on_body()
        if not requests.closed:
            self._wait_for_more()

    def _waits_for_answer(self) -> bool:
        cycle = self._cycle
        return cycle is not None and not cycle.response_complete and self._requests.between_requests

    def _begin(self, head: RequestHead) -> None:
        """Start serving a request; body bytes that arrived with the head are added first."""
        self._deadline.lift()
        self._bounds.caps.busy(self)
        keep_alive = head.keep_alive and not self._bounds.retiring
        self._cycle = cycle = FrontCycle(
            self, head.method, head.version, keep_alive=keep_alive, expect_100_continue=head.expects_continue
        )
        while isinstance(event := self._requests.next_event(), bytes):
            cycle.add_body(event)
        if isinstance(event, Refusal):
            self._refuse(event)
            return
        if event is END:
            self._end_request()
        self._dispatcher.start(cycle, head, self._addresses)

    def _add_body(self, piece: bytes) -> None:
        if self._cycle is not None:
            self._cycle.add_body(piece)

    def _end_request(self) -> None:
        self._deadline.lift()
        cycle = self._cycle
        if cycle is not None:
            cycle.body_complete()
            if cycle.response_complete:
                self._deadline.set(self.timeout_keep_alive, "keepalive")

    def _wait_for_more(self) -> None:
        """Set the deadline for the client's next bytes, and apply backpressure.

        Reading continues while little is pipelined: without reading, a disconnect goes unnoticed.
        """
        limits, deadline = self._bounds.limits, self._deadline
        if self._waits_for_answer():
            if self._requests.held > limits.header_bytes:
                self.flow.pause_reading()
        elif not self._requests.in_body:
            if self._requests.held and not (deadline.phase == "head" and deadline.is_set):
                deadline.set(limits.header_timeout, "head")
        elif deadline.phase != "unwanted":
            deadline.set(limits.body_idle, "body")
            if self._cycle is not None and self._cycle.body:
                self.flow.pause_reading()  # until the application requests more

    def body_wanted(self) -> None:
        """Restart the body's deadline: the application now waits for more of the body."""
        if self._deadline.phase == "body" and self._deadline.is_set:
            self._deadline.set(self._bounds.limits.body_idle, "body")

    def on_response_complete(self) -> None:
        """Continue with pipelined requests, or wait for the next one: a response has ended."""
        self.server_state.total_requests += 1
        self._bounds.caps.idle(self)
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._requests.in_body:
            self._deadline.set(self._bounds.limits.body_idle, "unwanted")
        elif self._requests.held:
            self.loop.call_soon(self._advance_if_open)
        else:
            self._deadline.set(self.timeout_keep_alive, "keepalive")

    def _advance_if_open(self) -> None:
        if not self.transport.is_closing():
            self._advance()

    # refusals and deadlines ---------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        """Send the refusal, unless a response has started, and close."""
        cycle = self._cycle if self._requests.in_body else None
        if cycle is not None:
            cycle.disconnect()
            cycle.left()
            if cycle.response_started:
                self.transport.abort()
                return
        self.transport.write(self._refusal_bytes(refusal))
        self._linger()

    def _refusal_bytes(self, refusal: Refusal) -> bytes:
        body = json.dumps({"error": refusal.text}).encode()
        fields = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            _ANOTHER_TRY if refusal.status == 408 else _NO_OTHER_TRY,
        ]
        if refusal.status == 405:
            fields.append((b"allow", _METHODS))
        return STATUS_LINES[refusal.status] + encode_fields(fields) + b"\r\n" + body

    def _linger(self) -> None:
        """Half-close first: closing with unread bytes resets the connection, and the client would lose the refusal."""
        if not self.transport.can_write_eof():
            self.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._deadline.set(self._bounds.limits.linger, "linger")

    def _expire(self) -> None:
        if self.transport.is_closing():
            return
        phase = self._deadline.phase
        match phase:
            case "head" if self._requests.held:
                self._give_up(Refusal(408, "the head of a request did not arrive in time"))
            case "body" if self.flow.read_paused or (self._cycle and self._cycle.waiting_for_100_continue):
                self._deadline.set(self._bounds.limits.body_idle, "body")  # the application is slow, not the client
            case "body":
                self._give_up(Refusal(408, "the body of a request stopped arriving"))
            case "head" | "keepalive" | "linger" | "unwanted":
                self.close()
            case _:
                assert_never(phase)

    def _give_up(self, refusal: Refusal) -> None:
        self._requests.close()
        self._refuse(refusal)

    def close(self) -> None:
        """Close once the client has read what was written; abort if it stops reading."""
        self._requests.close()
        self.transport.close()
        self._stall.start_if_idle()


def strict_protocol(bounds: Bounds) -> Callable[..., StrictProtocol]:
    """Return a factory of protocols with these bounds, for `uvicorn.Config(http=...)`."""
    return partial(StrictProtocol, bounds=bounds)
