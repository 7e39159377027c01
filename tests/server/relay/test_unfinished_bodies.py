"""Bodies that never end hold a bounded amount of memory for each user."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.raw_client import RawClient
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio
MAX = 1_000_000
CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


async def test_a_user_s_unfinished_bodies_are_bounded_and_nobody_else_notices(tmp_path: Path) -> None:
    """Four of the largest size may be half sent, the fifth is 503; others are served, and this one afterwards."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, limits={"max_body": f"{MAX}B"}) as router,
        router.client() as alice,
        router.client(router.admin_token) as root,
    ):
        head = (
            f"POST /api/chat HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {router.token}\r\n"
            f"Content-Length: {MAX}\r\n\r\n"
        ).encode()
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(RawClient.open(router.port)) for _ in range(5)]
            for client in clients:
                await client.send(head + b"x" * (MAX - 1))
            answers = [asyncio.create_task(client.until(b"\r\n\r\n")) for client in clients]
            done, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            other = await root.post("/api/chat", json=CHAT)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        (refused,) = [task.result() for task in done]
        assert b" 503 " in refused.split(b"\r\n")[0]
        assert b"retry-after: 1" in refused.lower()
        assert other.status_code == 200
        assert (await alice.post("/api/chat", json=CHAT)).status_code == 200
