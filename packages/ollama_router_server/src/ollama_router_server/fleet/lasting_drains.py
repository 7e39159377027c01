"""Drains that persist across restarts and reach every router on the database."""

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
"""Seconds between two reads: other routers apply a drain within a second."""

_DRAINS = AuditFilter(actions=("server.drain", "server.undrain"))
_LOOKED_AT = 1_000

_log = structlog.get_logger("fleet")


def drain_began(entries: Iterable[AuditEntry], server: str) -> float | None:
    """Return when a server's open drain started, in seconds since 1970; None if no entry says.

    Args:
        entries: newest first.
        server: the server's name.
    """
    for entry in entries:
        if entry.subject == server and entry.action == "server.undrain":
            return None
        if entry.subject == server and not entry.detail.get("already"):
            return entry.at
    return None


class LastingDrains:
    """Apply stored drains to the fleet, and store those made here.

    Args:
        store: the database's drains.
        trail: the audit log, which says when a stored drain started.
        fleet: this process's fleet, which informs the other workers.
        follows: whether this process reads other routers' drains; one worker per router does.
    """

    def __init__(self, store: DrainStore, trail: AuditLog, fleet: FleetService, *, follows: bool) -> None:
        self._store = store
        self._trail = trail
        self._fleet = fleet
        self._follows = follows
        self._known: Mapping[str, StoredDrain] = {}
        self._writing = 0
        self._written = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Apply the stored drains, and start to follow.

        Raises:
            StorageUnavailable: they cannot be read.
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
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def drain(self, server: str, *, on: bool) -> None:
        """Start or end a drain in every router; without the database, in those that coordination reaches."""
        self._fleet.drain(server, on=on)
        await self._write((server,), self._store.set(server, on=on))

    async def forget(self, servers: Collection[str]) -> None:
        """Forget the drains of servers for which the config decides otherwise."""
        if not self._follows or not servers:
            return
        await self._write(servers, self._store.forget(servers))

    async def renamed(self, names: Mapping[str, str]) -> None:
        """Store the last drains of servers under their new names; `names` maps new names to old ones."""
        if not self._follows or not names:
            return
        stored = self._known
        with suppress(StorageUnavailable):
            stored = await self._store.read()  # with the drains since the last read
        renamed = {name: stored[old].on for name, old in names.items() if old in stored}
        for name, on in renamed.items():
            await self._write((name,), self._store.set(name, on=on))
        if renamed:
            await self._write(names.values(), self._store.forget(names.values()))

    async def _date(self, stored: Mapping[str, StoredDrain]) -> None:
        """Set the start times of drains that persisted across a restart, as far as the audit log reaches."""
        drained = [server for server, said in stored.items() if said.on]
        if drained:
            entries = await self._trail.list(_DRAINS, limit=_LOOKED_AT)
            for server in drained:
                began = drain_began(entries, server)
                if began is not None:
                    self._fleet.state_times.drained_since(server, began)

    async def _write(self, servers: Collection[str], writing: Awaitable[None]) -> None:
        self._writing += 1
        try:
            await writing
        except StorageUnavailable as error:
            _log.warning("drain_not_kept", servers=sorted(servers), detail=error.message)
        finally:
            self._writing -= 1
            self._written += 1

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await self._look()
            except StorageUnavailable:
                pass  # the next read may succeed; known drains stay
            except Exception:  # noqa: BLE001 - a failed read is repeated
                _log.exception("drains_not_read")

    async def _look(self) -> None:
        """Read others' drains; drop a read that overlaps with a write of our own, as it may be older."""
        said = self._written
        stored = await self._store.read()
        if not self._writing and said == self._written:
            self._apply(stored)

    def _apply(self, stored: Mapping[str, StoredDrain]) -> None:
        """Apply drains changed since the last read, so that a drain made here meanwhile is not reverted.

        A drain of an unknown server is applied when the server appears.
        """
        here = {server: said for server, said in stored.items() if server in self._fleet.servers}
        before, self._known = self._known, here
        for server, said in here.items():
            is_new = before.get(server) != said
            if is_new and said.on != (server in self._fleet.health.draining):
                self._fleet.drain(server, on=said.on)
