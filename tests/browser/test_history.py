"""The slider of a day in a real browser: the fleet at that minute, as the view tells it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser

from browser.conftest import signed_in
from ollama_router_server.storage.incident_changes import Began, Ended, Origin
from support.records import make_record
from support.router import running_router

pytestmark = pytest.mark.anyio

FIRST = 20_000 * 86_400


async def test_two_worlds_are_told_at_the_same_minute(browser: Browser, tmp_path: Path) -> None:
    """The slider moves the line on both strips, and each world has its words."""
    rows = [
        make_record(
            number, started_at=FIRST + 601.0 + number, server="one", model_served="qwen3:8b", streamed=True,
            ttft_ms=500.0, total_ms=700.0, prompt_tokens=100, completion_tokens=10, load_ms=0.0,
        )
        for number in range(5)
    ]  # fmt: skip
    async with (
        running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9, "max_memory_gb": 24}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        await router.services.request_log.insert(rows)
        page = watched.page
        await watched.open("history?day=2024-10-04&strategy=fastest&add=one")
        told = await page.locator("[data-minute-told]").all_inner_texts()
        assert [one[:13] for one in told] == ["00:10Z: 5 ran", "00:10Z: 5 ran"]
        await page.focus("[data-minute]")
        await page.keyboard.press("ArrowRight")
        told = await page.locator("[data-minute-told]").all_inner_texts()
        assert [one[:6] for one in told] == ["00:12Z", "00:12Z"]
        lines = page.locator("[data-strip-line]")
        assert [await lines.nth(place).get_attribute("x1") for place in range(2)] == ["6.5", "6.5"]
        assert watched.problems == []


async def test_the_slider_tells_the_minute(browser: Browser, tmp_path: Path) -> None:
    """What ran, waited and failed, which models each server answered with, what went wrong; by keyboard, too."""
    rows = [
        make_record(1, started_at=FIRST + 601.0, server="big", model_served="qwen3:8b", total_ms=300_000.0),
        make_record(2, started_at=FIRST + 602.0, server="mid", model_served="llama3.2:3b", status=502, total_ms=5.0),
    ]
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        await router.services.request_log.insert(rows)
        down = Began(kind="server.down", at=FIRST + 610.0, cause="refused", server="mid")
        over = Ended(kind="server.down", at=FIRST + 700.0, server="mid")
        await router.services.incidents.store.apply(Origin("here:11434"), [down, over])
        page = watched.page
        await watched.open("history?day=2024-10-04")
        told = await page.inner_text("[data-minute-told]")
        assert told == (
            "00:10Z: 2 ran, 0 waited, 1 failed. big: qwen3:8b; mid: llama3.2:3b. mid was down for 90 s: refused"
        )
        await page.focus("[data-minute]")
        await page.keyboard.press("ArrowRight")
        assert await page.inner_text("[data-minute-told]") == "00:12Z: 1 ran, 0 waited. big: qwen3:8b"
        assert watched.problems == []
