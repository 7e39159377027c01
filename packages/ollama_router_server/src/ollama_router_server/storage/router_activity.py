"""What other routers on the same database have admitted for users with limits, and telling them what this process has.

How far a limit can be passed: another router's requests are known after it has written them and this one has read them,
so by what it admits in that time. A process that was killed leaves its requests of the last minute counted but for
those not yet written; what it had under way counts for `_STALE` seconds more.
"""

from __future__ import annotations

from collections.abc import Mapping

from ollama_router_core.access.limits import NOWHERE, Elsewhere, Meter
from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.activity import Activity, ActivityStore
from ollama_router_server.system import Clock

__all__ = ["RouterActivity"]

_SIGN = 2.0
"""Seconds after which a process with requests under way says again that it lives."""
_STALE = 5.0
_MINUTE = 60.0
_KEPT = 120.0
_CLEANED = 60.0


class RouterActivity:
    """The other routers' processes as last read. All of it runs on one event loop.

    Args:
        store: this process's rows in the database, and the others'.
        clock: for minutes here and seconds since 1970 between processes.
    """

    def __init__(self, store: ActivityStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._remote: dict[str, list[Activity]] = {}
        self._unsaid: set[str] = set()
        self._said: dict[str, float] = {}
        self._read_at = self._cleaned_at = float("-inf")

    def changed(self, user: str) -> None:
        """Note that a request of a user was admitted here, or has ended."""
        self._unsaid.add(user)

    def elsewhere(self, user: str, now: float) -> Elsewhere:
        """Return what is known of the other routers' requests of a user."""
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
