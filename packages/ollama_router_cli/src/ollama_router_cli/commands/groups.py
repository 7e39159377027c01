"""`orouter groups`: grants and limits shared by several users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from ollama_router_cli.arguments.grant_options import takes_grants
from ollama_router_cli.arguments.options import SharedOptions, command_group, examples, takes_shared_options
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.rendering.grant_texts import describe_grants
from ollama_router_cli.rendering.output import clean, print_json, print_note, print_outcome, print_result
from ollama_router_cli.rendering.rights import print_rights
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_count, format_time, print_table
from ollama_router_cli.sources.router import segment
from ollama_router_cli.sources.storage import open_groups, run_with
from ollama_router_core.access.grants import grants_from_json, grants_to_json
from ollama_router_server.storage.group_store import GroupStore
from ollama_router_server.storage.identities import Group, GroupSummary

__all__ = ["app"]

app = command_group("Create, list and change groups of users.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The group's name.", show_default=False)]
Result = TypeVar("Result")
_MOST = 1_000
"""Groups per page."""


@app.command(epilog=examples("orouter groups create team --models 'llama3*' --rpm 60"))
@takes_grants
@takes_shared_options
def create(name: NameArgument, *, grants: dict[str, Any], shared: SharedOptions) -> None:
    """Create a group.

    A member's own grants take precedence; the group's apply where the member has none.
    """

    async def add(groups: GroupStore) -> Group:
        await groups.create(name, grants_from_json(grants))
        return await groups.show(name)

    _report(_with_groups(shared, add), f"group {name} created", as_json=shared.as_json)


@app.command(
    "list", epilog=examples("orouter groups list", "orouter groups list --json", "orouter groups list --search te")
)
@takes_shared_options
def list_groups(
    *,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only groups whose name contains this, in any case.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=_MOST, metavar="N", help="A page of at most N groups.")
    ] = _MOST,
    after: Annotated[str | None, typer.Option(metavar="NAME", help="The page after this group, by name.")] = None,
    shared: SharedOptions,
) -> None:
    """List groups by name, a page at a time.

    Prints the number of members, their requests and tokens of the last seven days (UTC), and the grants.
    """
    page = _with_groups(shared, lambda groups: groups.page(search=search, after=after, limit=limit))
    if page.next is not None:
        print_note(f"{page.matching:,} groups in all; --after {clean(page.next)} shows the next page")
    if shared.as_json:
        print_json([_listed_json(group) for group in page.groups])
    elif page.groups:
        columns = ("name", "members", "7 days", "tokens", "grants")
        print_table(columns, map(_row, page.groups), right=("members", "7 days", "tokens"))
    else:
        print_note("no such groups" if search or after else "no groups yet; orouter groups create NAME adds one")


@app.command(epilog=examples("orouter groups show team"))
@takes_shared_options
def show(name: NameArgument, *, shared: SharedOptions) -> None:
    """Show one group."""
    group = _with_groups(shared, lambda groups: groups.show(name))
    if shared.as_json:
        print_json(_group_json(group))
        return
    facts = [("name", group.name), ("created", format_time(group.created_at))]
    facts.append(("members", ", ".join(group.members) or None))
    print_table(("", ""), [*facts, *describe_grants(group.grants)])


@app.command(epilog=examples("orouter groups rights team", "orouter groups rights team --json"))
@asks_router
def rights(name: NameArgument, *, router: RouterAccess) -> None:
    """Show the rights of a member without grants of their own, with the source of each.

    Asks a running router; lists each model of its servers and each external host with the reason.
    """
    print_answer(router, print_rights, f"/router/groups/{segment(name)}/rights")


@app.command("set", epilog=examples("orouter groups set team --models 'llama3*,qwen3*' --tokens-per-day 1000000"))
@takes_grants
@takes_shared_options
def set_grants(name: NameArgument, *, grants: dict[str, Any], shared: SharedOptions) -> None:
    """Change the grants of a group; inherit removes one."""

    async def change(groups: GroupStore) -> Group:
        await groups.set_grants(name, grants)
        return await groups.show(name)

    _report(_with_groups(shared, change), f"group {name} changed", as_json=shared.as_json)


@app.command(epilog=examples("orouter groups delete team"))
@takes_shared_options
def delete(name: NameArgument, *, shared: SharedOptions) -> None:
    """Delete a group that has no members."""
    _with_groups(shared, lambda groups: groups.delete(name))
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


def _row(group: GroupSummary) -> tuple[object, ...]:
    return (
        group.name,
        format_count(group.members),
        format_count(group.requests),
        format_count(group.tokens),
        "; ".join(f"{key}: {text}" for key, text in describe_grants(group.grants)) or None,
    )


def _listed_json(group: GroupSummary) -> dict[str, Any]:
    return {
        "name": group.name,
        "grants": grants_to_json(group.grants),
        "member_count": group.members,
        "requests_7d": group.requests,
        "tokens_7d": group.tokens,
        "created_at": group.created_at,
    }
