"""`orouter users`: users and their tokens.

A running router notices every change within a second; nothing needs a restart.
"""

from __future__ import annotations

from ollama_router_cli.arguments.options import examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.commands.users.accounts import app
from ollama_router_cli.commands.users.invitations import invite
from ollama_router_cli.commands.users.rails import import_users
from ollama_router_cli.commands.users.sessions import sessions, sign_out
from ollama_router_cli.commands.users.set_user import set_user
from ollama_router_cli.commands.users.store import NameArgument
from ollama_router_cli.commands.users.tokens import tokens_app
from ollama_router_cli.rendering.rights import print_rights
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.sources.router import segment

__all__ = ["app"]

app.command(
    "set",
    epilog=examples(
        "orouter users set alice --models 'llama3*' --models qwen3:8b --rpm 60",
        "orouter users set alice --group team --rpm inherit",
        "orouter users set contractor --expires 2026-12-31 --networks 10.0.0.0/8",
    ),
)(set_user)


@app.command(epilog=examples("orouter users rights alice", "orouter users rights alice --json"))
@asks_router
def rights(name: NameArgument, *, router: RouterAccess) -> None:
    """Show what a user may do, and which grant, role or setting says so.

    Asks a running router; lists each model of its servers and each external host with the reason.
    """
    print_answer(router, print_rights, f"/router/users/{segment(name)}/rights")


app.command(
    "invite", epilog=examples("orouter users invite alice", "orouter users invite carol --group team --role viewer")
)(invite)
app.command("sessions", epilog=examples("orouter users sessions alice", "orouter users sessions alice --json"))(
    sessions
)
app.command(
    "sign-out", epilog=examples("orouter users sign-out alice", "orouter users sign-out alice --session 3f0a9c12b7de")
)(sign_out)
app.add_typer(tokens_app, name="tokens")
app.command(
    "import",
    epilog=examples(
        "orouter users import --from-rails production.sqlite3 --dry-run",
        "orouter users import --from-rails production.sqlite3",
    ),
)(import_users)
