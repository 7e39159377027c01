"""Every route with every method it does not take."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.catalogue.building import Exchange, get
from conformance.subject import Subject

__all__ = ["exchanges"]

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_DIGEST = "sha256:" + "0" * 64
_READ = ("GET", "HEAD")
_ROUTES: dict[str, tuple[str, ...]] = {
    "/": _READ,
    "/api/version": _READ,
    "/api/tags": _READ,
    "/api/ps": ("GET",),
    "/api/show": ("POST",),
    "/api/generate": ("POST",),
    "/api/chat": ("POST",),
    "/api/embed": ("POST",),
    "/api/embeddings": ("POST",),
    "/api/pull": ("POST",),
    "/api/push": ("POST",),
    "/api/create": ("POST",),
    "/api/copy": ("POST",),
    "/api/delete": ("DELETE",),
    f"/api/blobs/{_DIGEST}": ("HEAD", "POST"),
    "/v1/chat/completions": ("POST",),
    "/v1/completions": ("POST",),
    "/v1/embeddings": ("POST",),
    "/v1/models": ("GET",),
    "/v1/models/some-model": ("GET",),
    "/v1/responses": ("POST",),
    "/v1/messages": ("POST",),
    "/v1/audio/transcriptions": ("POST",),
}


def exchanges(_: Subject) -> Iterator[Exchange]:
    """Each route with all others."""
    for path, methods in _ROUTES.items():
        for method in _METHODS:
            if method not in methods:
                shown = path.replace(_DIGEST, "DIGEST")
                yield get("wrong methods", f"{method} {shown}", path, "wrong method", method=method)
