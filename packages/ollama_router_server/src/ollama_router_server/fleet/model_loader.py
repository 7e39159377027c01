"""Load a model into a server's memory, by a request of the router itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.observations import observe_load_finished, observe_load_started, observe_unloaded
from ollama_router_core.fleet.runners import load_of
from ollama_router_core.responses.server_documents import words_of
from ollama_router_core.routing.policy import apply_policy
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.upstream.fetching import fetch
from ollama_router_server.upstream.interface import Timeouts, Upstream
from ollama_router_server.upstream.targets import Target

__all__ = ["ModelLoader"]


class ModelLoader:
    """Load and unload models, and update the fleet's state."""

    def __init__(
        self, *, config: Config, targets: Mapping[str, Target], upstream: Upstream, fleet: FleetService
    ) -> None:
        self._targets = targets
        self._upstream = upstream
        self._fleet = fleet
        self.config = config

    def request(self, model: str, context: int | None = None) -> ParsedRequest:
        """Build the request without a prompt that loads a model; `context` must be that of later requests.

        Raises:
            RequestError: the model name is invalid.
        """
        body = {"model": model, "stream": False, **({} if context is None else {"options": {"num_ctx": context}})}
        parsed = parse_request(match_endpoint("POST", "/api/generate"), json.dumps(body).encode())
        return apply_policy(parsed, self.config.models).request

    async def load(self, server: str, request: ParsedRequest) -> str | None:
        """Load a model; return the server's error message, None on success.

        Raises:
            UpstreamError: the request failed.
        """
        model = request.route.model
        if model is None:
            return "no model is named"
        load, default = load_of(request.route), self.config.servers[server].default_context
        started = partial(observe_load_started, name=model, load=load, default_context=default)
        self._fleet.update(server, partial(started, now=self._fleet.now()))
        try:
            status, body = await self._ask(server, request.body)
        finally:
            self._fleet.measure_soon(server)
        if status != 200:
            return words_of(status, self._targets[server].redact(body))
        finished = partial(observe_load_finished, name=model, load=load, default_context=default)
        self._fleet.update(server, partial(finished, now=self._fleet.now()))
        return None

    async def unload(self, server: str, request: ParsedRequest) -> str | None:
        """Unload a model; return the server's error message, None on success.

        Raises:
            UpstreamError: the request failed.
        """
        body = json.dumps({"model": request.route.model_text, "keep_alive": 0}).encode()
        status, answer = await self._ask(server, body)
        if status == 200 and request.route.model is not None:
            self._fleet.update(server, partial(observe_unloaded, name=request.route.model, now=self._fleet.now()))
        self._fleet.measure_soon(server)
        return None if status == 200 else words_of(status, self._targets[server].redact(answer))

    async def _ask(self, server: str, body: bytes) -> tuple[int, bytes]:
        patience = self.config.request_timeout
        timeouts = Timeouts(connect=self.config.connect_timeout, first_byte=patience, idle=patience)
        target = self._targets[server]
        return await fetch(self._upstream, target, "POST", "/api/generate", timeouts=timeouts, body=body)
