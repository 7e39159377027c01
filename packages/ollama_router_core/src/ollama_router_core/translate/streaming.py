"""What the readers of streams have in common."""

from __future__ import annotations

from ollama_router_core.errors import UpstreamIncomplete

__all__ = ["SAYS_NOTHING", "ended_early"]

SAYS_NOTHING = frozenset({b"", b"null", b"[DONE]"})
"""Data of server-sent events without meaning, the last where the dialect has an end of its own."""


def ended_early() -> UpstreamIncomplete:
    """Return the error for bytes that end before the answer does."""
    return UpstreamIncomplete("the server's answer ended before it was complete")
