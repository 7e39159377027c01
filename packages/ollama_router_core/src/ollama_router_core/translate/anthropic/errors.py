"""Anthropic's error format, as a whole response and as the last event of a stream."""

from __future__ import annotations

from types import MappingProxyType

from ollama_router_core.translate.api_errors import ApiError, encode_error

__all__ = ["write_error", "write_stream_error"]

_TYPES = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        529: "overloaded_error",
    }
)


def write_error(error: ApiError, request_id: str) -> bytes:
    """Return the body of an error response."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return encode_error({"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id})


def write_stream_error(error: ApiError, request_id: str) -> bytes:
    """Return the event that ends a stream."""
    return b"event: error\ndata: " + write_error(error, request_id) + b"\n\n"
