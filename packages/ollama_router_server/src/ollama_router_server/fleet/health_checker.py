"""Poll each server in the background, never on a request's path, for the facts that are due.

One process of a group polls a server when it is due, and the others use its answers if they can reach the server
themselves: a process polls itself at first, when it has received no answers for too long, and after each failure of its
own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final, Protocol

import structlog

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConnectFailed, RouterError, UpstreamTimeout
from ollama_router_core.fleet.inventory import FactStore, PollReply, PollRequest, poll_models
from ollama_router_core.fleet.rounds import Reply, Round, learned_since, take_over
from ollama_router_core.fleet.server_replies import read_version
from ollama_router_core.fleet.state import WHILE_LOADING, FleetState
from ollama_router_server.system import Clock
from ollama_router_server.upstream.fetching import fetch
from ollama_router_server.upstream.interface import Timeouts, Upstream
from ollama_router_server.upstream.targets import Target

__all__ = ["START_SECONDS", "Book", "HealthChecker"]

START_SECONDS: Final = 3.0
"""Default seconds that the router's start waits for its servers."""

_log = structlog.get_logger("fleet")

_OK = 200
_MOST_WARNINGS = 1000
_LEAST_PATIENCE = 0.5
"""Minimum seconds that a process waits for each process whose turn is before its own."""
_CHANGED = "the config has changed meanwhile"


class Book(FactStore, Protocol):
    """The store of facts and of servers' answers."""

    def remember(self, name: str, path: str, body: bytes | None) -> None:
        """Keep a server's answer on a path."""

    def polled(self, name: str, *, came_up: bool) -> None:
        """Note that a server was polled; `came_up` if it was not up before."""

    def turn(self, name: str) -> int:
        """Return how many other processes poll a server before this one."""

    def share(self, name: str, found: Round) -> None:
        """Share the answers of a server that is up with the other processes."""


class HealthChecker:
    """One task per server; `state` decides when to poll next and what the answers mean."""

    def __init__(
        self,
        *,
        config: Config,
        targets: Mapping[str, Target],
        upstream: Upstream,
        clock: Clock,
        state: FleetState,
        book: Book,
    ) -> None:
        self._models = config.models
        self._targets = targets
        self._upstream = upstream
        self._clock = clock
        self._state = state
        self._book = book
        self._names = tuple(state.servers)
        self._wake: dict[str, asyncio.Event] = {}
        self._awaited: dict[str, list[asyncio.Future[str | None]]] = {name: [] for name in self._names}
        self._due_now: set[str] = set()
        self._loading: dict[str, float] = {}
        self._polled_at: dict[str, float] = {}
        """When each server was last polled, by any process."""
        self._polled_here_at: dict[str, float] = {}
        self._unexplained: dict[str, frozenset[CanonicalName]] = {}
        self._warned: set[tuple[str, str]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._timeouts = _timeouts(config, config.model_info_timeout)
        self._probe_seconds = max(config.probe_timeout, config.server_busy_threshold_ms / 1000)
        self._probe_timeouts = _timeouts(config, self._probe_seconds)

    async def start(self, patience: float = START_SECONDS) -> None:
        """Start polling. Returns once every server has answered or failed, after at most `patience` seconds."""
        asked = {name: asyncio.Event() for name in self._names}
        for name, first in asked.items():
            self._wake[name] = asyncio.Event()
            self._tasks.append(asyncio.create_task(self._watch(name, first), name=f"fleet-{name}"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for first in asked.values():
                    await first.wait()

    async def aclose(self) -> None:
        """Stop polling."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for name in self._names:
            _resolve(self._awaited.pop(name), _CHANGED)

    def soon(self, name: str) -> None:
        """Poll a server now, in the background."""
        if name in self._wake:
            self._due_now.add(name)
            self._wake[name].set()

    async def ask_now(self, name: str) -> str | None:
        """Poll a server in a round that starts after this call; return the error, None if it answered."""
        if name not in self._awaited:
            return "it is not asked: the config disables it"
        result: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._awaited[name].append(result)
        self.soon(name)
        return await result

    def load_begun(self, name: str) -> None:
        """Poll a server within a second, since it loads a model."""
        if name in self._wake:
            self._loading.setdefault(name, self._clock.monotonic())
            self._wake[name].set()

    def heard(self, name: str, found: Round) -> bool:
        """Apply another process's answers; return whether they are of use here."""
        now = self._clock.monotonic()
        if name not in self._wake or not self._state.polled_elsewhere(name, found, now=now):
            return False
        for reply in found.replies:
            self._book.remember(name, reply.path, reply.body)
        wall = self._clock.wall() - now
        left = take_over(name, self._book, found, wall=lambda at: wall + at)
        self._loading.pop(name, None)
        self._polled_at[name] = now
        unexplained = self._unexplained.get(name, frozenset())
        if left != unexplained or self._list_is_overdue(name, now):
            # An answer about these models, or the list, did not arrive: this process polls for it. Models that stay
            # unexplained afterwards are ones that the server says nothing about: it is not polled for them again.
            self._unexplained[name] = left
            self.soon(name)
        return True

    def _list_is_overdue(self, name: str, now: float) -> bool:
        """Return whether a server's list should have arrived by now, including by a round of this process."""
        installed_at, patience = self._book.servers[name].installed_at, self._state.probe_pause(name)
        if installed_at is not None and self._models.cache_model_info:
            patience += self._models.cache_ttl_seconds
        asked = self._polled_here_at.get(name, now)  # else the first round is in progress
        return now - max(installed_at or 0.0, asked) >= patience

    async def _watch(self, name: str, first: asyncio.Event) -> None:
        while True:
            was_up = self._book.servers[name].up
            await self._poll(name)
            self._polled_at[name] = self._polled_here_at[name] = self._clock.monotonic()
            first.set()
            self._book.polled(name, came_up=bool(self._book.servers[name].up and not was_up))
            await self._rest(name)

    async def _rest(self, name: str) -> None:
        """Wait until this process has to poll a server: its turn has come, or a caller waits for it."""
        wake = self._wake[name]
        while name not in self._due_now and (left := self._due_at(name) - self._clock.monotonic()) > 0:
            wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await wake.wait()
        self._due_now.discard(name)
        self._loading.pop(name, None)

    def _due_at(self, name: str) -> float:
        pause, since = self._state.probe_pause(name), self._polled_at[name]
        if name in self._loading:
            pause, since = min(WHILE_LOADING, pause), max(since, self._loading[name])
        turn = self._book.turn(name) if self._state.may_be_told(name) else 0
        return since + pause + turn * max(_LEAST_PATIENCE, pause / 2)

    async def _poll(self, name: str) -> None:
        """Poll a server, and pass the result to the callers that wait for it, however the round ends."""
        awaited, self._awaited[name] = self._awaited[name], []
        error: str | None = _CHANGED
        try:
            error = await self._round(name)
        finally:
            _resolve(awaited, error)

    async def _round(self, name: str) -> str | None:
        """Probe a server and, if it is up, poll what is due; return the error, None if it answered."""
        try:
            status, body, probe_ms = await self._probe(name)
            answered = self._clock.monotonic()
            if self._state.probe_answered(name, status, body, probe_ms=probe_ms, now=answered):
                before, replies = self._book.servers[name], await self._poll_models(name)  # it may hang after its probe
                learned = learned_since(before, self._book.servers[name])
                if self._state.may_be_told(name):
                    self._book.share(name, Round(answered, probe_ms, body, replies, learned))
            elif status != _OK or read_version(body) is None:
                return f"answered its probe with {status}, without a version of Ollama"
        except RouterError as error:
            refused = isinstance(error, ConnectFailed)
            self._state.probe_failed(name, error.message, now=self._clock.monotonic(), refused=refused)
            return error.message
        return None

    async def _poll_models(self, name: str) -> tuple[Reply, ...]:
        replies: list[Reply] = []

        def unusable(error: RouterError) -> None:
            self._warn(name, error.message)

        steps = poll_models(name, self._book, self._models, now=self._clock.monotonic(), unusable=unusable)
        try:
            question = next(steps)
            while True:
                answer = await self._fetch_facts(name, question)
                if answer is not None and answer.status == _OK and question.method == "GET":
                    replies.append(Reply(question.path, answer.body, answer.asked, answer.now))
                question = steps.send(answer)
        except StopIteration as stop:
            if stop.value is not None:
                self._state.is_no_ollama(name, stop.value, now=self._clock.monotonic())
        finally:
            steps.close()
        return tuple(replies)

    async def _fetch_facts(self, name: str, question: PollRequest) -> PollReply | None:
        target, path, asked = self._targets[name], question.path, self._clock.monotonic()
        try:
            status, body = await fetch(
                self._upstream, target, question.method, path, timeouts=self._timeouts, body=question.body
            )
        except UpstreamTimeout as error:
            if not question.may_stall:
                raise
            self._warn(name, error.message, path)
            return None
        except RouterError as error:
            self._warn(name, error.message, path)
            return None
        if question.method == "GET" and status == _OK:
            self._book.remember(name, path, body)
        elif question.method == "GET":
            self._warn(name, f"answered {path} with {status}", path)
        return PollReply(status, body, self._clock.monotonic(), self._clock.wall(), asked)

    async def _probe(self, name: str) -> tuple[int, bytes, float]:
        """Return a probe's status, body and duration in milliseconds."""
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._probe_seconds):
                status, body = await fetch(
                    self._upstream, self._targets[name], "GET", "/api/version", timeouts=self._probe_timeouts
                )
        except TimeoutError:
            text = f"did not answer its probe within {self._probe_seconds:g} s"
            raise UpstreamTimeout(text, phase="first_byte") from None
        return status, body, (self._clock.monotonic() - started) * 1000

    def _warn(self, name: str, error: str, path: str | None = None) -> None:
        """Log an unusable answer once, not on every poll."""
        if (name, error) in self._warned:
            return
        if len(self._warned) >= _MOST_WARNINGS:
            self._warned.clear()
        self._warned.add((name, error))
        _log.warning("server_facts_unavailable", server=name, path=path, error=error)


def _resolve(awaited: list[asyncio.Future[str | None]], error: str | None) -> None:
    for result in awaited:
        if not result.done():  # its caller has stopped waiting
            result.set_result(error)


def _timeouts(config: Config, seconds: float) -> Timeouts:
    return Timeouts(connect=min(config.connect_timeout, seconds), first_byte=seconds, idle=seconds)
