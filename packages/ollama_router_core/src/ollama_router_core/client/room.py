"""What one transport consists of beside its I/O, and one request on its way through it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from ollama_router_core.admission import Ticket
from ollama_router_core.api.endpoints import Family, Kind
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.client.fleet_book import FleetBook
from ollama_router_core.client.messages import Incoming
from ollama_router_core.client.questions import Questions
from ollama_router_core.client.system import Clock, SystemClock, read_text, request_ids
from ollama_router_core.client.waiting import WaitingLine
from ollama_router_core.config.settings import Config, parse_size
from ollama_router_core.errors import RouterError
from ollama_router_core.fleet.breaker import counts_as_failure
from ollama_router_core.fleet.traffic import sample_of
from ollama_router_core.outbound.destinations import Destination, build_destinations
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.records.sinks import LogSink
from ollama_router_core.responses.usage import Usage, UsageReader
from ollama_router_core.routing.decision import Decision
from ollama_router_core.translate import Stamp

__all__ = ["Account", "Room"]

_LEFT = 499


class Room:
    """The shared half of both transports.

    Attributes:
        max_body: bytes.
        reads_usage: whether somebody wants to know tokens and timings.
    """

    def __init__(
        self,
        config: Config,
        *,
        environment: Mapping[str, str],
        sink: LogSink | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.places: Mapping[str, Destination] = build_destinations(config, environment, read_text)
        self.book = FleetBook(config, self.clock)
        self.line = WaitingLine(config, self.book, self.clock)
        self.questions = Questions(config, self.places, self.book, self.clock)
        self.sink = sink
        self.max_body = parse_size(config.limits.max_body)
        self.reads_usage = sink is not None or config.routing_strategy == "fastest"
        self.ids = request_ids()

    def begin(self, incoming: Incoming) -> Account:
        """A program's request begins."""
        return Account(self, incoming, self.ids(), self.clock.monotonic(), self.clock.wall())


class Account(Struct):
    """One request from its start to its end; `end` counts once, whoever says it first."""

    _room: Room
    incoming: Incoming
    id: str
    started: float
    started_at: float
    ended: bool = False
    _holds: str | None = None
    _holds_for: CanonicalName | None = None
    _bound: str | None = None
    ticket: Ticket | None = None
    position: int | None = None
    expected_wait: float | None = None
    family: Family = Family.OLLAMA
    request: ParsedRequest | None = None
    decision: Decision | None = None
    decided_at: float | None = None
    answered_at: float | None = None
    server: str | None = None
    attempts: int = 0
    retries: int = 0
    loads: bool = False
    status: int = 0
    bytes_out: int = 0
    usage: UsageReader | None = None
    error: RouterError | None = None
    fallback: str | None = None

    def __repr__(self) -> str:
        return f"Account({self.id})"

    @property
    def stamp(self) -> Stamp:
        """What a translated answer says about itself."""
        model = self.request.route.model_text if self.request is not None else None
        return Stamp(model=model or "", id=self.id, created_ns=int(self.started_at * 1e9))

    def elapsed_ns(self) -> int:
        """Nanoseconds since the request began."""
        return int((self._room.clock.monotonic() - self.started) * 1e9)

    def take(self, server: str, model: CanonicalName | None) -> None:
        """The request is being sent to a server, which counts it as in flight."""
        self.server = self._holds = server
        if self.ticket is not None and self._bound != server:
            self._room.line.moved(self.ticket, server)
            self._bound = server
        self._holds_for = model
        self._room.book.begin(server, model)

    def goes(self, ticket: Ticket, server: str) -> None:
        """The line let the request go to a server."""
        self.ticket, self._bound = ticket, server

    def drop(self, status: int | None = None) -> None:
        """The server last taken has nothing to do with the request any more; `status` is what it answered."""
        holds = self._holds
        if holds is not None:
            book = self._room.book
            if status is not None and counts_as_failure(status):
                book.failed(holds)
            elif status is not None:
                book.succeeded(holds)
            book.end(holds, self._holds_for)
            self._holds = None

    def watch(self, family: Family, *, streamed: bool) -> None:
        """Read tokens and timings out of the answer, if anybody wants to know them."""
        if self._room.reads_usage:
            self.usage = UsageReader(family, streamed=streamed)

    def note(self, piece: bytes) -> None:
        """A piece of the server's answer came."""
        if self.answered_at is None:
            self.answered_at = self._room.clock.monotonic()
        if self.usage is not None:
            self.usage.feed(piece)

    def end(self, error: RouterError | None = None, *, left: bool = False) -> None:
        """The request is over: free its place, tell the breaker, leave the record."""
        if self.ended:
            return
        self.ended = True
        room, request, server = self._room, self.request, self._holds
        if error is not None and self.error is None:
            self.error = error
        self._tell_breaker(left=left)
        if server is not None:
            self._holds = None
            room.book.end(server, self._holds_for)
        if self.ticket is not None:
            room.line.leave(self.ticket)
        room.book.give_retries_back(self.retries)
        if request is not None and request.endpoint.kind is Kind.MANAGE and self.server is not None:
            room.book.lists_changed(self.server.split(", "))
        self._tell_others(left=left)

    def _tell_others(self, *, left: bool) -> None:
        """What the answer said goes to whoever learns from it, and the record to the sink."""
        usage = None if self.usage is None else self.usage.usage
        if usage is not None and usage.finished:
            self._learn(usage)
        sink = self._room.sink
        if sink is not None:
            sink.write(self._record(usage or Usage(), _LEFT if left else self.status))

    def _tell_breaker(self, *, left: bool) -> None:
        if self._holds is None:
            return
        if self.error is not None or counts_as_failure(self.status):
            self._room.book.failed(self._holds)
        elif left and not self.status:
            self._room.book.abandoned(self._holds)
        else:
            self._room.book.succeeded(self._holds)

    def _learn(self, usage: Usage) -> None:
        if self.request is None or self.request.route.model is None or self.server is None:
            return
        sample = sample_of(usage, loaded=self.loads)
        if sample is not None:
            self._room.book.learn(self.server, self.request.route.model, sample)

    def _record(self, usage: Usage, status: int) -> RequestRecord:
        request = self.request
        route = request.route if request is not None else None
        return RequestRecord(
            id=self.id,
            started_at=self.started_at,
            user=None,
            client=None,
            method=self.incoming.method,
            path=request.endpoint.path if request is not None else "(unknown)",
            model_asked=route.model_text if route is not None else None,
            model_served=route.model if route is not None and self.server else None,
            server=self.server,
            status=status,
            attempts=self.attempts,
            streamed=route is not None and route.stream,
            queue_ms=self._since_start(self.decided_at),
            queue_position=self.position,
            expected_wait_ms=None if self.expected_wait is None else self.expected_wait * 1000,
            ttft_ms=self._since_start(self.answered_at),
            total_ms=(self._room.clock.monotonic() - self.started) * 1000,
            load_ms=None if usage.load_duration is None else usage.load_duration / 1e6,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            num_ctx=route.num_ctx if route is not None else None,
            bytes_in=len(self.incoming.body),
            bytes_out=self.bytes_out,
            reason=self.decision.reason if self.decision is not None else None,
            error_code=self.error.code if self.error is not None else None,
            error=self.error.message if self.error is not None else None,
        )

    def _since_start(self, moment: float | None) -> float | None:
        return None if moment is None else (moment - self.started) * 1000
