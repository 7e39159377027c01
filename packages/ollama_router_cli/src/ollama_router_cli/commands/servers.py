"""`orouter servers`: the servers of a running router."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ollama_router_cli.arguments.options import command_group, examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.rendering.output import clean, print_result
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_bytes, format_ms, format_time, print_table
from ollama_router_cli.sources.router import segment

__all__ = ["app"]

app = command_group("Show servers of a running router, probe and drain them.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The server's name in the config.")]


@app.command("list", epilog=examples("orouter servers list", "orouter servers list --json"))
@asks_router
def list_servers(*, router: RouterAccess) -> None:
    """List servers as the router sees them, those that need attention first."""
    print_answer(router, _print_servers, "/router/servers")


def _print_servers(view: dict[str, Any]) -> None:
    columns = (
        "server", "state", "running", "loaded", "limit", "in memory", "version", "probe", "failed 1 h", "tokens/s",
        "error",
    )  # fmt: skip
    right = ("running", "loaded", "limit", "probe", "failed 1 h", "tokens/s")
    print_table(columns, map(_row, view["servers"]), right=right)


@app.command("show", epilog=examples("orouter servers show big"))
@asks_router
def show(name: NameArgument, *, router: RouterAccess) -> None:
    """Show one server: its state, memory, models and their speeds."""
    print_answer(router, _print_server, f"/router/servers/{segment(name)}")


def _print_server(view: dict[str, Any]) -> None:
    since = "" if view["since"] is None else f" since {format_time(view['since'])}"
    print_result(clean(f"{view['name']} is {view['state']}{since}{': ' + view['error'] if view['error'] else ''}"))
    if view["found_by"] is not None:
        print_result(f"found by {clean(view['found_by'])}")
    print_table(
        ("model", "size", "in memory", "load", "prefill", "decode", "samples"),
        [_model_row(row) for row in view["on_disk"]],
        right=("size", "load", "prefill", "decode", "samples"),
    )


@app.command("drain", epilog=examples("orouter servers drain big"))
@asks_router
def drain(name: NameArgument, *, router: RouterAccess) -> None:
    """Send a server no new requests until `undrain`, in every router and across restarts; those in flight finish."""
    print_answer(router, _print_drain, f"/router/servers/{segment(name)}/drain", "POST")


@app.command("undrain", epilog=examples("orouter servers undrain big"))
@asks_router
def undrain(name: NameArgument, *, router: RouterAccess) -> None:
    """Send requests to a drained server again."""
    print_answer(router, _print_drain, f"/router/servers/{segment(name)}/undrain", "POST")


@app.command("probe", epilog=examples("orouter servers probe big"))
@asks_router
def probe(name: NameArgument, *, router: RouterAccess) -> None:
    """Probe a server now, for its version and models, before its next probe is due.

    The exit code is 1 if it does not answer.
    """
    path = f"/router/servers/{segment(name)}/probe"
    probed = print_answer(router, lambda view: print_result(clean(_probe_text(view))), path, "POST")
    if not probed["answered"]:
        raise typer.Exit(1)


def _probe_text(probed: dict[str, Any]) -> str:
    if not probed["answered"]:
        return f"{probed['server']} does not answer ({probed['state']}): {probed['error']}"
    known = "" if probed["models"] is None else f", {probed['models']} on disk, {len(probed['loaded'])} in memory"
    time = "" if probed["probe_ms"] is None else f" in {format_ms(probed['probe_ms'])}"
    return f"{probed['server']} answered{time}: {probed['state']}, Ollama {probed['version']}{known}"


def _print_drain(done: dict[str, Any]) -> None:
    if done["draining"]:
        print_result(f"{done['server']} drains, {done['in_flight']} in flight")
    else:
        print_result(f"{done['server']} takes requests again")


def _row(server: dict[str, Any]) -> tuple[object, ...]:
    slots = "" if server["slots"] is None else f" of {server['slots']}"
    limit = server["memory_limit"]
    return (
        server["name"],
        server["state"],
        f"{server['running']}{slots}",
        format_bytes(server["memory_loaded"]),
        None if limit is None else format_bytes(limit),
        ", ".join(row["model"] for row in server["loaded"]) or None,
        f"{server['version']} (odd)" if server["is_odd_version"] else server["version"],
        format_ms(server["probe_ms"]),
        server["failed_last_hour"] or None,
        None if server["tokens_per_second"] is None else f"{server['tokens_per_second']:,.0f}",
        server["error"],
    )


def _model_row(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["model"],
        format_bytes(row["size"]),
        "yes" if row["loaded"] else None,
        f"{row['load_seconds']:.1f} s",
        f"{row['prefill_tokens_per_second']:,.0f}/s",
        f"{row['decode_tokens_per_second']:,.0f}/s",
        row["samples"],
    )
