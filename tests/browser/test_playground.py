"""Trying a model in a real browser: the answer as it comes, where it came from, and the same line for a shell."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser

from browser.conftest import signed_in
from ollama_router_core.testing import OllamaSimulator, StreamError, model
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

SMALL, HOSTILE = "llama3.2:3b", "<img src=x onerror=alert(1)>"


async def test_a_message_is_answered_with_its_route_and_its_speed(browser: Browser, tmp_path: Path) -> None:
    """Text as text; server, first token, tokens; a line to paste, and the request's own page."""
    async with (
        OllamaSimulator(models=[model(SMALL)], answer_tokens=5) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        signed_in(browser, router, router.token) as watched,
    ):
        page = watched.page
        await page.click("text=Playground")
        await page.fill("#prompt", f"it's {HOSTILE}")
        await page.click("[data-play-send]")
        await page.wait_for_selector("text=Answered in")
        assert await page.inner_text("[data-play-server]") == "one"
        assert await page.inner_text("[data-play-answer]") == "word0 word1 word2 word3 word4 "[:-1]
        assert (await page.inner_text("[data-play-tokens]")).endswith(" / 5")
        shell = await page.text_content("[data-play-curl]")
        assert shell.startswith(f'curl {watched.base}/api/chat -H "Authorization: Bearer TOKEN" -d \'{{"model":')
        assert "it'\\''s <img src=x" in shell
        sim.misbehave(StreamError(after_chunks=1, message=HOSTILE), path="/api/chat", times=1)
        await page.click("[data-play-send]")
        await page.wait_for_selector(f"[data-problem]:has-text('{HOSTILE}')")
        assert await page.inner_text("[data-play-state]") == "Failed"
        await router.rows(2)
        await page.click("[data-play-request]")
        await page.wait_for_selector("#timeline")
        assert watched.problems == []


async def test_an_answer_is_stopped_where_it_is(browser: Browser, tmp_path: Path) -> None:
    """What has come stays, the server is left, and the next message can be sent."""
    async with (
        OllamaSimulator(models=[model(SMALL)], time_scale=1.0, answer_tokens=5_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        signed_in(browser, router, router.token) as watched,
    ):
        page = watched.page
        await watched.open("play")
        await page.fill("#prompt", "tell me a long story")
        await page.click("[data-play-send]")
        await page.wait_for_selector("[data-play-answer]:has-text('word0')")
        await page.click("[data-play-stop]")
        await page.wait_for_selector("[data-play-state]:has-text('Stopped')")
        await eventually(lambda: sim.aborted == 1)
        assert "word0" in await page.inner_text("[data-play-answer]")
        assert await page.is_enabled("[data-play-send]")
