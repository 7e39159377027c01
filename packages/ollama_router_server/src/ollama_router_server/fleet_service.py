"""Keeps the fleet snapshot fresh in the background, never on a request's path.

Belongs here: when to ask a server for what, swapping snapshots, counting our own requests in flight, learned speeds.
Does not belong here: what replies mean (`ollama_router_core.observations`), choosing servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import structlog

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConnectFailed, RouterError, UpstreamProtocolError
from ollama_router_core.fleet import EMPTY, FleetSnapshot, ModelFacts, ServerFacts
from ollama_router_core.names import CanonicalName
from ollama_router_core.observations import (
    observe_down,
    observe_loads_ended,
    observe_ps,
    observe_show,
    observe_tags,
    observe_unloaded,
    observe_version,
    with_facts,
)
from ollama_router_core.speeds import Sample, SpeedBook, model_weight
from ollama_router_server.board import Rows
from ollama_router_server.health import Health
from ollama_router_server.system import Clock
from ollama_router_server.targets import Target
from ollama_router_server.upstream.interface import Timeouts, Upstream, UpstreamRequest

__all__ = ["FleetService", "fetch"]

_log = structlog.get_logger("fleet")

_FAILURES_UNTIL_DOWN = 3
_RECHECK_SECONDS = 1.0
_RECHECK_DOWN_SECONDS = 5.0
_START_SECONDS = 3.0
_REFRESH_SECONDS = 5.0
_MAX_REPLY = 64 * 1024 * 1024


async def fetch(
    upstream: Upstream, target: Target, method: str, path: str, *, timeouts: Timeouts, body: bytes = b""
) -> tuple[int, bytes]:
    """One small exchange with a server: status and whole body.

    Raises:
        UpstreamError: as `Upstream.send` and `UpstreamResponse.read`, or the body is larger than 64 MiB.
    """
    headers = (*target.credential, (b"content-type", b"application/json")) if body else target.credential
    request = UpstreamRequest(
        origin=target.origin, method=method, target=path, headers=headers, body=body, timeouts=timeouts
    )
    response = await upstream.send(request)
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := await response.read():
            pieces.append(piece)
            size += len(piece)
            if size > _MAX_REPLY:
                raise UpstreamProtocolError(f"{target.name} answered {path} with more than {_MAX_REPLY} bytes")
    finally:
        response.close()
    return response.status, b"".join(pieces)


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
        self._jitter = jitter
        self._shared = shared
        self._servers: Mapping[str, ServerFacts] = MappingProxyType(
            {name: ServerFacts(name=name) for name, server in config.servers.items() if server.enabled}
        )
        self._in_flight: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._refreshed_at = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._replies: dict[tuple[str, str], bytes] = {}
        self._speeds = SpeedBook()
        self._listeners: list[Callable[[], None]] = []
        self._up_listeners: list[Callable[[str], None]] = []
        self.health = Health(config, clock.monotonic)
        timeout = config.model_info_timeout
        self._timeouts = Timeouts(connect=min(config.connect_timeout, timeout), first_byte=timeout, idle=timeout)

    @property
    def snapshot(self) -> FleetSnapshot:
        """The fleet as believed now, our own requests in flight included."""
        health, shared, in_flight = self.health, self._shared, dict(self._in_flight)
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

    def is_idle_without(self, name: str, model: CanonicalName) -> bool | None:
        """Whether a server that lacks a model in memory loads nothing else; None when it has the model."""
        facts = self._servers.get(name)
        if facts is None or model in facts.loaded:
            return None
        return not facts.loading

    async def unload(self, name: str, models: tuple[CanonicalName, ...]) -> None:
        """Free memory on a server before something else is loaded there; what fails is left to the server itself."""
        for model in models:
            installed = (self._servers[name].installed or {}).get(model)
            body = json.dumps({"model": installed.spelling if installed else model, "keep_alive": 0}).encode()
            try:
                await fetch(
                    self._upstream, self._targets[name], "POST", "/api/generate", timeouts=self._timeouts, body=body
                )
            except RouterError as error:
                _log.warning("unload_failed", server=name, model=model, error=error.message)
                return
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
        asked = {name: asyncio.Event() for name in self._servers}
        for name, first in asked.items():
            self._wake[name] = asyncio.Event()
            self._tasks.append(asyncio.create_task(self._watch(name, first), name=f"fleet-{name}"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                for first in asked.values():
                    await first.wait()

    async def aclose(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
            self._servers = MappingProxyType({**self._servers, name: changed})
        return changed.loaded is not facts.loaded

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
        installed = (facts.installed.get(model) for facts in self._servers.values() if facts.installed)
        return any(row is not None and row.remote_host is not None for row in installed)

    def measure_soon(self, name: str) -> None:
        """Ask a server what it holds in memory, now, in the background."""
        if name in self._wake:
            self._wake[name].set()

    def refresh_soon(self, name: str | None = None) -> None:
        """Have the models of one server, or of all, asked for again at once, in the background."""
        for server in self._servers if name is None else (name,):
            self.update(server, lambda facts: replace(facts, installed_at=None, loaded_at=None))
            if server in self._wake:
                self._wake[server].set()

    def refresh_unknown(self, model: CanonicalName | None) -> None:
        """A request could not be placed: ask for the lists again, at most once in five seconds."""
        now = self.now()
        if model is not None and now - self._refreshed_at >= _REFRESH_SECONDS:
            self._refreshed_at = now
            self.refresh_soon()

    def now(self) -> float:
        """Seconds of the clock that the snapshot's times come from."""
        return self._clock.monotonic()

    async def _watch(self, name: str, first: asyncio.Event) -> None:
        while True:
            was_up = self._servers[name].up
            await self._round(name)
            first.set()
            self._tell()
            if self._servers[name].up and not was_up:
                for listener in self._up_listeners:
                    listener(name)
            await self._pause(name)

    async def _pause(self, name: str) -> None:
        interval = self._config.health_check_interval
        failing = 0 < self._failures.get(name, 0) < _FAILURES_UNTIL_DOWN
        wait = interval * (1 + self._jitter * _phase(name))
        if failing:
            wait = min(wait, _RECHECK_SECONDS)
        elif not self._servers[name].up:
            wait = min(wait, _RECHECK_DOWN_SECONDS)
        wake = self._wake[name]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await wake.wait()
                wake.clear()

    async def _round(self, name: str) -> None:
        """Probe a server and, when it answers, ask for what is due."""
        try:
            await self._probe(name)
        except RouterError as error:
            self._failed(name, error)
            return
        self._failures[name] = 0
        for step in (self._ask_tags, self._ask_ps, self._ask_show):
            try:
                await step(name)
            except RouterError as error:
                _log.warning("server_facts_unavailable", server=name, step=step.__name__, error=error.message)

    async def _probe(self, name: str) -> None:
        started = self._clock.monotonic()
        status, body = await fetch(self._upstream, self._targets[name], "GET", "/api/version", timeouts=self._timeouts)
        now = self._clock.monotonic()
        if status >= 500:
            raise UpstreamProtocolError(f"answered its probe with {status}")
        was_up = self._servers[name].up
        self.update(name, lambda facts: observe_version(facts, body, probe_ms=(now - started) * 1000, now=now))
        if not was_up:
            self.update(name, lambda facts: replace(facts, installed_at=None))
            _log.info("server_up", server=name, version=self._servers[name].version)

    def _failed(self, name: str, error: RouterError) -> None:
        count = self._failures[name] = self._failures.get(name, 0) + 1
        facts = self._servers[name]
        if facts.up is False or (facts.up and count < _FAILURES_UNTIL_DOWN and not isinstance(error, ConnectFailed)):
            return
        _log.warning("server_down", server=name, error=error.message)
        self.update(name, lambda known: observe_down(known, error.message, now=self._clock.monotonic()))

    async def _ask_tags(self, name: str) -> None:
        facts = self._servers[name]
        models = self._config.models
        age = None if facts.installed_at is None else self._clock.monotonic() - facts.installed_at
        if age is not None and models.cache_model_info and age < models.cache_ttl_seconds:
            return
        body = await self._get(name, "/api/tags")
        self.update(name, lambda known: observe_tags(known, body, now=self._clock.monotonic()))

    async def _ask_ps(self, name: str) -> None:
        body = await self._get(name, "/api/ps")
        now, wall = self._clock.monotonic(), self._clock.wall()
        self.update(name, lambda known: observe_ps(known, body, now=now, wall=wall))

    async def _ask_show(self, name: str) -> None:
        """Learn the architecture of models not yet known, once for each digest in the whole fleet."""
        for model in tuple((self._servers[name].installed or {}).values()):
            if model.facts is not None or model.remote_host is not None:
                continue
            known = self._facts_of_digest(model.digest)
            if known is not None:
                self.update(name, partial(with_facts, name=model.name, model_facts=known))
                continue
            body = json.dumps({"model": model.spelling}).encode()
            status, reply = await fetch(
                self._upstream, self._targets[name], "POST", "/api/show", timeouts=self._timeouts, body=body
            )
            if status == 200:
                self.update(name, partial(observe_show, name=model.name, body=reply))

    def _facts_of_digest(self, digest: str) -> ModelFacts | None:
        models = (model for facts in self._servers.values() for model in (facts.installed or {}).values())
        return next((model.facts for model in models if model.digest == digest and model.facts is not None), None)

    async def _get(self, name: str, path: str) -> bytes:
        status, body = await fetch(self._upstream, self._targets[name], "GET", path, timeouts=self._timeouts)
        if status != 200:
            raise UpstreamProtocolError(f"answered {path} with {status}")
        self.remember(name, path, body)
        return body


def _phase(name: str) -> float:
    """A fixed number in [-1, 1) for a name, so that servers are not all asked at the same moment."""
    return zlib.crc32(name.encode()) / 2**31 - 1
