"""Where the time of a request went."""

from __future__ import annotations

from typing import Literal

from ollama_router_core.records.request_record import RequestRecord

__all__ = ["PHASES", "PhaseName", "phase_times"]

PhaseName = Literal["queue", "connect", "load", "prefill", "decode", "unexplained"]
PHASES: tuple[PhaseName, ...] = ("queue", "connect", "load", "prefill", "decode", "unexplained")
"""In the order in which a request goes through them."""


def phase_times(record: RequestRecord) -> list[tuple[PhaseName, float]]:
    """The parts of a request's time (milliseconds), in their order; they add up to its total.

    What a server reports of loading, reading and writing is taken as it says, as far as there was time for it. Where it
    reports nothing, the time to the first token is reading, and what comes after it is writing.
    """
    left = record.total_ms
    parts: list[tuple[PhaseName, float]] = []
    for name, told in zip(PHASES, _told(record), strict=False):
        ms = told if 0.0 < told < left else 0.0 if told <= 0.0 else left
        left -= ms
        parts.append((name, ms))
    parts.append(("unexplained", left))
    return parts


def _told(record: RequestRecord) -> tuple[float, ...]:
    queue, connect, load = record.queue_ms or 0.0, record.connect_ms or 0.0, record.load_ms or 0.0
    prefill, decode, ttft = record.prefill_ms, record.decode_ms, record.ttft_ms
    if prefill is None and decode is None and ttft is not None and record.completion_tokens and record.streamed:
        before = queue + connect + load
        return queue, connect, load, ttft - before, record.total_ms - max(ttft, before)
    return queue, connect, load, prefill or 0.0, decode or 0.0
