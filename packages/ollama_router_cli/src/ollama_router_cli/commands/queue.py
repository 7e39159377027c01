"""`orouter queue`: the requests that wait for a server."""

from __future__ import annotations

from typing import Any

from ollama_router_cli.arguments.options import command_group, examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.rendering.output import print_result
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_count, print_table

__all__ = ["app"]

app = command_group()


@app.command(epilog=examples("orouter queue", "orouter queue --json"))
@asks_router
def queue(*, router: RouterAccess) -> None:
    """Show the queue.

    Grouped by model. With a user's token, only that user's requests.
    """
    print_answer(router, _print, "/router/queue")


def _print(view: dict[str, Any]) -> None:
    if not view["queue"]:
        print_result("no requests are waiting")
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
    columns = ("model", "context", "waiting", "batch", "longest", "new request's wait")
    print_table(columns, rows, right=columns[1:])
