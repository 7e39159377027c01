"""Arguments of tool calls: an object in some dialects, its JSON text in others, and not always whole.

A model that runs into its limit leaves half an object, and some write what is no JSON at all. Neither costs the rest of
an answer: what can be read of a cut object is kept, and any other text is carried in an object of one member.
"""

from __future__ import annotations

import re
from typing import Any

from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.json_text import JsonError, decode, encode, encode_exactly
from ollama_router_core.translate.lenient_json import object_text

__all__ = [
    "RAW_ARGUMENTS",
    "ArgumentsEnd",
    "are_whole",
    "arguments_object",
    "arguments_text",
    "read_arguments_text",
    "reply_arguments_text",
]

RAW_ARGUMENTS = "raw_arguments"
"""The member that holds arguments which are not JSON, where a dialect has nothing but an object for them."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<cut>"(?:[^"\\]|\\.)*\\?\Z)|[\[\]{},]', re.DOTALL)
_HALF_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_MARK = re.compile(r'[\\"{}\[\]]')
_CLOSER = {"{": "}", "[": "]"}
_MAX_DEPTH = 200


def reply_arguments_text(value: Any) -> str:
    """Return the JSON text of arguments in an answer: some look-alikes give the object itself."""
    if isinstance(value, str):
        return value
    return object_text(value) if value is None or isinstance(value, dict) else encode(value).decode("utf-8")


def read_arguments_text(value: Any, where: str) -> str:
    """Return the JSON text of arguments in a request, which may stand there as a text or as the object.

    Raises:
        UntranslatableRequest: it is neither.
        JsonError: it has no JSON text.
    """
    if value is None:
        return "{}"
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise UntranslatableRequest(f"{where} must be an object")
    return encode_exactly(value).decode("utf-8")


def arguments_text(text: str) -> str:
    """Return the text for a dialect that carries one; no arguments are an empty object."""
    return text if text.strip() else "{}"


def arguments_object(text: str) -> dict[str, Any]:
    """Return the object for a dialect that carries one.

    Of a text that was cut all whole members are kept, and of its last text what is there. A text that is no beginning
    of an object stands in `RAW_ARGUMENTS`.
    """
    whole = _object_of(text)
    if whole is not None:
        return whole
    begun = _closed(text)
    return {RAW_ARGUMENTS: text} if begun is None else begun


def are_whole(text: str) -> bool:
    """Whether the text is an object, or nothing."""
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
    """Close an object that was cut, or leave out what follows a whole one."""
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
    """Return all that was said, or else the members before the one that was cut."""
    end = "".join(reversed(closers))
    values = (_decoded(text + end) for text in (whole, members))
    return next((value for value in values if isinstance(value, dict)), None)


class ArgumentsEnd:
    """Tells when an object that comes in pieces is whole: once its first bracket is closed.

    Work is linear in what is fed; a text that begins with no bracket is never whole.
    """

    __slots__ = ("_depth", "_escaped", "_in_text", "whole")

    def __init__(self) -> None:
        self.whole = False
        self._depth = 0
        self._in_text = False
        self._escaped = False

    def feed(self, piece: str) -> None:
        """Look at the next piece."""
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
