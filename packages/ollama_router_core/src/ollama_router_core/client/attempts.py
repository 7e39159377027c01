"""Walking the ranking: sending, what came of it, the next server."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

from msgspec import Struct

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.client.messages import Incoming
from ollama_router_core.client.room import Account, Room
from ollama_router_core.client.steps import Failure, Head, Outgoing, Release, Send
from ollama_router_core.errors import ConnectFailed, UpstreamProtocolError
from ollama_router_core.fleet.traffic import inferred_model, observe_answered
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.outbound.header_fields import request_fields
from ollama_router_core.outbound.sending import Outbound, prepare
from ollama_router_core.routing.forwarding import (
    Broken,
    GiveUp,
    Outcome,
    Relay,
    Unreachable,
    forward,
    outcome_of_status,
)

__all__ = ["Attempt", "Walked", "timeouts_for", "walk"]


class Attempt(Struct, frozen=True):
    """What came of one attempt. `head` is an answer that is still open, `failure` what the inner transport raised."""

    outcome: Outcome
    outbound: Outbound
    head: Head | None = None
    failure: Failure | None = None


class Walked(Struct, frozen=True):
    """The end of the walk, and the last attempt."""

    result: Relay | GiveUp
    last: Attempt


def walk(room: Room, account: Account, request: ParsedRequest, ranking: tuple[str, ...]) -> Generator[Any, Any, Walked]:
    """Try the servers of a ranking in turn."""
    steps = forward(ranking, may_retry=partial(_take_retry, room, account))
    step = next(steps)
    while True:
        account.attempts = step.attempt
        attempt = yield from _try(room, account, room.places[step.server], request)
        try:
            step = steps.send(attempt.outcome)
        except StopIteration as stop:
            return Walked(stop.value, attempt)
        if attempt.head is not None:
            yield Release(attempt.head)
            account.drop()


def _take_retry(room: Room, account: Account) -> bool:
    if not room.book.take_retry():
        return False
    account.retries += 1
    return True


def _try(room: Room, account: Account, target: Destination, request: ParsedRequest) -> Generator[Any, Any, Attempt]:
    outbound = prepare(request, target)
    started = room.clock.monotonic()
    permit = room.book.permit(target.name, started, forced=account.is_assigned)
    if permit is None:
        busy = ConnectFailed(f"{target.name} is being tried again by another request")
        return Attempt(Unreachable(busy, 0.0), outbound)
    account.take(permit, inferred_model(request), request.route.num_ctx)
    result = yield Send(_outgoing(account, target, outbound))
    return (yield from _judge(room, account, request, outbound, result, started))


def _judge(
    room: Room, account: Account, request: ParsedRequest, outbound: Outbound, result: Head | Failure, started: float
) -> Generator[Any, Any, Attempt]:
    """What came of a request that was sent at `started`."""
    if isinstance(result, Failure):
        seconds = room.clock.monotonic() - started
        return Attempt(_failed(room, account, result, seconds), outbound, failure=result)
    name, status = result.destination.name, result.status
    _note_head(room, account, name, request, status)
    if 300 <= status < 400:
        yield Release(result)
        broken = UpstreamProtocolError(f"{name} answered with a redirect, which is not followed")
        return Attempt(Broken(broken), outbound)
    return Attempt(outcome_of_status(status), outbound, head=result)


def _note_head(room: Room, account: Account, name: str, request: ParsedRequest, status: int) -> None:
    """The head of an answer came."""
    if account.ticket is not None:
        room.line.answered(account.ticket)
    account.answered(status)
    before, now = room.book.servers.get(name), room.clock.monotonic()
    after = room.book.update(name, lambda facts: observe_answered(facts, request, status, now=now))
    if before is None or after is None or after is before:
        return
    if after.installed_at is None or after.loaded is not before.loaded:
        room.book.due_now(name)


def _failed(room: Room, account: Account, failure: Failure, seconds: float) -> Outcome:
    if not failure.unsent:
        return Broken(failure.error)
    account.drop(refused=True)
    if account.server is not None:
        room.book.due_now(account.server)
    return Unreachable(failure.error, seconds)


def _outgoing(account: Account, target: Destination, outbound: Outbound) -> Outgoing:
    incoming = account.incoming
    return Outgoing(
        library=incoming.library,
        destination=target,
        method=incoming.method,
        target=outbound.target,
        fields=request_fields(
            incoming.fields, target, account.id, own=outbound.headers, translated=outbound.translation is not None
        ),
        body=outbound.body,
        timeouts=timeouts_for(incoming, target),
    )


def timeouts_for(incoming: Incoming, target: Destination) -> dict[str, float | None]:
    """The program's own where it has some; connecting never takes longer than the config allows."""
    asked, patience = incoming.request.extensions.get("timeout") or {}, target.patience
    connect, read, write = asked.get("connect"), asked.get("read"), asked.get("write")
    if connect is None or connect > patience.connect:
        connect = patience.connect
    if read is None:
        read = patience.first_byte
    return {"connect": connect, "read": read, "write": read if write is None else write, "pool": connect}
