"""Filters: functions that return the reason why a server cannot take a request, with the numbers; None if it can.

`FILTERS` depend on the facts about the servers, `LIVE_FILTERS` on the current load.
"""

from __future__ import annotations

from collections.abc import Callable

from ollama_router_core.api.endpoints import parse_version
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.fleet.memory.formulas import GIB
from ollama_router_core.fleet.slots import least_slots
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import WARM, Candidate, Reason

__all__ = ["FULL", "PINNED", "in_service", "proven_slots", "refused", "refused_now", "runner_slots", "slots_of"]

FULL = "full"
"""Code of the only reason that resolves itself, when a request on the server ends."""

PINNED = "pinned"
"""Code of every server other than the one to which a request is pinned."""

Filter = Callable[[Candidate, RouteRequest], Reason | None]
LiveFilter = Callable[[Candidate, FleetSnapshot, float], Reason | None]
"""A filter on live state; the time is in seconds of the snapshot's clock."""


def _pinned(candidate: Candidate, request: RouteRequest) -> Reason | None:
    """Refuse every other server if a request is pinned."""
    if request.pin is None or request.pin == candidate.name:
        return None
    return Reason(PINNED, f"is excluded: the request is pinned to {request.pin}")


def _disabled(candidate: Candidate, _request: RouteRequest) -> Reason | None:
    return None if candidate.server.enabled else Reason("disabled", "is disabled in the config")


def _lacks_model(candidate: Candidate, request: RouteRequest) -> Reason | None:
    """Refuse a server that lacks the model on disk; one whose list is unknown stays, in the last tier."""
    installed = candidate.facts.installed
    if request.model is None or installed is None or request.model in installed:
        return None
    return Reason("model_missing", "does not have the model")


def _down(candidate: Candidate, _request: RouteRequest) -> Reason | None:
    """Refuse a server that is down or was never probed."""
    if candidate.facts.up is None:
        return Reason("not_probed", "has not been probed yet")
    if not candidate.facts.up:
        return Reason("down", f"is down: {candidate.facts.error or 'does not answer'}")
    return None


def _lacks_route(candidate: Candidate, request: RouteRequest) -> Reason | None:
    """Refuse a server without the route, by earlier responses and by its version, if known."""
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
    """Refuse a model that lacks a needed capability, if the server reports capabilities."""
    installed = candidate.facts.model(request.model)
    known = None if installed is None else installed.reported_capabilities
    if known is None:
        return None
    missing = request.needs - known - ({"embedding"} if "completion" in known else frozenset())
    if not missing:
        return None
    return Reason("incapable", f"its model does not support {', '.join(sorted(missing))}", missing)


def _beyond_memory(candidate: Candidate, _request: RouteRequest) -> Reason | None:
    """Refuse an estimate beyond the server's memory, unless the model is loaded as requested."""
    if candidate.limit is None or candidate.size <= candidate.limit or candidate.warmth == WARM:
        return None
    return Reason("memory", f"needs {candidate.estimate}, limit {candidate.limit / GIB:.1f} GiB")


FILTERS: tuple[Filter, ...] = (_pinned, _disabled, _lacks_model, _down, _lacks_route, _incapable, _beyond_memory)
"""In the order of precedence: a server that is down and lacks the model is refused for the latter."""


def _draining(candidate: Candidate, snapshot: FleetSnapshot, _now: float) -> Reason | None:
    if candidate.name not in snapshot.draining:
        return None
    return Reason("draining", "is draining: it finishes its requests and takes no new ones")


def _suspended(candidate: Candidate, snapshot: FleetSnapshot, now: float) -> Reason | None:
    """Refuse a server that the breaker suspends."""
    until = snapshot.suspended.get(candidate.name)
    if until is None or until <= now:
        return None
    return Reason("suspended", f"failed repeatedly, next try in {until - now:.0f} s")


def _model_suspended(candidate: Candidate, snapshot: FleetSnapshot, now: float) -> Reason | None:
    """Refuse a server while the model is suspended there, with the server's error text."""
    if not snapshot.suspended_models:
        return None
    found = snapshot.suspended_models.get(candidate.name, {}).get(candidate.model or CanonicalName(""))
    if found is None or found.until <= now:
        return None
    return Reason("model_suspended", f"failed with it ({found.words}), next try in {found.until - now:.0f} s")


def _full(candidate: Candidate, snapshot: FleetSnapshot, _now: float) -> Reason | None:
    """Refuse a server whose `max_concurrent` slots are taken; fewer during its slow start."""
    slots = slots_of(candidate, snapshot)
    running = snapshot.in_flight.get(candidate.name, 0)
    if slots is None or running < slots:
        return None
    return Reason(FULL, f"is full: {running} of {slots} requests in flight")


def _runner_full(candidate: Candidate, snapshot: FleetSnapshot) -> Reason | None:
    """Refuse more requests than a loaded model serves in parallel, as Ollama would queue them silently."""
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
    """Return why the facts exclude a server for a kind of request, None if they do not."""
    for rule in FILTERS:
        reason = rule(candidate, request)
        if reason is not None:
            return reason
    return None


def refused_now(candidate: Candidate, snapshot: FleetSnapshot, now: float, *, waits: bool = False) -> Reason | None:
    """Return why an able server cannot take a request now, None if it can.

    With `waits`, the request waits for a slot of its model, as under late-binding strategies.
    """
    for rule in LIVE_FILTERS:
        reason = rule(candidate, snapshot, now)
        if reason is not None:
            return reason
    return None if waits else _runner_full(candidate, snapshot)


def in_service(candidate: Candidate, snapshot: FleetSnapshot, now: float) -> bool:
    """Whether a server is neither draining nor suspended; it may be full."""
    reason = refused_now(candidate, snapshot, now, waits=True)
    return reason is None or reason.code == FULL


def slots_of(candidate: Candidate, snapshot: FleetSnapshot) -> int | None:
    """Return the current limit of parallel requests on the server, None without a limit."""
    slots = candidate.server.max_concurrent
    fewer = snapshot.slots.get(candidate.name)
    if fewer is None:
        return slots
    return fewer if slots is None else min(slots, fewer)


def runner_slots(candidate: Candidate, snapshot: FleetSnapshot) -> int | None:
    """Return the parallel requests that the model's runner serves at most; None if unknown."""
    return least_slots(candidate.slots, snapshot.parallel.get(candidate.name))


def proven_slots(candidate: Candidate, snapshot: FleetSnapshot) -> int:
    """Return the parallel requests that the model's runner is known to serve; 1 if unknown."""
    return runner_slots(candidate, snapshot) or snapshot.proven.get(candidate.name, 1)
