"""The intended route of an unknown path.

Clients append paths to a base URL, so a base URL with a missing or an extra segment yields a wrong path. A path that is
wrong only in its slashes is redirected, as Ollama does; for others the error names the right base URL. No such path is
served, as a proxy in front filters by the raw path.
"""

from __future__ import annotations

import re

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.endpoints import ENDPOINTS, Endpoint
from ollama_router_core.errors import RequestError

__all__ = ["clean_path", "meant_endpoint"]

_LONGEST = 512
_SLASHES = re.compile(r"/{2,}")
_DOTS = re.compile(r"/\.{1,2}(?:/|$)")
_ROWS = tuple(sorted((row for row in ENDPOINTS if row.path != "/"), key=lambda row: ("{" in row.path, -len(row.path))))


def clean_path(method: str, path: str) -> str | None:
    """Return the path without extra slashes if that is a known path; None otherwise."""
    clean = _without_slashes(path)
    if clean == path or len(path) > _LONGEST:
        return None
    try:
        match_endpoint(method, clean)
    except RequestError:
        return None
    return clean


def meant_endpoint(path: str) -> Endpoint | None:
    """Return the route whose path this one ends in, or ends in without its first segment; None if there is none."""
    if len(path) > _LONGEST or not path.startswith("/") or _DOTS.search(path):
        return None
    plain = _without_slashes(path)
    ends = (row for row in _ROWS if _ends_in(plain, row.path))
    lacks = (row for row in _ROWS if _lacks_first_segment(plain, row.path))
    return next(ends, None) or next(lacks, None)


def _without_slashes(path: str) -> str:
    return _SLASHES.sub("/", path).rstrip("/") or "/"


def _lacks_first_segment(path: str, known: str) -> bool:
    _, slash, below = known[1:].partition("/")
    rest = slash + below
    return path == rest if rest.count("/") < 2 else path.endswith(rest)


def _ends_in(path: str, known: str) -> bool:
    fixed, brace, _ = known.partition("{")
    return fixed in path[1 : path.rindex("/") + 1] if brace else path.endswith(known)
