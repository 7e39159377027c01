"""What if in a real browser: how far it is, cancelled, then answered with what differs by model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from playwright.async_api import Browser, Route

from browser.conftest import signed_in
from server.admin.test_whatif_resource import recent
from support.eventually import eventually_async
from support.router import running_router

pytestmark = pytest.mark.anyio


async def test_a_question_is_followed_cancelled_and_answered(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar and its button are there while it is computed; the answer is in the page and in its address."""
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nexec sleep 300\n")
    endless.chmod(0o700)
    async with (
        running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9, "max_memory_gb": 24}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        await router.services.request_log.insert(recent(20))
        page = watched.page
        await watched.open("whatif")
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(endless))
            await page.click("text='Replay my requests'")
            await page.click("[data-act=stop-whatif]")
            await page.wait_for_selector("[data-progress]", state="hidden")
        await page.fill("[name=add_gpu_figures]", "24, 1010, 82.6")
        await page.fill("[name=num_parallel]", "2")

        async def asked() -> bool:  # until the router has seen that the first has left
            await page.click("text='Replay my requests'")
            await page.wait_for_selector("[data-progress]", state="hidden")
            if await page.locator("#whatif-command").count() == 1:
                return True
            assert await page.locator("[data-problem] a:has-text('overloaded')").count() == 1
            return False

        await eventually_async(asked)
        assert "and one more gpu-24gib and 2 slots" in await page.inner_text("h1")
        assert "add_gpu_figures=24" in page.url
        assert await page.locator("table:has(caption:has-text('By model')) tbody tr").count() == 2
        assert await page.input_value("[name=num_parallel]") == "2"
        assert watched.problems == []


async def test_an_answer_that_is_cut_short_is_told(browser: Browser, tmp_path: Path) -> None:
    """A stream that ends before its answer is no answer, and no silence."""

    async def cut(route: Route) -> None:
        await route.fulfill(content_type="text/event-stream", body='event: progress\ndata: {"done": 1, "of": 9}\n\n')

    async with (
        running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        await watched.open("whatif")
        await watched.page.route("**/whatif/events*", cut)
        await watched.page.click("text='Replay my requests'")
        await watched.page.wait_for_selector("[data-problem]:has-text('ended without an answer')")
        assert not await watched.page.is_visible("[data-progress]")
        assert watched.problems == []
