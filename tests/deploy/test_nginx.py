"""The nginx snippet as it stands in deploy/, in front of a router: streams stream, and a client that leaves is seen."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.serve import listen
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry

NGINX = shutil.which("nginx")
SNIPPET = (Path(__file__).parents[2] / "deploy" / "nginx.conf").read_text(encoding="utf-8")
CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}]}

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(NGINX is None, reason="nginx is not installed")]


def config_text(folder: Path, *, router: int, port: int) -> str:
    """The snippet without TLS, on loopback ports, in a folder of its own."""
    lines = [line for line in SNIPPET.splitlines() if "ssl_" not in line]
    site = "\n".join(lines).replace("127.0.0.1:11434", f"127.0.0.1:{router}")
    site = site.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}\n}}\n"
    )


@asynccontextmanager
async def nginx(folder: Path, router: RunningRouter) -> AsyncIterator[str]:
    """The base URL of an nginx in front of the router."""
    with listen("127.0.0.1", 0) as free:
        port = int(free.getsockname()[1])
    path = folder / "nginx.conf"
    path.write_text(config_text(folder, router=router.port, port=port), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        str(NGINX), "-p", str(folder), "-c", str(path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            await _answers(client)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def _answers(client: httpx.AsyncClient) -> None:
    for _ in range(200):
        try:
            assert (await client.get("/livez")).status_code == 200
        except httpx.ConnectError:
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("nginx never answered")


async def test_pieces_come_one_by_one_and_leaving_is_seen(tmp_path: Path) -> None:
    """The first piece is here long before the answer ends; when the client leaves, so does the generation."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")], answer_tokens=100_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        nginx(tmp_path, router) as url,
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


async def test_uploads_pass_without_a_limit_of_the_proxy(tmp_path: Path) -> None:
    """Two megabytes are more than nginx takes unless told: the router's word counts."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        nginx(tmp_path, router) as url,
        router.client() as alice,
    ):
        big = {**CHAT, "stream": False, "messages": [{"role": "user", "content": "x" * 2_000_000}]}
        assert (await alice.post(f"{url}/api/chat", json=big)).status_code == 200
