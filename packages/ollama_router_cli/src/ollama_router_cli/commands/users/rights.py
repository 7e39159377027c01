"""`orouter users rights`: a user's effective rights, with reasons."""

from __future__ import annotations

from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.commands.users.store import NameArgument
from ollama_router_cli.rendering.rights import print_rights
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.sources.router import segment

__all__ = ["rights"]


@asks_router
def rights(name: NameArgument, *, router: RouterAccess) -> None:
    """Show what a user may do, and which grant, role or setting says so.

    Asks a running router; lists each model of its servers and each external host with the reason.
    """
    print_answer(router, print_rights, f"/router/users/{segment(name)}/rights")
