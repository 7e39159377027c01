"""What each server offers to each group in line now, and what its loaded models are worth there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ollama_router_core.admission.demand import Demand
from ollama_router_core.admission.in_flight_table import InFlightTable, ServerLoad
from ollama_router_core.admission.line import Group, Line
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.snapshot import FleetSnapshot, LoadedModel
from ollama_router_core.routing.candidates import RESPONSIVE, WARM, Candidate, RequestKind, reload_seconds
from ollama_router_core.routing.filters import in_service
from ollama_router_core.routing.selector import ServerSelector

__all__ = ["Fit", "Outlook"]

RELOAD_PRICE = 0.1
"""Tickets' worth of loss for each second of a reload that an eviction makes likely."""

REUSE_HORIZON = 60.0
"""Seconds within which an evicted model must be asked for to be missed."""

_FITS_LAST = 1.0
_WEIGHTS_LAST = 0.5
_RENEWALS = 4
"""Seconds for which learned speeds and the ages of waiting tickets may be a little out of date, and how many kinds'
speeds are renewed in one look."""


@dataclass(slots=True, eq=False)
class Fit:
    """What a kind of request costs on a server: seconds a prompt token, an answer, a load; `parallel` slots a model.

    `loaded` says that the facts show it loaded as needed, `warm` that they do or an answer has begun since; that
    holds for one look.
    """

    candidate: Candidate
    station: ServerLoad
    per_token: float
    decode: float
    load: float
    parallel: int
    loaded: bool
    warm: bool = False

    def work(self, tokens: float) -> float:
        """Undisturbed seconds of a request with so long a prompt."""
        return tokens * self.per_token + self.decode

    def seconds(self, tokens: float) -> float:
        """The same beside what runs there now."""
        work = tokens * self.per_token + self.decode
        return work * self.station.pace_with_one_more if self.station.running else work


@dataclass(slots=True, eq=False)
class _Fits:
    """The servers of a kind, kept over some looks, and what was derived from them in the latest one.

    Who is warm is marked first; rates are worked out only when a load is weighed.
    """

    by_name: dict[str, Fit]
    made_at: float
    made_for: int
    warmed: list[Fit] = field(default_factory=list)
    marked: int = -1
    derived: int = -1
    rates: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    ahead: dict[str, float] = field(default_factory=dict)
    all_ahead: float = 0.0


@dataclass(frozen=True, slots=True)
class _Resident:
    """What a loaded model is worth where it is: (weight, part of it, seconds a ticket, tickets) for each kind."""

    waiting: tuple[tuple[float, float, float, int], ...]
    rate: float
    homes: int
    price: float

    def loss(self, seconds: float) -> float:
        """The weight it would serve here within so many seconds, and the price of its reload."""
        if not self.waiting:
            return self.rate * seconds / (1 + self.homes) + self.price
        share = 0.0
        for weight, part, work, count in self.waiting:
            share += min((weight + self.rate * seconds) * part, seconds / work * weight / count)
        return share + self.price


class Outlook:
    """Reads line, floor and facts. `look` sets the moment that every answer is about."""

    def __init__(self, selector: ServerSelector, line: Line, floor: InFlightTable, demand: Demand) -> None:
        self._selector = selector
        self._line = line
        self._floor = floor
        self._demand = demand
        self._snapshot = FleetSnapshot()
        self._now = 0.0
        self._looks = 0
        self._facts = 0
        self._renewals = _RENEWALS
        self._fits: dict[RequestKind, _Fits] = {}
        self._weights: dict[RequestKind, tuple[int, float, float]] = {}
        self._residents: dict[tuple[str, CanonicalName], _Resident] = {}

    def reconfigure(self, selector: ServerSelector) -> None:
        """Another config: who fits is found out anew."""
        self._selector = selector
        self._fits.clear()

    def look(self, snapshot: FleetSnapshot, now: float) -> None:
        """Take a new look at facts and time. Fits outlive it for a second while the facts are the same."""
        old = self._snapshot
        if (
            snapshot.servers is not old.servers
            or snapshot.draining != old.draining
            or snapshot.suspended != old.suspended
        ):
            self._facts += 1
        if len(self._weights) > 4 * len(self._line.groups) + 64:
            self._fits.clear()
            self._weights.clear()
        self._residents.clear()
        self._snapshot, self._now = snapshot, now
        self._looks += 1
        self._renewals = _RENEWALS

    @property
    def snapshot(self) -> FleetSnapshot:
        """The facts looked at."""
        return self._snapshot

    @property
    def now(self) -> float:
        """The time looked at."""
        return self._now

    def fits(self, group: Group) -> dict[str, Fit]:
        """The servers that may take a group now, slow ones only when there is no other."""
        return self._found(group).by_name

    def _found(self, group: Group) -> _Fits:
        found = self._fits.get(group.kind)
        if found is None or self._is_due(found):
            found = self._fits[group.kind] = _Fits(self._make_fits(group, {}), self._now, self._facts)
        elif found.made_for != self._facts:
            kept = self._make_fits(group, found.by_name)
            found = self._fits[group.kind] = _Fits(kept, found.made_at, self._facts)
        if found.marked != self._looks:
            found.marked = self._looks
            self._mark(found, group.kind)
        return found

    def _is_due(self, found: _Fits) -> bool:
        """Whether speeds are asked for anew; for a few kinds at a time, so that no look pays for all."""
        if self._now - found.made_at <= _FITS_LAST or not self._renewals:
            return False
        self._renewals -= 1
        return True

    def _mark(self, found: _Fits, kind: RequestKind) -> None:
        """Where the model is loaded by an answer that has begun since the facts were seen."""
        for fit in found.warmed:
            fit.warm = fit.loaded
        answering = self._floor.answering(kind)
        if not answering and not found.warmed:
            return
        found.warmed = [found.by_name[name] for name in answering if name in found.by_name] if answering else []
        for fit in found.warmed:
            fit.warm = True

    def _rated(self, group: Group) -> _Fits:
        found = self._found(group)
        if found.derived != self._looks:
            found.derived = self._looks
            self._derive(found, group)
        return found

    def _make_fits(self, group: Group, known: Mapping[str, Fit]) -> dict[str, Fit]:
        """The servers that may take a group; `known` fits of the same candidates are used again."""
        snapshot = self._snapshot
        able = self._selector.plan(group.sample.request, snapshot).able
        usable = [one for one in able if in_service(one, snapshot, self._now)]
        least = min((one.health_tier for one in usable), default=RESPONSIVE)
        fits = {}
        for one in usable:
            if one.health_tier > least:
                continue
            fit = known.get(one.name)
            if fit is None or fit.candidate is not one:
                fit = self._fit(one, group)
            fit.warm = fit.loaded
            fits[one.name] = fit
        return fits

    def _derive(self, found: _Fits, group: Group) -> None:
        """Who serves the kind, at how many tickets a second, and how many their loads delay."""
        kind, tokens = group.kind, group.mean_tokens
        running = self._floor.running(kind)
        found.rates, found.ahead = {}, {}
        for name, fit in found.by_name.items():
            station = fit.station
            if fit.warm or name in running or (station.promised is not None and station.promised == kind):
                rate = fit.parallel / (fit.work(tokens) * station.pace)
                found.rates[name] = rate
                found.ahead[name] = 0.0 if fit.warm else rate * fit.load
        found.rate = sum(found.rates.values())
        found.all_ahead = sum(found.ahead.values())

    def _fit(self, candidate: Candidate, group: Group) -> Fit:
        speed = candidate.speed(group.kind.model, self._snapshot.speeds)
        decode = 0.0 if "embedding" in group.kind.needs else speed.answer_tokens / speed.decode_rate
        return Fit(
            candidate,
            self._floor.station(candidate.name),
            1.0 / speed.prefill_rate,
            decode,
            speed.load_seconds,
            candidate.server.num_parallel,
            loaded=candidate.warmth == WARM and candidate.loaded is not None,
        )

    def elsewhere(self, group: Group, server: str) -> tuple[float, float]:
        """Tickets a second that other servers serve or are about to, and those their loads delay."""
        found = self._rated(group)
        own = found.rates.get(server)
        if own is None:
            return found.rate, found.all_ahead
        if len(found.rates) == 1:
            return 0.0, 0.0
        return found.rate - own, found.all_ahead - found.ahead[server]

    def weight(self, group: Group) -> float:
        """The weights of a group's tickets together."""
        known = self._weights.get(group.kind)
        if known is not None and known[0] == group.version and self._now - known[1] < _WEIGHTS_LAST:
            return known[2]
        weight = self._line.weight_of(group, self._now)
        self._weights[group.kind] = (group.version, self._now, weight)
        return weight

    def loss(self, candidate: Candidate, loaded: LoadedModel, seconds: float) -> float:
        """What is lost when a loaded model has to go from a server for so long."""
        key = (candidate.name, loaded.name)
        resident = self._residents.get(key)
        if resident is None:
            resident = self._residents[key] = self._resident(candidate.name, loaded)
        return resident.loss(seconds)

    def _resident(self, server: str, loaded: LoadedModel) -> _Resident:
        model = loaded.name
        rate = self._demand.rate(model, self._now)
        homes = self._homes(model, server)
        waiting: list[tuple[float, float, float, int]] = []
        reload = reload_seconds(loaded.size)
        for group in self._line.by_model.get(model, ()):
            fit = self.fits(group).get(server)
            if fit is None or not fit.warm:
                continue
            work = fit.work(group.mean_tokens) * fit.station.pace
            others, _ = self.elsewhere(group, server)
            part = 1.0 / (1.0 + work * others)
            waiting.append((self.weight(group), part, work, len(group.tickets)))
            reload = fit.load
        count = sum(row[3] for row in waiting)
        missed = 1.0 - math.exp(-rate * REUSE_HORIZON)
        price = RELOAD_PRICE * reload * missed * (1 + count) / (1 + homes)
        return _Resident(tuple(waiting), rate, homes, price)

    def _homes(self, model: CanonicalName, besides: str) -> int:
        """Other servers that have a model loaded."""
        servers = self._snapshot.servers
        return sum(model in facts.loaded for name, facts in servers.items() if name != besides and facts.up)

    def expected_wait(self, group: Group) -> float:
        """Seconds until a newcomer to a group should get its server, as things stand."""
        rate, ahead = self.elsewhere(group, "")
        count = len(group.tickets)
        if rate:
            return (count + ahead) / rate
        return min((fit.load + count * fit.work(group.mean_tokens) for fit in self.fits(group).values()), default=0.0)
