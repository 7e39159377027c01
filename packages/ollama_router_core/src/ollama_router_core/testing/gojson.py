"""JSON decoding and encoding like Go's `encoding/json`.

Decodes a body into declared fields (keys are case-insensitive, the last duplicate is used, trailing data is ignored,
errors have Go's texts) and encodes with Go's escapes.

The simulator is deliberately as lenient as the real server.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from ollama_router_core.api.go_json import syntax_error

__all__ = [
    "ANY",
    "BOOL",
    "FLOAT",
    "INT",
    "MAP",
    "STRING",
    "TEXTS",
    "EmptyBodyError",
    "GoJSONError",
    "Kind",
    "ListOf",
    "Struct",
    "decode",
    "dumps",
]


class GoJSONError(ValueError):
    """The body cannot be decoded; the text is Go's."""


class EmptyBodyError(GoJSONError):
    """The body has no JSON value (Go: `io.EOF`)."""

    def __init__(self) -> None:
        super().__init__("EOF")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with duplicate keys."""


class Kind(Protocol):
    """The type of a declared field."""

    def take(self, value: Any, previous: Any, path: str) -> Any:
        """Return the field's new value; `previous` is that of an earlier duplicate."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A Go string, bool, int or float64; `null` keeps the previous value, unless it is a pointer."""

    go_type: str
    accepts: tuple[type, ...]
    pointer: bool = False

    def take(self, value: Any, previous: Any, path: str) -> Any:
        """Return `value` if it has the declared type."""
        if value is None:
            return None if self.pointer else previous
        if type(value) not in self.accepts or not _in_range(value):
            _mismatch(value, path, self.go_type)
        return _readable(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Anything:
    """A Go `any`: any value."""

    def take(self, value: Any, previous: Any, path: str) -> Any:  # noqa: ARG002 - one signature for all kinds
        """Return the value with the last of each duplicate key; keys are case-sensitive."""
        return _plain(value, path)


@dataclass(frozen=True, slots=True)
class Map:
    """A Go map with text keys: duplicates of the field are merged."""

    item: Kind = Anything()
    go_type: str = "map[string]interface {}"

    def take(self, value: Any, previous: Any, path: str) -> Any:
        """Return the map, merged with that of an earlier duplicate."""
        if value is None:
            return None
        if not isinstance(value, _Pairs):
            _mismatch(value, path, self.go_type)
        merged = dict(previous or {})
        for key, one in value:
            merged[_readable(key)] = self.item.take(one, None, path)
        return merged


@dataclass(frozen=True, slots=True)
class ListOf:
    """A Go slice of one kind."""

    item: Kind
    go_type: str = "[]string"

    def take(self, value: Any, previous: Any, path: str) -> Any:  # noqa: ARG002 - one signature for all kinds
        """Return the items by the item's kind; a duplicate replaces the slice."""
        if value is None:
            return None
        if isinstance(value, _Pairs) or not isinstance(value, list):
            _mismatch(value, path, self.go_type)
        return [self.item.take(one, None, path) for one in value]


@dataclass(frozen=True, slots=True)
class Struct:
    """A Go struct: declared fields, matched by folded name; unknown keys are ignored."""

    name: str
    fields: Mapping[str, Kind] = field(default_factory=dict)
    package: str = "api"

    def take(self, value: Any, previous: Any, path: str) -> Any:
        """Return the struct's fields by their declared names; unsent fields are absent."""
        if value is None:
            return previous
        if not isinstance(value, _Pairs):
            _mismatch(value, path, self.name if path else f"{self.package}.{self.name}")
        taken: dict[str, Any] = dict(previous or {})
        for key, raw in value:
            name = self._field_named(key)
            if name is not None:
                where = f"{path or self.name}.{name}"
                taken[name] = self.fields[name].take(raw, taken.get(name), where)
        return taken

    def _field_named(self, key: str) -> str | None:
        if key in self.fields:
            return key
        folded = _fold(key)
        return next((name for name in self.fields if _fold(name) == folded), None)


ANY = Anything()
MAP = Map()
STRING = Scalar("string", (str,))
TEXTS = Map(STRING, "map[string]string")
BOOL = Scalar("bool", (bool,), pointer=True)
INT = Scalar("int", (int,), pointer=True)
FLOAT = Scalar("float64", (int, float), pointer=True)


def decode(body: bytes, shape: Struct) -> dict[str, Any]:
    """Decode the first JSON value of `body` as the fields of `shape`.

    Raises:
        EmptyBodyError: the body has only white space.
        GoJSONError: a syntax error or a value of the wrong type.
    """
    text = body.decode("utf-8", errors="replace").lstrip(" \t\r\n")
    if not text:
        raise EmptyBodyError
    taken: dict[str, Any] = shape.take(_parse(text, body), {}, "")
    return taken


def dumps(value: Any) -> bytes:
    """Encode compact JSON with Go's HTML escapes."""
    text = _ENCODER.encode(value)
    for character, escape in _ESCAPES:
        if character in text:
            text = text.replace(character, escape)
    return text.encode("utf-8", errors="replace")


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ESCAPES = (
    ("<", "\\u003c"),
    (">", "\\u003e"),
    ("&", "\\u0026"),
    ("\u2028", "\\u2028"),
    ("\u2029", "\\u2029"),
)


def _fold(key: str) -> str:
    """Return Go's folded name: ASCII case, plus the two non-ASCII letters that fold into ASCII."""
    return key.replace("\u212a", "k").replace("\u017f", "s").lower()


def _parse(text: str, body: bytes) -> Any:
    try:
        value, _ = _DECODER.raw_decode(text)
    except ValueError:
        raise GoJSONError(syntax_error(body) or "unexpected EOF") from None
    except RecursionError:
        raise GoJSONError("exceeded max depth") from None
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _integer(digits: str) -> int | float:
    """Convert an integer; huge ones become floats, as their conversion would be slow."""
    return int(digits) if len(digits) < 400 else float(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_no_constant, parse_int=_integer)
_INT64 = 1 << 63


def _mismatch(value: Any, path: str, go_type: str) -> NoReturn:
    where = f"Go struct field {path}" if path else "Go value"
    raise GoJSONError(f"json: cannot unmarshal {_json_type(value)} into {where} of type {go_type}")


def _json_type(value: Any) -> str:
    if isinstance(value, _Pairs):
        return "object"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, list):
        return "array"
    if isinstance(value, str):
        return "string"
    return f"number {value}" if isinstance(value, float) else "number"


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, _Pairs):
        return {_readable(key): _plain(one, path) for key, one in value}
    if isinstance(value, list):
        return [_plain(one, path) for one in value]
    if isinstance(value, float) and math.isinf(value):
        _mismatch(value, path, "float64")
    return _readable(value) if isinstance(value, str) else value


def _in_range(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isinf(value)
    return not isinstance(value, int) or -_INT64 <= value < _INT64


def _readable(text: str) -> str:
    """Replace lone surrogates by the replacement character, as in Go."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
