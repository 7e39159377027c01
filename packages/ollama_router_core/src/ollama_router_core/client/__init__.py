"""Routing from inside a program: transports for httpx and httpx2, with no proxy running.

    ollama.Client(transport=RouterTransport.from_file("orouter.yml"))
    openai.OpenAI(http_client=httpx2.Client(transport=RouterTransport.from_urls(["gpu:11434", "mac:11434"])))

One generator (`exchange`) implements a request without I/O and yields the actions to perform; two drivers perform them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ollama_router_core.client.asynchronous import AsyncRouterTransport
    from ollama_router_core.client.sync import RouterTransport

__all__ = ["AsyncRouterTransport", "RouterTransport"]

_HOME = {"AsyncRouterTransport": "asynchronous", "RouterTransport": "sync"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a transport on first use, as a synchronous program needs no anyio."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        return value
