"""A note on estimated token counts."""

from __future__ import annotations

from ollama_router_cli.rendering.output import print_result
from ollama_router_core.errors import amount

__all__ = ["print_estimated"]


def print_estimated(requests: int) -> None:
    """Print the number of requests with estimated tokens, if any."""
    if requests:
        print_result(f"the tokens of {amount(requests, 'request')} are estimates: servers did not count all of them")
