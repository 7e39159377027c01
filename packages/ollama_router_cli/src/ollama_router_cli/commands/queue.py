"""`orouter queue`: who waits for a server."""

from __future__ import annotations

from dataclasses import asdict

from ollama_router_cli.arguments.options import JsonOption, command_group, examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.rendering.output import print_json, print_result
from ollama_router_cli.rendering.tables import format_count, print_table
from ollama_router_cli.sources.router import ask_router, router_client

__all__ = ["app"]

app = command_group()


@app.command(epilog=examples("orouter queue", "orouter queue --json"))
@asks_router
def queue(*, router: RouterAccess, as_json: JsonOption = False) -> None:
    """Show who waits for a server.

    By model; with a plain user's token the user's own requests.
    """
    with router_client(**asdict(router)) as client:
        view = ask_router(client, "/router/queue")
    if as_json:
        print_json(view)
        return
    if not view["queue"]:
        print_result("nothing waits")
        return
    rows = [
        (
            one["model"],
            format_count(one["context"]),
            one["waiting"],
            one["batch"] or None,
            f"{one['longest_seconds']:.0f} s",
            f"{one['expected_seconds']:.0f} s",
        )
        for one in view["queue"]
    ]
    columns = ("model", "context", "waiting", "of a batch", "longest", "newcomer's wait")
    print_table(columns, rows, right=columns[1:])
