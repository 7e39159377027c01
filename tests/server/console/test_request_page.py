"""One request's page: its attempts, what was changed of it, and what is taken away from there."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest

from ollama_router_core.testing import Answer, OllamaSimulator, model
from server.console.test_pages import signed_in
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio
CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}]}


async def test_each_attempt_is_told_with_its_end(tmp_path: Path) -> None:
    """The server that was busy with its status, the one that answered with its parts; JSON and page are one view."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as first,
        OllamaSimulator(models=[model("llama3.2:3b")]) as second,
        running_router(tmp_path, {"first": server_entry(first), "second": server_entry(second, priority=2)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        first.misbehave(Answer(status=503, body=b'{"error":"busy"}'), path="/api/chat")
        await client.post("/api/chat", json=CHAT)
        (row,) = await router.rows(1)
        shown = (await admin.get(f"/router/requests/{row.id}")).json()
        browser = await signed_in(router, router.admin_token)
        page = (await browser.get(f"/console/requests/{row.id}")).text
        await browser.aclose()
    assert [(one["server"], one["end"], one["status"]) for one in shown["tries"]] == [
        ("first", "rejected", 503),
        ("second", "answered", 200),
    ]
    assert shown["decision"]["server"] == "first"
    assert "rejected <code>503</code>" in page
    copied = json.loads(unescape(re.findall(r'<pre id="request-json">(.*?)</pre>', page, re.DOTALL)[0]))
    assert copied == shown
    assert f"/console/requests/{row.id}</code>" in page


async def test_what_policy_changed_and_what_was_left_are_told(tmp_path: Path) -> None:
    """An alias that a rule bounds, and the user's limits; a routine request keeps no decision for it."""
    rules = {"aliases": {"best": "llama3.2:3b"}}
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, model_config=rules) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        await admin.patch("/router/users/alice", json={"grants": {"requests_per_minute": 30}})
        await router.services.authenticator.refresh()
        await client.post("/api/chat", json=CHAT)
        await client.post("/api/chat", json={**CHAT, "model": "best"})
        row = next(row for row in await router.rows(2) if row.model_asked == "best")
        shown = (await admin.get(f"/router/requests/{row.id}")).json()
        browser = await signed_in(router, router.admin_token)
        page = (await browser.get(f"/console/requests/{row.id}")).text
        await browser.aclose()
    assert shown["decision"] is None
    assert len(shown["changes"]) == 1
    assert shown["limits"]["requests"]["limit"] == 30
    assert shown["changes"][0] in unescape(page)
    assert "28 of 30 were left" in page
    assert "nothing had to be forecast" in page
