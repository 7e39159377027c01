"""What everybody sees and does of oneself."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


async def test_a_user_makes_and_revokes_an_own_token(tmp_path: Path) -> None:
    """It works at once, is another user's business in no way, and is in the audit trail under the user's name."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as alice,
        router.client(router.admin_token) as admin,
    ):
        made = await alice.post("/router/me/tokens", json={"name": "laptop"})
        assert (made.status_code, made.json()["user"]) == (201, "alice")
        await router.services.authenticator.refresh()
        async with router.client(made.json()["token"]) as laptop:
            assert (await laptop.get("/router/me")).json()["name"] == "alice"
        assert (await alice.post("/router/me/tokens", json={"name": "laptop"})).status_code == 409
        assert (await alice.delete("/router/me/tokens/laptop")).json()["deleted"] is True
        assert (await alice.delete("/router/me/tokens/laptop")).status_code == 404
        trail = (await admin.get("/router/audit", params={"actor": "alice"})).json()["entries"]
        assert [entry["action"] for entry in trail] == ["token.revoke", "token.create"]


async def test_own_usage_is_the_user_s_alone(tmp_path: Path) -> None:
    """By model, of the last days."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as alice,
        router.client(router.admin_token) as admin,
    ):
        for client in (alice, alice, admin):
            await client.post("/api/chat", json=CHAT)
        await router.rows(3)
        usage = (await alice.get("/router/me/usage", params={"days": 1})).json()
        assert (usage["requests"], usage["errors"]) == (2, 0)
        assert [(row["name"], row["requests"]) for row in usage["by_model"]] == [("llama3.2:3b", 2)]
