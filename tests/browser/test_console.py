"""The console in a real browser: what a person does, and what a page elsewhere cannot."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.async_api import Browser, Page, Route

from browser.conftest import signed_in
from ollama_router_core.testing import OllamaSimulator, StreamError, model
from ollama_router_server.storage.audit_log import AuditFilter
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
PAGES = (
    "",
    "now",
    "requests",
    "models",
    "models/llama3.2:3b",
    "servers",
    "servers/one",
    "usage",
    "people",
    "people/alice",
    "groups",
    "play",
    "history",
    "operations",
    "about",
    "doctor",
)
TELL = """() => new MutationObserver(() => document.documentElement.matches('.loading') && fetch('said'))
    .observe(document.documentElement, {attributes: true})"""
SKELETON = """() => { const one = document.querySelector('main h1'), at = JSON.stringify(one.getBoundingClientRect());
    new MutationObserver((_, watch) => { if (!document.documentElement.matches('.loading.skeleton')) return;
        watch.disconnect();
        const clear = getComputedStyle(one).color === 'rgba(0, 0, 0, 0)';
        fetch(`said?clear=${clear}&moved=${JSON.stringify(one.getBoundingClientRect()) !== at}`);
    }).observe(document.documentElement, {attributes: true}); }"""
MOST_TO_CLOSE = 1.0  # seconds
AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
HOSTILE = "<img src=x onerror=alert(1)>{{7*7}}javascript:alert(2)"
MORE_HOSTILE = (
    "'\"><script>alert(3)</script>",
    "javascript:alert(4)",
    "a\u202eb\u0000c\ud800d",
    HOSTILE + "x" * 10_000,
)
TOP = "(what => Math.round(document.querySelector(what).getBoundingClientRect().top))"
"""How far below the window's edge something is."""
LEFT = """Math.round(document.querySelector("tbody td").getBoundingClientRect().left
    - document.querySelector(".scroll").getBoundingClientRect().left) - 1"""
"""How far the first cell is from the left edge of what scrolls."""
OVERLAPS = """[...document.querySelectorAll("tbody td")].flatMap((cell, at, cells) => {
    const [one, next] = [cell, cells[at + 1]].map(each => each?.getBoundingClientRect());
    return next && one.width && next.width && next.top < one.bottom - 1 && next.left < one.right - 1
        && one.top < next.bottom - 1 && one.left < next.right - 1 ? [cell.textContent] : [];
})"""
"""Cells that lie over the one after them."""


@asynccontextmanager
async def stage(tmp_path: Path, **config: Any) -> AsyncIterator[RunningRouter]:
    """A router over one server."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, **config) as router,
    ):
        yield router


async def test_from_the_bare_address_to_a_copied_line(browser: Browser, tmp_path: Path) -> None:
    """On plain HTTP, where browsers withhold the clipboard from scripts; the line works with the token in place."""
    async with stage(tmp_path) as router, signed_in(browser, router, router.token) as watched:
        page = watched.page
        await page.goto(f"{watched.base}/")
        assert page.url == f"{watched.base}/console/"
        await page.click(".snippet [data-act=copy]")
        await page.wait_for_function("document.querySelector('.snippet [data-act=copy]').textContent != 'Copy'")
        await page.focus("#search")
        await page.keyboard.press("Control+V")
        pasted = await page.input_value("#search")
        assert f"http://gpu-box:{router.port}/v1/chat/completions" in pasted
        assert watched.problems == []
        assert watched.foreign == []


async def test_start_gets_an_answer_to_count_on(browser: Browser, tmp_path: Path) -> None:
    """The last check: one press, one short answer, with its server and reason; a failure is told in its place."""
    async with stage(tmp_path) as router, signed_in(browser, router, router.token) as watched:
        page = watched.page
        await page.click("[data-act=try-model]")
        await page.wait_for_selector("[data-trial]:has-text('by one:')")
        assert await page.get_attribute("#check-answered", "class") == "holds"
        await page.evaluate("document.querySelector('[data-act=try-model]').dataset.model = 'nobody-has-this'")
        await page.click("[data-act=try-model]")
        await page.wait_for_selector("[data-trial]:has-text('No answer: ')")
        assert watched.problems == []


async def test_a_page_that_takes_its_time_says_so(browser: Browser, tmp_path: Path) -> None:
    """What is there is dimmed until the next page comes; going back shows it as it was."""
    async with stage(tmp_path) as router, signed_in(browser, router, router.admin_token) as watched:
        page = watched.page

        said = asyncio.Event()

        async def hear(route: Route) -> None:
            said.set()
            await route.fulfill(status=204)

        async def hold(route: Route) -> None:
            await said.wait()  # nothing else is told of a page that is being left
            await route.continue_()

        await page.route("**/said", hear)
        await page.route("**/console/usage", hold)
        await page.evaluate(TELL)
        await page.click("text=Usage", no_wait_after=True)
        await page.wait_for_selector("h1:has-text('7 days')")
        await page.go_back()
        await page.wait_for_selector("html:not(.loading) h1:has-text('Ready')")
        assert watched.problems == []


async def test_another_page_of_the_same_kind_has_its_shape_first(browser: Browser, tmp_path: Path) -> None:
    """Another time of Usage: what is there keeps its place without its texts until the answer comes."""
    async with stage(tmp_path) as router, signed_in(browser, router, router.admin_token) as watched:
        page, said, told = watched.page, asyncio.Event(), list[str]()
        await page.click("text=Usage")
        await page.wait_for_selector("h1:has-text('7 days')")

        async def hear(route: Route) -> None:
            told.append(route.request.url.partition("?")[2])
            said.set()
            await route.fulfill(status=204)

        async def hold(route: Route) -> None:
            await said.wait()
            await route.continue_()

        await page.route("**/said*", hear)
        await page.route("**/console/usage?*", hold)
        await page.evaluate(SKELETON)
        await page.click("main a[href='?days=30']", no_wait_after=True)
        await page.wait_for_selector("html:not(.loading) h1:has-text('30 days')")
        assert told == ["clear=true&moved=false"]
        assert watched.problems == []


async def test_a_page_that_does_not_come_leaves_this_one_as_it_was(browser: Browser, tmp_path: Path) -> None:
    """After Escape, after 15 seconds, and at once for a file that is saved, with the focus elsewhere."""
    async with stage(tmp_path) as router, signed_in(browser, router, router.admin_token) as watched:
        page, clock = watched.page, watched.page.clock
        await clock.install()
        await watched.open("usage")
        for ends in (page.keyboard.press("Escape"), clock.fast_forward(15_000)):
            await page.evaluate("() => { dispatchEvent(new Event('beforeunload')); }")
            await clock.fast_forward(200)
            await page.wait_for_selector("html.loading")
            await ends
            await page.wait_for_selector("html:not(.loading)")
        async with page.expect_download():
            await page.evaluate("() => document.querySelector('a[download]').click()")
        await clock.fast_forward(200)
        assert await page.locator("html.loading").count() == 0
        assert watched.problems == []


async def test_hostile_names_are_text_on_every_page(browser: Browser, tmp_path: Path) -> None:
    """Names of all, and what clients and servers tell: no dialog, no report of the policy, no request elsewhere."""
    facts = {"quantization_level": HOSTILE, "digest": HOSTILE, "family": HOSTILE, "parameter_size": HOSTILE}
    aliases = {HOSTILE[:40]: "llama3.2:3b"}
    async with (
        OllamaSimulator(models=[model("llama3.2:3b", **facts)], version=HOSTILE) as sim,
        running_router(
            tmp_path,
            {"one": server_entry(sim), HOSTILE: {**server_entry(sim, drain=True), "host": "127.0.0.2"}},
            model_config={"aliases": aliases},
        ) as router,
        router.client(router.admin_token) as admin,
    ):
        sim.misbehave(StreamError(after_chunks=1, message=HOSTILE), path="/api/chat", times=1)
        await admin.post("/router/users", json={"name": HOSTILE})
        await admin.post("/router/groups", json={"name": HOSTILE})
        await admin.post("/router/users/alice/tokens", json={"name": HOSTILE})
        asked = [json.dumps({**CHAT, "model": name}) for name in ("llama3.2:3b", HOSTILE, *MORE_HOSTILE)]
        for body in asked:
            await admin.post("/api/chat", content=body, headers={"user-agent": HOSTILE, "referer": HOSTILE})
        (*_, first) = await router.rows(3)
        async with signed_in(browser, router, router.admin_token) as watched:
            for path in (*PAGES, f"requests/{first.id}"):
                await watched.open(path)
                assert await watched.page.locator("img, main script").count() == 0, path
                assert "x" * 200 not in await watched.page.content(), path
            for path in ("groups", f"groups/{quote(HOSTILE)}"):
                await watched.open(path)
                assert await watched.page.locator(f"text={HOSTILE[:28]}").count() >= 1, path
                assert await watched.page.locator("img, main script").count() == 0, path
            for path in ("people", "servers/one", "models/llama3.2:3b", "requests"):
                await watched.open(path)
                assert await watched.page.locator(f"text={HOSTILE[:28]}").count() >= 1, path
            assert watched.problems == []
            assert watched.foreign == []


async def test_drain_and_undo(browser: Browser, tmp_path: Path) -> None:
    """Two clicks out, one back within ten seconds, and the server takes requests again; both are in the history."""
    async with (
        stage(tmp_path) as router,
        router.client() as client,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        await watched.open("servers/one")
        await watched.page.click("[data-act=drain]")
        await eventually(lambda: "one" in router.services.fleet.health.draining)
        assert (await client.post("/api/chat", json=CHAT)).status_code == 503
        async with watched.page.expect_response("**/undrain"):  # which is after its entry in the trail
            await watched.page.click(".toast button")
        assert "one" not in router.services.fleet.health.draining
        assert (await client.post("/api/chat", json=CHAT)).status_code == 200
        await watched.open("history")
        text = await watched.page.inner_text("main")
        assert "server.drain" in text
        assert "server.undrain" in text


async def test_a_stream_is_cancelled_from_the_page(browser: Browser, tmp_path: Path) -> None:
    """The server's connection closes within a second of the confirmation; client, row and history are told by whom."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=1.0, answer_tokens=5_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        client.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as stream,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        lines = stream.aiter_lines()
        await anext(lines)
        await watched.open("now")
        await watched.page.click("[data-act=cancel]")
        assert "alice" in await watched.page.inner_text("[data-dialog-text]")
        confirmed = time.monotonic()
        await watched.page.click("[data-dialog-yes]")
        await eventually(lambda: sim.aborted == 1)
        assert time.monotonic() - confirmed < 2 * MOST_TO_CLOSE
        told = ""
        with suppress(httpx.RemoteProtocolError):
            async for line in lines:
                told = line
        assert "cancelled by root" in told
        (row,) = await router.rows(1)
        assert (row.error_code, "root" in (row.error or "")) == ("request_cancelled", True)
        (entry,) = await router.services.audit.list(AuditFilter(), limit=1)
        assert (entry.action, entry.actor.name, entry.subject) == ("request.cancel", "root", row.id)


async def test_a_revoked_token_ends_what_is_open(browser: Browser, tmp_path: Path) -> None:
    """The page asks to sign in again within seconds; the old cookie opens nothing."""
    async with (
        stage(tmp_path) as router,
        router.client(router.admin_token) as admin,
        signed_in(browser, router, router.token) as watched,
    ):
        await watched.open("requests")
        kept = await watched.page.context.cookies()
        await admin.delete("/router/users/alice/tokens/default")
        await watched.page.wait_for_selector("#token", timeout=15_000)
        assert await watched.page.locator("table, [data-live]").count() == 0
        cookie = "; ".join(f"{one['name']}={one['value']}" for one in kept)
        async with router.client("") as old:
            for path in ("requests", "events?topics=requests"):
                answer = await old.get(f"/console/{path}", headers={"x-console": "1", "cookie": cookie})
                assert (answer.status_code, "table" in answer.text) == (401, False), path


async def test_by_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    """From the list to a request, to the search, and out."""
    async with stage(tmp_path) as router, router.client(router.admin_token) as admin:
        await admin.post("/api/chat", json=CHAT)
        await router.rows(1)
        async with signed_in(browser, router, router.admin_token) as watched:
            page = watched.page
            await watched.open("requests")
            await page.keyboard.press("j")
            await page.keyboard.press("Enter")
            await page.wait_for_selector("#timeline")
            assert (await page.inner_text("h1")).startswith("Took ")
            await page.keyboard.press("/")
            await page.keyboard.type("llama3.2:3b")
            await page.keyboard.press("Enter")
            await page.wait_for_selector("h1:has-text('llama3.2:3b')")


async def test_cancelling_by_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    """In, to what runs, its end, and out again, with Tab and Enter: where one is can be seen at every step."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=1.0, answer_tokens=5_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        client.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as stream,
    ):
        lines = stream.aiter_lines()
        await anext(lines)
        context = await browser.new_context(reduced_motion="reduce", viewport={"width": 640, "height": 480})
        page = await context.new_page()
        await page.goto(f"http://gpu-box:{router.port}/console/now")
        await tab_to(page, "#token")
        await page.keyboard.type(router.admin_token)
        await page.keyboard.press("Enter")
        await page.wait_for_selector("[data-act=cancel]")
        await tab_to(page, "[data-act=cancel]")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("dialog[open]")
        await tab_to(page, "[data-dialog-yes]")
        await page.keyboard.press("Enter")
        told = ""
        with suppress(httpx.RemoteProtocolError):
            async for line in lines:
                told = line
        assert "cancelled by root" in told
        await tab_to(page, "[data-act=sign-out]")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#token")
        await context.close()


async def tab_to(page: Page, selector: str) -> None:
    """Press Tab until this element has the focus; each element on the way shows that it has it, and nothing moves."""
    look = """(wanted) => {
        const at = document.activeElement, style = getComputedStyle(at);
        const seen = at === document.body || (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2);
        return [at.matches(wanted), seen, style.transitionDuration, at.outerHTML.slice(0, 80)];
    }"""
    for _ in range(60):
        await page.keyboard.press("Tab")
        there, seen, moves, what = await page.evaluate(look, selector)
        assert seen, what
        assert moves == "0s", what
        if there:
            return
    raise AssertionError(f"no way to {selector} by Tab")


async def test_narrow_and_large_nothing_is_lost(browser: Browser, tmp_path: Path) -> None:
    """At 320 pixels, and at 1,280 magnified twice, no page is wider than the window."""
    async with stage(tmp_path) as router:
        narrow = {"viewport": {"width": 640, "height": 700}}
        async with signed_in(browser, router, router.admin_token, **narrow) as watched:
            for path in PAGES:
                await watched.page.set_viewport_size({"width": 640, "height": 700})
                await watched.open(path)
                for width in (640, 320):
                    await watched.page.set_viewport_size({"width": width, "height": 700})
                    assert await watched.page.evaluate("document.scrollingElement.scrollWidth") <= width, path


async def test_a_list_keeps_its_header_and_its_names_in_sight(browser: Browser, tmp_path: Path) -> None:
    """Where there is room the header stays in sight; sideways the first column does; as cards nothing stays."""
    async with (
        stage(tmp_path) as router,
        router.client(router.admin_token) as admin,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        for number in range(12):
            await admin.post("/router/groups", json={"name": f"team{number}"})
        page = watched.page
        await page.set_viewport_size({"width": 1440, "height": 300})
        await watched.open("groups")
        await page.evaluate("document.querySelector('tbody tr:nth-child(6)').scrollIntoView()")
        assert await page.evaluate(f"{TOP}('thead th')") == 0
        assert await page.evaluate("document.scrollingElement.scrollWidth") <= 1440
        await page.set_viewport_size({"width": 500, "height": 300})
        await page.evaluate("document.querySelector('.scroll').scrollLeft = 40")
        assert await page.evaluate(LEFT) == 0
        await page.set_viewport_size({"width": 320, "height": 300})
        assert await page.evaluate("getComputedStyle(document.querySelector('tbody td')).position") == "static"
        assert await page.evaluate(OVERLAPS) == []


@pytest.mark.parametrize(
    "context",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"forced_colors": "active"},
    ],
    ids=["light", "dark", "forced colors"],
)
async def test_axe_finds_nothing_serious(browser: Browser, tmp_path: Path, context: dict[str, str]) -> None:
    """Names, roles, contrast; that the tokens of both schemes hold is `tests/server/console/test_style.py`'s."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: nox -s browser installs it")
    async with stage(tmp_path) as router, router.client(router.admin_token) as admin:
        await admin.post("/api/chat", json=CHAT)
        await admin.post("/router/groups", json={"name": "team", "grants": {"tokens_per_day": 9}})
        await router.rows(1)
        async with signed_in(browser, router, router.admin_token, bypass_csp=True, **context) as watched:
            for path in (*PAGES, "groups/team"):
                await watched.open(path)
                await watched.page.add_script_tag(path=AXE)
                found = await watched.page.evaluate("async () => (await axe.run()).violations")
                told = [
                    (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}
                ]
                assert told == [], path
