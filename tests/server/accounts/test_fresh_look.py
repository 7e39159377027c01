"""Looks at the database for unknown tokens: how many there are behind a database that takes its time."""

from __future__ import annotations

import asyncio

import pytest

from ollama_router_server.accounts.fresh_look import FreshLook
from support.storage import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Nothing here depends on the event loop."""
    return "asyncio"


def looks() -> int:
    """Tasks that look, or wait to."""
    return sum(task.get_name() == "fresh-look" for task in asyncio.all_tasks())


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_behind_a_slow_database_one_looks_and_one_waits() -> None:
    """However often somebody asks; closing ends both, and whoever waits for them goes on."""
    clock, begun = FakeClock(), 0

    async def refresh() -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    fresh, waiting = FreshLook(refresh, clock), []
    for _ in range(5):
        clock.advance(1.0)
        waiting.append(asyncio.create_task(fresh.take()))
        await settle()
    assert (begun, looks()) == (1, 2)
    await fresh.aclose()
    await asyncio.gather(*waiting)
    assert (begun, looks()) == (1, 0)
