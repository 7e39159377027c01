"""`orouter groups`: grants and limits that several users share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from ollama_router_cli.arguments.grants import takes_grants
from ollama_router_cli.arguments.options import SharedOptions, command_group, examples, takes_shared_options
from ollama_router_cli.rendering.grants import describe_grants
from ollama_router_cli.rendering.streams import clean, print_json, print_note, print_outcome, print_result
from ollama_router_cli.rendering.tables import format_time, print_table
from ollama_router_cli.sources.storage import open_groups, run_with
from ollama_router_core.access.grants import grants_from_json, grants_to_json
from ollama_router_server.storage.groups import GroupStore
from ollama_router_server.storage.identities import Group

__all__ = ["app"]

app = command_group("Create, list and change groups of users.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The group's name.", show_default=False)]
Result = TypeVar("Result")


@app.command(epilog=examples("orouter groups create team --models 'llama3*' --rpm 60"))
@takes_grants
@takes_shared_options
def create(
    name: NameArgument,
    *,
    grants: dict[str, Any],
    shared: SharedOptions,
) -> None:
    """Create a group.

    A member's own grants take precedence; the group's apply where the member has none.
    """

    async def add(groups: GroupStore) -> Group:
        await groups.create(name, grants_from_json(grants))
        return await groups.show(name)

    _report(_with_groups(shared, add), f"group {name} created", as_json=shared.as_json)


@app.command("list", epilog=examples("orouter groups list"))
@takes_shared_options
def list_groups(*, shared: SharedOptions) -> None:
    """List all groups with their members."""

    async def read(groups: GroupStore) -> tuple[Group, ...]:
        return await groups.list()

    found = _with_groups(shared, read)
    if shared.as_json:
        print_json([_group_json(group) for group in found])
    elif found:
        rows = [
            (
                group.name,
                ", ".join(group.members) or None,
                "; ".join(f"{key}: {text}" for key, text in describe_grants(group.grants)) or None,
            )
            for group in found
        ]
        print_table(("name", "members", "grants"), rows)
    else:
        print_note("no groups yet; orouter groups create NAME adds one")


@app.command(epilog=examples("orouter groups show team"))
@takes_shared_options
def show(
    name: NameArgument,
    *,
    shared: SharedOptions,
) -> None:
    """Show one group."""

    async def read(groups: GroupStore) -> Group:
        return await groups.show(name)

    group = _with_groups(shared, read)
    if shared.as_json:
        print_json(_group_json(group))
        return
    facts = [("name", group.name), ("created", format_time(group.created_at))]
    facts.append(("members", ", ".join(group.members) or None))
    print_table(("", ""), [*facts, *describe_grants(group.grants)])


@app.command("set", epilog=examples("orouter groups set team --models 'llama3*,qwen3*' --tokens-per-day 1000000"))
@takes_grants
@takes_shared_options
def set_grants(
    name: NameArgument,
    *,
    grants: dict[str, Any],
    shared: SharedOptions,
) -> None:
    """Change the grants of a group; inherit removes one."""

    async def change(groups: GroupStore) -> Group:
        await groups.set_grants(name, grants)
        return await groups.show(name)

    _report(_with_groups(shared, change), f"group {name} changed", as_json=shared.as_json)


@app.command(epilog=examples("orouter groups delete team"))
@takes_shared_options
def delete(
    name: NameArgument,
    *,
    shared: SharedOptions,
) -> None:
    """Delete a group that has no members."""

    async def remove(groups: GroupStore) -> None:
        await groups.delete(name)

    _with_groups(shared, remove)
    print_outcome({"name": name, "deleted": True}, f"group {name} deleted", as_json=shared.as_json)


def _with_groups(shared: SharedOptions, action: Callable[[GroupStore], Awaitable[Result]]) -> Result:
    return run_with(open_groups, shared.config, shared.environment, action)[1]


def _report(group: Group, headline: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_group_json(group))
        return
    print_result(clean(headline))
    if lines := describe_grants(group.grants):
        print_table(("", ""), lines)


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "members": list(group.members),
        "grants": grants_to_json(group.grants),
        "created_at": group.created_at,
    }
