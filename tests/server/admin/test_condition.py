"""`/health`, `/readyz` and `/router/status` tell the truth about the router as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.eventually import eventually, eventually_async
from support.router import RunningRouter, running_router, server_entry
from support.storage import back_up, delete_database, restore

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
QUICK = {"health_check_interval": 0.2}


async def told(router: RunningRouter) -> tuple[str, list[str], int]:
    """What `/health` says, and whether the router is ready; an admin is told the same."""
    async with router.client("") as client:
        health = (await client.get("/health")).json()
        return health["status"], health["problems"], (await client.get("/readyz")).status_code


async def test_all_is_well(tmp_path: Path) -> None:
    """Nothing to tell."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        assert await told(router) == ("ok", [], 200)


async def test_servers_that_are_down(tmp_path: Path) -> None:
    """One of two is told, and requests do not notice it; with both away nothing can be served."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, {"one": server_entry(one), "two": server_entry(two)}, **QUICK) as router,
    ):
        servers = lambda: router.services.fleet.snapshot.servers  # noqa: E731 - it changes
        one.pause()
        one.drop_connections()
        await eventually(lambda: servers()["one"].up is False)
        some = await told(router)
        two.pause()
        two.drop_connections()
        await eventually(lambda: servers()["two"].up is False)
        none = await told(router)
        async with router.client() as client:
            refused = await client.post("/api/chat", json=CHAT)
        await one.resume()
        await eventually(lambda: bool(servers()["one"].up))
        back = await told(router)
    assert some == ("ok", ["1 of 2 servers are down: one"], 200)
    assert none == ("unavailable", ["no server is up"], 503)
    assert refused.status_code == 503
    assert back == ("ok", ["1 of 2 servers are down: two"], 200)


async def test_external_hosts_can_be_asked_without_servers(tmp_path: Path) -> None:
    """Then new requests are not all refused."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        running_router(
            tmp_path,
            {"one": server_entry(one)},
            external_hosts={"far": {"host": "far.invalid", "api": "openai"}},
            **QUICK,
        ) as router,
    ):
        one.pause()
        one.drop_connections()
        await eventually(lambda: router.services.fleet.snapshot.servers["one"].up is False)
        assert await told(router) == ("degraded", ["no server is up"], 200)


async def test_a_router_that_stops(tmp_path: Path) -> None:
    """It answers until it is gone, and says so."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        router.services.draining = True
        assert await told(router) == ("stopping", ["the router is stopping"], 503)


async def test_known_users_go_on_while_the_database_is_away(tmp_path: Path) -> None:
    """Those who have asked before, and those who have not, up to `database_grace`; then all are refused."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as alice,
        router.client(router.admin_token) as root,
        router.client("0" * 32) as nobody,
    ):
        path = tmp_path / "router.sqlite3"
        authenticator = router.services.authenticator
        assert (await alice.post("/api/chat", json=CHAT)).status_code == 200
        backup = back_up(path)
        delete_database(path)
        await eventually(lambda: authenticator.away_seconds is not None)
        asked_before = await alice.post("/api/chat", json=CHAT)
        never_asked = await root.post("/api/chat", json=CHAT)
        unknown = await nobody.post("/api/chat", json=CHAT)
        status, problems, ready = await told(router)
        shown = (await root.get("/router/status")).json()["problems"]
        authenticator.grace = 0.0
        refused = await alice.post("/api/chat", json=CHAT)
        late = await told(router)
        authenticator.grace = 600.0
        restore(backup, path)
        await eventually(lambda: authenticator.away_seconds is None)
        again = await alice.post("/api/chat", json=CHAT)

        async def well() -> bool:
            return (await told(router))[0] == "ok"

        await eventually_async(well)
    assert [asked_before.status_code, never_asked.status_code, unknown.status_code] == [200, 200, 401]
    assert (status, ready) == ("degraded", 200)
    assert "the database has not answered for" in problems[0]
    assert "known users are served for" in problems[0]
    assert "the database has not answered for" in shown[0]
    assert (refused.status_code, refused.headers["x-router-error"]) == (503, "storage_unavailable")
    assert (late[0], late[2]) == ("unavailable", 503)
    assert "every request is refused" in late[1][0]
    assert again.status_code == 200


async def test_ten_minutes_are_the_default_and_a_setting(tmp_path: Path) -> None:
    """`database_grace`."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, database_grace=42.0) as router,
    ):
        assert router.services.authenticator.grace == 42.0
        assert type(router.services.config).model_fields["database_grace"].default == 600.0
