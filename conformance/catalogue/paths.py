"""What can be read without a model, and paths that do not exist."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.catalogue.building import Exchange, get
from conformance.subject import Subject

__all__ = ["exchanges"]

_UNKNOWN = (
    "/nope",
    "/api",
    "/api/nope",
    "/API/tags",
    "/api/tag",
    "/api/tagss",
    "/api/generate/extra",
    "/api/blobs",
    "/v1",
    "/v1/nope",
    "/v1/models/some/name",
    "/v2/chat/completions",
    "/favicon.ico",
    "/index.html",
    "/.env",
)
_WRONG_BASE = frozenset({"/v2/chat/completions"})
"""Paths that only the wrong base URL of a client makes."""
_UNCLEAN = ("/api/tags/", "/v1/models/", "//api/tags", "/api//tags", "/./api/tags", "/api/../api/tags", "/api%2Ftags")


def exchanges(subject: Subject) -> Iterator[Exchange]:
    """Reading routes with GET and HEAD, then unknown and unclean paths."""
    for method in ("GET", "HEAD"):
        yield get("reading", f"{method} /", "/", method=method)
        yield get("reading", f"{method} /api/version", "/api/version", "merged", method=method)
        yield get("reading", f"{method} /api/tags", "/api/tags", "merged", method=method)
    yield get("reading", "query ignored", "/api/tags?x=1&y=%20", "merged")
    yield get("reading", "query on the root", "/?x=1")
    yield get("reading", "GET /api/ps", "/api/ps", "merged")
    yield get("reading", "GET /v1/models", "/v1/models", "merged")
    yield from _single_models(subject)
    for path in _UNKNOWN:
        yield get("unknown paths", f"GET {path}", path, *(("wrong base",) if path in _WRONG_BASE else ()))
    for method in ("HEAD", "POST", "PUT", "DELETE"):
        yield get("unknown paths", f"{method} /api/nope", "/api/nope", method=method)
        yield get("unknown paths", f"{method} /v1/nope", "/v1/nope", method=method)
    yield get("unknown paths", "POST /v1/messages/count_tokens", "/v1/messages/count_tokens", "counting", method="POST")
    for path in _UNCLEAN:
        yield get("unclean paths", f"GET {path}", path, "unclean path")
    yield get("unclean paths", "POST /api/chat/", "/api/chat/", "unclean path", method="POST")


def _single_models(subject: Subject) -> Iterator[Exchange]:
    name = subject.model
    spellings = {"as listed": name, "escaped": name.replace(":", "%3A"), "upper case": name.upper()}
    if "/" not in name:
        for label, spelling in spellings.items():
            yield get("reading", f"GET /v1/models/:model, {label}", f"/v1/models/{spelling}")
    yield get("reading", "GET /v1/models/:model, missing", "/v1/models/orouter-conformance-missing")
    yield get("reading", "GET /v1/models/:model, no name", "/v1/models/bad%20name!", "odd segment")
