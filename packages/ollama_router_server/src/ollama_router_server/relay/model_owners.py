"""Requests for the servers that hold a model: delete, copy, push, unload."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ollama_router_core.api.ollama_errors import model_not_found
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import InvalidTarget, NoServerFits, PartlyDone, RouterError
from ollama_router_core.fleet.observations import observe_unloaded
from ollama_router_core.routing.model_placement import (
    Named,
    differing_digests,
    loaded_on,
    owners,
    read_target,
    servers_by_priority,
)
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.relay.answers import answer_whole
from ollama_router_server.relay.delivery import deliver
from ollama_router_server.relay.dispatch import Dispatch, Outgoing, Reply
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.relay.fan_out import Gathering
from ollama_router_server.system import Clock

__all__ = ["Holders"]

Replies = Mapping[str, Reply | RouterError]


class Holders:
    """Serves the routes of the table that go to holders."""

    def __init__(
        self, config: Config, fleet: FleetService, dispatch: Dispatch, gathering: Gathering, clock: Clock
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._dispatch = dispatch
        self._gathering = gathering
        self._clock = clock

    async def serve(self, exchange: Exchange, request: ParsedRequest) -> None:
        """Delete, copy or push.

        Raises:
            RouterError: nobody has the model, a target is unknown, or some server failed.
        """
        await self._gathering.refresh("/api/tags")
        names = self._holders(exchange, request)
        if request.endpoint.name == "push":
            await self._push(exchange, request, self._one(request, names))
        else:
            await self._everywhere(exchange, request, names)

    async def unload(self, exchange: Exchange, request: ParsedRequest) -> None:
        """Unload a model wherever it is in memory.

        Raises:
            RouterError: nobody has the model, or some server failed.
        """
        await self._gathering.refresh("/api/ps")
        model = request.route.model
        names = loaded_on(self._fleet.snapshot, model) or self._up(owners(self._fleet.snapshot, model))[:1]
        if not names:
            raise model_not_found(request.endpoint.name, request.route.model_text or "")
        replies = await self._ask(exchange, request, names)
        for name, reply in replies.items():
            if isinstance(reply, Reply) and reply.ok and model is not None:
                self._fleet.update(name, partial(observe_unloaded, name=model))
        await self._conclude(exchange, request, replies)

    def _holders(self, exchange: Exchange, request: ParsedRequest) -> tuple[str, ...]:
        target = read_target(exchange.header(b"x-router-target"), self._config)
        if isinstance(target, Named):
            return target.servers
        names = owners(self._fleet.snapshot, request.route.model)
        if not names:
            raise model_not_found(request.endpoint.name, request.route.model_text or "")
        return names

    def _up(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in servers_by_priority(self._fleet.snapshot, self._config) if name in names)

    def _one(self, request: ParsedRequest, names: tuple[str, ...]) -> str:
        """The server to push from: it must not matter which."""
        model = request.route.model
        digests = {} if model is None else differing_digests(self._fleet.snapshot).get(model, {})
        if len(names) > 1 and digests:
            apart = "; ".join(f"{digest[:12]} on {', '.join(servers)}" for digest, servers in digests.items())
            text = request.route.model_text
            raise InvalidTarget(f"{text} is not the same everywhere ({apart}): name one server in X-Router-Target")
        up = self._up(names)
        if not up:
            raise NoServerFits(f"{request.route.model_text} is on {', '.join(names)}, which cannot be reached now")
        return up[0]

    async def _push(self, exchange: Exchange, request: ParsedRequest, name: str) -> None:
        exchange.server, exchange.attempts = name, 1
        answer = await self._dispatch.open(exchange, name, _outgoing(request))
        try:
            await deliver(exchange, request, answer, self._clock)
        finally:
            answer.release()

    async def _everywhere(self, exchange: Exchange, request: ParsedRequest, names: tuple[str, ...]) -> None:
        replies = await self._ask(exchange, request, names)
        for name in names:
            self._fleet.refresh_soon(name)
        self._gathering.models_changed()
        await self._conclude(exchange, request, replies)

    async def _ask(self, exchange: Exchange, request: ParsedRequest, names: tuple[str, ...]) -> Replies:
        exchange.server, exchange.attempts = ", ".join(names), len(names)
        return await self._dispatch.ask_all(exchange, names, _outgoing(request))

    async def _conclude(self, exchange: Exchange, request: ParsedRequest, replies: Replies) -> None:
        """All did it: their answer. One was asked: its answer. Else an error that names who failed and who did not."""
        first = next(iter(replies.values()))
        failed = {name: reply for name, reply in replies.items() if isinstance(reply, RouterError) or not reply.ok}
        if len(replies) > 1 and failed:
            raise _partly(request.endpoint.name, failed, [name for name in replies if name not in failed])
        if isinstance(first, RouterError):
            raise first
        kind = next((value for field, value in first.headers if field == b"content-type"), None)
        await answer_whole(exchange, first.body, kind, status=first.status)


def _outgoing(request: ParsedRequest) -> Outgoing:
    patient = request.endpoint.name == "push"
    return Outgoing(method=request.endpoint.methods[0], target=request.target, body=request.body, patient=patient)


def _partly(verb: str, failed: Replies, done: list[str]) -> PartlyDone:
    reasons = "; ".join(f"{name}: {_reason(reply)}" for name, reply in failed.items())
    rest = f" (done on {', '.join(done)})" if done else ""
    return PartlyDone(f"{verb} failed on {reasons}{rest}")


def _reason(reply: Reply | RouterError) -> str:
    if isinstance(reply, RouterError):
        return reply.message
    return f"{reply.status} {reply.body[:200].decode('utf-8', 'replace')}".strip()
