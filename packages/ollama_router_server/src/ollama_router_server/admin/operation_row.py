"""One row of the table of the admin routes: what is served, and what OpenAPI's document says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from msgspec import Struct
from pydantic import BaseModel

from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.storage.identities import Role

__all__ = ["Answer", "Handler", "Operation", "delete", "get", "patch", "post"]

Answer = BaseModel | dict[str, Any]
Handler = Callable[..., Answer | Awaitable[Answer]]
"""Gets the services, the request and the names in the path; returns a view, or an object as it is."""


class Operation(Struct, frozen=True):
    """One method of one path below `/router/`, for users of these roles; without a `handler` the application gives one.

    The `answer` is what the handler says that it returns unless it is given; without either it is lines of CSV.
    `refused` are error statuses besides those of all routes, 404 of a path with names, and 413 of a body.
    """

    method: str
    path: str
    handler: Handler | None
    summary: str
    roles: frozenset[Role] = ADMINS
    answer: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    status: int = 200
    refused: tuple[int, ...] = ()
    query: tuple[tuple[str, dict[str, Any]], ...] = ()


get, post, patch, delete = (partial(Operation, method) for method in ("get", "post", "patch", "delete"))
