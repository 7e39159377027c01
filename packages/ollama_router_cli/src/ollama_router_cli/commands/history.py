"""`orouter history`: the events of a day, or its simulation in another scenario."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ollama_router_cli.arguments.options import command_group, examples, in_place_of, option
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.rendering.output import clean, print_result
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_count, print_table

__all__ = ["app"]

app = command_group()

_REPLAY_TIMEOUT = 150.0

_WORLD = in_place_of(
    "world",
    [
        option("strategy", str | None, "Replay the day with this strategy. Needs an admin's token.", metavar="NAME"),
        option("add", str | None, "Add one more server like this one.", metavar="SERVER"),
        option("add_gpu", str | None, "Add one more server with this GPU (or GIB,GB/s,TFLOP/s).", metavar="GPU"),
        option("off", str | None, "Leave out this server.", metavar="SERVER"),
        option("put", str | None, "Put this model on this server.", metavar="SERVER=MODEL"),
        option("num_parallel", int | None, "Slots of every loaded model.", min=1, metavar="COUNT"),
        option("max_wait", float | None, "Another value of `queue.max_wait`.", metavar="SECONDS", min=0.001),
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
) -> None:
    """Show one day: models by server, failures, loads.

    Prints which models each server served and when, and how many requests failed or caused a load. Times are UTC, in
    steps of two minutes. With `--strategy`, `--add`, `--add-gpu`, `--off`, `--put`, `--num-parallel` or
    `--max-wait` the router simulates the day's requests under that change, for two minutes at most.
    """
    if any(world.values()):
        print_answer(router, _print, "/router/history/whatif", timeout=_REPLAY_TIMEOUT, day=day, **world)
    else:
        print_answer(router, _print, "/router/history", day=day)


def _print(view: dict[str, Any]) -> None:
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
