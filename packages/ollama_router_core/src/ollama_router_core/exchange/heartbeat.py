"""Heartbeats of a stream, sent to the client while the server is silent.

After the head, the request proceeds as without heartbeats: retries go on, and the response follows the heartbeats. Only
an error moves into the stream, as the status is already written. Within a response, heartbeats are sent between two
lines or events, never inside one.

Sources: comments in WHATWG HTML's server-sent events; Anthropic's streams, which may contain any number of `ping`
events; Ollama's clients, which parse every line: an empty line fails, a chunk without content is accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.exchange.actions import ReceiveAny, Steps, Write
from ollama_router_core.exchange.answers import write_head
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Arrival, Piece, Upstream
from ollama_router_core.translate import QueuePlace, ReplyIdentity, codec_of
from ollama_router_core.translate.framing import Framing

__all__ = ["StreamHeartbeat", "heartbeat_for"]


class StreamHeartbeat:
    """The heartbeats of one stream, every `interval` seconds.

    `piece` returns a heartbeat, with the queue place of a waiting request.
    """

    def __init__(self, interval: float, framing: Framing, piece: Callable[[QueuePlace | None], bytes | None]) -> None:
        self.interval = interval
        self._framing = framing
        self._piece = piece
        self._written = b""

    def beat(self, context: RequestContext, place: QueuePlace | None = None) -> Steps[None]:
        """Send a heartbeat after a silent interval, with the queue place of a waiting request."""
        if not context.head_written:
            yield from write_head(context, 200, self._head(context))
            context.kept_alive = True
        yield Write(self._piece(place) or b"")

    def wrote(self, data: bytes) -> None:
        """Record bytes written to the client."""
        self._written = (self._written + data)[-4:]

    def receive(self, context: RequestContext, upstream: Upstream) -> Steps[Piece]:
        """Wait for the next piece of the response, with heartbeats.

        Raises:
            UpstreamError: the response was cut off.
        """
        while True:
            arrival: Arrival | None = yield ReceiveAny((upstream,), self.interval)
            if arrival is None:
                if not context.framed and self._between_lines():
                    yield from self.beat(context)
            elif isinstance(arrival.result, Piece):
                return arrival.result
            else:
                raise arrival.result

    def _between_lines(self) -> bool:
        written = self._written.replace(b"\r", b"")
        return not written or written.endswith(self._framing.end)

    def _head(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        return [
            (b"content-type", self._framing.media_type.encode()),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *context.router_fields(),
        ]


def heartbeat_for(environment: Environment, context: RequestContext, request: ParsedRequest) -> StreamHeartbeat | None:
    """Return a request's heartbeats; None without an interval, or if its dialect has none."""
    interval = context.heartbeat or environment.config.load_keepalive
    if interval is None or not request.route.stream:
        return None
    codec = codec_of(request.endpoint.family)
    identity = ReplyIdentity(model=request.route.model_text or "", id="", created_ns=int(context.started_at * 1e9))
    piece = partial(codec.heartbeat, request.endpoint.path, identity)
    return None if piece(None) is None else StreamHeartbeat(interval, codec.framing, piece)
