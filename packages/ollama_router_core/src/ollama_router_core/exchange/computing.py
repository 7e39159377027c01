"""Work on large bodies, which the driver runs outside the event loop so that it does not block other requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ollama_router_core.exchange.actions import Compute, Steps

__all__ = ["LARGE", "computed"]

LARGE = 256 * 1024
"""Body size in bytes from which parsing and translation leave the event loop; below, they take a few ms."""

_Result = TypeVar("_Result")


def computed(size: int, function: Callable[[], _Result]) -> Steps[_Result]:
    """Return the function's value; `size` is the bytes that it processes. Its exceptions propagate."""
    if size < LARGE:
        return function()
    result: _Result = yield Compute(function)
    return result
