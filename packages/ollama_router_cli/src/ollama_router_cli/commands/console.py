"""`orouter console`: a sign-in link to the web console."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from ollama_router_cli.arguments.options import SharedOptions, command_group, examples, takes_shared_options
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.output import print_json, print_note, print_result
from ollama_router_cli.sources.console_links import console_address, console_sessions
from ollama_router_cli.sources.settings_source import Settings, read_settings
from ollama_router_cli.sources.storage import open_database
from ollama_router_server.admin.links import link_of
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group("Open the web console.")

_SECONDS = 120.0


@app.command("open", epilog=examples("orouter console open", "orouter console open --user alice"))
@takes_shared_options
def open_console(
    *,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="User to sign in as. Default: the first admin.")
    ] = None,
    shared: SharedOptions,
) -> None:
    """Print a link that opens the web console, signed in.

    The link works once, within two minutes. It is made in the router's database, so this runs where the router does.
    """
    settings = read_settings(shared.config, shared.environment)
    base = console_address(settings)
    name, secret = asyncio.run(_invite(settings, user))
    link = link_of(base, secret)
    if shared.as_json:
        print_json({"user": name, "url": link, "seconds": _SECONDS})
    else:
        print_note(f"signs in as {name}, once, within two minutes:")
        print_result(link)


async def _invite(settings: Settings, user: str | None) -> tuple[str, str]:
    async with open_database(settings) as database:
        name = user or await _first_admin(UserStore(database, clock=SystemClock()))
        return name, await console_sessions(database, settings).invite(name, seconds=_SECONDS)


async def _first_admin(users: UserStore) -> str:
    admins = [user for user in await users.list() if user.role == "admin" and user.active and user.tokens]
    if not admins:
        raise CommandFailed("there is no admin with a token yet; create one: orouter users create NAME --role admin")
    return min(admins, key=lambda user: user.created_at).name
