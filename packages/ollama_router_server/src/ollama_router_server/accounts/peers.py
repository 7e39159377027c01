"""What other processes have admitted for users with limits, and telling them what this one has.

How far a limit can be passed: workers of one router see each other at once, so by one request for each further worker,
if they ask in the same instant. Another router's requests are known after it has written them and this one has read
them, each within `interval` seconds: by what it admits in that time. A process that was killed leaves its requests of
the last minute counted but for those of the last `interval`; what it had under way counts for `_STALE` seconds more.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from ollama_router_core.access.limits import NOWHERE, Elsewhere, Meter
from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.coordination.shared_memory import Rows
from ollama_router_server.storage.activity import Activity, ActivityStore
from ollama_router_server.system import Clock

__all__ = ["Peers"]

_SIGN = 2.0
"""Seconds after which a process with requests under way says again that it lives."""
_STALE = 5.0
_MINUTE = 60.0
_KEPT = 120.0
_CLEANED = 60.0

_log = structlog.get_logger(__name__)


class Peers:
    """The other processes. All of it runs on one event loop.

    Args:
        store: this process's rows in the database, and the others'.
        clock: for minutes here and seconds since 1970 between processes.
        shared: the rows of this router's workers, if there are several.
    """

    def __init__(self, store: ActivityStore, *, clock: Clock, shared: Rows | None = None) -> None:
        self._store = store
        self._clock = clock
        self._shared = shared
        self._remote: dict[str, list[Activity]] = {}
        self._unsaid: set[str] = set()
        self._said: dict[str, float] = {}
        self._read_at = self._cleaned_at = float("-inf")

    def admitted(self, user: str, now: float) -> None:
        """A request was admitted here."""
        self._unsaid.add(user)
        if self._shared is not None:
            self._shared.add(user, 1)
            self._shared.tick(user, now)

    def released(self, user: str) -> None:
        """A request that was admitted here has ended."""
        self._unsaid.add(user)
        if self._shared is not None:
            self._shared.add(user, -1)

    def before(self, user: str, now: float) -> list[float]:
        """Moments of the last minute at which this worker's predecessor admitted requests, oldest first."""
        if self._shared is None:
            return []
        ticks = sorted(self._shared.ticks(user, now, own=True))
        return [min(now, second + 1.0) for second, count in ticks for _ in range(count)]

    def elsewhere(self, user: str, now: float) -> Elsewhere:
        """What is known of the others' requests of a user."""
        in_flight, requests = 0, []
        if self._shared is not None:
            in_flight = self._shared.elsewhere(user)
            requests = [(min(now, second + 1.0), count) for second, count in self._shared.ticks(user, now)]
        if rows := self._remote.get(user):
            wall = self._clock.wall()
            in_flight += sum(row.in_flight for row in rows if wall - row.seen_at < _STALE)
            then = now - wall + 1.0
            requests += [(min(now, then + second), count) for row in rows for second, count in row.seconds]
        return Elsewhere(in_flight=in_flight, requests=tuple(requests)) if in_flight or requests else NOWHERE

    @property
    def age(self) -> float:
        """Seconds since the others' rows were read."""
        return self._clock.monotonic() - self._read_at

    async def publish(self, meters: Mapping[str, Meter]) -> None:
        """Write what changed here.

        Raises:
            StorageUnavailable: the database cannot take it; it is written next time.
        """
        now, wall = self._clock.monotonic(), self._clock.wall()
        silent = {name for name, at in self._said.items() if now - at >= _SIGN and meters[name].in_flight}
        names = {name for name in self._unsaid | silent if name in meters}
        self._unsaid -= names
        try:
            await self._store.publish([_row(name, meters[name], now, wall) for name in names])
        except StorageUnavailable:
            self._unsaid |= names
            raise
        self._said |= dict.fromkeys(names, now)

    async def read(self) -> None:
        """Read what the others wrote; now and then delete what is of no use any more.

        Raises:
            StorageUnavailable: the database cannot answer.
        """
        now, wall = self._clock.monotonic(), self._clock.wall()
        remote: dict[str, list[Activity]] = {}
        for row in await self._store.others(since=wall - _MINUTE):
            remote.setdefault(row.user, []).append(row)
        self._remote, self._read_at = remote, now
        if now - self._cleaned_at >= _CLEANED:
            self._cleaned_at = now
            await self._store.forget(before=wall - _KEPT)


def _row(name: str, meter: Meter, now: float, wall: float) -> Activity:
    counts: dict[int, int] = {}
    for moment in meter.recent(now):
        second = int(wall - (now - moment))
        counts[second] = counts.get(second, 0) + 1
    return Activity(user=name, in_flight=meter.in_flight, seconds=tuple(counts.items()), seen_at=wall)
