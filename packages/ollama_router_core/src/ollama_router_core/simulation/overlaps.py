"""Concurrency in a log: the other requests on a request's server, and the server's slots."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.fleet.slots import SlotBook
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.simulation.logged_times import stay, worked

__all__ = ["Overlap", "overlaps", "slots_shown"]


class Overlap(NamedTuple):
    """Other requests on a server: the mean number of concurrent `neighbours`, and the model's earlier ones, `ahead`."""

    neighbours: float = 0.0
    ahead: int = 0


def overlaps(rows: Sequence[RequestRecord], clock: Mapping[str, float]) -> list[Overlap]:
    """Return the overlap of each row, in order; empty for a request without a server.

    `clock` is the result of `clocks`.
    """
    at_work: dict[str | None, _Intervals] = {}
    of_model: dict[tuple[str | None, str], _Intervals] = {}
    for row in rows:
        at_work.setdefault(row.server, _Intervals()).add(*_work(row, clock))
        of_model.setdefault(_runner(row), _Intervals()).add(*stay(row))
    return [
        Overlap(at_work[row.server].beside(*_work(row, clock)), of_model[_runner(row)].open_at(stay(row)[0]))
        if row.server
        else Overlap()
        for row in rows
    ]


def slots_shown(rows: Sequence[RequestRecord], clock: Mapping[str, float], configured: Iterable[str]) -> SlotBook:
    """Return the slots that a router learns from the rows; `configured` are the servers with configured slots."""
    book, names = SlotBook(), frozenset(configured)
    pairs = zip(rows, overlaps(rows, clock), strict=True)
    for row, overlap in sorted(pairs, key=lambda pair: stay(pair[0])[1]):
        if row.server is None or row.status != 200:
            continue
        seconds, (came, left) = worked(row, clock.get(row.server, 1.0)), stay(row)
        if seconds is not None:
            queued, whole = round(max(0.0, left - came - seconds) * 1e9), round((left - came) * 1e9)
            book.observe(row.server, queued, whole, overlap.ahead, left, configured=row.server in names)
    return book


def _runner(row: RequestRecord) -> tuple[str | None, str]:
    return row.server, canonical_name(row.model_served or "")


def _work(row: RequestRecord, clock: Mapping[str, float]) -> tuple[float, float]:
    """Return the start and end of the work: the end part of the stay, as the request may have waited for a slot."""
    (came, left), seconds = stay(row), worked(row, clock.get(row.server or "", 1.0))
    return came if seconds is None else max(came, left - seconds), left


class _Intervals:
    """A set of time intervals with queries of their overlap."""

    def __init__(self) -> None:
        self._begins: list[float] = []
        self._ends: list[float] = []
        self._sums: tuple[list[float], list[float]] | None = None

    def add(self, begin: float, end: float) -> None:
        """Add an interval; only before the first query."""
        self._begins.append(begin)
        self._ends.append(end)

    def open_at(self, at: float) -> int:
        """Return the number of intervals that began before a time and had not ended."""
        self._summed()
        return bisect_left(self._begins, at) - bisect_left(self._ends, at)

    def beside(self, begin: float, end: float) -> float:
        """Return the mean number of other intervals open during one of them."""
        if end <= begin:
            return float(self.open_at(begin))
        return max(0.0, (self._passed(end) - self._passed(begin)) / (end - begin) - 1.0)

    def _passed(self, at: float) -> float:
        """Return the sum of the elapsed lengths of all intervals."""
        begun, ended = self._summed()
        before, over = bisect_left(self._begins, at), bisect_left(self._ends, at)
        first = self._begins[0]
        return (before - over) * (at - first) - begun[before] + ended[over]

    def _summed(self) -> tuple[list[float], list[float]]:
        """Return the prefix sums of the sorted begins and ends, relative to the first begin."""
        if self._sums is None:
            self._begins.sort()
            self._ends.sort()
            first = self._begins[0]
            begun, ended = (
                accumulate((at - first for at in times), initial=0.0) for times in (self._begins, self._ends)
            )
            self._sums = list(begun), list(ended)
        return self._sums
