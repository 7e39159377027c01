"""The core's `FleetState` with its I/O: polling, unloading, notices in the log, listeners, other workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import assert_never

import structlog

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Config
from ollama_router_core.coordination import (
    BreakerClosed,
    BreakerOpened,
    Coordination,
    FactsChanged,
    News,
    Scope,
    SpeedLearned,
    TokenVerified,
)
from ollama_router_core.fleet.health import BreakerPermit, Health
from ollama_router_core.fleet.load_counts import LoadCounts
from ollama_router_core.fleet.notices import Notice, ServerDown, ServerReturned, ServerSuspended, ServerUp
from ollama_router_core.fleet.prefixes import Prefixes
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.fleet.speeds import Sample
from ollama_router_core.fleet.state import FleetState
from ollama_router_server.fleet.health_checker import HealthChecker
from ollama_router_server.system import Clock
from ollama_router_server.upstream.interface import Timeouts, Upstream
from ollama_router_server.upstream.targets import Target

__all__ = ["FleetService"]

_log = structlog.get_logger("fleet")

_QUIET_SECONDS = 1.0
"""Seconds between two news of one subject: more would tell nothing."""


class FleetService:
    """One background task a server; `snapshot` is what is believed now.

    Workers of one router each ask the servers themselves. What they have in flight is counted together, drains hold for
    all, and what one finds out by its requests (a server that fails or is back, speeds) the others are told.

    Attributes:
        state: what is believed and in flight.
    """

    def __init__(
        self,
        *,
        config: Config,
        targets: Mapping[str, Target],
        upstream: Upstream,
        clock: Clock,
        coordination: Coordination,
    ) -> None:
        self._config = config
        self._targets = targets
        self._upstream = upstream
        self._clock = clock
        self._coordination = coordination
        self._reserved: frozenset[str] = frozenset()
        self._told: dict[object, float] = {}
        self._replies: dict[tuple[str, str], bytes] = {}
        self._listeners: list[Callable[[], None]] = []
        self._up_listeners: list[Callable[[str], None]] = []
        self.state = FleetState(config, notify=self._notice)
        self._timeouts = _timeouts(config)
        self._polls = self._new_polls()
        self._starting: asyncio.Task[None] | None = None

    def _new_polls(self) -> HealthChecker:
        return HealthChecker(
            config=self._config,
            targets=self._targets,
            upstream=self._upstream,
            clock=self._clock,
            state=self.state,
            book=self,
        )

    @property
    def snapshot(self) -> FleetSnapshot:
        """The fleet as believed now, our own requests in flight included."""
        if not self.shares:
            return self.state.snapshot(self.now())
        return self.state.snapshot(self.now(), self._elsewhere(Scope.SERVER), self._elsewhere(Scope.RESERVED))

    def _elsewhere(self, scope: Scope) -> Mapping[str, int]:
        counts = ((name, self._coordination.elsewhere(scope, name)) for name in self.state.servers)
        return {name: count for name, count in counts if count}

    @property
    def servers(self) -> Mapping[str, ServerFacts]:
        """What is believed about each server."""
        return self.state.servers

    @property
    def health(self) -> Health:
        """Breakers, the retry budget, drains."""
        return self.state.health

    @property
    def prefixes(self) -> Prefixes:
        """Which conversations' prompts servers still hold."""
        return self.state.prefixes

    @property
    def loads(self) -> LoadCounts:
        """Models loaded and evicted since the start."""
        return self.state.loads

    async def reconfigure(self, config: Config, *, moved: Collection[str] = ()) -> None:
        """Go by another config from now on: what is believed of servers that stay is kept, but not of `moved` ones.

        Names that the config drops are forgotten at once; requests under way there end as they end.
        """
        old, self._config = self._config.servers, config
        self._timeouts = _timeouts(config)
        for name, server in config.servers.items():
            if name in old and old[name].drain != server.drain:
                self._coordination.drain(name, on=server.drain)
        self.state.reconfigure(config, moved=moved)
        kept = self.state.servers.keys() - set(moved)
        self._replies = {key: body for key, body in self._replies.items() if key[0] in kept}
        closing, self._polls = self._polls, self._new_polls()
        await closing.aclose()
        self._starting = asyncio.create_task(self._polls.start())
        self._tell()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever facts or states changed in a way that may let a waiting request go."""
        self._listeners.append(listener)

    def on_up(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the name of each server that is first seen or comes back, once its facts are known."""
        self._up_listeners.append(listener)

    def drain(self, name: str, *, on: bool) -> None:
        """Send a server nothing new, or end that, in every worker."""
        self._coordination.drain(name, on=on)
        self._drain(name, on=on)

    def _drain(self, name: str, *, on: bool) -> None:
        self.state.health.drain(name, on=on)
        _log.info("server_draining" if on else "server_undrained", server=name)
        self._tell()

    def learn(self, server: str, model: CanonicalName, sample: Sample) -> None:
        """A request finished with these metrics: the next one of its kind knows how long it takes."""
        self.state.learn(server, model, sample)
        if self._may_tell((server, model)):
            self._coordination.tell(SpeedLearned(server, model, sample))

    def holds(self, server: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """A turn of a conversation was answered there: its next one need not be read from the beginning."""
        self.state.holds(server, model, conversation, tokens)

    def sent(self, name: str, model: CanonicalName, num_ctx: int | None) -> bool:
        """A request is on its way; says whether it begins the only load there."""
        return self.state.sent(name, model, num_ctx, self.now())

    def permit(self, server: str, *, forced: bool = False) -> BreakerPermit | None:
        """The right to send one request now; see `Health.permit`."""
        return self.state.permit(server, self.now(), forced=forced)

    def retry_after(self) -> float | None:
        """Seconds until the first suspended server is tried again, None when none is suspended."""
        return self.state.health.retry_after(self.now())

    def evicted(self, name: str, model: CanonicalName) -> None:
        """A model was unloaded to make room."""
        self.state.evicted(name, model, self.now())

    def take_retry(self, waiting: int) -> bool:
        """Whether the retry budget has one more retry; `waiting` requests count as in flight too."""
        return self.state.take_retry(waiting)

    def running(self, name: str) -> int:
        """This process's requests in flight on a server."""
        return self.state.running(name)

    @property
    def shares(self) -> bool:
        """Whether other workers may free or take a server without this one being told."""
        return self._coordination.size > 1

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    async def start(self) -> None:
        """Begin to ask. Returns when every server has answered or failed once, at the latest after 3 seconds."""
        await self._polls.start()

    async def aclose(self) -> None:
        """Stop asking."""
        if self._starting is not None:
            self._starting.cancel()
        await self._polls.aclose()

    def begin(self, name: str) -> None:
        """A request was sent to a server."""
        self.state.begin(name)
        self._coordination.take(Scope.SERVER, name)
        if name in self._reserved:
            self._reserve(frozenset())

    def end(self, name: str) -> None:
        """A request to a server ended. With none left, nothing is being loaded there for us any more."""
        self._coordination.give_back(Scope.SERVER, name)
        self.state.end(name, self.now())

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> bool:
        """Swap in what our own traffic has shown about a server; says whether other models are now in memory there.

        Names of external hosts are ignored.
        """
        return self.state.update(name, change, self.now())

    def remember(self, name: str, path: str, body: bytes | None) -> None:
        """Keep what a server answered on a path, for when it is slow; None forgets it."""
        if body is None:
            self._replies.pop((name, path), None)
        else:
            self._replies[name, path] = body

    def last_reply(self, name: str, path: str) -> bytes | None:
        """What a server answered last on a path."""
        return self._replies.get((name, path))

    def is_stub(self, model: CanonicalName) -> bool:
        """Whether some server only knows this model as one of Ollama's hosted service."""
        return self.state.is_stub(model)

    def measure_soon(self, name: str) -> None:
        """Ask a server what it holds in memory, now, in the background."""
        self._polls.soon(name)

    def refresh_soon(self, name: str | None = None) -> None:
        """Have the models of one server, or of all, asked for again at once, in the background."""
        for server in self.servers if name is None else (name,):
            self._refresh(server)
            self._facts_changed(server)

    def _refresh(self, server: str) -> None:
        self.state.lists_are_due(server, self.now())
        self._polls.soon(server)

    def refresh_unknown(self, model: CanonicalName | None) -> None:
        """A request could not be placed: ask for the lists again, at most once in five seconds."""
        if model is not None and self.state.may_refresh(self.now()):
            self.refresh_soon()

    def now(self) -> float:
        """Seconds of the clock that the snapshot's times come from."""
        return self._clock.monotonic()

    def polled(self, name: str, *, came_up: bool) -> None:
        """A server was asked."""
        self._tell()
        if came_up:
            facts = self.servers[name]
            models = None if facts.installed is None else len(facts.installed)
            _log.info("server_up", server=name, version=facts.version, models=models)
            for listener in self._up_listeners:
                listener(name)

    # --- workers ----------------------------------------------------------------------------------------------------

    def waits(self, since: float | None, servers: frozenset[str]) -> None:
        """Tell the others when the longest waiting request here arrived, and the full servers that it waits for.

        The one that has waited longest of all workers gets the next slot: the others leave one for it.
        """
        self._coordination.waits(since)
        self._reserve(servers if self.shares and self._coordination.waits_longest() else frozenset())

    def _reserve(self, servers: frozenset[str]) -> None:
        for name in self._reserved - servers:
            self._coordination.give_back(Scope.RESERVED, name)
        for name in servers - self._reserved:
            self._coordination.take(Scope.RESERVED, name)
        self._reserved = servers

    def follow_drains(self) -> None:
        """Drain what other workers were told to drain."""
        for name in self._config.servers:
            on = self._coordination.drained(name)
            if on is not None and on != (name in self.health.draining):
                self._drain(name, on=on)

    def hear(self, news: News) -> None:
        """Another worker found something out."""
        match news:
            case BreakerOpened(server, until, ejections, refused):
                self.health.opened_elsewhere(server, until=until, ejections=ejections, refused=refused)
            case BreakerClosed(server):
                self.health.closed_elsewhere(server, self.now())
                self._tell()
            case SpeedLearned(server, model, sample):
                self.state.learn(server, model, sample)
            case FactsChanged(server):
                if server in self.servers and self._may_tell(server):
                    self._refresh(server)
            case TokenVerified():
                pass  # about users, not servers
            case _:
                assert_never(news)

    def _notice(self, notice: Notice) -> None:
        match notice:
            case ServerUp(server):
                self._facts_changed(server)  # logged when its models are known, too: see `polled`
            case ServerDown(server, error):
                _log.warning("server_down", server=server, error=error)
                self._facts_changed(server)
            case ServerSuspended(server, until, seconds, ejections, refused):
                _log.warning("server_suspended", server=server, seconds=round(seconds, 1))
                self._coordination.tell(BreakerOpened(server, until, ejections, refused))
            case ServerReturned(server):
                _log.info("server_returned", server=server)
                self._coordination.tell(BreakerClosed(server))
            case _:
                assert_never(notice)

    def _facts_changed(self, server: str) -> None:
        if self._may_tell(server):
            self._coordination.tell(FactsChanged(server))

    def _may_tell(self, subject: object) -> bool:
        """Whether a subject was not spoken of for a second: workers must not echo each other."""
        if not self.shares or self.now() - self._told.get(subject, float("-inf")) < _QUIET_SECONDS:
            return False
        self._told[subject] = self.now()
        return True


def _timeouts(config: Config) -> Timeouts:
    patience = config.model_info_timeout
    return Timeouts(connect=config.connect_timeout, first_byte=patience, idle=patience)
