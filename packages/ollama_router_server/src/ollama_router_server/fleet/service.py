"""The core's `FleetState` with its I/O: polling, unloading, notices in the log, listeners, other workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from typing import assert_never

import structlog

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import RouterError
from ollama_router_core.fleet.health import BreakerPermit, Health
from ollama_router_core.fleet.load_counts import LoadCounts
from ollama_router_core.fleet.notices import Notice, ServerDown, ServerReturned, ServerSuspended, ServerUp
from ollama_router_core.fleet.prefixes import Prefixes
from ollama_router_core.fleet.snapshot import EMPTY, FleetSnapshot, ServerFacts
from ollama_router_core.fleet.speeds import Sample
from ollama_router_core.fleet.state import FleetState
from ollama_router_server.coordination.shared_memory import Rows
from ollama_router_server.fleet.health_checker import HealthChecker
from ollama_router_server.system import Clock
from ollama_router_server.upstream.fetching import fetch
from ollama_router_server.upstream.interface import Timeouts, Upstream
from ollama_router_server.upstream.targets import Target

__all__ = ["FleetService"]

_log = structlog.get_logger("fleet")


class FleetService:
    """One background task a server; `snapshot` is what is believed now.

    Workers of one router each ask the servers themselves; what they have in flight is counted together in `shared`.

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
        shared: Rows | None = None,
    ) -> None:
        self._config = config
        self._targets = targets
        self._upstream = upstream
        self._clock = clock
        self._shared = shared
        self._replies: dict[tuple[str, str], bytes] = {}
        self._listeners: list[Callable[[], None]] = []
        self._up_listeners: list[Callable[[str], None]] = []
        self.state = FleetState(config, notify=_log_notice)
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
        shared, elsewhere = self._shared, EMPTY
        if shared is not None:
            elsewhere = {name: count for name in self.state.servers if (count := shared.elsewhere(name))}
        return self.state.snapshot(self.now(), elsewhere)

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
        self._config = config
        self._timeouts = _timeouts(config)
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
        """Send a server nothing new, or end that."""
        self.state.health.drain(name, on=on)
        _log.info("server_draining" if on else "server_undrained", server=name)
        self._tell()

    def learn(self, server: str, model: CanonicalName, sample: Sample) -> None:
        """A request finished with these metrics: the next one of its kind knows how long it takes."""
        self.state.learn(server, model, sample)

    def holds(self, server: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """A turn of a conversation was answered there: its next one need not be read from the beginning."""
        self.state.holds(server, model, conversation, tokens)

    def sent(self, name: str, model: CanonicalName, num_ctx: int | None) -> bool:
        """A request is on its way; says whether it begins the only load there."""
        return self.state.sent(name, model, num_ctx, self.now())

    def permit(self, server: str, *, forced: bool = False) -> BreakerPermit | None:
        """The right to send one request now; see `Health.permit`."""
        return self.state.permit(server, self.now(), forced=forced)

    def take_retry(self, waiting: int) -> bool:
        """Whether the retry budget has one more retry; `waiting` requests count as in flight too."""
        return self.state.take_retry(waiting)

    async def unload(self, name: str, models: tuple[CanonicalName, ...]) -> None:
        """Free memory on a server before something else is loaded there; what fails is left to the server itself."""
        for model in models:
            facts = self.servers.get(name)
            installed = (facts.installed or {}).get(model) if facts is not None else None
            body = json.dumps({"model": installed.spelling if installed else model, "keep_alive": 0}).encode()
            try:
                await fetch(
                    self._upstream, self._targets[name], "POST", "/api/generate", timeouts=self._timeouts, body=body
                )
            except RouterError as error:
                _log.warning("unload_failed", server=name, model=model, error=error.message)
                return
            self.state.evicted(name, model, self.now())

    def running(self, name: str) -> int:
        """This process's requests in flight on a server."""
        return self.state.running(name)

    @property
    def shares(self) -> bool:
        """Whether other workers may free or take a server without this one being told."""
        return self._shared is not None

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
        if self._shared is not None:
            self._shared.add(name, 1)

    def end(self, name: str) -> None:
        """A request to a server ended. With none left, nothing is being loaded there for us any more."""
        if self._shared is not None:
            self._shared.add(name, -1)
        self.state.end(name, None, self.now())

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


def _log_notice(notice: Notice) -> None:
    match notice:
        case ServerUp():
            pass  # logged when its models are known, too: see `polled`
        case ServerDown(server, error):
            _log.warning("server_down", server=server, error=error)
        case ServerSuspended(server, seconds):
            _log.warning("server_suspended", server=server, seconds=round(seconds, 1))
        case ServerReturned(server):
            _log.info("server_returned", server=server)
        case _:
            assert_never(notice)


def _timeouts(config: Config) -> Timeouts:
    patience = config.model_info_timeout
    return Timeouts(connect=config.connect_timeout, first_byte=patience, idle=patience)
