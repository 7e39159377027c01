"""Filters and ranking rules, one small type each; every verdict has a reason with numbers.

Filters come in two kinds: those whose answer holds as long as the facts do, and those that look at the current load.
A ranking gives keys first and reasons only when asked: every request needs the former, few the latter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.memory import GIB
from ollama_router_core.fleet.prefixes import HeldPrefix
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, ServerFacts
from ollama_router_core.routing.candidates import RESPONSIVE, UNLISTED, Candidate, Reason
from ollama_router_core.routing.expected_time import Terms, expect, expected_seconds

__all__ = [
    "FILTERS",
    "LIVE_FILTERS",
    "RANKINGS",
    "Candidate",
    "Filter",
    "LiveFilter",
    "RankedCandidate",
    "Ranking",
    "RankingContext",
    "Reason",
    "refused_now",
    "slots_of",
]


class RankingContext(Struct, frozen=True):
    """What a ranking may look at beside the candidate."""

    request: RouteRequest
    snapshot: FleetSnapshot
    config: Config
    now: float
    prefix: HeldPrefix | None = None


class Filter(Protocol):
    """Says why a server cannot take a kind of request, or None when it can."""

    def refuse(self, candidate: Candidate, request: RouteRequest) -> Reason | None:
        """The reason against this server, if there is one."""


class LiveFilter(Protocol):
    """The same, for what changes from one moment to the next."""

    def refuse(self, candidate: Candidate, snapshot: FleetSnapshot, now: float) -> Reason | None:
        """The reason against this server now, if there is one."""


class Enabled:
    """A server switched off by its operator takes nothing."""

    def refuse(self, candidate: Candidate, request: RouteRequest) -> Reason | None:
        """Refuse what is disabled."""
        del request
        return None if candidate.server.enabled else Reason("disabled", "is disabled in the config")


class HasModel:
    """A server must have the model on disk; one whose list is not known may have it, and comes last."""

    def refuse(self, candidate: Candidate, request: RouteRequest) -> Reason | None:
        """Refuse a server whose list is known and lacks the model."""
        installed = candidate.facts.installed
        if request.model is None or installed is None or request.model in installed:
            return None
        return Reason("model_missing", "does not have the model")


class Up:
    """A server that did not answer its last probe takes nothing."""

    def refuse(self, candidate: Candidate, request: RouteRequest) -> Reason | None:
        """Refuse what is down or unknown."""
        del request
        if candidate.facts.up is None:
            return Reason("not_probed", "has not been probed yet")
        if not candidate.facts.up:
            return Reason("down", f"is down: {candidate.facts.error or 'does not answer'}")
        return None


class Capable:
    """The model must be able to do what is asked, where the server says what it can do."""

    def refuse(self, candidate: Candidate, request: RouteRequest) -> Reason | None:
        """Refuse when a needed capability is known to be missing."""
        known = _capabilities(candidate.facts, request)
        if known is None:
            return None
        missing = request.needs - known - ({"embedding"} if "completion" in known else frozenset())
        if not missing:
            return None
        return Reason("incapable", f"its model cannot do {', '.join(sorted(missing))}", missing)


class FitsMemory:
    """The model with its context must fit below the server's `max_memory_gb`."""

    def refuse(self, candidate: Candidate, request: RouteRequest) -> Reason | None:
        """Refuse an estimate beyond the limit."""
        del request
        if candidate.limit is None or candidate.size <= candidate.limit:
            return None
        return Reason("memory", f"needs {candidate.estimate}, limit {candidate.limit / GIB:.1f} GiB")


FILTERS: tuple[Filter, ...] = (Enabled(), HasModel(), Up(), Capable(), FitsMemory())
"""In the order in which their reasons are given: a server that is down and never had the model says the latter."""


class NotDraining:
    """A draining server finishes what it has."""

    def refuse(self, candidate: Candidate, snapshot: FleetSnapshot, now: float) -> Reason | None:
        """Refuse what is draining."""
        del now
        if candidate.name not in snapshot.draining:
            return None
        return Reason("draining", "is draining: it finishes what it has and takes nothing new")


class NotSuspended:
    """A server that failed repeatedly is left alone for a while."""

    def refuse(self, candidate: Candidate, snapshot: FleetSnapshot, now: float) -> Reason | None:
        """Refuse what the breaker keeps out."""
        until = snapshot.suspended.get(candidate.name)
        if until is None or until <= now:
            return None
        return Reason("suspended", f"failed repeatedly, is tried again in {until - now:.0f} s")


class NotFull:
    """A server takes at most `max_concurrent` requests at once, fewer right after it came back."""

    def refuse(self, candidate: Candidate, snapshot: FleetSnapshot, now: float) -> Reason | None:
        """Refuse when every slot is taken."""
        del now
        slots = slots_of(candidate, snapshot)
        running = snapshot.in_flight.get(candidate.name, 0)
        if slots is None or running < slots:
            return None
        return Reason("full", f"is full: {running} of {slots} requests in flight")


LIVE_FILTERS: tuple[LiveFilter, ...] = (NotDraining(), NotSuspended(), NotFull())


def refused_now(candidate: Candidate, snapshot: FleetSnapshot, now: float) -> Reason | None:
    """Why a server that may take a request cannot at this moment, None when it can."""
    return next((found for rule in LIVE_FILTERS if (found := rule.refuse(candidate, snapshot, now))), None)


def slots_of(candidate: Candidate, snapshot: FleetSnapshot) -> int | None:
    """How many requests the server takes at once now, None without a limit."""
    slots = candidate.server.max_concurrent
    fewer = snapshot.slots.get(candidate.name)
    if fewer is None:
        return slots
    return fewer if slots is None else min(slots, fewer)


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


class RankedCandidate(NamedTuple):
    """A server that may take a kind of request.

    `fixed` orders it among those of its plan by what does not change, equal ones the same; `place` is its place among
    all servers, `salt` a number of its own, `most` how many requests it takes at once.
    """

    name: str
    fixed: int
    place: int
    salt: int
    most: float
    candidate: Candidate


_MIX, _ODD, _MASK = 0x9E3779B1, 0x85EBCA6B, 0xFFFFFFFF
"""`(salt ^ tiebreak * _MIX & _MASK) * _ODD & _MASK` is another order of equals for each tiebreak, written out where it
runs."""


class Ranking(Protocol):
    """Compares servers that may take a request. `fixed_first`: by what is fixed before all else."""

    fixed_first: bool

    def fixed(self, candidate: Candidate) -> tuple[int, ...]:
        """What does not change from one decision to the next: `RankedCandidate.fixed` is its index."""

    def keys(self, turns: Iterable[RankedCandidate], moment: RankingContext, tiebreak: int) -> list[tuple[Any, ...]]:
        """One for each server, with its name at the end; the smallest wins, and `tiebreak` decides between equals."""

    def reasons(self, candidate: Candidate, moment: RankingContext) -> tuple[Reason, ...]:
        """What the key is made of."""


def _why_last(candidate: Candidate, config: Config) -> tuple[Reason, ...]:
    if candidate.doubt == RESPONSIVE:
        return ()
    if candidate.doubt == UNLISTED:
        return (Reason("unlisted", "does not say which models it has"),)
    probe, threshold = candidate.facts.probe_ms, config.server_busy_threshold_ms
    return (Reason("busy", f"answers slowly ({probe:.0f} ms, threshold {threshold:.0f} ms)"),)


def _in_flight(candidate: Candidate, snapshot: FleetSnapshot) -> Reason:
    return _running(snapshot.in_flight.get(candidate.name, 0), slots_of(candidate, snapshot))


@lru_cache(maxsize=1024)
def _running(running: int, slots: int | None) -> Reason:
    return Reason("in_flight", f"{running}{f' of {slots}' if slots else ''} in flight")


@lru_cache(maxsize=1024)
def _priority(priority: int) -> Reason:
    return Reason("priority", f"priority {priority}")


class PriorityWithMemory:
    """Smallest priority number; inside one priority: warm, then fits without evicting, then fewest in flight."""

    fixed_first: bool = True

    def fixed(self, candidate: Candidate) -> tuple[int, ...]:
        """Doubt, priority, warmth."""
        return (candidate.doubt, candidate.server.priority, candidate.warmth)

    def keys(self, turns: Iterable[RankedCandidate], moment: RankingContext, tiebreak: int) -> list[tuple[Any, ...]]:
        """Doubt, priority, warmth, load, chance."""
        running, mixed = moment.snapshot.in_flight.get, tiebreak * _MIX & _MASK
        return [(fixed, running(name, 0), (salt ^ mixed) * _ODD & _MASK, name) for name, fixed, _, salt, _, _ in turns]

    def reasons(self, candidate: Candidate, moment: RankingContext) -> tuple[Reason, ...]:
        """The same in words."""
        running = _in_flight(candidate, moment.snapshot)
        last = _why_last(candidate, moment.config)
        return (_priority(candidate.server.priority), candidate.warm_reason, running, *last)


class LeastLoaded:
    """Fewest in flight, as a share of the slots where they are known; then warm; then priority."""

    fixed_first: bool = False

    def fixed(self, candidate: Candidate) -> tuple[int, ...]:
        """Warmth, priority."""
        return (candidate.warmth, candidate.server.priority)

    def keys(self, turns: Iterable[RankedCandidate], moment: RankingContext, tiebreak: int) -> list[tuple[Any, ...]]:
        """Doubt, load, warmth, priority, chance."""
        snapshot, mixed = moment.snapshot, tiebreak * _MIX & _MASK
        running = snapshot.in_flight.get
        return [
            (
                one.doubt,
                running(name, 0) / (slots_of(one, snapshot) or 1),
                fixed,
                (salt ^ mixed) * _ODD & _MASK,
                name,
            )
            for name, fixed, _, salt, _, one in turns
        ]

    def reasons(self, candidate: Candidate, moment: RankingContext) -> tuple[Reason, ...]:
        """The same in words."""
        running = _in_flight(candidate, moment.snapshot)
        return (running, candidate.warm_reason, *_why_last(candidate, moment.config))


class RoundRobin:
    """Each in turn: the caller's counter moves the start on with every request."""

    fixed_first: bool = True

    def fixed(self, candidate: Candidate) -> tuple[int, ...]:
        """Doubt."""
        return (candidate.doubt,)

    def keys(self, turns: Iterable[RankedCandidate], moment: RankingContext, tiebreak: int) -> list[tuple[Any, ...]]:
        """Doubt, then the turn."""
        count = len(moment.config.servers)
        return [(fixed, (place - tiebreak) % count, name) for name, fixed, place, _, _, _ in turns]

    def reasons(self, candidate: Candidate, moment: RankingContext) -> tuple[Reason, ...]:
        """The same in words."""
        running = _in_flight(candidate, moment.snapshot)
        last = _why_last(candidate, moment.config)
        return (Reason("turn", "its turn"), candidate.warm_reason, running, *last)


class Fastest:
    """Least expected time to finish, with the time that an eviction costs others."""

    fixed_first: bool = True

    def terms(self, candidate: Candidate, moment: RankingContext) -> Terms:
        """The expected time, term by term."""
        return expect(candidate, moment.request, moment.snapshot, now=moment.now, prefix=moment.prefix)

    def fixed(self, candidate: Candidate) -> tuple[int, ...]:
        """Doubt."""
        return (candidate.doubt,)

    def keys(self, turns: Iterable[RankedCandidate], moment: RankingContext, tiebreak: int) -> list[tuple[Any, ...]]:
        """Doubt, expected cost, chance."""
        request, snapshot, now, prefix = moment.request, moment.snapshot, moment.now, moment.prefix
        mixed = tiebreak * _MIX & _MASK
        return [
            (
                fixed,
                sum(expected_seconds(one, request, snapshot, now, prefix)),
                (salt ^ mixed) * _ODD & _MASK,
                name,
            )
            for name, fixed, _, salt, _, one in turns
        ]

    def reasons(self, candidate: Candidate, moment: RankingContext) -> tuple[Reason, ...]:
        """When it would be ready and done, the terms, and how well the speeds are known."""
        terms = self.terms(candidate, moment)
        speed = candidate.speed(moment.request.model, moment.snapshot.speeds)
        known = f"{speed.samples} requests" if speed.samples else "a guess from its size"
        return (
            Reason("expected", f"ready in ~{terms.ready:.1f} s, done in ~{terms.done:.1f} s"),
            Reason("terms", str(terms)),
            candidate.warm_reason,
            _in_flight(candidate, moment.snapshot),
            Reason("speed", f"{speed.decode_rate:.0f} tok/s ({known})"),
            *_why_last(candidate, moment.config),
        )


RANKINGS: Mapping[str, Ranking] = {
    "priority_with_memory": PriorityWithMemory(),
    "least_loaded": LeastLoaded(),
    "round_robin": RoundRobin(),
    "fastest": Fastest(),
}
