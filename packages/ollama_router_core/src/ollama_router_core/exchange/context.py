"""What is known about one request while it is served, and the record it leaves."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from ollama_router_core.access.limits import Standing, limit_headers
from ollama_router_core.api.endpoint_matching import family_of_path
from ollama_router_core.api.endpoints import Endpoint, Family
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.errors import RouterError, SelectionError
from ollama_router_core.exchange.course import Attempt, Course, attempt_of, kept_course
from ollama_router_core.exchange.events import Caller, Headers, Reservation
from ollama_router_core.fleet.stalls import Progress, Wait, Watched
from ollama_router_core.records.costs import NO_COSTS, Costs
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.records.user_text import shown, shown_within
from ollama_router_core.responses.token_counts import NO_TOKENS, TokenCounts, count_tokens, estimate_unseen
from ollama_router_core.responses.usage import Usage, UsageReader
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.forwarding import Outcome
from ollama_router_core.routing.kept_decisions import kept_decision
from ollama_router_core.translate import ReplyIdentity

__all__ = ["Observer", "RequestContext"]


class Observer(Protocol):
    """Watches one exchange, for traces."""

    def sending(self, context: RequestContext, server: str) -> tuple[tuple[bytes, bytes], ...]:
        """Note that a server is tried; return header fields for it."""

    def answered(self, status: int) -> None:
        """Note the head of its answer."""

    def failed(self, code: str) -> None:
        """Note that it could not be reached, or broke off."""

    def ended(self, context: RequestContext, now: float) -> None:
        """Note the end of the exchange."""


class RequestContext(Struct, eq=False, kw_only=True):
    """The state of one request; `started` and the other moments are seconds of the monotonic clock.

    Attributes:
        id: of the request.
        method: its method.
        path: as sent, without query: for the endpoint table only, never for logs.
        query: likewise.
        headers: its fields.
        address: the client's, None if it is not known.
        started: when it came.
        started_at: the same in seconds since 1970.
        asked: the model's name as the client wrote it, where policy changed it.
        fallback: the model that stands in.
        changes: what policy changed, in words.
        preempted: the servers that it was taken off before its answer began, for an interactive request.
        in_vain: its attempts that led to no answer.
        dropped: what of the body was left out, dotted names.
        changed: what of it the last server got otherwise, for its dialect or its profile.
        speaker: the user whose token it is, where that asks for the person who is the `user` then.
        keeps_answer: the answer is kept for the user, who goes on from `previous_response`.
        origin_fields: what the answer says to the browser of a page elsewhere.
        conversation: identifies the conversation that this is a turn of, where the strategy asks for it.
        decided: when a server was chosen.
        reached: when there was a connection to the server that answered.
        kept_decision: the decision as JSON, where somebody may ask for it later.
        first_byte: when the first byte of an answer came.
        last_wait: where it was sent last, when, and beside what.
        head_written: the answer has begun; its status and fields stand.
        framed: the answer has a declared length, so nothing can be added to it.
        heartbeat: seconds between two signs of life that its way in asks for; None for those of the config.
        kept_alive: it began with a heartbeat, before the server's head was there.
        finished: the answer is complete.
    """

    id: str
    method: str
    path: str
    headers: Headers
    started: float
    started_at: float
    query: bytes = b""
    address: str | None = None
    user: Caller | None = None
    speaker: Caller | None = None
    keeps_answer: bool = False
    previous_response: str | None = None
    endpoint: Endpoint | None = None
    route: RouteRequest | None = None
    decision: Decision | None = None
    decided: float | None = None
    reached: float | None = None
    kept_decision: str | None = None
    conversation: int | None = None
    queue_position: int | None = None
    expected_wait_ms: float | None = None
    asked: str | None = None
    fallback: str | None = None
    changes: tuple[str, ...] = ()
    preempted: tuple[str, ...] = ()
    in_vain: tuple[Attempt, ...] = ()
    dropped: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    origin_fields: tuple[tuple[bytes, bytes], ...] = ()
    first_byte: float | None = None
    last_wait: Wait | None = None
    server: str | None = None
    attempts: int = 0
    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    usage: UsageReader | None = None
    error: RouterError | None = None
    standing: Standing | None = None
    reservation: Reservation | None = None
    charging: bool = False
    observer: Observer | None = None
    head_written: bool = False
    framed: bool = False
    heartbeat: float | None = None
    kept_alive: bool = False
    finished: bool = False

    def __repr__(self) -> str:
        return f"RequestContext({self.id})"

    def header(self, name: bytes) -> str | None:
        """Return a request field's value, several joined by commas; None when it is absent."""
        values = [value.decode("latin-1") for field, value in self.headers if field == name]
        return ",".join(values) if values else None

    @property
    def user_id(self) -> int | None:
        """The user's id, None where nobody is asked who they are."""
        return None if self.user is None else self.user.id

    @property
    def family(self) -> Family:
        """The dialect of its errors."""
        return family_of_path(self.path)

    @property
    def reason(self) -> str | None:
        """Why the server got the request, what policy changed, where it was preempted; None where nothing is to say."""
        text = "" if self.decision is None else self.decision.reason
        if self.changes or self.preempted:
            before = *self.changes, *(f"preempted on {server}" for server in self.preempted)
            text = "; ".join((*before, text)) if text else "; ".join(before)
        return shown_within(text, self._model_asked) or None

    @property
    def _model_asked(self) -> str | None:
        return self.asked or (None if self.route is None else self.route.model_text)

    @property
    def model_shown(self) -> str | None:
        """The model's name as the client wrote it, for people: rows and traces."""
        name = self._model_asked
        return None if name is None else shown(name)

    @property
    def identity(self) -> ReplyIdentity:
        """What a translated answer says about itself."""
        model = None if self.route is None else self.route.model_text
        return ReplyIdentity(model=model or "", id=self.id, created_ns=int(self.started_at * 1e9))

    @property
    def watched(self) -> Watched | None:
        """What it tells of its runner: the wait for a first byte where it was sent last, or how far the answer is."""
        if self.first_byte is None:
            return self.last_wait
        if self.usage is None or self.server is None or self.route is None or self.route.model is None:
            return None
        return Progress(self.server, self.route.model, self.id, self.usage.pieces)

    def elapsed_ns(self, now: float) -> int:
        """Nanoseconds since the request came."""
        return int((now - self.started) * 1e9)

    def tried_in_vain(self, server: str, outcome: Outcome, now: float) -> None:
        """Note an attempt that led to no answer."""
        self.in_vain = (*self.in_vain, attempt_of(server, outcome, *self._attempt_ms(now)))

    def left_server(self, server: str, now: float) -> None:
        """Note that it was preempted: it is on no server until it has another slot."""
        if self.server is not None:
            self.in_vain = (*self.in_vain, Attempt(self.server, *self._attempt_ms(now), "preempted"))
        self.preempted = (*self.preempted, server)
        self.server = self.decided = self.last_wait = None

    def router_fields(self) -> list[tuple[bytes, bytes]]:
        """Build the fields of an answer that say what the router did."""
        fields = [(b"x-router-request-id", self.id.encode())]
        if self.attempts:
            fields.append((b"x-router-attempts", b"%d" % self.attempts))
        if self.queue_position:
            fields.append((b"x-router-queue-position", b"%d" % self.queue_position))
        if self.origin_fields:
            fields += self.origin_fields
        if self.dropped or self.changed:
            fields.append((b"x-router-dropped", ", ".join((*self.dropped, *self.changed)).encode("ascii")))
        if self.fallback is not None:
            fields.append((b"x-router-fallback", self.fallback.encode("ascii", "replace")))
        if self.standing is not None:
            fields += [(name.encode(), value.encode()) for name, value in limit_headers(self.standing)]
        return fields

    @property
    def speaker_name(self) -> str | None:
        """Whose token asks for the user; None where that asks for itself."""
        return None if self.speaker is None or self.speaker is self.user else self.speaker.name

    @property
    def tokens(self) -> TokenCounts:
        """What the answer took, as far as it came."""
        if self.route is None or self.endpoint is None:
            return NO_TOKENS
        if self.usage is not None:
            return count_tokens(self.usage, self.endpoint, self.route)
        unseen = self.attempts > 0 and not self.head_written and self.error is None
        return estimate_unseen(self.endpoint, self.route) if unseen else NO_TOKENS

    def record(self, now: float, costs: Costs = NO_COSTS) -> RequestRecord:
        """Build the row for the log, at the moment the exchange ends."""
        usage = self.usage.usage if self.usage else Usage()
        tokens = self.tokens
        route = self.route or RouteRequest()
        return RequestRecord(
            id=self.id,
            started_at=self.started_at,
            user=self.user.name if self.user else None,
            speaker=self.speaker_name,
            client=self.address,
            method=self.method,
            path=self.endpoint.path if self.endpoint else "(unknown)",
            model_asked=self.model_shown,
            model_served=shown(route.model) if self.server and route.model is not None else None,
            server=self.server,
            status=self.status,
            attempts=self.attempts,
            streamed=route.stream,
            queue_ms=self._since_start(self.decided),
            queue_position=self.queue_position,
            expected_wait_ms=self.expected_wait_ms,
            connect_ms=self._connect_ms,
            ttft_ms=self._since_start(self.first_byte),
            total_ms=(now - self.started) * 1000,
            load_ms=_ms(usage.load_duration),
            prefill_ms=_ms(usage.prompt_eval_duration),
            decode_ms=_ms(usage.eval_duration),
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            tokens_estimated=tokens.estimated,
            gpu_ms=costs.gpu_ms,
            cost_micros=costs.cost_micros,
            num_ctx=route.num_ctx,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            reason=self.reason,
            error_code=self.error.code if self.error else None,
            error=shown_within(self.error.message, self._model_asked) if self.error else None,
            decision=self._kept(),
        )

    @property
    def _connect_ms(self) -> float | None:
        return None if self.decided is None or self.reached is None else (self.reached - self.decided) * 1000

    def _attempt_ms(self, now: float) -> tuple[float, float]:
        """When the attempt that ends now began, and now: an attempt begins with a slot, or where another ended."""
        decided = self._since_start(self.decided) or 0.0
        before = self.in_vain[-1].end_ms if self.in_vain else 0.0
        return max(decided, before), (now - self.started) * 1000

    def _kept(self) -> str | None:
        """Return what is kept of its way: the decision, and beside it what was not as usual."""
        decision = self._decision_kept()
        dropped = (*self.dropped, *self.changed)
        refused = self.error is not None and self.attempts == 0
        if decision is None and not (self.in_vain or self.changes or dropped or refused):
            return None
        return kept_course(Course(self.in_vain, self.changes, dropped, self.standing), decision)

    def _decision_kept(self) -> str | None:
        """Return the decision of a request that failed for it, was sent on or waited; else what was kept before."""
        decision = self.decision
        if self.kept_decision is not None or decision is None:
            return self.kept_decision
        is_told = self.attempts > 1 or self.queue_position is not None or isinstance(self.error, SelectionError)
        return kept_decision(decision) if is_told else None

    def _since_start(self, moment: float | None) -> float | None:
        return None if moment is None else (moment - self.started) * 1000


def _ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e6
