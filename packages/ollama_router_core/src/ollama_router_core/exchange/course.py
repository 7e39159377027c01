"""What the log keeps of a request beside its decision: failed attempts, changes, limits."""

from __future__ import annotations

from typing import Any, Final, Literal, assert_never

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.access.limits import Standing
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.records.user_text import shown
from ollama_router_core.routing.forwarding import Answered, Broken, Lost, Outcome, Rejected, Unable, Unreachable

__all__ = ["LONGEST", "Attempt", "AttemptEnd", "Course", "attempt_of", "kept_course", "with_announced_wait"]

AttemptEnd = Literal["unreachable", "rejected", "unable", "lost", "broken", "preempted"]
"""As in `routing.forwarding`; `preempted` is a slot given up for an interactive request."""

LONGEST: Final = 2048
"""Maximum bytes of the encoded course."""
_MOST: Final = 8
_LONGEST_TEXT: Final = 128
_encode = msgspec.json.Encoder().encode


class Attempt(Struct, frozen=True, omit_defaults=True):
    """A failed attempt; times are milliseconds since the request's start."""

    server: str
    start_ms: float
    end_ms: float
    end: AttemptEnd
    status: int | None = None
    error: str | None = None


class Course(Struct, frozen=True):
    """A request's course; `changes` are policy changes as text, `dropped` members removed or changed in the body."""

    attempts: tuple[Attempt, ...] = ()
    changes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    standing: Standing | None = None


def attempt_of(server: str, outcome: Outcome, start_ms: float, end_ms: float) -> Attempt:
    """Describe an attempt that ended in this outcome."""
    match outcome:
        case Unreachable(error):
            return Attempt(server, start_ms, end_ms, "unreachable", error=error.message)
        case Rejected(status) | Answered(status):
            return Attempt(server, start_ms, end_ms, "rejected", status=status)
        case Unable(status, words):
            return Attempt(server, start_ms, end_ms, "unable", status=status, error=words)
        case Lost(error):
            return Attempt(server, start_ms, end_ms, "lost", error=error.message)
        case Broken(error):
            return Attempt(server, start_ms, end_ms, "broken", error=error.message)
        case _:
            assert_never(outcome)


def kept_course(course: Course, decision: str | None) -> str | None:
    """Add the course to a decision (a JSON object), or return it alone; None if there is neither.

    `{"attempts": [{"server", "start_ms", "end_ms", "end", "status", "error"}], "changes": [...], "dropped": [...],
    "limits": {NAME: {"limit", "remaining", "reset_seconds"}}}`; empty members are omitted, long lists
    truncated. Adds at most 2 KiB.
    """
    most = _MOST
    while (document := _document(course, most)) and most:
        text = _encode(document)
        if len(text) <= LONGEST:
            return text.decode() if decision is None else f"{decision[:-1]},{text[1:].decode()}"
        most -= 1
    return decision


def with_announced_wait(record: RequestRecord, seconds: tuple[float, float]) -> RequestRecord:
    """Add the range of seconds announced for the record's wait to its decision, as `"said_seconds"`."""
    if record.decision is None:
        return record
    member = _encode({"said_seconds": [round(one, 1) for one in seconds]}).decode()
    return replace(record, decision=f"{record.decision[:-1]},{member[1:]}")


def _document(course: Course, most: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "attempts": [_bounded(one) for one in course.attempts[:most]],
        "changes": [shown(one, _LONGEST_TEXT) for one in course.changes[:most]],
        "dropped": [shown(one) for one in course.dropped[:most]],
        "limits": {} if course.standing is None else _limits(course.standing),
    }
    return {name: value for name, value in found.items() if value}


def _bounded(one: Attempt) -> Attempt:
    error = None if one.error is None else shown(one.error, _LONGEST_TEXT)
    return Attempt(one.server, round(one.start_ms, 3), round(one.end_ms, 3), one.end, one.status, error)


def _limits(standing: Standing) -> dict[str, dict[str, float]]:
    allowances = {"requests": standing.requests, "tokens": standing.tokens}
    return {
        name: {"limit": one.limit, "remaining": one.remaining, "reset_seconds": round(max(0.0, one.reset), 1)}
        for name, one in allowances.items()
        if one is not None
    }
