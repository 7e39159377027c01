"""`orouter users rights`: what a user may do in the end, and why."""

from __future__ import annotations

from dataclasses import asdict

from ollama_router_cli.arguments.options import JsonOption
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.commands.users.store import NameArgument
from ollama_router_cli.rendering.rights import print_rights
from ollama_router_cli.sources.router import ask_router, router_client, segment

__all__ = ["rights"]


@asks_router
def rights(name: NameArgument, *, router: RouterAccess, as_json: JsonOption = False) -> None:
    """Show what a user may do, and which grant, role or setting says so.

    Asks a running router: each model of its servers and each external host stands there with the reason.
    """
    with router_client(**asdict(router)) as client:
        view = ask_router(client, f"/router/users/{segment(name)}/rights")
    print_rights(view, as_json=as_json)
