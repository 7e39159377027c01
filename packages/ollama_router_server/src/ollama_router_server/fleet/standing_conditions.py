"""What is wrong for as long as it can be seen: a full line, many refusals, rows lost, servers that differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from ollama_router_core.records.refusal_waves import RefusalWave
from ollama_router_server.storage.incident_changes import Began, Ended, IncidentKind

__all__ = ["Standing", "StandingConditions"]

_QUIET: Final = 60.0
"""Seconds without it after which a condition is over: a line is full for moments, again and again."""
_MOST_VERSIONS: Final = 5
_MOST_NAMES: Final = 5


class Standing(NamedTuple):
    """What a process sees of itself: its line and the line's bound, rows lost since it started, versions of servers.

    `differing` are names under which servers hold different weights.
    `refused` are the requests that it and the others refused since it started, by error code, as `is_refused` has them.
    """

    waiting: int
    most_waiting: int
    lost_rows: int
    versions: frozenset[str]
    refused: Mapping[str, int]
    differing: Collection[str] = ()


class StandingConditions:
    """Makes incidents of what is seen from look to look.

    One that goes on is reported again every minute: of several workers, another may have said that it is over.
    """

    def __init__(self) -> None:
        self.found: Mapping[IncidentKind, str] = {}
        """What was seen at the last look, with its cause."""
        self._lost = 0
        self._wave = RefusalWave()
        self._seen: dict[IncidentKind, tuple[float, float]] = {}
        self._reported: dict[IncidentKind, float] = {}

    def see(self, standing: Standing, at: float, now: float) -> list[Began | Ended]:
        """Return what begins and what is over since the last look.

        `at` is in seconds since 1970, for what is told; `now` is of a clock that is never set back, and measures.
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
        """Take an incident that others began for one that was seen last now: it ends here if nobody else ends it."""
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
            told = ", ".join(sorted(standing.versions)[:_MOST_VERSIONS])
            yield "versions.differ", f"{told}{' and others' if len(standing.versions) > _MOST_VERSIONS else ''}"
        if standing.differing:
            told = ", ".join(sorted(standing.differing)[:_MOST_NAMES])
            yield "digests.differ", f"{told}{' and others' if len(standing.differing) > _MOST_NAMES else ''}"
