"""`orouter logs`: the request log, one row for each request that was answered.

Belongs here: the commands and how rows look. Does not belong here: statements (the server's `storage`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ollama_router_cli.console import confirm_word, print_json, print_note, print_result
from ollama_router_cli.options import ConfigOption, EnvironmentOption, JsonOption, YesOption, command_group, examples
from ollama_router_cli.render import format_count, format_ms, format_time, print_table
from ollama_router_cli.settings_source import read_settings
from ollama_router_cli.storage_access import open_log
from ollama_router_cli.times import parse_moment
from ollama_router_core.records import RequestRecord
from ollama_router_server.storage.request_log import LogFilter, LogStats, RequestLog, UsageRow
from ollama_router_server.system import SystemClock

__all__ = ["app", "print_records"]

app = command_group("Read the request log. Prompts, answers and tokens are never in it.")

UserOption = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Only this user's requests.")]
ModelOption = Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Only requests for this model.")]
ServerOption = Annotated[str | None, typer.Option("--server", metavar="NAME", help="Only what this server answered.")]
ErrorsOption = Annotated[bool, typer.Option("--errors", help="Only failures: status 400 and above, or an error.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Not older than: 30m, 12h, 7d or 2026-01-31T15:00.")
]


@app.command(
    "list", epilog=examples("orouter logs list --limit 20", "orouter logs list --user alice --errors --since 1d")
)
def list_rows(  # noqa: PLR0913 - each is an option of the command
    *,
    user: UserOption = None,
    model: ModelOption = None,
    server: ServerOption = None,
    errors: ErrorsOption = False,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most so many rows.")] = 50,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """List requests, newest first."""
    chosen = _filter(user, model, server, since, errors=errors)

    async def read(log: RequestLog) -> tuple[RequestRecord, ...]:
        return await log.list(chosen, limit=limit)

    rows = _with_log(config, environment, read)
    if as_json:
        print_json([asdict(row) for row in rows])
    elif rows:
        print_records(rows)
    else:
        print_note("no requests")


@app.command(epilog=examples("orouter logs stats --since 7d", "orouter logs stats --user alice --json"))
def stats(
    *,
    user: UserOption = None,
    model: ModelOption = None,
    server: ServerOption = None,
    errors: ErrorsOption = False,
    since: SinceOption = None,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sum up requests.

    Counts, errors, tokens and times, and the same by user, model and server.
    """
    chosen = _filter(user, model, server, since, errors=errors)

    async def read(log: RequestLog) -> LogStats:
        return await log.stats(chosen)

    figures = _with_log(config, environment, read)
    if as_json:
        print_json(asdict(figures))
    else:
        _print_stats(figures)


@app.command(epilog=examples("orouter logs cleanup", "orouter logs cleanup 7 --yes"))
def cleanup(
    days: Annotated[int, typer.Argument(metavar="DAYS", min=0, help="Keep the rows of so many last days.")] = 30,
    *,
    yes: YesOption = False,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete old rows.

    Keeps the last days; asks to type DELETE, unless --yes is given.
    """
    if not yes:
        confirm_word(f"This deletes every row of the request log that is older than {days} days.", "DELETE")
    before = SystemClock().wall() - days * 86_400

    async def remove(log: RequestLog) -> int:
        return await log.cleanup(before=before)

    gone = _with_log(config, environment, remove)
    if as_json:
        print_json({"deleted": gone, "days": days})
    else:
        print_result(f"{gone} rows deleted")


def print_records(rows: Sequence[RequestRecord]) -> None:
    """Print log rows as a table."""
    print_table(
        ("time", "user", "model", "server", "status", "first byte", "total", "in", "out", "path", "error"),
        [
            (
                format_time(row.started_at),
                row.user,
                row.model_served or row.model_asked,
                row.server,
                row.status,
                format_ms(row.ttft_ms),
                format_ms(row.total_ms),
                format_count(row.prompt_tokens),
                format_count(row.completion_tokens),
                row.path,
                row.error or row.error_code,
            )
            for row in rows
        ],
        right=("first byte", "total", "in", "out"),
    )


def _filter(user: str | None, model: str | None, server: str | None, since: str | None, *, errors: bool) -> LogFilter:

    start = None if since is None else parse_moment(since, now=SystemClock().wall())
    return LogFilter(user=user, model=model, server=server, errors=errors, since=start)


def _with_log(config: Path | None, environment: str | None, action: Any) -> Any:

    settings = read_settings(config, environment)

    async def run() -> Any:
        async with open_log(settings) as log:
            return await action(log)

    return asyncio.run(run())


def _print_stats(figures: LogStats) -> None:

    times = [
        (name, *(format_ms(value) for value in (figure.p50, figure.p95, figure.p99)))
        for name, figure in (("first byte", figures.ttft_ms), ("total", figures.total_ms))
    ]
    print_result(
        f"{figures.requests:,} requests, {figures.errors:,} of them errors, "
        f"{figures.prompt_tokens:,} tokens in, {figures.completion_tokens:,} out"
    )
    if figures.dropped:
        print_result(f"{figures.dropped:,} more rows were lost: the database could not take them")
    print_result()
    print_table(("time", "p50", "p95", "p99"), times, right=("p50", "p95", "p99"))
    for name, rows in (("user", figures.by_user), ("model", figures.by_model), ("server", figures.by_server)):
        if rows:
            print_result()
            _print_usage(name, rows)


def _print_usage(name: str, rows: Sequence[UsageRow]) -> None:

    columns = (name, "requests", "errors", "tokens in", "tokens out")
    print_table(
        columns,
        [
            (
                row.name,
                *map(format_count, (row.requests, row.errors, row.prompt_tokens, row.completion_tokens)),
            )
            for row in rows
        ],
        right=columns[1:],
    )
