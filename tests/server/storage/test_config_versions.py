"""Configs that were taken up, in the database that routers share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ollama_router_server.storage.config_versions import ConfigVersionStore
from ollama_router_server.storage.database import Database

pytestmark = pytest.mark.anyio

PATH = Path("/etc/ollama-router/orouter.yml")


async def test_a_text_that_several_routers_take_up_is_one_version(database: Database) -> None:
    """With who was first, and why; another file has versions of its own, and no secret is kept."""
    store = ConfigVersionStore(database, PATH)
    first = "database_url: postgresql://r:hunter2@db/r\n"
    assert await store.keep(first, 100.0, router="a:1", cause="start")
    assert not await store.keep(first, 101.0, router="b:1", cause="start")
    assert await store.keep("a: 2\n", 200.0, router="b:1", cause="file")
    await ConfigVersionStore(database, Path("/other.yml")).keep("a: 3\n", 300.0, router="c:1", cause="signal")
    told = await store.versions()
    assert [(one.number, one.at, one.router, one.cause) for one in told] == [
        (1, 100, "a:1", "start"),
        (2, 200, "b:1", "file"),
    ]
    assert "hunter2" not in told[0].text


async def test_routers_that_start_at_once_do_not_double_it(database: Database) -> None:
    """Each asks and writes in one transaction; a number is given once."""
    stores = [ConfigVersionStore(database, PATH) for _ in range(6)]
    done = await asyncio.gather(
        *(one.keep("a: 1\n", 1.0, router=f"r{number}:1", cause="start") for number, one in enumerate(stores))
    )
    assert sorted(done) == [False] * 5 + [True]
    assert len(await stores[0].versions()) == 1


async def test_the_oldest_go(database: Database) -> None:
    """No more than so many are kept."""
    store = ConfigVersionStore(database, PATH, most=3)
    for number in range(5):
        await store.keep(f"a: {number}\n", number, router="a:1", cause="file")
    assert [one.number for one in await store.versions()] == [3, 4, 5]
