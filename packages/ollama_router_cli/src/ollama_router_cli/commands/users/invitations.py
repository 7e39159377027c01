"""`orouter users invite`: a sign-in link for a user."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from ollama_router_cli.arguments.options import SharedOptions, takes_shared_options
from ollama_router_cli.commands.users.store import NameArgument
from ollama_router_cli.rendering.output import clean, print_json, print_note, print_result
from ollama_router_cli.sources.console_links import console_address, console_sessions
from ollama_router_cli.sources.settings_source import Settings, read_settings
from ollama_router_cli.sources.storage import open_database, operator
from ollama_router_core.access.grants import Role
from ollama_router_server.admin.links import INVITATION_SECONDS, link_of
from ollama_router_server.storage.identities import UnknownUser
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import SystemClock

__all__ = ["invite"]


@takes_shared_options
def invite(
    name: NameArgument,
    *,
    role: Annotated[Role, typer.Option(help="Role of a user who is created.")] = "user",
    group: Annotated[
        str | None, typer.Option("--group", metavar="GROUP", help="Group of a user who is created.")
    ] = None,
    shared: SharedOptions,
) -> None:
    """Print a link that signs a user in to the web console, once, within 72 hours.

    A user who does not exist is created. Whoever has no token yet gets one from the console, shown to the person alone.
    """
    settings = read_settings(shared.config, shared.environment)
    base = console_address(settings)
    secret, created = asyncio.run(_invite(settings, name, role, group))
    link = link_of(base, secret)
    if shared.as_json:
        print_json({"user": name, "created": created, "link": link, "seconds": INVITATION_SECONDS})
        return
    print_note(clean(f"{'created ' + name + ', and ' if created else ''}signs in as {name}, once, within 72 hours:"))
    print_result(link)


async def _invite(settings: Settings, name: str, role: Role, group: str | None) -> tuple[str, bool]:
    async with open_database(settings) as database:
        sessions, actor, created = console_sessions(database, settings), operator(), False
        users = UserStore(database, clock=SystemClock(), actor=actor)
        try:
            await users.show(name)
        except UnknownUser:
            await users.create_without_token(name, role=role, group=group)
            created = True
        return await sessions.invite(name, seconds=INVITATION_SECONDS, by=actor), created
