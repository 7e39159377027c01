"""`orouter series`: request rates and latencies by step."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from ollama_router_cli.arguments.options import command_group, examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.rendering.output import clean, print_result
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_count, format_ms, print_table

__all__ = ["app"]

app = command_group()


_SPAN_HELP = "hour: minutes of the last hour; day, week: hours of them."


Span = Literal["hour", "day", "week"]
"""The time range."""


@app.command(epilog=examples("orouter series", "orouter series week --json"))
@asks_router
def series(
    span: Annotated[Span, typer.Argument(metavar="SPAN", help=_SPAN_HELP)] = "hour", *, router: RouterAccess
) -> None:
    """Show requests per second and times to the first token over time.

    For the last hour also the mean number of waiting requests. Steps without requests are left out; times are UTC.
    """
    print_answer(router, _print, "/router/series", span=span)


def _print(view: dict[str, Any]) -> None:
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
