"""When a logged request was at its server, and what was done for it there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.simulation.report import percentile

__all__ = ["Phases", "clocks", "phases", "stay", "worked"]

_ODD, _FEW = 0.05, 20
"""The share of a server's answers that may tell more than passed for other reasons than its clock. Of fewer than `_FEW`
that share is nobody, and one odd row would make the whole server fast: then its middle one counts."""

_LOADED = 0.1
"""The part of an answer's seconds from which on they are those of a load."""


class Phases(NamedTuple):
    """Seconds of loading, reading and writing."""

    load: float
    prefill: float
    decode: float


def stay(row: RequestRecord) -> tuple[float, float]:
    """Return when a request came to its server and when it left, in seconds since 1970."""
    came = row.started_at + ((row.queue_ms or 0.0) + (row.connect_ms or 0.0)) / 1000
    return came, max(came, row.started_at + row.total_ms / 1000)


def worked(row: RequestRecord, clock: float = 1.0) -> float | None:
    """Return the seconds of load and work that its server told, by its `clock`; None where it did not tell all."""
    if row.prefill_ms is None or row.decode_ms is None:
        return None
    return ((row.load_ms or 0.0) + row.prefill_ms + row.decode_ms) / 1000 * clock


def clocks(rows: Iterable[RequestRecord]) -> Mapping[str, float]:
    """Return by server how much time passes while it tells of a second: 1, less where its clock runs ahead.

    That of a simulated server may, such as those of the demonstration. Answers that were loaded for do not count: the
    whole load is told to everyone who waited for a part of it.
    """
    ratios: dict[str, list[float]] = {}
    for row in rows:
        told, (came, left) = worked(row), stay(row)
        if row.server is not None and row.status == 200 and told and (row.load_ms or 0.0) < _LOADED * told * 1000:
            ratios.setdefault(row.server, []).append((left - came) / told)
    return {name: min(1.0, percentile(found, 0.5 if len(found) < _FEW else _ODD)) for name, found in ratios.items()}


def phases(row: RequestRecord, ttft_ms: float, clock: float = 1.0) -> Phases:
    """Return what the server told by its `clock`, else what the router saw; together no more than that.

    What is more than passed would make a replay's servers slower than they were.
    """
    load, waited = (row.load_ms or 0.0) * clock, row.queue_ms or 0.0
    read = max(0.0, ttft_ms - waited - load) if row.streamed else 0.0
    wrote = row.total_ms - ttft_ms if row.streamed else 0.0
    prefill = read if row.prefill_ms is None else row.prefill_ms * clock
    decode = wrote if row.decode_ms is None else row.decode_ms * clock
    told, seen = load + prefill + decode, max(0.0, row.total_ms - waited)
    share = min(1.0, seen / told) if told > 0.0 else 1.0
    return Phases(load * share / 1000, prefill * share / 1000, decode * share / 1000)
