"""Bodies that are no proper request, on every route that takes JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

from conformance.catalogue.building import MISSING, Exchange, raw
from conformance.subject import Subject

__all__ = ["exchanges"]

_ROUTES: dict[str, tuple[str, tuple[int, ...]]] = {
    "/api/generate": ("POST", (0, 5)),
    "/api/chat": ("POST", (0, 5)),
    "/api/embed": ("POST", (0, 5)),
    "/api/embeddings": ("POST", (0, 5)),
    "/api/show": ("POST", (0, 5)),
    "/api/pull": ("POST", (0, 5)),
    "/api/push": ("POST", (0, 5)),
    "/api/create": ("POST", (0, 5)),
    "/api/copy": ("POST", (0, 5)),
    "/api/delete": ("DELETE", (0, 5)),
    "/v1/chat/completions": ("POST", (0, 5)),
    "/v1/completions": ("POST", (0, 5)),
    "/v1/embeddings": ("POST", (0, 5)),
    "/v1/responses": ("POST", (0, 13, 3)),
    "/v1/messages": ("POST", (0, 14)),
}
_BROKEN: dict[str, bytes] = {
    "nothing but white space": b" \r\n\t",
    "open object": b"{",
    "cut off": b'{"model": "x", "pro',
    "no JSON": b"model=x",
    "trailing comma": b'{"model": "x",}',
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "byte order mark": b'\xef\xbb\xbf{"model": "x"}',
    "NaN": b'{"model": NaN}',
}
_WRONG: dict[str, bytes] = {
    "array": b"[]",
    "text": b'"x"',
    "number": b"5",
    "model is a number": b'{"model": 5}',
    "model is an object": b'{"model": {}}',
    "stream is a text": b'{"model": "x", "stream": "yes"}',
}
_TWO_MISTAKES = ("/v1/chat/completions", "/v1/embeddings")  # they miss the messages or the input before the model
_EMPTY: dict[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "empty object": b"{}",
    "model is null": b'{"model": null}',
    "model is empty": b'{"model": ""}',
}


def exchanges(subject: Subject) -> Iterator[Exchange]:
    """Broken JSON, wrong types, nothing at all; then bodies that two readers could understand differently."""
    for path, (method, since) in _ROUTES.items():
        if not subject.at_least(*since):
            continue
        for label, body in _EMPTY.items():
            yield raw("empty bodies", f"{label} {path}", path, body, *_topics(path), method=method)
        for label, body in _BROKEN.items():
            topic = "not UTF-8" if label == "not UTF-8" else "bad body"
            yield raw("broken bodies", f"{label} {path}", path, body, topic, method=method)
        for label, body in _WRONG.items():
            yield raw("wrong types", f"{label} {path}", path, body, "bad body", *_topics(path), method=method)
    for path in ("/api/generate", "/api/chat", "/api/show", "/v1/chat/completions"):
        for label, body in _ambiguous(subject.model).items():
            yield raw("ambiguous bodies", f"{label} {path}", path, body, "ambiguous body")


def _topics(path: str) -> tuple[str, ...]:
    return ("two mistakes",) if path in _TWO_MISTAKES else ()


def _ambiguous(model: str) -> dict[str, bytes]:
    name, missing = json.dumps(model).encode(), json.dumps(MISSING).encode()
    return {
        "duplicate model": b'{"model": %b, "model": %b}' % (name, missing),
        "key in capitals": b'{"model": %b, "MODEL": %b}' % (name, missing),
        "key with a Kelvin sign": b'{"model": %b, "\xe2\x84\xaaeep_alive": 1}' % missing,
        "trailing data": b'{"model": %b}{"model": %b}' % (missing, name),
        "trailing text": b'{"model": %b} and more' % missing,
    }
