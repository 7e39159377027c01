"""`orouter history`: what happened on a day, or would have in another world."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ollama_router_cli.arguments.options import JsonOption, command_group, examples, in_place_of, option
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.rendering.output import clean, print_json, print_result
from ollama_router_cli.rendering.tables import format_count, print_table
from ollama_router_cli.sources.router import ask_router, router_client

__all__ = ["app"]

app = command_group()

_REPLAY_TIMEOUT = 150.0

_WORLD = in_place_of(
    "world",
    [
        option(
            "strategy",
            str | None,
            None,
            metavar="NAME",
            help="What if this strategy had decided? Needs an admin's token.",
        ),
        option("add", str | None, None, metavar="SERVER", help="What if there had been one more server like this one?"),
        option(
            "add_gpu",
            str | None,
            None,
            metavar="GPU",
            help="What if there had been one more server, with this GPU (or GIB,GB/s,TFLOP/s)?",
        ),
        option("off", str | None, None, metavar="SERVER", help="What if this server had taken nothing?"),
        option("put", str | None, None, metavar="SERVER=MODEL", help="What if this server had had this model, too?"),
        option(
            "num_parallel",
            int | None,
            None,
            min=1,
            metavar="COUNT",
            help="What if every loaded model had had so many slots?",
        ),
        option(
            "max_wait",
            float | None,
            None,
            metavar="SECONDS",
            min=0.001,
            help="What if `queue.max_wait` had been this?",
        ),
    ],
    dict,
)


@app.command(
    epilog=examples(
        "orouter history --day 2026-11-28",
        "orouter history --day 2026-11-28 --strategy fastest",
        "orouter history --add big --json",
    )
)
@_WORLD
@asks_router
def history(
    *,
    day: Annotated[str | None, typer.Option(metavar="DAY", help="As 2026-11-28, UTC. Default: today.")] = None,
    world: dict[str, Any],
    router: RouterAccess,
    as_json: JsonOption = False,
) -> None:
    """Show what happened on a day: models by server, failures, loads.

    Prints which models each server answered with and when, and how many requests failed and had a model loaded. Times
    are UTC, in steps of two minutes. With `--strategy`, `--add`, `--add-gpu`, `--off`, `--put`, `--num-parallel` or
    `--max-wait` the day's requests are served again in virtual time, by the router, for two minutes at most.
    """
    with router_client(**asdict(router)) as client:
        if not any(world.values()):
            view = ask_router(client, "/router/history", day=day)
        else:
            client.timeout = _REPLAY_TIMEOUT
            view = ask_router(client, "/router/history/whatif", day=day, **world)
    if as_json:
        print_json(view)
        return
    print_result(clean(view["sentence"] if "sentence" in view else view["answer"]["sentence"]))
    rows = [_row(view, lane["server"], block) for lane in view["lanes"] for block in lane["blocks"]]
    if rows:
        print_result()
        columns = ("server", "model", "from", "to", "requests", "failed", "loads")
        print_table(columns, rows, right=("requests", "failed", "loads"))


def _row(view: dict[str, Any], server: str, block: dict[str, Any]) -> tuple[object, ...]:
    counts = (format_count(block[name]) for name in ("requests", "errors", "loads"))
    times = (_clock(step * view["step_seconds"]) for step in (block["begin"], block["end"] + 1))
    return (server, block["model"], *times, *counts)


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds % 3600 // 60:02}"
