"""Routing decisions: every server, ranked or refused, each with its reasons.

A `Decision` carries an `Explanation`, whose texts are built on access.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.errors import RequestError, SelectionError
from ollama_router_core.fleet.memory.estimates import MemoryEstimate
from ollama_router_core.fleet.memory.forecasts import MemoryForecast
from ollama_router_core.fleet.memory.placement import Placement
from ollama_router_core.routing.candidates import Candidate, Reason
from ollama_router_core.routing.expected_time import ExpectedTime

__all__ = ["Decision", "Explanation", "LateExplanation", "StatedExplanation", "Verdict"]


class Verdict(Struct, frozen=True, kw_only=True):
    """The decision about one server or external host.

    `chosen`: gets the request. `possible`: is next in the ranking. `refused`: a filter excludes it. `skipped`: not
    considered, as the model is assigned elsewhere or the host serves assigned models only. `expected` is in seconds;
    `forecast` computes the model's memory there on demand. `candidate` is the server as evaluated, None if it was not.
    """

    server: str
    verdict: Literal["chosen", "possible", "refused", "skipped"]
    reasons: tuple[Reason, ...]
    estimate: MemoryEstimate | None = None
    expected: ExpectedTime | None = None
    forecast: Callable[[], MemoryForecast | None] | None = None
    candidate: Candidate | None = None

    @property
    def text(self) -> str:
        """The reasons as one line."""
        return ", ".join(reason.text for reason in self.reasons)


class Explanation(Protocol):
    """The explanation of a decision."""

    @property
    def is_routine(self) -> bool:
        """Whether the decision needs no log entry: fixed by the config, or a server with the model in memory."""

    @property
    def headline(self) -> str:
        """The reason for the chosen server, or for none."""

    @property
    def expectation(self) -> ExpectedTime | None:
        """Expected time on the chosen server, whether or not it decided; None if unknown."""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every server and external host, the ranked ones first and in order."""

    def summary(self, most: int) -> tuple[tuple[Verdict, ...], Mapping[str, int]]:
        """Return the first `most` servers, and the number of others by reason code; hosts are omitted."""


class StatedExplanation(Struct, frozen=True):
    """An explanation that is complete when the decision is made."""

    headline: str
    verdicts: tuple[Verdict, ...] = ()

    @property
    def is_routine(self) -> bool:
        """True: the config made the decision."""
        return True

    @property
    def expectation(self) -> ExpectedTime | None:
        """None: no time is estimated."""
        return None

    def summary(self, most: int) -> tuple[tuple[Verdict, ...], Mapping[str, int]]:
        """Return the first `most` servers, and the number of others by reason code; hosts are omitted."""
        servers = [verdict for verdict in self.verdicts if verdict.verdict != "skipped"]
        return tuple(servers[:most]), Counter(verdict.reasons[0].code for verdict in servers[most:] if verdict.reasons)


class LateExplanation(Struct, eq=False):
    """An explanation with a known headline, whose rest is computed on first access.

    `warm` is the value of `is_routine`; None computes it as well.
    """

    headline: str
    explain: Callable[[], Explanation]
    warm: bool | None = None
    _found: Explanation | None = None

    @property
    def is_routine(self) -> bool:
        """Whether the decision needs no log entry."""
        return self._whole.is_routine if self.warm is None else self.warm

    @property
    def expectation(self) -> ExpectedTime | None:
        """Expected time on the chosen server."""
        return self._whole.expectation

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every server and external host, the ranked ones first and in order."""
        return self._whole.verdicts

    def summary(self, most: int) -> tuple[tuple[Verdict, ...], Mapping[str, int]]:
        """Return the first `most` servers, and the number of others by reason code; hosts are omitted."""
        return self._whole.summary(most)

    @property
    def _whole(self) -> Explanation:
        if self._found is None:
            self._found = self.explain()
        return self._found


class Decision(Struct, frozen=True, kw_only=True, eq=False):
    """A decision: `ranking` names the servers to try in order; if it is empty, `error` has the reason."""

    request: RouteRequest
    strategy: str
    ranking: tuple[str, ...]
    explanation: Explanation
    error: SelectionError | RequestError | None = None

    def __repr__(self) -> str:
        return f"Decision(strategy={self.strategy!r}, ranking={self.ranking!r}, error={self.error!r})"

    @property
    def server(self) -> str | None:
        """The chosen server's name."""
        return self.ranking[0] if self.ranking else None

    @property
    def reason(self) -> str:
        """The reason for the chosen server, or for none."""
        return self.explanation.headline

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every server and external host, the ranked ones first and in order."""
        return self.explanation.verdicts

    def among(self, servers: tuple[str, ...]) -> Decision:
        """Return the decision with its ranking replaced by `servers`."""
        return replace(self, ranking=servers)

    def to_json(self) -> dict[str, Any]:
        """Return the decision as JSON, in the format of library, command line and HTTP."""
        return {
            "model": self.request.model_text,
            "strategy": self.strategy,
            "server": self.server,
            "reason": self.reason,
            "candidates": [_verdict_json(verdict) for verdict in self.verdicts],
        }


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "server": verdict.server,
        "verdict": verdict.verdict,
        "reasons": [{"code": reason.code, "text": reason.text} for reason in verdict.reasons],
        "memory": None if verdict.estimate is None else _memory_json(verdict.estimate),
        "forecast": None if verdict.forecast is None else _forecast_json(verdict.forecast()),
        "expected": None if verdict.expected is None else _expected_json(verdict.expected),
        **_fit_json(verdict.candidate),
    }


def _fit_json(candidate: Candidate | None) -> dict[str, Any]:
    """Return how the model fits, its limit, the free memory beside the others, and the models to evict."""
    if candidate is None or candidate.model is None:
        return {"fit": None, "limit_bytes": None, "free_bytes": None, "victims": []}
    fit = candidate.fit
    gone = candidate.victims if fit == "evicts" else ()
    return {
        "fit": fit,
        "limit_bytes": candidate.limit,
        "free_bytes": candidate.free,
        "victims": [{"model": name, "reload_seconds": round(seconds, 1)} for name, seconds in gone],
    }


def _memory_json(estimate: MemoryEstimate) -> dict[str, Any]:
    return {
        "bytes": estimate.size,
        "gib": round(estimate.gib, 3),
        "text": str(estimate),
        "source": str(estimate.source),
        "terms": [{"name": term.name, "bytes": term.size, "source": term.source} for term in estimate.terms],
    }


def _forecast_json(forecast: MemoryForecast | None) -> dict[str, Any] | None:
    if forecast is None:
        return None
    correction = forecast.correction
    return {
        "context": forecast.context,
        "predicted_bytes": forecast.predicted,
        "computed_bytes": forecast.computed,
        "measured_bytes": forecast.measured,
        "correction": None if correction is None else round(correction, 3),
        "gpus": None if forecast.placement is None else _placement_json(forecast.placement),
    }


def _placement_json(placement: Placement) -> dict[str, Any]:
    return {
        "free_bytes": list(placement.free),
        "models": [
            {"name": one.name, "bytes": one.size, "gpu": one.gpu, "assumed": not one.certain}
            for one in placement.models
        ],
    }


def _expected_json(expected: ExpectedTime) -> dict[str, float]:
    names = ("wait", "load", "prefill", "decode", "harm", "affinity", "ready", "done")
    return {f"{name}_seconds": round(getattr(expected, name), 3) for name in names}
