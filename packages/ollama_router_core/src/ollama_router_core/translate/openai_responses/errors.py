"""How `/v1/responses` writes an error: whole as OpenAI's other routes do, in a stream as an event of its own."""

from __future__ import annotations

from types import MappingProxyType

from ollama_router_core.translate.api_errors import ApiError, encode_error
from ollama_router_core.translate.openai.errors import error_object

__all__ = ["failed_status", "write_error_event"]

_CODES = MappingProxyType({429: "rate_limit_exceeded"})


def failed_status(error: ApiError) -> dict[str, str]:
    """Return the `error` of a response that failed, with the codes that OpenAI's clients know."""
    otherwise = "server_error" if error.status >= 500 else "invalid_prompt"
    return {"code": _CODES.get(error.status, otherwise), "message": error.message}


def write_error_event(error: ApiError) -> bytes:
    """Return the event that ends a stream whose numbering is not known.

    OpenAI's description has the error's members in the event itself, its servers put them into `error`, and clients
    look for either.
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
