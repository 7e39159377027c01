"""`orouter usage`: who used how much."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from ollama_router_cli.arguments.options import JsonOption, command_group, examples
from ollama_router_cli.arguments.router import RouterAccess, asks_router
from ollama_router_cli.arguments.times import parse_moment
from ollama_router_cli.rendering.estimates import print_estimated
from ollama_router_cli.rendering.streams import print_json
from ollama_router_cli.rendering.tables import format_count, print_table
from ollama_router_cli.sources.router import ask_router, router_client, stream_router
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group()


class By(StrEnum):
    """What lines are about."""

    USER = "user"
    GROUP = "group"
    MODEL = "model"
    SERVER = "server"


class Step(StrEnum):
    """How long a time one line of an export stands for."""

    DAY = "day"
    HOUR = "hour"


_EXAMPLES = examples(
    "orouter usage --since 7d",
    "orouter usage --by model --since 2026-11-01T00:00Z --before 2026-12-01T00:00Z",
    "orouter usage --csv --by user --since 30d > usage.csv",
)


@app.command(epilog=_EXAMPLES)
@asks_router
def usage(
    *,
    by: Annotated[By, typer.Option(help="What a line is about.")] = By.USER,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From when on. Default: from the beginning.")
    ] = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Until when. Default: now.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write CSV: a line for each step and name.")] = False,
    step: Annotated[Step, typer.Option(help="With --csv: what one line covers, in UTC.")] = Step.DAY,
    router: RouterAccess,
    as_json: JsonOption = False,
) -> None:
    """Show who used how much on a running router, or export it.

    Prints requests, errors and tokens by user, group, model or server. With --csv the lines are those of the console's
    export: the first and the last step are whole.
    """
    if csv and as_json:
        raise typer.BadParameter("--csv and --json exclude each other")
    asked: dict[str, Any] = {"since": _moment(since), "before": _moment(before)}
    with router_client(**asdict(router)) as client:
        if csv:
            sys.stdout.writelines(stream_router(client, "/router/usage.csv", by=by.value, step=step.value, **asked))
            return
        view = ask_router(client, "/router/usage", **asked)
    if as_json:
        print_json(view)
    else:
        _print(view, by)


def _moment(text: str | None) -> float | None:
    return None if text is None else max(0.0, parse_moment(text, now=SystemClock().wall()))


def _print(view: dict[str, Any], by: By) -> None:
    columns = (by.value, "requests", "errors", "tokens in", "cached", "tokens out")
    names = ("requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens")
    lines = [*view[f"by_{by.value}"], {**view, "name": "all"}]
    rows = [(row["name"], *(format_count(row[name]) for name in names)) for row in lines]
    print_table(columns, rows, right=columns[1:])
    print_estimated(view["estimated"])
