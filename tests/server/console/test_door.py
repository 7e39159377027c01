"""Signing in to the console and out of it, and what a page elsewhere cannot do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

OURS = {"x-console": "1"}
PERSON = {"accept": "text/html"}


@asynccontextmanager
async def console(tmp_path: Path, **config: Any) -> AsyncIterator[RunningRouter]:
    """A router over one simulated server."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, **config) as router,
    ):
        yield router


async def sign_in(client: httpx.AsyncClient, token: str) -> httpx.Response:
    """Sign in as the page does."""
    return await client.post("/console/session", json={"token": token}, headers=OURS)


async def test_a_token_opens_a_session_that_ends_with_sign_out(tmp_path: Path) -> None:
    """The cookie is for scripts invisible, for the console's paths only, and worthless after sign-out."""
    async with console(tmp_path) as router, router.client("") as browser:
        assert (await browser.get("/console/", headers=PERSON)).status_code == 401
        answer = await sign_in(browser, router.admin_token)
        assert answer.json() == {"user": "root", "role": "admin"}
        cookie = answer.headers["set-cookie"]
        for part in ("HttpOnly", "Path=/console/", "SameSite=Lax"):
            assert part in cookie
        assert router.admin_token not in cookie
        page = await browser.get("/console/", headers=PERSON)
        assert page.status_code == 200
        assert "What to paste where" in page.text
        kept = dict(browser.cookies)
        await browser.delete("/console/session", headers=OURS)
        browser.cookies.update(kept)
        assert (await browser.get("/console/", headers=PERSON)).status_code == 401


async def test_every_failure_is_told_in_the_same_words_and_the_eleventh_is_not_heard(tmp_path: Path) -> None:
    """Nobody learns whether a token was unknown, foreign or misspelt; no cookie is set; then 429, there alone."""
    async with console(tmp_path) as router, router.client("") as browser:
        tried = ["x", "A" * 32, router.token[:-1] + "x", "\u00e4" * 10, router.token[:8], *"abcde"]
        answers = [await sign_in(browser, token) for token in tried]
        assert {answer.status_code for answer in answers} == {401}
        assert len({answer.text for answer in answers}) == 1
        late = await sign_in(browser, router.token)
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) > 0
        assert not any("set-cookie" in answer.headers for answer in (*answers, late))
        elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with router.client("", transport=elsewhere) as other:
            assert (await sign_in(other, router.token)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-console": "1", "origin": "http://evil.example"},
        {"x-console": "1", "origin": "http://127.0.0.1:1"},
        {"x-console": "1", "origin": "null"},
        {"x-console": "1", "sec-fetch-site": "same-site"},
        {"x-console": "1", "content-type": "text/plain"},
        {"x-console": "yes"},
    ],
)
async def test_what_a_page_elsewhere_can_send_changes_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    """Another origin, another port of the same host, a form: 403, with or without a session."""
    async with console(tmp_path) as router, router.client("") as browser:
        refused = await browser.post(
            "/console/session",
            content=f'{{"token": "{router.token}"}}',
            headers={"content-type": "application/json", **headers},
        )
        assert refused.status_code == 403
        await sign_in(browser, router.admin_token)
        drained = await browser.post("/console/act/servers/one/drain", headers=headers)
        assert drained.status_code == 403
        assert "one" not in router.services.fleet.health.draining


async def test_a_session_ends_with_its_token_its_user_and_its_role(tmp_path: Path) -> None:
    """Revoked, deactivated, given another role: the cookie is refused at once."""
    async with console(tmp_path) as router, router.client(router.admin_token) as admin:

        async def signed_in_as(name: str) -> httpx.AsyncClient:
            made = (await admin.post("/router/users", json={"name": name})).json()
            await router.services.authenticator.refresh()
            browser = router.client("")
            assert (await sign_in(browser, made["token"])).status_code == 200
            assert (await browser.get("/console/", headers=PERSON)).status_code == 200
            return browser

        carl, dora, emma = [await signed_in_as(name) for name in ("carl", "dora", "emma")]
        await admin.delete("/router/users/carl/tokens/default")
        await admin.patch("/router/users/dora", json={"active": False})
        await admin.patch("/router/users/emma", json={"role": "viewer"})
        await router.services.authenticator.refresh()
        for browser in (carl, dora, emma):
            assert (await browser.get("/console/", headers=PERSON)).status_code == 401
            await browser.aclose()


async def test_a_link_opens_one_session_once(tmp_path: Path) -> None:
    """The second opening is refused, and so is one that is too old."""
    async with console(tmp_path) as router, router.client("") as first, router.client("") as second:
        link = await router.services.console_sessions.invite("root", seconds=60)
        opened = await first.post("/console/claim", json={"claim": link}, headers=OURS)
        assert opened.json() == {"user": "root", "role": "admin"}
        assert (await first.get("/console/now", headers=PERSON)).status_code == 200
        assert (await second.post("/console/claim", json={"claim": link}, headers=OURS)).status_code == 401
        old = await router.services.console_sessions.invite("root", seconds=-1)
        assert (await second.post("/console/claim", json={"claim": old}, headers=OURS)).status_code == 401


async def test_cookies_open_the_console_and_nothing_else(tmp_path: Path) -> None:
    """`/router` and the API read no cookie; the console reads no `Authorization`."""
    async with console(tmp_path) as router, router.client("") as browser:
        await sign_in(browser, router.admin_token)
        secret = browser.cookies["orouter-console"]
        elsewhere = {"cookie": f"orouter-console={secret}"}
        assert (await browser.get("/router/status", headers=elsewhere)).status_code == 401
        assert (await browser.get("/api/tags", headers=elsewhere)).status_code == 401
        async with router.client(router.admin_token) as program:
            assert (await program.get("/console/now", headers=PERSON)).status_code == 401


async def test_a_console_that_is_off_or_elsewhere_is_not_there(tmp_path: Path) -> None:
    """`enabled: false` is 404 on every path; other networks are refused."""
    async with console(tmp_path, console={"enabled": False}) as router, router.client("") as browser:
        for path in ("/console/", "/console/now", "/console/v/x/app.css"):
            assert (await browser.get(path, headers=PERSON)).status_code == 404
        assert (await browser.get("/", headers=PERSON)).text == "Ollama is running"


async def test_networks_narrow_who_may_open_it(tmp_path: Path) -> None:
    """An address outside of `console.networks` is refused before the door."""
    async with console(tmp_path, console={"networks": ["10.0.0.0/8"]}) as router, router.client("") as browser:
        assert (await browser.get("/console/", headers=PERSON)).status_code == 403


@pytest.mark.parametrize(("address", "status"), [("10.1.2.3", 401), ("::ffff:10.1.2.3", 401), ("::1", 403), ("", 403)])
async def test_networks_contain_clients_of_a_dual_stack_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, status: int
) -> None:
    """Such a socket reports IPv4 clients as IPv6 addresses."""
    monkeypatch.setattr("ollama_router_server.console.guard.address_of", lambda *_: address or None)
    async with console(tmp_path, console={"networks": ["10.0.0.0/8"]}) as router, router.client("") as browser:
        assert (await browser.get("/console/", headers=PERSON)).status_code == status


async def test_the_bare_address_greets_programs_and_leads_people(tmp_path: Path) -> None:
    """`GET /` is "Ollama is running" for programs; a browser's navigation is led to the console."""
    async with console(tmp_path) as router, router.client("") as client:
        assert (await client.get("/")).text == "Ollama is running"
        led = await client.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert (led.status_code, led.headers["location"]) == (303, "console/")
