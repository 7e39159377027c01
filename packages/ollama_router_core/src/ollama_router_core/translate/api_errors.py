"""An error as such, in no dialect, and how error texts become JSON."""

from __future__ import annotations

import json
import re

from ollama_router_core.translate.confidential import Confidential

__all__ = ["ApiError", "encode_error"]

_ESCAPED_BY_GO = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}
_TO_ESCAPE = re.compile("[<>&\u2028\u2029]")
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class ApiError(Confidential, frozen=True, kw_only=True):
    """What went wrong: a text safe to show, the HTTP status a client should see, a stable code."""

    message: str
    status: int
    code: str


def encode_error(value: dict[str, object]) -> bytes:
    """Return the JSON text of an error body, escaped as Go does it. Lone surrogates become question marks."""
    text = _ENCODER.encode(value)
    if _TO_ESCAPE.search(text):
        text = text.translate(_ESCAPED_BY_GO)
    return text.encode("utf-8", "replace")
