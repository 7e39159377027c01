"""One operation of OpenAPI's document, as its rows are written."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from pydantic import BaseModel

from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.storage.identities import Role

__all__ = ["Operation"]


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path, for users of these roles; `refused` are error statuses besides those of all routes.

    Without an `answer` it is lines of CSV.
    """

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | None
    body: type[BaseModel] | None = None
    status: int = 200
    roles: frozenset[Role] = ADMINS
    refused: tuple[int, ...] = ()
    query: tuple[tuple[str, dict[str, Any]], ...] = ()
