"""The course of a request: its attempts, changes by policy, and what was left of limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ollama_router_core.exchange.course import AttemptEnd
from ollama_router_core.records.phases import PhaseName
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.admin.view import View

__all__ = ["CourseView", "KeptAttemptView", "LimitView", "PhaseView", "TryView", "tries_of"]

_TINY = 1e-6
TryEnd = AttemptEnd | Literal["answered", "failed", "client_left", "in_progress"]
"""`answered`: with any status; `failed`: broken off; `client_left`: the client disconnected."""


class PhaseView(View):
    """A part of a request's time. `connect` includes failed attempts; `unexplained` is time that nothing reports."""

    name: PhaseName
    ms: float


class KeptAttemptView(View):
    """A failed attempt as recorded; milliseconds from the request's start."""

    server: str
    start_ms: float
    end_ms: float
    end: AttemptEnd
    status: int | None = None
    error: str | None = None


class LimitView(View):
    """What was left of a user's limit when the request was counted, and seconds until more is available."""

    limit: int
    remaining: int
    reset_seconds: float


class CourseView(View):
    """Data recorded next to the decision: see `exchange.course`."""

    attempts: list[KeptAttemptView] = Field(default_factory=list)
    changes: list[str] = Field(default_factory=list)
    dropped: list[str] = Field(default_factory=list)
    limits: dict[str, LimitView] = Field(default_factory=dict)
    said_seconds: tuple[float, float] | None = None


class TryView(View):
    """One attempt: its server, start after the request's start, result, and phases."""

    server: str
    start_ms: float
    ms: float
    end: TryEnd
    status: int | None
    error: str | None
    phases: list[PhaseView]


def tries_of(
    record: RequestRecord, kept: Sequence[KeptAttemptView], phases: Sequence[PhaseView]
) -> list[TryView] | None:
    """Return every attempt, the last with its phases; None if earlier ones were not recorded."""
    made = [_failed_try(one) for one in kept]
    match record.attempts - len(kept):
        case 0:
            return made
        case 1:
            return [*made, _last(record, kept, phases)]
        case _:
            return None


def _failed_try(one: KeptAttemptView) -> TryView:
    ms = max(0.0, one.end_ms - one.start_ms)
    phase: PhaseName = "connect" if one.end == "unreachable" else "unexplained"
    parts = [PhaseView(name=phase, ms=ms)] if ms > _TINY else []
    return TryView.from_object(one, ms=ms, phases=parts)


def _last(record: RequestRecord, kept: Sequence[KeptAttemptView], phases: Sequence[PhaseView]) -> TryView:
    queued = record.queue_ms or 0.0
    start = min(max(queued, kept[-1].end_ms if kept else 0.0), record.total_ms)
    before = start - queued
    parts = []
    for one in phases:
        ms = one.ms if one.name != "connect" else one.ms - before
        if one.name != "queue" and ms > _TINY:
            parts.append(PhaseView(name=one.name, ms=ms))
    return TryView(
        server=record.server or "",
        start_ms=start,
        ms=record.total_ms - start,
        end=_end(record),
        status=record.status,
        error=record.error,
        phases=parts,
    )


def _end(record: RequestRecord) -> TryEnd:
    if record.status == 499:
        return "client_left"
    return "failed" if record.error is not None else "answered"
