"""Two worlds compared: the log as replayed, and the same requests in another scenario."""

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
    """Percentiles 50, 95 and 99 of the simulated seconds to the requests' end."""

    p50: float
    p95: float
    p99: float


class MoveView(View):
    """Requests for a model that would move to another server; `model` is null if they named none."""

    model: str | None
    old: str
    new: str
    requests: int


class LossView(View):
    """A model or a user (`kind`) that would be worse off: 95th percentiles of the seconds to the first token.

    `refused` counts the additional refused requests.
    """

    kind: str
    name: str
    before: float
    after: float
    refused: int


class WorldView(View):
    """The changes of a scenario; null for unchanged.

    The strategy, a server added like `add` or with the GPU `add_gpu`, a removed server (`off`), a model placed on
    another server (`put`), slots per loaded model, seconds of `queue.max_wait`. `options` are the options of
    `orouter replay` for it.
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
    """A model in one world: percentiles 50 and 95 and the mean of the seconds to the first token.

    A refused request counts with its wait. `busy` is the mean share of the servers' time spent running or loading it.
    """

    requests: int
    refused: int
    loads: int
    p50: float
    p95: float
    mean: float
    busy: float


class ModelChangeView(View):
    """A model in both worlds; null in a world without requests for it."""

    model: str
    before: ModelFiguresView | None
    after: ModelFiguresView | None


class ProgressView(View):
    """Progress: `done` of `of` requests, over all worlds; `of` is 0 while the log is read."""

    done: int
    of: int


class WhatIfView(View):
    """The comparison; `verdict` is false if the simulation of today's world is too inaccurate.

    `error` is its relative error; null without requests. `busy_before` and `busy_after` are the mean shares of time in
    which servers worked, `unplaced` counts refused requests. `command` answers the same question in a shell.
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
    """Build the view of a replay of some `span`, with a sentence; no verdict if its error is above 25 %."""
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
    """Return the models' changes, longest waits first."""
    found = [
        ModelChangeView(model=name, before=before.get(name), after=after.get(name))
        for name in sorted(before.keys() | after.keys())
    ]
    return sorted(found, key=lambda one: 0.0 if one.before is None else -one.before.p95)


def _most_of_it(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Name the model with most of the difference in seconds to the first token, if there are several models."""
    won = {name: _seconds(before.get(name)) - _seconds(after.get(name)) for name in before.keys() | after.keys()}
    total = sum(won.values())
    same = {name: one for name, one in won.items() if one * total > 0}
    if len(won) < 2 or not same:
        return ""
    name = max(same, key=lambda one: (abs(same[one]), one))
    return f"; most of it from {name}" if abs(same[name]) > sum(map(abs, same.values())) / 2 else ""


def _worst_of(losses: list[dict[str, Any]]) -> str:
    """Name the worst-off: the first with more refusals or longer waits."""
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
