"""`orouter series`: how much was asked and how long it took, step by step."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from ollama_router_cli.arguments.options import JsonOption, command_group, examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.rendering.output import clean, print_json, print_result
from ollama_router_cli.rendering.tables import format_count, format_ms, print_table
from ollama_router_cli.sources.router import ask_router, router_client

__all__ = ["app"]

app = command_group()


_SPAN_HELP = "hour: minutes of the last hour; day, week: hours of them."


class Span(StrEnum):
    """How much time is told."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


@app.command(epilog=examples("orouter series", "orouter series week --json"))
@asks_router
def series(
    span: Annotated[Span, typer.Argument(metavar="SPAN", help=_SPAN_HELP)] = Span.HOUR,
    *,
    router: RouterAccess,
    as_json: JsonOption = False,
) -> None:
    """Show requests a second and first tokens, step by step.

    Of the last hour also how many waited, on the average. Steps without requests are left out; times are UTC.
    """
    with router_client(**asdict(router)) as client:
        view = ask_router(client, "/router/series", span=span.value)
    if as_json:
        print_json(view)
        return
    print_result(clean(view["sentence"]))
    rows = [_row(view, one) for one in view["steps"] if one["requests"]]
    if rows:
        print_result()
        columns = ("from", "requests", "failed", "requests/s", "waiting", "p50", "p95", "tokens/s")
        print_table(columns, rows, right=columns[1:])


def _row(view: dict[str, Any], one: dict[str, Any]) -> tuple[object, ...]:
    start = datetime.fromtimestamp(one["start"], UTC)
    return (
        f"{start:%H:%M}" if view["span"] == "hour" else f"{start:%Y-%m-%d %H:%M}",
        format_count(one["requests"]),
        format_count(one["failed"]),
        f"{one['per_second']:.3g}",
        None if one["waiting"] is None else f"{one['waiting']:.2g}",
        format_ms(one["ttft_p50_ms"]),
        format_ms(one["ttft_p95_ms"]),
        f"{one['completion_tokens'] / view['step_seconds']:.1f}",
    )
