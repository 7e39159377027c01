"""Every setting as commented YAML, the output of `orouter config reference`.

A line `# text` is an explanation; a line `#key: value` is a setting with its default or an example. The file loads with
all settings uncommented.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ollama_router_core.config.reference import Nesting, nested_section
from ollama_router_core.config.settings import Config
from ollama_router_core.config.words import field_type, type_words
from ollama_router_core.config.yaml_text import comment, inline

__all__ = ["render_commented"]

_HEADER = """\
Every setting of ollama-router. Lines like "#key: value" show the default or an example.

A file is flat, as this one is, or a mapping of environments (`production:`, `staging:`, ...) with the settings below
each. YAML's anchors and merge keys work. ${NAME} and ${NAME:-default} stand for environment variables."""


def render_commented() -> str:
    """Render all settings in the order of a file, each below a comment with its meaning and its type."""
    lines = [line for paragraph in _HEADER.split("\n\n") for line in comment(paragraph)]
    return "\n".join([*lines, *_section(Config, 0)]) + "\n"


def _section(section: type[BaseModel], indent: int) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield ""
        yield from _setting(field.alias or name, field, indent)


def _setting(key: str, field: FieldInfo, indent: int) -> Iterator[str]:
    below, nesting = nested_section(field.annotation)
    margin = " " * indent
    if below is None:
        value, note = _shown(field)
        yield from comment(f"{field.description} ({type_words(field_type(field))}{note})", indent)
        yield f"{margin}#{key}: {inline(value)}"
        return
    yield from comment(field.description or "", indent)
    yield f"{margin}{key}:"
    if nesting is Nesting.LIST:
        yield from _item(below, indent + 2)
    elif nesting is Nesting.BY_NAME:
        yield f"{margin}  #{_example(field)}:"
        yield from _section(below, indent + 4)
    else:
        yield from _section(below, indent + 2)


def _item(section: type[BaseModel], indent: int) -> Iterator[str]:
    """Yield the lines of a list's only entry; its first field carries the dash."""
    lines = list(_section(section, indent + 2))
    first = next(index for index, line in enumerate(lines) if line.lstrip().startswith("#") and line.lstrip()[1] != " ")
    lines[first] = " " * indent + "#- " + lines[first].lstrip().removeprefix("#")
    yield from (line.removeprefix("  ") for line in lines[:first])
    yield from lines[first:]


def _shown(field: FieldInfo) -> tuple[Any, str]:
    """Return the displayed value and the note after its type."""
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return _example(field), "; required"
    if field.examples:
        return _example(field), "; an example, by default empty"
    return list(default) if isinstance(default, tuple) else default, ""


def _example(field: FieldInfo) -> Any:
    return (field.examples or [None])[0]
