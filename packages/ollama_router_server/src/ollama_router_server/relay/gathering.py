"""Routes that every server answers together: all are asked at once, and none may hold up the answer.

Belongs here: asking with a short deadline, falling back on what is known.
Does not belong here: how bodies are merged (`ollama_router_core.gather`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial

from ollama_router_core.config.settings import Config
from ollama_router_core.endpoints import Endpoint
from ollama_router_core.errors import NoServerFits, UpstreamError
from ollama_router_core.gather import lowest_version, merge_openai_models, merge_ps, merge_tags
from ollama_router_core.observations import observe_tags
from ollama_router_server.fleet_service import FleetService, fetch
from ollama_router_server.targets import Target
from ollama_router_server.upstream.interface import Timeouts, Upstream

__all__ = ["Gathering"]

DEADLINE_SECONDS = 1.0
"""A server that has not answered by then is left out; the whole answer takes under 1.5 s."""


class Gathering:
    """Answers `/api/tags`, `/api/ps`, `/api/version` and `/v1/models` for the whole fleet."""

    def __init__(self, config: Config, targets: Mapping[str, Target], upstream: Upstream, fleet: FleetService) -> None:
        self._config = config
        self._targets = targets
        self._upstream = upstream
        self._fleet = fleet
        self._timeouts = Timeouts(connect=DEADLINE_SECONDS, first_byte=DEADLINE_SECONDS, idle=DEADLINE_SECONDS)

    async def answer(self, endpoint: Endpoint) -> bytes:
        """The merged body.

        Raises:
            NoServerFits: `/api/version` when no server answers.
        """
        bodies = await self._ask(endpoint.path)
        match endpoint.name:
            case "tags":
                return merge_tags(bodies)
            case "ps":
                return merge_ps(bodies)
            case "openai_models":
                return merge_openai_models(bodies, self._external_models())
            case _:
                return self._version(bodies)

    def _version(self, bodies: Mapping[str, bytes]) -> bytes:
        version = lowest_version(bodies)
        if version is None:
            raise NoServerFits("no server answers: see orouter status", retry_after=5)
        return json.dumps({"version": version}, separators=(",", ":")).encode()

    def _external_models(self) -> list[str]:
        assigned = self._config.models.explicit_assignments
        hosts = self._config.external_hosts
        return [model for model, name in assigned.items() if name in hosts and hosts[name].enabled]

    async def _ask(self, path: str) -> dict[str, bytes]:
        up = [name for name, facts in self._fleet.snapshot.servers.items() if facts.up]
        tasks = {name: asyncio.ensure_future(self._ask_one(name, path)) for name in up}
        if not tasks:
            return {}
        try:
            await asyncio.wait(tasks.values(), timeout=DEADLINE_SECONDS)
        finally:
            for task in tasks.values():
                task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        return {name: body for name, task in tasks.items() if not task.cancelled() and (body := task.result())}

    async def _ask_one(self, name: str, path: str) -> bytes | None:
        try:
            status, body = await fetch(self._upstream, self._targets[name], "GET", path, timeouts=self._timeouts)
        except UpstreamError:
            return None
        if status == 200 and path == "/api/tags":
            self._fleet.update(name, partial(observe_tags, body=body, now=self._fleet.now()))
        return body if status == 200 else None
