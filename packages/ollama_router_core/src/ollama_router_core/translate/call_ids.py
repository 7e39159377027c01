"""Ids of tool calls, in the alphabets and lengths of the dialects.

An id passes from a host through a client of another dialect back to the host, and must be unchanged: Kimi's
`functions.read:0` is part of the model's prompt. So the escaping for Anthropic's clients is reversible.
"""

from __future__ import annotations

import hashlib
import re

from ollama_router_core.translate.accepts import CallIds

__all__ = ["escaped_id", "fitted_id", "is_unique", "original_id"]

_WORD = re.compile(r"[A-Za-z0-9_-]+")
_ALPHANUMERIC = re.compile(r"[A-Za-z0-9]+")
_KIMI = re.compile(r"functions\.[A-Za-z0-9_.-]{1,128}:\d{1,6}")
_ESCAPE = re.compile(r"_([0-9a-f]{1,6})_")
_PREFIX = "call_"
_LONGEST_TO_ESCAPE = 512
_LONGEST_ESCAPED = 8 * _LONGEST_TO_ESCAPE
_SHORTEST_UNIQUE = 9
"""Length of Mistral's ids, which are random."""


def escaped_id(text: str) -> str:
    """Return an id in Anthropic's alphabet (letters, digits, `-`, `_`); equal ids stay equal."""
    if len(text) > _LONGEST_TO_ESCAPE:
        return _made_id(text)
    if _WORD.fullmatch(text):
        return text
    return "_" + "".join(char if _WORD.fullmatch(char) and char != "_" else f"_{ord(char):x}_" for char in text)


def original_id(text: str) -> str:
    """Reverse `escaped_id`; any other text is unchanged."""
    if not text.startswith("_") or len(text) > _LONGEST_ESCAPED or not _ESCAPE.search(text, 1):
        return text
    try:
        plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text[1:])
    except (OverflowError, ValueError):
        return text
    return plain if escaped_id(plain) == text else text


def _made_id(text: str, alphabet: str = "word") -> str:
    """Derive an id from another, deterministically."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return digest if alphabet == "alphanumeric" else _PREFIX + digest


def is_unique(text: str) -> bool:
    """Return whether an id is unique across conversations; Kimi's and `call_0` are not."""
    plain = original_id(text)
    return len(plain) >= _SHORTEST_UNIQUE and not _KIMI.fullmatch(plain)


def fitted_id(text: str, rule: CallIds) -> str:
    """Return the id for a host: the original if the host accepts it, else a replacement."""
    plain = original_id(text)
    if rule.spares_kimi and _KIMI.fullmatch(plain):
        return plain
    if rule.alphabet == "word":
        plain = escaped_id(plain)
    fits = len(plain) == rule.longest if rule.exact else len(plain) <= rule.longest
    if fits and (rule.alphabet != "alphanumeric" or _ALPHANUMERIC.fullmatch(plain)):
        return plain
    return _made_id(text, rule.alphabet)[: rule.longest]
