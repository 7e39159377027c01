"""A shim on the loopback interface that adds a token, for `ollama` and other clients that cannot send one.

It serves only requests to a loopback host, and none from a web page: a browser must not be able to use the token
through it.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from ollama_router_core.errors import ConfigError, InvalidBody, RouterError
from ollama_router_core.exchange.events import ClientLeft
from ollama_router_core.exchange.lengths import declared_length
from ollama_router_server.process.router_address import RouterAddress
from ollama_router_server.process.shim_client import ShimClient
from ollama_router_server.relay.bodies import Receive, Send
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from ollama_router_server.upstream.interface import Headers, Timeouts, Upstream, UpstreamRequest, UpstreamResponse

__all__ = ["Shim", "check_token", "serve_shim"]

_TIMEOUTS = Timeouts(connect=10.0, first_byte=3600.0, idle=3600.0)
_GRACE = 5
"""Seconds for streams to finish when the shim stops."""
_LOOPBACK = re.compile(
    r"(?:localhost|[a-z0-9.\-]+\.localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE
)
_NOT_ON = frozenset({
    b"authorization", b"connection", b"content-length", b"cookie", b"expect", b"forwarded", b"host", b"keep-alive",
    b"origin", b"proxy-authorization", b"proxy-connection", b"referer", b"te", b"trailer", b"transfer-encoding",
    b"upgrade", b"x-api-key",
})  # fmt: skip
_NOT_BACK = frozenset({
    b"connection", b"date", b"keep-alive", b"proxy-authenticate", b"set-cookie", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Shim:
    """The ASGI application. `refused` is called for each 401 from the router."""

    address: RouterAddress
    token: str = field(repr=False)
    upstream: Upstream
    refused: Callable[[], None] = lambda: None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Forward one request."""
        if scope["type"] != "http":
            return
        client = ShimClient(receive, send)
        if not _is_local(scope["headers"]):
            await client.start(403, [(b"content-length", b"0")])
            await client.finish()
            return
        try:
            await self._pass_on(scope, client)
        except ClientLeft:
            return
        except RouterError as error:
            if not client.started:
                await _answer(client, error)

    async def _pass_on(self, scope: Any, client: ShimClient) -> None:
        request = await self._request(scope, client)
        async with client.watched():
            response = await self.upstream.send(request)
            try:
                await self._relay(response, client)
            finally:
                response.close()

    async def _request(self, scope: Any, client: ShimClient) -> UpstreamRequest:
        headers = scope["headers"]
        length = declared_length(headers)
        has_body = bool(length) or any(name == b"transfer-encoding" for name, _ in headers)
        body: bytes | AsyncIterator[bytes] = client.pieces() if has_body else await client.read_nothing()
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        kept = tuple((name, value) for name, value in headers if name not in _NOT_ON)
        return UpstreamRequest(
            origin=self.address.origin,
            method=scope["method"],
            target=f"{self.address.prefix}{path}" + (f"?{query}" if query else ""),
            headers=(*kept, _bearer(self.token)),
            body=body,
            body_length=length if has_body else None,
            timeouts=_TIMEOUTS,
        )

    async def _relay(self, response: UpstreamResponse, client: ShimClient) -> None:
        if response.status == 401:
            self.refused()
        await client.start(
            response.status, [(name, value) for name, value in response.headers if name not in _NOT_BACK]
        )
        while piece := await response.read():
            await client.write(piece)
        await client.finish()


async def check_token(address: RouterAddress, token: str, upstream: Upstream) -> None:
    """Request the router's version with the token.

    Raises:
        RouterError: the router is unreachable or rejects the token.
    """
    request = UpstreamRequest(
        origin=address.origin,
        method="GET",
        target=f"{address.prefix}/api/version",
        headers=(_bearer(token),),
        timeouts=Timeouts(connect=10.0, first_byte=30.0, idle=30.0),
    )
    response = await upstream.send(request)
    response.close()
    if response.status in {401, 403}:
        raise ConfigError("the router rejects this token; `orouter users regenerate-token` makes a new one")


async def serve_shim(
    address: RouterAddress, token: str, sock: socket.socket, *, ready: Callable[[], None], refused: Callable[[], None]
) -> None:
    """Serve on a loopback socket until a signal arrives.

    Raises:
        RouterError: the router is unreachable or rejects the token; nothing was served.
    """
    async with _engine() as upstream:
        await check_token(address, token, upstream)
        shim = Shim(address=address, token=token, upstream=upstream, refused=refused)
        config = uvicorn.Config(
            shim,
            access_log=False,
            log_config=None,
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE,
        )
        sock.listen(128)
        ready()
        await _serve_to_the_end(uvicorn.Server(config), sock)


async def _serve_to_the_end(server: uvicorn.Server, sock: socket.socket) -> None:
    """Serve; on cancellation, shut down as on a signal, so that no listener or connection is left open."""
    serving = asyncio.ensure_future(server.serve(sockets=[sock]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise


@asynccontextmanager
async def _engine() -> AsyncIterator[Upstream]:
    upstream = HttptoolsUpstream()
    try:
        yield upstream
    finally:
        await upstream.aclose()
        await asyncio.sleep(0)  # let the transports close


def _bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + token.encode("ascii")


def _is_local(headers: Headers | list[tuple[bytes, bytes]]) -> bool:
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    return len(hosts) == 1 and _LOOPBACK.fullmatch(hosts[0]) is not None and not any(map(_of_a_page, headers))


def _of_a_page(field: tuple[bytes, bytes]) -> bool:
    """Return whether a field shows a request by a web page; images and scripts send no Origin, but Sec-Fetch-Site."""
    name, value = field
    return name in {b"origin", b"referer"} or (name == b"sec-fetch-site" and value != b"none")


async def _answer(client: ShimClient, error: RouterError) -> None:
    status = 400 if isinstance(error, InvalidBody) else 502
    body = json.dumps({"error": error.message}).encode()
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await client.start(status, headers)
    await client.finish(body)
