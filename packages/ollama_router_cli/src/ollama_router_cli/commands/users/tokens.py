"""`orouter users tokens`: the tokens of one user."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from msgspec.structs import asdict

from ollama_router_cli.arguments.options import SharedOptions, YesOption, command_group, examples, takes_shared_options
from ollama_router_cli.commands.users.store import NameArgument, with_users
from ollama_router_cli.rendering.new_token import show_token
from ollama_router_cli.rendering.output import clean, confirm_word, print_json, print_outcome
from ollama_router_cli.rendering.tables import format_time, print_table

__all__ = ["tokens_app"]

tokens_app = command_group("Add, list and revoke the tokens of a user.")

TokenArgument = Annotated[str, typer.Argument(metavar="TOKEN_NAME", help="The token's name.", show_default=False)]


@tokens_app.command("list", epilog=examples("orouter users tokens list alice"))
@takes_shared_options
def list_tokens(name: NameArgument, *, shared: SharedOptions) -> None:
    """List a user's tokens.

    Prints name, first 8 characters, priority, creation and last use.
    """
    _, details = with_users(shared, lambda users: users.show(name))
    tokens = details.summary.tokens
    if shared.as_json:
        print_json([asdict(token) for token in tokens])
        return
    rows = [
        (
            token.name,
            f"{token.lookup}...",
            "batch" if token.batch else "interactive",
            format_time(token.created_at),
            format_time(token.last_used_at),
        )
        for token in tokens
    ]
    print_table(("name", "token", "priority", "created", "last used"), rows)


@tokens_app.command(
    "add", epilog=examples("orouter users tokens add alice laptop", "orouter users tokens add alice nightly --batch")
)
@takes_shared_options
def add_token(
    name: NameArgument,
    token_name: TokenArgument,
    *,
    batch: Annotated[bool, typer.Option("--batch", help="All requests with this token have batch priority.")] = False,
    shared: SharedOptions,
) -> None:
    """Add a token to a user; it is shown once."""
    settings, created = with_users(shared, lambda users: users.add_token(name, token_name, batch=batch))
    show_token(settings, created, f"{created.user} has a token named {token_name}", as_json=shared.as_json)


@tokens_app.command(
    "revoke",
    epilog=examples("orouter users tokens revoke alice laptop", "orouter users tokens revoke alice laptop --yes"),
)
@takes_shared_options
def revoke_token(
    name: NameArgument, token_name: TokenArgument, *, yes: YesOption = False, shared: SharedOptions
) -> None:
    """Revoke one of a user's tokens.

    It is rejected within a second, and its open streams are cut within two. On a terminal, asks for confirmation unless
    --yes is given.
    """
    if not yes and sys.stdin.isatty():
        confirm_word(f"This revokes {clean(name)}'s token {clean(token_name)} for good.", "REVOKE")
    with_users(shared, lambda users: users.revoke_token(name, token_name))
    print_outcome(
        {"name": name, "token": token_name, "revoked": True},
        f"{name}'s token {token_name} is revoked",
        as_json=shared.as_json,
    )
