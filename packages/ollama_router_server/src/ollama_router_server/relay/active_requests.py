"""The requests under way, for people who look: `orouter top`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from ollama_router_server.relay.exchange import Exchange

__all__ = ["tell_under_way"]

_MOST = 200


def tell_under_way(exchanges: Iterable[Exchange], now: float) -> list[dict[str, Any]]:
    """The oldest requests under way, first come first; `now` is seconds of the monotonic clock.

    `state` is `waiting` for a server, `sent` to one, or `answering`.
    """
    return [_tell(exchange, now) for exchange in islice(exchanges, _MOST)]


def _tell(exchange: Exchange, now: float) -> dict[str, Any]:
    route, first_byte = exchange.route, exchange.first_byte
    return {
        "id": exchange.id,
        "user": exchange.user.name if exchange.user else None,
        "path": exchange.endpoint.path if exchange.endpoint else None,
        "model": route.model_text if route else None,
        "server": exchange.server,
        "state": "answering" if first_byte is not None else "waiting" if exchange.server is None else "sent",
        "seconds": round(now - exchange.started, 1),
        "first_byte_seconds": None if first_byte is None else round(first_byte - exchange.started, 3),
        "queue_position": exchange.queue_position,
        "bytes_out": exchange.client.bytes_out,
    }
