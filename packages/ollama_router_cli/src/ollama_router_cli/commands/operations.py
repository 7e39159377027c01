"""`orouter operations`: a running router's operations on models."""

from __future__ import annotations

import time
from typing import Annotated, Any

import httpx
import typer

from ollama_router_cli.arguments.options import command_group, examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.rendering.operations import print_operation, progress_of
from ollama_router_cli.rendering.output import print_json, print_note, print_result
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_time, print_table
from ollama_router_cli.sources.router import ask_router, router_client, segment

__all__ = ["app", "follow"]

app = command_group("Show, cancel and retry operations on models.")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The operation's id, as `list` shows it.")]


@app.command("list", epilog=examples("orouter operations list"))
@asks_router
def list_operations(*, router: RouterAccess) -> None:
    """List operations of the last seven days, newest first."""
    print_answer(router, _print, "/router/operations")


def _print(view: dict[str, Any]) -> None:
    if not view["operations"]:
        print_result("no operation was started in the last seven days")
        return
    rows = [
        (format_time(one["created_at"]), one["kind"], one["model"], one["state"], progress_of(one), one["id"])
        for one in view["operations"]
    ]
    print_table(("begun", "what", "model", "state", "servers", "id"), rows)


@app.command("show", epilog=examples("orouter operations show 019ab3f2c4d1a2b3c4d5e6f70001"))
@asks_router
def show(operation_id: IdArgument, *, router: RouterAccess) -> None:
    """Show one operation, server by server."""
    print_answer(router, print_operation, f"/router/operations/{segment(operation_id)}")


@app.command("cancel", epilog=examples("orouter operations cancel 019ab3f2c4d1a2b3c4d5e6f70001"))
@asks_router
def cancel(operation_id: IdArgument, *, router: RouterAccess) -> None:
    """Cancel an operation; completed servers keep the result."""
    ended = f"/router/operations/{segment(operation_id)}"
    print_answer(router, lambda _: print_result(f"{operation_id} is cancelled"), ended, "DELETE")


@app.command("retry", epilog=examples("orouter operations retry 019ab3f2c4d1a2b3c4d5e6f70001"))
@asks_router
def retry(operation_id: IdArgument, *, router: RouterAccess) -> None:
    """Retry an operation on the servers where it has not succeeded."""
    with router_client(**router.place) as client:
        begun = ask_router(client, f"/router/operations/{segment(operation_id)}/retry", "POST")
        follow(client, begun, as_json=router.as_json)


def follow(client: httpx.Client, operation: dict[str, Any], *, as_json: bool) -> None:
    """Print an operation's progress on standard error until it ends, then its result.

    Raises:
        Exit: with 1, if it is not done on all servers.
    """
    said = ""
    while operation["finished_at"] is None:
        if (now := progress_of(operation)) != said:
            print_note(said := now)
        time.sleep(0.5)
        operation = ask_router(client, f"/router/operations/{operation['id']}")
    if as_json:
        print_json(operation)
    else:
        print_operation(operation)
    if operation["state"] != "done":
        raise typer.Exit(1)
