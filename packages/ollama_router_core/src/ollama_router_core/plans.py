"""What facts alone decide about a kind of request: which servers may take it, and why the others may not.

Belongs here: plans, and when one may be used again.
Does not belong here: the current load, ranking and explaining (`decision`), single rules (`selection`).

A plan is made once for each `servers` mapping and kind of request and kept while that very mapping is in use. When
one server's facts change, only its candidates are made anew.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from operator import is_not
from typing import NamedTuple

from ollama_router_core.candidates import Candidate, Reason, RequestKind, kind_of, make_candidate
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet import FleetSnapshot, ServerFacts
from ollama_router_core.requests import RouteRequest
from ollama_router_core.selection import FILTERS

__all__ = ["Plan", "plan_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What facts alone decide about a kind of request: who may take it, and why the others may not.

    `turns` is each able server's place among all, with a number of its own to break ties by.
    """

    able: tuple[Candidate, ...]
    turns: tuple[tuple[int, int], ...]
    refused: tuple[tuple[Candidate, Reason], ...]


class _Finding(NamedTuple):
    """A candidate, what speaks against it, and what both rest on."""

    facts: ServerFacts | None
    disks: object
    candidate: Candidate
    reason: Reason | None


class _Shelf:
    """Findings, kept for as long as what they rest on is the same; shared by the plans of one config.

    A candidate rests on its server's facts and on which models all servers have on disk: a change of one server's
    state leaves those of the others as they are. Bounded, as kinds come from clients.
    """

    MOST = 4096

    def __init__(self) -> None:
        self._disks: list[object] = []
        self._rows: dict[RequestKind, dict[str, _Finding]] = {}

    def disks(self, servers: Mapping[str, ServerFacts]) -> object:
        """The same object as long as every server has the models on disk that it had."""
        known, disks = self._disks, [facts.installed for facts in servers.values()]
        if len(disks) == len(known) and not any(map(is_not, disks, known)):
            return known
        self._disks = list(disks)
        self._rows.clear()
        return self._disks

    def row(self, kind: RequestKind) -> dict[str, _Finding]:
        """What was found for a kind, by server."""
        found = self._rows.get(kind)
        if found is None:
            if len(self._rows) >= self.MOST:
                self._rows.clear()
            found = self._rows[kind] = {}
        return found


class _Plans:
    """Plans by kind for one `servers` mapping and config; bounded as well."""

    def __init__(self, servers: Mapping[str, ServerFacts], config: Config, shelf: _Shelf) -> None:
        self.servers = servers
        self.config = config
        self.shelf = shelf
        self._names = sorted(config.servers)
        self._plans: dict[RequestKind, Plan] = {}

    def get(self, request: RouteRequest, snapshot: FleetSnapshot) -> Plan:
        kind = kind_of(request)
        plan = self._plans.get(kind)
        if plan is None:
            if len(self._plans) >= self.shelf.MOST:
                self._plans.clear()
            plan = self._plans[kind] = self._make(kind, request, snapshot)
        return plan

    def _make(self, kind: RequestKind, request: RouteRequest, snapshot: FleetSnapshot) -> Plan:
        able: list[Candidate] = []
        turns: list[tuple[int, int]] = []
        refused: list[tuple[Candidate, Reason]] = []
        disks, row = self.shelf.disks(self.servers), self.shelf.row(kind)
        for turn, name in enumerate(self._names):
            facts, found = self.servers.get(name), row.get(name)
            if found is None or found.facts is not facts or found.disks is not disks:
                candidate = make_candidate(name, kind, snapshot, self.config)
                reason = next((against for rule in FILTERS if (against := rule.refuse(candidate, request))), None)
                found = row[name] = _Finding(facts, disks, candidate, reason)
            if found.reason is not None:
                refused.append((found.candidate, found.reason))
            else:
                able.append(found.candidate)
                turns.append((turn, zlib.crc32(name.encode())))
        return Plan(able=tuple(able), turns=tuple(turns), refused=tuple(refused))


_recent: list[_Plans] = []
_KEPT = 4


def plan_for(request: RouteRequest, snapshot: FleetSnapshot, config: Config) -> Plan:
    """The plan for a request's kind, from memory when the same `servers` mapping and config were seen lately."""
    servers = snapshot.servers
    for plans in _recent:
        if plans.servers is servers and plans.config is config:
            return plans.get(request, snapshot)
    shelf = next((plans.shelf for plans in _recent if plans.config is config), None) or _Shelf()
    plans = _Plans(servers, config, shelf)
    _recent.insert(0, plans)
    del _recent[_KEPT:]
    return plans.get(request, snapshot)
