"""Two worlds side by side: what the log says happened, and what another strategy would have done."""

from __future__ import annotations

from typing import Any

from ollama_router_server.admin.views.view import View

__all__ = ["MoveView", "SpreadView", "WhatIfView", "whatif_view"]

_BELIEVED = 0.25


class SpreadView(View):
    """Expected seconds that half, 95 and 99 of 100 requests stay within."""

    p50: float
    p95: float
    p99: float


class MoveView(View):
    """Requests for a model that another server would get; the names are null where there is none."""

    model: str | None
    old: str
    new: str
    requests: int


class WhatIfView(View):
    """The answer; without a `verdict` where today's world is foretold too badly.

    `error` is by how much, as a share; null without requests.
    """

    sentence: str
    verdict: bool
    strategy: str
    days: int
    requests: int
    moved: int
    unplaced: int
    error: float | None
    before: SpreadView | None
    after: SpreadView | None
    loads_before: int
    loads_after: int
    moves: list[MoveView]


def whatif_view(strategy: str, days: int, found: dict[str, Any]) -> WhatIfView:
    """The answer of a replay, with a sentence, and without a verdict where its own error is above 25 %."""
    before, after = found["expected_seconds"]["before"], found["expected_seconds"]["after"]
    measured = found["measured_p50"]
    error = abs(before["p50"] / measured - 1) if before and measured else None
    verdict = error is not None and error <= _BELIEVED and after is not None
    return WhatIfView(
        sentence=_sentence(strategy, days, found, error, verdict=verdict),
        verdict=verdict,
        strategy=strategy,
        days=days,
        requests=found["requests"],
        moved=found["moved"],
        unplaced=found["unplaced"],
        error=error,
        before=before and SpreadView(**before),
        after=after and SpreadView(**after),
        loads_before=found["loads"]["before"],
        loads_after=found["loads"]["after"],
        moves=[MoveView(model=m["model"], old=m["from"], new=m["to"], requests=m["requests"]) for m in found["moves"]][
            :50
        ],
    )


def _sentence(strategy: str, days: int, found: dict[str, Any], error: float | None, *, verdict: bool) -> str:
    span = "the last day" if days == 1 else f"the last {days} days"
    if error is None:
        return f"No request of {span} can be decided again."
    before, after = found["expected_seconds"]["before"], found["expected_seconds"]["after"]
    if not verdict:
        return (
            f"No verdict: of {span} half of the requests should have ended within {before['p50']:.1f} s, and did "
            f"within {found['measured_p50']:.1f} s, which is {error:.0%} off."
        )
    loads = found["loads"]
    return (
        f"With {strategy}, p50 {after['p50']:.1f} s instead of {before['p50']:.1f} s, "
        f"p95 {after['p95']:.1f} s instead of {before['p95']:.1f} s, "
        f"{loads['after']} loads instead of {loads['before']}, "
        f"{found['moved']} of {found['requests']} requests elsewhere (of {span}, ±{error:.0%})."
    )
