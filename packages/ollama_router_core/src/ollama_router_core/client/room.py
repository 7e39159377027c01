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
from ollama_router_core.errors import RouterError, UpstreamError
from ollama_router_core.fleet.health import BreakerPermit
from ollama_router_core.fleet.traffic import sample_of
from ollama_router_core.outbound.destinations import Destination, build_destinations
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.records.sinks import LogSink
from ollama_router_core.responses.usage import Usage, UsageReader
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.translate import ReplyIdentity

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
        self.reads_usage = sink is not None or STRATEGIES[config.routing_strategy].needs_usage
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
    _permit: BreakerPermit | None = None
    _model: CanonicalName | None = None
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
    running: int = 0
    status: int = 0
    bytes_out: int = 0
    usage: UsageReader | None = None
    error: RouterError | None = None
    fallback: str | None = None

    def __repr__(self) -> str:
        return f"Account({self.id})"

    @property
    def stamp(self) -> ReplyIdentity:
        """What a translated answer says about itself."""
        model = self.request.route.model_text if self.request is not None else None
        return ReplyIdentity(model=model or "", id=self.id, created_ns=int(self.started_at * 1e9))

    def elapsed_ns(self) -> int:
        """Nanoseconds since the request began."""
        return int((self._room.clock.monotonic() - self.started) * 1e9)

    @property
    def is_assigned(self) -> bool:
        """Whether the config, not the fleet's state, chose the server."""
        return self.decision is not None and self.decision.strategy == "explicit_assignment"

    def take(self, permit: BreakerPermit, model: CanonicalName | None, num_ctx: int | None) -> None:
        """The request is being sent to a server, which needs `model` in memory for it."""
        server, book = permit.server, self._room.book
        self._permit, self._model, self.server = permit, model, server
        if self.ticket is not None and self._bound != server:
            self._room.line.moved(self.ticket, server)
            self._bound = server
        book.begin(server, model)
        self.loads = model is not None and book.sent(server, model, num_ctx)
        self.running = book.state.running(server)

    def answered(self, status: int) -> None:
        """The head of a server's answer came."""
        self.status = status
        if self._permit is not None:
            self._room.book.answered(self._permit, status)

    def goes(self, ticket: Ticket, server: str) -> None:
        """The line let the request go to a server."""
        self.ticket, self._bound = ticket, server

    def drop(self, *, refused: bool = False) -> None:
        """The server last taken has nothing to do with the request any more; it may have `refused` the connection."""
        permit, self._permit = self._permit, None
        if permit is not None:
            book = self._room.book
            if refused:
                book.failed(permit, refused=True)
            book.left(permit)
            book.end(permit.server, self._model)

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
        room, request = self._room, self.request
        if error is not None and self.error is None:
            self.error = error
        if self._permit is not None:
            self._tell_breaker(self._permit, left=left)
            self.running += room.book.state.running(self._permit.server)
        self.drop()
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

    def _tell_breaker(self, permit: BreakerPermit, *, left: bool) -> None:
        if isinstance(self.error, UpstreamError):
            self._room.book.failed(permit)
        elif self.error is None and not left:
            self._room.book.done(permit)

    def _learn(self, usage: Usage) -> None:
        if self.request is None or self.request.route.model is None or self.server is None:
            return
        sample = sample_of(usage, loaded=self.loads, neighbours=self.running / 2 - 1)
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
