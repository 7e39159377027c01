"""Masking of secrets in displayed texts."""

from __future__ import annotations

import re

from ollama_router_core.access.tokens import check_format

__all__ = ["redact"]

_POSSIBLE_TOKEN = re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z]{32}(?![0-9A-Za-z])")
_SECRET_TEXT = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+|\bsk-)[^\s\"\\,;]{6,}|(?P<user>://[^\s:/@\"]*:)[^\s/@\"]+(?=@)", re.IGNORECASE
)


def redact(text: str) -> str:
    """Mask likely secrets: the router's tokens, credentials, `sk-` keys, passwords in URLs."""
    text = _SECRET_TEXT.sub(lambda found: (found["scheme"] or found["user"]) + "***", text)
    return _POSSIBLE_TOKEN.sub(lambda found: "***" if check_format(found[0]) else found[0], text)
