"""Every setting with its path, type, default and meaning, from the models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args, get_origin

from msgspec import Struct
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ollama_router_core.config.settings import Config
from ollama_router_core.config.words import field_type, type_words

__all__ = ["Nesting", "Setting", "nested_section", "render_reference", "settings_reference"]


class Nesting(Enum):
    """How a setting contains nested settings; the value is its notation in a path."""

    PLAIN = ""
    BY_NAME = ".<name>"
    LIST = "[]"


class Setting(Struct, frozen=True, kw_only=True):
    """One key of a config file.

    `path` is dotted, with `<name>` for a name that the operator chooses and `[]` for each entry of a list. `default`
    is YAML, None for a required key.
    """

    path: str
    type: str
    default: str | None
    description: str


def settings_reference() -> Iterator[Setting]:
    """Yield every setting in file order, tables before their keys."""
    yield from _walk(Config, "")


def render_reference() -> str:
    """Render the settings as a Markdown table, one row each."""
    rows = ["| setting | value | default | meaning |", "|---|---|---|---|"]
    for setting in settings_reference():
        default = "required" if setting.default is None else f"`{setting.default}`"
        rows.append(f"| `{setting.path}` | {setting.type} | {default} | {setting.description} |")
    return "\n".join(rows) + "\n"


def _walk(section: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in section.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield Setting(
            path=path, type=type_words(field_type(field)), default=_default(field), description=field.description or ""
        )
        below, nesting = nested_section(field.annotation)
        if below is not None:
            yield from _walk(below, f"{path}{nesting.value}.")


def nested_section(annotation: Any) -> tuple[type[BaseModel] | None, Nesting]:
    """Return the section nested in a type, None for a plain type, and the kind of nesting."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict and _is_section(arguments[1]):
        return arguments[1], Nesting.BY_NAME
    if origin is tuple and _is_section(arguments[0]):
        return arguments[0], Nesting.LIST
    return (annotation, Nesting.PLAIN) if _is_section(annotation) else (None, Nesting.PLAIN)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _default(field: FieldInfo) -> str | None:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return None
    if isinstance(value, BaseModel):
        return "{}"
    return value if isinstance(value, str) else json.dumps(value)
