"""The times and phases of a logged request on its server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.simulation.report import percentile

__all__ = ["Phases", "clocks", "phases", "stay", "worked"]

_ODD, _FEW = 0.05, 20
"""The share of a server's responses that may report more time than passed without a fast clock. Of fewer than `_FEW`
that share is none, and one outlier would make the whole server fast: then the median counts."""

_LOADED = 0.1
"""The share of load time in a response's work from which on the response counts as one with a load."""


class Phases(NamedTuple):
    """Seconds of loading, prefill and decoding."""

    load: float
    prefill: float
    decode: float


def stay(row: RequestRecord) -> tuple[float, float]:
    """Return when a request reached and left its server, in seconds since 1970."""
    came = row.started_at + ((row.queue_ms or 0.0) + (row.connect_ms or 0.0)) / 1000
    return came, max(came, row.started_at + row.total_ms / 1000)


def worked(row: RequestRecord, clock: float = 1.0) -> float | None:
    """Return the reported seconds of load and work, corrected by `clock`; None if not all were reported."""
    if row.prefill_ms is None or row.decode_ms is None:
        return None
    return ((row.load_ms or 0.0) + row.prefill_ms + row.decode_ms) / 1000 * clock


def clocks(rows: Iterable[RequestRecord]) -> Mapping[str, float]:
    """Return by server the real seconds per reported second: 1, or less if its clock is fast.

    The clock of a simulated server may be fast, as in the demonstration. Responses with a load are excluded, as the
    whole load is reported to every request that waited for a part of it.
    """
    ratios: dict[str, list[float]] = {}
    for row in rows:
        reported, (came, left) = worked(row), stay(row)
        if (
            row.server is not None
            and row.status == 200
            and reported
            and (row.load_ms or 0.0) < _LOADED * reported * 1000
        ):
            ratios.setdefault(row.server, []).append((left - came) / reported)
    return {name: min(1.0, percentile(found, 0.5 if len(found) < _FEW else _ODD)) for name, found in ratios.items()}


def phases(row: RequestRecord, ttft_ms: float, clock: float = 1.0) -> Phases:
    """Return the server's phases corrected by `clock`, else the router's, scaled to at most the observed time.

    Longer phases would make a replay's servers slower than they were.
    """
    load, waited = (row.load_ms or 0.0) * clock, row.queue_ms or 0.0
    read = max(0.0, ttft_ms - waited - load) if row.streamed else 0.0
    wrote = row.total_ms - ttft_ms if row.streamed else 0.0
    prefill = read if row.prefill_ms is None else row.prefill_ms * clock
    decode = wrote if row.decode_ms is None else row.decode_ms * clock
    reported, seen = load + prefill + decode, max(0.0, row.total_ms - waited)
    share = min(1.0, seen / reported) if reported > 0.0 else 1.0
    return Phases(load * share / 1000, prefill * share / 1000, decode * share / 1000)
