"""Print the response of a running router."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ollama_router_cli.arguments.router_options import RouterAccess
from ollama_router_cli.rendering.output import print_json
from ollama_router_cli.sources.router import ask_router, router_client

__all__ = ["print_answer"]


def print_answer(
    router: RouterAccess,
    show: Callable[[dict[str, Any]], None],
    path: str,
    method: str = "GET",
    *,
    timeout: float | None = None,
    **query: Any,
) -> dict[str, Any]:
    """Query a running router, print its response by `show` (or as JSON if requested), and return it.

    `timeout` is in seconds, by default five.

    Raises:
        ConfigError, CommandFailed: see `router_client` and `ask_router`.
    """
    with router_client(**router.place) as client:
        client.timeout = timeout or client.timeout
        answer = ask_router(client, path, method, **query)
    if router.as_json:
        print_json(answer)
    else:
        show(answer)
    return answer
