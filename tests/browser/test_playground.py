"""Trying a model in a real browser: the answer as it comes, where it came from, and the same line for a shell."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from playwright.async_api import Browser

from browser.conftest import signed_in
from ollama_router_core.testing import OllamaSimulator, StreamError, model
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

SMALL, OTHER, HOSTILE = "llama3.2:3b", "llama3.1:8b", "<img src=x onerror=alert(1)>"

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


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
        await page.wait_for_selector("[data-play-server]:has-text('one')")
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


async def test_a_message_that_waits_says_where_it_stands(browser: Browser, tmp_path: Path) -> None:
    """Its place and what it waits for, by an admin at the server that was chosen; then where its time went."""
    async with (
        OllamaSimulator(models=[model(SMALL)], time_scale=1.0, answer_tokens=5_000) as sim,
        OllamaSimulator(models=[model(SMALL)]) as spare,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1), "two": server_entry(spare)}) as router,
        router.client(router.admin_token) as admin,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        page, body = watched.page, {"model": SMALL, "messages": [{"role": "user", "content": "hi"}]}
        async with admin.stream("POST", "/api/chat", json=body, headers={"x-router-pin": "one"}) as stream:
            lines = stream.aiter_lines()  # a generator that is thrown away closes the stream
            await anext(lines)
            await watched.open("play")
            await page.fill("#prompt", "hi")
            await page.select_option("select[name=pin]", "one")
            await page.click("[data-play-send]")
            await page.wait_for_selector("[data-play-state]:has-text('1st in line')")
            assert "waiting for a slot on one" in await page.inner_text("[data-play-state]")
            assert "-H 'X-Router-Pin: one'" in (await page.text_content("[data-play-curl]") or "")
            sim.time_scale = 0.0
        await page.wait_for_selector("text=Answered in")
        await page.wait_for_selector("[data-play-parts] svg.timeline")
        await page.wait_for_selector("[data-play-server]:has-text('one')")
        assert not spare.requests_to("/api/chat")
        assert watched.problems == []


async def test_images_and_options_go_with_a_message(browser: Browser, tmp_path: Path) -> None:
    """A pasted image is shown and sent; options as JSON; the same in Python names no image's bytes."""
    paste = """() => {
        const bytes = Uint8Array.from(atob("%s"), (one) => one.charCodeAt(0)), data = new DataTransfer();
        data.items.add(new File([bytes], "dot.png", {type: "image/png"}));
        document.querySelector("#prompt").dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
    }"""
    async with (
        OllamaSimulator(models=[model(SMALL, capabilities=("completion", "vision"))]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        signed_in(browser, router, router.token) as watched,
    ):
        page = watched.page
        await watched.open("play")
        await page.fill("#prompt", 'what is "this"?')
        for _ in range(2):
            await page.evaluate(paste % DOT)
        await page.locator(".pasted img").nth(1).wait_for()
        await page.locator(".pasted button").nth(1).click()
        await page.fill("input[name=options]", "top_p 0.9")
        await page.click("[data-play-send]")
        await page.wait_for_selector("[data-problem]:has-text('other options are JSON')")
        await page.fill("input[name=options]", '{"top_p": 0.5, "penalize_newline": true}')
        await page.click("[data-play-send]")
        await page.wait_for_selector("text=Answered in")
        (sent,) = sim.requests_to("/api/chat")
        assert sent.json["messages"] == [{"role": "user", "content": 'what is "this"?', "images": [DOT]}]
        assert sent.json["options"] == {"top_p": 0.5, "penalize_newline": True}
        python = await page.text_content("[data-play-python]")
        assert ast.literal_eval(python.partition("options=")[2].partition(",\n")[0]) == sent.json["options"]
        assert f'Client(host="{watched.base}"' in python
        assert watched.problems == []


async def test_two_models_are_asked_side_by_side(browser: Browser, tmp_path: Path) -> None:
    """The same message to both, each with its answer, its route and its own request; one that fails says which."""
    async with (
        OllamaSimulator(models=[model(SMALL)], answer_tokens=3) as one,
        OllamaSimulator(models=[model(OTHER)], answer_tokens=7) as two,
        running_router(tmp_path, {"one": server_entry(one), "two": server_entry(two)}) as router,
        signed_in(browser, router, router.token, viewport={"width": 1280, "height": 900}) as watched,
    ):
        page = watched.page
        await watched.open(f"play?model={SMALL}&other={OTHER}")
        await page.fill("#prompt", "hi")
        await page.click("[data-play-send]")
        columns = page.locator("[data-play-column]")
        for index, (name, server, tokens) in enumerate([(SMALL, "one", 3), (OTHER, "two", 7)]):
            column = columns.nth(index)
            await column.locator("text=Answered in").wait_for()
            assert await column.locator("[data-play-model]").inner_text() == name
            await column.locator("[data-play-server]", has_text=server).wait_for()
            assert (await column.locator("[data-play-tokens]").inner_text()).endswith(f" / {tokens}")
        boxes = [await columns.nth(index).bounding_box() for index in (0, 1)]
        assert boxes[0]["y"] == boxes[1]["y"]
        assert {row.model_served for row in await router.rows(2)} == {SMALL, OTHER}
        two.misbehave(StreamError(after_chunks=1, message="broken"), path="/api/chat", times=1)
        await page.click("[data-play-send]")
        await page.wait_for_selector(f"[data-problem]:has-text('{OTHER}: broken')")
        assert "Answered in" in await columns.nth(0).inner_text()
        await page.fill("input[name=other]", "")
        await page.click("[data-play-send]")
        await page.wait_for_selector("[data-play-send]:enabled")
        assert not await columns.nth(1).is_visible()
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
