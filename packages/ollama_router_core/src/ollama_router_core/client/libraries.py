"""httpx and httpx2: found from a request, and what their exceptions mean."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Hashable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any

from ollama_router_core.errors import ConnectFailed, RouterError, UpstreamDisconnected, UpstreamError, UpstreamTimeout

__all__ = ["any_library", "as_stream", "exception_of", "failure_of", "library_of"]


def library_of(request: Any) -> Any:
    """Return the module that a request's class, or one it is derived from, comes from.

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
    """Return the library for queries without a request: the one the program has imported, else an installed one."""
    for name in ("httpx", "httpx2"):
        if name in sys.modules:
            return sys.modules[name]
    try:
        return import_module("httpx")
    except ImportError:
        return import_module("httpx2")


def as_stream(library: Any, body: Any) -> Any:
    """Wrap an iterable body with `close` or `aclose` as a stream of this library: its clients insist on the class."""
    return _stream_class(library, hasattr(body, "__aiter__"))(body)


@lru_cache(maxsize=16)
def _stream_class(library: Any, asynchronous: bool) -> Any:  # noqa: FBT001 - a key of the cache
    if asynchronous:

        class AsyncStream(library.AsyncByteStream):  # type: ignore[misc]
            def __init__(self, body: Any) -> None:
                self._body = body

            def __aiter__(self) -> AsyncIterator[bytes]:
                return self._body.__aiter__()  # type: ignore[no-any-return]

            async def aclose(self) -> None:
                await self._body.aclose()

        return AsyncStream

    class Stream(library.SyncByteStream):  # type: ignore[misc]
        def __init__(self, body: Any) -> None:
            self._body = body

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._body)

        def close(self) -> None:
            self._body.close()

    return Stream


def failure_of(library: Any, error: Exception, server: str) -> UpstreamError | None:
    """Return the error that an exception of the inner transport means; None when it is not about transport."""
    if isinstance(error, (library.ConnectError, library.ConnectTimeout, library.PoolTimeout)):
        return ConnectFailed(f"{server} cannot be reached: {_text(error)}")
    if isinstance(error, library.TimeoutException):
        return UpstreamTimeout(f"{server} was silent for too long", phase="first_byte")
    if isinstance(error, library.TransportError):
        return UpstreamDisconnected(f"{server} broke off the exchange: {_text(error)}")
    return None


def exception_of(library: Any, request: Any, error: RouterError, original: BaseException) -> BaseException:
    """Return what the program is to catch: its own transport's exception, with what the router knows in the text."""
    if isinstance(original, (library.ConnectError, library.ConnectTimeout, library.PoolTimeout)):
        made: BaseException = library.ConnectError(error.message, request=request)
        made.__cause__ = original
        return made
    return original


def _text(error: Exception) -> str:
    """Return the exception's kind and a short, printable text; httpx's own never hold headers or bodies."""
    text = "".join(char for char in str(error) if char.isprintable())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
