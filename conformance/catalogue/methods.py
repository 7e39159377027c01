"""Every route with every method it does not take."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.catalogue.building import Exchange, get
from conformance.subject import Subject

__all__ = ["exchanges"]

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_DIGEST = "sha256:" + "0" * 64
_READ = ("GET", "HEAD")
# path: the methods it takes and the version it came with
_ROUTES: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "/": (_READ, (0, 5)),
    "/api/version": (_READ, (0, 5)),
    "/api/tags": (_READ, (0, 5)),
    "/api/ps": (("GET",), (0, 5)),
    "/api/show": (("POST",), (0, 5)),
    "/api/generate": (("POST",), (0, 5)),
    "/api/chat": (("POST",), (0, 5)),
    "/api/embed": (("POST",), (0, 5)),
    "/api/embeddings": (("POST",), (0, 5)),
    "/api/pull": (("POST",), (0, 5)),
    "/api/push": (("POST",), (0, 5)),
    "/api/create": (("POST",), (0, 5)),
    "/api/copy": (("POST",), (0, 5)),
    "/api/delete": (("DELETE",), (0, 5)),
    f"/api/blobs/{_DIGEST}": (("HEAD", "POST"), (0, 5)),
    "/v1/chat/completions": (("POST",), (0, 5)),
    "/v1/completions": (("POST",), (0, 5)),
    "/v1/embeddings": (("POST",), (0, 5)),
    "/v1/models": (("GET",), (0, 5)),
    "/v1/models/some-model": (("GET",), (0, 5)),
    "/v1/responses": (("POST",), (0, 13, 3)),
    "/v1/messages": (("POST",), (0, 14)),
    "/v1/audio/transcriptions": (("POST",), (0, 20)),
}


def exchanges(subject: Subject) -> Iterator[Exchange]:
    """Wrong methods; routes that this version does not have are unknown paths on both sides."""
    for path, (methods, since) in _ROUTES.items():
        topics = () if subject.at_least(*since) else ("newer route",)
        for method in _METHODS:
            if method not in methods:
                shown = path.replace(_DIGEST, "DIGEST")
                yield get("wrong methods", f"{method} {shown}", path, *topics, method=method)
