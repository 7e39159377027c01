"""The OpenAPI description of the admin routes, served at `/router/openapi.json`."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import version
from typing import Any, get_type_hints

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ollama_router_server.admin.admin_routes import OPERATIONS
from ollama_router_server.admin.operation_row import Operation
from ollama_router_server.admin.response_bodies import ErrorBody, ObjectBody

__all__ = ["openapi_document"]

_ANYWHERE = (400, 401, 403, 503)  # 400: also for headers that the HTTP front rejects
_REFERENCE = "#/components/schemas/{model}"


@cache
def openapi_document() -> dict[str, Any]:
    """Build the description, OpenAPI 3.1."""
    kinds = {kind for one in OPERATIONS for kind in (_answer_of(one), one.body) if kind is not None}
    kinds.add(ErrorBody)
    modes = [(kind, "serialization" if kind.__name__.endswith(("Body", "View")) else "validation") for kind in kinds]
    _, schemas = models_json_schema(sorted(modes, key=str), ref_template=_REFERENCE)  # type: ignore[arg-type]
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path.replace(":path", ""), {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ollama-router", "version": version("ollama-router-server")},
        "paths": paths,
        "components": {"schemas": schemas["$defs"], "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    names = re.findall(r"{(\w+)", operation.path)
    path = [_parameter(name, "path", {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}) for name in names]
    query = [_parameter(name, "query", schema) for name, schema in operation.query]
    of_names, of_body = (404,) if names else (), () if operation.body is None else (413,)
    statuses = (*_ANYWHERE, *of_names, *of_body, *operation.refused)
    refusals = {str(status): _json("Refused", ErrorBody) for status in statuses}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "x-roles": sorted(operation.roles),
        "parameters": [*path, *query],
        "responses": {str(operation.status): _answer(operation), **refusals},
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, **_content(operation.body)}
    return described


def _answer(operation: Operation) -> dict[str, Any]:
    kind = _answer_of(operation)
    if kind is None:
        return {"description": "Done", "content": {"text/csv": {"schema": {"type": "string"}}}}
    return _json("Done", kind)


def _answer_of(operation: Operation) -> type[BaseModel] | None:
    if operation.answer is not None or operation.handler is None:
        return operation.answer
    told = get_type_hints(getattr(operation.handler, "func", operation.handler))["return"]
    return told if isinstance(told, type) and issubclass(told, BaseModel) else ObjectBody


def _parameter(name: str, location: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": location, "required": location == "path", "schema": schema}


def _json(description: str, kind: type[BaseModel]) -> dict[str, Any]:
    return {"description": description, **_content(kind)}


def _content(kind: type[BaseModel]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model=kind.__name__)}}}}
