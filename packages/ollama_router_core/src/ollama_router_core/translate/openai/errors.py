"""OpenAI's error format, as a whole response and as the last event of a stream."""

from __future__ import annotations

from types import MappingProxyType

from ollama_router_core.translate.api_errors import ApiError, encode_error

__all__ = ["error_object", "write_error", "write_stream_error"]

_TYPES = MappingProxyType(
    {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
)
_SAID_BY_OLLAMA = frozenset(
    {"invalid_body", "model_required", "invalid_model_name", "model_incapable", "model_not_found"}
)
"""Codes of errors that Ollama also reports, with `code` null."""


def error_object(error: ApiError) -> dict[str, object]:
    """Return the value of `error`, which the SDKs expose in their exceptions."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    code = None if error.code in _SAID_BY_OLLAMA else error.code
    return {"message": error.message, "type": kind, "param": None, "code": code}


def write_error(error: ApiError, _request_id: str) -> bytes:
    """Return the body of an error response."""
    return encode_error({"error": error_object(error)})


def write_stream_error(error: ApiError, request_id: str) -> bytes:
    """Return the event that ends a stream."""
    return b"data: " + write_error(error, request_id) + b"\n\n"
