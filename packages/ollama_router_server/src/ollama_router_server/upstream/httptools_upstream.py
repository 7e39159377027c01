"""The upstream engine: `Upstream` on httptools over asyncio transports.

The engine never sends a request twice. Before it writes to a pooled connection, it asks the kernel whether the server
has closed it; any failure after the first byte is reported to the caller.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable

from ollama_router_core.errors import ConnectFailed, UpstreamDisconnected, UpstreamError
from ollama_router_server.upstream.call import UpstreamCall
from ollama_router_server.upstream.connection import READ_SIZE, Connection
from ollama_router_server.upstream.interface import Headers, Origin, UpstreamRequest
from ollama_router_server.upstream.pool import Pool

__all__ = ["HttptoolsResponse", "HttptoolsUpstream"]


class HttptoolsResponse:
    """A response whose head has arrived, read with `await`; see `UpstreamResponse`."""

    __slots__ = ("_call", "_closed", "_wakeup")

    def __init__(self, call: UpstreamCall, wakeup: _Wakeup) -> None:
        self._call = call
        self._wakeup = wakeup
        self._closed = False

    @property
    def status(self) -> int:
        """The response's status code."""
        return self._call.status

    @property
    def headers(self) -> Headers:
        """The response's header fields."""
        return self._call.headers

    @property
    def complete(self) -> bool:
        """Whether the whole body has been read; see `UpstreamResponse.complete`."""
        return self._call.complete

    async def read(self) -> bytes:
        """Read the next piece of the body; b"" at a complete end; see `UpstreamResponse.read`."""
        while not self._call.complete:
            if self._closed:
                raise UpstreamDisconnected("the answer was closed before its end")
            piece = self._call.take()
            if piece:
                return piece
            if not self._call.complete:
                await self._wakeup.wait()
        self.close()
        return b""

    def close(self) -> None:
        """Return the connection to the pool after a complete response, else cut it; see `UpstreamResponse.close`."""
        self._closed = True
        self._call.close()


class _Wakeup:
    """Let a task wait for a call's listener."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Wake the waiting task."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for the next `wake`."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class HttptoolsUpstream:
    """`Upstream` for one event loop; create one per loop.

    Args:
        ssl_context: for https origins; None verifies against the system's certificates.
        keepalive: seconds that an idle connection is kept for the next request.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None, keepalive: float = 15.0) -> None:
        self._ssl = ssl_context
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._keepalive = keepalive
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._pool: Pool[Connection] = Pool()

    @property
    def open_connections(self) -> int:
        """The number of open sockets, idle ones included."""
        return len(self._pool)

    @property
    def idle_connections(self) -> int:
        """The number of idle sockets."""
        return self._pool.idle

    async def send(self, request: UpstreamRequest) -> HttptoolsResponse:
        """Send a request and wait for the response head; see `Upstream.send`."""
        wakeup = _Wakeup()
        call, connection = UpstreamCall(wakeup.wake), self._idle(request)
        if connection is None:
            connection = await self._connect(request.origin, request.timeouts.connect)
        try:
            self._start(call, connection, request)
            while not call.head_arrived():
                await wakeup.wait()
        except BaseException:
            call.close()
            raise
        return HttptoolsResponse(call, wakeup)

    def open(self, request: UpstreamRequest, listener: Callable[[], None]) -> UpstreamCall:
        """Send a request, on a new connection if none is idle; see `CallingUpstream.open`."""
        call, connection = UpstreamCall(listener), self._idle(request)
        if connection is None:
            call.connecting = asyncio.get_running_loop().create_task(self._connect_for(call, request))
        else:
            self._start(call, connection, request)
        return call

    async def _connect_for(self, call: UpstreamCall, request: UpstreamRequest) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            connection = await self._connect(request.origin, request.timeouts.connect)
            call.connect_seconds = loop.time() - began
            self._start(call, connection, request)
        except Exception as error:  # noqa: BLE001 - `head_arrived` raises it
            call.failed(error)

    def _idle(self, request: UpstreamRequest) -> Connection | None:
        """Take a pooled connection, unless the request needs a fresh one."""
        return None if request.fresh else self._pool.take(request.origin)

    def _start(self, call: UpstreamCall, connection: Connection, request: UpstreamRequest) -> None:
        call.connection = connection  # before the listener can be called
        try:
            connection.start(request, call.listener)
        except ValueError:
            call.connection = None  # it is free again
            raise

    def give_up(self, origin: Origin, error: UpstreamError) -> None:
        """Fail every request to an origin whose response has not started; see `Upstream.give_up`."""
        for connection in self._pool.at(origin):
            connection.give_up(error)

    async def aclose(self) -> None:
        """Close every connection; requests in flight fail, and new ones are refused."""
        await self._pool.aclose()

    async def _connect(self, origin: Origin, seconds: float | None) -> Connection:
        self._refuse_if_closed()
        loop = asyncio.get_running_loop()
        secure = self._secure(origin)
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(origin, loop, self._buffer, self._pool, self._keepalive),
                    origin.host,
                    origin.port,
                    ssl=secure,
                    server_hostname=origin.host if secure is not None else None,
                )
        except TimeoutError as error:
            raise ConnectFailed(f"{origin.shown} did not accept a connection in time") from error
        except (OSError, UnicodeError) as error:
            raise ConnectFailed(f"cannot connect to {origin.shown}: {_reason(error)}") from error
        # Register only now: uvloop closes a connection whose opening was cancelled without telling its protocol.
        self._pool.opened(connection)
        try:
            self._refuse_if_closed()
        except ConnectFailed:
            connection.abort()
            raise
        return connection

    def _refuse_if_closed(self) -> None:
        if self._pool.closed:
            raise ConnectFailed("the router is closing its connections")

    def _secure(self, origin: Origin) -> ssl.SSLContext | None:
        if origin.scheme != "https":
            return None
        if origin.ca_file is None and self._ssl is not None:
            return self._ssl
        context = self._contexts.get(origin.ca_file)
        if context is None:
            try:
                context = ssl.create_default_context(cafile=origin.ca_file)
            except OSError as error:
                raise ConnectFailed(f"the ca_file of {origin.name} cannot be read ({type(error).__name__})") from None
            context.set_alpn_protocols(["http/1.1"])
            self._contexts[origin.ca_file] = context
        return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message.partition(',')[0]})"
    if isinstance(error, socket.gaierror | ssl.SSLError) or not isinstance(error, OSError) or error.errno is None:
        return getattr(error, "strerror", None) or type(error).__name__
    return os.strerror(error.errno)  # asyncio includes the address in its own message
