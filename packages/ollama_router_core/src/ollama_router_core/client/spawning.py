"""Background tasks that outlive the request that starts them, on asyncio and trio."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["spawn"]

_tasks: set[asyncio.Task[Any]] = set()


def spawn(function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Run a function in a background task of the running event loop. The function must not raise."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        trio.lowlevel.spawn_system_task(partial(function, *arguments))
        return
    task = sys.modules["asyncio"].ensure_future(function(*arguments))  # the running loop has imported it
    _tasks.add(task)  # the loop keeps only weak references
    task.add_done_callback(_tasks.discard)
