"""Which server gets a request: every server, ranked or refused, each with its reasons.

Belongs here: one pure function and the value it returns.
Does not belong here: single rules (`selection`), trying servers in turn (`forwarding`), waiting (`admission`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ModelIncapable, ModelNotFound, NoServerFits, SelectionError
from ollama_router_core.fleet import FleetSnapshot, ServerFacts
from ollama_router_core.memory import MemoryEstimate, estimate_memory
from ollama_router_core.names import canonical_name
from ollama_router_core.requests import RouteRequest
from ollama_router_core.selection import FILTERS, RANKINGS, Candidate, Reason, Standing, spread_of

__all__ = ["Decision", "Verdict", "decide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was decided about one server or external host.

    `chosen`: gets the request. `possible`: would get it next. `refused`: a filter is against it. `skipped`: was not
    considered, as an assignment decides or only an assignment could lead there.
    """

    server: str
    verdict: Literal["chosen", "possible", "refused", "skipped"]
    reasons: tuple[Reason, ...]
    estimate: MemoryEstimate | None = None

    @property
    def text(self) -> str:
        """The reasons as one line."""
        return ", ".join(reason.text for reason in self.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer: `ranking` names the servers to try in order; empty means that `error` says why."""

    request: RouteRequest
    strategy: str
    ranking: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    reason: str
    error: SelectionError | ModelIncapable | None = field(default=None, compare=False)

    @property
    def server(self) -> str | None:
        """The chosen server's name."""
        return self.ranking[0] if self.ranking else None

    def to_json(self) -> dict[str, Any]:
        """The decision in the nouns that library, command line and HTTP share."""
        return {
            "model": self.request.model_text,
            "strategy": self.strategy,
            "server": self.server,
            "reason": self.reason,
            "candidates": [_verdict_json(verdict) for verdict in self.verdicts],
        }


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    estimate = verdict.estimate
    return {
        "server": verdict.server,
        "verdict": verdict.verdict,
        "reasons": [{"code": reason.code, "text": reason.text} for reason in verdict.reasons],
        "memory": None
        if estimate is None
        else {
            "bytes": estimate.size,
            "gib": round(estimate.gib, 3),
            "source": str(estimate.source),
            "terms": [{"name": term.name, "bytes": term.size, "source": term.source} for term in estimate.terms],
        },
    }


def decide(
    request: RouteRequest,
    snapshot: FleetSnapshot,
    config: Config,
    *,
    now: float,
    tiebreak: int = 0,
) -> Decision:
    """Rank every server for a request.

    `now` is seconds of the clock that the snapshot's times come from. `tiebreak` decides between equals; a caller
    that counts it up gets round robin from the strategy of that name. The order of servers in the config plays no
    part, except that `when_nothing_fits: first_enabled` takes the first one written.
    """
    assigned = _assigned(request, config)
    if assigned is not None:
        return _by_assignment(request, assigned, config)
    candidates = [_candidate(name, request, snapshot, config) for name in sorted(config.servers)]
    refused: list[Verdict] = []
    able: list[tuple[Candidate, Standing]] = []
    ranking = RANKINGS[config.routing_strategy]
    for turn, candidate in enumerate(candidates):
        reason = _refusal(candidate, request, now)
        if reason is not None:
            refused.append(_verdict(candidate, "refused", (reason,)))
            continue
        spread = _spread(config, candidate.name, turn, len(candidates), tiebreak)
        able.append((candidate, ranking.standing(candidate, request, config, spread)))
    able.sort(key=lambda pair: (pair[1].key, pair[0].name))
    verdicts = [
        _verdict(candidate, "possible" if place else "chosen", standing.reasons)
        for place, (candidate, standing) in enumerate(able)
    ]
    external = [
        Verdict(server=name, verdict="skipped", reasons=(_ONLY_BY_ASSIGNMENT,))
        for name in sorted(config.external_hosts)
    ]
    if able:
        return Decision(
            request=request,
            strategy=config.routing_strategy,
            ranking=tuple(candidate.name for candidate, _ in able),
            verdicts=(*verdicts, *refused, *external),
            reason=verdicts[0].text,
        )
    return _nothing(request, config, refused, external)


_ONLY_BY_ASSIGNMENT = Reason("external", "external: only by assignment")


def _spread(config: Config, name: str, turn: int, count: int, tiebreak: int) -> float:
    if config.routing_strategy == "round_robin":
        return ((turn - tiebreak) % count) / count
    return spread_of(name, tiebreak)


def _assigned(request: RouteRequest, config: Config) -> str | None:
    """The enabled server or host an assignment names; a disabled one leaves the model to the strategy, as it was."""
    if request.model is None:
        return None
    for text, target in config.models.explicit_assignments.items():
        if text == request.model_text or canonical_name(text) == request.model:
            found = config.servers.get(target) or config.external_hosts.get(target)
            return target if found is not None and found.enabled else None
    return None


def _by_assignment(request: RouteRequest, assigned: str, config: Config) -> Decision:
    chosen = Reason("assigned", f"explicit assignment of {request.model_text} to {assigned}")
    others = Reason("assigned_elsewhere", f"{request.model_text} is assigned to {assigned}")
    names = sorted({*config.servers, *config.external_hosts} - {assigned})
    return Decision(
        request=request,
        strategy="explicit_assignment",
        ranking=(assigned,),
        verdicts=(
            Verdict(server=assigned, verdict="chosen", reasons=(chosen,)),
            *(Verdict(server=name, verdict="skipped", reasons=(others,)) for name in names),
        ),
        reason=chosen.text,
    )


def _candidate(name: str, request: RouteRequest, snapshot: FleetSnapshot, config: Config) -> Candidate:
    facts = snapshot.servers.get(name) or ServerFacts(name=name)
    return Candidate(
        name=name,
        server=config.servers[name],
        facts=facts,
        estimate=estimate_memory(
            request.model, facts, snapshot, config.models, num_ctx=request.num_ctx, host=config.servers[name]
        ),
        in_flight=snapshot.in_flight.get(name, 0),
        suspended_until=snapshot.suspended.get(name),
        draining=name in snapshot.draining,
    )


def _refusal(candidate: Candidate, request: RouteRequest, now: float) -> Reason | None:
    for rule in FILTERS:
        reason = rule.refuse(candidate, request, now)
        if reason is not None:
            return reason
    return None


def _verdict(
    candidate: Candidate, verdict: Literal["chosen", "possible", "refused"], reasons: tuple[Reason, ...]
) -> Verdict:
    return Verdict(server=candidate.name, verdict=verdict, reasons=reasons, estimate=candidate.estimate)


def _nothing(
    request: RouteRequest, config: Config, refused: Sequence[Verdict], external: Sequence[Verdict]
) -> Decision:
    first = next((name for name, server in config.servers.items() if server.enabled), None)
    if config.when_nothing_fits == "first_enabled" and first is not None:
        why = Reason("nothing_fits", "nothing fits: the first enabled server, by when_nothing_fits")
        kept = [verdict for verdict in refused if verdict.server != first]
        chosen = Verdict(server=first, verdict="chosen", reasons=(why,))
        return Decision(
            request=request,
            strategy=config.routing_strategy,
            ranking=(first,),
            verdicts=(chosen, *kept, *external),
            reason=why.text,
        )
    return Decision(
        request=request,
        strategy=config.routing_strategy,
        ranking=(),
        verdicts=(*refused, *external),
        reason="no server can take it",
        error=_error(request, refused),
    )


def _error(request: RouteRequest, refused: Sequence[Verdict]) -> SelectionError | ModelIncapable:
    codes = {verdict.reasons[0].code for verdict in refused}
    lines = "; ".join(f"{verdict.server} {verdict.text}" for verdict in refused) or "no server is configured"
    if "model_missing" in codes and codes <= {"model_missing", "disabled"}:
        return ModelNotFound(f"model '{request.model_text}' not found")
    if "incapable" in codes and codes <= {"model_missing", "disabled", "incapable"}:
        return ModelIncapable(f'"{request.model_text}" does not support {_asked(request)}: {lines}')
    return NoServerFits(f"no server can take {request.model_text or 'the request'} now: {lines}", retry_after=5)


def _asked(request: RouteRequest) -> str:
    return ", ".join(sorted(request.needs - {"completion"})) or "completion"
