"""A headless Chromium, and what stands before it: a router, simulated servers, the names of machines."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, Request, async_playwright

from support.router import RunningRouter
from support.router_process import RouterProcess

pytestmark = pytest.mark.anyio

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-partial-raster",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP gpu-box 127.0.0.1,MAP elsewhere.example 127.0.0.1",
]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for all tests of a worker, and so one browser: what a test opens in it is a context of its own."""
    return "asyncio"


@pytest.fixture(scope="session")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
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
        self.asked: list[Request] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog {dialog.message}"))
        page.on("console", lambda said: self.problems.append(said.text) if "Content Security" in said.text else None)
        page.on("request", self._note)

    async def open(self, path: str) -> None:
        """Open a page of the console."""
        await self.page.goto(f"{self.base}/console/{path}")

    def _note(self, request: Request) -> None:
        self.asked.append(request)

    async def packed(self, path: str) -> tuple[int, int]:
        """Bytes, packed, and number of all files that opening a page asks for.

        Each is asked for once more: what a browser keeps of an answer is gone as soon as its page asks again.
        """
        self.asked.clear()
        await self.open(path)
        opened = list(self.asked)
        return sum([len(gzip.compress(await self._again(request))) for request in opened]), len(opened)

    async def _again(self, request: Request) -> bytes:
        headers = {name: value for name, value in (await request.all_headers()).items() if name != "if-none-match"}
        # Chromium does not always tell the cookies of a request.
        kept = await self.page.context.cookies(self.base + "/console/")
        headers["cookie"] = "; ".join(f"{one['name']}={one['value']}" for one in kept)
        async with httpx.AsyncClient(trust_env=False) as client:  # a name of the browser alone is in `Host`
            answer = await client.get(request.url.replace("//gpu-box:", "//127.0.0.1:"), headers=headers)
        assert answer.is_success, (request.url, answer.status_code)
        return answer.content

    @property
    def foreign(self) -> list[str]:
        """Requests that went elsewhere than to the router."""
        return [request.url for request in self.asked if not request.url.startswith(self.base)]


@asynccontextmanager
async def signed_in(
    browser: Browser, router: RunningRouter | RouterProcess, token: str, *, scheme: str = "http", **context: object
) -> AsyncIterator[Watched]:
    """A page that somebody signed in to, as a person does."""
    made: BrowserContext = await browser.new_context(**context)
    base = f"{scheme}://gpu-box:{router.port}"
    watched = Watched(await made.new_page(), base)
    await watched.open("")
    await watched.page.fill("#token", token)
    await watched.page.click("button[type=submit]")
    await watched.page.wait_for_selector("nav", state="attached")
    yield watched
    await made.close()
