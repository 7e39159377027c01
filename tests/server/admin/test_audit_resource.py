"""The audit trail over HTTP: what admins do here is told, with their name and address."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.storage.audit_log import Actor, AuditAction, Via
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio


async def test_what_an_admin_does_over_http_is_told(tmp_path: Path) -> None:
    """Users, tokens, groups and drains."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.post("/router/users", json={"name": "bob"})
        await admin.patch("/router/users/bob", json={"active": False})
        await admin.post("/router/users/bob/tokens", json={"name": "laptop"})
        await admin.delete("/router/users/bob/tokens/laptop")
        await admin.delete("/router/users/bob")
        await admin.post("/router/groups", json={"name": "team"})
        await admin.patch("/router/groups/team", json={"grants": {"requests_per_minute": 5}})
        await admin.delete("/router/groups/team")
        await admin.post("/router/servers/one/drain")
        await admin.post("/router/servers/one/undrain")
        await admin.post("/router/servers/nowhere/drain")
        entries = (await admin.get("/router/audit", params={"limit": 10})).json()["entries"]
        assert [(entry["action"], entry["subject"]) for entry in reversed(entries)] == [
            ("user.create", "bob"),
            ("user.deactivate", "bob"),
            ("token.create", "bob"),
            ("token.revoke", "bob"),
            ("user.delete", "bob"),
            ("group.create", "team"),
            ("group.change", "team"),
            ("group.delete", "team"),
            ("server.drain", "one"),
            ("server.undrain", "one"),
        ]
        assert {(entry["actor"], entry["via"], entry["address"]) for entry in entries} == {
            ("root", "http", "127.0.0.1")
        }


async def test_entries_are_chosen_by_the_query(tmp_path: Path) -> None:
    """By time, actor, action and number; a mistake is named."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.post("/router/servers/one/drain")
        await admin.post("/router/servers/one/undrain")

        async def actions(**query: str) -> list[str]:
            answer = await admin.get("/router/audit", params=query)
            return [entry["action"] for entry in answer.json()["entries"]]

        assert await actions(action="server") == ["server.undrain", "server.drain"]
        assert await actions(action="server.drain", actor="root") == ["server.drain"]
        assert await actions(limit="1") == ["server.undrain"]
        assert await actions(since="4e9") == await actions(actor="nobody") == []
        for query in ({"action": "planet"}, {"since": "nan"}, {"limit": "0"}, {"limit": "x"}):
            assert (await admin.get("/router/audit", params=query)).status_code == 400


async def test_whatever_was_done_can_be_shown(tmp_path: Path) -> None:
    """Every action, in every way of acting."""
    down = {"host": "127.0.0.1", "port": 9}
    async with running_router(tmp_path, {"one": down}) as router, router.client(router.admin_token) as admin:
        ways, actions = get_args(Via), get_args(AuditAction)
        for number in range(max(len(ways), len(actions))):
            actor = Actor("ops", ways[number % len(ways)])
            await router.services.audit.record(actor, actions[number % len(actions)])
        entries = (await admin.get("/router/audit", params={"actor": "ops"})).json()["entries"]
    assert {entry["via"] for entry in entries} == set(ways)
    assert {entry["action"] for entry in entries} == set(actions)


async def test_only_admins_read_the_trail(tmp_path: Path) -> None:
    """It says who manages the router: neither users nor viewers see it."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as user,
    ):
        viewer = await router.services.users.create("eve", role="viewer")
        await router.services.authenticator.refresh()
        assert (await user.get("/router/audit")).status_code == 403
        async with router.client(viewer.token.reveal()) as eve:
            assert (await eve.get("/router/usage")).status_code == 200
            assert (await eve.get("/router/audit")).status_code == 403
