"""Shared functions of stream readers."""

from __future__ import annotations

from typing import Any

from ollama_router_core.errors import UpstreamIncomplete
from ollama_router_core.translate.lenient_json import text_of
from ollama_router_core.translate.replies import Event, TextDelta, ThinkingDelta, ThinkingSigned

__all__ = ["SAYS_NOTHING", "ended_early", "signature_events", "text_events", "thinking_events"]

SAYS_NOTHING = frozenset({b"", b"null", b"[DONE]"})
"""Data of server-sent events without meaning; `[DONE]` only in dialects with another end event."""


def ended_early() -> UpstreamIncomplete:
    """Return the error for a stream that ends before the reply is complete."""
    return UpstreamIncomplete("the server's answer ended before it was complete")


def text_events(value: Any) -> list[Event]:
    """Return the event of a text, none for an empty one."""
    text = text_of(value)
    return [TextDelta(text)] if text else []


def thinking_events(value: Any) -> list[Event]:
    """Return the event of reasoning, none for an empty text."""
    text = text_of(value)
    return [ThinkingDelta(text)] if text else []


def signature_events(signature: str) -> list[Event]:
    """Return the event of a tagged signature, none for an empty one."""
    return [ThinkingSigned(signature)] if signature else []
