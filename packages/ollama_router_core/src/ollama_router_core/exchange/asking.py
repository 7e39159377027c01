"""Requests to servers by name: one with a relayed response, or several short ones in parallel.

They take no slot: pulling a model for an hour must not look like load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from ollama_router_core.errors import (
    RouterError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from ollama_router_core.exchange.actions import AwaitHead, Outgoing, ReceiveAny, Release, Send, Steps
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Arrival, BodyStream, Headers, Piece, Upstream
from ollama_router_core.outbound.destinations import Destination, Patience
from ollama_router_core.outbound.header_fields import request_fields

__all__ = [
    "LONGEST_REPLY",
    "Order",
    "Reply",
    "ask_all",
    "met_stale_connection",
    "open_upstream",
    "own_request",
    "refuse_redirect",
]

LONGEST_REPLY = 1024 * 1024
"""Maximum bytes of a short response."""
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_PATIENCE = 3600.0
"""Seconds of silence allowed while a server verifies, converts or quantises a model."""


class Reply(Struct, frozen=True, kw_only=True):
    """A complete short response."""

    status: int
    headers: Headers
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


class Order(Struct, frozen=True, kw_only=True):
    """The client's request, to be sent to named servers; `patient` allows an hour of silence."""

    method: str
    target: str
    body: bytes | BodyStream = b""
    body_length: int | None = None
    patient: bool = False

    def to(self, environment: Environment, context: RequestContext, server: str) -> Outgoing:
        """Build the request for one server."""
        destination = environment.destinations[server]
        return Outgoing(
            destination=destination,
            method=self.method,
            target=destination.own_path(self.target),
            fields=request_fields(context.headers, destination, context.id),
            body=self.body,
            body_length=self.body_length,
            patience=_with_patience(destination.patience) if self.patient else destination.patience,
        )


def own_request(
    environment: Environment, server: str, method: str, path: str, *, body: bytes = b"", seconds: float | None = None
) -> Outgoing:
    """Build a small request of the router's own; `seconds` limits connecting, the first byte and each silence."""
    destination = environment.destinations[server]
    wait = environment.config.model_info_timeout if seconds is None else seconds
    connect = environment.config.connect_timeout if seconds is None else seconds
    fields = (*destination.credential, (b"content-type", b"application/json")) if body else destination.credential
    patience = Patience(connect=connect, first_byte=wait, idle=wait)
    return Outgoing(
        destination=destination,
        method=method,
        target=destination.own_path(path),
        fields=fields,
        body=body,
        patience=patience,
    )


def _with_patience(usual: Patience) -> Patience:
    return Patience(connect=usual.connect, first_byte=_PATIENCE, idle=_PATIENCE)


def refuse_redirect(destination: Destination, status: int) -> None:
    """Refuse a redirect.

    Raises:
        UpstreamProtocolError: the status is 3xx.
    """
    if 300 <= status < 400:
        raise UpstreamProtocolError(f"{destination.name} answered with a redirect, which is not followed")


def open_upstream(
    request: Outgoing, *, interval: float | None = None, beat: Callable[[], Steps[None]] | None = None
) -> Steps[Upstream]:
    """Send, and wait for the response head; the caller releases the upstream. Run `beat` every `interval` seconds.

    Raises:
        UpstreamError: there is no acceptable response; the text names the server.
    """
    while True:
        upstream: Upstream = yield Send(request)
        try:
            wait = AwaitHead(upstream, interval)
            while not (yield wait):
                if beat is not None:
                    yield from beat()
            refuse_redirect(request.destination, upstream.status)
        except BaseException as error:
            yield Release((upstream,))
            if not isinstance(error, RouterError) or not met_stale_connection(request, error):
                raise
            request = structs.replace(request, fresh=True)
        else:
            return upstream


def met_stale_connection(request: Outgoing, error: RouterError) -> bool:
    """Whether a request hit a stale keep-alive connection and may be resent on a fresh one.

    It may, once, if the server closed the connection without a reset (the request was not read), or if the request is
    idempotent (RFC 9110, 9.2.2).
    """
    if not isinstance(error, UpstreamDisconnected) or not error.reused or request.fresh:
        return False
    if not isinstance(request.body, bytes):
        return False
    return not error.reset or request.repeatable or request.method in _IDEMPOTENT


class _Collecting:
    """The responses to several requests, as they arrive."""

    def __init__(self, requests: Sequence[Outgoing], longest: int) -> None:
        self.requests = list(requests)
        self.longest = longest
        self.open: dict[Upstream, int] = {}
        self.pieces: list[list[bytes]] = [[] for _ in requests]
        self.sizes = [0] * len(requests)
        self.results: list[Reply | RouterError | None] = [None] * len(requests)

    def sent(self, number: int, upstream: Upstream) -> None:
        """Record a request as sent."""
        self.open[upstream] = number

    def again(self, arrival: Arrival) -> tuple[int, Outgoing] | None:
        """Return number and request to resend after a stale connection, else None."""
        number = self.open[arrival.upstream]
        request = self.requests[number]
        if isinstance(arrival.result, Piece) or not met_stale_connection(request, arrival.result):
            return None
        del self.open[arrival.upstream]
        self.requests[number] = structs.replace(request, fresh=True)
        return number, self.requests[number]

    def take(self, arrival: Arrival) -> bool:
        """Record an arrival; return whether it ends its response."""
        number = self.open[arrival.upstream]
        try:
            ended = self._take(number, arrival)
        except UpstreamError as error:
            self.results[number], ended = error, True
        if ended:
            del self.open[arrival.upstream]
        return ended

    def _take(self, number: int, arrival: Arrival) -> bool:
        if not isinstance(arrival.result, Piece):
            raise arrival.result
        destination, pieces = self.requests[number].destination, self.pieces[number]
        refuse_redirect(destination, arrival.upstream.status)
        pieces.append(arrival.result.data)
        self.sizes[number] += len(arrival.result.data)
        if self.sizes[number] > self.longest:
            raise UpstreamProtocolError(f"{destination.name} answered with more than {self.longest} bytes")
        if arrival.result.complete:
            upstream = arrival.upstream
            self.results[number] = Reply(status=upstream.status, headers=upstream.headers, body=b"".join(pieces))
        return arrival.result.complete

    def late(self, number: int) -> RouterError:
        name = self.requests[number].destination.name
        return UpstreamTimeout(f"{name} did not answer in time", phase="first_byte")


def ask_all(
    environment: Environment,
    requests: Sequence[Outgoing],
    *,
    seconds: float | None = None,
    longest: int = LONGEST_REPLY,
) -> Steps[tuple[Reply | RouterError, ...]]:
    """Send all in parallel and read the short responses, for at most `seconds`; an error replaces a missing one."""
    collecting = _Collecting(requests, longest)
    deadline = None if seconds is None else environment.now() + seconds
    try:
        for number, request in enumerate(requests):
            collecting.sent(number, (yield Send(request)))
        while collecting.open:
            left = None if deadline is None else max(0.0, deadline - environment.now())
            arrival: Arrival | None = yield ReceiveAny(tuple(collecting.open), left)
            if arrival is None:
                break
            again = collecting.again(arrival)
            if again is not None:
                yield Release((arrival.upstream,))
                collecting.sent(again[0], (yield Send(again[1])))
            elif collecting.take(arrival):
                yield Release((arrival.upstream,))
    finally:
        if collecting.open:
            yield Release(tuple(collecting.open))
    return tuple(
        result if result is not None else collecting.late(number) for number, result in enumerate(collecting.results)
    )
