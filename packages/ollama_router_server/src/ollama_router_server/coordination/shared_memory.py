"""Coordination between the workers of one router: inherited memory in which each number has one writer.

The supervisor creates it before it forks, so that every worker maps the same memory. A worker writes its own rows and
reads all of them. Pages (metrics, requests in flight) are too long for it: they are files in a private folder.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from ollama_router_core.access.limits import room_for
from ollama_router_core.coordination.days import DayBudget, DayUse
from ollama_router_core.coordination.interface import (
    LEASE_SECONDS,
    NO_HEADS,
    Admissions,
    Charged,
    Coordination,
    Figure,
    Scope,
    Spent,
)
from ollama_router_core.coordination.news import News, read_news, write_news
from ollama_router_core.coordination.one_machine import OneMachineMember
from ollama_router_core.coordination.shared_limits import count_here
from ollama_router_core.fleet.summary import Summary, read_summary, write_summary
from ollama_router_server.coordination.page_files import PageFiles
from ollama_router_server.coordination.ring import Ring
from ollama_router_server.coordination.rows import Days, RowIndex, Rows
from ollama_router_server.coordination.worker_cells import WorkerCells
from ollama_router_server.system import random_bytes

__all__ = ["SharedMemory", "WorkerMember"]

_WORD = 8
_SERVERS: Final = 1024
_USERS: Final = 16_384
_DRAINED, _UNDRAINED = 1, 2
_FLEET: Final = "fleet"
"""The page with the last summary of the fleet; the others are named by worker."""


class SharedMemory:
    """The group of one router's workers.

    Attributes:
        name: the router's name, unique among those that share its database.
        secret: 32 bytes shared by the workers.
        size: the number of workers.
        drains: the last drain of each server, by its row.
        servers, users: the rows assigned to names.
        rows: the numbers held, by scope; for users also what was admitted.
        charged: tokens of users by second.
        days: tokens of users by day.
        cells: each worker's own state.
        rings: news, one ring per worker.
        pages: data too long for the memory.
    """

    def __init__(self, workers: int) -> None:
        self.name = random_bytes(12).hex()
        self.secret = random_bytes(32)
        self.size = workers
        self.pages = PageFiles()
        self._lock = (self.pages.folder / "lock").open("w")  # open for the life of the memory
        sizes = [
            RowIndex.words(_SERVERS),
            RowIndex.words(_USERS),
            _SERVERS,
            workers * _SERVERS * Rows.width(timed=False),
            workers * _SERVERS * Rows.width(timed=False),
            workers * _USERS * Rows.width(timed=True),
            workers * _USERS * Rows.width(timed=True),
            _USERS * Days.WIDTH,
            workers * WorkerCells.WIDTH,
            workers * Ring.WORDS,
        ]
        self._memory = mmap.mmap(-1, sum(sizes) * _WORD)
        servers, users, self.drains, flights, reserved, *minutes, days, cells, rings = _cut(self._memory, sizes)
        self.servers = RowIndex(servers, _SERVERS, self._lock.fileno())
        self.users = RowIndex(users, _USERS, self._lock.fileno())
        self.rows = {
            Scope.SERVER: Rows(flights, self.servers, _SERVERS),
            Scope.RESERVED: Rows(reserved, self.servers, _SERVERS),
            Scope.USER: Rows(minutes[0], self.users, _USERS, timed=True),
        }
        self.charged = Rows(minutes[1], self.users, _USERS, timed=True)
        self.days = Days(days, self.users)
        self.cells = WorkerCells(cells)
        self.rings = [Ring(rings[worker * Ring.WORDS : (worker + 1) * Ring.WORDS]) for worker in range(workers)]

    def __repr__(self) -> str:
        return f"SharedMemory({self.size} workers)"

    def member(self, index: int) -> Coordination:
        """Return one worker's member."""
        return WorkerMember(self, index)

    def forget(self, index: int) -> None:
        """End the leases of a worker that is gone; what it admitted in the last minute still counts."""
        for rows in self.rows.values():
            rows.clear(index)
        self.cells.clear(index)

    def last_beat(self, index: int) -> float | None:
        """Return a worker's last beat; None before its first."""
        return self.cells.last_beat(index)

    def close(self) -> None:
        """Close and remove the memory's files."""
        self._lock.close()
        self.pages.close()


def _cut(memory: mmap.mmap, sizes: Sequence[int]) -> Iterator[memoryview]:
    words, start = memoryview(memory).cast("q"), 0
    for size in sizes:
        yield words[start : start + size]
        start += size


class WorkerMember(OneMachineMember):
    """One worker's view: it writes its own rows and reads all of them."""

    def __init__(self, memory: SharedMemory, index: int) -> None:
        super().__init__(index, memory.size)
        self._memory = memory
        self._users, self._rows, self._charged = memory.rows[Scope.USER], memory.rows, memory.charged
        self._days = memory.days
        self._cells, self._pages = memory.cells, memory.pages
        self._others = [other for other in range(memory.size) if other != index]
        self._seen_alive = self._others
        self._heard = {other: memory.rings[other].tail for other in self._others}

    @property
    def group(self) -> str:
        """The router's name."""
        return self._memory.name

    @property
    def secret(self) -> bytes:
        """32 bytes shared by the workers."""
        return self._memory.secret

    # --- counts -----------------------------------------------------------------------------------------------------

    def take(self, scope: Scope, name: str) -> None:
        """Count a request, or a reserved slot."""
        self._rows[scope].add(self.index, name, 1)

    def give_back(self, scope: Scope, name: str, *, again: bool = True) -> None:
        """Release what was taken."""
        del again  # every claim reads the memory
        self._rows[scope].add(self.index, name, -1)

    def claim(
        self, scope: Scope, name: str, limit: int, done: Callable[[bool], None], *, arrived: float | None = None
    ) -> None:
        """Take a slot if all workers hold fewer than `limit`."""
        del arrived
        taken = self._rows[scope].count(self.index, name) + self.elsewhere(scope, name) < limit
        if taken:
            self.take(scope, name)
        done(taken)

    async def count(self, user: str, now: float, *, concurrent: int | None, per_minute: int | None) -> bool:
        """Take a slot and count a request of a user, if all workers together are below both limits."""
        return count_here(self, self._users.count(self.index, user), user, now, concurrent, per_minute)

    def elsewhere(self, scope: Scope, name: str) -> int:
        """Return the number held by the other live workers."""
        rows = self._rows[scope]
        return sum([rows.count(other, name) for other in self._living])

    def all_elsewhere(self, scope: Scope, names: Collection[str]) -> Mapping[str, int]:
        """Return `elsewhere` for many names, without zeros."""
        return self._rows[scope].sums(self._living, names)

    def admit(self, user: str, now: float) -> None:
        """Count a request of a user in this second."""
        self._users.tick(self.index, user, now)

    def admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return what the other workers admitted in the last minute."""
        return [row for other in self._others for row in self._admitted(other, user, now)]

    def own_admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return what this worker's index admitted in the last minute, oldest first."""
        return sorted(self._admitted(self.index, user, now))

    def _admitted(self, worker: int, user: str, now: float) -> Iterator[Admissions]:
        return (Admissions(min(now, second + 1.0), count) for second, count in self._users.ticks(worker, user, now))

    def charge(
        self, user: str, now: float, tokens: int, *, per_minute: int | None, days: DayBudget | None, done: Charged
    ) -> None:
        """Count tokens in this second and day, if all workers' usage leaves room."""
        self._memory.users.of(user)  # assigning a row takes the same lock
        with self._memory.users.locked():  # no other worker counts between the check and the count
            free = per_minute is None or self._fits(user, now, tokens, per_minute)
            free = free and (days is None or days.has_room(self._days.of(user, now, days.known)))
            if free and per_minute is not None:
                self.spend(user, now, tokens)
            if free and days is not None:
                self._days.use(user, now, days.known.day, tokens, days.known)
        done(now if free else None)

    def _fits(self, user: str, now: float, tokens: int, per_minute: int) -> bool:
        return room_for(tokens, used=sum(row.tokens for row in self.spent(user, now)), limit=per_minute)

    def spend(self, user: str, now: float, tokens: int) -> None:
        """Count tokens in the second of `now`; negative ones are reverted."""
        self._charged.tick(self.index, user, now, tokens)

    def spent(self, user: str, now: float) -> Sequence[Spent]:
        """Return what all workers counted in the last minute, oldest first."""
        rows = [row for worker in range(self.size) for row in self._charged.ticks(worker, user, now)]
        return [Spent(min(now, second + 1.0), tokens) for second, tokens in sorted(rows) if tokens]

    def use(self, user: str, now: float, day: int, tokens: int, known: DayUse) -> None:
        """Count tokens of a day."""
        self._memory.users.of(user)
        with self._memory.users.locked():
            self._days.use(user, now, day, tokens, known)

    def used(self, user: str, now: float, known: DayUse) -> DayUse:
        """Return the day's usage by all workers."""
        self._memory.users.of(user)
        with self._memory.users.locked():
            return self._days.of(user, now, known)

    # --- order ------------------------------------------------------------------------------------------------------

    def waits(self, since: float | None, heads: Mapping[str, float] = NO_HEADS) -> None:
        """Report when the longest waiting request arrived."""
        del heads  # the others see free slots at once, so none has to be reserved
        self._cells.wait(self.index, since)

    def waits_longest(self) -> bool:
        """Return whether that request has waited longest in all workers."""
        own = self._cells.waits_since(self.index)
        others = ((self._cells.waits_since(other), other) for other in self._living)
        return bool(own) and all((own, self.index) < (since, other) for since, other in others if since)

    # --- facts ------------------------------------------------------------------------------------------------------

    def drain(self, server: str, *, on: bool) -> None:
        """Start or end a drain for all workers."""
        row = self._memory.servers.of(server)
        if row is not None:
            self._memory.drains[row] = _DRAINED if on else _UNDRAINED

    def drained(self, server: str) -> bool | None:
        """Return the last drain of a server; None if there was none."""
        row = self._memory.servers.of(server)
        said = 0 if row is None else self._memory.drains[row]
        return {_DRAINED: True, _UNDRAINED: False}.get(said)

    def tell(self, news: News) -> None:
        """Send news to the other workers."""
        self._memory.rings[self.index].write(write_news(news))

    def news(self) -> list[News]:
        """Return what the others sent since the last call."""
        found: list[News] = []
        for other, position in self._heard.items():
            messages, self._heard[other] = self._memory.rings[other].read(position)
            found += [news for message in messages if (news := read_news(message)) is not None]
        return found

    def remember(self, summary: Summary) -> None:
        """Keep this worker's fleet summary for workers that restart."""
        self._pages.write(_FLEET, write_summary(summary))

    def remembered(self) -> Summary | None:
        """Return the last fleet summary."""
        return read_summary(self._pages.read(_FLEET))

    # --- figures ----------------------------------------------------------------------------------------------------

    def show(self, figure: Figure, value: int) -> None:
        """Set this worker's figure."""
        self._cells.show(self.index, figure, value)

    def total(self, figure: Figure) -> int:
        """Return the sum over all workers."""
        return self._cells.total(figure)

    def publish(self, page: bytes) -> None:
        """Replace this worker's page."""
        self._pages.write(str(self.index), page)

    def pages(self) -> list[bytes]:
        """Return the other workers' pages."""
        return [page for other in self._others if (page := self._pages.read(str(other)))]

    def own_page(self) -> bytes:
        """Return this worker's page."""
        return self._pages.read(str(self.index))

    async def beat(self, now: float) -> None:
        """Renew this worker's leases, and check which of the others are alive."""
        self._cells.beat(self.index, now)
        self._seen_alive = self._look()

    @property
    def _living(self) -> list[int]:
        """The workers alive at this worker's last beat; if one was missing, check again."""
        if len(self._seen_alive) < len(self._others):
            self._seen_alive = self._look()
        return self._seen_alive

    def _look(self) -> list[int]:
        own = self._cells.last_beat(self.index)
        beats = ((other, self._cells.last_beat(other)) for other in self._others)
        return [other for other, beat in beats if own is None or beat is None or own - beat < LEASE_SECONDS]

    def on_change(self, stirred: Callable[[], None]) -> None:
        """Do nothing: there is nothing to fetch."""

    async def leave(self) -> None:
        """Do nothing: the supervisor ends the leases of a worker that has stopped."""
