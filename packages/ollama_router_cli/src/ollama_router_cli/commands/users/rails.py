"""`orouter users import`: import users and the log of the original Rails application."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from msgspec import to_builtins

from ollama_router_cli.arguments.options import SharedOptions, takes_shared_options
from ollama_router_cli.rendering.output import print_json, print_result
from ollama_router_cli.rendering.tables import print_table
from ollama_router_cli.sources.settings_source import Settings, read_settings
from ollama_router_cli.sources.storage import open_database, operator
from ollama_router_server.storage.rails_import import RailsReport, import_rails
from ollama_router_server.system import SystemClock

__all__ = ["import_users"]


@takes_shared_options
def import_users(
    *,
    from_rails: Annotated[
        Path,
        typer.Option("--from-rails", metavar="FILE", help="SQLite file of the Rails application; it is only read."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be imported.")] = False,
    shared: SharedOptions,
) -> None:
    """Import users and request logs of the original application.

    Tokens keep working. Existing users are left as they are, and a second import adds only what is new.
    """
    report = asyncio.run(_import(read_settings(shared.config, shared.environment), from_rails, dry_run=dry_run))
    if shared.as_json:
        print_json({"dry_run": dry_run, **to_builtins(report)})
    else:
        _print_report(report, dry_run=dry_run)


async def _import(settings: Settings, path: Path, *, dry_run: bool) -> RailsReport:
    async with open_database(settings) as database:
        return await import_rails(path, database, clock=SystemClock(), actor=operator(), dry_run=dry_run)


def _print_report(report: RailsReport, *, dry_run: bool) -> None:
    if report.users:
        print_table(("user", "outcome", ""), [(user.name, user.outcome, user.reason or "") for user in report.users])
    counts = Counter(user.outcome for user in report.users)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "no users"
    print_result(f"users: {summary}")
    print_result(f"log rows: {report.log_rows:,} new, {report.log_rows_known:,} already imported")
    if dry_run:
        print_result("nothing was changed (dry run)")
