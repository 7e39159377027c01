"""`orouter replay`: repeat the decisions for logged requests, under another config."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from ollama_router_cli.arguments.options import SharedOptions, command_group, examples, takes_shared_options
from ollama_router_cli.arguments.times import parse_moment
from ollama_router_cli.arguments.what_if_options import STRATEGIES_HELP, asks_what_if, chosen_routers
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.output import clean, print_json, print_note, print_result
from ollama_router_cli.rendering.tables import print_table
from ollama_router_cli.rendering.worlds import print_worlds
from ollama_router_cli.sources.settings_source import Settings, read_settings
from ollama_router_cli.sources.sightings import look
from ollama_router_cli.sources.storage import open_log
from ollama_router_core.errors import amount
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.simulation.replay import Replay
from ollama_router_core.simulation.replay import replay as replay_rows
from ollama_router_core.simulation.report import percentile
from ollama_router_core.simulation.what_if import Change
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group()

_MOST_MOVES = 20


@app.command(
    epilog=examples(
        "orouter replay --config new.yml",
        "orouter replay --config new.yml --since 7d --json",
        "orouter replay --strategies fastest,least_loaded --add big --max-wait 60",
    )
)
@asks_what_if
@takes_shared_options
def replay(
    *,
    change: Change,
    strategies: Annotated[
        str | None, typer.Option(metavar="NAMES", help=f"{STRATEGIES_HELP} Default: the config's.")
    ] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="How far back to read the log: 12h, 7d, a date.")] = "1d",
    before: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only requests that began before this time: 1h, a date.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, metavar="COUNT", help="Maximum number of rows, the newest ones.")
    ] = 10_000,
    shared: SharedOptions,
) -> None:
    """Replay logged requests in virtual time: as the log says, and under another config.

    Asks the servers of that config for their models once; no model gets a request. Speeds are those that the log shows.
    Every result is compared with the log: which requests would move, which models and users would wait longer.
    """
    chosen = [] if strategies is None else chosen_routers(strategies)
    settings = read_settings(shared.config, shared.environment)
    rows = asyncio.run(_rows(settings, since, before, limit))
    if not rows:
        raise CommandFailed(f"no requests have been logged since {since}")
    if len(rows) == limit:
        print_note(f"replaying only the newest {amount(limit, 'row')}; raise --limit to replay more")
    seen = look(settings.config, settings.variables).snapshot
    _note_strangers(rows, settings)
    found = replay_rows(rows, seen, settings.config, chosen, change)
    if shared.as_json:
        print_json(found.to_json())
    else:
        _print(found)


async def _rows(settings: Settings, since: str, before: str | None, limit: int) -> tuple[RequestRecord, ...]:
    async with open_log(settings) as log:
        now = SystemClock().wall()
        end = None if before is None else parse_moment(before, now=now)
        return await log.list(LogFilter(since=parse_moment(since, now=now), before=end), limit=limit)


def _note_strangers(rows: Sequence[RequestRecord], settings: Settings) -> None:
    """Note servers of the log that this config lacks: without `--config` it may not be the log's config."""
    known = settings.config.servers.keys() | settings.config.external_hosts.keys()
    strangers = sorted({row.server for row in rows if row.server} - known)
    if strangers:
        print_note(
            f"the log has requests on servers that this config does not have: {', '.join(map(clean, strangers))};"
            " --config names another"
        )


def _print(found: Replay) -> None:
    print_worlds([world.summary for world in (found.logged, *found.others)])
    if not found.measured:
        return
    logged, half, most = found.logged.summary, percentile(found.measured, 0.5), percentile(found.measured, 0.95)
    print_result(
        f"\nhalf of the requests ended within {half:.1f} s, 95 % within {most:.1f} s;"
        f" as logged, simulated: {logged.completion_p50:.1f} and {logged.completion_p95:.1f} s"
    )
    for world in found.others:
        share = world.moved / found.logged.summary.requests
        print_result(f"\n{world.summary.router}: {amount(world.moved, 'request')} would move ({share:.0%})")
        moves = [(one.model, one.old, one.new, one.requests) for one in world.moves[:_MOST_MOVES]]
        if moves:
            print_table(("model", "from", "to", "requests"), moves, right=("requests",))
