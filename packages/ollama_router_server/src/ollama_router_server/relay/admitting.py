"""A request gets its server: at once when one is free, else when its turn comes.

Most requests find a free server and nobody before them: they pass without a future, a task or a place in the line.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping

from ollama_router_core.admission import Admission, Dispatch, Outcome, Ticket
from ollama_router_core.api.model_names import CanonicalName, is_cloud_name
from ollama_router_core.api.ollama_errors import model_incapable, model_not_found
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ModelIncapable, ModelNotFound, NoServerFits, RouterError, SelectionError
from ollama_router_core.fleet.health import BreakerPermit
from ollama_router_core.fleet.prefixes import conversation_of
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.decision import Decision, StatedExplanation
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.relay.access import granted_ranking
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.system import Clock
from ollama_router_server.telemetry.histograms import DECIDING, Histogram
from ollama_router_server.upstream.targets import Target

__all__ = ["AdmissionController", "ServerSlot"]

_WHILE_TROUBLED = 0.5
"""Seconds between looks at the line while some server is out: its time may be up."""
_WHILE_SHARED = 0.05
"""The same while other workers may free a server; what this one frees is seen at once."""
_LONGEST_RETRY_AFTER = 30.0
_UNSEEN = FleetSnapshot()


class ServerSlot:
    """A request's slot on a server of its decision, until `close`. `unload` is what has to go there before."""

    __slots__ = ("_admitting", "_closed", "_first", "_retries", "decision", "number", "server", "unload", "waited")

    def __init__(
        self,
        admitting: AdmissionController,
        number: int,
        decision: Decision,
        *,
        unload: tuple[CanonicalName, ...] = (),
        waited: tuple[float, int] = (0.0, 0),
    ) -> None:
        self._admitting = admitting
        self._closed = False
        self._retries = 0
        self.number = number
        self.decision = decision
        self.server = decision.ranking[0]
        self.unload = unload
        self.waited = waited
        admitting.fleet.begin(self.server)
        forced = decision.strategy == "explicit_assignment"
        self._first: BreakerPermit | None = admitting.fleet.permit(self.server, forced=forced)

    def permit(self, server: str) -> BreakerPermit | None:
        """Leave to send to a server of the ranking now; the slot moves there. None: it is left alone."""
        if server == self.server and self._first is not None:
            permit, self._first = self._first, None
            return permit
        if server != self.server:
            self._admitting.moved(self, server)
        return self._admitting.fleet.permit(server)

    def may_retry(self) -> bool:
        """Whether the retry budget of the whole router has one more try for this request."""
        if not self._admitting.take_retry():
            return False
        self._retries += 1
        return True

    def answering(self) -> None:
        """The head of the answer came: the model is loaded."""
        self._admitting.answering(self)

    def close(self) -> None:
        """Give the slot back; whoever waits for it may go."""
        if self._closed:
            return
        self._closed = True
        if self._first is not None:
            self._first.left()
        for _ in range(self._retries):
            self._admitting.fleet.health.retries.give_back()
        self._admitting.fleet.end(self.server)
        self._admitting.finished(self)


class AdmissionController:
    """Everybody who wants a server, in one line."""

    def __init__(self, config: Config, targets: Mapping[str, Target], fleet: FleetService, clock: Clock) -> None:
        self.fleet = fleet
        self._config = config
        self._targets = targets
        self._clock = clock
        self._admission = Admission(config)
        self._strategy = STRATEGIES[config.routing_strategy]
        self._counting = _counts(config)
        self._numbers = itertools.count(1)
        self._futures: dict[int, asyncio.Future[ServerSlot]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.deciding = Histogram(DECIDING)
        """Seconds that choosing a server took, where nobody had to wait."""
        fleet.on_change(self._changed)

    def reconfigure(self, config: Config) -> None:
        """Another config from now on, for those who wait too. What was once counted is counted to its end."""
        self._config = config
        self._strategy = STRATEGIES[config.routing_strategy]
        self._counting = self._counting or _counts(config)
        self._admission.reconfigure(config)
        self._changed()

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return self._admission.waiting

    def longest_wait(self) -> tuple[float | None, frozenset[str]]:
        """When the request that waits longest arrived, and the full servers that could take it."""
        return self._admission.longest_wait(self.fleet.snapshot, self._clock.monotonic())

    def traffic(self) -> FleetSnapshot:
        """The fleet with the load and the demand that admission knows of: what decisions are made from."""
        snapshot = self.fleet.snapshot
        return self._admission.traffic(snapshot, self._clock.monotonic()) if self._counting else snapshot

    def admit_at_once(self, exchange: Exchange, request: ParsedRequest) -> ServerSlot | None:
        """A place on a server for a request that need not wait; None leaves everything to `admit`.

        Raises:
            Forbidden: the user may not use what is left.
        """
        place = self._at_once(exchange, request)
        return None if place is None else self._granted(exchange, place)

    def turn_away(self, exchange: Exchange, request: ParsedRequest) -> RouterError | None:
        """Why a request is refused that nobody has to think about, as the line is full; None leaves it to `admit`."""
        if not self._admission.waiting:
            return None
        now, number = self._clock.monotonic(), next(self._numbers)
        ticket = self._ticket(number, exchange, request, now)
        return self._admission.turn_away(ticket, self.fleet.snapshot, now)

    async def admit(self, exchange: Exchange, request: ParsedRequest) -> ServerSlot:
        """A place on a server, now or when there is one; a client that leaves while it waits leaves the line.

        Raises:
            RouterError: no server can take it, the line is full, waiting took too long, or the user may not.
        """
        place = self._at_once(exchange, request)
        if place is None:
            try:
                place = await self._in_turn(exchange, request)
            except (SelectionError, ModelIncapable) as error:
                raise self._told(request, error) from None
        return self._granted(exchange, place)

    def _granted(self, exchange: Exchange, place: ServerSlot) -> ServerSlot:
        exchange.decision, exchange.decided = place.decision, self._clock.monotonic()
        try:
            if exchange.user is not None:
                place.decision = granted_ranking(exchange.user, place.decision, self._targets)
        except BaseException:
            place.close()
            raise
        return place

    # --- what a place reports ---------------------------------------------------------------------------------------

    def take_retry(self) -> bool:
        """One of the fleet's retries, if there is one left."""
        return self.fleet.take_retry(self.waiting)

    def moved(self, place: ServerSlot, server: str) -> None:
        """Forwarding went on to another server."""
        self.fleet.end(place.server)
        self.fleet.begin(server)
        place.server = server
        if self._counting:
            self._admission.moved(place.number, server, self._clock.monotonic())

    def answering(self, place: ServerSlot) -> None:
        """An answer began."""
        if self._strategy.binds_late:
            now = self._clock.monotonic()
            self._carry_out(self._admission.first_byte(place.number, self._facts(), now))

    def finished(self, place: ServerSlot) -> None:
        """A slot is free."""
        if self._counting:
            now = self._clock.monotonic()
            self._carry_out(self._admission.finished(place.number, self._facts(), now))

    def _facts(self) -> FleetSnapshot:
        """The fleet for whoever waits; with nobody in the line nobody looks at it."""
        return self.fleet.snapshot if self._admission.waiting else _UNSEEN

    # --- going and waiting ------------------------------------------------------------------------------------------

    def _at_once(self, exchange: Exchange, request: ParsedRequest) -> ServerSlot | None:
        """The way of most requests; None when the line has to be asked."""
        hosted = request.route.uses_cloud and is_cloud_name(request.route.model_text or "")
        if not hosted and self._admission.waiting:
            return None
        now, number = self._clock.monotonic(), next(self._numbers)
        if self._strategy.binds_late and not hosted:
            found = self._admission.at_once(self._ticket(number, exchange, request, now), self.fleet.snapshot, now)
            self.deciding.observe(self._clock.monotonic() - now)
            return None if found is None else self._placed(found)
        decision = self._admission.selector.decide(request.route, self.fleet.snapshot, now=now, tiebreak=number)
        self.deciding.observe(self._clock.monotonic() - now)
        exchange.decision = decision
        if decision.error is not None:
            return None
        if self._counting:
            self._admission.bound(self._ticket(number, exchange, request, now), decision.ranking[0], now)
        return ServerSlot(self, number, decision)

    async def _in_turn(self, exchange: Exchange, request: ParsedRequest) -> ServerSlot:
        now, number = self._clock.monotonic(), next(self._numbers)
        ticket = self._ticket(number, exchange, request, now)
        snapshot = self.fleet.snapshot
        outcomes = self._admission.arrive(ticket, snapshot, now)
        if len(outcomes) == 1 and outcomes[0].ticket is ticket:
            return self._placed(outcomes[0])
        future: asyncio.Future[ServerSlot] = asyncio.get_running_loop().create_future()
        self._futures[number] = future
        try:
            self._carry_out(outcomes)
            if not future.done():
                exchange.expected_wait_ms = self._admission.expected_wait(ticket, snapshot, now) * 1000
                exchange.queue_position = self._admission.position(number)
                self._arm(now)
            return await future
        except BaseException:
            self._left(number, future)
            raise
        finally:
            self._futures.pop(number, None)

    def _placed(self, outcome: Outcome) -> ServerSlot:
        if not isinstance(outcome, Dispatch):
            raise outcome.error
        return self._place(outcome)

    def _left(self, number: int, future: asyncio.Future[ServerSlot]) -> None:
        """Out of the line; a place that was given in the same moment goes to the next."""
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result().close()
            return
        self._carry_out(self._admission.left(number, self.fleet.snapshot, self._clock.monotonic()))

    def _ticket(self, number: int, exchange: Exchange, request: ParsedRequest, now: float) -> Ticket:
        user = "" if exchange.user is None else exchange.user.name
        if self._strategy.uses_prefixes:
            exchange.conversation = conversation_of(request, user)
            exchange.prefix = self.fleet.prefixes.of(exchange.conversation)
        return Ticket(
            number=number, request=request.route, arrived=now, user=user, tiebreak=number, prefix=exchange.prefix
        )

    def _carry_out(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            future = self._futures.get(outcome.ticket.number)
            if isinstance(outcome, Dispatch):
                place = self._place(outcome)
                if future is None or future.done():
                    place.close()
                else:
                    future.set_result(place)
            elif future is not None and not future.done():
                future.set_exception(outcome.error)

    def _place(self, outcome: Dispatch) -> ServerSlot:
        decision = Decision(
            request=outcome.ticket.request,
            strategy=self._config.routing_strategy,
            ranking=outcome.ranking,
            explanation=StatedExplanation(outcome.reason),
        )
        return ServerSlot(
            self, outcome.ticket.number, decision, unload=outcome.unload, waited=(outcome.waited, outcome.position)
        )

    # --- time and facts ---------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        if self._admission.waiting:
            now = self._clock.monotonic()
            self._carry_out(self._admission.changed(self.fleet.snapshot, now))
            self._arm(now)

    def _arm(self, now: float) -> None:
        """Have the line looked at when it wants to be; one timer at a time."""
        at = self._admission.next_tick(now)
        if at is None:
            return
        if self.fleet.health.troubled:
            at = min(at, now + _WHILE_TROUBLED)
        if self.fleet.shares:
            at = min(at, now + _WHILE_SHARED)
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - now), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        self._carry_out(self._admission.tick(self.fleet.snapshot, now))
        if self.fleet.health.troubled or self.fleet.shares:
            self._carry_out(self._admission.changed(self.fleet.snapshot, now))
        self._arm(now)

    def _told(self, request: ParsedRequest, error: SelectionError | ModelIncapable) -> RouterError:
        """The error as the client gets it: Ollama's own words for what is not there, when to come back for the rest."""
        self.fleet.refresh_unknown(request.route.model)
        if isinstance(error, ModelNotFound):
            return model_not_found(request.endpoint.name, request.route.model_text or "")
        if isinstance(error, ModelIncapable):
            return model_incapable(request.endpoint.name, request.route.model_text or "", error.missing)
        after = self.fleet.retry_after()
        if isinstance(error, NoServerFits) and after is not None:
            error.retry_after = min(_LONGEST_RETRY_AFTER, max(1.0, after))
        return error


def _counts(config: Config) -> bool:
    """Whether what runs where has to be counted."""
    return STRATEGIES[config.routing_strategy].binds_late or any(
        server.max_concurrent for server in config.servers.values()
    )
