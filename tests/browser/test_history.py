"""The slider of a day in a real browser: the fleet at that minute, as the view tells it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser

from browser.conftest import signed_in
from support.router import running_router
from support.storage import make_record

pytestmark = pytest.mark.anyio

FIRST = 20_000 * 86_400


async def test_the_slider_tells_the_minute(browser: Browser, tmp_path: Path) -> None:
    """What ran, waited and failed, and which models each server answered with; by keyboard, too."""
    rows = [
        make_record(1, started_at=FIRST + 601.0, server="big", model_served="qwen3:8b", total_ms=300_000.0),
        make_record(2, started_at=FIRST + 602.0, server="mid", model_served="llama3.2:3b", status=502, total_ms=5.0),
    ]
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        await router.services.request_log.insert(rows)
        page = watched.page
        await watched.open("history?day=2024-10-04")
        told = await page.inner_text("[data-minute-told]")
        assert told == "00:10Z: 2 ran, 0 waited, 1 failed. big: qwen3:8b; mid: llama3.2:3b"
        await page.focus("[data-minute]")
        await page.keyboard.press("ArrowRight")
        assert await page.inner_text("[data-minute-told]") == "00:12Z: 1 ran, 0 waited. big: qwen3:8b"
        assert watched.problems == []
