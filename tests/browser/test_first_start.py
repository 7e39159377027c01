"""The first minute: an empty database, and the link that `serve` hands to the first admin."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.accounts.first_admin import LINK_NAME
from support.orouter import Orouter

pytestmark = pytest.mark.anyio


async def test_the_link_of_the_first_start_shows_what_works_and_what_to_paste(browser: Browser, tmp_path: Path) -> None:
    """Seven checks, an address for each dialect, a line for each client; a second opening is refused."""
    state = tmp_path / "state"
    state.mkdir()
    orouter = Orouter(home=tmp_path, variables={"STATE_DIRECTORY": str(state)})
    async with OllamaSimulator(models=[model("llama3.2:3b")]) as sim:
        orouter.config.write_text(f"servers: {{one: {{host: 127.0.0.1, port: {sim.port}}}}}\n")
        with orouter.start("serve", "--port", "0") as running:
            url = await asyncio.to_thread(running.listening_url)
            link = (state / LINK_NAME).read_text().strip()
            first, second = [await browser.new_context(), await browser.new_context()]
            page = await first.new_page()
            await page.goto(link)
            await page.wait_for_selector("#checks")
            assert page.url == f"{url}/console/"
            assert await page.locator(".checks > li").count() == 7
            bases = [await page.inner_text(f"#base-{number}") for number in (1, 2, 3)]
            assert bases == [url, f"{url}/v1", url]
            assert url in await page.inner_text(".snippet pre")
            assert await page.locator(".snippet").count() > 5
            late = await second.new_page()
            await late.goto(link)
            await late.wait_for_function("document.querySelector('[data-problem]').textContent")
            assert await late.locator("#checks").count() == 0
            assert await second.cookies() == []
            await first.close()
            await second.close()
