"""Which server gets a request: every server, ranked or refused, each with its reasons.

The texts of a decision are written when somebody reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ModelIncapable, ModelNotFound, NoServerFits, SelectionError
from ollama_router_core.fleet.memory import MemoryEstimate
from ollama_router_core.fleet.prefixes import HeldPrefix
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import Reason
from ollama_router_core.routing.expected_time import Terms
from ollama_router_core.routing.plans import Plan, plan_for
from ollama_router_core.routing.selection import Fastest, RankedCandidate, RankingContext, refused_now

__all__ = ["Decision", "Verdict", "assigned_place", "decide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was decided about one server or external host.

    `chosen`: gets the request. `possible`: would get it next. `refused`: a filter is against it. `skipped`: was not
    considered, as an assignment decides or only an assignment could lead there. `terms` are expected seconds.
    """

    server: str
    verdict: Literal["chosen", "possible", "refused", "skipped"]
    reasons: tuple[Reason, ...]
    estimate: MemoryEstimate | None = None
    terms: Terms | None = None

    @property
    def text(self) -> str:
        """The reasons as one line."""
        return ", ".join(reason.text for reason in self.reasons)


class Decision(Struct, kw_only=True, eq=False):
    """The answer: `ranking` names the servers to try in order; empty means that `error` says why.

    Nothing of it changes; it is not frozen because it keeps its reason once that was asked for. What it rests on is
    either told by two functions or kept as it is.
    """

    request: RouteRequest
    strategy: str
    ranking: tuple[str, ...]
    _explain: Callable[[], tuple[Verdict, ...]] | None = None
    _headline: Callable[[], str] | None = None
    _basis: tuple[Plan, RankingContext] | None = None
    error: SelectionError | ModelIncapable | None = None
    _reason: str | None = None

    def __repr__(self) -> str:
        return f"Decision(strategy={self.strategy!r}, ranking={self.ranking!r}, error={self.error!r})"

    @property
    def server(self) -> str | None:
        """The chosen server's name."""
        return self.ranking[0] if self.ranking else None

    @property
    def reason(self) -> str:
        """Why the chosen server, or why none."""
        reason = self._reason
        if reason is None:
            reason = self._reason = self._headline() if self._headline is not None else self._headline_of_basis()
        return reason

    def _headline_of_basis(self) -> str:
        return "" if self._basis is None else _headline(self._basis[0], self.ranking[0], self._basis[1])

    def among(self, servers: tuple[str, ...]) -> Decision:
        """The same decision with only some servers of its ranking left."""
        return Decision(
            request=self.request,
            strategy=self.strategy,
            ranking=servers,
            error=self.error,
            _explain=partial(_verdicts_of, self),
            _headline=partial(_reason_of, self),
        )

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every server and external host, the ranked ones first and in order."""
        if self._explain is not None:
            return self._explain()
        return () if self._basis is None else _verdicts(self._basis[0], self.ranking, self._basis[1])

    def to_json(self) -> dict[str, Any]:
        """The decision in the nouns that library, command line and HTTP share."""
        return {
            "model": self.request.model_text,
            "strategy": self.strategy,
            "server": self.server,
            "reason": self.reason,
            "candidates": [_verdict_json(verdict) for verdict in self.verdicts],
        }


def _verdicts_of(decision: Decision) -> tuple[Verdict, ...]:
    return decision.verdicts


def _reason_of(decision: Decision) -> str:
    return decision.reason


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "server": verdict.server,
        "verdict": verdict.verdict,
        "reasons": [{"code": reason.code, "text": reason.text} for reason in verdict.reasons],
        "memory": None if verdict.estimate is None else _memory_json(verdict.estimate),
        "expected": None if verdict.terms is None else _terms_json(verdict.terms),
    }


def _memory_json(estimate: MemoryEstimate) -> dict[str, Any]:
    return {
        "bytes": estimate.size,
        "gib": round(estimate.gib, 3),
        "text": str(estimate),
        "source": str(estimate.source),
        "terms": [{"name": term.name, "bytes": term.size, "source": term.source} for term in estimate.terms],
    }


def _terms_json(terms: Terms) -> dict[str, float]:
    names = ("wait", "load", "prefill", "decode", "harm", "affinity", "ready", "done")
    return {f"{name}_seconds": round(getattr(terms, name), 3) for name in names}


def decide(
    request: RouteRequest,
    snapshot: FleetSnapshot,
    config: Config,
    *,
    now: float,
    tiebreak: int = 0,
    prefix: HeldPrefix | None = None,
) -> Decision:
    """Rank every server for a request.

    `now` is seconds of the clock that the snapshot's times come from. `tiebreak` decides between equals; a caller
    that counts it up gets round robin from the strategy of that name. `prefix` says which server answered the
    conversation before. The order of servers in the config plays no part, except that `when_nothing_fits:
    first_enabled` takes the first one written.

    Nothing is raised for a request that no server can take: `Decision.error` holds what its client should be told.
    """
    assigned = assigned_place(request, config) if config.models.explicit_assignments else None
    if assigned is not None:
        return _by_assignment(request, assigned, config)
    plan = plan_for(request, snapshot, config)
    moment = RankingContext(request, snapshot, config, now, prefix)
    ranking = _ranking(plan, moment, tiebreak)
    if not ranking:
        return _nothing(plan, moment)
    return Decision(request=request, strategy=config.routing_strategy, ranking=ranking, _basis=(plan, moment))


def _headline(plan: Plan, name: str, moment: RankingContext) -> str:
    """Why this one; kept where it says nothing but facts and load."""
    snapshot = moment.snapshot
    key = (name, snapshot.in_flight.get(name, 0), snapshot.slots.get(name))
    known = plan.headlines.get(key)
    if known is not None:
        return known
    ranking = plan.ranking
    text = ", ".join([reason.text for reason in ranking.reasons(plan.candidate(name), moment)])
    if not isinstance(ranking, Fastest) and len(plan.headlines) < _MOST_HEADLINES:
        plan.headlines[key] = text
    return text


_MOST_HEADLINES = 256
"""Of one plan: how many requests a server may have at once is not bounded everywhere."""


def _ranking(plan: Plan, moment: RankingContext, tiebreak: int) -> tuple[str, ...]:
    """The names of the servers that can take a request now, the best first."""
    snapshot, turns = moment.snapshot, plan.turns
    if plan.bounded or snapshot.draining or snapshot.suspended or snapshot.slots:
        turns = _open(plan, moment)
    if plan.settled:
        return plan.names if turns is plan.turns else tuple([turn.name for turn in turns])
    keys = plan.ranking.keys(turns, moment, tiebreak)
    keys.sort()
    return tuple([key[-1] for key in keys])


def _open(plan: Plan, moment: RankingContext) -> tuple[RankedCandidate, ...]:
    """Those of a plan that can take a request now."""
    snapshot, now = moment.snapshot, moment.now
    if snapshot.draining or snapshot.suspended or snapshot.slots:
        return tuple([turn for turn in plan.turns if refused_now(turn.candidate, snapshot, now) is None])
    running = snapshot.in_flight.get
    return tuple([turn for turn in plan.turns if running(turn.name, 0) < turn.most])


_ONLY_BY_ASSIGNMENT = Reason("external", "external: only by assignment")


def _verdicts(plan: Plan, names: Sequence[str], moment: RankingContext) -> tuple[Verdict, ...]:
    ranking = plan.ranking
    ranked = [plan.candidate(name) for name in names]
    able = [
        Verdict(
            server=candidate.name,
            verdict="possible" if place else "chosen",
            reasons=ranking.reasons(candidate, moment),
            estimate=candidate.estimate,
            terms=ranking.terms(candidate, moment) if isinstance(ranking, Fastest) else None,
        )
        for place, candidate in enumerate(ranked)
    ]
    return (*able, *_refusals(plan, moment), *_externals(moment.config))


def _refusals(plan: Plan, moment: RankingContext) -> tuple[Verdict, ...]:
    full = [(one, refused_now(one, moment.snapshot, moment.now)) for one in plan.able]
    refused = [*plan.refused, *((one, reason) for one, reason in full if reason is not None)]
    refused.sort(key=lambda pair: pair[0].name)
    return tuple(
        Verdict(server=one.name, verdict="refused", reasons=(reason,), estimate=one.estimate) for one, reason in refused
    )


def _externals(config: Config) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(server=name, verdict="skipped", reasons=(_ONLY_BY_ASSIGNMENT,))
        for name in sorted(config.external_hosts)
    )


def assigned_place(request: RouteRequest, config: Config) -> str | None:
    """The enabled server or host an assignment names; a disabled one leaves the model to the strategy, as it was."""
    if request.model is None or not config.models.explicit_assignments:
        return None
    return _assignments(config).get(request.model)


_Assignments = Mapping[CanonicalName, str | None]
_recent: list[tuple[Config, _Assignments]] = []
_KEPT = 4


def _assignments(config: Config) -> _Assignments:
    """Models to where they are assigned, None where that is switched off; made once for each config in use."""
    for known, table in _recent:
        if known is config:
            return table
    made: dict[CanonicalName, str | None] = {}
    for text, target in config.models.explicit_assignments.items():
        found = config.servers.get(target) or config.external_hosts.get(target)
        made.setdefault(canonical_name(text), target if found is not None and found.enabled else None)
    _recent.insert(0, (config, made))
    del _recent[_KEPT:]
    return made


def _by_assignment(request: RouteRequest, assigned: str, config: Config) -> Decision:
    chosen = Reason("assigned", f"explicit assignment of {request.model_text} to {assigned}")
    others = Reason("assigned_elsewhere", f"{request.model_text} is assigned to {assigned}")

    def explain() -> tuple[Verdict, ...]:
        names = sorted({*config.servers, *config.external_hosts} - {assigned})
        return (
            Verdict(server=assigned, verdict="chosen", reasons=(chosen,)),
            *(Verdict(server=name, verdict="skipped", reasons=(others,)) for name in names),
        )

    return Decision(
        request=request,
        strategy="explicit_assignment",
        ranking=(assigned,),
        _explain=explain,
        _headline=lambda: chosen.text,
    )


def _nothing(plan: Plan, moment: RankingContext) -> Decision:
    config = moment.config
    refused, external = _refusals(plan, moment), _externals(config)
    first = next((name for name, server in config.servers.items() if server.enabled), None)
    ranking: tuple[str, ...] = ()
    headline, verdicts, error = "no server can take it", (*refused, *external), None
    if config.when_nothing_fits == "first_enabled" and first is not None:
        why = Reason("nothing_fits", "nothing fits: the first enabled server, by when_nothing_fits")
        kept = tuple(verdict for verdict in refused if verdict.server != first)
        chosen = Verdict(server=first, verdict="chosen", reasons=(why,))
        ranking, headline, verdicts = (first,), why.text, (chosen, *kept, *external)
    else:
        error = _error(moment, refused)
    return Decision(
        request=moment.request,
        strategy=config.routing_strategy,
        ranking=ranking,
        error=error,
        _explain=lambda: verdicts,
        _headline=lambda: headline,
    )


def _error(moment: RankingContext, refused: Sequence[Verdict]) -> SelectionError | ModelIncapable:
    request = moment.request
    codes = {verdict.reasons[0].code for verdict in refused}
    lines = "; ".join(f"{verdict.server} {verdict.text}" for verdict in refused) or "no server is configured"
    if "model_missing" in codes and codes <= {"model_missing", "disabled"}:
        return ModelNotFound(f"model '{request.model_text}' not found")
    if "incapable" in codes and codes <= {"model_missing", "disabled", "incapable"}:
        missing = frozenset[str]().union(*(verdict.reasons[0].lacks for verdict in refused))
        return ModelIncapable(f'"{request.model_text}" does not support {", ".join(sorted(missing))}', missing=missing)
    return NoServerFits(
        f"no server can take {request.model_text or 'the request'} now: {lines}", retry_after=_retry_after(moment)
    )


def _retry_after(moment: RankingContext) -> float:
    """When the first suspended server is tried again, at most half a minute; a few seconds when nothing says better."""
    left = [until - moment.now for until in moment.snapshot.suspended.values() if until > moment.now]
    return max(1.0, min(30.0, *left)) if left else 5.0
