"""Options of a simulation: its strategies, and its changes to the fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from ollama_router_cli.arguments.options import in_place_of, option
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.simulation.comparison import ROUTERS
from ollama_router_core.simulation.what_if import Change

__all__ = ["STRATEGIES_HELP", "asks_what_if", "chosen_routers"]

STRATEGIES_HELP = "Comma-separated names, `own` for the router's strategies, or `all`."


def _server_and_model(text: str) -> tuple[str, str]:
    server, _, model = text.partition("=")
    if not server or not model:
        raise typer.BadParameter(f"{text}: write SERVER=MODEL")
    return server, model


def _read(typed: Mapping[str, Any]) -> Change:
    return Change(
        num_parallel=typed["num_parallel"],
        max_wait=typed["max_wait"],
        more=tuple(typed["add"] or ()),
        gpus=tuple(typed["add_gpu"] or ()),
        off=tuple(typed["off"] or ()),
        put=tuple(map(_server_and_model, typed["put"] or ())),
    )


asks_what_if = in_place_of(
    "change",
    [
        option("add", list[str] | None, "Add one more server like this one. Repeatable.", metavar="SERVER"),
        option(
            "add_gpu",
            list[str] | None,
            ("Add one more server with this GPU (rtx-4090, l40s, ...; or GIB,GB/s,TFLOP/s). Repeatable."),
            metavar="GPU",
        ),
        option("off", list[str] | None, "Leave out this server. Repeatable.", metavar="SERVER"),
        option("put", list[str] | None, "Put this model on this server. Repeatable.", metavar="SERVER=MODEL"),
        option("num_parallel", int | None, "Slots of every loaded model, on every server.", min=1, metavar="COUNT"),
        option("max_wait", float | None, "Another value of `queue.max_wait`.", min=0.001, metavar="SECONDS"),
    ],
    _read,
)
"""Adds the options of the parameter `change` to a command."""


def chosen_routers(text: str) -> Sequence[str]:
    """Return the strategies and baselines that an option names.

    Raises:
        BadParameter: one of them is unknown.
    """
    if text in {"all", "own"}:
        return list(ROUTERS if text == "all" else STRATEGIES)
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in ROUTERS]
    if unknown or not names:
        raise typer.BadParameter(f"unknown: {', '.join(unknown) or 'nothing'}; known: {', '.join(ROUTERS)}, own, all")
    return names
