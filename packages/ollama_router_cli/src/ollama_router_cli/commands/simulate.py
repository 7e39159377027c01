"""`orouter simulate`: a fleet in virtual time, under one routing strategy after another."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ollama_router_cli.arguments.options import JsonOption, command_group, examples, in_place_of, option
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.streams import print_json, print_note, print_result
from ollama_router_core.config import load_config
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import amount
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.simulation import (
    FLEET,
    MODELS,
    ROUTERS,
    Knowledge,
    Machine,
    Scenario,
    Summary,
    assign_models,
    by_model,
    compare,
    parse_fleet,
    parse_trace,
    table,
    zipf_weights,
)

__all__ = ["app"]

app = command_group()


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The fleet, and how its router differs from what `orouter init` writes."""

    fleet: Path | None
    config: Path | None
    max_wait: float | None
    num_parallel: int | None


_WHAT_IF = in_place_of(
    "world",
    [
        option(
            "fleet",
            Path | None,
            None,
            metavar="FILE",
            help="YAML file with servers and models. Default: a built-in fleet of five.",
        ),
        option(
            "config",
            Path | None,
            None,
            metavar="FILE",
            help="Config of the router, with the servers of the fleet. Default: what `orouter init` writes.",
        ),
        option("max_wait", float | None, None, min=0.001, metavar="SECONDS", help="Replace `queue.max_wait`."),
        option(
            "num_parallel",
            int | None,
            None,
            min=1,
            metavar="COUNT",
            help="Slots of each loaded model, on every server.",
        ),
    ],
    lambda typed: WhatIf(**typed),
)


@app.command(
    epilog=examples(
        "orouter simulate --trace arrivals.csv",
        "orouter simulate --fleet fleet.yml --trace arrivals.csv --strategies fastest,least_loaded --stretch 4",
        "orouter simulate --trace arrivals.csv --strategies all --plot out.png",
        "orouter simulate --fleet fleet.yml --config orouter.yml --trace arrivals.csv --max-wait 60 --num-parallel 4",
    )
)
@_WHAT_IF
def simulate(
    *,
    trace: Annotated[
        Path, typer.Option(metavar="FILE", help="CSV file with a header line: time, prompt tokens, output tokens.")
    ],
    world: WhatIf,
    strategies: Annotated[
        str, typer.Option(metavar="NAMES", help="Comma-separated names, `own` for the router's strategies, or `all`.")
    ] = "own",
    stretch: Annotated[
        float,
        typer.Option(
            min=0.001, metavar="FACTOR", help="Factor on the times between arrivals; 4 is a quarter of the load."
        ),
    ] = 1.0,
    requests: Annotated[
        int | None, typer.Option(min=1, metavar="COUNT", help="Use only the first COUNT requests.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed for drawing each request's model.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plot times to the first token to this file; needs matplotlib.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare routing strategies on a trace, in virtual time, with the code that routes real requests.

    Each request's model is drawn with weights 1, 1/2, 1/3, ... in the order of the fleet file. The same seed gives the
    same figures.
    """
    chosen = _chosen(strategies)
    draw = None if plot is None else _drawing()
    scenario = _what_if(_scenario(world.fleet, trace, stretch=stretch, seed=seed, requests=requests), world)
    summaries: list[Summary] = []
    for name in chosen:
        print_note(f"{name}: {amount(len(scenario.jobs), 'request')}")
        summaries += compare(scenario, [name])
    if as_json:
        print_json([summary.to_json() for summary in summaries])
    else:
        print_result(table(summaries))
        print_result(
            f"\n95th percentile to the first token by model, of refused requests their wait\n{by_model(summaries)}"
        )
    if draw is not None and plot is not None:
        _draw(draw, plot, summaries)


def _chosen(text: str) -> list[str]:
    if text in {"all", "own"}:
        return list(ROUTERS if text == "all" else STRATEGIES)
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in ROUTERS]
    if unknown or not names:
        raise typer.BadParameter(f"unknown: {', '.join(unknown) or 'nothing'}; known: {', '.join(ROUTERS)}, own, all")
    return names


def _scenario(fleet: Path | None, trace: Path, *, stretch: float, seed: int, requests: int | None) -> Scenario:
    machines: tuple[Machine, ...] = FLEET
    models = MODELS
    if fleet is not None:
        try:
            machines, models = parse_fleet(yaml.safe_load(_text(fleet)))
        except yaml.YAMLError as error:
            raise CommandFailed(f"{fleet} is not YAML: {error}") from None
    try:
        arrivals = parse_trace(_text(trace), stretch=stretch)[:requests]
    except ValueError as error:
        raise CommandFailed(f"{trace} is not a trace: {error}") from None
    rng = random.Random(seed)  # noqa: S311 - seeded on purpose, nothing secret
    jobs = assign_models(arrivals, models, zipf_weights(len(models)), rng)
    return Scenario(name=trace.stem, machines=machines, models=models, jobs=jobs)


def _what_if(scenario: Scenario, world: WhatIf) -> Scenario:
    """The same jobs under another config, patience or number of slots."""
    slots: dict[str, dict[str, int]] = {}
    if world.num_parallel is not None:
        machines = tuple(replace(one, num_parallel=world.num_parallel) for one in scenario.machines)
        scenario = replace(scenario, machines=machines)
        slots = {one.name: {"num_parallel": world.num_parallel} for one in machines}
    patience = {} if world.max_wait is None else {"max_wait": world.max_wait}
    if world.config is None:
        return replace(scenario, knowledge=Knowledge(servers=slots, settings={"queue": patience}))
    config = _loaded(world.config, {one.name for one in scenario.machines})
    servers = {name: one.model_copy(update=slots.get(name, {})) for name, one in config.servers.items()}
    changed = config.model_copy(update={"servers": servers, "queue": config.queue.model_copy(update=patience)})
    return replace(scenario, knowledge=Knowledge(config=changed))


def _loaded(path: Path, machines: set[str]) -> Config:
    config = load_config(_text(path), env=os.environ)
    apart = sorted(machines ^ set(config.servers))
    if apart:
        raise CommandFailed(f"{path} and the fleet must have the same servers; in one alone: {', '.join(apart)}")
    return config


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandFailed(f"{path} is not text in UTF-8") from None


def _drawing() -> Any:
    """Import matplotlib before the work begins, so that a missing one is reported at once.

    Raises:
        CommandFailed: it is not installed.
    """
    try:
        return import_module("matplotlib.figure").Figure  # optional, and slow to import
    except ImportError:
        raise CommandFailed("--plot needs matplotlib: pip install 'ollama-router-cli[plot]'") from None


def _draw(figure_type: Any, path: Path, summaries: list[Summary]) -> None:
    figure = figure_type(figsize=(9, 1 + 0.5 * len(summaries)), layout="constrained")
    axes = figure.subplots()
    names = [summary.router for summary in reversed(summaries)]
    for field, label, height in (("ttft_p95", "p95", 0.8), ("ttft_p50", "p50", 0.4)):
        axes.barh(names, [getattr(summary, field) for summary in reversed(summaries)], height=height, label=label)
    axes.set_xscale("log")
    axes.set_xlim(left=max(0.01, min(summary.ttft_p50 for summary in summaries) / 2))
    axes.set_xlabel("seconds to the first token")
    axes.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"cannot write {path}: {error}") from None
    print_note(f"wrote {path}")
