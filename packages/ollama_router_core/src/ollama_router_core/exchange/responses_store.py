"""Stores responses of `/v1/responses` for their users, so that any destination can continue them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.api.stored_responses import (
    AnswerCollector,
    StoredResponse,
    continued_body,
    not_found,
    previous_id,
    stored,
    wants_store,
)
from ollama_router_core.config.settings import parse_size
from ollama_router_core.errors import RouterError, UnknownRoute
from ollama_router_core.exchange.actions import Action, Fetch, Finish, Forget, Keep, Steps, UseStore, Write
from ollama_router_core.exchange.answers import JSON, answer_whole
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment

__all__ = ["continued", "is_kept", "keeping", "serve_stored"]

_ROUTE = "openai_responses"


def is_kept(environment: Environment, context: RequestContext) -> bool:
    """Whether responses to such a request are stored; without authentication none are."""
    endpoint = context.endpoint
    asks = environment.config.responses.store and context.user is not None
    return asks and endpoint is not None and endpoint.name == _ROUTE


def continued(
    context: RequestContext, request: ParsedRequest, parsed: Callable[[bytes], ParsedRequest]
) -> Steps[ParsedRequest]:
    """Prepend the conversation that the request continues; store the response unless the client declines.

    Raises:
        InvalidBody: the user has no stored response under `previous_response_id`.
    """
    previous, before = previous_id(request), None
    if previous is not None:
        before = yield UseStore(Fetch(context.user_id, previous))
        if before is None:
            raise not_found(previous)
    if before is None and not wants_store(request):
        return request
    context.keeps_answer = wants_store(request)
    context.previous_response = previous
    return parsed(continued_body(request, before))


def keeping(
    environment: Environment, context: RequestContext, request: ParsedRequest, steps: Steps[None]
) -> Steps[None]:
    """Run the steps of a relay; store the response before its last piece is written."""
    collector = AnswerCollector(streamed=request.route.stream, most=parse_size(environment.config.responses.max_size))
    step: Callable[[], Action] = partial(steps.send, None)
    while True:
        try:
            action = step()
        except StopIteration:
            return
        try:
            if isinstance(action, Write | Finish) and context.status == 200:
                yield from _store_complete(environment, context, request, collector, action)
            step = partial(steps.send, (yield action))
        except Exception as error:  # noqa: BLE001 - every exception belongs to the relay
            step = partial(steps.throw, error)


def _store_complete(
    environment: Environment,
    context: RequestContext,
    request: ParsedRequest,
    collector: AnswerCollector,
    action: Write | Finish,
) -> Generator[Action, Any, None]:
    whole = collector.feed(action.data, last=isinstance(action, Finish))
    kept = None if whole is None else stored(request, whole, context.previous_response)
    if kept is not None and kept.size <= parse_size(environment.config.responses.max_size):
        try:  # noqa: SIM105 - a context manager does not span what is thrown in
            yield UseStore(Keep(context.user_id, kept))
        except RouterError:
            pass  # a response that cannot be stored is still sent


def serve_stored(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Answer `GET` and `DELETE` of a response stored for this user.

    Raises:
        UnknownRoute: there is none, or the router stores none.
    """
    response_id = request.parameter or ""
    if not environment.config.responses.store or context.user is None:
        raise UnknownRoute("the router stores no responses (the setting responses.store); store them in your client")
    if context.method == "DELETE":
        gone: bool = yield UseStore(Forget(context.user_id, response_id))
        if not gone:
            raise _not_stored(response_id)
        yield from answer_whole(context, b'{"id":"%b","object":"response","deleted":true}' % response_id.encode(), JSON)
        return
    found: StoredResponse | None = yield UseStore(Fetch(context.user_id, response_id))
    if found is None:
        raise _not_stored(response_id)
    yield from answer_whole(context, found.response, JSON)


def _not_stored(response_id: str) -> UnknownRoute:
    return UnknownRoute(f"Response with id '{response_id}' not found.")
