"""Plans: the servers that can take a kind of request by their facts, and the reasons against the others."""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_not

from msgspec import Struct

from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.routing.candidates import Candidate, Reason, RequestKind, kind_of, make_candidate
from ollama_router_core.routing.filters import refused

__all__ = ["Plan", "Planner"]

_MOST_PLANS = 4096
"""Maximum number of cached plans, as clients choose the kinds."""

_Findings = tuple[tuple[Candidate, Reason | None], ...]
"""Every configured server in order of name, with the reason against it."""


class Plan(Struct, frozen=True, kw_only=True):
    """The able candidates of a kind of request, and the refused ones with the reason, by the facts in `servers`.

    `names` are those of the able candidates.
    """

    servers: Mapping[str, ServerFacts]
    findings: _Findings
    able: tuple[Candidate, ...]
    names: frozenset[str]
    refused: tuple[tuple[Candidate, Reason], ...]
    _disks: object

    def rests_on(self, candidate: Candidate, servers: Mapping[str, ServerFacts], disks: object) -> bool:
        """Whether a candidate of this plan is still valid for these facts."""
        return self._disks is disks and candidate.facts is servers.get(candidate.name)


class Planner:
    """Makes the plans for one config and caches each while its facts are current.

    A candidate depends on its server's facts and on the models on the disks of all servers: a change of one server's
    state rebuilds only its candidates.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._names = sorted(config.servers)
        self._plans: dict[RequestKind, Plan] = {}
        self._disks: list[object] = []

    def plan(self, request: RouteRequest, snapshot: FleetSnapshot) -> Plan:
        """Return the plan for a request's kind."""
        kind = kind_of(request)
        known = self._plans.get(kind)
        if known is not None and known.servers is snapshot.servers:
            return known
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        plan = self._plans[kind] = self._make(kind, request, snapshot, known)
        return plan

    def _make(self, kind: RequestKind, request: RouteRequest, snapshot: FleetSnapshot, known: Plan | None) -> Plan:
        servers = snapshot.servers
        disks = self._disks_of(servers)
        findings = [
            known.findings[index]
            if known is not None and known.rests_on(known.findings[index][0], servers, disks)
            else self._judge(index, kind, request, snapshot)
            for index in range(len(self._names))
        ]
        able = tuple([candidate for candidate, reason in findings if reason is None])
        return Plan(
            servers=servers,
            findings=tuple(findings),
            able=able,
            names=frozenset([candidate.name for candidate in able]),
            refused=tuple([(candidate, reason) for candidate, reason in findings if reason is not None]),
            _disks=disks,
        )

    def _judge(
        self, index: int, kind: RequestKind, request: RouteRequest, snapshot: FleetSnapshot
    ) -> tuple[Candidate, Reason | None]:
        candidate = make_candidate(self._names[index], kind, snapshot, self._config, index=index)
        return candidate, refused(candidate, request)

    def _disks_of(self, servers: Mapping[str, ServerFacts]) -> object:
        """Return the same object as long as the models on all disks are unchanged."""
        disks = [facts.installed for facts in servers.values()]
        if len(disks) != len(self._disks) or any(map(is_not, disks, self._disks)):
            self._disks = list(disks)
        return self._disks
