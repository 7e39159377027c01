"""Requests on behalf of another person: they count as that person's once the person is known."""

from __future__ import annotations

from ollama_router_core.access.speaking import NAMING, named_in_body
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.exchange.access import check_route, count, is_counted
from ollama_router_core.exchange.actions import Steps, Verify
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment

__all__ = ["speak", "speak_for_named"]


def speak(environment: Environment, context: RequestContext, person: str | None) -> Steps[None]:
    """Assign the request to this person and count it; None leaves both to `speak_for_named`.

    Raises:
        Forbidden: the sender may not ask on behalf of this person, or the name is unknown.
        LimitExceeded: a limit of the person is used up.
    """
    speaker = context.speaker
    if speaker is None or person is None:
        return
    user = yield Verify(context.headers, context.address, speaker, person)
    context.user = user
    context.changes = (f"{speaker.name} on behalf of {user.name}",)
    yield from _check_and_count(environment, context)


def speak_for_named(
    environment: Environment, context: RequestContext, request: ParsedRequest | None = None
) -> Steps[None]:
    """Assign the request to the person named in the body, if no header named one; without a name it stays the sender's.

    Raises:
        Forbidden, LimitExceeded: as `speak`.
    """
    if context.speaker is None or context.user is not context.speaker:
        return
    person = None if request is None else _named_person(request)
    if person is None:
        yield from _check_and_count(environment, context)
    else:
        yield from speak(environment, context, person)


def _named_person(request: ParsedRequest) -> str | None:
    document = request.document
    if request.form is not None:
        return named_in_body({"user": request.form.value("user")})
    return None if document is None else named_in_body({key: document.get(key) for key in NAMING & document.keys})


def _check_and_count(environment: Environment, context: RequestContext) -> Steps[None]:
    user, endpoint, limits = context.user, context.endpoint, environment.limits
    if user is None or endpoint is None or limits is None:
        return
    if user is not context.speaker:
        check_route(user, endpoint, context.address, wall=context.started_at)
    if is_counted(user, endpoint):
        yield from count(context, limits, user)
