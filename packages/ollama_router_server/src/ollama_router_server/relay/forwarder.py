"""Drives the core's forwarding generator: send, tell it what happened, do what it says next.

Belongs here: attempts on servers.
Does not belong here: whether to try again (the core's `forwarding`), the answer's way on (`delivery`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ollama_router_core.decision import Decision
from ollama_router_core.errors import ConnectFailed, UpstreamError, UpstreamProtocolError
from ollama_router_core.forwarding import Broken, GiveUp, Outcome, Relay, Unreachable, forward, outcome_of_status
from ollama_router_core.header_fields import request_fields
from ollama_router_core.outbound import Outbound, Translation, prepare
from ollama_router_core.requests import ParsedRequest
from ollama_router_server.fleet_service import FleetService
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.relay.learning import note_sent
from ollama_router_server.relay.redaction import redacted
from ollama_router_server.system import Clock
from ollama_router_server.targets import Target
from ollama_router_server.upstream.interface import Upstream, UpstreamRequest, UpstreamResponse

__all__ = ["Forwarder", "HeldAnswer"]


@dataclass(slots=True)
class HeldAnswer:
    """An answer whose head has arrived and whose server counts it as in flight until `release`."""

    target: Target
    response: UpstreamResponse
    fleet: FleetService
    translation: Translation | None = None

    def release(self) -> None:
        """Give the connection back (cut it, if the body was not read to its end) and free the server's slot."""
        self.response.close()
        self.fleet.end(self.target.name)


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

    async def forward(self, exchange: Exchange, request: ParsedRequest, decision: Decision) -> HeldAnswer:
        """Try servers until one answers.

        Raises:
            RouterError: none did; the error is what the client gets.
        """
        steps = forward(decision.ranking)
        step = next(steps)
        while True:
            exchange.server, exchange.attempts = step.server, step.attempt
            outcome, held = await self._attempt(exchange, self._targets[step.server], request)
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                return _concluded(stop.value, held)
            if held is not None:
                held.release()

    async def _attempt(
        self, exchange: Exchange, target: Target, request: ParsedRequest
    ) -> tuple[Outcome, HeldAnswer | None]:
        outbound = prepare(request, target.place)
        started = self._clock.monotonic()
        self._fleet.begin(target.name)
        held: HeldAnswer | None = None
        try:
            note_sent(self._fleet, target.name, request)
            response = await self._upstream.send(_upstream_request(exchange, target, outbound))
            held = HeldAnswer(target, redacted(response, target.place), self._fleet, outbound.translation)
        except ConnectFailed as error:
            self._fleet.refresh_soon(target.name)
            return Unreachable(error, self._clock.monotonic() - started), None
        except UpstreamError as error:
            return Broken(error), None
        finally:
            if held is None:
                self._fleet.end(target.name)
        if 300 <= response.status < 400:
            held.release()
            return Broken(UpstreamProtocolError(f"{target.name} answered with a redirect, which is not followed")), None
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
