"""Warm-up: load the configured models when a server is first seen and whenever it comes back."""

from __future__ import annotations

import asyncio

import structlog

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import RouterError
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.fleet.model_loader import ModelLoader

__all__ = ["WarmUp"]

_log = structlog.get_logger("warmup")


class WarmUp:
    """Watch for servers that come up, and load their configured models."""

    def __init__(self, *, config: Config, loader: ModelLoader, fleet: FleetService) -> None:
        self._config = config
        self._loader = loader
        self._fleet = fleet
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def reconfigure(self, config: Config) -> None:
        """Apply another config: load its models on servers that are up and lack them, else when they come up."""
        before, self._config = self._config.servers, config
        for name, facts in self._fleet.snapshot.servers.items():
            known = before.get(name)
            if facts.up and (known is None or known.warm_up != config.servers[name].warm_up):
                self._begin(name)

    def start(self) -> None:
        """Start to watch; call it before the fleet starts."""
        self._fleet.events.up = self._begin

    async def aclose(self) -> None:
        """Stop; cancel loads in flight."""
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
                await self._load(name, self._loader.request(text))
            except RouterError as error:
                _log.warning("warm_up_failed", server=name, model=text, error=error.message)

    async def _load(self, name: str, request: ParsedRequest) -> None:
        model = request.route.model
        facts = self._fleet.snapshot.servers.get(name)
        if model is None or facts is None or model in facts.loaded:
            return
        refused = await self._loader.load(name, request)
        if refused is None:
            _log.info("warmed_up", server=name, model=request.route.model_text)
        else:
            _log.warning("warm_up_failed", server=name, model=request.route.model_text, error=refused)
