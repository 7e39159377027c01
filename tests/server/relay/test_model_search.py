"""Looking for a model that no server is known to have."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, Silence
from support.eventually import eventually
from support.raw_client import RawClient, chat, request_bytes
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio


async def test_a_look_ends_with_the_router(tmp_path: Path) -> None:
    """Nothing of it goes on in the event loop of a program that embeds the router."""
    async with OllamaSimulator(models=["llama3.2:3b"]) as simulator:
        async with running_router(tmp_path, {"one": server_entry(simulator)}) as router:
            await eventually(lambda: router.services.fleet.servers["one"].up)
            simulator.misbehave(Silence(), path="/api/tags")
            async with RawClient.open(router.port) as client:
                await client.send(request_bytes(router.token, chat()))
                await eventually(looking)
        assert not looking()


def looking() -> bool:
    """Whether a look is on its way."""
    return any("_look_for_models" in repr(task.get_coro()) for task in asyncio.all_tasks())
