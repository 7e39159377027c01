"""A page that is open: what it costs, and what becomes of it when the router goes, comes back, or the tab is hidden."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from browser.conftest import signed_in
from ollama_router_core.testing import OllamaSimulator, model
from support.eventually import eventually, eventually_async
from support.plain_http import async_client
from support.router import RunningRouter, running_router, server_entry
from support.router_process import router_process

pytestmark = pytest.mark.anyio

SMALL = "llama3.2:3b"
FRESH, STALE = "html:not(.stale)", "html.stale"
AS_TOLD = """
Object.defineProperty(document, "hidden", { get: () => !window.isShown });
window.show = (on) => { window.isShown = on; document.dispatchEvent(new Event("visibilitychange")); };
"""
"""Headless tabs are all visible; these are when a test says so."""


@asynccontextmanager
async def stage(tmp_path: Path) -> AsyncIterator[RunningRouter]:
    """A router over one server."""
    async with (
        OllamaSimulator(models=[model(SMALL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, metrics_open=True) as router,
    ):
        yield router


async def there_are(port: int, wanted: int) -> None:
    """Wait until so many pages have a stream, as Prometheus sees it."""

    async def are_there() -> bool:
        return await watchers(port) == wanted

    await eventually_async(are_there, seconds=60)


async def watchers(port: int) -> int:
    """Pages that have a stream."""
    async with async_client(f"http://127.0.0.1:{port}") as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("orouter_console_watchers "))))


async def ask(router: RunningRouter) -> None:
    """One short request."""
    async with router.client() as client:
        await client.post("/api/generate", json={"model": SMALL, "prompt": "hi", "stream": False})


async def test_what_changes_is_on_the_screen_by_itself(browser: Browser, tmp_path: Path) -> None:
    """A drain from elsewhere; what has the focus keeps it, and what is open stays open."""
    async with (
        stage(tmp_path) as router,
        router.client(router.admin_token) as admin,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        await watched.open("servers")
        await there_are(router.port, 1)
        await watched.page.focus("tr[data-href] a")
        await admin.post("/router/servers/one/drain")
        await watched.page.wait_for_selector(".state.draining")
        assert await watched.page.evaluate("document.activeElement.textContent") == "one"
        assert watched.problems == []


async def test_ones_own_place_moves_on_start(browser: Browser, tmp_path: Path) -> None:
    """Who waits sees the place and when the turn comes, without loading the page anew; and cancels there."""
    chat = {"model": SMALL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with (
        OllamaSimulator(models=[model(SMALL)], time_scale=1.0, answer_tokens=1_000_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}) as router,
        signed_in(browser, router, router.token) as watched,
        router.client(timeout=None) as alice,
        router.client(router.admin_token, timeout=None) as admin,
        asyncio.TaskGroup() as tasks,
    ):
        page = watched.page
        await page.wait_for_selector("text='Nothing of yours is in progress.'")
        assert await page.locator("[data-live]").count() == 0  # most have nothing: they take no stream
        first = tasks.create_task(admin.post("/api/chat", json=chat))
        await eventually(lambda: bool(sim.requests_to("/api/chat")))
        second = tasks.create_task(admin.post("/api/chat", json=chat))
        await eventually(lambda: router.services.admission.waiting == 1)
        mine = tasks.create_task(alice.post("/api/chat", json=chat))
        await eventually(lambda: router.services.admission.waiting == 2)
        await page.reload()
        row = page.locator("tr[id^=active-]")
        await row.locator("td:has-text('2 ·')").wait_for()
        assert await row.count() == 1
        second.cancel()
        await row.locator("td:has-text('1 ·')").wait_for()
        await row.locator("[data-act=cancel]").click()
        await page.click("dialog[open] [data-dialog-yes]")
        await page.wait_for_selector("[data-live=start] >> text='Nothing of yours is in progress.'")
        assert (await mine).headers["x-router-error"] == "request_cancelled"
        first.cancel()
        assert watched.problems == []


async def test_new_rows_wait_while_somebody_reads(browser: Browser, tmp_path: Path) -> None:
    """Behind a button that counts them: they would move what is being read."""
    async with stage(tmp_path) as router, signed_in(browser, router, router.admin_token) as watched:
        page = watched.page
        await ask(router)
        (read,) = await router.rows(1)
        await watched.open("requests")
        await there_are(router.port, 1)
        await page.focus(f"#row-{read.id} a")
        await ask(router)
        await page.wait_for_selector("text='1 new'")
        assert await page.get_attribute("#part-log tbody tr", "id") == f"row-{read.id}"
        await page.click("text='1 new'")
        await page.wait_for_selector(f"#part-log tbody tr:first-child:not(#row-{read.id})")
        assert await page.locator("tr[id^=row-]").count() == 2


async def test_ten_tabs_get_over_a_router_that_is_killed(browser: Browser, tmp_path: Path) -> None:
    """By their own clock: stale after 6 s, buttons off; at most 7 tries each in 15 s; fresh 15 s after it is back."""
    async with OllamaSimulator(models=[model(SMALL)]) as sim:
        servers, port, failed = {"one": server_entry(sim)}, free_port(), list[str]()
        async with (
            router_process(tmp_path, servers, port=port, metrics_open=True) as router,
            signed_in(browser, router, router.admin_token) as watched,
        ):
            clock = watched.page.context.clock
            await clock.install()
            tabs = [await watched.page.context.new_page() for _ in range(10)]
            await asyncio.gather(*(tab.goto(f"{watched.base}/console/servers") for tab in tabs))
            await there_are(port, 3)
            for tab in tabs:
                tab.on("requestfailed", lambda request: failed.append(request.url))
                await tab.wait_for_selector(FRESH)
            router.process.kill()
            await router.process.wait()
            await clock.fast_forward(6_000)
            for tab in tabs:
                await tab.wait_for_selector(STALE)
                assert await tab.is_disabled("[data-act=drain]")
                told = await tab.inner_text("[data-liveness]")
                assert re.match(r"as of \d.*, not connected, trying again in \d+ s$", told), told
            for _ in range(15):
                await clock.fast_forward(1_000)
            assert 0 < len(failed) <= 10 * 7
            async with router_process(tmp_path, servers, port=port, fresh=False, metrics_open=True):
                await clock.fast_forward(15_000)
                for tab in tabs:
                    await tab.wait_for_selector(FRESH)
                    assert await tab.is_enabled("[data-act=drain]")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_three_streams_of_eight_tabs_and_one_of_the_visible(browser: Browser, tmp_path: Path) -> None:
    """Hidden tabs hold none, eight visible ones three together; a ninth page still loads."""
    async with stage(tmp_path) as router, signed_in(browser, router, router.admin_token) as watched:
        await watched.page.context.add_init_script(AS_TOLD)
        tabs = [await watched.page.context.new_page() for _ in range(8)]
        for tab in tabs:
            await tab.goto(f"{watched.base}/console/now")
        await tabs[0].evaluate("show(true)")
        await there_are(router.port, 1)
        for tab in tabs[1:]:
            await tab.evaluate("show(true)")
        await there_are(router.port, 3)
        await watched.open("requests")
        assert await watched.page.inner_text("h1") == "Requests"
        assert await watched.page.evaluate("document.hidden")
        await there_are(router.port, 3)


async def test_a_tab_that_is_hidden_gives_its_stream_back(browser: Browser, tmp_path: Path) -> None:
    """After ten seconds; shown again, it fetches at once and watches again."""
    async with stage(tmp_path) as router, signed_in(browser, router, router.admin_token) as watched:
        await watched.page.context.add_init_script(AS_TOLD + "window.isShown = true;")
        await watched.page.clock.install()
        await watched.open("now")
        await there_are(router.port, 1)
        await watched.page.evaluate("show(false)")
        await watched.page.clock.fast_forward(10_500)
        await there_are(router.port, 0)
        async with watched.page.expect_response(lambda answer: answer.url.endswith("/console/now")):
            await watched.page.evaluate("show(true)")
        await there_are(router.port, 1)


async def test_signing_out_elsewhere_clears_the_screen(browser: Browser, tmp_path: Path) -> None:
    """The stream ends with the session, and every tab of it asks to sign in."""
    async with stage(tmp_path) as router, signed_in(browser, router, router.admin_token) as watched:
        other = await watched.page.context.new_page()
        await other.goto(f"{watched.base}/console/now")
        await there_are(router.port, 1)
        await watched.page.click("[data-act=sign-out]")
        await other.wait_for_selector("#token")
        assert "running" not in await other.inner_text("body")


async def test_a_busy_page_takes_little_time_and_does_not_grow(browser: Browser, tmp_path: Path) -> None:
    """Processor time of the browser for an update of 200 servers under 100 ms, and under 2 MB more of heap after 20."""
    async with OllamaSimulator(models=[model(f"m{number}:8b") for number in range(3)], host="0.0.0.0") as sim:
        names = [f"gpu-{number:03}" for number in range(200)]
        servers = {
            name: {**server_entry(sim, max_memory_gb=24), "host": f"127.0.1.{number + 1}"}
            for number, name in enumerate(names)
        }
        async with (
            running_router(tmp_path, servers, health_check_interval=600.0, metrics_open=True) as router,
            signed_in(browser, router, router.admin_token) as watched,
        ):
            await watched.open("servers")
            await there_are(router.port, 1)
            page, drains = watched.page, router.services.fleet
            tools = await page.context.new_cdp_session(page)
            await tools.send("Performance.enable", {"timeDomain": "threadTicks"})

            async def updates(name: str) -> None:
                for on, state in ((True, "Undrain"), (False, "Drain")):
                    drains.drain(name, on=on)
                    await page.wait_for_selector(f"button[data-name={name}] >> text=/^{state}$/", timeout=60_000)

            await updates(names[0])
            spent, heap = await metric(tools, "TaskDuration"), await heap_of(tools)
            for name in names[1:11]:
                await updates(name)
            took = (await metric(tools, "TaskDuration") - spent) / 20
            assert took < 0.2, took  # twice what it may be
            assert await heap_of(tools) - heap < 2_000_000
            assert await page.locator("tr[data-href]").count() == 200


async def metric(tools: Any, name: str) -> float:
    """One of the browser's own figures, in seconds of processor time."""
    found = (await tools.send("Performance.getMetrics"))["metrics"]
    return float(next(one["value"] for one in found if one["name"] == name))


async def heap_of(tools: Any) -> float:
    """Bytes of the page's heap after a collection."""
    await tools.send("HeapProfiler.collectGarbage")
    return float((await tools.send("Runtime.getHeapUsage"))["usedSize"])
