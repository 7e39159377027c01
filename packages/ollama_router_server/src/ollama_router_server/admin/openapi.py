"""The OpenAPI description of the admin routes, served at `/router/openapi.json`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from falcon.asgi import Request, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ollama_router_server.admin import shapes
from ollama_router_server.admin.access import ADMINS

__all__ = ["OPERATIONS", "OpenApiResource", "Operation", "openapi_document"]

_ANYWHERE = (400, 401, 403, 503)  # 400: also heads that the HTTP front rejects
_REFERENCE = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path; `refused` are its error statuses besides those of every route."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel]
    body: type[BaseModel] | None = None
    status: int = 200
    refused: tuple[int, ...] = ()
    query: tuple[tuple[str, dict[str, Any]], ...] = ()


_USER, _TOKENS, _GROUP = "/router/users/{name}", "/router/users/{name}/tokens", "/router/groups/{name}"
_USAGE_QUERY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("since", {"type": "number", "minimum": 0, "maximum": 2**52}),
    ("user", {"type": "string"}),
)
_AUDIT_QUERY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("since", {"type": "number", "minimum": 0, "maximum": 2**52}),
    ("actor", {"type": "string"}),
    ("action", {"type": "string", "description": "`user.create`, or `user` for every `user.*`."}),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 10_000}),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(method="get", path="/router/users", summary="List all users", answer=shapes.UsersBody),
    Operation(
        method="post",
        path="/router/users",
        summary="Make a user",
        body=shapes.NewUser,
        answer=shapes.CreatedUserBody,
        status=201,
        refused=(404, 409, 413),
    ),
    Operation(method="get", path=_USER, summary="Show one user", answer=shapes.UserDetailsBody, refused=(404,)),
    Operation(
        method="patch",
        path=_USER,
        summary="Change a user",
        body=shapes.UserPatch,
        answer=shapes.UserDetailsBody,
        refused=(404, 413),
    ),
    Operation(method="delete", path=_USER, summary="Delete a user", answer=shapes.DeletedBody, refused=(404,)),
    Operation(method="get", path=_TOKENS, summary="List a user's tokens", answer=shapes.TokensBody, refused=(404,)),
    Operation(
        method="post",
        path=_TOKENS,
        summary="Give a user one more token",
        body=shapes.NewToken,
        answer=shapes.CreatedTokenBody,
        status=201,
        refused=(404, 409, 413),
    ),
    Operation(
        method="delete",
        path=f"{_TOKENS}/{{token}}",
        summary="End a token",
        answer=shapes.DeletedBody,
        refused=(404,),
    ),
    Operation(method="get", path="/router/groups", summary="List all groups", answer=shapes.GroupsBody),
    Operation(
        method="post",
        path="/router/groups",
        summary="Make a group",
        body=shapes.NewGroup,
        answer=shapes.GroupBody,
        status=201,
        refused=(409, 413),
    ),
    Operation(method="get", path=_GROUP, summary="Show one group", answer=shapes.GroupBody, refused=(404,)),
    Operation(
        method="patch",
        path=_GROUP,
        summary="Change a group",
        body=shapes.GroupPatch,
        answer=shapes.GroupBody,
        refused=(404, 413),
    ),
    Operation(method="delete", path=_GROUP, summary="Delete a group", answer=shapes.DeletedBody, refused=(404, 409)),
    Operation(
        method="get",
        path="/router/usage",
        summary="Requests and tokens by user, model and server",
        answer=shapes.UsageBody,
        query=_USAGE_QUERY,
    ),
    Operation(
        method="get",
        path="/router/audit",
        summary="Who changed what",
        answer=shapes.AuditBody,
        query=_AUDIT_QUERY,
    ),
)


class OpenApiResource:
    """`GET /router/openapi.json`."""

    roles = ADMINS

    async def on_get(self, _request: Request, response: Response) -> None:
        """Answer the description."""
        response.media = openapi_document()


@cache
def openapi_document() -> dict[str, Any]:
    """Build the description, OpenAPI 3.1."""
    kinds = {kind for operation in OPERATIONS for kind in (operation.answer, operation.body) if kind is not None}
    kinds.add(shapes.ErrorBody)
    modes = [(kind, "serialization" if kind.__name__.endswith("Body") else "validation") for kind in kinds]
    _, schemas = models_json_schema(sorted(modes, key=str), ref_template=_REFERENCE)  # type: ignore[arg-type]
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ollama-router", "version": version("ollama-router-server")},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    path = [_parameter(name, "path", {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}) for name in names]
    query = [_parameter(name, "query", schema) for name, schema in operation.query]
    refusals = {str(status): _json("Refused", shapes.ErrorBody) for status in (*_ANYWHERE, *operation.refused)}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": [*path, *query],
        "responses": {str(operation.status): _json("Done", operation.answer), **refusals},
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, **_content(operation.body)}
    return described


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _json(description: str, kind: type[BaseModel]) -> dict[str, Any]:
    return {"description": description, **_content(kind)}


def _content(kind: type[BaseModel]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model=kind.__name__)}}}}
