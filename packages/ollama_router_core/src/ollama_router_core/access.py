"""May this user do this to this model.

Belongs here: roles and what they allow.
Does not belong here: who someone is (`tokens`, the server's `auth`).
"""

from __future__ import annotations

from typing import Literal

from ollama_router_core.endpoints import Endpoint, Kind
from ollama_router_core.errors import Forbidden

__all__ = ["Role", "check_endpoint"]

Role = Literal["admin", "user", "viewer"]

_KINDS: dict[str, frozenset[Kind]] = {
    "admin": frozenset({Kind.INFER, Kind.READ, Kind.MANAGE, Kind.ACCOUNT}),
    "user": frozenset({Kind.INFER, Kind.READ}),
    "viewer": frozenset({Kind.READ}),
}


def check_endpoint(role: Role, endpoint: Endpoint) -> None:
    """Check that a role may use an endpoint's kind of route.

    Raises:
        Forbidden: it may not.
    """
    if endpoint.kind not in _KINDS[role]:
        raise Forbidden(f"{endpoint.path} needs another role: a {role} may not use {endpoint.kind} routes")
