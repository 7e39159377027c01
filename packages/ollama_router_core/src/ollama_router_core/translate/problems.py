"""Errors of servers, read from any dialect.

A server that refuses the router's key says so in words that may hold a part of it: those words never reach a client.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from ollama_router_core.errors import UpstreamError
from ollama_router_core.translate.json_text import JsonError, decode_patiently
from ollama_router_core.translate.lenient_json import object_of, text_of
from ollama_router_core.translate.private import Private

__all__ = ["UNKNOWN_STATUS", "Problem", "problem_of", "read_problem"]

_MAX_TEXT = 2000
_MAX_CODE = 64

UNKNOWN_STATUS = 502
"""The status of an error that came inside a stream and does not tell its own."""

_STATUSES = MappingProxyType(
    {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
        "insufficient_quota": 429,
        "api_error": 500,
        "server_error": 500,
        "overloaded_error": 503,
    }
)
_KEY_REFUSED = "the provider refuses the credential that the router is configured with for this host"


class Problem(Private, frozen=True, kw_only=True):
    """What went wrong: a text safe to show, the HTTP status a client should see, the server's code or our own."""

    message: str
    status: int
    code: str


def read_problem(status: int, body: bytes) -> Problem:
    """The problem of an error answer, whatever its body is."""
    try:
        value = decode_patiently(body)
    except JsonError:
        value = None
    if isinstance(value, dict):
        return problem_of(status, value)
    text = body[:_MAX_TEXT].decode("utf-8", errors="replace").strip()
    # A page of HTML from some proxy in between tells a client nothing.
    return _problem(status, "" if text.startswith("<") else text)


def problem_of(status: int, body: dict[str, Any]) -> Problem:
    """The problem of a decoded error body or of an error event of a stream.

    `status` is that of the answer; an event inside a stream has none of its own, then its type tells.
    """
    error = object_of(body.get("error"))
    # FastAPI, which many look-alikes are made of, has a text of its own.
    texts = (body.get("error"), error.get("message"), body.get("message"), body.get("detail"))
    message = next((text for text in texts if isinstance(text, str) and text), "")
    kind, code = text_of(error.get("type")), text_of(error.get("code"))
    if status == UNKNOWN_STATUS:
        status = _STATUSES.get(kind, _STATUSES.get(code, status))
    return _problem(status, message, code)


def _problem(status: int, message: str, code: str = "") -> Problem:
    if status in {401, 403}:
        return Problem(message=_KEY_REFUSED, status=502, code=UpstreamError.code)
    if status == 529:
        # Anthropic's own way to say 503.
        status = 503
    text = message[:_MAX_TEXT] or f"the server answered {status} without a text"
    return Problem(message=text, status=status, code=code[:_MAX_CODE] or UpstreamError.code)
