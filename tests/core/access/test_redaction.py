"""Secrets in texts that people read."""

from __future__ import annotations

import pytest

from ollama_router_core.access.redaction import redact


def test_redaction_leaves_other_words_alone() -> None:
    """Request ids, digests of files and names are no secrets, though they are as long."""
    text = "request 0123456789abcdef0123456789abcdef model sha256:" + "a" * 64 + " http://host:11434/api basic"
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer canary-canary", "Authorization: Bearer ***"),
        ("sent sk-canarycanary to it", "sent sk-*** to it"),
        ("postgresql://router:canary@host/logs", "postgresql://router:***@host/logs"),
    ],
)
def test_secrets_are_masked(text: str, masked: str) -> None:
    """Credentials by their scheme, keys by their prefix, passwords in URLs; what stands around them is kept."""
    assert redact(text) == masked
