"""Conditions that last while they are observed: a full queue, many refusals, lost records, servers that differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from ollama_router_core.records.refusal_waves import RefusalWave
from ollama_router_server.storage.incident_changes import Began, Ended, IncidentKind

__all__ = ["Standing", "StandingConditions"]

_QUIET: Final = 60.0
"""Seconds without observation after which a condition has ended: a queue is full for moments, again and again."""
_MOST_VERSIONS: Final = 5
_MOST_NAMES: Final = 5


class Standing(NamedTuple):
    """A process's observations: its queue and its bound, records lost since start, server versions.

    `differing` are names under which servers hold different weights.
    `refused` counts the requests refused since start, by all processes, by error code, as in `is_refused`.
    """

    waiting: int
    most_waiting: int
    lost_rows: int
    versions: frozenset[str]
    refused: Mapping[str, int]
    differing: Collection[str] = ()


class StandingConditions:
    """Turn the observations of successive checks into incidents.

    A lasting one is reported again every minute, since another worker may have reported its end.
    """

    def __init__(self) -> None:
        self.found: Mapping[IncidentKind, str] = {}
        """The conditions of the last check, with their causes."""
        self._lost = 0
        self._wave = RefusalWave()
        self._seen: dict[IncidentKind, tuple[float, float]] = {}
        self._reported: dict[IncidentKind, float] = {}

    def see(self, standing: Standing, at: float, now: float) -> list[Began | Ended]:
        """Return what began and ended since the last check.

        `at` is in seconds since 1970, for reports; `now` is monotonic, for durations.
        """
        found = self.found = dict(self._found(standing, now))
        self._lost = standing.lost_rows
        changes: list[Began | Ended] = []
        for kind, cause in found.items():
            self._seen[kind] = at, now
            if now - self._reported.get(kind, float("-inf")) >= _QUIET:
                self._reported[kind] = now
                changes.append(Began(kind=kind, at=at, cause=cause))
        for kind, (last, seen) in list(self._seen.items()):
            if kind not in found and now - seen >= _QUIET:
                del self._seen[kind], self._reported[kind]
                changes.append(Ended(kind=kind, at=last))
        return changes

    def go_on(self, kind: IncidentKind, at: float, now: float) -> None:
        """Treat an incident that others began as last observed now: it ends here if no other process ends it."""
        self._seen.setdefault(kind, (at, now))
        self._reported.setdefault(kind, now)

    def _found(self, standing: Standing, now: float) -> Iterator[tuple[IncidentKind, str]]:
        if 0 < standing.most_waiting <= standing.waiting:
            yield "line.full", f"{standing.waiting} requests wait, and queue.max_waiting lets no more in"
        if (refusals := self._wave.see(standing.refused, now)) is not None:
            yield "requests.refused", refusals
        if standing.lost_rows > self._lost:
            yield "log.lost", "rows were lost: the database took none, and neither memory nor the file had room"
        if len(standing.versions) > 1:
            shown = ", ".join(sorted(standing.versions)[:_MOST_VERSIONS])
            yield "versions.differ", f"{shown}{' and others' if len(standing.versions) > _MOST_VERSIONS else ''}"
        if standing.differing:
            shown = ", ".join(sorted(standing.differing)[:_MOST_NAMES])
            yield "digests.differ", f"{shown}{' and others' if len(standing.differing) > _MOST_NAMES else ''}"
