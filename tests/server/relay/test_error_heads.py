"""Heads of refusals are those that Ollama would write."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("path", "body", "translated"),
    [
        ("/api/chat", {"model": "nope", "messages": HI}, False),
        ("/v1/chat/completions", {"model": "nope", "messages": HI}, True),
        ("/v1/chat/completions", {"model": "bad name!", "messages": HI}, True),
        ("/v1/chat/completions", {"model": "", "messages": HI}, True),
        ("/v1/chat/completions", {"model": 5, "messages": HI}, False),
        ("/v1/messages", {"model": "nope", "messages": HI, "max_tokens": 1}, True),
        ("/v1/messages", {"model": "", "messages": HI, "max_tokens": 1}, False),
    ],
)
async def test_the_head_tells_who_found_the_mistake(
    tmp_path: Path, path: str, body: dict[str, object], translated: bool
) -> None:
    """A mistake in a /v1 body has a charset; one about its model has none, and a line end, as from a server."""
    async with (
        OllamaSimulator(models=["llama3.1:8b"]) as simulator,
        running_router(tmp_path, {"one": server_entry(simulator)}) as router,
        router.client() as client,
    ):
        through = await client.post(path, json=body)
    kind = "application/json" if translated else "application/json; charset=utf-8"
    assert through.headers["content-type"] == kind
    assert through.content.endswith(b"}\n" if translated else b"}")
