"""Watchers of live pages, and their events: names of changed pages, never content.

One task checks for all watchers, twice a second, while there are any. A notified watcher fetches the page; further
changes until then coalesce. Backlog is thus bounded: a watcher costs a set of names and its connection's buffer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from typing import Final, Protocol

import structlog
from msgspec import Struct, field

from ollama_router_core.errors import LimitExceeded, RouterError
from ollama_router_server.storage.identities import User
from ollama_router_server.system import Clock

__all__ = ["START", "Event", "Watcher", "Watchers"]

START: Final = "start"
"""The page whose address has no name; every user sees only their own data there."""
MOST_OF_SESSION: Final = 4
MOST: Final = 64
_BEAT = 2.0
_CHECK = 1.0
_PATIENCE = 10.0
"""Seconds after which a watcher that does not read is cut."""

_log = structlog.get_logger(__name__)

Event = tuple[str, ...] | None
"""Changed pages, empty as a heartbeat, None for the end."""


class Versions(Protocol):
    """The current state of pages."""

    async def version(self, topic: str, user: User) -> Hashable:
        """Return the version of a page as this user sees it."""


class Watcher(Struct, kw_only=True, eq=False):
    """A tab that watches pages. `still` checks its session; `writing_since` is None while it waits for a change."""

    session: str
    user: User
    still: Callable[[], Awaitable[bool]]
    seen: dict[str, Hashable]
    task: asyncio.Task[object] | None
    writing_since: float | None
    changed: set[str] = field(default_factory=set)
    over: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def key(self, topic: str) -> tuple[str, str | None]:
        """Return the key of the content that the tab sees: per user for plain users and Start, else shared."""
        return topic, self.user.name if self.user.role == "user" or topic == START else None

    def tell(self, names: set[str]) -> None:
        """Notify the tab of changed pages."""
        if names:
            self.changed |= names
            self.wake.set()

    def end(self) -> None:
        """End its stream."""
        self.over = True
        self.wake.set()


class Watchers:
    """All watchers of this process, at most 64, at most 4 per session.

    Args:
        versions: the versions of pages.
        clock: for heartbeats and timeouts.
        over: returns whether the router stops, which ends all streams.
        tick: seconds between looks.
    """

    def __init__(
        self,
        versions: Versions,
        clock: Clock,
        *,
        over: Callable[[], bool] = lambda: False,
        tick: float = 0.5,
    ) -> None:
        self._versions = versions
        self._clock = clock
        self._over = over
        self._tick = tick
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._checked = 0.0
        self._looks = 0
        self.cut = 0
        """Watchers cut since the start because they did not read."""

    @property
    def now(self) -> int:
        """The number of watchers."""
        return len(self._watchers)

    @property
    def moment(self) -> int | None:
        """The number of the last look; None without watchers."""
        return self._looks if self._watchers else None

    async def join(
        self, session: str, user: User, topics: tuple[str, ...], still: Callable[[], Awaitable[bool]]
    ) -> Watcher:
        """Start to watch pages, until the calling task ends.

        Raises:
            LimitExceeded: the session's, or the process's, limit of watchers is reached.
        """
        seen = {topic: await self._versions.version(topic, user) for topic in topics}
        of_session = Counter(one.session for one in self._watchers)[session]
        if of_session >= MOST_OF_SESSION or len(self._watchers) >= MOST:
            raise LimitExceeded("too many pages watch the router; this one asks every two seconds", retry_after=5)
        task, now = asyncio.current_task(), self._clock.monotonic()
        watcher = Watcher(session=session, user=user, still=still, seen=seen, task=task, writing_since=now)
        self._watchers.add(watcher)
        if task is not None:
            task.add_done_callback(lambda _: self._watchers.discard(watcher))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="console-watchers")
        return watcher

    async def follow(self, watcher: Watcher) -> AsyncIterator[Event]:
        """Yield a watcher's events: first an empty one, so that it fetches what it missed; then each change."""
        event: Event = ()
        while True:
            watcher.writing_since = self._clock.monotonic()
            yield event
            watcher.writing_since = None
            if event is None:
                self._watchers.discard(watcher)
                return
            event = await _next(watcher)

    async def _run(self) -> None:
        while self._watchers:
            await asyncio.sleep(self._tick)
            try:
                await self.look()
            except RouterError as error:  # the database is unavailable: pages report it themselves
                _log.warning("console_watchers_cannot_look", error=error.message)

    async def look(self) -> None:
        """Notify changes, end streams of closed sessions, and cut watchers that do not read."""
        now = self._clock.monotonic()
        self._cut_slow(now)
        if self._over():
            self._end_all()
        elif now - self._checked >= _CHECK:
            self._checked = now
            await self._end_those_signed_out()
        await self._tell()

    def _cut_slow(self, now: float) -> None:
        for watcher in tuple(self._watchers):
            if watcher.writing_since is not None and now - watcher.writing_since > _PATIENCE:
                self._watchers.discard(watcher)
                self.cut += 1
                if watcher.task is not None:
                    watcher.task.cancel()

    def _end_all(self) -> None:
        for watcher in self._watchers:
            watcher.end()

    async def _end_those_signed_out(self) -> None:
        by_session = {watcher.session: watcher.still for watcher in self._watchers}
        over = {session for session, still in by_session.items() if not await still()}
        for watcher in self._watchers:
            if watcher.session in over:
                watcher.end()

    async def _tell(self) -> None:
        """Check each page once for all users who see the same content."""
        found: dict[tuple[str, str | None], Hashable] = {}
        watchers = tuple(self._watchers)
        for watcher in watchers:
            for topic in watcher.seen:
                if watcher.key(topic) not in found:
                    found[watcher.key(topic)] = await self._versions.version(topic, watcher.user)
        self._looks += 1  # parts rendered before may be older than this look
        for watcher in watchers:
            now = {topic: found[watcher.key(topic)] for topic in watcher.seen}
            watcher.tell({topic for topic in now if now[topic] != watcher.seen[topic]})
            watcher.seen = now


async def _next(watcher: Watcher) -> Event:
    """Wait for the next event; return a heartbeat after two seconds without one."""
    try:
        async with asyncio.timeout(_BEAT):
            await watcher.wake.wait()
    except TimeoutError:
        return ()
    watcher.wake.clear()
    if watcher.over:
        return None
    event, watcher.changed = tuple(sorted(watcher.changed)), set()
    return event
