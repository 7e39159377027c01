"""Texts for messages: expected types, actual values, and the nearest known word."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Struct
from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["Words", "field_type", "nearest", "type_at", "type_words", "value_words"]

_LONGEST = 40
_HUGE = 10**30
_SIMPLE = {bool: "true or false", str: "text", int: "a whole number", float: "a number", type(None): "null"}


class Words(Struct, frozen=True):
    """The name of a type in messages, as metadata of an `Annotated` type."""

    text: str


def field_type(field: FieldInfo) -> Any:
    """Return the field's type as annotated, bounds included."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def type_at(root: Any, path: Iterable[str | int]) -> Any:
    """Return the type of the value at `path` below `root`, or None if there is no such setting."""
    found = root
    for part in path:
        found = _step(found, part)
        if found is None:
            return None
    return found


def type_words(annotation: Any) -> str:
    """Describe a type: `a whole number from 1 to 65535`, `one of http, https`, `a number above 0, or null`."""
    base, metadata = _unwrap(annotation)
    named = [item.text for item in metadata if isinstance(item, Words)]
    if named:
        return named[-1]
    origin = get_origin(base)
    if origin is Literal:
        return "one of " + ", ".join(str(option) for option in get_args(base))
    if origin in (Union, types.UnionType):
        return ", or ".join(type_words(option) for option in get_args(base))
    if origin is tuple:
        return "a list"
    if base not in _SIMPLE:
        return "a mapping"
    return _SIMPLE[base] + _bounds(metadata)


def value_words(value: Any) -> str:
    """Describe a value: `the text "abc"`, `true`, `70000`, `nothing`, `a list`, `a mapping`; long texts are cut."""
    if isinstance(value, str):
        shown = value if len(value) <= _LONGEST else value[: _LONGEST - 3] + "..."
        return f"the text {json.dumps(shown, ensure_ascii=not shown.isprintable())}"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, float) or abs(value) < _HUGE else "a huge number"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word nearest to `word`, or None."""
    by_folded = {option.casefold(): option for option in known}
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def _step(annotation: Any, part: str | int) -> Any:
    for base in _options(annotation):
        origin, arguments = get_origin(base), get_args(base)
        if origin is dict and isinstance(part, str):
            return arguments[1]
        if origin is tuple and isinstance(part, int):
            return arguments[0]
        if isinstance(base, type) and issubclass(base, BaseModel):
            for name, field in base.model_fields.items():
                if part in (name, field.alias):
                    return field_type(field)
    return None


def _options(annotation: Any) -> Iterator[Any]:
    base, _ = _unwrap(annotation)
    if get_origin(base) in (Union, types.UnionType):
        for option in get_args(base):
            yield from _options(option)
    else:
        yield base


def _unwrap(annotation: Any) -> tuple[Any, list[Any]]:
    metadata: list[Any] = []
    base = annotation
    while get_origin(base) is Annotated:
        base, *more = get_args(base)
        for item in more:
            metadata.extend(item.metadata if isinstance(item, FieldInfo) else [item])
    return base, metadata


def _bounds(metadata: list[Any]) -> str:
    bound = {key: getattr(item, key) for item in metadata for key in ("ge", "gt", "le") if hasattr(item, key)}
    if "ge" in bound and "le" in bound:
        return f" from {bound['ge']} to {bound['le']}"
    if "gt" in bound:
        return f" above {bound['gt']}"
    return f" of at least {bound['ge']}" if "ge" in bound else ""
