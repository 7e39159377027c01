"""What everybody sees and does of oneself."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from server.console.test_pages import OURS, signed_in
from support.records import make_record
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


async def test_a_user_makes_a_token_of_batch_priority(tmp_path: Path) -> None:
    """What is asked with it is of that priority, whatever its client says; the user's other token is as it was."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as alice,
    ):
        made = await alice.post("/router/me/tokens", json={"name": "nightly", "batch": True})
        assert (made.status_code, made.json()["batch"]) == (201, True)
        await router.services.authenticator.refresh()
        me = (await alice.get("/router/me")).json()
        async with router.client(made.json()["token"]) as nightly:
            assert (await nightly.get("/router/me")).json()["grants"]["batch"] is True
    assert me["grants"]["batch"] is None
    assert [(token["name"], token["batch"]) for token in me["tokens"]] == [("default", False), ("nightly", True)]


async def test_a_token_of_batch_priority_makes_none_of_another(tmp_path: Path) -> None:
    """Nor does a session of the console that it opened: a leaked one would raise its own priority."""
    async with (
        running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client() as alice,
    ):
        token = (await alice.post("/router/me/tokens", json={"name": "nightly", "batch": True})).json()["token"]
        await router.services.authenticator.refresh()
        async with router.client(token) as nightly:
            made = await nightly.post("/router/me/tokens", json={"name": "fast"})
            await nightly.post("/console/session", json={"token": token}, headers=OURS)
            in_console = await nightly.post("/console/act/me/tokens", json={"name": "faster"}, headers=OURS)
        assert [(each.status_code, each.json()["batch"]) for each in (made, in_console)] == [(201, True)] * 2
        tokens = (await alice.get("/router/me")).json()["tokens"]
    assert {token["name"]: token["batch"] for token in tokens} == {
        "default": False, "fast": True, "faster": True, "nightly": True,
    }  # fmt: skip


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
        assert sum(day["requests"] for day in usage["by_day"]) == 2
        assert usage["currency"] is None


async def test_limits_say_whose_they_are_and_models_what_they_cost(tmp_path: Path) -> None:
    """An own grant before the group's; hosts' models are those that the user may use, with their prices.

    One that is assigned to a host is none of the fleet's, also where the host is not for this user.
    """
    far = {"host": "127.0.0.1", "port": 9, "models": {"gpt": {"input_price": 2.5, "context_length": 1000}}}
    models = {"explicit_assignments": {"gpt": "far", "secret": "far", "llama3.2:1b": "off"}}
    async with (
        OllamaSimulator(models=[model("llama3.2:3b"), model("llama3.2:1b")]) as sim,
        running_router(
            tmp_path,
            {"one": server_entry(sim)},
            external_hosts={"far": far, "off": {**far, "enabled": False}},
            model_config=models,
            currency="EUR",
        ) as router,
        router.client() as alice,
        router.client(router.admin_token) as admin,
    ):
        grants = {"tokens_per_day": 100, "requests_per_minute": 5, "models": ["gpt", "llama*"]}
        await admin.post("/router/groups", json={"name": "staff", "grants": grants})
        await admin.patch("/router/users/alice", json={"group": "staff", "grants": {"requests_per_minute": 7}})
        await router.services.authenticator.refresh()
        row = make_record(
            1, model_served="gpt", cost_micros=5_000_000, ttft_ms=250.0, started_at=router.services.clock.wall() - 60
        )
        await router.services.request_log.insert([row])
        told = (await alice.get("/router/me")).json()
        page = await signed_in(router, router.token)
        text = (await page.get("/console/")).text
        await page.aclose()
    limits = {one["name"]: (one["origin"], one["limit"]) for one in told["limits"]}
    assert limits["requests_per_minute"] == ("own", 7)
    assert limits["tokens_per_day"] == ("group", 100)
    assert limits["concurrent_requests"] == ("none", None)
    gpt, llama = told["models"]
    assert (gpt["name"], gpt["host"], gpt["context"], gpt["ttft_ms"]) == ("gpt", "far", 1000, 250.0)
    assert (gpt["input_price"], gpt["output_price"], told["currency"]) == (2.5, 0.0, "EUR")
    assert (llama["name"], llama["host"], llama["warm"], llama["input_price"]) == ("llama3.2:3b", None, False, None)
    assert "your group" in text
    assert "EUR in / out" in text
    assert "Your requests of seven days: 1, 0 failed, about 5.00 EUR" in text
    assert "No limit: concurrent requests, tokens per minute, tokens per month." in text
