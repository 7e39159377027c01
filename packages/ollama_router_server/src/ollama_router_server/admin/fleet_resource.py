"""What the router knows and how it would decide."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import falcon
from falcon.asgi import Request, Response

from ollama_router_core.config.destination_settings import KvCacheType
from ollama_router_core.coordination import Coordination
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.routing.explanation import Question, explain
from ollama_router_core.routing.model_placement import differing_digests
from ollama_router_server.admin.condition import condition_of
from ollama_router_server.admin.json_bodies import actor_of, answer
from ollama_router_server.admin.response_bodies import DrainBody, QueueBody, QueuedBody
from ollama_router_server.admin.token_access import ADMINS, EVERYBODY, READERS
from ollama_router_server.admin.usage_resource import one_of
from ollama_router_server.admin.views.servers import probe_view
from ollama_router_server.coordination.worker_sync import WorkerSync
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import User

__all__ = [
    "KV_TYPES",
    "DrainResource",
    "ExplainResource",
    "ProbeResource",
    "QueueResource",
    "StatusResource",
    "kv_type_asked",
]

KV_TYPES: tuple[KvCacheType | Literal[""], ...] = ("", "f16", "q8_0", "q4_0")
"""What `kv_type` may be; empty is what each server is set to."""

_LONGEST_PROBE = 20.0  # seconds


class StatusResource:
    """`GET /router/status`: the known state of every server, with the age of each fact."""

    roles = READERS

    def __init__(self, services: Services, sync: WorkerSync) -> None:
        self._services = services
        self._sync = sync

    async def on_get(self, _request: Request, response: Response) -> None:
        """Answer the snapshot and the active requests."""
        services = self._services
        snapshot, discovery = services.fleet.snapshot, services.discovery
        figures, condition = services.worker_news.figures(), condition_of(services)
        response.media = {
            "status": condition.status,
            "problems": list(condition.problems),
            "servers": _servers_json(services, snapshot),
            "waiting": figures["waiting"],
            "active_requests": self._sync.active_requests(),
            **_processes_json(services.coordination),
            "config_problem": services.running_config.problem,
            "discovery": {
                source: {"servers": count, "problem": discovery.problems.get(source)}
                for source, count in discovery.counts.items()
            },
            "differing_models": {
                name: {digest: list(servers) for digest, servers in digests.items()}
                for name, digests in differing_digests(snapshot).items()
            },
            "request_log": {"dropped": figures["dropped"], "pending": figures["pending"]},
        }


class QueueResource:
    """`GET /router/queue`: what waits in this worker, by model; users see their own requests."""

    roles = EVERYBODY

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer how many wait for what, since when, and how long a newcomer would."""
        user: User = request.context.user
        line = self._services.admission.view.line(None if user.role in READERS else user.name)
        queue = [
            QueuedBody(
                model=group.model,
                context=group.num_ctx,
                waiting=group.waiting,
                batch=group.batch,
                longest_seconds=round(group.longest, 1),
                expected_seconds=round(group.expected, 1),
            )
            for group in line
        ]
        answer(response, QueueBody(waiting=sum(group.waiting for group in line), queue=queue))


def kv_type_asked(request: Request) -> KvCacheType | None:
    """Read the type of KV cache that servers are taken to be set to, None for their own.

    Raises:
        InvalidBody: there is no such type.
    """
    return one_of(request, "kv_type", KV_TYPES, "") or None


class ExplainResource:
    """`GET /router/explain?model=NAME`; it also takes the other fields of a `Question`, and all_strategies."""

    roles = READERS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer every server with its verdict and reasons; nothing is sent to a server."""
        services = self._services
        model = str(request.get_param("model", required=True))
        if not model:
            raise falcon.HTTPBadRequest(title="model is required", description="name a model: ?model=llama3.1:8b")
        user = request.get_param("user")
        question = Question(
            model=model,
            context=request.get_param_as_int("context", min_value=1),
            prompt_tokens=request.get_param_as_int("prompt_tokens", min_value=0) or 0,
            held_by=request.get_param("held_by"),
            kv_type=kv_type_asked(request),
            needs=frozenset(request.get_param_as_list("need") or ()),
            user=user,
            grants=None if user is None else await services.users.grants(user),
        )
        now, all_strategies = services.clock.monotonic(), bool(request.get_param_as_bool("all_strategies"))
        snapshot = services.admission.view.traffic()
        response.media = {
            **explain(question, snapshot, services.config, now=now, all_strategies=all_strategies),
            "waiting": services.admission.waiting,
        }


class DrainResource:
    """`POST /router/servers/NAME/drain` and `.../undrain`: a drained server gets no new requests."""

    roles = ADMINS

    def __init__(self, services: Services, *, on: bool) -> None:
        self._services = services
        self._on = on

    async def on_post(self, request: Request, response: Response, name: str) -> None:
        """Begin or end a drain; it lasts over restarts, until `drain` of the server changes in the config."""
        services = self._services
        if name not in services.config.servers:
            raise falcon.HTTPNotFound(title="no such server", description=f"the config has no server {name!r}")
        told = {"already": True} if self._on and name in services.fleet.health.draining else {}
        await services.drains.drain(name, on=self._on)
        await services.audit.record(actor_of(request), "server.drain" if self._on else "server.undrain", name, **told)
        in_flight = services.fleet.snapshot.in_flight.get(name, 0)
        answer(response, DrainBody(server=name, draining=self._on, in_flight=in_flight))


class ProbeResource:
    """`POST /router/servers/NAME/probe`: asks a server now, instead of when its next probe is due."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_post(self, _request: Request, response: Response, name: str) -> None:
        """Answer what it said; it is asked by the worker that has this request."""
        services = self._services
        if name not in services.config.servers:
            raise falcon.HTTPNotFound(title="no such server", description=f"the config has no server {name!r}")
        try:
            async with asyncio.timeout(_LONGEST_PROBE):
                error = await services.fleet.probe(name)
        except TimeoutError:
            error = f"has not told everything within {_LONGEST_PROBE:g} s"
        answer(response, probe_view(services, name, error))


def _servers_json(services: Services, snapshot: FleetSnapshot) -> dict[str, Any]:
    now = services.clock.monotonic()
    return {
        name: {
            "in_flight": snapshot.in_flight.get(name, 0),
            "found_by": services.running_config.found_by.get(name),
            **services.fleet.health.to_json(name, now),
            **_facts_json(facts, now),
        }
        for name, facts in snapshot.servers.items()
    }


def _processes_json(coordination: Coordination) -> dict[str, Any]:
    return {
        "worker": {"index": coordination.index, "count": coordination.size},
        "coordination": {
            "with_other_routers": coordination.asks,
            "members": coordination.members,
            "away": coordination.away,
        },
    }


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
