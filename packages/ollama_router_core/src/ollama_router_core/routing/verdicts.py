"""The verdicts of a decision by strategy, and the error if no server is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import (
    ModelIncapable,
    ModelNotFound,
    ModelTooLarge,
    NoServerFits,
    RequestError,
    SelectionError,
    UnknownRoute,
)
from ollama_router_core.fleet.memory.estimates import estimate_memory
from ollama_router_core.fleet.memory.forecasts import MemoryForecast, forecast_memory
from ollama_router_core.routing.candidates import WARM, Candidate, Reason
from ollama_router_core.routing.decision import Verdict
from ollama_router_core.routing.expected_time import ExpectedTime, expected_time
from ollama_router_core.routing.filters import PINNED, refused_now
from ollama_router_core.routing.plans import Plan
from ollama_router_core.routing.strategies import STRATEGIES, RankingContext, Strategy

__all__ = ["RankedExplanation", "external_verdicts", "refusals", "selection_error"]

_MOST_NAMED = 5
"""Maximum servers whose reason an error names; `route explain` shows all."""
_LASTING = frozenset({"model_missing", "disabled", "incapable", "memory"})
_USUAL_CONTEXTS = (131_072, 65_536, 32_768, 16_384, 8_192, 4_096)
"""Smaller contexts that an error may suggest, in tokens, largest first."""
_ONLY_BY_ASSIGNMENT = Reason("external", "external: only by assignment")


class RankedExplanation(Struct, eq=False):
    """The explanation of a strategy's ranking: ranked candidates, refused ones, external hosts.

    `expected` is the strategy's estimate for the first candidate, if already made.
    """

    plan: Plan
    strategy: Strategy[Any]
    ranked: tuple[Candidate, ...]
    context: RankingContext
    expected: ExpectedTime | UnsetType | None = UNSET
    _headline: str | None = None

    @property
    def headline(self) -> str:
        """The reasons for the first candidate, built on first access."""
        text = self._headline
        if text is None:
            first = self.ranked[0]
            reasons = self.strategy.reasons(first, self.context, self._expected(first))
            text = self._headline = ", ".join([reason.text for reason in reasons])
        return text

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The ranked servers in order, then the refused and the skipped ones."""
        able = [self._able(candidate, chosen=index == 0) for index, candidate in enumerate(self.ranked)]
        return (*able, *self._refused(), *external_verdicts(self.context.config))

    @property
    def expectation(self) -> ExpectedTime:
        """Expected time on the first candidate, whatever the strategy."""
        context = self.context
        return expected_time(self.ranked[0], context.request, context.snapshot, now=context.now, prefix=context.prefix)

    @property
    def is_routine(self) -> bool:
        """Whether the first candidate has the model in memory."""
        return self.ranked[0].warmth == WARM

    def summary(self, most: int) -> tuple[tuple[Verdict, ...], Mapping[str, int]]:
        """Return the first `most` servers, and the number of others by reason code; hosts are omitted."""
        able = [self._able(candidate, chosen=index == 0) for index, candidate in enumerate(self.ranked[:most])]
        refused = self._refused()
        left = most - len(able)
        others = Counter(verdict.reasons[0].code for verdict in refused[left:])
        others.update(candidate.warm_reason.code for candidate in self.ranked[most:])
        return (*able, *refused[:left]), others

    def _refused(self) -> tuple[Verdict, ...]:
        """Return the refused servers, without those that the queue chose, which may be full by now."""
        ranked = {one.name for one in self.ranked}
        return tuple([one for one in refusals(self.plan, self.context) if one.server not in ranked])

    def _expected(self, candidate: Candidate) -> ExpectedTime | None:
        known = self.expected
        if known is UNSET or candidate is not self.ranked[0]:
            estimated: ExpectedTime | None = self.strategy.expected_time(candidate, self.context)
            return estimated
        return known

    def _able(self, candidate: Candidate, *, chosen: bool) -> Verdict:
        expected = self._expected(candidate)
        return Verdict(
            server=candidate.name,
            verdict="chosen" if chosen else "possible",
            reasons=self.strategy.reasons(candidate, self.context, expected),
            estimate=candidate.estimate,
            expected=expected,
            forecast=partial(_forecast, candidate, self.context),
            candidate=candidate,
        )


def refusals(plan: Plan, context: RankingContext) -> tuple[Verdict, ...]:
    """Return the servers that cannot take the request, by facts or current load, in order of name."""
    waits = STRATEGIES[context.config.routing_strategy].binds_late
    now = [(one, refused_now(one, context.snapshot, context.now, waits=waits)) for one in plan.able]
    refused = [*plan.refused, *((one, reason) for one, reason in now if reason is not None)]
    refused.sort(key=lambda pair: pair[0].name)
    return tuple(
        Verdict(
            server=one.name,
            verdict="refused",
            reasons=(reason,),
            estimate=one.estimate,
            forecast=partial(_forecast, one, context),
            candidate=one,
        )
        for one, reason in refused
    )


def _forecast(candidate: Candidate, context: RankingContext) -> MemoryForecast | None:
    if candidate.model is None:
        return None
    num_ctx = context.request.num_ctx
    return forecast_memory(candidate.model, candidate.facts, context.snapshot, num_ctx=num_ctx, host=candidate.server)


def external_verdicts(config: Config) -> tuple[Verdict, ...]:
    """Return the verdicts of the external hosts, which serve assigned models only."""
    return tuple(
        Verdict(server=name, verdict="skipped", reasons=(_ONLY_BY_ASSIGNMENT,))
        for name in sorted(config.external_hosts)
    )


def selection_error(
    context: RankingContext, refused: Sequence[Verdict], unasked: frozenset[str]
) -> SelectionError | RequestError:
    """Build the client's error if every server was refused; the models of the `unasked` are unknown.

    For a pinned request, only its server's reason counts.
    """
    request = context.request
    refused = [verdict for verdict in refused if verdict.reasons[0].code != PINNED]
    codes = {verdict.reasons[0].code for verdict in refused if verdict.server not in unasked}
    if "model_missing" in codes and codes <= {"model_missing", "disabled"}:
        return ModelNotFound(f"model '{request.model_text}' not found", unasked=tuple(sorted(unasked)))
    if "version" in codes and request.versions is not None and codes <= {"model_missing", "disabled", "version"}:
        return UnknownRoute(f"404 {request.versions.path} needs another version of Ollama: {_why(refused)}")
    if "incapable" in codes and codes <= {"model_missing", "disabled", "incapable"}:
        missing = frozenset[str]().union(*(verdict.reasons[0].lacks for verdict in refused))
        return ModelIncapable(f'"{request.model_text}" does not support {", ".join(sorted(missing))}', missing=missing)
    if "memory" in codes and codes <= _LASTING and not unasked:
        return ModelTooLarge(
            f"{request.model_text or 'the model'} with its context is too large for every server: {_why(refused)};"
            f" {_smaller_context(refused, context)}"
        )
    return NoServerFits(
        f"no server can take {request.model_text or 'the request'} now: {_why(refused)}",
        retry_after=_retry_after(context),
    )


def _smaller_context(refused: Sequence[Verdict], context: RankingContext) -> str:
    """Suggest the largest common context that fits one of the servers with the most memory, if any does."""
    too_small = [one.candidate for one in refused if one.candidate is not None and one.reasons[0].code == "memory"]
    alike = {(one.limit or 0, one.size): one for one in reversed(too_small)}
    large = [one for _, one in sorted(alike.items(), key=lambda pair: -pair[0][0])]
    requested = context.request.num_ctx or 0
    for tokens in [usual for usual in _USUAL_CONTEXTS if usual < requested]:
        fitting = next((one.name for one in large[:_MOST_NAMED] if _fits_at(one, tokens, context)), None)
        if fitting is not None:
            return f"at {tokens // 1024}k context (num_ctx {tokens}) it fits on {fitting}"
    return "use a smaller context (num_ctx) or another model"


def _fits_at(candidate: Candidate, num_ctx: int, context: RankingContext) -> bool:
    estimate = estimate_memory(
        candidate.model,
        candidate.facts,
        context.snapshot,
        context.config.models,
        num_ctx=num_ctx,
        host=candidate.server,
        beside=candidate.others,
    )
    return candidate.limit is None or estimate.size <= candidate.limit


def _why(refused: Sequence[Verdict]) -> str:
    """Return each server's reason; for many servers, counts by reason and a few by name."""
    lines = [f"{verdict.server} {verdict.text}" for verdict in refused[:_MOST_NAMED]]
    if len(refused) > _MOST_NAMED:
        counts = Counter(verdict.reasons[0].code for verdict in refused)
        reasons = ", ".join(f"{count} {code.replace('_', ' ')}" for code, count in counts.most_common())
        lines.insert(0, f"of {len(refused)} servers {reasons}")
    return "; ".join(lines) or "no server is configured"


def _retry_after(context: RankingContext) -> float:
    """Return the seconds until the first suspended server is tried again, 1 to 30; 5 if none is suspended."""
    left = [until - context.now for until in context.snapshot.suspended.values() if until > context.now]
    return max(1.0, min(30.0, *left)) if left else 5.0
