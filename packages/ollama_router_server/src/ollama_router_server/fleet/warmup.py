"""Loads the models that the config wants warm, when a server is first seen and whenever it comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial

import structlog

from ollama_router_core.api.endpoints import match_endpoint
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import RouterError
from ollama_router_core.fleet.observations import observe_load_finished, observe_load_started
from ollama_router_core.fleet.runners import load_of
from ollama_router_core.routing.policy import apply_policy
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.upstream.fetching import fetch
from ollama_router_server.upstream.interface import Timeouts, Upstream
from ollama_router_server.upstream.targets import Target

__all__ = ["WarmUp"]

_log = structlog.get_logger("warmup")


class WarmUp:
    """Watches for servers that come up and loads what belongs there."""

    def __init__(
        self, *, config: Config, targets: Mapping[str, Target], upstream: Upstream, fleet: FleetService
    ) -> None:
        self._config = config
        self._targets = targets
        self._upstream = upstream
        self._fleet = fleet
        self._tasks: dict[str, asyncio.Task[None]] = {}
        patience = config.request_timeout
        self._timeouts = Timeouts(connect=config.connect_timeout, first_byte=patience, idle=patience)

    def reconfigure(self, config: Config) -> None:
        """Another config: what it names is loaded where its server next comes up, or is up and lacks it."""
        before, self._config = self._config.servers, config
        for name, facts in self._fleet.snapshot.servers.items():
            known = before.get(name)
            if facts.up and (known is None or known.warm_up != config.servers[name].warm_up):
                self._begin(name)

    def start(self) -> None:
        """Begin to watch; to be called before the fleet is."""
        self._fleet.on_up(self._begin)

    async def aclose(self) -> None:
        """Stop; a load under way is given up."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _begin(self, name: str) -> None:
        running = self._tasks.get(name)
        if self._config.servers[name].warm_up and (running is None or running.done()):
            self._tasks[name] = asyncio.create_task(self._load_all(name), name=f"warmup-{name}")

    async def _load_all(self, name: str) -> None:
        for text in self._config.servers[name].warm_up:
            try:
                await self._load(name, self._request(text))
            except RouterError as error:
                _log.warning("warm_up_failed", server=name, model=text, error=error.message)

    def _request(self, text: str) -> ParsedRequest:
        """A request without a prompt loads a model; it must ask for the context that later ones will."""
        body = json.dumps({"model": text, "stream": False}).encode()
        parsed = parse_request(match_endpoint("POST", "/api/generate"), body)
        return apply_policy(parsed, self._config.models).request

    async def _load(self, name: str, request: ParsedRequest) -> None:
        model = request.route.model
        facts = self._fleet.snapshot.servers.get(name)
        if model is None or facts is None or model in facts.loaded:
            return
        load, default = load_of(request.route), self._config.servers[name].default_context
        started = partial(observe_load_started, name=model, load=load, default_context=default)
        self._fleet.update(name, partial(started, now=self._fleet.now()))
        status, _ = await fetch(
            self._upstream, self._targets[name], "POST", "/api/generate", timeouts=self._timeouts, body=request.body
        )
        if status != 200:
            self._fleet.measure_soon(name)
            _log.warning("warm_up_failed", server=name, model=request.route.model_text, status=status)
            return
        finished = partial(observe_load_finished, name=model, load=load, default_context=default)
        self._fleet.update(name, partial(finished, now=self._fleet.now()))
        self._fleet.measure_soon(name)
        _log.info("warmed_up", server=name, model=request.route.model_text)
