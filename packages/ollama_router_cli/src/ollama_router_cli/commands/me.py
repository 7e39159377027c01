"""`orouter me`: what a token may do."""

from __future__ import annotations

from dataclasses import asdict

from ollama_router_cli.arguments.options import (
    JsonOption,
    command_group,
    examples,
)
from ollama_router_cli.arguments.router import RouterAccess, asks_router
from ollama_router_cli.rendering.streams import print_json, print_result
from ollama_router_cli.rendering.tables import format_count, print_table
from ollama_router_cli.sources.router import ask_router, router_client

__all__ = ["app"]

app = command_group()


@app.command(epilog=examples("orouter me", "orouter me --url http://gpu-box:11435 --token-file token.txt"))
@asks_router
def me(
    *,
    router: RouterAccess,
    as_json: JsonOption = False,
) -> None:
    """Show what your token may do, and what is left of its limits."""
    with router_client(**asdict(router)) as client:
        view = ask_router(client, "/router/me")
    if as_json:
        print_json(view)
        return
    print_result(f"{view['name']} ({view['role']}), {view['models']} model{'' if view['models'] == 1 else 's'}")
    if view["limits"]:
        rows = [
            (one["kind"], format_count(one["remaining"]), format_count(one["limit"]), f"{one['reset_seconds']:.0f} s")
            for one in view["limits"]
        ]
        print_table(("limit", "left", "of", "more in"), rows, right=("left", "of", "more in"))
