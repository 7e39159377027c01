"""One row of the table of admin routes, for routing and for the OpenAPI document."""

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
"""Receives the services, the request and the names in the path; returns a view, or an object as is."""


class Operation(Struct, frozen=True):
    """One method of a path below `/router/`, for users of `roles`; without a `handler` the application adds one.

    The default of `answer` is the handler's return type; without either the response is CSV. `refused` lists error
    statuses besides those of all routes, 404 for paths with names, and 413 for bodies.
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
