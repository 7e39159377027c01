"""Past and present requests as shown to people: what happened, where the time went, and a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from ollama_router_core.errors import amount
from ollama_router_core.records.phases import PhaseName, phase_times
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.routing.filters import FULL
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.active import ActiveView
from ollama_router_server.admin.views.request_tries import CourseView, LimitView, PhaseView, TryView, tries_of

__all__ = [
    "KeptCandidateView",
    "KeptDecisionView",
    "Outcome",
    "PhaseView",
    "ReasonView",
    "RequestDetailView",
    "RequestView",
    "RequestsView",
    "outcome_of",
    "phases_of",
    "request_detail",
    "request_view",
    "sentence_of",
]

Ended = Literal["ok", "error", "refused", "client_left"]
Outcome = Ended | Literal["in_progress"]


_TINY = 1e-6
_MOST_FULL = 3
_LOADS = {
    "cold": "not in memory",
    "evicts": "not in memory, in place of others",
    "reload": "in memory for other options",
}
_LEAST_SHARE = 0.02
"""The least share of the total that the sentence mentions."""


class RequestView(View):
    """One request of the log. Times are milliseconds from its start; null if unknown.

    `speaker` is the user whose token spoke for `user`, null if it was the user's own.
    """

    id: str
    started_at: float
    user: str | None
    speaker: str | None
    client: str | None
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
    cached_tokens: int | None
    completion_tokens: int | None
    bytes_in: int
    bytes_out: int
    reason: str | None
    error_code: str | None
    error: str | None
    phases: list[PhaseView]


class RequestsView(View):
    """A page of the log, newest first; `next` is the cursor of the following page, null on the last.

    `active` lists matching requests in flight, oldest first, on the first page only, as is `about`: the number of
    matching rows, if the totals have it (for a user, a server, or all, between any two times), else null.
    `searched_back_to` is set if the page ended because 50,000 rows were searched: the following page searches rows that
    began before that time (seconds since 1970).
    """

    active: list[ActiveView]
    requests: list[RequestView]
    next: str | None
    searched_back_to: float | None = None
    about: int | None = None


class ReasonView(View):
    """A reason: a stable code for programs, a text for people."""

    code: str
    text: str


class KeptCandidateView(View):
    """A server as it was at the time of the decision."""

    server: str
    verdict: Literal["chosen", "possible", "refused", "skipped"]
    reasons: list[ReasonView]
    bytes: int | None = None
    memory: str | None = None
    ready_seconds: float | None = None
    done_seconds: float | None = None


class ExpectedSecondsView(View):
    """The seconds expected of the chosen server, from the decision; prefill without savings from a cached prefix."""

    wait_seconds: float
    load_seconds: float
    prefill_seconds: float
    decode_seconds: float


class KeptDecisionView(View):
    """The original decision: its first servers, and counts of the others by reason code."""

    strategy: str
    server: str | None
    reason: str
    candidates: list[KeptCandidateView]
    others: dict[str, int]
    expected: ExpectedSecondsView | None = None


class RequestDetailView(RequestView):
    """One request in full. `decision` is null if none was recorded: the server had the model in memory and was free.

    `expected` has the phases that the decision forecast, `queue` with the queue's forecast; null if no decision was
    recorded, or if another server answered than it chose. `tries` are its attempts, null if earlier ones are missing.
    `changes` lists changes by policy, in words; `dropped` lists parts of its body that were omitted or sent in another
    form; `limits` is what was left of its user's limits, recorded for requests that were refused or have other recorded
    data. `said_seconds` is the forecast range of its wait, from the 200 waits before it; null if fewer than 20 were
    known: then the forecast was `expected_wait_ms`. `reports_phases` is false if the server reported no times of
    loading, reading and writing. A request in flight has `active`, and all fields as they are so far; its `status` is 0
    before the response starts. If another worker has it, decision, attempts, changes and limits are missing.
    """

    sentence: str
    expected: list[PhaseView] | None
    method: str
    streamed: bool
    expected_wait_ms: float | None
    connect_ms: float | None
    load_ms: float | None
    prefill_ms: float | None
    decode_ms: float | None
    context: int | None
    decision: KeptDecisionView | None
    tries: list[TryView] | None
    changes: list[str]
    dropped: list[str]
    limits: dict[str, LimitView]
    said_seconds: tuple[float, float] | None
    reports_phases: bool
    active: ActiveView | None = None


def outcome_of(record: RequestRecord) -> Ended:
    """Return how a request ended for its client."""
    if record.status == 499:
        return "client_left"
    if record.status >= 400 and record.attempts == 0:
        return "refused"
    return "error" if record.status >= 400 or record.error is not None else "ok"


def phases_of(record: RequestRecord) -> list[PhaseView]:
    """List the phases that took any time, in order; they add up to the total."""
    return [PhaseView(name=name, ms=ms) for name, ms in phase_times(record) if ms > _TINY]


def sentence_of(
    record: RequestRecord, expected: Sequence[PhaseView] | None = None, decision: KeptDecisionView | None = None
) -> str:
    """Describe in one sentence what happened to a request, with the forecast if it succeeded.

    If its model was loaded, the decision provides the servers that were full.
    """
    match outcome_of(record):
        case "refused":
            return f"Refused with {record.status}: {record.error or record.error_code or 'no reason was recorded'}."
        case "client_left":
            return f"The client left after {seconds(record.total_ms)}, {_so_far(record)}."
        case "error":
            return f"Failed after {seconds(record.total_ms)}: {record.error or f'status {record.status}'}."
        case "ok":
            parts = ", ".join(_time_spent(record, decision))
            said = f"; expected {seconds(sum(phase.ms for phase in expected))}" if expected else ""
            return f"Took {seconds(record.total_ms)}{f': {parts}' if parts else ''}{said}."


def _expected_of(record: RequestRecord, decision: KeptDecisionView | None) -> list[PhaseView] | None:
    if decision is None or decision.expected is None or record.server != decision.server:
        return None
    told = decision.expected
    parts: dict[PhaseName, float] = {
        "queue": told.wait_seconds * 1000 + (record.expected_wait_ms or 0.0),
        "load": told.load_seconds * 1000,
        "prefill": told.prefill_seconds * 1000,
        "decode": told.decode_seconds * 1000,
    }
    return [PhaseView(name=name, ms=ms) for name, ms in parts.items() if ms > _TINY]


def seconds(ms: float) -> str:
    """Format milliseconds for people."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 10_000 else f"{ms / 1000:.0f} s"


def _so_far(record: RequestRecord) -> str:
    if record.server is None:
        return "before a server was free"
    return "before the first token" if record.ttft_ms is None else f"{seconds(record.ttft_ms)} of them to first token"


def _because(decision: KeptDecisionView | None) -> str:
    """Return why a model was loaded there, from the decision: the server's state, and which others were full."""
    if decision is None:
        return ""
    codes = {reason.code for one in decision.candidates if one.verdict == "chosen" for reason in one.reasons}
    why = [text for code, text in _LOADS.items() if code in codes]
    full = [one.server for one in decision.candidates if one.reasons and one.reasons[0].code == FULL]
    if full:
        more = f" and {len(full) - _MOST_FULL} more" if len(full) > _MOST_FULL else ""
        why.append(f"{', '.join(full[:_MOST_FULL])}{more} {'was' if len(full) == 1 else 'were'} full")
    return f" ({', '.join(why)})" if why else ""


def _time_spent(record: RequestRecord, decision: KeptDecisionView | None) -> Iterator[str]:
    model = record.model_served or record.model_asked or "the model"
    for phase in phases_of(record):
        if phase.ms < _LEAST_SHARE * record.total_ms:
            continue
        time = seconds(phase.ms)
        match phase.name:
            case "queue":
                yield f"{time} waiting for a server"
            case "connect":
                yield f"{time} until {record.server} was reached"
            case "load":
                yield f"{time} loading {model} on {record.server}{_because(decision)}"
            case "prefill":
                count = f" {amount(record.prompt_tokens, 'token')}" if record.prompt_tokens else " the prompt"
                yield f"{time} reading{count}"
            case "decode":
                count = f" {amount(record.completion_tokens, 'token')}" if record.completion_tokens else ""
                yield f"{time} writing{count}"
            case "unexplained":
                yield f"{time} of which {record.server or 'nobody'} reported nothing"


def request_view(record: RequestRecord) -> RequestView:
    """Return one row of a list."""
    return RequestView.from_object(record, outcome=outcome_of(record), phases=phases_of(record))


def request_detail(record: RequestRecord) -> RequestDetailView:
    """Return one request in full."""
    kept = {} if record.decision is None else msgspec.json.decode(record.decision)
    course = CourseView(**{name: kept.pop(name) for name in CourseView.model_fields if name in kept})
    decision = KeptDecisionView(**kept) if kept else None
    expected, phases = _expected_of(record, decision), phases_of(record)
    return RequestDetailView.from_object(
        record,
        outcome=outcome_of(record),
        phases=phases,
        sentence=sentence_of(record, expected, decision),
        expected=expected,
        context=record.num_ctx,
        decision=decision,
        tries=tries_of(record, course.attempts, phases),
        changes=course.changes,
        dropped=course.dropped,
        limits=course.limits,
        said_seconds=course.said_seconds,
        reports_phases=any(ms is not None for ms in (record.load_ms, record.prefill_ms, record.decode_ms)),
        active=None,
    )
