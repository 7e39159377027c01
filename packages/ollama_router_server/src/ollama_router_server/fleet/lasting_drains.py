"""Drains that outlast a restart, and reach every router on the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Mapping
from contextlib import suppress

import structlog

from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.storage.audit_log import AuditEntry, AuditFilter, AuditLog
from ollama_router_server.storage.drains import DrainStore, StoredDrain

__all__ = ["LastingDrains", "drain_began"]

_INTERVAL = 0.5
"""Seconds between two looks: other routers know of a drain within a second."""

_DRAINS = AuditFilter(actions=("server.drain", "server.undrain"))
_LOOKED_AT = 1_000

_log = structlog.get_logger("fleet")


def drain_began(entries: Iterable[AuditEntry], server: str) -> float | None:
    """When the drain of a server began that no entry ended, in seconds since 1970; None where no entry tells.

    Args:
        entries: the newest first.
        server: its name.
    """
    for entry in entries:
        if entry.subject == server and entry.action == "server.undrain":
            return None
        if entry.subject == server and not entry.detail.get("already"):
            return entry.at
    return None


class LastingDrains:
    """Applies what is stored to a fleet, and stores what is said here.

    Args:
        store: of the database.
        trail: of the same; it tells when a drain that is stored began.
        fleet: of this process; it tells the other workers.
        follows: whether this process looks for what others stored: one of a router's workers does.
    """

    def __init__(self, store: DrainStore, trail: AuditLog, fleet: FleetService, *, follows: bool) -> None:
        self._store = store
        self._trail = trail
        self._fleet = fleet
        self._follows = follows
        self._known: Mapping[str, StoredDrain] = {}
        self._saying = 0
        self._said = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take over what is stored, and go on looking.

        Raises:
            StorageUnavailable: it cannot be read.
        """
        if not self._follows:
            with suppress(StorageUnavailable):
                await self._date(await self._store.read())
        else:
            stored = await self._store.read()
            with suppress(StorageUnavailable):
                await self._date(stored)
            self._apply(stored)
            self._task = asyncio.create_task(self._follow(), name="drains")

    async def aclose(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def drain(self, server: str, *, on: bool) -> None:
        """Begin or end a drain in every router; without the database it holds where coordination reaches."""
        self._fleet.drain(server, on=on)
        await self._say((server,), self._store.set(server, on=on))

    async def forget(self, servers: Collection[str]) -> None:
        """Forget the drains of some servers, about which the config has another word."""
        if not self._follows or not servers:
            return
        await self._say(servers, self._store.forget(servers))

    async def renamed(self, names: Mapping[str, str]) -> None:
        """Keep the last word about servers under the names that they have now; `names` has the old ones by those."""
        words = {name: self._known[old].on for name, old in names.items() if old in self._known}
        if not self._follows or not words:
            return
        for name, on in words.items():
            await self._say((name,), self._store.set(name, on=on))
        await self._say(names.values(), self._store.forget(names.values()))

    async def _date(self, stored: Mapping[str, StoredDrain]) -> None:
        """Have drains that outlasted a restart told since when they began, as far as the trail reaches."""
        drained = [server for server, said in stored.items() if said.on]
        if drained:
            entries = await self._trail.list(_DRAINS, limit=_LOOKED_AT)
            for server in drained:
                began = drain_began(entries, server)
                if began is not None:
                    self._fleet.state_times.drained_since(server, began)

    async def _say(self, servers: Collection[str], writing: Awaitable[None]) -> None:
        self._saying += 1
        try:
            await writing
        except StorageUnavailable as error:
            _log.warning("drain_not_kept", servers=sorted(servers), detail=error.message)
        finally:
            self._saying -= 1
            self._said += 1

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await self._look()
            except StorageUnavailable:
                pass  # the next look may succeed; what is known stays
            except Exception:  # noqa: BLE001 - a look that failed is made again
                _log.exception("drains_not_read")

    async def _look(self) -> None:
        """Look for what others said; what was read beside a word of our own may be older, and the next look tells."""
        said = self._said
        stored = await self._store.read()
        if not self._saying and said == self._said:
            self._apply(stored)

    def _apply(self, stored: Mapping[str, StoredDrain]) -> None:
        """Do what was said since the last look, so that a word said here meanwhile is not taken back.

        What was said of a server that is not there yet is new when it comes.
        """
        here = {server: said for server, said in stored.items() if server in self._fleet.servers}
        before, self._known = self._known, here
        for server, said in here.items():
            is_new = before.get(server) != said
            if is_new and said.on != (server in self._fleet.health.draining):
                self._fleet.drain(server, on=said.on)
