"""`orouter audit`: changes of users, tokens, groups, servers and the config, with their authors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer

from ollama_router_cli.arguments.options import (
    SharedOptions,
    TokenFileOption,
    command_group,
    examples,
    takes_shared_options,
)
from ollama_router_cli.arguments.times import parse_moment
from ollama_router_cli.rendering.exports import write_csv, write_json_lines
from ollama_router_cli.rendering.output import print_json, print_note
from ollama_router_cli.rendering.tables import format_time, print_table
from ollama_router_cli.sources.router import ask_router, router_client
from ollama_router_cli.sources.storage import open_audit, run_with
from ollama_router_server.storage.audit_log import AuditAction, AuditFilter, actions_of
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group("Read the audit trail. Entries are kept as long as rows of the request log.")

_Entry = Mapping[str, Any]
_FIELDS = ("at", "actor", "via", "address", "action", "subject", "detail")


Form = Literal["table", "csv", "jsonl"]
"""Format of entries."""


@app.command(
    "list",
    epilog=examples(
        "orouter audit list --since 7d",
        "orouter audit list --action user --actor alice",
        "orouter audit list --action token.create --format csv",
        "orouter audit list --url https://llm.example.org --token-file admin.token",
    ),
)
@takes_shared_options
def list_entries(
    *,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only changes since this time: 30m, 12h, 7d or 2026-01-31T15:00.")
    ] = None,
    actor: Annotated[str | None, typer.Option(metavar="NAME", help="Only changes by this user or account.")] = None,
    action: Annotated[
        str | None,
        typer.Option(metavar="ACTION", help="Only these changes: user.create for one kind, user for every user.*."),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            max=100_000,
            metavar="N",
            help="Maximum number of entries; at most 10000 with --url.",
        ),
    ] = 50,
    form: Annotated[Form, typer.Option("--format", help="Table, CSV with a header line, or JSON lines.")] = "table",
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Query the router at this address. Default: read the database of the config."),
    ] = None,
    token_file: TokenFileOption = None,
    shared: SharedOptions,
) -> None:
    """List changes, newest first: from the database here, or with --url and an admin's token from a running router."""
    start = None if since is None else parse_moment(since, now=SystemClock().wall())
    chosen = AuditFilter(since=start, actor=actor, actions=_actions(action))
    if url is None:
        read = run_with(open_audit, shared.config, shared.environment, lambda audit: audit.list(chosen, limit=limit))[1]
        entries: list[_Entry] = [entry.to_json() for entry in read]
    else:
        with router_client(url=url, token_file=token_file, config=None, environment=None) as client:
            asked: dict[str, Any] = {"since": start, "actor": actor, "action": action, "limit": limit}
            entries = ask_router(client, "/router/audit", **asked)["entries"]
    if shared.as_json:
        print_json(entries)
    else:
        _print(entries, form)


def _actions(name: str | None) -> tuple[AuditAction, ...] | None:
    if name is None:
        return None
    if not (actions := actions_of(name)):
        raise typer.BadParameter(f"no action is named {name!r}", param_hint="--action")
    return actions


def _print(entries: Sequence[_Entry], form: Form) -> None:
    match form:
        case "jsonl":
            write_json_lines(entries)
        case "csv":
            write_csv([_FIELDS, *(_cells(entry, entry["at"]) for entry in entries)])
        case "table" if entries:
            print_table(("time", *_FIELDS[1:]), [_cells(entry, format_time(entry["at"])) for entry in entries])
        case "table":
            print_note("no changes")


def _cells(entry: _Entry, at: object) -> tuple[object, ...]:
    detail = json.dumps(entry["detail"], sort_keys=True) if entry["detail"] else None
    return (at, *(entry[field] for field in _FIELDS[1:-1]), detail)
