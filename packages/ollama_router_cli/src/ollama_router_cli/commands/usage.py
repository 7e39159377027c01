"""`orouter usage`: usage by user, group, model, server, host or day."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated, Any, Literal

import typer

from ollama_router_cli.arguments.options import command_group, examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.arguments.times import parse_moment
from ollama_router_cli.rendering.output import print_estimated
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_count, format_ms, print_table
from ollama_router_cli.sources.router import router_client, stream_router
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group()


By = Literal["user", "group", "model", "server", "host", "day"]
"""The dimension of the lines."""


Order = Literal["requests", "errors", "tokens-in", "cached", "tokens-out", "gpu", "wasted", "cost"]
"""The sort key, in descending order."""


Step = Literal["day", "hour"]
"""The time step of an export's lines."""


_COLUMNS = ("requests", "errors", "tokens in", "cached", "tokens out", "GPU s", "wasted s", "first p50", "p95")
_FIGURES = {
    "requests": "requests", "errors": "errors", "tokens-in": "prompt_tokens",
    "cached": "cached_tokens", "tokens-out": "completion_tokens", "gpu": "gpu_ms",
    "wasted": "wasted_ms", "cost": "cost_micros",
}  # fmt: skip
_EXAMPLES = examples(
    "orouter usage --since 7d",
    "orouter usage --by model --since 2026-11-01T00:00Z --before 2026-12-01T00:00Z",
    "orouter usage --by user --order gpu --since 30d",
    "orouter usage --csv --by user --since 30d > usage.csv",
)


@app.command(epilog=_EXAMPLES)
@asks_router
def usage(
    *,
    by: Annotated[By, typer.Option(help="Group lines by this.")] = "user",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start of the period. Default: the oldest entry.")
    ] = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Until when. Default: now.")] = None,
    order: Annotated[
        Order, typer.Option(help="Sort lines by this, largest first; days are sorted by date.")
    ] = "requests",
    csv: Annotated[bool, typer.Option("--csv", help="Write CSV: one line per step and name.")] = False,
    step: Annotated[Step, typer.Option(help="With --csv: period of one line, in UTC.")] = "day",
    router: RouterAccess,
) -> None:
    """Show or export usage of a running router.

    Prints requests, errors, tokens, GPU seconds (wasted: for clients that disconnected), p50 and p95 of the time to the
    first token, and the estimated cost of models with a price. With --csv the lines are those of the console's export:
    the first and the last step are whole.
    """
    if csv and router.as_json:
        raise typer.BadParameter("--csv and --json cannot be combined")
    asked: dict[str, Any] = {"since": _moment(since), "before": _moment(before)}
    if csv:
        with router_client(**router.place) as client:
            sys.stdout.writelines(stream_router(client, "/router/usage.csv", by=by, step=step, **asked))
    else:
        show = partial(_print, by=by)
        print_answer(router, show, "/router/usage", by=by, order=_FIGURES[order], **asked)


def _moment(text: str | None) -> float | None:
    return None if text is None else max(0.0, parse_moment(text, now=SystemClock().wall()))


def _print(view: dict[str, Any], *, by: By) -> None:
    times = {"ttft_p50_ms": view["ttft_ms"]["p50"], "ttft_p95_ms": view["ttft_ms"]["p95"]}
    lines = [*view[f"by_{by}"], {**view, **times, "name": "all"}]
    currency = view["currency"]
    columns = (by, *_COLUMNS, *((f"cost, {currency}",) if currency else ()))
    print_table(columns, [_cells(line, priced=currency is not None) for line in lines], right=columns[1:])
    print_estimated(view["estimated"])


def _cells(line: dict[str, Any], *, priced: bool) -> tuple[str | None, ...]:
    names = ("requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens")
    return (
        line["name"],
        *(format_count(line[name]) for name in names),
        *(format_count(round(line[name] / 1000)) for name in ("gpu_ms", "wasted_ms")),
        *(format_ms(line[name]) for name in ("ttft_p50_ms", "ttft_p95_ms")),
        *((f"{line['cost_micros'] / 1e6:,.2f}",) if priced else ()),
    )
