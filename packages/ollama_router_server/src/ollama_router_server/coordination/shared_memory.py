"""Numbers that the workers of one router share: memory in which each number has one writer.

The supervisor makes the board before it forks, so every worker sees the same memory. A worker writes its own rows and
reads all of them: no lock is taken where requests pass. Only giving a name its place takes one (a POSIX lock, which
the system takes back from a process that dies); places are never given back.
"""

from __future__ import annotations

import fcntl
import mmap
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final

from ollama_router_server.system import random_bytes

__all__ = ["BEAT", "Rows", "SharedMemory"]

BEAT: Final = "beat"
"""The figure in which a worker says that it lives: whole seconds of the monotonic clock."""

_WORD = 8
_SERVERS: Final = 1024
_USERS: Final = 16_384
SECONDS: Final = 61
"""Cells for requests of the last minute, one a second."""
_COUNT_BITS: Final = 24
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1


class _Places:
    """Which place a name has; the same for every worker. Names are kept as 63 bits of a digest."""

    __slots__ = ("_capacity", "_known", "_lock", "_start", "_words")

    def __init__(self, words: memoryview, start: int, capacity: int, lock: int) -> None:
        self._words = words
        self._start = start
        self._capacity = capacity
        self._lock = lock
        self._known: dict[str, int | None] = {}

    @staticmethod
    def words(capacity: int) -> int:
        """Words it takes: how many are taken, and a digest for each."""
        return 1 + capacity

    def of(self, name: str) -> int | None:
        """A name's place; None when all are taken."""
        try:
            return self._known[name]
        except KeyError:
            place = self._known[name] = self._give(name)
            return place

    def _give(self, name: str) -> int | None:
        digest = int.from_bytes(blake2b(name.encode(), digest_size=_WORD).digest()) >> 1
        with self._locked():
            start, count = self._start + 1, self._words[self._start]
            taken = self._words[start : start + count].tolist()
            if digest in taken:
                return taken.index(digest)
            if count == self._capacity:
                return None
            self._words[start + count] = digest
            self._words[self._start] = count + 1
            return int(count)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


class Rows:
    """A row of numbers for each name and worker. A name without a place counts nothing and is nowhere."""

    __slots__ = ("_places", "_start", "_width", "_words", "_worker", "_workers", "_stride")  # noqa: RUF023 - by meaning

    def __init__(self, words: memoryview, start: int, places: _Places, shape: tuple[int, int, int]) -> None:
        capacity, self._width, self._workers = shape
        self._words = words
        self._start = start
        self._places = places
        self._stride = capacity * self._width
        self._worker = 0

    def enter(self, worker: int) -> None:
        """Whose rows are written from now on in this process."""
        self._worker = worker

    def add(self, name: str, change: int) -> None:
        """Add to the first number of this worker's row."""
        place = self._places.of(name)
        if place is not None:
            self._words[self._start + self._worker * self._stride + place * self._width] += change

    def set(self, name: str, value: int) -> None:
        """Write the first number of this worker's row."""
        self.add(name, value - self._own(name))

    def _own(self, name: str) -> int:
        place = self._places.of(name)
        return 0 if place is None else int(self._words[self._start + self._worker * self._stride + place * self._width])

    def total(self, name: str) -> int:
        """The first number of every worker's row, summed."""
        place = self._places.of(name)
        if place is None:
            return 0
        at = self._start + place * self._width
        words, stride = self._words, self._stride
        return sum(words[at + worker * stride] for worker in range(self._workers))

    def elsewhere(self, name: str) -> int:
        """The first number of every other worker's row, summed."""
        return self.total(name) - self._own(name)

    def of(self, worker: int, name: str) -> int:
        """The first number of one worker's row."""
        place = self._places.of(name)
        return 0 if place is None else int(self._words[self._start + worker * self._stride + place * self._width])

    def tick(self, name: str, now: float) -> None:
        """Count one request in this second of the monotonic clock, in this worker's row."""
        place = self._places.of(name)
        if place is not None:
            second = int(now)
            row = self._start + self._worker * self._stride + place * self._width
            cell = row + 1 + second % SECONDS
            known = self._words[cell]
            count = (known & _COUNT_MASK) + 1 if known >> _COUNT_BITS == second else 1
            self._words[cell] = (second << _COUNT_BITS) | count

    def ticks(self, name: str, now: float, *, own: bool = False) -> list[tuple[int, int]]:
        """Seconds of the last minute and the requests in them: of the other workers, or of this one."""
        place = self._places.of(name)
        if place is None:
            return []
        found: list[tuple[int, int]] = []
        oldest = int(now) - 60
        for worker in range(self._workers):
            if (worker == self._worker) is own:
                row = self._start + worker * self._stride + place * self._width
                cells = self._words[row + 1 : row + 1 + SECONDS].tolist()
                found += [(cell >> _COUNT_BITS, cell & _COUNT_MASK) for cell in cells if cell >> _COUNT_BITS >= oldest]
        return found

    def forget(self, worker: int) -> None:
        """A worker is gone: what it had under way is over. What it counted stays."""
        row = self._start + worker * self._stride
        for place in range(self._stride // self._width):
            at = row + place * self._width
            if self._words[at]:
                self._words[at] = 0


class SharedMemory:
    """The memory of one router with several workers.

    Attributes:
        servers: requests under way by server.
        users: requests under way and of the last minute, for users with limits.
        figures: other numbers by name, `waiting` for one.
        name: of the router, among all that share its database.
        folder: for files of the workers; it goes when the supervisor calls `close`.
        workers, worker: how many there are, and which this is.
    """

    def __init__(self, workers: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ollama-router-"))
        self._lock = (self.folder / "lock").open("w")  # open as long as the board lives
        shapes = {"servers": (_SERVERS, 1), "users": (_USERS, 1 + SECONDS), "figures": (64, 1)}
        sizes = [_Places.words(rows) + workers * rows * width for rows, width in shapes.values()]
        self._memory = mmap.mmap(-1, (sum(sizes) + _SERVERS) * _WORD)
        self._words = memoryview(self._memory).cast("q")
        self.name = random_bytes(12).hex()
        self.workers = workers
        self.worker = 0
        start, made = 0, []
        for (capacity, width), size in zip(shapes.values(), sizes, strict=True):
            places = _Places(self._words, start, capacity, self._lock.fileno())
            made.append(
                (places, Rows(self._words, start + _Places.words(capacity), places, (capacity, width, workers)))
            )
            start += size
        (self._server_places, self.servers), (_, self.users), (_, self.figures) = made
        self._drains = start

    def enter(self, worker: int) -> None:
        """This process is that worker from now on."""
        self.worker = worker
        for rows in (self.servers, self.users, self.figures):
            rows.enter(worker)

    def forget(self, worker: int) -> None:
        """A worker is gone."""
        for rows in (self.servers, self.users, self.figures):
            rows.forget(worker)

    def drain(self, server: str, *, on: bool) -> None:
        """Tell every worker that a server is drained, or is not any more."""
        place = self._server_places.of(server)
        if place is not None:
            self._words[self._drains + place] = 1 if on else 2

    def drained(self, server: str) -> bool | None:
        """What some worker was told about a server; None when nobody was told anything."""
        place = self._server_places.of(server)
        said = 0 if place is None else self._words[self._drains + place]
        return {1: True, 2: False}.get(said)

    def close(self) -> None:
        """The router has ended."""
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)
