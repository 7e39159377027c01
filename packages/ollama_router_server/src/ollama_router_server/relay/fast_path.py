"""The way of a request that meets no difficulty: from the front to a server and back without a task.

A request that is refused before it waits for anything is answered here as well: who is turned away must cost less than
who is served.

Until a server was chosen nothing has happened, and a request that is not for this way takes the other from its start.
After that `RelayApp.go_on` takes over with what there is: a place, or what came of the first attempt.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog

from ollama_router_core.api.endpoints import ENDPOINTS, Body, Match, Routing
from ollama_router_core.api.ollama_errors import SERVER_BUSY
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.errors import Overloaded, RouterError, UpstreamError
from ollama_router_core.responses.usage import UsageReader
from ollama_router_core.routing.forwarding import Answered
from ollama_router_server.http.cycle import FrontCycle
from ollama_router_server.http.request_head import RequestHead
from ollama_router_server.relay.access import (
    LiveExchanges,
    check_granted_model,
    check_hosted,
    check_route,
    count_at_once,
)
from ollama_router_server.relay.admitting import ServerSlot
from ollama_router_server.relay.client import Client, Receive
from ollama_router_server.relay.delivery import answer_head
from ollama_router_server.relay.error_responses import error_answer, last_words
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.relay.feedback import note_answered
from ollama_router_server.relay.forwarder import Attempt, Forwarder, HeldUpstreamResponse, Tried
from ollama_router_server.relay.keepalive import StreamHeartbeat
from ollama_router_server.relay.policy import Policy
from ollama_router_server.storage.users import User
from ollama_router_server.upstream.interface import ListenedResponse

if TYPE_CHECKING:
    from ollama_router_server.relay.relay import RelayApp, RelayDeps

__all__ = ["FastPath"]

_CLIENT_LEFT = 499
_MATCHES = {
    (method, endpoint.path.encode()): Match(endpoint)
    for endpoint in ENDPOINTS
    for method in endpoint.methods
    if endpoint.routing is Routing.ONE and endpoint.body is Body.JSON and "{" not in endpoint.path
}

_log = structlog.get_logger("relay")


class _Seen:
    """What the head of a request says.

    `match` is None if such requests take the other way. `user` is who sent it,
    `address` where they come from, `passed` the fields that a server gets of the head, as bytes, by the server's name.
    `uncounted` is the user whose requests count against no limit.
    """

    __slots__ = ("address", "match", "passed", "uncounted", "user")

    def __init__(self, match: Match | None = None, user: User | None = None, address: str | None = None) -> None:
        self.match = match
        self.user = user
        self.address = address
        self.passed: dict[str, bytes] = {}
        self.uncounted: User | None = None


class FastPath:
    """What the front offers whole requests to; see `protocol.cycle.FastPath`."""

    deps: RelayDeps
    forwarder: Forwarder
    signs: StreamHeartbeat
    _policy: Policy
    _max_body: int
    _max_in_flight: int

    def __init__(self, relay: RelayApp, live: LiveExchanges) -> None:
        self.relay = relay
        self.live = live

    def reconfigure(
        self, deps: RelayDeps, policy: Policy, forwarder: Forwarder, signs: StreamHeartbeat, *, max_body: int
    ) -> None:
        """Set, or change, what it works with."""
        self.deps = deps
        self.forwarder = forwarder
        self.signs = signs
        self._policy = policy
        self._max_body = max_body
        self._max_in_flight = deps.config.limits.max_in_flight

    def __call__(self, cycle: FrontCycle, head: RequestHead, body: bytes) -> bool:
        """Take a request if it can be sent to a server now."""
        seen = self._look_at(head, cycle)
        match = seen.match
        if match is None or len(body) > self._max_body:
            return False
        client = Client(cast("Receive", cycle.receive), cycle.send, cycle)
        client.bytes_in = len(body)
        endpoint = match.endpoint
        exchange = self.relay.make_exchange(
            head.method, endpoint.path, head.headers, client, address=seen.address, family=endpoint.family
        )
        if self.relay.in_flight >= self._max_in_flight:
            self._refuse(exchange, cycle, Overloaded(SERVER_BUSY, retry_after=1))
            return True
        try:
            request = self._checked(exchange, seen, match, body)
        except RouterError as error:
            self._refuse(exchange, cycle, error)
            return True
        return request is not None and self._placed(exchange, cycle, seen, match, request)

    def _placed(self, exchange: Exchange, cycle: FrontCycle, seen: _Seen, match: Match, request: ParsedRequest) -> bool:
        """Send a request for which there is a place."""
        try:
            place = self.deps.admitting.admit_at_once(exchange, request)
        except RouterError:
            return False
        if place is None:
            return self._turned_away(exchange, cycle, seen, match, request)
        if not self._counted(exchange, seen, match):
            place.close()
            return False
        _Passing(self, exchange, request, place, cycle).begin(seen.passed)
        return True

    def _turned_away(
        self, exchange: Exchange, cycle: FrontCycle, seen: _Seen, match: Match, request: ParsedRequest
    ) -> bool:
        """Refuse a request for which there will be no place."""
        error = None if self._policy.has_stand_in(request) else self.deps.admitting.turn_away(exchange, request)
        if error is None or not self._counted(exchange, seen, match):
            return False
        self._refuse(exchange, cycle, error)
        return True

    def _refuse(self, exchange: Exchange, cycle: FrontCycle, error: RouterError) -> None:
        """Answer with an error."""
        self.relay.begin()
        headers, body = error_answer(exchange, error)
        cycle.begin(exchange.status, headers, piece_follows=True)
        cycle.put(body, more=False)
        exchange.client.bytes_out = len(body)
        self.relay.end(exchange)

    def _look_at(self, head: RequestHead, cycle: FrontCycle) -> _Seen:
        match = _MATCHES.get((head.method, head.target))
        traced = self.deps.traces is not None
        if match is None or traced or any(name == b"content-encoding" for name, _ in head.headers):
            return _Seen()
        try:
            user = self.deps.authenticator.authenticate(head.headers)
        except RouterError:
            return _Seen()
        if not isinstance(user, User):
            return _Seen()
        return _Seen(match, user, self.relay.address_of(cycle.client, head.headers))

    def _counted(self, exchange: Exchange, seen: _Seen, match: Match) -> bool:
        if exchange.user is seen.uncounted:
            return True
        try:
            counted = count_at_once(self.deps.ledger, exchange, match.endpoint)
        except RouterError:
            return False
        if counted and exchange.ticket is None:
            seen.uncounted = exchange.user
        return counted

    def _checked(self, exchange: Exchange, seen: _Seen, match: Match, body: bytes) -> ParsedRequest | None:
        """The request, if this user may make it and it is for one server; None for the other way."""
        endpoint = match.endpoint
        user = seen.user
        if user is None:
            return None
        exchange.user, exchange.endpoint = user, endpoint
        check_route(user, endpoint, exchange.address, wall=exchange.started_at)
        request = self._policy.applied(exchange, parse_request(match, body))
        if request.route.unloads:
            return None
        check_granted_model(exchange)
        check_hosted(exchange, request, self.deps.config, self.deps.fleet)
        return request


class _Passing:
    """One exchange under way. The front and the connection to the server call back; each call does all it can."""

    __slots__ = ("_attempt", "_cycle", "_exchange", "_held", "_path", "_place", "_request", "_response")

    def __init__(
        self, path: FastPath, exchange: Exchange, request: ParsedRequest, place: ServerSlot, cycle: FrontCycle
    ) -> None:
        self._path = path
        self._exchange = exchange
        self._request = request
        self._place = place
        self._cycle = cycle
        self._attempt: Attempt | None = None
        self._held: HeldUpstreamResponse | None = None
        self._response: ListenedResponse | None = None

    def begin(self, passed: dict[str, bytes]) -> None:
        """Send the request, or leave that to `RelayApp.go_on`."""
        path, exchange, cycle = self._path, self._exchange, self._cycle
        path.relay.begin()
        path.live.begin(exchange)
        exchange.client.stops_with(self._stopped)
        cycle.on_leave = self._left
        if path.signs.wanted(self._request, self._place.server):
            self._hand_over(None)
            return
        try:
            self._attempt = path.forwarder.begin(exchange, self._request, self._place, self._progress, passed)
        except ValueError:
            _log.exception("request_not_sent", request_id=exchange.id)
        if self._attempt is None:
            self._hand_over(None)

    # --- called back ------------------------------------------------------------------------------------------------

    def _progress(self) -> None:
        """The connection has something: the head, a piece, the end, or a failure."""
        try:
            if self._response is None:
                self._take_head()
            else:
                self._take_piece(self._response)
        except Exception:  # noqa: BLE001 - there is no task whose failure would cut the connection
            _log.exception("exchange_failed", request_id=self._exchange.id)
            self._exchange.status = self._exchange.status or 500
            self._close()

    def _drained(self) -> None:
        """The client has taken what was written."""
        self._cycle.on_drained = None
        self._progress()

    def _left(self) -> None:
        """The client closed its connection."""
        self._exchange.status = _CLIENT_LEFT
        self._release()

    def _stopped(self) -> None:
        """The exchange has to end: its user was revoked."""
        error = self._exchange.client.ending
        if isinstance(error, RouterError) and self._response is not None:
            self._cut(error)
        elif isinstance(error, RouterError) and self._attempt is not None:
            self._give_up()
            self._place.close()
            self._run(partial(self._path.relay.fail, error))

    # --- the answer -------------------------------------------------------------------------------------------------

    def _take_head(self) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        tried = self._path.forwarder.tried(self._exchange, attempt)
        if tried is None:
            return
        outcome, held = tried
        if held is None or attempt.response is None or not isinstance(outcome, Answered):
            self._hand_over(tried, attempt.response)
            return
        self._held = held
        self._response = response = attempt.response
        exchange, deps, request = self._exchange, self._path.deps, self._request
        self._place.answering()
        note_answered(deps.fleet, held.target.name, request, response.status)
        exchange.status = response.status
        if request.endpoint.counts_usage and response.status == 200:
            exchange.usage = UsageReader(request.endpoint.family, streamed=request.route.stream)
        exchange.client.started = True
        ready = response.ready
        self._cycle.begin(response.status, answer_head(exchange, held), piece_follows=ready)
        if ready:
            self._take_piece(response)

    def _take_piece(self, response: ListenedResponse) -> None:
        if self._cycle.on_drained is not None:  # the client has not taken the last piece yet
            return
        exchange = self._exchange
        try:
            piece = response.take()
        except UpstreamError as error:
            self._cut(error)
            return
        complete = response.complete
        if not piece and not complete:
            return
        if exchange.first_byte is None:
            exchange.first_byte = self._path.deps.clock.monotonic()
        if exchange.usage is not None:
            exchange.usage.feed(piece)
        exchange.client.bytes_out += len(piece)
        if complete:
            self._cycle.put(piece, more=False)
            self._release()
        elif self._cycle.put(piece):
            response.hold()
            self._cycle.on_drained = self._drained

    # --- the end ----------------------------------------------------------------------------------------------------

    def _cut(self, error: RouterError) -> None:
        """End an answer that has begun, never as if it were complete."""
        tail = last_words(self._exchange, error, framed=not self._cycle.chunked_encoding)
        if tail:
            self._exchange.client.bytes_out += len(tail)
            self._cycle.put(tail)
        self._close()

    def _close(self) -> None:
        self._cycle.on_leave = self._cycle.on_drained = None
        self._cycle.transport.close()
        self._release()

    def _release(self) -> None:
        """Give back what is held and leave the record."""
        self._cycle.on_leave = self._cycle.on_drained = None
        self._exchange.client.stops_with(None)
        if self._held is not None:
            self._held.release()
        else:
            self._give_up()
        self._place.close()
        self._path.relay.end(self._exchange)

    def _give_up(self) -> None:
        """The head of an answer is waited for no more."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.abandon()

    def _hand_over(self, tried: Tried | None, response: ListenedResponse | None = None) -> None:
        """Go on in a task, which waits for what has to be waited for."""
        if response is not None:
            response.stop_listening()
        self._run(partial(self._path.relay.go_on, self._exchange, self._request, self._place, tried))

    def _run(self, serving: partial[Coroutine[Any, Any, None]]) -> None:
        self._attempt = None  # a failed connection tells twice, and its end is no news to whoever goes on
        self._cycle.on_leave = None
        self._exchange.client.stops_with(None)
        self._cycle.run(lambda: self._path.relay.end_with(self._exchange, serving()))
