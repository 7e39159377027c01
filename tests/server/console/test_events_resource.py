"""The stream of changes: who may read it, what it tells, and when it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.eventually import eventually, eventually_async
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

OURS = {"x-console": "1"}
CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
WATCHING = "orouter_console_watchers "


@asynccontextmanager
async def console(tmp_path: Path, **config: Any) -> AsyncIterator[RunningRouter]:
    """A router over one simulated server."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, **config) as router,
    ):
        yield router


async def signed_in(router: RunningRouter, token: str) -> httpx.AsyncClient:
    """A browser with a session."""
    browser = router.client("")
    assert (await browser.post("/console/session", json={"token": token}, headers=OURS)).status_code == 200
    return browser


@asynccontextmanager
async def watching(browser: httpx.AsyncClient, *topics: str) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream that has begun."""
    async with browser.stream("GET", "/console/events", params={"topics": topics}, headers=OURS) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        lines = answer.aiter_lines()
        assert await told(lines) == []
        yield lines


async def told(lines: AsyncIterator[str]) -> list[str] | None:
    """The names of the next event; None at the end."""
    kind = "message"
    async for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            return None if kind == "end" else json.loads(value)
    return None


async def named(lines: AsyncIterator[str]) -> list[str]:
    """The names of the next event that has any."""
    async with asyncio.timeout(20):
        while True:
            names = await told(lines)
            assert names is not None
            if names:
                return names


async def watchers(router: RunningRouter) -> int:
    """How many there are, as Prometheus sees it."""
    async with router.client(router.admin_token) as admin:
        text = (await admin.get("/metrics")).text
    return int(float(text.partition(f"\n{WATCHING}")[2].partition("\n")[0]))


async def test_what_changes_is_named(tmp_path: Path) -> None:
    """A drain changes the pages of servers, a request the list of requests: names, never what they show."""
    async with console(tmp_path) as router, router.client(router.admin_token) as admin:
        browser = await signed_in(router, router.admin_token)
        async with watching(browser, "now") as now, watching(browser, "requests") as requests:
            await admin.post("/router/servers/one/drain")
            assert await named(now) == ["now"]
            await admin.post("/router/servers/one/undrain")
            await admin.post("/api/chat", json=CHAT)
            assert await named(requests) == ["requests"]
        await browser.aclose()


async def test_a_user_hears_nothing_of_others(tmp_path: Path) -> None:
    """Not even that they ask: only the user's own requests change the user's list."""
    async with console(tmp_path) as router, router.client(router.admin_token) as admin, router.client() as alice:
        browser = await signed_in(router, router.token)
        async with watching(browser, "requests") as requests:
            await admin.post("/api/chat", json={**CHAT, "model": "nobody:1b"})
            await router.rows(1)
            assert await told(requests) == []
            await alice.post("/api/chat", json=CHAT)
            assert await named(requests) == ["requests"]
        await browser.aclose()


@pytest.mark.parametrize(
    ("topics", "headers", "status"),
    [
        ("now", OURS, 403),
        ("requests", {}, 403),
        ("nowhere", OURS, 400),
        ("models", OURS, 400),
        ("", OURS, 400),
        (",".join(f"requests/{number}" for number in range(9)), OURS, 400),
    ],
)
async def test_only_pages_that_may_be_seen_are_watched(
    tmp_path: Path, topics: str, headers: dict[str, str], status: int
) -> None:
    """By their roles; a page elsewhere, whose EventSource cannot send our field, watches nothing."""
    async with console(tmp_path) as router:
        browser = await signed_in(router, router.token)
        refused = await browser.get("/console/events", params={"topics": topics.split(",")}, headers=headers)
        assert refused.status_code == status
        await browser.aclose()


@pytest.mark.parametrize("how", ["sign out", "revoke", "deactivate"])
async def test_a_stream_ends_with_its_session(tmp_path: Path, how: str) -> None:
    """Signed out, token revoked, user deactivated: the stream says that it ends, and the cookie opens nothing."""
    async with console(tmp_path) as router, router.client(router.admin_token) as admin:
        browser = await signed_in(router, router.token)
        kept = dict(browser.cookies)
        async with watching(browser, "requests") as lines:
            match how:
                case "sign out":
                    await browser.delete("/console/session", headers=OURS)
                case "revoke":
                    await admin.delete("/router/users/alice/tokens/default")
                case _:
                    await admin.patch("/router/users/alice", json={"active": False})
            async with asyncio.timeout(20):
                while await told(lines) is not None:
                    pass
        browser.cookies.update(kept)
        assert (await browser.get("/console/requests", headers=OURS)).status_code == 401
        await browser.aclose()


async def test_four_of_a_session_and_they_come_back(tmp_path: Path) -> None:
    """The fifth is told when to try again; those that left make room."""
    async with console(tmp_path) as router:
        browser = await signed_in(router, router.admin_token)
        async with AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(watching(browser, "now"))
            assert await watchers(router) == 4
            fifth = await browser.get("/console/events", params={"topics": "now"}, headers=OURS)
            assert (fifth.status_code, fifth.headers["retry-after"]) == (429, "5")

        async def all_left() -> bool:
            return await watchers(router) == 0

        await eventually_async(all_left)
        await browser.aclose()


async def test_a_router_that_stops_ends_every_stream(tmp_path: Path) -> None:
    """So that no tab keeps it."""
    async with console(tmp_path) as router:
        browser = await signed_in(router, router.admin_token)
        async with watching(browser, "now") as lines:
            router.services.draining = True
            async with asyncio.timeout(20):
                while await told(lines) is not None:
                    pass
        await browser.aclose()


async def test_nobody_watches_nothing_runs(tmp_path: Path) -> None:
    """The task that looks for watchers is there while there are any, and no longer."""

    def looks() -> bool:
        return any(task.get_name() == "console-watchers" for task in asyncio.all_tasks())

    async with console(tmp_path) as router:
        browser = await signed_in(router, router.admin_token)
        assert not looks()
        async with watching(browser, "now"):
            assert looks()
        await eventually(lambda: not looks())
        await browser.aclose()


async def test_start_is_named_for_whom_something_changes(tmp_path: Path) -> None:
    """One's own request is in progress, and its end."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=1.0, answer_tokens=2_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as alice,
    ):
        browser = await signed_in(router, router.token)
        async with watching(browser, "start") as start, asyncio.TaskGroup() as tasks:
            tasks.create_task(alice.post("/api/chat", json=CHAT))
            assert await named(start) == ["start"]
            sim.time_scale = 0.0
        await browser.aclose()
