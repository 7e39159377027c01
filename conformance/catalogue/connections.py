"""How requests travel: reuse, chunks, 100-continue, sizes, odd headers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from conformance.catalogue.building import GREEDY, MISSING, Exchange, say
from conformance.subject import Subject
from conformance.wire import Request

__all__ = ["exchanges"]

_GROUP = "connections"
_JSON = ("Content-Type", "application/json")


def exchanges(subject: Subject) -> Iterator[Exchange]:
    """One connection for many requests, then one request in many forms."""
    yield from _reuse(subject)
    yield from _uploads(subject)
    yield from _sizes(subject)
    yield from _headers(subject)


def _chat(subject: Subject, *, stream: bool = False, **more: Any) -> Request:
    body: dict[str, Any] = {"model": subject.model, "messages": say(), "options": GREEDY, "stream": stream, **more}
    return Request(method="POST", path="/api/chat", headers=(_JSON,), body=json.dumps(body).encode())


def _one(name: str, request: Request, *topics: str) -> Exchange:
    return Exchange(group=_GROUP, name=name, requests=(request,), topics=frozenset(topics))


def _reuse(subject: Subject) -> Iterator[Exchange]:
    root, head = Request(method="GET", path="/"), Request(method="HEAD", path="/")
    missing = Request(method="GET", path="/api/nope")
    wrong = Request(method="GET", path="/api/chat")
    refused = replace(_chat(subject), body=b'{"model": "%b"}' % MISSING.encode())
    series = {
        "three times the same": (root, root, root),
        "after a streamed answer": (_chat(subject, stream=True), root),
        "after a whole answer": (_chat(subject), _chat(subject), root),
        "after HEAD": (head, root, head),
        "after 404": (missing, root),
        "after 405": (wrong, root),
        "after a refused model": (refused, root),
        "after 405 with a body": (replace(_chat(subject), method="PUT"), root),
    }
    for name, requests in series.items():
        topics = frozenset({"wrong method"} if "405" in name else ())
        yield Exchange(group=_GROUP, name=f"reused {name}", requests=requests, topics=topics)


def _uploads(subject: Subject) -> Iterator[Exchange]:
    plain = _chat(subject)
    body = plain.body or b""
    yield _one("body in one chunk", replace(plain, body=None, pieces=(body,)))
    yield _one(
        "body in many chunks", replace(plain, body=None, pieces=tuple(body[i : i + 7] for i in range(0, len(body), 7)))
    )
    yield _one("empty body in chunks", replace(plain, body=None, pieces=()))
    yield _one("100-continue", replace(plain, expects=True))
    in_chunks = replace(plain, expects=True, body=None, pieces=(body[:10], body[10:]))
    yield _one("100-continue in chunks", in_chunks, "100 in chunks")
    yield _one("100-continue, unknown path", replace(plain, expects=True, path="/api/nope"))
    yield _one("GET with a body", Request(method="GET", path="/api/version", body=b'{"x": 1}'), "merged")


def _sizes(subject: Subject) -> Iterator[Exchange]:
    for megabytes in (1, 8):
        yield _one(f"{megabytes} MB of an unknown key", _chat(subject, padding="x" * (megabytes << 20)))
    yield _one("1 MB, streamed answer", _chat(subject, stream=True, padding="x" * (1 << 20)))
    keys: dict[str, Any] = {f"unknown_{number}": number for number in range(5_000)}
    many = _chat(subject, **keys)
    yield _one("thousands of unknown keys", many)
    yield _one("deep unknown key", _chat(subject, deep=json.loads("[" * 200 + "]" * 200)))


def _headers(subject: Subject) -> Iterator[Exchange]:
    plain = _chat(subject)
    variants: dict[str, tuple[tuple[str, str], ...]] = {
        "no content type": (),
        "content type of a form": (("Content-Type", "application/x-www-form-urlencoded"),),
        "content type with charset": (("Content-Type", "application/json; charset=utf-8"),),
        "accept HTML": (_JSON, ("Accept", "text/html")),
        "accept gzip": (_JSON, ("Accept-Encoding", "gzip, br")),
        "long unknown header": (_JSON, ("X-Unknown", "x" * 4_000)),
        "cookie": (_JSON, ("Cookie", "a=b; c=d")),
        "user agent of the Go client": (_JSON, ("User-Agent", "ollama/0.12.0 (amd64 linux) Go/go1.24.1")),
        "identity encoding": (_JSON, ("Content-Encoding", "identity")),
    }
    for name, headers in variants.items():
        yield _one(name, replace(plain, headers=headers))
    yield _one("asked to close", replace(plain, headers=(_JSON, ("Connection", "close"))))
    yield _one(
        "asked to close, streamed", replace(_chat(subject, stream=True), headers=(_JSON, ("Connection", "close")))
    )
    yield _one("gzip declared", replace(plain, headers=(_JSON, ("Content-Encoding", "gzip"))), "encoded body")
    nobody = (("Authorization", ""), _JSON)
    yield _one("nobody's request", replace(plain, headers=nobody), "anonymous")
    yield _one("nobody's list", Request(method="GET", path="/api/tags", headers=(("Authorization", ""),)), "anonymous")
