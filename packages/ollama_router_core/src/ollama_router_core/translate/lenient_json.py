"""Lenient reading of replies: missing values and values of the wrong type count as absent."""

from __future__ import annotations

from typing import Any

from ollama_router_core.translate.errors import UntranslatableReply
from ollama_router_core.translate.json_text import JsonError, decode_patiently, encode

__all__ = ["count_of", "decoded", "list_of", "object_of", "object_text", "reply_object", "text_of"]

_EMPTY: dict[str, Any] = {}


def object_of(value: Any) -> dict[str, Any]:
    """Return the object, or an empty one that must not be modified."""
    return value if isinstance(value, dict) else _EMPTY


def list_of(value: Any) -> list[Any]:
    """Return the list, or an empty one."""
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """Return the text, or an empty one."""
    return value if isinstance(value, str) else ""


def count_of(value: Any) -> int:
    """Return a count or a number of nanoseconds, or 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def decoded(text: bytes | str) -> Any:
    """Return the value of a JSON text; None for an invalid one."""
    try:
        return decode_patiently(text)
    except JsonError:
        return None


def object_text(value: Any) -> str:
    """Return the JSON text of an object; empty for an empty or other value."""
    return encode(value).decode("utf-8") if isinstance(value, dict) and value else ""


def reply_object(text: bytes) -> dict[str, Any]:
    """Parse a whole reply or an event of a stream, which must be a JSON object.

    Raises:
        UntranslatableReply: the text is not a JSON object.
    """
    try:
        value = decode_patiently(text)
    except JsonError as error:
        raise UntranslatableReply(f"the server's answer cannot be read: {error}") from None
    if isinstance(value, list) and len(value) == 1:  # Gemini's errors
        value = value[0]
    if not isinstance(value, dict):
        raise UntranslatableReply("the server's answer is not a JSON object")
    return value
