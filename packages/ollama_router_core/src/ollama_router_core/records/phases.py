"""The phases of a request's time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ollama_router_core.records.request_record import RequestRecord

__all__ = ["PHASES", "PhaseName", "phase_ms", "phase_times"]

PhaseName = Literal["queue", "connect", "load", "prefill", "decode", "unexplained"]
PHASES: tuple[PhaseName, ...] = ("queue", "connect", "load", "prefill", "decode", "unexplained")
"""The phases in chronological order."""


def phase_times(record: RequestRecord) -> list[tuple[PhaseName, float]]:
    """Return the phases of a request's time by name, in milliseconds and in order; see `phase_ms`."""
    return list(zip(PHASES, phase_ms(record), strict=True))


def phase_ms(record: RequestRecord) -> Sequence[float]:
    """Return the phases of a request's time in milliseconds, in the order of `PHASES`; they add up to its total.

    The server's reported times are used, limited to the total. If it reports neither prefill nor decoding, the time to
    the first token is prefill, and the rest is decoding.
    """
    queue, connect, load, prefill, decode = reported = _reported(record)
    left = record.total_ms - queue - connect - load - prefill - decode
    if left < 0.0 or min(reported) < 0.0:
        return _limited_to(reported, record.total_ms)
    return queue, connect, load, prefill, decode, left


def _limited_to(reported: Sequence[float], total: float) -> Sequence[float]:
    left, parts = total, list[float]()
    for part in reported:
        ms = min(max(part, 0.0), max(left, 0.0))
        left -= ms
        parts.append(ms)
    return *parts, left


def _reported(record: RequestRecord) -> tuple[float, float, float, float, float]:
    queue, connect, load = record.queue_ms or 0.0, record.connect_ms or 0.0, record.load_ms or 0.0
    prefill, decode = record.prefill_ms, record.decode_ms
    if prefill is None and decode is None and record.streamed and record.completion_tokens:
        ttft, before = record.ttft_ms, queue + connect + load
        if ttft is not None:
            return queue, connect, load, ttft - before, record.total_ms - max(ttft, before)
    return queue, connect, load, prefill or 0.0, decode or 0.0
