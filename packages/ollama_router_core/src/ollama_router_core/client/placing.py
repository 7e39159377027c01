"""Where a request goes: facts, the decision or the line, stand-ins, what must stay at home."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from functools import partial
from typing import Any

from msgspec.structs import replace

from ollama_router_core.admission import Dispatch, Outcome, Ticket
from ollama_router_core.api.endpoints import match_endpoint
from ollama_router_core.api.model_names import is_cloud_name
from ollama_router_core.api.requests import ParsedRequest, RouteRequest, parse_request
from ollama_router_core.client.room import Account, Room
from ollama_router_core.client.steps import Background, Failure, ReadBody, Send, Wait
from ollama_router_core.client.waiting import as_decision
from ollama_router_core.errors import Forbidden, ModelNotFound
from ollama_router_core.fleet.observations import observe_unloaded
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.policy import apply_policy, fallback_for, stays_local

__all__ = ["explain", "know_the_fleet", "look_again", "place"]

_FIRST_FACTS_SECONDS = 3.0
_LONGEST_NOTICE = 64 * 1024
Placed = tuple[Decision, ParsedRequest]


def place(room: Room, account: Account | None, request: ParsedRequest, library: Any) -> Generator[Any, Any, Placed]:
    """Decide where a request goes; a model that nobody is known to have is looked for once more, then its stand-in.

    Without an account it is only a question: it waits for nothing and takes no place.
    """
    if room.book.wants_asking(room.clock.monotonic()):
        yield from know_the_fleet(room, library)
    waiter = account if room.line.counts else None
    decision = _decide(room, request.route) if waiter is None else (yield from _in_turn(room, waiter, request.route))
    if isinstance(decision.error, ModelNotFound) and (yield from look_again(room, library)):
        decision = (
            _decide(room, request.route) if waiter is None else (yield from _in_turn(room, waiter, request.route))
        )
    if decision.error is not None and request.route.model is not None:
        stand_in = fallback_for(request.route.model, room.config.models)
        if stand_in is not None:
            other = request.with_model(stand_in)
            instead = yield from _chosen(room, waiter, other.route)
            if instead.error is None:
                _check_leaving(room, other, instead)
                return instead, other
    _check_leaving(room, request, decision)
    return decision, request


def explain(
    room: Room, model: str, context: int | None, needs: Iterable[str], library: Any
) -> Generator[Any, Any, Decision]:
    """The decision about a request that nobody makes."""
    body = json.dumps({"model": model, **({} if context is None else {"options": {"num_ctx": context}})}).encode()
    request = apply_policy(parse_request(match_endpoint("POST", "/api/chat"), body), room.config.models).request
    route = replace(request.route, needs=frozenset(needs))
    decision, _ = yield from place(room, None, replace(request, route=route), library)
    return decision


def know_the_fleet(room: Room, library: Any) -> Generator[Any, Any, None]:
    """Wait for facts about servers never asked; have what is due asked in the background."""
    book, now = room.book, room.clock.monotonic()
    if book.has_unknown():
        names = book.claim(now, unknown_only=True, everything=True)
        yield Background(tuple(room.questions.about(name, library) for name in names))
        yield Wait(lambda: not book.has_unknown(), _FIRST_FACTS_SECONDS)
        return
    names = book.claim(now)
    if names:
        yield Background(tuple(room.questions.about(name, library) for name in names))


def look_again(room: Room, library: Any) -> Generator[Any, Any, bool]:
    """Ask every server for its models, at most once in five seconds; says whether that was done."""
    book, now = room.book, room.clock.monotonic()
    if not book.may_look_again(now):
        return False
    names = book.claim(now, everything=True)
    yield Background(tuple(room.questions.about(name, library) for name in names))
    yield Wait(lambda: not book.is_asking(), _FIRST_FACTS_SECONDS)
    return True


def _decide(room: Room, route: RouteRequest) -> Decision:
    return room.line.decide(route, room.book.next_turn(), room.clock.monotonic())


def _chosen(room: Room, waiter: Account | None, route: RouteRequest) -> Generator[Any, Any, Decision]:
    return _decide(room, route) if waiter is None else (yield from _in_turn(room, waiter, route))


def _check_leaving(room: Room, request: ParsedRequest, decision: Decision) -> None:
    """What must stay local goes to no external host, and to no server that would send it on."""
    route, settings = request.route, room.config.models
    if not settings.local_only or route.model is None or not stays_local(route.model, settings):
        return
    if (
        route.uses_cloud
        or room.book.is_stub(route.model)
        or any(room.places[name].external for name in decision.ranking)
    ):
        raise Forbidden(f"{route.model_text} must stay on the operator's own servers (local_only)")


# --- the line -------------------------------------------------------------------------------------------------------


def _in_turn(room: Room, account: Account, route: RouteRequest) -> Generator[Any, Any, Decision]:
    """The decision once there is a slot, or why there will be none. The account leaves the line when it ends."""
    if route.uses_cloud and is_cloud_name(route.model_text or ""):
        decision = _decide(room, route)
        if decision.ranking:
            account.goes(room.line.bind(route, decision.ranking[0]), decision.ranking[0])
        return decision
    account.ticket = ticket = room.line.arrive(route, room.book.next_turn())
    outcome = room.line.outcome(ticket)
    if outcome is None:
        account.position, account.expected_wait = room.line.standing(ticket)
        outcome = yield from _wait(room, ticket, account.incoming.library)
    if not isinstance(outcome, Dispatch):
        account.ticket = None
        return as_decision(outcome, room.config)
    account.goes(ticket, outcome.server)
    yield from _unload(room, outcome, account.incoming.library)
    return as_decision(outcome, room.config)


def _wait(room: Room, ticket: Ticket, library: Any) -> Generator[Any, Any, Outcome]:
    line = room.line
    while (outcome := line.outcome(ticket)) is None:
        if room.book.wants_asking(room.clock.monotonic()):
            yield from know_the_fleet(room, library)
        yield Wait(partial(line.wakes, ticket), line.pause())
        line.look()
    return outcome


def _unload(room: Room, outcome: Dispatch, library: Any) -> Generator[Any, Any, None]:
    """Free memory on a server before something else is loaded there; what fails is left to the server itself."""
    for model in outcome.unload:
        head = yield Send(room.questions.unloading(outcome.server, model, library))
        if isinstance(head, Failure):
            return
        body = yield ReadBody(head, _LONGEST_NOTICE)
        if isinstance(body, Failure) or head.status != 200:
            return
        room.book.update(outcome.server, partial(observe_unloaded, name=model))
