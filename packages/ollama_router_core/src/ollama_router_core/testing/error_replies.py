"""The exception for error responses, and their three wire formats."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["ApiError", "ErrorShape", "anthropic_error", "before_the_handler", "native_error", "openai_error"]

ErrorShape = Callable[["ApiError"], dict[str, Any]]

_OPENAI_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


class ApiError(Exception):
    """An error response.

    `extra` are more members of the native object; `native` keeps the native format even on /v1 (errors about
    ollama.com are raised before the format is known). `early` errors are from the middleware of a /v1 route,
    `streaming` ones from a stream before its start: both differ only in head and line end. `flushed` ones are the
    runner's, whose head was sent before their length was known.
    """

    def __init__(self, status: int, message: str, *, extra: dict[str, Any] | None = None, native: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.extra = extra or {}
        self.native = native
        self.early = False
        self.streaming = False
        self.flushed = False


@contextmanager
def before_the_handler() -> Iterator[None]:
    """Mark errors raised in the context as the middleware's."""
    try:
        yield
    except ApiError as error:
        error.early = True
        raise


def native_error(error: ApiError) -> dict[str, Any]:
    """Return Ollama's format: the message as a string."""
    return {"error": error.message, **error.extra}


def openai_error(error: ApiError) -> dict[str, Any]:
    """Return OpenAI's format."""
    kind = _OPENAI_TYPES.get(error.status, "api_error")
    return {"error": {"message": error.message, "type": kind, "param": None, "code": None}}


def anthropic_error(error: ApiError) -> dict[str, Any]:
    """Return Anthropic's format, with a request id derived from the message."""
    kind = _ANTHROPIC_TYPES.get(error.status, "api_error")
    request_id = "req_" + hashlib.sha256(error.message.encode()).hexdigest()[:24]
    return {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": request_id,
    }
