"""A headless Chromium, and what stands before it: a router, simulated servers, the names of machines."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from support.router import RunningRouter

pytestmark = pytest.mark.anyio

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP gpu-box 127.0.0.1,MAP elsewhere.example 127.0.0.1",
]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium; `gpu-box` is this machine by a name that is no secure context."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("chromium is not installed")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield running
        await running.close()


class Watched:
    """A page that is signed in, and whatever went wrong on it."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog {dialog.message}"))
        page.on("console", lambda said: self.problems.append(said.text) if "Content Security" in said.text else None)
        page.on("request", lambda request: self.requests.append(request.url))

    async def open(self, path: str) -> None:
        """Open a page of the console."""
        await self.page.goto(f"{self.base}/console/{path}")

    @property
    def foreign(self) -> list[str]:
        """Requests that went elsewhere than to the router."""
        return [url for url in self.requests if not url.startswith(self.base)]


@asynccontextmanager
async def signed_in(browser: Browser, router: RunningRouter, token: str, **context: object) -> AsyncIterator[Watched]:
    """A page that somebody signed in to, as a person does."""
    made: BrowserContext = await browser.new_context(**context)
    base = f"http://gpu-box:{router.port}"
    watched = Watched(await made.new_page(), base)
    await watched.open("")
    await watched.page.fill("#token", token)
    await watched.page.click("button[type=submit]")
    await watched.page.wait_for_selector("nav", state="attached")
    yield watched
    await made.close()
