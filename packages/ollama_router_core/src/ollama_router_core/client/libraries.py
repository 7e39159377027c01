"""Support for httpx and httpx2: detection from a request, and translation of exceptions."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Hashable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any

from ollama_router_core.errors import ConnectFailed, RouterError, UpstreamDisconnected, UpstreamError, UpstreamTimeout

__all__ = ["any_library", "as_stream", "exception_of", "failure_of", "library_of"]


def library_of(request: Any) -> Any:
    """Return the module of a request's class or of one of its base classes.

    Raises:
        TypeError: the request is of neither library.
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
    """Return the library for queries without a request: the one imported by the program, else an installed one."""
    for name in ("httpx", "httpx2"):
        if name in sys.modules:
            return sys.modules[name]
    try:
        return import_module("httpx")
    except ImportError:
        return import_module("httpx2")


def as_stream(library: Any, body: Any) -> Any:
    """Wrap an iterable body with `close` or `aclose` in the library's stream class, which its clients require."""
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
    """Return the router's error for an exception of the inner transport; None if it is not a transport error."""
    if isinstance(error, (library.ConnectError, library.ConnectTimeout, library.PoolTimeout)):
        return ConnectFailed(f"{server} cannot be reached: {_text(error)}")
    if isinstance(error, library.TimeoutException):
        return UpstreamTimeout(f"{server} was silent for too long", phase="first_byte")
    if isinstance(error, library.TransportError):
        return UpstreamDisconnected(f"{server} broke off the exchange: {_text(error)}")
    return None


def exception_of(library: Any, request: Any, error: RouterError, original: BaseException) -> BaseException:
    """Return the exception for the program: its library's, with the router's text for connection errors."""
    if isinstance(original, (library.ConnectError, library.ConnectTimeout, library.PoolTimeout)):
        made: BaseException = library.ConnectError(error.message, request=request)
        made.__cause__ = original
        return made
    return original


def _text(error: Exception) -> str:
    """Return the exception's class and a short, printable text; httpx's texts contain no headers or bodies."""
    text = "".join(char for char in str(error) if char.isprintable())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
