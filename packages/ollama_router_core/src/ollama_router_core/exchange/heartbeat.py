"""Heartbeats of a stream: signs of life for the client while a model is loaded.

What comes after the head is the same as without them: other servers are tried as before, an answer goes on where the
heartbeats end. Only an error has to be told in the stream, as its status cannot be any more.
"""

from __future__ import annotations

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.exchange.actions import Steps, Write
from ollama_router_core.exchange.answers import write_head
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.outbound.keepalive import Keepalive, keepalive_of, waits_for_load

__all__ = ["StreamHeartbeat", "heartbeat_for"]


class StreamHeartbeat:
    """The heartbeats of one request: `interval` seconds between two, from when it is known to wait for a load."""

    def __init__(self, interval: float, sign: Keepalive, request: ParsedRequest) -> None:
        self.interval = interval
        self._sign = sign
        self._request = request
        self._loads = False

    def look(self, environment: Environment, server: str) -> None:
        """Find out whether the request waits on this server for its model to be loaded."""
        facts = environment.fleet.servers.get(server)
        self._loads = self._loads or waits_for_load(self._request, facts, now=environment.now())

    def beat(self, environment: Environment, context: RequestContext, server: str) -> Steps[None]:
        """An interval has passed without an answer."""
        self.look(environment, server)
        if not self._loads:
            return
        if not context.head_written:
            yield from write_head(context, 200, self._head(context))
            context.kept_alive = True
        yield Write(self._sign.piece)

    def _head(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        return [
            (b"content-type", self._sign.content_type),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *context.router_fields(),
        ]


def heartbeat_for(environment: Environment, context: RequestContext, request: ParsedRequest) -> StreamHeartbeat | None:
    """The heartbeats of a request, None where the settings want none or its dialect has none."""
    interval = environment.config.load_keepalive
    sign = None if interval is None else keepalive_of(request, wall=context.started_at)
    return None if interval is None or sign is None else StreamHeartbeat(interval, sign, request)
