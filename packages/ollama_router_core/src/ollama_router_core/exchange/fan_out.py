"""Routes that the whole fleet answers: all servers are asked in parallel, under a common deadline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from msgspec import Struct

from ollama_router_core.access.grants import may_use_cloud, may_use_host, may_use_model
from ollama_router_core.api.endpoints import ENDPOINTS, Routing
from ollama_router_core.api.model_names import canonical_name, is_cloud_name
from ollama_router_core.api.ollama_errors import model_not_found
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import NoServerFits, RouterError, UnknownRoute, UpstreamProtocolError
from ollama_router_core.exchange.actions import Steps
from ollama_router_core.exchange.answers import JSON, JSON_UTF8, answer_for
from ollama_router_core.exchange.asking import Reply, ask_all, own_request
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Caller
from ollama_router_core.fleet.observations import observe_ps, observe_tags
from ollama_router_core.fleet.snapshot import InstalledModel
from ollama_router_core.responses.merging import (
    ListedModel,
    anthropic_model,
    anthropic_models,
    find_openai_model,
    lowest_version,
    merge_openai_models,
    merge_ps,
    merge_status,
    merge_tags,
    openai_from_tags,
)
from ollama_router_core.responses.server_documents import LONGEST_DOCUMENT
from ollama_router_core.routing.policy import resolve_alias
from ollama_router_core.translate import ExternalModel, codec_of

__all__ = ["Replies", "answer_merged", "ask_fleet"]

DEADLINE_SECONDS = 1.0
"""Seconds until a server's previous reply is used instead; the whole response takes under 1.5 s."""

Row = Mapping[str, Any]


class Replies(Struct, frozen=True):
    """The servers' replies: usable bodies by server, and the statuses of all that answered."""

    bodies: Mapping[str, bytes]
    statuses: frozenset[int]


def answer_merged(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Answer `/api/tags`, `/api/ps`, `/api/version`, `/api/status`, `/v1/models` for the whole fleet.

    Raises:
        NoServerFits: `/api/version` when no server answers.
        ModelNotFound: `/v1/models/{model}` for a model that no server has, or that the user may not see.
        UnknownRoute: no server is new enough to know the route.
    """
    endpoint = request.endpoint
    path = "/v1/models" if endpoint.name == "openai_model" else endpoint.path
    replies = yield from ask_fleet(environment, path)
    listing = _Listing(environment, context.user, request, replies)
    body = _MERGES[endpoint.name](listing)
    if endpoint.name in _ANTHROPIC_TOO and any(name == b"anthropic-version" for name, _ in context.headers):
        body = _ANTHROPIC_TOO[endpoint.name](body, listing.details_of)
    yield from answer_for(context, body, JSON_UTF8 if endpoint.native else JSON)


def ask_fleet(environment: Environment, path: str) -> Steps[Replies]:
    """Ask every server that is up, and record the replies as facts; a slow server counts with its last reply."""
    fleet = environment.fleet
    up = [name for name, facts in fleet.snapshot.servers.items() if facts.up]
    requests = [own_request(environment, name, "GET", path, seconds=DEADLINE_SECONDS) for name in up]
    answers = yield from ask_all(environment, requests, seconds=DEADLINE_SECONDS, longest=LONGEST_DOCUMENT)
    bodies: dict[str, bytes] = {}
    for name, answer in zip(up, answers, strict=True):
        body = _record_reply(environment, name, path, answer)
        if body is not None:
            bodies[name] = body
    return Replies(bodies, frozenset(answer.status for answer in answers if isinstance(answer, Reply)))


def _record_reply(environment: Environment, name: str, path: str, answer: Reply | RouterError) -> bytes | None:
    """Record a server's reply; return it if it is valid, else the last one."""
    fleet = environment.fleet
    if isinstance(answer, Reply) and answer.status == 200 and _record_facts(environment, name, path, answer.body):
        fleet.remember(name, path, answer.body)
        return answer.body
    if isinstance(answer, Reply):
        fleet.remember(name, path, None)
    known = fleet.last_reply(name, path)
    if known is None and path == "/v1/models":
        tags = fleet.last_reply(name, "/api/tags")
        return None if tags is None else openai_from_tags(tags)
    return known


def _record_facts(environment: Environment, name: str, path: str, body: bytes) -> bool:
    """Whether the body is valid for the route; record what it reports about the server's models."""
    fleet, now = environment.fleet, environment.now()
    try:
        if path == "/api/tags":
            fleet.update(name, partial(observe_tags, body=body, now=now))
        elif path == "/api/ps":
            fleet.update(name, partial(observe_ps, body=body, now=now, wall=environment.clock.wall()))
    except UpstreamProtocolError:
        return False
    return True


def _longest_context(model: InstalledModel) -> int | None:
    return model.context_length if model.facts is None else model.facts.context_length


class _Listing:
    """The servers' replies, filtered by what one user may see."""

    def __init__(self, environment: Environment, user: Caller | None, request: ParsedRequest, replies: Replies) -> None:
        self._environment = environment
        self._user = user
        self._request = request
        self._replies = replies
        self._is_open = environment.limits is None  # no authentication
        self._cloud = self._is_open or (
            user is not None and may_use_cloud(user.role, user.grants, environment.config.cloud)
        )

    def tags(self) -> bytes:
        return merge_tags(self._replies.bodies, self._entries(), aliases=self._aliases, may_see=self._may_see())

    def ps(self) -> bytes:
        return merge_ps(self._replies.bodies, may_see=self._may_see())

    def openai_models(self) -> bytes:
        rows = self._entries()
        return merge_openai_models(self._replies.bodies, rows, aliases=self._aliases, may_see=self._may_see())

    def openai_model(self) -> bytes:
        asked, rows = self._request.parameter or "", self._entries()
        meant = resolve_alias(asked, self._environment.config.models)
        found = find_openai_model(self._replies.bodies, rows, asked, meant=meant, may_see=self._may_see())
        if found is None:
            raise model_not_found(self._request.endpoint.name, asked)
        return found

    @property
    def _aliases(self) -> Mapping[str, str]:
        """Model aliases, each with the name it finally resolves to."""
        settings = self._environment.config.models
        return {alias: resolve_alias(alias, settings) for alias in settings.aliases}

    def status(self) -> bytes:
        if not self._replies.bodies and self._replies.statuses == {404}:
            raise UnknownRoute("404 page not found")
        return merge_status(self._replies.bodies, allowed=self._cloud)

    def version(self) -> bytes:
        version = lowest_version(self._replies.bodies)
        if version is None:
            raise NoServerFits("no server answers: see orouter status", retry_after=5)
        return json.dumps({"version": version}, separators=(",", ":")).encode()

    def details_of(self, name: str) -> ListedModel:
        """Describe a model in a list for Anthropic's clients, from its host's settings or its servers' facts.

        The output limit of a server's model is its context length.
        """
        config = self._environment.config
        asked, name = name, resolve_alias(name, config.models)
        title = name if name == asked else f"{asked} ({name})"
        assigned = config.models.explicit_assignments.get(name)
        if assigned is not None and assigned in config.external_hosts:
            listed = self._environment.destinations[assigned].listing(name)
            return ListedModel(title, listed.context, listed.output)
        servers = self._environment.fleet.snapshot.servers.values()
        found = ((server.installed or {}).get(canonical_name(name)) for server in servers)
        lengths = (None if one is None else _longest_context(one) for one in found)
        longest = max((length for length in lengths if length is not None), default=None)
        return ListedModel(title, longest, longest)

    def _entries(self) -> Iterator[Row]:
        return map(codec_of(self._request.endpoint.family).model_entry, self._assigned())

    def _may_use(self, model: str) -> bool:
        return self._is_open or (self._user is not None and may_use_model(self._user.grants, model))

    def _may_see(self) -> Callable[[Row], bool]:
        fleet = self._environment.fleet

        def may_see(row: Row) -> bool:
            name = str(row.get("name") or row.get("model") or row.get("id") or "")
            hosted = bool(row.get("remote_host")) or is_cloud_name(name) or fleet.is_stub(canonical_name(name))
            return self._may_use(name) and (self._cloud or not hosted)

        return may_see

    def _may_use_host(self, name: str) -> bool:
        user, rule = self._user, self._environment.config.external_hosts_for
        return user is None or may_use_host(user.role, user.grants, rule, name)

    def _assigned(self) -> list[ExternalModel]:
        """Return the models assigned in the config: external hosts list none, and a server may not have its own yet."""
        config, found = self._environment.config, []
        for model, name in config.models.explicit_assignments.items():
            host = config.external_hosts.get(name)
            target = host or config.servers.get(name)
            if target is None or not target.enabled or not self._may_use(model):
                continue
            if host is not None and not self._may_use_host(name):
                continue
            found.append(self._environment.destinations[name].listing(model))
        return found


_ANTHROPIC_TOO: Mapping[str, Callable[[bytes, Callable[[str], ListedModel]], bytes]] = {
    "openai_models": anthropic_models,
    "openai_model": anthropic_model,
}
"""Routes that Anthropic's API also has, in another format."""
_MERGES: Mapping[str, Callable[[_Listing], bytes]] = {
    "tags": _Listing.tags,
    "ps": _Listing.ps,
    "version": _Listing.version,
    "status": _Listing.status,
    "openai_models": _Listing.openai_models,
    "openai_model": _Listing.openai_model,
}
_missing = {row.name for row in ENDPOINTS if row.routing is Routing.GATHER} - _MERGES.keys()
if _missing:
    raise LookupError(f"nothing merges the answers of these endpoints: {_missing}")
