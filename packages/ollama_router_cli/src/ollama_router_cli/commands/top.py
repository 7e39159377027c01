"""`orouter top`: servers, models, the queue and active requests, live."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple

import httpx
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ollama_router_cli.arguments.keys import pressed_keys
from ollama_router_cli.arguments.options import command_group, examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.rendering.output import clean, print_json, print_result
from ollama_router_cli.rendering.tables import format_bytes, format_count, make_table, print_table
from ollama_router_cli.sources.router import ask_router, router_client

__all__ = ["app"]

app = command_group()

_LEAST_REQUESTS: Final = 5
_ATTENTION: Final = ("down", "suspended", "draining", "unknown", "up")
"""States, most urgent first."""


@dataclass(slots=True)
class _Look:
    """The visible part: servers from `offset` on, of those with `needle` in their name or models."""

    offset: int = 0
    needle: str = ""
    typing: bool = False

    def press(self, key: str, room: int) -> bool:
        """Handle a key; return False to quit."""
        if self.typing:
            self._type(key)
        elif key == "/":
            self.needle, self.offset, self.typing = "", 0, True
        elif key == "escape":
            self.needle = ""
        else:
            steps = {"j": 1, "down": 1, "k": -1, "up": -1, " ": room, "page down": room, "page up": -room}
            self.offset = max(0, self.offset + steps.get(key, 0))
        return self.typing or key != "q"

    def _type(self, key: str) -> None:
        match key:
            case "enter":
                self.typing = False
            case "escape":
                self.needle, self.typing = "", False
            case "backspace":
                self.needle = self.needle[:-1]
            case _ if len(key) == 1 and key.isprintable():
                self.needle += key


class _Part(NamedTuple):
    """One table."""

    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]
    right: tuple[str, ...]


@app.command(epilog=examples("orouter top", "orouter top --url http://gpu-box:11434", "orouter top --once"))
@asks_router
def top(
    *,
    interval: Annotated[
        float, typer.Option(min=0.1, max=60.0, metavar="SECONDS", help="Seconds between updates.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print once and exit, as it does without a terminal.")] = False,
    router: RouterAccess,
) -> None:
    """Watch servers, models, the queue and active requests.

    Servers that need attention come first. Up, down, space and page keys scroll, / filters by name or model, q ends.
    Asks the running router with the token of a viewer or an admin. Ctrl-C ends it. --json prints /router/status once.
    """
    with router_client(**router.place) as client:
        address = str(client.base_url).rstrip("/")
        status = ask_router(client, "/router/status")
        if router.as_json:
            print_json(status)
        elif once or not sys.stdout.isatty():
            _print(address, status)
        else:
            with suppress(KeyboardInterrupt):
                _watch(client, address, status, interval)


def _watch(client: httpx.Client, address: str, status: dict[str, Any], interval: float) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    look, queried = _Look(), time.monotonic()
    with pressed_keys() as key, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            room = _room_for_servers(status, console.height)
            live.update(_screen(address, status, look, console.height), refresh=True)
            pressed = key(max(0.0, queried + interval - time.monotonic()))
            if not look.press(pressed, room):
                return
            if time.monotonic() >= queried + interval:
                status, queried = ask_router(client, "/router/status"), time.monotonic()


def _room_for_servers(status: Mapping[str, Any], height: int) -> int:
    """Return the lines for servers: those that headings, problems and a few requests leave."""
    requests = min(len(status["active_requests"]) + 1, max(_LEAST_REQUESTS, height // 3))
    return max(3, height - len(_problems(status, height)) - requests - 7)


def _problems(status: Mapping[str, Any], height: int) -> list[Text]:
    """Return the problems, one line each, on at most a third of the screen; long lines are cut, not wrapped."""
    shown = [clean(problem) for problem in status["problems"][: height // 3]]
    return [Text(problem, style="red", no_wrap=True, overflow="ellipsis") for problem in shown]


def _screen(address: str, status: Mapping[str, Any], look: _Look, height: int) -> Group:
    servers = _servers(status, look.needle)
    room = _room_for_servers(status, height)
    look.offset = min(look.offset, max(0, len(servers.rows) - room))
    shown = servers.rows[look.offset : look.offset + room]
    problems = _problems(status, height)
    left = max(_LEAST_REQUESTS, height - len(shown) - len(problems) - 7)
    requests = _requests(status, left)
    tables = [_table(part) for part in (servers._replace(rows=shown), requests)]
    position = Text(_position(servers, shown, look), style="dim")
    return Group(Text(_headline(address, status), style="bold"), *problems, position, tables[0], Text(), tables[1])


def _table(part: _Part) -> Table:
    """Make a table with one line per row on any width: wrapped rows would push others off the screen."""
    table = make_table(part.columns, part.rows, right=part.right)
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    return table


def _position(servers: _Part, shown: list[tuple[object, ...]], look: _Look) -> str:
    """Return which servers are visible, and how to see others; empty if all are."""
    if look.typing or look.needle:
        return f"/{clean(look.needle)}{'_' if look.typing else ''}   {len(servers.rows)} servers match"
    if len(shown) == len(servers.rows):
        return ""
    return f"servers {look.offset + 1} to {look.offset + len(shown)} of {len(servers.rows)}; arrows scroll, / filters"


def _print(address: str, status: Mapping[str, Any]) -> None:
    print_result(_headline(address, status))
    for problem in status["problems"]:
        print_result(clean(problem))
    for part in (_servers(status), _requests(status, len(status["active_requests"]))):
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


def _servers(status: Mapping[str, Any], needle: str = "") -> _Part:
    """Return the servers, those that need attention first."""
    rows: list[tuple[object, ...]] = [
        (
            name,
            _state(server),
            server["in_flight"],
            ", ".join(_models(server)) or None,
            server["version"],
            _trouble(server),
        )
        for name, server in sorted(status["servers"].items(), key=_attention)
        if needle.lower() in f"{name} {' '.join(_models(server))}".lower()
    ]
    return _Part(("server", "state", "requests", "in memory", "version", ""), rows, ("requests",))


def _attention(named: tuple[str, Mapping[str, Any]]) -> tuple[int, str]:
    name, server = named
    return _ATTENTION.index(_state(server)), name


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


def _state_of(row: Mapping[str, Any]) -> str:
    """Return what a request does; for a queued one its position and the most seconds until it starts."""
    if not row["queue_position"] or row["server"]:
        return str(row["state"])
    starts_in = row["starts_in_seconds"]
    return f"waiting ({row['queue_position']}{f', {max(starts_in[1], 0):.0f} s' if starts_in else ''})"


def _requests(status: Mapping[str, Any], most: int) -> _Part:
    active = status["active_requests"]
    rows: list[tuple[object, ...]] = [
        (
            row["user"],
            row["model"] or row["path"],
            row["server"],
            _state_of(row),
            f"{row['seconds']:.1f} s",
            None if row["first_byte_seconds"] is None else f"{row['first_byte_seconds']:.2f} s",
            format_count(row["bytes_out"]),
        )
        for row in active[:most]
    ]
    if len(active) > most:
        rows.append((f"and {len(active) - most} more", "", "", "", "", "", ""))
    columns = ("user", "model", "server", "state", "for", "first byte", "bytes")
    return _Part(columns, rows, ("for", "first byte", "bytes"))
