"""Arguments of tool calls: an object in some dialects, its JSON text in others, possibly incomplete.

A model that reaches its token limit leaves a truncated object, and some models write invalid JSON. Neither fails the
rest of a reply: the readable part of a truncated object is kept, and any other text becomes the member of an object.
"""

from __future__ import annotations

import re
from typing import Any

from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.json_text import JsonError, decode, encode, encode_exactly
from ollama_router_core.translate.lenient_json import object_text

__all__ = [
    "ArgumentsEnd",
    "are_whole",
    "arguments_object",
    "arguments_text",
    "read_arguments_text",
    "reply_arguments_text",
]

_RAW_ARGUMENTS = "raw_arguments"
"""The member for arguments that are not JSON, in dialects that require an object."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<cut>"(?:[^"\\]|\\.)*\\?\Z)|[\[\]{},]', re.DOTALL)
_HALF_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_MARK = re.compile(r'[\\"{}\[\]]')
_CLOSER = {"{": "}", "[": "]"}
_MAX_DEPTH = 200


def reply_arguments_text(value: Any) -> str:
    """Return the JSON text of arguments in a reply; some compatible hosts send the object itself."""
    if isinstance(value, str):
        return value
    return object_text(value) if value is None or isinstance(value, dict) else encode(value).decode("utf-8")


def read_arguments_text(value: Any, where: str) -> str:
    """Return the JSON text of arguments in a request, given as text or as an object.

    Raises:
        UntranslatableRequest: the value is neither.
        JsonError: the object cannot be encoded.
    """
    if value is None:
        return "{}"
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise UntranslatableRequest(f"{where} must be an object")
    return encode_exactly(value).decode("utf-8")


def arguments_text(text: str) -> str:
    """Return arguments for a dialect with JSON text; empty ones become an empty object."""
    return text if text.strip() else "{}"


def arguments_object(text: str) -> dict[str, Any]:
    """Return arguments for a dialect with objects.

    Of a truncated text, all complete members are kept, and the available part of a truncated last string. A text that
    is not the beginning of an object becomes the member `raw_arguments`.
    """
    whole = _object_of(text)
    if whole is not None:
        return whole
    begun = _closed(text)
    return {_RAW_ARGUMENTS: text} if begun is None else begun


def are_whole(text: str) -> bool:
    """Return whether the text is a complete object, or empty."""
    return _object_of(text) is not None


def _object_of(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return {}
    value = _decoded(text)
    if isinstance(value, str):  # encoded twice
        value = _decoded(value)
    return value if isinstance(value, dict) else None


def _decoded(text: str) -> Any:
    try:
        return decode(text)
    except JsonError:
        return None


def _closed(text: str) -> dict[str, Any] | None:
    """Complete a truncated object, or drop the text after a complete one."""
    closers: list[str] = []
    kept = 0
    for found in _TOKEN.finditer(text):
        mark = found[0]
        if mark in _CLOSER:
            closers.append(_CLOSER[mark])
        elif mark in "}]":
            if not closers or closers.pop() != mark:
                return None
        elif found["cut"] is not None:
            return _first_object(_HALF_ESCAPE.sub(r"\1", text) + '"', text[:kept], closers)
        elif mark != ",":
            continue
        kept = found.start() if mark == "," else found.end()
        if not closers or len(closers) > _MAX_DEPTH:
            break
    return _first_object(text if closers else text[:kept], text[:kept], closers)


def _first_object(whole: str, members: str, closers: list[str]) -> dict[str, Any] | None:
    """Return the object with its truncated last member if that parses, else without it."""
    end = "".join(reversed(closers))
    values = (_decoded(text + end) for text in (whole, members))
    return next((value for value in values if isinstance(value, dict)), None)


class ArgumentsEnd:
    """Detect when an object that arrives in pieces is complete: when its first bracket is closed.

    Runs in linear time; a text without an opening bracket is never complete.
    """

    __slots__ = ("_depth", "_escaped", "_in_text", "whole")

    def __init__(self) -> None:
        self.whole = False
        self._depth = 0
        self._in_text = False
        self._escaped = False

    def feed(self, piece: str) -> None:
        """Scan the next piece."""
        skipped = 0 if self._escaped and piece else -1
        self._escaped = self._escaped and not piece
        for found in () if self.whole else _MARK.finditer(piece):
            if found.start() == skipped:
                continue
            if self._in_text and found[0] == "\\":
                skipped = found.end()
                self._escaped = skipped == len(piece)
            else:
                self._see(found[0])
            if self.whole:
                return

    def _see(self, mark: str) -> None:
        if mark == '"':
            self._in_text = not self._in_text and self._depth > 0
        elif self._in_text:
            return
        elif mark in "{[":
            self._depth += 1
        elif mark in "}]" and self._depth:
            self._depth -= 1
            self.whole = self._depth == 0
