"""The way of a request that meets no difficulty: to a server and back in two plain calls around the sending.

Until a server was chosen nothing has happened, and a request that is not for this way takes the other from its start.
Where what comes of the first attempt is no answer to pass on, `go_on` makes steps of it that go on from there.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ollama_router_core.admission import Ticket
from ollama_router_core.api.endpoints import ENDPOINTS, Body, Match, Routing
from ollama_router_core.api.requests import ParsedRequest, RouteRequest, parse_request
from ollama_router_core.client.answering import Steps, passed_rows
from ollama_router_core.client.attempts import judge, note_head, note_load, timeouts_for
from ollama_router_core.client.exchange import conclude_account, forward_on
from ollama_router_core.client.messages import Incoming, Row, make_request, passed_response, stream_class
from ollama_router_core.client.room import Account, Room
from ollama_router_core.client.steps import Failure, Head
from ollama_router_core.errors import RouterError
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.outbound.header_fields import VIA
from ollama_router_core.outbound.sending import prepare
from ollama_router_core.routing.decision import Decision, decide
from ollama_router_core.routing.forwarding import REJECTIONS
from ollama_router_core.routing.policy import apply_policy

__all__ = ["Begun", "begin_at_once", "go_on", "take_head"]

_MATCHES = {
    (method, endpoint.path.encode()): Match(endpoint)
    for endpoint in ENDPOINTS
    for method in endpoint.methods
    if endpoint.routing is Routing.ONE and endpoint.body is Body.JSON and "{" not in endpoint.path
}
_VIA = (b"via", *VIA)
_ID = b"x-request-id"


class Begun(Struct, frozen=True):
    """A request that has its server; `sent` is what the inner transport gets."""

    account: Account
    request: ParsedRequest
    decision: Decision
    place: Destination
    sent: Any


def begin_at_once(room: Room, library: Any, request: Any, body: bytes) -> Begun | None:
    """Choose a server for a program's request, if that can be done now; None leaves everything to `exchange`."""
    match = _MATCHES.get((request.method, request.url.raw_path))
    kept = None if match is None else room.heads.passing(library, request.headers)
    started = room.clock.monotonic()
    if match is None or kept is None or not room.may_be_quick or started >= room.book.next_due:
        return None
    parsed = _read(room, match, body)
    placed = None if parsed is None else _place(room, parsed.route, started)
    if parsed is None or placed is None:
        return None
    decision, ticket = placed
    place = room.places[decision.ranking[0]]
    if place.external or (room.book.troubled and not room.book.admit(place.name, started)):
        if ticket is not None:
            room.line.leave(ticket)
        return None
    account = room.begin_sent(
        Incoming(library, request, request.method, parsed.target, body), parsed, decision, started, ticket
    )
    facts = room.book.servers.get(place.name)
    if facts is not None and parsed.route.model not in facts.loaded:
        note_load(room, account, place.name, parsed, started)
    return Begun(account, parsed, decision, place, _sent(account, place, parsed, kept))


def _read(room: Room, match: Match, body: bytes) -> ParsedRequest | None:
    """The request, if it is one for the strategy; what is wrong with it the other way will find."""
    if len(body) > room.max_body:
        return None
    try:
        parsed = parse_request(match, body)
        if room.has_policy:
            parsed = apply_policy(parsed, room.config.models).request
    except RouterError:
        return None
    route = parsed.route
    return None if route.unloads or route.uses_cloud else parsed


def _place(room: Room, route: RouteRequest, now: float) -> tuple[Decision, Ticket | None] | None:
    turn = room.book.next_turn()
    if room.line.counts:
        return room.line.at_once(route, turn, now)
    decision = decide(route, room.book.snapshot(now), room.config, now=now, tiebreak=turn)
    return (decision, None) if decision.error is None else None


def _sent(account: Account, place: Destination, request: ParsedRequest, kept: list[Row]) -> Any:
    incoming = account.incoming
    rows = [*kept, _VIA, (_ID, _ID, account.id.encode())]
    timeouts = timeouts_for(incoming, place)
    return make_request(incoming.library, place.base_url, incoming.method, request.target, rows, request.body, timeouts)


def take_head(room: Room, begun: Begun, result: Head | Failure, reading: Any) -> Any:
    """The response for the program, whose stream is a `reading`; None for what `go_on` has to deal with."""
    if isinstance(result, Failure):
        return None
    account, request, status = begun.account, begun.request, result.status
    if 300 <= status < 400 or status in REJECTIONS:
        return None
    note_head(room, account, begun.place.name, request, status)
    rows = passed_rows(account, request, result)
    return passed_response(result, rows, stream_class(result.library, reading)(result, account))


def go_on(room: Room, begun: Begun, result: Head | Failure) -> Steps:
    """The steps from what came of the first attempt on."""
    return conclude_account(begun.account, _next(room, begun, result))


def _next(room: Room, begun: Begun, result: Head | Failure) -> Steps:
    account, request = begun.account, begun.request
    first = yield from judge(room, account, request, prepare(request, begun.place), result, account.started)
    return (yield from forward_on(room, account, request, begun.decision.ranking, first))
