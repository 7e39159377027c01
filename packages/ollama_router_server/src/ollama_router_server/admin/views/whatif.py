"""Two worlds side by side: what the log says happened, and what another strategy would have done."""

from __future__ import annotations

from typing import Any

from ollama_router_server.admin.view import View

__all__ = [
    "LossView",
    "ModelChangeView",
    "ModelFiguresView",
    "MoveView",
    "ProgressView",
    "SpreadView",
    "WhatIfView",
    "WorldView",
    "whatif_view",
]

_BELIEVED = 0.25


class SpreadView(View):
    """Simulated seconds to their end that half, 95 and 99 of 100 requests stay within."""

    p50: float
    p95: float
    p99: float


class MoveView(View):
    """Requests for a model that another server would get; the names are null where there is none."""

    model: str | None
    old: str
    new: str
    requests: int


class LossView(View):
    """A model or a user (`kind`) that would be worse off: 95th percentiles of seconds to the first token.

    `refused` requests more than before would be refused.
    """

    kind: str
    name: str
    before: float
    after: float
    refused: int


class WorldView(View):
    """What is different in another world; null for what is not.

    The strategy, one more server like `add`, one more with the GPU `add_gpu`, none of `off`, a model on one more server
    (`put`), slots of each loaded model, seconds of `queue.max_wait`. `options` are those of `orouter replay` that ask
    for it.
    """

    name: str
    strategy: str
    add: str | None
    add_gpu: str | None
    off: str | None
    put: str | None
    num_parallel: int | None
    max_wait: float | None
    options: str


class ModelFiguresView(View):
    """A model in one world: seconds to the first token within which half and 95 of 100 of its requests stay.

    A request that was refused counts with its wait. `busy` is the mean share of the servers' time in which they ran or
    loaded it.
    """

    requests: int
    refused: int
    loads: int
    p50: float
    p95: float
    mean: float
    busy: float


class ModelChangeView(View):
    """A model in both worlds; null in one in which nobody asked for it."""

    model: str
    before: ModelFiguresView | None
    after: ModelFiguresView | None


class ProgressView(View):
    """How far an answer is: so many requests of so many, in all worlds together; of 0 while the log is read."""

    done: int
    of: int


class WhatIfView(View):
    """The answer; without a `verdict` where today's world is foretold too badly.

    `error` is by how much, as a share; null without requests. `busy_before` and `busy_after` are the mean shares of
    time in which servers worked, `unplaced` the requests that would be refused. `command` tells the same from a shell.
    """

    sentence: str
    verdict: bool
    world: WorldView
    span: str
    requests: int
    moved: int
    unplaced: int
    error: float | None
    before: SpreadView | None
    after: SpreadView | None
    loads_before: int
    loads_after: int
    refused_before: int
    busy_before: float
    busy_after: float
    models: list[ModelChangeView]
    moves: list[MoveView]
    worse: list[LossView]
    command: str


def whatif_view(world: WorldView, span: str, found: dict[str, Any], command: str) -> WhatIfView:
    """Show the answer of a replay of some `span`, with a sentence; no verdict if its error is above 25 %."""
    logged, after = found["worlds"][0], found["worlds"][-1]
    requests, measured = found["requests"], found["measured_p50"]
    error = abs(logged["completion_p50"] / measured - 1) if requests and measured else None
    verdict = error is not None and error <= _BELIEVED
    return WhatIfView(
        sentence=_sentence(world.name, span, found, error),
        verdict=verdict,
        world=world,
        span=span,
        requests=requests,
        moved=after["moved"],
        unplaced=after["refused"],
        error=error,
        before=_spread(logged) if requests else None,
        after=_spread(after) if requests else None,
        loads_before=logged["loads"],
        loads_after=after["loads"],
        refused_before=logged["refused"],
        busy_before=logged["utilisation"],
        busy_after=after["utilisation"],
        models=_models(logged["by_model"], after["by_model"])[:50],
        moves=[MoveView(model=m["model"], old=m["from"], new=m["to"], requests=m["requests"]) for m in after["moves"]][
            :50
        ],
        worse=[LossView(**one) for one in after["worse"]][:50],
        command=command,
    )


def _models(before: dict[str, Any], after: dict[str, Any]) -> list[ModelChangeView]:
    """Those that wait longest first."""
    found = [
        ModelChangeView(model=name, before=before.get(name), after=after.get(name))
        for name in sorted(before.keys() | after.keys())
    ]
    return sorted(found, key=lambda one: 0.0 if one.before is None else -one.before.p95)


def _most_of_it(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Name the model that makes most of the difference, in seconds to the first token, where there are several."""
    won = {name: _seconds(before.get(name)) - _seconds(after.get(name)) for name in before.keys() | after.keys()}
    total = sum(won.values())
    same = {name: one for name, one in won.items() if one * total > 0}
    if len(won) < 2 or not same:
        return ""
    name = max(same, key=lambda one: (abs(same[one]), one))
    return f"; most of it from {name}" if abs(same[name]) > sum(map(abs, same.values())) / 2 else ""


def _worst_of(losses: list[dict[str, Any]]) -> str:
    """Who loses most: the first of those of whom more is refused, or who wait longer."""
    if not losses:
        return ""
    worst = losses[0]
    lost = f"{worst['refused']} more refused" if worst["refused"] else f"{worst['after'] - worst['before']:+.1f} s"
    return f"; worst for {worst['name']} ({lost})"


def _seconds(model: dict[str, float] | None) -> float:
    return 0.0 if model is None else model["requests"] * model["mean"]


def _spread(world: dict[str, Any]) -> SpreadView:
    return SpreadView(p50=world["completion_p50"], p95=world["completion_p95"], p99=world["completion_p99"])


def _sentence(world: str, span: str, found: dict[str, Any], error: float | None) -> str:
    if error is None:
        return f"No request of {span} can be served again."
    logged, after = found["worlds"][0], found["worlds"][-1]
    if error > _BELIEVED:
        return (
            f"No verdict: of {span} half of the requests should have ended within {logged['completion_p50']:.1f} s, "
            f"and did within {found['measured_p50']:.1f} s, which is {error:.0%} off."
        )
    return (
        f"With {world}, p50 {after['completion_p50']:.1f} s instead of {logged['completion_p50']:.1f} s, "
        f"p95 {after['completion_p95']:.1f} s instead of {logged['completion_p95']:.1f} s, "
        f"{after['loads']} loads instead of {logged['loads']}, "
        f"{after['moved']} of {found['requests']} requests elsewhere (of {span}, ±{error:.0%})"
        f"{_most_of_it(logged['by_model'], after['by_model'])}{_worst_of(after['worse'])}."
    )
