"""Drains outlast a restart, and reach other routers on the database without anything else in common."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest

from ollama_router_core.testing import SimulatorThread
from ollama_router_server.fleet import lasting_drains
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.fleet.lasting_drains import LastingDrains, drain_began
from ollama_router_server.storage.audit_log import Actor, AuditAction, AuditEntry, AuditLog
from ollama_router_server.storage.drains import DrainStore, StoredDrain
from support.eventually import eventually
from support.orouter import Orouter
from support.waiting import wait_until
from support.workers import served

MODEL = "llama3.1:8b"


def drained_since(admin: httpx.Client, url: str = "") -> float | None:
    """Since when the server is drained, as the router tells."""
    (server,) = admin.get(f"{url}/router/servers").json()["servers"]
    return server["since"] if server["draining"] else None


def draining(admin: httpx.Client, url: str = "", name: str = "a") -> bool:
    """Whether a router gives the server nothing new."""
    found = admin.get(f"{url}/router/status").json()["servers"]
    return name in found and bool(found[name]["draining"])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_drain_outlasts_a_restart(tmp_path: Path, workers: str) -> None:
    """Of a router with any number of workers, with when it began; so does its end."""
    with SimulatorThread(models=[MODEL]) as simulator:
        servers = {"a": {"host": "127.0.0.1", "port": simulator.port}}
        with served(tmp_path, servers, "--workers", workers) as router, router.client(router.admin_token) as admin:
            assert admin.post("/router/servers/a/drain").status_code == 200
            (entry,) = admin.get("/router/audit?action=server.drain").json()["entries"]
        again = Orouter(home=tmp_path)
        with again.serve("--port", "0", "--workers", workers) as url, router.client(router.admin_token) as admin:
            wait_until(lambda: draining(admin, url), "the drain holds")
            wait_until(lambda: drained_since(admin, url) == entry["at"], "it is told since when")
            if workers == "1":
                assert {drained_since(admin, url) for _ in range(4)} == {entry["at"]}
            admin.post(f"{url}/router/servers/a/undrain").raise_for_status()
        with again.serve("--port", "0") as url, router.client(router.admin_token) as admin:
            assert not draining(admin, url)


def test_a_drain_reaches_another_router_on_the_database(tmp_path: Path) -> None:
    """And ends there."""
    with SimulatorThread(models=[MODEL]) as simulator:
        servers = {"a": {"host": "127.0.0.1", "port": simulator.port}}
        with (
            served(tmp_path, servers) as router,
            Orouter(home=tmp_path).serve("--port", "0") as other,
            router.client(router.admin_token) as admin,
        ):
            admin.post("/router/servers/a/drain").raise_for_status()
            wait_until(lambda: draining(admin, other), "the other router knows")
            admin.post(f"{other}/router/servers/a/undrain").raise_for_status()
            wait_until(lambda: not draining(admin), "the first knows the end")
            admin.post("/router/servers/a/drain").raise_for_status()
            wait_until(lambda: draining(admin, other), "the other knows of the second drain")


def test_the_config_has_the_last_word_when_it_changes(tmp_path: Path) -> None:
    """What was stored before is forgotten: a restart does what the config says."""
    with SimulatorThread(models=[MODEL]) as simulator:
        server = {"host": "127.0.0.1", "port": simulator.port, "drain": True}
        with served(tmp_path, {"a": server}) as router, router.client(router.admin_token) as admin:
            admin.post("/router/servers/a/undrain").raise_for_status()
            config = router.orouter.config
            config.write_text(config.read_text().replace('"drain": true', '"drain": false'))
            reloaded = lambda: any(line["event"] == "config_reloaded" for line in router.log())  # noqa: E731
            wait_until(reloaded, "the config is read")
            config.write_text(config.read_text().replace('"drain": false', '"drain": true'))
            wait_until(lambda: draining(admin), "the config drains it")
        with Orouter(home=tmp_path).serve("--port", "0") as url, router.client(router.admin_token) as admin:
            assert draining(admin, url)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_drain_follows_a_server_to_another_name(tmp_path: Path, workers: str) -> None:
    """With the reload, and over the restart after it."""
    with SimulatorThread(models=[MODEL]) as simulator:
        servers = {"a": {"host": "127.0.0.1", "port": simulator.port}}
        with served(tmp_path, servers, "--workers", workers) as router, router.client(router.admin_token) as admin:
            admin.post("/router/servers/a/drain").raise_for_status()
            config = router.orouter.config
            config.write_text(config.read_text().replace('"a":', '"b":'))
            wait_until(lambda: "b" in admin.get("/router/status").json()["servers"], "the config is taken up")
            wait_until(lambda: draining(admin, name="b"), "it is drained there")
        with Orouter(home=tmp_path).serve("--port", "0") as url, router.client(router.admin_token) as admin:
            assert draining(admin, url, "b")


class SlowStore:
    """A database whose answers to a look are held until they are let go."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredDrain] = {}
        self.looks = 0
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def read(self) -> dict[str, StoredDrain]:
        """What is stored as the look begins."""
        found = dict(self.stored)
        self.looks += 1
        await self.let_go.wait()
        return found

    async def set(self, server: str, *, on: bool) -> None:
        """Store a word."""
        self.stored[server] = StoredDrain(on, self.looks)

    async def forget(self, servers: Collection[str]) -> None:
        """Delete words."""
        for server in servers:
            self.stored.pop(server, None)


@pytest.mark.anyio
async def test_a_look_that_began_before_a_word_does_not_take_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was drained and undrained while the database was slow stays undrained."""
    monkeypatch.setattr(lasting_drains, "_INTERVAL", 0.0)
    draining: set[str] = set()
    happened: list[bool] = []

    def drain(server: str, *, on: bool) -> None:
        happened.append(on)
        (draining.add if on else draining.discard)(server)

    fleet, store = SimpleNamespace(servers={"a"}, health=SimpleNamespace(draining=draining), drain=drain), SlowStore()
    drains = LastingDrains(cast("DrainStore", store), cast("AuditLog", None), cast("FleetService", fleet), follows=True)
    await drains.start()
    try:
        await drains.drain("a", on=True)
        store.let_go.clear()
        begun = store.looks
        await eventually(lambda: store.looks > begun)
        await drains.drain("a", on=False)
        store.let_go.set()
        begun = store.looks
        await eventually(lambda: store.looks > begun + 1)
    finally:
        await drains.aclose()
    assert happened == [True, False]


@pytest.mark.anyio
async def test_a_drain_just_before_a_renaming_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stored, though this process has not read it back yet."""
    monkeypatch.setattr(lasting_drains, "_INTERVAL", 60.0)
    nothing = SimpleNamespace(servers={"a"}, health=SimpleNamespace(draining=set()), drain=lambda *_, **__: None)
    store = SlowStore()
    drains = LastingDrains(
        cast("DrainStore", store), cast("AuditLog", None), cast("FleetService", nothing), follows=True
    )
    await drains.start()
    try:
        await drains.drain("a", on=True)
        await drains.renamed({"b": "a"})
    finally:
        await drains.aclose()
    assert {server: said.on for server, said in store.stored.items()} == {"b": True}


def entry(at: float, action: AuditAction, subject: str = "a", *, already: bool = False) -> AuditEntry:
    """What somebody did to a server."""
    detail = {"already": True} if already else {}
    return AuditEntry(at=at, actor=Actor("root", "http"), action=action, subject=subject, detail=detail)


def test_a_drain_began_with_its_first_word() -> None:
    """Not with one that ordered it again, nor with another server's; an end, or a trail that is cut, tells nothing."""
    begins, again, other = (
        entry(2, "server.drain"),
        entry(3, "server.drain", already=True),
        entry(4, "server.drain", "b"),
    )
    assert drain_began([other, again, begins, entry(1, "server.drain")], "a") == 2
    assert drain_began([entry(5, "server.undrain"), again, begins], "a") is None
    assert drain_began([other, again], "a") is None
