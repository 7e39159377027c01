"""Error format of `/v1/responses`: whole as on OpenAI's other routes, in a stream as a separate event."""

from __future__ import annotations

from types import MappingProxyType

from ollama_router_core.translate.api_errors import ApiError, encode_error
from ollama_router_core.translate.openai.errors import error_object

__all__ = ["failed_status", "write_error_event"]

_CODES = MappingProxyType({429: "rate_limit_exceeded"})


def failed_status(error: ApiError) -> dict[str, str]:
    """Return the `error` of a failed response, with codes that OpenAI's clients know."""
    otherwise = "server_error" if error.status >= 500 else "invalid_prompt"
    return {"code": _CODES.get(error.status, otherwise), "message": error.message}


def write_error_event(error: ApiError, _request_id: str) -> bytes:
    """Return the event that ends a stream, without knowledge of its sequence numbers.

    OpenAI's specification has the error's members in the event, its servers send them in `error`; clients accept both.
    """
    value = error_object(error)
    event = {
        "type": "error",
        "code": value["code"],
        "message": error.message,
        "param": None,
        "sequence_number": 0,
        "error": value,
    }
    return b"event: error\ndata: " + encode_error(event) + b"\n\n"
