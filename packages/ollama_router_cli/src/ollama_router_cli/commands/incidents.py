"""`orouter incidents`: problems and their times."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ollama_router_cli.arguments.options import command_group, examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.arguments.times import parse_moment
from ollama_router_cli.rendering.output import clean, print_result
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_count, format_time, print_table
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group("List incidents. They are kept as long as rows of the request log.")


@app.command("list", epilog=examples("orouter incidents list", "orouter incidents list --since 7d --server big --json"))
@asks_router
def list_incidents(
    *,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Incidents active since this time: 30m, 12h, 7d or 2026-01-31T15:00.")
    ] = "7d",
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="server.down, server.suspended, model.suspended, config.refused, coordination.away, database.away,"
            " line.full, requests.refused, log.lost, versions.differ,"
            " digests.differ, router.restart.",
        ),
    ] = None,
    server: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this server.")] = None,
    active: Annotated[bool, typer.Option("--active", help="Only incidents that have not ended.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, metavar="N", help="Incidents to show.")] = 50,
    router: RouterAccess,
) -> None:
    """List incidents, newest first.

    Prints start and end, what happened with its first cause, which requests failed at that server in the first hour,
    and of how many users.
    """
    start = parse_moment(since, now=SystemClock().wall())
    asked: dict[str, Any] = {"kind": kind, "server": server, "limit": limit, "active": "true" if active else None}
    print_answer(router, _print, "/router/incidents", since=start, **asked)


def _print(view: dict[str, Any]) -> None:
    print_result(clean(view["sentence"]))
    if view["incidents"]:
        print_result()
        columns = ("began", "ended", "kind", "what", "failed", "users")
        print_table(columns, map(_row, view["incidents"]), right=("failed", "users"))


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    ended = "active" if one["ended_at"] is None else format_time(one["ended_at"])
    counts = (format_count(one[name]) for name in ("failed_requests", "users"))
    return format_time(one["began_at"]), ended, one["kind"], one["sentence"], *counts
