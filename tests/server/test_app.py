"""The router's own routes, and its start and end."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.eventually import eventually
from support.raw_client import RawClient, request_bytes
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

NOBODY = {"one": {"host": "127.0.0.1", "port": 9}}
CHAT = {"model": "llama3.1:8b", "messages": [], "stream": False}


async def test_health_keeps_the_original_s_json(tmp_path: Path) -> None:
    """Enabled servers and hosts only, 200 even when servers are down, without a token."""
    async with (
        OllamaSimulator() as sim,
        running_router(
            tmp_path,
            {
                "up": server_entry(sim, priority=2, max_memory_gb=24),
                "gone": {"host": "127.0.0.1", "port": 9},
                "off": {"host": "127.0.0.1", "port": 8, "enabled": False},
            },
            external_hosts={"shop": {"host": "127.0.0.1", "port": sim.port, "protocol": "http"}},
        ) as router,
        router.client("") as client,
    ):
        await eventually(lambda: "shop" in router.services.reachability.last)
        response = await client.get("/health")
    health = response.json()
    assert (response.status_code, health["status"]) == (200, "ok")
    assert set(health["servers"]) == {"up", "gone"}
    assert health["servers"]["up"].keys() == {"status", "response_time_ms", "priority", "max_memory_gb"}
    assert health["servers"]["gone"]["status"] == "unhealthy"
    assert health["servers"]["gone"]["error"]
    assert health["external_hosts"]["shop"].keys() == {"status", "response_time_ms", "protocol"}


async def test_health_tells_strangers_nothing_about_the_database(tmp_path: Path) -> None:
    """Whether rows can be written, how many wait and were lost, and one word why: no path, no driver's text."""
    async with (
        OllamaSimulator() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as client,
    ):
        router.services.sink.last_error = f"the database file {tmp_path}/router.sqlite3 is gone"
        response = await client.get("/health")
        router.services.sink.last_error = None
    assert response.json()["request_log"] == {
        "status": "unhealthy",
        "dropped": 0,
        "pending": 0,
        "error": "storage_unavailable",
    }
    assert "sqlite" not in response.text


async def test_liveness_and_readiness(tmp_path: Path) -> None:
    """`/up` and `/livez` say the process answers; `/readyz` turns to 503 while draining."""
    async with (
        OllamaSimulator() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as client,
    ):
        assert [(await client.get(path)).status_code for path in ("/up", "/livez", "/readyz")] == [200, 200, 200]
        router.services.draining = True
        assert (await client.get("/readyz")).status_code == 503


@pytest.mark.parametrize("path", ["/router/status", "/router/explain?model=llama3.1:8b"])
async def test_operators_routes_need_an_admin(tmp_path: Path, path: str) -> None:
    """Nobody: 401. A user: 403. An admin: the answer."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as client,
    ):
        nobody = await client.get(path)
        user = await client.get(path, headers={"x-api-key": router.token})
        admin = await client.get(path, headers={"x-api-key": router.admin_token})
    assert (nobody.status_code, user.status_code, admin.status_code) == (401, 403, 200)
    assert "one" in admin.text


async def test_explain_gives_the_decision_without_sending(tmp_path: Path) -> None:
    """Every server with its verdict and reasons; no server hears of it."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as big,
        OllamaSimulator(models=[model("llama3.1:8b")]) as small,
        running_router(tmp_path, {"big": server_entry(big), "small": server_entry(small, max_memory_gb=2)}) as router,
        router.client(router.admin_token) as client,
    ):
        explained = (await client.get("/router/explain", params={"model": "llama3.1:8b"})).json()
        assert not [seen for seen in big.requests + small.requests if seen.path == "/api/chat"]
    assert explained["server"] == "big"
    verdicts = {row["server"]: row["verdict"] for row in explained["candidates"]}
    assert verdicts == {"big": "chosen", "small": "refused"}


async def test_a_server_that_is_down_at_start_is_used_once_it_is_up(tmp_path: Path) -> None:
    """The router starts all the same, reports the server, and finds it when it comes."""
    async with OllamaSimulator(models=[model("llama3.1:8b")]) as sim:
        sim.pause()
        async with (
            running_router(tmp_path, {"one": server_entry(sim)}, health_check_interval=0.2) as router,
            router.client() as client,
        ):
            refused = await client.post("/api/chat", json=CHAT)
            assert refused.status_code == 503
            assert "is down" in refused.json()["error"]
            await sim.resume()
            await eventually(lambda: router.services.fleet.snapshot.servers["one"].installed is not None)
            assert (await client.post("/api/chat", json=CHAT)).status_code == 200


async def test_a_locked_database_does_not_stop_requests(tmp_path: Path) -> None:
    """Requests are served, rows wait, and `/health` says so; none is lost."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        assert (await client.post("/api/chat", json=CHAT)).status_code == 200
        await router.rows()
        router.services.database._busy_timeout = 0.1
        other = sqlite3.connect(tmp_path / "router.sqlite3", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            for _ in range(3):
                assert (await client.post("/api/chat", json=CHAT)).status_code == 200
            await eventually(lambda: not router.services.sink.healthy, seconds=60)
            log = (await client.get("/health")).json()["request_log"]
        finally:
            other.rollback()
            other.close()
        assert len(await router.rows(4)) == 4
    assert (log["status"], log["pending"], log["dropped"]) == ("unhealthy", 3, 0)
    assert log["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/%72outer/status",
        "/router/%73tatus",
        "/router%2Fstatus",
        "/router/users/a%2Ftokens",
        "/router/users/x%2e",
        "/%68ealth",
        "/livez%2F",
        "/%6Detrics",
    ],
)
async def test_a_path_with_needless_encoding_is_none_of_the_router_s_own(tmp_path: Path, path: str) -> None:
    """A proxy in front that forbids /router forbids it as it is written; it must not be written otherwise."""
    async with running_router(tmp_path, NOBODY) as router, RawClient.open(router.port) as client:
        await client.send(request_bytes(router.admin_token, b"", path=path, method="GET"))
        assert b" 404 " in (await client.until(b"\r\n\r\n")).split(b"\r\n")[0]


async def test_names_in_paths_may_be_encoded_where_they_have_to_be(tmp_path: Path) -> None:
    """Users may have blanks and other characters in their names."""
    async with running_router(tmp_path, NOBODY) as router, router.client(router.admin_token) as admin:
        await router.services.users.create("ann & bob")
        assert (await admin.get("/router/users/ann%20%26%20bob")).json()["name"] == "ann & bob"


@pytest.mark.parametrize("name", ["rack 1/gpu,0?", "50%2F#1"])
async def test_a_slash_in_a_name_is_no_step_of_the_path(tmp_path: Path, name: str) -> None:
    """A server's name may hold whatever is printed: it is told and drained by it, and its page follows it."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {name: server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        step = quote(name, safe="")
        assert (await admin.get(f"/router/servers/{step}")).json()["name"] == name
        assert (await admin.post(f"/router/servers/{step}/drain")).json()["draining"]
        assert name in router.services.fleet.health.draining
        answer = await admin.post("/console/session", json={"token": router.admin_token}, headers={"x-console": "1"})
        assert answer.status_code == 200
        listed = (await admin.get("/console/servers")).text
        assert f'href="../console/servers/{step}"' in listed or f'href="./servers/{step}"' in listed
        page = (await admin.get(f"/console/servers/{step}")).text
        assert 'href="../servers"' in page
        assert f'data-live="servers/{name}"' in page
