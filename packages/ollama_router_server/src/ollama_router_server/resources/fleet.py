"""What the router believes and how it would decide: routes for admins.

Belongs here: `/router/status`, `/router/explain`.
Does not belong here: deciding (the core).
"""

from __future__ import annotations

from typing import Any

import falcon
from falcon.asgi import Request, Response

from ollama_router_core.decision import decide
from ollama_router_core.fleet import ServerFacts
from ollama_router_core.names import canonical_name
from ollama_router_core.placement import differing_digests
from ollama_router_core.requests import RouteRequest
from ollama_router_server.services import Services

__all__ = ["ExplainResource", "StatusResource"]


class StatusResource:
    """`GET /router/status`: every server as believed now, with the age of each belief."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, _request: Request, response: Response) -> None:
        """Answer the snapshot."""
        snapshot = self._services.fleet.snapshot
        now = self._services.clock.monotonic()
        response.media = {
            "servers": {
                name: {"in_flight": snapshot.in_flight.get(name, 0), **_facts_json(facts, now)}
                for name, facts in snapshot.servers.items()
            },
            "differing_models": {
                name: {digest: list(servers) for digest, servers in digests.items()}
                for name, digests in differing_digests(snapshot).items()
            },
            "request_log": {"dropped": self._services.sink.dropped, "pending": self._services.sink.pending},
        }


class ExplainResource:
    """`GET /router/explain?model=NAME[&context=N]`: the decision this request would get now."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer every server with its verdict and reasons; nothing is sent anywhere."""
        services = self._services
        model = str(request.get_param("model", required=True))
        context = request.get_param_as_int("context", min_value=1)
        if not model:
            raise falcon.HTTPBadRequest(title="model is required", description="name a model: ?model=llama3.1:8b")
        asked = RouteRequest(model_text=model, model=canonical_name(model), num_ctx=context)
        decision = decide(asked, services.fleet.snapshot, services.config, now=services.clock.monotonic())
        response.media = decision.to_json()


def _facts_json(facts: ServerFacts, now: float) -> dict[str, Any]:
    return {
        "up": facts.up,
        "error": facts.error,
        "version": facts.version,
        "probe_ms": facts.probe_ms,
        "probed_seconds_ago": _age(facts.probed_at, now),
        "models": sorted(model.spelling for model in (facts.installed or {}).values()),
        "models_seconds_ago": _age(facts.installed_at, now),
        "loaded": [
            {"model": name, "bytes": row.size, "vram_bytes": row.size_vram, "context": row.context_length}
            for name, row in sorted(facts.loaded.items())
        ],
        "loaded_seconds_ago": _age(facts.loaded_at, now),
        "loading": sorted(facts.loading),
    }


def _age(then: float | None, now: float) -> float | None:
    return None if then is None else round(now - then, 1)
