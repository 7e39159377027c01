"""`orouter simulate`: a fleet in virtual time, under several routing strategies."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ollama_router_cli.arguments.options import JsonOption, command_group, examples, in_place_of, option
from ollama_router_cli.arguments.what_if_options import STRATEGIES_HELP, asks_what_if, chosen_routers
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.output import print_json, print_note
from ollama_router_cli.rendering.worlds import print_worlds
from ollama_router_core.config import load_config
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import amount
from ollama_router_core.simulation.comparison import compare
from ollama_router_core.simulation.fleet_file import parse_fleet
from ollama_router_core.simulation.report import Summary
from ollama_router_core.simulation.routers import Knowledge
from ollama_router_core.simulation.scenarios import FLEET, MODELS, Scenario
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.what_if import Change, losses
from ollama_router_core.simulation.workload import assign_models, parse_trace, zipf_weights

__all__ = ["app"]

app = command_group()


@dataclass(frozen=True, slots=True)
class World:
    """The fleet, its router's config (None for the one of `orouter init`), and the changes to the trace."""

    fleet: Path | None
    config: Path | None
    stretch: float
    requests: int | None
    seed: int


_WORLD = in_place_of(
    "world",
    [
        option(
            "fleet",
            Path | None,
            "YAML file with servers and models. Default: a built-in fleet of five.",
            metavar="FILE",
        ),
        option(
            "config",
            Path | None,
            "Config of the router, with the servers of the fleet. Default: what `orouter init` writes.",
            metavar="FILE",
        ),
        option(
            "stretch",
            float,
            "Factor on the times between arrivals; 4 is a quarter of the load.",
            default=1.0,
            min=0.001,
            metavar="FACTOR",
        ),
        option("requests", int | None, "Use only the first COUNT requests.", min=1, metavar="COUNT"),
        option("seed", int, "Seed for drawing each request's model.", default=1, metavar="NUMBER"),
    ],
    lambda typed: World(**typed),
)


@app.command(
    epilog=examples(
        "orouter simulate --trace arrivals.csv",
        "orouter simulate --fleet fleet.yml --trace arrivals.csv --strategies fastest,least_loaded --stretch 4",
        "orouter simulate --trace arrivals.csv --strategies all --plot out.png",
        "orouter simulate --fleet fleet.yml --config orouter.yml --trace arrivals.csv --strategies fastest --add big",
        "orouter simulate --trace arrivals.csv --strategies fastest --add-gpu rtx-4090",
        "orouter simulate --trace arrivals.csv --strategies fastest --num-parallel 4 --max-wait 60",
    )
)
@asks_what_if
@_WORLD
def simulate(
    *,
    trace: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="CSV file: time, prompt tokens, output tokens, and optionally model and user, one request per line.",
        ),
    ],
    world: World,
    change: Change,
    strategies: Annotated[str, typer.Option(metavar="NAMES", help=STRATEGIES_HELP)] = "own",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plot times to the first token to this file; needs matplotlib.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare routing strategies on a trace, in virtual time, with the code that routes real requests.

    A request whose model the trace does not name gets one drawn with weights 1, 1/2, 1/3, ... in the order of the fleet
    file. The same seed gives the same figures. Every other result is compared with the first: which models and
    users would wait longer, or be refused more often.
    """
    chosen = chosen_routers(strategies)
    draw = None if plot is None else _drawing()
    scenario = _scenario(trace, world)
    summaries: list[Summary] = []
    for name in chosen:
        print_note(f"{name}: {amount(len(scenario.jobs), 'request')}")
        summaries += compare(scenario, [name], change)
    if as_json:
        print_json([_row(summaries[0], one) for one in summaries])
    else:
        print_worlds(summaries)
    if draw is not None and plot is not None:
        _draw(draw, plot, summaries)


def _row(first: Summary, other: Summary) -> dict[str, Any]:
    return {**other.to_json(), "worse": [loss.to_json() for loss in losses(first, other)]}


def _scenario(trace: Path, world: World) -> Scenario:
    machines: tuple[Machine, ...] = FLEET
    models = MODELS
    if world.fleet is not None:
        try:
            machines, models = parse_fleet(yaml.safe_load(_text(world.fleet)))
        except yaml.YAMLError as error:
            raise CommandFailed(f"{world.fleet} is not YAML: {error}") from None
    rng = random.Random(world.seed)  # noqa: S311 - seeded on purpose, nothing secret
    try:
        arrivals = parse_trace(_text(trace), stretch=world.stretch)[: world.requests]
        jobs = assign_models(arrivals, models, zipf_weights(len(models)), rng)
    except ValueError as error:
        raise CommandFailed(f"{trace} is not a trace: {error}") from None
    config = None if world.config is None else _loaded(world.config, {one.name for one in machines})
    if config is not None:
        machines = tuple([one for one in machines if config.servers[one.name].enabled])
    return Scenario(name=trace.stem, machines=machines, models=models, jobs=jobs, knowledge=Knowledge(config=config))


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
    """Import matplotlib before the simulation, so that a missing one is reported at once.

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
