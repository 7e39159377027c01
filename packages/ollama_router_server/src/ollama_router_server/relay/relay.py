"""The way of a request, from its head to its row in the log.

Belongs here: the order of the steps and the forwarding loop.
Does not belong here: the rules each step applies (the core), header filters (`headers`), merged answers (`gathering`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from ollama_router_core.access import check_endpoint
from ollama_router_core.config.settings import Config, parse_size
from ollama_router_core.decision import decide
from ollama_router_core.dialects import error_body, error_tail
from ollama_router_core.endpoints import Family, Kind, Routing, family_of_path, match_endpoint
from ollama_router_core.errors import (
    ConnectFailed,
    InvalidCredential,
    MethodNotAllowed,
    MissingCredential,
    Overloaded,
    RouterError,
    UnknownRoute,
    UnsupportedEncoding,
    Untranslated,
    UpstreamError,
    UpstreamProtocolError,
)
from ollama_router_core.forwarding import Broken, GiveUp, Outcome, Relay, Unreachable, forward, outcome_of_status
from ollama_router_core.observations import (
    forget_model,
    observe_load_finished,
    observe_load_started,
    observe_unloaded,
)
from ollama_router_core.requests import ParsedRequest, parse_request
from ollama_router_core.sinks import LogSink
from ollama_router_core.usage import UsageReader
from ollama_router_server.auth import Authenticator
from ollama_router_server.fleet_service import FleetService
from ollama_router_server.relay.client import Client, ClientGone, Receive, Send
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.relay.gathering import Gathering
from ollama_router_server.relay.headers import answer_headers, reason_text, upstream_headers
from ollama_router_server.system import Clock, new_request_id
from ollama_router_server.targets import Target
from ollama_router_server.upstream.interface import Timeouts, Upstream, UpstreamRequest, UpstreamResponse

__all__ = ["RelayApp", "RelayDeps"]

_log = structlog.get_logger("relay")
_CLIENT_LEFT = 499
_REDACTED_BODY = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayDeps:
    """What the relay is wired to."""

    config: Config
    targets: Mapping[str, Target]
    upstream: Upstream
    fleet: FleetService
    authenticator: Authenticator
    sink: LogSink
    clock: Clock


class RelayApp:
    """The ASGI application for API routes."""

    def __init__(self, deps: RelayDeps) -> None:
        self._deps = deps
        self._turn = itertools.count()
        self._in_flight = 0
        self._max_body = parse_size(deps.config.limits.max_body)
        config = deps.config
        self._timeouts = Timeouts(
            connect=config.connect_timeout, first_byte=config.request_timeout, idle=config.idle_timeout
        )
        self._gathering = Gathering(deps.config, deps.targets, deps.upstream, deps.fleet)

    @property
    def in_flight(self) -> int:
        """Exchanges that have not ended."""
        return self._in_flight

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request and leave one record."""
        exchange = self._begin(scope, Client(receive, send))
        self._in_flight += 1
        try:
            await self._serve(exchange)
        except ClientGone:
            exchange.status = _CLIENT_LEFT
        except RouterError as error:
            await self._fail(exchange, error)
        except BaseException:
            exchange.status = exchange.status or 500
            raise
        finally:
            self._in_flight -= 1
            self._end(exchange)

    def _begin(self, scope: Any, client: Client) -> Exchange:
        clock = self._deps.clock
        exchange = Exchange(
            id=new_request_id(),
            scope=scope,
            client=client,
            started=clock.monotonic(),
            started_at=clock.wall(),
            family=Family.OLLAMA,
        )
        exchange.family = family_of_path(exchange.path)
        return exchange

    async def _serve(self, exchange: Exchange) -> None:
        if self._in_flight > self._deps.config.limits.max_in_flight:
            raise Overloaded("the router serves as many requests as it may, try again soon", retry_after=1)
        match = match_endpoint(exchange.method, exchange.path)
        exchange.endpoint = endpoint = match.endpoint
        if endpoint.routing is Routing.ROUTER:
            await self._answer_root(exchange)
            return
        exchange.user = await self._authenticate(exchange)
        check_endpoint(exchange.user.role, endpoint)
        body = await self._body(exchange)
        request = parse_request(match, body)
        exchange.route = request.route
        async with exchange.client.watched():
            if endpoint.routing is Routing.GATHER:
                await self._gather(exchange)
                return
            response = await self._forward(exchange, request)
            await self._relay(exchange, request, response)

    async def _authenticate(self, exchange: Exchange) -> Any:
        headers = exchange.scope["headers"]
        authenticator = self._deps.authenticator
        return authenticator.authenticate_cached(headers) or await authenticator.authenticate(headers)

    async def _body(self, exchange: Exchange) -> bytes:
        for name, value in exchange.scope["headers"]:
            if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
                raise UnsupportedEncoding("send the body without Content-Encoding")
        return await exchange.client.read_body(self._max_body)

    async def _answer_root(self, exchange: Exchange) -> None:
        exchange.status = 200
        body = b"Ollama is running"
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        await exchange.client.start(200, [*headers, *exchange.router_headers()])
        await exchange.client.finish(body if exchange.method != "HEAD" else b"")

    async def _gather(self, exchange: Exchange) -> None:
        endpoint = exchange.endpoint
        if endpoint is None:  # pragma: no cover - set before
            raise UnknownRoute("404 page not found")
        body = await self._gathering.answer(endpoint)
        exchange.status = 200
        headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        await exchange.client.start(200, [*headers, *exchange.router_headers()])
        await exchange.client.finish(body if exchange.method != "HEAD" else b"")

    async def _forward(self, exchange: Exchange, request: ParsedRequest) -> UpstreamResponse:
        """Decide, then try servers in turn as the core's generator says; return the answer to relay."""
        deps = self._deps
        now = deps.clock.monotonic()
        decision = decide(request.route, deps.fleet.snapshot, deps.config, now=now, tiebreak=next(self._turn))
        exchange.decision, exchange.decided = decision, now
        if decision.error is not None:
            deps.fleet.refresh_unknown(request.route.model)
            raise decision.error
        steps = forward(decision.ranking)
        held: UpstreamResponse | None = None
        step = next(steps)
        while True:
            if held is not None:
                self._release(exchange, held)
            exchange.server, exchange.attempts = step.server, step.attempt
            outcome, held = await self._attempt(exchange, step.server, request)
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                return self._concluded(exchange, stop.value, held)

    def _concluded(self, exchange: Exchange, result: Relay | GiveUp, held: UpstreamResponse | None) -> UpstreamResponse:
        if isinstance(result, Relay) and held is not None:
            return held
        if held is not None:
            self._release(exchange, held)
        raise (result.error if isinstance(result, GiveUp) else None) or UpstreamProtocolError("no answer to relay")

    def _release(self, exchange: Exchange, response: UpstreamResponse) -> None:
        response.close()
        if exchange.server is not None:
            self._deps.fleet.end(exchange.server)

    async def _attempt(
        self, exchange: Exchange, name: str, request: ParsedRequest
    ) -> tuple[Outcome, UpstreamResponse | None]:
        deps = self._deps
        target = deps.targets[name]
        started = deps.clock.monotonic()
        deps.fleet.begin(name)
        held = False
        try:
            response = await deps.upstream.send(self._upstream_request(exchange, target, request))
            if 300 <= response.status < 400:
                response.close()
                return Broken(UpstreamProtocolError(f"{name} answered with a redirect, which is not followed")), None
            held = True
        except ConnectFailed as error:
            deps.fleet.refresh_soon(name)
            return Unreachable(error, deps.clock.monotonic() - started), None
        except UpstreamError as error:
            return Broken(error), None
        finally:
            if not held:
                deps.fleet.end(name)
        return outcome_of_status(response.status), response

    def _upstream_request(self, exchange: Exchange, target: Target, request: ParsedRequest) -> UpstreamRequest:
        if target.external and request.endpoint.family is Family.OLLAMA:
            raise Untranslated(
                f"{request.route.model_text} is assigned to {target.name}, which does not speak"
                f" {request.endpoint.path}; use /v1/chat/completions or /v1/messages"
            )
        self._note_sent(target.name, request)
        return UpstreamRequest(
            origin=target.origin,
            method=exchange.method,
            target=request.endpoint.path,
            headers=upstream_headers(exchange.scope["headers"], target, exchange.id),
            body=request.body,
            timeouts=self._timeouts,
        )

    async def _relay(self, exchange: Exchange, request: ParsedRequest, response: UpstreamResponse) -> None:
        """Pass the answer on as it comes; a truncated one is never ended as if it were complete."""
        exchange.status = response.status
        name = exchange.server or ""
        try:
            self._note_answered(name, request, response.status)
            headers = self._answer_headers(exchange, response)
            if self._deps.targets[name].external and response.status >= 400:
                await self._relay_redacted(exchange, response, headers)
                return
            if request.endpoint.counts_usage and response.status == 200:
                exchange.usage = UsageReader(request.endpoint.family, streamed=request.route.stream)
            await self._relay_pieces(exchange, response, headers)
        finally:
            self._release(exchange, response)

    async def _relay_pieces(
        self, exchange: Exchange, response: UpstreamResponse, headers: list[tuple[bytes, bytes]]
    ) -> None:
        client, usage = exchange.client, exchange.usage
        await client.start(response.status, headers)
        try:
            while piece := await response.read():
                if exchange.first_byte is None:
                    exchange.first_byte = self._deps.clock.monotonic()
                if usage is not None:
                    usage.feed(piece)
                await client.write(piece)
        except UpstreamError as error:
            exchange.error = error
            await self._cut(exchange, error, headers)
            return
        await client.finish()

    async def _relay_redacted(
        self, exchange: Exchange, response: UpstreamResponse, headers: list[tuple[bytes, bytes]]
    ) -> None:
        """Errors of foreign services may echo our key: they are short, so they are held and cleaned."""
        pieces: list[bytes] = []
        while (piece := await response.read()) and sum(map(len, pieces)) < _REDACTED_BODY:
            pieces.append(piece)
        body = self._deps.targets[exchange.server or ""].redact(b"".join(pieces)[:_REDACTED_BODY])
        kept = [(name, value) for name, value in headers if name != b"content-length"]
        await exchange.client.start(response.status, [*kept, (b"content-length", str(len(body)).encode())])
        await exchange.client.finish(body)

    def _answer_headers(self, exchange: Exchange, response: UpstreamResponse) -> list[tuple[bytes, bytes]]:
        headers = [*answer_headers(response.headers), *exchange.router_headers()]
        if exchange.server is not None and exchange.decision is not None:
            headers.append((b"x-router-server", exchange.server.encode("ascii", "replace")))
            headers.append((b"x-router-reason", reason_text(self._reason(exchange))))
        if exchange.route is not None and exchange.route.stream:
            headers += [(b"x-accel-buffering", b"no"), (b"cache-control", b"no-cache")]
        return headers

    def _reason(self, exchange: Exchange) -> str:
        decision = exchange.decision
        if decision is None:  # pragma: no cover - called after deciding
            return ""
        verdicts = (verdict for verdict in decision.verdicts if verdict.server == exchange.server)
        return next((verdict.text for verdict in verdicts), decision.reason)

    async def _cut(self, exchange: Exchange, error: RouterError, headers: list[tuple[bytes, bytes]]) -> None:
        """Say in the stream's own dialect that it ended early, then leave it unfinished: the connection is cut."""
        streamed = exchange.route is not None and exchange.route.stream
        if streamed and not any(name == b"content-length" for name, _ in headers):
            tail = error_tail(
                exchange.family, error.status_hint, error.message, code=error.code, request_id=exchange.id
            )
            await exchange.client.write(tail)

    async def _fail(self, exchange: Exchange, error: RouterError) -> None:
        exchange.error = error
        exchange.status = exchange.status if exchange.client.started else error.status_hint
        if exchange.client.started:
            return
        body, content_type = _error_content(exchange, error)
        headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
        headers += [*_error_headers(error), *exchange.router_headers()]
        await exchange.client.start(error.status_hint, headers)
        await exchange.client.finish(b"" if exchange.method == "HEAD" else body)

    def _end(self, exchange: Exchange) -> None:
        if exchange.endpoint is None or exchange.endpoint.routing is Routing.ROUTER:
            return
        if exchange.user is None:
            code = exchange.error.code if exchange.error else "client_left"
            _log.warning("refused_unauthenticated", code=code, request_id=exchange.id)
            return
        self._deps.sink.write(exchange.record(self._deps.clock))

    def _note_sent(self, name: str, request: ParsedRequest) -> None:
        model = request.route.model
        if model is not None and request.endpoint.kind is Kind.INFER and not request.route.unloads:
            now = self._deps.clock.monotonic()
            self._deps.fleet.update(name, partial(observe_load_started, name=model, now=now))

    def _note_answered(self, name: str, request: ParsedRequest, status: int) -> None:
        model = request.route.model
        if model is None or request.endpoint.kind is not Kind.INFER:
            return
        fleet = self._deps.fleet
        if status == 404:
            fleet.update(name, partial(forget_model, name=model))
            fleet.refresh_soon(name)
        elif request.route.unloads:
            if status == 200:
                fleet.update(name, partial(observe_unloaded, name=model))
        elif status == 200:
            now, num_ctx = self._deps.clock.monotonic(), request.route.num_ctx
            if fleet.update(name, partial(observe_load_finished, name=model, num_ctx=num_ctx, now=now)):
                fleet.measure_soon(name)


def _error_content(exchange: Exchange, error: RouterError) -> tuple[bytes, bytes]:
    if isinstance(error, UnknownRoute | MethodNotAllowed):
        return error.message.encode(), b"text/plain"
    body = error_body(exchange.family, error.status_hint, error.message, code=error.code, request_id=exchange.id)
    return body, b"application/json; charset=utf-8"


def _error_headers(error: RouterError) -> list[tuple[bytes, bytes]]:
    headers = [(b"x-router-error", error.code.encode())]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after))).encode()))
    if isinstance(error, MissingCredential | InvalidCredential):
        headers.append((b"www-authenticate", b'Bearer realm="ollama-router"'))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if error.status_hint >= 500:
        headers.append((b"x-should-retry", b"false"))
    return headers
