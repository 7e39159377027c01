"""`orouter users set`: role, group, grants and limits of a user."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ollama_router_cli.arguments.grant_options import takes_grants
from ollama_router_cli.arguments.options import SharedOptions, takes_shared_options
from ollama_router_cli.commands.users.store import NameArgument, with_users
from ollama_router_cli.rendering.grant_texts import describe_grants
from ollama_router_cli.rendering.output import clean, print_json, print_result
from ollama_router_cli.rendering.tables import print_table
from ollama_router_core.access.grants import Role, grants_to_json
from ollama_router_server.storage.identities import UserChange, UserDetails
from ollama_router_server.storage.user_store import UserStore

__all__ = ["set_user"]


@takes_grants
@takes_shared_options
def set_user(
    name: NameArgument,
    *,
    role: Annotated[Role | None, typer.Option(help="Role of the user.")] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            metavar="GROUP",
            help="Group whose grants apply where the user has none; none removes the user from the group.",
        ),
    ] = None,
    grants: dict[str, Any],
    shared: SharedOptions,
) -> None:
    """Change the role, group, grants and limits of a user.

    The user's own grants take precedence, then the group's; what neither sets is allowed. inherit removes the user's
    own. Requests over a limit are answered with 429.
    """
    change = UserChange(role=role, moves=group is not None, group=None if group == "none" else group, grants=grants)
    if change == UserChange():
        raise typer.BadParameter("nothing to change; see orouter users set --help")

    async def apply(users: UserStore) -> UserDetails:
        await users.change(name, change)
        return await users.show(name)

    _, details = with_users(shared, apply)
    _report(details, as_json=shared.as_json)


def _report(details: UserDetails, *, as_json: bool) -> None:
    user = details.summary
    if as_json:
        grants: Any = grants_to_json(user.own_grants)
        print_json({"name": user.name, "role": user.role, "group": user.group, "grants": grants})
        return
    print_result(clean(f"{user.name} changed"))
    print_table(("", ""), [("role", user.role), ("group", user.group), *describe_grants(user.own_grants)])
