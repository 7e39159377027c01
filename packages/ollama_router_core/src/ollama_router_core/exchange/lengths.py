"""The declared length of a request body."""

from __future__ import annotations

from ollama_router_core.errors import InvalidBody
from ollama_router_core.exchange.events import Headers

__all__ = ["declared_length"]


def declared_length(headers: Headers) -> int | None:
    """Read the request's Content-Length, None for a chunked body.

    Raises:
        InvalidBody: it is not a number.
    """
    for name, value in headers:
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18:
                raise InvalidBody("Content-Length must be a number of bytes")
            return int(value)
    return None
