"""The pictures of the documentation; written with `nox -s browser -- --pictures docs/images`."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser

from browser.conftest import signed_in
from ollama_router_core.testing import OllamaSimulator
from support.eventually import eventually_async
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

GIB = 1024**3
FLEET = {
    "big": (48, ["llama3.3:70b", "llama3.2:3b"]),
    "mid": (16, ["qwen3:8b", "llama3.2:3b"]),
    "old": (8, ["llama3.2:3b"]),
}


async def test_pictures(browser: Browser, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A fleet of four with a queue and one server that is down."""
    folder = request.config.getoption("--pictures")
    if folder is None:
        pytest.skip("asked for with --pictures FOLDER")
    async with AsyncExitStack() as stack:
        servers = {"mac": {"host": "127.0.0.1", "port": 9, "max_memory_gb": 24}}
        for name, (gib, models) in FLEET.items():
            simulator = OllamaSimulator(models=models, vram=gib * GIB, answer_tokens=150, time_scale=1.0)
            sim = await stack.enter_async_context(simulator)
            servers[name] = server_entry(sim, max_memory_gb=gib, max_concurrent=1)
        router = await stack.enter_async_context(running_router(tmp_path, servers))
        for model in ("llama3.2:3b", "qwen3:8b"):
            await _ask(router, model)
        (slow,) = (row for row in await router.rows(2) if row.model_asked == "qwen3:8b")
        asking = [asyncio.create_task(_ask(router, model)) for model in ["llama3.2:3b", "qwen3:8b", "qwen3:8b"] * 3]
        await eventually_async(lambda: _waits(router))
        for name, path, scheme, token, width, height in (
            ("now", "now", "dark", router.admin_token, 1440, 900),
            ("request", f"requests/{slow.id}", "light", router.admin_token, 1280, 720),
            ("start-phone", "", "light", router.token, 390, 844),
        ):
            context = {"color_scheme": scheme, "viewport": {"width": width, "height": height}}
            async with signed_in(browser, router, token, **context) as watched:
                await watched.open(path)
                await watched.page.screenshot(path=f"{folder}/console-{name}.png")
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _waits(router: RunningRouter) -> bool:
    return router.services.admission.waiting >= 3


async def _ask(router: RunningRouter, model: str) -> httpx.Response:
    async with router.client() as client:
        body = {"model": model, "messages": [{"role": "user", "content": "Why is the sky blue? " * 40}]}
        return await client.post("/api/chat", json=body)
