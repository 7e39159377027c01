"""`orouter users create`, `list`, `show`, `activate`, `deactivate`, `regenerate-token` and `delete`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, NamedTuple

import typer
from msgspec.structs import asdict

from ollama_router_cli.arguments.grant_options import takes_grants
from ollama_router_cli.arguments.options import SharedOptions, YesOption, command_group, examples, takes_shared_options
from ollama_router_cli.commands.users.store import NameArgument, with_users
from ollama_router_cli.rendering.grant_texts import describe_grants
from ollama_router_cli.rendering.new_token import show_token
from ollama_router_cli.rendering.output import clean, confirm_word, print_json, print_note, print_outcome, print_result
from ollama_router_cli.rendering.request_log import print_records
from ollama_router_cli.rendering.tables import format_count, format_ms, format_time, print_table
from ollama_router_core.access.grants import Role, combine_grants, grants_from_json, grants_to_json
from ollama_router_core.access.limits import Allowance, TokenSpan, day_of, nearest_end
from ollama_router_server.storage.identities import UserChange, UserDetails, UserFilter, UserPage, UserSummary
from ollama_router_server.storage.recent_use import RecentUse
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import SystemClock

__all__ = ["app"]

_MOST = 1_000
"""Users per page."""
_UNUSED = RecentUse()

app = command_group("Create, list and change users. A token is shown once, when it is created.")


@app.command(
    epilog=examples(
        "orouter users create alice",
        "orouter users create ops --role admin",
        "orouter users create bob --models 'llama3*' --rpm 60 --hosts openai",
        "TOKEN=$(orouter users create ci --json | jq -r .token)",
    )
)
@takes_grants
@takes_shared_options
def create(
    name: NameArgument,
    *,
    role: Annotated[Role, typer.Option(help="Role of the user.")] = "user",
    group: Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Group of the user.")] = None,
    grants: dict[str, Any],
    shared: SharedOptions,
) -> None:
    """Create a user and print the token, once.

    A curl command to try it follows. Grants and limits are those of `users set`; the group, then the role
    apply where none is given.
    """
    granted = grants_from_json(grants)
    settings, created = with_users(shared, lambda users: users.create(name, role=role, group=group, grants=granted))
    show_token(settings, created, f"user {created.user} created ({created.role})", as_json=shared.as_json)


@app.command(
    "list",
    epilog=examples(
        "orouter users list",
        "orouter users list --json",
        "orouter users list --group team",
        "orouter users list --search ali --limit 50",
    ),
)
@takes_shared_options
def list_users(
    *,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only users whose name contains this, in any case.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="GROUP", help="Only users who are in this group.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, max=_MOST, metavar="N", help="A page of at most N users.")
    ] = None,
    after: Annotated[str | None, typer.Option(metavar="NAME", help="The page after this user, by name.")] = None,
    shared: SharedOptions,
) -> None:
    """List users by name: all, or a page.

    Prints role, status, requests in total and in seven days, tokens used of the limit that is closest to exhausted, the
    first 8 characters of each token, creation, last use and expiry. Pages have 1,000 users where --search, --group or
    --after is given without --limit.
    """
    chosen = UserFilter(search=search, group=group)
    _, (page, found) = with_users(shared, partial(_read_page, chosen=chosen, limit=limit, after=after))
    if page.next is not None:
        print_note(f"{page.matching:,} users in all; --after {clean(page.next)} shows the next page")
    if shared.as_json:
        print_json([_listed_json(one) for one in found])
        return
    if not found:
        print_note("no such users" if search or group or after else "no users yet; orouter users create NAME adds one")
        return
    columns = (
        "name", "role", "status", "requests", "7 days", "tokens of limit", "token", "created", "last used", "expires",
        "group",
    )  # fmt: skip
    print_table(columns, map(_row, found), right=("requests", "7 days", "tokens of limit"))


class _Listed(NamedTuple):
    """A user with recent use; the limit is the token limit that is closest to exhaustion."""

    user: UserSummary
    requests_7d: int
    limit: tuple[TokenSpan, Allowance] | None
    expires_at: float | None


async def _read_page(
    users: UserStore, *, chosen: UserFilter, limit: int | None, after: str | None
) -> tuple[UserPage, list[_Listed]]:
    everybody = chosen == UserFilter() and limit is None and after is None
    if everybody:
        found = await users.list()
        page = UserPage(users=found, next=None, matching=len(found))
    else:
        page = await users.page(chosen, after=after, limit=limit or _MOST)
    wall = SystemClock().wall()
    use = await users.recent_use(None if everybody else [user.name for user in page.users], today=day_of(wall))
    return page, [_listed(user, use.get(user.name, _UNUSED), wall) for user in page.users]


def _listed(user: UserSummary, use: RecentUse, wall: float) -> _Listed:
    grants = combine_grants(user.own_grants, use.group)
    return _Listed(user, use.requests, nearest_end(use.tokens, grants, wall=wall), grants.expires_at)


def _row(listed: _Listed) -> tuple[object, ...]:
    user, requests_7d, limit, expires_at = listed
    return (
        user.name,
        user.role,
        _status(active=user.active),
        format_count(user.requests),
        format_count(requests_7d),
        None if limit is None else f"{_used(limit[1]):,} of {limit[1].limit:,} a {limit[0]}",
        ", ".join(f"{token.lookup}..." for token in user.tokens) or None,
        format_time(user.created_at),
        format_time(_last_used(user)),
        format_time(expires_at),
        user.group,
    )


def _used(limit: Allowance) -> int:
    return limit.limit - limit.remaining


def _listed_json(listed: _Listed) -> dict[str, Any]:
    user, requests_7d, limit, expires_at = listed
    return {
        **_summary_json(user),
        "requests_7d": requests_7d,
        "tokens_used": None if limit is None else _used(limit[1]),
        "tokens_limit": None if limit is None else limit[1].limit,
        "tokens_per": None if limit is None else limit[0],
        "last_seen": _last_used(user),
        "expires_at": expires_at,
    }


@app.command(epilog=examples("orouter users show alice"))
@takes_shared_options
def show(name: NameArgument, *, shared: SharedOptions) -> None:
    """Show one user.

    Prints grants, requests, errors, mean response time, tokens used and the last 10 requests.
    """
    _, details = with_users(shared, lambda users: users.show(name))
    if shared.as_json:
        print_json(_details_json(details))
    else:
        _print_details(details)


@app.command(epilog=examples("orouter users activate alice"))
@takes_shared_options
def activate(name: NameArgument, *, shared: SharedOptions) -> None:
    """Activate a deactivated user again."""
    with_users(shared, lambda users: users.change(name, UserChange(active=True)))
    print_outcome({"name": name, "active": True}, f"{name} is active", as_json=shared.as_json)


@app.command(epilog=examples("orouter users deactivate alice"))
@takes_shared_options
def deactivate(name: NameArgument, *, shared: SharedOptions) -> None:
    """Lock a user out.

    Tokens and log rows are kept, and activate lets the user in again.
    """
    with_users(shared, lambda users: users.change(name, UserChange(active=False)))
    print_outcome({"name": name, "active": False}, f"{name} is inactive", as_json=shared.as_json)


@app.command("regenerate-token", epilog=examples("orouter users regenerate-token alice"))
@takes_shared_options
def regenerate_token(name: NameArgument, *, shared: SharedOptions) -> None:
    """Replace a user's token.

    The old one stops working at once, the new one is shown once.
    """
    settings, created = with_users(shared, lambda users: users.regenerate_token(name))
    show_token(
        settings, created, f"{created.user} has a new token; the old one no longer works", as_json=shared.as_json
    )


@app.command(epilog=examples("orouter users delete alice", "orouter users delete alice --yes"))
@takes_shared_options
def delete(name: NameArgument, *, yes: YesOption = False, shared: SharedOptions) -> None:
    """Delete a user with all tokens and log rows.

    Asks for confirmation unless --yes is given.
    """

    async def remove(users: UserStore) -> int:
        details = await users.show(name)
        if not yes:
            rows = details.summary.requests
            confirm_word(f"This permanently deletes {name}, all of their tokens and {rows} log rows.", "DELETE")
        return await users.delete(name)

    _, rows = with_users(shared, remove)
    print_outcome(
        {"name": name, "deleted": True, "log_rows": rows},
        f"{name} deleted, with {rows} log rows",
        as_json=shared.as_json,
    )


def _status(*, active: bool) -> str:
    return "active" if active else "inactive"


def _last_used(user: UserSummary) -> float | None:
    return max((token.last_used_at for token in user.tokens if token.last_used_at is not None), default=None)


def _summary_json(user: UserSummary) -> dict[str, Any]:
    return {
        "name": user.name,
        "role": user.role,
        "active": user.active,
        "requests": user.requests,
        "created_at": user.created_at,
        "group": user.group,
        "grants": grants_to_json(user.own_grants),
        "tokens": [asdict(token) for token in user.tokens],
    }


def _details_json(details: UserDetails) -> dict[str, Any]:
    return {
        **_summary_json(details.summary),
        "errors": details.errors,
        "mean_ms": details.mean_ms,
        "prompt_tokens": details.prompt_tokens,
        "completion_tokens": details.completion_tokens,
        "last_requests": [record.to_json() for record in details.last_requests],
    }


def _print_details(details: UserDetails) -> None:
    user = details.summary
    tokens = ", ".join(f"{token.lookup}... ({token.name})" for token in user.tokens)
    facts = [
        ("name", user.name),
        ("role", user.role),
        ("status", _status(active=user.active)),
        ("group", user.group),
        *describe_grants(user.own_grants),
        ("created", format_time(user.created_at)),
        ("last used", format_time(_last_used(user))),
        ("tokens", tokens or None),
        ("requests", f"{user.requests:,} ({details.errors:,} failed)"),
        ("mean time", format_ms(details.mean_ms)),
        ("tokens used", f"{details.prompt_tokens:,} in, {details.completion_tokens:,} out"),
    ]
    print_table(("", ""), facts)
    if details.last_requests:
        print_result()
        print_records(details.last_requests)
