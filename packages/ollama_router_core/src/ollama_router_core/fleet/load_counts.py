"""How often models were loaded into servers' memory for us, and how often others were evicted for them."""

from __future__ import annotations

from collections import Counter

from ollama_router_core.fleet.snapshot import LoadedModel, ServerFacts

__all__ = ["LoadCounts"]


class LoadCounts:
    """Counts by server since the start of the process."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        """Loads that a request of ours began, as far as could be seen."""
        self.evictions: Counter[str] = Counter()
        """Models that left a server's memory before they expired while one was loaded for us."""

    def seen(self, server: str, before: ServerFacts, after: ServerFacts, *, now: float) -> None:
        """Compare facts about a server; `now` is seconds of the clock of their times."""
        if after.loading is not before.loading:
            self.begun[server] += len(after.loading.keys() - before.loading.keys())
        if after.loaded_at != before.loaded_at and _loads(before):
            gone = (row for name, row in before.loaded.items() if name not in after.loaded)
            self.evictions[server] += sum(1 for row in gone if _has_time_left(row, now))

    def evicted(self, server: str) -> None:
        """Count a model that was unloaded to make room."""
        self.evictions[server] += 1


def _loads(facts: ServerFacts) -> bool:
    """Whether a load of ours is under way, or has ended since the server was last asked (its size is not known yet)."""
    return bool(facts.loading) or any(not row.size for row in facts.loaded.values())


def _has_time_left(row: LoadedModel, now: float) -> bool:
    return bool(row.size) and (row.expires_at is None or row.expires_at > now)
