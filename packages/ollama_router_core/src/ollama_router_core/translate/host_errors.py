"""Parsing of hosts' errors in any dialect, as compatible hosts are inconsistent.

An error about the router's key may quote a part of it, so its text never reaches a client. All other texts do, and so
does the status, also of an error sent with the status 200.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from ollama_router_core.errors import UpstreamError
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.lenient_json import decoded, list_of, object_of, text_of
from ollama_router_core.translate.replies import Failed

__all__ = ["failed_event", "is_error_body", "is_final", "read_error_object", "read_host_error"]

_MAX_TEXT = 2000
_MAX_CODE = 64
_MAX_PROBLEMS = 8

_STATUSES = MappingProxyType(
    {
        "invalid_request_error": 400,
        "badrequesterror": 400,
        "invalid_argument": 400,
        "failed_precondition": 400,
        "context_length_exceeded": 400,
        "authentication_error": 401,
        "invalid_api_key": 401,
        "unauthenticated": 401,
        "billing_error": 402,
        "insufficient_credits": 402,
        "permission_error": 403,
        "permission_denied": 403,
        "moderation_error": 403,
        "not_found_error": 404,
        "notfounderror": 404,
        "not_found": 404,
        "request_too_large": 413,
        "validation_error": 422,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
        "resource_exhausted": 429,
        "too_many_requests": 429,
        "insufficient_quota": 429,
        "api_error": 500,
        "server_error": 500,
        "internal": 500,
        "internalservererror": 500,
        "overloaded_error": 503,
        "unavailable": 503,
        "timeout_error": 504,
        "deadline_exceeded": 504,
    }
)
"""HTTP statuses by providers' error types, in lower case."""
_FIRST_ERROR, _LAST_ERROR = 400, 599
_KEY_REFUSED = "the provider rejects the credential that the router has for this host"
_WORTH_A_RETRY = frozenset({408, 409, 425, 429})
_ABOUT_KEYS = re.compile(r"key|token|credential|auth|permission|forbidden|access|account|billing", re.IGNORECASE)
_SAYS_NOTHING = frozenset({"provider returned error", "error from provider", "upstream error"})


def read_host_error(status: int, body: bytes) -> ApiError:
    """Parse an error response, whatever its body is."""
    value = decoded(body)
    if isinstance(value, list):  # Gemini's
        value = next((item for item in value if isinstance(item, dict)), None)
    if isinstance(value, dict):
        return read_error_object(status, value)
    text = body[:_MAX_TEXT].decode("utf-8", errors="replace").strip()
    # An HTML page from an intermediate proxy is useless to a client.
    return _error(status, "" if text.startswith("<") else text)


def is_error_body(body: dict[str, Any]) -> bool:
    """Return whether a body with the status 200 is an error."""
    if body.get("error") or body.get("object") == "error" or body.get("type") == "error":
        return True
    if body.get("choices") or body.get("output") or body.get("content"):
        return False
    if body.get("errors") or body.get("detail") or object_of(body.get("base_resp")).get("status_code"):
        return True
    words = body.get("message", body.get("msg"))
    return isinstance(words, str) and not body.keys() & {"done", "response"}


def read_error_object(status: int | None, body: dict[str, Any]) -> ApiError:
    """Parse a decoded error body.

    `status` is the response's; None for an error within a successful response, whose status follows from its words.
    """
    error = object_of(body.get("error")) or object_of(next(iter(list_of(body.get("errors"))), None))
    words = tuple(
        word
        for source in (error, body)
        for key in ("code", "status", "type", "error_type")
        if (word := _word(source.get(key)))
    )
    if status is None:
        found = (_STATUSES.get(word.lower()) or _status_of(word) for word in words)
        status = next((known for known in found if known), UpstreamError.status_hint)
    code = _word(error.get("code")) or _word(body.get("code"))
    return _error(status, _message(error, body), "" if code.isdecimal() else code)


def failed_event(body: dict[str, Any]) -> Failed:
    """Parse a stream event that is an error."""
    return Failed(read_error_object(None, body))


def is_final(error: ApiError) -> bool:
    """Return whether a retry would fail in the same way, although SDKs may retry the status."""
    return error.message == _KEY_REFUSED or (error.status < 500 and error.status not in _WORTH_A_RETRY)


def _word(value: Any) -> str:
    return str(value) if type(value) is int else text_of(value)


def _status_of(word: str) -> int | None:
    status = int(word) if word.isascii() and word.isdecimal() and len(word) == len("404") else 0
    return status if _FIRST_ERROR <= status <= _LAST_ERROR else None


def _message(error: dict[str, Any], body: dict[str, Any]) -> str:
    """Return the provider's own message, preferred to that of a gateway in front of it."""
    own = _first_text(
        body.get("error"), error.get("message"), error.get("detail"), body.get("message"), body.get("detail"),
        body.get("title"), body.get("msg"), object_of(body.get("base_resp")).get("status_msg"),
    )  # fmt: skip
    own = _inner_message(own) or own  # gateways quote the whole error body
    metadata = object_of(error.get("metadata"))
    inner = _inner_message(metadata.get("raw"))
    if not inner:
        return own
    return inner if own.lower().rstrip(".") in _SAYS_NOTHING else f"{own}: {inner}"


def _first_text(*values: Any) -> str:
    return next((text for value in values if (text := _text_in(value))), "")


def _text_in(value: Any) -> str:
    """Return a text, or a validator's list of problems without the rejected values."""
    if isinstance(value, dict):
        return _text_in(value.get("detail")) or text_of(value.get("message"))
    problems = [_problem(object_of(item)) or text_of(item) for item in list_of(value)[:_MAX_PROBLEMS]]
    return "; ".join(filter(None, problems)) if problems else text_of(value)


def _problem(item: dict[str, Any]) -> str:
    text = text_of(item.get("msg")) or text_of(item.get("message"))
    location = ".".join(str(step) for step in list_of(item.get("loc")) if isinstance(step, str | int))
    return f"{location}: {text}" if location and text else text


def _inner_message(raw: Any) -> str:
    """Return the message of the provider behind a gateway, which may itself be an error body."""
    text = text_of(raw)
    value = decoded(text) if text.lstrip().startswith("{") else None
    if not isinstance(value, dict):
        return text if text and not text.lstrip().startswith(("<", "{")) else ""
    error = object_of(value.get("error"))
    return _first_text(value.get("error"), error.get("message"), value.get("message"), value.get("detail"))


def _error(status: int, message: str, code: str = "") -> ApiError:
    if status == 401 or (status == 403 and _is_about_our_key(message, code)):
        return ApiError(message=_KEY_REFUSED, status=502, code=UpstreamError.code)
    if status == 529:
        # Anthropic's equivalent of 503.
        status = 503
    text = message[:_MAX_TEXT] or f"the server answered {status} without a text"
    return ApiError(message=text, status=status, code=code[:_MAX_CODE] or UpstreamError.code)


def _is_about_our_key(message: str, code: str) -> bool:
    """Return whether a 403 is about the router's key; one about the request (moderation, a region) is the client's."""
    return not message or _ABOUT_KEYS.search(message) is not None or _ABOUT_KEYS.search(code) is not None
