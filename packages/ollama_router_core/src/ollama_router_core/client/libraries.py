"""httpx and httpx2: found from a request, and what has to be built with the one that the request came from.

Belongs here: requests, responses, streams and exceptions of either library, by one way.
Does not belong here: I/O, policy.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Hashable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol, Self

from ollama_router_core.client.room import Incoming
from ollama_router_core.client.steps import Failure, Outgoing
from ollama_router_core.errors import ConnectFailed, RouterError, UpstreamDisconnected, UpstreamError, UpstreamTimeout

__all__ = [
    "AsyncSource",
    "SyncSource",
    "any_library",
    "build_request",
    "build_response",
    "exception_of",
    "failure_of",
    "library_of",
    "read_fields",
    "read_incoming",
    "stream_of",
]


class SyncSource(Protocol):
    """Where a response's bytes come from in a program without an event loop."""

    def pieces(self) -> Iterator[bytes]:
        """The bytes, once."""

    def close(self) -> None:
        """Nobody reads on."""


class AsyncSource(Protocol):
    """Where a response's bytes come from under an event loop."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The bytes, once."""

    async def aclose(self) -> None:
        """Nobody reads on."""


def library_of(request: Any) -> Any:
    """The module that a request, or a subclass of one, comes from.

    Raises:
        TypeError: it comes from neither library.
    """
    found = _library(type(request))  # type: ignore[arg-type]  # a class has a hash
    if found is None:
        raise TypeError(f"expected a request of httpx or httpx2, got {type(request).__module__}")
    return found


@lru_cache(maxsize=16)
def _library(kind: Hashable) -> Any:
    for one in getattr(kind, "__mro__", ()):
        name = one.__module__.partition(".")[0]
        if name in {"httpx", "httpx2"}:
            return sys.modules[name]
    return None


def any_library() -> Any:
    """The library to ask servers with when there is no request: the one the program has imported, else either."""
    for name in ("httpx", "httpx2"):
        if name in sys.modules:
            return sys.modules[name]
    try:
        return import_module("httpx")
    except ImportError:
        return import_module("httpx2")


def read_incoming(library: Any, request: Any, body: bytes) -> Incoming:
    """A program's request as the policy takes it."""
    path, _, _ = request.url.raw_path.partition(b"?")
    return Incoming(
        library=library,
        method=request.method,
        path=path.decode("ascii", "replace"),
        fields=tuple(read_fields(library, request.headers)),
        body=body,
        timeouts=request.extensions.get("timeout") or _NO_TIMEOUTS,
    )


_NO_TIMEOUTS: Mapping[str, float | None] = {}


@lru_cache(maxsize=4)
def _keeps_rows(library: Any) -> bool:
    """Whether this version's `Headers` keeps rows of (name, lower name, value) where all known ones keep them.

    Its public ways cost more than everything else that is done for a request: a call for each name and each value.
    """
    return getattr(library.Headers([(b"A", b"b")]), "_list", None) == [(b"A", b"a", b"b")]


def read_fields(library: Any, headers: Any) -> list[tuple[bytes, bytes]]:
    """Header fields with names in lower case."""
    if _keeps_rows(library):
        return [(name, value) for _, name, value in headers._list]  # noqa: SLF001 - see _keeps_rows
    return [(name.lower(), value) for name, value in headers.raw]


def _make_headers(library: Any, fields: list[tuple[bytes, bytes]]) -> Any:
    """The library's own type, from names in lower case."""
    if not _keeps_rows(library):
        return library.Headers(fields)
    headers = library.Headers()
    headers._list = [(name, name, value) for name, value in fields]  # noqa: SLF001 - see _keeps_rows
    return headers


@lru_cache(maxsize=1024)
def _url(library: Any, base_url: str, target: str) -> tuple[Any, bytes]:
    """A URL and its Host field."""
    url = library.URL(base_url + target)
    return url, url.netloc


def build_request(outgoing: Outgoing) -> Any:
    """The request for the inner transport, in the library of the program's own request."""
    library, place = outgoing.library, outgoing.destination
    url, host = _url(library, place.base_url, outgoing.target)
    fields = [(b"host", host), *outgoing.fields]
    if outgoing.body or outgoing.method != "GET":
        fields.append((b"content-length", b"%d" % len(outgoing.body)))
    request_class, body_class = _request_classes(library)
    headers = _make_headers(library, fields)
    return request_class(outgoing.method, url, headers, body_class(outgoing.body), {"timeout": outgoing.timeouts})


class _Once:
    """One piece, then the end; no generator, as trio warns of those that a cancelled upload leaves unfinished."""

    __slots__ = ("_piece",)

    def __init__(self, piece: bytes) -> None:
        self._piece: bytes | None = piece

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece, self._piece = self._piece, None
        if piece is None:
            raise StopAsyncIteration
        return piece


@lru_cache(maxsize=4)
def _request_classes(library: Any) -> tuple[Any, Any]:
    class Body(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, content: bytes) -> None:
            self._content = content

        def __iter__(self) -> Iterator[bytes]:
            return iter((self._content,))

        def __aiter__(self) -> AsyncIterator[bytes]:
            return _Once(self._content)

    class Request(library.Request):  # type: ignore[misc]
        """Made of what it consists of: the library's own way copies and checks what is known to be right."""

        __module__ = library.Request.__module__  # whoever looks where it comes from finds the library

        def __init__(self, method: str, url: Any, headers: Any, stream: Any, extensions: dict[str, Any]) -> None:
            self.method = method
            self.url = url
            self.headers = headers
            self.stream = stream
            self.extensions = extensions

    return Request, Body


def build_response(
    library: Any, status: int, fields: list[tuple[bytes, bytes]], *, content: bytes | None = None, stream: Any = None
) -> Any:
    """A response with the body in hand, or with a stream of `stream_of`."""
    headers = _make_headers(library, fields)
    if stream is None:
        return library.Response(status, headers=headers, content=content)
    response = library.Response(status, headers=headers, stream=stream)
    if b"".join([value for _, value in fields]).isascii():
        response.headers.encoding = "ascii"  # which it would find out by decoding every field twice
    return response


def stream_of(library: Any, source: SyncSource | AsyncSource) -> Any:
    """A response's stream that reads from `source`; clients insist on their own library's class."""
    sync_class, async_class = _stream_classes(library)
    return sync_class(source) if hasattr(source, "close") else async_class(source)


@lru_cache(maxsize=4)
def _stream_classes(library: Any) -> tuple[Any, Any]:
    class SyncStream(library.SyncByteStream):  # type: ignore[misc]
        def __init__(self, source: SyncSource) -> None:
            self._source = source

        def __iter__(self) -> Iterator[bytes]:
            return self._source.pieces()

        def close(self) -> None:
            self._source.close()

    class AsyncStream(library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, source: AsyncSource) -> None:
            self._source = source

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._source.pieces()

        async def aclose(self) -> None:
            await self._source.aclose()

    return SyncStream, AsyncStream


def failure_of(library: Any, error: Exception, place: str) -> Failure | None:
    """What an exception of the inner transport means; None when it is not one about transport."""
    if isinstance(error, (library.ConnectError, library.ConnectTimeout, library.PoolTimeout)):
        return Failure(ConnectFailed(f"{place} cannot be reached: {_text(error)}"), error, unsent=True)
    if isinstance(error, library.TimeoutException):
        return Failure(UpstreamTimeout(f"{place} was silent for too long", phase="first_byte"), error)
    if isinstance(error, library.TransportError):
        return Failure(_broken(place, error), error)
    return None


def exception_of(library: Any, request: Any, error: RouterError, original: BaseException) -> BaseException:
    """What the program is to catch: as its own transport's exceptions, with what the router knows in the text."""
    if isinstance(original, (library.ConnectError, library.ConnectTimeout, library.PoolTimeout)):
        made: BaseException = library.ConnectError(error.message, request=request)
        made.__cause__ = original
        return made
    return original


def _broken(place: str, error: Exception) -> UpstreamError:
    return UpstreamDisconnected(f"{place} broke the exchange off: {_text(error)}")


def _text(error: Exception) -> str:
    """The exception's kind and a short, printable text; httpx's own never hold headers or bodies."""
    text = "".join(char for char in str(error) if char.isprintable())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
