"""`orouter top`: servers, models, the queue and active requests, live."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any, NamedTuple

import httpx
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ollama_router_cli.arguments.options import (
    JsonOption,
    command_group,
    examples,
)
from ollama_router_cli.arguments.router import RouterAccess, asks_router
from ollama_router_cli.rendering.streams import clean, print_json, print_result
from ollama_router_cli.rendering.tables import format_bytes, format_count, make_table, print_table
from ollama_router_cli.sources.router import ask_router, router_client

__all__ = ["app"]

app = command_group()

_LEAST_REQUESTS = 5


class _Part(NamedTuple):
    """One table."""

    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]
    right: tuple[str, ...]


@app.command(epilog=examples("orouter top", "orouter top --url http://gpu-box:11434", "orouter top --once"))
@asks_router
def top(
    *,
    router: RouterAccess,
    interval: Annotated[
        float, typer.Option(min=0.1, max=60.0, metavar="SECONDS", help="Seconds between updates.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print once and exit, as without a terminal.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch servers, models, the queue and active requests.

    Asks the running router with the token of a viewer or an admin. Ctrl-C ends it. --json prints /router/status once.
    """
    with router_client(**asdict(router)) as client:
        address = str(client.base_url).rstrip("/")
        status = ask_router(client, "/router/status")
        if as_json:
            print_json(status)
        elif once or not sys.stdout.isatty():
            _print(address, status)
        else:
            with suppress(KeyboardInterrupt):
                _watch(client, address, status, interval)


def _watch(client: httpx.Client, address: str, status: dict[str, Any], interval: float) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_screen(address, status, console.height), refresh=True)
            time.sleep(interval)
            status = ask_router(client, "/router/status")


def _screen(address: str, status: Mapping[str, Any], height: int) -> Group:
    servers = _servers(status)
    room = max(_LEAST_REQUESTS, height - len(servers.rows) - len(status["problems"]) - 6)
    tables = [make_table(part.columns, part.rows, right=part.right) for part in (servers, _requests(status, room))]
    problems = [Text(clean(problem), style="red") for problem in status["problems"]]
    return Group(Text(_headline(address, status), style="bold"), *problems, Text(), tables[0], Text(), tables[1])


def _print(address: str, status: Mapping[str, Any]) -> None:
    print_result(_headline(address, status))
    for problem in status["problems"]:
        print_result(clean(problem))
    for part in (_servers(status), _requests(status, len(status["under_way"]))):
        print_result()
        print_table(part.columns, part.rows, right=part.right)


def _headline(address: str, status: Mapping[str, Any]) -> str:
    log, worker = status["request_log"], status["worker"]
    parts = [
        address,
        f"{sum(server['in_flight'] for server in status['servers'].values())} on servers",
        f"{status['waiting']} waiting",
        f"log: {log['pending']} pending, {log['dropped']} dropped",
    ]
    if worker["count"] > 1:
        parts.append(f"requests of worker {worker['index'] + 1} of {worker['count']}")
    return clean(" \u00b7 ".join(parts))


def _servers(status: Mapping[str, Any]) -> _Part:
    rows: list[tuple[object, ...]] = [
        (
            name,
            _state(server),
            server["in_flight"],
            ", ".join(_models(server)) or None,
            server["version"],
            _trouble(server),
        )
        for name, server in status["servers"].items()
    ]
    return _Part(("server", "state", "requests", "in memory", "version", ""), rows, ("requests",))


def _models(server: Mapping[str, Any]) -> Iterator[str]:
    for row in server["loaded"]:
        yield f"{row['model']} ({format_bytes(row['bytes'])})" if row["bytes"] else row["model"]
    for name in server["loading"]:
        yield f"{name} (loading)"


def _state(server: Mapping[str, Any]) -> str:
    if not server["up"]:
        return "unknown" if server["up"] is None else "down"
    if server["draining"]:
        return "draining"
    return "up" if server["breaker"] == "closed" else "suspended"


def _trouble(server: Mapping[str, Any]) -> str:
    if server["error"]:
        return str(server["error"])
    left = server["tried_again_in_seconds"]
    if left is not None:
        return f"retried in {left:g} s" if left else "the next request tries it"
    return "; ".join(f"{model}: {found['error']}" for model, found in server["suspended_models"].items())


def _requests(status: Mapping[str, Any], most: int) -> _Part:
    under_way = status["under_way"]
    rows: list[tuple[object, ...]] = [
        (
            row["user"],
            row["model"] or row["path"],
            row["server"],
            f"waiting ({row['queue_position']})" if row["queue_position"] and not row["server"] else row["state"],
            f"{row['seconds']:.1f} s",
            None if row["first_byte_seconds"] is None else f"{row['first_byte_seconds']:.2f} s",
            format_count(row["bytes_out"]),
        )
        for row in under_way[:most]
    ]
    if len(under_way) > most:
        rows.append((f"and {len(under_way) - most} more", "", "", "", "", "", ""))
    columns = ("user", "model", "server", "state", "for", "first byte", "bytes")
    return _Part(columns, rows, ("for", "first byte", "bytes"))
