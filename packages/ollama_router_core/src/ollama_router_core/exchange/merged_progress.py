"""Progress streams of several servers, relayed as one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import PartlyDone, RouterError, UpstreamProtocolError
from ollama_router_core.exchange.actions import Outgoing, ReceiveAny, Release, Send, Steps
from ollama_router_core.exchange.answers import JSON, answer_for, finish, server_field, write, write_head
from ollama_router_core.exchange.asking import refuse_redirect
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.events import Arrival, Piece, Upstream
from ollama_router_core.responses.progress import MergedProgress

__all__ = ["merge_progress"]

_NDJSON = b"application/x-ndjson"
_LONGEST_LINE = 1024 * 1024

Line = Mapping[str, Any]


class _Progress:
    """The progress stream of one server, split into lines."""

    def __init__(self, request: Outgoing, upstream: Upstream) -> None:
        self.server = request.destination.name
        self.ended = False
        self._request = request
        self._upstream = upstream
        self._rest: list[bytes] = []
        self._size = 0

    def lines(self, arrival: Arrival) -> Iterator[Line]:
        """Yield the lines that are now complete.

        Raises:
            UpstreamError: the stream is broken.
        """
        if not isinstance(arrival.result, Piece):
            raise arrival.result
        refuse_redirect(self._request.destination, self._upstream.status)
        for text in self._whole(arrival.result.data):
            yield self._line(text)
        if self._size > _LONGEST_LINE:
            raise UpstreamProtocolError(f"{self.server} sent a line of more than {_LONGEST_LINE} bytes")
        self.ended = arrival.result.complete
        if self.ended and (rest := b"".join(self._rest)).strip():
            yield self._line(rest)

    def _whole(self, data: bytes) -> list[bytes]:
        """Return the lines that end in `data`; keep the rest for the next call."""
        first, *more = data.split(b"\n")
        self._rest.append(first)
        self._size += len(first)
        if not more:
            return []
        whole = [b"".join(self._rest), *more[:-1]]
        self._rest, self._size = [more[-1]], len(more[-1])
        return whole

    @property
    def error(self) -> str | None:
        """The error of a complete stream whose status is not 200."""
        return None if self._upstream.status == 200 else f"answered {self._upstream.status}"

    def _line(self, text: bytes) -> Line:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict):
            raise UpstreamProtocolError(f"{self.server} sent progress that is not JSON")
        return line


def merge_progress(
    context: RequestContext, request: ParsedRequest, servers: tuple[str, ...], requests: Sequence[Outgoing]
) -> Steps[None]:
    """Ask all servers in parallel and answer with one stream, or with one object if the client wants no stream.

    Raises:
        PartlyDone: before anything is written: no server began, or the client wants no stream and a server failed.
    """
    merged = MergedProgress(request.endpoint.name, servers)
    context.server, context.attempts = ", ".join(servers), len(servers)
    streams: dict[Upstream, _Progress] = {}
    try:
        for outgoing in requests:
            upstream: Upstream = yield Send(outgoing)
            streams[upstream] = _Progress(outgoing, upstream)
        while streams:
            arrival: Arrival = yield ReceiveAny(tuple(streams))
            yield from _take(context, request, merged, streams, arrival)
    finally:
        if streams:
            yield Release(tuple(streams))
    yield from _conclude(context, merged)


def _take(
    context: RequestContext,
    request: ParsedRequest,
    merged: MergedProgress,
    streams: dict[Upstream, _Progress],
    arrival: Arrival,
) -> Steps[None]:
    progress, error = streams[arrival.upstream], None
    try:
        for line in progress.lines(arrival):
            shown = merged.line(progress.server, line)
            if request.route.stream and shown is not None:
                yield from _write(context, shown)
        ended, error = progress.ended, progress.error
    except RouterError as failure:
        ended, error = True, failure.message
    if ended:
        del streams[arrival.upstream]
        merged.end(progress.server, error)
        yield Release((arrival.upstream,))


def _write(context: RequestContext, line: Line) -> Steps[None]:
    if not context.head_written:
        fields = [(b"content-type", _NDJSON), server_field(context.server or ""), *context.router_fields()]
        yield from write_head(context, 200, [*fields, (b"x-accel-buffering", b"no"), (b"cache-control", b"no-cache")])
    yield write(context, _encoded(line) + b"\n")


def _conclude(context: RequestContext, merged: MergedProgress) -> Steps[None]:
    last = merged.conclusion()
    error = PartlyDone(str(last["error"])) if "error" in last else None
    if context.head_written:
        context.error = error
        yield finish(context, _encoded(last) + b"\n")
    elif error is not None:
        raise error
    else:
        yield from answer_for(context, _encoded(last), JSON)


def _encoded(line: Line) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace")
