"""Counts of model loads for the router's requests, and of the evictions that they caused."""

from __future__ import annotations

from collections import Counter

from ollama_router_core.fleet.snapshot import LoadedModel, ServerFacts

__all__ = ["LoadCounts"]


class LoadCounts:
    """Counts by server since the process started."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        """Observed loads started by the router's requests."""
        self.evictions: Counter[str] = Counter()
        """Models that left a server's memory before their expiry during such a load."""

    def seen(self, server: str, before: ServerFacts, after: ServerFacts, *, now: float) -> None:
        """Count from two states of a server's facts; `now` is in seconds of the snapshot's clock."""
        if after.loading is not before.loading:
            self.begun[server] += len(after.loading.keys() - before.loading.keys())
        if after.loaded_at != before.loaded_at and _loads(before):
            gone = (row for name, row in before.loaded.items() if name not in after.loaded)
            self.evictions[server] += sum(1 for row in gone if _has_time_left(row, now))

    def evicted(self, server: str) -> None:
        """Count a model that was unloaded to make room."""
        self.evictions[server] += 1


def _loads(facts: ServerFacts) -> bool:
    """Whether a load is in progress, or has ended since the last report (its size is still unknown)."""
    return bool(facts.loading) or any(not row.size for row in facts.loaded.values())


def _has_time_left(row: LoadedModel, now: float) -> bool:
    return bool(row.size) and (row.expires_at is None or row.expires_at > now)
