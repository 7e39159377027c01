"""`orouter replay`: decide logged requests again, under another config."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from ollama_router_cli.arguments.options import ConfigOption, EnvironmentOption, JsonOption, command_group, examples
from ollama_router_cli.arguments.times import parse_moment
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.streams import print_json, print_note, print_result
from ollama_router_cli.rendering.tables import print_table
from ollama_router_cli.sources.servers import look
from ollama_router_cli.sources.settings import Settings, read_settings
from ollama_router_cli.sources.storage import open_log
from ollama_router_core.errors import amount
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.simulation import Replay
from ollama_router_core.simulation import replay as replay_rows
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group()


@app.command(epilog=examples("orouter replay --config new.yml", "orouter replay --config new.yml --since 7d --json"))
def replay(
    *,
    since: Annotated[str, typer.Option(metavar="TIME", help="How far back to read the log: 12h, 7d, a date.")] = "1d",
    limit: Annotated[
        int, typer.Option(min=1, metavar="COUNT", help="Maximum number of rows, the newest ones.")
    ] = 10_000,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay logged requests against another config: which would move, and with what expected effect.

    The servers of that config are asked for their models once; nothing is sent to a model. Expected times are compared
    with expected times, both from speeds learned from the log. Time spent in the queue is not replayed.
    """
    settings = read_settings(config, environment)
    rows = asyncio.run(_rows(settings, since, limit))
    if not rows:
        raise CommandFailed(f"no requests have been logged since {since}")
    if len(rows) == limit:
        print_note(f"replaying only the newest {amount(limit, 'row')}; --limit raises that")
    found = replay_rows(rows, look(settings.config, settings.variables).snapshot, settings.config)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)


async def _rows(settings: Settings, since: str, limit: int) -> tuple[RequestRecord, ...]:
    async with open_log(settings) as log:
        start = parse_moment(since, now=SystemClock().wall())
        return await log.list(LogFilter(since=start), limit=limit)


def _print(found: Replay) -> None:
    share = found.moved / found.requests if found.requests else 0.0
    print_result(
        f"{amount(found.requests, 'request')}, {found.moved} would move ({share:.0%}), "
        f"{found.unplaced} would find no server"
    )
    print_result(f"cold loads {found.loads_before} before, {found.loads_after} after")
    figures = found.to_json()["expected_seconds"]
    rows = [
        (name, *(f"{values[key]:.1f}" for key in ("p50", "p95", "p99"))) for name, values in figures.items() if values
    ]
    print_table(("expected seconds", "p50", "p95", "p99"), rows, right=("p50", "p95", "p99"))
    print_result()
    print_table(("server", "before", "after"), found.by_server, right=("before", "after"))
    if found.moves:
        print_result()
        print_table(("model", "from", "to", "requests"), found.moves[:20], right=("requests",))
