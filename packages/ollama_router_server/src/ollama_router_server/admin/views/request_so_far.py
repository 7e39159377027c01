"""A request in flight, in the form of its later record."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.admin.views.active import ActiveView, turn
from ollama_router_server.admin.views.requests import RequestDetailView, request_detail, seconds

__all__ = ["detail_so_far"]

_LAST_TEN = ("th", "st", "nd", "rd")


def detail_so_far(active: ActiveView, record: RequestRecord | None) -> RequestDetailView:
    """Show a request in flight. `record` is what it would write now, None if another worker has it."""
    so_far = _row_of(active) if record is None else record
    if active.decided_seconds is None:
        so_far = replace(so_far, queue_ms=so_far.total_ms)
    detail = request_detail(so_far)
    tries = detail.tries
    if tries and active.server is not None:
        tries = [*tries[:-1], tries[-1].model_copy(update={"end": "in_progress"})]
    changed = {"outcome": "in_progress", "sentence": _sentence(active), "tries": tries, "active": active}
    return detail.model_copy(update=changed)


def _row_of(active: ActiveView) -> RequestRecord:
    """Return the known part of another worker's request."""
    return RequestRecord(
        id=active.id,
        started_at=active.started_at,
        user=active.user,
        speaker=active.speaker,
        client=None,
        method=active.method,
        path=active.path or "(unknown)",
        model_asked=active.model,
        server=active.server,
        status=0,
        attempts=active.attempts,
        streamed=active.streamed,
        queue_ms=_ms(active.decided_seconds),
        queue_position=active.queue_position,
        ttft_ms=_ms(active.first_byte_seconds),
        total_ms=active.seconds * 1000,
        completion_tokens=active.tokens,
        num_ctx=active.context,
        bytes_out=active.bytes_out,
    )


def _sentence(active: ActiveView) -> str:
    return f"In progress for {seconds(active.seconds * 1000)}: {', '.join(_parts(active))}."


def _parts(active: ActiveView) -> Iterator[str]:
    if active.state == "waiting" and active.queue_position:
        yield f"{_nth(active.queue_position)} in line"
        if active.starts_in_seconds is not None:
            yield f"starts in {turn(active.starts_in_seconds)}".replace("in any moment", "at any moment")
    yield active.doing
    if active.server is not None:
        yield f"on {active.server}"


def _nth(number: int) -> str:
    last = number % 10
    ending = _LAST_TEN[last] if last < len(_LAST_TEN) and number % 100 // 10 != 1 else "th"
    return f"{number}{ending}"


def _ms(told: float | None) -> float | None:
    return None if told is None else told * 1000
