"""Filters and ranking rules, one small type each; every verdict has a reason with numbers.

Belongs here: may this server take this request, and how do two that may compare.
Does not belong here: walking over servers and explaining the whole (`decision`), waiting (`admission`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ollama_router_core.config.settings import Config, Server
from ollama_router_core.fleet import InstalledModel, ServerFacts
from ollama_router_core.memory import GIB, MemoryEstimate
from ollama_router_core.requests import RouteRequest

__all__ = ["FILTERS", "RANKINGS", "Candidate", "Filter", "Ranking", "Reason", "Standing"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: a stable code for programs, a text for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One server as a filter sees it: its settings, its facts, and what the request would need there."""

    name: str
    server: Server
    facts: ServerFacts
    estimate: MemoryEstimate
    in_flight: int = 0
    suspended_until: float | None = None
    draining: bool = False

    @property
    def limit(self) -> int | None:
        """`max_memory_gb` in bytes, None without a limit."""
        limit = self.server.max_memory_gb
        return None if limit is None else round(limit * GIB)


class Filter(Protocol):
    """Says why a server cannot take a request, or None when it can."""

    def refuse(self, candidate: Candidate, request: RouteRequest, now: float) -> Reason | None:
        """The reason against this server, if there is one."""


class Enabled:
    """A server switched off by its operator takes nothing."""

    def refuse(self, candidate: Candidate, request: RouteRequest, now: float) -> Reason | None:
        """Refuse what is disabled or draining."""
        del request, now
        if not candidate.server.enabled:
            return Reason("disabled", "is disabled in the config")
        return (
            Reason("draining", "is draining: it finishes what it has and takes nothing new")
            if candidate.draining
            else None
        )


class Up:
    """A server that did not answer its last probe, or that its breaker keeps out, takes nothing."""

    def refuse(self, candidate: Candidate, request: RouteRequest, now: float) -> Reason | None:
        """Refuse what is down, unknown or suspended."""
        del request
        if candidate.facts.up is None:
            return Reason("not_probed", "has not been probed yet")
        if not candidate.facts.up:
            return Reason("down", f"is down: {candidate.facts.error or 'does not answer'}")
        if candidate.suspended_until is not None and candidate.suspended_until > now:
            wait = candidate.suspended_until - now
            return Reason("suspended", f"failed repeatedly, is tried again in {wait:.0f} s")
        return None


class HasModel:
    """A server must have the model on disk; one whose list is not known yet gets the benefit of the doubt."""

    def refuse(self, candidate: Candidate, request: RouteRequest, now: float) -> Reason | None:
        """Refuse a server whose list is known and lacks the model."""
        del now
        installed = candidate.facts.installed
        if request.model is None or installed is None or request.model in installed:
            return None
        return Reason("model_missing", "does not have the model")


class Capable:
    """The model must be able to do what is asked, where the server says what it can do."""

    def refuse(self, candidate: Candidate, request: RouteRequest, now: float) -> Reason | None:
        """Refuse when a needed capability is known to be missing."""
        del now
        known = _capabilities(candidate.facts, request)
        if known is None:
            return None
        missing = request.needs - known - ({"embedding"} if "completion" in known else frozenset())
        if not missing:
            return None
        return Reason("incapable", f"its model cannot do {', '.join(sorted(missing))}")


class FitsMemory:
    """The model with its context must fit below the server's `max_memory_gb`."""

    def refuse(self, candidate: Candidate, request: RouteRequest, now: float) -> Reason | None:
        """Refuse an estimate beyond the limit."""
        del request, now
        if candidate.limit is None or candidate.estimate.size <= candidate.limit:
            return None
        return Reason("memory", f"needs {candidate.estimate}, limit {candidate.limit / GIB:.1f} GiB")


class NotFull:
    """A server takes at most `max_concurrent` requests at once."""

    def refuse(self, candidate: Candidate, request: RouteRequest, now: float) -> Reason | None:
        """Refuse when every slot is taken."""
        del request, now
        slots = candidate.server.max_concurrent
        if slots is None or candidate.in_flight < slots:
            return None
        return Reason("full", f"is full: {candidate.in_flight} of {slots} requests in flight")


FILTERS: tuple[Filter, ...] = (Enabled(), HasModel(), Up(), Capable(), FitsMemory(), NotFull())
"""In the order in which their reasons are given: a server that is down and never had the model says the latter."""


def installed_model(facts: ServerFacts, request: RouteRequest) -> InstalledModel | None:
    """The requested model as this server has it, None when it has not or is not known to."""
    if facts.installed is None or request.model is None:
        return None
    return facts.installed.get(request.model)


def _capabilities(facts: ServerFacts, request: RouteRequest) -> frozenset[str] | None:
    model = installed_model(facts, request)
    if model is None:
        return None
    if model.facts is not None and model.facts.capabilities is not None:
        return model.facts.capabilities
    return model.capabilities


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a ranking puts a server: the smallest key wins; the reasons say what the key is made of."""

    key: tuple[float, ...]
    reasons: tuple[Reason, ...]


class Ranking(Protocol):
    """Compares servers that may take a request."""

    def standing(self, candidate: Candidate, request: RouteRequest, config: Config, spread: float) -> Standing:
        """A server's key and what it is made of; `spread` in [0, 1) decides between equals."""


def _warmth(candidate: Candidate, request: RouteRequest) -> tuple[int, Reason]:
    loaded = candidate.facts.loaded.get(request.model) if request.model is not None else None
    if loaded is not None and request.num_ctx in {None, loaded.context_length}:
        context = f" at {loaded.context_length} tokens" if loaded.context_length else ""
        return 0, Reason("loaded", f"loaded{context}")
    if request.model in candidate.facts.loading:
        return 0, Reason("loading", "is loading it now")
    held = sum(model.size for model in candidate.facts.loaded.values() if model is not loaded)
    free = None if candidate.limit is None else candidate.limit - held
    if loaded is not None:
        return 1, Reason("reload", f"loaded at {loaded.context_length} tokens, must reload for {request.num_ctx}")
    if free is None or candidate.estimate.size <= free:
        return 1, Reason("cold", "not loaded, fits beside what is")
    return 2, Reason("evicts", f"not loaded, must evict: {max(free, 0) / GIB:.1f} GiB free")


def _responsiveness(candidate: Candidate, config: Config) -> tuple[int, tuple[Reason, ...]]:
    probe = candidate.facts.probe_ms
    if probe is None or probe <= config.server_busy_threshold_ms:
        return 0, ()
    text = f"answers slowly ({probe:.0f} ms, threshold {config.server_busy_threshold_ms:.0f} ms)"
    return 1, (Reason("busy", text),)


def _in_flight(candidate: Candidate) -> Reason:
    slots = candidate.server.max_concurrent
    return Reason("in_flight", f"{candidate.in_flight}{f' of {slots}' if slots else ''} in flight")


class PriorityWithMemory:
    """Smallest priority number; inside one priority: warm, then fits without evicting, then fewest in flight."""

    def standing(self, candidate: Candidate, request: RouteRequest, config: Config, spread: float) -> Standing:
        """Order by responsiveness, priority, warmth, load, chance."""
        slow, why_slow = _responsiveness(candidate, config)
        warmth, why_warm = _warmth(candidate, request)
        priority = candidate.server.priority
        key = (slow, priority, warmth, candidate.in_flight, spread)
        return Standing(key, (Reason("priority", f"priority {priority}"), why_warm, _in_flight(candidate), *why_slow))


class LeastLoaded:
    """Fewest in flight, as a share of the slots where they are known; then warm; then priority."""

    def standing(self, candidate: Candidate, request: RouteRequest, config: Config, spread: float) -> Standing:
        """Order by responsiveness, load, warmth, priority, chance."""
        slow, why_slow = _responsiveness(candidate, config)
        warmth, why_warm = _warmth(candidate, request)
        share = candidate.in_flight / (candidate.server.max_concurrent or 1)
        key = (slow, share, warmth, candidate.server.priority, spread)
        return Standing(key, (_in_flight(candidate), why_warm, *why_slow))


class RoundRobin:
    """Each in turn: the caller's counter moves the start on with every request."""

    def standing(self, candidate: Candidate, request: RouteRequest, config: Config, spread: float) -> Standing:
        """Order by responsiveness, then by turn."""
        _, why_warm = _warmth(candidate, request)
        slow, why_slow = _responsiveness(candidate, config)
        return Standing((slow, spread), (Reason("turn", "its turn"), why_warm, _in_flight(candidate), *why_slow))


RANKINGS: Mapping[str, Ranking] = {
    "priority_with_memory": PriorityWithMemory(),
    "least_loaded": LeastLoaded(),
    "round_robin": RoundRobin(),
}


def spread_of(name: str, tiebreak: int) -> float:
    """A number in [0, 1) that depends only on the server's name and the caller's tie-break."""
    return zlib.crc32(f"{tiebreak}:{name}".encode()) / 2**32
