"""`orouter users sessions` and `sign-out`: who is signed in to the console, and the end of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ollama_router_cli.arguments.options import JsonOption
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.commands.users.store import NameArgument
from ollama_router_cli.rendering.output import print_json, print_outcome, print_result
from ollama_router_cli.rendering.tables import format_time, print_table
from ollama_router_cli.sources.router import ask_router, router_client, segment
from ollama_router_core.errors import amount

__all__ = ["sessions", "sign_out"]


@asks_router
def sessions(name: NameArgument, *, router: RouterAccess, as_json: JsonOption = False) -> None:
    """Show a user's open sessions of the web console."""
    with router_client(**asdict(router)) as client:
        view = ask_router(client, f"/router/users/{segment(name)}/sessions")
    if as_json:
        print_json(view)
        return
    if not view["sessions"]:
        print_result(f"nobody is signed in as {name}")
        return
    rows = [
        (one["id"], one["method"], format_time(one["created_at"]), format_time(one["seen_at"]), one["token"])
        for one in view["sessions"]
    ]
    print_table(("id", "opened by", "since", "last used", "ends with the token"), rows)


@asks_router
def sign_out(
    name: NameArgument,
    *,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="This session alone.")] = None,
    router: RouterAccess,
    as_json: JsonOption = False,
) -> None:
    """End a user's sessions of the web console, and links that nobody has used (with --session that session alone).

    Tokens stay valid, and with one of them the user can sign in again.
    """
    path = f"/router/users/{segment(name)}/sessions"
    with router_client(**asdict(router)) as client:
        ended = ask_router(client, path if session is None else f"{path}/{segment(session)}", "DELETE")
    print_outcome(ended, f"{amount(ended['ended'], 'session')} of {name} ended", as_json=as_json)
