"""Proofs that a model thought something, which only the host that gave them can check.

A conversation may move from one host to another, and every host refuses the proofs of others. So each carries the name
of the dialect it was made in, also on its way through a client of another dialect.
"""

from __future__ import annotations

from ollama_router_core.api.endpoints import Family

__all__ = ["is_tagged", "own_redacted", "own_signature", "read_redacted", "read_signature", "write_signature"]

_REDACTED = f"{Family.ANTHROPIC.value}-redacted:"
_TAGS = (*(f"{family.value}:" for family in Family), _REDACTED)


def is_tagged(text: str) -> bool:
    """Whether the text is a signature that came through the router."""
    return text.startswith(_TAGS)


def read_signature(text: str, family: Family) -> str:
    """Return the tagged signature for what stands in a message of a dialect, empty for an empty text."""
    return text if not text or is_tagged(text) else f"{family.value}:{text}"


def write_signature(signature: str, family: Family) -> str:
    """Return what stands in a message of a dialect: its own signatures without their tag."""
    return signature.removeprefix(f"{family.value}:")


def own_signature(signature: str, family: Family) -> str:
    """Return a signature for a host of the dialect, empty if another dialect made it."""
    tag = f"{family.value}:"
    return signature.removeprefix(tag) if signature.startswith(tag) else ""


def read_redacted(data: str) -> str:
    """Return the signature of thoughts that only Anthropic can read: the thoughts themselves, encrypted."""
    return f"{_REDACTED}{data}" if data else ""


def own_redacted(signature: str) -> str:
    """Return the encrypted thoughts for a host of Anthropic's, empty if the signature is not of this kind."""
    return signature.removeprefix(_REDACTED) if signature.startswith(_REDACTED) else ""
