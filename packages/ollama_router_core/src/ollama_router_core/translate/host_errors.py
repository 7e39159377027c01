"""Errors of hosts, whatever dialect they are in: look-alikes are not consistent about it.

A server that refuses the router's key says so in words that may hold a part of it: those words never reach a client.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from ollama_router_core.errors import UpstreamError
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.json_text import JsonError, decode_patiently
from ollama_router_core.translate.lenient_json import object_of, text_of
from ollama_router_core.translate.replies import Failed

__all__ = ["failed_event", "read_error_object", "read_host_error"]

_MAX_TEXT = 2000
_MAX_CODE = 64

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


def read_host_error(status: int, body: bytes) -> ApiError:
    """Read an error answer, whatever its body is."""
    try:
        value = decode_patiently(body)
    except JsonError:
        value = None
    if isinstance(value, dict):
        return read_error_object(status, value)
    text = body[:_MAX_TEXT].decode("utf-8", errors="replace").strip()
    # A page of HTML from some proxy in between tells a client nothing.
    return _error(status, "" if text.startswith("<") else text)


def read_error_object(status: int | None, body: dict[str, Any]) -> ApiError:
    """Read a decoded error body.

    `status` is that of the answer; an error inside a stream has none, and its type tells.
    """
    error = object_of(body.get("error"))
    # FastAPI, which many look-alikes are made of, has a text of its own.
    texts = (body.get("error"), error.get("message"), body.get("message"), body.get("detail"))
    message = next((text for text in texts if isinstance(text, str) and text), "")
    kind, code = text_of(error.get("type")), text_of(error.get("code")) or text_of(body.get("code"))
    if status is None:
        status = _STATUSES.get(kind, _STATUSES.get(code, UpstreamError.status_hint))
    return _error(status, message, code)


def failed_event(body: dict[str, Any]) -> Failed:
    """Read the event of a stream that is an error."""
    return Failed(read_error_object(None, body))


def _error(status: int, message: str, code: str = "") -> ApiError:
    if status in {401, 403}:
        return ApiError(message=_KEY_REFUSED, status=502, code=UpstreamError.code)
    if status == 529:
        # Anthropic's own way to say 503.
        status = 503
    text = message[:_MAX_TEXT] or f"the server answered {status} without a text"
    return ApiError(message=text, status=status, code=code[:_MAX_CODE] or UpstreamError.code)
