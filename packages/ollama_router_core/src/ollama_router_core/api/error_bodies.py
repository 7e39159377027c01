"""How each API family writes an error, whole or in the middle of a stream."""

from __future__ import annotations

import json
import re

from ollama_router_core.api.endpoints import Family

__all__ = ["error_body", "error_tail"]

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_SAID_BY_OLLAMA = frozenset(
    {"invalid_body", "model_required", "invalid_model_name", "model_incapable", "model_not_found"}
)
"""Codes of what Ollama answers too: there its `code` is null."""
_ESCAPED_BY_GO = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}
_TO_ESCAPE = re.compile("[<>&\u2028\u2029]")
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def error_body(family: Family, status: int, message: str, *, code: str, request_id: str) -> bytes:
    """The JSON body of an error answer; `code` is the router's stable code where the dialect has a place for it."""
    error = _error(family, status, message, code, request_id)
    text = _ENCODER.encode(error)
    if _TO_ESCAPE.search(text):
        text = text.translate(_ESCAPED_BY_GO)
    return text.encode("utf-8", "replace")


def error_tail(family: Family, status: int, message: str, *, code: str, request_id: str) -> bytes:
    """What is written into a stream that has begun and cannot go on: the dialect's own error line or event.

    NDJSON for Ollama, a server-sent event for the others; nobody may write anything after it.
    """
    body = error_body(family, status, message, code=code, request_id=request_id)
    if family is Family.OLLAMA:
        return body + b"\n"
    event = b"event: error\n" if family is Family.ANTHROPIC else b""
    return event + b"data: " + body + b"\n\n"


def _error(family: Family, status: int, message: str, code: str, request_id: str) -> dict[str, object]:
    if family is Family.OPENAI:
        kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        shown = None if code in _SAID_BY_OLLAMA else code
        return {"error": {"message": message, "type": kind, "param": None, "code": shown}}
    if family is Family.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
    return {"error": message}
