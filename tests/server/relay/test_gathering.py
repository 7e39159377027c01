"""Routes that every server answers together."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from ollama_router_core.testing import OllamaSimulator, Silence, model
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio


async def test_lists_are_the_union_of_all_servers(tmp_path: Path) -> None:
    """A model on two servers stands once; every field is as its server sent it; assigned ids are listed too."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b"), model("llama3.2:3b")], version="0.32.15") as one,
        OllamaSimulator(models=[model("llama3.2:3b")], version="0.9.7") as two,
        running_router(
            tmp_path,
            {"one": server_entry(one), "two": server_entry(two)},
            external_hosts={"openai": {"host": "api.openai.com"}},
            model_config={"explicit_assignments": {"gpt-4o": "openai"}},
        ) as router,
        router.client() as client,
    ):
        tags = (await client.get("/api/tags")).json()["models"]
        version = (await client.get("/api/version")).json()
        models = (await client.get("/v1/models")).json()["data"]
        await client.post("/api/generate", json={"model": "llama3.1:8b", "stream": False})
        loaded = (await client.get("/api/ps")).json()["models"]
    assert sorted(row["name"] for row in tags) == ["llama3.1:8b", "llama3.2:3b"]
    assert {"size", "digest", "details", "modified_at"} <= tags[0].keys()
    assert version == {"version": "0.9.7"}
    assert sorted(row["id"] for row in models) == ["gpt-4o", "llama3.1:8b", "llama3.2:3b"]
    assert [row["name"] for row in loaded] == ["llama3.1:8b"]
    assert {"size_vram", "expires_at", "context_length"} <= loaded[0].keys()


async def test_a_hanging_server_does_not_hold_up_the_list(tmp_path: Path) -> None:
    """The answer comes within the deadline with what the others have."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as one,
        OllamaSimulator(models=[model("llama3.2:3b")]) as two,
        running_router(tmp_path, {"one": server_entry(one), "two": server_entry(two)}) as router,
        router.client() as client,
    ):
        two.misbehave(Silence(), path="/api/tags")
        before = anyio.current_time()
        tags = (await client.get("/api/tags")).json()["models"]
    assert [row["name"] for row in tags] == ["llama3.1:8b"]
    assert anyio.current_time() - before < 10
