"""Parses servers' JSON within limits: servers are untrusted, and clients see what they report."""

from __future__ import annotations

import json
import math
from typing import Any, TypeGuard

import msgspec
from msgspec import Struct

from ollama_router_core.errors import UpstreamProtocolError

__all__ = ["LONGEST_DOCUMENT", "MOST_MODELS", "Document", "is_version", "read_document", "read_rows", "words_of"]

LONGEST_DOCUMENT = 2 * 1024 * 1024
"""Maximum bytes of one response: `/api/tags` of 2,000 models has 800 KB."""
MOST_MODELS = 2000
"""Maximum rows of one list: decoding, recording and merging that many takes less than 50 ms."""
_LONGEST_LENIENT = 256 * 1024
"""Maximum bytes of a response that needs the lenient decoder, which is slow."""
_LONGEST_VERSION = 64
_LONGEST_WORDS = 300
_DECODE = msgspec.json.Decoder().decode
_MOST_DIGITS = 30


class Document(Struct, frozen=True):
    """A JSON object, and the keys of omitted members, whose numbers are not representable."""

    values: dict[str, Any]
    left_out: tuple[str, ...] = ()


def read_document(body: bytes) -> Document:
    """Parse a JSON object.

    Raises:
        UpstreamProtocolError: it is none, or longer than 2 MiB (256 KiB if the strict decoder rejects it).
    """
    if len(body) > LONGEST_DOCUMENT:
        raise UpstreamProtocolError(f"the server's answer has more than {LONGEST_DOCUMENT} bytes")
    left_out: tuple[str, ...] = ()
    try:
        values = _DECODE(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        values, left_out = _read_leniently(body)
    if not isinstance(values, dict):
        raise UpstreamProtocolError("the server's answer is not a JSON object")
    return Document(values, left_out)


def read_rows(document: Document, key: str) -> list[dict[str, Any]]:
    """Return the objects of the list under a key; null is an empty list.

    Raises:
        UpstreamProtocolError: there is no list, or it has more than 2,000 rows.
    """
    rows = document.values.get(key)
    if key not in document.values or not isinstance(rows, list | None):
        raise UpstreamProtocolError("the server's answer has no list of models")
    if rows is not None and len(rows) > MOST_MODELS:
        raise UpstreamProtocolError(f"the server lists {len(rows)} models, more than {MOST_MODELS}")
    return [row for row in rows or () if isinstance(row, dict)]


def is_version(value: Any) -> TypeGuard[str]:
    """Whether a value is a plausible version: printable text of at most 64 characters."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_VERSION and value.isprintable()


def _read_leniently(body: bytes) -> tuple[Any, tuple[str, ...]]:
    """Decode leniently: accept lone surrogates, and omit members whose number is not representable."""
    if len(body) > _LONGEST_LENIENT:
        raise UpstreamProtocolError("the server's answer is not JSON")
    left_out: dict[str, None] = {}

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        left_out.update((key, None) for key, value in pairs if value is _NO_NUMBER)
        return {key: value for key, value in pairs if value is not _NO_NUMBER}

    try:
        values = json.loads(
            body, object_pairs_hook=members, parse_float=_float, parse_int=_int, parse_constant=_constant
        )
    except (ValueError, RecursionError):
        raise UpstreamProtocolError("the server's answer is not JSON") from None
    return values, tuple(left_out)


_NO_NUMBER = object()


def _float(text: str) -> object:
    number = float(text)
    return number if math.isfinite(number) else _NO_NUMBER


def _int(text: str) -> object:
    return int(text) if len(text) <= _MOST_DIGITS else _NO_NUMBER


def _constant(_: str) -> object:
    return _NO_NUMBER


def words_of(status: int, body: bytes) -> str:
    """Return the status and the error text of a refusal."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    words = found.get("error") if isinstance(found, dict) else body.decode("utf-8", "replace")
    return f"{status} {words}".strip()[:_LONGEST_WORDS]
