"""Versions of what live pages show; equal versions mean no change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Final

from ollama_router_server.console.watchers import START
from ollama_router_server.coordination.worker_sync import WorkerSync
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import User
from ollama_router_server.storage.log_filter import LogFilter

__all__ = ["Changes"]

_AGES: Final = 2.0
"""Seconds after which a page that shows ages has changed."""
_LAST_HOUR: Final = 10.0
"""Seconds after which the charts of the last hour have changed."""


class Changes:
    """The current version of each live page, computed from the router's state; no other component records changes."""

    def __init__(self, services: Services, sync: WorkerSync) -> None:
        self._services = services
        self._sync = sync
        self._known: dict[str, Callable[[User, str], Awaitable[Hashable]]] = {
            START: self._start,
            "now": self._now,
            "requests": self._requests,
            "servers": self._servers,
            "operations": self._operations,
        }

    async def version(self, topic: str, user: User) -> Hashable:
        """Return the version of the live page at this path below `/console/`, as this user sees it."""
        name, _, rest = topic.partition("/")
        version = self._known.get(name)
        return self._ages() if version is None else await version(user, rest)

    async def _now(self, user: User, _: str) -> Hashable:
        services = self._services
        active = tuple(self._active(_only(user)))
        return (
            services.running_config.problem,
            services.coordination.away,
            services.sink.healthy,
            active,
            int(services.clock.wall() / _LAST_HOUR),
            self._ages() if active else None,  # activities, and the longest wait
            tuple(self._states()),
        )

    async def _start(self, user: User, _: str) -> Hashable:
        active = tuple(self._active(user.name))
        return active, self._ages() if active else None

    async def _requests(self, user: User, request_id: str) -> Hashable:
        if request_id:
            return self._ages() if self._sync.find_active(request_id) else None
        services, own = self._services, _only(user)
        newest = await services.request_log.list(LogFilter(user=own), limit=1)
        ended = services.sink.holds(own)  # ended, but not in the log yet
        active = tuple(self._active(own))
        return (active, self._ages() if active else None, tuple(row.id for row in newest), ended)

    async def _servers(self, _user: User, _: str) -> Hashable:
        return (tuple(self._states()), self._ages())

    async def _operations(self, _user: User, _: str) -> Hashable:
        return await self._services.operations.store.list(limit=20)

    def _ages(self) -> int:
        return int(self._services.clock.monotonic() / _AGES)

    def _active(self, own: str | None) -> Iterator[tuple[str, str, str | None, int | None]]:
        for row in self._sync.active_requests():
            if own is None or row["user"] == own:
                yield row["id"], row["state"], row["server"], row["queue_position"]

    def _states(self) -> Iterator[Hashable]:
        fleet = self._services.fleet
        in_flight, now = fleet.snapshot.in_flight, self._services.clock.monotonic()
        for name, facts in fleet.servers.items():
            loaded = tuple((str(row.name), row.size, row.size_vram) for row in facts.loaded.values())
            breaker, drains = fleet.health.state_of(name, now), name in fleet.health.draining
            loading = tuple(sorted(map(str, facts.loading)))
            yield name, facts.up, facts.error, breaker, drains, in_flight.get(name, 0), loaded, loading


def _only(user: User) -> str | None:
    """Return the user whose requests a user sees; None for all users."""
    return user.name if user.role == "user" else None
