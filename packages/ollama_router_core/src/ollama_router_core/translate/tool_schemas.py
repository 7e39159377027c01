"""Normalisation of clients' tool schemas: an object with properties, even if the client omitted them."""

from __future__ import annotations

from typing import Any

__all__ = ["object_schema"]


def object_schema(schema: dict[str, Any] | None) -> dict[str, Any]:
    """Return the schema with `type` and `properties`, and without an invalid `required`."""
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
    """Fix nested schemas that OpenAI rejects: arrays without `items`, and PHP's empty list instead of an object."""
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
