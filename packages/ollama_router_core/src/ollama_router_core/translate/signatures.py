"""Proofs that a model thought something, which only the host that gave them can check.

A conversation may move from one host to another, and every host refuses the proofs of others. So each carries the name
of the dialect it was made in, also on its way through a client of another dialect.
"""

from __future__ import annotations

from ollama_router_core.api.endpoints import Family

__all__ = ["own_signature", "read_signature", "write_signature"]

_TAGS = tuple(f"{family.value}:" for family in Family)


def read_signature(text: str, family: Family) -> str:
    """Return the tagged signature for what stands in a message of a dialect, empty for an empty text."""
    return text if not text or text.startswith(_TAGS) else f"{family.value}:{text}"


def write_signature(signature: str, family: Family) -> str:
    """Return what stands in a message of a dialect: its own signatures without their tag."""
    return signature.removeprefix(f"{family.value}:")


def own_signature(signature: str, family: Family) -> str:
    """Return a signature for a host of the dialect, empty if another dialect made it."""
    tag = f"{family.value}:"
    return signature.removeprefix(tag) if signature.startswith(tag) else ""
