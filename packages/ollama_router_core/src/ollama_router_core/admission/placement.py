"""The late choice of the strategy `fastest`: when something changes, what should run where next.

Belongs here: free slots of loaded models, loads that pay, evictions at their price.
Does not belong here: bounds and refusals (`coordinator`), the facts (`FleetSnapshot`), what runs (`floor`).

A slot of a loaded model that is free is filled at once: shortest expected work first, weighed with age and fairness
(Smith's rule, so that the mean wait is short). A load is judged over the time it takes together with the work that
waits for it: the weight it serves in that time must exceed the weight that the evicted models would have served, plus
the price of loading them again, as likely as they will be asked for. Where a model is loaded elsewhere only the share
of the group counts that this server would take over, and nothing does when the others would be done before the load.
A load that needs the room of busy models makes a promise: those get nothing new there until they are idle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ollama_router_core.admission.demand import Demand
from ollama_router_core.admission.floor import Floor, Station
from ollama_router_core.admission.line import Group, Line, prompt_tokens
from ollama_router_core.admission.tickets import Ticket
from ollama_router_core.candidates import WARM, Candidate, RequestKind, reload_seconds
from ollama_router_core.config.settings import Config
from ollama_router_core.decision import plan_for
from ollama_router_core.fleet import FleetSnapshot, LoadedModel
from ollama_router_core.names import CanonicalName
from ollama_router_core.selection import LIVE_FILTERS, slots_of

__all__ = ["Fit", "Move", "Placement"]

EVICTION_MARGIN = 1.1
"""A load must gain this much more than it costs: changing one's mind is not free."""

RELOAD_PRICE = 0.1
"""Tickets' worth of loss for each second of a reload that an eviction makes likely."""

REUSE_HORIZON = 60.0
"""Seconds within which an evicted model must be asked for to be missed."""

_FITS_LAST = 1.0
_WEIGHTS_LAST = 0.5
"""Seconds for which learned speeds and the ages of waiting tickets may be a little out of date."""


@dataclass(slots=True, eq=False)
class Fit:
    """What a kind of request costs on a server: seconds a prompt token, an answer, a load.

    `warm` holds for one look: loaded as needed, by the facts or by an answer that has begun since.
    """

    candidate: Candidate
    station: Station
    per_token: float
    decode: float
    load: float
    warm: bool

    def work(self, tokens: float) -> float:
        """Undisturbed seconds of a request with so long a prompt."""
        return tokens * self.per_token + self.decode


@dataclass(frozen=True, slots=True)
class Move:
    """A ticket goes to a server, perhaps into a load of `load` seconds, after `unload`."""

    ticket: Ticket
    server: str
    ranking: tuple[str, ...]
    work: float
    load: float
    size: int
    unload: tuple[CanonicalName, ...]
    reason: str


@dataclass(slots=True, eq=False)
class _Fits:
    """The servers of a kind, kept over some looks, and what was derived from them in the latest one."""

    by_name: dict[str, Fit]
    made_at: float
    looked: int = -1
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


@dataclass(frozen=True, slots=True)
class _Load:
    """A load that pays: weight gained a second, whose it is, where, and who must go."""

    gain: float
    group: Group
    server: str
    victims: tuple[CanonicalName, ...]


class Placement:
    """Reads line, floor and facts; writes only promises. `look` sets the moment that everything else is about."""

    def __init__(self, config: Config, line: Line, floor: Floor, demand: Demand) -> None:
        self._config = config
        self._line = line
        self._floor = floor
        self._demand = demand
        self._snapshot = FleetSnapshot()
        self._now = 0.0
        self._looks = 0
        self._fits: dict[RequestKind, _Fits] = {}
        self._weights: dict[RequestKind, tuple[int, float, float]] = {}
        self._residents: dict[tuple[str, CanonicalName], _Resident] = {}

    def look(self, snapshot: FleetSnapshot, now: float) -> None:
        """Take a new look at facts and time. Fits outlive it for a second while the facts are the same."""
        old = self._snapshot
        if snapshot.servers is not old.servers or (snapshot.draining, snapshot.suspended) != (
            old.draining,
            old.suspended,
        ):
            self._fits.clear()
        if len(self._weights) > 4 * len(self._line.groups) + 64:
            self._fits.clear()
            self._weights.clear()
        self._residents.clear()
        self._snapshot, self._now = snapshot, now
        self._looks += 1

    @property
    def snapshot(self) -> FleetSnapshot:
        """The facts looked at."""
        return self._snapshot

    def fits(self, group: Group) -> dict[str, Fit]:
        """The servers that may take a group now, slow ones only when there is no other."""
        return self._found(group).by_name

    def _found(self, group: Group) -> _Fits:
        found = self._fits.get(group.kind)
        if found is None or self._now - found.made_at > _FITS_LAST:
            found = self._fits[group.kind] = _Fits(self._make_fits(group), self._now)
        if found.looked != self._looks:
            found.looked = self._looks
            self._derive(found, group)
        return found

    def _make_fits(self, group: Group) -> dict[str, Fit]:
        plan = plan_for(group.sample.request, self._snapshot, self._config)
        usable = [one for one in plan.able if self._usable(one)]
        slow = self._config.server_busy_threshold_ms
        brisk = [one for one in usable if (one.facts.probe_ms or 0.0) <= slow]
        return {one.name: self._fit(one, group) for one in brisk or usable}

    def _derive(self, found: _Fits, group: Group) -> None:
        """Who serves the kind, at how many tickets a second, and how many their loads delay."""
        kind, tokens = group.kind, group.mean_tokens
        found.rates, found.ahead = {}, {}
        for name, fit in found.by_name.items():
            station, candidate = fit.station, fit.candidate
            here = kind in station.by_kind
            fit.warm = candidate.warmth == WARM and candidate.loaded is not None
            if here and not fit.warm:
                fit.warm = any(one.answering for one in station.running.values() if one.kind == kind)
            if fit.warm or here or station.promised == kind:
                rate = candidate.server.num_parallel / (fit.work(tokens) * station.pace)
                found.rates[name] = rate
                found.ahead[name] = 0.0 if fit.warm else rate * fit.load
        found.rate = sum(found.rates.values())
        found.all_ahead = sum(found.ahead.values())

    def _usable(self, candidate: Candidate) -> bool:
        snapshot = self._snapshot
        if not (snapshot.draining or snapshot.suspended):
            return True
        return not any(rule.refuse(candidate, snapshot, self._now) for rule in LIVE_FILTERS[:2])

    def _fit(self, candidate: Candidate, group: Group) -> Fit:
        speed = candidate.speed(group.kind.model, self._snapshot.speeds)
        embeds = "embedding" in group.kind.needs
        decode = 0.0 if embeds else speed.answer_tokens / speed.decode_rate
        station = self._floor.station(candidate.name)
        return Fit(candidate, station, 1.0 / speed.prefill_rate, decode, speed.load_seconds, warm=False)

    # --- free slots ------------------------------------------------------------------------------------------------

    def fill(self, groups: Iterable[Group], servers: frozenset[str] | None = None) -> Iterator[Move]:
        """Tickets for free slots of loaded models; the caller starts each before it asks for the next."""
        for group in list(groups):
            while group.tickets:
                fits = self.fits(group)
                open_ = [
                    fit
                    for name, fit in fits.items()
                    if fit.warm and (servers is None or name in servers) and self._has_slot(fit, group.kind)
                ]
                if not open_:
                    break
                yield self._warm_move(group, open_)

    def _has_slot(self, fit: Fit, kind: RequestKind) -> bool:
        candidate, station = fit.candidate, fit.station
        if kind.model in station.leaving and station.promised != kind:
            return False
        return station.by_kind.get(kind, 0) < candidate.server.num_parallel and self._has_room(candidate, station)

    def _has_room(self, candidate: Candidate, station: Station) -> bool:
        slots = slots_of(candidate, self._snapshot)
        return slots is None or len(station.running) < slots

    def _warm_move(self, group: Group, fits: list[Fit]) -> Move:
        tokens = group.mean_tokens

        def seconds(fit: Fit) -> float:
            return fit.work(tokens) * fit.station.pace_with_one_more

        usual = min(fits, key=seconds)
        ticket = self._next(group, usual)
        saved = ticket.prefix.tokens if ticket.prefix is not None else 0
        holder = ticket.prefix.server if ticket.prefix is not None else None

        def with_prefix(fit: Fit) -> float:
            return seconds(fit) - (min(saved, tokens) * fit.per_token if fit.candidate.name == holder else 0.0)

        best = min(fits, key=with_prefix) if saved else usual
        return self._move(group, ticket, best, load=0.0, unload=(), reason="loaded, a slot is free")

    def _next(self, group: Group, fit: Fit) -> Ticket:
        """The shortest, with age and fairness weighed in."""
        line, now = self._line, self._now
        tickets = group.tickets.values()
        if len(tickets) == 1:
            return next(iter(tickets))
        return min(tickets, key=lambda one: fit.work(prompt_tokens(one)) / line.weight(one, now))

    def _move(
        self, group: Group, ticket: Ticket, fit: Fit, *, load: float, unload: tuple[CanonicalName, ...], reason: str
    ) -> Move:
        fits = self.fits(group)
        name = fit.candidate.name
        others = sorted(
            (other for other in fits if other != name),
            key=lambda other: (not fits[other].warm, fits[other].work(group.mean_tokens) + fits[other].load, other),
        )
        work = fit.work(prompt_tokens(ticket))
        return Move(ticket, name, (name, *others), work, load, fit.candidate.size, unload, reason)

    # --- loads -----------------------------------------------------------------------------------------------------

    def keep_promises(self) -> Iterator[Move]:
        """Loads whose room has been made by now."""
        for server, station in self._floor.stations.items():
            kind = station.promised
            if kind is None:
                continue
            group = self._line.groups.get(kind)
            fit = None if group is None else self.fits(group).get(server)
            if group is None or fit is None or fit.warm:
                station.promised, station.leaving = None, ()
            elif not any(station.runs(model) for model in station.leaving) and station.loading(self._now) is None:
                unload, station.promised, station.leaving = station.leaving, None, ()
                yield self._cold_move(group, fit, unload)

    def _cold_move(self, group: Group, fit: Fit, unload: tuple[CanonicalName, ...]) -> Move:
        loaded = fit.candidate.facts.loaded
        gone = tuple(model for model in unload if model in loaded)
        reason = f"a load of ~{fit.load:.1f} s pays for {len(group.tickets)} waiting"
        return self._move(group, self._next(group, fit), fit, load=fit.load, unload=gone, reason=reason)

    def load(self, groups: Iterable[Group], servers: Iterable[str]) -> Move | None:
        """The load that pays most among these groups and servers, if one does and its room is free.

        Where busy models must go first, a promise is made instead, and the next best is looked at.
        """
        free = [name for name in servers if self._may_load(name)]
        pairs = [(group, name) for name in free for group in groups if group.tickets and name in self.fits(group)]
        worth = [found for group, name in pairs if (found := self._worth(group, name)) is not None]
        promised: set[str] = set()
        for best in sorted(worth, key=lambda one: (-one.gain, one.server, str(one.group.kind))):
            if best.server in promised:
                continue
            station = self._floor.station(best.server)
            if not any(station.runs(model) for model in best.victims):
                return self._cold_move(best.group, self.fits(best.group)[best.server], best.victims)
            if not self._promised(best.group.kind):
                station.promised, station.leaving = best.group.kind, best.victims
            promised.add(best.server)
        return None

    def _may_load(self, server: str) -> bool:
        station = self._floor.station(server)
        return station.promised is None and station.loading(self._now) is None

    def _promised(self, kind: RequestKind) -> bool:
        return any(station.promised == kind for station in self._floor.stations.values())

    def _worth(self, group: Group, server: str) -> _Load | None:
        """Whether loading a group's model pays, and how much a second."""
        fit = self.fits(group)[server]
        station = fit.station
        if fit.warm or not self._has_room(fit.candidate, station):
            return None
        found = self._served(group, fit, station)
        if found is None:
            return None
        weight, seconds = found
        victims, loss = self._victims(fit, seconds, weight / EVICTION_MARGIN)
        if victims is None:
            return None
        drain = max((station.rest(model, self._now) for model in victims), default=0.0)
        weight *= seconds / (seconds + drain)
        if weight <= EVICTION_MARGIN * loss:
            return None
        return _Load((weight - loss) / (seconds + drain), group, server, victims)

    def _served(self, group: Group, fit: Fit, station: Station) -> tuple[float, float] | None:
        """The weight served by a load and the seconds that takes, the load included; None when others are quicker."""
        rate, ahead = self._elsewhere(group, fit.candidate.name)
        work = fit.work(group.mean_tokens) * station.pace_with_one_more
        count = len(group.tickets)
        if not rate:
            return self._best_batch(group, fit, station.pace_with_one_more)
        seconds = (count + ahead + fit.load / work) / (rate + 1.0 / work)
        if seconds <= fit.load + work:
            return None
        return self._weight(group) / count * (seconds - fit.load) / work, seconds

    def _elsewhere(self, group: Group, server: str) -> tuple[float, float]:
        """Tickets a second that other servers serve or are about to, and those their loads delay."""
        found = self._found(group)
        own = found.rates.get(server)
        if own is None:
            return found.rate, found.all_ahead
        if len(found.rates) == 1:
            return 0.0, 0.0
        return found.rate - own, found.all_ahead - found.ahead[server]

    def _best_batch(self, group: Group, fit: Fit, pace: float) -> tuple[float, float]:
        """The shortest tickets up to where one more would lower the weight a second."""
        line, now = self._line, self._now
        pairs = sorted([(fit.work(prompt_tokens(one)) * pace, line.weight(one, now)) for one in group.tickets.values()])
        seconds, weight, best = fit.load, 0.0, (0.0, 1.0)
        for work, worth in pairs:
            seconds += work
            weight += worth
            if weight * best[1] > best[0] * seconds:
                best = (weight, seconds)
        return best

    def _weight(self, group: Group) -> float:
        known = self._weights.get(group.kind)
        if known is not None and known[0] == group.version and self._now - known[1] < _WEIGHTS_LAST:
            return known[2]
        weight = self._line.weight_of(group, self._now)
        self._weights[group.kind] = (group.version, self._now, weight)
        return weight

    def _victims(
        self, fit: Fit, seconds: float, most: float
    ) -> tuple[tuple[CanonicalName, ...], float] | tuple[None, float]:
        """Whose room to take, the least missed for its size first, and the loss; None beyond `most`."""
        candidate = fit.candidate
        own = candidate.loaded
        victims: list[LoadedModel] = [] if own is None else [own]
        loss = 0.0 if own is None else self._loss(candidate, own, seconds)
        free = None if candidate.free is None else candidate.free - self._arriving(candidate)
        if free is not None and free < candidate.size:
            others = [one for one in candidate.facts.loaded.values() if one is not own]
            priced = sorted(
                [(self._loss(candidate, one, seconds) / max(one.size, 1), one.name, one) for one in others],
            )
            for price, _, one in priced:
                if free >= candidate.size:
                    break
                victims.append(one)
                free += one.size
                loss += price * one.size
                if loss > most:
                    return None, loss
            if free < candidate.size:
                return None, loss
            loss -= self._spare(victims, own, free - candidate.size, candidate, seconds)
        return tuple([one.name for one in victims]), loss

    def _spare(
        self, victims: list[LoadedModel], own: LoadedModel | None, surplus: int, candidate: Candidate, seconds: float
    ) -> float:
        """Let stay whom a later, larger victim made needless; returns the loss avoided."""
        avoided = 0.0
        for one in list(victims):
            if one is not own and one.size <= surplus:
                victims.remove(one)
                surplus -= one.size
                avoided += self._loss(candidate, one, seconds)
        return avoided

    def _arriving(self, candidate: Candidate) -> int:
        """Bytes of models that our own requests load there and no report shows yet."""
        loaded = candidate.facts.loaded
        running = self._floor.station(candidate.name).running.values()
        return sum([one.size for one in running if one.load and not one.answering and one.kind.model not in loaded])

    def _loss(self, candidate: Candidate, loaded: LoadedModel, seconds: float) -> float:
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
            others, _ = self._elsewhere(group, server)
            part = 1.0 / (1.0 + work * others)
            waiting.append((self._weight(group), part, work, len(group.tickets)))
            reload = fit.load
        count = sum(row[3] for row in waiting)
        missed = 1.0 - math.exp(-rate * REUSE_HORIZON)
        price = RELOAD_PRICE * reload * missed * (1 + count) / (1 + homes)
        return _Resident(tuple(waiting), rate, homes, price)

    def _homes(self, model: CanonicalName, besides: str) -> int:
        """Other servers that have a model loaded."""
        servers = self._snapshot.servers
        return sum(model in facts.loaded for name, facts in servers.items() if name != besides and facts.up)

    # --- questions -------------------------------------------------------------------------------------------------

    def expected_wait(self, group: Group) -> float:
        """Seconds until a newcomer to a group should get its server, as things stand."""
        rate, ahead = self._elsewhere(group, "")
        count = len(group.tickets)
        if rate:
            return (count + ahead) / rate
        return min((fit.load + count * fit.work(group.mean_tokens) for fit in self.fits(group).values()), default=0.0)
