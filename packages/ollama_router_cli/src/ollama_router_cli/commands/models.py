"""`orouter models`: the models of a running router."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ollama_router_cli.arguments.options import KvType, command_group, examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.commands.operations import follow
from ollama_router_cli.rendering.explanation import print_explanation
from ollama_router_cli.rendering.operations import print_operation
from ollama_router_cli.rendering.output import print_json
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_bytes, format_count, print_table
from ollama_router_cli.sources.router import ask_router, router_client, segment

__all__ = ["app"]

app = command_group("Show models of a running router; pull, load and delete them.")

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]


@app.command("list", epilog=examples("orouter models list"))
@asks_router
def list_models(*, router: RouterAccess) -> None:
    """List the models that your token may use."""
    print_answer(router, _print_models, "/router/models")


def _print_models(view: dict[str, Any]) -> None:
    columns = ("model", "parameters", "quantisation", "context", "size", "on", "loaded on", "in 7 days", "notes")
    print_table(columns, map(_row, view["models"]), right=("context", "size", "on", "loaded on", "in 7 days"))


@app.command("show", epilog=examples("orouter models show llama3.3:70b"))
@asks_router
def show(model: ModelArgument, *, router: RouterAccess) -> None:
    """Show which servers have a model, how much memory it needs and how fast it answers there."""
    print_answer(router, _print_model, f"/router/models/{segment(model)}")


def _print_model(view: dict[str, Any]) -> None:
    print_table(
        ("server", "digest", "on disk", "in memory", "context", "load", "prefill", "decode", "samples"),
        map(_on_server, view["servers"]),
        right=("on disk", "in memory", "context", "load", "prefill", "decode", "samples"),
    )


@app.command("fit", epilog=examples("orouter models fit llama3.3:70b --context 32768 --kv-type q8_0"))
@asks_router
def fit(
    model: ModelArgument,
    *,
    context: Annotated[int | None, typer.Option(min=1, metavar="TOKENS", help="Context to plan for.")] = None,
    kv_type: Annotated[KvType | None, typer.Option(help="KV cache of all servers. Default: what each has.")] = None,
    router: RouterAccess,
) -> None:
    """Show on which servers a model fits now, in how much memory, and which one a request would get."""
    print_answer(router, print_explanation, "/router/explain", model=model, context=context, kv_type=kv_type)


ServersOption = Annotated[
    str | None, typer.Option("--on", "--to", metavar="SERVERS", help="Comma-separated names, all, or where-it-fits.")
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Start the operation and exit without waiting for its end.")
]


@app.command("pull", epilog=examples("orouter models pull llama3.3:70b --to big", "orouter models pull qwen3 --to all"))
@asks_router
def pull(
    model: ModelArgument, *, servers: ServersOption = None, detach: DetachOption = False, router: RouterAccess
) -> None:
    """Pull a model to the given servers, to those that have it, or to where it fits; Ctrl-C does not stop it."""
    _operate(router, {"kind": "pull", "model": model, "servers": servers}, detach=detach)


@app.command("load", epilog=examples("orouter models load llama3.3:70b --on big --context 32768"))
@asks_router
def load(
    model: ModelArgument,
    *,
    servers: ServersOption = None,
    context: Annotated[int | None, typer.Option(min=1, metavar="TOKENS", help="Context to load it with.")] = None,
    detach: DetachOption = False,
    router: RouterAccess,
) -> None:
    """Load a model into memory: on the given servers, or on the best of those that have it."""
    _operate(router, {"kind": "load", "model": model, "servers": servers, "context": context}, detach=detach)


@app.command("unload", epilog=examples("orouter models unload llama3.3:70b"))
@asks_router
def unload(
    model: ModelArgument, *, servers: ServersOption = None, detach: DetachOption = False, router: RouterAccess
) -> None:
    """Unload a model from memory: on the given servers, or wherever it is loaded."""
    _operate(router, {"kind": "unload", "model": model, "servers": servers}, detach=detach)


@app.command("copy", epilog=examples("orouter models copy llama3.2:3b small --on all"))
@asks_router
def copy(
    model: ModelArgument,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name of the copy.")],
    *,
    servers: ServersOption = None,
    detach: DetachOption = False,
    router: RouterAccess,
) -> None:
    """Copy a model to a second name, on the given servers or on all that have it."""
    _operate(router, {"kind": "copy", "model": model, "destination": new, "servers": servers}, detach=detach)


@app.command("rm", epilog=examples("orouter models rm llama3.2:3b --on old"))
@asks_router
def remove(
    model: ModelArgument,
    *,
    servers: ServersOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    detach: DetachOption = False,
    router: RouterAccess,
) -> None:
    """Delete a model from the given servers, or from every server that has it."""
    if not yes:
        typer.confirm(f"Delete {model} on {servers or 'every server that has it'}?", abort=True, err=True)
    _operate(router, {"kind": "delete", "model": model, "servers": servers}, detach=detach)


def _operate(router: RouterAccess, asked: dict[str, Any], *, detach: bool) -> None:
    with router_client(**router.place) as client:
        begun = ask_router(client, "/router/operations", "POST", body=asked)
        if not detach:
            follow(client, begun, as_json=router.as_json)
        elif router.as_json:
            print_json(begun)
        else:
            print_operation(begun)


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
        None if model["requests"] is None else format_count(model["requests"]),
        ", ".join(filter(None, notes)) or None,
    )


def _on_server(one: dict[str, Any]) -> tuple[object, ...]:
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
