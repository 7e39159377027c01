"""Timestamps and ids of a `ReplyIdentity` in the dialects' formats."""

from __future__ import annotations

from datetime import UTC, datetime

from ollama_router_core.translate.replies import ReplyIdentity

__all__ = ["call_id", "created_seconds", "rfc3339"]

_NANOSECONDS = 1_000_000_000
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the latest in RFC 3339


def created_seconds(identity: ReplyIdentity) -> int:
    """Return whole seconds since 1970, OpenAI's `created`."""
    return identity.created_ns // _NANOSECONDS


def rfc3339(ns: int) -> str:
    """Format nanoseconds since 1970 as Ollama does, in UTC."""
    seconds, fraction = divmod(ns, _NANOSECONDS)
    moment = datetime.fromtimestamp(min(max(seconds, 0), _LAST_SECOND), tz=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def call_id(identity: ReplyIdentity, index: int) -> str:
    """Create an id for a reply's call number `index`; it is unique if the identity's id is."""
    return f"call_{identity.id}_{index}"
