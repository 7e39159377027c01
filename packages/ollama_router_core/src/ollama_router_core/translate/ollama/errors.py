"""Ollama's error format: one text, also in a stream."""

from __future__ import annotations

from ollama_router_core.translate.api_errors import ApiError, encode_error

__all__ = ["write_error", "write_stream_error"]


def write_error(error: ApiError, _request_id: str) -> bytes:
    """Return the body of an error response."""
    return encode_error({"error": error.message})


def write_stream_error(error: ApiError, request_id: str) -> bytes:
    """Return the line that ends a stream."""
    return write_error(error, request_id) + b"\n"
