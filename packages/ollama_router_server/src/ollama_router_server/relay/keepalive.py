"""Signs of life to a client while a model is loaded for its stream.

What comes after the head is the same as without signs: other servers are tried as before, an answer goes on where the
signs end. Only an error has to be told in the stream, as its status cannot be any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.outbound.keepalive import Keepalive, keepalive_of, waits_for_load
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.relay.forwarder import HeldUpstreamResponse

__all__ = ["StreamHeartbeat"]


class StreamHeartbeat:
    """What a config says about them: `interval` seconds between two, None for none at all."""

    def __init__(self, interval: float | None, fleet: FleetService) -> None:
        self._interval = interval
        self._fleet = fleet

    def wanted(self, request: ParsedRequest, server: str) -> bool:
        """Whether a request that is about to be sent to a server may need some."""
        return self._interval is not None and self._loads(request, server)

    async def during(
        self, exchange: Exchange, request: ParsedRequest, forwarding: Coroutine[Any, Any, HeldUpstreamResponse]
    ) -> HeldUpstreamResponse:
        """Wait for the head of an answer."""
        sign = None if self._interval is None else keepalive_of(request, wall=exchange.started_at)
        if self._interval is None or sign is None:
            return await forwarding
        beating = asyncio.ensure_future(self._beat(exchange, request, sign, self._interval))
        try:
            return await forwarding
        finally:
            beating.cancel()

    async def _beat(self, exchange: Exchange, request: ParsedRequest, sign: Keepalive, interval: float) -> None:
        loads = False
        while True:
            loads = loads or self._loads(request, exchange.server)
            await asyncio.sleep(interval)
            loads = loads or self._loads(request, exchange.server)
            if loads:
                exchange.status = 200
                await exchange.client.keep_alive(_head(exchange, sign), sign.piece)

    def _loads(self, request: ParsedRequest, server: str | None) -> bool:
        facts = None if server is None else self._fleet.servers.get(server)
        return waits_for_load(request, facts, now=self._fleet.now())


def _head(exchange: Exchange, sign: Keepalive) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", sign.content_type),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
        *exchange.router_headers(),
    ]
