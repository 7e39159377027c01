"""The fleet as it is believed to be: what servers said, what our own traffic shows, who is busy with what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import structlog

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import RouterError
from ollama_router_core.fleet.observations import (
    observe_load_started,
    observe_loads_ended,
    observe_unloaded,
)
from ollama_router_core.fleet.snapshot import EMPTY, FleetSnapshot, LoadedModel, ServerFacts, stubs
from ollama_router_core.fleet.speeds import Sample, SpeedBook, model_weight
from ollama_router_core.routing.prefixes import Prefixes
from ollama_router_server.coordination.shared_memory import Rows
from ollama_router_server.fleet.health import Health
from ollama_router_server.fleet.health_checker import HealthChecker
from ollama_router_server.fleet.load_stats import Loads
from ollama_router_server.system import Clock
from ollama_router_server.upstream.fetching import fetch
from ollama_router_server.upstream.interface import Timeouts, Upstream
from ollama_router_server.upstream.targets import Target

__all__ = ["FleetService"]

_log = structlog.get_logger("fleet")

_REFRESH_SECONDS = 5.0


class FleetService:
    """One background task a server; `snapshot` is what is believed now.

    Workers of one router each ask the servers themselves; what they have in flight is counted together in `shared`.
    """

    def __init__(
        self,
        *,
        config: Config,
        targets: Mapping[str, Target],
        upstream: Upstream,
        clock: Clock,
        jitter: float = 0.1,
        shared: Rows | None = None,
    ) -> None:
        self._config = config
        self._targets = targets
        self._upstream = upstream
        self._clock = clock
        self._shared = shared
        self._servers: Mapping[str, ServerFacts] = MappingProxyType(
            {name: ServerFacts(name=name) for name, server in config.servers.items() if server.enabled}
        )
        self._stubs: frozenset[CanonicalName] | None = None
        """Made when first asked for after some server has other models."""
        self._in_flight: dict[str, int] = {}
        self._refreshed_at = float("-inf")
        self._replies: dict[tuple[str, str], bytes] = {}
        self._speeds = SpeedBook()
        self._listeners: list[Callable[[], None]] = []
        self._up_listeners: list[Callable[[str], None]] = []
        self.health = Health(config, clock.monotonic)
        self.prefixes = Prefixes()
        self.loads = Loads()
        self._timeouts = _timeouts(config)
        self._jitter = jitter
        self._polls = self._new_polls()
        self._starting: asyncio.Task[None] | None = None

    def _new_polls(self) -> HealthChecker:
        return HealthChecker(
            config=self._config,
            targets=self._targets,
            upstream=self._upstream,
            clock=self._clock,
            book=self,
            jitter=self._jitter,
        )

    @property
    def snapshot(self) -> FleetSnapshot:
        """The fleet as believed now, our own requests in flight included."""
        health, shared, in_flight = self.health, self._shared, self._in_flight.copy()
        if shared is None and not health.troubled:
            return FleetSnapshot(
                servers=self._servers, in_flight=in_flight, draining=health.draining, speeds=self._speeds
            )
        elsewhere: Mapping[str, int] = EMPTY
        if shared is not None:
            elsewhere = {name: count for name in self._servers if (count := shared.elsewhere(name))}
            in_flight |= {name: in_flight.get(name, 0) + count for name, count in elsewhere.items()}
        return FleetSnapshot(
            servers=self._servers,
            in_flight=in_flight,
            elsewhere=elsewhere,
            suspended=health.suspended([name for name, facts in self._servers.items() if facts.up])
            if health.troubled
            else EMPTY,
            slots=health.slots(in_flight) if health.troubled else EMPTY,
            draining=health.draining,
            speeds=self._speeds,
        )

    async def reconfigure(self, config: Config, *, moved: Collection[str] = ()) -> None:
        """Go by another config from now on: what is believed of servers that stay is kept, but not of `moved` ones.

        Names that the config drops are forgotten at once; requests under way there end as they end.
        """
        kept = {name: facts for name, facts in self._servers.items() if name not in moved}
        self._config = config
        enabled = [name for name, server in config.servers.items() if server.enabled]
        self._servers = MappingProxyType({name: kept.get(name) or ServerFacts(name=name) for name in enabled})
        self._stubs = None
        self._replies = {key: body for key, body in self._replies.items() if key[0] in kept and key[0] in self._servers}
        self._timeouts = _timeouts(config)
        self.health.reconfigure(config)
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
        self.health.drain(name, on=on)
        _log.info("server_draining" if on else "server_undrained", server=name)
        self._tell()

    def learn(self, server: str, model: CanonicalName, sample: Sample) -> None:
        """A request finished with these metrics: the next one of its kind knows how long it takes."""
        facts = self._servers.get(server)
        if facts is not None:
            weight = model_weight(model, (facts.installed or {}).get(model))
            self._speeds = self._speeds.observe(server, model, weight, sample)

    def holds(self, server: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """A turn of a conversation was answered there: its next one need not be read from the beginning."""
        settings = self._config.servers.get(server)
        if settings is not None:
            self.prefixes.answered(conversation, server, model, tokens=tokens, slots=settings.num_parallel)

    def sent(self, name: str, model: CanonicalName, num_ctx: int | None) -> bool:
        """A request is on its way; says whether it begins the only load there."""
        facts = self._servers.get(name)
        if facts is None:
            return False
        held = facts.loaded.get(model)
        if held is not None and (num_ctx is None or held.context_length in {None, num_ctx}):
            return False
        self.update(name, partial(observe_load_started, name=model, now=self.now(), num_ctx=num_ctx))
        return not facts.loading and bool(self._servers[name].loading)

    async def unload(self, name: str, models: tuple[CanonicalName, ...]) -> None:
        """Free memory on a server before something else is loaded there; what fails is left to the server itself."""
        for model in models:
            facts = self._servers.get(name)
            installed = (facts.installed or {}).get(model) if facts is not None else None
            body = json.dumps({"model": installed.spelling if installed else model, "keep_alive": 0}).encode()
            try:
                await fetch(
                    self._upstream, self._targets[name], "POST", "/api/generate", timeouts=self._timeouts, body=body
                )
            except RouterError as error:
                _log.warning("unload_failed", server=name, model=model, error=error.message)
                return
            self.loads.evicted(name)
            self.update(name, partial(observe_unloaded, name=model))

    def running(self, name: str) -> int:
        """This process's requests in flight on a server."""
        return self._in_flight.get(name, 0)

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
        self._in_flight[name] = self._in_flight.get(name, 0) + 1
        if self._shared is not None:
            self._shared.add(name, 1)

    def end(self, name: str) -> None:
        """A request to a server ended. With none left, nothing is being loaded there for us any more."""
        self._in_flight[name] -= 1
        if self._shared is not None:
            self._shared.add(name, -1)
        facts = self._servers.get(name)
        if facts is not None and facts.loading and not self._in_flight[name]:
            self.update(name, observe_loads_ended)

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> bool:
        """Swap in what our own traffic has shown about a server; says whether other models are now in memory there.

        Names of external hosts are ignored.
        """
        facts = self._servers.get(name)
        if facts is None:
            return False
        changed = change(facts)
        if changed is not facts:
            self.loads.seen(name, facts, changed, now=self._clock.monotonic())
            self._servers = MappingProxyType({**self._servers, name: changed})
            if changed.installed is not facts.installed:
                self._stubs = None
        if changed.loaded is facts.loaded:
            return False
        self._forget_prefixes(name, facts.loaded, changed.loaded)
        return True

    def _forget_prefixes(
        self, name: str, before: Mapping[CanonicalName, LoadedModel], after: Mapping[CanonicalName, LoadedModel]
    ) -> None:
        """What left a server's memory, or was loaded anew with another context, holds no conversation any more."""
        for model, old in before.items():
            new = after.get(model)
            if new is None or len({old.context_length, new.context_length} - {None}) > 1:
                self.prefixes.forget_model(name, model)

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
        if self._stubs is None:
            self._stubs = stubs(self._servers)
        return model in self._stubs

    def measure_soon(self, name: str) -> None:
        """Ask a server what it holds in memory, now, in the background."""
        self._polls.soon(name)

    def refresh_soon(self, name: str | None = None) -> None:
        """Have the models of one server, or of all, asked for again at once, in the background."""
        for server in self._servers if name is None else (name,):
            self.update(server, lambda facts: replace(facts, installed_at=None, loaded_at=None))
            self._polls.soon(server)

    def refresh_unknown(self, model: CanonicalName | None) -> None:
        """A request could not be placed: ask for the lists again, at most once in five seconds."""
        now = self.now()
        if model is not None and now - self._refreshed_at >= _REFRESH_SECONDS:
            self._refreshed_at = now
            self.refresh_soon()

    def now(self) -> float:
        """Seconds of the clock that the snapshot's times come from."""
        return self._clock.monotonic()

    # --- what `polls` tells -----------------------------------------------------------------------------------------

    @property
    def servers(self) -> Mapping[str, ServerFacts]:
        """What is believed about each server."""
        return self._servers

    def polled(self, name: str, *, came_up: bool) -> None:
        """A server was asked."""
        self._tell()
        if came_up:
            for listener in self._up_listeners:
                listener(name)


def _timeouts(config: Config) -> Timeouts:
    patience = config.model_info_timeout
    return Timeouts(connect=config.connect_timeout, first_byte=patience, idle=patience)
