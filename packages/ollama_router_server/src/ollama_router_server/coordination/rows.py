"""Numbers by name and worker in shared memory: each has one writer, so that requests take no lock.

Only assigning a row to a name takes a lock (a POSIX lock, which the kernel releases if the process dies); rows are
never freed. A name beyond the capacity is not counted.
"""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final

from ollama_router_core.coordination.days import DAYS_KEPT, DayUse

__all__ = ["SECONDS", "Days", "RowIndex", "Rows"]

_WORD = 8
SECONDS: Final = 61
"""Cells for the last minute, one per second."""
_THOUSAND = 1000
_COUNT_BITS: Final = 32
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1


class RowIndex:
    """The row of each name, the same for every worker. Names are stored as 63 bits of a digest."""

    __slots__ = ("_capacity", "_known", "_lock", "_words")

    def __init__(self, words: memoryview, capacity: int, lock: int) -> None:
        self._words = words
        self._capacity = capacity
        self._lock = lock
        self._known: dict[str, int | None] = {}

    @staticmethod
    def words(capacity: int) -> int:
        """Return the size in words: a counter of rows, and a digest per row."""
        return 1 + capacity

    @property
    def taken(self) -> int:
        """The number of assigned rows."""
        return int(self._words[0])

    def of(self, name: str) -> int | None:
        """Return a name's row; None if all rows are assigned."""
        try:
            return self._known[name]
        except KeyError:
            row = self._known[name] = self._give(name)
            return row

    def _give(self, name: str) -> int | None:
        digest = int.from_bytes(blake2b(name.encode(), digest_size=_WORD).digest()) >> 1
        with self.locked():
            count = self.taken
            taken = self._words[1 : 1 + count].tolist()
            if digest in taken:
                return taken.index(digest)
            if count == self._capacity:
                return None
            self._words[1 + count] = digest
            self._words[0] = count + 1
            return count

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock out other processes; rows must not be assigned meanwhile."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


class Rows:
    """A count for each name and worker; if `timed`, also one for each second of the last minute."""

    __slots__ = ("_index", "_stride", "_width", "_words")

    def __init__(self, words: memoryview, index: RowIndex, capacity: int, *, timed: bool = False) -> None:
        self._words = words
        self._index = index
        self._width = self.width(timed=timed)
        self._stride = capacity * self._width

    @staticmethod
    def width(*, timed: bool) -> int:
        """Return the words per row."""
        return 1 + SECONDS if timed else 1

    def add(self, worker: int, name: str, change: int) -> None:
        """Add to a worker's count; it is never below zero."""
        row = self._index.of(name)
        if row is not None:
            at = worker * self._stride + row * self._width
            self._words[at] = max(0, self._words[at] + change)

    def count(self, worker: int, name: str) -> int:
        """Return a worker's count."""
        row = self._index.of(name)
        return 0 if row is None else int(self._words[worker * self._stride + row * self._width])

    def sums(self, workers: Sequence[int], names: Collection[str]) -> Mapping[str, int]:
        """Return the nonzero sums over some workers by name; reads each worker's memory once."""
        length, stride, width = self._index.taken * self._width, self._stride, self._width
        columns = [self._words[at : at + length].tolist()[::width] for at in (worker * stride for worker in workers)]
        if not any(map(any, columns)):
            return {}
        totals = [sum(counts) for counts in zip(*columns, strict=True)]
        rows = ((name, self._index.of(name)) for name in names)
        return {name: totals[at] for name, at in rows if at is not None and at < len(totals) and totals[at]}

    def tick(self, worker: int, name: str, now: float, number: int = 1) -> None:
        """Add to a worker's number for this second of the monotonic clock, clamped to 0 to 2**32 - 1.

        No-op if the second's cell already belongs to a later second.
        """
        row = self._index.of(name)
        if row is not None:
            second = int(now)
            cell = worker * self._stride + row * self._width + 1 + second % SECONDS
            held, known = divmod(self._words[cell], _COUNT_MASK + 1)
            if held > second:
                return
            count = (known if held == second else 0) + number
            self._words[cell] = (second << _COUNT_BITS) | min(max(0, count), _COUNT_MASK)

    def ticks(self, worker: int, name: str, now: float) -> list[tuple[int, int]]:
        """Return the seconds of the last minute with a worker's numbers."""
        row = self._index.of(name)
        if row is None:
            return []
        at = worker * self._stride + row * self._width + 1
        oldest = int(now) - 60
        cells = self._words[at : at + SECONDS].tolist()
        return [(cell >> _COUNT_BITS, cell & _COUNT_MASK) for cell in cells if cell >> _COUNT_BITS >= oldest]

    def clear(self, worker: int) -> None:
        """Zero the counts of a worker that is gone; the counts by second stay."""
        for row in range(self._index.taken):
            self._words[worker * self._stride + row * self._width] = 0


class Days:
    """Tokens of users by day and month, in one row for all workers; hold the index lock to read and to count."""

    WIDTH: Final = len(DayUse._fields) + 1

    __slots__ = ("_index", "_words")

    def __init__(self, words: memoryview, index: RowIndex) -> None:
        self._words = words
        self._index = index

    def of(self, user: str, now: float, known: DayUse) -> DayUse:
        """Return the usage as of the day of `known`; `known` itself if nothing has changed lately."""
        row = self._index.of(user)
        if row is None:
            return known
        day, today, earlier, at = self._words[row * self.WIDTH : (row + 1) * self.WIDTH].tolist()
        is_counted = at and now - (at - 1) / _THOUSAND < DAYS_KEPT  # 0 marks an unused row
        return (DayUse(day, today, earlier) if is_counted else known).on(known.day)

    def use(self, user: str, now: float, day: int, tokens: int, known: DayUse) -> None:
        """Count tokens of a day; `known` is the usage known before."""
        row = self._index.of(user)
        if row is not None:
            cells = (*self.of(user, now, known).plus(day, tokens), 1 + int(now * _THOUSAND))
            for cell, value in enumerate(cells, row * self.WIDTH):
                self._words[cell] = value
