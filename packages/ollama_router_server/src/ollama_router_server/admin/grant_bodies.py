"""Conversion of grants between HTTP bodies and the core."""

from __future__ import annotations

from typing import Any

from ollama_router_core.access.grants import Grants, grants_from_json, grants_to_json
from ollama_router_server.admin.request_bodies import GrantsBody

__all__ = ["changes_of", "grants_body", "grants_of"]


def grants_of(body: GrantsBody | None) -> Grants:
    """Return the grants in a body.

    Raises:
        InvalidGrants: they are invalid.
    """
    return grants_from_json({} if body is None else body.model_dump(mode="json"))


def changes_of(body: GrantsBody | None) -> dict[str, Any]:
    """Return the fields set in a body, as JSON values; None unsets a grant."""
    return {} if body is None else body.model_dump(mode="json", exclude_unset=True)


def grants_body(grants: Grants) -> GrantsBody:
    """Return grants as a response body."""
    return GrantsBody.model_validate(grants_to_json(grants), strict=False)
