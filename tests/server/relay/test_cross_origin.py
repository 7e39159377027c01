"""Web pages elsewhere: whose may use the router, and what their browser is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False, "max_tokens": 3}
PAGE = "https://chat.example.org"
ASKED = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
ROUTES = ["/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"]


MAY = [
    "http://localhost", "http://localhost:3000", "https://127.0.0.1:8443", "http://0.0.0.0:1", "app://obsidian.md",
    "vscode-webview://abc", "tauri://localhost", "file://", PAGE, "https://team.pages.example", "HTTP://LOCALHOST:5",
]  # fmt: skip
MAY_NOT = [
    "https://evil.example", "null", "https://localhost.evil.example", "http://localhost:3000.evil.example",
    "http://pages.example", "https://chat.example.org:444", "", "x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("path", ROUTES)
async def test_a_page_that_may_is_answered_so_that_its_browser_shows_it(tmp_path: Path, path: str) -> None:
    """Before it has a token, with one, and when it is refused for something else; the server never hears of it."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(
            tmp_path, {"one": server_entry(sim)}, cors={"origins": [PAGE, "https://*.pages.example"]}
        ) as router,
        router.client() as user,
        router.client("") as stranger,
    ):
        for origin in MAY:
            user.headers["origin"] = stranger.headers["origin"] = origin
            asked = await stranger.options(path, headers=ASKED)
            assert (asked.status_code, asked.content) == (204, b"")
            assert "authorization" in asked.headers["access-control-allow-headers"]
            assert "POST" in asked.headers["access-control-allow-methods"]
            assert int(asked.headers["access-control-max-age"]) > 600
            answered = await user.post(path, json={**CHAT, "input": "hi"})
            refused = await stranger.post(path, json=CHAT)
            unknown = await user.get("/api/nothing")
            assert [one.status_code for one in (answered, refused, unknown)] == [200, 401, 404]
            for one in (asked, answered, refused, unknown):
                assert one.headers["access-control-allow-origin"] == origin
                assert "origin" in one.headers["vary"].lower()
                assert "access-control-allow-credentials" not in one.headers
            assert "x-router-server" in answered.headers["access-control-expose-headers"]
        assert all(request.header("origin") is None for request in sim.requests)


async def test_a_page_that_may_not_is_told_which_setting_lets_it_in(tmp_path: Path) -> None:
    """403 for what it asks and for what it does; no server is asked."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(
            tmp_path, {"one": server_entry(sim)}, cors={"origins": [PAGE, "https://*.pages.example"]}
        ) as router,
        router.client() as page,
    ):
        for origin in MAY_NOT:
            page.headers["origin"] = origin
            for method in ("OPTIONS", "POST", "GET"):
                answer = await page.request(method, "/v1/chat/completions", json=CHAT, headers=ASKED)
                assert answer.status_code == 403, origin
                assert "cors.origins" in answer.text
                assert "access-control-allow-origin" not in answer.headers
        assert not sim.requests_to("/v1/chat/completions")


async def test_a_page_of_the_router_itself_needs_no_setting(tmp_path: Path) -> None:
    """Its origin is the Host that it asks."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as page,
    ):
        page.headers.update({"host": "gpu-box:8080", "origin": "http://gpu-box:8080"})
        assert (await page.post("/api/chat", json=CHAT)).status_code == 200


async def test_every_page_may_where_the_operator_says_so(tmp_path: Path) -> None:
    """Never with a browser's credentials; a token is needed all the same."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, cors={"origins": ["*"]}) as router,
        router.client() as page,
        router.client("") as stranger,
    ):
        page.headers["origin"] = stranger.headers["origin"] = "null"
        answer = await page.post("/api/chat", json={**CHAT, "stream": True})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
        assert "access-control-allow-credentials" not in answer.headers
        assert (await stranger.post("/api/chat", json=CHAT)).status_code == 401


async def test_who_is_no_page_is_told_nothing(tmp_path: Path) -> None:
    """Programs send no Origin, and their answers are as they were; their OPTIONS is 405."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        answer = await client.post("/api/chat", json=CHAT)
        assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]
        assert (await client.options("/api/chat", headers=ASKED)).status_code == 405
