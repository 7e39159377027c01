"""Schemas of tools as every server takes them: an object with properties, whatever a client left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["object_schema"]


def object_schema(schema: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the schema with `type` and `properties`, and without a `required` that is no list."""
    fixed = dict(schema) if schema else {}
    if fixed.get("type") != "object":
        fixed = {"type": "object", **{key: value for key, value in fixed.items() if key != "type"}}
    if not isinstance(fixed.get("properties"), dict):
        fixed["properties"] = {}
    fixed["properties"] = {name: _completed(value) for name, value in fixed["properties"].items()}
    if "required" in fixed and not isinstance(fixed["required"], list):
        del fixed["required"]
    return fixed


def _completed(schema: Any) -> Any:
    """Complete what OpenAI refuses further inside: lists without `items`, and an empty list where PHP had an object."""
    if not isinstance(schema, dict):
        return schema
    fixed = dict(schema)
    if fixed.get("type") == "array":
        fixed["items"] = _completed(fixed.get("items", {}))
    if fixed.get("type") == "object" and "properties" in fixed:
        inner = fixed["properties"]
        fixed["properties"] = (
            {name: _completed(value) for name, value in inner.items()} if isinstance(inner, dict) else {}
        )
    return fixed
