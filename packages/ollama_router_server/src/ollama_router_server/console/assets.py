"""Style sheet, scripts and icons: read once, versioned by content, cached by browsers permanently."""

from __future__ import annotations

import gzip
import hashlib
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable

import falcon
from falcon.asgi import Request, Response
from msgspec import Struct

__all__ = ["Asset", "AssetResource", "Assets"]

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class Asset(Struct, frozen=True):
    """A static file, plain and gzipped."""

    content_type: str
    plain: bytes
    packed: bytes


class Assets:
    """All static files of the console, read on the first request of a page."""

    @cached_property
    def files(self) -> dict[str, Asset]:
        """Files by name, as `js/live.js`."""
        return dict(sorted(_read(files(__package__) / "static", "")))

    @cached_property
    def version(self) -> str:
        """A digest of all files; part of every address, so that browsers may cache them permanently."""
        digest = hashlib.sha256()
        for name, asset in self.files.items():
            digest.update(name.encode() + b"\0" + asset.plain)
        return digest.hexdigest()[:12]


def _read(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        kind = _TYPES.get(f".{entry.name.rpartition('.')[2]}")
        if entry.is_dir():
            found += _read(entry, f"{name}/")
        elif kind is not None:
            plain = entry.read_bytes()
            found.append((name, Asset(kind, plain, gzip.compress(plain, mtime=0))))
    return found


class AssetResource:
    """`GET /console/v/{version}/{name}`; public, since the files contain nothing about this router."""

    roles = None

    def __init__(self, assets: Assets) -> None:
        self._assets = assets

    async def on_get(self, request: Request, response: Response, version: str, name: str) -> None:
        """Answer a file; one of another version must not be cached."""
        asset = self._assets.files.get(name)
        if asset is None:
            raise falcon.HTTPNotFound(title="no such file", description="the console has no such file")
        current = version == self._assets.version
        response.set_header("cache-control", "public, max-age=31536000, immutable" if current else "no-store")
        response.content_type = asset.content_type
        send(request, response, asset.plain, asset.packed)


def send(request: Request, response: Response, plain: bytes, packed: bytes) -> None:
    """Send bytes, gzipped if the browser accepts that."""
    response.set_header("vary", "accept-encoding")
    if "gzip" in (request.get_header("accept-encoding") or ""):
        response.set_header("content-encoding", "gzip")
        response.data = packed
    else:
        response.data = plain
