"""A web page of another origin uses the router from Chromium, as far as its origin may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from ollama_router_core.access.cross_origin import preflight_fields
from ollama_router_core.exchange import serving
from ollama_router_core.testing import OllamaSimulator, model
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

ASK = """async ([url, token, stream]) => {
  const answer = await fetch(url + "/v1/chat/completions", {
    method: "POST",
    headers: {"Authorization": "Bearer " + token, "Content-Type": "application/json"},
    body: JSON.stringify({model: "llama3.1:8b", stream, messages: [{role: "user", content: "hi"}]}),
  });
  const reader = answer.body.getReader(), decoder = new TextDecoder();
  let text = "", pieces = 0;
  for (let got = await reader.read(); !got.done; got = await reader.read()) {
    text += decoder.decode(got.value); pieces += 1;
  }
  return {status: answer.status, server: answer.headers.get("x-router-server"), text, pieces};
}"""


@asynccontextmanager
async def page_server() -> AsyncIterator[int]:
    """A web server that has one empty page; gives its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def asked(browser: Browser, page_url: str, router: RunningRouter, *, stream: bool = False, times: int = 1) -> Any:
    """What a script of a page got from the router."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(page_url)
    for _ in range(times):
        got = await page.evaluate(ASK, [f"http://gpu-box:{router.port}", router.token, stream])
    await context.close()
    return got


async def test_a_page_that_may_asks_and_streams(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the answer, its pieces as they come, and the router's own fields; the preflight is asked once."""
    preflights: list[str] = []

    def noted(origin: str, allowed: Iterable[str]) -> Any:
        preflights.append(origin)
        return preflight_fields(origin, allowed)

    monkeypatch.setattr(serving, "preflight_fields", noted)
    slow = model("llama3.1:8b", decode_speed=50.0)
    async with page_server() as port, OllamaSimulator(models=[slow], time_scale=1.0, load_speed=1e12) as sim:
        origin = f"http://elsewhere.example:{port}"
        async with running_router(tmp_path, {"one": server_entry(sim)}, cors={"origins": [origin]}) as router:
            whole = await asked(browser, origin, router, times=3)
            assert preflights == [origin]
            streamed = await asked(browser, origin, router, stream=True)
    assert (whole["status"], whole["server"]) == (200, "one")
    assert (streamed["status"], streamed["server"]) == (200, "one")
    assert streamed["text"].rstrip().endswith("data: [DONE]")
    assert streamed["pieces"] > 1


async def test_a_page_of_another_origin_gets_nothing(tmp_path: Path, browser: Browser) -> None:
    """The browser asks first, is refused, and never sends the request with the token."""
    async with page_server() as port, OllamaSimulator(models=[model("llama3.1:8b")]) as sim:
        async with running_router(tmp_path, {"one": server_entry(sim)}) as router:
            with pytest.raises(Exception, match="Failed to fetch"):
                await asked(browser, f"http://elsewhere.example:{port}", router)
        assert not sim.requests_to("/v1/chat/completions")
