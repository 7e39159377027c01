"""Drives the core's forwarding generator: send, tell it what happened, do what it says next.

Belongs here: attempts on servers.
Does not belong here: whether to try again (the core's `forwarding`), the answer's way on (`delivery`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ollama_router_core.errors import ConnectFailed, UpstreamError, UpstreamProtocolError
from ollama_router_core.forwarding import Broken, GiveUp, Outcome, Relay, Unreachable, forward, outcome_of_status
from ollama_router_core.header_fields import request_fields
from ollama_router_core.outbound import Outbound, Translation, prepare
from ollama_router_core.requests import ParsedRequest
from ollama_router_server.fleet_service import FleetService
from ollama_router_server.health import Passage
from ollama_router_server.relay.admitting import Place
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.relay.learning import Sent, note_finished, note_sent
from ollama_router_server.relay.redaction import redacted
from ollama_router_server.system import Clock
from ollama_router_server.targets import Target
from ollama_router_server.upstream.interface import Upstream, UpstreamRequest, UpstreamResponse

__all__ = ["Forwarder", "HeldAnswer"]


@dataclass(slots=True)
class HeldAnswer:
    """An answer whose head has arrived; `release` says how it ended."""

    target: Target
    response: UpstreamResponse
    exchange: Exchange
    passage: Passage
    sent: Sent
    fleet: FleetService
    translation: Translation | None = None

    def release(self) -> None:
        """Give the connection back (cut it, if the body was not read to its end) and learn from the answer."""
        complete = self.response.complete
        self.response.close()
        if isinstance(self.exchange.error, UpstreamError):
            self.passage.failed()
        elif complete:
            self.passage.done()
            note_finished(self.fleet, self.sent, self.exchange)
        else:
            self.passage.left()


class Forwarder:
    """Finds the server that answers, along a decision's ranking."""

    def __init__(
        self,
        *,
        targets: Mapping[str, Target],
        upstream: Upstream,
        fleet: FleetService,
        clock: Clock,
    ) -> None:
        self._targets = targets
        self._upstream = upstream
        self._fleet = fleet
        self._clock = clock

    async def forward(self, exchange: Exchange, request: ParsedRequest, place: Place) -> HeldAnswer:
        """Try servers until one answers.

        Raises:
            RouterError: none did; the error is what the client gets.
        """
        steps = forward(place.decision.ranking, may_retry=place.may_retry)
        step = next(steps)
        while True:
            exchange.server, exchange.attempts = step.server, step.attempt
            outcome, held = await self._try(exchange, self._targets[step.server], request, place)
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                return _concluded(stop.value, held)
            if held is not None:
                held.release()

    async def _try(
        self, exchange: Exchange, target: Target, request: ParsedRequest, place: Place
    ) -> tuple[Outcome, HeldAnswer | None]:
        passage = place.passage(target.name)
        if passage is None:
            alone = ConnectFailed(f"{target.name} failed repeatedly and is left alone for a while")
            return Unreachable(alone, 0.0), None
        try:
            return await self._attempt(exchange, target, request, passage)
        except BaseException:
            passage.left()
            raise

    async def _attempt(
        self, exchange: Exchange, target: Target, request: ParsedRequest, passage: Passage
    ) -> tuple[Outcome, HeldAnswer | None]:
        outbound = prepare(request, target.place)
        started = self._clock.monotonic()
        try:
            sent = note_sent(self._fleet, target.name, request)
            response = await self._upstream.send(_upstream_request(exchange, target, outbound))
        except ConnectFailed as error:
            passage.failed(refused=True)
            self._fleet.refresh_soon(target.name)
            return Unreachable(error, self._clock.monotonic() - started), None
        except UpstreamError as error:
            passage.failed()
            return Broken(error), None
        response = redacted(response, target.place)
        if 300 <= response.status < 400:
            response.close()
            passage.failed()
            return Broken(UpstreamProtocolError(f"{target.name} answered with a redirect, which is not followed")), None
        passage.head(response.status)
        held = HeldAnswer(target, response, exchange, passage, sent, self._fleet, outbound.translation)
        return outcome_of_status(response.status), held


def _upstream_request(exchange: Exchange, target: Target, outbound: Outbound) -> UpstreamRequest:
    headers = request_fields(
        exchange.scope["headers"],
        target.place,
        exchange.id,
        own=outbound.headers,
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


def _concluded(result: Relay | GiveUp, held: HeldAnswer | None) -> HeldAnswer:
    if isinstance(result, Relay) and held is not None:
        return held
    if held is not None:
        held.release()
    raise (result.error if isinstance(result, GiveUp) else None) or UpstreamProtocolError("there is no answer to relay")
