"""Small requests by the router itself to a server."""

from __future__ import annotations

from msgspec import structs

from ollama_router_core.errors import UpstreamDisconnected, UpstreamProtocolError
from ollama_router_core.responses.server_documents import LONGEST_DOCUMENT
from ollama_router_server.upstream.interface import Timeouts, Upstream, UpstreamRequest
from ollama_router_server.upstream.targets import Target

__all__ = ["fetch", "fetch_whole"]


async def fetch(
    upstream: Upstream, target: Target, method: str, path: str, *, timeouts: Timeouts, body: bytes = b""
) -> tuple[int, bytes]:
    """Send a small request to a server; return the status and the whole body.

    Raises:
        UpstreamError: see `Upstream.send` and `UpstreamResponse.read`; also for a body larger than 2 MiB.
    """
    headers = (*target.credential, (b"content-type", b"application/json")) if body else target.credential
    request = UpstreamRequest(
        origin=target.origin,
        method=method,
        target=target.destination.own_path(path),
        headers=headers,
        body=body,
        timeouts=timeouts,
    )
    return await fetch_whole(upstream, request)


async def fetch_whole(upstream: Upstream, request: UpstreamRequest) -> tuple[int, bytes]:
    """Send a request; return the status and the whole body of its response. Retry a closed pooled connection once.

    Raises:
        UpstreamError: see `fetch`.
    """
    try:
        response = await upstream.send(request)
    except UpstreamDisconnected as error:
        if not error.reused:  # else the server was closing the pooled connection
            raise
        response = await upstream.send(structs.replace(request, fresh=True))
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := await response.read():
            pieces.append(piece)
            size += len(piece)
            if size > LONGEST_DOCUMENT:
                origin, path = request.origin.shown, request.target.partition("?")[0]
                raise UpstreamProtocolError(f"{origin} answered {path} with more than {LONGEST_DOCUMENT} bytes")
    finally:
        response.close()
    return response.status, b"".join(pieces)
