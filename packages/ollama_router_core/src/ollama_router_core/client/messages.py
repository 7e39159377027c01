"""Requests, responses and their fields in httpx or httpx2, made of what they consist of.

The libraries' public ways copy, normalise and check what is known to be right, and cost more than everything else that
is done for a request. Where a version keeps its fields in another form than all known ones do, they are taken anyway.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import lru_cache
from operator import attrgetter, itemgetter
from types import CodeType
from typing import Any, Self

from msgspec import Struct

from ollama_router_core.client.steps import Head, Outgoing
from ollama_router_core.outbound.destinations import Fields

__all__ = [
    "NO_TIMEOUTS",
    "Incoming",
    "Row",
    "as_rows",
    "build_request",
    "build_response",
    "make_request",
    "passed_response",
    "plain_headers",
    "read_fields",
    "read_incoming",
    "stream_class",
    "streamed_response",
]

Row = tuple[bytes, bytes, bytes]
"""A field as both libraries keep it: its name as it was written, its name in lower case, its value."""

NO_TIMEOUTS: Mapping[str, float | None] = {}
"""For requests without the libraries' own extension `timeout`, whose seconds are by what is waited for."""


class Incoming(Struct, frozen=True):
    """A program's request: the library's own object, and what the policy looks at."""

    library: Any
    request: Any
    method: str
    path: str
    body: bytes

    def __repr__(self) -> str:
        """Without fields and body: they hold tokens and what people write."""
        return f"Incoming({self.method} {self.path})"

    @property
    def fields(self) -> Fields:
        """Header fields with names in lower case."""
        return tuple(read_fields(self.library, self.request.headers))


def read_incoming(library: Any, request: Any, body: bytes) -> Incoming:
    """A program's request as the policy takes it."""
    path, _, _ = request.url.raw_path.partition(b"?")
    return Incoming(library, request, request.method, path.decode("ascii", "replace"), body)


# --- fields ---------------------------------------------------------------------------------------------------------


def read_fields(library: Any, headers: Any) -> list[tuple[bytes, bytes]]:
    """Header fields with names in lower case."""
    if plain_headers(library) is not None:
        return [(name, value) for _, name, value in headers._list]  # noqa: SLF001 - see above
    return [(name.lower(), value) for name, value in headers.raw]


def as_rows(fields: Iterable[tuple[bytes, bytes]]) -> list[Row]:
    """Fields with names in lower case as rows."""
    return [(name, name, value) for name, value in fields]


_name_of, _value_of, _text = itemgetter(1), itemgetter(2), bytes.decode


def _make_headers(library: Any, rows: list[Row]) -> Any:
    """The library's own type, or one that only knows its encoding."""
    plain = plain_headers(library)
    if plain is None or not b"".join(map(_value_of, rows)).isascii():
        return library.Headers([(name, value) for name, _, value in rows])
    headers = plain.__new__(plain)
    headers._list = rows  # noqa: SLF001 - see above
    headers._encoding = "ascii"  # noqa: SLF001 - see above
    return headers


_COOKIES = frozenset({b"set-cookie", b"set-cookie2"})


def _cookie_search(library: Any) -> CodeType | None:
    """The code that a library's client looks for cookies with in each answer; None where it is unlike all known."""
    search = getattr(getattr(library.Cookies, "_CookieCompatResponse", None), "info", None)
    return getattr(search, "__code__", None)


@lru_cache(maxsize=4)
def plain_headers(library: Any) -> Any:
    """A type for fields that are ASCII, which it need not find out by decoding each; None where rows are kept unlike.

    All known versions keep rows of (name, lower name, value).
    """
    known = library.Headers([(b"A", b"b")])
    if (getattr(known, "_list", None), getattr(known, "_encoding", "")) != ([(b"A", b"a", b"b")], None):
        return None

    looks_for_cookies = _cookie_search(library)

    def _set_encoding(headers: Any, value: str | None) -> None:
        headers._encoding = value or "ascii"  # noqa: SLF001 - see above

    class Headers(library.Headers):  # type: ignore[misc]
        __module__ = library.Headers.__module__
        encoding = property(attrgetter("_encoding"), _set_encoding)

        def get_list(self, key: str, split_commas: bool = False) -> list[str]:  # noqa: FBT001, FBT002 - theirs
            """As the library's own, which looks for Content-Encoding in vain and takes long."""
            if key.lower().encode(self._encoding) not in map(_name_of, self._list):
                return []
            return super().get_list(key, split_commas)  # type: ignore[no-any-return]

        def multi_items(self) -> list[tuple[str, str]]:
            """All of them; only cookies for the library's own search for these, which makes mail messages of them."""
            if self._encoding != "ascii":
                return super().multi_items()  # type: ignore[no-any-return]
            rows = self._list
            if sys._getframe(1).f_code is looks_for_cookies:  # noqa: SLF001 - twice an answer, 10 us with ours
                rows = [row for row in rows if row[1] in _COOKIES]
            return list(zip(map(_text, map(_name_of, rows)), map(_text, map(_value_of, rows)), strict=True))

        def __reduce__(self) -> tuple[Any, ...]:
            return library.Headers, (self.raw,)  # pickles find no class that was made in a function

    return Headers


# --- requests -------------------------------------------------------------------------------------------------------


def build_request(outgoing: Outgoing) -> Any:
    """The request for the inner transport, in the library of the program's own request."""
    rows = as_rows(outgoing.fields)
    return make_request(
        outgoing.library,
        outgoing.destination.base_url,
        outgoing.method,
        outgoing.target,
        rows,
        outgoing.body,
        outgoing.timeouts,
    )


def make_request(
    library: Any,
    base_url: str,
    method: str,
    target: str,
    rows: Iterable[Row],
    body: bytes,
    timeouts: Mapping[str, float | None],
) -> Any:
    """The same of what it consists of; `rows` are the fields but for Host and Content-Length."""
    url, host, plain, request_class, body_class = _ready(library, base_url, target)
    every = [host, *rows]
    if body or method != "GET":
        every.append((b"content-length", b"content-length", b"%d" % len(body)))
    headers_class = library.Headers
    if plain:
        headers = headers_class.__new__(headers_class)
        headers._list = every  # noqa: SLF001 - see above
        headers._encoding = None  # noqa: SLF001 - it finds out if somebody asks; transports send bytes
    else:
        headers = headers_class([(name, value) for name, _, value in every])
    request = request_class.__new__(request_class)
    request.method = method
    request.url = url
    request.headers = headers
    request.stream = stream = body_class.__new__(body_class)
    stream.content = body
    request.extensions = {"timeout": timeouts}
    return request


@lru_cache(maxsize=1024)
def _ready(library: Any, base_url: str, target: str) -> tuple[Any, Row, bool, Any, Any]:
    """A URL, its Host field, whether fields are kept as known, and the classes of a request and its body."""
    url = library.URL(base_url + target)
    known = plain_headers(library) is not None
    return url, (b"host", b"host", url.netloc), known, *_request_classes(library)


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
        content: bytes

        def __iter__(self) -> Iterator[bytes]:
            return iter((self.content,))

        def __aiter__(self) -> AsyncIterator[bytes]:
            return _Once(self.content)

    class Request(library.Request):  # type: ignore[misc]
        __module__ = library.Request.__module__  # whoever looks where it comes from finds the library

    return Request, Body


# --- responses ------------------------------------------------------------------------------------------------------


def build_response(library: Any, status: int, fields: Iterable[tuple[bytes, bytes]], content: bytes) -> Any:
    """A response with the body in hand."""
    return library.Response(status, headers=_make_headers(library, as_rows(fields)), content=content)


def streamed_response(library: Any, fields: Iterable[tuple[bytes, bytes]], stream: Any) -> Any:
    """A good response whose body is still to be made."""
    return library.Response(200, headers=_make_headers(library, as_rows(fields)), stream=stream)


def passed_response(head: Head, rows: list[Row], stream: Any) -> Any:
    """The inner transport's response with other fields and another stream: itself, if it has not been read yet.

    Its client binds it to a request and wraps its stream in the same way. One that was read gives its body instead of
    the stream's.
    """
    library, response = head.library, head.response
    headers = _make_headers(library, rows)
    if type(response) is not library.Response or response.is_closed or response.is_stream_consumed:
        response = library.Response(head.status, stream=stream, extensions=getattr(response, "extensions", None))
    response.headers = headers
    response.stream = stream
    return response


@lru_cache(maxsize=8)
def stream_class(library: Any, reading: Any) -> Any:
    """`reading`, which iterates and closes, as a stream of this library: clients insist on their own's class."""
    base = library.AsyncByteStream if hasattr(reading, "__aiter__") else library.SyncByteStream
    return type("AnswerStream", (reading, base), {"__module__": reading.__module__})
