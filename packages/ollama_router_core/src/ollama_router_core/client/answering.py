"""What a program gets: a server's answer as it comes, translated, or the router's own words."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from msgspec import Struct

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.client.attempts import Walked
from ollama_router_core.client.bodies import AnswerBody
from ollama_router_core.client.messages import header_fields
from ollama_router_core.client.room import Account
from ollama_router_core.client.steps import Failure, Head, ReadBody, Release, Wait
from ollama_router_core.errors import RouterError, UpstreamProtocolError
from ollama_router_core.outbound.header_fields import answer_fields, reason_field
from ollama_router_core.outbound.sending import Translation
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.forwarding import REJECTIONS, GiveUp, Relay
from ollama_router_core.translate import error_body

__all__ = [
    "JSON",
    "Answer",
    "LocalResponse",
    "PassedResponse",
    "Streamed",
    "TransportError",
    "conclude",
    "error_answer",
    "router_fields",
]

_LONGEST_ERROR = 64 * 1024
_LONGEST_REPLY = 64 * 1024 * 1024
JSON = b"application/json; charset=utf-8"


class LocalResponse(Struct, frozen=True):
    """An answer that the router writes."""

    status: int
    fields: list[tuple[bytes, bytes]]
    content: bytes


class PassedResponse(Struct, frozen=True):
    """A server's answer on its way: `head`'s stream goes through `body`."""

    head: Head
    fields: list[tuple[bytes, bytes]]
    body: AnswerBody


class Streamed(Struct, frozen=True):
    """An answer that the router writes while it is made: `steps` yields its pieces, and `Wait` between them."""

    fields: list[tuple[bytes, bytes]]
    steps: Generator[Wait | bytes, None, None]


class TransportError(Struct, frozen=True):
    """No server answered: the program gets an exception, as of any transport."""

    error: RouterError
    original: BaseException


Answer = LocalResponse | Streamed | PassedResponse | TransportError
Steps = Generator[Any, Any, Answer]


def conclude(account: Account, request: ParsedRequest, walked: Walked) -> Steps:
    """The answer, once a server has given one or nobody is left to ask.

    Raises:
        RouterError: there is no answer, and none that a transport would raise.
    """
    result, last = walked.result, walked.last
    head, translation = last.head, last.outbound.translation
    if isinstance(result, Relay) and head is not None:
        if translation is None and (head.status < 400 or not head.destination.external):
            return _pass_on(account, request, head, None)
        return (yield from _deliver(account, request, head, translation))
    if head is not None:
        yield Release(head)
    error = result.error if isinstance(result, GiveUp) else None
    if last.failure is not None and error is not None:
        return TransportError(error, last.failure.original)
    raise error or UpstreamProtocolError("there is no answer to relay")


def _deliver(account: Account, request: ParsedRequest, head: Head, translation: Translation | None) -> Steps:
    if head.destination.external and head.status >= 400:
        return (yield from _deliver_error(account, head, translation))
    if translation is not None and not translation.stream:
        return (yield from _deliver_whole(account, head, translation))
    return _pass_on(account, request, head, translation)


def _pass_on(account: Account, request: ParsedRequest, head: Head, translation: Translation | None) -> PassedResponse:
    """The answer piece by piece, as it comes."""
    if translation is not None:
        return _pass_translated(account, request, head, translation)
    if request.endpoint.counts_usage and head.status == 200:
        account.watch(request.endpoint.family, streamed=request.route.stream)
    fields = [*answer_fields(header_fields(head.response.headers)), *router_fields(account)]
    if account.attempts > 1 and head.status in REJECTIONS:
        fields.append((b"x-should-retry", b"false"))  # every server that could be asked has refused
    return PassedResponse(head, fields, AnswerBody(account))


def _pass_translated(account: Account, request: ParsedRequest, head: Head, translation: Translation) -> PassedResponse:
    if request.endpoint.counts_usage and head.status == 200:
        account.watch(translation.host.family, streamed=request.route.stream)
    fields = answer_fields(header_fields(head.response.headers), rewritten=True)
    fields += router_fields(account)
    fields += [(b"content-type", translation.content_type), *translation.dropped_field]
    return PassedResponse(head, fields, AnswerBody(account, translation.stream_translator(account.stamp)))


def _deliver_whole(account: Account, head: Head, translation: Translation) -> Steps:
    body = yield ReadBody(head, _LONGEST_REPLY)
    if isinstance(body, Failure):
        return TransportError(body.error, body.original)
    account.watch(translation.host.family, streamed=False)
    account.note(body)
    written = translation.reply(body, account.stamp, elapsed_ns=account.elapsed_ns())
    fields = [
        *answer_fields(header_fields(head.response.headers), rewritten=True),
        *router_fields(account),
    ]
    return LocalResponse(head.status, [*fields, (b"content-type", JSON), *translation.dropped_field], written)


def _deliver_error(account: Account, head: Head, translation: Translation | None) -> Steps:
    """Errors of foreign services may echo our key: they are short, so they are held and cleaned."""
    body = yield ReadBody(head, _LONGEST_ERROR)
    if isinstance(body, Failure):
        return TransportError(body.error, body.original)
    place = head.destination
    body = place.redact(body)[:_LONGEST_ERROR]
    kept = answer_fields(header_fields(head.response.headers), rewritten=translation is not None)
    fields = [(name, place.redact(value)) for name, value in kept if name != b"content-length"]
    fields += router_fields(account)
    if translation is None:
        return LocalResponse(head.status, fields, body)
    error = translation.error(head.status, body, account.stamp)
    return LocalResponse(error.status, [*fields, (b"content-type", JSON)], error.body)


def router_fields(account: Account) -> list[tuple[bytes, bytes]]:
    """What an answer tells about its way."""
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
    """Why this server: the decision's reason for its first choice, else the server's own verdict."""
    if server is None or not decision.ranking or server == decision.ranking[0]:
        return decision.reason
    return next((verdict.text for verdict in decision.verdicts if verdict.server == server), decision.reason)


def error_answer(account: Account, error: RouterError) -> LocalResponse:
    """An error in the dialect of the route."""
    status = error.status_hint
    body = error_body(account.family, status, error.message, code=error.code, request_id=account.id)
    fields = [(b"content-type", JSON), (b"x-router-error", error.code.encode()), *router_fields(account)]
    if error.retry_after is not None:
        fields.append((b"retry-after", b"%d" % max(1, round(error.retry_after))))
    if status >= 500 and (account.attempts or error.retry_after is None):
        fields.append((b"x-should-retry", b"false"))  # else nothing was sent: coming back later is what helps
    return LocalResponse(status, fields, body)
