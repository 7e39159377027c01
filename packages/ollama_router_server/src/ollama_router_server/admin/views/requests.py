"""Past and present requests as people see them: what happened, where the time went, and a sentence about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.admin.views.view import View

__all__ = [
    "ActiveView",
    "Outcome",
    "PhaseView",
    "RequestDetailView",
    "RequestView",
    "RequestsView",
    "active_views",
    "outcome_of",
    "phases_of",
    "request_detail",
    "request_view",
    "sentence_of",
]

Outcome = Literal["ok", "error", "refused", "client_left"]
PhaseName = Literal["queue", "load", "prefill", "decode", "unexplained"]


_TOLD = 0.02
"""Parts below this share of the total are left out of the sentence."""


class PhaseView(View):
    """A part of a request's time. `unexplained` is what no report of the server covers."""

    name: PhaseName
    ms: float


class RequestView(View):
    """One request of the log. Times are milliseconds from its start; null where nobody told."""

    id: str
    started_at: float
    user: str | None
    model_asked: str | None
    model_served: str | None
    server: str | None
    path: str
    status: int
    outcome: Outcome
    attempts: int
    queue_position: int | None
    queue_ms: float | None
    ttft_ms: float | None
    total_ms: float
    prompt_tokens: int | None
    completion_tokens: int | None
    reason: str | None
    error_code: str | None
    error: str | None
    phases: list[PhaseView]


class RequestsView(View):
    """A page of the log, newest first; `next` is the cursor of the page after it, null on the last."""

    requests: list[RequestView]
    next: str | None


class RequestDetailView(RequestView):
    """One request whole."""

    sentence: str
    client: str | None
    method: str
    streamed: bool
    expected_wait_ms: float | None
    load_ms: float | None
    context: int | None
    bytes_in: int
    bytes_out: int


class ActiveView(View):
    """A request in progress: `waiting` for a server, `sent` to one, or `answering`."""

    id: str
    user: str | None
    model: str | None
    server: str | None
    path: str | None
    state: Literal["waiting", "sent", "answering"]
    seconds: float
    first_byte_seconds: float | None
    queue_position: int | None
    bytes_out: int


def active_views(rows: Sequence[dict[str, Any]], user: str | None = None) -> list[ActiveView]:
    """Requests in progress in all workers, the oldest first; of one user, or of all."""
    return [ActiveView(**row) for row in rows if user is None or row["user"] == user]


def outcome_of(record: RequestRecord) -> Outcome:
    """How a request ended, for its client."""
    if record.status == 499:
        return "client_left"
    if record.status >= 400 and record.attempts == 0:
        return "refused"
    return "error" if record.status >= 400 or record.error is not None else "ok"


def phases_of(record: RequestRecord) -> list[PhaseView]:
    """The parts of a request's time, in their order; they add up to its total.

    Between the end of the load and the first token a server reads the prompt; what comes after it is decoding.
    """
    queue = min(record.queue_ms or 0.0, record.total_ms)
    first = record.total_ms if record.ttft_ms is None else min(max(record.ttft_ms, queue), record.total_ms)
    load = min(record.load_ms or 0.0, first - queue)
    between: PhaseName = "unexplained" if record.ttft_ms is None or not record.completion_tokens else "prefill"
    parts: tuple[tuple[PhaseName, float], ...] = (
        ("queue", queue),
        ("load", load),
        (between, first - queue - load),
        ("decode", record.total_ms - first),
    )
    return [PhaseView(name=name, ms=ms) for name, ms in parts if ms > 0]


def sentence_of(record: RequestRecord) -> str:
    """What happened to a request, in one sentence."""
    match outcome_of(record):
        case "refused":
            return f"Refused with {record.status}: {record.error or record.error_code or 'no reason was recorded'}."
        case "client_left":
            return f"The client left after {seconds(record.total_ms)}, {_so_far(record)}."
        case "error":
            return f"Failed after {seconds(record.total_ms)}: {record.error or f'status {record.status}'}."
        case "ok":
            parts = ", ".join(_told(record))
            return f"Took {seconds(record.total_ms)}{f': {parts}' if parts else ''}."


def seconds(ms: float) -> str:
    """Milliseconds as people say them."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 10_000 else f"{ms / 1000:.0f} s"


def _so_far(record: RequestRecord) -> str:
    if record.server is None:
        return "before a server was free"
    return "before the first token" if record.ttft_ms is None else f"{seconds(record.ttft_ms)} of them to first token"


def _told(record: RequestRecord) -> Iterator[str]:
    model = record.model_served or record.model_asked or "the model"
    for phase in phases_of(record):
        if phase.ms < _TOLD * record.total_ms:
            continue
        time = seconds(phase.ms)
        match phase.name:
            case "queue":
                yield f"{time} waiting for a server"
            case "load":
                yield f"{time} loading {model} on {record.server}"
            case "prefill":
                count = f" {record.prompt_tokens:,} tokens" if record.prompt_tokens else " the prompt"
                yield f"{time} reading{count}"
            case "decode":
                count = f" {record.completion_tokens:,} tokens" if record.completion_tokens else ""
                yield f"{time} writing{count}"
            case "unexplained":
                yield f"{time} until {record.server} answered"


def request_view(record: RequestRecord) -> RequestView:
    """One row of a list."""
    return RequestView(**_row(record))


def request_detail(record: RequestRecord) -> RequestDetailView:
    """One request whole."""
    return RequestDetailView(
        **_row(record),
        sentence=sentence_of(record),
        client=record.client,
        method=record.method,
        streamed=record.streamed,
        expected_wait_ms=record.expected_wait_ms,
        load_ms=record.load_ms,
        context=record.num_ctx,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
    )


_SAME = (
    "id",
    "started_at",
    "user",
    "model_asked",
    "model_served",
    "server",
    "path",
    "status",
    "attempts",
    "queue_position",
    "queue_ms",
    "ttft_ms",
    "total_ms",
    "prompt_tokens",
    "completion_tokens",
    "reason",
    "error_code",
    "error",
)


def _row(record: RequestRecord) -> dict[str, Any]:
    same = {name: getattr(record, name) for name in _SAME}
    return {**same, "outcome": outcome_of(record), "phases": phases_of(record)}
