"""The first upstream engine: `Upstream` over aiohttp's client.

Belongs here: how aiohttp is kept from being helpful (cookies, redirects, proxies, retries, decompression) and
the one place where its exceptions become ours.
Does not belong here: decisions about retries, filtering of headers.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Final, Literal

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from ollama_router_core.errors import (
    ConnectFailed,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from ollama_router_server.upstream.interface import Headers, Origin, UpstreamRequest

__all__ = ["AiohttpUpstream"]

_READ_SIZE: Final = 256 * 1024
_MAX_FIELD: Final = 32 * 1024
_AUTO_HEADERS: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

_Phase = Literal["first_byte", "idle"]


def _translate(error: BaseException, origin: Origin, phase: _Phase) -> UpstreamError:
    """Aiohttp's exception as ours: the only place that knows both trees."""
    where = origin.authority
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        return ConnectFailed(f"cannot connect to {where}: {type(error).__name__}; is the server up?")
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(f"{where} sent nothing in time ({phase})", phase=phase)
    if isinstance(error, aiohttp.ClientPayloadError):
        cause = error.__cause__
        broken_framing = "TransferEncodingError" in str(error) or isinstance(cause, HttpProcessingError)
        if broken_framing and "ContentLengthError" not in str(error) and "Not enough data" not in str(error):
            return UpstreamProtocolError(f"{where} broke the framing of its answer")
        return UpstreamDisconnected(f"{where} closed the connection before its answer was complete")
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError | ValueError):
        return UpstreamProtocolError(f"{where} did not answer with acceptable HTTP/1.1")
    return UpstreamDisconnected(f"{where} closed the connection before answering")


class _Body:
    """A request body that keeps to its length and remembers what its source raised."""

    def __init__(self, source: AsyncIterator[bytes], length: int | None) -> None:
        self._source = source
        self._left = length
        self.error: BaseException | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the source's chunks; wrong lengths end in ValueError, so a short body is never sent as whole."""
        try:
            async for chunk in self._source:
                self._count(len(chunk))
                if chunk:
                    yield chunk
            self._check_end()
        except Exception as error:
            self.error = error
            raise

    def _count(self, size: int) -> None:
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise ValueError("the request body is longer than its declared length")

    def _check_end(self) -> None:
        if self._left:
            raise ValueError("the request body ended before its declared length")


class _AiohttpResponse:
    """An answer whose head has arrived."""

    __slots__ = ("_idle", "_origin", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, request: UpstreamRequest) -> None:
        self._response = response
        self._origin = request.origin
        self._idle = request.timeouts.idle
        self.status: int = response.status
        _stop_read_timer(response)
        self.headers: Headers = tuple((name.lower(), value) for name, value in response.raw_headers)

    @property
    def complete(self) -> bool:
        """Whether all of the body has been handed out; see `UpstreamResponse.complete`."""
        return self._response.content.at_eof()

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end; see `UpstreamResponse.read`."""
        try:
            async with asyncio.timeout(self._idle):
                return await self._response.content.read(_READ_SIZE)
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            self._response.close()
            raise _translate(error, self._origin, "idle") from error

    def close(self) -> None:
        """Release a finished answer's connection, cut any other."""
        self._response.close()


class AiohttpUpstream:
    """`Upstream` over one aiohttp session, made when the first request is sent.

    Args:
        ssl_context: for origins with scheme https; None verifies against the system's certificates.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self._ssl: ssl.SSLContext | bool = True if ssl_context is None else ssl_context
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: UpstreamRequest) -> _AiohttpResponse:
        """Send a request and wait for the head of the answer; see `Upstream.send`."""
        body: _Body | None = None
        data: bytes | AsyncIterator[bytes] = b""
        if isinstance(request.body, bytes):
            data = request.body
        else:
            body = _Body(request.body, request.body_length)
            data = body.chunks()
        try:
            async with asyncio.timeout(_backstop(request)):
                response = await self._request(request, data)
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            if body is not None and body.error is not None:
                raise body.error from None
            raise _translate(error, request.origin, "first_byte") from error
        if response.status == 101:
            response.close()
            raise UpstreamProtocolError(f"{request.origin.authority} switched protocols without being asked")
        return _AiohttpResponse(response, request)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def _request(self, request: UpstreamRequest, data: bytes | AsyncIterator[bytes]) -> aiohttp.ClientResponse:
        timeouts = request.timeouts
        return await self._open_session().request(
            request.method,
            URL(f"{request.origin.scheme}://{request.origin.authority}{request.target}", encoded=True),
            headers=_fields(request),
            data=data,
            allow_redirects=False,
            ssl=self._ssl,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=timeouts.connect, sock_read=timeouts.first_byte, ceil_threshold=1e9
            ),
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=_AUTO_HEADERS,
                max_line_size=_MAX_FIELD,
                max_field_size=_MAX_FIELD,
            )
            # aiohttp sends GET, PUT and DELETE again when a reused connection ends early, and has no public
            # switch for it; whether to send again is `forwarding`'s decision alone.
            self._session._retry_connection = False  # noqa: SLF001
        return self._session


def _backstop(request: UpstreamRequest) -> float | None:
    """Aiohttp stops its read timer for good at an interim (1xx) answer; this bounds what follows one."""
    timeouts = request.timeouts
    if timeouts.connect is None or timeouts.first_byte is None or not isinstance(request.body, bytes):
        return None
    return timeouts.connect + timeouts.first_byte


def _stop_read_timer(response: aiohttp.ClientResponse) -> None:
    """Aiohttp has one read timeout for head and body; from here on `read` keeps the time itself."""
    if response.connection is not None and response.connection.protocol is not None:
        response.connection.protocol.read_timeout = None
        response.connection.protocol.start_timeout()


def _fields(request: UpstreamRequest) -> CIMultiDict[str]:
    fields: CIMultiDict[str] = CIMultiDict()
    fields["Host"] = request.origin.authority
    for name, value in request.headers:
        fields.add(name.decode("ascii"), value.decode("utf-8", "surrogateescape"))
    if request.body_length is not None and not isinstance(request.body, bytes):
        fields["Content-Length"] = str(request.body_length)
    return fields
