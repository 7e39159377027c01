"""`orouter route`: which server would get this request, and why.

Belongs here: the command. Does not belong here: deciding (the core), words (`explanation`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ollama_router_cli.console import print_json
from ollama_router_cli.explanation import print_decision
from ollama_router_cli.live import look
from ollama_router_cli.options import ConfigOption, EnvironmentOption, JsonOption, command_group, examples
from ollama_router_cli.settings_source import Settings, read_settings
from ollama_router_cli.snapshot_file import read_snapshot
from ollama_router_core.decision import Decision, decide
from ollama_router_core.names import canonical_name
from ollama_router_core.requests import RouteRequest
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group("Ask which server would get a request, and why.")


@app.command(
    epilog=examples(
        "orouter route explain llama3.1:8b",
        "orouter route explain llama3.3:70b --context 32768 --need tools",
        "orouter route explain llama3.1:8b --snapshot fleet.json --json",
    )
)
def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.", show_default=False)],
    *,
    context: Annotated[
        int | None, typer.Option(min=1, metavar="TOKENS", help="The context asked for (options.num_ctx).")
    ] = None,
    need: Annotated[
        list[str] | None,
        typer.Option(metavar="CAPABILITY", help="What the model must be able to do: tools, vision, embedding, insert."),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Ask the servers now; this is the default.")] = False,
    snapshot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ask nobody: take the servers' answers from this JSON file.")
    ] = None,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every server and why it would get it or not.

    Exit code 1 when none can take the request. Nothing is sent to a model. What a running router knows besides
    (requests in flight, failures) is not known here: ask it at /router/explain.
    """
    if live and snapshot is not None:
        raise typer.BadParameter("--live and --snapshot exclude each other")
    request = RouteRequest(model_text=model, model=canonical_name(model), num_ctx=context, needs=frozenset(need or ()))
    decision = _decide(request, read_settings(config, environment), snapshot)
    if as_json:
        print_json(decision.to_json())
    else:
        print_decision(decision)
    if decision.error is not None:
        raise typer.Exit(1)


def _decide(request: RouteRequest, settings: Settings, file: Path | None) -> Decision:
    config = settings.config
    if file is None:
        seen = look(config, settings.variables)
        return decide(request, seen.snapshot, config, now=seen.now)
    clock = SystemClock()
    now = clock.monotonic()
    return decide(request, read_snapshot(file, config.servers, now=now, wall=clock.wall()), config, now=now)
