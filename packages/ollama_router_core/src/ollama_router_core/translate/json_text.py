"""JSON decoding and encoding, for bodies and stream events.

msgspec decodes a stream's chunk four to eight times as fast as the standard library, for up to three times the chunks a
second in total (benchmarks/translate.py), but it rejects lone surrogates and numbers beyond a double. The standard
library handles those rare texts.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from ollama_router_core.api.value_counts import outside_strings

__all__ = ["JsonError", "decode", "decode_patiently", "encode", "encode_exactly"]

_DECODE = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder().encode
_MAX_DEPTH = 200
_BRACKETS = re.compile(rb"(?P<opens>[\[{])|[\]}]")
_LINE_ENDS = ("\u2028", "\u2029", "\u0085")
_MSGSPEC_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)


class JsonError(ValueError):
    """The text is not JSON, or a value cannot be encoded. Never leaves `translate`."""


def decode(text: bytes | str) -> Any:
    """Parse a JSON text.

    Raises:
        JsonError: not JSON, not UTF-8, nested too deeply, or a number beyond a double.
    """
    _refuse_deep(text)
    try:
        return _DECODE(text)
    except _MSGSPEC_ERRORS:
        return _decode_slowly(text, float_of=_finite, constant_of=_refuse_constant)


def decode_patiently(text: bytes | str) -> Any:
    """Parse as `decode` does, with None for `NaN` and `1e400`, which servers send as log probabilities.

    Raises:
        JsonError: not JSON, not UTF-8, or nested too deeply.
    """
    _refuse_deep(text)
    try:
        return _DECODE(text)
    except _MSGSPEC_ERRORS:
        return _decode_slowly(text, float_of=_finite_or_none, constant_of=lambda _: None)


def _refuse_deep(text: bytes | str) -> None:
    """Reject deep nesting at a fixed depth, as recursion limits depend on Python's version."""
    if len(text) < _MAX_DEPTH:
        return
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if data.count(b"[") + data.count(b"{") <= _MAX_DEPTH:
        return
    depth = 0
    for part in outside_strings(data):
        for found in _BRACKETS.finditer(part):
            depth += 1 if found.lastgroup else -1
            if depth > _MAX_DEPTH:
                raise JsonError("nested too deeply")


def _decode_slowly(text: bytes | str, *, float_of: Any, constant_of: Any) -> Any:
    try:
        readable = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(readable, parse_float=float_of, parse_constant=constant_of)
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except UnicodeDecodeError:
        raise JsonError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: {error.msg} at character {error.pos}") from None
    except ValueError:
        raise JsonError("a number out of range") from None


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value


def _finite_or_none(text: str) -> float | None:
    value = float(text)
    return None if math.isinf(value) else value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def encode(value: Any) -> bytes:
    """Encode a result of `decode`, or a value of texts, integers and finite floats.

    Raises:
        JsonError: nested too deeply.
    """
    try:
        text = _ENCODE(value)
    except _MSGSPEC_ERRORS:
        return encode_exactly(value)
    _refuse_deep(text)
    # Clients that split lines by Unicode's rules, such as httpx's `iter_lines`, would split an event here.
    for end in _LINE_ENDS:
        text = text.replace(end.encode(), b"\\u%04x" % ord(end))
    return text


def encode_exactly(value: Any) -> bytes:
    """Encode as `encode` does, but reject values without JSON text instead of writing null.

    Raises:
        JsonError: nested too deeply, or a number out of range.
    """
    try:
        text = _written(value)
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except ValueError:
        raise JsonError("a number out of range") from None
    _refuse_deep(text)
    return text


def _written(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 but survives as an escape.
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
