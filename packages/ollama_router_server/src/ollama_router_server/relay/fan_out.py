"""Routes that every server answers together: all are asked at once, and none may hold up the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ollama_router_core.access.grants import may_use_cloud, may_use_host, may_use_model
from ollama_router_core.api.endpoints import Family
from ollama_router_core.api.model_names import canonical_name, is_cloud_name
from ollama_router_core.api.ollama_errors import model_not_found
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import NoServerFits, UnknownRoute, UpstreamError
from ollama_router_core.fleet.observations import observe_ps, observe_tags
from ollama_router_core.responses.merging import (
    find_openai_model,
    lowest_version,
    merge_openai_models,
    merge_ps,
    merge_status,
    merge_tags,
    openai_from_tags,
)
from ollama_router_core.translate import ExternalModel, codec_of
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.relay.answers import JSON, JSON_UTF8, answer_whole
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.storage.users import User
from ollama_router_server.system import Clock
from ollama_router_server.upstream.fetching import fetch
from ollama_router_server.upstream.interface import Timeouts, Upstream
from ollama_router_server.upstream.targets import Target

__all__ = ["Gathering"]

DEADLINE_SECONDS = 1.0
"""Of a server that has not answered by then the last answer counts; the whole takes under 1.5 s."""

_LOOK_AGAIN_SECONDS = 5.0


@dataclass(slots=True)
class _Replies:
    """What servers answered: bodies of those who did what was asked, statuses of all who answered."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    statuses: set[int] = field(default_factory=set)


class Gathering:
    """Answers `/api/tags`, `/api/ps`, `/api/version`, `/api/status` and `/v1/models` for the whole fleet."""

    def __init__(
        self, config: Config, targets: Mapping[str, Target], upstream: Upstream, fleet: FleetService, clock: Clock
    ) -> None:
        self._config = config
        self._targets = targets
        self._upstream = upstream
        self._fleet = fleet
        self._clock = clock
        self._looking: asyncio.Task[_Replies] | None = None
        self._looked_at = float("-inf")
        self._timeouts = Timeouts(connect=DEADLINE_SECONDS, first_byte=DEADLINE_SECONDS, idle=DEADLINE_SECONDS)

    async def serve(self, exchange: Exchange, request: ParsedRequest) -> None:
        """Answer with the merged body.

        Raises:
            NoServerFits: `/api/version` when no server answers.
            ModelNotFound: `/v1/models/{model}` for a model that nobody has, or that this user may not see.
            UnknownRoute: no server is new enough to know the route.
        """
        endpoint, user = request.endpoint, exchange.user
        path = "/v1/models" if endpoint.name == "openai_model" else endpoint.path
        replies = await self._ask(path)
        body = self._merge(request, replies, user)
        await answer_whole(exchange, body, JSON if endpoint.family is Family.OPENAI else JSON_UTF8)

    async def refresh(self, path: str) -> None:
        """Have every server that is up asked now, so that the snapshot is true; for orders about models."""
        await self._ask(path)

    def models_changed(self) -> None:
        """An order of ours has changed what servers hold: the next model that is missed is looked for again."""
        self._looked_at = float("-inf")

    async def look_again(self) -> bool:
        """Ask for the models once more, at most every five seconds; whether that was done just now.

        For a model that nobody is known to have: it may have been pulled since, through us or past us.
        """
        if self._looking is None:
            now = self._clock.monotonic()
            if now - self._looked_at < _LOOK_AGAIN_SECONDS:
                return False
            self._looked_at = now
            self._looking = asyncio.create_task(self._ask("/api/tags"))
            self._looking.add_done_callback(self._looked)
        await asyncio.shield(self._looking)
        return True

    def _looked(self, _task: asyncio.Task[_Replies]) -> None:
        self._looking = None

    def _merge(self, request: ParsedRequest, replies: _Replies, user: User | None) -> bytes:
        may_see, bodies = self._may_see(user), replies.bodies
        match request.endpoint.name:
            case "tags":
                return merge_tags(bodies, self._entries(request, user), may_see=may_see)
            case "ps":
                return merge_ps(bodies, may_see=may_see)
            case "openai_models":
                return merge_openai_models(bodies, self._entries(request, user), may_see=may_see)
            case "openai_model":
                return self._one_model(request, bodies, user)
            case "status":
                return self._status(replies, user)
            case _:
                return self._version(bodies)

    def _version(self, bodies: Mapping[str, bytes]) -> bytes:
        version = lowest_version(bodies)
        if version is None:
            raise NoServerFits("no server answers: see orouter status", retry_after=5)
        return json.dumps({"version": version}, separators=(",", ":")).encode()

    def _status(self, replies: _Replies, user: User | None) -> bytes:
        if not replies.bodies and replies.statuses == {404}:
            raise UnknownRoute("404 page not found")
        return merge_status(replies.bodies, allowed=self._may_use_cloud(user))

    def _one_model(self, request: ParsedRequest, bodies: Mapping[str, bytes], user: User | None) -> bytes:
        asked = request.parameter or ""
        found = find_openai_model(bodies, self._entries(request, user), asked, may_see=self._may_see(user))
        if found is None:
            raise model_not_found(request.endpoint.name, asked)
        return found

    def _may_use_cloud(self, user: User | None) -> bool:
        return user is not None and may_use_cloud(user.role, user.grants, self._config.cloud)

    def _may_see(self, user: User | None) -> Callable[[Mapping[str, Any]], bool]:
        cloud = self._may_use_cloud(user)

        def may_see(row: Mapping[str, Any]) -> bool:
            name = str(row.get("name") or row.get("model") or row.get("id") or "")
            hosted = bool(row.get("remote_host")) or is_cloud_name(name) or self._fleet.is_stub(canonical_name(name))
            return user is not None and may_use_model(user.grants, name) and (cloud or not hosted)

        return may_see

    def _entries(self, request: ParsedRequest, user: User | None) -> Iterator[Mapping[str, Any]]:
        return map(codec_of(request.endpoint.family).model_entry, self._listed(user))

    def _listed(self, user: User | None) -> list[ExternalModel]:
        """Models that the config assigns: external hosts list nothing, and a server may not have its own yet."""
        if user is None:
            return []
        found = []
        for model, place in self._config.models.explicit_assignments.items():
            host = self._config.external_hosts.get(place)
            target = host or self._config.servers.get(place)
            if target is None or not target.enabled or not may_use_model(user.grants, model):
                continue
            if host is not None and not may_use_host(user.grants, place):
                continue
            found.append(self._targets[place].place.listing(model))
        return found

    async def _ask(self, path: str) -> _Replies:
        up = [name for name, facts in self._fleet.snapshot.servers.items() if facts.up]
        replies = _Replies()
        tasks = [asyncio.ensure_future(self._ask_one(name, path, replies)) for name in up]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=DEADLINE_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for name in up:
            known = self._known(name, path)
            if known is not None:
                replies.bodies.setdefault(name, known)
        return replies

    async def _ask_one(self, name: str, path: str, replies: _Replies) -> None:
        try:
            status, body = await fetch(self._upstream, self._targets[name], "GET", path, timeouts=self._timeouts)
        except UpstreamError:
            return
        replies.statuses.add(status)
        if status != 200:
            self._fleet.remember(name, path, None)
            return
        replies.bodies[name] = body
        self._fleet.remember(name, path, body)
        now = self._fleet.now()
        if path == "/api/tags":
            self._fleet.update(name, partial(observe_tags, body=body, now=now))
        elif path == "/api/ps":
            self._fleet.update(name, partial(observe_ps, body=body, now=now, wall=self._clock.wall()))

    def _known(self, name: str, path: str) -> bytes | None:
        """What a server that is up but slow said last."""
        known = self._fleet.last_reply(name, path)
        if known is None and path == "/v1/models":
            tags = self._fleet.last_reply(name, "/api/tags")
            return None if tags is None else openai_from_tags(tags)
        return known
