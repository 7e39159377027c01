"""`orouter models`: the models of a running router."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ollama_router_cli.arguments.options import (
    JsonOption,
    command_group,
    examples,
)
from ollama_router_cli.arguments.router import RouterAccess, asks_router
from ollama_router_cli.rendering.explanation import print_explanation
from ollama_router_cli.rendering.streams import print_json
from ollama_router_cli.rendering.tables import format_bytes, format_count, print_table
from ollama_router_cli.sources.router import ask_router, router_client

__all__ = ["app"]

app = command_group("Show the models of a running router, and where they would go.")

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]


@app.command("list", epilog=examples("orouter models list"))
@asks_router
def list_models(
    *,
    router: RouterAccess,
    as_json: JsonOption = False,
) -> None:
    """List the models that your token may use."""
    with router_client(**asdict(router)) as client:
        view = ask_router(client, "/router/models")
    if as_json:
        print_json(view)
        return
    columns = ("model", "parameters", "quantisation", "context", "size", "on", "loaded on", "notes")
    print_table(columns, map(_row, view["models"]), right=("context", "size", "on", "loaded on"))


@app.command("show", epilog=examples("orouter models show llama3.3:70b"))
@asks_router
def show(
    model: ModelArgument,
    *,
    router: RouterAccess,
    as_json: JsonOption = False,
) -> None:
    """Show where a model is, what it takes in memory and how fast it answers there."""
    with router_client(**asdict(router)) as client:
        view = ask_router(client, f"/router/models/{model}")
    if as_json:
        print_json(view)
        return
    print_table(
        ("server", "digest", "on disk", "in memory", "context", "load", "prefill", "decode", "samples"),
        map(_place, view["servers"]),
        right=("on disk", "in memory", "context", "load", "prefill", "decode", "samples"),
    )


@app.command("fit", epilog=examples("orouter models fit llama3.3:70b --context 32768"))
@asks_router
def fit(
    model: ModelArgument,
    *,
    context: Annotated[int | None, typer.Option(min=1, metavar="TOKENS", help="The context to be asked for.")] = None,
    router: RouterAccess,
    as_json: JsonOption = False,
) -> None:
    """Say on which servers a model fits now, with which memory, and who would get it."""
    with router_client(**asdict(router)) as client:
        view = ask_router(client, "/router/explain", model=model, context=context)
    if as_json:
        print_json(view)
    else:
        print_explanation(view)


def _row(model: dict[str, Any]) -> tuple[object, ...]:
    notes = ("servers hold different weights" if model["differs"] else "", "ollama.com" if model["hosted"] else "")
    return (
        model["name"],
        model["parameters"],
        model["quantization"],
        format_count(model["context"]),
        format_bytes(model["size"]),
        model["on_servers"],
        model["loaded_on"],
        ", ".join(filter(None, notes)) or None,
    )


def _place(one: dict[str, Any]) -> tuple[object, ...]:
    disk, memory = one["disk"], one["memory"]
    return (
        one["server"],
        disk["digest"].removeprefix("sha256:")[:12],
        format_bytes(disk["size"]),
        None if memory is None else format_bytes(memory["size"]),
        None if memory is None else format_count(memory["context"]),
        f"{disk['load_seconds']:.1f} s",
        f"{disk['prefill_tokens_per_second']:,.0f}/s",
        f"{disk['decode_tokens_per_second']:,.0f}/s",
        disk["samples"],
    )
