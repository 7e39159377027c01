"""Exchange of admissions between the routers on one database, for users with limits.

Overrun of a limit: another router's requests count once it has written and this one has read them, so the overrun is
what it admits in that time. The written requests of a killed process count for their minute; its requests in flight
count for `_STALE` more seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from ollama_router_core.access.limits import NOWHERE, Elsewhere, Meter
from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.activity import Activity, ActivityStore
from ollama_router_server.system import Clock

__all__ = ["RouterActivity"]

_SIGN = 2.0
"""Seconds between heartbeats of a process with requests in flight."""
_STALE = 5.0
_MINUTE = 60.0
_KEPT = 120.0
_CLEANED = 60.0


class RouterActivity:
    """The activity of other routers' processes as last read. It runs on one event loop.

    Args:
        store: the rows of this process and of the others.
        clock: monotonic for minutes in this process, wall clock between processes.
    """

    def __init__(self, store: ActivityStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._remote: dict[str, list[Activity]] = {}
        self._unpublished: set[str] = set()
        self._published_at: dict[str, float] = {}
        self._read_at = self._cleaned_at = float("-inf")

    def changed(self, user: str) -> None:
        """Mark a user whose request was admitted or has ended here."""
        self._unpublished.add(user)

    def elsewhere(self, user: str, now: float) -> Elsewhere:
        """Return the known requests of a user on other routers."""
        rows = self._remote.get(user)
        if not rows:
            return NOWHERE
        wall = self._clock.wall()
        then = now - wall + 1.0
        return Elsewhere(
            in_flight=sum(row.in_flight for row in rows if wall - row.seen_at < _STALE),
            requests=tuple((min(now, then + second), count) for row in rows for second, count in row.seconds),
        )

    @property
    def age(self) -> float:
        """Seconds since the other routers' rows were read."""
        return self._clock.monotonic() - self._read_at

    async def publish(self, meters: Mapping[str, Meter]) -> None:
        """Write the changes of this process.

        Raises:
            StorageUnavailable: the database cannot write them; the next call does.
        """
        now, wall = self._clock.monotonic(), self._clock.wall()
        silent = {name for name, at in self._published_at.items() if now - at >= _SIGN and meters[name].in_flight}
        names = {name for name in self._unpublished | silent if name in meters}
        self._unpublished -= names
        try:
            await self._store.publish([_row(name, meters[name], now, wall) for name in names])
        except StorageUnavailable:
            self._unpublished |= names
            raise
        self._published_at |= dict.fromkeys(names, now)

    async def read(self) -> None:
        """Read the other routers' rows; every `_CLEANED` seconds delete expired ones.

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
