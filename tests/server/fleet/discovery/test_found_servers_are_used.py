"""A router over servers that it finds: in a file, in DNS, in Kubernetes, in the local network."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.fleet.discovery import discovery_loop, mdns
from ollama_router_server.fleet.discovery.kubernetes import KubernetesFinder
from ollama_router_server.fleet.discovery.mdns import MdnsFinder
from support.eventually import eventually, eventually_async
from support.kubernetes_api import SELECTOR, endpoint, kubernetes_api
from support.name_server import name_server
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}


def write(path: Path, **servers: Any) -> None:
    """Replace the file in one step."""
    path.with_suffix(".new").write_text(json.dumps(servers))
    path.with_suffix(".new").replace(path)


async def asked(router: RunningRouter) -> httpx.Response:
    """An answer, or a refusal."""
    async with router.client() as client:
        return await client.post("/api/chat", json=CHAT)


async def admin(router: RunningRouter, method: str, path: str) -> Any:
    """What an admin is answered."""
    async with router.client(router.admin_token) as client:
        answer = await client.request(method, path)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_a_found_server_is_used_and_goes_again(tmp_path: Path) -> None:
    """From the first request on, and listed with its source; once it has left the file it goes after `keep` seconds."""
    file = tmp_path / "servers.yml"
    async with OllamaSimulator(models=[model(MODEL)]) as one, OllamaSimulator(models=[model(MODEL)]) as two:
        write(file, found=server_entry(one))
        discovery = {"use": "auto", "files": [str(file)], "keep": 0.1}
        async with running_router(tmp_path, {}, discovery=discovery) as router:
            assert (await asked(router)).headers["x-router-server"] == "found"
            status = await admin(router, "GET", "/router/status")
            assert status["servers"]["found"]["found_by"] == f"file:{file}"
            assert status["discovery"] == {f"file:{file}": {"servers": 1, "problem": None}}
            write(file, other=server_entry(two))
            await eventually(lambda: set(router.services.fleet.servers) == {"other"})
            await eventually(lambda: bool(router.services.fleet.servers["other"].up))
            assert (await asked(router)).headers["x-router-server"] == "other"


async def test_a_router_that_starts_later_calls_servers_the_same(tmp_path: Path) -> None:
    """As one that saw one of them before the other: what they share of a server, they keep by its name."""
    first, second = tmp_path / "b.yml", tmp_path / "a.yml"
    discovery = {"use": "auto", "files": [str(second), str(first)]}
    async with OllamaSimulator(models=[model(MODEL)]) as one, OllamaSimulator(models=[model(MODEL)]) as two:
        write(first, gpu=server_entry(one))
        write(second)
        async with running_router(tmp_path, {}, discovery=discovery) as router:
            assert set(router.services.running_config.found_by) == {"gpu"}
            write(second, gpu=server_entry(two))
            await eventually(lambda: len(router.services.fleet.servers) == 2)
            async with running_router(tmp_path, {}, fresh=False, discovery=discovery) as later:
                assert later.services.running_config.found_by == router.services.running_config.found_by


async def test_a_file_with_problems_changes_nothing_and_is_told(tmp_path: Path) -> None:
    """With the line; requests go on."""
    file = tmp_path / "servers.yml"
    async with OllamaSimulator(models=[model(MODEL)]) as one:
        write(file, found=server_entry(one))
        async with running_router(tmp_path, {}, discovery={"use": "auto", "files": [str(file)]}) as router:
            file.write_text("found: {host: 127.0.0.1,\n  port: high}\n")
            problems = router.services.discovery.problems
            await eventually(lambda: bool(problems))
            assert "line 2: found.port" in problems[f"file:{file}"]
            async with router.client("") as client:
                told = (await client.get("/health")).json()
            assert told["status"] == "ok"
            assert f"server discovery at file:{file}" in told["problems"][0]
            await eventually(lambda: bool(router.services.fleet.servers["found"].up))
            assert (await asked(router)).status_code == 200


async def test_a_found_server_waits_for_an_admin_and_restarts_remember_the_answer(tmp_path: Path) -> None:
    """Listed and probed meanwhile, with the command; the undrain is kept in the database."""
    file = tmp_path / "servers.yml"
    async with OllamaSimulator(models=[model(MODEL)]) as one:
        write(file, found=server_entry(one))
        discovery = {"discovery": {"files": [str(file)]}}
        async with running_router(tmp_path, {}, **discovery) as router:
            await eventually(lambda: bool(router.services.fleet.servers["found"].up))
            assert (await asked(router)).status_code == 503
            (told,) = (await admin(router, "GET", "/router/overview"))["attention"]
            assert (told["fix"], "found by file:" in told["what"]) == ("orouter servers undrain found", True)
            await admin(router, "POST", "/router/servers/found/undrain")
            assert (await asked(router)).status_code == 200
        async with running_router(tmp_path, {}, fresh=False, **discovery) as router:

            async def served() -> bool:
                return (await asked(router)).status_code == 200

            await eventually_async(served)


Place = tuple[dict[str, Any], dict[str, str]]
"""Settings of `discovery` that lead to a server, and variables of the router's."""


@asynccontextmanager
async def in_dns(port: int, _folder: Path, _patch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """An address of a name, as of a headless Service."""
    async with name_server({("ollama.lan", "A"): ["127.0.0.1"]}) as resolver:
        yield {"resolver": resolver, "dns": [{"name": "ollama.lan", "port": port}]}, {}


@asynccontextmanager
async def in_dns_with_its_port(port: int, _folder: Path, _patch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """A record of type SRV."""
    async with name_server({("_ollama._tcp.lan", "SRV"): [f"0 0 {port} localhost."]}) as resolver:
        yield {"resolver": resolver, "dns": [{"name": "_ollama._tcp.lan", "type": "srv"}]}, {}


@asynccontextmanager
async def in_kubernetes(port: int, folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """A pod of an EndpointSlice."""
    with kubernetes_api(folder) as api:
        api.put("ollama-x", endpoint("127.0.0.1", "ollama-0"), ports=[{"name": "http", "port": port}])
        patch.setattr(discovery_loop, "KubernetesFinder", partial(KubernetesFinder, account=str(api.account)))
        yield {"kubernetes": {"selector": SELECTOR}}, api.environment


@asynccontextmanager
async def in_the_network(port: int, _folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """An announcement on loopback."""
    patch.setattr(mdns, "_LISTEN", 1.2)
    patch.setattr(MdnsFinder, "interval", 0.3)
    patch.setattr(discovery_loop, "MdnsFinder", partial(MdnsFinder, interfaces=["127.0.0.1"]))
    try:
        network = AsyncZeroconf(interfaces=["127.0.0.1"])
    except OSError:
        pytest.skip("this machine lets nobody send to a group")
    kind = f"_orouter-{port}._tcp"
    told = [socket.inet_aton("127.0.0.1")]
    announced = ServiceInfo(f"{kind}.local.", f"gpu.{kind}.local.", addresses=told, port=port, server="gpu.local.")
    await network.async_register_service(announced, cooperating_responders=True)
    try:
        yield {"mdns": kind}, {}
    finally:
        await network.async_close()


@pytest.mark.parametrize("place", [in_dns, in_dns_with_its_port, in_kubernetes, in_the_network])
async def test_what_is_found_anywhere_is_listed_and_probed_and_used_by_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any
) -> None:
    """With `ask` after an admin has said so, with `auto` at once."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        place(one.port, tmp_path, monkeypatch) as (discovery, variables),
    ):
        for use in ("ask", "auto"):
            settings = {"environment": variables, "discovery": {**discovery, "use": use}}
            async with running_router(tmp_path, {}, **settings) as router:
                servers = router.services.fleet.servers
                await eventually(lambda servers=servers: [one.up for one in servers.values()] == [True])
                ((name, listed),) = (await admin(router, "GET", "/router/status"))["servers"].items()
                assert listed["found_by"].startswith(("dns:", "kubernetes:", "mdns:"))
                assert (await asked(router)).status_code == (503 if use == "ask" else 200)
                if use == "ask":
                    await admin(router, "POST", f"/router/servers/{name}/undrain")
                    assert (await asked(router)).status_code == 200
