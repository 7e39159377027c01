"""Asks each server in the background, never on a request's path, and only what is due."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import structlog

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConnectFailed, RouterError, UpstreamProtocolError, UpstreamTimeout
from ollama_router_core.fleet.inventory import Book as FactBook
from ollama_router_core.fleet.inventory import Question, Told, take_stock
from ollama_router_core.fleet.observations import observe_down, observe_version
from ollama_router_server.fleet.probe_state import ProbeState
from ollama_router_server.system import Clock
from ollama_router_server.upstream.fetching import fetch
from ollama_router_server.upstream.interface import Timeouts, Upstream
from ollama_router_server.upstream.targets import Target

__all__ = ["Book", "HealthChecker"]

_log = structlog.get_logger("fleet")

_START_SECONDS = 3.0


class Book(FactBook, Protocol):
    """Where facts are kept, and what servers said."""

    def remember(self, name: str, path: str, body: bytes | None) -> None:
        """Keep what a server answered on a path."""

    def polled(self, name: str, *, came_up: bool) -> None:
        """A server was asked; `came_up` when it was not up before."""


class HealthChecker:
    """The tasks. `jitter` is the share of the interval by which servers are asked apart."""

    def __init__(
        self,
        *,
        config: Config,
        targets: Mapping[str, Target],
        upstream: Upstream,
        clock: Clock,
        book: Book,
        jitter: float = 0.1,
    ) -> None:
        self._models = config.models
        self._targets = targets
        self._upstream = upstream
        self._clock = clock
        self._book = book
        self._pulses = {
            name: ProbeState(config.health_check_interval * (1 + jitter * _phase(name)), up=facts.up)
            for name, facts in book.servers.items()
        }
        self._wake: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._timeouts = _timeouts(config, config.model_info_timeout)
        self._probe_seconds = max(config.probe_timeout, config.server_busy_threshold_ms / 1000)
        self._probe_timeouts = _timeouts(config, self._probe_seconds)

    async def start(self) -> None:
        """Begin to ask. Returns when every server has answered or failed once, at the latest after 3 seconds."""
        asked = {name: asyncio.Event() for name in self._pulses}
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

    def soon(self, name: str) -> None:
        """Ask a server now, in the background."""
        if name in self._wake:
            self._wake[name].set()

    async def _watch(self, name: str, first: asyncio.Event) -> None:
        while True:
            was_up = self._book.servers[name].up
            await self._round(name)
            first.set()
            self._book.polled(name, came_up=bool(self._book.servers[name].up and not was_up))
            wake = self._wake[name]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pulses[name].pause):
                    await wake.wait()
                    wake.clear()

    async def _round(self, name: str) -> None:
        """Probe a server and, when it is up, ask for what is due."""
        try:
            await self._probe(name)
        except RouterError as error:
            self._failed(name, error)
            return
        if not self._pulses[name].up:
            return
        try:
            await self._take_stock(name)
        except UpstreamTimeout as error:
            self._failed(name, error)  # it may have begun to hang right after its probe

    async def _take_stock(self, name: str) -> None:
        def unusable(error: RouterError) -> None:
            _log.warning("server_facts_unavailable", server=name, error=error.message)

        steps = take_stock(name, self._book, self._models, now=self._clock.monotonic(), unusable=unusable)
        try:
            question = next(steps)
            while True:
                question = steps.send(await self._ask(name, question))
        except StopIteration:
            return
        finally:
            steps.close()

    async def _ask(self, name: str, question: Question) -> Told | None:
        target, path = self._targets[name], question.path
        try:
            status, body = await fetch(
                self._upstream, target, question.method, path, timeouts=self._timeouts, body=question.body
            )
        except UpstreamTimeout:
            raise
        except RouterError as error:
            _log.warning("server_facts_unavailable", server=name, path=path, error=error.message)
            return None
        if question.method == "GET" and status == 200:
            self._book.remember(name, path, body)
        elif question.method == "GET":
            _log.warning("server_facts_unavailable", server=name, path=path, error=f"answered {path} with {status}")
        return Told(status, body, self._clock.monotonic(), self._clock.wall())

    async def _probe(self, name: str) -> None:
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._probe_seconds):
                status, body = await fetch(
                    self._upstream, self._targets[name], "GET", "/api/version", timeouts=self._probe_timeouts
                )
        except TimeoutError:
            text = f"did not answer its probe within {self._probe_seconds:g} s"
            raise UpstreamTimeout(text, phase="first_byte") from None
        now = self._clock.monotonic()
        if status >= 500:
            raise UpstreamProtocolError(f"answered its probe with {status}")
        self._pulses[name].passed()
        if not self._pulses[name].up:
            return
        was_up = self._book.servers[name].up
        self._book.update(name, lambda facts: observe_version(facts, body, probe_ms=(now - started) * 1000, now=now))
        if not was_up:
            self._book.update(name, lambda facts: replace(facts, installed_at=None))
            _log.info("server_up", server=name, version=self._book.servers[name].version)

    def _failed(self, name: str, error: RouterError) -> None:
        pulse = self._pulses[name]
        pulse.failed(refused=isinstance(error, ConnectFailed))
        if pulse.up or self._book.servers[name].up is False:
            return
        _log.warning("server_down", server=name, error=error.message)
        self._book.update(name, lambda known: observe_down(known, error.message, now=self._clock.monotonic()))


def _timeouts(config: Config, seconds: float) -> Timeouts:
    return Timeouts(connect=min(config.connect_timeout, seconds), first_byte=seconds, idle=seconds)


def _phase(name: str) -> float:
    """A fixed number in [-1, 1) for a name, so that servers are not all asked at the same moment."""
    return zlib.crc32(name.encode()) / 2**31 - 1
