"""`orouter me`: the rights and limits of a token."""

from __future__ import annotations

from typing import Any

from ollama_router_cli.arguments.options import command_group, examples
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.rendering.output import print_result
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_count, format_ms, print_table
from ollama_router_core.errors import amount

__all__ = ["app"]

app = command_group()


@app.command(epilog=examples("orouter me", "orouter me --url http://gpu-box:11435 --token-file token.txt"))
@asks_router
def me(*, router: RouterAccess) -> None:
    """Show what your token may do and how much of its limits is left.

    Prints each limit with the grant it comes from, and each model with its first token and speed in the last week, and
    its price if it has one.
    """
    print_answer(router, _print, "/router/me")


def _print(view: dict[str, Any]) -> None:
    currency, models = view["currency"], view["models"]  # a router that sends no currency sends no models either
    print_result(f"{view['name']} ({view['role']}), {amount(len(models), 'model')}")
    _print_limits([one for one in view["limits"] if one["origin"] != "none"])
    _print_models(models, currency)


def _print_limits(limits: list[dict[str, Any]]) -> None:
    if not limits:
        return
    rows = [
        (
            one["name"].replace("_", " "),
            format_count(one["remaining"]),
            format_count(one["limit"]),
            f"{one['reset_seconds']:.0f} s",
            one["origin"],
        )
        for one in limits
    ]
    print_result()
    print_table(("limit", "left", "of", "more in", "from"), rows, right=("left", "of", "more in"))


def _print_models(models: list[dict[str, Any]], currency: str | None) -> None:
    if not models:
        return
    prices = (f"{currency} in", "out") if currency else ()
    right = ("context", "first token", "tokens/s", *prices)
    print_result()
    print_table(("model", "where", *right), [_cells(one, priced=bool(prices)) for one in models], right=right)


def _cells(one: dict[str, Any], *, priced: bool) -> tuple[str | None, ...]:
    rate = one["tokens_per_second"]
    return (
        one["name"],
        one["host"] or ("in memory" if one["warm"] else "on disk"),
        format_count(one["context"]),
        format_ms(one["ttft_ms"]),
        None if rate is None else f"{rate:.0f}",
        *(
            (None if one[name] is None else f"{one[name]:g}" for name in ("input_price", "output_price"))
            if priced
            else ()
        ),
    )
