"""The router's own errors in the dialect of the route: a whole response, or the end of a stream."""

from __future__ import annotations

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.registry import codec_of

__all__ = ["error_body", "error_tail"]


def error_body(family: Family, status: int, message: str, *, code: str, request_id: str) -> bytes:
    """Return the JSON body of an error response; `code` is the router's stable code, for dialects that have one."""
    return codec_of(family).write_error(ApiError(message=message, status=status, code=code), request_id)


def error_tail(family: Family, status: int, message: str, *, code: str, request_id: str) -> bytes:
    """Return the final line or event of a stream that fails after its start."""
    return codec_of(family).write_stream_error(ApiError(message=message, status=status, code=code), request_id)
