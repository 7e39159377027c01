"""Liveness, readiness and the health of servers: routes without credentials."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from falcon.asgi import Request, Response

from ollama_router_core.config.settings import Server
from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.fleet.snapshot import ServerFacts
from ollama_router_server.admin.condition import condition_of
from ollama_router_server.services import Services

__all__ = ["HealthResource", "LiveResource", "ReadyResource"]


class LiveResource:
    """`GET /livez` and `GET /up`: 200 while the process responds."""

    async def on_get(self, _request: Request, response: Response) -> None:
        """Answer 200."""
        response.text = "ok"
        response.content_type = "text/plain"


class ReadyResource:
    """`GET /readyz`: 200 while the router accepts new requests, else 503; the text lists problems in both cases."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, _request: Request, response: Response) -> None:
        """Answer `ready` with any problems, or 503 with the reasons why the router accepts no requests."""
        condition = condition_of(self._services)
        response.content_type = "text/plain"
        response.text = "; ".join((*(("ready",) if condition.serves else ()), *condition.problems))
        if not condition.serves:
            response.status = 503


class HealthResource:
    """`GET /health`: 200 while the router runs, even if servers are down."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, _request: Request, response: Response) -> None:
        """Answer the state of the router, its enabled servers and external hosts, and the request log."""
        services = self._services
        sink = services.sink
        servers, condition = services.fleet.snapshot.servers, condition_of(services)
        response.media = {
            "status": condition.status,
            "problems": list(condition.problems),
            "timestamp": datetime.fromtimestamp(services.clock.wall(), UTC).isoformat(),
            "servers": {
                name: _server_health(server, servers.get(name))
                for name, server in services.config.servers.items()
                if server.enabled
            },
            "external_hosts": {
                name: {**self._reach(name), "protocol": host.protocol}
                for name, host in services.config.external_hosts.items()
                if host.enabled
            },
            "request_log": {
                "status": "healthy" if sink.healthy else "unhealthy",
                "dropped": sink.dropped,
                "pending": sink.pending,
                # This route needs no token: the database's error message is only in the router's log.
                **({} if sink.healthy else {"error": StorageUnavailable.code}),
            },
        }

    def _reach(self, name: str) -> dict[str, Any]:
        reach = self._services.reachability.last.get(name)
        if reach is None:
            return {"status": "unhealthy", "error": "not tried yet"}
        if reach.error is not None:
            return {"status": "unhealthy", "error": reach.error}
        return {"status": "healthy", "response_time_ms": round(reach.response_time_ms or 0.0, 2)}


def _server_health(server: Server, facts: ServerFacts | None) -> dict[str, Any]:
    settings = {"priority": server.priority, "max_memory_gb": server.max_memory_gb}
    if facts is None or not facts.up:
        error = facts.error if facts is not None and facts.error else "not probed yet"
        return {"status": "unhealthy", "error": error, **settings}
    return {"status": "healthy", "response_time_ms": round(facts.probe_ms or 0.0, 2), **settings}
