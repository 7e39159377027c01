"""Filters, a function each: why a server cannot take a request, with the numbers that say so.

`FILTERS` hold as long as the facts about the servers do, `LIVE_FILTERS` look at the current load. Each returns the
reason against a server, None where it has none.
"""

from __future__ import annotations

from collections.abc import Callable

from ollama_router_core.api.endpoints import parse_version
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.fleet.memory import GIB
from ollama_router_core.fleet.slots import least_slots
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.routing.candidates import WARM, Candidate, Reason

__all__ = ["FULL", "PINNED", "in_service", "proven_slots", "refused", "refused_now", "runner_slots", "slots_of"]

FULL = "full"
"""The code of the one reason that goes away by itself: when a request on that server ends."""

PINNED = "pinned"
"""The code of every server but the one that a request names."""

Filter = Callable[[Candidate, RouteRequest], Reason | None]
LiveFilter = Callable[[Candidate, FleetSnapshot, float], Reason | None]
"""For what changes from one moment to the next; the time is that of the snapshot's clock, in seconds."""


def _pinned(candidate: Candidate, request: RouteRequest) -> Reason | None:
    """Refuse every other server where a request names its own."""
    if request.pin is None or request.pin == candidate.name:
        return None
    return Reason(PINNED, f"is excluded: the request is pinned to {request.pin}")


def _disabled(candidate: Candidate, _request: RouteRequest) -> Reason | None:
    return None if candidate.server.enabled else Reason("disabled", "is disabled in the config")


def _lacks_model(candidate: Candidate, request: RouteRequest) -> Reason | None:
    """Refuse a server that lacks the model on disk; one whose list is not known may have it, and comes last."""
    installed = candidate.facts.installed
    if request.model is None or installed is None or request.model in installed:
        return None
    return Reason("model_missing", "does not have the model")


def _down(candidate: Candidate, _request: RouteRequest) -> Reason | None:
    """Refuse a server that did not answer its last probe, or was never probed."""
    if candidate.facts.up is None:
        return Reason("not_probed", "has not been probed yet")
    if not candidate.facts.up:
        return Reason("down", f"is down: {candidate.facts.error or 'does not answer'}")
    return None


def _lacks_route(candidate: Candidate, request: RouteRequest) -> Reason | None:
    """Refuse a server without the route: by its version, if that is known, and by what it answered before."""
    wanted = request.versions
    if wanted is None:
        return None
    path, facts = wanted.path, candidate.facts
    if path in facts.missing_routes:
        return Reason("version", f"has no {path}")
    version = parse_version(facts.version)
    if not version or (version >= wanted.since and not (wanted.gone and version >= wanted.gone)):
        return None
    text = "came" if version < wanted.since else "went"
    limit = ".".join(map(str, wanted.since if version < wanted.since else wanted.gone))
    return Reason("version", f"runs Ollama {facts.version}, {path} {text} with {limit}")


def _incapable(candidate: Candidate, request: RouteRequest) -> Reason | None:
    """Refuse a model that cannot do what is asked, where the server says what it can do."""
    known = _capabilities(candidate.facts, request)
    if known is None:
        return None
    missing = request.needs - known - ({"embedding"} if "completion" in known else frozenset())
    if not missing:
        return None
    return Reason("incapable", f"its model does not support {', '.join(sorted(missing))}", missing)


def _beyond_memory(candidate: Candidate, _request: RouteRequest) -> Reason | None:
    """Refuse an estimate beyond the server's memory, unless the model is loaded as the request wants it."""
    if candidate.limit is None or candidate.size <= candidate.limit or candidate.warmth == WARM:
        return None
    return Reason("memory", f"needs {candidate.estimate}, limit {candidate.limit / GIB:.1f} GiB")


FILTERS: tuple[Filter, ...] = (_pinned, _disabled, _lacks_model, _down, _lacks_route, _incapable, _beyond_memory)
"""In the order in which their reasons are given: a server that is down and never had the model says the latter."""


def _draining(candidate: Candidate, snapshot: FleetSnapshot, _now: float) -> Reason | None:
    if candidate.name not in snapshot.draining:
        return None
    return Reason("draining", "is draining: it finishes its requests and takes no new ones")


def _suspended(candidate: Candidate, snapshot: FleetSnapshot, now: float) -> Reason | None:
    """Refuse a server that the breaker keeps out for a while."""
    until = snapshot.suspended.get(candidate.name)
    if until is None or until <= now:
        return None
    return Reason("suspended", f"failed repeatedly, next try in {until - now:.0f} s")


def _model_suspended(candidate: Candidate, snapshot: FleetSnapshot, now: float) -> Reason | None:
    """Refuse a server that could not serve the model of late, with its own words, for a while."""
    if not snapshot.suspended_models:
        return None
    found = snapshot.suspended_models.get(candidate.name, {}).get(candidate.model or CanonicalName(""))
    if found is None or found.until <= now:
        return None
    return Reason("model_suspended", f"failed with it ({found.words}), next try in {found.until - now:.0f} s")


def _full(candidate: Candidate, snapshot: FleetSnapshot, _now: float) -> Reason | None:
    """Refuse a server with all of its `max_concurrent` slots taken; right after it came back it has fewer."""
    slots = slots_of(candidate, snapshot)
    running = snapshot.in_flight.get(candidate.name, 0)
    if slots is None or running < slots:
        return None
    return Reason(FULL, f"is full: {running} of {slots} requests in flight")


def _runner_full(candidate: Candidate, snapshot: FleetSnapshot) -> Reason | None:
    """Refuse more requests than a loaded model serves at once: Ollama would let them wait in silence."""
    slots = runner_slots(candidate, snapshot)
    active = snapshot.active.get(candidate.name) if slots is not None else None
    if slots is None or not active:
        return None
    running = sum([active.get(name, 0) for name in candidate.runner])
    if running < slots:
        return None
    return Reason(FULL, f"is full: {running} of {slots} requests for the model in flight")


LIVE_FILTERS: tuple[LiveFilter, ...] = (_draining, _suspended, _model_suspended, _full)


def refused(candidate: Candidate, request: RouteRequest) -> Reason | None:
    """Why the facts rule a server out for a kind of request, None when they do not."""
    for rule in FILTERS:
        reason = rule(candidate, request)
        if reason is not None:
            return reason
    return None


def refused_now(candidate: Candidate, snapshot: FleetSnapshot, now: float, *, waits: bool = False) -> Reason | None:
    """Why a server that may take a request cannot at this moment, None when it can.

    `waits` says that the request would wait for a slot of the model, as under strategies that bind late.
    """
    for rule in LIVE_FILTERS:
        reason = rule(candidate, snapshot, now)
        if reason is not None:
            return reason
    return None if waits else _runner_full(candidate, snapshot)


def in_service(candidate: Candidate, snapshot: FleetSnapshot, now: float) -> bool:
    """Whether a server takes requests at all now: it neither drains nor is it suspended; it may be full."""
    reason = refused_now(candidate, snapshot, now, waits=True)
    return reason is None or reason.code == FULL


def slots_of(candidate: Candidate, snapshot: FleetSnapshot) -> int | None:
    """How many requests the server takes at once now, None without a limit."""
    slots = candidate.server.max_concurrent
    fewer = snapshot.slots.get(candidate.name)
    if fewer is None:
        return slots
    return fewer if slots is None else min(slots, fewer)


def runner_slots(candidate: Candidate, snapshot: FleetSnapshot) -> int | None:
    """How many requests the model's runner serves at once at most; None when that is not known."""
    return least_slots(candidate.slots, snapshot.parallel.get(candidate.name))


def proven_slots(candidate: Candidate, snapshot: FleetSnapshot) -> int:
    """How many requests the model's runner serves at once as far as is known: one where nothing is."""
    return runner_slots(candidate, snapshot) or snapshot.proven.get(candidate.name, 1)


def _capabilities(facts: ServerFacts, request: RouteRequest) -> frozenset[str] | None:
    model = facts.installed.get(request.model) if facts.installed and request.model is not None else None
    if model is None:
        return None
    if model.facts is not None and model.facts.capabilities is not None:
        return model.facts.capabilities
    return model.capabilities
