"""Drives the core's forwarding generator: send, tell it what happened, do what it says next."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import ConnectFailed, UpstreamError, UpstreamProtocolError
from ollama_router_core.fleet.health import BreakerPermit
from ollama_router_core.outbound.header_fields import passed_fields, request_fields
from ollama_router_core.outbound.sending import Outbound, Translation, prepare
from ollama_router_core.routing.forwarding import (
    Broken,
    GiveUp,
    Outcome,
    Relay,
    Unreachable,
    forward,
    outcome_of_status,
)
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.relay.admitting import ServerSlot
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.relay.feedback import Sent, note_finished, note_sent
from ollama_router_server.relay.redaction import redacted
from ollama_router_server.system import Clock
from ollama_router_server.upstream.framing import encode_own_fields
from ollama_router_server.upstream.interface import (
    ListenedResponse,
    ListeningUpstream,
    UpstreamExchange,
    UpstreamRequest,
    UpstreamResponse,
)
from ollama_router_server.upstream.targets import Target

__all__ = ["Attempt", "Forwarder", "HeldUpstreamResponse", "Tried"]


class HeldUpstreamResponse(Struct, eq=False):
    """An answer whose head has arrived; `release` says how it ended."""

    target: Target
    response: UpstreamResponse
    exchange: Exchange
    permit: BreakerPermit
    sent: Sent
    fleet: FleetService
    translation: Translation | None = None
    released: bool = False

    def release(self) -> None:
        """Give the connection back (cut it, if the body was not read to its end) and learn from the answer, once."""
        if self.released:
            return
        self.released = True
        complete = self.response.complete
        self.response.close()
        if isinstance(self.exchange.error, UpstreamError):
            self.permit.failed(self.fleet.now())
        elif complete:
            self.permit.done(self.fleet.now())
            note_finished(self.fleet, self.sent, self.exchange)
        else:
            self.permit.left()


Tried = tuple[Outcome, HeldUpstreamResponse | None]
"""What came of an attempt, and the answer if its head has arrived."""


class Attempt(Struct, eq=False):
    """A request on its way to a server; `started` is when, in seconds of the monotonic clock."""

    target: Target
    underway: UpstreamExchange
    permit: BreakerPermit
    sent: Sent
    started: float
    response: ListenedResponse | None = None

    def abandon(self) -> None:
        """The client left before the head of an answer came."""
        self.underway.abort()
        self.permit.left()


class Forwarder:
    """Finds the server that answers, along a decision's ranking."""

    def __init__(
        self,
        *,
        targets: Mapping[str, Target],
        upstream: ListeningUpstream,
        fleet: FleetService,
        clock: Clock,
    ) -> None:
        self._targets = targets
        self._upstream = upstream
        self._fleet = fleet
        self._clock = clock

    async def forward(
        self, exchange: Exchange, request: ParsedRequest, place: ServerSlot, first: Tried | None = None
    ) -> HeldUpstreamResponse:
        """Try servers until one answers; `first` is what came of the first attempt if `begin` has made it.

        Raises:
            RouterError: none did; the error is what the client gets.
        """
        steps = forward(place.decision.ranking, may_retry=place.may_retry)
        step = next(steps)
        while True:
            exchange.server, exchange.attempts = step.server, step.attempt
            if first is None:
                outcome, held = await self._try(exchange, self._targets[step.server], request, place)
            else:
                (outcome, held), first = first, None
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                return _concluded(stop.value, held)
            if held is not None:
                held.release()

    def begin(
        self,
        exchange: Exchange,
        request: ParsedRequest,
        place: ServerSlot,
        listener: Callable[[], None],
        passed: dict[str, bytes],
    ) -> Attempt | None:
        """Send to the first server of the ranking on an idle connection; None where that needs waiting or care.

        `passed` keeps what servers get of these header fields, for the next request that has the same.

        Raises:
            ValueError: the request cannot be written as one.
        """
        target = self._targets[place.server]
        if target.external or place.unload or not self._fleet.health.trusts(target.name):
            return None
        outbound = prepare(request, target.place)
        if outbound.headers:
            return None
        fields = passed.get(target.name)
        if fields is None:
            fields = encode_own_fields(passed_fields(exchange.headers, target.place))
            passed[target.name] = fields
        asked = UpstreamRequest(
            origin=target.origin,
            method=exchange.method,
            target=outbound.target,
            encoded=b"%bx-request-id: %b\r\n" % (fields, exchange.id.encode()),
            body=outbound.body,
            timeouts=target.timeouts,
        )
        underway = self._upstream.begin(asked, listener)
        permit = None if underway is None else place.permit(target.name)
        if underway is None or permit is None:
            return None
        exchange.server, exchange.attempts = target.name, 1
        started = self._clock.monotonic()
        return Attempt(target, underway, permit, note_sent(self._fleet, target.name, request), started)

    def tried(self, exchange: Exchange, attempt: Attempt) -> Tried | None:
        """What came of an attempt that `begin` made; None as long as nothing has."""
        try:
            response = attempt.underway.response()
        except UpstreamError as error:
            return self._failed(attempt.target, attempt.permit, error, attempt.started), None
        attempt.response = response
        if response is None:
            return None
        return self._headed(exchange, attempt.target, response, attempt.permit, attempt.sent, None)

    async def _try(self, exchange: Exchange, target: Target, request: ParsedRequest, place: ServerSlot) -> Tried:
        permit = place.permit(target.name)
        if permit is None:
            alone = ConnectFailed(f"{target.name} failed repeatedly and is left alone for a while")
            return Unreachable(alone, 0.0), None
        try:
            return await self._attempt(exchange, target, request, permit)
        except BaseException:
            permit.left()
            raise

    async def _attempt(
        self, exchange: Exchange, target: Target, request: ParsedRequest, permit: BreakerPermit
    ) -> Tried:
        outbound = prepare(request, target.place)
        started = self._clock.monotonic()
        try:
            sent = note_sent(self._fleet, target.name, request)
            response = await self._upstream.send(_upstream_request(exchange, target, outbound))
        except UpstreamError as error:
            if exchange.trace is not None:
                exchange.trace.failed(error.code)
            return self._failed(target, permit, error, started), None
        if exchange.trace is not None:
            exchange.trace.answered(response.status)
        response = redacted(response, target.place)
        return self._headed(exchange, target, response, permit, sent, outbound.translation)

    def _failed(self, target: Target, permit: BreakerPermit, error: UpstreamError, started: float) -> Outcome:
        if isinstance(error, ConnectFailed):
            permit.failed(self._fleet.now(), refused=True)
            self._fleet.refresh_soon(target.name)
            return Unreachable(error, self._clock.monotonic() - started)
        permit.failed(self._fleet.now())
        return Broken(error)

    def _headed(
        self,
        exchange: Exchange,
        target: Target,
        response: UpstreamResponse,
        permit: BreakerPermit,
        sent: Sent,
        translation: Translation | None,
    ) -> Tried:
        if 300 <= response.status < 400:
            response.close()
            permit.failed(self._fleet.now())
            return Broken(UpstreamProtocolError(f"{target.name} answered with a redirect, which is not followed")), None
        permit.head(response.status, self._fleet.now())
        held = HeldUpstreamResponse(target, response, exchange, permit, sent, self._fleet, translation)
        return outcome_of_status(response.status), held


def _upstream_request(exchange: Exchange, target: Target, outbound: Outbound) -> UpstreamRequest:
    traced = () if exchange.trace is None else exchange.trace.attempt(exchange, target.name)
    headers = request_fields(
        exchange.headers,
        target.place,
        exchange.id,
        own=(*outbound.headers, *traced),
        translated=outbound.translation is not None,
    )
    return UpstreamRequest(
        origin=target.origin,
        method=exchange.method,
        target=outbound.target,
        headers=headers,
        body=outbound.body,
        timeouts=target.timeouts,
    )


def _concluded(result: Relay | GiveUp, held: HeldUpstreamResponse | None) -> HeldUpstreamResponse:
    if isinstance(result, Relay) and held is not None:
        return held
    if held is not None:
        held.release()
    raise (result.error if isinstance(result, GiveUp) else None) or UpstreamProtocolError("there is no answer to relay")
