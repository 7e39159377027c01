"""What a person comes for, in a real browser: a request explained, a model put on servers, a colleague's link."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser

from browser.conftest import Watched, signed_in
from ollama_router_core.testing import Cut, OllamaSimulator, StreamError, model
from support.eventually import eventually, eventually_async
from support.other_program import other_program
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

SMALL, NEW = "llama3.2:3b", "qwen3:8b"
OWN = {"add-token", "remove"}
REFUSED_FIRST = """() => {
    const { dataset } = document.querySelector("[data-act=unload-all]");
    dataset.models = JSON.stringify(["x".repeat(600), ...JSON.parse(dataset.models)]);
}"""
CHAT = {"model": SMALL, "messages": [{"role": "user", "content": "hi"}], "stream": False}


async def test_an_id_in_the_search_leads_to_the_sentence(browser: Browser, tmp_path: Path) -> None:
    """It names the load and the server; what was expected and what came, on one scale, each add up to their total."""
    async with (
        OllamaSimulator(models=[model(SMALL)], time_scale=1.0) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await client.post("/api/chat", json=CHAT)
        (row,) = await router.rows(1)
        async with signed_in(browser, router, router.token) as watched:
            await watched.page.keyboard.press("/")
            await watched.page.keyboard.type(row.id)
            await watched.page.keyboard.press("Enter")
            await watched.page.wait_for_selector("#timeline")
            assert re.search(rf"loading {SMALL} on one", await watched.page.inner_text("h1"))
            assert "not loaded" in await watched.page.inner_text("[aria-labelledby=decision]")
            widths = "(row) => [...row.querySelectorAll('rect.phase')].map((one) => one.width.baseVal.value)"
            rows = await watched.page.query_selector_all("svg.timeline")
            expected, came = [sum(await row.evaluate(widths)) for row in rows]
        shown = (await client.get(f"/router/requests/{row.id}")).json()
        sums = [sum(part["ms"] for part in shown[name]) for name in ("expected", "phases")]
        assert sums[1] == pytest.approx(shown["total_ms"], abs=1)
        assert [expected, came] == pytest.approx([960 * one / max(sums) for one in sums], abs=5)


async def test_running_failed_refused_and_retried_are_in_one_list(browser: Browser, tmp_path: Path) -> None:
    """Each with its reason; a filtered view is in the address, and the same in another tab."""
    async with (
        OllamaSimulator(models=[model(SMALL)], time_scale=1.0, answer_tokens=5_000) as slow,
        OllamaSimulator(models=[model(NEW)]) as quick,
        OllamaSimulator(models=[model(NEW)]) as spare,
        running_router(
            tmp_path,
            {"slow": server_entry(slow), "quick": server_entry(quick), "spare": server_entry(spare, priority=2)},
        ) as router,
        router.client(router.admin_token) as client,
    ):
        quick.misbehave(Cut(), path="/api/chat", times=1)
        await client.post("/api/chat", json={**CHAT, "model": NEW})
        quick.misbehave(StreamError(after_chunks=1, message="CUDA error"), path="/api/chat", times=1)
        with suppress(httpx.RemoteProtocolError):
            await client.post("/api/chat", json={**CHAT, "model": NEW, "stream": True})
        await client.post("/api/chat", json={**CHAT, "model": "nobody:1b"})
        await router.rows(3)
        async with (
            client.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as stream,
            signed_in(browser, router, router.admin_token, viewport={"width": 1440, "height": 900}) as watched,
        ):
            lines = stream.aiter_lines()  # a generator that is thrown away closes the stream
            await anext(lines)
            await watched.open("requests")
            text = await watched.page.inner_text("main")
            for words in ("answering", "error", "refused", "nobody:1b", "with an error"):
                assert words in text, words
            await watched.page.select_option("select[name=ending]", "refused")
            await watched.page.click("form.filters button")
            await watched.page.wait_for_url("**ending=refused**")
            tab = await watched.page.context.new_page()
            await tab.goto(watched.page.url)
            assert await tab.locator("tr[id^=row-]").count() == 1
            assert "nobody:1b" in await tab.inner_text("main")


async def test_a_link_from_another_site_opens_signed_in(browser: Browser, tmp_path: Path) -> None:
    """A colleague's link to a request, followed from a page of another host."""
    async with (
        OllamaSimulator(models=[model(SMALL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        signed_in(browser, router, router.token) as watched,
    ):
        await client.post("/api/chat", json=CHAT)
        (row,) = await router.rows(1)
        target = f"{watched.base}/console/requests/{row.id}"
        with other_program() as port:
            await watched.page.goto(f"http://elsewhere.example:{port}/")
            link = f"const a = document.createElement('a'); a.href = '{target}'; a.id = 'link';"
            await watched.page.evaluate(f"{link} a.textContent = 'look'; document.body.append(a)")
            await watched.page.click("#link")
            await watched.page.wait_for_selector("#timeline")
        assert watched.page.url == target


async def test_an_operation_goes_on_without_its_page(browser: Browser, tmp_path: Path) -> None:
    """A pull to three servers, one of which has a full disk: reloaded, named, tried again."""
    async with (
        OllamaSimulator(models=[SMALL], registry=[NEW], time_scale=0.02) as one,
        OllamaSimulator(models=[SMALL], registry=[NEW]) as two,
        OllamaSimulator(models=[SMALL], registry=[NEW]) as full,
        running_router(
            tmp_path, {"one": server_entry(one), "two": server_entry(two), "full": server_entry(full)}
        ) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        full.misbehave(StreamError(message="no space left on device"), path="/api/pull", times=1)
        await watched.open("operations?kind=pull")
        await watched.page.fill("input[name=model]", NEW)
        await watched.page.fill("input[name=servers]", "all")
        await watched.page.click("form.filters button")
        await eventually(lambda: bool(one.requests_to("/api/pull")))
        await watched.open("operations")
        await watched.page.wait_for_selector("[data-act=retry-operation]", timeout=30_000)
        assert "no space left on device" in await watched.page.inner_text("main")
        await watched.page.click("[data-act=retry-operation]")
        await eventually_async(lambda: _states(router, {"done"}), seconds=30)
        assert watched.problems == []


async def _states(router: RunningRouter, wanted: set[str]) -> bool:
    newest = (await router.services.operations.store.list(limit=1))[0]
    return newest.finished_at is not None and {one.state for one in newest.targets} == wanted


async def test_a_server_is_emptied_after_it_was_asked(browser: Browser, tmp_path: Path) -> None:
    """The dialog names what goes and what runs; then nothing is loaded, and the operation is in the list."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        await client.post("/api/chat", json={"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}]})
        await eventually(lambda: bool(router.services.fleet.servers["one"].loaded))
        page = watched.page
        await watched.open("servers/one")
        await page.click("[data-act=unload-all]")
        assert await page.inner_text("[data-dialog-text]") == "Unload llama3.2:3b from one? Nothing runs there."
        await page.click("[data-dialog-yes]")
        await eventually(lambda: sim.loaded == [])
        await watched.open("operations")
        await page.wait_for_selector("h2:has-text('unload llama3.2:3b')")
        assert watched.problems == []


async def test_emptying_goes_on_after_a_refusal(browser: Browser, tmp_path: Path) -> None:
    """What was refused is told at the end, and the others are unloaded."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b"), model(NEW)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        await client.post("/api/chat", json=CHAT)
        await eventually(lambda: bool(router.services.fleet.servers["one"].loaded))
        page = watched.page
        await watched.open("servers/one")
        await page.evaluate(REFUSED_FIRST)
        await page.click("[data-act=unload-all]")
        await page.click("[data-dialog-yes]")
        await eventually(lambda: sim.loaded == [])
        await page.wait_for_selector(".toast:has-text('Started to unload 1 model from one')")
        await page.wait_for_selector(".toast:has-text('Refused: xxx')")


async def test_deleting_a_model_wants_its_name_typed(browser: Browser, tmp_path: Path) -> None:
    """The dialog names who used it in the last week; the button is off until the name is exact."""
    async with (
        OllamaSimulator(models=[SMALL]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        await client.post("/api/chat", json=CHAT)
        await router.rows(1)
        page = watched.page
        await watched.open(f"models/{SMALL}")
        await page.click("text=Delete")
        assert await page.input_value("input[name=model]") == SMALL
        await page.click("form.filters button")
        await page.wait_for_selector("dialog[open]")
        assert "alice (1)" in await page.inner_text("[data-dialog-text]")
        assert await page.is_disabled("[data-dialog-yes]")
        await page.fill("[data-dialog-typed] input", SMALL[:-1])
        assert await page.is_disabled("[data-dialog-yes]")
        assert not sim.requests_to("/api/delete")
        await page.fill("[data-dialog-typed] input", SMALL)
        await page.click("[data-dialog-yes]")
        await eventually(lambda: bool(sim.requests_to("/api/delete")))


async def test_fit_says_what_explain_says(browser: Browser, tmp_path: Path) -> None:
    """Server by server: verdict and memory; once it is loaded, what was measured beside what was predicted."""
    async with (
        OllamaSimulator(models=["llama3.3:70b"], host="0.0.0.0") as sim,
        running_router(
            tmp_path,
            {
                "small": server_entry(sim, max_memory_gb=24),
                "large": {**server_entry(sim, max_memory_gb=96), "host": "127.0.0.2"},
            },
        ) as router,
        router.client(router.admin_token) as admin,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        asked = {"model": "llama3.3:70b", "context": 32_768}
        told = (await admin.get("/router/explain", params=asked)).json()["candidates"]
        await watched.open("models/llama3.3:70b")
        await watched.page.fill("input[name=context]", "32768")
        await watched.page.click("text=Will it fit?")
        await watched.page.wait_for_url("**context=32768")
        text = await watched.page.inner_text("[aria-labelledby=fit]")
        assert {one["server"]: one["verdict"] for one in told} == {"small": "refused", "large": "chosen"}
        assert told[0]["reasons"][0]["text"][:60] in text
        for one in told:
            row = await watched.page.inner_text(f"[aria-labelledby=fit] tr:has(bdi:text-is('{one['server']}'))")
            assert one["verdict"] in row
            assert f"{one['memory']['gib']:.1f}" in row
        await admin.post("/api/chat", json={**CHAT, "model": "llama3.3:70b"})

        async def is_side_by_side() -> bool:
            told = (await admin.get("/router/explain", params={"model": "llama3.3:70b"})).json()["candidates"]
            forecast = next(one["forecast"] for one in told if one["server"] == "large")
            await watched.open("models/llama3.3:70b")
            row = await watched.page.inner_text("[aria-labelledby=fit] tr:has(bdi:text-is('large'))")
            sizes = [forecast[name] for name in ("predicted_bytes", "measured_bytes")]
            return all(size is not None and f"{size / 2**30:.1f}" in row for size in sizes)

        await eventually_async(is_side_by_side)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def nginx(folder: Path, port: int, behind: int) -> Iterator[None]:
    """Nginx that serves the router below /llm/."""
    found = shutil.which("nginx")
    if found is None:
        pytest.skip("nginx is not installed")
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;"
        f" fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;"
        f" server {{ listen 127.0.0.1:{port}; location /llm/ {{ proxy_pass http://127.0.0.1:{behind}/;"
        " proxy_set_header Host $http_host; proxy_http_version 1.1; proxy_buffering off; } } }\n"
    )
    process = subprocess.Popen([found, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(config)])
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


async def test_below_a_prefix_behind_a_proxy(browser: Browser, tmp_path: Path) -> None:
    """All pages, live parts, signing in and out; the cookie is for the prefix alone."""
    port = _free_port()
    public = f"http://gpu-box:{port}/llm"
    async with (
        OllamaSimulator(models=[model(SMALL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, console={"public_url": public}) as router,
    ):
        with nginx(tmp_path / "nginx", port, router.port):

            async def listens() -> bool:
                async with httpx.AsyncClient(trust_env=False) as client:
                    with suppress(httpx.ConnectError):
                        return (await client.get(f"http://127.0.0.1:{port}/llm/livez")).is_success
                return False

            await eventually_async(listens)
            context = await browser.new_context()
            watched = Watched(await context.new_page(), public)
            page = watched.page
            await watched.open("")
            await page.fill("#token", router.admin_token)
            await page.click("button[type=submit]")
            await page.wait_for_selector("nav", state="attached")
            (cookie,) = await context.cookies()
            assert cookie["path"] == "/llm/console/"
            for label in (
                "Now",
                "Requests",
                "Models",
                "Servers",
                "Operations",
                "Usage",
                "People",
                "History",
                "What if",
                "Start",
            ):
                await page.click(f"#rail >> text={label}")
                await page.wait_for_selector("[aria-current=page]")
                assert page.url.startswith(f"{public}/console/")
            assert f"{public}/v1" in await page.inner_text("main")
            async with page.expect_response(lambda answer: f"{public}/console/events" in answer.url) as stream:
                await watched.open("now")
                assert (await stream.value).ok
            async with page.expect_response(lambda answer: answer.url == f"{public}/console/now") as live:
                await live.value
            await page.click("[data-act=sign-out]")
            await page.wait_for_selector("#token")
            assert watched.problems == []
            assert watched.foreign == []
            await context.close()


async def test_no_page_shows_what_its_role_cannot_use(browser: Browser, tmp_path: Path) -> None:
    """A viewer sees no button that changes anything; a user sees none for others."""
    async with (
        OllamaSimulator(models=[model(SMALL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        made = (await admin.post("/router/users", json={"name": "vic", "role": "viewer"})).json()
        await router.services.authenticator.refresh()
        pages: dict[str, tuple[str, ...]] = {
            made["token"]: ("", "now", "requests", "models", f"models/{SMALL}", "servers", "servers/one", "usage"),
            router.token: ("", "requests", "models"),
        }
        acts = "[...document.querySelectorAll('main [data-act]')].map((one) => one.dataset.act)"
        for token, paths in pages.items():
            async with signed_in(browser, router, token) as watched:
                for path in paths:
                    await watched.open(path)
                    asks = {"try-model"} if token == router.token else set()
                    harmless = {"copy", "filter", "show-new", "cancel", *OWN, *asks}
                    assert set(await watched.page.evaluate(acts)) <= harmless, path
                    links: list[str] = await watched.page.evaluate(
                        "[...document.querySelectorAll('#rail a, main a[href]')].map((one) => one.href)"
                    )
                    for link in {one for one in links if "/console/" in one}:
                        status = await watched.page.evaluate("(url) => fetch(url).then((a) => a.status)", link)
                        assert status != 403, (path, link)
