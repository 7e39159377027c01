"""What figures of tokens say of those that nobody counted."""

from __future__ import annotations

from ollama_router_cli.rendering.output import print_result
from ollama_router_core.errors import amount

__all__ = ["print_estimated"]


def print_estimated(requests: int) -> None:
    """Say of how many requests the tokens are estimates, if of any."""
    if requests:
        print_result(f"the tokens of {amount(requests, 'request')} are estimates: servers did not count all of them")
