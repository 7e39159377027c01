"""Users, tokens, groups and usage over HTTP, and their description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.access.grants import Grants
from ollama_router_core.access.limits import day_of
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.admin.admin_routes import OPERATIONS
from ollama_router_server.admin.openapi import openapi_document
from ollama_router_server.admin.request_bodies import GrantsBody
from ollama_router_server.storage.token_usage import TokenUsage
from support.records import make_record
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


async def test_a_user_from_first_to_last(tmp_path: Path) -> None:
    """Made, shown, changed, used, deleted: each at once in force."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        made = await admin.post("/router/users", json={"name": "bob", "grants": {"models": ["llama*"]}})
        assert made.status_code == 201
        assert made.headers["cache-control"] == "no-store"
        await router.services.authenticator.refresh()
        async with router.client(made.json()["token"]) as bob:
            assert (await bob.post("/api/chat", json=CHAT)).status_code == 200
            changed = await admin.patch("/router/users/bob", json={"grants": {"models": ["qwen*"]}})
            assert changed.json()["grants"]["models"] == ["qwen*"]
            await router.services.authenticator.refresh()
            assert (await bob.post("/api/chat", json=CHAT)).status_code == 403
        await router.rows(2)
        shown = (await admin.get("/router/users/bob")).json()
        assert (shown["requests"], shown["errors"], shown["role"]) == (2, 1, "user")
        gone = await admin.delete("/router/users/bob")
        assert gone.json() == {"name": "bob", "deleted": True, "log_rows": 2}
        assert (await admin.get("/router/users/bob")).json()["code"] == "unknown_user"


async def test_tokens_and_groups(tmp_path: Path) -> None:
    """A second token works and ends; a group's grants hold for its members."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        token = (await admin.post("/router/users/alice/tokens", json={"name": "laptop"})).json()["token"]
        assert (await admin.post("/router/users/alice/tokens", json={"name": "laptop"})).status_code == 409
        made = await admin.post("/router/groups", json={"name": "team", "grants": {"requests_per_minute": 0}})
        assert made.status_code == 201
        await admin.patch("/router/users/alice", json={"group": "team"})
        assert (await admin.delete("/router/groups/team")).json()["code"] == "group_in_use"
        await router.services.authenticator.refresh()
        async with router.client(token) as laptop:
            assert (await laptop.post("/api/chat", json=CHAT)).status_code == 429
            await admin.patch("/router/users/alice", json={"group": None})
            await router.services.authenticator.refresh()
            assert (await laptop.post("/api/chat", json=CHAT)).status_code == 200
            await admin.delete("/router/users/alice/tokens/laptop")
            await router.services.authenticator.refresh()
            assert (await laptop.post("/api/chat", json=CHAT)).status_code == 401
        names = [one["name"] for one in (await admin.get("/router/users/alice/tokens")).json()["tokens"]]
        assert names == ["default"]


async def test_usage_adds_up(tmp_path: Path) -> None:
    """By user, model and server; since a moment, for a user."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        answer = (await client.post("/api/chat", json=CHAT)).json()
        await router.rows(1)
        usage = (await admin.get("/router/usage", params={"user": "alice"})).json()
        assert [(row["name"], row["requests"]) for row in usage["by_user"]] == [("alice", 1)]
        assert usage["completion_tokens"] == answer["eval_count"]
        assert (await admin.get("/router/usage", params={"since": 4e9})).json()["requests"] == 0
        assert (await admin.get("/router/usage", params={"since": "nan"})).status_code == 400


async def test_the_list_tells_what_was_used_of_late(tmp_path: Path) -> None:
    """Requests of seven days, tokens of the limit that is nearer to its end, when the access expires."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
    ):
        services = router.services
        wall = services.clock.wall()
        grants = {"tokens_per_month": 1_000, "expires_at": wall + 1e6}
        await admin.post("/router/groups", json={"name": "staff", "grants": grants})
        await admin.patch("/router/users/alice", json={"group": "staff", "grants": {"tokens_per_day": 100}})
        await TokenUsage(services.database).add({("alice", day_of(wall)): 60})
        ages = (0.0, 6.0, 8.0)
        rows = [make_record(n, started_at=(day_of(wall) - age) * 86_400.0) for n, age in enumerate(ages)]
        await services.request_log.insert(rows)
        alice, root = (await admin.get("/router/users")).json()["users"]
    assert (alice["requests"], alice["requests_7d"]) == (3, 2)
    assert (alice["tokens_used"], alice["tokens_limit"], alice["tokens_per"]) == (60, 100, "day")
    assert alice["expires_at"] == grants["expires_at"]
    assert (root["tokens_limit"], root["expires_at"], root["requests_7d"]) == (None, None, 0)


BAD_BODIES: list[Any] = [
    b"",
    b"{",
    b"[]",
    b'{"name": "x", "planet": "mars"}',
    b'{"name": ""}',
    b'{"name": 7}',
    b'{"name": " x"}',
    b'{"name": "x", "role": "root"}',
    b'{"name": "x", "grants": {"networks": ["nowhere"]}}',
    b'{"name": "x", "grants": {"tokens_per_day": -1}}',
]


async def test_bodies_that_cannot_be_meant_are_400_and_make_nothing(tmp_path: Path) -> None:
    """With a text that says where."""
    async with (
        OllamaSimulator() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        for body in BAD_BODIES:
            answer = await admin.post("/router/users", content=body)
            assert answer.status_code == 400, body
            assert answer.json().keys() == {"error", "code"}
        assert (await admin.post("/router/users", content=b" " * 70_000)).status_code == 413
        assert len((await admin.get("/router/users")).json()["users"]) == 2


async def test_other_methods_and_routes_are_told_apart(tmp_path: Path) -> None:
    """Other methods: 405 with Allow. Other routes: 404."""
    async with (
        OllamaSimulator() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        wrong = await admin.put("/router/users")
        assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
        assert "GET" in wrong.headers["allow"]
        assert (await admin.get("/router/planets")).json()["code"] == "unknown_route"


async def test_the_description_is_served_and_complete(tmp_path: Path) -> None:
    """Every operation with its bodies; grants are described as they are checked."""
    async with (
        OllamaSimulator() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        served = (await admin.get("/router/openapi.json")).json()
    assert served == openapi_document()
    assert set(GrantsBody.model_fields) == set(Grants.__struct_fields__)
    described = {(method, path) for path, methods in served["paths"].items() for method in methods}
    assert described == {(operation.method, operation.path.replace(":path", "")) for operation in OPERATIONS}
