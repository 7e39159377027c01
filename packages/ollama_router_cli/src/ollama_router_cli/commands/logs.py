"""`orouter logs`: the request log, one row per request."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar

import typer
from msgspec import to_builtins

from ollama_router_cli.arguments.options import (
    SharedOptions,
    YesOption,
    command_group,
    examples,
    in_place_of,
    option,
    takes_shared_options,
)
from ollama_router_cli.arguments.times import parse_moment
from ollama_router_cli.rendering.exports import write_csv, write_json_lines
from ollama_router_cli.rendering.output import confirm_word, print_json, print_note, print_outcome
from ollama_router_cli.rendering.request_log import print_history, print_records, print_stats
from ollama_router_cli.sources.storage import open_database, open_log, operator, run_with
from ollama_router_core.errors import amount
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.audit_log import AuditLog
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_stats import HourRow, LogStats
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group("Read the request log. It never contains prompts, answers or tokens.")

_FOLLOW_INTERVAL = 0.5  # seconds
_FIELDS = RequestRecord.__struct_fields__

Result = TypeVar("Result")


Form = Literal["csv", "jsonl"]
"""Format of exported rows."""


_WHO = (
    option("user", str | None, "Only requests of this user.", metavar="NAME"),
    option("model", str | None, "Only requests for this model.", metavar="MODEL"),
    option("server", str | None, "Only requests answered by this server.", metavar="NAME"),
    option("errors", bool, "Only failures: status 400 and above, or an error.", default=False),
)
_WHEN = option("since", str | None, "Only requests since this time: 30m, 12h, 7d or 2026-01-31T15:00.", metavar="TIME")


def _filter(typed: Mapping[str, Any]) -> LogFilter:
    since = typed.get("since")
    start = None if since is None else parse_moment(since, now=SystemClock().wall())
    return LogFilter(**{**typed, "since": start})


_filtered = in_place_of("chosen", (*_WHO, _WHEN), _filter)


@app.command(
    "list", epilog=examples("orouter logs list --limit 20", "orouter logs list --user alice --errors --since 1d")
)
@_filtered
@takes_shared_options
def list_rows(
    *,
    chosen: LogFilter,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=100_000, metavar="N", help="Maximum number of rows.")
    ] = 50,
    shared: SharedOptions,
) -> None:
    """List requests, newest first."""
    rows = _with_log(shared, lambda log: log.list(chosen, limit=limit))
    if shared.as_json:
        print_json([row.to_json() for row in rows])
    elif rows:
        print_records(rows)
    else:
        print_note("no requests")


@app.command(epilog=examples("orouter logs stats --since 7d", "orouter logs stats --user alice --json"))
@_filtered
@takes_shared_options
def stats(*, chosen: LogFilter, shared: SharedOptions) -> None:
    """Summarise requests.

    Prints counts, errors, tokens and latencies, and the same by user, model and server.
    """

    async def read(log: RequestLog) -> tuple[LogStats, tuple[HourRow, ...]]:
        return await log.stats(chosen), await log.history(chosen)

    figures, history = _with_log(shared, read)
    if shared.as_json:
        print_json({**to_builtins(figures), "by_hour": to_builtins(history)})
    else:
        print_stats(figures)
        print_history(history)


@app.command(epilog=examples("orouter logs tail", "orouter logs tail --errors --lines 0", "orouter logs tail --json"))
@in_place_of("chosen", _WHO, _filter)
@takes_shared_options
def tail(
    *,
    chosen: LogFilter,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=10_000, metavar="N", help="Number of past rows to start with.")
    ] = 10,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Keep printing new rows until Ctrl-C.")] = True,
    shared: SharedOptions,
) -> None:
    """Follow requests as they finish, oldest first.

    --json prints one object per line.
    """

    async def run(log: RequestLog) -> None:
        number = await log.last_number()
        _print_lines(tuple(reversed(await log.list(chosen, limit=lines))) if lines else (), as_json=shared.as_json)
        while follow:
            await asyncio.sleep(_FOLLOW_INTERVAL)
            number, rows = await log.newer_than(number, chosen)
            _print_lines(rows, as_json=shared.as_json)

    with suppress(KeyboardInterrupt):
        _with_log(shared, run)


@app.command(epilog=examples("orouter logs export > log.csv", "orouter logs export --format jsonl --since 30d"))
@_filtered
@takes_shared_options
def export(
    *,
    form: Annotated[Form, typer.Option("--format", help="CSV with a header line, or JSON lines.")] = "csv",
    chosen: LogFilter,
    shared: SharedOptions,
) -> None:
    """Export rows to standard output, in the order in which they were logged.

    --json is the same as --format jsonl.
    """
    jsonl = shared.as_json or form == "jsonl"

    async def run(log: RequestLog) -> None:
        if not jsonl:
            write_csv([_FIELDS])
        number, rows = await log.newer_than(0, chosen)
        while rows:
            if jsonl:
                _print_lines(rows, as_json=True)
            else:
                write_csv([getattr(row, name) for name in _FIELDS] for row in rows)
            number, rows = await log.newer_than(number, chosen)

    _with_log(shared, run)


@app.command(epilog=examples("orouter logs cleanup", "orouter logs cleanup 7 --yes"))
@takes_shared_options
def cleanup(
    days: Annotated[int, typer.Argument(metavar="DAYS", min=0, help="Age in days after which rows are deleted.")] = 30,
    *,
    yes: YesOption = False,
    shared: SharedOptions,
) -> None:
    """Delete rows older than DAYS.

    Asks for confirmation unless --yes is given.
    """
    if not yes:
        confirm_word(f"This deletes all rows of the request log that are older than {amount(days, 'day')}.", "DELETE")
    before = SystemClock().wall() - days * 86_400

    async def remove(database: Database) -> int:
        gone = await RequestLog(database).cleanup(before=before)
        await AuditLog(database, clock=SystemClock()).record(operator(), "log.delete", rows=gone, days=days)
        return gone

    gone = run_with(open_database, shared.config, shared.environment, remove)[1]
    print_outcome({"deleted": gone, "days": days}, f"{amount(gone, 'row')} deleted", as_json=shared.as_json)


def _print_lines(rows: Sequence[RequestRecord], *, as_json: bool) -> None:
    if as_json:
        write_json_lines(row.to_json() for row in rows)
    elif rows:
        print_records(rows)
    sys.stdout.flush()


def _with_log(shared: SharedOptions, action: Callable[[RequestLog], Awaitable[Result]]) -> Result:
    return run_with(open_log, shared.config, shared.environment, action)[1]
