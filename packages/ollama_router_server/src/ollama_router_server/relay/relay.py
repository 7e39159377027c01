"""The way of a request, from its head to its row in the log: the steps and their order."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import structlog

from ollama_router_core.access.trusted_proxies import Proxies
from ollama_router_core.api.endpoints import Body, Family, Match, Routing, family_of_path, match_endpoint
from ollama_router_core.api.ollama_errors import SERVER_BUSY
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.config.settings import Config, parse_size
from ollama_router_core.errors import ModelNotFound, Overloaded, RouterError, SelectionError
from ollama_router_core.outbound.external_routes import EXTERNAL, PREFIX
from ollama_router_core.records.sinks import LogSink
from ollama_router_core.routing.selector import assigned_destination
from ollama_router_server.accounts.authentication import Authenticator
from ollama_router_server.accounts.usage_limits import UsageLimits
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.http.cycle import FRONT
from ollama_router_server.relay.access import (
    LiveExchanges,
    check_granted_model,
    check_hosted,
    check_route,
    count,
    settle,
)
from ollama_router_server.relay.active_requests import tell_under_way
from ollama_router_server.relay.admitting import AdmissionController, ServerSlot
from ollama_router_server.relay.answers import answer_whole
from ollama_router_server.relay.bodies import read_body
from ollama_router_server.relay.client import Client, ClientGone, Receive, Send
from ollama_router_server.relay.delivery import deliver, deliver_late_error
from ollama_router_server.relay.dispatch import Dispatch
from ollama_router_server.relay.error_responses import answer_error
from ollama_router_server.relay.exchange import Exchange, Headers
from ollama_router_server.relay.external import ExternalPass
from ollama_router_server.relay.fan_out import Gathering
from ollama_router_server.relay.fast_path import FastPath
from ollama_router_server.relay.feedback import note_answered
from ollama_router_server.relay.forwarder import Forwarder, Tried
from ollama_router_server.relay.keepalive import StreamHeartbeat
from ollama_router_server.relay.model_homes import Homes, LastHomes
from ollama_router_server.relay.model_owners import Holders
from ollama_router_server.relay.policy import Policy
from ollama_router_server.relay.translating import answer_in_place, deliver_translated
from ollama_router_server.storage.users import User
from ollama_router_server.system import Clock, new_request_id
from ollama_router_server.telemetry.metrics import Metrics
from ollama_router_server.telemetry.traces import Traces
from ollama_router_server.upstream.interface import ListeningUpstream
from ollama_router_server.upstream.targets import Target

__all__ = ["RelayApp", "RelayDeps"]

_log = structlog.get_logger("relay")
_CLIENT_LEFT = 499
_TELL_EVERY = 1.0
_ROOT = b"Ollama is running"
_NO_EXTENSIONS: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayDeps:
    """What the relay is wired to."""

    config: Config
    targets: Mapping[str, Target]
    upstream: ListeningUpstream
    fleet: FleetService
    admitting: AdmissionController
    authenticator: Authenticator
    ledger: UsageLimits
    sink: LogSink
    clock: Clock
    metrics: Metrics
    traces: Traces | None
    proxies: Proxies


class RelayApp:
    """The ASGI application for API routes."""

    def __init__(self, deps: RelayDeps) -> None:
        self._in_flight = 0
        self._turned_away = 0
        self._told_at = -math.inf
        self._live = LiveExchanges(deps.authenticator)
        self._last_homes: LastHomes = LastHomes()
        self.fast_path = FastPath(self, self._live)
        self.reconfigure(deps)

    def reconfigure(self, deps: RelayDeps) -> None:
        """Go by another config from now on. Exchanges under way take what is left of their steps from it.

        `deps.targets` must still hold every place that it ever held.
        """
        config = deps.config
        self._deps = deps
        self._max_body = parse_size(config.limits.max_body)
        self._gathering = Gathering(config, deps.targets, deps.upstream, deps.fleet, deps.clock)
        dispatch = Dispatch(config, deps.targets, deps.upstream)
        self._holders = Holders(config, deps.fleet, dispatch, self._gathering, deps.clock)
        self._homes = Homes(config, deps.fleet, dispatch, self._gathering, deps.clock, self._last_homes)
        self._external = ExternalPass(config, dispatch, deps.clock)
        self._policy = Policy(config, deps.fleet)
        self._forwarder = Forwarder(
            targets=deps.targets,
            upstream=deps.upstream,
            fleet=deps.fleet,
            clock=deps.clock,
        )
        self._signs = StreamHeartbeat(config.load_keepalive, deps.fleet)
        self.fast_path.reconfigure(deps, self._policy, self._forwarder, self._signs, max_body=self._max_body)

    @property
    def in_flight(self) -> int:
        """Exchanges that have not ended."""
        return self._in_flight

    def under_way(self) -> list[dict[str, Any]]:
        """Those of known users, for people who look."""
        return tell_under_way(self._live, self._deps.clock.monotonic())

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request and leave one record."""
        front = scope.get("extensions", _NO_EXTENSIONS).get(FRONT)
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        headers = scope["headers"]
        exchange = self.make_exchange(
            scope["method"],
            path,
            headers,
            Client(receive, send, front),
            address=self.address_of(scope.get("client"), headers),
            family=family_of_path(path),
        )
        exchange.query = scope.get("query_string", b"")
        if self._deps.traces is not None:
            exchange.trace = self._deps.traces.begin(exchange)
        self.begin()
        await self.end_with(exchange, self._serve(exchange))

    def make_exchange(
        self, method: str, path: str, headers: Headers, client: Client, *, address: str | None, family: Family
    ) -> Exchange:
        """The state of a request that has just come, from a client at this address."""
        clock = self._deps.clock
        exchange = Exchange(
            id=new_request_id(),
            method=method,
            path=path,
            headers=headers,
            client=client,
            started=clock.monotonic(),
            started_at=clock.wall(),
            family=family,
        )
        exchange.address = address
        return exchange

    def address_of(self, peer: tuple[str, int] | None, headers: Headers) -> str | None:
        """Where a request comes from, given who is at the other end of its connection; None if that is not known."""
        return self._deps.proxies.client(peer[0] if peer else None, headers)

    def begin(self) -> None:
        """An exchange is under way; `end` is owed."""
        self._in_flight += 1

    def end(self, exchange: Exchange) -> None:
        """An exchange is over: it leaves its record."""
        self._in_flight -= 1
        self._live.end(exchange)
        if exchange.ticket is not None:
            settle(self._deps.ledger, exchange, exchange.ticket)
        self._end(exchange)
        if exchange.trace is not None:
            exchange.trace.end(exchange, self._deps.clock.monotonic())

    async def end_with(self, exchange: Exchange, serving: Awaitable[None]) -> None:
        """Wait for what serves an exchange, answer with its error, and end it."""
        try:
            await serving
        except ClientGone:
            exchange.status = _CLIENT_LEFT
        except RouterError as error:
            await answer_error(exchange, error)
        except asyncio.CancelledError:
            # The grace of a shutdown is over: who has no byte yet can ask whoever comes next.
            if exchange.client.started:
                raise
            await answer_error(exchange, Overloaded("the router is stopping", retry_after=1))
        except BaseException:
            exchange.status = exchange.status or 500
            raise
        finally:
            self.end(exchange)

    async def go_on(
        self, exchange: Exchange, request: ParsedRequest, place: ServerSlot, tried: Tried | None = None
    ) -> None:
        """Serve what the fast path began, from its place on, or from what came of its first attempt."""
        try:
            async with exchange.client.watched():
                await self._pass_on(exchange, request, place, tried)
        finally:
            place.close()
            if tried is not None and tried[1] is not None:
                tried[1].release()

    async def fail(self, error: RouterError) -> None:
        """Serve nothing but an error."""
        raise error

    async def _serve(self, exchange: Exchange) -> None:
        self._refuse_overload()
        match = self._match(exchange)
        exchange.endpoint = match.endpoint
        if match.endpoint.routing is Routing.ROUTER:
            await answer_whole(exchange, _ROOT, b"text/plain; charset=utf-8")
            return
        exchange.user = await self._authenticate(exchange)
        check_route(exchange.user, match.endpoint, exchange.address, wall=exchange.started_at)
        request = await self._read(exchange, match)
        request = self._policy.applied(exchange, request)
        check_granted_model(exchange)
        check_hosted(exchange, request, self._deps.config, self._deps.fleet)
        self._live.begin(exchange)
        async with exchange.client.watched():
            await count(self._deps.ledger, exchange, match.endpoint)
            await self._answer(exchange, request)

    def _match(self, exchange: Exchange) -> Match:
        return Match(EXTERNAL) if exchange.path.startswith(PREFIX) else match_endpoint(exchange.method, exchange.path)

    async def _read(self, exchange: Exchange, match: Match) -> ParsedRequest:
        if match.endpoint.body is Body.RAW:
            exchange.client.will_stream()
            return self._external.read(exchange) if match.endpoint is EXTERNAL else parse_request(match, b"")
        body = await read_body(exchange, match.endpoint, self._max_body)
        return parse_request(match, body, content_type=(exchange.header(b"content-type") or "").encode("latin-1"))

    async def _answer(self, exchange: Exchange, request: ParsedRequest) -> None:
        match request.endpoint.routing:
            case Routing.ONE if request.route.unloads and not self._leaves_the_house(request):
                await self._holders.unload(exchange, request)
            case Routing.ONE:
                await self._relay(exchange, request)
            case Routing.GATHER:
                await self._gathering.serve(exchange, request)
            case Routing.OWNERS | Routing.PUSH:
                await self._holders.serve(exchange, request)
            case Routing.PULL | Routing.CREATE | Routing.BLOB_EXISTS | Routing.BLOB_UPLOAD | Routing.ACCOUNT:
                await self._homes.serve(exchange, request)
            case Routing.EXTERNAL:
                await self._external.serve(exchange, request)
            case Routing.ROUTER:
                raise AssertionError("answered before")
            case _:
                assert_never(request.endpoint.routing)

    async def _relay(self, exchange: Exchange, request: ParsedRequest) -> None:
        request, place = await self._place(exchange, request)
        try:
            await self._pass_on(exchange, request, place)
        finally:
            place.close()

    async def _pass_on(
        self, exchange: Exchange, request: ParsedRequest, place: ServerSlot, tried: Tried | None = None
    ) -> None:
        if tried is None and await answer_in_place(exchange, request, place.decision, self._deps.targets):
            return
        if place.unload:
            await self._deps.fleet.unload(place.server, place.unload)
        held = await self._signs.during(exchange, request, self._forwarder.forward(exchange, request, place, tried))
        try:
            place.answering()
            note_answered(self._deps.fleet, held.target.name, request, held.response.status)
            if exchange.client.started and held.response.status != 200:
                await deliver_late_error(exchange, held)
            elif held.translation is not None:
                await deliver_translated(exchange, held, held.translation, self._deps.clock)
            else:
                await deliver(exchange, request, held, self._deps.clock)
        finally:
            held.release()

    def _leaves_the_house(self, request: ParsedRequest) -> bool:
        target = self._deps.targets.get(assigned_destination(request.route, self._deps.config) or "")
        return target is not None and target.external

    async def _place(self, exchange: Exchange, request: ParsedRequest) -> tuple[ParsedRequest, ServerSlot]:
        """A place on a server; a model that cannot be served may have a stand-in, which is then what is asked for."""
        try:
            return request, await self._admit(exchange, request)
        except SelectionError:
            instead = self._policy.stand_in(exchange, request)
            if instead is None:
                raise
        return instead, await self._admit(exchange, instead)

    async def _admit(self, exchange: Exchange, request: ParsedRequest) -> ServerSlot:
        """Wait for a place; a model that nobody is known to have is looked for once more before it is missed."""
        try:
            return await self._deps.admitting.admit(exchange, request)
        except ModelNotFound:
            if not await self._gathering.look_again():
                raise
        return await self._deps.admitting.admit(exchange, request)

    async def _authenticate(self, exchange: Exchange) -> User:
        found = self._deps.authenticator.authenticate(exchange.headers)
        return found if isinstance(found, User) else await found

    def _refuse_overload(self) -> None:
        if self._in_flight > self._deps.config.limits.max_in_flight:
            raise Overloaded(SERVER_BUSY, retry_after=1)

    def _end(self, exchange: Exchange) -> None:
        """Write the row. Who is unknown leaves a line in the router's own log instead: strangers fill no database."""
        endpoint = exchange.endpoint
        if endpoint is not None and endpoint.routing is Routing.ROUTER:
            return
        if exchange.user is None:
            self._note_stranger(exchange)
            return
        record = exchange.record(self._deps.clock)
        self._deps.metrics.ended(record, exchange.decision)
        self._deps.sink.write(record)

    def _note_stranger(self, exchange: Exchange) -> None:
        """Leave a line; those who come when there is no room at all get one a second together."""
        code = exchange.error.code if exchange.error else "client_left"
        self._deps.metrics.refused(code)
        if not isinstance(exchange.error, Overloaded):
            _log.warning("refused", code=code, request_id=exchange.id)
            return
        self._turned_away += 1
        now = self._deps.clock.monotonic()
        if now - self._told_at >= _TELL_EVERY:
            _log.warning("refused", code=code, request_id=exchange.id, count=self._turned_away)
            self._turned_away, self._told_at = 0, now
