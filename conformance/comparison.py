"""Two answers side by side."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.catalogue import Exchange
from conformance.masks import masked
from conformance.wire import Answer, Request

__all__ = ["Difference", "compare"]

_NOT_COMPARED = frozenset({"date", "content-length", "transfer-encoding", "keep-alive"})  # framing is compared as such
_SHOWN = 160
_MOST = 12
_STREAM_LENGTH = 4  # chunks; and seconds in which they came from the server itself: such an answer is a stream,
_STREAM_SECONDS = 0.02  # and one chunk of it at the other side means that somebody held it back


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not the same; `where` is "status", "framing", "header NAME", "chunks", "body PATH", ..."""

    where: str
    direct: str
    through: str


def compare(
    exchange: Exchange, direct: Sequence[Answer], through: Sequence[Answer], *, nonces: tuple[str, str] = ("", "")
) -> list[Difference]:
    """Everything that differs between the answers to one exchange."""
    found: list[Difference] = []
    for number, (request, one, other) in enumerate(zip(exchange.requests, direct, through, strict=True)):
        label = f"answer {number + 1}: " if len(exchange.requests) > 1 else ""
        found += (
            Difference(where=label + difference.where, direct=difference.direct, through=difference.through)
            for difference in _compare(exchange, request, one, other, nonces)
        )
    return found


def _compare(
    exchange: Exchange, request: Request, one: Answer, other: Answer, nonces: tuple[str, str]
) -> Iterator[Difference]:
    plain: dict[str, tuple[Any, Any]] = {
        "connection": (one.problem, other.problem),
        "status": (one.status, other.status),
        "interim": (one.interim, other.interim),
        "framing": (one.framing, other.framing),
        "connection kept": (one.reusable, other.reusable),
    }
    for where, (here, there) in plain.items():
        if here != there:
            yield _difference(where, here, there)
    yield from _heads(one, other)
    mask = {"lists_models": request.path.startswith("/v1/models"), "own_digest": "own digest" in exchange.topics}
    bodies = [
        list(masked(answer.chunks, nonce=nonce, **mask)) for answer, nonce in zip((one, other), nonces, strict=True)
    ]
    yield from _bodies(one, bodies[0], bodies[1])


def _heads(one: Answer, other: Answer) -> Iterator[Difference]:
    names = [name for name, _ in (*one.headers, *other.headers) if name not in _NOT_COMPARED]
    for name in dict.fromkeys(names):
        if one.header(name) != other.header(name):
            yield _difference(f"header {name}", one.header(name), other.header(name))


def _bodies(answer: Answer, one: list[bytes], other: list[bytes]) -> Iterator[Difference]:
    content_type = (answer.header("content-type") or "").partition(";")[0]
    if content_type in {"application/x-ndjson", "text/event-stream"}:
        yield from _chunks(answer.span, one, other, b"\n" if content_type == "application/x-ndjson" else b"\n\n")
    here, there = b"".join(one), b"".join(other)
    if here == there:
        return
    found = list(itertools.islice(_values(_read(here, content_type), _read(there, content_type), "$"), _MOST))
    yield from found or [_difference("body bytes, same values", here, there)]


def _chunks(span: float, one: list[bytes], other: list[bytes], mark: bytes) -> Iterator[Difference]:
    """How lines or events lie in chunks: the same, or several whole chunks passed on together, or anything else."""
    shapes = [tuple(_shape(chunk, mark) for chunk in chunks) for chunks in (one, other)]
    if shapes[0] == shapes[1]:
        return
    ends = [set(itertools.accumulate(lines for lines, _ in chunks)) for chunks in shapes]
    joined = all(whole for _, whole in shapes[1]) and ends[1] <= ends[0]
    held_back = len(other) == 1 and len(one) >= _STREAM_LENGTH and span >= _STREAM_SECONDS
    where = "chunks" if not joined else "chunks held back" if held_back else "chunks joined"
    yield _difference(where, _told(shapes[0]), _told(shapes[1]))


def _shape(chunk: bytes, mark: bytes) -> tuple[int, bool]:
    """How many lines or events a chunk has, and whether it ends with one."""
    return chunk.count(mark), chunk.endswith(mark)


def _told(shapes: Sequence[tuple[int, bool]]) -> str:
    runs = ((shape, len(list(run))) for shape, run in itertools.groupby(shapes))
    return ", ".join(f"{count} x {lines}{'' if whole else ' and a part'}" for (lines, whole), count in runs)


def _read(body: bytes, content_type: str) -> Any:
    """A body as values, objects as lists of pairs so that order counts."""
    text = body.decode("utf-8", errors="backslashreplace")
    if content_type == "text/event-stream":
        return [_event(event) for event in text.split("\n\n") if event]
    if content_type == "application/x-ndjson":
        return [_json(line) for line in text.splitlines()]
    return _json(text)


def _event(event: str) -> list[tuple[str, Any]]:
    lines = (line.partition(": ") for line in event.split("\n"))
    return [(field, _json(value)) for field, _, value in lines]


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_Object)
    except ValueError:
        return text


class _Object(list[tuple[str, Any]]):
    """A JSON object, in order."""


def _values(one: Any, other: Any, path: str) -> Iterator[Difference]:
    if isinstance(one, _Object) and isinstance(other, _Object):
        keys = [[key for key, _ in value] for value in (one, other)]
        if keys[0] != keys[1]:
            yield _difference(f"body {path} keys", keys[0], keys[1])
        there = dict(other)
        for key, value in one:
            if key in there:
                yield from _values(value, there[key], f"{path}.{key}")
    elif type(one) is list and type(other) is list:
        if len(one) != len(other):
            yield _difference(f"body {path} length", len(one), len(other))
        for index, (here, there_too) in enumerate(zip(one, other, strict=False)):
            yield from _values(here, there_too, f"{path}[{index}]")
    elif type(one) is not type(other) or one != other:
        yield _difference(f"body {path}", one, other)


def _difference(where: str, direct: Any, through: Any) -> Difference:
    return Difference(where=where, direct=_short(direct), through=_short(through))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
