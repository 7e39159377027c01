"""Strict parsing of a JSON object, and edits that leave all other bytes unchanged.

`json.loads` and `json.dumps` are not enough: Go (Ollama) matches keys case-insensitively, uses the last duplicate and
ignores trailing data. Here duplicates and trailing data are rejected, and the client's own text is sent with only the
edited values replaced, so that lone surrogates, `1e400` and 30-digit integers survive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, KeysView, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ollama_router_core.api.value_counts import too_many_values
from ollama_router_core.errors import AmbiguousKey, BodyTooLarge, InvalidBody

__all__ = ["JsonObject", "parse_object"]

_SPACE = re.compile(r"[ \t\n\r]*")


def _no_constant(name: str) -> float:
    raise InvalidBody(f"{name} is not JSON")


def _any_int(digits: str) -> int | float:
    """Convert an integer, to float beyond Python's limit of digits; the exact value does not matter."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_PATIENT_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_int=_any_int)


_VALUE = msgspec.json.Decoder(Any).decode
_VALUES = msgspec.json.Decoder(dict[str, Any]).decode
_LIST = msgspec.json.Decoder(list[msgspec.Raw]).decode
_PIECES = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_TOO_DEEP = "the JSON is nested too deeply"
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_TYPES: Mapping[bytes, type[object]] = {b'"': str, b"{": dict, b"[": list, b"t": bool, b"f": bool, b"n": type(None)}
"""Types by the first byte of a value's text."""
_CLOSED_BY = {b"[": b"]", b"{": b"}", b'"': b'"'}
_SHORTEST_MEMBER = len('"":0,')  # without its key
_AROUND_MEMBER = len('"":,')
_AROUND_MEMBERS = len("{}") - len(",")  # the last member has no comma


class JsonObject(Struct, eq=False):
    """A JSON object: its text, its values by key, and their positions in the text.

    `keys` are in the order of the text. `pieces` are the raw values by key; None for a body parsed by `_walk`.
    """

    _source: bytes | str
    keys: KeysView[str]
    _values: Mapping[str, Any] | None = None
    _spans: Mapping[str, tuple[int, int]] | None = None
    pieces: dict[str, msgspec.Raw] | None = None

    def __repr__(self) -> str:
        """Omit the content, which contains users' prompts."""
        return f"JsonObject(<{len(self._source)} long>)"

    @property
    def text(self) -> str:
        """The parsed text."""
        source = self._source
        return source if isinstance(source, str) else source.decode("utf-8")

    @property
    def values(self) -> Mapping[str, Any]:
        """The values by key, decoded on first use, as most bodies are only forwarded.

        Raises:
            InvalidBody: they are nested too deeply for the remaining stack.
        """
        values = self._values
        if values is None:
            values = self._values = _values_of(self._source)
        return values

    @property
    def spans(self) -> Mapping[str, tuple[int, int]]:
        """Start and end of each value in `text`, computed on first use, as most bodies are sent unedited."""
        if self._spans is None:
            self._spans = _walk_any_integers(self.text).spans
        return self._spans

    def type_of(self, key: str) -> type[object]:
        """Return the type of an existing key's value without decoding it; `float` for any number."""
        if self.pieces is None:
            return float if type(self.values[key]) is int else type(self.values[key])
        return _TYPES.get(bytes(memoryview(self.pieces[key])[:1]), float)

    def length_of(self, key: str) -> int:
        """Return the length in bytes of an existing key's raw value, without decoding it."""
        if self.pieces is not None:
            return len(memoryview(self.pieces[key]))
        start, end = self.spans[key]
        return len(self.text[start:end].encode("utf-8", "surrogatepass"))

    def truthy(self, key: str) -> bool:
        """Return whether a key's value exists and is not null, false, zero or empty, mostly without decoding it."""
        if key not in self.keys:
            return False
        beginning = b"" if self.pieces is None else bytes(memoryview(self.pieces[key])[:2])
        if beginning[:1] in _CLOSED_BY and not beginning[1:].isspace():
            return beginning[1:] != _CLOSED_BY[beginning[:1]]
        return bool(self.get(key))

    def mentions(self, key: str, words: Iterable[bytes]) -> bool:
        """Return whether a key's raw value may contain one of the words; False is certain."""
        if self.pieces is None:
            return self.get(key) is not None
        text = bytes(self.pieces.get(key, b"")).lower()
        for word in words:  # noqa: SIM110 - `any` with a generator takes twice as long
            if word in text:
                return True
        return False

    def elements(self, key: str) -> list[bytes]:
        """Return the raw elements of the list under a key; empty if it is not a list."""
        if self.pieces is not None:
            text = bytes(self.pieces.get(key, b""))
        else:
            start, end = self.spans.get(key, (0, 0))
            text = self.text[start:end].encode()
        return [bytes(each) for each in _LIST(text)] if text.startswith(b"[") else []

    def get(self, key: str) -> Any:
        """Return the value of a key, or None if it is absent or null."""
        if self._values is None and self.pieces is not None:
            if key not in self.pieces:
                return None
            return _value_of(self.pieces[key])
        return self.values.get(key)

    def first_of(self, key: str, most: int) -> Iterator[Any] | None:
        """Iterate over the first values of the list under a key; None if it is not a list."""
        if self._values is None and self.pieces is not None and key in self.pieces:
            piece = self.pieces[key]
            return map(_value_of, _LIST(piece)[:most]) if bytes(piece).startswith(b"[") else None
        found = self.get(key)
        return iter(found[:most]) if isinstance(found, list) else None

    def part(self, key: str) -> JsonObject:
        """Return the object under a key.

        Raises:
            AmbiguousKey: the object has a key twice.
        """
        if self.pieces is not None:
            return parse_object(bytes(self.pieces[key]))
        start, end = self.spans[key]
        return parse_object(self.text[start:end].encode())

    def child(self, key: str) -> Mapping[str, Any]:
        """Return the members of the object under a key; raises as `part` does."""
        return self.part(key).values

    def replace(self, changes: Mapping[str, str | None]) -> str:
        """Return the text with values replaced or appended; `changes` maps keys to JSON text, or None to remove."""
        if None in changes.values():
            return self._without(changes)
        pieces: list[str] = []
        position, whole = 0, self.text
        known = sorted((self.spans[key], text) for key, text in changes.items() if text and key in self.spans)
        for (start, end), text in known:
            pieces += (whole[position:start], text)
            position = end
        pieces.append(whole[position:])
        added = [f"{json.dumps(key)}:{text}" for key, text in changes.items() if key not in self.spans]
        whole = "".join(pieces)
        if not added:
            return whole
        end = whole.rindex("}")
        return f"{whole[:end]}{',' if self.spans else ''}{','.join(added)}{whole[end:]}"

    def _without(self, changes: Mapping[str, str | None]) -> str:
        """Return the object without removed members; values keep their text, white space between members is lost."""
        whole = self.text
        kept = {**{key: whole[start:end] for key, (start, end) in self.spans.items()}, **changes}
        return f"{{{','.join(f'{json.dumps(key)}:{text}' for key, text in kept.items() if text is not None)}}}"


def parse_object(body: bytes) -> JsonObject:
    """Parse a body that must be exactly one JSON object in UTF-8.

    Raises:
        InvalidBody: the body is empty, not UTF-8, not JSON, not an object, or has trailing data.
        AmbiguousKey: the object has a key twice.
        BodyTooLarge: it has more than 100,000 strings or 300,000 values.
    """
    if not body:
        raise InvalidBody("missing request body")
    if (too_many := too_many_values(body)) is not None:
        raise BodyTooLarge(f"the body has {too_many}")
    pieces = _read_quickly(body)
    if pieces is not None:
        return JsonObject(body, pieces.keys(), None, None, pieces)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidBody(f"the body is not UTF-8: byte {error.start} cannot be decoded") from None
    return _parse_text(text)


def _read_quickly(body: bytes) -> dict[str, msgspec.Raw] | None:
    """Return the raw values at a fraction of `_walk`'s cost; None if `_walk` must parse the body.

    msgspec is as strict as `_walk`, but keeps the last of duplicate keys, and does not check the encoding of skipped
    text. Bytes not accounted for by the kept members are white space or a dropped duplicate; if they are fewer than the
    shortest member, there is no duplicate.
    """
    try:
        pieces: dict[str, msgspec.Raw] = _PIECES(body)
        if not body.isascii():
            body.decode()
    except _UNREADABLE:
        return None
    unexplained = len(body) - _AROUND_MEMBERS - _AROUND_MEMBER * len(pieces)
    for key, piece in pieces.items():
        unexplained -= len(key) + len(piece)
    if unexplained < _SHORTEST_MEMBER or _is_only_space(unexplained, body, pieces):
        return pieces
    return None


def _value_of(piece: msgspec.Raw) -> Any:
    """Decode one raw value of a parsed text; only Python's decoder accepts some numbers."""
    try:
        return _VALUE(piece)
    except _UNREADABLE:
        return _decoded(bytes(piece).decode())


def _decoded(text: str) -> Any:
    try:
        return _PATIENT_DECODER.decode(text)
    except RecursionError:
        raise InvalidBody(_TOO_DEEP) from None


def _values_of(source: bytes | str) -> Mapping[str, Any]:
    """Decode all values of a parsed text."""
    if isinstance(source, str):
        return _parse_text(source).values
    try:
        return _VALUES(source)
    except _UNREADABLE:
        return _parse_text(source.decode()).values


def _is_only_space(unexplained: int, body: bytes, pieces: Mapping[str, msgspec.Raw]) -> bool:
    return unexplained < _SHORTEST_MEMBER + min(map(len, pieces), default=0) or _is_spaced(body, pieces)


def _is_spaced(body: bytes, pieces: Mapping[str, msgspec.Raw]) -> bool:
    """Return whether the body is exactly these members in the format of Python's `json.dumps`."""
    return body == b"{%b}" % b", ".join([b'"%b": %b' % (key.encode(), piece) for key, piece in pieces.items()])


def _parse_text(text: str) -> JsonObject:
    try:
        return _walk_any_integers(text)
    except json.JSONDecodeError as error:
        raise InvalidBody(f"invalid JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise InvalidBody(_TOO_DEEP) from None


def _walk_any_integers(text: str) -> JsonObject:
    """Walk a text; again with a slower decoder if an integer exceeds Python's limit of digits."""
    try:
        return _walk(text, _DECODER)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return _walk(text, _PATIENT_DECODER)


def _walk(text: str, decoder: json.JSONDecoder) -> JsonObject:
    position = _space(text, 0)
    if text[position : position + 1] != "{":
        decoder.raw_decode(text, position)
        raise InvalidBody("the body must be a JSON object")
    values: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    position = _space(text, position + 1)
    more = text[position : position + 1] != "}"
    while more:
        key, position = _key(text, position, decoder)
        if key in spans:
            raise AmbiguousKey(f"the body has the key {key[:64]!r} twice")
        values[key], end = decoder.raw_decode(text, position)
        spans[key] = (position, end)
        position = _space(text, end)
        more = text[position : position + 1] == ","
        position = _space(text, position + 1) if more else position
    if text[position : position + 1] != "}":
        raise json.JSONDecodeError("expected ',' or '}'", text, position)
    if _space(text, position + 1) != len(text):
        raise InvalidBody("invalid JSON: more data after the end of the object")
    return JsonObject(text, values.keys(), values, spans)


def _space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _key(text: str, position: int, decoder: json.JSONDecoder) -> tuple[str, int]:
    if text[position : position + 1] != '"':
        raise json.JSONDecodeError("expected a key in double quotes", text, position)
    key, position = decoder.raw_decode(text, position)
    position = _space(text, position)
    if text[position : position + 1] != ":":
        raise json.JSONDecodeError("expected ':'", text, position)
    return key, _space(text, position + 1)
