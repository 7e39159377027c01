"""Requests and responses of httpx or httpx2, read and built through what both libraries document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from ollama_router_core.client.steps import Head, Outgoing
from ollama_router_core.outbound.destinations import Fields

__all__ = ["Incoming", "build_request", "build_response", "header_fields", "read_incoming"]


class Incoming(Struct, frozen=True):
    """A program's request: the library's own object, and what the policy looks at.

    `fields` have names in lower case.
    """

    library: Any
    request: Any
    method: str
    path: str
    body: bytes
    fields: Fields

    def __repr__(self) -> str:
        """Without fields and body: they hold tokens and what people write."""
        return f"Incoming({self.method} {self.path})"


def read_incoming(library: Any, request: Any, body: bytes) -> Incoming:
    """Read a program's request whose body has been read."""
    path, _, _ = request.url.raw_path.partition(b"?")
    fields = tuple(header_fields(request.headers))
    return Incoming(library, request, request.method, path.decode("ascii", "replace"), body, fields)


def header_fields(headers: Any) -> list[tuple[bytes, bytes]]:
    """List the fields of a request or response, names in lower case."""
    return [(name.lower(), value) for name, value in headers.raw]


def build_request(outgoing: Outgoing) -> Any:
    """Build the request for the inner transport, in the library of the program's own request."""
    return outgoing.library.Request(
        outgoing.method,
        outgoing.destination.base_url + outgoing.target,
        headers=list(outgoing.fields),
        content=outgoing.body,
        extensions={"timeout": outgoing.timeouts},
    )


def build_response(
    library: Any, status: int, fields: Iterable[tuple[bytes, bytes]], content: Any, head: Head | None = None
) -> Any:
    """Build what the program gets: `content` is a body in hand or a stream, `head` lends its extensions."""
    body = {"content": content} if isinstance(content, bytes) else {"stream": content}
    extensions = None if head is None else head.response.extensions
    return library.Response(status, headers=list(fields), extensions=extensions, **body)
