"""What takes long because a body is large is the driver's to carry out: others must not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ollama_router_core.exchange.actions import Compute, Steps

__all__ = ["LARGE", "computed"]

LARGE = 256 * 1024
"""Bytes of a body from which on it is parsed and translated beside the event loop; below, that takes a few ms."""

_Result = TypeVar("_Result")


def computed(size: int, function: Callable[[], _Result]) -> Steps[_Result]:
    """Compute the function's value; `size` is how many bytes it goes through. What it raises is raised."""
    if size < LARGE:
        return function()
    result: _Result = yield Compute(function)
    return result
