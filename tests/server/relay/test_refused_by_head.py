"""What head and path already forbid is refused before a byte of the body is read, decompressed or parsed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.storage.identities import UserChange
from support.eventually import eventually
from support.raw_client import RawClient, request_bytes
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
UNSENT = {"Content-Length": "1000000", "Content-Type": "multipart/form-data; boundary=XX"}


async def answer_to_a_head(router: RunningRouter, path: str, headers: Mapping[str, str] = UNSENT) -> bytes:
    """The status line of the answer to a request of which nothing but the head is ever sent."""
    async with RawClient.open(router.port) as client:
        await client.send(request_bytes(router.token, path=path, headers=headers))
        return (await client.until(b"\r\n\r\n")).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "grants",
    [{"models": []}, {"kinds": ["read"]}, {"networks": ["10.0.0.0/8"]}, {"expires_at": 1.0}],
    ids=lambda grants: next(iter(grants)),
)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/audio/transcriptions"])
async def test_a_grant_that_the_head_breaks(tmp_path: Path, grants: dict[str, object], path: str) -> None:
    """The client sends a head that declares a megabyte, and has the 403 before the first byte of it."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        await router.services.users.set_grants("alice", grants)
        await router.services.authenticator.refresh()
        assert b" 403 " in await answer_to_a_head(router, path)


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_day", "concurrent_requests"])
async def test_a_limit_that_is_used_up(tmp_path: Path, limit: str) -> None:
    """A user over a limit makes nobody take a body, compressed or not."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await router.services.users.set_grants("alice", {limit: 1})
        await router.services.authenticator.refresh()
        async with RawClient.open(router.port) as busy:
            if limit == "concurrent_requests":
                await busy.send(request_bytes(router.token, headers={"Content-Length": "10"}) + b"{")
                meters = router.services.usage_limits._meters.known
                await eventually(lambda: "alice" in meters and meters["alice"].in_flight == 1)
            else:
                assert (await client.post("/api/chat", json=CHAT)).status_code == 200
            assert b" 429 " in await answer_to_a_head(router, "/api/chat")
            compressed = {**UNSENT, "Content-Encoding": "zstd"}
            assert b" 429 " in await answer_to_a_head(router, "/v1/chat/completions", compressed)


async def test_a_user_who_was_deactivated(tmp_path: Path) -> None:
    """Who may do nothing sends nothing."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        await router.services.users.change("alice", UserChange(active=False))
        await router.services.authenticator.refresh()
        assert b" 403 " in await answer_to_a_head(router, "/api/chat")
