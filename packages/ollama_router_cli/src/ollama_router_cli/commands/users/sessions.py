"""`orouter users sessions` and `sign-out`: list and end console sessions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.commands.users.store import NameArgument
from ollama_router_cli.rendering.output import clean, print_result
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_time, print_table
from ollama_router_cli.sources.router import segment
from ollama_router_core.errors import amount

__all__ = ["sessions", "sign_out"]


@asks_router
def sessions(name: NameArgument, *, router: RouterAccess) -> None:
    """Show a user's open sessions of the web console."""
    print_answer(router, _print, f"/router/users/{segment(name)}/sessions")


def _print(view: dict[str, Any]) -> None:
    if not view["sessions"]:
        print_result(f"{view['user']} has no open sessions")
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
) -> None:
    """End a user's sessions of the web console, and links that nobody has used (with --session that session alone).

    Tokens stay valid, and with one of them the user can sign in again.
    """
    path = f"/router/users/{segment(name)}/sessions{'' if session is None else f'/{segment(session)}'}"
    print_answer(router, _print_ended, path, "DELETE")


def _print_ended(done: dict[str, Any]) -> None:
    print_result(clean(f"{amount(done['ended'], 'session')} of {done['user']} ended"))
