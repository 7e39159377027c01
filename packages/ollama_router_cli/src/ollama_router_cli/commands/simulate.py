"""`orouter simulate`: a fleet in virtual time, under one routing strategy after another."""

from __future__ import annotations

import random
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ollama_router_cli.arguments.options import JsonOption, command_group, examples
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.streams import print_json, print_note, print_result
from ollama_router_core.errors import amount
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.simulation import (
    FLEET,
    MODELS,
    ROUTERS,
    Machine,
    Scenario,
    Summary,
    assign_models,
    compare,
    parse_fleet,
    parse_trace,
    table,
    zipf_weights,
)

__all__ = ["app"]

app = command_group()


@app.command(
    epilog=examples(
        "orouter simulate --trace arrivals.csv",
        "orouter simulate --fleet fleet.yml --trace arrivals.csv --strategies fastest,least_loaded --stretch 4",
        "orouter simulate --trace arrivals.csv --strategies all --plot out.png",
    )
)
def simulate(
    *,
    trace: Annotated[
        Path, typer.Option(metavar="FILE", help="CSV file with a header line: time, prompt tokens, output tokens.")
    ],
    fleet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML file with servers and models. Default: a built-in fleet of five."),
    ] = None,
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
    scenario = _scenario(fleet, trace, stretch=stretch, seed=seed, requests=requests)
    summaries: list[Summary] = []
    for name in chosen:
        print_note(f"{name}: {amount(len(scenario.jobs), 'request')}")
        summaries += compare(scenario, [name])
    if as_json:
        print_json([summary.to_json() for summary in summaries])
    else:
        print_result(table(summaries))
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
