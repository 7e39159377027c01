"""What facts alone decide about a kind of request: which servers may take it, and why the others may not.

A plan is made once for each `servers` mapping and kind of request and kept while that very mapping is in use. When
one server's facts change, only its candidates are made anew.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, is_not
from typing import Any, NamedTuple

from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.routing.candidates import Candidate, Reason, RequestKind, kind_of, make_candidate
from ollama_router_core.routing.selection import FILTERS, RANKINGS, RankedCandidate, Ranking

__all__ = ["Plan", "plan_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What facts alone decide about a kind of request: who may take it, and why the others may not.

    `turns` are the able servers as `ranking` compares them, `names` theirs in the same order; `settled` says that this
    is the order whatever goes on. `bounded` says that one takes only so many requests at once. `headlines` keeps why a
    server was chosen, in words, by what these say beside the facts: its name, the requests there, its slots.
    """

    able: tuple[Candidate, ...]
    ranking: Ranking
    turns: tuple[RankedCandidate, ...]
    names: tuple[str, ...]
    settled: bool
    refused: tuple[tuple[Candidate, Reason], ...]
    bounded: bool
    headlines: dict[tuple[str, int, int | None], str] = field(default_factory=dict, repr=False)

    def candidate(self, name: str) -> Candidate:
        """The able server of a name."""
        return next(one for one in self.able if one.name == name)


_Finding = tuple[Candidate, Reason | None]
"""A candidate and what speaks against it."""


class _Row(NamedTuple):
    """One kind's findings in the order of the servers' names, and what they rest on."""

    facts: Sequence[ServerFacts | None]
    disks: Any
    findings: Sequence[_Finding]


class _Shelf:
    """Findings, kept for as long as what they rest on is the same; shared by the plans of one config.

    A candidate rests on its server's facts and on which models all servers have on disk: a change of one server's
    state leaves those of the others as they are. Bounded, as kinds come from clients.
    """

    MOST = 4096

    def __init__(self, config: Config) -> None:
        self.names = sorted(config.servers)
        self.turns = [(turn, zlib.crc32(name.encode())) for turn, name in enumerate(self.names)]
        self._disks: list[object] = []
        self._rows: dict[RequestKind, _Row] = {}

    def disks(self, servers: Mapping[str, ServerFacts]) -> object:
        """The same object as long as every server has the models on disk that it had."""
        known, disks = self._disks, [facts.installed for facts in servers.values()]
        if len(disks) == len(known) and not any(map(is_not, disks, known)):
            return known
        self._disks = list(disks)
        self._rows.clear()
        return self._disks

    def row(self, kind: RequestKind, facts: Sequence[ServerFacts | None], disks: object) -> list[_Finding | None]:
        """What was found for a kind, None where it has to be found anew."""
        row = self._rows.get(kind)
        if row is None or row.disks is not disks:
            return [None] * len(facts)
        pairs = zip(facts, row.facts, row.findings, strict=True)
        return [found if now is then else None for now, then, found in pairs]

    def keep(self, kind: RequestKind, row: _Row) -> None:
        """Remember what was found."""
        if len(self._rows) >= self.MOST:
            self._rows.clear()
        self._rows[kind] = row


class _Plans:
    """Plans by kind for one `servers` mapping and config; bounded as well."""

    def __init__(self, servers: Mapping[str, ServerFacts], config: Config, shelf: _Shelf) -> None:
        self.servers = servers
        self.config = config
        self.shelf = shelf
        self._facts = [servers.get(name) for name in shelf.names]
        self._disks = shelf.disks(servers)
        self.known: dict[tuple[object, ...], Plan] = {}

    def make(self, request: RouteRequest, snapshot: FleetSnapshot) -> Plan:
        """The plan for a request's kind, kept in `known`."""
        kind = kind_of(request)
        if len(self.known) >= self.shelf.MOST:
            self.known.clear()
        plan = self.known[kind] = self._make(kind, request, snapshot)
        return plan

    def _make(self, kind: RequestKind, request: RouteRequest, snapshot: FleetSnapshot) -> Plan:
        known = self.shelf.row(kind, self._facts, self._disks)
        findings = [
            found or self._find(name, kind, request, snapshot)
            for name, found in zip(self.shelf.names, known, strict=True)
        ]
        self.shelf.keep(kind, _Row(self._facts, self._disks, findings))
        able = tuple([candidate for candidate, reason in findings if reason is None])
        ranking = RANKINGS[self.config.routing_strategy]
        turns = self._turns(ranking, findings)
        return Plan(
            able=able,
            ranking=ranking,
            turns=turns,
            names=tuple([turn.name for turn in turns]),
            settled=len(turns) < 2 or (ranking.fixed_first and len({turn.fixed for turn in turns}) == len(turns)),
            bounded=any(candidate.server.max_concurrent for candidate in able),
            refused=tuple([(candidate, reason) for candidate, reason in findings if reason is not None]),
        )

    def _turns(self, ranking: Ranking, findings: Sequence[_Finding]) -> tuple[RankedCandidate, ...]:
        """The able servers in the order of what is fixed about them."""
        rows = [
            (ranking.fixed(candidate), place, salt, candidate)
            for (candidate, reason), (place, salt) in zip(findings, self.shelf.turns, strict=True)
            if reason is None
        ]
        order = {fixed: number for number, fixed in enumerate(sorted({row[0] for row in rows}))}
        turns = [
            RankedCandidate(one.name, order[fixed], place, salt, one.server.max_concurrent or math.inf, one)
            for fixed, place, salt, one in rows
        ]
        turns.sort(key=attrgetter("fixed"))
        return tuple(turns)

    def _find(self, name: str, kind: RequestKind, request: RouteRequest, snapshot: FleetSnapshot) -> _Finding:
        candidate = make_candidate(name, kind, snapshot, self.config)
        return candidate, next((reason for rule in FILTERS if (reason := rule.refuse(candidate, request))), None)


_recent: list[_Plans] = []
_KEPT = 4


def plan_for(request: RouteRequest, snapshot: FleetSnapshot, config: Config) -> Plan:
    """The plan for a request's kind, from memory when the same `servers` mapping and config were seen lately."""
    servers = snapshot.servers
    for plans in _recent:
        if plans.servers is servers and plans.config is config:
            # written out, as it runs for every request: a kind is equal to the tuple of its parts
            known = plans.known.get((request.model, request.num_ctx, request.needs))
            return known or plans.make(request, snapshot)
    shelf = next((plans.shelf for plans in _recent if plans.config is config), None) or _Shelf(config)
    plans = _Plans(servers, config, shelf)
    _recent.insert(0, plans)
    del _recent[_KEPT:]
    return plans.make(request, snapshot)
