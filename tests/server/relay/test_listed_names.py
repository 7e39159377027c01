"""What lists tell of names that no server has: aliases, and models of external hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.storage.identities import UserChange
from support.eventually import eventually_async
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
CONFIG = {
    "model_config": {
        "aliases": {"claude-haiku-4-5": MODEL, "best": "paid", "again": "best"},
        "explicit_assignments": {"paid": "host"},
    },
    "external_hosts": {"host": {"host": "api.anthropic.com", "models": {"paid": "claude-sonnet-4-5"}}},
}
AS_ANTHROPIC = {"anthropic-version": "2023-06-01"}


async def test_an_alias_is_listed_as_every_other_name(tmp_path: Path) -> None:
    """In each dialect, by itself, and shown by Ollama's command as what it stands for."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, **CONFIG) as router,
        router.client() as client,
    ):
        tags = {row["name"]: row for row in (await client.get("/api/tags")).json()["models"]}
        models = {row["id"]: row for row in (await client.get("/v1/models")).json()["data"]}
        page = (await client.get("/v1/models", headers=AS_ANTHROPIC)).json()
        one = (await client.get("/v1/models/claude-haiku-4-5", headers=AS_ANTHROPIC)).json()
        shown = await client.post("/api/show", json={"model": "claude-haiku-4-5"})
    names = {MODEL, "paid", "claude-haiku-4-5", "best", "again"}
    assert tags.keys() == models.keys() == {row["id"] for row in page["data"]} == names
    assert tags["claude-haiku-4-5"]["remote_model"] == MODEL
    assert tags["claude-haiku-4-5"]["digest"] == tags[MODEL]["digest"]
    assert one["display_name"] == f"claude-haiku-4-5 ({MODEL})"
    assert one["max_input_tokens"] == one["max_tokens"] > 0
    assert shown.status_code == 200
    for name in ("best", "again", "paid"):
        assert tags[name]["capabilities"] == ["completion", "tools", "vision", "thinking"]
        assert tags[name]["remote_model"] == "claude-sonnet-4-5"
    limits = {row["id"]: (row["max_input_tokens"], row["max_tokens"]) for row in page["data"]}
    assert limits["best"] == limits["paid"] == (200_000, 64_000)


async def test_an_alias_of_what_a_user_may_not_use_is_not_listed(tmp_path: Path) -> None:
    """Neither in a list nor by itself."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, **CONFIG) as router,
        router.client() as client,
    ):
        await router.services.users.change("alice", UserChange(grants={"models": ["paid"]}))

        async def is_hidden() -> bool:
            return {row["id"] for row in (await client.get("/v1/models")).json()["data"]} == {"paid", "best", "again"}

        await eventually_async(is_hidden)
        alone = await client.get("/v1/models/claude-haiku-4-5")
    assert alone.status_code == 404


async def test_what_a_host_s_settings_say_takes_precedence(tmp_path: Path) -> None:
    """Of what is known of well-known models."""
    told = {"name": "gpt-5", "capabilities": ["completion"], "context_length": 1000, "max_output_tokens": 100}
    config = {
        "model_config": {"explicit_assignments": {"paid": "host"}},
        "external_hosts": {"host": {"host": "api.openai.com", "models": {"paid": told}}},
    }
    async with running_router(tmp_path, {}, **config) as router, router.client() as client:
        (listed,) = (await client.get("/v1/models", headers=AS_ANTHROPIC)).json()["data"]
        shown = (await client.post("/api/show", json={"model": "paid"})).json()
    assert (listed["max_input_tokens"], listed["max_tokens"]) == (1000, 100)
    assert (shown["capabilities"], shown["model_info"]) == (["completion"], {"general.context_length": 1000})
