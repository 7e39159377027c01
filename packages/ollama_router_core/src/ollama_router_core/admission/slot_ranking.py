"""The late choice of the strategy `fastest`: when something changes, what should run where next.

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
from dataclasses import dataclass

from msgspec import Struct

from ollama_router_core.admission.in_flight_table import InFlightTable, ServerLoad
from ollama_router_core.admission.line import Group, Line, prompt_tokens
from ollama_router_core.admission.outlook import Fit, Outlook
from ollama_router_core.admission.tickets import Ticket
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.prefixes import HeldPrefix
from ollama_router_core.fleet.snapshot import LoadedModel
from ollama_router_core.routing.candidates import Candidate, RequestKind
from ollama_router_core.routing.filters import slots_of

__all__ = ["Move", "Placement"]

EVICTION_MARGIN = 1.1
"""A load must gain this much more than it costs: changing one's mind is not free."""


class Move(Struct, frozen=True, eq=False):
    """A ticket goes to a server, perhaps into a load of `load` seconds, after `unload`."""

    ticket: Ticket
    server: str
    ranking: tuple[str, ...]
    work: float
    load: float
    size: int
    unload: tuple[CanonicalName, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class _Load:
    """A load that pays: weight gained a second, whose it is, where, and who must go."""

    gain: float
    group: Group
    server: str
    victims: tuple[CanonicalName, ...]


class Placement:
    """Chooses by what `outlook` shows; writes only promises."""

    def __init__(self, line: Line, floor: InFlightTable, outlook: Outlook) -> None:
        self._line = line
        self._floor = floor
        self._outlook = outlook

    # --- free slots ------------------------------------------------------------------------------------------------

    def fill(self, groups: Iterable[Group], servers: frozenset[str] | None = None) -> Iterator[Move]:
        """Tickets for free slots of loaded models; the caller starts each before it asks for the next."""
        for group in list(groups):
            while group.tickets:
                move = self.warm_move(group, servers)
                if move is None:
                    break
                yield move

    def warm_move(self, group: Group, servers: frozenset[str] | None = None) -> Move | None:
        """One ticket of a group for a free slot of its loaded model, None where there is none."""
        fits = self._outlook.fits(group)
        where = fits.values() if servers is None else [fits[name] for name in servers if name in fits]
        kind = group.kind
        open_ = [fit for fit in where if fit.warm and self._has_slot(fit, kind)]
        if not open_:
            return None
        tokens, usual = group.mean_tokens, open_[0]
        if len(open_) > 1:
            usual = min(open_, key=lambda fit: fit.seconds(tokens))
        ticket = self._next(group, usual)
        if ticket.prefix is not None:
            return self._move_to_prefix(group, ticket, ticket.prefix, open_)
        return self._move(group, ticket, usual, load=0.0, unload=(), reason="loaded, a slot is free")

    def _has_slot(self, fit: Fit, kind: RequestKind) -> bool:
        station = fit.station
        if station.leaving and kind.model in station.leaving and station.promised != kind:
            return False
        if station.by_kind and station.by_kind.get(kind, 0) >= fit.parallel:
            return False
        return self._has_room(fit.candidate, station)

    def _has_room(self, candidate: Candidate, station: ServerLoad) -> bool:
        snapshot = self._outlook.snapshot
        running = len(station.running)
        if snapshot.elsewhere:
            running += snapshot.elsewhere.get(candidate.name, 0)
        if not running:
            return True
        slots = slots_of(candidate, snapshot)
        return slots is None or running < slots

    def _move_to_prefix(self, group: Group, ticket: Ticket, prefix: HeldPrefix, fits: list[Fit]) -> Move:
        """To the quickest, where one has less to read as it holds the conversation."""
        tokens, least = group.mean_tokens, math.inf
        best, held = fits[0], ""
        for fit in fits:
            seconds, holds = fit.seconds(tokens), fit.candidate.name == prefix.server
            if holds:
                seconds -= min(prefix.tokens, tokens) * fit.per_token * fit.station.pace_with_one_more
            if seconds < least:
                best, least = fit, seconds
                held = f", holds {prefix.tokens} tokens of the conversation" if holds else ""
        return self._move(group, ticket, best, load=0.0, unload=(), reason=f"loaded, a slot is free{held}")

    def _next(self, group: Group, fit: Fit) -> Ticket:
        """The shortest, with age and fairness weighed in."""
        line, now = self._line, self._outlook.now
        tickets = group.tickets.values()
        if len(tickets) == 1:
            return next(iter(tickets))
        return min(tickets, key=lambda one: fit.work(prompt_tokens(one)) / line.weight(one, now))

    def _move(
        self, group: Group, ticket: Ticket, fit: Fit, *, load: float, unload: tuple[CanonicalName, ...], reason: str
    ) -> Move:
        name, tokens = fit.candidate.name, group.mean_tokens
        others = [
            (not other.warm, tokens * other.per_token + other.decode + other.load, other_name)
            for other_name, other in self._outlook.fits(group).items()
            if other is not fit
        ]
        others.sort()
        ranking = (name, *[other[2] for other in others])
        work = fit.work(prompt_tokens(ticket))
        return Move(ticket, name, ranking, work, load, fit.candidate.size, unload, reason)

    # --- loads -----------------------------------------------------------------------------------------------------

    def keep_promises(self) -> Iterator[Move]:
        """Loads whose room has been made by now."""
        for server, station in self._floor.stations.items():
            kind = station.promised
            if kind is None:
                continue
            group = self._line.groups.get(kind)
            fit = None if group is None else self._outlook.fits(group).get(server)
            if group is None or fit is None or fit.warm:
                station.promised, station.leaving = None, ()
            elif (
                not any(station.runs(model) for model in station.leaving) and station.loading(self._outlook.now) is None
            ):
                unload, station.promised, station.leaving = station.leaving, None, ()
                yield self._cold_move(group, fit, unload)

    def _may_start(self, station: ServerLoad) -> bool:
        busy = any(station.runs(model) for model in station.leaving)
        return not busy and station.loading(self._outlook.now) is None

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
        pairs = [
            (group, name) for name in free for group in groups if group.tickets and name in self._outlook.fits(group)
        ]
        worth = [found for group, name in pairs if (found := self._worth(group, name)) is not None]
        promised: set[str] = set()
        for best in sorted(worth, key=lambda one: (-one.gain, one.server, str(one.group.kind))):
            if best.server in promised:
                continue
            station = self._floor.station(best.server)
            if not any(station.runs(model) for model in best.victims):
                return self._cold_move(best.group, self._outlook.fits(best.group)[best.server], best.victims)
            if not self._promised(best.group.kind):
                station.promised, station.leaving = best.group.kind, best.victims
            promised.add(best.server)
        return None

    def _may_load(self, server: str) -> bool:
        station = self._floor.station(server)
        return station.promised is None and station.loading(self._outlook.now) is None

    def _promised(self, kind: RequestKind) -> bool:
        return any(station.promised == kind for station in self._floor.stations.values())

    def _worth(self, group: Group, server: str) -> _Load | None:
        """Whether loading a group's model pays, and how much a second."""
        fit = self._outlook.fits(group)[server]
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
        drain = max((station.rest(model, self._outlook.now) for model in victims), default=0.0)
        weight *= seconds / (seconds + drain)
        if weight <= EVICTION_MARGIN * loss:
            return None
        return _Load((weight - loss) / (seconds + drain), group, server, victims)

    def _served(self, group: Group, fit: Fit, station: ServerLoad) -> tuple[float, float] | None:
        """The weight served by a load and the seconds that takes, the load included; None when others are quicker."""
        rate, ahead = self._outlook.elsewhere(group, fit.candidate.name)
        work = fit.work(group.mean_tokens) * station.pace_with_one_more
        count = len(group.tickets)
        if not rate:
            return self._best_batch(group, fit, station.pace_with_one_more)
        seconds = (count + ahead + fit.load / work) / (rate + 1.0 / work)
        if seconds <= fit.load + work:
            return None
        return self._outlook.weight(group) / count * (seconds - fit.load) / work, seconds

    def _best_batch(self, group: Group, fit: Fit, pace: float) -> tuple[float, float]:
        """The shortest tickets up to where one more would lower the weight a second."""
        line, now = self._line, self._outlook.now
        pairs = sorted([(fit.work(prompt_tokens(one)) * pace, line.weight(one, now)) for one in group.tickets.values()])
        seconds, weight, best = fit.load, 0.0, (0.0, 1.0)
        for work, worth in pairs:
            seconds += work
            weight += worth
            if weight * best[1] > best[0] * seconds:
                best = (weight, seconds)
        return best

    def _victims(
        self, fit: Fit, seconds: float, most: float
    ) -> tuple[tuple[CanonicalName, ...], float] | tuple[None, float]:
        """Whose room to take, the least missed for its size first, and the loss; None beyond `most`."""
        candidate = fit.candidate
        own = candidate.loaded
        victims: list[LoadedModel] = [] if own is None else [own]
        loss = 0.0 if own is None else self._outlook.loss(candidate, own, seconds)
        free = None if candidate.free is None else candidate.free - self._arriving(candidate)
        if free is not None and free < candidate.size:
            others = [one for one in candidate.facts.loaded.values() if one is not own]
            priced = sorted(
                [(self._outlook.loss(candidate, one, seconds) / max(one.size, 1), one.name, one) for one in others],
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
                avoided += self._outlook.loss(candidate, one, seconds)
        return avoided

    def _arriving(self, candidate: Candidate) -> int:
        """Bytes of models that our own requests load there and no report shows yet."""
        loaded = candidate.facts.loaded
        running = self._floor.station(candidate.name).running.values()
        return sum([one.size for one in running if one.load and not one.answering and one.kind.model not in loaded])
