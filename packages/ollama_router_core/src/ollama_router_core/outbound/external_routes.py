"""Pass-through routes of external hosts: an allow-list in the config.

The upstream path is built from the matched entry; each `{parameter}` matches one segment of plain characters.
"""

from __future__ import annotations

import re

from msgspec import Struct

from ollama_router_core.api.endpoints import Body, Endpoint, Kind, Routing
from ollama_router_core.config.settings import Config, ExternalHost
from ollama_router_core.errors import InvalidTarget, MethodNotAllowed, UnknownRoute

__all__ = ["EXTERNAL", "PREFIX", "ExternalMatch", "checked_query", "match_external"]

PREFIX = "/external/"
_SEGMENT = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_.:\-]{0,255}", re.ASCII)
_QUERY = re.compile(r"[A-Za-z0-9\-._~!$'()*+,;=:@/?%&\[\]]{0,2048}", re.ASCII)

EXTERNAL = Endpoint(
    name="external",
    methods=("GET", "POST", "PUT", "DELETE", "PATCH"),
    path="/external/{host}/{route}",
    kind=Kind.INFER,
    routing=Routing.EXTERNAL,
    body=Body.RAW,
)
"""The row of all such routes; a host's `routes_for` decides who may use them."""


class ExternalMatch(Struct, frozen=True):
    """A host and its upstream path."""

    host: str
    target: str


def match_external(method: str, path: str, config: Config) -> ExternalMatch:
    """Find the entry for a request's method and path.

    Raises:
        UnknownRoute: no enabled host lists the path.
        MethodNotAllowed: the path is listed with other methods.
    """
    name, slash, rest = path.removeprefix(PREFIX).partition("/")
    host = config.external_hosts.get(name)
    methods = _methods(host, "/" + rest) if host is not None and host.enabled and slash else ()
    if not methods:
        raise UnknownRoute("404 page not found")
    if method not in methods:
        raise MethodNotAllowed("405 method not allowed", allowed=methods)
    return ExternalMatch(name, "/" + rest)


def checked_query(query: str) -> str:
    """Return a valid query string with its question mark; "" for none.

    Raises:
        InvalidTarget: it is too long, or contains invalid characters.
    """
    if not _QUERY.fullmatch(query):
        raise InvalidTarget(
            "the query string is longer than 2048 characters or has characters that it must percent-encode"
        )
    return f"?{query}" if query else ""


def _methods(host: ExternalHost, path: str) -> tuple[str, ...]:
    found = (text.partition(" ") for text in host.routes)
    return tuple(method for method, _, pattern in found if _matches(pattern, path))


def _matches(pattern: str, path: str) -> bool:
    ours, theirs = pattern.split("/")[1:], path.split("/")[1:]
    pairs = zip(ours, theirs, strict=False)
    return len(ours) == len(theirs) and all(
        _SEGMENT.fullmatch(got) is not None if wanted.startswith("{") else wanted == got for wanted, got in pairs
    )
