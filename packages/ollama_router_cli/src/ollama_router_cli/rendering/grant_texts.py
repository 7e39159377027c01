"""Grants for people."""

from __future__ import annotations

from collections.abc import Sequence

from ollama_router_cli.rendering.tables import format_count, format_time
from ollama_router_core.access.grants import Grants

__all__ = ["describe_grants"]


def describe_grants(grants: Grants) -> list[tuple[str, str]]:
    """Describe grants for people, one line per grant that is set."""
    lines = [
        ("models", _entries(grants.models)),
        ("external hosts", _entries(grants.hosts)),
        ("cloud", _truth(grants.cloud)),
        ("reach", _entries(grants.reach)),
        ("unloading", _truth(grants.unload)),
        ("kinds", _entries(grants.kinds)),
        ("networks", _entries(grants.networks)),
        ("expires", format_time(grants.expires_at)),
        ("batch priority", _truth(grants.batch)),
        ("seconds of waiting", format_count(grants.max_wait)),
        ("asks for", grants.speaks_for),
        ("requests per minute", format_count(grants.requests_per_minute)),
        ("concurrent requests", format_count(grants.concurrent_requests)),
        ("tokens per minute", format_count(grants.tokens_per_minute)),
        ("tokens per day", format_count(grants.tokens_per_day)),
        ("tokens per month", format_count(grants.tokens_per_month)),
    ]
    return [(name, text) for name, text in lines if text is not None]


def _truth(value: bool | None) -> str | None:
    return None if value is None else ("yes" if value else "no")


def _entries(entries: Sequence[str] | None) -> str | None:
    return None if entries is None else (", ".join(entries) or "none")
