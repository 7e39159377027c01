"""What the last hour's requests add up to, minute by minute: a ring of plain numbers in each process.

A request is counted in the minute in which it ended by its own times; no clock is read. What workers publish of it is
added up by whoever is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from ollama_router_core.records.phases import PHASES, PhaseName, phase_ms
from ollama_router_core.records.request_record import RequestRecord

__all__ = ["MINUTES", "LastHour", "Minute", "Row", "add_up_minutes", "minutes_of"]

MINUTES: Final = 60
_SECONDS: Final = 60
_CLIENT_LEFT: Final = 499
_UNCOUNTED: Final = 256

Row = Sequence[int]
"""A minute as it is published: its number since 1970, and its sums in the order of `Minute`."""
_REQUESTS, _FAILED, _TOKENS, _PHASES = range(4)


class Minute(Struct, frozen=True):
    """The requests that ended in a minute, from `start` (seconds since 1970) on.

    `failed` of them ended with an error; those whose client left are no failures. `phases` are milliseconds, by where
    their time went; `completion_tokens` were written for them.
    """

    start: int
    requests: int
    failed: int
    completion_tokens: int
    phases: Mapping[PhaseName, int]


class LastHour:
    """The sums of one process; at most an hour and two minutes, whatever the clock does. Not thread-safe.

    Requests are put by and counted together, when somebody looks or enough of them wait: what a request pays for being
    looked at later is its place in a list.
    """

    __slots__ = ("_minutes", "_uncounted")

    def __init__(self) -> None:
        self._minutes: dict[int, list[float]] = {}
        self._uncounted: list[RequestRecord] = []

    def add(self, record: RequestRecord) -> None:
        """Take a request that has ended."""
        self._uncounted.append(record)
        if len(self._uncounted) >= _UNCOUNTED:
            self._count()

    def rows(self) -> list[Row]:
        """The minutes in which requests ended."""
        self._count()
        return [(number, *map(round, sums)) for number, sums in self._minutes.items()]

    def _count(self) -> None:
        for record in self._uncounted:
            self._count_one(record)
        self._uncounted.clear()

    def _count_one(self, record: RequestRecord) -> None:
        number = int(record.started_at + record.total_ms / 1000) // _SECONDS
        sums = self._minutes.get(number)
        if sums is None:
            sums = self._begin(number)
        sums[_REQUESTS] += 1
        status = record.status
        if status != _CLIENT_LEFT and (status >= 400 or record.error is not None):
            sums[_FAILED] += 1
        sums[_TOKENS] += record.completion_tokens or 0
        for place, ms in enumerate(phase_ms(record), _PHASES):
            sums[place] += ms

    def _begin(self, number: int) -> list[float]:
        """A request may end a moment before one that ended the minute before was counted."""
        oldest, newest = number - MINUTES, number + 1
        self._minutes = {at: sums for at, sums in self._minutes.items() if oldest <= at <= newest}
        sums = self._minutes[number] = [0.0] * (_PHASES + len(PHASES))
        return sums


def minutes_of(rows: Iterable[Row], now: float) -> list[Minute]:
    """Add up what several processes have counted: the sixty minutes until `now`, the oldest first, idle ones too."""
    last = int(now) // _SECONDS
    found = {number: sums for number, *sums in add_up_minutes(rows)}
    idle = [0] * (_PHASES + len(PHASES))
    return [_minute(number, found.get(number, idle)) for number in range(last - MINUTES + 1, last + 1)]


def add_up_minutes(rows: Iterable[Row]) -> list[Row]:
    """One row for each minute; of the newest minutes, as many as a process keeps."""
    found: dict[int, list[int]] = {}
    for number, *sums in rows:
        found[number] = [one + more for one, more in zip(found[number], sums, strict=True)] if number in found else sums
    return [(number, *found[number]) for number in sorted(found)[-MINUTES - 2 :]]


def _minute(number: int, sums: Sequence[int]) -> Minute:
    phases = dict(zip(PHASES, sums[_PHASES:], strict=True))
    return Minute(number * _SECONDS, sums[_REQUESTS], sums[_FAILED], sums[_TOKENS], phases)
