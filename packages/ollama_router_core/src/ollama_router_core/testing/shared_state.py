"""The shared state of a simulated server's routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ollama_router_core.testing.error_replies import ApiError
from ollama_router_core.testing.exchange import Exchange
from ollama_router_core.testing.gojson import EmptyBodyError, GoJSONError, Struct, decode
from ollama_router_core.testing.inference import Engine
from ollama_router_core.testing.library import ModelLibrary
from ollama_router_core.testing.simulator_settings import Settings

__all__ = ["Route", "ServerState", "native_body"]


@dataclass(slots=True, kw_only=True, eq=False)
class ServerState:
    """One server: its settings, its engine, and the models that it can pull."""

    settings: Settings
    engine: Engine
    registry: ModelLibrary
    next_id: int = 0

    def identity(self, prefix: str) -> str:
        """Return an id that is unique among this server's responses."""
        self.next_id += 1
        return f"{prefix}{self.next_id}"


Route = Callable[[ServerState, Exchange], Awaitable[None]]


async def native_body(exchange: Exchange, shape: Struct) -> dict[str, Any]:
    """Parse the body of a native route.

    Raises:
        ApiError: 400 with `missing request body` or Go's text about the JSON.
    """
    try:
        return decode(await exchange.body(), shape)
    except EmptyBodyError:
        raise ApiError(400, "missing request body") from None
    except GoJSONError as error:
        raise ApiError(400, str(error)) from None
