"""Requests and responses of httpx or httpx2, using their documented APIs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ollama_router_core.exchange.actions import Outgoing
from ollama_router_core.exchange.events import Headers

__all__ = ["build_request", "build_response", "header_fields"]


def header_fields(headers: Any) -> list[tuple[bytes, bytes]]:
    """List the header fields of a request or response, with names in lower case."""
    return [(name.lower(), value) for name, value in headers.raw]


def build_request(
    library: Any, outgoing: Outgoing, timeouts: Mapping[str, float | None], trace: Callable[[str, Any], Any]
) -> Any:
    """Build the request for the inner transport with the library of the program's request."""
    return library.Request(
        outgoing.method,
        _parsed(library.URL, outgoing.destination.base_url + outgoing.target),
        headers=list(outgoing.fields),
        content=outgoing.body,
        extensions={"timeout": timeouts, "trace": trace},
    )


@lru_cache(maxsize=256)
def _parsed(url: Callable[[str], Any], text: str) -> Any:
    """Parse a URL, cached: there are few URLs, and parsing takes as long as choosing the server."""
    return url(text)


def build_response(library: Any, status: int, fields: Headers, stream: Any, extensions: Mapping[str, Any]) -> Any:
    """Build the program's response with a stream of the library as its body."""
    return library.Response(status, headers=list(fields), stream=stream, extensions=dict(extensions))
