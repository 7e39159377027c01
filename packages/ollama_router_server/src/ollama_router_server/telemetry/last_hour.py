"""Sums over the requests of the last hour, per minute, kept by each process.

A request counts in the minute in which it ended, by its own times; no clock is read. The worker that answers a query
adds up what all workers published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from ollama_router_core.exchange.machine import CLIENT_LEFT
from ollama_router_core.records.phases import PHASES, PhaseName, phase_ms
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.telemetry.server_hour import ServerHours, ServerRow
from ollama_router_server.telemetry.time_bands import band_of

__all__ = ["MINUTES", "LastHour", "Minute", "Row", "add_up_minutes", "minutes_of"]

MINUTES: Final = 60
_SECONDS: Final = 60
_UNCOUNTED: Final = 256

Row = Sequence[int]
"""A published minute: its number since 1970, its sums in the order of `Minute`, then each band of times to the first
token with its count."""
_REQUESTS, _FAILED, _TOKENS, _PHASES = range(4)
_SUMS: Final = _PHASES + len(PHASES)


class Minute(Struct, frozen=True):
    """The requests that ended in one minute; `start` is in seconds since 1970.

    `failed` counts requests that ended with an error; client disconnects are no failures. `phases` are milliseconds by
        phase; `completion_tokens` were generated. `first_token` counts times to the first token, by band.
    """

    start: int
    requests: int
    failed: int
    completion_tokens: int
    phases: Mapping[PhaseName, int]
    first_token: Mapping[int, int]


class LastHour:
    """The sums of one process; bounded to an hour and two minutes, whatever the clock does. Not thread-safe.

    Requests are queued and counted in batches, on a query or when enough are queued, so that a request pays only for
    an append to a list.
    """

    __slots__ = ("_first_token", "_minutes", "_servers", "_uncounted")

    def __init__(self) -> None:
        self._minutes: dict[int, list[float]] = {}
        self._first_token: dict[int, dict[int, int]] = {}
        self._servers = ServerHours()
        self._uncounted: list[RequestRecord] = []

    def add(self, record: RequestRecord) -> None:
        """Add a request that has ended."""
        self._uncounted.append(record)
        if len(self._uncounted) >= _UNCOUNTED:
            self._count()

    def rows(self) -> list[Row]:
        """Return the minutes in which requests ended."""
        self._count()
        return [
            (number, *map(round, sums), *(one for pair in self._first_token[number].items() for one in pair))
            for number, sums in self._minutes.items()
        ]

    def server_rows(self, now: float) -> list[ServerRow]:
        """Return the servers on which requests ended, until `now` in seconds since 1970."""
        self._count()
        return self._servers.rows(now)

    def _count(self) -> None:
        for record in self._uncounted:
            self._count_one(record)
            self._servers.count(record)
        self._uncounted.clear()

    def _count_one(self, record: RequestRecord) -> None:
        number = int(record.started_at + record.total_ms / 1000) // _SECONDS
        sums = self._minutes.get(number)
        if sums is None:
            sums = self._begin(number)
        sums[_REQUESTS] += 1
        status = record.status
        if status != CLIENT_LEFT and (status >= 400 or record.error is not None):
            sums[_FAILED] += 1
        sums[_TOKENS] += record.completion_tokens or 0
        for index, ms in enumerate(phase_ms(record), _PHASES):
            sums[index] += ms
        if record.ttft_ms is not None:
            bands, band = self._first_token[number], band_of(record.ttft_ms)
            bands[band] = bands.get(band, 0) + 1

    def _begin(self, number: int) -> list[float]:
        """Start a minute; a request may end slightly before one of the previous minute was counted."""
        oldest, newest = number - MINUTES, number + 1
        self._minutes = {at: sums for at, sums in self._minutes.items() if oldest <= at <= newest}
        self._first_token = {at: self._first_token[at] for at in self._minutes}
        self._first_token[number] = {}
        sums = self._minutes[number] = [0.0] * _SUMS
        return sums


def minutes_of(rows: Iterable[Row], now: float) -> list[Minute]:
    """Add up the rows of several processes: sixty minutes until `now`, oldest first, idle ones included."""
    last = int(now) // _SECONDS
    found = {number: sums for number, *sums in add_up_minutes(rows)}
    idle = [0] * _SUMS
    return [_minute(number, found.get(number, idle)) for number in range(last - MINUTES + 1, last + 1)]


def add_up_minutes(rows: Iterable[Row]) -> list[Row]:
    """Return one row per minute; of the newest minutes, as many as a process keeps."""
    found: dict[int, list[int]] = {}
    for number, *sums in rows:
        found[number] = _added(found[number], sums) if number in found else sums
    return [(number, *found[number]) for number in sorted(found)[-MINUTES - 2 :]]


def _added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    sums = [mine + more for mine, more in zip(one[:_SUMS], other[:_SUMS], strict=True)]
    bands = Counter(_bands(one))
    bands.update(_bands(other))
    return [*sums, *(each for pair in bands.items() for each in pair)]


def _bands(sums: Sequence[int]) -> dict[int, int]:
    return dict(zip(sums[_SUMS::2], sums[_SUMS + 1 :: 2], strict=True))


def _minute(number: int, sums: Sequence[int]) -> Minute:
    phases = dict(zip(PHASES, sums[_PHASES:_SUMS], strict=True))
    return Minute(number * _SECONDS, sums[_REQUESTS], sums[_FAILED], sums[_TOKENS], phases, _bands(sums))
