"""Routes that the table does not have and that the operator lets pass: to a server of the model in the body."""

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
    """Return a row for an unknown route that a pattern lets pass, None when none does.

    A pattern is a path, or one that ends in `/...` for all below it. The path is sent as it came: it has plain segments
    only, nothing that a server could decode or clean into another path. GET needs no model; what changes something
    (PUT, PATCH, DELETE) is for admins, as the routes that manage models are.
    """
    kind = _KINDS.get(method)
    if kind is None or not _PATH.fullmatch(path) or not any(_lets_pass(pattern, path) for pattern in patterns):
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
    """Whether a row is one of `match_forwarded`."""
    return endpoint.name == _NAME


def _lets_pass(pattern: str, path: str) -> bool:
    if pattern.endswith(_BELOW):
        return path.startswith(pattern.removesuffix("..."))
    return path == pattern
