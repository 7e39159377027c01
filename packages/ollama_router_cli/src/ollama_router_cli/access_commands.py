"""`orouter users set` and `orouter users tokens`: what a user may do, and with which tokens."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ollama_router_cli.console import confirm_word, print_json, print_result
from ollama_router_cli.grant_options import describe_grants, takes_grants
from ollama_router_cli.options import ConfigOption, EnvironmentOption, JsonOption, YesOption, command_group, examples
from ollama_router_cli.render import clean, format_time, print_table
from ollama_router_cli.settings_source import Settings
from ollama_router_cli.storage_access import open_users, run_with
from ollama_router_core.access.grants import grants_to_json
from ollama_router_server.storage.identities import CreatedToken, UserChange, UserDetails
from ollama_router_server.storage.users import UserStore

__all__ = ["NameArgument", "Role", "set_user", "show_token", "tokens_app", "with_users"]

tokens_app = command_group("Give a user more tokens, list and end them.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.", show_default=False)]
TokenArgument = Annotated[str, typer.Argument(metavar="TOKEN_NAME", help="The token's name.", show_default=False)]
Result = TypeVar("Result")


class Role(StrEnum):
    """What a user may do: admins manage the router, users ask models, viewers look at the router's figures."""

    ADMIN = "admin"
    USER = "user"
    VIEWER = "viewer"


@takes_grants
def set_user(
    name: NameArgument,
    *,
    role: Annotated[Role | None, typer.Option(help="What the user may do.")] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="GROUP", help="The group that says what is not said here; or none.")
    ] = None,
    grants: dict[str, Any],
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what a user may do; inherit takes a point back.

    What is not said here the user's group says, and what neither says is open. Limits are answered with 429.
    """
    change = UserChange(
        role=None if role is None else role.value,
        moves=group is not None,
        group=None if group == "none" else group,
        grants=grants,
    )
    if change == UserChange():
        raise typer.BadParameter("nothing to change; see orouter users set --help")

    async def apply(users: UserStore) -> UserDetails:
        await users.change(name, change)
        return await users.show(name)

    _, details = with_users(config, environment, apply)
    _report(details, as_json=as_json)


@tokens_app.command("list", epilog=examples("orouter users tokens list alice"))
def list_tokens(
    name: NameArgument,
    *,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a user's tokens.

    With name, first 8 characters, when created and when last used.
    """

    async def read(users: UserStore) -> UserDetails:
        return await users.show(name)

    _, details = with_users(config, environment, read)
    tokens = details.summary.tokens
    if as_json:
        print_json([asdict(token) for token in tokens])
        return
    rows = [
        (token.name, f"{token.lookup}...", format_time(token.created_at), format_time(token.last_used_at))
        for token in tokens
    ]
    print_table(("name", "token", "created", "last used"), rows)


@tokens_app.command("add", epilog=examples("orouter users tokens add alice laptop"))
def add_token(
    name: NameArgument,
    token_name: TokenArgument,
    *,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a user one more token; it is shown once."""

    async def add(users: UserStore) -> CreatedToken:
        return await users.add_token(name, token_name)

    settings, created = with_users(config, environment, add)
    show_token(settings, created, f"{created.user} has a token named {token_name}", as_json=as_json)


@tokens_app.command(
    "revoke",
    epilog=examples("orouter users tokens revoke alice laptop", "orouter users tokens revoke alice laptop --yes"),
)
def revoke_token(
    name: NameArgument,
    token_name: TokenArgument,
    *,
    yes: YesOption = False,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """End one of a user's tokens.

    Within a second nobody gets in with it any more, and within two its streams are cut. On a terminal it asks to type
    REVOKE, unless --yes is given.
    """
    if not yes and sys.stdin.isatty():
        confirm_word(f"This ends {clean(name)}'s token {clean(token_name)}; it cannot be given back.", "REVOKE")

    async def revoke(users: UserStore) -> None:
        await users.revoke_token(name, token_name)

    with_users(config, environment, revoke)
    if as_json:
        print_json({"name": name, "token": token_name, "revoked": True})
    else:
        print_result(clean(f"{name}'s token {token_name} has ended"))


def with_users(
    config: Path | None, environment: str | None, action: Callable[[UserStore], Awaitable[Result]]
) -> tuple[Settings, Result]:
    """Run an action on the users of the database that the options lead to."""
    return run_with(open_users, config, environment, action)


def show_token(settings: Settings, created: CreatedToken, headline: str, *, as_json: bool) -> None:
    """Show a new token, the one time that it can be shown."""
    secret = created.token.reveal()
    if as_json:
        print_json({"name": created.user, "role": created.role, "token": secret})
        return
    print_result(clean(headline))
    print_result()
    print_result(f"token: {secret}")
    print_result("It is shown this once; keep it like a password. To try it while the router runs:")
    print_result()
    print_result(f'curl {settings.router_url}/api/tags -H "Authorization: Bearer {secret}"')


def _report(details: UserDetails, *, as_json: bool) -> None:
    user = details.summary
    if as_json:
        grants: Any = grants_to_json(user.own_grants)
        print_json({"name": user.name, "role": user.role, "group": user.group, "grants": grants})
        return
    print_result(clean(f"{user.name} changed"))
    print_table(("", ""), [("role", user.role), ("group", user.group), *describe_grants(user.own_grants)])
