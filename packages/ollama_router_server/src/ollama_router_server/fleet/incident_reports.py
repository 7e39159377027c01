"""What a process reports as incidents: of the fleet, the config and the coordination, what it alone can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final, assert_never

import structlog

from ollama_router_core.coordination import BreakerClosed, BreakerOpened, Coordination, News
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
"""Seconds between two looks at what is wrong only for as long as it is seen."""
_KEPT_ALIVE: Final = 600.0
"""Seconds between two notes of what a process still suffers from."""
_OF_SERVERS: Final[tuple[IncidentKind, ...]] = ("versions.differ", "digests.differ")
_THE_FIRST_ONES: Final[tuple[IncidentKind, ...]] = ("coordination.away", "database.away", *_OF_SERVERS)
"""What the first worker alone reports, and its replacement sees anew; a refused config is so until one is taken up."""

_log = structlog.get_logger(__name__)


class Incidents:
    """One process's reports. What every worker sees by itself, the first one alone reports.

    Args:
        store: of the database.
        router: its name.
        coordination: with the other workers and routers; breakers count once for all that share them.
        clock: for moments.
        standing: tells what is looked at every second.
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
        self._replaces = bool(coordination.own_page())  # the router has not stopped
        self._not_met: set[str] = set()
        self._since = clock.wall()
        self._tasks: list[asyncio.Task[None]] = []
        self.writer = IncidentWriter(store, Origin(router, coordination.group if coordination.asks else None))

    def start(self, servers: Collection[str]) -> None:
        """Begin to report; needs a running event loop. `servers` are those of the config."""
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
        """Write what waits, and that the router stops, as far as the database takes it at once.

        What this process alone suffers from is over with it. A successor may have started already, and may not know.
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
                if server not in self._not_met:  # else it is new to this process only
                    self._report_first(Ended(kind="model.suspended", at=at, server=server, model=None))
                self._not_met.discard(server)
            case ServerDown(server, error):
                self._not_met.discard(server)
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
                pass  # it is down already
            case _:
                assert_never(notice)

    def hear(self, told: Collection[News]) -> None:
        """Report what others told that ends an incident here: a router with a database of its own has it there, too.

        What they say begins, they report; it goes on as long as any process suffers from it.
        """
        for news in told:
            at = self._clock.wall()
            if isinstance(news, BreakerClosed):
                self._report_first(Ended(kind="server.suspended", at=at, server=news.server))
            elif isinstance(news, BreakerOpened):
                self._open.follow(Began(kind="server.suspended", at=at, cause="", server=news.server))

    def look(self) -> None:
        """Report whether what routers have in common is away; cheap, for every beat."""
        away = self._coordination.asks and self._coordination.away
        if away == self._away:
            return
        self._away = away
        self._stands("coordination.away", "the store in coordination.url does not answer" if away else None)

    def database(self, away: bool) -> None:  # noqa: FBT001 - an answer
        """Report that the database takes no rows, or takes them again: written when it does."""
        self._stands("database.away", "rows of the request log wait in memory, then in a file" if away else None)

    def config(self, problem: str | None) -> None:
        """Report why the config as it is now is refused; None once one was taken up."""
        self._stands("config.refused", problem)

    def reconfigure(self, servers: Collection[str]) -> None:
        """Another config holds: what was wrong with servers that it does not name is over."""
        self._report_first(Reconfigured(at=self._clock.wall(), servers=frozenset(servers)))

    async def go_on(self, suspended: Collection[str]) -> None:
        """Go on with what the fleet suffers from, whoever told it; after the start, with what is `suspended` by then.

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
        """Go on for a first worker that died: what only it could have ended is over, or begins anew here."""
        self._not_met.update(servers)
        for kind in _THE_FIRST_ONES:
            self._report_first(Ended(kind=kind, at=self._since))
        self._report_first(Reconfigured(at=self._since, servers=frozenset(servers)))

    def _stands(self, kind: IncidentKind, cause: str | None) -> None:
        """Report that something of this router began for a cause, or is over where there is none."""
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
        """Report what stands now and what does no more; the first worker alone tells of how servers differ."""
        for change in self.conditions.see(self._standing(), self._clock.wall(), self._clock.monotonic()):
            report = self._report_first if change.kind in _OF_SERVERS else self._report
            report(change)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOKS)
            self.look_at_conditions()

    async def _keep_alive(self) -> None:
        """Judge others silent only after a round that succeeded: they, too, were heard of since then."""
        heard = False
        while True:
            await asyncio.sleep(_KEPT_ALIVE)
            heard = await self._say_what_goes_on(end_silent=heard)

    async def _say_what_goes_on(self, *, end_silent: bool) -> bool:
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
