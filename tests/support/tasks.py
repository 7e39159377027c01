"""Which tasks are made for requests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["tasks_for_requests"]

_ROOMS = ("ollama_router_server/relay/", "ollama_router_server/http/", "ollama_router_server/upstream/")


@contextmanager
def tasks_for_requests() -> Iterator[list[str]]:
    """The names of the coroutines that the front, the relay or the upstream run as tasks meanwhile."""
    found: list[str] = []
    loop = asyncio.get_running_loop()

    def noted(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        code = getattr(coroutine, "cr_code", None)
        if code is not None and any(room in code.co_filename for room in _ROOMS):
            found.append(code.co_qualname if hasattr(code, "co_qualname") else code.co_name)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(noted)
    try:
        yield found
    finally:
        loop.set_task_factory(None)
