"""`orouter users rights`: what a user may do in the end, and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ollama_router_cli.arguments.options import JsonOption
from ollama_router_cli.arguments.router import RouterAccess, asks_router
from ollama_router_cli.commands.users.store import NameArgument
from ollama_router_cli.rendering.streams import clean, print_json, print_result
from ollama_router_cli.rendering.tables import print_table
from ollama_router_cli.sources.router import ask_router, router_client, segment

__all__ = ["rights"]


@asks_router
def rights(name: NameArgument, *, router: RouterAccess, as_json: JsonOption = False) -> None:
    """Show what a user may do, and which grant, role or setting says so.

    Asks a running router: each model of its servers and each external host stands there with the reason.
    """
    with router_client(**asdict(router)) as client:
        view = ask_router(client, f"/router/users/{segment(name)}/rights")
    if as_json:
        print_json(view)
        return
    print_result(clean(view["sentence"]))
    print_result()
    print_table(
        ("right", "holds", "from"), [(_words(one["name"]), one["text"], one["origin"]) for one in view["rights"]]
    )
    for noun, found in (("model", view["models"]), ("external host", view["hosts"])):
        if found:
            print_result()
            print_table((noun, "may use", "why"), map(_judged, found))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _judged(one: dict[str, Any]) -> tuple[object, ...]:
    return one["name"], "yes" if one["allowed"] else "no", one["why"]
