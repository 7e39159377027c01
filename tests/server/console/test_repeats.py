"""What a page asks for twice by one press is done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.console.repeats import KeptAnswers
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

OURS = {"x-console": "1"}


@asynccontextmanager
async def signed_in(tmp_path: Path) -> AsyncIterator[tuple[RunningRouter, httpx.AsyncClient, httpx.AsyncClient]]:
    """A router, and two browsers that its admin has signed in with."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as one,
        router.client("") as other,
    ):
        for browser in (one, other):
            shown = {"token": router.admin_token}
            assert (await browser.post("/console/session", json=shown, headers=OURS)).status_code == 200
        yield router, one, other


async def add(browser: httpx.AsyncClient, name: str, key: str | None) -> httpx.Response:
    """Add a user as the page does."""
    headers = OURS if key is None else {**OURS, "idempotency-key": key}
    return await browser.post("/console/act/users", json={"name": name}, headers=headers)


async def test_what_is_sent_twice_is_done_once_and_answered_alike(tmp_path: Path) -> None:
    """At the same time or one after the other: one user, one entry of the audit trail, the same token."""
    async with signed_in(tmp_path) as (router, browser, _):
        answers = [
            *await asyncio.gather(*(add(browser, "carl", "k") for _ in range(3))),
            await add(browser, "carl", "k"),
        ]
        first = answers[0]
        assert (first.status_code, len({answer.text for answer in answers})) == (201, 1)
        assert {answer.status_code for answer in answers} == {201}
        assert {answer.headers["content-type"] for answer in answers} == {first.headers["content-type"]}
        assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
        async with router.client(router.admin_token) as admin:
            entries = (await admin.get("/router/audit")).json()["entries"]
        assert [entry["subject"] for entry in entries].count("carl") == 1


async def test_another_key_session_or_none_is_done_anew(tmp_path: Path) -> None:
    """A key is of one session: nobody is given what another was answered."""
    async with signed_in(tmp_path) as (_, browser, other):
        assert (await add(browser, "carl", "k")).status_code == 201
        again = [await add(browser, "carl", "l"), await add(other, "carl", "k"), await add(browser, "carl", None)]
        assert {answer.status_code for answer in again} == {409}
        assert all("token" not in answer.json() for answer in again)


async def test_what_failed_is_tried_again_and_an_ended_session_gets_nothing(tmp_path: Path) -> None:
    """A refusal is not kept; after sign-out the old cookie with the old key is refused."""
    async with signed_in(tmp_path) as (_, browser, other):
        assert (await add(other, "carl", "x")).status_code == 201
        assert (await add(browser, "carl", "k")).status_code == 409
        await other.delete("/console/act/users/carl", headers=OURS)
        assert (await add(browser, "carl", "k")).status_code == 201
        kept = dict(browser.cookies)
        await browser.delete("/console/session", headers=OURS)
        browser.cookies.update(kept)
        assert (await add(browser, "carl", "k")).status_code == 401


async def test_the_data_plane_and_the_admin_routes_know_no_key(tmp_path: Path) -> None:
    """A program that sends a key twice is heard twice."""
    async with signed_in(tmp_path) as (router, _, _), router.client(router.admin_token) as program:
        key = {"idempotency-key": "k"}
        made = [await program.post("/router/users", json={"name": "carl"}, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in made] == [201, 409]


async def test_keys_are_bounded_and_end() -> None:
    """The oldest of a session go first, sessions alike, and a key ends after five minutes."""
    kept = KeptAnswers()
    for number in range(65):
        kept.begin("alice", str(number), now=0.0)
    assert kept.find("alice", "0", now=0.0) is None
    assert kept.find("alice", "1", now=299.0) is not None
    assert kept.find("alice", "1", now=300.0) is None
    for number in range(256):
        kept.begin(f"session {number}", "k", now=0.0)
    assert kept.find("alice", "64", now=0.0) is None
