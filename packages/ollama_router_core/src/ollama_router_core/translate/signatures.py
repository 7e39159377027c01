"""Signatures of reasoning, which only their host can verify.

A conversation may move between hosts, and every host rejects signatures of others. So each signature is tagged with its
dialect, also while it passes through a client of another dialect.
"""

from __future__ import annotations

from ollama_router_core.api.endpoints import Family

__all__ = ["is_tagged", "own_redacted", "own_signature", "read_redacted", "read_signature", "write_signature"]

_REDACTED = f"{Family.ANTHROPIC.value}-redacted:"
_TAGS = (*(f"{family.value}:" for family in Family), _REDACTED)


def is_tagged(text: str) -> bool:
    """Return whether the text is a signature tagged by the router."""
    return text.startswith(_TAGS)


def read_signature(text: str, family: Family) -> str:
    """Return the tagged signature for the text in a dialect's message; empty for an empty text."""
    return text if not text or is_tagged(text) else f"{family.value}:{text}"


def write_signature(signature: str, family: Family) -> str:
    """Return the text for a dialect's message: its own signatures without their tag."""
    return signature.removeprefix(f"{family.value}:")


def own_signature(signature: str, family: Family) -> str:
    """Return a signature for a host of the dialect; empty if it is another dialect's."""
    tag = f"{family.value}:"
    return signature.removeprefix(tag) if signature.startswith(tag) else ""


def read_redacted(data: str) -> str:
    """Return Anthropic's redacted (encrypted) reasoning as a tagged signature."""
    return f"{_REDACTED}{data}" if data else ""


def own_redacted(signature: str) -> str:
    """Return the encrypted reasoning for Anthropic; empty if the signature is not of this kind."""
    return signature.removeprefix(_REDACTED) if signature.startswith(_REDACTED) else ""
