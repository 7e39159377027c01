"""The way of a program's request: one generator that both transports drive.

read strictly -> what is known of the fleet -> decide -> walk the ranking -> the answer as it is, or translated
"""

from __future__ import annotations

from ollama_router_core.api.endpoints import Routing, family_of_path, match_endpoint
from ollama_router_core.api.ollama_errors import model_not_found
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.client.answering import (
    JSON,
    LocalResponse,
    Steps,
    TransportError,
    conclude,
    error_answer,
    router_fields,
)
from ollama_router_core.client.attempts import timeouts_for, walk
from ollama_router_core.client.listing import gather
from ollama_router_core.client.merging import Merging, stream_merged
from ollama_router_core.client.messages import Incoming
from ollama_router_core.client.orders import begin_merging, makes_progress, order_all, servers_for
from ollama_router_core.client.placing import know_the_fleet, place
from ollama_router_core.client.room import Account, Room
from ollama_router_core.errors import BodyTooLarge, ModelNotFound, RouterError, UnsupportedEncoding
from ollama_router_core.outbound.sending import answer_here
from ollama_router_core.routing.model_placement import loaded_on
from ollama_router_core.routing.policy import apply_policy

__all__ = ["exchange"]

_ROOT = b"Ollama is running"


def exchange(room: Room, incoming: Incoming) -> Steps:
    """Serve one request and leave one record."""
    account = room.begin(incoming)
    try:
        answer = yield from _serve(room, account)
    except RouterError as error:
        answer = error_answer(account, error)
        account.status = answer.status
        account.end(error)
    except BaseException:
        account.end(left=True)
        raise
    if isinstance(answer, LocalResponse):
        account.status, account.bytes_out = answer.status, len(answer.content)
        account.end()
    elif isinstance(answer, TransportError):
        account.end(answer.error)
    return answer


def _serve(room: Room, account: Account) -> Steps:
    incoming = account.incoming
    account.family = family_of_path(incoming.path)
    match = match_endpoint(incoming.method, incoming.path)
    request = parse_request(match, incoming.body, content_type=_checked_type(incoming, room))
    request = apply_policy(request, room.config.models).request
    account.request = request
    match request.endpoint.routing:
        case Routing.ROUTER:
            return LocalResponse(200, [(b"content-type", b"text/plain; charset=utf-8")], _ROOT)
        case Routing.GATHER:
            yield from know_the_fleet(room, incoming.library)
            body = yield from gather(room, request, incoming.library)
            return LocalResponse(200, [(b"content-type", JSON), *router_fields(account)], body)
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
        return LocalResponse(200, [(b"content-type", JSON), *router_fields(account)], here)
    ranking = decision.ranking
    if request.route.unloads:
        ranking = loaded_on(room.book.snapshot(account.started), request.route.model) or ranking
    return (yield from _forward(room, account, request, ranking))


def _order(room: Room, account: Account, request: ParsedRequest) -> Steps:
    """Orders about models as files: one server's answer as it comes, or one made of several servers'."""
    names = yield from servers_for(room, account, request)
    if len(names) == 1:
        return (yield from _forward(room, account, request, names))
    timeouts = timeouts_for(account.incoming, room.places[names[0]])
    if makes_progress(request):
        merging = Merging(request.endpoint.name, names)
        yield begin_merging(room, account, request, merging, timeouts)
        return (yield from stream_merged(account, merging))
    body = yield from order_all(room, account, request, names, timeouts)
    return LocalResponse(200, [(b"content-type", JSON), *router_fields(account)], body)


def _forward(room: Room, account: Account, request: ParsedRequest, ranking: tuple[str, ...]) -> Steps:
    """Try the servers in turn, and make an answer of what came of it."""
    walked = yield from walk(room, account, request, ranking)
    return (yield from conclude(account, request, walked))


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
