"""Past and present requests as people see them: what happened, where the time went, and a sentence about it."""

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
_TOLD = 0.02
"""Parts below this share of the total are left out of the sentence."""


class RequestView(View):
    """One request of the log. Times are milliseconds from its start; null where nobody told.

    `speaker` is the user whose token asked for the `user`, null where that asked for itself.
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
    """A page of the log, newest first; `next` is the cursor of the page after it, null on the last.

    `active` are the requests in progress that the filter lets through, the oldest first, on the first page alone.
    So is `about`: how many rows of the log the filter lets through, where that is known without reading them: of a user
    or a server, or of all, between any two moments; null elsewhere.
    `searched_back_to` is not null where the page ends because 50,000 rows were looked at: what began before that moment
    (seconds since 1970) is looked at by the next page.
    """

    active: list[ActiveView]
    requests: list[RequestView]
    next: str | None
    searched_back_to: float | None = None
    about: int | None = None


class ReasonView(View):
    """Why: a stable code for programs, a text for people."""

    code: str
    text: str


class KeptCandidateView(View):
    """A server as it was when the decision was made."""

    server: str
    verdict: Literal["chosen", "possible", "refused", "skipped"]
    reasons: list[ReasonView]
    bytes: int | None = None
    memory: str | None = None
    ready_seconds: float | None = None
    done_seconds: float | None = None


class ExpectedSecondsView(View):
    """What the chosen server was expected to take from the decision on; reading without what a held prefix saves."""

    wait_seconds: float
    load_seconds: float
    prefill_seconds: float
    decode_seconds: float


class KeptDecisionView(View):
    """The original decision: its first servers, and how many others had which reason, by its code."""

    strategy: str
    server: str | None
    reason: str
    candidates: list[KeptCandidateView]
    others: dict[str, int]
    expected: ExpectedSecondsView | None = None


class RequestDetailView(RequestView):
    """One request whole. `decision` is null where none was kept: the server had the model in memory and was free.

    `expected` are the parts that the decision expected, `queue` with what was said about the line; null where no
    decision was kept, or another server answered than it chose. `tries` are its attempts, null where those before the
    last were not kept. `changes` are what policy changed, in words; `dropped` what of its body was left out or sent
    otherwise; `limits` what was left of its user's, where that was kept: of requests that were refused, or of which
    something else is told. `said_seconds` are between which its wait was to end by the 200 waits before it, null where
    fewer than 20 were known: then it was about `expected_wait_ms`. `reports_phases` is false where the server told
    nothing of loading, reading and writing. Of a request in progress, which has `active`, all is as it is so far, and
    `status` 0 before its answer has begun; one that another worker has is told without its decision, attempts, changes
    and limits.
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
    """How a request ended, for its client."""
    if record.status == 499:
        return "client_left"
    if record.status >= 400 and record.attempts == 0:
        return "refused"
    return "error" if record.status >= 400 or record.error is not None else "ok"


def phases_of(record: RequestRecord) -> list[PhaseView]:
    """List the phases of a request that took any time, in their order; they add up to its total."""
    return [PhaseView(name=name, ms=ms) for name, ms in phase_times(record) if ms > _TINY]


def sentence_of(
    record: RequestRecord, expected: Sequence[PhaseView] | None = None, decision: KeptDecisionView | None = None
) -> str:
    """Say what happened to a request, in one sentence; of an answer also how long it was expected to take.

    Where its model was loaded, the decision tells which servers were full.
    """
    match outcome_of(record):
        case "refused":
            return f"Refused with {record.status}: {record.error or record.error_code or 'no reason was recorded'}."
        case "client_left":
            return f"The client left after {seconds(record.total_ms)}, {_so_far(record)}."
        case "error":
            return f"Failed after {seconds(record.total_ms)}: {record.error or f'status {record.status}'}."
        case "ok":
            parts = ", ".join(_told(record, decision))
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
    """Milliseconds as people say them."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 10_000 else f"{ms / 1000:.0f} s"


def _so_far(record: RequestRecord) -> str:
    if record.server is None:
        return "before a server was free"
    return "before the first token" if record.ttft_ms is None else f"{seconds(record.ttft_ms)} of them to first token"


def _because(decision: KeptDecisionView | None) -> str:
    """Why a model was loaded there, as the decision has it: how far the server was, and which others were full."""
    if decision is None:
        return ""
    codes = {reason.code for one in decision.candidates if one.verdict == "chosen" for reason in one.reasons}
    why = [text for code, text in _LOADS.items() if code in codes]
    full = [one.server for one in decision.candidates if one.reasons and one.reasons[0].code == FULL]
    if full:
        more = f" and {len(full) - _MOST_FULL} more" if len(full) > _MOST_FULL else ""
        why.append(f"{', '.join(full[:_MOST_FULL])}{more} {'was' if len(full) == 1 else 'were'} full")
    return f" ({', '.join(why)})" if why else ""


def _told(record: RequestRecord, decision: KeptDecisionView | None) -> Iterator[str]:
    model = record.model_served or record.model_asked or "the model"
    for phase in phases_of(record):
        if phase.ms < _TOLD * record.total_ms:
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
    """One row of a list."""
    return RequestView.from_object(record, outcome=outcome_of(record), phases=phases_of(record))


def request_detail(record: RequestRecord) -> RequestDetailView:
    """One request whole."""
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
