"""Where the time of a request went."""

from __future__ import annotations

from collections.abc import Iterator
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
    for name, told in _told(record):
        ms = min(max(told, 0.0), left)
        left -= ms
        parts.append((name, ms))
    parts.append(("unexplained", left))
    return parts


def _told(record: RequestRecord) -> Iterator[tuple[PhaseName, float]]:
    yield "queue", record.queue_ms or 0.0
    yield "connect", record.connect_ms or 0.0
    yield "load", record.load_ms or 0.0
    if record.prefill_ms is not None or record.decode_ms is not None:
        yield "prefill", record.prefill_ms or 0.0
        yield "decode", record.decode_ms or 0.0
    elif record.ttft_ms is not None and record.completion_tokens and record.streamed:
        before = sum((record.queue_ms or 0.0, record.connect_ms or 0.0, record.load_ms or 0.0))
        yield "prefill", record.ttft_ms - before
        yield "decode", record.total_ms - max(record.ttft_ms, before)
