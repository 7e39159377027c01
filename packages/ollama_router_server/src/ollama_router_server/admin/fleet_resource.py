"""The router's state and decisions over HTTP."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, get_args

import falcon
from falcon.asgi import Request

from ollama_router_core.config.destination_settings import KvCacheType
from ollama_router_core.coordination.interface import Coordination
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.routing.explanation import Question, explain
from ollama_router_core.routing.model_placement import differing_digests
from ollama_router_server.admin.condition import condition_of
from ollama_router_server.admin.json_bodies import actor_of, user_of
from ollama_router_server.admin.query_parameters import read_choice
from ollama_router_server.admin.response_bodies import DrainBody, QueueBody, QueuedBody
from ollama_router_server.admin.token_access import READERS
from ollama_router_server.admin.views.servers import ProbeView, age_of, check_server, probe_view
from ollama_router_server.services import Services

__all__ = ["KV_TYPES", "drain", "explain_model", "find_queue", "probe", "status_json", "undrain"]

KV_TYPES: tuple[KvCacheType, ...] = get_args(KvCacheType)
"""Valid values of `kv_type`; the default is each server's own setting."""

_LONGEST_PROBE = 20.0  # seconds


def status_json(services: Services, _request: Request) -> dict[str, Any]:
    """Return the known state of every server, with the age of each fact, and the active requests."""
    snapshot, discovery = services.fleet.snapshot, services.discovery
    figures, condition = services.worker_news.figures(), condition_of(services)
    return {
        "status": condition.status,
        "problems": list(condition.problems),
        "servers": _servers_json(services, snapshot),
        "waiting": figures["waiting"],
        "active_requests": services.worker_news.joined.active_requests(),
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


def find_queue(services: Services, request: Request) -> QueueBody:
    """Return this worker's queue by kind of request, with waits and a forecast; users see only their own requests."""
    user = user_of(request)
    line = services.admission.view.line(None if user.role in READERS else user.name)
    queue = [
        QueuedBody.from_object(
            group,
            context=group.num_ctx,
            longest_seconds=round(group.longest, 1),
            expected_seconds=round(group.expected, 1),
        )
        for group in line
    ]
    return QueueBody(waiting=sum(group.waiting for group in line), queue=queue)


async def explain_model(services: Services, request: Request) -> dict[str, Any]:
    """Explain the decision for a `Question`: verdicts and reasons by server, with `all_strategies` by strategy."""
    model = str(request.get_param("model", required=True))
    if not model:
        raise falcon.HTTPBadRequest(title="model is required", description="name a model: ?model=llama3.1:8b")
    user = request.get_param("user")
    question = Question(
        model=model,
        context=request.get_param_as_int("context", min_value=1),
        prompt_tokens=request.get_param_as_int("prompt_tokens", min_value=0) or 0,
        held_by=request.get_param("held_by"),
        kv_type=read_choice(request, "kv_type", KV_TYPES),
        needs=frozenset(request.get_param_as_list("need") or ()),
        user=user,
        grants=None if user is None else await services.users.grants(user),
    )
    now, all_strategies = services.clock.monotonic(), bool(request.get_param_as_bool("all_strategies"))
    told = explain(question, services.admission.view.traffic(), services.config, now=now, all_strategies=all_strategies)
    return {**told, "waiting": services.admission.waiting}


async def drain(services: Services, request: Request, name: str, *, on: bool = True) -> DrainBody:
    """Start or end a drain; it persists over restarts until the server's `drain` changes in the config."""
    check_server(services, name)
    detail = {"already": True} if on and name in services.fleet.health.draining else {}
    await services.drains.drain(name, on=on)
    await services.audit.record(actor_of(request), "server.drain" if on else "server.undrain", name, **detail)
    return DrainBody(server=name, draining=on, in_flight=services.fleet.snapshot.in_flight.get(name, 0))


undrain = partial(drain, on=False)


async def probe(services: Services, _request: Request, name: str) -> ProbeView:
    """Probe a server now, from this worker, instead of waiting for its next scheduled probe."""
    check_server(services, name)
    try:
        async with asyncio.timeout(_LONGEST_PROBE):
            error = await services.fleet.probe(name)
    except TimeoutError:
        error = f"did not answer all queries within {_LONGEST_PROBE:g} s"
    return probe_view(services, name, error)


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
        "probed_seconds_ago": age_of(facts.probed_at, now),
        "models": sorted(model.spelling for model in (facts.installed or {}).values()),
        "models_seconds_ago": age_of(facts.installed_at, now),
        "loaded": [
            {"model": name, "bytes": row.size, "vram_bytes": row.size_vram, "context": row.context_length}
            for name, row in sorted(facts.loaded.items())
        ],
        "loaded_seconds_ago": age_of(facts.loaded_at, now),
        "loading": sorted(facts.loading),
    }
