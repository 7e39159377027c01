"""A logged request under the current rules: `GET /router/requests/{id}/replay`."""

from __future__ import annotations

import falcon
from falcon.asgi import Request

from ollama_router_core.access.grants import Grants
from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.errors import RequestError
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.routing.explanation import Question, explain
from ollama_router_server.admin.json_bodies import user_of
from ollama_router_server.admin.requests_resource import find_request
from ollama_router_server.admin.views.request_replay import RequestReplayView, request_replay_view
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import UnknownUser

__all__ = ["replay_request"]


async def replay_request(services: Services, request: Request, id: str) -> RequestReplayView:  # noqa: A002 - the route's name
    """Repeat the decision for a logged request with the current state; nothing is sent to a server.

    Raises:
        HTTPNotFound: the request had no model, or the user has no such request.
        RequestError: the model's name is invalid.
    """
    record = await find_request(services, id, user_of(request))
    if not record.model_asked:
        raise falcon.HTTPNotFound(
            title="no model", description="the request named no model, so there is no routing decision to replay"
        )
    question = Question(
        model=record.model_asked,
        context=record.num_ctx,
        prompt_tokens=record.prompt_tokens or 0,
        needs=_needs_of(record),
        user=record.user,
        grants=await _grants_of(services, record.user),
    )
    now, traffic = services.clock.monotonic(), services.admission.view.traffic()
    return request_replay_view(record, explain(question, traffic, services.config, now=now, all_strategies=True))


def _needs_of(record: RequestRecord) -> frozenset[str]:
    try:
        needs = match_endpoint(record.method, record.path).endpoint.needs
    except RequestError:
        return frozenset()
    return frozenset() if needs is None else frozenset({needs})


async def _grants_of(services: Services, user: str | None) -> Grants | None:
    try:
        return None if user is None else await services.users.grants(user)
    except UnknownUser:
        return None
