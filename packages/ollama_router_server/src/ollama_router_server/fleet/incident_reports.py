"""A process's incident reports: of the fleet, the config and the coordination."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final, assert_never

import structlog

from ollama_router_core.coordination.interface import Coordination
from ollama_router_core.coordination.news import BreakerClosed, BreakerOpened, News
from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.fleet.notices import (
    ModelReturned,
    ModelSuspended,
    Notice,
    ServerDown,
    ServerLost,
    ServerReturned,
    ServerSuspended,
    ServerUp,
)
from ollama_router_server.fleet.open_incidents import OpenIncidents
from ollama_router_server.fleet.standing_conditions import Standing, StandingConditions
from ollama_router_server.storage.incident_changes import (
    AFTER_A_RESTART,
    Began,
    Change,
    Ended,
    IncidentKind,
    Origin,
    Reconfigured,
    Started,
    Stopped,
)
from ollama_router_server.storage.incident_store import SILENT_SECONDS, IncidentStore
from ollama_router_server.storage.incident_writer import IncidentWriter
from ollama_router_server.system import Clock

__all__ = ["Incidents"]

_LOOKS: Final = 1.0
"""Seconds between two checks of conditions that last while they are observed."""
_KEPT_ALIVE: Final = 600.0
"""Seconds between two renewals of this process's open incidents."""
_OF_SERVERS: Final[tuple[IncidentKind, ...]] = ("versions.differ", "digests.differ")
_OF_FIRST_WORKER: Final[tuple[IncidentKind, ...]] = ("coordination.away", "database.away", *_OF_SERVERS)
"""Kinds that only the first worker reports and its replacement detects anew; a refused config stays open until one is
applied.
"""

_log = structlog.get_logger(__name__)


class Incidents:
    """One process's reports. What every worker detects, only the first one reports.

    Args:
        store: the database's incidents.
        router: the router's name.
        coordination: with other workers and routers; a breaker counts once for all that share it.
        clock: provides the times.
        standing: return the conditions to check every second.
    """

    def __init__(
        self,
        store: IncidentStore,
        *,
        router: str,
        coordination: Coordination,
        clock: Clock,
        standing: Callable[[], Standing],
    ) -> None:
        self.store = store
        self._coordination = coordination
        self._clock = clock
        self._first = coordination.index == 0
        self._open = OpenIncidents()
        self._standing = standing
        self.conditions = StandingConditions()
        self._away = False
        self._replaces = bool(coordination.own_page())  # a worker was replaced; the router has not stopped
        self._unseen_servers: set[str] = set()
        self._since = clock.wall()
        self._tasks: list[asyncio.Task[None]] = []
        self.writer = IncidentWriter(store, Origin(router, coordination.group if coordination.asks else None))

    def start(self, servers: Collection[str]) -> None:
        """Start reporting; needs a running event loop. `servers` are those of the config."""
        self._since = self._clock.wall()
        if self._replaces:
            self._take_over(servers)
        else:
            self._report_first(Started(at=self._since, servers=frozenset(servers)))
        self.writer.start()
        self._tasks = [
            asyncio.create_task(self._keep_alive(), name="incidents-keep-alive"),
            asyncio.create_task(self._watch(), name="standing-conditions"),
        ]

    async def aclose(self) -> None:
        """Write pending reports and the router's stop, as far as the database accepts them at once.

        Incidents of this process alone end. A successor may have started already, without knowing of them.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            self._report_first(Stopped(at=self._clock.wall(), since=self._since))
        for kind, server, model in self._open:
            if kind in AFTER_A_RESTART and self.writer.origin.scope(kind) == self.writer.origin.router:
                self.writer.report(Ended(kind=kind, at=self._clock.wall(), server=server, model=model))
        await self.writer.aclose()

    def notice(self, notice: Notice) -> None:
        """Report a change of a server's state."""
        at = self._clock.wall()
        match notice:
            case ServerUp(server):
                self._report_first(Ended(kind="server.down", at=at, server=server))
                if server not in self._unseen_servers:  # else it is new to this process only
                    self._report_first(Ended(kind="model.suspended", at=at, server=server, model=None))
                self._unseen_servers.discard(server)
            case ServerDown(server, error):
                self._unseen_servers.discard(server)
                self._report_first(Began(kind="server.down", at=at, cause=error, server=server))
            case ServerSuspended(server, _, _, _, refused):
                cause = "it refused connections" if refused else "requests to it failed or broke off"
                self._report(Began(kind="server.suspended", at=at, cause=cause, server=server))
            case ServerReturned(server):
                self._report(Ended(kind="server.suspended", at=at, server=server))
            case ModelSuspended(server, model, _, words):
                self._report(Began(kind="model.suspended", at=at, cause=words, server=server, model=model))
            case ModelReturned(server, model):
                self._report(Ended(kind="model.suspended", at=at, server=server, model=model))
            case ServerLost():
                pass  # it is already down
            case _:
                assert_never(notice)

    def hear(self, news: Collection[News]) -> None:
        """Report others' news that end an incident here, since a router with its own database has it open as well.

        Others report the start of theirs; an incident lasts as long as any process observes it.
        """
        for one in news:
            at = self._clock.wall()
            if isinstance(one, BreakerClosed):
                self._report_first(Ended(kind="server.suspended", at=at, server=one.server))
            elif isinstance(one, BreakerOpened):
                self._open.follow(Began(kind="server.suspended", at=at, cause="", server=one.server))

    def look(self) -> None:
        """Report whether the coordination store is unavailable; cheap enough for every beat."""
        away = self._coordination.asks and self._coordination.away
        if away == self._away:
            return
        self._away = away
        self._report_condition("coordination.away", "the store in coordination.url does not answer" if away else None)

    def database(self, away: bool) -> None:  # noqa: FBT001 - an answer
        """Report that the database stopped or resumed accepting records; written once it accepts them."""
        self._report_condition(
            "database.away", "rows of the request log wait in memory, then in a file" if away else None
        )

    def config(self, problem: str | None) -> None:
        """Report why the current config file is refused; None once one was applied."""
        self._report_condition("config.refused", problem)

    def reconfigure(self, servers: Collection[str]) -> None:
        """End the incidents of servers that a new config does not name."""
        self._report_first(Reconfigured(at=self._clock.wall(), servers=frozenset(servers)))

    async def go_on(self, suspended: Collection[str]) -> None:
        """Resume the fleet's open incidents after the start; `suspended` are the servers suspended now.

        Raises:
            StorageUnavailable: incidents cannot be read.
        """
        if not self._first or self._replaces or self._coordination.away:
            return
        at, origin = self._clock.wall(), self.writer.origin
        for one in await self.store.of_fleet(origin, since=at - SILENT_SECONDS):
            if one.kind == "server.suspended" and one.server not in suspended:
                if one.router == origin.router:
                    self._report(Ended(kind=one.kind, at=at, server=one.server))
                continue
            self._open.follow(Began(kind=one.kind, at=one.began_at, cause=one.cause, server=one.server))
            if one.kind == "requests.refused":
                self.conditions.go_on(one.kind, at, self._clock.monotonic())

    def _take_over(self, servers: Collection[str]) -> None:
        """Replace a first worker that died: end what only it could have ended; it begins anew here if it persists."""
        self._unseen_servers.update(servers)
        for kind in _OF_FIRST_WORKER:
            self._report_first(Ended(kind=kind, at=self._since))
        self._report_first(Reconfigured(at=self._since, servers=frozenset(servers)))

    def _report_condition(self, kind: IncidentKind, cause: str | None) -> None:
        """Report that an incident of this router began for a cause, or that it ended if that is None."""
        at = self._clock.wall()
        self._report_first(Ended(kind=kind, at=at) if cause is None else Began(kind=kind, at=at, cause=cause))

    def _report(self, change: Change) -> None:
        self._open.follow(change)
        self.writer.report(change)

    def _report_first(self, change: Change) -> None:
        if self._first:
            self._report(change)
        elif not isinstance(change, Began):
            self._open.follow(change)

    def look_at_conditions(self) -> None:
        """Report conditions that began or ended; only the first worker reports how servers differ."""
        for change in self.conditions.see(self._standing(), self._clock.wall(), self._clock.monotonic()):
            report = self._report_first if change.kind in _OF_SERVERS else self._report
            report(change)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOKS)
            self.look_at_conditions()

    async def _keep_alive(self) -> None:
        """Renew open incidents; end others' silent ones only after a successful round, so that they could renew."""
        heard = False
        while True:
            await asyncio.sleep(_KEPT_ALIVE)
            heard = await self._renew(end_silent=heard)

    async def _renew(self, *, end_silent: bool) -> bool:
        try:
            await self.store.keep_alive(
                self.writer.origin, tuple(self._open), self._clock.wall(), end_silent=end_silent
            )
        except StorageUnavailable:
            return False
        except Exception:  # noqa: BLE001 - the next round may succeed
            _log.exception("incidents_not_kept_alive")
            return False
        return True
