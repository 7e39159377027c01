"""Large bodies are parsed and translated beside the event loop: others do not wait for them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.exchange import serving
from ollama_router_core.exchange.computing import LARGE
from ollama_router_core.testing import OllamaSimulator, model
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio
CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "x" * LARGE}], "stream": False}


class Gate:
    """A function that waits, in whichever thread calls it, until it may return."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self._function = function

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """Wait, then call."""
        self.entered.set()
        assert self.opened.wait(20), "nobody opened the gate: was the event loop waiting here?"
        return self._function(*arguments, **more)


async def test_others_are_answered_while_a_large_request_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate opens after `/livez` has answered, and the request is then served."""
    gate = Gate(serving.parse_request)
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        monkeypatch.setattr(serving, "parse_request", gate)
        large = asyncio.create_task(client.post("/api/chat", json=CHAT))
        await eventually(gate.entered.is_set)
        assert (await client.get("/livez")).status_code == 200
        assert not large.done()
        gate.opened.set()
        assert (await large).status_code == 200


async def test_what_is_wrong_with_a_large_request_is_told(tmp_path: Path) -> None:
    """An error raised beside the event loop is the answer, as for a small request."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        answer = await client.post("/api/chat", content=json.dumps(CHAT) + "x")
    assert answer.status_code == 400


async def test_a_client_that_leaves_while_its_request_is_parsed_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent for it, and the row says that it left."""
    gate = Gate(serving.parse_request)
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        async with router.client() as client:
            monkeypatch.setattr(serving, "parse_request", gate)
            large = asyncio.create_task(client.post("/api/chat", json=CHAT))
            await eventually(gate.entered.is_set)
            large.cancel()
            await asyncio.gather(large, return_exceptions=True)
        rows = await router.rows(1)
        gate.opened.set()
        assert [row.status for row in rows] == [499]
        assert sim.requests_to("/api/chat") == []
