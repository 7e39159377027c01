"""Routes outside the table that the operator allows, forwarded to a server of the model in the body."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ollama_router_core.api.endpoint_matching import Match, family_of_path
from ollama_router_core.api.endpoints import Body, Endpoint, Kind, Routing

__all__ = ["is_forwarded", "match_forwarded"]

_NAME = "forwarded"
_BELOW = "/..."
_PATH = re.compile(r"(?:/[A-Za-z0-9_\-][A-Za-z0-9_.\-]{0,127}){2,8}", re.ASCII)
_KINDS = {"GET": Kind.READ, "POST": Kind.INFER, "PUT": Kind.MANAGE, "PATCH": Kind.MANAGE, "DELETE": Kind.MANAGE}


def match_forwarded(method: str, path: str, patterns: Iterable[str]) -> Match | None:
    """Return a row for an unknown route that a pattern allows; None otherwise.

    A pattern is a path, or ends in `/...` for everything below it. The path is forwarded unchanged; it may have plain
    segments only, which no server decodes or normalises to another path. GET needs no model; PUT, PATCH and DELETE are
    for admins, like the routes that manage models.
    """
    kind = _KINDS.get(method)
    if kind is None or not _PATH.fullmatch(path) or not any(_matches(pattern, path) for pattern in patterns):
        return None
    family = family_of_path(path)
    return Match(
        Endpoint(
            name=_NAME,
            methods=(method,),
            path=path,
            family=family,
            kind=kind,
            routing=Routing.ONE,
            model_keys=() if kind is Kind.READ else ("model", "name"),
            body=Body.NONE if kind is Kind.READ else Body.JSON,
        )
    )


def is_forwarded(endpoint: Endpoint) -> bool:
    """Return whether a row was built by `match_forwarded`."""
    return endpoint.name == _NAME


def _matches(pattern: str, path: str) -> bool:
    if pattern.endswith(_BELOW):
        return path.startswith(pattern.removesuffix("..."))
    return path == pattern
