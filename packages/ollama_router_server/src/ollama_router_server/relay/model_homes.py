"""Requests that need a home: pull, create, blobs, and what concerns one server's owner.

Where blobs are is asked of the servers, not remembered: the digest says it, also after a restart. Only which server a
user's uploads went to is kept for a while, so that the blobs of one model end up together.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict

from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import ParsedRequest, RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import Forbidden, InvalidTarget, ModelNotFound, NoServerFits, PartlyDone, RouterError
from ollama_router_core.routing.model_placement import (
    Unsaid,
    owners,
    read_target,
    servers_by_priority,
    servers_for_target,
)
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.relay.answers import answer_whole
from ollama_router_server.relay.delivery import deliver
from ollama_router_server.relay.dispatch import Dispatch, Outgoing
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.relay.fan_out import Gathering
from ollama_router_server.relay.merging import merge_progress
from ollama_router_server.relay.uploads import declared_length, send_to_all
from ollama_router_server.system import Clock

__all__ = ["Homes", "LastHomes"]

_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}", re.ASCII)
_TOGETHER_SECONDS = 600.0
_LOOK_SECONDS = 2.0
_MOST_REMEMBERED = 1024


LastHomes = OrderedDict[int, tuple[str, float]]
"""Where a user's last upload went, and when; outlives a change of the config."""


class Homes:
    """Serves the routes of the table that need a home."""

    def __init__(
        self,
        config: Config,
        fleet: FleetService,
        dispatch: Dispatch,
        gathering: Gathering,
        clock: Clock,
        last_homes: LastHomes,
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._dispatch = dispatch
        self._gathering = gathering
        self._clock = clock
        self._last_home = last_homes

    async def serve(self, exchange: Exchange, request: ParsedRequest) -> None:
        """Find the home or homes and do what was asked there.

        Raises:
            RouterError: no server is up, a target is unknown, a server failed, or the route is closed.
        """
        match request.endpoint.name:
            case "blob_exists":
                await self._blob_exists(exchange, _checked(request))
            case "blob_upload":
                await self._upload(exchange, _checked(request))
            case "pull" | "create":
                await self._make(exchange, request)
            case _:
                await self._account(exchange, request)

    # models -------------------------------------------------------------------------------------------

    async def _make(self, exchange: Exchange, request: ParsedRequest) -> None:
        await self._gathering.refresh("/api/tags")
        names = await self._places(exchange, request)
        outgoing = Outgoing(method="POST", target=request.target, body=request.body, patient=True)
        try:
            if len(names) == 1:
                await self._pass_on(exchange, request, names[0], outgoing)
            else:
                await merge_progress(exchange, request, names, self._dispatch, outgoing)
        finally:
            self._gathering.models_changed()
            for name in names:
                self._fleet.refresh_soon(name)

    async def _places(self, exchange: Exchange, request: ParsedRequest) -> tuple[str, ...]:
        target = read_target(exchange.header(b"x-router-target"), self._config)
        model = request.route
        if request.endpoint.name == "create":
            if isinstance(target, Unsaid):
                return (await self._creator(exchange, request),)
            model = _sized_as(request)
        return servers_for_target(target, model, self._fleet.snapshot, self._config)

    async def _creator(self, exchange: Exchange, request: ParsedRequest) -> str:
        """The one server that has what the new model is made of."""
        snapshot = self._fleet.snapshot
        up = self._up()
        if request.blobs:
            up = await self._with_all(exchange, request.blobs, up) or self._blob_home(exchange)
        if request.base:
            base = owners(snapshot, canonical_name(request.base))
            having = [name for name in up if name in base]
            return having[0] if having or request.blobs else self._where_it_fits(request)[0]
        return up[0]

    def _where_it_fits(self, request: ParsedRequest) -> tuple[str, ...]:
        return servers_for_target(Unsaid(), _sized_as(request), self._fleet.snapshot, self._config)

    # blobs --------------------------------------------------------------------------------------------

    async def _blob_exists(self, exchange: Exchange, request: ParsedRequest) -> None:
        """Yes only if what follows will find it there: on all servers named, on this user's home, or anywhere."""
        target = read_target(exchange.header(b"x-router-target"), self._config)
        if isinstance(target, Unsaid):
            names, wanted = self._remembered(exchange) or self._up(), 1
        else:
            names = servers_for_target(target, request.route, self._fleet.snapshot, self._config)
            wanted = len(names)
        digest = request.parameter or ""
        found = await self._found(exchange, {digest}, names)
        having = [name for name in names if found[name]]
        if len(having) < wanted:
            raise ModelNotFound(f'blob "{digest}" not found')
        if isinstance(target, Unsaid):
            self._remember(exchange, having[0])
        exchange.server, exchange.attempts = ", ".join(having), len(names)
        await answer_whole(exchange, b"", None)

    async def _upload(self, exchange: Exchange, request: ParsedRequest) -> None:
        target = read_target(exchange.header(b"x-router-target"), self._config)
        if isinstance(target, Unsaid):
            names = self._blob_home(exchange)[:1]
            self._remember(exchange, names[0])
        else:
            names = servers_for_target(target, request.route, self._fleet.snapshot, self._config)
        if len(names) > 1:
            await self._upload_to_all(exchange, request, names)
            return
        length = declared_length(exchange.headers)
        body = exchange.client.pieces()
        outgoing = Outgoing(method="POST", target=request.target, body=body, body_length=length, patient=True)
        await self._pass_on(exchange, request, names[0], outgoing)

    async def _upload_to_all(self, exchange: Exchange, request: ParsedRequest, names: tuple[str, ...]) -> None:
        exchange.server, exchange.attempts = ", ".join(names), len(names)
        replies = await send_to_all(exchange, names, request.target, self._dispatch)
        failed = {name: text for name, (status, text) in replies.items() if status not in {200, 201}}
        if failed:
            raise PartlyDone("upload failed on " + "; ".join(f"{name}: {text}" for name, text in failed.items()))
        await answer_whole(exchange, b"", None, status=max(status for status, _ in replies.values()))

    async def _with_all(self, exchange: Exchange, digests: frozenset[str], up: tuple[str, ...]) -> tuple[str, ...]:
        """Servers that have all blobs, this user's home first; none if nobody has any.

        Raises:
            InvalidTarget: they lie apart.
        """
        found = await self._found(exchange, digests, up)
        whole = tuple(name for name in up if len(found[name]) == len(digests))
        if not whole and any(found.values()):
            apart = "; ".join(f"{name} has {len(held)} of {len(digests)}" for name, held in found.items() if held)
            raise InvalidTarget(f"no server has all files of this model ({apart}): send them again to one server")
        home = self._remembered(exchange)
        return tuple(sorted(whole, key=lambda name: name not in home))

    async def _found(
        self, exchange: Exchange, digests: set[str] | frozenset[str], names: tuple[str, ...]
    ) -> dict[str, set[str]]:
        """Which of these blobs each server has; one that does not say so in time has none."""
        good = [digest for digest in digests if _DIGEST.fullmatch(digest)]
        pairs = [(name, digest) for name in names for digest in good]
        has = await asyncio.gather(*(self._has(exchange, name, digest) for name, digest in pairs))
        found: dict[str, set[str]] = {name: set() for name in names}
        for (name, digest), yes in zip(pairs, has, strict=True):
            if yes:
                found[name].add(digest)
        return found

    async def _has(self, exchange: Exchange, name: str, digest: str) -> bool:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                reply = await self._dispatch.ask(exchange, name, Outgoing(method="HEAD", target=f"/api/blobs/{digest}"))
        except (RouterError, TimeoutError):
            return False
        return reply.ok

    # homes --------------------------------------------------------------------------------------------

    def _up(self) -> tuple[str, ...]:
        up = servers_by_priority(self._fleet.snapshot, self._config)
        if not up:
            raise NoServerFits("no server is up: see orouter status", retry_after=5)
        return up

    def _blob_home(self, exchange: Exchange) -> tuple[str, ...]:
        return self._remembered(exchange) or self._up()

    def _remembered(self, exchange: Exchange) -> tuple[str, ...]:
        """Where this user's last upload went, if that was lately and the server is up."""
        user = exchange.user
        name, until = self._last_home.get(user.id, ("", 0.0)) if user is not None else ("", 0.0)
        up = servers_by_priority(self._fleet.snapshot, self._config)
        return (name,) if name in up and self._clock.monotonic() < until else ()

    def _remember(self, exchange: Exchange, name: str) -> None:
        if exchange.user is not None:
            self._last_home[exchange.user.id] = (name, self._clock.monotonic() + _TOGETHER_SECONDS)
            self._last_home.move_to_end(exchange.user.id)
            if len(self._last_home) > _MOST_REMEMBERED:
                self._last_home.popitem(last=False)

    async def _account(self, exchange: Exchange, request: ParsedRequest) -> None:
        target = read_target(exchange.header(b"x-router-target"), self._config)
        if request.endpoint.kind is Kind.ACCOUNT and not self._config.allow_account_routes:
            raise Forbidden(f"{request.endpoint.path} is closed; the setting allow_account_routes opens it")
        names = (
            self._up()
            if isinstance(target, Unsaid)
            else servers_for_target(target, request.route, self._fleet.snapshot, self._config)
        )
        outgoing = Outgoing(method=request.endpoint.methods[0], target=request.target, body=request.body)
        await self._pass_on(exchange, request, names[0], outgoing)

    async def _pass_on(self, exchange: Exchange, request: ParsedRequest, name: str, outgoing: Outgoing) -> None:
        exchange.server, exchange.attempts = name, 1
        answer = await self._dispatch.open(exchange, name, outgoing)
        try:
            await deliver(exchange, request, answer, self._clock)
        finally:
            answer.release()


def _checked(request: ParsedRequest) -> ParsedRequest:
    if not _DIGEST.fullmatch(request.parameter or ""):
        raise InvalidTarget("invalid digest format")
    return request


def _sized_as(request: ParsedRequest) -> RouteRequest:
    """A new model is as large as the one it is made from."""
    name = request.base or request.route.model_text or ""
    return RouteRequest(model_text=name, model=canonical_name(name))
