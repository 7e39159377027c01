"""The dialect-neutral form of an error, and the JSON encoding of error bodies."""

from __future__ import annotations

import json
import re

from ollama_router_core.translate.confidential import Confidential

__all__ = ["ApiError", "encode_error"]

_ESCAPED_BY_GO = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}
_TO_ESCAPE = re.compile("[<>&\u2028\u2029]")
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class ApiError(Confidential, frozen=True, kw_only=True):
    """An error: a text that is safe to show, the HTTP status for the client, a stable code."""

    message: str
    status: int
    code: str


def encode_error(value: dict[str, object]) -> bytes:
    """Encode an error body as JSON with Go's escapes. Lone surrogates become question marks."""
    text = _ENCODER.encode(value)
    if _TO_ESCAPE.search(text):
        text = text.translate(_ESCAPED_BY_GO)
    return text.encode("utf-8", "replace")
