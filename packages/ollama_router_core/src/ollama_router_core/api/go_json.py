"""The errors of Go's `encoding/json` for an invalid body, which Ollama's clients know.

Only rejected bodies are examined. Source of the texts and their order: Go's encoding/json, scanner.go and decode.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["syntax_error", "value_kind"]

_LONGEST, _MOST_TOKENS = 1 << 20, 50_000
"""Limits of an examined body, in bytes and tokens, for 30 ms at most; faults beyond them get another text."""
# Groups are not possessive: up to Python 3.11.4 possessive ones match wrongly (CPython's issue 106052).
_SPACE = rb"[ \t\r\n]*+"
_TEXT = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_SCALAR = rb'%b"|%b(?![.eE])|true|false|null' % (_TEXT, _NUMBER)
_SKIPPED, _READ_TEXT, _READ_NUMBER = re.compile(_SPACE), re.compile(_TEXT), re.compile(_NUMBER)
_READ_HEXADECIMAL = re.compile(rb"[0-9a-fA-F]*+")
_LITERALS: Mapping[bytes, bytes] = {b"t": b"true", b"f": b"false", b"n": b"null"}
_KINDS: Mapping[bytes, str] = {b"{": "object", b"[": "array", b'"': "string", b"t": "bool", b"f": "bool", b"n": "null"}
_ESCAPED: Mapping[int, str] = {
    code: rf"\{letter}" for code, letter in zip(b"\a\b\t\n\v\f\r'\\", "abtnvfr'\\", strict=True)
}
_NOT_SHOWN_BELOW, _DELETE = 0x20, 0x7F


class _State(NamedTuple):
    """The tokens allowed at a position, after white space, and the error text for any other."""

    allowed: re.Pattern[bytes]
    words: str


def _state(allowed: bytes, words: str) -> _State:
    return _State(re.compile(rb"%b(%b)" % (_SPACE, allowed)), words)


_VALUE_WORDS, _KEY_WORDS = "looking for beginning of value", "looking for beginning of object key string"
_VALUE = _state(rb"[{[]|" + _SCALAR, _VALUE_WORDS)
_FIRST_VALUE = _state(rb"[{[\]]|" + _SCALAR, _VALUE_WORDS)
_KEY = _state(_TEXT + b'"', _KEY_WORDS)
_FIRST_KEY = _state(_TEXT + b'"|}', _KEY_WORDS)
_COLON = _state(b":", "after object key")
_BEHIND: Mapping[bytes, _State] = {b"{": _FIRST_KEY, b"[": _FIRST_VALUE, b":": _VALUE}
_BEHIND_COMMA: Mapping[bytes, _State] = {b"{": _KEY, b"[": _VALUE}
_BEHIND_VALUE: Mapping[bytes, _State] = {
    b"{": _state(b"[,}]", "after object key:value pair"),
    b"[": _state(rb"[,\]]", "after array element"),
}


def value_kind(body: bytes) -> str:
    """Return Go's name for the type of a JSON text: object, array, string, bool, null or number."""
    return _KINDS.get(body.lstrip()[:1], "number")


def syntax_error(body: bytes) -> str | None:
    """Return Go's error for the first fault in the first JSON value of a non-blank text.

    None if the value is valid, even if it has the wrong type or is followed by more data; also for a text over 1 MiB.
    """
    if len(body) > _LONGEST:
        return None
    state = _VALUE
    opened: list[bytes] = []
    at = 0
    for _ in range(_MOST_TOKENS):
        found = state.allowed.match(body, at)
        if found is None:
            return _words(body, _end(_SKIPPED, body, at), state, opened)
        at = found.end()
        behind = _next_state(state, found[1][:1], opened)
        if behind is None:
            return None
        state = behind
    return None


def _next_state(state: _State, token: bytes, opened: list[bytes]) -> _State | None:
    """Return the state after a token, None at the end of the value; `opened` is the stack of open brackets."""
    if token in (b"{", b"["):
        opened.append(token)
    elif token in (b"}", b"]"):
        opened.pop()
    if token in _BEHIND:
        return _BEHIND[token]
    if token == b",":
        return _BEHIND_COMMA[opened[-1]]
    if token == b'"' and (state is _KEY or state is _FIRST_KEY):
        return _COLON
    return _BEHIND_VALUE[opened[-1]] if opened else None


def _words(body: bytes, at: int, state: _State, opened: list[bytes]) -> str | None:
    """Return the error text for a fault in the token that begins at `at`."""
    first, words = body[at : at + 1], state.words
    if first == b'"' and words in (_VALUE_WORDS, _KEY_WORDS):
        at, words = _text_fault(body, at)
    elif first in _LITERALS and words == _VALUE_WORDS:
        at, words = _literal_fault(body, at)
    elif (first.isdigit() or first == b"-") and words == _VALUE_WORDS:
        at, words = _number_fault(body, at)
        if not words and not opened:
            return None
        words = words or _BEHIND_VALUE[opened[-1]].words
    if at >= len(body):
        return "unexpected EOF"
    return f"invalid character {_quoted(body[at])} {words}"


def _text_fault(body: bytes, at: int) -> tuple[int, str]:
    end = _end(_READ_TEXT, body, at)
    if body[end : end + 1] != b"\\":
        return end, "in string literal"
    if body[end + 1 : end + 2] != b"u":
        return end + 1, "in string escape code"
    return _end(_READ_HEXADECIMAL, body, end + 2), r"in \u hexadecimal character escape"


def _literal_fault(body: bytes, at: int) -> tuple[int, str]:
    literal = _LITERALS[body[at : at + 1]]
    read = next(read for read in range(len(literal)) if not body.startswith(literal[: read + 1], at))
    return at + read, f"in literal {literal.decode()} (expecting '{chr(literal[read])}')"


def _number_fault(body: bytes, at: int) -> tuple[int, str]:
    """Return the position and text of a fault in a number; no text if the number is complete."""
    end = _end(_READ_NUMBER, body, at)
    if end == at:
        return at + 1, "in numeric literal"
    number, follows = body[at:end].lower(), body[end : end + 1]
    if b"e" in number or (follows == b"." and b"." in number):
        return end, ""
    if follows == b".":
        return end + 1, "after decimal point in numeric literal"
    return end + 1 + (body[end + 1 : end + 2] in (b"+", b"-")), "in exponent of numeric literal"


def _end(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    found = pattern.match(body, at)
    return at if found is None else found.end()


def _quoted(byte: int) -> str:
    """Quote a byte as Go's quoteChar does, as a Latin-1 character."""
    if byte in _ESCAPED:
        return f"'{_ESCAPED[byte]}'"
    if byte < _NOT_SHOWN_BELOW or byte == _DELETE:
        return f"'\\x{byte:02x}'"
    return f"'{chr(byte)}'" if chr(byte).isprintable() else f"'\\u{byte:04x}'"
