"""The configs for nginx, Caddy and haproxy as they stand in deploy/, in front of a router.

Streams stream, a client that leaves is seen, uploads pass, and the client's address is what a trusted proxy tells.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from ollama_router_core.testing import ExtraHeaders, OllamaSimulator, model
from ollama_router_server.process.listening import listen
from support.eventually import eventually, eventually_async
from support.plain_http import async_client
from support.router import RunningRouter, running_router, server_entry

DEPLOY = Path(__file__).parents[2] / "deploy"
CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}]}


def needs(program: str) -> pytest.MarkDecorator:
    """Skips where a program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "program", [pytest.param(name, marks=needs(name)) for name in ("nginx", "caddy", "haproxy")]
    ),
]


def nginx_text(folder: Path, *, router: int, port: int) -> str:
    """The snippet without TLS, on loopback ports, in a folder of its own."""
    snippet = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    lines = [line for line in snippet.splitlines() if "ssl_" not in line]
    site = "\n".join(lines).replace("127.0.0.1:11434", f"127.0.0.1:{router}")
    site = site.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}\n}}\n"
    )


def caddy_text(*, router: int, port: int) -> str:
    """The snippet without TLS, on loopback ports."""
    snippet = (DEPLOY / "Caddyfile").read_text(encoding="utf-8").replace("127.0.0.1:11434", f"127.0.0.1:{router}")
    site = snippet.replace("llm.example.org", f"http://127.0.0.1:{port}")
    return f"{{\n\tadmin off\n\tauto_https off\n}}\n{site}"


def haproxy_text(*, router: int, port: int) -> str:
    """The config without TLS, on loopback ports, with one router."""
    text = (DEPLOY / "haproxy.cfg").read_text(encoding="utf-8")
    text = text.replace("bind :443 ssl crt /etc/ssl/llm.example.org.pem", f"bind 127.0.0.1:{port}")
    lines = [line for line in text.splitlines() if not line.strip().startswith("server ")]
    return "\n".join([*lines, f"    server one 127.0.0.1:{router}", ""])


def command(program: str, folder: Path, *, router: int, port: int) -> list[str]:
    """What starts the proxy, with its config written."""
    path = folder / f"{program}.conf"
    if program == "nginx":
        path.write_text(nginx_text(folder, router=router, port=port), encoding="utf-8")
        return ["nginx", "-p", str(folder), "-c", str(path)]
    if program == "haproxy":
        path.write_text(haproxy_text(router=router, port=port), encoding="utf-8")
        return ["haproxy", "-db", "-f", str(path)]
    path.write_text(caddy_text(router=router, port=port), encoding="utf-8")
    return ["caddy", "run", "--config", str(path), "--adapter", "caddyfile"]


@asynccontextmanager
async def proxy(program: str, folder: Path, router: RunningRouter) -> AsyncIterator[str]:
    """The base URL of a proxy in front of the router."""
    with listen("127.0.0.1", 0) as free:
        port = int(free.getsockname()[1])
    process = await asyncio.create_subprocess_exec(
        *command(program, folder, router=router.port, port=port),
        env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        async with async_client(url) as client:
            await _answers(client)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def _answers(client: httpx.AsyncClient) -> None:
    async def is_live() -> bool:
        try:
            return (await client.get("/livez")).status_code == 200
        except httpx.ConnectError:
            return False

    await eventually_async(is_live)


async def test_pieces_come_one_by_one_and_leaving_is_seen(tmp_path: Path, program: str) -> None:
    """The first piece is here long before the answer ends; when the client leaves, so does the generation."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")], answer_tokens=100_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        proxy(program, tmp_path, router) as url,
        router.client() as alice,
    ):
        async with alice.stream("POST", f"{url}/api/chat", json=CHAT) as answer:
            assert answer.status_code == 200
            assert answer.headers["x-router-server"] == "one"
            assert await anext(answer.aiter_raw())
            assert router.services.fleet.running("one") == 1
        await eventually(lambda: router.services.fleet.running("one") == 0)
        (row,) = await router.rows(1)
        assert row.status == 499


async def test_a_server_makes_the_proxy_hand_out_nothing(tmp_path: Path, program: str) -> None:
    """A server's X-Accel-Redirect and X-Sendfile end at the router: the client gets what the server wrote."""
    steer = ExtraHeaders(headers=(("X-Accel-Redirect", "/router/users"), ("X-Sendfile", "/etc/passwd")))
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        proxy(program, tmp_path, router) as url,
        router.client() as alice,
    ):
        sim.misbehave(steer, path="/api/chat")
        answer = await alice.post(f"{url}/api/chat", json={**CHAT, "stream": False})
    assert answer.status_code == 200
    assert answer.json()["model"] == "llama3.1:8b"
    assert not {"x-accel-redirect", "x-sendfile"} & set(answer.headers)


@pytest.mark.parametrize("trusted", [["127.0.0.1"], []])
async def test_the_client_s_address_is_what_a_trusted_proxy_tells(
    tmp_path: Path, program: str, trusted: list[str]
) -> None:
    """Of what the client wrote itself nothing is believed; an untrusted proxy is itself the client."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, trusted_proxies=trusted) as router,
        proxy(program, tmp_path, router) as url,
        router.client() as alice,
    ):
        await router.services.users.set_grants("alice", {"networks": ["127.7.0.0/16"]})
        await router.services.authenticator.refresh()
        there = httpx.AsyncHTTPTransport(local_address="127.7.7.7")
        invented = {"x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.10", **alice.headers}
        async with httpx.AsyncClient(transport=there, headers=invented) as client:
            answers = [await client.post(f"{url}/api/chat", json={**CHAT, "stream": False}) for _ in range(2)]
        expected = (200, "127.7.7.7") if trusted else (403, "127.0.0.1")
        assert {answer.status_code for answer in answers} == {expected[0]}
        assert {row.client for row in await router.rows(2)} == {expected[1]}


async def test_uploads_pass_without_a_limit_of_the_proxy(tmp_path: Path, program: str) -> None:
    """Two megabytes are more than a proxy may take unless told: the router's word counts."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        proxy(program, tmp_path, router) as url,
        router.client() as alice,
    ):
        big = {**CHAT, "stream": False, "messages": [{"role": "user", "content": "x" * 2_000_000}]}
        assert (await alice.post(f"{url}/api/chat", json=big)).status_code == 200
