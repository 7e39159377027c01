"""Server selection: assignments first, then models hosted by ollama.com, then the strategy."""

from __future__ import annotations

from functools import partial

from ollama_router_core.api.model_names import canonical_name, is_cloud_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.prefixes import HeldPrefix
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import Reason
from ollama_router_core.routing.decision import Decision, Explanation, LateExplanation, StatedExplanation, Verdict
from ollama_router_core.routing.filters import refused_now
from ollama_router_core.routing.model_placement import hosted_ranking
from ollama_router_core.routing.plans import Plan, Planner
from ollama_router_core.routing.strategies import STRATEGIES, RankingContext
from ollama_router_core.routing.verdicts import RankedExplanation, external_verdicts, refusals, selection_error

__all__ = ["ServerSelector", "assigned_destination", "decide"]


class ServerSelector:
    """Makes decisions under one config, and caches the plans that they use.

    The order of servers in the config is irrelevant, except for `when_nothing_fits: first_enabled`. If no server can
    take a request, nothing is raised: `Decision.error` has the error for the client.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._planner = Planner(config)
        self.strategy = STRATEGIES[config.routing_strategy]

    def plan(self, request: RouteRequest, snapshot: FleetSnapshot) -> Plan:
        """Return the servers that can take a kind of request by their facts, whatever their load."""
        return self._planner.plan(request, snapshot)

    def decide(
        self,
        request: RouteRequest,
        snapshot: FleetSnapshot,
        *,
        now: float,
        tiebreak: int = 0,
        prefix: HeldPrefix | None = None,
    ) -> Decision:
        """Rank every server for a request; the arguments are those of the function `decide`."""
        fixed = self.fixed_decision(request, snapshot)
        if fixed is not None:
            return fixed
        plan = self._planner.plan(request, snapshot)
        context = RankingContext(request, snapshot, self._config, now, tiebreak, prefix)
        explanation = self._ranked(plan, context)
        if explanation is None:
            return self._nothing_fits(plan, context)
        return Decision(
            request=request,
            strategy=self._config.routing_strategy,
            ranking=tuple([candidate.name for candidate in explanation.ranked]),
            explanation=explanation,
        )

    def ranked_by_line(
        self,
        request: RouteRequest,
        snapshot: FleetSnapshot,
        ranking: tuple[str, ...],
        headline: str,
        *,
        now: float,
        prefix: HeldPrefix | None = None,
        warm: bool | None = None,
    ) -> Decision:
        """Return the decision for a ranking made by the queue, with a lazy explanation.

        `headline` and `warm` are as in `LateExplanation`, the other arguments as in the function `decide`.
        """
        explain = partial(self._explained, request, snapshot, ranking, headline, now, prefix)
        return Decision(
            request=request,
            strategy=self._config.routing_strategy,
            ranking=ranking,
            explanation=LateExplanation(headline, explain, warm),
        )

    def _explained(
        self,
        request: RouteRequest,
        snapshot: FleetSnapshot,
        ranking: tuple[str, ...],
        headline: str,
        now: float,
        prefix: HeldPrefix | None,
    ) -> Explanation:
        """Explain a ranking made by the queue, with the snapshot of that time."""
        fixed = self.fixed_decision(request, snapshot)
        if fixed is not None:
            return StatedExplanation(headline, fixed.verdicts)
        plan = self._planner.plan(request, snapshot)
        context = RankingContext(request, snapshot, self._config, now, prefix=prefix)
        found = self._ranked(plan, context)
        others = () if found is None else tuple([one for one in found.ranked if one.name not in ranking])
        able = {one.name: one for one in plan.able}
        ranked = (*(able[name] for name in ranking if name in able), *others)
        if not ranked or ranked[0].name != ranking[0]:
            return StatedExplanation(headline, (*refusals(plan, context), *external_verdicts(self._config)))
        return RankedExplanation(plan, self.strategy, ranked, context, _headline=headline)

    def fixed_decision(self, request: RouteRequest, snapshot: FleetSnapshot) -> Decision | None:
        """Return the decision for a model that is assigned or hosted by ollama.com; None leaves it to the strategy."""
        assigned = assigned_destination(request, self._config)
        if assigned is not None:
            return _by_assignment(request, assigned, self._config)
        if request.pin is None and request.model_text is not None and is_cloud_name(request.model_text):
            return _by_hosting(request, hosted_ranking(request.model, snapshot, self._config))
        return None

    def _ranked(self, plan: Plan, context: RankingContext) -> RankedExplanation | None:
        """Rank the candidates that can take the request now, best first; None if there is none."""
        snapshot, now, strategy = context.snapshot, context.now, self.strategy
        waits = strategy.binds_late
        open_now = [one for one in plan.able if refused_now(one, snapshot, now, waits=waits) is None]
        if len(open_now) < 2:  # computing a key may need an expensive estimate
            return RankedExplanation(plan, strategy, tuple(open_now), context) if open_now else None
        key, estimate, turn = strategy.key, strategy.expected_time, context.tiebreak
        keyed = []
        for one in open_now:
            expected = estimate(one, context)
            keyed.append((key(one, context, expected), _tie_order(one.salt, turn), one.name, one, expected))
        keyed.sort()
        return RankedExplanation(plan, strategy, tuple([row[3] for row in keyed]), context, keyed[0][4])

    def _nothing_fits(self, plan: Plan, context: RankingContext) -> Decision:
        config = self._config
        refused, external = refusals(plan, context), external_verdicts(config)
        first = context.request.pin or next((name for name, server in config.servers.items() if server.enabled), None)
        if config.when_nothing_fits == "first_enabled" and first is not None:
            why = Reason("nothing_fits", "nothing fits: the first enabled server (when_nothing_fits)")
            chosen = Verdict(server=first, verdict="chosen", reasons=(why,))
            others = [verdict for verdict in refused if verdict.server != first]
            ranking: tuple[str, ...] = (first,)
            error = None
            explanation = StatedExplanation(why.text, (chosen, *others, *external))
        else:
            ranking = ()
            unasked = frozenset(
                [one.name for one, _ in plan.refused if not one.facts.up and one.facts.installed is None]
            )
            error = selection_error(context, refused, unasked)
            explanation = StatedExplanation("no server can take it", (*refused, *external))
        return Decision(
            request=context.request,
            strategy=config.routing_strategy,
            ranking=ranking,
            error=error,
            explanation=explanation,
        )


def decide(
    request: RouteRequest,
    snapshot: FleetSnapshot,
    config: Config,
    *,
    now: float,
    tiebreak: int = 0,
    prefix: HeldPrefix | None = None,
) -> Decision:
    """Rank every server for one request. For frequent decisions, keep a `ServerSelector` per config.

    `now` is in seconds of the snapshot's clock. `tiebreak` orders equal candidates; incremented with each request, it
    drives the strategy `round_robin`. `prefix` names the server that answered the conversation before.
    """
    return ServerSelector(config).decide(request, snapshot, now=now, tiebreak=tiebreak, prefix=prefix)


def assigned_destination(request: RouteRequest, config: Config) -> str | None:
    """Return the enabled server or host to which a model is assigned; None leaves the model to the strategy.

    A pin overrides the assignment.
    """
    if request.model is None or request.pin is not None:
        return None
    for text, target in config.models.explicit_assignments.items():
        if canonical_name(text) == request.model:
            found = config.servers.get(target) or config.external_hosts.get(target)
            return target if found is not None and found.enabled else None
    return None


def _by_assignment(request: RouteRequest, assigned: str, config: Config) -> Decision:
    chosen = Reason("assigned", f"explicit assignment of {request.model_text} to {assigned}")
    others = Reason("assigned_elsewhere", f"{request.model_text} is assigned to {assigned}")
    names = sorted({*config.servers, *config.external_hosts} - {assigned})
    verdicts = (
        Verdict(server=assigned, verdict="chosen", reasons=(chosen,)),
        *(Verdict(server=name, verdict="skipped", reasons=(others,)) for name in names),
    )
    return Decision(
        request=request,
        strategy="explicit_assignment",
        ranking=(assigned,),
        explanation=StatedExplanation(chosen.text, verdicts),
    )


def _by_hosting(request: RouteRequest, ranking: tuple[str, ...]) -> Decision | None:
    """Decide for a model at ollama.com, which any forwarding server can serve without local memory."""
    if not ranking:
        return None
    why = Reason("hosted", "forwards it to ollama.com")
    verdicts = tuple(
        Verdict(server=name, verdict="possible" if index else "chosen", reasons=(why,))
        for index, name in enumerate(ranking)
    )
    return Decision(
        request=request, strategy="hosted", ranking=ranking, explanation=StatedExplanation(why.text, verdicts)
    )


def _tie_order(salt: int, tiebreak: int) -> int:
    """Return a sort key among equals, permuted by the tiebreak (multiplicative hashing by two odd constants)."""
    return (salt ^ tiebreak * 0x9E3779B1 & 0xFFFFFFFF) * 0x85EBCA6B & 0xFFFFFFFF
