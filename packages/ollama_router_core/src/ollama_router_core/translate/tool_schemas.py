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
    if "required" in fixed and not isinstance(fixed["required"], list):
        del fixed["required"]
    return fixed
