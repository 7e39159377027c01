"""The state of one request while it is served, and its log record."""

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
    """Observes one exchange, for traces."""

    def sending(self, context: RequestContext, server: str) -> tuple[tuple[bytes, bytes], ...]:
        """Record an attempt; return header fields for the server."""

    def answered(self, status: int) -> None:
        """Record the response head of the attempt."""

    def failed(self, code: str) -> None:
        """Record a failed attempt: no connection, or a broken response."""

    def ended(self, context: RequestContext, now: float) -> None:
        """Record the end of the exchange."""


class RequestContext(Struct, eq=False, kw_only=True):
    """The state of one request; `started` and the other times are seconds of the monotonic clock.

    Attributes:
        id: the request id.
        method: the HTTP method.
        path: the path as sent, without query; for the endpoint table only, never for logs.
        query: the query string; never for logs either.
        headers: the request's header fields.
        address: the client's address, None if unknown.
        started: when the request arrived.
        started_at: the same in seconds since 1970.
        asked: the model's name as the client wrote it, if policy changed it.
        fallback: the fallback model that serves the request.
        changes: policy changes, as text.
        preempted: the servers that the request had to leave before its response began, for an interactive request.
        failed_attempts: failed attempts.
        dropped: members removed from the body, as dotted names.
        changed: members changed for the dialect or profile of the last server.
        speaker: the owner of the token, if it may ask on behalf of others; `user` is then that person.
        keeps_answer: whether the response is stored for the user; `previous_response` is the id it continues.
        origin_fields: CORS fields of the response.
        conversation: identifies the conversation of this turn, if the strategy uses it.
        decided: when a server was chosen.
        reached: when the connection to the answering server was open.
        kept_decision: the decision as JSON, if it is logged.
        first_byte: when the first byte of a response arrived.
        last_wait: the last attempt: server, time, and the requests in flight beside it.
        head_written: whether the response head is written; status and fields are final.
        framed: whether the response has a declared length, so that nothing can be appended.
        heartbeat: heartbeat interval in seconds, set by the caller of the ASGI app; None for the config's.
        kept_alive: whether a heartbeat wrote the head before the server's head arrived.
        finished: whether the response is complete.
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
    failed_attempts: tuple[Attempt, ...] = ()
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
        """Return a header field's value, repeated fields joined by commas; None when it is absent."""
        values = [value.decode("latin-1") for field, value in self.headers if field == name]
        return ",".join(values) if values else None

    @property
    def user_id(self) -> int | None:
        """The user's id, None without authentication."""
        return None if self.user is None else self.user.id

    @property
    def family(self) -> Family:
        """The dialect of the error responses."""
        return family_of_path(self.path)

    @property
    def reason(self) -> str | None:
        """The routing reason, policy changes and preemptions, as text; None if there are none."""
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
        """The model, id and creation time of a translated response."""
        model = None if self.route is None else self.route.model_text
        return ReplyIdentity(model=model or "", id=self.id, created_ns=int(self.started_at * 1e9))

    @property
    def watched(self) -> Watched | None:
        """What the request shows of its runner: the wait for a first byte, or the progress of the response."""
        if self.first_byte is None:
            return self.last_wait
        if self.usage is None or self.server is None or self.route is None or self.route.model is None:
            return None
        return Progress(self.server, self.route.model, self.id, self.usage.pieces)

    def elapsed_ns(self, now: float) -> int:
        """Return the nanoseconds since the request arrived."""
        return int((now - self.started) * 1e9)

    def attempt_failed(self, server: str, outcome: Outcome, now: float) -> None:
        """Record a failed attempt."""
        self.failed_attempts = (*self.failed_attempts, attempt_of(server, outcome, *self._attempt_ms(now)))

    def left_server(self, server: str, now: float) -> None:
        """Record a preemption: the request is on no server until it gets another slot."""
        if self.server is not None:
            self.failed_attempts = (*self.failed_attempts, Attempt(self.server, *self._attempt_ms(now), "preempted"))
        self.preempted = (*self.preempted, server)
        self.server = self.decided = self.last_wait = None

    def router_fields(self) -> list[tuple[bytes, bytes]]:
        """Build the `X-Router-*`, CORS and rate limit fields of the response."""
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
        """The name of the token's owner, if the request is on behalf of another user; else None."""
        return None if self.speaker is None or self.speaker is self.user else self.speaker.name

    @property
    def tokens(self) -> TokenCounts:
        """Tokens of the request so far."""
        if self.route is None or self.endpoint is None:
            return NO_TOKENS
        if self.usage is not None:
            return count_tokens(self.usage, self.endpoint, self.route)
        unseen = self.attempts > 0 and not self.head_written and self.error is None
        return estimate_unseen(self.endpoint, self.route) if unseen else NO_TOKENS

    def record(self, now: float, costs: Costs = NO_COSTS) -> RequestRecord:
        """Build the log row at the end of the exchange."""
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
            decision=self._course_json(),
        )

    @property
    def _connect_ms(self) -> float | None:
        return None if self.decided is None or self.reached is None else (self.reached - self.decided) * 1000

    def _attempt_ms(self, now: float) -> tuple[float, float]:
        """Return start and end of the current attempt in ms; it starts with the slot or after the previous attempt."""
        decided = self._since_start(self.decided) or 0.0
        before = self.failed_attempts[-1].end_ms if self.failed_attempts else 0.0
        return max(decided, before), (now - self.started) * 1000

    def _course_json(self) -> str | None:
        """Return the logged decision and course as JSON; None for an uneventful request."""
        decision = self._decision_json()
        dropped = (*self.dropped, *self.changed)
        refused = self.error is not None and self.attempts == 0
        if decision is None and not (self.failed_attempts or self.changes or dropped or refused):
            return None
        return kept_course(Course(self.failed_attempts, self.changes, dropped, self.standing), decision)

    def _decision_json(self) -> str | None:
        """Return the decision as JSON if it failed, or the request was retried or queued; else the one kept earlier."""
        decision = self.decision
        if self.kept_decision is not None or decision is None:
            return self.kept_decision
        is_notable = self.attempts > 1 or self.queue_position is not None or isinstance(self.error, SelectionError)
        return kept_decision(decision) if is_notable else None

    def _since_start(self, moment: float | None) -> float | None:
        return None if moment is None else (moment - self.started) * 1000


def _ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e6
