"""The way of a program's request: one generator that both transports drive.

Belongs here: the steps and their order.
Does not belong here: I/O (the drivers do it), the rules (the core's other rooms).

    read strictly -> what is known of the fleet -> decide -> walk the ranking -> the answer as it is, or translated
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from msgspec import Struct

from ollama_router_core.client.bodies import AnswerBody
from ollama_router_core.client.libraries import read_fields
from ollama_router_core.client.listing import gather
from ollama_router_core.client.orders import order_all, servers_for
from ollama_router_core.client.placing import know_the_fleet, place
from ollama_router_core.client.room import Account, Incoming, Room
from ollama_router_core.client.steps import Failure, Head, Outgoing, ReadBody, Release, Send
from ollama_router_core.decision import Decision
from ollama_router_core.destinations import Destination
from ollama_router_core.dialects import error_body
from ollama_router_core.endpoints import Routing, family_of_path, match_endpoint
from ollama_router_core.errors import (
    BodyTooLarge,
    ConnectFailed,
    ModelNotFound,
    RouterError,
    UnsupportedEncoding,
    UpstreamProtocolError,
)
from ollama_router_core.forwarding import (
    REJECTIONS,
    Broken,
    GiveUp,
    Outcome,
    Relay,
    Unreachable,
    forward,
    outcome_of_status,
)
from ollama_router_core.header_fields import answer_fields, reason_field, request_fields
from ollama_router_core.outbound import Outbound, Translation, answer_here, prepare
from ollama_router_core.placement import loaded_on
from ollama_router_core.policy import apply_policy
from ollama_router_core.requests import ParsedRequest, parse_request
from ollama_router_core.traffic import observe_answered, observe_sent
from ollama_router_core.wording import model_not_found

__all__ = ["Answer", "Made", "Passed", "Raised", "exchange"]

_LONGEST_ERROR = 64 * 1024
_LONGEST_REPLY = 64 * 1024 * 1024
_JSON = b"application/json; charset=utf-8"
_ROOT = b"Ollama is running"


class Made(Struct, frozen=True):
    """An answer that the router writes."""

    status: int
    fields: list[tuple[bytes, bytes]]
    content: bytes


class Passed(Struct, frozen=True):
    """A server's answer on its way: `head.response`'s stream goes through `body`."""

    head: Head
    fields: list[tuple[bytes, bytes]]
    body: AnswerBody


class Raised(Struct, frozen=True):
    """No server answered: the program gets an exception, as of any transport."""

    error: RouterError
    original: BaseException


Answer = Made | Passed | Raised
Steps = Generator[Any, Any, Answer]


def exchange(room: Room, incoming: Incoming) -> Steps:
    """Serve one request and leave one record."""
    account = room.begin(incoming)
    try:
        answer = yield from _serve(room, account)
    except RouterError as error:
        answer = _error_answer(account, error)
        account.status = answer.status
        account.end(error)
    except BaseException:
        account.end(left=True)
        raise
    if isinstance(answer, Made):
        account.status, account.bytes_out = answer.status, len(answer.content)
        account.end()
    elif isinstance(answer, Raised):
        account.end(answer.error)
    return answer


def _serve(room: Room, account: Account) -> Steps:
    incoming = account.incoming
    account.family = family_of_path(incoming.path)
    match = match_endpoint(incoming.method, incoming.path)
    request = parse_request(match, incoming.body, content_type=_checked_type(incoming, room))
    if room.has_policy:
        request = apply_policy(request, room.config.models).request
    account.request = request
    match request.endpoint.routing:
        case Routing.ROUTER:
            return Made(200, [(b"content-type", b"text/plain; charset=utf-8")], _ROOT)
        case Routing.GATHER:
            yield from know_the_fleet(room, incoming.library)
            body = yield from gather(room, request, incoming.library)
            return Made(200, [(b"content-type", _JSON), *_router_fields(account)], body)
        case Routing.ONE:
            return (yield from _route(room, account, request))
        case _:
            return (yield from _order(room, account, request))


def _route(room: Room, account: Account, request: ParsedRequest) -> Steps:
    asked = request.route.model_text
    decision, request = yield from place(room, account, request, account.incoming.library)
    if request.route.model_text != asked:
        account.fallback = request.route.model_text
    account.decision, account.request, account.decided_at = decision, request, room.clock.monotonic()
    if decision.error is not None:
        account.server = None
        error = decision.error
        named = model_not_found(request.endpoint.name, request.route.model_text or "")
        raise named if isinstance(error, ModelNotFound) else error
    target = room.places[decision.ranking[0]]
    here = answer_here(request, target, account.stamp) if target.external else None
    if here is not None:
        account.server = target.name
        return Made(200, [(b"content-type", _JSON), *_router_fields(account)], here)
    ranking = decision.ranking
    if request.route.unloads:
        ranking = loaded_on(room.book.snapshot(account.started), request.route.model) or ranking
    return (yield from _forward(room, account, request, ranking))


def _order(room: Room, account: Account, request: ParsedRequest) -> Steps:
    """Orders about models as files: one server's answer as it comes, or one answer made of several servers'."""
    names = yield from servers_for(room, account, request)
    if len(names) == 1:
        return (yield from _forward(room, account, request, names))
    timeouts = _timeouts(account.incoming, room.places[names[0]])
    media_type, body = yield from order_all(room, account, request, names, timeouts)
    return Made(200, [(b"content-type", media_type), *_router_fields(account)], body)


def _forward(room: Room, account: Account, request: ParsedRequest, ranking: Iterable[str]) -> Steps:
    steps = forward(tuple(ranking), may_retry=lambda: _take_retry(room, account))
    step = next(steps)
    while True:
        account.attempts = step.attempt
        target = room.places[step.server]
        outcome, head, failure, outbound = yield from _attempt(room, account, target, request)
        try:
            step = steps.send(outcome)
        except StopIteration as stop:
            return (yield from _conclude(account, request, stop.value, head, failure, outbound))
        if head is not None:
            yield Release(head)
            account.drop(head.status)


def _take_retry(room: Room, account: Account) -> bool:
    if not room.book.take_retry():
        return False
    account.retries += 1
    return True


Attempt = tuple[Outcome, Head | None, Failure | None, Outbound]


def _attempt(room: Room, account: Account, target: Destination, request: ParsedRequest) -> Generator[Any, Any, Attempt]:
    outbound = prepare(request, target)
    started = room.clock.monotonic()
    if not room.book.admit(target.name, started):
        busy = ConnectFailed(f"{target.name} is being tried again by another request")
        return Unreachable(busy, 0.0), None, None, outbound
    account.take(target.name)
    account.loads = _begins_load(room, target.name, request, started)
    result = yield Send(_outgoing(account, target, outbound))
    if isinstance(result, Failure):
        return _failed(room, account, target, result, room.clock.monotonic() - started), None, result, outbound
    head: Head = result
    if account.ticket is not None:
        room.line.answered(account.ticket)
    _note_answer(room, target.name, request, head.status)
    account.status = head.status
    if 300 <= head.status < 400:
        yield Release(head)
        broken = UpstreamProtocolError(f"{target.name} answered with a redirect, which is not followed")
        return Broken(broken), None, None, outbound
    return outcome_of_status(head.status), head, None, outbound


def _begins_load(room: Room, name: str, request: ParsedRequest, now: float) -> bool:
    """Note that the request is on its way; says whether it began the only load there, whose time it will tell."""
    before = room.book.servers.get(name)
    if before is None or request.route.model in before.loaded or observe_sent(before, request, now=now) is before:
        return False
    after = room.book.update(name, lambda facts: observe_sent(facts, request, now=now))
    return after is not before and not before.loading


def _failed(room: Room, account: Account, target: Destination, failure: Failure, seconds: float) -> Outcome:
    if not failure.unsent:
        return Broken(failure.error)
    room.book.failed(target.name, refused=True)
    room.book.due_now(target.name)
    account.drop()
    return Unreachable(failure.error, seconds)


def _note_answer(room: Room, name: str, request: ParsedRequest, status: int) -> None:
    before = room.book.servers.get(name)
    if before is None:
        return
    now = room.clock.monotonic()
    if observe_answered(before, request, status, now=now) is before:
        return
    after = room.book.update(name, lambda facts: observe_answered(facts, request, status, now=now))
    if after is not None and (after.installed_at is None or after.loaded is not before.loaded):
        room.book.due_now(name)


def _conclude(
    account: Account,
    request: ParsedRequest,
    result: Relay | GiveUp,
    head: Head | None,
    failure: Failure | None,
    outbound: Outbound,
) -> Steps:
    if isinstance(result, Relay) and head is not None:
        if outbound.translation is None and (head.status < 400 or not head.destination.external):
            return _pass_on(account, request, head, None)
        return (yield from _deliver(account, request, head, outbound.translation))
    if head is not None:
        yield Release(head)
    error = result.error if isinstance(result, GiveUp) else None
    if failure is not None and error is not None:
        return Raised(error, failure.original)
    raise error or UpstreamProtocolError("there is no answer to relay")


def _deliver(account: Account, request: ParsedRequest, head: Head, translation: Translation | None) -> Steps:
    if head.destination.external and head.status >= 400:
        return (yield from _deliver_error(account, head, translation))
    if translation is not None and not translation.stream:
        return (yield from _deliver_whole(account, head, translation))
    return _pass_on(account, request, head, translation)


def _pass_on(account: Account, request: ParsedRequest, head: Head, translation: Translation | None) -> Passed:
    """The answer piece by piece, as it comes."""
    if request.endpoint.counts_usage and head.status == 200:
        family = request.endpoint.family if translation is None else translation.host.family
        account.watch(family, streamed=request.route.stream)
    fields = [
        *answer_fields(read_fields(head.library, head.response.headers), rewritten=translation is not None),
        *_router_fields(account),
    ]
    if account.attempts > 1 and head.status in REJECTIONS:
        fields.append((b"x-should-retry", b"false"))  # every server that could be asked has refused
    if translation is not None:
        fields += [(b"content-type", translation.content_type), *translation.dropped_field]
    translator = None if translation is None else translation.stream_translator(account.stamp)
    return Passed(head, fields, AnswerBody(account, translator))


def _deliver_whole(account: Account, head: Head, translation: Translation) -> Steps:
    body = yield ReadBody(head, _LONGEST_REPLY)
    if isinstance(body, Failure):
        return Raised(body.error, body.original)
    account.first_byte()
    account.watch(translation.host.family, streamed=False)
    if account.usage is not None:
        account.usage.feed(body)
    written = translation.reply(body, account.stamp, elapsed_ns=account.elapsed_ns())
    fields = [
        *answer_fields(read_fields(head.library, head.response.headers), rewritten=True),
        *_router_fields(account),
    ]
    return Made(head.status, [*fields, (b"content-type", _JSON), *translation.dropped_field], written)


def _deliver_error(account: Account, head: Head, translation: Translation | None) -> Steps:
    """Errors of foreign services may echo our key: they are short, so they are held and cleaned."""
    body = yield ReadBody(head, _LONGEST_ERROR)
    if isinstance(body, Failure):
        return Raised(body.error, body.original)
    place_ = head.destination
    body = place_.redact(body)[:_LONGEST_ERROR]
    kept = answer_fields(read_fields(head.library, head.response.headers), rewritten=translation is not None)
    fields = [(name, place_.redact(value)) for name, value in kept if name != b"content-length"]
    fields += _router_fields(account)
    if translation is None:
        return Made(head.status, fields, body)
    error = translation.error(head.status, body, account.stamp)
    return Made(error.status, [*fields, (b"content-type", _JSON)], error.body)


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
        timeouts=_timeouts(incoming, target),
    )


def _timeouts(incoming: Incoming, target: Destination) -> dict[str, float | None]:
    """The program's own where it has some; connecting never takes longer than the config allows."""
    asked, patience = incoming.timeouts, target.patience
    connect, read, write = asked.get("connect"), asked.get("read"), asked.get("write")
    connect = patience.connect if connect is None else min(connect, patience.connect)
    read = patience.first_byte if read is None else read
    return {"connect": connect, "read": read, "write": read if write is None else write, "pool": connect}


def _router_fields(account: Account) -> list[tuple[bytes, bytes]]:
    fields = [(b"x-router-request-id", account.id.encode())]
    if account.attempts:
        fields.append((b"x-router-attempts", b"%d" % account.attempts))
    if account.server is not None:
        fields.append((b"x-router-server", account.server.encode("ascii", "replace")))
    if account.fallback is not None:
        fields.append((b"x-router-fallback", account.fallback.encode("ascii", "replace")))
    if account.decision is not None:
        fields.append((b"x-router-reason", reason_field(_reason(account.decision, account.server))))
    return fields


def _reason(decision: Decision, server: str | None) -> str:
    if server == decision.server or server is None:
        return decision.reason
    return next((verdict.text for verdict in decision.verdicts if verdict.server == server), decision.reason)


def _error_answer(account: Account, error: RouterError) -> Made:
    status = error.status_hint
    body = error_body(account.family, status, error.message, code=error.code, request_id=account.id)
    fields = [(b"content-type", _JSON), (b"x-router-error", error.code.encode()), *_router_fields(account)]
    if error.retry_after is not None:
        fields.append((b"retry-after", b"%d" % max(1, round(error.retry_after))))
    if status >= 500 and (account.attempts or error.retry_after is None):
        fields.append((b"x-should-retry", b"false"))  # else nothing was sent: coming back later is what helps
    return Made(status, fields, body)


def _checked_type(incoming: Incoming, room: Room) -> bytes:
    """The body's media type, of a body that the router can read."""
    if len(incoming.body) > room.max_body:
        raise BodyTooLarge(f"the body is larger than the limit of {room.max_body} bytes")
    media_type = b""
    for name, value in incoming.fields:
        if name == b"content-type":
            media_type = value
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise UnsupportedEncoding("send the body without Content-Encoding")
    return media_type
